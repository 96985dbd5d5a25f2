"""Parcels: offered by the broker, taken by the agent's hook or not; and what becomes of what was in them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support_broker import SECOND, Desk
from support_faults import Killed
from tmux_orchestrator.agents import parcel, profiles, signs
from tmux_orchestrator.agents.parcel import Parcel
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.agents.screen import Screen
from tmux_orchestrator.eventlog.event import short
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.errors import ConfigError
from tmux_orchestrator.ground.paths import Home

WAKE = "profiles: {demo: {deliver: wake, hook_bytes: 2000}}\n"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with Desk(str(tmp_path / "home"), WAKE) as found:
        found.panes.profiles = profiles.load({"demo": {"deliver": "wake", "hook_bytes": 2000}})
        yield found


@pytest.fixture
def key(desk: Desk) -> str:
    """An agent whose hooks have spoken; its screen shows an empty input box, whatever is typed."""
    key = desk.agent("dev", profile="demo")
    desk.panes.screens[key] = Screen("idle", "empty")
    says(desk, "idle")
    return key


def claude(desk: Desk) -> str:
    """An idle agent that gets its messages by wake, whose submit key comes after a pause; its key."""
    desk.panes.profiles = profiles.load({"claude": {"deliver": "wake"}})
    key = desk.agent("dev", profile="claude")
    desk.panes.screens[key] = Screen("idle", "empty")
    says(desk, "idle")
    desk.start()
    desk.run(1.5)
    return key


def says(desk: Desk, state: str, *took: str) -> None:
    def change(sign: signs.Sign) -> None:
        sign.at = desk.clocks.wall
        sign.enter(state, desk.clocks.wall)
        sign.take(list(took), desk.clocks.wall)

    signs.update(desk.home, desk.agents[-1], change)


def works(desk: Desk) -> None:
    says(desk, "working")
    desk.panes.screens[desk.agents[-1].key] = Screen("working", "empty")


def hands_over(desk: Desk, says_so: bool = True) -> str:
    """The agent's hook takes the parcel; its text."""
    found = parcel.take(desk.home, desk.agents[-1])
    assert found is not None
    if says_so:
        says(desk, "working", *found.ids)
    return found.text


def offered(desk: Desk) -> list[str]:
    found = parcel._read(parcel.path(desk.home, desk.agents[-1]))
    return [] if found is None else found[1].ids


def ids(*events: str) -> list[str]:
    return [short(event) for event in events]


# the file


def test_a_parcel_is_had_once(home: Home) -> None:
    agent = Agent({"name": "dev", "session": "a b", "pid": 7, "pid_start": 8})
    assert parcel.take(home, agent) is None and parcel.withdraw(home, agent) == []
    parcel.offer(home, agent, Parcel(["AAAAAA"], "one"))
    parcel.offer(home, agent, Parcel(["AAAAAA", "BBBBBB"], "one\n\ntwo ✓"))
    found = parcel.take(home, agent)
    assert found is not None and (found.ids, found.text) == (["AAAAAA", "BBBBBB"], "one\n\ntwo ✓")
    assert parcel.take(home, agent) is None and parcel.withdraw(home, agent) == []
    assert os.stat(home.run + "/parcels").st_mode & 0o777 == 0o700


def test_another_process_of_that_name_takes_nothing_and_it_is_withdrawn_all_the_same(home: Home) -> None:
    agent = Agent({"name": "dev", "session": "s", "pid": 7, "pid_start": 8})
    parcel.offer(home, agent, Parcel(["AAAAAA"], "one"))
    later = Agent({"name": "dev", "session": "s", "pid": 7, "pid_start": 9})
    assert parcel.take(home, later) is None
    assert parcel.withdraw(home, later) == ["AAAAAA"]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"pid": 7, "pid_start": 8, "ids": "x", "text": ""}', b"\xff"])
def test_a_damaged_parcel_is_none(home: Home, data: bytes) -> None:
    agent = Agent({"name": "dev", "session": "s", "pid": 7, "pid_start": 8})
    parcel.offer(home, agent, Parcel(["AAAAAA"], "one"))
    with open(parcel.path(home, agent), "wb") as file:
        file.write(data)
    assert parcel.take(home, agent) is None and parcel.withdraw(home, agent) == []
    parcel.offer(home, agent, Parcel(["BBBBBB"], "two"))
    assert parcel.withdraw(home, agent) == ["BBBBBB"]


