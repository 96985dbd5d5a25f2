"""Which accounts have reached their usage limit, as the task database has it: rows of `limits`, a recipient each.

A row of kind `account` names the recipient, and as its reason the account. While `parallel` is 0 none of its tasks is
claimed; `until_ns` is the reset. Then whoever sweeps makes it 1: of all recipients of the account, one task at a time,
until enough of them are completed (`lift`) or PROBATION is over, so that nobody has to run for the tasks to go on.
What a person has paused is another kind of row, and neither ever lifts the other.
"""

from __future__ import annotations

from tmux_orchestrator.ground import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tmux_orchestrator.work.store.database import Database

PROBATION = 3600 * 1_000_000_000  # nanoseconds
_HOLD = "INSERT OR REPLACE INTO limits (kind, name, parallel, until_ns, reason) VALUES ('account', ?, 0, ?, ?)"
_RESUME = "UPDATE limits SET parallel = 1, until_ns = ? WHERE kind = 'account' AND parallel = 0"
_DONE = """
SELECT count(*) FROM tasks WHERE status = 'completed' AND completed_at >= ?
AND recipient IN (SELECT name FROM limits WHERE kind = 'account' AND reason = ?)"""


def states(database: Database) -> dict[str, tuple[bool, int]]:
    """Each account that is held or on probation: does it wait, and until when (nanoseconds since the epoch)."""
    found: dict[str, tuple[bool, int]] = {}
    for account, most, until in database.rows(
        "SELECT reason, min(parallel), max(until_ns) FROM limits WHERE kind = 'account' GROUP BY reason"
    ):
        found[account] = most == 0, until
    return found


def recipients(database: Database, account: str) -> list[str]:
    """Those that are held, or on probation, because of the account."""
    sql = "SELECT name FROM limits WHERE kind = 'account' AND reason = ?"
    return [name for (name,) in database.rows(sql, account)]


def have_tasks(database: Database, recipients: list[str]) -> bool:
    """Have any of them a task that could run, runs or rests? Else a limit of theirs is no news for the queue."""
    sql = "SELECT 1 FROM tasks WHERE live IN (1, 2, 3) AND recipient = ? LIMIT 1"
    return any(database.row(sql, name) for name in recipients)


def hold(database: Database, account: str, recipients: list[str], until_ns: int) -> None:
    """Their tasks wait until then."""
    with database:
        database.change("DELETE FROM limits WHERE kind = 'account' AND reason = ?", account)
        for recipient in recipients:
            database.change(_HOLD, recipient, until_ns, account)


def resume(database: Database, account: str | None = None) -> int:
    """One by one from now on: an account, or None: all whose time has come. How many recipients."""
    now = clock.now_ns()
    if account is not None:
        return database.change(f"{_RESUME} AND reason = ?", now + PROBATION, account)
    return database.change(f"{_RESUME} AND until_ns <= ?", now + PROBATION, now)


def lift(database: Database, account: str, enough: int) -> bool:
    """All may run again, if so many tasks were completed one by one. 0: in any case."""
    found = database.row("SELECT max(until_ns) FROM limits WHERE kind = 'account' AND reason = ?", account)
    if found is None or found[0] is None:
        return False
    if enough and database.rows(_DONE, clock.stamp(found[0] - PROBATION), account)[0][0] < enough:
        return False
    return database.change("DELETE FROM limits WHERE kind = 'account' AND reason = ?", account) > 0
