"""What can be had from a damaged task database: its rows by their shape, each task once, and each able to go on.

An id that only an index still knows is a task that is lost, and told as such. A task that waited for others, of which
nobody knows any more which, is cancelled: it may not run too early, nor wait for ever.
"""

from __future__ import annotations

from tmux_orchestrator.ground.errors import DataError
from tmux_orchestrator.work.leases import KINDS
from tmux_orchestrator.work.message import STATUSES
from tmux_orchestrator.work.store.database import Database
from tmux_orchestrator.work.store.pages import SIZES, Damage, Pages, size_of
from tmux_orchestrator.work.store.schema import ADDED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Task = dict[str, Any]

_REQUIRED = ("task_id", "sender", "recipient", "type", "priority", "status", "payload", "created_at")
_NAMES = (*_REQUIRED, "started_at", "completed_at", "duration_ms", "error_message", *ADDED)
_WHOLE = {"priority", "duration_ms", "exit_code"} | {name for name, kind in ADDED.items() if "INTEGER" in kind}
_USUAL = {name: int(kind.rpartition(" ")[2]) for name, kind in ADDED.items() if "NOT NULL" in kind}
_FEWEST = len(_NAMES) - len(ADDED)
_NUMBER = "rowid"
_META = ("told", "boot", "id")
_KINDS = (*KINDS, "account")  # of limits: those of people, and that of `usage`
_UNKNOWN = "what it had to come after was lost with a damaged database: if it may begin, orc-task retry"


