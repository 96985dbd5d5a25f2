"""The long-lived parts: what is noted in their output, and what that says of how they ended."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from pathlib import Path

import pytest

from tmux_orchestrator.ground import components, files, pidfile
from tmux_orchestrator.ground.paths import Home


def out(home: Home, text: str) -> None:
    files.make_dir(home.logs)
    Path(home.out_file("broker")).write_text(text)


@pytest.mark.parametrize(
    ("text", "crashed"),
    [
        ("", False),
        ("T INFO broker: started (pid 1)\n", True),
        ("T INFO broker: started (pid 1)\nT ERROR broker: oh\n", True),
        ("T INFO broker: started (pid 1)\nT INFO broker: stopped on request\n", False),
        ("T INFO broker: stopped on request\nT INFO broker: started (pid 2)\n", True),
        ("T INFO monitor: stopped on request\n", True),
    ],
)
def test_what_does_not_end_with_its_stop_crashed(home: Home, text: str, crashed: bool) -> None:
    out(home, text)
    assert bool(components.crash(home, "broker")) is crashed


def test_nothing_that_was_never_started_crashed(home: Home) -> None:
    assert components.crash(home, "broker") == []


@pytest.mark.parametrize("ended", [True, False])
def test_another_start_may_win(home: Home, monkeypatch: pytest.MonkeyPatch, ended: bool) -> None:
    """Two starts at once: ours has lost and left, or has not noticed yet. What is wanted runs, and that is said."""
    kept: list[int | None] = []
    children: list[subprocess.Popen[bytes]] = []

    def spawn(home: Home, name: str) -> subprocess.Popen[bytes]:
        kept.append(pidfile.claim(home, name))
        children.append(subprocess.Popen(["cat"], stdin=subprocess.PIPE))
        if ended:
            children[0].communicate()
        return children[0]

    monkeypatch.setattr(components, "_spawn", spawn)
    assert components.start(home, "broker") == (os.getpid(), False)
    assert components.last_lines(home, "broker") == []
    children[0].communicate()
    assert kept[0] is not None
    os.close(kept[0])


def test_a_full_disk_keeps_nobody_from_starting_or_stopping(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "write_all", full)
    components._note(home, "broker", "INFO broker: started (pid 1)")
    files.make_dir(home.logs)
    os.mkdir(home.out_file("monitor"))
    components._note(home, "monitor", "INFO monitor: started (pid 1)")
    assert components.crash(home, "broker") == []


def test_many_that_open_the_output_at_one_time_make_one_link(home: Home) -> None:
    os.makedirs(home.logs)
    gate = threading.Barrier(16)
    failed: list[BaseException] = []

    def open_it() -> None:
        gate.wait()
        try:
            os.close(components._open_out(home, "broker"))
        except BaseException as error:  # noqa: BLE001 # told below
            failed.append(error)

    for _ in range(20):
        if os.path.lexists(home.logs + "/daemon.log"):
            os.unlink(home.logs + "/daemon.log")
        those = [threading.Thread(target=open_it) for _ in range(16)]
        for one in those:
            one.start()
        for one in those:
            one.join()
    assert failed == [] and os.readlink(home.logs + "/daemon.log") == "broker.out"
