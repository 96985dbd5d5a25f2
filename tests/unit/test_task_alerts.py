"""Alerts of the task queue: once when it begins, once when it is over, whatever dies, fills up or comes back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support_faults import Faults, Killed
from support_figures import HOUR, SECOND, Times
from tmux_orchestrator.eventlog import reader
from tmux_orchestrator.eventlog.voice import Voice
from tmux_orchestrator.ground import clock, config, files
from tmux_orchestrator.ground.errors import OrcError
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.insight import task_alerts, task_glance, task_rules
from tmux_orchestrator.insight.task_alerts import Alerts

MINUTE = 60


class Watch:
    """A queue, and alerts that are made anew when they were killed."""

    def __init__(self, home: Home, times: Times) -> None:
        self.home, self.times = home, times
        self.alerts: Alerts | None = None

    def rule(self, **values: object) -> None:
        """All other thresholds are off."""
        off = dict.fromkeys(
            ("slow_task_threshold", "p95_threshold", "max_failed_tasks", "max_failure_rate", "max_queue_depth"), 0
        )
        text = ", ".join(f"{name}: {value}" for name, value in (off | values).items())
        files.replace(self.home.config_file, f"team: {{bottleneck_alerts: {{{text}}}}}\n".encode())
        self.alerts = None

    def look(self) -> None:
        settings = config.load(self.home)
        self.alerts = self.alerts or Alerts(self.home, settings, Voice(self.home, "tester"))
        self.alerts.check(self.times.now)

    def passes(self, seconds: float, step: float = MINUTE) -> None:
        """Time, with a look each minute."""
        while seconds > 0:
            self.times.passes(min(step, seconds))
            seconds -= step
            self.look()

    def said(self) -> list[dict[str, Any]]:
        found = [one for _, one in reader.search(self.home, reader.Query())]
        return [one for one in found if one["source"]["identifier"] == "tasks"]

    def issues(self) -> list[str]:
        return [one["message"]["content"]["context"]["issue_type"] for one in self.said()]

    def standing(self) -> list[str]:
        found = task_alerts.standing(self.home, config.load(self.home), self.times.now)
        return [f"{one.rule} {one.subject}" for one in found]


@pytest.fixture
def watch(home: Home) -> Iterator[Watch]:
    with Times(home) as times:
        yield Watch(home, times)


# slow tasks


def test_a_slow_task_is_told_once_and_once_that_it_is_over(watch: Watch) -> None:
    watch.rule(slow_task_threshold=60_000)
    watch.times.ended("dev", 60_000)
    watch.look()
    assert watch.issues() == []
    task = watch.times.ended("dev", 75_000)
    watch.passes(10 * MINUTE)
    (told,) = watch.said()
    content = told["message"]["content"]
    assert (told["message"]["type"], told["message"]["category"]) == ("alert", "performance")
    assert (told["message"]["priority"], told["to"]["groups"]) == ("normal", ["management"])
    assert content["subject"] == f"Slow task detected: {task}"
    assert content["body"] == "Agent: dev, Type: build, Duration: 75,000ms (threshold: 60,000ms)"
    assert content["context"]["severity"] == "warning"
    assert watch.standing() == ["slow_task dev build"]
    watch.passes(2 * 3600)
    assert watch.issues() == ["slow_task", "resolved"]
    assert watch.said()[1]["message"]["content"]["body"].startswith("dev build: tasks are no longer slow, after 1h")
    assert watch.standing() == []
    assert b'"untold": []' in (files.read(task_alerts._file(watch.home)) or b"")


def test_a_task_that_runs_for_too_long_counts_before_it_ends(watch: Watch) -> None:
    watch.rule(slow_task_threshold=60_000)
    task = watch.times.send("dev")
    watch.times.take("dev")
    watch.passes(MINUTE)
    assert watch.issues() == []
    watch.passes(1)
    (told,) = watch.said()
    assert told["message"]["content"]["context"]["task_id"] == task
    assert "Duration: 61,000ms so far" in told["message"]["content"]["body"]
    watch.times.done(task)
    watch.passes(MINUTE)
    assert watch.issues() == ["slow_task"]


def test_a_hundred_slow_tasks_are_one_notification(watch: Watch) -> None:
    watch.rule(slow_task_threshold=60_000)
    for number in range(100):
        watch.times.ended(f"dev{number % 20}", 70_000 + number, f"kind{number}")
    watch.look()
    (told,) = watch.said()
    lines = told["message"]["content"]["body"].split("\n")
    assert told["message"]["content"]["subject"] == "100 kinds of tasks are slow"
    assert (len(lines), lines[-1]) == (11, "and 90 more: orc-team bottlenecks")
    watch.passes(2 * 3600)
    assert watch.issues() == ["slow_task", "resolved"]


def test_thousands_of_kinds_are_bounded(watch: Watch) -> None:
    watch.rule(slow_task_threshold=60_000)
    with watch.times.queue.database:
        for number in range(3000):
            watch.times.ended("dev", 70_000, f"kind{number}")
    for _ in range(3):
        watch.look()
    assert watch.issues() == ["slow_task"]
    assert len(watch.standing()) == 1000


def test_another_kind_of_slow_task_is_news(watch: Watch) -> None:
    watch.rule(slow_task_threshold=60_000)
    watch.times.ended("dev", 70_000, "build")
    watch.look()
    watch.times.ended("dev", 90_000, "build")
    watch.look()
    assert watch.issues() == ["slow_task"]
    watch.times.ended("dev", 70_000, "test")
    watch.look()
    assert watch.issues() == ["slow_task", "slow_task"]


def test_what_was_cancelled_was_not_slow(watch: Watch) -> None:
    watch.rule(slow_task_threshold=60_000, max_failure_rate=0.1, max_failed_tasks=1)
    for _ in range(30):
        watch.times.ended("dev", 70_000, status="cancelled")
    watch.look()
    assert watch.issues() == []


# the other rules


def test_the_95th_percentile_is_judged_exactly_and_of_enough_tasks(watch: Watch) -> None:
    watch.rule(p95_threshold=1_000)
    for _ in range(2):
        watch.times.ended("dev", 5_000)
    for _ in range(17):
        watch.times.ended("dev", 10)
    watch.look()
    assert watch.issues() == [], "19 tasks say nothing of the slowest 5 %"
    watch.times.ended("dev", 10)
    watch.look()
    (told,) = watch.said()
    assert told["message"]["content"]["subject"] == "High p95 duration: 5,000ms"
    for _ in range(20):  # 2 of 40 are 5 %: the 95th percentile is one of the others
        watch.times.ended("dev", 10)
    watch.passes(6 * MINUTE)
    assert watch.issues() == ["p95", "resolved"]


def test_failed_tasks_are_counted_by_agent_within_the_window(watch: Watch) -> None:
    watch.rule(max_failed_tasks=5)
    for _ in range(5):
        watch.times.ended("dev", 10, status="failed")
        watch.times.ended("qa", 10, status="dead", ago=3601)
    watch.look()
    assert watch.issues() == []
    watch.times.ended("dev", 10, status="dead")
    watch.times.ended("qa", 10, status="dead")
    watch.look()
    (told,) = watch.said()
    assert told["message"]["content"]["subject"] == "Failed tasks of dev: 6 in 1h"
    assert told["message"]["priority"] == "high"


def test_the_failure_rate_is_of_what_ended_within_the_window(watch: Watch) -> None:
    watch.rule(max_failure_rate=0.2)
    for _ in range(9):
        watch.times.ended("qa", 10, status="failed")  # too few to say anything
    for _ in range(2):
        watch.times.ended("dev", 10, status="failed")
    for _ in range(8):
        watch.times.ended("dev", 10)
    watch.look()
    assert watch.issues() == []
    watch.times.ended("dev", 10, status="failed")
    watch.look()
    (told,) = watch.said()
    content = told["message"]["content"]
    assert (content["subject"], content["body"]) == ("High failure rate for dev: 27.3%", "Failed: 3, Total: 11")


def test_a_deep_queue_is_told_with_what_is_in_it_and_when_it_is_no_longer_deep(watch: Watch) -> None:
    watch.rule(max_queue_depth=3)
    tasks = [watch.times.send("dev", priority=priority) for priority in (1, 5, 5, 9)]
    watch.look()
    (told,) = watch.said()
    content = told["message"]["content"]
    assert content["subject"] == "Queue depth critical for dev: 4 tasks"
    assert content["body"] == "High priority: 1, Normal: 2, Low: 1"
    watch.times.queue.cancel(tasks[0])
    watch.passes(6 * MINUTE)
    assert watch.issues() == ["queue_depth", "resolved"]


def test_every_rule_can_be_off(watch: Watch) -> None:
    watch.rule()
    for _ in range(50):
        watch.times.ended("dev", 10**6, status="failed")
        watch.times.ended("dev", 10**6)
        watch.times.send("dev", priority=1)
    watch.look()
    assert watch.issues() == []


# once


def test_what_comes_and_goes_is_one_matter(watch: Watch) -> None:
    watch.rule(max_queue_depth=1)
    for _ in range(5):
        tasks = [watch.times.send("dev"), watch.times.send("dev")]
        watch.passes(MINUTE)
        for task in tasks:
            watch.times.queue.cancel(task)
        watch.passes(3 * MINUTE)
    assert watch.issues() == ["queue_depth"]
    watch.passes(10 * MINUTE)
    assert watch.issues() == ["queue_depth", "resolved"]


def test_a_restart_tells_nothing_twice(watch: Watch) -> None:
    watch.rule(slow_task_threshold=60_000)
    watch.times.ended("dev", 70_000)
    for _ in range(3):
        watch.alerts = None
        watch.passes(MINUTE)
    assert watch.issues() == ["slow_task"]


def _sweep(watch: Watch, how: str, act: Callable[[], None]) -> int:
    """`act`, hit at each of its writes once, then in peace; how many there were."""
    at = 1
    while True:
        with Faults(how, at) as faults:
            try:
                watch.look()
            except (Killed, OrcError, OSError):
                pass
            if faults.calls < at:
                return at
        if how != "ENOSPC":
            watch.alerts = None
            watch.times.passes(1)  # until it is started anew
        at += 1
        watch.look()
        act()


@pytest.mark.parametrize("how", ["killed", "torn", "ENOSPC"])
def test_whatever_dies_or_is_full_an_alert_is_told_once(watch: Watch, how: str) -> None:
    watch.rule(slow_task_threshold=60_000)
    kinds: list[str] = []

    def another() -> None:
        kinds.append(f"kind{len(kinds)}")
        watch.times.passes(1)
        watch.times.ended("dev", 70_000, kinds[-1])

    another()
    writes = _sweep(watch, how, another)
    assert writes > 4
    told = [one["message"]["content"]["context"]["task_type"] for one in watch.said()]
    assert told == kinds


def test_a_damaged_memory_is_told_anew_and_hurts_nobody(watch: Watch) -> None:
    watch.rule(slow_task_threshold=60_000)
    watch.times.ended("dev", 70_000)
    for content in (
        b"{",
        b"[]",
        b'{"standing": 5}',
        b'{"looked": 1e999}',
        b'{"standing": [["slow_task", 1]], "untold": [3]}',
        b"\xff",
    ):
        files.make_dir(watch.home.run)
        files.replace(task_alerts._file(watch.home), content)
        watch.alerts = None
        watch.passes(1)
    assert watch.issues() == ["slow_task"] * 6


# hosts


def test_without_a_database_nothing_is_made_and_nothing_said(home: Home) -> None:
    settings = config.load(home)
    alerts = Alerts(home, settings, Voice(home, "tester"))
    alerts.check(clock.now_ns())
    assert not os.path.exists(home.root + "/data")
    assert task_glance.look(home, settings) == (None, [])


def test_a_look_is_due_each_interval_and_when_the_configuration_changes(watch: Watch) -> None:
    watch.rule(slow_task_threshold=60_000)
    settings = config.load(watch.home)
    alerts = Alerts(watch.home, settings, Voice(watch.home, "tester"))
    due = alerts.turn()
    assert due == watch.times.boot + 60 * SECOND
    watch.times.ended("dev", 70_000)
    watch.times.passes(59)
    assert alerts.turn(news=True) == due and watch.issues() == []
    watch.times.passes(1)
    assert alerts.turn() == due + 60 * SECOND and watch.issues() == ["slow_task"]
    alerts.configure(settings)
    alerts.turn()
    watch.times.ended("dev", 70_000, "test")
    alerts.configure(settings)
    alerts.turn()
    assert watch.issues() == ["slow_task", "slow_task"]


def test_a_database_that_cannot_be_read_is_complained_of_once(watch: Watch, capsys: pytest.CaptureFixture[str]) -> None:
    watch.rule(slow_task_threshold=60_000)
    path = watch.times.queue.db_path
    watch.times.queue.close()
    with open(path, "r+b") as file:
        file.write(b"this is no database" * 100)
    alerts = Alerts(watch.home, config.load(watch.home), Voice(watch.home, "tester"))
    for _ in range(3):
        alerts.turn()
        watch.times.passes(MINUTE)
    assert capsys.readouterr().err.count("ERROR") == 1
    counts, (trouble,) = task_glance.look(watch.home, config.load(watch.home))
    assert counts is None
    assert (trouble[0], trouble[3]) == ("tasks", "orc-task check")


def test_what_stands_is_a_problem_of_orc_status_while_somebody_looks(watch: Watch) -> None:
    watch.rule(max_queue_depth=1)
    watch.times.send("dev")
    watch.times.send("dev")
    watch.look()
    settings = config.load(watch.home)
    counts, (trouble,) = task_glance.look(watch.home, settings)
    assert counts == {"queued": 2, "running": 0}
    assert trouble == (
        "alert",
        "dev",
        "Queue depth critical for dev: 2 tasks: High priority: 0, Normal: 2, Low: 0",
        "orc-team queue",
    )
    watch.times.passes(11 * MINUTE)
    assert task_glance.look(watch.home, settings) == ({"queued": 2, "running": 0}, [])


# speed


def test_a_look_reads_the_window_and_not_all_that_ended(watch: Watch) -> None:
    watch.times.crowd(100_000)
    watch.times.send("ann")
    watch.times.take("ann")
    for _ in range(40):
        watch.times.ended("ann", 90_000)
    watch.rule(slow_task_threshold=60_000, p95_threshold=1_000, max_failed_tasks=5, max_queue_depth=100)
    database = watch.times.queue.database
    said: list[str] = []
    database._connection.set_trace_callback(said.append)
    found = task_rules.judge(database, config.load(watch.home), watch.times.now)
    database._connection.set_trace_callback(None)
    assert [one.rule for one in found] == ["slow_task", "p95"]
    assert len(said) == 5
    for sql in said:
        plan = [row[3] for row in database.rows("EXPLAIN QUERY PLAN " + sql)]
        assert not [step for step in plan if step.startswith("SCAN tasks") or "idx_duration" in step], (sql, plan)
    recent = watch.times.now - HOUR
    assert database.row("SELECT count(*) FROM tasks WHERE completed_at >= ?", clock.stamp(recent)) == (40,)
