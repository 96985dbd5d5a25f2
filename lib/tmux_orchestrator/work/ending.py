"""How a task ends, goes back into the queue, or is forgotten.

Each of these is one transaction. A claim that is lost (another token, an ended lease, a task that was cancelled) is
refused with the reason, and changes nothing.
"""

from __future__ import annotations

from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.errors import DataError, NotPermitted, TryLater

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from tmux_orchestrator.work.queue import Rules
    from tmux_orchestrator.work.store.database import Database, Row

_MINE = "task_id = ? AND token = ? AND live = 2 AND wake_boot > ?"
_TEXT = 4096  # characters that are kept of an error, and of the end of an output
GIVEN_BACK = "given back"  # the error message of a task whose worker did not want it
_DAY = 86_400_000_000_000
_COMPLETE = f"""
UPDATE tasks SET status = 'completed', live = NULL, wake_boot = NULL, completed_at = ?, exit_code = ?, output = ?,
                 duration_ms = coalesce(?, (? - started_boot) / 1000000)
WHERE {_MINE}"""
_END = """
UPDATE tasks SET status = ?, live = NULL, wake_boot = NULL, due_ns = NULL, completed_at = ?, error_message = ?,
                 exit_code = ?, output = ?,
                 duration_ms = CASE WHEN live = 2 THEN (? - started_boot) / 1000000 END
WHERE task_id = ?"""
_TRIED = "tried_ms = tried_ms + coalesce(max(0, (? - started_boot) / 1000000), 0)"
_REST = f"""
UPDATE tasks SET status = 'queued', live = 3, wake_boot = ?, token = NULL, worker = NULL, started_at = NULL,
                 error_message = ?, exit_code = ?, output = ?, rested_ms = rested_ms + ?, {_TRIED}
WHERE task_id = ?"""
_BACK = f"""
UPDATE tasks SET status = 'queued', live = ?, wake_boot = ?, token = NULL, worker = NULL, started_at = NULL,
                 attempt = attempt - ?, error_message = ?, {_TRIED}
WHERE task_id = ?"""
_AGAIN = """
UPDATE tasks SET status = 'queued', live = ?, token = NULL, worker = NULL, started_at = NULL, completed_at = NULL,
                 tried_ms = tried_ms + coalesce(duration_ms, 0), duration_ms = NULL, error_message = NULL,
                 exit_code = NULL, output = NULL, not_before = NULL, expires = NULL, due_ns = NULL,
                 max_attempts = max(max_attempts, attempt + 1)
WHERE task_id = ?"""
_UNFINISHED = """
SELECT before.task_id, before.status FROM deps JOIN tasks AS before ON before.task_id = deps.after_id
WHERE deps.task_id = ? AND before.status <> 'completed'"""


def complete(
    database: Database, task_id: str, token: str, duration_ms: int | None, exit_code: int | None, output: str | None
) -> None:
    """Raises DataError for a claim that is lost; twice with the same token is once."""
    ticks = clock.boot_ns()
    stamp = clock.stamp(clock.now_ns())
    if not database.change(_COMPLETE, stamp, exit_code, _tail(output), duration_ms, ticks, task_id, token, ticks):
        if database.row("SELECT 1 FROM tasks WHERE task_id = ? AND token = ? AND status = 'completed'", task_id, token):
            return
        refuse(database, task_id, token, "completed")


def fail(
    database: Database,
    rules: Rules,
    task_id: str,
    token: str,
    error: str,
    retry: bool,
    exit_code: int | None,
    output: str | None,
) -> str:
    ticks = clock.boot_ns()
    with database:
        found = database.row(f"SELECT attempt, max_attempts FROM tasks WHERE {_MINE}", task_id, token, ticks)
        if found is None:
            refuse(database, task_id, token, "failed")
        attempt, most = found
        if retry and attempt < most:
            rest = min(rules.longest_rest, rules.first_rest * 2 ** (attempt - 1))
            kept = (_head(error), exit_code, _tail(output))
            database.change(_REST, ticks + int(rest * 1e9), *kept, int(rest * 1000), ticks, task_id)
            return "queued"
        status = "dead" if retry else "failed"
        _end(database, task_id, status, error, exit_code, output)
    return status


def take_back(database: Database, task_id: str, why: str) -> None:
    """Of a worker that is gone: into the queue again, or dead when that was its last attempt."""
    with database:
        found = database.row("SELECT attempt, max_attempts FROM tasks WHERE task_id = ? AND live = 2", task_id)
        if found is None:
            return
        if found[0] < found[1]:
            database.change(_BACK, 1, None, 0, why, clock.boot_ns(), task_id)
        else:
            _end(database, task_id, "dead", why)


def release(database: Database, task_id: str, token: str, rest: float) -> None:
    with database:
        ticks = clock.boot_ns()
        if database.row(f"SELECT 1 FROM tasks WHERE {_MINE}", task_id, token, ticks) is None:
            refuse(database, task_id, token, "given back")
        live, wake = (3, ticks + int(rest * 1e9)) if rest else (1, None)
        database.change(_BACK, live, wake, 1, GIVEN_BACK, ticks, task_id)


def cancel(database: Database, task_id: str, reason: str) -> bool:
    with database:
        found = database.row("SELECT status FROM tasks WHERE task_id = ?", task_id)
        if found is None:
            raise DataError(f"there is no task {task_id!r}: see orc-task list")
        if found[0] not in ("queued", "running"):
            return False
        _end(database, task_id, "cancelled", reason)
    return True


