"""What the task database says about time: who is slow, what waits, how tasks went by agent, type and day.

Everything is asked for when it is wanted, by statements that walk an index: `idx_priority` holds what is queued or
runs, `idx_duration` what completed by its duration, `idx_completed` what ended by when. Nothing is kept.

Of a task that ended, `running` is the time of all its attempts, `resting` that of the rests between them, and
`waiting` what is left of the time since it was sent: for a worker, for its time, for other tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tmux_orchestrator.ground import clock, times
from tmux_orchestrator.ground.errors import UsageError
from tmux_orchestrator.ground.output import clean
from tmux_orchestrator.insight.latency import percentile
from tmux_orchestrator.work.queue import HIGH, LOW
from tmux_orchestrator.work.store.database import Database

RANKS = (50, 95, 99)
_SLOWEST = "task_id, agent, type, duration_ms, created_at, started_at, completed_at"
_DONE = "FROM tasks WHERE status = 'completed' AND duration_ms IS NOT NULL"
_ENDED = """
SELECT recipient, type, status, count(*), total(duration_ms),
       group_concat(CASE status WHEN 'completed' THEN duration_ms END), total(tried_ms), total(rested_ms),
       total(max(0, round((julianday(completed_at) - julianday(created_at)) * 86400000)
                    - coalesce(duration_ms, 0) - tried_ms - rested_ms))
FROM tasks WHERE completed_at >= ? AND completed_at < ? AND recipient = coalesce(?, recipient)
GROUP BY recipient, type, status"""
_QUEUED = """
SELECT recipient, priority, live, count(*), min(created_at) FROM tasks WHERE live IN (1, 2, 3)
GROUP BY live, recipient, priority"""
_LATER = """
SELECT recipient, priority, 1, count(*), min(created_at) FROM (
    SELECT recipient, priority, created_at FROM tasks WHERE due_ns IS NOT NULL AND status = 'queued' AND live IS NULL
    UNION ALL
    SELECT recipient, priority, created_at FROM tasks
    WHERE task_id IN (SELECT task_id FROM deps) AND live IS NULL AND status = 'queued' AND due_ns IS NULL)
GROUP BY recipient, priority"""
_RUNNING = """
SELECT task_id, recipient, type, max(0, (? - started_boot) / 1000000) AS age FROM tasks WHERE live = 2
ORDER BY age DESC"""
_NEXT = """
SELECT task_id, recipient, type, priority, created_at FROM tasks WHERE live = 1 ORDER BY priority, created_at LIMIT ?"""
_RUNNING_LIVE = 2
_DAY_NS = 86_400 * times.SECOND
_NEVER = "~"  # comes after every stamp


def of(ordered: Sequence[int]) -> dict[str, int | None]:
    """`p50`, `p95`, `p99` of durations in their order."""
    return {f"p{rank}": None if (found := percentile(ordered, rank)) is None else int(found) for rank in RANKS}


# what was slow


def slowest(database: Database, most: int = 10) -> list[dict[str, Any]]:
    """The slowest completed tasks, the slowest first."""
    rows = database.rows(f"SELECT {_SLOWEST} FROM bottlenecks LIMIT ?", most)
    return [dict(zip(_SLOWEST.split(", "), row, strict=True)) for row in rows]


def percentiles(database: Database) -> dict[str, int | None]:
    """`p50`, `p95`, `p99` in milliseconds of all completed tasks, and their `count`."""
    count = int(database.rows(f"SELECT count(*) {_DONE}")[0][0])
    found: dict[str, int | None] = {}
    for rank in RANKS:
        above = count - max(1, -(-count * rank // 100))
        row = database.row(f"SELECT duration_ms {_DONE} ORDER BY duration_ms DESC LIMIT 1 OFFSET ?", above)
        found[f"p{rank}"] = None if row is None else row[0]
    return found | {"count": count}


# what waits and what runs


@dataclass(slots=True)
class Depth:
    """An agent's queue, as the view `queue_depth` counts it, and how many tasks it runs."""

    queued: int = 0
    high: int = 0
    normal: int = 0
    low: int = 0
    running: int = 0
    oldest: str = ""  # when the queued task that has waited longest was sent

    def record(self, agent: str) -> dict[str, Any]:
        return {
            "agent": agent,
            "queued_tasks": self.queued,
            "high_priority": self.high,
            "normal_priority": self.normal,
            "low_priority": self.low,
            "running_tasks": self.running,
            "oldest": self.oldest or None,
        }


def depths(database: Database) -> dict[str, Depth]:
    """The queue of each agent for whom something is queued or runs, by name."""
    found: dict[str, Depth] = {}
    for agent, priority, live, count, oldest in (*database.rows(_QUEUED), *database.rows(_LATER)):
        depth = found.setdefault(agent, Depth())
        if live == _RUNNING_LIVE:
            depth.running += count
            continue
        depth.queued += count
        priority = priority if type(priority) is int else LOW  # as the view has it, if somebody's own SQL wrote it
        depth.high += count if priority <= HIGH else 0
        depth.low += count if priority >= LOW else 0
        depth.normal += count if HIGH < priority < LOW else 0
        depth.oldest = min(depth.oldest or oldest, oldest)
    return dict(sorted(found.items()))


def running(database: Database) -> list[dict[str, Any]]:
    """What runs now, the longest first; `duration_ms` is so far."""
    rows = database.rows(_RUNNING, clock.boot_ns())
    return [dict(zip(("task_id", "agent", "type", "duration_ms"), row, strict=True)) for row in rows]


def coming(database: Database, most: int = 10) -> list[dict[str, Any]]:
    """What may be claimed, by priority and age, whoever it is for."""
    names = ("task_id", "agent", "type", "priority", "created_at")
    return [dict(zip(names, row, strict=True)) for row in database.rows(_NEXT, most)]


