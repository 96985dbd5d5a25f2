"""Check-ins: who is overdue is reminded once, then reported once; over restarts, steps of the clock, and deaths."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_broker import SECOND, Desk
from tmux_orchestrator.delivery.ledger import asked
from tmux_orchestrator.eventlog import event
from tmux_orchestrator.ground import clock
from tmux_orchestrator.watch.checkins import NUDGE, REPORT, CheckIns, Reminder
from tmux_orchestrator.watch.tail import Tail

MINUTE, HOUR = 60 * SECOND, 3600 * SECOND
DEV = {"type": "agent", "identifier": "dev", "session": "team", "host": "h", "verified": True}
PM = {"type": "pm", "identifier": "pm", "session": "team", "host": "h", "verified": True}
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # where a sync costs nothing


class World(Desk):
    """A broker, and the part of a monitor that reminds. `doing` is what the agents do."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.clocks.wall = 1_800_000_000 * SECOND
        self.doing: dict[str, str] = {}
        self.dev = self.agent("dev")
        self.pm = self.agent("pm", role="pm")
        self.start()
        self.monitor()

    def monitor(self) -> None:
        """A new one, as after a kill."""
        get = {"events.durability": "os", "delivery.escalate_to": ["@orchestrator"]}.__getitem__
        self.reminder = Reminder(self.home, get, Tail(self.home), lambda key: self.doing.get(key, "working"))

    def go(self, seconds: float, every: float = 5) -> None:
        end = self.clocks.boot + int(seconds * SECOND)
        while self.clocks.boot < end:
            self.reminder.turn(self.clocks.wall)
            self.run(every)

    def __enter__(self) -> World:
        return self

    def told(self) -> list[tuple[str, str]]:
        """(nudge or report, whom it is about) in the order of the log."""
        found = [e for e in self.events() if e["source"]["identifier"] == "check-in"]
        contexts = [one["message"]["content"]["context"] for one in found]
        return [(context["issue_type"], context["agent"]) for context in contexts]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(str(tmp_path / "home")) as world:
        yield world
        world.reminder.tail.close()


def order(world: World, within: object = 1800, target: str = "dev", **given: Any) -> str:
    return world.publish("do it", target, type="message", source=PM, context={"check_in_s": within}, **given)


def test_an_order_that_is_not_answered_is_reminded_of_then_reported_and_that_is_all(world: World) -> None:
    order(world)
    world.go(1795)
    assert world.told() == []
    world.go(30)
    assert world.told() == [(NUDGE, "team:dev")]
    (nudge,) = world.panes.bodies(world.dev)[1:]
    assert nudge.startswith("You were to check in by ") and "(30min), as pm asked" in nudge
    assert "HIGH PRIORITY" in world.panes.frames(world.dev)[1]
    world.go(1760)
    assert len(world.told()) == 1 and world.panes.frames(world.pm) == []
    world.go(60)
    assert world.told() == [(NUDGE, "team:dev"), (REPORT, "team:dev")]
    assert "team:dev was to check in by " in world.panes.frames(world.pm)[0]
    world.go(4 * 3600, every=60)
    assert len(world.told()) == 2


@pytest.mark.parametrize("sign", ["message", "ack", "status_update", "anything"])
@pytest.mark.parametrize("when", [600, 2400])
def test_whatever_it_publishes_keeps_it(world: World, sign: str, when: int) -> None:
    order(world)
    world.go(when, every=30)
    world.publish("I am at it", "pm", type=sign, source=DEV)
    world.go(3 * 3600, every=60)
    assert world.told() == [(NUDGE, "team:dev")][: when > 1800]


@pytest.mark.parametrize(
    "source", [PM, DEV | {"verified": False}, DEV | {"session": "other"}, DEV | {"type": "human"}], ids=str
)
def test_what_others_publish_keeps_nothing(world: World, source: dict[str, Any]) -> None:
    order(world)
    world.go(60)
    world.publish("dev is at it", source=source)
    world.go(1800, every=30)
    assert world.told() == [(NUDGE, "team:dev")]


