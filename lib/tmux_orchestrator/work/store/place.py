"""The database's file as the file system has it: its name, its neighbours, and that it is private to the user.

The file is never opened here: to close it again would drop the locks of whatever connection this process has.
"""

from __future__ import annotations

import os

from tmux_orchestrator.ground import files
from tmux_orchestrator.ground.errors import NotPermitted, SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tmux_orchestrator.ground.paths import Home

PARTS, LOCK, UNFINISHED = ("", "-wal", "-shm"), ".lock", ".salvage"  # of names of files, behind the database's
_LONG = 256 << 10  # bytes
WAIT_S = 60.0  # for who makes the file, or rebuilds it
_REGULAR, _KIND = 0o100000, 0o170000  # of st_mode, as `stat` has them


def make_private(path: str, wait: float) -> bool:
    """The file exists, is ours alone and no link: SQLite would make it as the umask says. Raises NotPermitted.

    True: it is not there, because somebody's rebuilding of it was interrupted. `wait`: seconds for who makes it just
    now, or rebuilds it; then TryLater.
    """
    try:
        while (found := _status(path)) is None:
            if _make(path, wait):
                return True
        if found.st_mode & _KIND != _REGULAR:
            raise SystemFailure(f"{path} is no plain file: choose another team.message_queue.db_path")
        if found.st_uid != os.geteuid() and os.geteuid():
            raise NotPermitted(f"{path} belongs to another user: choose another team.message_queue.db_path")
        if found.st_mode & 0o077 and os.access(path, os.W_OK):
            os.chmod(path, 0o600)
    except OSError as error:
        raise SystemFailure(
            f"cannot open {path} ({error.strerror}): see that it is a file that you may write"
        ) from None
    return False


def _status(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _make(path: str, wait: float) -> bool:
    """Make an empty file; True when there is one that is being rebuilt."""
    from tmux_orchestrator.ground.locks import Lock  # seldom

    files.make_dir(os.path.dirname(path))
    with Lock(path + LOCK, wait):
        if os.path.lexists(path):
            return False  # another process was quicker
        if os.path.lexists(path + UNFINISHED):
            return True
        for part in PARTS[1:]:
            if os.path.lexists(path + part):  # of a database that somebody deleted: SQLite would take it for ours
                os.unlink(path + part)
        os.mknod(path, _REGULAR | 0o600)
    return False


def uri(path: str) -> str:
    """Never makes the file. Where nobody can write, and there is no WAL, it is read as it is."""
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    is_still = not os.access(os.path.dirname(path) or ".", os.W_OK) and inodes(path)[1:] == (0, 0)
    return f"file:{quoted}?" + ("immutable=1" if is_still else "mode=rw")


def inodes(path: str) -> tuple[int, ...]:
    """Of the file, its WAL and the WAL's index; 0 for what is not there. Raises SystemFailure where nobody can tell."""
    found = []
    for part in PARTS:
        try:
            found.append(os.lstat(path + part).st_ino)
        except FileNotFoundError:
            found.append(0)
        except OSError as error:
            raise SystemFailure(f"cannot look at {path + part} ({error.strerror}): see to the disk") from None
    return tuple(found)


def say(line: str) -> None:
    """What nobody asked for, and somebody has to know: a line on stderr."""
    try:
        os.write(2, f"tasks: {line}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        pass


def mender(home: Home, path: str) -> Callable[[int, str, bool], object]:
    """How a Database of this home rebuilds a damaged file."""

    def mend(inode: int, why: str, sure: bool) -> object:
        from tmux_orchestrator.work.store import salvage  # seldom

        return salvage.mend(home, path, inode, why, sure)

    return mend


def is_long(path: str) -> bool:
    """Has the WAL grown so that a process that opens the database alone would be slow to read it through?"""
    try:
        return os.path.getsize(path + "-wal") > _LONG
    except OSError:
        return False
