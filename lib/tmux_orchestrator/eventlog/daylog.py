"""The log: one file a day, one line an event. This module appends; `reader` and `follow` read.

An append validates and serialises first. Then, under the one lock of the log, it picks the day, stamps id,
sequence and time, closes a torn last line, and writes once. It lets the lock go, then syncs; only then does the
caller hear that the event is on disk. Order is `seq`, always.

What a crash leaves behind: before the write, nothing; within it, a last line without a newline, which readers
do not see and the next append closes; after it, a whole event. The lock file holds where the last append ended
(day, inode, size, seq, time); where that does not match the day file, the file is right and is read again.
"""

from __future__ import annotations

import os

from tmux_orchestrator.eventlog.event import MAX_LINE, Ids, build, check, is_id
from tmux_orchestrator.ground import clock, fastjson, files
from tmux_orchestrator.ground.errors import DataError, OrcError, SystemFailure
from tmux_orchestrator.ground.locks import Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tmux_orchestrator.ground.paths import Home

DAY_NS = 86_400_000_000_000
ABSORBED_NS = 2_000_000_000  # a clock that runs back by less than this is held still; more is a clock_step
ID_MEMORY_NS = 7 * DAY_NS
_RECORD = 128
_DIGITS = frozenset("0123456789")


def is_day(name: str) -> bool:
    """Is it YYYY-MM-DD?"""
    return (
        len(name) == 10
        and name[4] == name[7] == "-"
        and _DIGITS.issuperset(name[:4] + name[5:7] + name[8:])
        and "01" <= name[5:7] <= "12"
        and "01" <= name[8:] <= "31"
    )


def days(home: Home, now_ns: int | None = None) -> list[str]:
    """The days that have a file, oldest first. One dated more than a day ahead is a mistake, and left out."""
    latest = clock.local_day((clock.now_ns() if now_ns is None else now_ns) + DAY_NS)
    try:
        names = os.listdir(home.events)
    except FileNotFoundError:
        return []
    return sorted(n[:10] for n in names if n.endswith(".jsonl") and is_day(n[:-6]) and n[:10] <= latest)


def day_file(home: Home, day: str) -> str:
    return f"{home.events}/{day}.jsonl"


def serialise(event: dict[str, Any]) -> str:
    """The event's line without the fields that the log stamps and without the opening brace.

    Raises DataError for what is no event, or is larger than a line may be.
    """
    check(event)
    rest = {name: value for name, value in event.items() if name not in ("id", "seq", "timestamp")}
    try:
        line = fastjson.dumps(rest)[1:]
        line.encode("ascii")
    except ValueError as error:
        raise DataError(f"the event cannot be written as JSON ({error}): correct it") from None
    if len(line) > MAX_LINE - 256:
        raise DataError(f"the event is larger than {MAX_LINE // 1024} KiB: put the text into a file and name the file")
    return line


def daemon_source(name: str) -> dict[str, Any]:
    """The source of what one of our own long-lived processes writes."""
    return {"type": "daemon", "identifier": name, "session": None, "host": os.uname().nodename, "verified": True}


class _State:
    """Where the last append ended."""

    __slots__ = ("day", "inode", "ns", "seq", "size")

    def __init__(self, day: str = "", inode: int = 0, size: int = 0, seq: int = 0, ns: int = 0) -> None:
        self.day, self.inode, self.size, self.seq, self.ns = day, inode, size, seq, ns

    def record(self) -> bytes:
        text = f"{self.day} {self.inode} {self.size} {self.seq} {self.ns}"
        return (text.ljust(_RECORD - 1) + "\n").encode("ascii")


def _read_state(fd: int) -> _State | None:
    fields = os.pread(fd, _RECORD, 0).split()
    try:
        if len(fields) != 5 or not is_day(day := fields[0].decode("ascii")):
            return None
        return _State(day, int(fields[1]), int(fields[2]), int(fields[3]), int(fields[4]))
    except ValueError:
        return None


def _last_stamp(fd: int, size: int) -> tuple[int, int] | None:
    """(seq, ns) of the last event in a day file that has a sequence, read backwards; None if none has."""
    end, kept = size, b""
    while end > 0:
        start = max(0, end - 65536)
        block = os.pread(fd, end - start, start) + kept
        lines = block.split(b"\n")
        kept = lines[0] if start else b""
        for line in reversed(lines[1:] if start else lines):
            try:
                event = fastjson.loads(line)
                return int(event["seq"]), parse_stamp(event["timestamp"])
            except (ValueError, TypeError, KeyError):
                continue
        end = start
        if len(kept) > 2 * MAX_LINE:
            kept = b""
    return None


