"""One target: its bounds, its holds, and that it is looked at when it has to be and not more often."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_broker import SECOND, Desk
from tmux_orchestrator.agents.screen import Screen
from tmux_orchestrator.delivery.bucket import WINDOW_NS
from tmux_orchestrator.delivery.lane import CRITICAL, LINE, MS, NORMAL, Flight, Lane, mark_of, tail_of
from tmux_orchestrator.delivery.turns import MESSAGE, Typing
from tmux_orchestrator.delivery.waiting import Item

SETTINGS: dict[str, Any] = {
    "monitoring.max_messages_per_minute": 10,
    "delivery.critical_per_minute": 3,
    "delivery.queue_size": 100,
    "delivery.pair_per_minute": 10,
    "delivery.digest_ms": 500,
}


def lane(**changed: Any) -> Lane:
    values = SETTINGS | {key.replace("__", "."): value for key, value in changed.items()}
    return Lane("team:dev", values.__getitem__)


def item(name: str = "ID0001", **fields: Any) -> Item:
    return Item(name, 1, "ada", "normal", "text", **fields)


def flight(kind: str = NORMAL, intended: int = 0) -> Flight:
    return Flight(Typing(MESSAGE, [item()], 1, 0), "text", 1, kind, intended, pid=7)


# the bounds


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20 * SECOND), st.sampled_from([NORMAL, CRITICAL, LINE])), max_size=120))
def test_in_no_minute_more_than_the_bounds(steps: list[tuple[int, str]]) -> None:
    one, now = lane(), SECOND
    typed: dict[str, list[int]] = {NORMAL: [], CRITICAL: [], LINE: []}
    for pause, kind in steps:
        now += pause
        room = one.room(now)
        if {NORMAL: room.normal, CRITICAL: room.critical, LINE: room.line}[kind]:
            one.intend(kind, now)
            typed[kind].append(now)
    for kind, bound in ((NORMAL, 10), (CRITICAL, 3), (LINE, 1)):
        times = typed[kind]
        assert all(b - a > 60 * SECOND for a, b in zip(times, times[bound:], strict=False)), kind


def test_the_windows_are_longer_than_a_minute_by_what_a_busy_machine_may_take() -> None:
    one = lane()
    for _ in range(3):
        one.intend(CRITICAL, 0)
    assert [one.room(60 * SECOND + late * MS).critical for late in (0, 200, 300)] == [False, False, True]


def test_a_frame_counts_from_when_it_was_typed_and_not_at_all_when_it_was_not() -> None:
    one = lane()
    for number in range(10):
        one.intend(NORMAL, number)
    assert not one.room(20).normal
    one.undo(flight(intended=3))
    assert one.room(20).normal
    one.intend(NORMAL, 20)
    one.landed(flight(intended=20), 5 * SECOND)
    assert not one.room(6 * SECOND).normal
    assert one.room(WINDOW_NS + 1).normal  # the first has left
    late = WINDOW_NS + 10
    for number in range(9):
        one.intend(NORMAL, late + number)
    assert not one.room(WINDOW_NS + 4 * SECOND).normal, "the one that landed late still counts"


def test_what_an_earlier_life_typed_fills_the_windows() -> None:
    one = lane()
    for number in range(10):
        one.remember(NORMAL, number)
    one.remember("", 5)  # the second event of a frame
    assert one.room(100) == (False, True, True)
    one.remember(LINE, 50)
    assert one.room(100) == (False, True, False)


def test_a_new_bound_holds_for_what_was_typed_under_the_old_one() -> None:
    one = lane(monitoring__max_messages_per_minute=0)
    for number in range(20):
        one.intend(NORMAL, number)
    assert one.room(100) == (True, True, True)
    values = SETTINGS | {"monitoring.max_messages_per_minute": 5}
    one.configure(values.__getitem__)
    assert not one.room(100).normal


# the holds


def test_a_held_pane_is_looked_at_soon_and_then_once_a_second() -> None:
    one, now, pauses = lane(), SECOND, []
    for _ in range(12):
        one.hold_for("draft", now)
        pauses.append(one.due_at - now)
        now = one.due_at
    assert pauses[0] <= 20 * MS and pauses == sorted(pauses) and pauses[-1] == SECOND
    assert one.held_since == SECOND
    one.hold_for("dialog", now)
    assert one.due_at - now == pauses[0] and one.held_since == now
    one.release()
    assert one.hold == "" and one.held_since == 0


def test_failures_wait_longer_each_time_and_then_the_breaker_opens() -> None:
    one, pauses = lane(), []
    for _ in range(4):
        one.failed(0, 3, 30 * SECOND)
        pauses.append(one.due_at // SECOND)
    assert pauses == [1, 2, 30, 30]


# what a frame is recognised by


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("[📨 from ada ✓ #ABC123] text", "#ABC123]"),
        ("[📨 from ada ✓ #ABC123 · repeat 1] text", "#ABC123·repeat1]"),
        ('[📨 from ada ✓ #ABC123 · reply: orc-publish -t ada --reply-to ABC123 "…"] x', "#ABC123·reply:orc-publish-ta"),
        ("[📨 12 more since 10:31 — orc-read --unread dev]", "[📨12moresince10:31—orc-read-"),
    ],
)
def test_the_mark_of_a_frame(text: str, mark: str) -> None:
    assert mark_of(text)[:28] == mark[:28]
    assert mark_of(text) in "".join(text.split())


def test_only_a_long_frame_has_a_tail() -> None:
    assert tail_of("short") == ""
    assert tail_of("x" * 400 + " the very end") == ("x" * 400 + "theveryend")[-40:]


# when it wants a turn


def test_nothing_to_do_wants_no_turn() -> None:
    one = lane()
    assert one.wake_at(SECOND, SECOND) is None
    one.flight = flight()
    one.due_at = 5
    assert one.wake_at(SECOND, SECOND) == 5
    one.flight.submit_at = 3
    assert one.wake_at(SECOND, SECOND) == 3


def turns(desk: Desk, seconds: float) -> int:
    """How many turns a broker takes while so much time passes."""
    assert desk.broker is not None
    taken, before = 0, desk.broker._turn

    def counted() -> bool:
        nonlocal taken
        taken += 1
        assert taken < 100_000, "it never rests"
        return before()

    desk.broker._turn = counted  # type: ignore[method-assign]
    desk.run(seconds)
    desk.broker._turn = before  # type: ignore[method-assign]
    return taken


def held(reason: str) -> Callable[[Desk, str], None]:
    def act(desk: Desk, key: str) -> None:
        desk.panes.reasons[key] = reason
        desk.publish("x", "dev")

    return act


def flooded(desk: Desk, key: str) -> None:
    for number in range(150):
        desk.publish(
            f"x {number}", "dev", sender=f"s{number % 3}", priority="critical" if number % 5 == 0 else "normal"
        )


def refused(reason: str) -> Callable[[Desk, str], None]:
    def act(desk: Desk, key: str) -> None:
        desk.panes.refuse[key] = reason
        desk.publish("x", "dev")

    return act


def in_flight(desk: Desk, key: str) -> None:
    desk.agent("dev", profile="claude")
    desk.panes.screens[key] = Screen("idle", "empty")
    for number in range(3):
        desk.publish(f"x {number}", "dev")


def unsettled(desk: Desk, key: str) -> None:
    desk.panes.refuse[key] = "unknown"
    desk.publish("x", "dev")
    desk.run(0.2)
    desk.panes.reasons[key] = "no_server"


def later(desk: Desk, key: str) -> None:
    desk.publish("x", "dev", not_before="2099-01-01T00:00:00Z", expires="2099-01-02T00:00:00Z")


def echo(desk: Desk, key: str) -> None:
    desk.configure("delivery: {pair_per_minute: 2}\n")
    desk.run(2)
    for number in range(6):
        desk.publish(f"x {number}", "dev")


def awaited(desk: Desk, key: str) -> None:
    desk.publish("x", "dev", requires_ack=True)


def parked(desk: Desk, key: str) -> None:
    desk.publish("x", "nobody", queue=True)


def forgotten(desk: Desk, key: str) -> None:
    held("draft")(desk, key)
    desk.run(0.5)
    desk.forget("dev")


def paused(desk: Desk, key: str) -> None:
    desk.agent("dev", paused=True)
    desk.publish("x", "dev")


STATES = {
    **{reason: held(reason) for reason in ("copy_mode", "draft", "dialog", "agent_gone", "no_server", "no_composer")},
    **{"refused " + reason: refused(reason) for reason in ("moved", "copy_mode", "no_server", "unknown", "agent_gone")},
    "idle": lambda desk, key: None,
    "flooded": flooded,
    "in flight": in_flight,
    "unsettled": unsettled,
    "later": later,
    "pair cap": echo,
    "awaited": awaited,
    "parked": parked,
    "forgotten": forgotten,
    "paused": paused,
}


@pytest.mark.parametrize("name", STATES)
def test_no_state_is_a_busy_loop(tmp_path: Path, name: str) -> None:
    with Desk(str(tmp_path / "home")) as desk:
        key = desk.agent("dev")
        desk.start()
        desk.run(0.1)
        STATES[name](desk, key)
        desk.run(10)
        allowed = 100 if name == "refused moved" else 6  # a second: that one asks for the cursor where it was
        assert turns(desk, 120) <= 120 * allowed


def test_more_than_a_turn_may_type_is_typed_without_waiting(tmp_path: Path) -> None:
    """Nothing tells a broker of what it left in its own outbox."""
    with Desk(
        str(tmp_path / "home"), "monitoring: {max_messages_per_minute: 0}\ndelivery: {queue_size: 1000}\n"
    ) as desk:
        key = desk.agent("dev")
        desk.start()
        for number in range(500):
            desk.publish(f"x {number}", "dev")
        began = desk.clocks.boot
        desk.run(20, until=lambda: len(desk.panes.frames(key)) == 500)
        assert desk.clocks.boot - began < SECOND // 10
