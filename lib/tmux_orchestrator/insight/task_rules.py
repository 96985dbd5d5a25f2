"""The alert rules over the task queue: what is against one of them just now.

The section `team.bottleneck_alerts` of the configuration has the thresholds, by the names of the source document.
What ended is judged over its `failure_window`, so that a rule that was broken is kept again by itself. All that is
read stands in an index, so a look costs what happened within the window, not what the database holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.ground.output import clean
from tmux_orchestrator.insight import task_figures, words
from tmux_orchestrator.work.store.database import Database

SLOW, P95, FAILED, RATE, DEPTH = "slow_task", "p95", "failed_tasks", "failure_rate", "queue_depth"
_LEAST_P95, _LEAST_RATE = 20, 10  # tasks that ended, fewer of which say nothing about most of them
_MOST = 1000  # findings of one kind
_RECENT = """
SELECT recipient, type, sum(status = 'completed' AND duration_ms IS NOT NULL), sum(status IN ('failed', 'dead')),
       sum(status = 'completed'), coalesce(sum(status <> 'cancelled' AND duration_ms > ?), 0),
       coalesce(sum(status = 'completed' AND duration_ms > ?), 0),
       coalesce(max(CASE WHEN status <> 'cancelled' THEN duration_ms END), 0), task_id
FROM tasks WHERE completed_at >= ? GROUP BY recipient, type"""
# The plus keeps it from walking all durations that there ever were.
_AT = """
SELECT duration_ms FROM tasks WHERE completed_at >= ? AND status = 'completed' AND duration_ms IS NOT NULL
ORDER BY +duration_ms DESC LIMIT 1 OFFSET ?"""
_AGES = "SELECT task_id, recipient, type, (? - started_boot) / 1000000 FROM tasks WHERE live = 2"


@dataclass(frozen=True, slots=True)
class Rule:
    """How a rule is told. `several`: the headline of more than one; `over`: of what is kept again."""

    severity: str
    several: str
    over: str
    mend: str

    @property
    def priority(self) -> str:
        return "high" if self.severity == "critical" else "normal"


_FAILED = "orc-task list --status failed --status dead"
RULES = {
    SLOW: Rule("warning", "{} kinds of tasks are slow", "tasks are no longer slow", "orc-team bottlenecks"),
    P95: Rule("warning", "{} times high p95", "p95 duration is below its threshold again", "orc-team bottlenecks"),
    FAILED: Rule("critical", "Tasks of {} agents fail", "no longer many failed tasks", _FAILED),
    RATE: Rule("critical", "{} agents fail often", "fails no longer often", _FAILED),
    DEPTH: Rule("critical", "Queues of {} agents are deep", "queue is no longer deep", "orc-team queue"),
}


@dataclass(slots=True)
class Finding:
    """A rule that is broken. `subject` says by whom or what; with the rule it is the finding's identity."""

    rule: str
    subject: str
    title: str
    details: str
    context: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class _Kind:
    """What ended within the window, of one agent and type."""

    agent: str
    type: str
    timed: int
    failed: int
    completed: int
    slow: int
    over_p95: int
    longest: int
    task_id: str


def judge(database: Database, settings: Config, now_ns: int) -> list[Finding]:
    """Everything that is against a rule now. Raises OrcError."""
    get = settings.get("team.bottleneck_alerts").get
    since = clock.stamp(now_ns - int(get("failure_window") * 1e9))
    slow, p95 = get("slow_task_threshold"), get("p95_threshold")
    rows = database.rows(_RECENT, slow, p95, since)
    kinds = [_Kind(*row) for row in rows]
    found = (
        _slow(database, kinds, slow) if slow else (),
        _p95(database, kinds, p95, since) if p95 else (),
        _failures(kinds, get("max_failed_tasks"), get("max_failure_rate"), get("failure_window")),
        _depths(database, get("max_queue_depth")) if get("max_queue_depth") else (),
    )
    return [one for those in found for one in islice(those, _MOST)]


def ms(value: int) -> str:
    return f"{value:,}ms"


def _slow(database: Database, kinds: list[_Kind], threshold: int) -> Iterator[Finding]:
    """By agent and type, so that a kind of work that is slow each time is told once. What runs counts already."""
    found = {(one.agent, one.type): (one.longest, one.task_id, one.slow, "") for one in kinds if one.slow}
    for task_id, agent, kind, age in database.rows(_AGES, clock.boot_ns()):
        if age is not None and age > threshold:
            longest, other, count, _ = found.get((agent, kind), (-1, "", 0, ""))
            worst = (age, task_id, count + 1, " so far") if age > longest else (longest, other, count + 1, "")
            found[agent, kind] = worst
    for (agent, kind), (longest, task_id, count, so_far) in sorted(found.items()):
        more = f", and {words.count(count - 1, 'other')} of its kind" if count > 1 else ""
        yield Finding(
            SLOW,
            f"{agent} {kind}",
            f"Slow task detected: {task_id}",
            f"Agent: {agent}, Type: {kind}, Duration: {ms(longest)}{so_far} (threshold: {ms(threshold)}){more}",
            {"agent": agent, "task_type": kind, "task_id": task_id, "duration_ms": longest, "threshold_ms": threshold},
        )


def _p95(database: Database, kinds: list[_Kind], threshold: int, since: str) -> Iterator[Finding]:
    count, over = sum(one.timed for one in kinds), sum(one.over_p95 for one in kinds)
    above = count - -(-count * 95 // 100)  # how many may take longer than the one at the 95th percentile
    if count < _LEAST_P95 or over <= above:
        return
    row = database.row(_AT, since, above)
    value = int(row[0]) if row else threshold
    worst = max(kinds, key=lambda one: one.over_p95)
    yield Finding(
        P95,
        "all tasks",
        f"High p95 duration: {ms(value)}",
        f"Threshold: {ms(threshold)}. Of {count} tasks {over} took longer, {worst.over_p95} of them "
        f"{worst.type} of {worst.agent}",
        {"p95_ms": value, "threshold_ms": threshold, "tasks": count},
    )


def _failures(kinds: list[_Kind], most: int, rate: float, window_s: float) -> Iterator[Finding]:
    agents: dict[str, tuple[int, int]] = {}
    for one in kinds:
        failed, total = agents.get(one.agent, (0, 0))
        agents[one.agent] = failed + one.failed, total + one.failed + one.completed
    for agent, (failed, total) in sorted(agents.items()):
        context = {"agent": agent, "failed_tasks": failed, "total_tasks": total}
        if most and failed > most:
            title = f"Failed tasks of {agent}: {failed} in {words.span(window_s)}"
            yield Finding(FAILED, agent, title, f"Threshold: {most}, Total: {total}", context)
        if rate and total >= _LEAST_RATE and failed / total > rate:
            title = f"High failure rate for {agent}: {failed / total * 100:.1f}%"
            yield Finding(RATE, agent, title, f"Failed: {failed}, Total: {total}", context)


def _depths(database: Database, most: int) -> Iterator[Finding]:
    for agent, depth in task_figures.depths(database).items():
        if depth.queued > most:
            yield Finding(
                DEPTH,
                agent,
                f"Queue depth critical for {agent}: {depth.queued} tasks",
                f"High priority: {depth.high}, Normal: {depth.normal}, Low: {depth.low}",
                {"agent": agent, "queued_tasks": depth.queued, "threshold": most},
            )


def line(finding: Finding) -> str:
    return clean(f"{finding.title}: {finding.details}")