@pytest.mark.parametrize(
    "change", [{"deliver": "pull"}, {"deliver": "wake", "confirm": False}, {"hook_bytes": 10}, {"hook_bytes": "x"}]
)
def test_a_profile_says_a_way_that_there_is(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        profiles.load({"demo": change})


def test_a_sign_remembers_all_that_a_parcel_holds() -> None:
    assert parcel.MOST < signs.TAKEN


# what it holds


def test_one_frame_of_the_window_holds_what_the_hook_may_print(desk: Desk, key: str) -> None:
    desk.start()
    works(desk)
    events = [desk.publish(f"number {n} {'x' * 200}", "dev", sender=f"s{n % 2}") for n in range(12)]
    desk.run(0.1)
    held = offered(desk)
    assert 3 < len(held) < 12 and held == ids(*events)[: len(held)]
    text = hands_over(desk)
    assert len(text.encode()) <= 2000 and text.count("\n\n") == len(held) - 1
    desk.run(0.1)
    assert [desk.said(event) for event in events[: len(held)]] == [["typed: pull", "confirmed: hook"]] * len(held)
    assert offered(desk) == ids(*events)[len(held) : 2 * len(held)] and desk.panes.typed == []
    assert desk.broker is not None and len(desk.broker.intake.lanes[key].windows["normal"].times) == 2


def test_a_long_body_is_a_pointer_and_never_more_than_the_hook_may_print(desk: Desk, key: str) -> None:
    desk.start()
    works(desk)
    event = desk.publish(
        "é" * 5000, "dev", requires_ack=True, source={"type": "agent", "session": "team", "verified": True}
    )
    desk.run(0.1)
    text = hands_over(desk)
    assert len(text.encode()) <= 2000 and f"orc-read --id {short(event)} -o body" in text


@pytest.mark.parametrize("every", [1, 10])  # tenths of a second between two messages
def test_the_window_holds_for_parcels_and_half_of_it_is_spread_over_the_minute(
    desk: Desk, key: str, every: int
) -> None:
    desk.start()
    works(desk)
    at: list[int] = []
    for number in range(6 * 200):
        if number % every == 0:
            desk.publish(f"x {number}", "dev", sender=f"s{number % 7}")
        desk.run(0.1)
        if offered(desk):
            hands_over(desk)
            at.append(desk.clocks.boot)
    assert all(late - early > 60 * SECOND for early, late in zip(at, at[10:], strict=False))
    assert at[4] < at[0] + 5 * SECOND and at[6] > at[0] + 4 * SECOND and 15 < len(at) <= 21


def test_parcels_are_not_put_off_until_the_queue_is_full(desk: Desk, key: str) -> None:
    """Two hundred in ten seconds: all are told, in no more turns than the window has, and no line tells of them."""
    desk.panes.profiles = profiles.load({"demo": {"deliver": "wake", "hook_bytes": 9000}})
    desk.start()
    works(desk)
    events, turns = [], 0
    for number in range(800):
        if number < 200:
            events.append(desk.publish(f"flood {number}", "dev"))
        desk.run(0.05)
        if offered(desk):
            hands_over(desk)
            turns += 1
    desk.run(1)
    assert {desk.said(event)[-1] for event in events} == {"confirmed: hook"}
    assert turns <= 10 and desk.panes.typed == []


def test_a_parcel_counts_from_when_it_was_taken(desk: Desk, key: str) -> None:
    desk.configure("monitoring: {max_messages_per_minute: 1}\n" + WAKE)
    desk.start()
    works(desk)
    desk.publish("x", "dev")
    desk.run(50)
    hands_over(desk)
    event = desk.publish("y", "dev")
    desk.run(55)
    assert offered(desk) == [] and desk.said(event) == ["rate_limited: rate_limited"]
    desk.run(10)
    assert offered(desk) == ids(event)


def test_a_wake_and_its_parcel_are_one_frame(desk: Desk, key: str) -> None:
    desk.configure("monitoring: {max_messages_per_minute: 3}\n" + WAKE)
    desk.panes.after_typing = lambda: desk.clocks.pass_by(1_000_000)
    desk.start()
    for number in range(3):
        says(desk, "idle")
        event = desk.publish(f"x {number}", "dev")
        desk.run(0.1)
        hands_over(desk)
        desk.run(0.1)
        assert desk.said(event)[-1] == "confirmed: hook"
        desk.run(20 if number else 0)  # for the bucket


def test_the_wake_holds_no_body_and_no_mark_of_a_message(desk: Desk, key: str) -> None:
    desk.start()
    events = [desk.publish(f"secret {n}", "dev", sender="ada") for n in range(3)]
    desk.run(0.1)
    (text,) = desk.panes.frames(key)
    assert "secret" not in text and "#" not in text and "3 messages" in text and "ada" in text
    assert all(name in text for name in ids(*events)) and "\n" not in text
    assert desk.said(events[0]) == []


def test_low_ones_are_a_digest_and_end_as_one(desk: Desk, key: str) -> None:
    desk.start()
    events = [desk.publish(f"small {n}", "dev", priority="low") for n in range(3)]
    desk.run(1)
    assert "small 1" in hands_over(desk)
    desk.run(0.1)
    assert [desk.said(event) for event in events] == [["digested: gathered"]] * 3


# holds


@pytest.mark.parametrize("reason", ["draft", "dialog", "copy_mode", "limited", "no_composer"])
def test_a_pane_that_is_held_is_neither_woken_nor_offered_anything(desk: Desk, key: str, reason: str) -> None:
    desk.start()
    desk.panes.reasons[key] = reason
    event = desk.publish("x", "dev")
    desk.run(2)
    assert desk.panes.typed == [] and offered(desk) == [] and desk.said(event) == [f"held: {reason}"]
    del desk.panes.reasons[key]
    desk.run(2)
    assert len(desk.panes.frames(key)) == 1 and offered(desk) == ids(event)


def test_a_wake_that_tmux_refuses_takes_the_parcel_back_unless_a_hook_has_it(desk: Desk, key: str) -> None:
    desk.start()
    desk.panes.refuse[key] = "copy_mode"
    first = desk.publish("x", "dev")
    desk.run(0.5)
    assert offered(desk) == [] and desk.said(first) == ["held: copy_mode"]

    def look(text: str) -> None:
        hands_over(desk)

    desk.panes.before_typing = look
    desk.run(1)
    assert desk.said(first)[-1] == "confirmed: hook" and desk.panes.frames(key) == []


def test_to_pause_the_agent_takes_the_parcel_back(desk: Desk, key: str) -> None:
    desk.start()
    works(desk)
    event = desk.publish("x", "dev")
    desk.run(0.1)
    assert offered(desk) == ids(event)
    desk.agent("dev", profile="demo", paused=True)
    desk.run(2)
    assert offered(desk) == [] and desk.said(event) == ["held: paused"] and desk.panes.typed == []


def test_what_waits_in_a_parcel_can_be_cleared(desk: Desk, key: str) -> None:
    desk.start()
    works(desk)
    event = desk.publish("x", "dev")
    desk.run(0.1)
    desk.publish("clear", type="clear_queues")
    desk.run(0.5)
    assert offered(desk) == [] and desk.ends(event) == [key] and desk.said(event)[0].startswith("expired: cleared")


def test_to_clear_what_a_hook_has_taken_meanwhile_ends_nothing_that_comes_after(desk: Desk, key: str) -> None:
    desk.start()
    works(desk)
    event = desk.publish("x", "dev")
    desk.run(0.1)
    hands_over(desk)
    desk.publish("clear", type="clear_queues")
    other = desk.publish("y", "dev")
    desk.run(1)
    assert desk.said(event)[-1] == "confirmed: hook" and offered(desk) == ids(other) and desk.said(other) == []


def test_what_waits_in_a_parcel_can_be_cancelled_one_by_one(desk: Desk, key: str) -> None:
    desk.start()
    works(desk)
    event, other = desk.publish("x", "dev"), desk.publish("y", "dev")
    desk.run(0.1)
    desk.publish("not that one", type="cancel", context={"event": event})
    desk.run(0.5)
    assert offered(desk) == ids(other) and desk.ends(event) == [key]
    assert desk.said(event)[0].startswith("expired: cancelled") and desk.said(other) == []


def test_what_expires_in_a_parcel_ends_then(desk: Desk, key: str) -> None:
    desk.start()
    works(desk)
    soon = clock.stamp(clock.now_ns() + 5 * SECOND)
    event, other = desk.publish("x", "dev", expires=soon), desk.publish("y", "dev")
    desk.run(0.1)
    assert offered(desk) == ids(event, other)
    desk.run(8)
    assert offered(desk) == ids(other) and desk.said(event) == ["expired"] and desk.said(other) == []


def test_one_that_is_acknowledged_while_it_waits_is_not_handed_over(desk: Desk, key: str) -> None:
    desk.start()
    works(desk)
    event, other = desk.publish("x", "dev", requires_ack=True), desk.publish("y", "dev")
    desk.run(0.1)
    desk.publish(f"ACK {event}", type="ack", context={"event": event})
    desk.run(2)
    assert offered(desk) == ids(other) and desk.ends(event) == [key]


def test_one_that_is_acknowledged_before_the_hook_has_said_so_is_not_repeated(desk: Desk, key: str) -> None:
    desk.configure(WAKE + "delivery: {ack_timeout: 5}\n")
    desk.start()
    works(desk)
    event = desk.publish("x", "dev", requires_ack=True)
    desk.run(0.1)
    hands_over(desk)
    desk.publish(f"ACK {event}", type="ack", context={"event": event})
    desk.run(20)
    assert desk.ends(event) == [key] and offered(desk) == [] and desk.panes.typed == []


# deaths


def test_a_hook_killed_with_the_parcel_is_followed_by_a_repeat(desk: Desk, key: str) -> None:
    desk.start()
    works(desk)
    event = desk.publish("x", "dev")
    desk.run(0.1)
    assert "repeat" not in hands_over(desk, says_so=False)
    says(desk, "idle")
    desk.panes.screens[key] = Screen("idle", "empty")
    desk.run(6)
    assert offered(desk) == ids(event) and " · repeat 1" in hands_over(desk)
    desk.run(0.1)
    assert desk.said(event)[-1] == "confirmed: hook" and desk.ends(event) == [key]


def test_an_agent_that_died_before_its_hook_took_it_gets_it_no_repeat_when_it_is_back(desk: Desk, key: str) -> None:
    desk.start()
    works(desk)
    event = desk.publish("x", "dev")
    desk.run(0.1)
    desk.agent("dev", profile="demo", pid=os.getppid(), pid_start=1)
    desk.panes.screens[key] = Screen("idle", "empty")
    desk.run(1)
    (text,) = desk.panes.frames(key)
    assert text.endswith("] x") and "repeat" not in text and offered(desk) == []
    assert desk.said(event)[0] == "typed: hook_silent"


def test_an_agent_that_died_with_it_gets_a_repeat(desk: Desk, key: str) -> None:
    desk.start()
    works(desk)
    desk.publish("x", "dev")
    desk.run(0.1)
    hands_over(desk, says_so=False)
    desk.agent("dev", profile="demo", pid=os.getppid(), pid_start=1)
    desk.panes.screens[key] = Screen("idle", "empty")
    desk.run(1)
    (text,) = desk.panes.frames(key)
    assert text.endswith("] x") and " · repeat 1" in text


@pytest.mark.parametrize("taken", [False, True])
@pytest.mark.parametrize("state", ["idle", "working"])
def test_a_broker_that_dies_over_a_parcel(desk: Desk, key: str, state: str, taken: bool) -> None:
    desk.start()
    if state == "working":
        works(desk)
    event = desk.publish("x", "dev")
    desk.run(0.1)
    if taken:
        hands_over(desk)
    desk.again()
    desk.run(2)
    if not taken:
        assert "repeat" not in hands_over(desk)
        desk.run(0.1)
    assert desk.said(event)[-1] == "confirmed: hook" and desk.ends(event) == [key] and offered(desk) == []
    assert not any("] x" in text for text in desk.panes.frames(key))


def test_a_broker_and_a_hook_that_die_together_are_followed_by_a_repeat(desk: Desk, key: str) -> None:
    desk.start()
    works(desk)
    desk.publish("x", "dev")
    desk.run(0.1)
    hands_over(desk, says_so=False)
    desk.again()
    desk.run(2)
    assert " · repeat 1" in hands_over(desk)


def test_the_intents_are_in_the_file_before_the_hook_can_have_the_parcel(
    desk: Desk, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.start()
    works(desk)
    seen: list[str] = []

    def look(home: Home, agent: Agent, what: Parcel) -> None:
        with open(home.run + "/broker.journal", encoding="ascii") as file:
            seen.append(file.read())
        raise Killed

    monkeypatch.setattr(parcel, "offer", look)
    event = desk.publish("x", "dev")
    with pytest.raises(Killed):
        desk.run(0.1)
    assert f'["intent", "{event}", "{key}", 1, "normal", ' in seen[0]


def test_a_wake_that_nobody_answers_three_times_is_the_last(desk: Desk, key: str) -> None:
    desk.start()
    for number in range(5):
        event = desk.publish(f"x {number}", "dev")
        desk.run(7)
        empty = Screen("idle", "empty", text=desk.panes.frames(key))  # the typed bodies are seen
        desk.panes.screens[key] = empty
        desk.run(1)
        assert "typed: hook_silent" in desk.said(event)
        says(desk, "idle")
    assert sum("] x " not in text for text in desk.panes.frames(key)) == 3


def test_a_wake_whose_parcel_is_taken_before_its_submit_key_is_submitted_all_the_same(desk: Desk) -> None:
    desk.panes.profiles = profiles.load({"claude": {"deliver": "wake"}})
    key = desk.agent("dev", profile="claude")
    desk.panes.screens[key] = Screen("idle", "empty")
    says(desk, "idle")
    desk.start()
    desk.run(1.5)  # it has just started
    event = desk.publish("x", "dev")
    desk.turn()
    assert len(desk.panes.frames(key)) == 1 and desk.panes.pressed == []
    hands_over(desk)
    desk.run(0.5)
    assert desk.panes.pressed == [key] and desk.said(event)[-1] == "confirmed: hook"


def test_a_wake_that_stands_in_the_input_box_after_a_crash_is_submitted(desk: Desk) -> None:
    desk.panes.profiles = profiles.load({"claude": {"deliver": "wake"}})
    key = desk.agent("dev", profile="claude")
    desk.panes.screens[key] = Screen("idle", "empty")
    says(desk, "idle")
    desk.start()
    desk.run(1.5)  # it has just started
    event = desk.publish("x", "dev")
    desk.turn()
    (wake,) = desk.panes.frames(key)
    desk.panes.reasons[key] = "draft"
    desk.panes.screens[key] = Screen("idle", "draft", draft=wake.replace("from", "\nfrom"))
    desk.again()  # its key was not pressed
    desk.run(0.5)
    assert desk.panes.pressed == [key] and offered(desk) == ids(event)
    desk.panes.reasons.clear()
    desk.panes.screens[key] = Screen("working", "empty")
    assert hands_over(desk).endswith("] x")
    desk.run(2)
    assert desk.said(event)[-1] == "confirmed: hook" and desk.panes.frames(key) == [wake]


def test_a_persons_draft_after_a_crash_over_a_wake_is_never_submitted(desk: Desk) -> None:
    key = claude(desk)
    event = desk.publish("x", "dev")
    desk.turn()
    desk.panes.reasons[key] = "draft"
    desk.panes.screens[key] = Screen("idle", "draft", draft=f"what is {event[-6:]}?")
    desk.again()
    desk.run(5)
    assert desk.panes.pressed == [] and desk.said(event)[-1] == "held: draft"


def test_a_wake_whose_submit_key_is_refused_for_long_is_submitted_when_the_pane_is_free(desk: Desk) -> None:
    key = claude(desk)
    event = desk.publish("x", "dev")
    desk.turn()
    (wake,) = desk.panes.frames(key)
    del desk.panes.screens[key]
    desk.panes.reasons[key] = desk.panes.refuse[key] = "copy_mode"  # somebody scrolls from now on
    desk.run(30)
    assert offered(desk) == ids(event) and desk.said(event) == ["held: copy_mode"]
    desk.panes.refuse.clear()
    desk.panes.pressed.clear()
    desk.panes.reasons[key] = "draft"
    desk.panes.screens[key] = Screen("idle", "draft", draft=wake)
    desk.run(1.5)
    assert desk.panes.pressed and offered(desk) == ids(event)
    desk.panes.reasons.clear()
    desk.panes.screens[key] = Screen("working", "empty")
    assert "repeat" not in hands_over(desk)
    desk.run(2)
    assert desk.said(event)[-1] == "confirmed: hook" and desk.panes.frames(key) == [wake]


def test_a_wake_that_a_person_deletes_before_its_key_could_be_pressed_is_typed_again(desk: Desk) -> None:
    key = claude(desk)
    event = desk.publish("x", "dev")
    desk.turn()
    desk.panes.reasons[key] = desk.panes.refuse[key] = "copy_mode"
    desk.run(30)
    desk.panes.refuse.clear()
    desk.panes.reasons.clear()
    desk.run(2)
    assert len(desk.panes.frames(key)) == 2 and offered(desk) == ids(event)
    assert "repeat" not in hands_over(desk)
    desk.run(1)
    assert desk.said(event)[-1] == "confirmed: hook" and desk.ends(event) == [key]


def test_a_hook_that_says_late_what_it_took_before_a_restart_confirms_that_alone(desk: Desk, key: str) -> None:
    desk.start()
    works(desk)
    first = desk.publish("x", "dev")
    desk.run(0.1)
    found = parcel.take(desk.home, desk.agents[-1])
    assert found is not None and found.ids == ids(first)
    desk.again()
    second = desk.publish("y", "dev")
    desk.run(0.5)
    assert offered(desk) == ids(first, second)
    says(desk, "working", *found.ids)
    desk.run(0.5)
    assert desk.said(first)[-1] == "confirmed: hook" and desk.said(second) == []
    assert offered(desk) == ids(second)
    text = hands_over(desk)
    assert text.endswith("] y") and "repeat" not in text
    desk.run(1)
    assert desk.said(second)[-1] == "confirmed: hook" and desk.ends(first) == desk.ends(second) == [key]
