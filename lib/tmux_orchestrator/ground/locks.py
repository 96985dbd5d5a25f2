"""One lock for all: flock on a file that is never unlinked.

The kernel queues the waiters, so nobody starves, and frees the lock when its holder dies. flock(1) and the
`filelock` package take the same lock, so shell scripts can join in. After locking, the file is checked to have
its name still: somebody may have deleted or replaced it while we waited.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import errno
import fcntl
import os
import time

from tmux_orchestrator.ground.errors import SystemFailure, TryLater
from tmux_orchestrator.ground.files import make_dir

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_NOW = fcntl.LOCK_EX | fcntl.LOCK_NB
_BUSY = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK)


class _Alarm(Exception):
    pass


def _open(path: str) -> int:
    try:
        return os.open(path, _FLAGS, 0o600)
    except FileNotFoundError:
        make_dir(os.path.dirname(path))
        return os.open(path, _FLAGS, 0o600)


def _try(fd: int) -> bool:
    try:
        fcntl.flock(fd, _NOW)
        return True
    except OSError as error:
        if error.errno not in _BUSY:
            raise
        return False


def _wait(fd: int, seconds: float) -> bool:
    """Join the kernel's queue for at most `seconds`."""
    waiting = True

    def ring(number: int, frame: object) -> None:
        if waiting:  # each time: one that is raised in somebody's __del__ is lost
            raise _Alarm

    try:
        before = _signal.signal(_signal.SIGALRM, ring)
    except ValueError:  # not the main thread, where no alarm can be set: ask every millisecond
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if _try(fd):
                return True
            time.sleep(0.001)
        return False
    timer = (0.0, 0.0)
    try:
        try:
            timer = _signal.setitimer(_signal.ITIMER_REAL, seconds, 0.05)  # again, if it rings before flock has begun
            fcntl.flock(fd, fcntl.LOCK_EX)
        finally:
            waiting = False
    except _Alarm:
        pass
    finally:
        waiting = False
        _signal.setitimer(_signal.ITIMER_REAL, *timer)
        _signal.signal(_signal.SIGALRM, before or _signal.SIG_DFL)
    return _try(fd)  # the alarm may have rung when the lock was ours already: asking twice takes nothing


class Lock:
    """An exclusive lock on `path`, waited for at most `timeout` seconds (0: not at all).

    Keeps its file open between uses. Raises TryLater when it is not to be had, SystemFailure when the
    system refuses.
    """

    __slots__ = ("fd", "path", "timeout")

    def __init__(self, path: str, timeout: float = 5.0) -> None:
        self.path = path
        self.timeout = timeout
        self.fd = -1

    def acquire(self) -> int:
        """Take the lock; the descriptor of the lock file."""
        if self.fd >= 0:  # nearly always it is free, and still has its name
            try:
                fcntl.flock(self.fd, _NOW)
                if os.fstat(self.fd).st_nlink:
                    return self.fd
            except OSError:
                pass
        return self._acquire()

    def _acquire(self) -> int:
        end = 0.0
        try:
            while True:
                if self.fd < 0:
                    self.fd = _open(self.path)
                if not _try(self.fd):
                    end = end or time.monotonic() + self.timeout
                    left = end - time.monotonic()
                    if left <= 0 or not _wait(self.fd, left):
                        raise TryLater(f"{self.path} is locked by another process: try again")
                if os.fstat(self.fd).st_nlink:
                    return self.fd
                self.close()  # deleted or replaced while we waited
        except OSError as error:
            self.close()
            raise SystemFailure(
                f"cannot lock {self.path} ({error.strerror}): see that it is a plain file that you may write"
            ) from None

    def release(self) -> None:
        fcntl.flock(self.fd, fcntl.LOCK_UN)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    __del__ = close

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
