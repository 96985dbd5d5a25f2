"""Reading the log: bytes first, decoding last.

A `Query` says which events are wanted. From it follow needles, bytes that a wanted line must hold; lines without
them are never decoded. Time is found by bisection, the last N backwards from the end. A line that does not parse
is damage: it is counted and stepped over. What stands after the last newline is not there yet.
"""

from __future__ import annotations

import mmap
import os

from tmux_orchestrator.eventlog.daylog import DAY_NS, day_file, days, parse_stamp
from tmux_orchestrator.eventlog.event import render
from tmux_orchestrator.ground import clock, fastjson, files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from tmux_orchestrator.ground.paths import Home


class Query:
    """Which events: a field that is None or empty asks nothing. Times are nanoseconds, `until` exclusive.

    `addressed` holds alternatives: (targets, groups, context session) of which one must match; `pattern` is a
    function over `raw_message`; `damaged` counts the lines that were stepped over.
    """

    def __init__(self) -> None:
        self.since: int | None = None
        self.until: int | None = None
        self.ids: list[str] = []
        self.types: list[str] = []
        self.priorities: list[str] = []
        self.tags: list[str] = []
        self.groups: list[str] = []
        self.senders: list[str] = []
        self.match: Callable[[dict[str, Any]], bool] | None = None
        self.pattern: Callable[[str], Any] | None = None
        self.damaged = 0

    def needles(self) -> list[bytes]:
        """Bytes that every wanted line holds."""
        found = [f'"{tag}"' for tag in self.tags if _plain(tag)]
        for wanted in (self.types, self.priorities, self.groups, self.senders):
            if len(wanted) == 1 and _plain(wanted[0]):
                found.append(f'"{wanted[0]}"')
        if len(self.ids) == 1 and _plain(self.ids[0]):
            found.append(f'{self.ids[0]}"')
        return sorted((needle.encode("ascii") for needle in found), key=len, reverse=True)

    def wants(self, event: dict[str, Any]) -> bool:
        """Does the decoded event match? A field of another shape than ours does not."""
        try:
            return self._wants(event)
        except (KeyError, TypeError, AttributeError, ValueError):
            return False

    def _wants(self, event: dict[str, Any]) -> bool:
        message, metadata = event["message"], event.get("metadata") or {}
        if self.ids and not any(_is_called(event["id"], wanted) for wanted in self.ids):
            return False
        if self.types and message["type"] not in self.types:
            return False
        if self.priorities and message["priority"] not in self.priorities:
            return False
        if self.tags and not set(self.tags) <= set(metadata.get("tags") or ()):
            return False
        if self.groups and not set(self.groups) & set(event["to"].get("groups") or ()):
            return False
        if self.senders and not _sent_by(event["source"], self.senders):
            return False
        if self.since is not None and parse_stamp(event["timestamp"]) < self.since:
            return False
        if self.until is not None and parse_stamp(event["timestamp"]) >= self.until:
            return False
        if self.match is not None and not self.match(event):
            return False
        return self.pattern is None or bool(self.pattern(render(event)))


def _plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and '"' not in text and "\\" not in text


def _is_called(event_id: str, wanted: str) -> bool:
    return event_id == wanted or (len(wanted) >= 6 and event_id.endswith(wanted))


def _sent_by(source: dict[str, Any], senders: list[str]) -> bool:
    name, session = source.get("identifier"), source.get("session")
    return name in senders or f"{session}:{name}" in senders


def decode(line: bytes) -> dict[str, Any] | None:
    """The event of one line; None for damage."""
    try:
        event = fastjson.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


