"""The places where one target's messages wait: a queue per rank and sender, and those that are not due yet.

Pure; the rules of who goes first are the outbox's. Invariant: a waiting item is in exactly one place, FIFO by `seq`
within its rank and sender, and `remove` takes it out of everything that knows of it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, NamedTuple

from tmux_orchestrator.delivery.bucket import MINUTE

CRITICAL, HIGH, NORMAL, LOW, GATHERED = range(5)
RANKS = {"critical": CRITICAL, "high": HIGH, "normal": NORMAL, "low": LOW}
SINGLE = (HIGH, NORMAL, LOW)  # typed one by one, under the target's bound
NEVER = 1 << 63
_REPEATED = ("id", "seq", "sender", "priority", "text", "subject", "tags", "created_ns", "requires_ack", "event")
_MOST_SAME = 100
_BACKOFF_NS = MINUTE  # no retry is further away, so one that seems to be was set before the clock ran back


@dataclass(slots=True, eq=False)
class Item:
    """One event on its way to one target. Times are wall clock nanoseconds."""

    id: str
    seq: int
    sender: str  # who takes turns with whom: routing.sender_key
    priority: str
    text: str
    subject: str = ""
    tags: tuple[str, ...] = ()
    created_ns: int = 0
    expires_ns: int | None = None
    not_before_ns: int | None = None
    supersede: str | None = None
    requires_ack: bool = False
    repeat: int = 0  # 0 the first time, 1 for its first repeat
    action: str = "type"  # or "digest" (gathered, whatever its priority) or "hold" (waits until it expires)
    event: dict[str, Any] = field(default_factory=dict)
    # The outbox's own:
    rank: int = field(init=False)  # the queue it waits in
    bounded: bool = field(init=False)  # does the bound of the queue apply? Not to what is critical, nor to repeats
    same: list[Item] = field(default_factory=list)  # identical ones that came right behind it
    more: int = 0  # and those beyond what is kept of them
    retry_ns: int | None = None
    told: bool = False  # a digest line has counted it
    said: bool = False  # `Outbox.held` has named it

    def __post_init__(self) -> None:
        rank = RANKS[self.priority]
        gathered = (rank == LOW or self.action == "digest") and rank != CRITICAL
        self.rank = GATHERED if gathered and not self.requires_ack and not self.repeat else rank
        self.bounded = rank != CRITICAL and not self.repeat

    @property
    def due_ns(self) -> int:
        if self.action == "hold":
            return NEVER
        return max(self.not_before_ns or 0, self.retry_ns or 0)

    def is_due(self, now_ns: int) -> bool:
        if self.due_ns <= now_ns:
            return True
        stale = (self.retry_ns or 0) > now_ns + _BACKOFF_NS
        return stale and (self.not_before_ns or 0) <= now_ns and self.action != "hold"

    def is_expired(self, now_ns: int) -> bool:
        return self.expires_ns is not None and self.expires_ns <= now_ns

    def joins(self, other: Item) -> bool:
        """Is it the same message as the other, which came before it, with nothing that makes it one of its own?"""
        if self.requires_ack or self.supersede or self.repeat or self.retry_ns or other.retry_ns or other.repeat:
            return False
        if other.requires_ack or other.supersede or other.seq > self.seq or other.rank != self.rank:
            return False
        return (other.text, other.subject, other.tags) == (self.text, self.subject, self.tags)

    def again(self, repeat: int) -> Item:
        """The same message for its next repeat, without what was asked of the first time only."""
        return Item(**{name: getattr(self, name) for name in _REPEATED}, repeat=repeat)

    def all(self) -> list[Item]:
        """Itself and the identical ones behind it."""
        return [self, *self.same]


class End(NamedTuple):
    """How an item's wait ended: typed, digested, superseded, expired, or what the caller said."""

    item: Item
    outcome: str
    reason: str


