"""From what waits to what is typed, and what becomes of it: the broker's turns, on panes that only remember."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support_broker import SECOND, Desk
from support_faults import Killed
from tmux_orchestrator.agents.screen import Screen
from tmux_orchestrator.delivery import journal as journals
from tmux_orchestrator.eventlog.days import DAY_NS
from tmux_orchestrator.eventlog.event import short
from tmux_orchestrator.ground import clock, pidfile

AGENT = {"type": "agent", "identifier": "sender", "session": "team", "verified": True}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with Desk(str(tmp_path / "home")) as found:
        yield found


def empty_box(desk: Desk, key: str, *text: str) -> None:
    desk.panes.screens[key] = Screen("idle", "empty", text=list(text))


def draft(desk: Desk, key: str, text: str) -> None:
    desk.panes.screens[key] = Screen("idle", "draft", draft=text, text=[text])
    desk.panes.reasons[key] = "draft"


def dies_after_typing(desk: Desk, seconds: float = 5) -> None:
    """The broker is killed when the frame is in the pane and nobody has written that down."""

    def die() -> None:
        raise Killed

    desk.panes.after_typing = die
    with pytest.raises(Killed):
        desk.run(seconds)
    desk.panes.after_typing = lambda: None


# typing


def test_a_message_is_typed_once_and_has_its_end(desk: Desk) -> None:
    key = desk.agent("dev")
    event = desk.publish("hello\nsecond line", "dev")
    desk.start()
    desk.run(5)
    assert desk.panes.bodies(key) == ["hello\nsecond line"]
    assert desk.said(event) == ["typed"] and desk.ends(event) == [key]


def test_no_key_is_pressed_before_the_intent_is_in_the_file(desk: Desk) -> None:
    key = desk.agent("dev")
    desk.start()
    seen: list[str] = []

    def look(text: str) -> None:
        with open(desk.home.run + "/broker.journal", encoding="ascii") as file:
            seen.append(file.read())

    desk.panes.before_typing = look
    events = [desk.publish(f"x {n}", "dev", priority=priority) for n, priority in enumerate(("normal", "low", "low"))]
    desk.run(5)
    assert all(f'["intent", "{event}", "{key}", 1, ' in "".join(seen) for event in events)


def test_a_refusal_types_nothing_counts_nothing_and_is_tried_again(desk: Desk) -> None:
    key = desk.agent("dev")
    desk.start()
    desk.panes.refuse[key] = "copy_mode"
    events = [desk.publish(f"x {n}", "dev") for n in range(9)]
    desk.run(10)
    assert desk.panes.frames(key) == [] and desk.said(events[0]) == ["held: copy_mode"]
    desk.panes.refuse.clear()
    desk.run(2)
    assert desk.panes.bodies(key) == [f"x {n}" for n in range(9)]


def test_a_refusal_before_a_restart_is_no_doubt(desk: Desk) -> None:
    key = desk.agent("dev")
    desk.start()
    desk.panes.refuse[key] = "copy_mode"
    events = [desk.publish(f"x {n}", "dev") for n in range(9)]
    desk.run(10)
    desk.again()
    desk.panes.refuse.clear()
    desk.run(2)
    assert desk.panes.bodies(key) == [f"x {n}" for n in range(9)]
    assert not any("repeat" in frame for frame in desk.panes.frames(key)) and desk.ends(events[8]) == [key]


def test_an_end_is_in_the_log_before_the_journal_forgets_it(desk: Desk) -> None:
    """One frame is confirmed in the turn in which the broker dies over the next."""
    dev, two = desk.agent("dev", profile="demo"), desk.agent("two")
    empty_box(desk, dev)
    desk.start()
    event = desk.publish("x", "dev")
    desk.run(0.01)
    empty_box(desk, dev, *desk.panes.frames(dev))
    desk.clocks.pass_by(SECOND)
    desk.publish("y", "two")

    def die(text: str) -> None:
        raise Killed

    desk.panes.before_typing = die
    with pytest.raises(Killed):
        desk.turn()
    desk.panes.before_typing = lambda text: None
    desk.again()
    desk.run(5)
    assert desk.said(event) == ["typed", "confirmed"] and desk.ends(event) == [dev]
    assert len(desk.panes.frames(dev)) == len(desk.panes.frames(two)) == 1


def test_a_hold_is_told_once_however_often_it_begins(desk: Desk) -> None:
    key = desk.agent("dev")
    desk.start()
    event = desk.publish("x", "dev", priority="high", expires="2099-01-01T00:00:00Z")
    for reason in ("copy_mode", "draft", "copy_mode", "draft"):
        desk.panes.reasons[key] = reason
        desk.run(3)
        desk.again()
    desk.run(3)
    assert desk.said(event) == ["held: copy_mode", "held: draft"]


def test_what_has_no_room_is_told_once_over_restarts(desk: Desk) -> None:
    desk.agent("dev")
    desk.start()
    events = [desk.publish(f"x {n}", "dev") for n in range(15)]
    for _ in range(5):
        desk.run(1)
        desk.again()
    assert [desk.said(event).count("rate_limited: rate_limited") for event in events][9:] == [1] * 6


def test_nobody_types_while_the_disk_takes_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    key = desk.agent("dev")
    desk.start()
    event = desk.publish("x", "dev")
    real = os.fdatasync

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", full)
    desk.run(20)
    assert desk.panes.frames(key) == []
    monkeypatch.setattr(os, "fdatasync", real)
    desk.run(2)
    assert desk.panes.bodies(key) == ["x"] and desk.said(event) == ["held: disk_full", "typed"]


# very many


@pytest.fixture
def flood(tmp_path: Path) -> Iterator[Desk]:
    """400 messages wait for one pane, with no bound on what may be typed."""
    config = "monitoring: {max_messages_per_minute: 0}\ndelivery: {pair_per_minute: 0, queue_size: 1000}\n"
    with Desk(str(tmp_path / "home"), config) as found:
        found.agent("dev")
        for number in range(400):
            found.publish(f"x {number}", "dev")
        found.start()
        yield found


EVERY = [f"x {number}" for number in range(400)]


def refuses(flood: Desk, first: int, result: str) -> None:
    """The pane refuses the second 64 from there on; if the third were typed then, they would get through."""

    def look(text: str) -> None:
        number = int(text.rpartition(" ")[2])
        flood.panes.refuse["team:dev"] = result if first <= number < 128 else ""

    flood.panes.before_typing = look


def test_what_is_made_ready_ahead_has_its_intent_in_the_file_and_its_turn(flood: Desk) -> None:
    seen: list[bool] = []

    def look(text: str) -> None:
        number = text.rpartition(" ")[2]
        event = flood.events()[int(number)]["id"]
        with open(flood.home.run + "/broker.journal", encoding="ascii") as file:
            seen.append(f'["intent", "{event}", "team:dev", 1, ' in file.read())

    flood.panes.before_typing = look
    flood.run(1)
    assert flood.panes.bodies("team:dev") == EVERY and seen == [True] * 400
    assert [context["outcome"] for context in flood.outcomes() if context["final"]] == ["typed"] * 400


@pytest.mark.parametrize("result", ["copy_mode", "agent_gone", "no_server"])
def test_what_is_made_ready_ahead_never_overtakes_what_was_refused(flood: Desk, result: str) -> None:
    refuses(flood, 80, result)
    flood.turn()
    assert flood.panes.bodies("team:dev") == EVERY[:80]
    flood.panes.before_typing = lambda _: None
    flood.panes.refuse.clear()
    flood.run(10)
    assert flood.panes.bodies("team:dev") == EVERY
    assert not any("repeat" in text for text in flood.panes.frames("team:dev"))


def test_what_is_made_ready_ahead_waits_behind_a_doubt(flood: Desk) -> None:
    refuses(flood, 64, "unknown")
    flood.turn()
    assert flood.panes.bodies("team:dev") == EVERY[:128]
    flood.panes.before_typing = lambda _: None
    flood.panes.refuse.clear()
    flood.run(60)
    frames = flood.panes.frames("team:dev")
    assert [text.rpartition("] ")[2] for text in frames] == EVERY[:128] + EVERY[64:]
    assert [" · repeat 1" in text for text in frames] == [False] * 128 + [True] * 64 + [False] * 272


def test_a_crash_with_frames_made_ready_ahead_loses_none_and_hides_no_repeat(flood: Desk) -> None:
    def die() -> None:
        if len(flood.panes.typed) == 100:
            raise Killed

    flood.panes.after_typing = die
    with pytest.raises(Killed):
        flood.run(1)
    flood.panes.after_typing = lambda: None
    flood.again()
    flood.run(10)
    frames = flood.panes.frames("team:dev")
    first, again = frames[:100], frames[100:]
    assert {text.rpartition("] ")[2] for text in frames} == set(EVERY)
    twice = {text.rpartition("] ")[2] for text in first} & {text.rpartition("] ")[2] for text in again}
    assert all(" · repeat 1" in text for text in again if text.rpartition("] ")[2] in twice)
    assert len([context for context in flood.outcomes() if context["final"]]) == 400


def test_a_disk_that_fills_while_frames_are_made_ready_types_each_once(
    flood: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = os.fdatasync, []

    def full(fd: int) -> None:
        asked.append(fd)
        if 1 < len(asked) < 4:
            raise OSError(28, "No space left on device")
        real(fd)

    monkeypatch.setattr(os, "fdatasync", full)
    flood.turn()
    assert flood.panes.bodies("team:dev") == EVERY[:64]
    flood.run(10)
    assert flood.panes.bodies("team:dev") == EVERY


def test_what_expires_while_its_pane_is_held_ends_then(desk: Desk) -> None:
    key = desk.agent("dev")
    desk.start()
    desk.panes.reasons[key] = "draft"
    event = desk.publish("x", "dev", expires=clock.stamp(clock.now_ns() + 5 * SECOND))
    desk.run(10)
    assert desk.said(event)[0] == "held: draft" and desk.said(event)[1].startswith("expired")
    assert desk.ends(event) == [key] and desk.panes.frames(key) == []


def test_where_a_box_is_seen_the_next_waits_until_it_is_empty_again(desk: Desk) -> None:
    key = desk.agent("dev", profile="demo")
    empty_box(desk, key)
    desk.start()
    for body in "xy":
        desk.publish(body, "dev")
    desk.run(0.01)
    assert desk.panes.bodies(key) == ["x"]
    empty_box(desk, key, *desk.panes.frames(key))
    desk.run(1)
    assert desk.panes.bodies(key) == ["x", "y"]


def test_a_digest_counts_as_one_frame_after_a_restart_too(desk: Desk) -> None:
    desk.configure("monitoring: {max_messages_per_minute: 2}\n")
    key = desk.agent("dev")
    desk.start()
    for number in range(5):
        desk.publish(f"small {number}", "dev", priority="low")
    desk.run(5)
    desk.again()
    desk.publish("x", "dev")
    desk.run(40)
    assert len(messages(desk, key)) == 2 and desk.panes.bodies(key)[-1] == "x"


# doubt


def messages(desk: Desk, key: str) -> list[int]:
    """When each message was typed; the digest lines left out."""
    return [at for at, target, text in desk.panes.typed if target == key and "more since" not in text]


def test_a_frame_that_may_have_been_typed_is_typed_again_with_a_mark(desk: Desk) -> None:
    key = desk.agent("dev")
    desk.start()
    event = desk.publish("x", "dev")
    dies_after_typing(desk)
    desk.again()
    desk.run(5)
    first, second = desk.panes.frames(key)
    assert "repeat" not in first and " · repeat 1" in second and short(event) in second
    assert desk.ends(event) == [key]


def test_a_digest_that_may_have_been_typed_is_marked_too(desk: Desk) -> None:
    key = desk.agent("dev")
    desk.start()
    events = [desk.publish(f"small {n}", "dev", priority="low") for n in range(5)]
    dies_after_typing(desk)
    desk.again()
    desk.run(80)
    first, second = desk.panes.frames(key)
    assert "repeat" not in first and second.startswith("[💤 5 messages, none urgent · repeat 1]")
    assert [desk.said(event) for event in events] == [["digested: gathered"]] * 5


def test_a_refusal_after_a_doubt_does_not_take_the_doubt_away(desk: Desk) -> None:
    key = desk.agent("dev")
    desk.start()
    desk.panes.refuse[key] = "unknown"
    desk.publish("x", "dev")
    desk.run(0.5)
    desk.panes.refuse[key] = "copy_mode"
    desk.run(5)
    desk.panes.refuse.clear()
    desk.run(40)
    assert ["repeat" in frame for frame in desk.panes.frames(key)] == [False, True]


def test_a_doubt_survives_a_journal_that_is_written_anew(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    key = desk.agent("dev")
    desk.start()
    desk.publish("x", "dev")
    dies_after_typing(desk)
    desk.panes.reasons[key] = "copy_mode"
    desk.again()
    desk.run(200)
    monkeypatch.setattr(journals, "_COMPACT_BYTES", 0)
    desk.again()
    desk.run(3)
    desk.again()
    desk.panes.reasons.clear()
    desk.run(5)
    assert ["repeat" in frame for frame in desk.panes.frames(key)] == [False, True]


def test_what_the_screen_shows_after_a_crash_is_not_typed_again(desk: Desk) -> None:
    key = desk.agent("dev", profile="demo")
    empty_box(desk, key)
    desk.start()
    event = desk.publish("x", "dev")
    dies_after_typing(desk)
    empty_box(desk, key, *desk.panes.frames(key))
    desk.again()
    desk.run(5)
    assert len(desk.panes.frames(key)) == 1 and desk.said(event)[-1] == "confirmed: seen_later"


def test_a_screen_that_cannot_be_seen_after_a_crash_is_waited_for(desk: Desk) -> None:
    key = desk.agent("dev", profile="demo")
    empty_box(desk, key)
    desk.start()
    event = desk.publish("x", "dev")
    dies_after_typing(desk)
    del desk.panes.screens[key]
    desk.panes.reasons[key] = "copy_mode"
    desk.again()
    desk.run(5)
    desk.panes.reasons.clear()
    empty_box(desk, key, *desk.panes.frames(key))
    desk.run(5)
    assert len(desk.panes.frames(key)) == 1 and desk.said(event)[-1] == "confirmed: seen_later"


def test_what_tmux_took_without_an_answer_is_looked_for_before_it_is_typed_again(desk: Desk) -> None:
    key = desk.agent("dev", profile="demo")
    empty_box(desk, key)
    desk.start()
    desk.panes.refuse[key] = "unknown"
    event = desk.publish("x", "dev")
    desk.run(0.01)
    desk.panes.refuse.clear()
    empty_box(desk, key, *desk.panes.frames(key))
    desk.run(20)
    assert len(desk.panes.frames(key)) == 1 and desk.said(event)[-1] == "confirmed: seen_later"


def test_what_stands_in_the_input_box_after_a_crash_is_submitted(desk: Desk) -> None:
    key = desk.agent("dev", profile="claude")
    empty_box(desk, key)
    desk.start()
    event = desk.publish("x", "dev")
    dies_after_typing(desk)  # the text is there, its key was not pressed
    draft(desk, key, desk.panes.frames(key)[0])
    desk.again()
    desk.run(0.5)
    assert desk.panes.pressed == [key]
    desk.panes.reasons.clear()
    empty_box(desk, key, *desk.panes.frames(key))
    desk.run(1)
    assert desk.said(event)[-1] == "confirmed" and len(desk.panes.frames(key)) == 1


def test_a_persons_draft_after_a_crash_is_never_submitted(desk: Desk) -> None:
    key = desk.agent("dev", profile="claude")
    empty_box(desk, key)
    desk.start()
    desk.publish("x", "dev")
    dies_after_typing(desk)
    for text in ("half a thought", "[Pasted text #1 +20 lines]"):
        draft(desk, key, text)
        desk.again()
        desk.run(10)
    assert desk.panes.pressed == [] and len(desk.panes.frames(key)) == 1


def test_a_tmux_that_never_answers_is_given_up_after_some_attempts(desk: Desk) -> None:
    key = desk.agent("dev")
    desk.agents.append(desk.agents[0])
    desk.start()
    desk.panes.refuse[key] = "unknown"
    event = desk.publish("x", "dev")
    desk.run(300)
    assert desk.said(event)[-1] == "dead: tmux_does_not_answer"
    assert len(desk.panes.frames(key)) == 6  # the first attempt and five more
    times = [at for at, _, _ in desk.panes.typed]
    assert times[-1] - times[-2] >= 30 * SECOND, "the breaker is open"


def test_what_was_typed_late_and_never_written_down_counts_from_the_crash_on(desk: Desk) -> None:
    """tmux was slow: the frame came long after its intent, and then the broker died."""
    desk.configure("monitoring: {max_messages_per_minute: 1}\ndelivery: {pair_per_minute: 0}\n")
    key = desk.agent("dev")
    desk.start()
    desk.publish("x", "dev")
    desk.panes.before_typing = lambda text: desk.clocks.pass_by(40 * SECOND)
    dies_after_typing(desk)
    desk.panes.before_typing = lambda text: None
    desk.again()
    desk.run(200)
    first, second = [at for at, target, text in desk.panes.typed if target == key and "more since" not in text][:2]
    assert second - first > 60 * SECOND


@pytest.mark.parametrize("answer", ["", "unknown"], ids=["typed", "in doubt"])
def test_what_was_typed_late_counts_from_then_on(desk: Desk, answer: str) -> None:
    desk.configure("monitoring: {max_messages_per_minute: 1}\ndelivery: {pair_per_minute: 0}\n")
    key = desk.agent("dev")
    desk.start()
    for body in "xy":
        desk.publish(body, "dev")

    def slow(text: str) -> None:
        desk.panes.before_typing = lambda text: None
        desk.clocks.pass_by(40 * SECOND)

    desk.panes.before_typing = slow
    desk.panes.refuse[key] = answer
    desk.run(40)
    desk.panes.refuse[key] = ""
    desk.run(200)
    first, second = messages(desk, key)[:2]
    assert second - first > 60 * SECOND


@pytest.mark.parametrize("answer", ["", "unknown"], ids=["typed", "in doubt"])
def test_what_was_typed_before_a_restart_counts_from_when_it_was_typed(desk: Desk, answer: str) -> None:
    desk.configure("monitoring: {max_messages_per_minute: 1}\ndelivery: {pair_per_minute: 0}\n")
    key = desk.agent("dev")
    desk.start()
    for body in "xy":
        desk.publish(body, "dev")
    desk.panes.refuse[key] = answer
    desk.run(50)
    desk.panes.refuse[key] = ""
    desk.again()
    desk.run(200)
    first, second = messages(desk, key)[:2]
    assert 60 * SECOND < second - first < 70 * SECOND


def test_what_an_earlier_life_may_have_typed_counts_from_the_first_restart(desk: Desk) -> None:
    desk.configure("monitoring: {max_messages_per_minute: 1}\ndelivery: {pair_per_minute: 0}\n")
    key = desk.agent("dev")
    desk.start()
    desk.publish("x", "dev")
    dies_after_typing(desk)
    for _ in range(5):
        desk.again()
        desk.run(10)
    desk.run(100)
    first, second = messages(desk, key)
    assert 60 * SECOND < second - first < 70 * SECOND


def test_a_new_message_does_not_shorten_the_pause_after_a_failure(desk: Desk) -> None:
    key = desk.agent("dev")
    desk.start()
    desk.panes.refuse[key] = "unknown"
    desk.publish("x", "dev")
    desk.run(0.01)
    for number in range(5):
        desk.publish(f"y {number}", "dev")
        desk.run(0.1)
    assert len(desk.panes.frames(key)) == 1


# evidence


def test_the_key_is_pressed_again_while_the_box_still_holds_our_text(desk: Desk) -> None:
    key = desk.agent("dev", profile="demo")
    empty_box(desk, key)
    desk.start()
    event = desk.publish("x", "dev")
    desk.run(0.01)
    draft(desk, key, desk.panes.frames(key)[0])
    desk.run(20)
    assert 1 <= len(desk.panes.pressed) <= 3
    assert desk.said(event) == ["typed", "typed: not_submitted"]


def test_no_key_is_pressed_into_a_draft_that_is_not_ours(desk: Desk) -> None:
    """A person types while nobody knows yet whether ours was submitted."""
    key = desk.agent("dev", profile="demo")
    empty_box(desk, key)
    desk.start()
    event = desk.publish("x", "dev")
    desk.run(0.01)
    draft(desk, key, "half a thought")
    desk.run(20)
    assert desk.panes.pressed == [] and desk.said(event) == ["typed", "typed: unconfirmed"]


def test_no_key_is_pressed_into_a_dialog_that_came_over_our_text(desk: Desk) -> None:
    key = desk.agent("dev", profile="demo")
    empty_box(desk, key)
    desk.start()
    event = desk.publish("x", "dev")
    desk.run(0.01)
    text = desk.panes.frames(key)[0]
    desk.panes.screens[key] = Screen("waiting", "draft", draft=text, text=[text])
    desk.panes.reasons[key] = "dialog"
    desk.run(20)
    assert desk.panes.pressed == [] and desk.said(event) == ["typed", "typed: not_submitted"]


def test_an_agent_that_is_forgotten_while_its_frame_is_on_its_way(desk: Desk) -> None:
    for profile in ("demo", "claude"):
        key = desk.agent("dev", profile=profile)
        empty_box(desk, key)
        desk.again()
        event = desk.publish("x", "dev")
        desk.run(0.01)
        desk.forget("dev")
        desk.run(10)
        assert desk.said(event) == ["typed", "typed: agent_gone"]


def test_another_process_of_that_name_confirms_nothing(desk: Desk) -> None:
    key = desk.agent("dev", profile="demo")
    empty_box(desk, key)
    desk.start()
    event = desk.publish("x", "dev")
    desk.run(0.01)
    desk.agent("dev", profile="demo", pid=os.getppid())
    desk.run(0.1)
    first, again = desk.panes.frames(key)
    assert "repeat" not in first and "repeat 1" in again and desk.said(event) == ["typed", "typed"]
    empty_box(desk, key, again)
    desk.run(10)
    assert desk.said(event) == ["typed", "typed", "confirmed"]


def test_what_an_agent_died_of_is_not_typed_for_ever(desk: Desk) -> None:
    desk.configure("delivery: {retries: 2}\n")
    key = desk.agent("dev", profile="demo")
    empty_box(desk, key)
    desk.start()
    event = desk.publish("poison", "dev")
    for pid in (os.getppid(), os.getpid(), os.getppid(), os.getpid()):
        desk.run(0.1)
        desk.agent("dev", profile="demo", pid=pid)
    desk.run(10)
    assert len(desk.panes.frames(key)) == 3 and desk.said(event) == ["typed"] * 3 + ["typed: agent_gone"]


def test_a_frame_whose_process_died_while_no_broker_ran_is_typed_again(desk: Desk) -> None:
    key = desk.agent("dev", profile="demo")
    empty_box(desk, key)
    desk.start()
    event = desk.publish("x", "dev")
    desk.run(0.01)
    desk.crash()
    desk.clocks.pass_by(SECOND)
    ticks = desk.clocks.boot * os.sysconf("SC_CLK_TCK") // SECOND
    desk.agent("dev", profile="demo", pid_start=ticks)
    desk.clocks.pass_by(20 * SECOND)
    desk.start()
    desk.run(1)
    assert ["repeat" in frame for frame in desk.panes.frames(key)] == [False, True]
    assert desk.said(event) == ["typed", "typed"]


def test_what_tmux_does_not_answer_is_told_and_counted(desk: Desk) -> None:
    key = desk.agent("dev")
    broker = desk.start()
    desk.panes.refuse[key] = "unknown"
    event = desk.publish("x", "dev")
    desk.run(0.5)
    assert desk.said(event) == ["held: no_answer"]
    told = broker.status()["targets"]
    assert isinstance(told, dict) and (told[key]["queued"], told[key]["hold"]) == (1, "no_answer")
    desk.panes.reasons[key] = "copy_mode"
    desk.run(5)
    assert desk.said(event) == ["held: no_answer", "held: copy_mode"], "what is in doubt is held like the others"


def test_a_hold_is_as_old_after_a_restart(desk: Desk) -> None:
    key = desk.agent("dev")
    desk.start()
    desk.panes.reasons[key] = "draft"
    desk.publish("x", "dev")
    desk.run(60)
    since = desk.clocks.wall - 60 * SECOND
    told = desk.again().status()["targets"]
    desk.run(2)
    told = desk.broker.status()["targets"] if desk.broker else {}
    assert isinstance(told, dict) and abs(clock.parse_stamp(told[key]["since"]) - since) < 2 * SECOND
    desk.panes.reasons.clear()
    desk.run(2)
    desk.panes.reasons[key] = "draft"
    desk.publish("y", "dev")
    desk.run(2)
    told = desk.broker.status()["targets"] if desk.broker else {}
    assert isinstance(told, dict) and desk.clocks.wall - clock.parse_stamp(told[key]["since"]) < 5 * SECOND


def test_what_a_rule_holds_is_told_and_goes_on_without_the_rule(desk: Desk) -> None:
    key = desk.agent("dev")
    desk.configure("rules:\n  - match: {type: chatter}\n    action: hold\n")
    desk.start()
    held = desk.publish("later", "dev", type="chatter")
    desk.run(5)
    assert desk.said(held) == ["held: rule"] and desk.panes.frames(key) == []
    desk.again()
    desk.run(5)
    assert desk.said(held) == ["held: rule"], "told once"
    desk.configure("rules: []\n")
    desk.run(5)
    assert desk.panes.bodies(key) == ["later"] and desk.said(held) == ["held: rule", "typed"]


def test_a_rule_that_no_longer_holds_but_drops_ends_what_it_held(desk: Desk) -> None:
    key = desk.agent("dev")
    desk.configure("rules:\n  - match: {type: chatter}\n    action: hold\n")
    desk.start()
    held = desk.publish("later", "dev", type="chatter")
    desk.run(2)
    desk.configure("rules:\n  - match: {type: chatter}\n    action: drop\n")
    desk.run(5)
    assert desk.panes.frames(key) == [] and desk.ends(held) == [key]


def test_what_is_addressed_to_nobody_has_an_end(desk: Desk) -> None:
    desk.agent("dev")
    desk.start()
    event = desk.publish("x", groups=["typo"])
    own = desk.publish("x", "@all", source={"type": "agent", "identifier": "dev", "session": "team", "verified": True})
    unaddressed = desk.publish("for readers")
    record = desk.publish("ACK", "dev", type="ack", context={"event": "NOSUCH"})
    desk.run(1)
    assert desk.said(record) == [], "nothing delivers a record, and nothing tells of that"
    assert desk.said(event, "typo") == desk.said(own, "@all") == ["digested: nobody is there"]
    assert desk.ends(event) == ["typo"] and desk.said(unaddressed) == []


def test_a_digest_counts_as_one_when_it_is_submitted(desk: Desk) -> None:
    key = desk.agent("dev", profile="demo")
    empty_box(desk, key)
    desk.start()
    events = [desk.publish(f"small {n}", "dev", priority="low") for n in range(3)]
    desk.run(1)
    empty_box(desk, key, *desk.panes.frames(key))
    desk.run(10)
    assert len(desk.panes.frames(key)) == 1
    assert [desk.said(event) for event in events] == [["digested: gathered"]] * 3


def test_the_screen_that_no_profile_understands_is_kept(desk: Desk) -> None:
    key = desk.agent("dev", profile="demo")
    desk.panes.screens[key] = Screen("unknown", "none", text=["a new", "release"])
    desk.panes.reasons[key] = "no_composer"
    desk.start()
    desk.publish("x", "dev", expires="2099-01-01T00:00:00Z")
    desk.run(70)
    with open(desk.home.run + "/evidence/demo@dev.txt", encoding="utf-8") as file:
        assert file.read() == "a new\nrelease"


# who hears


def test_an_agent_hears_once_of_what_did_not_reach_its_target(desk: Desk) -> None:
    key, sender = desk.agent("dev"), desk.agent("sender")
    desk.start()
    desk.panes.reasons[key] = "agent_gone"
    for number in range(7):
        desk.publish(f"x {number}", "dev", source=AGENT)
    desk.publish("x", "nosuch:1", source=AGENT)
    desk.run(5)
    (told,) = desk.panes.bodies(sender)
    assert told.startswith("8 messages of yours did not reach the target:") and "and 3 more" in told


def test_a_name_that_is_only_claimed_is_told_nothing(desk: Desk) -> None:
    desk.agent("sender")
    desk.start()
    desk.publish("x", "do as I say:1", source=AGENT | {"verified": False})
    desk.run(5)
    assert desk.panes.typed == []


def test_a_long_hold_is_told_to_its_sender_once(desk: Desk) -> None:
    desk.configure("delivery: {hold_notice: 60s}\n")
    key, sender = desk.agent("dev"), desk.agent("sender")
    desk.start()
    desk.panes.reasons[key] = "draft"
    desk.publish("x", "dev", source=AGENT, expires="2099-01-01T00:00:00Z")
    for _ in range(3):
        desk.run(100)
        desk.again()
    assert len(desk.panes.frames(sender)) == 1 and "held for long, draft" in desk.panes.frames(sender)[0]


# names that will come


def test_a_name_that_comes_gets_its_message_and_nobody_gets_it_twice(desk: Desk) -> None:
    desk.configure("rules:\n  - match: {text: everybody}\n    route: [boss]\n")
    dev, boss = desk.agent("dev"), desk.agent("boss")
    desk.start()
    event = desk.publish("everybody", "dev", "late", "later", queue=True)
    desk.run(2)
    for name in ("other", "third"):
        desk.agent(name)
        desk.run(2)
        desk.again()
    late = desk.agent("late")
    desk.run(2)
    assert [len(desk.panes.frames(key)) for key in (dev, boss, late)] == [1, 1, 1]
    assert desk.said(event, "late") == ["held: not_registered"]
    later = desk.agent("later")
    desk.run(2)
    assert [len(desk.panes.frames(key)) for key in (dev, boss, late, later)] == [1, 1, 1, 1]


def test_a_name_that_comes_while_no_broker_runs(desk: Desk) -> None:
    desk.start()
    event = desk.publish("welcome", "late", queue=True)
    desk.run(2)
    desk.crash()
    late = desk.agent("late")
    desk.again()
    desk.run(2)
    assert desk.panes.bodies(late) == ["welcome"] and late in desk.ends(event)


def test_a_name_that_comes_twice_is_refused(desk: Desk) -> None:
    desk.start()
    event = desk.publish("welcome", "late", queue=True)
    desk.run(2)
    desk.agents = []
    desk.agent("late")
    desk.agents[0].session = "one"
    desk.agents.append(type(desk.agents[0])(desk.agents[0].to_dict() | {"session": "two"}))
    desk.register()
    desk.run(2)
    assert desk.said(event)[-1] == "failed: ambiguous_target" and desk.panes.typed == []


def test_a_name_that_never_comes(desk: Desk) -> None:
    desk.start()
    event = desk.publish("welcome", "late", queue=True, expires=clock.stamp(clock.now_ns() + 5 * SECOND))
    desk.run(3)
    desk.again()
    desk.run(5)
    assert desk.said(event)[-1] == "expired: nobody of that name came" and desk.ends(event) == ["late"]


# a start, and a second broker


def test_a_cli_that_has_just_started_is_left_to_settle(desk: Desk) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    desk.start()
    for pid in (os.getpid(), os.getppid()):
        started = desk.clocks.boot
        key = desk.agent("dev", profile="claude", pid=pid, pid_start=started // SECOND * ticks)
        empty_box(desk, key)
        event = desk.publish("x", "dev")
        desk.run(5, until=lambda event=event: "typed" in desk.said(event))  # type: ignore[misc]
        assert desk.said(event)[0] == "held: starting" and desk.panes.typed[-1][0] - started >= SECOND
        desk.run(30)


def test_who_finds_another_broker_in_its_place_leaves(desk: Desk) -> None:
    desk.agent("dev")
    broker = desk.start()
    other = pidfile.claim(desk.home, "broker")
    assert other is not None
    desk.publish("x", "dev")
    desk.turn()
    assert broker._stopping and desk.panes.typed == []
    os.close(other)


def test_what_is_over_is_kept_in_a_journal_that_is_written_anew_while_the_window_counts_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "_COMPACT_BYTES", 0)
    desk.configure("monitoring: {max_messages_per_minute: 1}\ndelivery: {pair_per_minute: 0}\n")
    key = desk.agent("dev")
    desk.start()
    for body in "xy":
        desk.publish(body, "dev")
        desk.run(5)
    desk.again()
    desk.run(100)
    first, second = messages(desk, key)
    assert second - first > 60 * SECOND


# the log


def test_a_damaged_journal_is_not_believed(desk: Desk) -> None:
    """It says that the message was about to be typed; the lines that said more are damaged. The log knows."""
    key = desk.agent("dev")
    desk.start()
    event = desk.publish("x", "dev")
    desk.run(5)
    desk.crash()
    path = desk.home.run + "/broker.journal"
    with open(path, "rb") as file:
        lines = file.read().split(b"\n")
    with open(path, "wb") as file:
        file.write(b"\n".join(b"junk" if line.startswith((b'["typed"', b'["end"')) else line for line in lines))
    desk.start()
    desk.run(5)
    assert len(desk.panes.frames(key)) == 1 and desk.said(event) == ["typed"]


@pytest.mark.parametrize("lost", [False, True], ids=["", "journal lost"])
def test_a_death_right_after_a_frame_was_told(desk: Desk, lost: bool) -> None:
    """The log says that it was typed, and not yet that it was confirmed."""
    key = desk.agent("dev", profile="demo")
    empty_box(desk, key)
    desk.start()
    event = desk.publish("x", "dev")
    desk.turn()
    assert desk.said(event) == ["typed"] and desk.ends(event) == []
    desk.crash()
    if lost:
        os.unlink(desk.home.run + "/broker.journal")
    desk.start()
    desk.run(20)
    assert len(desk.panes.frames(key)) == 1 and desk.ends(event) == [key]
    assert desk.said(event) == ["typed", "typed: unconfirmed"]


def test_what_was_owed_yesterday_is_owed_without_a_journal(desk: Desk) -> None:
    key = desk.agent("dev")
    desk.panes.reasons[key] = "draft"
    desk.start()
    desk.publish("x", "dev", expires="2099-01-01T00:00:00Z")
    desk.run(1)
    desk.crash()
    os.unlink(desk.home.run + "/broker.journal")
    desk.clocks.pass_by(DAY_NS)
    desk.publish("y", "dev")
    desk.panes.reasons.clear()
    desk.start()
    desk.run(5)
    assert desk.panes.bodies(key) == ["x", "y"]


def test_an_end_that_the_log_refuses_is_not_forgotten(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    key = desk.agent("dev")
    broker = desk.start()
    event = desk.publish("x", "dev")

    def refuse(events: object) -> None:
        raise OSError(28, "No space left on device")

    desk.panes.after_typing = lambda: monkeypatch.setattr(broker.outcomes._log, "store", refuse)
    desk.run(1)
    desk.panes.after_typing = lambda: None
    assert len(desk.panes.frames(key)) == 1 and desk.said(event) == []
    desk.again()
    desk.run(5)
    assert desk.ends(event) == [key]


def test_what_the_log_says_was_delivered_is_not_typed_again_without_a_journal(desk: Desk) -> None:
    key = desk.agent("dev")
    desk.start()
    events = [desk.publish(f"x {n}", "dev") for n in range(10)]
    desk.run(8)
    desk.panes.reasons[key] = "draft"
    waits = desk.publish("owed", "dev")
    desk.run(1)
    desk.crash()
    os.unlink(desk.home.run + "/broker.journal")
    desk.raw(
        b'{"id": "BYHAND", "seq": 1, "timestamp": "now", "message": {"type": "delivery", "content": {"context": 7}}}'
    )
    desk.panes.reasons.clear()
    desk.start()
    desk.run(30)
    assert "owed" not in desk.panes.bodies(key), "the log's ten fill the minute"
    desk.run(60)
    messages = [body for body in desk.panes.bodies(key) if "more since" not in body]
    assert messages == [*[f"x {n}" for n in range(len(events))], "owed"]
    assert desk.ends(waits) == [key]


def test_an_end_that_was_told_before_the_crash_counts(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is written first; the broker dies before its journal is."""
    key = desk.agent("dev")
    broker = desk.start()
    event = desk.publish("x", "dev")

    def die() -> None:
        if desk.panes.typed:
            raise Killed

    monkeypatch.setattr(broker.journal, "flush", die)
    monkeypatch.setattr(broker.journal, "sync", type(broker.journal).flush.__get__(broker.journal))
    with pytest.raises(Killed):
        desk.run(2)
    desk.again()
    desk.run(10)
    assert len(desk.panes.frames(key)) == 1 and desk.said(event) == ["typed"]


def test_each_day_lets_go_of_the_days_beyond_retention(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.configure("events: {retention_days: 30}\n")
    desk.start()
    desk.run(2)
    old, young = (f"{desk.home.events}/{clock.local_day(desk.clocks.wall - n * DAY_NS)}.jsonl" for n in (31, 29))
    for path in (old, young):
        Path(path).touch()
    desk.run(2)
    assert os.path.exists(old), "once a day is enough"
    desk.clocks.wall += DAY_NS
    desk.run(2)
    assert (os.path.exists(old), os.path.exists(young)) == (False, True)
    assert "removed 1 file beyond" in capsys.readouterr().err
