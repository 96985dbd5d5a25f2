"""Following the log from a place that is remembered: nothing is missed, nothing is skipped in silence.

A `Place` is (day, inode, offset, last id, its sequence number, where its line begins). Reading goes on at the offset as
long as the file is the one that was read before and the last line stands where it stood. If it was replaced or cut,
the last id is looked for in what is there now; if even that is gone, the day is read again from its start (a reader
may see an event twice, never not at all), and it is told.
A day is done when a newer one has a file and one more look found nothing; writers never go back to it. Where a clock
was so wrong that days come out of order, the sequence says what of another day was read before.
Notification is only a hint: whoever waits for changes also looks once a second.
"""

from __future__ import annotations

import os

from tmux_orchestrator.eventlog.days import day_file, days
from tmux_orchestrator.eventlog.event import ID_LENGTH, MS_LENGTH
from tmux_orchestrator.eventlog.reader import BLOCK, LONGEST, DayFile, decode
from tmux_orchestrator.ground import clock, fastjson, files
from tmux_orchestrator.ground.errors import DataError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tmux_orchestrator.ground.paths import Home


_TYPES = [str, int, int, str, int, int]


class Place:
    """Up to where the log was read."""

    __slots__ = ("day", "inode", "last_at", "last_id", "last_seq", "offset")

    def __init__(
        self,
        day: str = "",
        inode: int = 0,
        offset: int = 0,
        last_id: str = "",
        last_seq: int = 0,
        last_at: int = -1,
    ) -> None:
        self.day, self.inode, self.offset = day, inode, offset
        self.last_id, self.last_seq, self.last_at = last_id, last_seq, last_at

    def to_list(self) -> list[str | int]:
        return [self.day, self.inode, self.offset, self.last_id, self.last_seq, self.last_at]

    def copy(self) -> Place:
        return Place(self.day, self.inode, self.offset, self.last_id, self.last_seq, self.last_at)

    def passed(self, line: bytes) -> None:
        """The line that ends at the offset was read; damage leaves the last id as it is."""
        last_id, seq = _name(line)
        if last_id:
            self.last_id, self.last_seq = last_id, seq
            self.last_at = self.offset - len(line) - 1 if line.startswith(self.head()) else -1

    def head(self) -> bytes:
        """How the last line begins, if we wrote it."""
        return f'{{"id": "{self.last_id}", "seq": {self.last_seq},'.encode("ascii", "replace")


def place_from(value: object) -> Place | None:
    """A place that was stored with `to_list`; None for anything else."""
    if not isinstance(value, list) or len(value) < 4 or [type(part) for part in value] != _TYPES[: len(value)]:
        return None
    return Place(*value)


def end_of_log(home: Home) -> Place:
    """Behind the last complete line."""
    existing = days(home)
    if not existing:
        return Place()
    file = DayFile(day_file(home, existing[-1]))
    try:
        place = Place(existing[-1], file.inode, file.end)
        for line in file.backward(0, file.end, []):
            place.passed(line)
            break
        return place
    finally:
        file.close()


def since(home: Home, ns: int) -> Place:
    """At the beginning of the day of that time, or of the next one that has a file."""
    first = clock.local_day(ns)
    existing = [day for day in days(home) if day >= first]
    return Place(existing[0]) if existing else Place()


def _is_younger(one: str, other: str) -> bool:
    """Was the event called `one` made after the other, by the milliseconds in their ids?

    Then it is another log's, which began its numbers anew, and whose file may even have the inode of the deleted one.
    Ids that callers chose do not tell.
    """
    return len(one) == len(other) == ID_LENGTH and one[:MS_LENGTH] > other[:MS_LENGTH]


def _name(line: bytes) -> tuple[str, int]:
    """(id, sequence number) of a line; ("", 0) for damage."""
    if line.startswith(b'{"id": "'):  # as we write it ourselves
        quote = line.find(b'"', 8)
        comma = line.find(b",", quote + 2)
        number = line[quote + 10 : comma]
        if line[quote : quote + 10] == b'", "seq": ' and number.isdigit():
            return line[8:quote].decode("ascii", "replace"), int(number)
    event = decode(line)
    return (event["id"], event["seq"]) if event is not None else ("", 0)


