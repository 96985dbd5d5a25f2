"""Following the log from a place that is remembered: nothing is missed, nothing is skipped in silence.

A `Place` is (day, inode, offset, last id). Reading goes on at the offset as long as the file is the one that was
read before. If it was replaced or cut, the last id is looked for in what is there now; if even that is gone, the
day is read again from its start (a reader may see an event twice, never not at all), and the jump is told.
A day is done when a newer one has a file and one more look found nothing; writers never go back to it.
Notification is only a hint: whoever waits for changes also looks once a second.
"""

from __future__ import annotations

import os

from tmux_orchestrator.eventlog.daylog import day_file, days
from tmux_orchestrator.ground import fastjson, files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tmux_orchestrator.ground.paths import Home

_CHUNK = 1 << 20


class Place:
    """Up to where the log was read."""

    __slots__ = ("day", "inode", "last_id", "offset")

    def __init__(self, day: str = "", inode: int = 0, offset: int = 0, last_id: str = "") -> None:
        self.day, self.inode, self.offset, self.last_id = day, inode, offset, last_id

    def to_list(self) -> list[str | int]:
        return [self.day, self.inode, self.offset, self.last_id]

    def copy(self) -> Place:
        return Place(self.day, self.inode, self.offset, self.last_id)


def place_from(value: object) -> Place | None:
    """A place that was stored with `to_list`; None for anything else."""
    if not isinstance(value, list) or [type(part) for part in value] != [str, int, int, str]:
        return None
    return Place(*value)


def end_of_log(home: Home) -> Place:
    """Behind the last complete line."""
    existing = days(home)
    if not existing:
        return Place()
    day = existing[-1]
    with open(os.open(day_file(home, day), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        found = os.fstat(file.fileno())
        end, offset = found.st_size, 0
        while end > 0 and not offset:
            start = max(0, end - 65536)
            block = os.pread(file.fileno(), end - start, start)
            offset = start + block.rfind(b"\n") + 1 if b"\n" in block else 0
            end = start
        line = _line_before(file.fileno(), offset)
    return Place(day, found.st_ino, offset, id_of(line))


def _line_before(fd: int, offset: int) -> bytes:
    start, block = offset, b""
    while start > 0 and b"\n" not in block[:-1]:
        step = min(start, 65536)
        start -= step
        block = os.pread(fd, step, start) + block
    return block[:-1].rsplit(b"\n", 1)[-1]


def id_of(line: bytes) -> str:
    """The id of a line; "" for damage."""
    if line.startswith(b'{"id": "'):  # as we write it ourselves
        end = line.find(b'"', 8)
        return line[8:end].decode("ascii", "replace")
    try:
        event = fastjson.loads(line)
        return str(event["id"])
    except (ValueError, TypeError, KeyError):
        return ""


class Follower:
    """Reads complete lines from `place` on. `place` moves with what `read` hands out.

    `jumps` tells, for whoever logs it, each time the file was not the one expected.
    """

    def __init__(self, home: Home, place: Place) -> None:
        self.home = home
        self.place = place
        self.jumps: list[str] = []
        self._fd = -1

    def read(self, limit: int = _CHUNK) -> list[bytes]:
        """The next complete lines, about `limit` bytes of them; none when there is nothing new."""
        while True:
            if not self.place.day and not self._first_day():
                return []
            newer = self._newer_day()
            lines = self._read_day(limit)
            if lines or newer is None:
                return lines
            self._leave()
            self.place = Place(newer)

    def close(self) -> None:
        self._leave()

    def _leave(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _first_day(self) -> bool:
        existing = days(self.home)
        if existing:
            self.place = Place(existing[0])
        return bool(existing)

    def _newer_day(self) -> str | None:
        return next((day for day in days(self.home) if day > self.place.day), None)

    def _open(self) -> bool:
        """Have the day's file open at the right place; False while there is none."""
        path = day_file(self.home, self.place.day)
        try:
            found = os.stat(path)
        except FileNotFoundError:
            self._leave()
            return False
        if self._fd < 0 or os.fstat(self._fd).st_ino != found.st_ino:
            self._leave()
            try:
                self._fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                return False
            found = os.fstat(self._fd)
        place = self.place
        if not place.inode:
            place.inode = found.st_ino
        elif place.inode != found.st_ino or found.st_size < place.offset:
            self._find_again(found.st_ino)
        return True

    def _find_again(self, inode: int) -> None:
        place = self.place
        offset = 0
        if place.last_id:
            with open(self._fd, "rb", closefd=False) as file:
                file.seek(0)
                for line in file:
                    offset += len(line)
                    if id_of(line) == place.last_id:
                        break
                else:
                    offset = 0
        told = "found the last id again" if offset else "reading it from its start"
        self.jumps.append(f"the file of {place.day} was replaced or cut: {told}")
        place.inode, place.offset = inode, offset

    def _read_day(self, limit: int) -> list[bytes]:
        if not self._open():
            return []
        block = os.pread(self._fd, limit, self.place.offset)
        end = block.rfind(b"\n") + 1
        while not end and len(block) == limit:  # one line longer than the limit
            limit *= 2
            block = os.pread(self._fd, limit, self.place.offset)
            end = block.rfind(b"\n") + 1
        if not end:
            return []
        lines = block[: end - 1].split(b"\n")
        self.place.offset += end
        self.place.last_id = id_of(lines[-1]) or self.place.last_id
        return lines


def load_place(path: str) -> Place | None:
    """A cursor file's place; None where there is none or it is damaged."""
    data = files.read(path, 4096)
    if data is None:
        return None
    try:
        return place_from(fastjson.loads(data))
    except ValueError:
        return None


def save_place(path: str, place: Place) -> None:
    """Put the cursor file in place of the old one."""
    files.replace(path, fastjson.dumps(place.to_list()).encode("ascii") + b"\n")
