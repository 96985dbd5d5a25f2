"""Claims whose worker is gone, tasks whose time has come, and who may run how many at once.

Leases and rests count nanoseconds since boot, which no step of the wall clock moves; after a boot nobody holds
anything. Whoever asks for work sweeps first, so no process has to run for it. A sweep reads a few rows, and writes
only when there is something to do.
"""

from __future__ import annotations

import os

from tmux_orchestrator.ground import clock, proc
from tmux_orchestrator.ground.errors import DataError, NotPermitted, SystemFailure, TryLater
from tmux_orchestrator.work import ending, usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tmux_orchestrator.work.message import Message
    from tmux_orchestrator.work.queue import Rules
    from tmux_orchestrator.work.store.database import Database

KINDS = ("recipient", "group")
_RESTED = "UPDATE tasks SET live = 1, wake_boot = NULL WHERE task_id = ? AND live = 3 AND wake_boot IS ?"
_SAME = "SELECT 1 FROM tasks WHERE task_id = ? AND token IS ? AND live = 2 AND wake_boot IS ?"

_GIVEN = "task_id, sender, recipient, type, priority, payload, created_at, attempt, max_attempts, grp, correlation_id"


def _claiming(which: str, recipient: str) -> str:
    """Claim the first that is ready of those `which`, and that the limits of its recipient and its group leave room."""
    return f"""
UPDATE tasks SET status = 'running', live = 2, attempt = attempt + 1, token = ?1, worker = ?2, started_at = ?3,
                 started_boot = ?4, wake_boot = ?5, error_message = NULL
WHERE rowid = (
    SELECT rowid FROM tasks
    WHERE live = 1 AND {which}
      AND NOT EXISTS (SELECT 1 FROM limits WHERE kind = 'recipient' AND name = {recipient}
                      AND parallel <= (SELECT count(*) FROM tasks AS other
                                       WHERE other.live = 2 AND other.recipient = {recipient}))
      AND NOT EXISTS (SELECT 1 FROM limits AS mine WHERE mine.kind = 'account' AND mine.name = {recipient}
                      AND mine.parallel <= (SELECT count(*) FROM limits AS mate JOIN tasks AS other
                                            ON other.live = 2 AND other.recipient = mate.name
                                            WHERE mate.kind = 'account' AND mate.reason = mine.reason))
      AND (grp IS NULL OR NOT EXISTS (
          SELECT 1 FROM limits WHERE kind = 'group' AND name = tasks.grp
          AND parallel <= (SELECT count(*) FROM tasks AS other WHERE other.live = 2 AND other.grp = tasks.grp)))
    ORDER BY priority, created_at LIMIT 1)
RETURNING {_GIVEN}"""


CLAIM = _claiming("recipient = ?6", "?6")
CLAIM_ONE = _claiming("task_id = ?6", "tasks.recipient")


def worker(pid: int) -> str:
    """A process as the column `worker` names it: `pid:start:space`, in clock ticks. Raises DataError when it is gone.

    `space`: who has numbers of its own for processes, such as a sandbox, is known by them only to itself.
    """
    start = proc.start_time(pid)
    if start is None:
        raise DataError(f"there is no process {pid}: name one that runs")
    return f"{pid}:{start}:{_space()}"


def _space() -> str:
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return ""


def is_gone(named: str | None) -> bool:
    """Has the worker a process that could be seen here, and has that ended?"""
    pid, start, space, *_ = f"{named}:::".split(":")
    is_seen = pid.isdigit() and start.isdigit()
    return is_seen and not proc.alive(int(pid), int(start)) and space in ("", _space())


def after_boot(database: Database) -> None:
    """Whatever ran in another boot runs no more, and times since boot began anew."""
    boot = clock.boot_id()
    if database.row("SELECT value FROM meta WHERE name = 'boot'") == (boot,):
        return
    with database:
        if database.row("SELECT value FROM meta WHERE name = 'boot'") == (boot,):
            return
        database.change("UPDATE tasks SET live = 1, wake_boot = NULL WHERE live = 3")
        database.change("UPDATE tasks SET started_boot = NULL WHERE live = 2")
        for (task_id,) in database.rows("SELECT task_id FROM tasks WHERE live = 2"):
            ending.take_back(database, task_id, "the machine was started anew")
        database.change("UPDATE meta SET value = ? WHERE name = 'boot'", boot)


