"""Where the time of tasks goes: exact figures, whatever happened to a task, and no statement that reads it all."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from support_figures import HOUR, Times
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.insight import task_figures
from tmux_orchestrator.insight.latency import percentile
from tmux_orchestrator.insight.task_figures import Group


@pytest.fixture
def times(home: Home) -> Iterator[Times]:
    clock.use_zone("")
    with Times(home) as made:
        yield made


@pytest.fixture
def zone() -> Iterator[None]:
    clock.use_zone("Europe/Berlin")
    yield
    clock.use_zone("")


def only(times: Times, agent: str = "dev", kind: str = "build") -> Group:
    return task_figures.history(times.queue.database).kinds[agent, kind]


# where time goes


def test_the_time_of_a_task_is_waiting_running_and_resting(times: Times) -> None:
    times.send("dev")
    times.passes(10)
    times.fails(times.take("dev"), after=2, retry=True)  # rests for 5 s
    times.passes(8)
    times.done(times.take("dev"), after=4)
    found = only(times)
    assert (found.waiting_ms, found.running_ms, found.resting_ms) == (13_000, 6_000, 5_000)
    assert found.durations == [4_000]


def test_what_a_dead_worker_and_one_that_gives_back_took_is_running(times: Times) -> None:
    task = times.send("dev")
    times.queue.get("dev", lease=3, worker="")
    times.passes(3)  # its lease ends
    assert times.take("dev") == task
    times.passes(2)
    times.queue.release(task)
    times.done(times.take("dev"), after=1)
    found = only(times)
    assert (found.waiting_ms, found.running_ms, found.resting_ms) == (0, 6_000, 0)


def test_a_task_that_is_tried_again_by_hand_keeps_what_it_took(times: Times) -> None:
    task = times.send("dev")
    times.fails(times.take("dev"), after=7)
    times.passes(1)
    times.queue.retry(task)
    times.done(times.take("dev"), after=2)
    found = only(times)
    assert (found.waiting_ms, found.running_ms) == (1_000, 9_000)


def test_a_run_of_another_boot_takes_no_time_from_this_one(times: Times, monkeypatch: pytest.MonkeyPatch) -> None:
    times.send("dev", max_attempts=1)
    times.take("dev")
    monkeypatch.setattr(clock, "boot_id", lambda: "another")
    times.queue.close()
    with Times(times.home, boot=5) as later:
        found = only(later)
    assert (found.failed, found.running_ms, found.durations) == (1, 0, [])


def test_a_cancelled_task_is_counted_and_takes_no_time(times: Times) -> None:
    times.passes(50)
    times.queue.cancel(times.send("dev"))
    found = only(times)
    assert (found.cancelled, found.waiting_ms) == (1, 0)


def test_figures_are_by_agent_and_type_and_of_the_time_that_is_asked_for(times: Times) -> None:
    times.ended("ann", 100, "build", ago=30)
    times.ended("ann", 300, "test", ago=20)
    times.ended("ann", 5, "test", "dead", ago=20)
    times.ended("ben", 500, "test", ago=10)
    found = task_figures.history(times.queue.database)
    assert {name: (one.completed, one.failed, one.durations) for name, one in found.agents().items()} == {
        "ann": (2, 1, [100, 300]),
        "ben": (1, 0, [500]),
    }
    late = task_figures.history(times.queue.database, times.now - 15 * 10**9)
    assert [*late.kinds] == [("ben", "test")]
    assert [*task_figures.history(times.queue.database, 0, "ann").kinds] == [("ann", "build"), ("ann", "test")]


# trends


def test_a_day_is_one_of_the_home_s_zone_even_when_its_clocks_change(zone: None, times: Times) -> None:
    for stamp in (
        *("2026-10-24T21:59:59Z", "2026-10-24T22:00:00Z"),  # midnight in summer time
        *("2026-10-25T22:59:59Z", "2026-10-25T23:00:00Z"),  # the next one, 25 hours later
    ):
        times.now = clock.parse_stamp(stamp)
        times.ended("dev", 10)
    times.ended("dev", 20, status="failed")
    days = task_figures.history(times.queue.database).days
    assert {day: (one.completed, one.failed) for day, one in days.items()} == {
        "2026-10-24": (1, 0),
        "2026-10-25": (2, 0),
        "2026-10-26": (1, 1),
    }


def test_days_and_kinds_hold_the_same_tasks(times: Times) -> None:
    times.crowd(500)
    found = task_figures.history(times.queue.database)
    for groups in (found.days.values(), found.kinds.values()):
        assert sum(one.completed + one.failed for one in groups) == 500
    assert list(found.days) == sorted(found.days)


@pytest.mark.parametrize(
    "stamp", ["2025-10-18T10:30:05.123456", "not a time", "zzzz", "9999-12-31T23:59:59Z", "\x1b[2J"]
)
def test_a_stamp_that_none_of_ours_wrote_is_no_end(times: Times, stamp: str) -> None:
    times.ended("dev", 10)
    times.queue.database.change("UPDATE tasks SET completed_at = ?", stamp)
    times.ended("dev", 20)
    found = task_figures.history(times.queue.database)
    assert sum(one.completed for one in found.days.values()) == sum(one.completed for one in found.kinds.values())
    assert "".join(found.days).isprintable()
    assert task_figures.events(times.queue.database, 10)


# percentiles


@pytest.mark.parametrize("count", [0, 1, 2, 19, 20, 21, 99, 100, 101, 1000])
def test_percentiles_are_the_nearest_ranks(times: Times, count: int) -> None:
    took = [random.Random(count).randrange(10_000) for _ in range(count)]
    for ms in took:
        times.ended("dev", ms)
    times.ended("dev", 10**6, status="failed")
    wanted = {f"p{rank}": percentile(sorted(took), rank) for rank in (50, 95, 99)}
    assert task_figures.percentiles(times.queue.database) == wanted | {"count": count}


# what waits


def test_the_depth_of_a_queue_is_what_the_document_s_view_says(times: Times) -> None:
    first = times.send("ann", priority=1)
    times.send("ann", priority=2)
    times.send("ann", priority=8, after=[first])
    for _ in range(2):
        times.send("ann", priority=5, not_before=clock.stamp(times.now + HOUR))
    times.send("ben", priority=3, expires=clock.stamp(times.now + HOUR))
    times.send("cid", priority=10)
    times.fails(times.take("cid"), retry=True)  # it rests
    times.send("dan")
    times.take("dan")  # it runs
    found = task_figures.depths(times.queue.database)
    names = ("agent", "queued_tasks", "high_priority", "normal_priority", "low_priority")
    told = [{name: one.record(agent)[name] for name in names} for agent, one in found.items() if one.queued]
    assert told == times.queue.get_queue_depth()
    assert sum(one.queued for one in found.values()) == times.queue.size()
    assert {agent: one.running for agent, one in found.items()} == {"ann": 0, "ben": 0, "cid": 0, "dan": 1}


def test_what_runs_is_told_with_its_time_so_far(times: Times) -> None:
    for agent, seconds in (("ann", 3), ("ben", 2)):
        times.send(agent)
        times.take(agent)
        times.passes(seconds)
    found = task_figures.running(times.queue.database)
    assert [(one["agent"], one["duration_ms"]) for one in found] == [("ann", 5_000), ("ben", 2_000)]


# events


def test_events_are_the_last_ones_of_all_that_the_tables_know(times: Times) -> None:
    rng = random.Random(7)
    for _ in range(60):
        times.passes(rng.uniform(1, 30))
        act = rng.randrange(3)
        if act == 0 or not times.queue.is_ready("dev"):
            times.send("dev", rng.choice(("build", "test")), priority=rng.randint(1, 10))
        elif act == 1:
            times.take("dev")
        else:
            task = times.take("dev")
            (times.done if rng.random() < 0.7 else times.fails)(task, after=rng.uniform(1, 500))
    everything = task_figures.events(times.queue.database, 10_000)
    assert [one["time"] for one in everything] == sorted(one["time"] for one in everything)
    started = times.queue.database.rows("SELECT count(created_at) + count(started_at) + count(completed_at) FROM tasks")
    assert len(everything) == started[0][0]
    for most in range(len(everything) + 2):
        assert task_figures.events(times.queue.database, most) == everything[max(0, len(everything) - most) :]


# speed


def test_no_statement_but_those_of_a_whole_history_reads_all_that_ended(times: Times) -> None:
    times.crowd(20_000)
    times.send("ann")
    times.send("ben")
    times.take("ben")
    database = times.queue.database
    said: list[str] = []
    database._connection.set_trace_callback(said.append)
    task_figures.percentiles(database)
    task_figures.slowest(database)
    task_figures.depths(database)
    task_figures.running(database)
    task_figures.coming(database)
    task_figures.events(database, 100)
    task_figures.history(database, times.now - HOUR)
    database._connection.set_trace_callback(None)
    assert len(said) > 10
    for sql in said:
        plan = [row[3] for row in database.rows("EXPLAIN QUERY PLAN " + sql)]
        walked = [step for step in plan if step.startswith("SCAN tasks")]
        assert not walked or "rowid DESC LIMIT" in sql, (sql, plan)
