"""The task queue: each task is done by exactly one worker, whoever dies.

A claim takes the first task of a recipient (priority, then age) in one statement, and gives it a token and a lease.
Only that token, within that lease, may end the task, so a worker that was stopped past its lease, or thought dead,
is refused. What a worker that died, or a lease that ended, leaves behind is taken back by whoever asks next (see
`leases`). Each change writes a line for the log into the table `outbox`, in the same transaction (see `outbox`).

A crash at any moment leaves a task queued, running under a lease, or ended: never between, never twice.
"""

from __future__ import annotations

import os
from itertools import count

from tmux_orchestrator.ground import clock, config, fastjson, paths
from tmux_orchestrator.ground.errors import DataError, NotPermitted, SystemFailure, TryLater
from tmux_orchestrator.work import ending, leases, reading
from tmux_orchestrator.work.message import Message, moment, name
from tmux_orchestrator.work.store import place
from tmux_orchestrator.work.store.database import Database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tmux_orchestrator.ground.config import Config
    from tmux_orchestrator.ground.paths import Home

READY, RUNNING, RESTING = 1, 2, 3  # the column `live`
HIGH, LOW = 2, 8  # priorities up to HIGH are taken however full the queue is; those from LOW on are refused first
_SECOND = 1_000_000_000
_LONGEST = 315_360_000  # seconds of a lease: ten years

_SEND = """
INSERT INTO tasks (task_id, sender, recipient, type, priority, payload, created_at, max_attempts, grp, correlation_id,
                   not_before, expires, due_ns, live)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (task_id) DO NOTHING"""
_MINE = "task_id = ? AND token = ? AND live = 2 AND wake_boot > ?"


class Rules:
    """The section `team.message_queue` of the configuration: seconds, tasks, attempts, days."""

    __slots__ = ("attempts", "days", "first_rest", "full", "largest", "lease", "longest_rest")

    def __init__(self, settings: Config) -> None:
        get = settings.get
        self.largest: int = get("team.message_queue.max_size")
        self.lease: float = get("team.message_queue.lease")
        self.attempts: int = get("team.message_queue.attempts")
        self.first_rest, self.longest_rest = get("team.message_queue.retry_backoff")
        self.days: int = get("team.message_queue.cleanup_interval_days")
        self.full: bool = get("team.message_queue.synchronous_mode") == "FULL"


def path_of(home: Home, given: str) -> str:
    """Relative paths are below the home."""
    return os.path.normpath(os.path.join(home.root, given))


