"""The broker's memory of what it owes: an append-only file that a kill -9 at any moment leaves readable.

The log says what was published and what became of it; the journal says what the broker was about to do. Records
are JSON arrays, one a line, and replayed in order at a start:

    ["place", [day, inode, offset, id]]             the log is taken in up to here
    ["add", id, target, day, offset, length]        this event is owed to this target; where its line stands
    ["intent", id, target, attempt, kind, boot, ns] about to type it; on disk before a key is pressed. Of a frame of
                                                    several events only the first names the kind that counts
    ["undone", id, target, boot, ns]                that intent typed nothing, as the guard says
    ["landed", id, target, boot, ns, at ns]         its frame was in the pane at that time, if it ever will be
    ["typed", id, target, repeat, wall ns]          typed for sure; an acknowledgment may be awaited
    ["lost", id, target]                            typed into a process that ended before it showed that it took it
    ["told", id, target, reason, wall ns]           this hold has been reported, then
    ["end", id, target]                             nothing more is owed

A torn last line was never acted on. An intent counts as typed unless it was undone, and as typed just now unless it
landed before, so the window of promise 4 holds over any crash. When the file has grown, or has been lost under the
broker, it is replaced by what is still owed.
"""

from __future__ import annotations

import os

from tmux_orchestrator.ground import fastjson, files
from tmux_orchestrator.ground.errors import SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from tmux_orchestrator.ground.paths import Home

    Key = tuple[str, str]

_COMPACT_BYTES = 4 << 20
_BUSY = 4


class Owed:
    """One event that one target has not had, as the journal remembers it."""

    __slots__ = ("attempt", "day", "doubts", "length", "lost", "offset", "repeat", "told", "typed_ns")

    def __init__(self, day: str, offset: int, length: int) -> None:
        self.day, self.offset, self.length = day, offset, length
        self.attempt = 0
        self.doubts = 0  # intents whose result is not known, and one if what was typed is lost
        self.lost = False
        self.typed_ns = 0  # when it was typed, wall clock; 0: not yet
        self.repeat = 0  # which repeat that was
        self.told: dict[str, int] = {}  # reason of a hold -> since when, wall clock


class Intent:
    """A frame that was about to be typed. `at`: when it was typed at the latest (boot clock), 0 if nobody knows."""

    __slots__ = ("at", "attempt", "kind")

    def __init__(self, kind: str, attempt: int) -> None:
        self.kind, self.attempt, self.at = kind, attempt, 0


class Memory:
    """What a journal says: `place`, `owed`, and the intents: (target, boot id, boot ns, event id) -> Intent."""

    def __init__(self) -> None:
        self.place: list[Any] | None = None
        self.owed: dict[Key, Owed] = {}
        self.intents: dict[tuple[str, str, int, str], Intent] = {}

    def apply(self, record: Sequence[Any]) -> None:
        """Replay one record. Raises ValueError, TypeError, KeyError or IndexError for what is none."""
        kind = record[0]
        if kind == "place":
            self.place = record[1]
            return
        key = (record[1], record[2])
        owed = self.owed.get(key)
        if kind == "add":
            self.owed.setdefault(key, Owed(record[3], int(record[4]), int(record[5])))
        elif kind == "end":
            self.owed.pop(key, None)
        elif kind in ("intent", "undone", "landed"):
            self._intent(record, owed)
        elif owed is not None and kind == "typed":
            owed.doubts, owed.repeat, owed.typed_ns, owed.lost = 0, int(record[3]), int(record[4]), False
        elif owed is not None and kind == "lost" and owed.typed_ns:
            owed.doubts, owed.typed_ns, owed.lost = owed.doubts + 1, 0, True
        elif owed is not None and kind == "told":
            owed.told.setdefault(record[3], int(record[4]))

    def _intent(self, record: Sequence[Any], owed: Owed | None) -> None:
        if record[0] == "intent":
            _, event_id, target, attempt, kind, boot, ns = record
            self.intents[target, boot, int(ns), event_id] = Intent(kind, int(attempt))
            if owed is not None:
                owed.attempt, owed.doubts = int(attempt), owed.doubts + 1
            return
        place = (record[2], record[3], int(record[4]), record[1])
        if record[0] == "landed":
            if place in self.intents:
                self.intents[place].at = int(record[5])
        elif self.intents.pop(place, None) is not None and owed is not None:
            owed.doubts = max(0, owed.doubts - 1)

    def last_intent(self, event_id: str, target: str) -> tuple[int, str]:
        """When it was last about to be typed there: boot clock, and of which boot; 0: never."""
        return max(
            ((ns, boot) for of, boot, ns, one in self.intents if one == event_id and of == target), default=(0, "")
        )

    def records(self, boot: str = "", since_ns: int = 0) -> list[list[Any]]:
        """What a new journal has to say: everything owed, and the intents since `since_ns` of this boot."""
        kept: list[list[Any]] = [["place", self.place]] if self.place is not None else []
        intents_of: dict[Key, list[list[list[Any]]]] = {}
        for (target, its_boot, ns, event_id), intent in self.intents.items():
            if (event_id, target) in self.owed or not boot or (its_boot == boot and max(ns, intent.at) >= since_ns):
                said = [["intent", event_id, target, intent.attempt, intent.kind, its_boot, ns]]
                said += [["landed", event_id, target, its_boot, ns, intent.at]] if intent.at else []
                intents_of.setdefault((event_id, target), []).append(said)
        for (event_id, target), owed in self.owed.items():
            intents = intents_of.pop((event_id, target), [])
            was_typed = bool(owed.typed_ns or owed.lost)
            known = len(intents) - owed.doubts + owed.lost
            certain = [record for said in intents[:known] for record in said]
            kept += certain if not was_typed else []  # of an earlier time that it was owed
            kept.append(["add", event_id, target, owed.day, owed.offset, owed.length])
            kept += [["told", event_id, target, reason, since] for reason, since in owed.told.items()]
            kept += [*certain, ["typed", event_id, target, owed.repeat, owed.typed_ns or 1]] if was_typed else []
            kept += [["lost", event_id, target]] if owed.lost else []
            kept += [record for said in intents[known:] for record in said]
        return kept + [record for intents in intents_of.values() for said in intents for record in said]