class Recovered:
    """All that was found; `told()` says how much."""

    def __init__(self, data: bytes, wal: bytes) -> None:
        self.tasks: dict[str, Task] = {}
        self.metrics: list[tuple[Any, ...]] = []
        self.outbox: dict[int, tuple[Any, ...]] = {}
        self.limits: list[tuple[Any, ...]] = []
        self.meta: dict[str, str] = {}
        self.cancelled = self.unreadable = 0
        self._known: set[str] = set()
        self._pairs: set[tuple[str, str]] = set()
        self._read(data, wal)
        self.lost = sorted(self._known - self.tasks.keys())
        self.after = self._order()
        for task in self.tasks.values():
            self._settle(task)

    def told(self) -> dict[str, Any]:
        return {
            "tasks": len(self.tasks),
            "lost": len(self.lost),
            "lost_ids": self.lost[:20],
            "cancelled": self.cancelled,
            "metrics": len(self.metrics),
            "unreadable": self.unreadable,
        }

    def _read(self, data: bytes, wal: bytes) -> None:
        size = size_of(data, wal)
        if size not in SIZES:
            size = max(SIZES, key=lambda size: len(_tasks(data, wal, size)))
        self._take(Pages(data, wal, size))

    def _take(self, pages: Pages) -> None:
        for number, values in pages.rows():
            if number is None:
                self._entry(values)
            elif _FEWEST <= len(values) <= len(_NAMES):
                self._task(number, values)
            elif len(values) == 5 and values[0] is None:
                self._small(number, values)
        self.unreadable += pages.unreadable + pages.broken_frames

    def _task(self, number: int, values: tuple[Any, ...]) -> None:
        said = {name: value for name, value in zip(_NAMES, values, strict=False) if value is not None}
        task = _USUAL | said | {_NUMBER: number}
        if not _is_sound(task):
            self.unreadable += 1
        elif _progress(task) >= _progress(self.tasks.get(task["task_id"], {})):
            self.tasks[task["task_id"]] = task

    def _small(self, number: int, values: tuple[Any, ...]) -> None:
        _, first, second, third, last = values
        if not (isinstance(first, str) and isinstance(second, str)):
            return
        if isinstance(third, int) and second in STATUSES and isinstance(last, str | None):
            self.outbox[number] = (number, *values[1:])
        elif isinstance(third, int | float) and third == third and isinstance(last, str):
            self.metrics.append(values[1:])

    def _entry(self, values: tuple[Any, ...]) -> None:
        """Of an index, or of a table that is one."""
        if len(values) == 5 and values[0] in _KINDS and isinstance(values[1], str) and isinstance(values[2], int):
            self.limits.append(values)
        if len(values) != 2 or not isinstance(values[0], str):
            return
        first, second = values
        if isinstance(second, int) and not (first[10:11] == "T" and first[-1:] == "Z"):  # that is a time
            self._known.add(first)
        elif isinstance(second, str):
            self._pairs.add((first, second))
            if first in _META:
                self.meta[first] = second

    def _order(self) -> set[tuple[str, str]]:
        """(what comes first, what comes after it). Of the two, the one that was sent first comes first."""
        found = set()
        for pair in self._pairs:
            waits = [self.tasks[one] for one in pair if one in self.tasks and _is_waiting(self.tasks[one])]
            if waits:
                later = max(waits, key=lambda task: int(task[_NUMBER]))["task_id"]
                found.add((pair[1] if pair[0] == later else pair[0], later))
        return found

    def _settle(self, task: Task) -> None:
        """Bring `live` and the status together."""
        status, live = task["status"], task.get("live")
        if status not in ("queued", "running"):
            task["live"] = None
        elif status == "running" and not (live == 2 and task.get("token") and task.get("wake_boot")):
            task.update(status="queued", live=1, token=None, worker=None, started_at=None)
        elif status == "queued" and live not in (None, 1, 3):
            task["live"] = 1
        elif _is_waiting(task) and not task.get("not_before"):
            self._wait(task)

    def _wait(self, task: Task) -> None:
        before = [first for first, later in self.after if later == task["task_id"]]
        if not before or any(one in self.lost for one in before):
            task.update(status="cancelled", error_message=_UNKNOWN, completed_at=task["created_at"])
            self.cancelled += 1
        elif all(self.tasks[one]["status"] == "completed" for one in before if one in self.tasks):
            task["live"] = 1

    def store(self, database: Database) -> None:
        """Put all of it into a new database, in one transaction."""
        columns, marks = ", ".join(_NAMES), ", ".join("?" * len(_NAMES))
        with database:
            for task in sorted(self.tasks.values(), key=lambda task: int(task[_NUMBER])):
                values = [task.get(name) for name in _NAMES]
                if not self._put(database, f"INSERT INTO tasks ({columns}) VALUES ({marks})", *values):
                    self.lost.append(str(self.tasks.pop(task["task_id"])["task_id"]))
            database.change("DELETE FROM outbox")  # of these insertions
            for row in self.outbox.values():
                sql = "INSERT INTO outbox (n, task_id, status, attempt, error_message) VALUES (?, ?, ?, ?, ?)"
                self._put(database, sql, *row)
            for pair in self.after:
                self._put(database, "INSERT INTO deps (after_id, task_id) VALUES (?, ?)", *pair)
            for limit in self.limits:
                self._put(database, "INSERT OR REPLACE INTO limits VALUES (?, ?, ?, ?, ?)", *limit)
            for metric in self.metrics:
                sql = "INSERT INTO agent_metrics (agent, metric_name, metric_value, timestamp) VALUES (?, ?, ?, ?)"
                self._put(database, sql, *metric)
            for name, value in self.meta.items():
                database.change("UPDATE meta SET value = ? WHERE name = ?", value, name)

    def _put(self, database: Database, sql: str, *values: object) -> bool:
        """False for what the damage made of a row, if no database takes it: it keeps no other back."""
        try:
            database.change(sql, *values)
        except DataError:
            self.unreadable += 1
            return False
        return True


def _tasks(data: bytes, wal: bytes, size: int) -> list[object]:
    try:
        return [values for number, values in Pages(data, wal, size).rows() if number and len(values) >= _FEWEST]
    except Damage:
        return []


def _is_waiting(task: Task) -> bool:
    return task["status"] == "queued" and task.get("live") is None


def _is_sound(task: Task) -> bool:
    for name in _NAMES:
        value = task.get(name)
        if value is None and name in _REQUIRED:
            return False
        if value is not None and not isinstance(value, int if name in _WHOLE else str):
            return False
    return task["status"] in STATUSES


def _progress(task: Task) -> tuple[int, int]:
    """Of two states of one task the one that is further is the later one."""
    if not task:
        return -1, -1
    return task["attempt"] or 0, {"queued": 0, "running": 1}.get(task["status"], 2)
