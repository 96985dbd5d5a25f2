"""The rows in the pages of an SQLite file that SQLite itself refuses to read.

Each page that is in use stands for itself: its cells are read whether or not the pages above lead there, so one
damaged page costs its own rows and no others. The WAL lies over the file, as far as its frames are whole; what
follows its last commit never happened. Nothing is written, and SQLite is not asked: it would tidy up.

What a row means is for the caller to say, by its columns: the file's own catalogue may be what is damaged.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Values = tuple[Any, ...]

SIZES = (1024, 4096, 512, 2048, 8192, 16_384, 32_768, 65_536)
_MAGIC = b"SQLite format 3\0"
_LEAF_TABLE, _INNER_TABLE, _LEAF_INDEX, _INNER_INDEX = 13, 5, 10, 2
_HEADER, _FRAME = 32, 24  # bytes of the WAL's header, and of that of a frame
_WIDTHS = (0, 1, 2, 3, 4, 6, 8)  # bytes of a whole number, by its type


class Damage(Exception):
    """Here stands nothing that can be read."""


class Pages:
    """The pages of one file and its WAL; `unreadable` counts those in use that gave nothing, or not all."""

    def __init__(self, data: bytes, wal: bytes, size: int = 0) -> None:
        """`size` of a page: 0 for what the file says. Raises Damage when it says nothing."""
        self._data = data
        self.size = size or size_of(data, wal)
        if self.size not in SIZES:
            raise Damage("the size of its pages is not known")
        self._over, self.broken_frames, count = _overlay(wal, self.size)
        self.count = count or self._said_count() or -(-len(data) // self.size)
        self._usable = self.size - (data[20] if data.startswith(_MAGIC) else 0)
        self._chained: set[int] = set()
        self.unreadable = 0

    def page(self, number: int) -> bytes:
        """Raises Damage where the file has no such page, or not the whole of it."""
        found = self._over.get(number) or self._data[(number - 1) * self.size : number * self.size]
        if number < 1 or len(found) != self.size:
            raise Damage("a page is missing")
        return found

    def rows(self) -> Iterator[tuple[int | None, Values]]:
        """Each row's number and values; the number is None for an entry of an index."""
        free = self._free()
        doubtful = []
        for number in range(1, self.count + 1):
            if number in free:
                continue
            try:
                page = self.page(number)
            except Damage:
                self.unreadable += 1
                continue
            start = 100 if number == 1 else 0
            kind = page[start]
            if kind not in (_LEAF_TABLE, _LEAF_INDEX, _INNER_INDEX, _INNER_TABLE):
                doubtful.append(number)
            elif kind != _INNER_TABLE:
                yield from self._cells(page, start, kind)
        self.unreadable += len(set(doubtful) - self._chained)

    def _cells(self, page: bytes, start: int, kind: int) -> Iterator[tuple[int | None, Values]]:
        count = int.from_bytes(page[start + 3 : start + 5], "big")
        first = start + (12 if kind == _INNER_INDEX else 8)
        is_whole = first + 2 * count <= len(page)
        for at in range(first, min(first + 2 * count, len(page) - 1), 2):
            try:
                yield self._cell(page, int.from_bytes(page[at : at + 2], "big"), kind)
            except (Damage, IndexError, ValueError, struct.error):
                is_whole = False
        self.unreadable += not is_whole

    def _cell(self, page: bytes, at: int, kind: int) -> tuple[int | None, Values]:
        number = None
        if kind == _INNER_INDEX:
            at += 4
        length, at = _varint(page, at)
        if kind == _LEAF_TABLE:
            number, at = _varint(page, at)
        return number, _record(self._payload(page, at, length, kind == _LEAF_TABLE))

    def _payload(self, page: bytes, at: int, length: int, is_table: bool) -> bytes:
        """All bytes of a record, those on overflow pages too."""
        usable = self._usable
        most = usable - 35 if is_table else (usable - 12) * 64 // 255 - 23
        if length > self.count * self.size:
            raise Damage("a record is longer than the file")
        local = length
        if length > most:
            least = (usable - 12) * 32 // 255 - 23
            local = least + (length - least) % (usable - 4)
            local = local if local <= most else least
        if at + local > len(page):
            raise Damage("a record leaves its page")
        parts, left = [page[at : at + local]], length - local
        following = int.from_bytes(page[at + local : at + local + 4], "big") if left else 0
        chain = []
        while left > 0:
            more = self.page(following)
            chain.append(following)
            parts.append(more[4 : 4 + min(left, usable - 4)])
            left -= usable - 4
            following = int.from_bytes(more[:4], "big")
        self._chained.update(chain)
        return b"".join(parts)

    def _said_count(self) -> int:
        """How many pages the file says it has, where that can be."""
        said = int.from_bytes(self._data[28:32], "big") if self._data.startswith(_MAGIC) else 0
        return said if said * self.size <= len(self._data) else 0

    def _free(self) -> set[int]:
        """The pages that are in no use: what stands on them is over."""
        found = {(1 << 30) // self.size + 1}  # the page of SQLite's locks, which stays empty
        try:
            head = self.page(1)
            trunk = int.from_bytes(head[32:36], "big") if head.startswith(_MAGIC) else 0
            while 0 < trunk <= self.count and trunk not in found:
                page = self.page(trunk)
                found.add(trunk)
                count = min(int.from_bytes(page[4:8], "big"), self.size // 4 - 2)
                found.update(struct.unpack_from(f">{count}I", page, 8))
                trunk = int.from_bytes(page[:4], "big")
        except Damage:
            pass
        return found


def size_of(data: bytes, wal: bytes) -> int:
    """Bytes of a page, as the file says it or else its WAL; 0 when neither does."""
    if data.startswith(_MAGIC):
        said = int.from_bytes(data[16:18], "big")
        return 65_536 if said == 1 else said
    return int.from_bytes(wal[8:12], "big") if wal[:3] == b"\x37\x7f\x06" else 0


def joined(deleted: bytes, wal: bytes, size: int) -> bytes:
    """One WAL of one that was deleted in use, and the one that others have begun since.

    Their users went on to count the frames together, so each frame stands in one of the two, at its place.
    """
    parts, step = [wal[:_HEADER] if any(wal[:_HEADER]) else deleted[:_HEADER]], size + _FRAME
    for at in range(_HEADER, max(len(wal), len(deleted)), step):
        parts.append(wal[at : at + step] if any(wal[at : at + _FRAME]) else deleted[at : at + step])
    return b"".join(parts)


def _overlay(wal: bytes, size: int) -> tuple[dict[int, bytes], int, int]:
    """What the WAL's transactions have put over the file's pages; frames that are broken; the count of pages then.

    A frame is proven by the checksum that the one before it tells. So a broken one costs itself, not all that follow.
    """
    over: dict[int, bytes] = {}
    held: dict[int, bytes] = {}
    broken = waiting = pages = 0
    if len(wal) < _HEADER or wal[:3] != b"\x37\x7f\x06":
        return over, 0, 0
    order, salts = ">" if wal[3] & 1 else "<", wal[16:24]
    before: bytes | None = wal[24:32]
    for at in range(_HEADER, len(wal) - size - _FRAME + 1, size + _FRAME):
        head, page = wal[at : at + _FRAME], wal[at + _FRAME : at + _FRAME + size]
        if head[8:16] != salts:  # of another round of the log, or broken
            before, waiting = None, waiting + 1
            continue
        is_sound = before is None or _checksum(before, head[:8] + page, order) == head[16:24]
        before = head[16:24]
        if not is_sound:
            waiting += 1
            continue
        number, committed = struct.unpack(">II", head[:8])
        held[number] = page
        if committed:
            over.update(held)
            held.clear()
            broken, waiting, pages = broken + waiting, 0, committed
    return over, broken, pages


def _checksum(before: bytes, data: bytes, order: str) -> bytes:
    first, second = struct.unpack(">II", before)
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for at in range(0, len(words), 2):
        first = (first + words[at] + second) & 0xFFFFFFFF
        second = (second + words[at + 1] + first) & 0xFFFFFFFF
    return struct.pack(">II", first, second)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of one to nine bytes, and where it ends. Raises IndexError."""
    value = 0
    for count in range(8):
        byte = data[at + count]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + count + 1
    value = value << 8 | data[at + 8]
    return value - (1 << 64) if value >> 63 else value, at + 9


def _record(data: bytes) -> Values:
    """The values of one record. Raises Damage, IndexError, ValueError."""
    end, at = _varint(data, 0)
    if not 0 < end <= len(data):
        raise Damage("a record has no head")
    kinds, place, values = [], end, []
    while at < end:
        kind, at = _varint(data, at)
        kinds.append(kind)
    for kind in kinds:
        value, place = _value(data, place, kind)
        values.append(value)
    if place != len(data):
        raise Damage("a record is longer than its values")
    return tuple(values)


def _value(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind in (0, 8, 9):
        return (None, 0, 1)[max(0, kind - 7)], at
    if kind in (10, 11) or kind < 0:
        raise Damage("a value of no kind")
    length = _WIDTHS[kind] if kind < 7 else 8 if kind == 7 else (kind - 12) // 2
    part = data[at : at + length]
    if len(part) != length:
        raise Damage("a value leaves its record")
    if kind < 7:
        return int.from_bytes(part, "big", signed=True), at + length
    if kind == 7:
        return struct.unpack(">d", part)[0], at + length
    return (part.decode() if kind % 2 else part), at + length
