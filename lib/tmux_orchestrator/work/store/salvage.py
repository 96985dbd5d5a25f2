"""A damaged task database is kept aside, and what can be read of it goes on in a new one. Loudly.

Whoever opens or uses a damaged database does this, under one lock and once, because work must go on; never for one
that is only locked, read-only, of a newer version or on a full disk. A damage is believed when a second look at the
file confirms it, a while after anybody has written there.

What a crash leaves: until the new file stands in its place, the old one beside it as `.salvage`; whoever comes next
finds no database, and goes on from there. The other processes that have the old file open see within `database.LOOK`
that its name is gone, before they believe a change of theirs to be done; so it is read after that time.
"""

from __future__ import annotations

import os
import time

from tmux_orchestrator.eventlog import event
from tmux_orchestrator.eventlog.daylog import Log, daemon_source
from tmux_orchestrator.ground import clock, files
from tmux_orchestrator.ground.errors import DataError, NotPermitted, OrcError, SystemFailure, TryLater
from tmux_orchestrator.ground.locks import Lock
from tmux_orchestrator.work.store.database import LOOK, Database
from tmux_orchestrator.work.store.pages import joined, size_of
from tmux_orchestrator.work.store.place import LOCK, PARTS, UNFINISHED, say
from tmux_orchestrator.work.store.recovered import Recovered
from tmux_orchestrator.work.store.refusal import Damaged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tmux_orchestrator.ground.paths import Home

_WAIT_S = 60.0  # another's salvage of a large database
_REST_S, _LOOKS = 0.2, 25  # after the last time that somebody wrote the file itself
_TABLES = ("tasks", "agent_metrics", "deps", "limits", "outbox", "meta")


def findings(path: str) -> list[str]:
    """What is wrong with the database, a line each. Raises what Database does, but Damaged."""
    try:
        database = Database(path, version=None)
    except Damaged as error:
        return [str(error)]
    try:
        found = [str(row[0]) for row in database.rows("PRAGMA integrity_check(20)")]
        if found == ["ok"]:
            found = []
            for table in _TABLES if database.version() > 1 else _TABLES[:2] if database.version() else ():
                for _ in database.walk(f"SELECT * FROM {table}"):  # texts that are none
                    pass
        return found
    except DataError as error:
        return [str(error)]
    finally:
        database.close()


def mend(home: Home, path: str, inode: int, why: str, sure: bool = False) -> dict[str, Any] | None:
    """Rebuild the database if it is damaged; what was recovered (see `Recovered.told`), None if nothing was done.

    `inode`: of the file in which damage was seen; another one has been mended meanwhile. `sure`: no second look.
    Raises TryLater, NotPermitted, SystemFailure; then all stays as it is.
    """
    with Lock(path + LOCK, _WAIT_S):
        if os.path.lexists(path):
            if inode and os.lstat(path).st_ino != inode:
                return None
            if not sure and not _is_damaged(path):
                return None
            _keep(path)  # of one that ended after its last step but one
            _set_aside(path)
        elif not os.path.lexists(path + UNFINISHED):
            return None
        return _rebuild(home, path, why)


def _is_damaged(path: str) -> bool:
    """Not what somebody writes just now, such as a copy of his that is laid over it: that is looked at when it rests.

    Raises TryLater when it does not.
    """
    for _ in range(_LOOKS):
        if not findings(path):
            return False
        try:
            rests = time.time() - os.lstat(path).st_mtime
        except FileNotFoundError:
            return False  # somebody has taken it away
        if not 0 <= rests < _REST_S:
            return True
        time.sleep(_REST_S - rests)
    raise TryLater(f"{path} cannot be read while somebody writes over it: try again")


def dry(path: str) -> dict[str, Any]:
    """What `mend` would recover."""
    return Recovered(_read(path), _read(path + "-wal")).told()


def _set_aside(path: str) -> None:
    wals = _wals(path)
    try:
        for part in PARTS:
            if os.path.lexists(path + part):
                os.rename(path + part, path + UNFINISHED + part)
        files.sync_dir(os.path.dirname(path))
        time.sleep(2 * LOOK / 1e9)
        _join(path + UNFINISHED, wals)
    except OSError as error:
        advice = f"{path} is damaged and cannot be kept aside ({error.strerror}): see that its folder is writable"
        raise NotPermitted(advice) from None
    finally:
        for fd in wals:
            os.close(fd)


