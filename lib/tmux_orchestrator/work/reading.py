"""What the task database says: tasks as records, lists of them, and how deep the queue is."""

from __future__ import annotations

from tmux_orchestrator.ground import clock, fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from tmux_orchestrator.work.store.database import Database, Row

# In the order of docs/contracts: what `orc-task list` and `show` print.
FIELDS = (
    "task_id",
    "sender",
    "recipient",
    "type",
    "priority",
    "status",
    "payload",
    "created_at",
    "started_at",
    "completed_at",
    "duration_ms",
    "error_message",
    "attempt",
    "lease_until",
    "token",
    "after",
    "not_before",
    "correlation_id",
    "max_attempts",
    "expires",
    "group",
    "worker",
    "exit_code",
    "output",
)
COLUMNS = ("task_id", "status", "priority", "sender", "recipient", "type", "attempt", "duration_ms", "payload")
_SELECTED = """
task_id, sender, recipient, type, priority, status, payload, created_at, started_at, completed_at, duration_ms,
error_message, attempt, CASE WHEN live = 2 THEN wake_boot END, CASE WHEN live = 2 THEN token END,
(SELECT group_concat(after_id) FROM deps WHERE deps.task_id = tasks.task_id),
coalesce(not_before, CASE WHEN live = 3 THEN wake_boot END),
correlation_id, max_attempts, expires, grp, worker, exit_code, output"""


def records(database: Database, sql: str, *values: object) -> list[dict[str, Any]]:
    """The rows of a view, by the names of its columns."""
    names = [row[1] for row in database.rows(f"PRAGMA table_info({sql.split()[3]})")]
    return [dict(zip(names, row, strict=True)) for row in database.rows(sql, *values)]


def size(database: Database, recipient: str | None) -> int:
    """How many tasks are queued: ready or resting, waiting for a time, waiting for other tasks."""
    where, values = ("", ()) if recipient is None else (" AND recipient = ?", (recipient,))
    live = f"SELECT count(*) FROM tasks WHERE live IN (1, 3){where}"
    waiting = f"SELECT count(*) FROM tasks WHERE due_ns IS NOT NULL AND status = 'queued' AND live IS NULL{where}"
    after = f"""SELECT count(DISTINCT task_id) FROM deps JOIN tasks USING (task_id)
                WHERE live IS NULL AND status = 'queued' AND due_ns IS NULL{where}"""
    return int(database.rows(f"SELECT ({live}) + ({waiting}) + ({after})", *values, *values, *values)[0][0])


def task(database: Database, task_id: str) -> dict[str, Any] | None:
    row = database.row(f"SELECT {_SELECTED} FROM tasks WHERE task_id = ?", task_id)
    return None if row is None else _record(row)


def status(database: Database, task_id: str, token: str) -> str | None:
    """Of the task, as long as the claim with this token is its last."""
    row = database.row("SELECT status FROM tasks WHERE task_id = ? AND token = ?", task_id, token)
    return None if row is None else str(row[0])


def tasks(
    database: Database,
    recipient: str | None = None,
    sender: str | None = None,
    type: str | None = None,
    status: list[str] | None = None,
    correlation_id: str | None = None,
    group: str | None = None,
    last: int | None = None,
) -> Iterator[dict[str, Any]]:
    """The tasks that match all that is given, the oldest first; `last`: only the newest so many."""
    given = {"recipient": recipient, "sender": sender, "type": type, "correlation_id": correlation_id, "grp": group}
    wanted = {column: value for column, value in given.items() if value is not None}
    where = [f"{column} = ?" for column in wanted]
    values: list[object] = list(wanted.values())
    if status:
        where.append(f"status IN ({', '.join('?' * len(status))})")
        values += status
    sql = f"SELECT {_SELECTED} FROM tasks" + (f" WHERE {' AND '.join(where)}" if where else "")
    if last is None:
        found: Iterator[Row] = database.walk(sql + " ORDER BY rowid", *values)
    else:
        found = reversed(database.rows(sql + " ORDER BY rowid DESC LIMIT ?", *values, last))
    return map(_record, found)


def _record(row: Row) -> dict[str, Any]:
    record = dict(zip(FIELDS, row, strict=True))
    try:
        record["payload"] = fastjson.loads(record["payload"])
    except ValueError:
        pass  # the code of others wrote it: shown as it is, claimed by nobody
    record["after"] = record["after"].split(",") if record["after"] else []
    for name in ("lease_until", "not_before"):
        if type(record[name]) is int:  # nanoseconds since boot
            record[name] = clock.stamp(clock.now_ns() + record[name] - clock.boot_ns())
    return record
