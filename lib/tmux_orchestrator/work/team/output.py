"""What one agent prints, as it appears in its private file: followed, cut into lines, and given back to the disk.

The agent appends and never waits for anybody. What was read is made a hole in the file (its blocks are free again), so
a file takes no more than what was not read yet; behind a hole stands what the next supervisor has to read, and no
place needs to be kept. Of a flood that comes faster than it is read, what lies between its ends is left out, and that
is said. Where a file system knows no holes the file is cut to nothing when all of it was read, which can lose what
is written in that very moment. A crash between reading and the hole shows some lines twice.
"""

from __future__ import annotations

import errno
import os
import re

from tmux_orchestrator.ground.output import clean
from tmux_orchestrator.work.team.holes import Holes

BLOCK = 64 * 1024  # read at a time
BACKLOG = 16 * 1024 * 1024  # more than this that waits is skipped
LONGEST = 8 * 1024  # bytes of a line
_KEEP = 64 * 1024  # given back at a time, or when there is a pause
_PAGE = 4096
_SMALL = 1 << 20  # bytes on disk that are cut away in a moment
_SEQUENCES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])")


class Output:
    """Follows one file, which need not be there yet."""

    def __init__(self, path: str, holes: Holes) -> None:
        self.path = path
        self._holes = holes
        self._fd = -1
        self._offset = 0  # up to here it was read
        self._freed = 0  # up to here it is a hole
        self._part = b""  # the beginning of a line whose end was not read yet
        self._cut = False  # that line was too long already

    def read(self) -> tuple[list[str], bool]:
        """The next lines, fit for a terminal, and whether there is more to read now. Raises OSError."""
        if self._fd < 0 and not self._open():
            return [], False
        found = os.fstat(self._fd)
        size = found.st_size
        if not found.st_nlink and size <= self._offset and os.path.lexists(self.path):  # somebody removed it
            self.close()
            return self.read()
        if size < self._offset:  # somebody cut it
            self._offset = self._freed = 0
        skipped = self._skip(size)
        block = os.pread(self._fd, BLOCK, self._offset)
        self._offset += len(block)
        if self._offset - self._freed >= _KEEP:
            self._free()
        return skipped + self._lines(block), self._offset < size

    def rest(self) -> list[str]:
        """A line that has no end, when none came for a while; and what was read is given back."""
        part, self._part = self._part, b""
        if self._freed < self._offset:
            self._free()
        return [_readable(part)] if part and not self._cut else []

    def begin(self) -> None:
        """A new process of the agent begins: if all was read and given back, the file begins anew. Raises OSError."""
        if self._fd < 0 or not self._offset or not self._holes.is_done(self.path):
            return
        found = os.fstat(self._fd)
        if found.st_size == self._offset and found.st_blocks * 512 < _SMALL:
            os.ftruncate(self._fd, 0)
            self._offset = self._freed = 0

    def close(self) -> None:
        if self._fd >= 0:
            self._free()
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> bool:
        """At the first byte that nobody has read: behind the hole, and what of its last block was freed."""
        if not self._holes.is_done(self.path):
            return False  # of whoever followed it before: half a hole would show what was read, or nothing at all
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            data = os.lseek(self._fd, 0, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            data = os.fstat(self._fd).st_size
        head = os.pread(self._fd, _PAGE, data)
        self._offset = self._freed = data + len(head) - len(head.lstrip(b"\0"))
        return True

    def _skip(self, size: int) -> list[str]:
        """When far too much waits, only its end is read."""
        if size - self._offset <= BACKLOG:
            return []
        left_out = size - self._offset - BLOCK
        self._offset += left_out
        self._part, self._cut = b"", True  # what comes first is the rest of a line
        self._free()
        return [f"({left_out} bytes were left out: it prints faster than anybody could read)"]

    def _lines(self, block: bytes) -> list[str]:
        *ended, last = block.split(b"\n")
        lines = []
        for line in ended:
            whole, self._part = self._part + line, b""
            if not self._cut:
                lines.append(_readable(whole))
            self._cut = False
        self._part += last
        if len(self._part) > LONGEST:
            if not self._cut:
                lines.append(_readable(self._part))
            self._part, self._cut = b"", True
        return lines

    def _free(self) -> None:
        """Give back what was read, also of the block that was read in part before."""
        if self._holes.supported:
            self._holes.free(self.path, self._fd, self._freed // _PAGE * _PAGE, self._offset)
            self._freed = self._offset
        elif self._offset and os.fstat(self._fd).st_size == self._offset:
            os.ftruncate(self._fd, 0)
            self._offset = self._freed = 0


def _readable(line: bytes) -> str:
    """What a terminal would show of it in the end, without colours; what is longer than a line may be is cut."""
    more = len(line) > LONGEST
    text = line[:LONGEST].decode("utf-8", "replace").rstrip("\r")
    text = _SEQUENCES.sub("", text).rpartition("\r")[2]
    return clean(text, keep="\t") + ("…" if more else "")
