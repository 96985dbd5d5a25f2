"""Files and folders that are private to the user and never half written.

A folder is 0700 and a file 0600 whatever the umask. State is replaced as a whole: temporary file, fsync,
rename, fsync of the folder; a crash leaves the old state or the new. Links are never followed.
"""

from __future__ import annotations

import os

from tmux_orchestrator.ground.errors import DataError, NotPermitted, SystemFailure

_ADVICE = "see that the disk has room and that you may write there"
_KIND, _PLAIN = 0o170000, 0o100000  # of st_mode, as `stat` has them
_IN_NAMES = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_LONGEST_NAME, _KEPT = 180, 140  # of the 255 bytes that file systems take, with room for an agent's name and `.tmp`


def encoded(name: str) -> str:
    """The name as a part of a file's name: percent-encoded, so no two names meet in one and none leads elsewhere.

    One that would be longer than a file's name may be is cut, and ends in `%~` and a digest of the whole.
    """
    data = name.encode("utf-8", "surrogatepass")
    text = "".join(chr(b) if chr(b) in _IN_NAMES else f"%{b:02X}" for b in data)
    if len(text) > _LONGEST_NAME:
        import hashlib  # seldom, and it would cost each start a millisecond

        return f"{text[:_KEPT]}%~{hashlib.sha256(data).hexdigest()[:24]}"
    return text


def make_dir(path: str) -> None:
    """Make the folder and those above it, private to the user, so that they survive a power cut.

    Raises NotPermitted for somebody else's folder, SystemFailure when the system refuses.
    """
    above = os.path.dirname(path)
    try:
        if above != path and not os.path.lexists(above):
            make_dir(above)
        os.mkdir(path, 0o700)
        os.chmod(path, 0o700)
        sync_dir(above)
    except FileExistsError:
        check_private(path)
    except OSError as error:
        raise SystemFailure(f"cannot make {path} ({error.strerror}): {_ADVICE}") from None


def check_private(path: str) -> None:
    """Raises NotPermitted if another user owns the folder or could write into it."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise SystemFailure(f"cannot use {path} ({error.strerror}): it must be a folder") from None
    if found.st_uid not in (os.geteuid(), 0):
        raise NotPermitted(f"{path} belongs to another user: choose another ORC_HOME")
    if found.st_mode & 0o022 and not found.st_mode & 0o1000:
        raise NotPermitted(f"{path} can be written by others: run chmod go-w {path}")


def read(path: str, limit: int = 1 << 24) -> bytes | None:
    """The whole file; None where there is none.

    Raises DataError when it is larger than `limit` bytes or no plain file, SystemFailure when the system refuses.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SystemFailure(f"cannot read {path} ({error.strerror}): see whose it is, and that it is no link") from None
    try:
        found = os.fstat(fd)
        if found.st_mode & _KIND != _PLAIN:
            raise DataError(f"{path} is no plain file: name another one")
        if found.st_size > limit:
            raise DataError(f"{path} is larger than {limit} bytes: move it away")
        with open(fd, "rb", closefd=False) as file:
            return file.read()
    except OSError as error:
        raise SystemFailure(f"cannot read {path} ({error.strerror}): see whose it is, and that it is no link") from None
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write every byte. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def sync_dir(path: str) -> None:
    """Make the names in a folder survive a power cut."""
    fd = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace(path: str, data: bytes, sync: bool = True, mode: int = 0o600) -> None:
    """Put `data` in place of the file, as a whole or not at all. Raises SystemFailure.

    `sync=False` is for what can be rebuilt: it survives kill -9, not a power cut. `mode` 0700 is for a program.
    """
    temporary = f"{path}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        try:
            fd = os.open(temporary, flags, 0o600)
        except FileNotFoundError:
            make_dir(os.path.dirname(path))
            fd = os.open(temporary, flags, 0o600)
        try:
            if mode != 0o600:
                os.fchmod(fd, mode)
            write_all(fd, data)
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
        if sync:
            sync_dir(os.path.dirname(path))
    except OSError as error:
        try:
            os.unlink(temporary)
        except OSError:
            pass
        raise SystemFailure(f"cannot write {path} ({error.strerror}): {_ADVICE}") from None


def append(path: str, data: bytes) -> None:
    """Add to a private file, without waiting for the disk. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)
