"""Schedules: what is to be said again and again, or later, kept in registry/schedules.json.

The next occurrence of each is in the log at once, held by its `not_before`, so the broker alone delivers it on time.
Whoever takes a `turn` when it is past (the monitor, or orc-schedule) publishes the next one. The id of an occurrence
follows from its schedule and its time, so that publishing it again stores nothing. Invariant: an occurrence is
published before the file says so; a crash in between publishes it again, under the same id.

What was missed while nobody took turns is sent once: the latest of it, late; not even that when the one that the log
held is still to come, or came after more were due.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, fields
from datetime import UTC, tzinfo
from typing import Any

from tmux_orchestrator.agents import registry
from tmux_orchestrator.eventlog import event, reader
from tmux_orchestrator.eventlog.daylog import Log
from tmux_orchestrator.ground import clock, fastjson, files, timetable
from tmux_orchestrator.ground.clock import parse_stamp, stamp
from tmux_orchestrator.ground.errors import DataError, OrcError, UsageError
from tmux_orchestrator.ground.locks import Lock
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.ground.times import SECOND

Event = dict[str, Any]

NEVER = 1 << 63
CRON, EVERY, AT = "cron", "every", "at"
_MOST = 1000
_LONGEST_S = 10 * 366 * 86_400
_TYPES: dict[str, Any] = {"event": dict, "ttl_s": int | float}
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_REACHED = ("typed", "confirmed", "digested", "acked", "failed", "superseded")


@dataclass(slots=True)
class Schedule:
    """One schedule. Times are stamps; `event` is what is published, but for its id and its times."""

    name: str
    kind: str  # cron, every or at
    when: str  # the expression, the seconds between two, or the time
    since: str  # when it was added: from then on `every` counts
    nonce: str  # tells its occurrences from those of another schedule that had its name
    ttl_s: float  # so long after its time an occurrence may still be typed
    event: Event
    zone: str = ""  # in which `next` was found
    next: str = ""  # the occurrence that the log holds

    @classmethod
    def of(cls, stored: object) -> Schedule:
        """Raises DataError, ValueError, KeyError or TypeError for what is none."""
        if not isinstance(stored, dict):
            raise ValueError
        found = cls(**{one.name: stored[one.name] for one in fields(cls)})
        for one in fields(cls):
            if not isinstance(stored[one.name], _TYPES.get(one.name, str)):
                raise ValueError
        if not (registry.valid_name(found.name) and 0 < found.ttl_s < _LONGEST_S):
            raise ValueError
        event.check(found.event)
        found.rule(UTC)
        for text in (found.since, found.next or found.since):
            parse_stamp(text)
        return found

    def to_dict(self) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def rule(self, zone: tzinfo) -> timetable.Rule:
        """Raises UsageError, ValueError."""
        if self.kind == CRON:
            return timetable.Cron(self.when, zone)
        if self.kind == EVERY:
            return timetable.Every(int(self.when), parse_stamp(self.since))
        if self.kind == AT:
            return timetable.Once(parse_stamp(self.when))
        raise ValueError

    def id_at(self, ns: int) -> str:
        """The id of one occurrence; its last six characters, the short id, are its alone."""
        digest = hashlib.sha256(f"{self.nonce!a} {ns}".encode("ascii")).digest()
        mark = "".join(_ALPHABET[byte & 31] for byte in digest[:6])
        return f"schedule-{self.name}-{stamp(ns)[:19].replace('-', '').replace(':', '')}Z-{mark}"

    def at(self, ns: int) -> Event:
        """The event of one occurrence."""
        made = deepcopy(self.event)
        made["id"] = self.id_at(ns)
        made["metadata"] |= {"not_before": stamp(ns), "expires": stamp(ns + self.ttl_ns)}
        made["message"]["content"]["context"] |= {"schedule": self.name}
        return made

    @property
    def ttl_ns(self) -> int:
        return int(self.ttl_s * SECOND)

    def cancel(self, source: dict[str, Any]) -> Event:
        """The event that ends the occurrence that the log holds."""
        return cancel(self.id_at(parse_stamp(self.next)), source)


def cancel(event_id: str, source: dict[str, Any]) -> Event:
    """The event that ends what waits of another."""
    text = f"Cancelled {event.short(event_id)}"
    return event.build(text, source, type="cancel", priority="low", context={"event": event_id}, reply_to=event_id)


def path(home: Home) -> str:
    return home.registry + "/schedules.json"


def load(home: Home) -> list[Schedule]:
    """Every schedule. Raises DataError when the file is damaged."""
    data = files.read(path(home))
    try:
        stored = fastjson.loads(data)["schedules"] if data else []
        return [Schedule.of(one) for one in stored]
    except (ValueError, TypeError, KeyError, OrcError):
        raise DataError(f"{path(home)} is damaged: mend it, or remove it and add the schedules again") from None


class Schedules:
    """The schedules of one home. `get` reads the configuration."""

    def __init__(self, home: Home, get: Callable[[str], Any]) -> None:
        self.home = home
        self._get = get
        self._lock = Lock(home.registry + "/schedules.lock")
        self._seen: tuple[str, tuple[int, int] | None] | None = None  # what the last turn found
        self._turned = 0
        self._wake = NEVER

    def turn(self, now_ns: int) -> int:
        """Publish what is to come next, where what came last is past; when to be called again, at the latest.

        Cheap while nothing is due. Raises DataError for a damaged file (once for each change of it), TryLater,
        SystemFailure.
        """
        seen = (self._get("events.timezone"), self._stat())
        if seen == self._seen and self._turned <= now_ns < self._wake:
            self._turned = now_ns
            return self._wake
        self._seen, self._turned, self._wake = None, now_ns, NEVER
        if seen[1] is not None:
            try:
                with self._lock:
                    self._wake = self._publish(load(self.home), now_ns)
                    seen = (seen[0], self._stat())
            except DataError:
                self._seen = seen
                raise
        self._seen = seen
        return self._wake

    def add(self, schedule: Schedule, now_ns: int) -> str:
        """Keep it, and publish its first occurrence; its name. A name of its own is found where it has none."""
        with self._lock:
            known = load(self.home)
            names = {one.name for one in known}
            if schedule.name in names:
                raise UsageError(f"there is a schedule {schedule.name!r}: remove it first, or choose another name")
            if len(known) >= _MOST:
                raise UsageError(f"there are {_MOST} schedules: remove some first")
            schedule.name = schedule.name or next(
                name for number in range(1, _MOST + 1) if (name := f"{schedule.kind}-{number}") not in names
            )
            schedule.nonce, schedule.zone = os.urandom(8).hex(), self._get("events.timezone")
            self._publish([*known, schedule], now_ns)
        return schedule.name

    def remove(self, names: list[str], source: dict[str, Any]) -> None:
        """Forget these, and cancel what waits of them."""
        with self._lock:
            known = load(self.home)
            gone = [one for one in known if one.name in names]
            self._log().append([one.cancel(source) for one in gone if one.next])
            self._save([one for one in known if one.name not in names])

    # publishing

    def _publish(self, known: list[Schedule], now_ns: int) -> int:
        """Publish what each has to say, and keep what is not over. When the next of them is past."""
        before = [one.to_dict() for one in known]
        said: list[Event] = []
        kept = [one for one in known if self._one(one, now_ns, said)]
        if said:
            self._log().append(said)
        if [one.to_dict() for one in kept] != before:
            self._save(kept)
        return min((parse_stamp(one.next) for one in kept), default=NEVER)

    def _one(self, one: Schedule, now_ns: int, said: list[Event]) -> bool:
        """Add what it has to say now to `said`; False when nothing comes after that."""
        zone = self._get("events.timezone")
        if one.kind == CRON and one.zone != zone:
            if one.next:
                said.append(one.cancel(one.event["source"]))
            one.nonce, one.next = os.urandom(8).hex(), ""
        one.zone = zone
        rule = one.rule(timetable.zone(zone))
        upcoming = rule.after(now_ns)
        if one.next:
            missed = self._missed(one, rule, now_ns)
        else:
            missed = rule.after(0) if one.kind == AT and upcoming is None else None
        said += [one.at(ns) for ns in (missed, upcoming) if ns is not None and stamp(ns) != one.next]
        one.next = stamp(upcoming) if upcoming is not None else ""
        return upcoming is not None

    def _missed(self, one: Schedule, rule: timetable.Rule, now_ns: int) -> int | None:
        """The latest occurrence that came and went while nobody took turns, if it is still worth saying."""
        held = parse_stamp(one.next)
        second = rule.after(held)
        if second is None or second > now_ns:
            return None
        latest = rule.last(max(held, now_ns - one.ttl_ns), now_ns)
        return None if latest is None or self._covers(one, held, second, now_ns) else latest

    def _covers(self, one: Schedule, held: int, second: int, now_ns: int) -> bool:
        """Does the one that the log holds stand for what came after it: is it still to come, or did it come late?"""
        event_id = one.id_at(held)
        query = reader.Query()
        query.since = held - SECOND
        for file, start, stop in reader.spans(self.home, query):
            for line in file.forward(start, stop, [event_id.encode("ascii")]):
                found = reader.decode(line)
                context = found["message"]["content"]["context"] if found else {}
                if found and context.get("event") == event_id and context.get("outcome") in _REACHED:
                    return found["timestamp"] >= stamp(second)  # type: ignore[no-any-return]
        return now_ns < held + one.ttl_ns

    # on disk

    def _log(self) -> Log:
        return Log(self.home, durable=self._get("events.durability") == "disk", now=clock.now_ns)

    def _save(self, known: list[Schedule]) -> None:
        data = fastjson.dumps({"schedules": [one.to_dict() for one in known]}).encode("ascii") + b"\n"
        files.replace(path(self.home), data)

    def _stat(self) -> tuple[int, int] | None:
        try:
            found = os.stat(path(self.home))
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_ino