class MessageQueue:
    """The queue of one home: `MessageQueue()`, or `MessageQueue("data/orchestrator.db")`, a path below ORC_HOME.

    For several processes at once, each with its own object. Raises DataError, TryLater (locked, full queue),
    NotPermitted, SystemFailure.
    """

    def __init__(self, db_path: str | None = None, home: Home | None = None, settings: Config | None = None) -> None:
        self.home = home or paths.find_home()
        settings = settings or config.load(self.home)
        self.rules = Rules(settings)
        self.db_path = path_of(self.home, db_path or settings.get("team.message_queue.db_path"))
        self.database = self._open()
        self._tokens: dict[str, str] = {}
        self._claimer, self._token_head, self._worker = 0, "", ""
        self._claims = count(1)
        self.watches: list[tuple[int, Any]] = []  # see `waiting`
        self._swept_at = self._room = 0  # `room`: tasks that may be sent until it is counted again how many wait
        self._is_begun = leases.begin(self.database)

    def _open(self) -> Database:
        return Database(self.db_path, self.rules.full, mend=place.mender(self.home, self.db_path))

    # sending

    def send(self, message: Message) -> bool:
        """Queue a task; False when one with this id is there already, which then stays as it is.

        Raises DataError for a task that is wrong, TryLater when the queue is full (see `docs/tasks.md`).
        """
        if message.after:
            return self.send_all([message]) == 1
        values = self._values(message)
        self._make_room(message.priority, [message])
        return self.database.change(_SEND, *values) == 1

    def send_all(self, messages: list[Message]) -> int:
        """Queue all of them or, when one is wrong or there is no room, none; how many are new."""
        values = [self._values(message) for message in messages]
        self._make_room(max([message.priority for message in messages], default=0), messages)
        new = 0
        with self.database:
            for message, one in zip(messages, values, strict=True):
                sent = self.database.change(_SEND, *one)
                new += sent
                if sent and message.after:
                    leases.wait_for(self.database, message)
        return new

    def _values(self, message: Message) -> tuple[object, ...]:
        payload = message.checked()
        begins = message.not_before and moment(message.not_before, "not_before")
        ends = message.expires and moment(message.expires, "expires")
        waits = begins and begins > clock.now_ns()
        return (
            message.task_id,
            message.sender,
            message.recipient,
            message.type,
            message.priority,
            payload,
            message.timestamp,
            message.max_attempts or self.rules.attempts,
            message.group,
            message.correlation_id,
            clock.stamp(begins) if begins and waits else None,
            clock.stamp(ends) if ends else None,
            (begins if waits else ends) or None,
            None if waits else READY,
        )

    def _make_room(self, least: int, messages: list[Message]) -> None:
        """Refuse new low work when the queue is full, normal work when it is twice as full; high work is taken."""
        if least <= HIGH:
            return
        bound = self.rules.largest * (1 if least >= LOW else 2)
        if self._room < len(messages) or least >= LOW:
            waiting = self.size()
            self._room = (2 * self.rules.largest - waiting) // 16
            if waiting + len(messages) > bound and not self._are_known(messages):
                raise TryLater(
                    f"the queue is full ({waiting} tasks wait): try again later, or send with a higher priority"
                )
        self._room -= len(messages)

    def _are_known(self, messages: list[Message]) -> bool:
        sql = "SELECT 1 FROM tasks WHERE task_id = ?"
        return all(self.database.row(sql, message.task_id) is not None for message in messages)

    # claiming

    def get(
        self, recipient: str, timeout: float = 1.0, lease: float | None = None, worker: str | None = None
    ) -> Message | None:
        """Claim the first task of the recipient; None when none is ready. Does not wait, whatever `timeout` says.

        `lease` in seconds. `worker` names a process (see `leases.worker`; None: this one) with which the claim dies;
        "" for none: then only the lease frees the task.
        """
        self.sweep()
        return self._claim(leases.CLAIM, name(recipient, "the recipient"), lease, worker)

    def take(self, task_id: str, lease: float | None = None, worker: str | None = None) -> Message | None:
        """Claim this very task; None when it is not ready, or a limit forbids it."""
        self.sweep()
        return self._claim(leases.CLAIM_ONE, task_id, lease, worker)

    def _claim(self, sql: str, which: str, lease: float | None, worker: str | None) -> Message | None:
        span = self._span(lease)
        if self._claimer != os.getpid():
            self._begin_claims()
        if worker is None:
            worker = self._worker
        while True:
            token = f"{self._token_head}{next(self._claims):x}"
            now, ticks = clock.now_ns(), clock.boot_ns()
            row = self.database.row(sql, token, worker, clock.stamp(now), ticks, ticks + span, which)
            if row is None:
                return None
            task_id, sender, recipient, type, priority, text, created_at, attempt, most, group, correlation_id = row
            try:
                payload = fastjson.loads(text)
            except ValueError as error:  # only the code of others writes such
                ending.fail(self.database, self.rules, task_id, token, f"its payload: {error}", False, None, None)
                continue
            given = Message(sender, recipient, type, payload, priority, created_at, task_id)
            given.group, given.correlation_id = group, correlation_id
            given.attempt, given.max_attempts, given.token = attempt, most, token
            given.lease_ends = now + span
            self._tokens[task_id] = token
            return given

    def _begin_claims(self) -> None:
        """For this process: what it inherited of its parent, by a fork, would name the parent's."""
        self._token_head, self._worker = os.urandom(6).hex(), leases.worker(os.getpid())
        self._claimer = os.getpid()

    def _span(self, lease: float | None) -> int:
        """Nanoseconds that a claim holds. Raises DataError."""
        seconds = self.rules.lease if lease is None else lease
        if not 0 < seconds <= _LONGEST:
            raise DataError("the lease is no time above 0 and up to ten years: correct it")
        return int(seconds * 1e9)

    def sweep(self, now: bool = False) -> None:
        """Take back what dead workers and ended leases hold, let in what is due: ten times a second at most."""
        ticks = clock.boot_ns()
        if now or ticks - self._swept_at >= _SECOND // 10:
            self._swept_at = ticks
            leases.sweep(self.database, self.rules, self._is_begun)
            self._is_begun = True

    def look(self) -> None:
        """`sweep`, for who only reads: where nothing can be written it need not be."""
        try:
            self.sweep()
        except (NotPermitted, SystemFailure, TryLater):
            pass

    # what the worker says

    def mark_started(self, task_id: str, agent: str) -> None:
        """The agent begins now. Claims the task if this queue's `get` has not. Raises DataError when it cannot be."""
        token = self._tokens.get(task_id)
        now, ticks = clock.now_ns(), clock.boot_ns()
        begin = f"UPDATE tasks SET started_at = ?, started_boot = ? WHERE {_MINE}"
        if token and self.database.change(begin, clock.stamp(now), ticks, task_id, token, ticks):
            return
        if self.take(task_id) is None:
            ending.refuse(self.database, task_id, token or "", "started")

    def extend(self, task_id: str, lease: float | None = None, token: str | None = None) -> str:
        """Hold the task for so many seconds from now on; until when (RFC 3339). Raises DataError when it is lost."""
        ticks = clock.boot_ns()
        span = self._span(lease)
        held = self._token(task_id, token)
        if not self.database.change(
            f"UPDATE tasks SET wake_boot = ? WHERE {_MINE}", ticks + span, task_id, held, ticks
        ):
            ending.refuse(self.database, task_id, held, "extended")
        return clock.stamp(clock.now_ns() + span)

    def mark_completed(
        self,
        task_id: str,
        duration_ms: int | None = None,
        token: str | None = None,
        exit_code: int | None = None,
        output: str | None = None,
    ) -> None:
        """The task is done. `duration_ms`: None counts from its start. Raises DataError for a claim that is lost."""
        held = self._token(task_id, token)
        ending.complete(self.database, task_id, held, duration_ms, exit_code, output)
        self._tokens.pop(task_id, None)

    def mark_failed(
        self,
        task_id: str,
        error_message: str,
        token: str | None = None,
        retry: bool = False,
        exit_code: int | None = None,
        output: str | None = None,
    ) -> str:
        """The task failed; its new status: `failed`; with `retry` `queued` while it has attempts left, then `dead`.

        What had to come after a task that ended so is cancelled. Raises DataError for a claim that is lost.
        """
        held = self._token(task_id, token)
        status = ending.fail(self.database, self.rules, task_id, held, error_message, retry, exit_code, output)
        self._tokens.pop(task_id, None)
        return status

    def release(self, task_id: str, token: str | None = None, rest: float = 0.0) -> None:
        """Give the task back as if it had never been claimed; it may be claimed again after `rest` seconds.

        Raises DataError for a claim that is lost.
        """
        held = self._token(task_id, token)
        ending.release(self.database, task_id, held, rest)
        self._tokens.pop(task_id, None)

    def _token(self, task_id: str, token: str | None) -> str:
        return token if token is not None else self._tokens.get(task_id, "")

    # what anybody may do

    def cancel(self, task_id: str, reason: str = "") -> bool:
        """End a task that has not ended, and what comes after it; False when it had. Raises DataError: no such task."""
        return ending.cancel(self.database, task_id, reason)

    def retry(self, task_id: str) -> bool:
        """Queue a failed, dead or cancelled task again, for one more attempt; False when it is none of these."""
        return ending.again(self.database, task_id)

    def limit(self, kind: str, which: str, parallel: int | None, until_ns: int | None = None, reason: str = "") -> None:
        """At most so many tasks of a `recipient` or `group` at a time (0: paused), until then; None: no limit."""
        leases.limit(self.database, kind, name(which, f"the {kind}"), parallel, until_ns, reason)

    # what is there

    def size(self, recipient: str | None = None) -> int:
        """How many tasks are queued."""
        return reading.size(self.database, recipient)

    def is_ready(self, recipient: str) -> bool:
        """Could `get` give a task now? Limits aside; asking does not write, as a claim in vain would."""
        self.sweep()
        return self.database.row("SELECT 1 FROM tasks WHERE live = 1 AND recipient = ? LIMIT 1", recipient) is not None

    def has_messages(self, recipient: str | None = None) -> bool:
        return self.size(recipient) > 0

    def record_metric(self, agent: str, metric_name: str, metric_value: float) -> None:
        """Keep one measured value (cpu_percent, memory_mb …) with the time."""
        value = float(metric_value)
        if value - value != 0.0:
            raise DataError(f"{metric_name} is no finite number: leave it out")
        sql = "INSERT INTO agent_metrics (agent, metric_name, metric_value, timestamp) VALUES (?, ?, ?, ?)"
        stamp = clock.stamp(clock.now_ns())
        self.database.change(sql, name(agent, "the agent"), name(metric_name, "the metric"), value, stamp)

    def get_slowest_tasks(self, limit: int = 10) -> list[dict[str, Any]]:
        """The slowest completed tasks of the view `bottlenecks`, the slowest first."""
        return reading.records(self.database, "SELECT * FROM bottlenecks LIMIT ?", int(limit))

    def get_agent_performance(self) -> list[dict[str, Any]]:
        """The view `agent_performance`."""
        return reading.records(self.database, "SELECT * FROM agent_performance")

    def get_queue_depth(self) -> list[dict[str, Any]]:
        """The view `queue_depth`."""
        return reading.records(self.database, "SELECT * FROM queue_depth")

    # the end

    def cleanup_old_tasks(self, days: int | None = None) -> int:
        """Remove tasks that ended, and metrics, older than so many days (None: as configured); how many tasks."""
        return ending.prune_all(self.database, self.rules.days if days is None else days)

    def stop(self) -> None:
        """Clean up, give space back, and close."""
        self.cleanup_old_tasks()
        ending.shrink(self.database)
        self.close()

    def close(self) -> None:
        self.database.close()
