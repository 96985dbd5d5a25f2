"""The log: one file a day, one line an event. This module appends; `reader` and `follow` read.

An append checks and serialises first. Then, under the one lock of the log, it picks the day, stamps id, sequence
and time, closes a torn last line, and writes once. It lets the lock go, then syncs; only then does the caller
hear that the event is on disk. Order is `seq`, always.

What a crash leaves behind: before the write, nothing; within it, a last line without a newline, which readers do
not see and the next append closes; after it, a whole event. The lock file holds where the last append ended (day,
inode, sequence, time, size); where that does not match the day file, the file is right and is read again.
"""

from __future__ import annotations

import errno
import os

from tmux_orchestrator.eventlog.days import DAY_NS, day_file, days, is_day, mark_step
from tmux_orchestrator.eventlog.event import MAX_LINE, Ids, build, check, is_id
from tmux_orchestrator.ground import clock, fastjson, files
from tmux_orchestrator.ground.clock import parse_stamp
from tmux_orchestrator.ground.errors import DataError, SystemFailure
from tmux_orchestrator.ground.locks import Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tmux_orchestrator.ground.paths import Home

    Prepared = tuple[str | None, str]  # the id that the caller chose, and the line but for what the log stamps

__all__ = ["DAY_NS", "Log", "daemon_source", "day_file", "days", "forget_ids", "is_day", "parse_stamp"]

ABSORBED_NS = 2_000_000_000  # a clock that runs back by less than this is held still; more is a clock_step
_RECORD, _NONE = 128, b"\n"
_SECOND = 1_000_000_000
_STAMPED = frozenset(("id", "seq", "timestamp"))
_HEAD = 256  # bytes at most of what the log stamps: an id of 128, a sequence number, a time


def prepare(event: dict[str, Any]) -> Prepared:
    """The event as `Log.store` takes it. Raises DataError for what is no event, or is larger than a line may be."""
    check(event)
    wanted = event.get("id")
    if wanted is not None and not (isinstance(wanted, str) and is_id(wanted)):
        raise DataError(f"{wanted!r} cannot be an id: use 6 to 128 letters, digits and ._:-")
    if not _STAMPED.isdisjoint(event):
        event = {name: value for name, value in event.items() if name not in _STAMPED}
    try:
        line = fastjson.dumps(event)
    except ValueError as error:
        raise DataError(f"the event cannot be written as JSON ({error}): correct it") from None
    if len(line) > MAX_LINE - _HEAD:
        raise DataError(f"the event is larger than {MAX_LINE // 1024} KiB: put the text into a file and name the file")
    return wanted, line[1:]


def daemon_source(name: str) -> dict[str, Any]:
    """The source of what one of our own long-lived processes writes."""
    return {"type": "daemon", "identifier": name, "session": None, "host": os.uname().nodename, "verified": True}


class _End:
    """Where the last append ended. Its record has the size last: written in part, it matches no file."""

    __slots__ = ("day", "inode", "ns", "seq", "size")

    def __init__(self, record: bytes) -> None:
        self.day, self.inode, self.seq, self.ns, self.size = "", 0, 0, 0, -1
        fields = record.partition(b"\n")[0].split(b" ")
        try:
            if is_day(day := fields[0].decode("ascii")):
                self.inode, self.seq, self.ns, self.size = map(int, fields[1:])
                self.day = day
        except ValueError:
            pass

    def record(self) -> bytes:
        return f"{self.day} {self.inode} {self.seq} {self.ns} {self.size}\n".encode("ascii")