def parse_stamp(text: str) -> int:
    """Nanoseconds of a stamp as the log writes it. Raises ValueError."""
    if len(text) != 27 or text[10] != "T" or text[26] != "Z":
        raise ValueError(f"not a stamp: {text!r}")
    year, month, day = int(text[:4]), int(text[5:7]), int(text[8:10])
    # days from civil, Howard Hinnant's algorithm, since `datetime` and `calendar` cost an import
    shifted = year - (month <= 2)
    era = shifted // 400
    of_era = shifted - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    days_since = era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
    seconds = days_since * 86400 + int(text[11:13]) * 3600 + int(text[14:16]) * 60 + int(text[17:19])
    return (seconds * 1_000_000 + int(text[20:26])) * 1000


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
        self._day = ""
        self._fd = -1
        self._inode = 0
        self._second = -1
        self._prefix = ""
        self._today = ""
        self._tomorrow = ""

    def append(self, events: list[dict[str, Any]]) -> list[str]:
        """Store the events, in this order, and return their ids. They are on disk when this returns.

        An event that brings an `id` of its own, seen within the last seven days, is not stored again; the id is
        returned all the same. Raises DataError (nothing is stored), TryLater, SystemFailure.
        """
        prepared = [(event.get("id"), serialise(event)) for event in events]
        for chosen, _ in prepared:
            if chosen is not None and not (isinstance(chosen, str) and is_id(chosen)):
                raise DataError(f"{chosen!r} cannot be an id: use 6 to 128 letters, digits and ._:-")
        try:
            fd = self._lock.acquire()
            try:
                ids, new_file = self._write(fd, prepared)
            finally:
                self._lock.release()
            if self.durable and self._fd >= 0:
                os.fdatasync(self._fd)
                if new_file:
                    files.sync_dir(self.home.events)
        except OSError as error:
            raise SystemFailure(
                f"the log did not take the event ({error.strerror}): make room in {self.home.events}, publish again"
            ) from None
        return ids

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._lock.close()

    def _write(self, lock_fd: int, prepared: list[tuple[str | None, str]]) -> tuple[list[str], bool]:
        now = self._now()
        self._tick(now)
        state, new_file, mend = self._find_end(lock_fd, now)
        lines = ["\n"] if mend else []
        if now < state.ns:
            if state.ns - now <= ABSORBED_NS:
                now = state.ns
            else:
                lines.append(self._step(state, now))
        state.ns = now
        self._tick(now)
        stamp = self._stamp(now)
        ids: list[str] = []
        chosen_ids: list[str] = []
        for chosen, rest in prepared:
            if chosen is not None:
                if chosen in chosen_ids or self._known(chosen):
                    ids.append(chosen)
                    continue
                chosen_ids.append(chosen)
            state.seq += 1
            event_id = chosen or self._ids.make(now)
            lines.append(self._line(event_id, state.seq, stamp, rest))
            ids.append(event_id)
        if not lines:
            return ids, new_file
        data = "".join(lines).encode("ascii")
        self._remember(chosen_ids, state, len(data))
        self._put(data, state)
        os.pwrite(lock_fd, state.record(), 0)
        return ids, new_file

    @staticmethod
    def _line(event_id: str, seq: int, stamp: str, rest: str) -> str:
        return f'{{"id": "{event_id}", "seq": {seq}, "timestamp": "{stamp}", {rest}\n'

    def _put(self, data: bytes, state: _State) -> None:
        """One write; a short one is taken back, so that nobody reads half an event."""
        written = 0
        try:
            written = os.write(self._fd, data)
            if written < len(data):  # the disk is full: the rest would fail, with the reason
                os.write(self._fd, data[written:])
                raise OSError(28, "no space left on the device")
        except OSError:
            os.ftruncate(self._fd, state.size)
            raise
        state.size += len(data)

    def _find_end(self, lock_fd: int, now: int) -> tuple[_State, bool, bool]:
        """Open today's file: (where the log ends, is the file new, must a torn last line be closed)."""
        state = _read_state(lock_fd)
        if state is None:
            existing = days(self.home, now)
            state = _State(existing[-1] if existing else self._today)
        elif state.day > self._tomorrow:
            state.day = self._today  # a clock was far ahead: its files are left aside
        day = max(self._today, state.day)
        new_file = self._open(day)
        size = os.fstat(self._fd).st_size
        if state.day == day and state.inode == self._inode and state.size == size:
            return state, new_file, False
        if day == state.day or size or not state.seq:  # not just the next day: read again what is there
            self._recover(state, size)
        state.day, state.inode, state.size = day, self._inode, size
        return state, new_file, bool(size) and os.pread(self._fd, 1, size - 1) != b"\n"

    def _recover(self, state: _State, size: int) -> None:
        found = _last_stamp(self._fd, size)
        if found is None:
            for day in reversed([d for d in days(self.home, self._now()) if d < self._day]):
                with open(day_file(self.home, day), "rb") as file:
                    found = _last_stamp(file.fileno(), os.fstat(file.fileno()).st_size)
                if found is not None:
                    break
        if found is not None:
            state.seq, state.ns = max(state.seq, found[0]), found[1]

    def _open(self, day: str) -> bool:
        """Have today's file open; True if it was made. Somebody may have replaced it since the last append."""
        path = day_file(self.home, day)
        if self._fd >= 0 and self._day == day:
            try:
                if os.stat(path).st_ino == self._inode:
                    return False
            except FileNotFoundError:
                pass
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._fd, new = os.open(path, flags), False
        except FileNotFoundError:
            files.make_dir(self.home.events)
            self._fd, new = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600), True
        self._day, self._inode = day, os.fstat(self._fd).st_ino
        if new:
            self._link(day)
        return new

    def _link(self, day: str) -> None:
        """Point logs/today.jsonl at the newest file, for `tail -F`."""
        link = self.home.logs + "/today.jsonl"
        temporary = f"{link}.{os.getpid()}"
        try:
            os.symlink(f"events/{day}.jsonl", temporary)
            os.rename(temporary, link)
        except OSError:
            pass  # a convenience: the log itself does not depend on it

    def _tick(self, ns: int) -> None:
        """Keep what changes at most once a second: the days and the head of the stamps."""
        second = ns // 1_000_000_000
        if second != self._second:
            self._second, self._prefix = second, clock.stamp(ns)[:20]
            self._today, self._tomorrow = clock.local_day(ns), clock.local_day(ns + DAY_NS)

    def _stamp(self, ns: int) -> str:
        return f"{self._prefix}{ns // 1000 % 1_000_000:06d}Z"

    def _step(self, state: _State, now: int) -> str:
        """The line that tells a step of the clock; the day is noted for readers, who bisect on time elsewhere."""
        self._tick(now)
        back = (state.ns - now) / 1e9
        event = build(
            f"The clock went back by {back:.1f} s",
            daemon_source("log"),
            type="clock_step",
            context={"from": clock.stamp(state.ns), "to": clock.stamp(now)},
        )
        with open(os.open(self.home.run + "/clock_steps", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w") as file:
            file.write(self._day + "\n")
        state.seq += 1
        return self._line(self._ids.make(now), state.seq, self._stamp(now), serialise(event))

    def _known(self, chosen: str) -> bool:
        """Was an event with this id stored within seven days? The mark says where; the log has the last word."""
        mark = files.read(f"{self.home.run}/ids/{chosen}", 256)
        if mark is None:
            return False
        try:
            day, start, end = mark.decode("ascii").split()
            with open(day_file(self.home, day), "rb") as file:
                data = os.pread(file.fileno(), int(end) - int(start), int(start))
            ns = parse_stamp(day + "T00:00:00.000000Z")
        except (ValueError, OSError):
            return False
        return f'"id": "{chosen}"'.encode() in data and self._now() - ns < ID_MEMORY_NS + DAY_NS

    def _remember(self, chosen_ids: list[str], state: _State, length: int) -> None:
        """Note where these events are about to stand. Before the write: a crash between costs nothing."""
        for chosen in chosen_ids:
            place = f"{state.day} {state.size} {state.size + length}"
            files.replace(f"{self.home.run}/ids/{chosen}", place.encode("ascii"), sync=self.durable)


def forget_ids(home: Home, now_ns: int) -> int:
    """Remove the marks of chosen ids that are older than the log remembers; how many."""
    folder, gone = home.run + "/ids", 0
    try:
        for entry in os.scandir(folder):
            if now_ns - entry.stat().st_mtime_ns > ID_MEMORY_NS + 2 * DAY_NS:
                os.unlink(entry.path)
                gone += 1
    except (FileNotFoundError, OrcError):
        pass
    return gone
