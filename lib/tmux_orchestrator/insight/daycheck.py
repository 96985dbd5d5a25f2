"""Is a day file whole? Every line, with file, byte offset and reason for each that is not; and the sequence.

Damage is what a crash, a full disk or an editor leaves: readers step over it. A last line without its newline is torn
for good only if nobody is just writing it, so the newest file is looked at again under the log's lock. Numbers of
the sequence that are missing were lines once; one that falls back, or an id that comes twice within a week, means that
somebody wrote past the log. Read only.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tmux_orchestrator.eventlog import event, reader
from tmux_orchestrator.eventlog.chosen import MEMORY_NS
from tmux_orchestrator.eventlog.days import day_file, days
from tmux_orchestrator.ground import fastjson
from tmux_orchestrator.ground.clock import parse_stamp
from tmux_orchestrator.ground.errors import DataError, OrcError
from tmux_orchestrator.ground.locks import Lock
from tmux_orchestrator.ground.paths import Home

_BLOCK = 1 << 20


@dataclass(slots=True)
class Finding:
    """`kind`: damaged, torn, duplicate, gap or fall. `line` counts from 1, `offset` bytes from 0."""

    kind: str
    file: str
    offset: int
    line: int
    reason: str

    def text(self) -> str:
        return f"{self.file}: byte {self.offset}, line {self.line}: {self.kind}: {self.reason}"

    def record(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("kind", "file", "offset", "line", "reason")}


@dataclass(slots=True)
class Check:
    """What was found so far; `take` a day at a time, in order."""

    home: Home
    events: int = 0
    size: int = 0
    files: int = 0
    found: list[Finding] = field(default_factory=list)
    _seq: int = 0
    _ids: dict[str, int] = field(default_factory=dict)

    def take(self, day: str, newest: bool, from_byte: int = 0) -> None:
        """Read one day file, from the first line that begins at `from_byte` or later. A day without one is nothing."""
        path = day_file(self.home, day)
        try:
            file = open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=_BLOCK)
        except FileNotFoundError:
            return
        with file:
            self.files += 1
            line, offset = _skip(file.fileno(), from_byte) if from_byte else (0, 0)
            file.seek(offset)
            day_ns = parse_stamp(day + "T00:00:00.000000Z")
            for data in file:
                line += 1
                if not data.endswith(b"\n"):
                    self._torn(path, offset, line, data, newest)
                    break  # what comes now is being written
                if data != b"\n":
                    self._line(path, offset, line, data[:-1], day_ns)
                offset += len(data)
            self.size += offset

    def _line(self, path: str, offset: int, line: int, data: bytes, day_ns: int) -> None:
        self.events += 1
        told, reason = decoded(data)
        if told is None:
            self.found.append(Finding("damaged", path, offset, line, reason))
            return
        event_id, seq = told["id"], told["seq"]
        known = self._ids.get(event_id)
        if known is not None and day_ns - known < MEMORY_NS:
            self.found.append(Finding("duplicate", path, offset, line, f"id {event_id} was there before"))
        self._ids[event_id] = day_ns
        if not seq:
            return  # somebody's own line: readers take it, the log did not number it
        if self._seq and seq <= self._seq:
            self.found.append(Finding("fall", path, offset, line, f"seq {seq} after {self._seq}"))
        elif self._seq and seq > self._seq + 1:
            missing = seq - self._seq - 1
            reason = f"{missing} missing between seq {self._seq} and {seq}"
            self.found.append(Finding("gap", path, offset, line, reason))
        self._seq = max(seq, self._seq)

    def _torn(self, path: str, offset: int, line: int, data: bytes, newest: bool) -> None:
        if newest and not _is_torn(self.home, path, offset + len(data)):
            return
        reason = f"{len(data)} bytes without a newline at the end"
        self.found.append(Finding("torn", path, offset, line, reason))

    def forget_order(self) -> None:
        """The next day does not follow the one before: its sequence begins anew."""
        self._seq = 0


def check(home: Home, wanted: Iterable[str] | None = None) -> Check:
    """Check these days, or all that have a file."""
    existing = days(home)
    found = Check(home)
    before = ""
    for day in existing if wanted is None else sorted(set(wanted)):
        if before and existing.index(day) != existing.index(before) + 1:
            found.forget_order()
        found.take(day, newest=day == existing[-1])
        before = day
    return found


def damage(home: Home, most_bytes: int) -> list[Finding]:
    """The damaged lines of the newest two days, of each the last `most_bytes` at most."""
    existing, found = days(home), Check(home)
    for day in existing[-2:]:
        size = os.stat(day_file(home, day)).st_size
        found.take(day, day == existing[-1], max(0, size - most_bytes))
        found.forget_order()
    return [one for one in found.found if one.kind in ("damaged", "torn")]


def decoded(line: bytes) -> tuple[dict[str, Any] | None, str]:
    """The event of a line, as every reader sees it; else None, and what is wrong with it."""
    told = reader.decode(line)
    if told is None:
        return None, _why(line)
    try:
        parse_stamp(told["timestamp"])
    except ValueError:
        return None, f"{told['timestamp']!r} is no timestamp"
    return told, ""


def _why(line: bytes) -> str:
    try:
        event.shape(fastjson.loads(line))
    except ValueError:
        return "not JSON"
    except DataError as error:
        return str(error).partition(": see ")[0]
    return "it has no id, no timestamp, or another type of seq"


def _is_torn(home: Home, path: str, end: int) -> bool:
    """With the log's lock held, nobody is writing: does the file still end there?"""
    try:
        with Lock(home.run + "/log.lock"):
            return os.stat(path).st_size == end
    except (OrcError, OSError):
        return True


def _skip(fd: int, at: int) -> tuple[int, int]:
    """How many lines begin before the first one that begins at `at` or later, and where that one begins."""
    lines = position = 0
    while block := os.pread(fd, _BLOCK, position):
        last = position + len(block) >= at
        cut = block[: at - 1 - position] if last else block
        lines += cut.count(b"\n")
        if last:
            newline = block.find(b"\n", max(0, at - 1 - position))
            while newline < 0:
                position += len(block)
                block = os.pread(fd, _BLOCK, position)
                if not block:
                    return lines, position
                newline = block.find(b"\n")
            return lines + 1, position + newline + 1
        position += len(block)
    return lines, position
