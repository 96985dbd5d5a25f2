"""Which of the messages that wait for one target is typed next, and what becomes of the others.

Pure: times come in (wall clock, nanoseconds), decisions come out. The caller owns the bucket and the windows and says
by `Room` what they allow; docs/flood.md tells the rule. Invariant: every item that was added reaches exactly
one end, and each call that ends items returns them. Nothing is stored here: after a crash the broker adds
again, in the order of `seq`, what its journal says has not ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from tmux_orchestrator.delivery.bucket import SECOND
from tmux_orchestrator.delivery.shares import Shares
from tmux_orchestrator.delivery.turns import (
    BY_DIGEST,
    BY_LINE,
    BY_SAME,
    BY_SIZE,
    DIGEST,
    DIGESTED,
    EXPIRED,
    LINE,
    MESSAGE,
    PAIR_CAP,
    RATE_LIMITED,
    SUPERSEDED,
    TYPED,
    Room,
    Typing,
)
from tmux_orchestrator.delivery.waiting import CRITICAL, GATHERED, NEVER, SINGLE, End, Item, Waiting, count_of, ended

_USUAL = {MESSAGE: (TYPED, ""), DIGEST: (DIGESTED, BY_DIGEST), LINE: (DIGESTED, BY_LINE)}

QUIET_NS = 2 * SECOND  # the digest line waits for the flood to pause for so long
LONGEST_NS = 20 * SECOND  # and never for longer than this
_TOGETHER = ""  # what is gathered takes its turn as one sender


class Outbox:
    """The waiting items of one target."""

    def __init__(
        self, limit: int = 10, queue_size: int = 100, digest_ms: int = 500, pair_limit: int = 0, owed: int = 0
    ) -> None:
        """`limit`: what the caller's window lets through in a minute, to be shared out; 0: no limit.

        `digest_ms`: low ones are in the pane that long after the first of them came. `pair_limit`: what one sender
        may have typed in a minute, lest two agents echo each other; 0: no limit. `owed`: as before a restart.
        """
        self.limit = limit
        self.queue_size = queue_size
        self.per_frame = 1  # how many messages one frame holds, about
        self.gather_ns = digest_ms * 800_000  # a fifth is left for the typing
        self.pair_limit = pair_limit
        self.owed = owed  # how many ended over the bound of the queue that no digest line has told yet
        self._owed_since = NEVER
        self._waiting = Waiting()
        self._flying: set[str] = set()
        self._shares = Shares()
        self._blocked_since: int | None = None
        self._last_add = 0
        self._now = 0

    def add(self, item: Item, now_ns: int) -> list[End]:
        """Let it wait. An id that waits already, or is being typed, is not added again."""
        if item.id in self:
            return []
        if item.is_expired(now_ns):
            return [End(item, EXPIRED, "")]
        ends, newest = self._supersede(item)
        if not newest:
            return ends
        self._last_add = now_ns
        last = self._waiting.last_before(item)
        if last is not None and item.is_due(now_ns) and item.joins(last):
            return self._join(last, item)
        self._waiting.insert(item, now_ns)
        return ends + self._overflow(item.sender)

    def next(self, now_ns: int, room: Room) -> tuple[Typing | None, list[End]]:
        """What to type now, and what expired meanwhile."""
        if now_ns < max(self._now, self._last_add):
            self._waiting.ran_back(now_ns)
            self._last_add = min(self._last_add, now_ns)
        self._now = now_ns
        self._shares.prune(now_ns)
        ends = ended(self._waiting.tick(now_ns), EXPIRED, "")
        return self._message(now_ns, room) or self._line(now_ns, room), ends

    def join(self, typing: Typing, fits: Callable[[Item], bool]) -> bool:
        """Let the next message in turn go in the same frame, if it fits; False when it does not, or none is left.

        Not what is critical, and not what is gathered: these have frames of their own. A sender has one frame the more,
        however many of its messages are in it.
        """
        for rank in SINGLE:
            for sender, queue in self._waiting.queues[rank].items():
                known = sender == typing.sender or sender in typing.joined
                if not known and self._is_capped(sender):
                    continue
                if not fits(queue[0]):
                    return False
                item = self._waiting.take(rank, sender)
                typing.items.append(item)
                typing.since_ns = min(typing.since_ns, item.created_ns)
                self._flying.update(one.id for one in item.all())
                if not known:
                    typing.joined.append(sender)
                    self.remember(sender, typing.taken_ns)
                return True
        return False

    def precedes(self, rank: int) -> bool:
        """Does something wait that goes before this rank?"""
        return any(self._waiting.queues[better] for better in range(rank))

    def done(self, typing: Typing, outcome: str = "", reason: str = "") -> list[End]:
        """It was typed; or it is given up, with the outcome that you say."""
        if not outcome:
            outcome, reason = _USUAL[typing.kind]
        self._flying.difference_update(one.id for one in typing.all())
        return ended(typing.items, outcome, reason)

    def back(self, typing: Typing, now_ns: int, retry_ns: int | None = None) -> list[End]:
        """It was not typed: everything returns to its place, to be tried again when there is room.

        `retry_ns`: not before then, and let the others go first; at most a minute away.
        """
        self._flying.difference_update(one.id for one in typing.all())
        ends: list[End] = []
        for item in typing.items:
            item.retry_ns = retry_ns
            replaced, newest = self._supersede(item)
            ends += replaced
            if newest:
                self._waiting.insert(item, now_ns)
        if typing.kind == LINE:
            for item in typing.told:
                item.told = False
            self._owe(typing.owed, typing.since_ns)
            self._blocked_since = 0
        elif not typing.critical:
            for sender in (typing.sender, *typing.joined):
                self._shares.forget(sender, typing.taken_ns)
        return ends

    def held(self, room: Room) -> list[tuple[Item, str]]:
        """Those that were due at the last `next` and have no room, each named once in its life, and why."""
        found = []
        for item in self._waiting.unsaid.values():
            critical = item.rank == CRITICAL
            if not (room.critical if critical else room.normal):
                found.append((item, RATE_LIMITED))
            elif not critical and self._is_capped(item.sender):
                found.append((item, PAIR_CAP))
        for item, _ in found:
            item.said = True
            del self._waiting.unsaid[item.id]
        return found

    def end(self, event_id: str, outcome: str, reason: str = "") -> list[End]:
        """End one that waits (it was acknowledged, say). Nothing if it does not wait."""
        item = self._waiting.carrier.get(event_id)
        if item is None:
            return []
        self._waiting.remove(item)
        whole, item.same = item.all(), []
        rest = [one for one in whole if one.id != event_id]
        if rest:
            rest[0].same, rest[0].more, rest[0].expires_ns = rest[1:], item.more, item.expires_ns
            self._waiting.insert(rest[0], self._now)
        return [End(one, outcome, reason) for one in whole if one.id == event_id]

    def clear(self, outcome: str, reason: str = "") -> list[End]:
        """End everything that waits."""
        items = self._waiting.all()
        for item in items:
            self._waiting.remove(item)
        self.owed, self._owed_since = 0, NEVER
        return ended(items, outcome, reason)

    def remember(self, sender: str, typed_ns: int) -> None:
        """After a restart: this sender had a frame typed then."""
        self._shares.note(sender, typed_ns)

    def wake_ns(self) -> int | None:
        """The next moment at which time alone changes something; None for never. To watch for room is the caller's."""
        gathered, blocked = self._waiting.gathered_since, self._blocked_since
        moments = [
            self._waiting.wake_ns,
            NEVER if gathered is None else gathered + self.gather_ns,
            NEVER if blocked is None else self._settles_ns(blocked),
            (self._shares.next_ns() if self.pair_limit else None) or NEVER,
        ]
        soonest = min((at for at in moments if at > self._now), default=NEVER)
        return soonest if soonest < NEVER else None

    def waiting(self) -> list[Item]:
        """What waits, about in the order in which it will be typed; identical ones behind the first."""
        return self._waiting.all()

    def rests(self, now_ns: int) -> bool:
        """Does nothing want a turn: is all that waits for a time that has not come, or held by a rule?"""
        return (
            not self.owed
            and max(self._now, self._last_add) <= now_ns < self._waiting.wake_ns
            and not any(self._waiting.queues)
        )

    def __len__(self) -> int:
        """How many messages wait, identical ones included."""
        return len(self._waiting.carrier)

    def __bool__(self) -> bool:
        """Is there anything to type, a digest line about what has ended included?"""
        return len(self) > 0 or self.owed > 0

    def __contains__(self, event_id: str) -> bool:
        """Does it wait, or is it being typed?"""
        return event_id in self._waiting.carrier or event_id in self._flying

    def _supersede(self, item: Item) -> tuple[list[End], bool]:
        """End the older of two with one key; is the given one the newer?"""
        other = self._waiting.superseded_by(item)
        if other is None:
            return [], True
        if other.seq > item.seq:
            return ended([item], SUPERSEDED, other.id), False
        self._waiting.remove(other)
        return ended([other], SUPERSEDED, item.id), True

    def _join(self, last: Item, item: Item) -> list[End]:
        """Only right behind an identical one: start, stop, start must not become start, stop."""
        if len(last.same) < self.queue_size:
            self._waiting.carry(last, item)
            return []
        last.more += 1
        self._waiting.prolong(last, item)
        return [End(item, DIGESTED, BY_SAME)]

    def _overflow(self, newest: str) -> list[End]:
        """Beyond the bound, who has the most waiting loses the newest of the least urgent."""
        ends = []
        while self._waiting.size > self.queue_size:
            item = self._waiting.least(self._waiting.longest(newest))
            self._waiting.remove(item)
            self._owe(len(item.all()), item.created_ns)
            ends += ended([item], DIGESTED, BY_SIZE)
        return ends

    def _owe(self, count: int, since_ns: int) -> None:
        if count:
            self.owed += count
            self._owed_since = min(self._owed_since, since_ns)

    def _message(self, now_ns: int, room: Room) -> Typing | None:
        queues = self._waiting.queues
        if room.critical and queues[CRITICAL]:
            return self._take(CRITICAL, next(iter(queues[CRITICAL])), now_ns)
        if not room.normal:
            return None
        share = self._shares.fair(self._waiting, self.limit)
        since = self._waiting.gathered_since
        gathered = since is not None and now_ns >= since + self.gather_ns
        for most in (share, NEVER) if share else (NEVER,):
            for rank in SINGLE:
                for sender in queues[rank]:
                    if self._shares.of[sender] < most and not self._is_capped(sender):
                        return self._take(rank, sender, now_ns)
            if gathered and self._shares.of[_TOGETHER] < most:
                return self._take_gathered(now_ns)
        return None

    def _is_capped(self, sender: str) -> bool:
        return 0 < self.pair_limit <= self._shares.of[sender]

    def _take(self, rank: int, sender: str, now_ns: int) -> Typing:
        item = self._waiting.take(rank, sender)
        return self._flown(Typing(MESSAGE, [item], count_of([item]), item.created_ns, rank == CRITICAL, sender, now_ns))

    def _take_gathered(self, now_ns: int) -> Typing:
        items = self._waiting.of(GATHERED)
        for item in items:
            self._waiting.remove(item)
        kind, since_ns = (DIGEST if len(items) > 1 else MESSAGE), min(item.created_ns for item in items)
        return self._flown(Typing(kind, items, count_of(items), since_ns, taken_ns=now_ns))

    def _flown(self, typing: Typing) -> Typing:
        self._flying.update(one.id for one in typing.all())
        if not typing.critical and (self.limit or self.pair_limit):
            self.remember(typing.sender, typing.taken_ns)
        return typing

    def _line(self, now_ns: int, room: Room) -> Typing | None:
        """One line for all that waits for room; what is beyond the next minute's frames ends with it."""
        since = self._blocked_since
        if not room.line or (since is not None and now_ns < self._settles_ns(since)):
            return None
        fresh = [one for item in self._blocked(room) for one in item.all() if not one.told]
        if not fresh and not self.owed:
            self._blocked_since = None
            return None
        if since is None:
            self._blocked_since = now_ns
            if now_ns < self._settles_ns(now_ns):
                return None
        since_ns = min([now_ns, self._owed_since, *(item.created_ns for item in fresh)])
        count = len(fresh) + sum(item.more for item in fresh) + self.owed
        line = Typing(LINE, self._beyond(), count, since_ns, taken_ns=now_ns, told=fresh, owed=self.owed)
        for item in line.items:
            self._waiting.remove(item)
        self._flying.update(one.id for one in line.all())
        for item in fresh:
            item.told = True
        self.owed, self._owed_since, self._blocked_since = 0, NEVER, None
        return line

    def _settles_ns(self, since: int) -> int:
        return min(self._last_add + QUIET_NS, since + LONGEST_NS)

    def _blocked(self, room: Room) -> list[Item]:
        """What is due and was not taken by `_message`."""
        critical = () if room.critical else (CRITICAL,)
        gathered = () if room.normal else (GATHERED,)
        return self._waiting.of(*critical, *SINGLE, *gathered)

    def _beyond(self) -> list[Item]:
        """What would not be typed within the next minute, if each sender has its share of that."""
        order = self._waiting.of(*SINGLE)
        if not self.limit:
            return []
        gathered, limit = bool(self._waiting.queues[GATHERED]), self.limit * self.per_frame
        share = max(1, limit // max(1, len({item.sender for item in order}) + gathered))
        kept: set[str] = set()
        used: Counter[str] = Counter()
        for most in (share, limit):
            for item in order:
                if len(kept) < limit - gathered and item.id not in kept and used[item.sender] < most:
                    kept.add(item.id)
                    used[item.sender] += 1
        return [item for item in order if item.id not in kept and item.bounded]
