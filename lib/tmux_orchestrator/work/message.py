"""A task as it is handed from one agent to another: what may be in it, and its two forms, object and record."""

from __future__ import annotations

import os
from _thread import get_ident

from tmux_orchestrator.eventlog.event import Ids, is_id, is_word
from tmux_orchestrator.ground import clock, fastjson
from tmux_orchestrator.ground.errors import DataError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LARGEST = 1 << 20  # bytes of a payload's JSON
FIRST, LAST = 1, 10  # priorities
_PRIORITIES = range(FIRST, LAST + 1)
STATUSES = ("queued", "running", "completed", "failed", "cancelled", "dead")
_MOST = 1000  # threads whose makers are kept
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:@-")
_makers: dict[tuple[int, int], Ids] = {}  # of this process, each thread has its own; of a parent, they would repeat


class Message:
    """One task. `payload` is any JSON object, `priority` 1 (highest) to 10.

    Beside the document's fields: `group` (see `MessageQueue.limit`), `after` (ids of tasks that have to be completed
    before), `not_before` and `expires` (RFC 3339), `correlation_id`, `max_attempts` (None: as configured). What the
    queue gives out also has `attempt` (from 1 on), `token` and `lease_ends` (nanoseconds since the epoch).
    """

    __slots__ = (
        "_made",
        "after",
        "attempt",
        "correlation_id",
        "expires",
        "group",
        "lease_ends",
        "max_attempts",
        "not_before",
        "payload",
        "priority",
        "recipient",
        "sender",
        "task_id",
        "timestamp",
        "token",
        "type",
    )

    def __init__(
        self,
        sender: str,
        recipient: str,
        type: str,
        payload: dict[str, Any],
        priority: int = 5,
        timestamp: str = "",
        task_id: str = "",
        *,
        group: str | None = None,
        after: tuple[str, ...] | list[str] | str = (),
        not_before: str | None = None,
        expires: str | None = None,
        correlation_id: str | None = None,
        max_attempts: int | None = None,
    ) -> None:
        self.sender, self.recipient, self.type, self.payload, self.priority = sender, recipient, type, payload, priority
        made = ""
        if not (timestamp and task_id):
            now = clock.now_ns()
            timestamp = timestamp or (made := clock.stamp(now))
            task_id = task_id or _make_id(now)
        self.timestamp, self.task_id, self._made = timestamp, task_id, made
        self.group, self.correlation_id = group, correlation_id
        self.after = (after,) if isinstance(after, str) else tuple(after)
        self.not_before, self.expires, self.max_attempts = not_before, expires, max_attempts
        self.attempt, self.token, self.lease_ends = 0, "", 0

    @property
    def lease_until(self) -> str:
        """RFC 3339; "" of a task that nobody has claimed."""
        return clock.stamp(self.lease_ends) if self.lease_ends else ""

    def __repr__(self) -> str:
        return f"Message({self.task_id}: {self.sender} -> {self.recipient}, {self.type}, priority {self.priority})"

    def __eq__(self, other: object) -> bool:
        names = self.__slots__[1:]  # whether the time was made here is nothing that a task says
        return isinstance(other, Message) and all(getattr(self, name) == getattr(other, name) for name in names)

    __hash__ = None  # type: ignore[assignment]

    def checked(self) -> str:
        """The payload as JSON. Raises DataError that says what is wrong with the task."""
        if not self._is_sound():
            self._judge()
        if type(self.payload) is not dict:
            raise DataError("the payload is not a JSON object: write {…}")
        try:
            text = fastjson.dumps(self.payload)
        except ValueError as error:
            raise DataError(f"the payload cannot be written as JSON ({error}): correct it") from None
        if len(text) > LARGEST:
            raise DataError(f"the payload is larger than {LARGEST >> 20} MiB: put the data into a file and name it")
        return text

    def _is_sound(self) -> bool:
        """Nearly every task is, and this says so quickly; whatever else it says, `_judge` knows better."""
        try:
            words = self.task_id + self.sender + self.recipient
            return (
                len(words) <= 64
                and len(self.task_id) >= 6
                and _NAME.issuperset(words)
                and self.task_id[0].isalnum()
                and self.sender[0].isalnum()
                and self.recipient[0].isalnum()
                and "@" not in self.task_id
                and is_word(self.type)
                and self.priority in _PRIORITIES
                and type(self.priority) is int
                and self.group is None is self.max_attempts
                and self.correlation_id is None
                and self.timestamp is self._made
            )
        except (TypeError, IndexError, AttributeError):
            return False

    def _judge(self) -> None:
        if not (isinstance(self.task_id, str) and is_id(self.task_id) and len(self.task_id) <= 64):
            raise DataError(f"{self.task_id!r} cannot be a task's id: use 6 to 64 letters, digits and ._:-")
        name(self.sender, "the sender")
        name(self.recipient, "the recipient")
        if not is_word(self.type):
            raise DataError("the type is not a lower-case word of a-z 0-9 _ -: correct it")
        if type(self.priority) is not int or self.priority not in _PRIORITIES:
            raise DataError(f"the priority is no number from {FIRST} (highest) to {LAST}: correct it")
        if self.group is not None:
            name(self.group, "the group")
        if self.max_attempts is not None and not (type(self.max_attempts) is int and 1 <= self.max_attempts <= 100):
            raise DataError("the attempts are no number from 1 to 100: correct it")
        line = self.correlation_id
        if line is not None and not (isinstance(line, str) and 0 < len(line) <= 128 and line.isprintable()):
            raise DataError("the correlation id is not a line of 1 to 128 characters: shorten it")
        self.timestamp = clock.stamp(moment(self.timestamp, "the timestamp"))


def name(text: object, what: str) -> str:
    """The name, if it is one. Raises DataError."""
    if not (isinstance(text, str) and 0 < len(text) <= 64 and text[0].isalnum() and _NAME.issuperset(text)):
        raise DataError(f"{what} is no name of at most 64 letters, digits and ._:@-: correct it")
    return text


def moment(text: object, what: str) -> int:
    """Nanoseconds since the epoch of an RFC 3339 time; without an offset it is the home's. Raises DataError."""
    from tmux_orchestrator.ground import times  # seldom

    try:
        if isinstance(text, str) and text[4:5] == "-" and len(text) <= 40:
            return times.parse_time(text, 0)
    except UsageError:
        pass
    raise DataError(f"{what} is no time such as 2026-11-26T18:00:00Z: correct it")


def _make_id(now: int) -> str:
    who = os.getpid(), get_ident()
    maker = _makers.get(who)
    if maker is None:
        if len(_makers) > _MOST:
            _makers.clear()
        maker = _makers[who] = Ids()
    return maker.make(now)
