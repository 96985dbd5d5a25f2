"""Pid files: one winner, and never a signal to a process that is not the component."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tmux_orchestrator.ground import pidfile
from tmux_orchestrator.ground.errors import SystemFailure
from tmux_orchestrator.ground.paths import Home

CLAIM = str(Path(__file__).resolve().parents[1] / "programs/claim.py")
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(home: Home) -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def one(*words: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-I", "-S", CLAIM, home.root, *words]
        process = subprocess.Popen(argv, stdin=stdin, stdout=subprocess.PIPE)
        started.append(process)
        return process

    yield one
    for process in started:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def said(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout
    return os.read(process.stdout.fileno(), 1)


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


def write(home: Home, text: bytes) -> str:
    os.makedirs(home.logs, exist_ok=True)
    with open(home.pid_file("broker"), "wb") as file:
        file.write(text)
    return home.pid_file("broker")


@pytest.mark.parametrize("attempt", range(5))
def test_of_fifty_starts_one_wins(home: Home, start: Start, attempt: int) -> None:
    write(home, b"%d\n" % os.getpid() if attempt % 2 else b"")
    gun, trigger = os.pipe()
    racers = [start("race", stdin=gun) for _ in range(50)]
    assert [said(racer) for racer in racers] == [b"r"] * 50
    os.close(gun)
    os.close(trigger)
    winners = [racer.pid for racer in racers if said(racer) == b"1"]
    assert len(winners) == 1
    assert pidfile.running(home, "broker") == winners[0]


def test_the_file_holds_the_number_and_is_private(home: Home, start: Start) -> None:
    path = write(home, b"a longer label of somebody else\n")
    os.chmod(path, 0o644)
    process = start()
    assert said(process) == b"1"
    with open(path, "rb") as file:
        assert file.read() == b"%d\n" % process.pid
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert pidfile.claim(home, "broker") is None


def test_stop_ends_it_and_leaves_the_file(home: Home, start: Start) -> None:
    process = start()
    assert said(process) == b"1"
    assert pidfile.stop(home, "broker")
    assert process.wait(5) == -signal.SIGTERM
    assert os.path.exists(home.pid_file("broker"))
    assert pidfile.running(home, "broker") is None
    assert not pidfile.stop(home, "broker")


def test_what_ignores_sigterm_is_killed(home: Home, start: Start) -> None:
    process = start("stubborn")
    assert said(process) == b"1"
    assert pidfile.stop(home, "broker", timeout=0.2)
    assert process.wait(5) == -signal.SIGKILL


def test_a_killed_owner_does_not_run(home: Home, start: Start) -> None:
    process = start()
    assert said(process) == b"1"
    process.kill()
    process.wait()
    assert pidfile.running(home, "broker") is None
    again = start()
    assert said(again) == b"1"


def test_a_standby_takes_over(home: Home, start: Start) -> None:
    first = start()
    assert said(first) == b"1"
    second = start("wait")
    with open(home.pid_file("broker"), "rb") as file:
        until(lambda: pidfile._has_open(second.pid, file.fileno()))
    first.kill()
    assert said(second) == b"1"
    assert pidfile.running(home, "broker") == second.pid


def signals_sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    sent: list[int] = []
    monkeypatch.setattr("_signal.pidfd_send_signal", lambda fd, number: sent.append(number))
    return sent


@pytest.mark.parametrize("label", [b"", b"0\n", b"-1\n", b"1\n", b"01\n", b" 7\n", b"12", b"x\n", b"9" * 40, b"\0\n"])
@pytest.mark.parametrize("locked", [True, False])
def test_no_signal_for_a_label_that_is_no_pid(
    home: Home, monkeypatch: pytest.MonkeyPatch, label: bytes, locked: bool
) -> None:
    sent = signals_sent(monkeypatch)
    with open(write(home, label), "rb") as file:
        if locked:
            fcntl.flock(file, fcntl.LOCK_EX)
        assert pidfile.running(home, "broker") is None
        assert not pidfile.stop(home, "broker")
    assert sent == []


@pytest.mark.parametrize("locked", [True, False])
def test_no_signal_for_a_reused_pid(home: Home, monkeypatch: pytest.MonkeyPatch, locked: bool) -> None:
    """An innocent process has the old owner's number; unlocked, or in the instant before a new owner's label."""
    sent = signals_sent(monkeypatch)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as innocent:
        with open(write(home, b"%d\n" % innocent.pid), "rb") as file:
            if locked:
                fcntl.flock(file, fcntl.LOCK_EX)
            assert pidfile.running(home, "broker") is None
            assert not pidfile.stop(home, "broker")
        assert innocent.poll() is None
        innocent.kill()
    assert sent == []


def test_a_process_that_only_reads_the_file_does_not_run(home: Home) -> None:
    with open(write(home, b"%d\n" % os.getpid()), "rb") as file:
        assert pidfile.running(home, "broker") is None
        fcntl.flock(file, fcntl.LOCK_EX)
        assert pidfile.running(home, "broker") == os.getpid()
        write(home, b"%d" % os.getpid())  # half a number may be that of somebody who stands by
        assert pidfile.running(home, "broker") is None


def test_no_signal_when_the_owner_changes_between(home: Home, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = signals_sent(monkeypatch)
    first = start()
    assert said(first) == b"1"
    pin = os.pidfd_open

    def pin_late(pid: int) -> int:
        fd = pin(pid)
        first.kill()
        first.wait()
        assert said(start()) == b"1"
        return fd

    monkeypatch.setattr(os, "pidfd_open", pin_late)
    assert not pidfile.stop(home, "broker")
    assert sent == []


def test_looking_never_makes_a_start_fail(home: Home, start: Start) -> None:
    """Who looks takes a shared lock for an instant: a claim in that instant must not give up."""
    path = write(home, b"")
    with open(path, "rb") as looker:
        fcntl.flock(looker, fcntl.LOCK_SH)
        process = start()
        until(lambda: pidfile._has_open(process.pid, looker.fileno()))
        fcntl.flock(looker, fcntl.LOCK_UN)
        assert said(process) == b"1"


def test_a_link_is_refused(home: Home, tmp_path: Path) -> None:
    os.makedirs(home.logs)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    os.symlink(victim, home.pid_file("broker"))
    with pytest.raises(SystemFailure):
        pidfile.claim(home, "broker")
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_cannot_be_a_pid_file(home: Home, kind: str) -> None:
    """It is named, nobody waits for it, and no link leads to another component's."""
    path = home.pid_file("broker")
    other = pidfile.claim(home, "monitor")
    assert other is not None
    if kind == "link":
        os.symlink(home.pid_file("monitor"), path)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        os.mkdir(path)
    with pytest.raises(SystemFailure, match=re.escape(path)):
        pidfile.running(home, "broker")
    os.close(other)


def test_a_replaced_file_is_claimed_anew(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(home, b"")
    lock = pidfile._lock

    def replaced(fd: int, kind: int, wait: bool) -> bool:
        if os.path.exists(path) and os.path.samestat(os.fstat(fd), os.stat(path)) and not os.path.exists(path + ".old"):
            os.rename(path, path + ".old")
        return lock(fd, kind, wait)

    monkeypatch.setattr(pidfile, "_lock", replaced)
    fd = pidfile.claim(home, "broker")
    assert fd is not None
    assert os.path.samestat(os.fstat(fd), os.stat(path))
    os.close(fd)