def _join(kept: str, wals: list[int]) -> None:
    """Put what stands in WALs that were deleted into the one that is kept."""
    for fd in wals:
        if os.fstat(fd).st_nlink == 0:
            with open(fd, "rb", closefd=False) as file:
                files.replace(kept + "-wal", joined(file.read(), _read(kept + "-wal"), size_of(_read(kept), b"")))


def _wals(path: str) -> list[int]:
    """Descriptors of the file's WAL, and of those that somebody deleted while a process of this user has them open.

    Their index tells which belong to this very file: a process may have one open of a file before this one.
    """
    name, salt = os.path.realpath(path) + "-wal (deleted)", _read(path + "-shm")[32:40]
    links = [f"/proc/{pid}/fd/{fd}" for pid in filter(str.isdigit, os.listdir("/proc")) for fd in _listed(pid)]
    found: dict[int, int] = {}
    for link in [path + "-wal", *links]:
        try:
            if link != path + "-wal" and os.readlink(link) != name:
                continue
            fd = os.open(link, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue  # gone, or there is none
        inode = os.fstat(fd).st_ino
        is_ours = link == path + "-wal" or not salt or os.pread(fd, 8, 16) == salt
        if not is_ours or found.setdefault(inode, fd) != fd:
            os.close(fd)
    return list(found.values())


def _listed(pid: str) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return []  # another user's, or gone


def _rebuild(home: Home, path: str, why: str) -> dict[str, Any]:
    old, new = path + UNFINISHED, path + ".new"
    found = Recovered(_read(old), _read(old + "-wal"))
    for part in PARTS:
        if os.path.lexists(new + part):
            os.unlink(new + part)
    database = Database(new, full=True)
    found.store(database)
    database.close()
    for part in PARTS[1:]:
        if os.path.lexists(path + part):  # of somebody who still had the old one open, and closed it
            os.unlink(path + part)
    told = {"path": path, "kept": _kept_name(path), "reason": why} | found.told()
    _tell(home, told)
    os.rename(new, path)
    files.sync_dir(os.path.dirname(path))
    _keep(path)
    return told


def _kept_name(path: str) -> str:
    """The time is that of its last change, so that a second try finds the same."""
    when = clock.stamp(os.lstat(path + UNFINISHED).st_mtime_ns)
    return f"{path}.damaged-{when.replace(':', '').replace('-', '').replace('.', '')}"


def _keep(path: str) -> None:
    """Give what was set aside its last name."""
    if not os.path.lexists(path + UNFINISHED):
        return
    name = _kept_name(path)
    for part in reversed(PARTS):
        if os.path.lexists(path + UNFINISHED + part):
            os.rename(path + UNFINISHED + part, name + part)


def _read(path: str) -> bytes:
    """The whole file; nothing where there is none."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise SystemFailure(f"cannot read {path} ({error.strerror}): see to the disk") from None


def text(told: dict[str, Any]) -> str:
    """One line for people."""
    return (
        f"{told['path']} was damaged ({told['reason']}) and has been rebuilt: {told['tasks']} tasks recovered, "
        f"{told['lost']} lost, {told['cancelled']} cancelled, {told['unreadable']} pages unreadable; "
        f"the old file is kept as {told['kept']}"
    )


def _tell(home: Home, told: dict[str, Any]) -> None:
    """On stderr and in the log, under an id that a second try has too. A log that refuses keeps no work waiting."""
    say(text(told))
    made = event.build(
        text(told)[:2000],
        daemon_source("tasks"),
        category="health",
        priority="critical",
        subject="Task database damaged",
        groups=["management"],
        context=told,
        tags=["tasks", "damage"],
    )
    try:
        log = Log(home)
        log.append([made | {"id": "tasks-damaged." + told["kept"].rpartition("-")[2]}])
        log.close()
    except OrcError as error:
        say(f"the log was not told of it: {error}")
