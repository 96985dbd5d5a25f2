"""Pid files: `logs/<component>.pid` says whether a component runs, and lets exactly its process be stopped.

The truth is the lock: its owner holds it for life, and the kernel frees it however the owner ends. The number in
the file is a label that only the holder writes, and it counts only while the lock is held and the process of that
number has this very file open; so an empty file, `0`, `-1`, garbage, or a number that the kernel gave to somebody
else is never signalled. A file is never unlinked: two processes could then hold the lock of two files of one name.
A crash leaves an unlocked file with an old number, which means: not running.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import errno
import fcntl
import os
import select
import time

from tmux_orchestrator.ground.errors import NotPermitted, SystemFailure
from tmux_orchestrator.ground.files import make_dir
from tmux_orchestrator.ground.paths import Home

_OWN = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_BUSY = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK)
# Whoever looks may hold a shared lock for an instant, and a winner writes its number just after it has won:
# a loser asks again until it has seen the winner's number, or for this many seconds.
_SETTLE = 1.0


def claim(home: Home, component: str, wait: bool = False) -> int | None:
    """Take the component's pid file for the life of this process: its descriptor, or None if another holds it.

    `wait`: stand by until the holder is gone. Raises SystemFailure.
    """
    path = home.pid_file(component)
    end = time.monotonic() + _SETTLE
    try:
        while True:
            fd = _open(path)
            if _lock(fd, fcntl.LOCK_EX, wait):
                if _leads_to(path, fd):
                    _label(fd)
                    return fd
            elif running(home, component) is not None or time.monotonic() > end:
                os.close(fd)
                return None
            time.sleep(0.001)
            os.close(fd)
    except OSError as error:
        raise SystemFailure(f"cannot claim {path}: {error.strerror}") from None


def running(home: Home, component: str) -> int | None:
    """The pid of the component's process, or None when it does not run."""
    try:
        fd = os.open(home.pid_file(component), _LOOK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SystemFailure(f"cannot read {home.pid_file(component)}: {error.strerror}") from None
    try:
        pid = _number(os.pread(fd, 32, 0))
        if pid is None or not _has_open(pid, fd):
            return None
        return None if _lock(fd, fcntl.LOCK_SH, False) else pid
    except OSError as error:
        raise SystemFailure(f"cannot read {home.pid_file(component)}: {error.strerror}") from None
    finally:
        os.close(fd)


def stop(home: Home, component: str, timeout: float = 10.0) -> bool:
    """End the component: SIGTERM, and SIGKILL after `timeout` seconds. False when it did not run.

    Raises NotPermitted for another user's process, SystemFailure for one that even SIGKILL does not end.
    """
    pid = running(home, component)
    if pid is None:
        return False
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        # The descriptor pins the process; only now is it sure that the holder is what it pins.
        if running(home, component) != pid:
            return False
        if not (_end(pidfd, _signal.SIGTERM, timeout) or _end(pidfd, _signal.SIGKILL, timeout)):
            raise SystemFailure(f"{component} (pid {pid}) does not end: see what it waits for in /proc/{pid}/stack")
        return True
    except PermissionError:
        raise NotPermitted(f"{component} (pid {pid}) belongs to another user: stop it as that user") from None
    finally:
        os.close(pidfd)


def wait_end(pidfd: int, seconds: float) -> bool:
    """Has the process of the pidfd ended within so many seconds?"""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def _end(pidfd: int, number: int, timeout: float) -> bool:
    try:
        _signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return True
    return wait_end(pidfd, timeout)


def _open(path: str) -> int:
    try:
        fd = os.open(path, _OWN, 0o600)
    except FileNotFoundError:
        make_dir(os.path.dirname(path))
        fd = os.open(path, _OWN, 0o600)
    return fd


def _lock(fd: int, kind: int, wait: bool) -> bool:
    try:
        fcntl.flock(fd, kind if wait else kind | fcntl.LOCK_NB)
        return True
    except OSError as error:
        if error.errno not in _BUSY:
            raise
        return False


def _leads_to(path: str, fd: int) -> bool:
    """Somebody may have deleted or replaced the file between our open and our lock."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(fd))
    except FileNotFoundError:
        return False


def _label(fd: int) -> None:
    os.fchmod(fd, 0o600)
    os.ftruncate(fd, 0)
    os.pwrite(fd, b"%d\n" % os.getpid(), 0)


def _number(label: bytes) -> int | None:
    digits = label[:-1]
    return int(digits) if label[-1:] == b"\n" and digits.isdigit() else None


def _has_open(pid: int, fd: int) -> bool:
    """Has the process this file open? Its number alone may be an old label's, reused by somebody else."""
    wanted = os.fstat(fd)
    folder = f"/proc/{pid}/fd/"
    try:
        for name in os.listdir(folder):
            try:
                if os.path.samestat(os.stat(folder + name), wanted):
                    return True
            except OSError:
                continue  # closed meanwhile
    except OSError:  # gone, or another user's
        pass
    return False
