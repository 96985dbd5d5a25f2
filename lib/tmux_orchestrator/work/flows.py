"""Flows: an event of the log becomes a task, as the first rule of `flows.rules` says that matches it.

Each event is taken once, in order, from a place of its own in the log that moves on only when the tasks are in the
database. A crash in between takes events again, and their tasks have ids that follow from the rule's recipient and
type, the correlation id and the event: so none is lost and none is there twice, also under two brokers. A second event
of the same correlation id makes no second task for the same recipient and type, unless the first one failed.

What the database does not take (it is locked, damaged, the disk is full) waits, and is tried again; the host is never
held up. The queue's own events are never taken, nor is a chain of more than `delivery.max_hops` answers: no loop feeds
itself.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from tmux_orchestrator.eventlog import event, reader
from tmux_orchestrator.eventlog.daylog import Log, daemon_source
from tmux_orchestrator.eventlog.event import RECORDS, is_id, is_word
from tmux_orchestrator.eventlog.matching import Match
from tmux_orchestrator.eventlog.voice import Voice
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.ground.errors import DataError, OrcError, TryLater
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work.heard import Heard
from tmux_orchestrator.work.message import FIRST, LAST, Message, moment, name
from tmux_orchestrator.work.queue import MessageQueue
from tmux_orchestrator.work.sending import LEVELS
from tmux_orchestrator.work.store.database import Database
from tmux_orchestrator.work.store.refusal import Damaged

Event = dict[str, Any]

NAMED = "flows"
# Work, even when no rule says whose: it goes to `flows.fallback`, unless it is addressed to somebody.
TYPES = frozenset(
    (
        *("spec_created", "implementation_complete", "bug_report", "task_delegate"),
        *("spec_request", "demo_request", "question"),
    )
)
_OURS = (NAMED, "tasks")
_SEVERITIES = LEVELS | {"medium": LEVELS["normal"]}
_SECOND = 1_000_000_000
_AGAIN, _REST = _SECOND // 2, 2 * _SECOND  # after a lock, and after another failure
_BUSY = 20  # times in a row that the database is locked until that is told
_MOST, _LONGEST = 20, _SECOND // 200  # tasks of one turn: 2 ms, but on a disk that is slow to flush
_PATIENCE = 0.01  # seconds
_FRUITLESS = ("failed", "dead", "cancelled")


class Rule:
    """One rule of the configuration; without a task it says that there is none."""

    def __init__(self, rule: Mapping[str, Any]) -> None:
        self.match = Match(rule["match"])
        self._addressed: bool | None = rule["match"].get("addressed")
        task: Mapping[str, str] = rule.get("task") or {}
        self.recipient = task.get("recipient", "")
        self.type = task.get("type", "")
        self.priority = task.get("priority", "event")

    def matches(self, one: Event) -> bool:
        return self._addressed in (None, _is_addressed(one)) and self.match.matches(one)


class _Queue(MessageQueue):
    """Waits for nobody, and is never full: the event is on disk already, and nobody is there to be refused."""

    def _open(self) -> Database:
        return Database(self.db_path, self.rules.full, patience=_PATIENCE)

    def _make_room(self, *of: Any, **named: Any) -> None:
        pass


class Flows:
    """Hosted by the broker (see `ground.guest`)."""

    def __init__(self, home: Home, settings: Config, voice: Voice) -> None:
        self.home = home
        self._voice = voice
        self.heard = Heard(home, NAMED, voice)
        self._look_at = 0
        self._queue: _Queue | None = None
        self._busy = 0
        self._refused = ""  # the event that the database does not take
        self.configure(settings)

    def configure(self, settings: Config) -> None:
        self._settings = settings
        self._close_queue()
        self.rules = [Rule(rule) for rule in settings.get("flows.rules")]
        types = TYPES.union(*(rule.match.types for rule in self.rules)) if settings.get("flows.enabled") else ()
        # Said at a glance, as nearly all lines are of other types: 0.7 microseconds a line.
        self._glance = re.compile(rb'"type":\s*"(?:%s)"' % b"|".join(sorted(re.escape(one.encode()) for one in types)))

    def close(self) -> None:
        self.heard.close()
        self._close_queue()

    def turn(self, news: bool = False) -> int:
        now = clock.boot_ns()
        if now < self._look_at and (not news or self.heard.waiting):
            return self._look_at
        self._look_at = now + _SECOND
        try:
            if (self.heard.waiting or self.heard.read(self._glance.search)) and self._work():
                self._look_at = now
        except (OrcError, OSError) as error:
            self._failed(error, now)
        return self._look_at

    def _failed(self, error: Exception, now: int) -> None:
        self._close_queue()
        locked = isinstance(error, TryLater)
        self._busy += locked
        self._look_at = now + (_AGAIN if locked else _REST)
        if not locked or self._busy == _BUSY:
            self._voice.complain(f"flows: events wait to become tasks: {error}")

    def _close_queue(self) -> None:
        if self._queue is not None:
            self._queue.close()
            self._queue = None

    # tasks

    def _work(self) -> bool:
        """Make tasks of some of what waits; is there more? Raises OrcError, OSError: it stays."""
        done, end, waiting = 0, clock.boot_ns() + _LONGEST, self.heard.waiting
        while waiting and done < _MOST and clock.boot_ns() < end:
            one = _checked(waiting[0])
            try:
                if one is not None:
                    self._take(one)
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
                self._voice.complain(f"flows: an event makes no task: {error!r}")  # no line may stop the others
            waiting.popleft()
            done += 1
        self.heard.done(done > 0)
        return True

    def _take(self, one: Event) -> None:
        made = self.task(one)
        if made is None:
            return
        message, by_rule = made
        most = self._settings.get("delivery.max_hops")
        if one["metadata"]["hops"] > most:
            self._refuse(one, message, most)
            return
        self._queue = self._queue or _Queue(None, self.home, self._settings)
        try:
            message.checked()
            self._put(self._queue, message, one["id"], by_rule)
        except Damaged:
            raise
        except DataError as error:
            if self._refused != one["id"]:
                self._refused = one["id"]
                raise  # once more, with a database that is opened anew: it may have been another version
            self._voice.say(f"WARNING flows: {one['id']} makes no task: {error}")
        self._busy = 0
        self._voice.well()

    def task(self, one: Event) -> tuple[Message, bool] | None:
        """The task that a checked event makes, but for its id, and whether a rule says so; None: it makes none."""
        kind, context = one["message"]["type"], one["message"]["content"]["context"]
        rule = next((rule for rule in self.rules if rule.matches(one)), None)
        by_rule, recipient = True, rule.recipient if rule else ""
        task_type, priority = rule.type if rule else "", _priority(one, rule.priority if rule else "event")
        if rule is None and kind == "task_delegate" and _is_name(context.get("recipient")):
            recipient, task_type = context["recipient"], context.get("type")
            asked = context.get("priority")
            priority = asked if type(asked) is int and FIRST <= asked <= LAST else priority
        elif rule is None and kind in TYPES and not _is_addressed(one):
            by_rule, recipient = False, self._settings.get("flows.fallback")
        if not recipient:
            return None
        message = Message(
            sender=_sender(one),
            recipient=recipient,
            type=task_type if is_word(task_type) else kind,
            payload=_payload(one),
            priority=priority,
            timestamp=_stamp(one["timestamp"]) or clock.stamp(clock.now_ns()),
            correlation_id=one["metadata"].get("correlation_id") or one["id"],
        )
        metadata = one["metadata"]
        message.expires, message.not_before = _stamp(metadata.get("expires")), _stamp(metadata.get("not_before"))
        return message, by_rule

    def _put(self, queue: _Queue, message: Message, event_id: str, by_rule: bool) -> None:
        key = _digest(message.recipient, message.type, message.correlation_id or "")
        head = f"flow.{'rule' if by_rule else 'rest'}.{key}"
        message.task_id = f"{head}.{_digest(event_id)[:8]}"
        with queue.database as database:
            sql = "SELECT status FROM tasks WHERE task_id >= ? AND task_id < ?"
            if all(status in _FRUITLESS for (status,) in database.rows(sql, f"{head}.", f"{head}/")):
                queue.send(message)  # one with the same id stays as it is
        if not database.is_current():
            raise TryLater(f"{database.path} was replaced while it was changed: try again")

    def _refuse(self, one: Event, message: Message, most: int) -> None:
        """Once for all of a chain."""
        line = message.correlation_id or one["id"]
        said = event.build(
            f"{one['message']['type']} #{event.short(one['id'])} makes no task for {message.recipient}: it answers a "
            f"chain of more than {most} answers (delivery.max_hops); begin a new one if it is to go on.",
            daemon_source(NAMED),
            category="flow",
            groups=["management"],
            context={"event": one["id"], "recipient": message.recipient, "issue_type": "hops"},
            correlation_id=line,
        )
        Log(self.home, durable=False, lock_timeout=0.1).append([said | {"id": f"flow.hops.{_digest(line)}"}])


def routed_share(database: Database) -> tuple[int, int]:
    """(right, all) of the tasks that flows made and that have ended: right are those which a rule, or who delegated,
    gave to the recipient whose worker completed it; the others no rule knew, or they came to nothing."""
    sql = """
    SELECT count(*) FILTER (WHERE task_id < 'flow.rule/' AND task_id > 'flow.rule.' AND status = 'completed'), count(*)
    FROM tasks WHERE task_id > 'flow.' AND task_id < 'flow/' AND status NOT IN ('queued', 'running')"""
    right, ended = database.rows(sql)[0]
    return int(right), int(ended)


def _checked(line: bytes) -> Event | None:
    """The event of a line; None for one of ours, and for what somebody wrote into the file by hand and is none."""
    one = reader.decode(line) if len(line) <= event.MAX_LINE else None
    if one is None or (one["source"]["type"] == "daemon" and one["source"].get("identifier") in _OURS):
        return None
    try:
        return one if is_id(one["id"]) and event.check(one)["message"]["type"] not in RECORDS else None
    except OrcError:
        return None


def _priority(one: Event, how: str) -> int:
    """Of the task: a level of its own, the event's, or by `severity` of its context, which may be anything."""
    severity = one["message"]["content"]["context"].get("severity")
    if how == "severity" and isinstance(severity, str) and severity.lower() in _SEVERITIES:
        return _SEVERITIES[severity.lower()]
    return LEVELS[how if how in LEVELS else one["message"]["priority"]]


def _payload(one: Event) -> dict[str, Any]:
    """What its sender wrote for programs, and beside it what the worker needs of the event."""
    content, source = one["message"]["content"], one["source"]
    return {
        **content["context"],
        "event": one["id"],
        "sender": f"{source['session']}:{_sender(one)}" if source.get("session") else _sender(one),
        "verified": source.get("verified") is True,
        "subject": content.get("subject"),
        "body": content["body"],
    }


def _sender(one: Event) -> str:
    found = one["source"].get("identifier")
    return str(found) if _is_name(found) else one["source"]["type"]


def _is_name(text: object) -> bool:
    try:
        name(text, "")
    except DataError:
        return False
    return True


def _is_addressed(one: Event) -> bool:
    return bool(one["to"].get("targets") or one["to"].get("groups"))


def _stamp(text: str | None) -> str | None:
    """The time as tasks have it; None for what is none."""
    try:
        return clock.stamp(moment(text, "the time")) if text else None
    except DataError:
        return None


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]
