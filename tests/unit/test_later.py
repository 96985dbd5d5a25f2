"""Messages for a later time: typed at their time, once, over restarts and clock steps; marked late; cancelled."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support_broker import SECOND, Desk
from tmux_orchestrator.delivery import frame
from tmux_orchestrator.eventlog import event as events
from tmux_orchestrator.eventlog import retention
from tmux_orchestrator.eventlog.daylog import DAY_NS
from tmux_orchestrator.ground import clock

HOUR = 3600 * SECOND
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # where a sync costs nothing


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with Desk(str(tmp_path / "home")) as desk:
        yield desk


def at(desk: Desk, seconds: float) -> str:
    return clock.stamp(desk.clocks.wall + int(seconds * SECOND))


# at its time, once

ACTS = st.one_of(
    st.tuples(st.just("pass"), st.floats(0.1, 400)),
    st.tuples(st.just("kill"), st.just(0.0)),
    st.tuples(st.just("down"), st.floats(0.1, 400)),  # killed, and nobody there for so long
    st.tuples(st.just("step"), st.floats(-300, 300)),
)


def act(desk: Desk, what: str, seconds: float) -> None:
    if what == "pass":
        desk.run(seconds)
    elif what == "step":
        desk.clocks.wall += int(seconds * SECOND)
    else:
        desk.crash()
        desk.clocks.pass_by(int(seconds * SECOND))
        desk.again()


@settings(max_examples=60, deadline=None)
@example([("pass", 200.0), ("down", 400.0), ("step", -1.0)])
@given(st.lists(ACTS, max_size=8))
def test_it_is_typed_at_its_time_once(acts: list[tuple[str, float]]) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as root, Desk(root + "/home") as desk:
        key = desk.agent("dev")
        desk.start()
        due = desk.clocks.wall + 600 * SECOND
        moments: list[int] = []
        desk.panes.after_typing = lambda: moments.append(desk.clocks.wall)
        event = desk.publish("now", "dev", not_before=clock.stamp(due), expires=clock.stamp(due + 10 * HOUR))
        for what, seconds in acts:
            before = len(moments)
            reached = desk.clocks.wall >= due
            act(desk, what, seconds)
            if what == "pass" and not reached and len(moments) > before:
                assert moments[0] <= due + SECOND
            if what == "pass" and seconds >= 1 and desk.clocks.wall >= due + SECOND:
                assert len(moments) == 1
        desk.run(max(0, due - desk.clocks.wall) / SECOND + 2)
        assert len(moments) == 1 and moments[0] >= due // 1000 * 1000
        assert desk.panes.bodies(key) == ["now"] and desk.ends(event) == [key]


@pytest.mark.parametrize("reason", ["draft", "agent_gone", "no_composer"])
def test_nothing_is_said_of_it_before_its_time(desk: Desk, reason: str) -> None:
    """What holds the pane meanwhile is nothing to do with it."""
    key = desk.agent("dev")
    desk.panes.reasons[key] = reason
    desk.start()
    event = desk.publish("later", "dev", not_before=at(desk, 3600))
    desk.run(1800)
    assert desk.said(event) == [] and desk.broker is not None
    assert desk.broker.status()["targets"][key]["hold"] is None  # type: ignore[index]
    desk.run(1802)
    assert desk.said(event) == [("failed: " if reason == "agent_gone" else "held: ") + reason]
    desk.panes.reasons.clear()
    desk.run(2)
    assert desk.panes.bodies(key) == ["later"]


def test_a_hold_that_is_over_holds_nothing_that_comes_later(desk: Desk) -> None:
    key = desk.agent("dev")
    desk.panes.reasons[key] = "draft"
    desk.start()
    first = desk.publish("first", "dev", expires=at(desk, 5))
    second = desk.publish("second", "dev", type="message", not_before=at(desk, 60))
    desk.run(10)
    assert desk.said(first) == ["held: draft", "expired"]
    desk.panes.reasons.clear()
    desk.run(51)
    assert desk.panes.bodies(key) == ["second"] and desk.said(second) == ["typed"]


def test_what_comes_due_behind_an_identical_one_that_waits_is_typed_with_it(desk: Desk) -> None:
    """Somebody who stands at a dialog overnight finds one message of an hourly schedule, not twelve."""
    key = desk.agent("dev")
    desk.panes.reasons[key] = "dialog"
    desk.start()
    hourly = [desk.publish("look", "dev", type="message", not_before=at(desk, 3600 * n)) for n in range(1, 13)]
    other = desk.publish("something else", "dev", type="message", not_before=at(desk, 1.5 * 3600))
    desk.run(12.5 * 3600)
    desk.panes.reasons.clear()
    desk.run(5)
    assert desk.panes.bodies(key) == ["look", "something else"]
    assert "late 11 h · ×12" in desk.panes.frames(key)[0]
    assert all(desk.ends(event) == [key] for event in [*hourly, other])


# late


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(59, ""), (60, " · late 1 min"), (7199, " · late 119 min"), (7200, " · late 2 h"), (200_000, " · late 2 d")],
)
def test_how_late_it_is(seconds: int, said: str) -> None:
    source = {"type": "human", "identifier": "ann", "session": None, "host": "h", "verified": False}
    due = 1_800_000_000 * SECOND
    made = events.build("x", source, priority="low", not_before=clock.stamp(due)) | {"id": "01JD3Z0000000000000KLMNPQR"}
    now = due + seconds * SECOND
    assert frame.frame(made, now_ns=now) == f"[💤 from ann ?unverified #KLMNPQ{said}] x".replace("KLMNPQ", "LMNPQR")
    assert "late" not in frame.frame(made, repeat=1, now_ns=now)
    row = frame.low_digest([made, made], "dev", now_ns=now).split("\n")[1]
    assert row.endswith(f"({said[3:]}) x" if said else ": x")
    made["metadata"]["not_before"] = None
    assert "late" not in frame.frame(made, now_ns=now)


@pytest.mark.parametrize("not_before", ["soon", "9999999-01-01", "\u0661"])
def test_a_time_that_nobody_can_read_makes_nothing_late(not_before: str) -> None:
    made: dict[str, Any] = {"id": "01JD3Z0000000000000KLMNPQR", "source": {"type": "human"}}
    made |= {"message": {"priority": "low", "content": {"body": "x"}}, "metadata": {"not_before": not_before}}
    assert "late" not in frame.frame(made, now_ns=1 << 62)


def test_what_was_missed_while_no_broker_ran_is_typed_once_and_says_so(desk: Desk) -> None:
    key = desk.agent("dev")
    desk.start()
    desk.publish("stand-up", "dev", type="message", not_before=at(desk, 60))
    desk.run(1)
    desk.crash()
    desk.clocks.pass_by(2 * HOUR + 60 * SECOND)
    desk.again()
    desk.run(5)
    (typed,) = desk.panes.frames(key)
    assert " · late 2 h]" in typed


# cancelled


def cancel(desk: Desk, event: str) -> None:
    desk.publish("cancel", type="cancel", context={"event": event}, sender="ann")


def test_a_cancelled_one_ends(desk: Desk) -> None:
    dev, two = desk.agent("dev"), desk.agent("two")
    desk.start()
    event, kept = (desk.publish(text, "dev", "two", not_before=at(desk, 60)) for text in ("x", "kept"))
    parked = desk.publish("y", "nobody", queue=True, not_before=at(desk, 60))
    desk.run(1)
    for one in (event, parked):
        cancel(desk, one)
    desk.run(120)
    assert desk.said(event) == 2 * ["expired: cancelled by ann"] and desk.ends(event) == [dev, two]
    assert desk.said(parked) == ["held: not_registered", "expired: cancelled by ann"]
    assert desk.panes.bodies(dev) == ["kept"] and desk.ends(kept) == [dev, two]
    desk.agent("nobody")
    desk.again()
    desk.run(5)
    assert desk.panes.frames("team:nobody") == []


@pytest.mark.parametrize("seen", [False, True], ids=["new", "owed"])
def test_a_cancel_far_behind_counts_before_anything_is_typed(desk: Desk, seen: bool) -> None:
    """A broker that was away for long reads the log block by block; what is due meanwhile must not go out."""
    key = desk.agent("dev")
    desk.start()
    if not seen:
        desk.crash()
    event = desk.publish("x", "dev", type="message", not_before=at(desk, 60))
    if seen:
        desk.run(1)
        desk.crash()
    for _ in range(10):
        desk.publish("y" * 100_000)
    cancel(desk, event)
    desk.clocks.pass_by(HOUR)
    desk.again()
    desk.run(5)
    assert desk.panes.frames(key) == [] and desk.said(event) == ["expired: cancelled by ann"]
    assert desk.ends(event) == [key]


def test_what_was_typed_is_not_called_back_but_not_repeated_either(desk: Desk) -> None:
    desk.configure("delivery: {ack_timeout: 60, max_typed_bytes: 2048}\nmonitoring: {max_messages_per_minute: 1}\n")
    key = desk.agent("dev")
    desk.start()
    event = desk.publish("x", "dev", requires_ack=True)
    desk.run(59)
    assert len(desk.panes.frames(key)) == 1
    desk.panes.reasons[key] = "draft"
    desk.run(10)  # its repeat waits
    cancel(desk, event)
    desk.run(1)
    desk.panes.reasons.clear()
    desk.run(600)
    assert len(desk.panes.frames(key)) == 1 and desk.said(event)[-1] == "expired: cancelled by ann"


@pytest.mark.parametrize("context", [{}, {"event": 5}, {"event": None}, {"event": "unknown"}])
def test_a_cancel_of_nothing_changes_nothing(desk: Desk, context: dict[str, Any]) -> None:
    key = desk.agent("dev")
    desk.start()
    desk.publish("x", "dev", not_before=at(desk, 5))
    desk.run(1)
    desk.publish("cancel", type="cancel", context=context)
    desk.run(5)
    assert desk.panes.bodies(key) == ["x"] and desk.broker is not None and desk.broker.intake.damaged == 0


# far ahead


def test_the_day_of_what_is_still_owed_stays(desk: Desk) -> None:
    desk.configure("events: {retention_days: 2}\n")
    key = desk.agent("dev")
    desk.start()
    event = desk.publish("x", "dev", not_before=at(desk, 30 * 86_400))
    day = clock.local_day(desk.clocks.wall)
    for _ in range(10):
        desk.run(1)
        desk.publish("noise")
        desk.clocks.pass_by(3 * DAY_NS)
        desk.again()
    desk.run(5)
    assert desk.panes.bodies(key) == ["x"] and desk.ends(event) == [key]
    desk.clocks.pass_by(DAY_NS)
    desk.run(5)
    assert not (Path(desk.home.events) / f"{day}.jsonl").exists()


def test_needed_days_are_not_old(desk: Desk) -> None:
    desk.raw(b"{}")
    day = clock.local_day(desk.clocks.wall)
    for ahead in (10, 11):
        Path(desk.home.events, clock.local_day(desk.clocks.wall + ahead * DAY_NS) + ".jsonl").touch()
    now = desk.clocks.wall + 12 * DAY_NS
    assert [Path(old.path).stem for old in retention.old(desk.home, 2, now)] == [day]
    assert retention.old(desk.home, 2, now, {day}) == []
