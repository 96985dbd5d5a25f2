"""Claims whose worker is gone, tasks whose time has come, and who may run how many at once.

Leases and rests count nanoseconds since boot, which no step of the wall clock moves; after a boot nobody holds
anything. Whoever asks for work sweeps first, so no process has to run for it. A sweep reads a few rows, and writes
only when there is something to do.
"""

from __future__ import annotations

from tmux_orchestrator.ground import clock, proc
from tmux_orchestrator.ground.errors import DataError
from tmux_orchestrator.work import ending

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tmux_orchestrator.work.database import Database
    from tmux_orchestrator.work.queue import Rules

KINDS = ("recipient", "group")
_UNFINISHED = """
SELECT 1 FROM deps JOIN tasks AS before ON before.task_id = deps.after_id
WHERE deps.task_id = ? AND before.status <> 'completed'"""


def worker(pid: int) -> str:
    """A process as the column `worker` names it: `pid:start`, in clock ticks. Raises DataError when it is gone."""
    start = proc.start_time(pid)
    if start is None:
        raise DataError(f"there is no process {pid}: name one that runs")
    return f"{pid}:{start}"


def is_gone(named: str | None) -> bool:
    """Has the worker a process, and has that ended?"""
    pid, _, start = (named or "").partition(":")
    return pid.isdigit() and start.isdigit() and not proc.alive(int(pid), int(start))


def after_boot(database: Database) -> None:
    """Whatever ran in another boot runs no more, and times since boot began anew."""
    boot = clock.boot_id()
    if database.row("SELECT value FROM meta WHERE name = 'boot'") == (boot,):
        return
    with database:
        if database.row("SELECT value FROM meta WHERE name = 'boot'") == (boot,):
            return
        database.change("UPDATE tasks SET live = 1, wake_boot = NULL WHERE live = 3")
        for (task_id,) in database.rows("SELECT task_id FROM tasks WHERE live = 2"):
            ending.take_back(database, task_id, "the machine was started anew")
        database.change("UPDATE meta SET value = ? WHERE name = 'boot'", boot)


def sweep(database: Database, rules: Rules) -> None:
    ticks, now = clock.boot_ns(), clock.now_ns()
    held = database.rows("SELECT task_id, live, wake_boot, worker, token FROM tasks WHERE live IN (2, 3)")
    rested = [row[0] for row in held if row[1] == 3 and row[2] <= ticks]
    lost = [(row[0], row[4], _why(row[2] <= ticks, row[3])) for row in held if row[1] == 2]
    lost = [one for one in lost if one[2]]
    due = database.rows("SELECT task_id, not_before, expires FROM tasks WHERE status = 'queued' AND due_ns <= ?", now)
    over = database.rows("SELECT kind, name FROM limits WHERE until_ns <= ?", now)
    if not (rested or lost or due or over):
        return
    with database:
        for task_id in rested:
            database.change("UPDATE tasks SET live = 1, wake_boot = NULL WHERE task_id = ? AND live = 3", task_id)
        for task_id, token, why in lost:
            if database.row("SELECT 1 FROM tasks WHERE task_id = ? AND token = ? AND live = 2", task_id, token):
                ending.take_back(database, task_id, why)
        for task_id, _, expires in due:
            _let_in(database, task_id, expires, now)
        database.change("DELETE FROM limits WHERE until_ns <= ?", now)


def _why(is_over: bool, named: str) -> str:
    if is_gone(named):
        return f"its worker (process {named.partition(':')[0]}) ended"
    return "its lease ended" if is_over else ""


def _let_in(database: Database, task_id: str, expires: str | None, now: int) -> None:
    """The task's time has come: to run, or to expire."""
    ends = clock.parse_stamp(expires) if expires else None
    if ends is not None and ends <= now:
        ending.cancel(database, task_id, "expired")
        return
    ready = None if database.row(_UNFINISHED, task_id) else 1
    database.change(
        "UPDATE tasks SET live = coalesce(live, ?), not_before = NULL, due_ns = ? "
        "WHERE task_id = ? AND status = 'queued' AND due_ns <= ?",
        ready,
        ends,
        task_id,
        now,
    )


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
        "INSERT OR REPLACE INTO limits VALUES (?, ?, ?, ?, ?)", kind, which, parallel, until_ns, reason[:200]
    )