def again(database: Database, task_id: str) -> bool:
    """Raises DataError for a task that comes after one which did not complete and is not going to."""
    with database:
        found = database.row("SELECT status FROM tasks WHERE task_id = ?", task_id)
        if found is None:
            raise DataError(f"there is no task {task_id!r}: see orc-task list")
        if found[0] not in ("failed", "dead", "cancelled"):
            return False
        waits = unfinished(database, task_id)
        for before, status in waits:
            if status not in ("queued", "running"):
                raise DataError(f"task {task_id} comes after {before}, which is {status}: retry that one first")
        database.change(_AGAIN, None if waits else 1, task_id)
    return True


def _end(
    database: Database, task_id: str, status: str, error: str, exit_code: int | None = None, output: str | None = None
) -> None:
    """End the task, and cancel all that could only come after it. Within a transaction."""
    stamp, ticks = clock.stamp(clock.now_ns()), clock.boot_ns()
    database.change(_END, status, stamp, _head(error), exit_code, _tail(output), ticks, task_id)
    ended = [task_id]
    while ended:
        first = ended.pop()
        for (later,) in database.rows("SELECT task_id FROM deps WHERE after_id = ?", first):
            if database.row("SELECT 1 FROM tasks WHERE task_id = ? AND status = 'queued'", later):
                why = f"it had to come after {first}, which did not complete"
                database.change(_END, "cancelled", stamp, why, None, None, ticks, later)
                ended.append(later)


def unfinished(database: Database, task_id: str) -> list[Row]:
    """(id, status) of what has to be completed before the task, and is not."""
    return database.rows(_UNFINISHED, task_id)


def plain(text: str) -> str:
    """The text as the database can keep it: half characters, of bytes that were no UTF-8, as question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _head(text: str) -> str:
    return plain(text)[:_TEXT]


def _tail(text: str | None) -> str | None:
    return text and plain(text)[-_TEXT:]


def refuse(database: Database, task_id: str, token: str, what: str) -> NoReturn:
    """Say why the task cannot be ended (or begun) with this token. Raises DataError."""
    found = database.row("SELECT status, token, wake_boot FROM tasks WHERE task_id = ?", task_id)
    if found is None:
        raise DataError(f"there is no task {task_id!r}: see orc-task list")
    status, holder, wake = found
    if status == "running" and holder == token and wake <= clock.boot_ns():
        why = "its lease ended"
    elif status == "running":
        why = "another worker has it" if token else "the token of its claim is missing"
    else:
        why = f"it is {status}"
    raise DataError(f"task {task_id} cannot be {what}: {why}: leave what was done for it, and ask for the next")


# What ended before the first time, and was told to the log or ended before the second.
_OLD = """
FROM tasks WHERE live IS NULL AND status IN ('completed', 'failed', 'cancelled', 'dead') AND completed_at < ?
AND (completed_at < ? OR task_id NOT IN (SELECT task_id FROM outbox))"""

_OLD_OUTBOX = "DELETE FROM outbox WHERE task_id NOT IN (SELECT task_id FROM tasks)"
_OLD_DEPS = """
DELETE FROM deps WHERE NOT EXISTS (
    SELECT 1 FROM tasks WHERE tasks.task_id = deps.task_id AND status IN ('queued', 'cancelled'))"""
_OLD_METRICS = """
DELETE FROM agent_metrics WHERE id IN (
    SELECT id FROM (SELECT id, timestamp FROM agent_metrics ORDER BY id LIMIT ?) WHERE timestamp < ?)"""
_PART = 500  # rows that are removed in one transaction: 5 ms
_UNTOLD = 60 * 1_000_000_000  # nanoseconds after which nobody is there to tell it


def old(database: Database, days: int) -> int:
    """How many tasks ended more than so many days ago."""
    return int(database.rows(f"SELECT count(*) {_OLD}", _days_ago(days), _untold_since())[0][0])


def prune(database: Database, days: int, untold: bool = False) -> tuple[int, bool]:
    """Remove some of what ended, and was measured, more than so many days ago; how many tasks, and is there more?

    `untold`: also that of which the log has not heard, as where no state updater runs.
    """
    before, since = _days_ago(days), _untold_since() if untold else ""
    with database:
        gone = database.change(f"DELETE FROM tasks WHERE rowid IN (SELECT rowid {_OLD} LIMIT ?)", before, since, _PART)
        values = database.change(_OLD_METRICS, _PART, before)
        more = _PART in (gone, values)
        if not more:
            database.change(_OLD_DEPS)
            database.change(_OLD_OUTBOX)
    return gone, more


def prune_all(database: Database, days: int) -> int:
    """`prune` until nothing old is left, told or not; how many tasks."""
    total, more = 0, True
    while more:
        gone, more = prune(database, days, untold=True)
        total += gone
    return total


def _days_ago(days: int) -> str:
    if type(days) is not int or not 0 <= days <= 36_500:
        raise DataError("the days are no number from 0 to 36500: correct it")
    return clock.stamp(clock.now_ns() - days * _DAY)


def _untold_since() -> str:
    return clock.stamp(clock.now_ns() - _UNTOLD)


def shrink(database: Database) -> None:
    """Give the space of removed tasks back where that is worth while; somebody who is at work hinders it."""
    pages, free = database.rows("PRAGMA page_count"), database.rows("PRAGMA freelist_count")
    try:
        if free[0][0] * 2 > pages[0][0]:
            database.change("VACUUM")
        database.rows("PRAGMA wal_checkpoint(PASSIVE)")
    except (TryLater, NotPermitted):
        pass
