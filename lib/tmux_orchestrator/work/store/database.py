"""The task database: the only module that opens it.

One file in WAL mode, private to the user. What a statement or a transaction has done survives kill -9 of any process;
with `synchronous: FULL` a power cut too, with `NORMAL` a power cut may take the last moments (never half a change).
Pages are of 1 KiB, because a change writes whole pages into the WAL: 45 microseconds for a task's three changes,
with 4 KiB 55 and more syncs.

Threads may share a connection: a statement, or all of `with database:`, is one thread's at a time. Processes may
not: after a fork the child opens its own. Nothing else in a process may open and close the file while it has a
connection: the kernel would drop the connection's locks, and another process could take the WAL from under it.

Before a change is believed to be done, at most LOOK after the last time, it is seen that the file still has its name,
and its WAL. If not, somebody replaced, deleted or rebuilt it: it is opened anew and the change made there. A damaged
file is rebuilt by whoever finds it damaged (`salvage`), where the owner of the connection said how.
"""

from __future__ import annotations

import os
from _thread import RLock
from _weakref import ref
from time import monotonic_ns

from tmux_orchestrator.ground.errors import DataError, OrcError, SystemFailure, TryLater
from tmux_orchestrator.work.store import place, refusal
from tmux_orchestrator.work.store.sqlite import _sqlite3

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from tmux_orchestrator.work.store.gate import Gate

    Row = tuple[Any, ...]
    Mend = Callable[[int, str, bool], object]  # see `salvage.mend`: inode, reason, without a second look?

VERSION = 2
BUSY_S = 5.0  # another's change is waited for this long
LOOK = 10_000_000  # nanoseconds between two looks whether the file is still the one that was opened
_MINUTE = 60_000_000_000
MOST_MENDS = 100  # a minute; each rebuilding counts ten: a disk that damages all is not filled with copies
_PAGE, _CHECKPOINT = 1024, 16_000  # bytes; pages in the WAL until they move into the database: 16 MB
_PART = 256  # rows that a walk takes at once
# Without waiting: see `_in_turn`. Each statement is a transaction of its own, and threads are kept apart by our lock.
_HOW: Any = {"timeout": 0, "isolation_level": None, "check_same_thread": False, "cached_statements": 64, "uri": True}
_all: Any = _sqlite3.Cursor.fetchall
_count: Any = _sqlite3.Cursor.rowcount.__get__
_opened: list[ref[Database]] = []  # of this process and, after a fork, its parent