class Journal:
    """Appends records; `memory` always says what a replay would say. Raises OSError when the disk refuses.

    `damaged` lines in its middle mean that something was forgotten: the log has to be asked.
    """

    _fd = -1

    def __init__(self, home: Home) -> None:
        self.path = home.run + "/broker.journal"
        self.memory = Memory()
        self.damaged = 0
        self._waiting: list[str] = []
        self._limit = _COMPACT_BYTES
        data = files.read(self.path, 1 << 30) or b""
        *lines, last = data.split(b"\n")
        for line in lines:
            self.damaged += not self._replay(line)
        whole = len(data) if self._replay(last) else len(data) - len(last)
        self._fd = self._open()
        if whole < len(data):
            os.ftruncate(self._fd, whole)
        self._size = whole
        self._lost = bool(self.damaged or (whole and data[whole - 1 : whole] != b"\n"))  # to be written anew

    def _replay(self, line: bytes) -> bool:
        try:
            self.memory.apply(fastjson.loads(line))
            return True
        except (ValueError, TypeError, KeyError, IndexError):
            return False

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def note(self, *record: Any) -> None:
        """Take a record in; it reaches the file with the next `flush` or `sync`."""
        self.memory.apply(record)
        self._waiting.append(fastjson.dumps(record))

    def flush(self) -> None:
        """Hand what was noted to the system: it survives a kill -9."""
        if self._lost:
            self._rewrite(self.memory.records())
        if not self._waiting:
            return
        data = ("\n".join(self._waiting) + "\n").encode("ascii")
        try:
            files.write_all(self._fd, data)
        except OSError:
            self._lost = True
            os.ftruncate(self._fd, self._size)  # what was noted waits for the next flush, whole
            self._lost = False
            raise
        self._waiting.clear()
        self._size += len(data)

    def sync(self) -> None:
        """Have what was noted on disk: it survives a power cut."""
        self.flush()
        try:
            os.fdatasync(self._fd)
        except OSError:
            self._lost = True  # the system forgets what it could not write: asking again would be told a lie
            raise

    def compact(self, boot: str, since_ns: int, busy: bool = False) -> None:
        """Replace the file by what is still owed, as a whole or not at all, if it has grown or is not ours any more.

        `busy`: only if it has grown four times as much, as writing it anew takes a tenth of a second.
        """
        if self._size >= self._limit * (_BUSY if busy else 1) or not self._is_there():
            self._rewrite(self.memory.records(boot, since_ns))

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.path, follow_symlinks=False), os.fstat(self._fd))
        except FileNotFoundError:
            return False

    def _rewrite(self, records: list[list[Any]]) -> None:
        data = "".join(fastjson.dumps(record) + "\n" for record in records).encode("ascii")
        fresh = Memory()
        for record in records:
            fresh.apply(record)
        try:
            files.replace(self.path, data)
        except SystemFailure as error:
            raise OSError(str(error)) from None
        self._lost = True  # until the new file is open
        fd = self._open()
        os.close(self._fd)
        self._fd, self._size, self._lost = fd, len(data), False
        self._limit = max(_COMPACT_BYTES, 2 * len(data))
        self._waiting.clear()
        self.memory = fresh

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    __del__ = close