class Waiting:
    """What waits for one target."""

    def __init__(self) -> None:
        self.queues: list[OrderedDict[str, deque[Item]]] = [OrderedDict() for _ in range(5)]
        self.later: dict[str, Item] = {}
        self.carrier: dict[str, Item] = {}  # id -> the waiting item that it is, or is carried by
        self.bounded: Counter[str] = Counter()  # per sender, those that the bound applies to
        self.size = 0  # and of all senders
        self.unsaid: dict[str, Item] = {}
        self.gathered_since: int | None = None
        self.wake_ns = NEVER  # when the next one expires or becomes due
        self._keys: dict[tuple[str, str], Item] = {}

    def insert(self, item: Item, now_ns: int) -> None:
        """Give it, and those that it carries, their place."""
        for one in item.all():
            self.carrier[one.id] = item
        if item.bounded:
            self.bounded[item.sender] += 1
            self.size += 1
        if item.supersede:
            self._keys[item.sender, item.supersede] = item
        self.wake_ns = min(self.wake_ns, item.expires_ns or NEVER)
        if item.is_due(now_ns):
            self._queue(item, now_ns)
        else:
            self.later[item.id] = item
            self.wake_ns = min(self.wake_ns, item.due_ns)

    def _queue(self, item: Item, now_ns: int) -> None:
        queue = self.queues[item.rank].setdefault(item.sender, deque())
        if queue and queue[-1].seq > item.seq:
            queue.insert(bisect_left(queue, item.seq, key=lambda one: one.seq), item)
        else:
            queue.append(item)
        if item.rank == GATHERED and self.gathered_since is None:
            self.gathered_since = now_ns
        for one in item.all():
            if not one.said:
                self.unsaid[one.id] = one

    def carry(self, carrier: Item, item: Item) -> None:
        """Put it behind an identical one; both expire when the later of them does."""
        carrier.same.append(item)
        self.carrier[item.id] = carrier
        self.unsaid[item.id] = item
        self.prolong(carrier, item)

    @staticmethod
    def prolong(carrier: Item, item: Item) -> None:
        if carrier.expires_ns is not None:
            carrier.expires_ns = item.expires_ns and max(carrier.expires_ns, item.expires_ns)

    def remove(self, item: Item) -> None:
        for one in item.all():
            del self.carrier[one.id]
            self.unsaid.pop(one.id, None)
        if item.bounded:
            self.bounded[item.sender] -= 1
            self.size -= 1
            if not self.bounded[item.sender]:
                del self.bounded[item.sender]
        if item.supersede and self._keys.get((item.sender, item.supersede)) is item:
            del self._keys[item.sender, item.supersede]
        if self.later.pop(item.id, None) is None:
            self._unqueue(item)

    def _unqueue(self, item: Item) -> None:
        queues = self.queues[item.rank]
        queues[item.sender].remove(item)
        if not queues[item.sender]:
            del queues[item.sender]
        if not self.queues[GATHERED]:
            self.gathered_since = None

    def take(self, rank: int, sender: str) -> Item:
        """Take the sender's first of a rank; the sender goes to the end of the line."""
        self.queues[rank].move_to_end(sender)
        item = self.queues[rank][sender][0]
        self.remove(item)
        return item

    def tick(self, now_ns: int) -> list[Item]:
        """Queue what has become due; what has expired is taken out and returned.

        What a clock that ran back makes early again waits once more.
        """
        if now_ns < self.wake_ns:
            return []
        expired = []
        self.wake_ns = NEVER
        for item in self.all():
            if item.is_expired(now_ns):
                self.remove(item)
                expired.append(item)
                continue
            self.wake_ns = min(self.wake_ns, item.expires_ns or NEVER)
            if item.is_due(now_ns):
                if item.id in self.later:
                    self._came(item, now_ns)
                continue
            self.wake_ns = min(self.wake_ns, item.due_ns)
            if item.id not in self.later:
                self._unqueue(item)
                self.later[item.id] = item
                for one in item.all():
                    self.unsaid.pop(one.id, None)
        return expired

    def _came(self, item: Item, now_ns: int) -> None:
        """Its time has come: it goes behind an identical one that waits still, or into its queue."""
        queue = self.queues[item.rank].get(item.sender, ())
        before = bisect_left(queue, item.seq, key=lambda one: one.seq)
        last = queue[before - 1] if before else None
        if last is not None and not item.more and item.joins(last) and len(last.same) + len(item.all()) <= _MOST_SAME:
            self.remove(item)
            for one in item.all():
                self.carry(last, one)
            return
        del self.later[item.id]
        self._queue(item, now_ns)

    def ran_back(self, now_ns: int) -> None:
        """The clock ran back: look at everything anew, and let nothing wait for a moment that was."""
        self.wake_ns = 0
        if self.gathered_since is not None:
            self.gathered_since = min(self.gathered_since, now_ns)

    def superseded_by(self, item: Item) -> Item | None:
        """The one with the same key of the same sender."""
        return self._keys.get((item.sender, item.supersede)) if item.supersede else None

    def last_before(self, item: Item) -> Item | None:
        """The last that waits in the queue that it would join."""
        queue = self.queues[item.rank].get(item.sender)
        return queue[-1] if queue else None

    def longest(self, newest: str) -> str:
        """The sender with the most waiting; of several, the one who came last."""
        most = max(self.bounded.values())
        if self.bounded[newest] == most:
            return newest
        return next(sender for sender, count in self.bounded.items() if count == most)

    def least(self, sender: str) -> Item:
        """The sender's newest of the least urgent, among those that the bound applies to."""
        for rank in (GATHERED, LOW, NORMAL, HIGH):
            for item in reversed(self.queues[rank].get(sender, ())):
                if item.bounded:
                    return item
        later = [item for item in self.later.values() if item.sender == sender and item.bounded]
        return max(later, key=lambda item: (item.rank, item.seq))

    def of(self, *ranks: int) -> list[Item]:
        """The queued ones of these ranks, in the order of their turns: one of each sender, then the second of each."""
        found: list[Item] = []
        for rank in ranks:
            queues = self.queues[rank].values()
            if len(queues) == 1:
                found += next(iter(queues))
            else:
                found += [item for row in zip_longest(*queues) for item in row if item is not None]
        return found

    def all(self) -> list[Item]:
        """Everything that waits, about in the order in which it will be typed; identical ones behind the first."""
        return [*self.of(CRITICAL, *SINGLE, GATHERED), *self.later.values()]


def count_of(items: list[Item]) -> int:
    """How many events they stand for, those included that are not kept."""
    return sum(len(item.all()) + item.more for item in items)


def ended(items: list[Item], outcome: str, reason: str) -> list[End]:
    """Of each that waited, those that it carried included."""
    return [End(one, outcome, reason) for item in items for one in item.all()]
