"""Why SQLite refuses, as one of our errors: what is wrong, and what to do."""

from __future__ import annotations

from tmux_orchestrator.ground.errors import DataError, NotPermitted, OrcError, SystemFailure, TryLater
from tmux_orchestrator.work.store.sqlite import _sqlite3

_BUSY, _LOCKED, _PROTOCOL, _PERM, _READONLY, _IOERR = 5, 6, 15, 3, 8, 10  # SQLite's primary result codes
_CORRUPT, _FULL, _CANTOPEN, _CONSTRAINT, _NOTADB, _TOOBIG = 11, 13, 14, 19, 26, 18
_DAMAGED = (_CORRUPT, _NOTADB)
_SHORT_READ = 522  # of a WAL that lacks what its index says: somebody deleted or cut it in use
ERRORS = (_sqlite3.Error, ValueError, OverflowError)  # the last two: of texts and numbers that it cannot take


class Damaged(DataError):
    """The file is no database, or one whose pages contradict each other."""


def of(path: str, error: Exception) -> OrcError:
    """The error as one of ours."""
    if isinstance(error, ValueError | OverflowError):
        return DataError("a text is not Unicode, or a number is too large: correct it")
    whole = getattr(error, "sqlite_errorcode", 0)
    code, text = whole & 0xFF, str(error)
    if is_busy(error):
        return TryLater(f"{path} is locked by another process: try again")
    if code in (_READONLY, _PERM):
        return NotPermitted(f"{path} cannot be written: see whose it is, and that its file system is writable")
    if code in _DAMAGED or whole == _SHORT_READ:
        return Damaged(f"{path} is damaged ({text}): run orc-task repair")
    if code == _FULL:
        return SystemFailure(f"the disk of {path} is full: make room, nothing was half done")
    if code in (_IOERR, _CANTOPEN):
        return SystemFailure(f"{path} cannot be used ({text}): see to the disk and the permissions")
    if code == _TOOBIG:
        return DataError("the task is too large: put the data into a file and name the file")
    return DataError(f"{path} did not take the change ({text}): run orc-task check")


def is_busy(error: Exception) -> bool:
    """Also when so many begin and end at once that SQLite gives up on the WAL's locks, which it calls the protocol."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (_BUSY, _LOCKED, _PROTOCOL)