class Follower:
    """Reads complete lines from `place` on. `place` moves with what `read` hands out.

    `jumps` tells, for whoever logs it, each time the file was not the one expected.
    """

    def __init__(self, home: Home, place: Place) -> None:
        self.home = home
        self.place = place
        self.jumps: list[str] = []
        self._fd = -1

    def read(self, limit: int = BLOCK) -> list[bytes]:
        """The next complete lines, about `limit` bytes of them; none when there is nothing new."""
        while True:
            if not self.place.day and not self._first_day():
                return []
            lines = self._read_day(limit)
            if lines:
                return lines
            day = self._next_day()
            if day is None:
                return []
            lines = self._read_day(limit)  # what was written between that look and the beginning of the new day
            if lines:
                return lines
            self._enter(day)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    __del__ = close

    def _first_day(self) -> bool:
        existing = days(self.home)
        if existing:
            self.place = Place(existing[0])
        return bool(existing)

    def _next_day(self) -> str | None:
        """The day to go on with: the next one, or where the log went back to when a clock had been far ahead."""
        existing, place = days(self.home), self.place
        newer = next((day for day in existing if day > place.day), None)
        if newer is None and existing and self._fd >= 0 and existing[-1] < place.day:
            self.jumps.append(f"the clock was set back: going on in {existing[-1]}")
            return existing[-1]
        return newer

    def _enter(self, day: str) -> None:
        """Begin another day, behind what of it was read before. Without the day before, it may be another log."""
        seq = self.place.last_seq if self._fd >= 0 else 0
        self.close()
        self.place = Place(day, 0, 0, self.place.last_id, self.place.last_seq)
        try:
            file = DayFile(day_file(self.home, day))
        except FileNotFoundError:
            return
        try:
            self.place.inode = file.inode
            for line in file.forward(0, file.end, []):
                if not 0 < _name(line)[1] <= seq:
                    break
                self.place.offset += len(line) + 1
        finally:
            file.close()

    def _open(self) -> bool:
        """Have the day's file open at the right place; False while there is none."""
        path, place = day_file(self.home, self.place.day), self.place
        try:
            found = os.lstat(path)
            if self._fd < 0 or found.st_ino != place.inode:
                self.close()
                self._fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                found = os.fstat(self._fd)
            if not place.inode:
                place.inode = found.st_ino
            elif place.inode != found.st_ino or found.st_size < place.offset or not self._stands():
                self._find_again(found.st_ino)
        except FileNotFoundError:
            self.close()
            return False
        return True

    def _stands(self) -> bool:
        """Is the last line where it was? A file that was cut may have grown beyond the offset since."""
        place = self.place
        if place.last_at < 0:
            return True
        head = place.head()
        return os.pread(self._fd, len(head), place.last_at) == head

    def _find_again(self, inode: int) -> None:
        """Behind the last id, if it is there; in a file that was cut, behind what was read of it; else at the start."""
        place, told = self.place, "reading it from its start"
        file = DayFile(day_file(self.home, place.day))
        offset = behind = read = 0
        try:
            for line in file.forward(0, file.end, []):
                offset += len(line) + 1
                last_id, seq = _name(line)
                if last_id and last_id == place.last_id:
                    behind, told = offset, "found the last id again"
                elif not behind and 0 < seq <= place.last_seq and not _is_younger(last_id, place.last_id):
                    read = offset
        finally:
            file.close()
        if not behind and read and inode == place.inode:
            behind, told = read, "going on behind what was read of it"
        self.jumps.append(f"the file of {place.day} was replaced or cut: {told}")
        place.inode, place.offset, place.last_at = inode, behind, -1

    def _read_day(self, limit: int) -> list[bytes]:
        if not self._open():
            return []
        block = os.pread(self._fd, limit, self.place.offset)
        end = block.rfind(b"\n") + 1
        while not end and limit <= len(block) < LONGEST:  # one line longer than the limit
            limit *= 2
            block = os.pread(self._fd, limit, self.place.offset)
            end = block.rfind(b"\n") + 1
        if not end and len(block) < LONGEST:
            return []
        lines = block[:end].removesuffix(b"\n").split(b"\n") if end else [block]
        self.place.offset += end or len(block)
        self.place.passed(lines[-1])
        return lines


def load_place(path: str) -> Place | None:
    """A cursor file's place; None where there is none yet, or an empty file. Raises DataError for anything else."""
    data = files.read(path)
    if not data:
        return None
    try:
        place = place_from(fastjson.loads(data))
    except ValueError:
        place = None
    if place is None:
        raise DataError(f"{path} is no cursor: name another file, or remove it to read everything again")
    return place


def save_place(path: str, place: Place, sync: bool = True) -> None:
    """Put the cursor file in place of the old one."""
    files.replace(path, fastjson.dumps(place.to_list()).encode("ascii") + b"\n", sync)
