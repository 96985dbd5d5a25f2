"""orc-task: the task queue. Workers ask for a task, do it, and say how it ended."""

from __future__ import annotations

import os
import sys

from tmux_orchestrator.ground import clock, config, errors, files, options, output, paths
from tmux_orchestrator.work import reading
from tmux_orchestrator.work.message import Message, name
from tmux_orchestrator.work.queue import MessageQueue
from tmux_orchestrator.work.store import place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

USAGE = """\
usage: orc-task send --recipient NAME [options] [PAYLOAD]
       orc-task get --recipient NAME [--wait[=TIME]] [--lease TIME] [--pid PID]
       orc-task run --recipient NAME [--jobs N] [--lease TIME] [--once] -- COMMAND...
       orc-task start|extend|done|fail|release ID [options]
       orc-task cancel|retry ID...
       orc-task list|show|depth|slowest|performance [options]
       orc-task pause|resume|limit NAME [options]
       orc-task limits [-o FORMAT]
       orc-task prune|migrate|check|repair [options]

send queues a task and prints its id. PAYLOAD is a JSON object, or text, which becomes {"text": ...}; `-`, or a pipe,
is standard input. get claims the first task of NAME, by priority and age, and prints it with the token that its
worker needs to end it; exit 1 when there is none. start claims the task of that id. done ends it; fail lets it be
tried again after a rest while it has attempts left. A claim whose lease ended is lost: done is refused with 65.
pause and limit hold back a recipient's tasks, or with --group a group's; limits lists all that is held back. check
reads the whole database and ends with 65 if it is damaged; repair puts such a one aside, and goes on with what can be
recovered (so does whatever meets it).

run does tasks until it is stopped, each by running COMMAND with the payload on its standard input and the rest in
ORC_TASK_ID, _TYPE, _SENDER, _RECIPIENT, _PRIORITY, _ATTEMPT, _CORRELATION_ID, _TOKEN and, up to 32 KiB, _PAYLOAD.
COMMAND's exit code ends the task: 0 done, 65 failed for good, 75 later (given back, not counted), any other failed
for now. COMMAND is ended when the lease is lost or the task cancelled, and dies with its worker.

  -r, --recipient NAME    whose task it is
  -p, --priority LEVEL    1 (highest) to 10, or critical (1), high (3), normal (5, the default), low (8)
  --type TYPE             send, list: what kind of task (default task_delegate)
  --from NAME             send, list: who hands it over
  --id ID                 send: its id; one that is known is not queued again
  --after ID...           send: only when these are completed
  --at TIME               send: not before this time
  --in DURATION           send: not before so much time has passed
  --ttl DURATION          send: cancelled when nobody began it within this time
  --group NAME            send, list, pause, resume, limit: a group of tasks
  --account NAME          resume: the tasks that wait for the end of this account's usage limit
  --attempts N            send: until a task that fails is dead (default: as configured)
  --correlation-id ID     send, list: what belongs together
  --jsonl                 send: each line of standard input is a task, an object with these names
  --file FILE             send: the payload, or with --jsonl the tasks, are in a file
  --wait[=TIME]           get: wait for a task, at most so long; exit 124
  --lease TIME            get, run, start, extend: how long the claim holds (default: as configured)
  --pid PID               get, start: the claim ends with this process
  --token TOKEN           extend, done, fail, release: what get printed
  --duration MS           done: how long it took (default: since it was claimed)
  --exit N                done, fail: the exit code of what did it
  --output TEXT           done, fail: the end of what it printed
  --error TEXT            fail, cancel: why
  --final                 fail: not to be tried again
  --status STATUS...      list: queued, running, completed, failed, cancelled or dead
  -n, --tail N            list, slowest: so many (slowest: 10)
  --until TIME            pause, limit: as long as that
  --jobs N                limit, run: so many at a time
  --once                  run: one task; ends with COMMAND's exit code, or 1 when there was none
  --reason TEXT           pause, limit: why
  --older-than DAYS       prune: what ended so long ago (default: as configured)
  --to VERSION            migrate: of the database (default: the newest)
  --dry-run               prune, migrate, repair: only say what would be done
  -o FORMAT               jsonl, json, table or FIELD,FIELD...

examples:
  orc-task send -r code_developer --type spec_created '{"spec_id": "SPEC-071"}'
  orc-task run -r code_developer --jobs 2 -- sh -c 'jq -r .spec_id | xargs ./implement.sh'
  task=$(orc-task get -r code_developer --wait) && jq -r .payload.spec_id <<<"$task"
"""