class Log:
    """Appends to the log of one home. Keeps its files open; not for use by two threads at once."""

    def __init__(
        self,
        home: Home,
        durable: bool = True,
        now: Callable[[], int] = clock.now_ns,
        lock_timeout: float = 5.0,
    ) -> None:
        self.home = home
        self.durable = durable
        self._now = now
        self._lock = Lock(home.run + "/log.lock", lock_timeout)
        self._ids = Ids()
        self._fd = -1
        self._inode = 0
        self._path = ""
        self._record = _NONE
        self._end = _End(b"")
        self._day_second = self._stamp_second = -1
        self._today = self._tomorrow = self._stamp_head = ""

    def append(self, events: list[dict[str, Any]]) -> list[str]:
        """Store the events, in this order, and return their ids. They are on disk when this returns.

        An event that brings an `id` of its own, seen within the last seven days, is not stored again; the id is
        returned all the same. Raises DataError (nothing is stored), TryLater, SystemFailure.
        """
        return self.store([prepare(event) for event in events])

    def store(self, prepared: list[Prepared], are_new: bool = False) -> list[str]:
        """`append`, of events that `prepare` has made ready. `are_new`: chosen ids are known not to be in the log."""
        if self._now() // _SECOND != self._day_second:
            self._lock.close()  # once a second it is opened anew: somebody may have moved the folder
        try:
            lock_fd = self._lock.acquire()
            try:
                ids, marked = self._write(lock_fd, prepared, are_new)
            finally:
                self._lock.release()
        except OSError as error:
            raise SystemFailure(
                f"the log did not take the event ({error.strerror}): see to {self.home.events}, publish again"
            ) from None
        if self.durable:
            self._sync(marked)
        return ids

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._lock.close()

    __del__ = close

    def _sync(self, marked: bool) -> None:
        try:
            if marked:
                files.sync_dir(self.home.run + "/ids")  # before the event: then no power cut lets an id in twice
            os.fdatasync(self._fd)
        except OSError as error:  # never asked twice: the second time the kernel says yes to what it has dropped
            raise SystemFailure(
                f"the disk did not confirm the event ({error.strerror}), it may be lost: see to the disk, publish again"
            ) from None

    def _write(self, lock_fd: int, prepared: list[Prepared], are_new: bool) -> tuple[list[str], bool]:
        now = self._now()
        mend = self._find_end(lock_fd, now)
        end = self._end
        lines, seq = ["\n"] if mend else [], end.seq
        if now < end.ns:
            if end.ns - now <= ABSORBED_NS:
                now = end.ns
            else:
                seq += 1
                lines.append(self._step(end, seq, now))
        stamp = self._stamp(now)
        ids: list[str] = []
        marks: list[str] = []
        for wanted, rest in prepared:
            if wanted is None:
                event_id = self._ids.make(now)
            elif are_new:
                event_id = wanted
            elif wanted in marks or _is_stored(self.home, wanted, now, self.durable):
                ids.append(wanted)
                continue
            else:
                event_id = wanted
                marks.append(wanted)
            seq += 1
            lines.append(f'{{"id": "{event_id}", "seq": {seq}, "timestamp": "{stamp}", {rest}\n')
            ids.append(event_id)
        if lines:
            data = "".join(lines).encode("ascii")
            if marks:  # before the write: a crash in between leaves marks of nothing, which count for nothing
                _mark(self.home, marks, end.day, end.size, end.size + len(data))
            self._put(data, end, seq)
            end.seq, end.ns, end.size = seq, now, end.size + len(data)
            self._keep(lock_fd, end)
        return ids, bool(marks)

    def _put(self, data: bytes, end: _End, seq: int) -> None:
        """One write. A short one is taken back, so that nobody reads half an event."""
        written = os.write(self._fd, data)
        if written == len(data):
            return
        if os.fstat(self._fd).st_size == end.size + written:
            os.ftruncate(self._fd, end.size)
        if b"\n" in data[:written]:  # of several events some were there to be read: their numbers are spent
            end.seq = seq
            self._keep(self._lock.fd, end)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _keep(self, lock_fd: int, end: _End) -> None:
        record = end.record()
        try:
            os.pwrite(lock_fd, record, 0)
            self._record = record
        except OSError:
            pass  # the event is in the file, and the file is right

    def _find_end(self, lock_fd: int, now: int) -> bool:
        """Have the day's file open, and know where it ends; must a torn last line be closed?"""
        record = os.pread(lock_fd, _RECORD, 0)
        if not record.startswith(self._record):
            self._record, self._end = record, _End(record)
        end = self._end
        if now // _SECOND != self._day_second:
            self._tick(now)
        if self._today <= end.day <= self._tomorrow:
            try:
                found = os.lstat(self._path)
                if end.size == found.st_size and end.inode == found.st_ino == self._inode:
                    return False
            except FileNotFoundError:
                pass
        return self._look(end)

    def _look(self, end: _End) -> bool:
        """Open the day's file and find its end there; must a torn last line be closed?

        A new day, the first append of this process, or the file is not as the last append left it.
        """
        known = (end.day, end.inode, end.size)
        self._record = _NONE  # `end` changes here, and is true again when an append has ended
        end.day = max(self._today, end.day if end.day <= self._tomorrow else "")
        self._open(end.day)
        size = os.fstat(self._fd).st_size
        self._link(end.day)
        if (end.day, self._inode, size) == known:
            return False
        if not size:
            files.sync_dir(self.home.events)
        last = last_stamp(self._fd, size) or self._last_of_older(end.day)
        if last is not None:
            end.seq, end.ns = max(end.seq, last[0]), max(end.ns, last[1])
        end.inode, end.size = self._inode, size
        return size > 0 and os.pread(self._fd, 1, size - 1) != b"\n"

    def _last_of_older(self, day: str) -> tuple[int, int] | None:
        for older in reversed([one for one in days(self.home, self._now()) if one < day]):
            with open(day_file(self.home, older), "rb") as file:
                found = last_stamp(file.fileno(), os.fstat(file.fileno()).st_size)
            if found is not None:
                return found
        return None

    def _open(self, day: str) -> None:
        """Open the day's file. Somebody may have replaced it since the last append."""
        path = day_file(self.home, day)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd, self._path = -1, ""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._fd = os.open(path, flags, 0o600)
        except FileNotFoundError:
            files.make_dir(self.home.events)
            self._fd = os.open(path, flags, 0o600)
        self._path, self._inode = path, os.fstat(self._fd).st_ino

    def _link(self, day: str) -> None:
        """Point logs/today.jsonl at the newest file, for `tail -F`."""
        link, target = self.home.logs + "/today.jsonl", f"events/{day}.jsonl"
        temporary = f"{link}.{os.getpid()}"
        try:
            if os.path.lexists(link) and os.readlink(link) == target:
                return
            os.symlink(target, temporary)
            os.rename(temporary, link)
        except OSError:
            pass  # a convenience: the log itself does not depend on it

    def _tick(self, now: int) -> None:
        """Once a second: the day, which is never before the newest file, and tomorrow."""
        self._day_second = now // _SECOND
        self._tomorrow = clock.local_day(now + DAY_NS)
        self._today = max([clock.local_day(now), *days(self.home, now)[-1:]])

    def _stamp(self, ns: int) -> str:
        second = ns // _SECOND
        if second != self._stamp_second:
            self._stamp_second, self._stamp_head = second, clock.stamp(ns)[:20]
        return f"{self._stamp_head}{ns // 1000 % 1_000_000:06d}Z"

    def _step(self, end: _End, seq: int, now: int) -> str:
        """The line that tells a step of the clock; the day is noted for readers, who bisect on time elsewhere."""
        mark_step(self.home, end.day)
        _, rest = prepare(
            build(
                f"The clock went back by {(end.ns - now) / 1e9:.1f} s",
                daemon_source("log"),
                type="clock_step",
                context={"from": clock.stamp(end.ns), "to": clock.stamp(now)},
            )
        )
        return f'{{"id": "{self._ids.make(now)}", "seq": {seq}, "timestamp": "{self._stamp(now)}", {rest}\n'


