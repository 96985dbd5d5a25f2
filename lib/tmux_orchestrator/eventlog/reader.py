"""Reading the log: bytes first, decoding last.

A `Query` says which events are wanted. From it follow needles, bytes that a wanted line must hold; lines without
them are never decoded. Time is found by bisection, the last N backwards from the end. A line that is no event is
damage: it is counted and stepped over. What stands after the last newline is not there yet.

Files are read in blocks and never mapped: they may be cut while they are read, by whoever takes back a write that
a full disk cut short, and a mapping of what is gone kills the process.
"""

from __future__ import annotations

import os

from tmux_orchestrator.eventlog.days import DAY_NS, day_file, days, stepped
from tmux_orchestrator.eventlog.event import render, shape
from tmux_orchestrator.ground import clock, fastjson
from tmux_orchestrator.ground.clock import parse_stamp
from tmux_orchestrator.ground.errors import DataError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from tmux_orchestrator.ground.paths import Home

    Pair = tuple[bytes, dict[str, Any]]

BLOCK = 1 << 18
_SMALL = 1 << 16  # what is looked through several times stays in the processor's cache
LONGEST = 4 << 20  # bytes without a newline that are taken for a line; more is damage, and handed out in pieces
_NEAR = 1 << 14
# How a line of ours begins, and how nearly all end. Quotes within texts are escaped, so neither stands elsewhere, or
# only in somebody's context: a line that was torn and closed later, or that another was glued to, is told by that.
_HEAD, _TAIL = b'{"id": "', b'"hops": 0}}\n'
_EDGE = _TAIL + _HEAD


