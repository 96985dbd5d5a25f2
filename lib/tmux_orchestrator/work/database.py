"""The task database: the only module that opens it, and that knows SQLite's errors.

One file in WAL mode, private to the user. What a statement or a transaction has done survives kill -9 of any process;
with `synchronous: FULL` a power cut too, with `NORMAL` a power cut may take the last moments (never half a change).
Pages are of 1 KiB, because a change writes whole pages into the WAL: 45 microseconds for a task's three changes,
with 4 KiB 55 and more syncs.

A connection is for one process: after a fork the child opens its own.
"""

from __future__ import annotations

import _sqlite3
import os

from tmux_orchestrator.ground import files
from tmux_orchestrator.ground.errors import DataError, NotPermitted, OrcError, SystemFailure, TryLater

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Row = tuple[Any, ...]

VERSION = 2
BUSY_S = 5.0  # another's change is waited for this long
_PAGE, _CHECKPOINT = 1024, 16_000  # bytes; pages in the WAL until they move into the database: 16 MB
_MEGABYTE = 1 << 20
_BUSY, _LOCKED, _PERM, _READONLY, _IOERR = 5, 6, 3, 8, 10  # SQLite's primary result codes
_CORRUPT, _FULL, _CANTOPEN, _CONSTRAINT, _NOTADB, _TOOBIG = 11, 13, 14, 19, 26, 18
DAMAGED = (_CORRUPT, _NOTADB)


class Damaged(DataError):
    """The file is no database, or one whose pages contradict each other."""


class Database:
    """One kept connection. Every statement is a transaction of its own, but within `with database:`."""

    def __init__(self, path: str, full: bool = False, version: int | None = VERSION) -> None:
        """Open or make the file, and bring it to this version; None: it stays what it is.

        Raises DataError, NotPermitted, SystemFailure, TryLater, Damaged.
        """
        self.path = path
        self._full = full
        self._version = version
        self._connection: Any = None
        self._pid = 0
        self._depth = 0
        self._open()

    # statements

    def rows(self, sql: str, *values: object) -> list[Row]:
        """All rows of one statement; it has taken effect when this returns."""
        if self._pid != os.getpid():
            self._open()
        try:
            return self._connection.execute(sql, values).fetchall()  # type: ignore[no-any-return]
        except _sqlite3.Error as error:
            raise self._told(error) from None

    def row(self, sql: str, *values: object) -> Row | None:
        """The first row, or None."""
        found = self.rows(sql, *values)
        return found[0] if found else None

    def change(self, sql: str, *values: object) -> int:
        """How many rows the statement changed."""
        if self._pid != os.getpid():
            self._open()
        try:
            return self._connection.execute(sql, values).rowcount  # type: ignore[no-any-return]
        except _sqlite3.Error as error:
            raise self._told(error) from None

    def walk(self, sql: str, *values: object) -> Iterator[Row]:
        """The rows one by one, for results that may be large."""
        if self._pid != os.getpid():
            self._open()
        try:
            yield from self._connection.execute(sql, values)
        except _sqlite3.Error as error:
            raise self._told(error) from None

    def __enter__(self) -> Database:
        """Begin a transaction that writes; inside another one it is part of that."""
        if not self._depth:
            self.change("BEGIN IMMEDIATE")
        self._depth += 1
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._depth -= 1
        if self._depth:
            return
        if kind is None:
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
        except _sqlite3.Error:
            pass  # SQLite has done so itself: after a full disk, an I/O error

    def close(self) -> None:
        if self._connection is not None and self._pid == os.getpid():
            self._connection.close()
        self._connection = None
        self._pid = 0

    # opening

    def _open(self) -> None:
        self._connection, self._depth = None, 0  # after a fork: the parent's, which the child may not even close
        _make_private(self.path)
        try:
            self._connection = _connect(self.path)
            self._pid = os.getpid()
            if self._version is not None and self.version() != self._version:
                self.migrate(self._version)
            self.change(f"PRAGMA synchronous = {'FULL' if self._full else 'NORMAL'}")
            self.change(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT}")
        except _sqlite3.Error as error:
            raise self._told(error) from None

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
        from tmux_orchestrator.work import schema  # seldom

        if not found:
            self.change(f"PRAGMA page_size = {_PAGE}")
            self.rows("PRAGMA journal_mode = WAL")
        for version, statements in schema.steps(found, wanted):
            before = version - 1 if found < wanted else version + 1
            with self:
                if self.version() != before:
                    continue  # another process was quicker
                for statement in _split(statements):
                    self.change(statement)
                self.change(f"PRAGMA user_version = {version}")

    def _told(self, error: _sqlite3.Error) -> OrcError:
        """The error as one of ours."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        text = str(error)
        if code in (_BUSY, _LOCKED):
            return TryLater(f"{self.path} is locked by another process: try again")
        if code in (_READONLY, _PERM):
            return NotPermitted(f"{self.path} cannot be written: see whose it is, and that its file system is writable")
        if code in DAMAGED:
            return Damaged(f"{self.path} is damaged ({text}): run orc-task repair")
        if code == _FULL:
            return SystemFailure(f"the disk of {self.path} is full: make room, nothing was half done")
        if code in (_IOERR, _CANTOPEN):
            return SystemFailure(f"{self.path} cannot be used ({text}): see to the disk and the permissions")
        if code == _TOOBIG:
            return DataError("the task is too large: put the data into a file and name the file")
        return DataError(f"{self.path} did not take the change ({text}): run orc-task check")


def _connect(path: str) -> Any:
    return _sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=64)


def _make_private(path: str) -> None:
    """The file exists, is ours alone and no link: SQLite would make it as the umask says. Raises NotPermitted."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        try:
            fd = os.open(path, flags, 0o600)
        except FileNotFoundError:
            files.make_dir(os.path.dirname(path))
            fd = os.open(path, flags, 0o600)
    except OSError as error:
        if os.path.isfile(path) and not os.path.islink(path):
            return  # read-only: what only reads will do, and what writes is told
        raise SystemFailure(
            f"cannot open {path} ({error.strerror}): see that it is a file that you may write"
        ) from None
    try:
        found = os.fstat(fd)
        if found.st_uid != os.geteuid() and os.geteuid():
            raise NotPermitted(f"{path} belongs to another user: choose another team.message_queue.db_path")
        if found.st_mode & 0o077:
            os.fchmod(fd, 0o600)
    finally:
        os.close(fd)


def _split(statements: str) -> list[str]:
    """The statements of a script, one by one: `executescript` would end the transaction that they belong to."""
    found, held = [], ""
    for part in statements.split(";"):
        held += part + ";"
        if _sqlite3.complete_statement(held):
            found.append(held.strip())
            held = ""
    return [one for one in found if one != ";"]