_CLAIM = ("lease", "pid", "o")
_ENDS = ("token", "exit", "output")
_HOLDS = ("group", "until", "reason")
# What each action takes, beside its words.
_TAKES = {
    "send": (
        *("recipient", "priority", "type", "from", "id", "after", "at", "in", "ttl", "group", "attempts"),
        *("correlation_id", "jsonl", "file"),
    ),
    "get": ("recipient", "wait", *_CLAIM),
    "start": _CLAIM,
    "run": ("recipient", "jobs", "lease", "once"),
    "extend": ("token", "lease"),
    "done": ("duration", *_ENDS),
    "fail": ("error", "final", *_ENDS),
    "release": ("token",),
    "cancel": ("error",),
    "retry": (),
    "list": ("recipient", "type", "from", "group", "correlation_id", "status", "tail", "o"),
    "show": ("o",),
    "depth": ("o",),
    "slowest": ("tail", "o"),
    "performance": ("o",),
    "pause": _HOLDS,
    "limit": ("jobs", *_HOLDS),
    "resume": ("group", "account"),
    "limits": ("o",),
    "prune": ("older_than", "dry_run"),
    "migrate": ("to", "dry_run"),
    "check": (),
    "repair": ("dry_run",),
}


def main(argv: list[str]) -> int:
    given = options.parse(USAGE, argv)
    action = given.args.pop(0) if given.args else ""
    if action not in _TAKES:
        wrong = f"{action!r} is no action{options.near(action, list(_TAKES))}" if action else "what to do is missing"
        raise errors.UsageError(f"{wrong}: see orc-task --help")
    for option, (attribute, _) in options.declared(USAGE).items():
        if attribute not in _TAKES[action] and getattr(given, attribute) not in (None, False, []):
            raise errors.UsageError(f"{action} takes no {option}: see orc-task --help")
    home = paths.find_home()
    settings = config.load(home)
    clock.use_zone(settings.get("events.timezone"))
    if action in ("migrate", "check", "repair"):
        from tmux_orchestrator.work import upkeep

        return upkeep.act(action, home, settings, given)
    queue = MessageQueue(None, home, settings)
    if not os.path.isdir(home.logs):
        files.make_dir(home.logs)  # where the configuration stays compiled: else each start would read YAML
    code = _ACTIONS[action](queue, given)
    if place.is_long(queue.db_path):
        queue.close()  # which moves it into the database, if no other process has that open
    return code


# send


def _send(queue: MessageQueue, given: options.Options) -> int:
    from tmux_orchestrator.work import sending

    return sending.send(queue, given)


# claim and end


def _get(queue: MessageQueue, given: options.Options) -> int:
    recipient = given.recipient or (given.args[0] if len(given.args) == 1 else None)
    if recipient is None:
        raise errors.UsageError("say whose task: orc-task get --recipient NAME")
    output.check(given.o, reading.FIELDS)
    lease, worker = _seconds(given.lease), _worker(given.pid)
    got = None
    try:
        got = queue.get(recipient, lease=lease, worker=worker)
    except errors.TryLater:
        if given.wait is None:
            raise
    if got is None and given.wait is not None:
        from tmux_orchestrator.work import waiting

        got = waiting.get(queue, recipient, _seconds(given.wait or None), lease, worker)
        if got is None:
            return errors.TIMEOUT
    return _given(queue, got, given)


def _start(queue: MessageQueue, given: options.Options) -> int:
    task_id = _one(given)
    output.check(given.o, reading.FIELDS)
    got = queue.take(task_id, _seconds(given.lease), _worker(given.pid))
    if got is None and reading.task(queue.database, task_id) is None:
        raise errors.DataError(f"there is no task {task_id!r}: see orc-task list")
    return _given(queue, got, given)


def _given(queue: MessageQueue, got: Message | None, given: options.Options) -> int:
    if got is None:
        return errors.NO
    record = reading.task(queue.database, got.task_id)
    try:
        output.show([record] if record else [], given.o or "jsonl", reading.COLUMNS, reading.FIELDS)
        sys.stdout.flush()
    except OSError:
        queue.release(got.task_id, got.token)  # nobody has read the token, so nobody could end the task
        raise
    return errors.OK


