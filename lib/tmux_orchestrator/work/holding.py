"""`orc-task pause`, `limit`, `resume` and `limits`: how many tasks of a recipient or a group may run at once."""

from __future__ import annotations

from tmux_orchestrator.ground import clock, errors, options, output, times
from tmux_orchestrator.ground.errors import UsageError
from tmux_orchestrator.work import usage
from tmux_orchestrator.work.queue import MessageQueue

FIELDS = ("kind", "name", "parallel", "until", "reason")


def hold(queue: MessageQueue, given: options.Options, action: str) -> int:
    """`pause`, `limit` and `resume`. Raises UsageError, and what `MessageQueue.limit` does."""
    account = getattr(given, "account", None)
    said = [*given.args, *(one for one in (given.group, account) if one)]
    if len(said) != 1:
        raise UsageError("say whose tasks: one recipient, group or account")
    if account:
        return errors.OK if usage.lift(queue.database, account, 0) else errors.NO
    jobs = {"pause": 0, "resume": None}.get(action, options.number(given.jobs, "--jobs", 0, 1_000_000))
    if jobs is None and action == "limit":
        raise UsageError("how many at a time is missing: --jobs N")
    until = times.parse_time(given.until, clock.now_ns()) if jobs is not None and given.until else None
    if until is not None and until <= clock.now_ns():
        raise UsageError(f"--until {given.until} has passed: name a time to come, such as 18:00")
    reason = given.reason or "" if jobs is not None else ""
    queue.limit("group" if given.group else "recipient", said[0], jobs, until, reason)
    return errors.OK


def limits(queue: MessageQueue, given: options.Options) -> int:
    """Print all that holds tasks back. Raises UsageError."""
    if given.args:
        raise UsageError(f"limits takes no word: leave {given.args[0]!r} out")
    output.check(given.o, FIELDS)
    queue.look()
    rows = queue.database.rows("SELECT kind, name, parallel, until_ns, reason FROM limits ORDER BY kind, name")
    records = [dict(zip(FIELDS, row, strict=True)) for row in rows]
    for record in records:
        record["until"] = clock.stamp(record["until"]) if record["until"] is not None else None
    output.show(records, given.o, FIELDS, FIELDS)
    return errors.OK