class Query:
    """Which events: a field that is None or empty asks nothing. Times are nanoseconds, `until` exclusive.

    `match` is a function over the event, `pattern` one over `raw_message`; `before` is a place in the log, (day,
    offset), where it ends for this query; `damaged` counts the lines that were stepped over.
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
        self.before: tuple[str, int] | None = None
        self.damaged = 0

    def is_plain(self) -> bool:
        """Does it ask for nothing but times?"""
        words = (self.ids, self.types, self.priorities, self.tags, self.groups, self.senders)
        return not any(words) and self.match is None and self.pattern is None

    def needles(self) -> list[bytes]:
        """Bytes that every wanted line holds."""
        found = [f'"{tag}"' for tag in self.tags if _plain(tag)]
        for wanted in (self.types, self.priorities, self.groups):
            if len(wanted) == 1 and _plain(wanted[0]):
                found.append(f'"{wanted[0]}"')
        if len(self.senders) == 1 and _plain(self.senders[0]):
            found.append(f'{self.senders[0].rpartition(":")[2]}"')
        if len(self.ids) == 1 and _plain(self.ids[0]) and self.ids[0] == self.ids[0].upper():
            found.append(f'{self.ids[0]}"')
        return sorted((needle.encode("ascii") for needle in found), key=len, reverse=True)

    def wants(self, event: dict[str, Any]) -> bool:
        """Does the decoded event match?"""
        message = event["message"]
        if self.ids and not any(_is_called(event["id"], wanted) for wanted in self.ids):
            return False
        if self.types and message["type"] not in self.types:
            return False
        if self.priorities and message["priority"] not in self.priorities:
            return False
        if self.tags and not set(self.tags) <= set(event["metadata"]["tags"]):
            return False
        if self.groups and not set(self.groups) & set(event["to"]["groups"]):
            return False
        if self.senders and not _sent_by(event["source"], self.senders):
            return False
        if (self.since is not None or self.until is not None) and not self._in_time(event["timestamp"]):
            return False
        if self.match is not None and not self.match(event):
            return False
        return self.pattern is None or bool(self.pattern(render(event)))

    def _in_time(self, stamp: str) -> bool:
        try:
            ns = parse_stamp(stamp)
        except ValueError:
            return False
        return (self.since is None or ns >= self.since) and (self.until is None or ns < self.until)


def _plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and '"' not in text and "\\" not in text


def _is_called(event_id: str, wanted: str) -> bool:
    """By its whole id, or by the end of it, which may be typed in small letters."""
    return event_id == wanted or (len(wanted) >= 6 and event_id.endswith((wanted, wanted.upper())))


def _sent_by(source: dict[str, Any], senders: list[str]) -> bool:
    name, session = source.get("identifier"), source.get("session")
    return name in senders or f"{session}:{name}" in senders


def decode(line: bytes) -> dict[str, Any] | None:
    """The event of one line, with the parts that readers use; None for damage."""
    try:
        event = shape(fastjson.loads(line))
    except (ValueError, DataError):
        return None
    if type(event.get("id")) is not str or type(event.get("timestamp")) is not str:
        return None
    if type(event.setdefault("seq", 0)) is not int:
        return None
    return event


class DayFile:
    """One day file; only what is complete (ends in a newline) counts. Raises OSError."""

    _fd = -1

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        found = os.fstat(self._fd)
        self.inode, self.end = found.st_ino, found.st_size
        while self.end > 0:
            start = max(0, self.end - _NEAR)
            newline = os.pread(self._fd, self.end - start, start).rfind(b"\n")
            if newline >= 0:
                self.end = start + newline + 1
                break
            self.end = start

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    __del__ = close

    def blocks(self, start: int, stop: int, usual: int) -> Iterator[tuple[bytes, int]]:
        """(bytes, how many of them count): whole lines from `start` to `stop`, in order, `usual` bytes at a time."""
        size = usual
        while start < stop:
            block = os.pread(self._fd, min(size, stop - start), start)
            end = block.rfind(b"\n") + 1
            if not end and len(block) < min(size, stop - start):
                return  # it was cut while we read
            if not end and size < LONGEST:
                size *= 2
                continue
            yield block, end or len(block)
            start += end or len(block)
            size = usual

    def blocks_back(self, floor: int, stop: int) -> Iterator[tuple[bytes, int]]:
        """(bytes, where the first whole line of them begins): the lines from `stop` down to `floor`, last block first.

        The first block is small: mostly the last few lines are asked for.
        """
        size = _NEAR
        while stop > floor:
            start = max(floor, stop - size)
            block = os.pread(self._fd, stop - start, start)
            begin = 0 if start == floor else block.find(b"\n", 0, len(block) - 1) + 1
            if not begin and start > floor and size < LONGEST:
                size *= 4
                continue
            yield block, begin
            stop = start + begin
            size = min(size * 4, BLOCK)

    def forward(self, start: int, stop: int, needles: list[bytes]) -> Iterator[bytes]:
        """Whole lines from `start` to `stop` that hold every needle."""
        for block, end in self.blocks(start, stop, BLOCK):
            if not needles:
                yield from block[:end].removesuffix(b"\n").split(b"\n")
                continue
            if block.rfind(needles[0], 0, end) < 0:
                continue  # twice as fast as `find`, and mostly all there is to do
            find, at = block.find, 0
            while (hit := find(needles[0], at, end)) >= 0:
                begin = block.rfind(b"\n", at, hit) + 1 or at
                at = find(b"\n", hit, end) + 1 or end
                line = block[begin:at].removesuffix(b"\n")
                if all(needle in line for needle in needles[1:]):
                    yield line

    def backward(self, floor: int, stop: int, needles: list[bytes]) -> Iterator[bytes]:
        """The same lines, last first, from `stop` down to `floor`."""
        for block, begin in self.blocks_back(floor, stop):
            if not needles:
                yield from reversed(block[begin:].removesuffix(b"\n").split(b"\n"))
                continue
            rfind, end = block.rfind, len(block)
            while (hit := rfind(needles[0], begin, end)) >= 0:
                after = block.find(b"\n", hit, end)
                after = end if after < 0 else after
                end = max(rfind(b"\n", begin, hit) + 1, begin)
                line = block[end:after]
                if all(needle in line for needle in needles[1:]):
                    yield line

    def at_or_after(self, ns: int) -> int:
        """Where the first line stamped `ns` or later begins, in a file whose stamps never fall."""
        wanted = clock.stamp(ns).encode("ascii")
        low, high = 0, self.end  # before `low` every line is earlier; none that begins at `high` or later is
        while low < high:
            middle = (low + high) // 2
            stamp, after = self._stamp_from(middle, high)
            if stamp is not None and stamp < wanted:
                low = after
            else:
                high = middle
        return self._line_from(low)

    def _line_from(self, at: int) -> int:
        """Where the first line begins that begins at `at` or later."""
        look = at - 1
        while 0 <= look < self.end:
            newline = os.pread(self._fd, _NEAR, look).find(b"\n")
            if newline >= 0:
                return look + newline + 1
            look += _NEAR
        return max(look, 0)

    def _stamp_from(self, at: int, limit: int) -> tuple[bytes | None, int]:
        """The stamp of the first line from `at` to `limit` that has one, and where the line after it begins."""
        begin = self._line_from(at)
        while begin < limit:
            head = os.pread(self._fd, 512, begin).partition(b"\n")[0]
            after = self._line_from(begin + 1)
            found = head.find(b'"timestamp": "')
            if found >= 0:
                return head[found + 14 : found + 41], after
            begin = after
        return None, limit


def spans(home: Home, query: Query, backward: bool = False) -> Iterator[tuple[DayFile, int, int]]:
    """The day files that may hold what is wanted, and from where to where. Each is closed behind the caller."""
    wanted, broken = days(home), stepped(home)
    if query.since is not None:  # a day of grace, for a time zone that was changed
        first = clock.local_day(query.since - DAY_NS)
        wanted = [day for day in wanted if day >= first]
    if query.before is not None:
        wanted = [day for day in wanted if day <= query.before[0]]
    for day in reversed(wanted) if backward else wanted:
        try:
            file = DayFile(day_file(home, day))
        except FileNotFoundError:
            continue  # it was removed as too old
        try:
            start, stop = 0, file.end
            if query.before is not None and day == query.before[0]:
                stop = min(stop, query.before[1])
            if query.since is not None and day not in broken:
                start = file.at_or_after(query.since)
            if query.until is not None and day not in broken:
                stop = min(stop, file.at_or_after(query.until + 999))
            yield file, start, stop
        finally:
            file.close()


def search(home: Home, query: Query, backward: bool = False) -> Iterator[Pair]:
    """Matching events with their lines, oldest first or newest first. Damage is counted in the query."""
    needles = query.needles()
    for file, start, stop in spans(home, query, backward):
        way = file.backward if backward else file.forward
        for line in way(start, stop, needles):
            event = decode(line)
            if event is None:
                query.damaged += bool(line)
            elif query.wants(event):
                yield line, event


def whole(home: Home, query: Query) -> Iterator[tuple[bytes, int]]:
    """The lines of a plain query, oldest first, in blocks as they stand, and how many each holds.

    They are looked through for damage, not decoded.
    """
    for file, start, stop in spans(home, query):
        for block, end in file.blocks(start, stop, _SMALL):
            count = _count(block, end)
            if count:
                yield block[:end], count
                continue
            lines = block[:end].removesuffix(b"\n").split(b"\n")
            sound = [line for line in lines if decode(line) is not None]
            query.damaged += sum(map(bool, lines)) - len(sound)
            yield b"".join([line + b"\n" for line in sound]), len(sound)


def _count(block: bytes, end: int) -> int:
    """How many lines there are up to `end`, if each begins and ends as ours do and holds no second beginning; else 0.

    Between two such lines stands an edge. Counting is half the work of splitting and looking at each.
    """
    count = block.count(b"\n", 0, end)
    if block.startswith(_HEAD) and block.endswith(_TAIL, 0, end) and block.count(_EDGE, 0, end) == count - 1:
        return count if block.count(_HEAD, 0, end) == count else 0
    return 0


def last(home: Home, query: Query, count: int) -> list[Pair]:
    """The last `count` that match, oldest first."""
    found: list[Pair] = []
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