# Ids that callers choose are seldom, and what handles them costs a start a tenth of a millisecond.


def _is_stored(home: Home, wanted: str, now: int, durable: bool) -> bool:
    from tmux_orchestrator.eventlog import chosen

    return chosen.is_stored(home, wanted, now, durable)


def _mark(home: Home, wanted: list[str], day: str, start: int, end: int) -> None:
    from tmux_orchestrator.eventlog import chosen

    chosen.mark(home, wanted, day, start, end)


def forget_ids(home: Home, now_ns: int) -> int:
    """Remove the marks that are older than an id is remembered; how many."""
    from tmux_orchestrator.eventlog import chosen

    return chosen.forget(home, now_ns)


def last_stamp(fd: int, size: int) -> tuple[int, int] | None:
    """(seq, ns) of the last line in a day file that has them, read backwards; None if none has."""
    end, kept = size, b""
    while end > 0:
        start = max(0, end - 65536)
        block = os.pread(fd, end - start, start) + kept
        lines = block.split(b"\n")
        kept = lines[0] if start and len(lines[0]) < 2 * MAX_LINE else b""
        for line in reversed(lines[1:] if start else lines):
            try:
                event = fastjson.loads(line)
                seq, ns = event["seq"], parse_stamp(event["timestamp"])
            except (ValueError, TypeError, KeyError):
                continue
            if type(seq) is int and 0 < seq < 1 << 53:
                return seq, ns
        end = start
    return None