def begin(database: Database) -> bool:
    """`after_boot`, if the database can be written now; else the first sweep has to do it."""
    try:
        after_boot(database)
    except (NotPermitted, SystemFailure, TryLater):
        return False
    return True


def sweep(database: Database, rules: Rules, is_begun: bool = True) -> None:
    if not is_begun:
        after_boot(database)
    ticks, now = clock.boot_ns(), clock.now_ns()
    held = database.rows("SELECT task_id, live, wake_boot, worker, token FROM tasks WHERE live IN (2, 3)")
    rested = [(row[0], row[2]) for row in held if row[1] == 3 and _is_over(row[2], ticks)]
    lost = [(row[0], row[4], row[2], _why(_is_over(row[2], ticks), row[3])) for row in held if row[1] == 2]
    lost = [one for one in lost if one[3]]
    due = database.rows("SELECT task_id, not_before, expires FROM tasks WHERE status = 'queued' AND due_ns <= ?", now)
    over = database.rows("SELECT kind, name FROM limits WHERE until_ns <= ?", now)
    if not (rested or lost or due or over):
        return
    with database:
        # What was read may have changed meanwhile: another swept, a worker ended its task or extended its lease.
        for one in rested:
            database.change(_RESTED, *one)
        for task_id, token, wake, why in lost:
            if database.row(_SAME, task_id, token, wake):
                ending.take_back(database, task_id, why)
        for task_id, _, expires in due:
            _let_in(database, task_id, expires, now)
        usage.resume(database)
        database.change("DELETE FROM limits WHERE until_ns <= ?", now)


def _is_over(wake: object, ticks: int) -> bool:
    """Also what is no time, as only somebody's own SQL writes it: it would hold the task for ever."""
    return type(wake) is not int or wake <= ticks


def _why(is_over: bool, named: str) -> str:
    if is_gone(named):
        return f"its worker (process {named.partition(':')[0]}) ended"
    return "its lease ended" if is_over else ""


def wait_for(database: Database, message: Message) -> None:
    """Let the task that was just queued wait for those that it comes after. Raises DataError."""
    for before in message.after:
        if before == message.task_id:
            raise DataError(f"task {before} cannot come after itself: name others")
        found = database.row("SELECT status FROM tasks WHERE task_id = ?", before)
        if found is None:
            raise DataError(f"there is no task {before!r} to come after: send that one first")
        if found[0] in ("failed", "dead", "cancelled"):
            raise DataError(f"task {before} is {found[0]}: what comes after it would wait for ever")
        if found[0] != "completed":
            database.change("INSERT OR IGNORE INTO deps VALUES (?, ?)", before, message.task_id)
            database.change("UPDATE tasks SET live = NULL WHERE task_id = ?", message.task_id)
            database.change("UPDATE tasks SET followed = 1 WHERE task_id = ?", before)


def _let_in(database: Database, task_id: str, expires: str | None, now: int) -> None:
    """The task's time has come: to run, or to expire."""
    if not database.row("SELECT 1 FROM tasks WHERE task_id = ? AND status = 'queued' AND due_ns <= ?", task_id, now):
        return  # it was begun meanwhile
    ends = clock.parse_stamp(expires) if expires else None
    if ends is not None and ends <= now:
        ending.cancel(database, task_id, "expired")
        return
    ready = None if ending.unfinished(database, task_id) else 1
    let = "UPDATE tasks SET live = coalesce(live, ?), not_before = NULL, due_ns = ? WHERE task_id = ?"
    database.change(let, ready, ends, task_id)


def limit(database: Database, kind: str, which: str, parallel: int | None, until_ns: int | None, reason: str) -> None:
    """See `MessageQueue.limit`."""
    if kind not in KINDS:
        raise DataError(f"{kind!r} has no limit: name a {' or a '.join(KINDS)}")
    if parallel is None:
        database.change("DELETE FROM limits WHERE kind = ? AND name = ?", kind, which)
        return
    if type(parallel) is not int or not 0 <= parallel <= 1_000_000:
        raise DataError("the limit is no number from 0 (paused) on: correct it")
    database.change(
        "INSERT OR REPLACE INTO limits VALUES (?, ?, ?, ?, ?)",
        kind,
        which,
        parallel,
        until_ns,
        ending.plain(reason)[:200],
    )
