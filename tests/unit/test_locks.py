"""One lock for all: exclusive, fair, shared with flock(1) and filelock, safe when its file is deleted or replaced."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from support_tmux import wait_until
from tmux_orchestrator.ground import locks
from tmux_orchestrator.ground.errors import SystemFailure, TryLater
from tmux_orchestrator.ground.locks import Lock

LIB = str(Path(__file__).resolve().parents[2] / "lib")
HOLD = """
import os, sys
sys.path.insert(0, sys.argv[1])
from tmux_orchestrator.ground.locks import Lock
with Lock(sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    return f"{tmp_path}/run/the.lock"


class Holder:
    """A process that holds the lock until it is told to let go."""

    def __init__(self, argv: list[str]) -> None:
        self._child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.pid = self._child.pid
        assert self._child.stdin is not None and self._child.stdout is not None
        self._in, self._out = self._child.stdin, self._child.stdout
        assert self._out.readline() == b"held\n"

    def let_go(self) -> None:
        self._in.close()

    def kill(self) -> None:
        self._child.kill()

    def end(self) -> None:
        self.kill()
        self._in.close()
        self._out.close()
        self._child.wait()


@pytest.fixture
def holder(path: str) -> Iterator[Holder]:
    held = Holder([sys.executable, "-I", "-S", "-c", HOLD, LIB, path])
    yield held
    held.end()


def is_free(path: str) -> bool:
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_one_at_a_time(path: str, holder: Holder) -> None:
    with pytest.raises(TryLater) as told:
        Lock(path, timeout=0).acquire()
    assert path in str(told.value)
    start = time.monotonic()
    with pytest.raises(TryLater):
        Lock(path, timeout=0.2).acquire()
    assert 0.19 < time.monotonic() - start < 5
    threading.Timer(0.1, holder.let_go).start()
    with Lock(path, timeout=10):
        assert not is_free(path)
    assert is_free(path)


def test_a_holder_that_is_killed_frees_it(path: str, holder: Holder) -> None:
    threading.Timer(0.1, holder.kill).start()
    with Lock(path, timeout=10):
        pass


def test_a_holder_that_is_stopped_costs_the_timeout(path: str, holder: Holder) -> None:
    os.kill(holder.pid, signal.SIGSTOP)
    with pytest.raises(TryLater):
        Lock(path, timeout=0.1).acquire()


def test_a_lock_that_was_not_had_is_not_held(path: str) -> None:
    """The alarm may ring when the lock is ours already: then it is ours, and is said to be."""
    rival, turns, stop = Lock(path), [0], threading.Event()

    def flicker() -> None:
        while not stop.is_set():
            rival.acquire()
            turns[0] += 1
            rival.release()

    rival.acquire()
    with pytest.raises(TryLater):
        Lock(path, timeout=0.000_05).acquire()
    rival.release()
    thread = threading.Thread(target=flicker)
    thread.start()
    try:
        for number in range(300):
            lock = Lock(path, timeout=0.000_01 * (number % 20 + 1))
            try:
                lock.acquire()
                assert not is_free(path)
            except TryLater:
                before = turns[0]
                wait_until(lambda before=before: turns[0] > before, what="the rival's turn")  # type: ignore[misc]
            lock.close()
    finally:
        stop.set()
        thread.join()
        rival.close()
    assert is_free(path)


def test_an_alarm_that_rings_before_the_wait_begins_is_not_the_last(
    path: str, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.flock

    def late(fd: int, what: int) -> None:
        if what == fcntl.LOCK_EX:
            with contextlib.suppress(locks._Alarm):
                threading.Event().wait(60)  # it rings here, and nobody hears it
            assert signal.getitimer(signal.ITIMER_REAL)[0] > 0, "nobody would ring again"
        real(fd, what)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(TryLater):
        Lock(path, timeout=0.05).acquire()


def test_an_alarm_that_rings_when_the_wait_is_over_is_heard_by_nobody(
    path: str, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = _signal.setitimer, list[float]()

    def late(which: int, seconds: float, again: float = 0.0) -> object:
        calls.append(seconds)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGALRM)
        return real(which, seconds, again)

    monkeypatch.setattr(_signal, "setitimer", late)
    with pytest.raises(TryLater):
        Lock(path, timeout=0.02).acquire()
    assert len(calls) == 2


def test_the_callers_alarm_and_handler_are_put_back(path: str, holder: Holder) -> None:
    heard: list[int] = []
    handler = signal.signal(signal.SIGALRM, lambda number, frame: heard.append(number))
    timer = signal.setitimer(signal.ITIMER_REAL, 50)
    try:
        with pytest.raises(TryLater):
            Lock(path, timeout=0.02).acquire()
        assert 40 < signal.getitimer(signal.ITIMER_REAL)[0] <= 50
        signal.raise_signal(signal.SIGALRM)
        assert heard == [signal.SIGALRM]
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)


def test_in_a_thread_too(path: str, holder: Holder) -> None:
    results: list[object] = []

    def take(timeout: float) -> None:
        try:
            with Lock(path, timeout):
                results.append("taken")
        except TryLater:
            results.append("later")

    first = threading.Thread(target=take, args=(0.05,))
    first.start()
    first.join()
    second = threading.Thread(target=take, args=(10.0,))
    second.start()
    holder.let_go()
    second.join()
    assert results == ["later", "taken"]


def test_flock_1_takes_the_same_lock(path: str) -> None:
    with Lock(path):
        assert subprocess.run(["flock", "-n", path, "true"], check=False).returncode == 1
    theirs = Holder(["flock", path, "sh", "-c", "echo held; read _"])
    try:
        with pytest.raises(TryLater):
            Lock(path, timeout=0).acquire()
    finally:
        theirs.end()


def test_the_filelock_package_takes_the_same_lock(path: str) -> None:
    lock, theirs = Lock(path, timeout=0), FileLock(path, timeout=0)
    with lock, pytest.raises(Timeout):
        theirs.acquire()
    with theirs, pytest.raises(TryLater):
        lock.acquire()
    with lock:
        pass


def _is_waited_for(inode: str) -> bool:
    return any("->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines())


@pytest.mark.parametrize("tamper", ["delete", "replace"])
def test_a_file_that_changes_while_we_wait_is_noticed(path: str, holder: Holder, tamper: str) -> None:
    """Whoever waited for the old file must not hold it for the lock: others take the new one."""
    waiting = f":{os.stat(path).st_ino} "

    def change() -> None:
        wait_until(lambda: _is_waited_for(waiting), what="the waiter")
        if tamper == "replace":
            Path(path + ".new").touch()
            os.rename(path + ".new", path)
        else:
            os.unlink(path)
        holder.let_go()

    thread = threading.Thread(target=change)
    thread.start()
    with Lock(path, timeout=10) as waiter:
        assert os.fstat(waiter.fd).st_ino == os.stat(path).st_ino
        assert not is_free(path)
    thread.join()


@pytest.mark.parametrize("tamper", ["delete", "replace"])
def test_a_file_that_changes_between_two_uses_is_noticed(path: str, tamper: str) -> None:
    lock = Lock(path)
    lock.acquire()
    lock.release()
    if tamper == "replace":
        Path(path + ".new").touch()
        os.rename(path + ".new", path)
    else:
        os.unlink(path)
    with lock:
        assert os.path.exists(path) and not is_free(path)


def test_what_cannot_be_a_lock_file(path: str, tmp_path: Path) -> None:
    os.mkdir(f"{tmp_path}/run")
    other = tmp_path / "other"
    other.touch()
    os.symlink(other, path)
    with pytest.raises(SystemFailure):
        Lock(path).acquire()
    os.unlink(path)
    os.mkdir(path)
    with pytest.raises(SystemFailure):
        Lock(path).acquire()


def test_kept_between_uses(path: str) -> None:
    lock = Lock(path)
    assert lock.acquire() == lock.fd
    lock.release()
    assert is_free(path)
    assert lock.acquire() == lock.fd and not is_free(path)
    lock.close()
    lock.close()
    assert is_free(path)


def test_private_whether_its_folder_was_there_or_not(path: str) -> None:
    before = os.umask(0)
    try:
        for name in (path, path + ".2"):
            with Lock(name):
                assert os.stat(name).st_mode & 0o777 == 0o600
    finally:
        os.umask(before)


def test_a_system_that_cannot_lock_is_no_busy_lock(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, what: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(SystemFailure):
        Lock(path, timeout=0).acquire()
