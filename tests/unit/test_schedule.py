"""Schedules: each occurrence once, never early, what was missed once; over kills and steps of the clock."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_broker import SECOND, Desk
from tmux_orchestrator.eventlog import event
from tmux_orchestrator.ground import clock, files, timetable
from tmux_orchestrator.ground.errors import DataError, SystemFailure, UsageError
from tmux_orchestrator.insight import ahead
from tmux_orchestrator.watch import schedule
from tmux_orchestrator.watch.schedule import Schedule, Schedules

BERLIN = ZoneInfo("Europe/Berlin")
HOUR = 3600 * SECOND
NO_LIMIT = "monitoring: {max_messages_per_minute: 0}\ndelivery: {pair_per_minute: 0}\n"
ANN = {"type": "cron", "identifier": "ann", "session": None, "host": "h", "verified": False}


def ns(*parts: int, fold: int = 0) -> int:
    return int(datetime(*parts, tzinfo=BERLIN, fold=fold).timestamp()) * SECOND  # type: ignore[misc, arg-type]


MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # where a sync costs nothing


class World(Desk):
    """A broker, and what takes the schedules' turns; either may be away."""

    def __init__(self, root: str, config: str = "") -> None:
        super().__init__(root, config)
        self.clocks.wall = self.clocks.wall // SECOND * SECOND  # ids are forgotten by the time of their files
        self.zone, self.key = "", self.agent("dev")
        self.monitor = self.schedules = Schedules(self.home, self.get)
        self.start()

    def get(self, key: str) -> Any:
        return {"events.timezone": self.zone, "events.durability": "os"}[key]

    def add(self, kind: str, when: str, name: str = "", ttl_s: float = 86_400.0, **more: Any) -> str:
        since = clock.stamp(-(-self.clocks.wall // SECOND) * SECOND)
        made = event.build("tick", dict(ANN), targets=["team:dev"], type="message", **more)
        return Schedules(self.home, self.get).add(
            Schedule(name, kind, when, since, "", ttl_s, event.check(made)), self.clocks.wall
        )

    def go(self, seconds: float, broker: bool = True, monitor: bool = True) -> None:
        """Time passes by."""
        end = self.clocks.boot + int(seconds * SECOND)
        while True:
            wake = self.monitor.turn(self.clocks.wall) if monitor else schedule.NEVER
            step = min(SECOND, end - self.clocks.boot, max(1, wake - self.clocks.wall))
            if broker:
                self.run((step + 0.5) / SECOND)
            else:
                self.clocks.pass_by(step)
            if self.clocks.boot >= end:
                return

    def away(self, seconds: float, broker: bool, monitor: bool) -> None:
        """Killed, for so long; what of them was not away goes on."""
        if broker:
            self.crash()
        self.go(seconds, not broker, not monitor)
        if monitor:
            self.monitor = Schedules(self.home, self.get)
        if broker:
            self.start()

    def __enter__(self) -> World:
        return self

    def typed_ids(self) -> list[str]:
        return [one["event"] for one in self.outcomes() if one["outcome"] == "typed"]

    def times(self) -> list[str]:
        """The times of what was published."""
        return [one["metadata"]["not_before"] for one in self.events() if one["message"]["type"] == "message"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(str(tmp_path / "home"), NO_LIMIT) as world:
        yield world


# once

PERIOD = 20
AWAY = st.tuples(
    st.floats(0.0, 90.0), st.booleans(), st.booleans(), st.sampled_from(["broker", "monitor"]), st.floats(0.0, 45.0)
)


@settings(max_examples=40, deadline=None)
@given(st.lists(AWAY, max_size=3))
def test_each_once_and_what_was_missed_once(acts: list[tuple[float, bool, bool, str, float]]) -> None:
    """Broker, monitor, both or neither are away for some seconds; one of them is back before the other."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as root, World(root + "/home", NO_LIMIT) as world:
        world.add("every", str(PERIOD))
        begin = world.clocks.wall
        for seconds, broker, monitor, first, then in acts:
            before, left = len(world.panes.typed), world.clocks.wall
            world.away(seconds, broker, monitor)
            missed = (world.clocks.wall - begin) // (PERIOD * SECOND) - (left - begin) // (PERIOD * SECOND)
            soon = (world.clocks.wall - begin) % (PERIOD * SECOND) < (PERIOD - 4) * SECOND
            world.go(1, broker=first == "broker", monitor=first == "monitor")
            world.go(2)
            count = len(world.panes.typed) - before
            if soon and broker:
                assert count == min(1, missed)
            elif soon and monitor:  # the first was in the log, unless the monitor had not published it yet
                assert min(1, missed) <= count <= min(2, missed)
            elif soon:
                assert count == missed
            world.go(then)
        ids = world.typed_ids()
        assert len(ids) == len(set(ids))
        now = len(world.panes.typed)
        world.go(3 * PERIOD)
        assert len(world.panes.typed) - now == 3


STEPS = st.lists(
    st.tuples(st.floats(-100, 100), st.sampled_from(["", "broker", "monitor"]), st.floats(0, 45)), max_size=3
)


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_a_step_of_the_clock_sends_none_twice_and_none_early(acts: list[tuple[float, str, float]]) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as root, World(root + "/home", NO_LIMIT) as world:
        world.add("every", str(PERIOD))
        for step, killed, seconds in acts:
            world.clocks.wall += int(step * SECOND)
            if killed:
                world.away(0, killed == "broker", killed == "monitor")
            world.go(seconds)
        world.go(3 * 100 + PERIOD)  # beyond all that the clock was set back
        phase: list[float] = []
        since = clock.parse_stamp(schedule.load(world.home)[0].since)
        world.panes.after_typing = lambda: phase.append((world.clocks.wall - since) % (PERIOD * SECOND))
        world.go(3 * PERIOD)
        assert len(phase) == 3 and all(at < SECOND for at in phase)
        ids = world.typed_ids()
        assert len(ids) == len(set(ids)) and len(world.times()) == len(set(world.times()))


def test_on_time_without_a_monitor_then_the_latest_missed_one(world: World) -> None:
    world.add("every", "3600")
    world.away(5.5 * 3600, broker=False, monitor=True)
    assert len(world.panes.frames(world.key)) == 1 and "late" not in world.panes.frames(world.key)[0]
    world.go(1)
    assert len(world.panes.frames(world.key)) == 2 and " · late 30 min" in world.panes.frames(world.key)[1]
    world.go(1800)
    assert len(world.panes.frames(world.key)) == 3


@pytest.mark.parametrize("first", ["broker", "monitor"])
def test_what_everybody_missed_is_the_one_that_the_log_held(world: World, first: str) -> None:
    world.add("every", "3600")
    world.away(5.5 * 3600, broker=True, monitor=True)
    world.go(1, broker=first == "broker", monitor=first == "monitor")
    world.go(5)
    (typed,) = world.panes.frames(world.key)
    assert " · late 4 h" in typed


@pytest.mark.parametrize("first", ["broker", "monitor"])
def test_after_days_it_is_the_latest_that_may_still_be_typed(world: World, first: str) -> None:
    world.add("every", "36000", ttl_s=86_400)
    world.away(5 * 86_400 + 5000, broker=True, monitor=True)
    world.go(1, broker=first == "broker", monitor=first == "monitor")
    world.go(5)
    (typed,) = world.panes.frames(world.key)
    assert " · late 83 min" in typed or " · late 2 h" in typed


def test_a_crash_between_publishing_and_keeping_publishes_nothing_twice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add("every", "60")

    def fails(self: Schedules, known: list[Schedule]) -> None:
        raise SystemFailure("no room")

    with monkeypatch.context() as patch:
        patch.setattr(Schedules, "_save", fails)
        for _ in range(5):
            world.clocks.pass_by(20 * SECOND)
            if world.clocks.wall > 0 and _ >= 3:
                with pytest.raises(SystemFailure):
                    world.monitor.turn(world.clocks.wall)
    world.go(1)
    assert len(world.times()) == len(set(world.times())) == 2


def test_what_cannot_be_published_is_not_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError):
        world.add("every", "60", context={"much": "x" * 300_000})
    assert schedule.load(world.home) == []


# times of day


def test_a_day_of_the_calendar_in_the_homes_zone(world: World) -> None:
    world.zone = "Europe/Berlin"
    world.clocks.wall = ns(2026, 3, 28, 12, 0)
    world.add("cron", "30 2 * * *")
    world.go(3 * 86_400, broker=False)
    assert [at[:16] for at in world.times()] == [
        "2026-03-29T01:00",  # 02:30 is not there: 03:00, when the clocks have changed
        "2026-03-30T00:30",
        "2026-03-31T00:30",
        "2026-04-01T00:30",
    ]


@pytest.mark.parametrize(
    ("text", "day", "wanted"),
    [
        ("30 2 * * *", (2026, 10, 25), ["02:30+0200"]),  # comes twice: the first time
        ("0 * * * *", (2026, 10, 25), ["00:00+0200", "01:00+0200", "02:00+0200", "02:00+0100", "03:00+0100"]),
        ("0 * * * *", (2026, 3, 29), ["00:00+0100", "01:00+0100", "03:00+0200"]),
        ("0,30 2 * * *", (2026, 3, 29), ["03:00+0200"]),
        ("*/30 2 * * *", (2026, 3, 29), []),
        ("*/30 2 * * *", (2026, 10, 25), ["02:00+0200", "02:30+0200", "02:00+0100", "02:30+0100"]),
    ],
)
def test_when_the_clocks_change(text: str, day: tuple[int, int, int], wanted: list[str]) -> None:
    rule, at = timetable.Cron(text, BERLIN), ns(*day) - 1
    found = []
    while (at := rule.after(at) or 0) < ns(*day, 3, 30):
        found.append(datetime.fromtimestamp(at // SECOND, BERLIN).strftime("%H:%M%z"))
    assert found == wanted


FIELDS = (
    ("0", "*", "*/15", "30", "5,35"),
    ("*", "2", "1-3", "0", "*/2"),
    ("*", "1", "L", "25"),
    ("*", "3", "10"),
    ("*", "0", "1-5"),
)


def test_in_the_second_of_two_equal_hours_the_first_is_over() -> None:
    at = ns(2026, 10, 25, 2, 10, fold=1)
    assert timetable.Cron("30 2 * * *", BERLIN).after(at) == ns(2026, 10, 26, 2, 30)
    assert timetable.Cron("*/30 * * * *", BERLIN).after(at) == ns(2026, 10, 25, 2, 30, fold=1)


EXPRESSIONS = st.tuples(*(st.sampled_from(field) for field in FIELDS)).map(" ".join)
NEAR_CHANGES = st.sampled_from([ns(2026, 3, 29), ns(2026, 10, 25), ns(2027, 3, 28)])


@settings(max_examples=400, deadline=None)
@given(EXPRESSIONS, NEAR_CHANGES, st.integers(-2 * HOUR, 6 * HOUR))
def test_the_next_is_later_and_none_lies_between(text: str, day: int, more: int) -> None:
    rule, at = timetable.Cron(text, BERLIN), day + more
    following = rule.after(at)
    assert following is not None and following > at
    for between in (at + (following - at) // 3, at + (following - at) // 2, following - 1):
        assert rule.after(between) == following
    assert rule.last(at, following) == following and rule.last(at, following - 1) is None


@given(st.integers(1, 10**7), st.integers(0, 2 * 10**18), st.integers(0, 2 * 10**18), st.integers(0, 10**17))
def test_the_same_for_what_comes_every_so_often(seconds: int, since: int, at: int, more: int) -> None:
    rule = timetable.Every(seconds, since)
    following = rule.after(at)
    assert following is not None and following > max(at, since)
    assert following - max(at, since) <= seconds * SECOND and (following - since) % (seconds * SECOND) == 0
    last = rule.last(at, at + more)
    assert last is None or (at < last <= at + more and (rule.after(last) or 0) > at + more)
    assert last is not None or following > at + more


@pytest.mark.parametrize(
    "text",
    [
        *("", "@", "@dayly", "* * * *", "* * * * * *", "61 * * * *", "0 0 30 2 *", "0 0 31 4,6 *", "*/0 * * * *"),
        *("a * * * *", "0 0 * * 8", "\u0663 * * * *", "1-0-1 * * * *", "0 " + ",".join(["1"] * 200) + " * * *"),
    ],
)
def test_what_is_no_cron_expression(text: str) -> None:
    with pytest.raises(UsageError, match="is no cron expression"):
        timetable.Cron(text, BERLIN)


@pytest.mark.parametrize("text", ["@daily", "@Hourly", "0 9 * * mon-fri", "0 0 29 2 *", " 5  4 * * sun ", "0 0 L * *"])
def test_what_is_one(text: str) -> None:
    assert timetable.Cron(text, BERLIN).after(ns(2026, 1, 1)) is not None


def test_a_new_zone_is_taken_up_and_the_old_occurrence_is_called_back(world: World) -> None:
    world.zone, world.clocks.wall = "Europe/Berlin", ns(2026, 6, 1, 12)
    world.add("cron", "0 9 * * *")
    world.go(1)
    world.zone = "America/New_York"
    world.go(1)
    world.clocks.pass_by(3 * HOUR)
    world.go(2)
    assert [at[:16] for at in world.times()] == ["2026-06-02T07:00", "2026-06-01T13:00", "2026-06-02T13:00"]
    assert len(world.panes.typed) == 1 and clock.stamp(world.clocks.wall)[:13] == "2026-06-01T13"
    ends = [one["reason"] for one in world.outcomes() if one["outcome"] == "expired"]
    assert ends == ["cancelled by ann"]


def test_a_clock_that_was_years_ahead_leaves_the_schedule_alive(world: World) -> None:
    world.add("cron", "0 * * * *")
    world.clocks.wall += 4 * 365 * 24 * HOUR
    world.go(2)
    world.clocks.wall -= 4 * 365 * 24 * HOUR
    before = len(world.panes.typed)
    world.go(2 * 3600)
    assert len(world.panes.typed) - before == 2


# adding and removing


def test_one_time_is_published_at_once_and_forgotten_when_it_is_past(world: World) -> None:
    at = clock.stamp(world.clocks.wall + 90 * SECOND)
    assert world.add("at", at) == "at-1"
    assert world.times() == [at] and [one.name for one in schedule.load(world.home)] == ["at-1"]
    world.go(89)
    assert world.panes.typed == []
    world.go(2)
    assert len(world.panes.typed) == 1 and schedule.load(world.home) == []


def test_names_and_a_name_that_comes_again(world: World) -> None:
    assert [world.add("every", "60") for _ in range(3)] == ["every-1", "every-2", "every-3"]
    world.schedules.remove(["every-2"], dict(ANN))
    assert world.add("every", "60") == "every-2"
    with pytest.raises(UsageError, match="there is a schedule 'every-1'"):
        world.add("every", "60", "every-1")
    world.go(61)
    assert len(world.panes.typed) == 1 and "×3" in world.panes.typed[0][2]
    assert len({one["id"][-6:] for one in world.events() if one["message"]["type"] == "message"}) >= 6


def test_remove_cancels_what_waits_also_while_no_broker_runs(world: World) -> None:
    world.add("every", "60")
    world.go(1)
    world.crash()
    world.schedules.remove(["every-1"], dict(ANN))
    assert ahead.waiting(world.home, world.clocks.wall) == []
    world.clocks.pass_by(HOUR)
    world.start()
    world.go(120)
    assert world.panes.typed == [] and schedule.load(world.home) == []


def test_two_who_take_turns_at_one_time(world: World) -> None:
    world.add("every", "60")
    other = Schedules(world.home, world.get)
    for _ in range(600):
        world.clocks.pass_by(SECOND)
        world.monitor.turn(world.clocks.wall)
        other.turn(world.clocks.wall)
    assert len(world.times()) == len(set(world.times())) == 11


def test_a_turn_with_nothing_to_do_reads_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add("every", "3600")
    wake = world.monitor.turn(world.clocks.wall)
    assert 0 < wake - world.clocks.wall <= HOUR + SECOND
    monkeypatch.setattr(schedule, "load", lambda home: 1 / 0)
    for _ in range(5):
        world.clocks.pass_by(SECOND)
        assert world.monitor.turn(world.clocks.wall) == wake


def good() -> dict[str, Any]:
    made = event.check(event.build("tick", dict(ANN), targets=["team:dev"]))
    stamp = "2026-11-20T10:00:00.000000Z"
    return Schedule("x", "every", "60", stamp, "n", 60.0, made, "", stamp).to_dict()


BAD: list[tuple[str, object]] = [
    ("name", "../x"),
    ("name", ""),
    ("name", 5),
    ("kind", "weekly"),
    ("when", "0"),
    ("when", "-5"),
    ("when", "x"),
    ("when", None),
    ("since", "yesterday"),
    ("ttl_s", 0),
    ("ttl_s", "60"),
    ("ttl_s", 1e300),
    ("ttl_s", float("inf")),
    ("event", {}),
    ("event", []),
    ("next", "soon"),
    ("zone", None),
    ("nonce", 1),
]


@pytest.mark.parametrize(("field", "value"), BAD)
def test_a_damaged_schedule_is_damage_of_the_file(world: World, field: str, value: object) -> None:
    files.replace(schedule.path(world.home), json.dumps({"schedules": [good() | {field: value}]}).encode())
    with pytest.raises(DataError, match="is damaged"):
        schedule.load(world.home)


@pytest.mark.parametrize("data", [b"{", b"[]", b"5", b'{"schedules": 5}', b'{"schedules": [5]}', b"{}", b"\xff"])
def test_a_damaged_file_is_told_once_until_it_changes(world: World, data: bytes) -> None:
    files.replace(schedule.path(world.home), data)
    with pytest.raises(DataError):
        world.monitor.turn(world.clocks.wall)
    assert world.monitor.turn(world.clocks.wall + SECOND) == schedule.NEVER
    files.replace(schedule.path(world.home), json.dumps({"schedules": [good()]}).encode())
    assert world.monitor.turn(world.clocks.wall + SECOND) < schedule.NEVER
    os.unlink(schedule.path(world.home))
    assert world.monitor.turn(world.clocks.wall + SECOND) == schedule.NEVER


# what waits


def test_what_waits_is_told_whether_a_broker_runs_or_not(world: World) -> None:
    def at(seconds: int) -> str:
        return clock.stamp(world.clocks.wall + seconds * SECOND)

    def waits() -> list[str]:
        return [one["message"]["content"]["body"] for one in ahead.waiting(world.home, world.clocks.wall)]

    owed = world.publish("owed", "dev", not_before=at(200))
    world.publish("both", "dev", "@all", not_before=at(100))
    world.publish("now", "dev")
    world.publish("for readers", not_before=at(100))
    assert waits() == ["both", "owed"]
    world.go(1)
    assert waits() == ["both", "owed"]
    world.crash()
    assert waits() == ["both", "owed"]
    world.publish("new", "dev", not_before=at(50))
    gone = world.publish("gone", "dev", not_before=at(50))
    for one in (owed, gone):
        world.publish("cancel", type="cancel", context={"event": one})
    assert waits() == ["new", "both"]
    world.raw(b'{"id": "damaged", "not_before": "')
    world.clocks.pass_by(60 * SECOND)
    assert waits() == ["both"]
    world.publish("clear", type="clear_queues")
    assert waits() == []
    world.start()
    world.go(300)
    assert world.panes.bodies(world.key) == ["now"]