def _run(queue: MessageQueue, given: options.Options) -> int:
    recipient = name(given.recipient, "the recipient") if given.recipient else None
    if recipient is None or not given.args:
        raise errors.UsageError("say whose tasks, and what does them: orc-task run --recipient NAME -- COMMAND")
    jobs, lease = options.number(given.jobs, "--jobs", 1, 1000), _seconds(given.lease)
    if given.once and jobs not in (None, 1):
        raise errors.UsageError("--once is one task: leave --jobs out")
    from tmux_orchestrator.work.worker import Worker

    return Worker(queue, recipient, given.args, jobs or 1, lease).run(given.once)


def _extend(queue: MessageQueue, given: options.Options) -> int:
    print(queue.extend(_one(given), _seconds(given.lease), _token(given)))
    return errors.OK


def _done(queue: MessageQueue, given: options.Options) -> int:
    duration = options.number(given.duration, "--duration", 0, 10**12)
    queue.mark_completed(
        _one(given), duration, _token(given), options.number(given.exit, "--exit", 0, 255), given.output
    )
    return errors.OK


def _fail(queue: MessageQueue, given: options.Options) -> int:
    code = options.number(given.exit, "--exit", 0, 255)
    print(queue.mark_failed(_one(given), given.error or "", _token(given), not given.final, code, given.output))
    return errors.OK


def _release(queue: MessageQueue, given: options.Options) -> int:
    queue.release(_one(given), _token(given))
    return errors.OK


def _cancel(queue: MessageQueue, given: options.Options) -> int:
    return _each(given, lambda task_id: queue.cancel(task_id, given.error or "cancelled by hand"))


def _retry(queue: MessageQueue, given: options.Options) -> int:
    return _each(given, queue.retry)


def _each(given: options.Options, act: Callable[[str], bool]) -> int:
    if not given.args:
        raise errors.UsageError("which task is missing: give its id")
    done = [act(task_id) for task_id in given.args]
    return errors.OK if all(done) else errors.NO


# look


def _list(queue: MessageQueue, given: options.Options) -> int:
    from tmux_orchestrator.work import listing

    listing.tasks(queue, given)
    return errors.OK


def _show(queue: MessageQueue, given: options.Options) -> int:
    task_id = _one(given)
    queue.look()
    record = reading.task(queue.database, task_id)
    if record is None:
        raise errors.DataError(f"there is no task {task_id!r}: see orc-task list")
    output.show([record], given.o or "jsonl", reading.COLUMNS, reading.FIELDS)
    return errors.OK


def _view(action: str) -> Callable[[MessageQueue, options.Options], int]:
    def show(queue: MessageQueue, given: options.Options) -> int:
        from tmux_orchestrator.work import listing

        listing.view(queue, given, action)
        return errors.OK

    return show


# hold back, keep


def _hold(action: str) -> Callable[[MessageQueue, options.Options], int]:
    def act(queue: MessageQueue, given: options.Options) -> int:
        from tmux_orchestrator.work import holding

        return holding.limits(queue, given) if action == "limits" else holding.hold(queue, given, action)

    return act


def _prune(queue: MessageQueue, given: options.Options) -> int:
    from tmux_orchestrator.work import upkeep

    days = options.number(given.older_than, "--older-than", 0, 36_500)
    return upkeep.prune(queue, queue.rules.days if days is None else days, given.dry_run)


# words


def _one(given: options.Options, what: str = "which task") -> str:
    if len(given.args) != 1:
        raise errors.UsageError(f"{what} is missing, or said twice: give one")
    return given.args[0]


def _token(given: options.Options) -> str:
    if not given.token:
        raise errors.UsageError("the token is missing: --token, as orc-task get printed it")
    return str(given.token)


def _worker(pid: str | None) -> str:
    from tmux_orchestrator.work import leases

    number = options.number(pid, "--pid", 1, 1 << 22)
    return "" if number is None else leases.worker(number)


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    from tmux_orchestrator.ground import times

    return times.parse_duration(text)


_ACTIONS: dict[str, Callable[[MessageQueue, options.Options], int]] = {
    "send": _send,
    "get": _get,
    "start": _start,
    "run": _run,
    "extend": _extend,
    "done": _done,
    "fail": _fail,
    "release": _release,
    "cancel": _cancel,
    "retry": _retry,
    "list": _list,
    "show": _show,
    **{action: _view(action) for action in ("depth", "slowest", "performance")},
    **{action: _hold(action) for action in ("pause", "limit", "resume", "limits")},
    "prune": _prune,
}
