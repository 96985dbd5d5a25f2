"""The broker's memory of what it owes: an append-only file that a kill -9 at any moment leaves readable.

The log says what was published and what became of it; the journal says what the broker was about to do. Records
are JSON arrays, one a line, and replayed in order at a start:

    ["place", [day, inode, offset, id]]             the log is taken in up to here
    ["add", id, target, day, offset, length]        this event is owed to this target; where its line stands
    ["intent", id, target, attempt, kind, boot, ns] about to type; on disk before a key is pressed
    ["undone", id, target, boot, ns]                that intent typed nothing, as the guard says
    ["typed", id, target, wall ns]                  typed; an acknowledgment may be awaited
    ["told", id, target, reason]                    this hold has been reported
    ["end", id, target]                             nothing more is owed

A torn last line was never acted on. Each intent counts as typed unless it was undone, so the window of promise 4
holds over any crash. When the file has grown, it is replaced by what is still owed.
"""

from __future__ import annotations

import os

from tmux_orchestrator.ground import fastjson, files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tmux_orchestrator.ground.paths import Home

    Key = tuple[str, str]

_COMPACT_BYTES = 4 << 20


class Owed:
    """One event that one target has not had, as the journal remembers it."""

    __slots__ = ("attempt", "day", "doubtful", "length", "offset", "told", "typed_ns")

    def __init__(self, day: str, offset: int, length: int) -> None:
        self.day, self.offset, self.length = day, offset, length
        self.attempt = 0
        self.doubtful = False  # an intent whose result is not known
        self.typed_ns = 0  # when it was typed, wall clock; 0: not yet
        self.told: list[str] = []


class Memory:
    """What a journal says: `place`, `owed`, and the intents: (target, boot id, boot ns, event id) -> kind of frame."""

    def __init__(self) -> None:
        self.place: list[Any] | None = None
        self.owed: dict[Key, Owed] = {}
        self.intents: dict[tuple[str, str, int, str], str] = {}

    def apply(self, record: list[Any]) -> None:
        """Replay one record. Raises ValueError, TypeError, KeyError or IndexError for what is none."""
        kind = record[0]
        if kind == "place":
            self.place = record[1]
            return
        if kind == "intent":
            _, event_id, target, attempt, frame, boot, ns = record
            self.intents[target, boot, int(ns), event_id] = frame
            owed = self.owed.get((event_id, target))
            if owed is not None:
                owed.attempt, owed.doubtful = int(attempt), True
            return
        key = (record[1], record[2])
        if kind == "add":
            self.owed.setdefault(key, Owed(record[3], int(record[4]), int(record[5])))
        elif kind == "end":
            self.owed.pop(key, None)
        elif kind == "undone":
            self.intents.pop((record[2], record[3], int(record[4]), record[1]), None)
            if key in self.owed:
                self.owed[key].doubtful = False
        elif key in self.owed and kind == "typed":
            self.owed[key].doubtful, self.owed[key].typed_ns = False, int(record[3])
        elif key in self.owed and kind == "told":
            self.owed[key].told.append(record[3])

    def records(self, boot: str, since_ns: int) -> list[list[Any]]:
        """What a new journal has to say: everything owed, and the intents since `since_ns` of this boot."""
        kept: list[list[Any]] = [["place", self.place]] if self.place is not None else []
        for (event_id, target), owed in self.owed.items():
            kept.append(["add", event_id, target, owed.day, owed.offset, owed.length])
            kept += [["told", event_id, target, reason] for reason in owed.told]
        for (target, its_boot, ns, event_id), frame in self.intents.items():
            if its_boot == boot and ns >= since_ns:
                attempt = self.owed[event_id, target].attempt if (event_id, target) in self.owed else 1
                kept.append(["intent", event_id, target, attempt, frame, its_boot, ns])
        for (event_id, target), owed in self.owed.items():
            if owed.typed_ns:
                kept.append(["typed", event_id, target, owed.typed_ns])
        return kept


class Journal:
    """Appends records; `memory` always says what a replay would say. Raises OSError when the disk refuses."""

    def __init__(self, home: Home) -> None:
        self.path = home.run + "/broker.journal"
        self.memory = Memory()
        self.damaged = 0
        self._waiting: list[str] = []
        data = files.read(self.path, 1 << 30) or b""
        for line in data.split(b"\n")[:-1]:
            try:
                self.memory.apply(fastjson.loads(line))
            except (ValueError, TypeError, KeyError, IndexError):
                self.damaged += 1
        self._open(data)

    def _open(self, data: bytes) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(self.path, flags, 0o600)
        self._size = len(data)
        if data and not data.endswith(b"\n"):
            os.write(self._fd, b"\n")
            self._size += 1

    def note(self, *record: Any) -> None:
        """Take a record in; it reaches the file with the next `flush` or `sync`."""
        self.memory.apply(list(record))
        self._waiting.append(fastjson.dumps(list(record)))

    def flush(self) -> None:
        """Hand what was noted to the system: it survives a kill -9."""
        if not self._waiting:
            return
        data = ("\n".join(self._waiting) + "\n").encode("ascii")
        try:
            files.write_all(self._fd, data)
        except OSError:
            os.ftruncate(self._fd, self._size)  # what was noted waits for the next flush, whole
            raise
        self._waiting.clear()
        self._size += len(data)

    def sync(self) -> None:
        """Have what was noted on disk: it survives a power cut."""
        self.flush()
        os.fdatasync(self._fd)

    def compact(self, boot: str, since_ns: int) -> None:
        """Replace a grown file by what is still owed, as a whole or not at all."""
        if self._size < _COMPACT_BYTES:
            return
        self.flush()
        records = self.memory.records(boot, since_ns)
        data = "".join(fastjson.dumps(record) + "\n" for record in records).encode("ascii")
        files.replace(self.path, data)
        os.close(self._fd)
        fresh = Memory()
        for record in records:
            fresh.apply(record)
        self.memory = fresh
        self._open(data)

    def close(self) -> None:
        os.close(self._fd)