class DayFile:
    """One day file, mapped; only what is complete (ends in a newline) counts."""

    def __init__(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            size = os.fstat(fd).st_size
            self.map = mmap.mmap(fd, size, prot=mmap.PROT_READ) if size else b""
        finally:
            os.close(fd)
        self.end = self.map.rfind(b"\n") + 1

    def forward(self, start: int, needles: list[bytes]) -> Iterator[bytes]:
        """Whole lines from `start` on that hold every needle."""
        find, data, end = self.map.find, self.map, self.end
        if not needles:
            while start < end:
                stop = find(b"\n", start, end)
                yield data[start:stop]
                start = stop + 1
            return
        first, rest = needles[0], needles[1:]
        while (hit := find(first, start, end)) >= 0:
            begin = data.rfind(b"\n", start, hit) + 1 or start
            stop = find(b"\n", hit, end)
            line = data[begin:stop]
            if all(needle in line for needle in rest):
                yield line
            start = stop + 1

    def backward(self, floor: int, needles: list[bytes]) -> Iterator[bytes]:
        """The same lines, last first, down to `floor`."""
        rfind, data, stop = self.map.rfind, self.map, self.end
        first, rest = (needles[0], needles[1:]) if needles else (b"\n", [])
        while stop > floor:
            hit = rfind(first, floor, stop)
            if hit < 0:
                return
            end = data.find(b"\n", hit, stop) if needles else stop - 1
            begin = max(rfind(b"\n", floor, hit if needles else end) + 1, floor)
            line = data[begin:end]
            if all(needle in line for needle in rest):
                yield line
            stop = begin

    def at_or_after(self, ns: int) -> int:
        """Where the first line stamped `ns` or later begins, in a file whose stamps never fall."""
        low, high = 0, self.end
        wanted = clock.stamp(ns).encode("ascii")
        while low < high:
            middle = (low + high) // 2
            begin = self.map.rfind(b"\n", 0, middle) + 1
            stamp, after = self._stamp_from(begin, high)
            if stamp is not None and stamp < wanted:
                low = after
            else:
                high = begin
        return low

    def _stamp_from(self, begin: int, limit: int) -> tuple[bytes | None, int]:
        """The stamp of the first line from `begin` on that has one, and where the line after it begins."""
        while begin < limit:
            stop = self.map.find(b"\n", begin, self.end)
            at = self.map.find(b'"timestamp": "', begin, stop)
            if at >= 0:
                return self.map[at + 14 : at + 41], stop + 1
            begin = stop + 1
        return None, limit


def _stepped(home: Home) -> set[str]:
    """The days in which the clock was set back: no bisection there."""
    data = files.read(home.run + "/clock_steps")
    return set(data.decode("ascii", "replace").split()) if data else set()


def lines(home: Home, query: Query, backward: bool = False) -> Iterator[bytes]:
    """The lines that may match, oldest first or newest first; the caller decodes and asks `wants`."""
    needles, stepped = query.needles(), _stepped(home)
    wanted = days(home)
    if query.since is not None:
        first = clock.local_day(query.since - DAY_NS)
        wanted = [day for day in wanted if day >= first]
    for day in reversed(wanted) if backward else wanted:
        try:
            file = DayFile(day_file(home, day))
        except OSError:
            continue
        start = 0 if query.since is None or day in stepped else file.at_or_after(query.since)
        yield from file.backward(start, needles) if backward else file.forward(start, needles)


def search(home: Home, query: Query, backward: bool = False) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Matching events with their lines. Damage is counted in the query."""
    for line in lines(home, query, backward):
        event = decode(line)
        if event is None:
            query.damaged += 1
        elif query.wants(event):
            yield line, event


def last(home: Home, query: Query, count: int) -> list[tuple[bytes, dict[str, Any]]]:
    """The last `count` that match, oldest first."""
    found: list[tuple[bytes, dict[str, Any]]] = []
    if count > 0:
        for pair in search(home, query, backward=True):
            found.append(pair)
            if len(found) == count:
                break
    found.reverse()
    return found


def find(home: Home, wanted: str) -> dict[str, Any] | None:
    """The newest event with this id or short id."""
    query = Query()
    query.ids = [wanted]
    found = last(home, query, 1)
    return found[0][1] if found else None
