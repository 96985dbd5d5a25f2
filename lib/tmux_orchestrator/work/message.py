"""A task as it is handed from one agent to another: what may be in it, and its two forms, object and record."""

from __future__ import annotations

from tmux_orchestrator.eventlog.event import Ids, is_id, is_word
from tmux_orchestrator.ground import clock, fastjson
from tmux_orchestrator.ground.errors import DataError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LARGEST = 1 << 20  # bytes of a payload's JSON
FIRST, LAST = 1, 10  # priorities
_PRIORITIES = range(FIRST, LAST + 1)
STATUSES = ("queued", "running", "completed", "failed", "cancelled", "dead")
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:@-")
_ids = Ids()


class Message:
    """One task. `payload` is any JSON object, `priority` 1 (highest) to 10.

    Beside the document's fields: `group` (see `MessageQueue.limit`), `after` (ids of tasks that have to be completed
    before), `not_before` and `expires` (RFC 3339), `correlation_id`, `max_attempts` (None: as configured). What the
    queue gives out also has `attempt` (from 1 on), `token` and `lease_until` (RFC 3339).
    """

    __slots__ = (
        "after",
        "attempt",
        "correlation_id",
        "expires",
        "group",
        "lease_until",
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
        after: tuple[str, ...] | list[str] = (),
        not_before: str | None = None,
        expires: str | None = None,
        correlation_id: str | None = None,
        max_attempts: int | None = None,
    ) -> None:
        self.sender, self.recipient, self.type, self.payload, self.priority = sender, recipient, type, payload, priority
        if not (timestamp and task_id):
            now = clock.now_ns()
            timestamp = timestamp or clock.stamp(now)
            task_id = task_id or _ids.make(now)
        self.timestamp, self.task_id = timestamp, task_id
        self.group, self.after, self.correlation_id = group, tuple(after), correlation_id
        self.not_before, self.expires, self.max_attempts = not_before, expires, max_attempts
        self.attempt, self.token, self.lease_until = 0, "", ""

    def __repr__(self) -> str:
        return f"Message({self.task_id}: {self.sender} -> {self.recipient}, {self.type}, priority {self.priority})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and all(getattr(self, n) == getattr(other, n) for n in self.__slots__)

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
                and len(self.timestamp) == 27
                and self.timestamp.endswith("Z")
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
        moment(self.timestamp, "the timestamp")


def name(text: object, what: str) -> str:
    """The name, if it is one. Raises DataError."""
    if not (isinstance(text, str) and 0 < len(text) <= 64 and text[0].isalnum() and _NAME.issuperset(text)):
        raise DataError(f"{what} is no name of at most 64 letters, digits and ._:@-: correct it")
    return text


def moment(text: str | None, what: str) -> int | None:
    """Nanoseconds since the epoch of an RFC 3339 time in UTC. Raises DataError."""
    if text is None:
        return None
    try:
        return clock.parse_stamp(text)
    except (ValueError, TypeError, IndexError):
        raise DataError(f"{what} is no time such as 2026-11-26T18:00:00Z: correct it") from None