# how it went


@dataclass(slots=True)
class Group:
    """Tasks that ended: how many in which way, how long each that completed took, and where all their time went."""

    completed: int = 0
    failed: int = 0  # `failed` and `dead`
    cancelled: int = 0
    running_ms: int = 0
    waiting_ms: int = 0
    resting_ms: int = 0
    durations: list[int] = field(default_factory=list)

    def add(self, other: Group) -> None:
        self.completed += other.completed
        self.failed += other.failed
        self.cancelled += other.cancelled
        self.running_ms += other.running_ms
        self.waiting_ms += other.waiting_ms
        self.resting_ms += other.resting_ms
        self.durations += other.durations

    def take(
        self, status: str, count: int, ran: float, each: str | None, tried: float, rested: float, waited: float
    ) -> None:
        """Tasks that ended so. Of those that were cancelled only how many: nobody worked on most of them."""
        if status == "cancelled":
            self.cancelled += count
            return
        if status == "completed":
            self.completed += count
            self.durations += map(int, each.split(",") if each else ())
        else:
            self.failed += count
        self.running_ms += int(ran + tried)
        self.waiting_ms += int(waited)
        self.resting_ms += int(rested)

    @property
    def average_ms(self) -> int | None:
        return round(sum(self.durations) / len(self.durations)) if self.durations else None

    def record(self) -> dict[str, Any]:
        """The fields that scripts read."""
        return {
            "completed_tasks": self.completed,
            "failed_tasks": self.failed,
            "cancelled_tasks": self.cancelled,
            "avg_duration_ms": self.average_ms,
            "duration_ms": of(self.durations) | {"count": len(self.durations)},
            "waiting_ms": self.waiting_ms,
            "running_ms": self.running_ms,
            "resting_ms": self.resting_ms,
        }


@dataclass(slots=True)
class History:
    """What ended in a period: by agent and type, and by the day of the home's zone on which it ended."""

    kinds: dict[tuple[str, str], Group]
    days: dict[str, Group]

    def agents(self) -> dict[str, Group]:
        found: dict[str, Group] = {}
        for (agent, _), group in sorted(self.kinds.items()):
            found.setdefault(agent, Group()).add(group)
        for whole in found.values():
            whole.durations.sort()
        return found


def history(database: Database, since_ns: int = 0, agent: str | None = None) -> History:
    """What ended since then, of one agent or all, day by day: the first stamp that is left leads to the next one."""
    found = History({}, {})
    start = clock.stamp(since_ns)
    while True:
        row = database.row("SELECT min(completed_at) FROM tasks WHERE completed_at >= ?", start)
        if row is None or row[0] is None:
            break
        name, end = _day_of(row[0])
        day = Group()
        for who, kind, status, *figures in database.rows(_ENDED, start, end, agent):
            group = Group()
            group.take(status, *figures)
            found.kinds.setdefault((who, kind), Group()).add(group)
            day.add(group)
        if day.completed + day.failed + day.cancelled:
            found.days[name] = day
        start = end
    for one in (*found.kinds.values(), *found.days.values()):
        one.durations.sort()
    return found


def _day_of(stamp: str) -> tuple[str, str]:
    """The day of a stamp in the home's zone, and the stamp of the midnight that ends it."""
    try:
        ns = clock.parse_stamp(stamp[:19] + "Z")  # those of the document's own code have no zone
        day = clock.local_day(ns)
        middle = times.parse_time(day + " 12:00", ns)  # a day has 23 to 25 hours
        return day, clock.stamp(times.parse_time(clock.local_day(middle + _DAY_NS), ns))
    except (ValueError, UsageError):
        return clean(stamp[:10]), _NEVER


# what happened


_FIELDS = "task_id, recipient, type, priority, status, created_at, started_at, completed_at, duration_ms, error_message"
_LAST = (
    ("queued", "created_at", f"SELECT {_FIELDS} FROM tasks ORDER BY rowid DESC LIMIT ?"),
    ("started", "started_at", f"SELECT {_FIELDS} FROM tasks WHERE live = 2 ORDER BY started_at DESC LIMIT ?"),
    (
        "ended",
        "completed_at",
        f"SELECT {_FIELDS} FROM tasks WHERE completed_at IS NOT NULL ORDER BY completed_at DESC LIMIT ?",
    ),
)
_ORDER = ("queued", "started", "ended")


def events(database: Database, most: int) -> list[dict[str, Any]]:
    """The last so many beginnings, starts and ends of tasks, the oldest first; of a task its last attempt.

    What ended later than a start that is asked for is itself among what is asked for, so no start is missed.
    """
    found = []
    for what, stamp, sql in _LAST:
        for row in database.rows(sql, most):
            record = dict(zip(_FIELDS.split(", "), row, strict=True))
            found.append(_event(record, what, stamp))
            if what == "ended" and record["started_at"]:
                found.append(_event(record, "started", "started_at"))
    found.sort(key=lambda one: (one["time"], _ORDER.index(one["what"])))
    return [{name: value for name, value in one.items() if name != "what"} for one in found[-most:] if most]


def _event(task: dict[str, Any], what: str, stamp: str) -> dict[str, Any]:
    ended = what == "ended"
    return {
        "what": what,
        "time": task[stamp],
        "event": f"task_{task['status'] if ended else what}",
        "task_id": task["task_id"],
        "agent": task["recipient"],
        "type": task["type"],
        "priority": task["priority"],
        "duration_ms": task["duration_ms"] if ended else None,
        "error_message": task["error_message"] if ended else None,
    }
