"""Messages that somebody must acknowledge: repeated when nobody does, then escalated.

An acknowledgment (`eventlog.ack`) from a target closes that target's copy; one from anybody else closes them all.
Pure: times come in (wall clock, nanoseconds).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tmux_orchestrator.delivery.waiting import Item

REPEATS = 3


@dataclass(slots=True)
class Awaited:
    """One typed copy of a message: when to remind, and how often that was done."""

    item: Item
    target: str
    due_ns: int
    repeats: int = 0


class Acks:
    """What has been typed and must be acknowledged, by (event id, target)."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_ns = int(timeout_s * 1e9)
        self._awaited: dict[tuple[str, str], Awaited] = {}
        self.next_ns: int | None = None

    def __len__(self) -> int:
        return len(self._awaited)

    def typed(self, item: Item, target: str, now_ns: int) -> None:
        """A copy (or its repeat) was typed: somebody has `timeout_s` to acknowledge it."""
        awaited = self._awaited.setdefault((item.id, target), Awaited(item, target, 0))
        awaited.repeats = max(awaited.repeats, item.repeat)
        awaited.due_ns = now_ns + self.timeout_ns
        self._plan()

    def due(self, now_ns: int) -> list[Awaited]:
        """Those whose time is up; each is due again after another timeout, or never once `forget` is called."""
        found = [one for one in self._awaited.values() if one.due_ns <= now_ns]
        for one in found:
            one.due_ns = now_ns + self.timeout_ns
        self._plan()
        return found

    def acknowledged(self, event_id: str, by: str) -> list[Awaited]:
        """The copies that an acknowledgment by `by` (session:name) closes."""
        copies = [one for (its_id, _), one in self._awaited.items() if its_id == event_id]
        own = [one for one in copies if one.target == by]
        for one in own or copies:
            del self._awaited[one.item.id, one.target]
        self._plan()
        return own or copies

    def forget(self, event_id: str, target: str) -> None:
        self._awaited.pop((event_id, target), None)
        self._plan()

    def _plan(self) -> None:
        self.next_ns = min((one.due_ns for one in self._awaited.values()), default=None)


def cancelled_id(event: dict[str, Any]) -> str | None:
    """The id that a `cancel` event ends."""
    found = event["message"]["content"]["context"].get("event")
    return found if event["message"]["type"] == "cancel" and isinstance(found, str) else None
