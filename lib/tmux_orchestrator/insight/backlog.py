"""What waits to be typed, why, and how far the broker is behind the log.

While a broker runs, it says so itself in logs/run/broker.json, at most a second late. While none runs, its journal
says what it owes, and what the log holds beyond its place has not even been looked at. What was sent to names that
nobody has yet stands in the journal alone. Read only.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tmux_orchestrator.agents import registry
from tmux_orchestrator.delivery.journal import Memory
from tmux_orchestrator.eventlog import follow, reader
from tmux_orchestrator.eventlog.days import DAY_NS, days
from tmux_orchestrator.eventlog.event import RECORDS
from tmux_orchestrator.ground import clock, fastjson, files, pidfile
from tmux_orchestrator.ground.errors import DataError
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.insight import words

_DECODED = 2000  # events beyond the place that are looked into one by one
NOBODY = "not_registered"
_LATE_S = 1.5  # so old may be what a broker says of itself


@dataclass(slots=True)
class Waiting:
    """The messages for one target. `hold`: why the pane is left alone, `since` when; both "" where it is not."""

    target: str
    queued: int
    hold: str = ""
    since: str = ""
    rate_limited: bool = False


@dataclass(slots=True)
class Backlog:
    """`pid` 0: no broker runs. `lag_events` have not been taken in, `lag_since` is the stamp of the first of them."""

    pid: int = 0
    waiting: list[Waiting] = field(default_factory=list)
    awaiting_ack: int = 0
    damaged: int = 0
    lag_events: int = 0
    lag_since: str = ""
    lag_addressed: int = 0

    @property
    def queued(self) -> int:
        return sum(one.queued for one in self.waiting)

    @property
    def held(self) -> int:
        return sum(one.queued for one in self.waiting if one.hold)

    @property
    def rate_limited(self) -> int:
        return sum(one.queued for one in self.waiting if one.rate_limited and not one.hold)

    def of(self, target: str) -> Waiting | None:
        return next((one for one in self.waiting if one.target == target), None)


def read(home: Home) -> Backlog:
    """What waits now. Raises SystemFailure."""
    pid = pidfile.running(home, "broker") or 0
    told, memory = _told(home, pid), journal(home)
    if told is None:
        found, place = Backlog(pid), follow.place_from(memory.place)
        _owed(found, memory)
    else:
        found, place = _live(pid, told), follow.place_from(told.get("place"))
    _parked(home, found, memory)
    _lag(home, found, place)
    if found.pid and words.age_s(found.lag_since, clock.now_ns()) < _LATE_S:
        found.lag_events, found.lag_addressed, found.lag_since = 0, 0, ""
    return found


def _told(home: Home, pid: int) -> dict[str, Any] | None:
    """What the broker that runs says of itself; None for what an earlier one said."""
    data = files.read(home.run + "/broker.json") if pid else None
    try:
        told = fastjson.loads(data or b"")
    except ValueError:
        return None
    return told if isinstance(told, dict) and told.get("pid") == pid else None


def _live(pid: int, told: dict[str, Any]) -> Backlog:
    found = Backlog(pid, awaiting_ack=told.get("awaiting_ack", 0), damaged=told.get("damaged", 0))
    for target, one in told.get("targets", {}).items():
        limited = bool(one["rate_limited"])
        found.waiting.append(Waiting(target, one["queued"], one["hold"] or "", one["since"] or "", limited))
    return found


def journal(home: Home) -> Memory:
    """What the broker's journal says that it owes, whether one runs or not."""
    memory = Memory()
    for line in (files.read(home.run + "/broker.journal", 1 << 30) or b"").split(b"\n")[:-1]:
        try:
            memory.apply(fastjson.loads(line))
        except (ValueError, TypeError, KeyError, IndexError):
            continue
    return memory


def _owed(found: Backlog, memory: Memory) -> None:
    by_target: dict[str, Waiting] = {}
    for (_, target), owed in memory.owed.items():
        if owed.typed_ns:
            found.awaiting_ack += 1
            continue
        one = by_target.setdefault(target, Waiting(target, 0))
        one.queued += 1
        one.hold = next((reason for reason in reversed(owed.told) if reason != "late"), one.hold)
    found.waiting = list(by_target.values())


def _parked(home: Home, found: Backlog, memory: Memory) -> None:
    """What was sent with --queue to names that nobody has: the broker counts it for no pane."""
    try:
        known = {agent.key for agent in registry.load(home)}
    except DataError:
        return  # it cannot be told who is there
    counts = Counter(target for (_, target), owed in memory.owed.items() if not owed.typed_ns)
    for target, count in counts.items():
        if target in known or target.rpartition(":")[2].startswith(("%", "pane-")):
            continue
        waiting = found.of(target)
        if waiting is None:
            found.waiting.append(Waiting(target, count, NOBODY))
        elif not waiting.hold:
            waiting.hold = NOBODY


def _lag(home: Home, found: Backlog, place: follow.Place | None) -> None:
    """Count the lines beyond the place; without one, a broker begins with yesterday."""
    follower = follow.Follower(home, place or yesterday(home))
    try:
        while lines := follower.read():
            for line in lines[: max(0, _DECODED - found.lag_events)]:
                event = reader.decode(line) or {}
                found.lag_since = found.lag_since or str(event.get("timestamp", ""))
                found.lag_addressed += _is_addressed(event)
            found.lag_events += len(lines)
    finally:
        follower.close()


def yesterday(home: Home) -> follow.Place:
    """Where a broker without a journal begins."""
    first = clock.local_day(clock.now_ns() - DAY_NS)
    existing = [day for day in days(home) if day >= first]
    return follow.Place(existing[0]) if existing else follow.Place()


def _is_addressed(event: dict[str, Any]) -> bool:
    try:
        to = event["to"]
        return event["message"]["type"] not in RECORDS and bool(to.get("targets") or to.get("groups"))
    except (KeyError, TypeError, AttributeError):
        return False
