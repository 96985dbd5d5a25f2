"""When agents are started by clock and log: once for each occasion, whatever the clock does."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from tmux_orchestrator.ground import config_team
from tmux_orchestrator.ground.times import SECOND
from tmux_orchestrator.work.team import restarts, roster
from tmux_orchestrator.work.team.occasions import NEVER, Clock
from tmux_orchestrator.work.team.roster import Spec
from tmux_orchestrator.work.team.state import Kept

HOUR, DAY = 3600 * SECOND, 86_400 * SECOND
MONDAY = int(datetime(2026, 11, 23, 9, 0, tzinfo=UTC).timestamp()) * SECOND


def spec(schedule: str = "") -> Spec:
    return replace(roster.retired("a"), schedule=schedule)


def weekly() -> Clock:
    return Clock(spec(schedule="0 9 * * 1"), "UTC")


def test_an_agent_without_a_schedule_has_no_time() -> None:
    clock, kept = Clock(spec(), "UTC"), Kept()
    assert clock.due_ns(kept, MONDAY) == NEVER and not clock.take(kept, MONDAY)


def test_it_comes_at_its_time_and_once() -> None:
    clock, kept = weekly(), Kept()
    assert not clock.take(kept, MONDAY - HOUR)
    assert clock.due_ns(kept, MONDAY - HOUR) == MONDAY
    assert clock.take(kept, MONDAY + SECOND)
    assert not clock.take(kept, MONDAY + SECOND)
    assert clock.due_ns(kept, MONDAY + SECOND) == MONDAY + 7 * DAY


def test_what_passed_while_nobody_looked_comes_once() -> None:
    clock, kept = weekly(), Kept(fired_wall_ns=MONDAY)
    now = MONDAY + 22 * DAY
    assert clock.take(kept, now)
    assert not clock.take(kept, now)
    assert clock.due_ns(kept, now) == MONDAY + 28 * DAY


def test_a_clock_that_is_set_back_repeats_nothing() -> None:
    clock, kept = weekly(), Kept()
    clock.take(kept, MONDAY - HOUR)
    assert clock.take(kept, MONDAY + SECOND)
    assert not clock.take(kept, MONDAY - 2 * HOUR)
    assert not clock.take(kept, MONDAY + 2 * SECOND)


def test_a_clock_that_was_far_ahead_does_not_keep_it_from_coming() -> None:
    clock, kept = weekly(), Kept()
    clock.take(kept, MONDAY + 1000 * DAY)
    clock.take(kept, MONDAY + 1010 * DAY)
    assert not clock.take(kept, MONDAY - HOUR)
    assert clock.take(kept, MONDAY + SECOND)


@given(st.lists(st.integers(1, 20 * 86_400), min_size=1, max_size=20))
def test_however_often_is_looked_each_week_comes_at_most_once(steps: list[int]) -> None:
    clock, kept, now, taken = weekly(), Kept(), MONDAY - HOUR, 0
    clock.take(kept, now)
    for step in steps:
        now += step * SECOND
        taken += clock.take(kept, now)
    passed = (now - MONDAY) // (7 * DAY) + 1
    assert taken <= max(passed, 0)
    assert not passed or taken
    assert not clock.take(kept, now)


def test_restarts_are_counted_in_a_window() -> None:
    class Settings:
        def get(self, key: str) -> float:
            return {"team.restart.max": 3, "team.restart.within": 600.0, "team.restart.again_after": 60.0}[key]

    settings, kept = Settings(), Kept()
    assert [restarts.may(kept, at * SECOND, settings) for at in (1, 2, 3, 4, 500)] == [True] * 3 + [False] * 2  # type: ignore[arg-type]
    assert restarts.may(kept, 601 * SECOND, settings)  # type: ignore[arg-type]
    assert not restarts.may(kept, 601 * SECOND, settings)  # type: ignore[arg-type]
    assert restarts.again_ns(5, settings) == 5 + 60 * SECOND  # type: ignore[arg-type]
    restarts.forgive(kept)
    assert restarts.may(kept, 602 * SECOND, settings)  # type: ignore[arg-type]


def test_every_key_of_an_agent_has_its_place() -> None:
    taken = {*Spec.__slots__} - {"name", "env"}
    assert taken == set(config_team.AGENT)