def test_a_promise_of_its_own_counts_from_then(world: World) -> None:
    world.publish("back in ten", "pm", type="status_update", source=DEV, context={"check_in": "10m"})
    world.go(590)
    assert world.told() == []
    world.go(20)
    assert world.told() == [(NUDGE, "team:dev")] and " as " not in world.panes.bodies(world.dev)[0]
    world.publish("again", "pm", type="status_update", source=DEV, context={"check_in": "10m"})
    world.go(590)
    assert len(world.told()) == 1
    world.publish("done", "pm", source=DEV)
    world.go(3600, every=60)
    assert len(world.told()) == 1


def test_an_order_binds_from_when_it_is_typed_and_the_sooner_of_two_counts(world: World) -> None:
    world.panes.reasons[world.dev] = "draft"
    order(world)
    world.go(3600, every=30)
    assert world.told() == []
    world.panes.reasons.clear()
    world.go(1700, every=30)
    assert world.told() == []
    order(world, 3600)
    order(world, 60)
    world.go(70)
    assert world.told() == [(NUDGE, "team:dev")]


def test_a_later_order_does_not_put_off_an_earlier_one(world: World) -> None:
    order(world, 300)
    world.go(200)
    order(world, 3600)
    world.go(120)
    assert world.told() == [(NUDGE, "team:dev")]


def test_an_order_that_was_kept_binds_no_more_when_more_is_recorded_of_it(world: World) -> None:
    """Its acknowledgment is asked for again, and each repeat is typed."""
    order(world, 1200, requires_ack=True)
    world.go(60)
    world.publish("yes, later", "pm", source=DEV)
    world.go(2400, every=30)
    assert len(world.panes.frames(world.dev)) > 1 and world.told() == []


def test_an_order_to_several_and_one_that_is_gathered(world: World) -> None:
    order(world, target="@all", priority="low")
    order(world, target="dev", priority="low")
    world.go(5)
    world.agent("two")
    world.go(1900, every=10)
    assert (NUDGE, "team:dev") in world.told()
    assert {agent for _, agent in world.told()} == {"team:dev"}


def test_a_report_on_the_project_manager_goes_up(world: World) -> None:
    world.publish("do it", "pm", type="message", source=DEV, context={"check_in_s": 60})
    world.go(200)
    report = next(e for e in world.events() if e["message"]["content"]["context"].get("issue_type") == REPORT)
    assert report["to"] == {"groups": [], "targets": ["@orchestrator"]}


def test_without_a_project_manager_of_its_session_the_group_hears(world: World) -> None:
    for name, session in (("pm", "elsewhere"), ("lead", "another")):
        world.agent(name, role="pm", session=session)
    order(world, 60)
    world.go(200)
    report = next(e for e in world.events() if e["message"]["content"]["context"].get("issue_type") == REPORT)
    assert report["to"] == {"groups": ["management"], "targets": []}


@pytest.mark.parametrize("state", ["dead", "limited", "waiting"])
def test_who_cannot_answer_is_asked_when_it_can(world: World, state: str) -> None:
    order(world, 60)
    world.go(30)
    world.doing[world.dev] = state
    world.go(3600, every=60)
    assert world.told() == []
    del world.doing[world.dev]
    world.go(10)
    assert world.told() == [(NUDGE, "team:dev")]


@pytest.mark.parametrize("state", ["gone", ""])
def test_who_left_owes_nothing(world: World, state: str) -> None:
    order(world, 60)
    world.go(30)
    world.doing[world.dev] = state
    world.go(60)
    del world.doing[world.dev]
    world.go(300)
    assert world.told() == []