class Database:
    """One kept connection. Every statement is a transaction of its own, but within `with database:`."""

    def __init__(
        self,
        path: str,
        full: bool = False,
        version: int | None = VERSION,
        mend: Mend | None = None,
        patience: float = BUSY_S,
    ) -> None:
        """Open or make the file, and bring it to this version; None: it stays what it is. `mend` rebuilds it.

        `patience`: seconds that another's change is waited for; who gives it must not be held up, and leaves moving
        the WAL into the database to others. Raises DataError, NotPermitted, SystemFailure, TryLater, Damaged.
        """
        self.path = path
        self._full = full
        self._version = version
        self._patience = patience
        self._connection: Any = None
        self._pid = 0
        self._depth = 0
        self._lock = RLock()
        self._gate: Gate | None = None
        self._mend = mend
        self._mends: list[int] = []
        self._look_at = 1 << 63
        self._inodes: tuple[int, ...] = (0,)
        _opened.append(ref(self, _opened.remove))
        self._open()

    # statements

    def rows(self, sql: str, *values: object) -> list[Row]:
        """All rows of one statement; it has taken effect when this returns."""
        found: list[Row] = self._run(sql, values, _all)
        return found

    def row(self, sql: str, *values: object) -> Row | None:
        """The first row, or None."""
        found = self.rows(sql, *values)
        return found[0] if found else None

    def change(self, sql: str, *values: object) -> int:
        """How many rows the statement changed."""
        changed: int = self._run(sql, values, _count)
        return changed

    def _run(self, sql: str, values: tuple[object, ...], take: Callable[[Any], Any]) -> Any:
        if self._pid != os.getpid():
            self._open()
        with self._lock:
            try:
                if self._gate is not None and not self._depth and self._gate.is_crowded(sql):
                    found = self._in_turn(lambda: take(self._connection.execute(sql, values)))
                else:
                    found = take(self._connection.execute(sql, values))
            except refusal.ERRORS as error:
                if not refusal.is_busy(error):
                    self._failed(error)
                    return self._run(sql, values, take)
                found = self._in_turn(lambda: take(self._connection.execute(sql, values)))
            if monotonic_ns() > self._look_at and self._is_lost(sql):
                return self._run(sql, values, take)
            return found

    def walk(self, sql: str, *values: object) -> Iterator[Row]:
        """The rows one by one, for results that may be large."""
        if self._pid != os.getpid():
            self._open()
        cursor = None
        while True:
            with self._lock:
                try:
                    cursor = cursor or self._begin(sql, values)
                    part = cursor.fetchmany(_PART)
                except refusal.ERRORS as error:
                    self._failed(error)
                    raise TryLater(f"{self.path} was damaged and has been rebuilt: try again") from None
            if not part:
                return
            yield from part

    def _begin(self, sql: str, values: tuple[object, ...]) -> Any:
        try:
            return self._connection.execute(sql, values)
        except refusal.ERRORS as error:
            if not refusal.is_busy(error):
                raise
            return self._in_turn(lambda: self._connection.execute(sql, values))

    def _in_turn(self, ask: Callable[[], Any]) -> Any:
        """What it asks the connection for, as soon as no other process is in the way. Raises TryLater."""

        def try_once() -> Any:
            try:
                return ask()
            except refusal.ERRORS as error:
                if not refusal.is_busy(error):
                    self._failed(error)
                return None

        if self._gate is None:
            from tmux_orchestrator.work.store.gate import Gate  # seldom

            self._gate = Gate(self.path + "-gate")
        if (answer := self._gate.until(self._patience, try_once)) is None:
            raise TryLater(f"{self.path} is locked by another process: try again")
        return answer

    def __enter__(self) -> Database:
        """Begin a transaction that writes; inside another one it is part of that."""
        if self._pid != os.getpid():
            self._open()
        self._lock.acquire()
        try:
            if not self._depth:
                if self._connection.in_transaction:
                    self._roll_back()  # of one that a signal's handler left between its begin and its body
                self.change("BEGIN IMMEDIATE")
            self._depth += 1
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            self._depth -= 1
            if not self._depth:
                self._finish(kind is None)
        finally:
            self._lock.release()

    def _finish(self, is_done: bool) -> None:
        if is_done:
            try:
                self.change("COMMIT")
                return
            except OrcError:
                self._roll_back()
                raise
        self._roll_back()

    def _roll_back(self) -> None:
        try:
            self._connection.execute("ROLLBACK")
        except (_sqlite3.Error, AttributeError):
            pass  # SQLite has done so itself: after a full disk, an I/O error

    def close(self) -> None:
        if self._pid != os.getpid():
            return
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        connection, self._connection, self._pid = self._connection, None, 0
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.close()
        if connection is not None:
            connection.close()  # of itself it would live until the next collection of garbage

    # files that are damaged, or are others now

    def _failed(self, error: Exception) -> None:
        """Raises the error as one of ours; returns when the file was damaged and a rebuilt one is open."""
        told = refusal.of(self.path, error)
        self._mends = [at for at in self._mends if at > monotonic_ns() - _MINUTE]
        if not isinstance(told, refusal.Damaged) or self._mend is None or len(self._mends) >= MOST_MENDS:
            raise told from None
        self._rebuild(str(error), False)

    def _rebuild(self, why: str, sure: bool) -> bool:
        """Was it rebuilt here, with all that this connection has done?"""
        assert self._mend is not None
        within = self._depth > 0
        found = self._mend(self._inodes[0], why, sure)
        self._mends += [monotonic_ns()] * (1 if found is None else 10)
        self.close()
        if within:
            raise TryLater(f"{self.path} was damaged and has been rebuilt: try again")
        self._open()
        return found is not None

    def _is_lost(self, sql: str) -> bool:
        """Has what was changed just now gone into a file that no longer has its name? Then another one is open now."""
        if self._depth:
            return False  # the end of the transaction will tell
        self._look_at = monotonic_ns() + LOOK
        try:
            now = place.inodes(self.path)
        except SystemFailure:
            return False  # of a disk that does not answer: it is done where it was done
        if now == self._inodes:
            return False
        if now[0] == self._inodes[0]:
            if not self._inodes[1]:  # there was none: somebody has begun one since, and what was done stands
                self.close()
                self._open()
                return sql == "BEGIN IMMEDIATE"
            if self._mend is None:
                raise SystemFailure(f"the WAL of {self.path} was deleted while it is in use: run orc-task repair")
            if self._rebuild("its WAL was deleted while it was in use", True):
                return False
        else:
            place.say(f"{self.path} was replaced or deleted while it was in use: opened anew")
            self.close()
            self._open()
        if sql == "COMMIT":
            raise TryLater(f"{self.path} was replaced while it was changed: try again")
        return True

    # opening

    def _open(self) -> None:
        _drop_inherited()
        with self._lock:
            if self._pid == os.getpid():
                return  # another thread was quicker
            try:
                while not self._connect():
                    pass
            except BaseException:
                self._drop()
                raise

    def _connect(self) -> bool:
        """False when the file was replaced in this very moment."""
        if place.make_private(self.path, place.WAIT_S if self._patience == BUSY_S else self._patience):
            if self._mend is None:
                raise TryLater(f"{self.path} is being rebuilt: try again")
            self._mend(0, "its rebuilding was interrupted", False)
        self._look_at, self._inodes = 1 << 63, place.inodes(self.path)
        try:
            self._connection = _sqlite3.connect(place.uri(self.path), **_HOW)
            self._pid, self._depth = os.getpid(), 0
            if self._version is not None and self.version() != self._version:
                self.migrate(self._version)
            self.change(f"PRAGMA synchronous = {'FULL' if self._full else 'NORMAL'}")
            self.change(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT if self._patience == BUSY_S else 0}")
        except _sqlite3.Error as error:
            if place.inodes(self.path)[0] != self._inodes[0]:
                return False
            raise refusal.of(self.path, error) from None
        looked, opened = monotonic_ns(), place.inodes(self.path)  # in this order: between the two much time may pass
        if opened[0] != self._inodes[0] or self._inodes[1] not in (0, opened[1]):
            self.close()
            return False
        self._inodes, self._look_at = opened, looked + LOOK
        return True

    def is_current(self) -> bool:
        """Is the file of this name still the one that is open here? A statement looks only now and then."""
        return place.inodes(self.path) == self._inodes

    def version(self) -> int:
        """Of the schema in the file; 0 for a new one, or one that the document's own code has made."""
        return int(self.rows("PRAGMA user_version")[0][0])

    def migrate(self, wanted: int) -> None:
        """Bring the file to this version, each step in one transaction. Raises DataError for a newer one."""
        found = self.version()
        if found > VERSION:
            raise DataError(
                f"{self.path} is of version {found}, newer than this program ({VERSION}): update the program, "
                f"or take the file back with the newer one: orc-task migrate --to {VERSION}"
            )
        from tmux_orchestrator.work.store import schema  # seldom

        if not found:
            self.change(f"PRAGMA page_size = {_PAGE}")
            self.rows("PRAGMA journal_mode = WAL")
        for version, statements in schema.steps(found, wanted):
            before = version - 1 if found < wanted else version + 1
            with self:
                if self.version() != before:
                    continue  # another process was quicker
                for statement in schema.split(statements):
                    self.change(statement)
                self.change(f"PRAGMA user_version = {version}")


def _drop_inherited() -> None:
    """After a fork, before anything is opened: close all that the parent had open. SQLite takes the locks of that for
    this process's own, and would take none."""
    mine = os.getpid()
    for one in [known() for known in _opened]:
        if one is not None and one._pid not in (0, mine):
            one._lock = RLock()  # a thread that is not here may hold the old one
            one._drop()