@settings(max_examples=30, deadline=None)
@given(kills=st.lists(st.integers(1, 40), max_size=6))
def test_a_monitor_that_is_killed_tells_the_same(kills: list[int]) -> None:
    """At any moment: what it told and what it knew is in the log."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as root, World(root + "/home") as world:
        order(world, 60)
        world.run(1)
        for seconds in kills:
            world.go(seconds, every=10)
            world.reminder.tail.close()
            world.monitor()
        world.go(max(20, 160 - sum(kills)), every=10)
        world.go(100, every=10)
        assert world.told() == [(NUDGE, "team:dev"), (REPORT, "team:dev")]
        world.reminder.tail.close()


def test_a_monitor_that_was_away_for_long_reminds_first(world: World) -> None:
    order(world, 60)
    world.go(10)
    world.reminder.tail.close()
    world.run(5000)
    world.monitor()
    world.go(50)
    assert world.told() == [(NUDGE, "team:dev")]
    world.go(60)
    assert world.told() == [(NUDGE, "team:dev"), (REPORT, "team:dev")]


@pytest.mark.parametrize("step", [-2 * HOUR, -30 * SECOND, 30 * SECOND, 2 * HOUR, 20 * HOUR])
def test_a_step_of_the_clock_makes_nobody_late(world: World, step: int) -> None:
    order(world)
    world.go(900, every=30)
    world.clocks.wall += step
    world.go(840, every=30)
    assert world.told() == []
    world.go(120, every=30)
    assert world.told() == [(NUDGE, "team:dev")]
    world.clocks.wall += step
    world.go(1740 - 60, every=30)
    assert len(world.told()) == 1
    world.go(240, every=30)
    assert len(world.told()) == 2


VALUES: list[object] = [None, "", "soon", "0", "-5m", "13h", 0, -1, 43_201, float("inf"), [], {}, True, "9" * 40]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_what_is_no_time_binds_nobody(world: World, value: object) -> None:
    if value != float("inf"):  # no line of JSON can say it
        world.publish("x", "pm", source=DEV, context={"check_in": value})
        order(world, value)
        world.go(120)
        assert world.told() == [] and world.reminder.checkins.promises == {}
    assert asked({"source": PM, "message": {"content": {"context": {"check_in_s": value}}}}) in (
        {},
        {"check_in_s": 43_201, "asked_by": "pm"},
    )


def test_hostile_records_change_nothing() -> None:
    checkins = CheckIns()
    made = event.build("x", dict(DEV), context={"check_in": "10m"}) | {"id": "A" * 26, "seq": 1}
    for stamp in ("", "yesterday", "9999999-01-01T00:00:00Z"):
        checkins.take(event.shape(made | {"timestamp": stamp}))
    contexts: list[dict[str, Any]] = [
        {"event": [], "target": {}, "outcome": [], "check_in_s": 60},
        {"event": None, "target": None, "outcome": "typed", "check_in_s": "60"},
        {"outcome": "held", "check_in_s": 60, "target": "team:dev"},
    ]
    for context in contexts:
        record = event.build("x", {"type": "daemon", "identifier": "broker"}, type="delivery", context=context)
        checkins.take(event.shape(record | {"id": "B" * 26, "timestamp": "2026-11-20T10:00:00Z"}))
    for context in ({"agent": [], "promise": {}}, {"agent": "team:dev", "promise": "A" * 26, "issue_type": REPORT}):
        told = event.build("x", {"type": "daemon", "identifier": "check-in"}, context=context)
        checkins.take(event.shape(told | {"id": "C" * 26, "timestamp": "2026-11-20T10:00:00Z"}))
    assert checkins.promises == {} and checkins.due(clock.now_ns(), lambda key: "working") == []


# the tail


def test_the_tail_gives_each_event_once_and_the_past_to_who_asks(world: World) -> None:
    world.publish("old")
    world.clocks.pass_by(2 * HOUR)
    world.publish("past")
    tail = Tail(world.home)
    now: list[str] = []
    all_: list[str] = []
    world.publish("before the taker")
    tail.register(lambda one: now.append(one["message"]["content"]["body"]))
    tail.register(
        lambda one: all_.append(one["message"]["content"]["body"]), lambda line: b"not" not in line[-200:], 3600
    )
    for text in ("one", "two"):
        world.publish(text)
        world.raw(b"damage")
        tail.turn()
    tail.turn()
    assert now == ["before the taker", "one", "two"]
    assert all_ in (["past", *now], ["past"], [])
    assert tail.fileno() >= 0
    tail.drain()
    tail.close()
