"""Agents that are killed and run again: from the signal to the replacement's first words, beside runit and supervisord.

The agent is a shell that writes its pid into a pipe and becomes `sleep`; what its own start costs, without anybody to
notice that it ended, is measured beside. A runit service that lived for less than a second waits one.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.delivery_tools import PAUSE_S, Row, Samples, within
from support_team import Team
from tmux_orchestrator.ground.paths import Home

TIMES, SLOW_TIMES, CROWD = 20, 3, 50
STABLE_S = 1.1
PATIENCE_S = 20.0
FREELY = "restart: {max: 1000, within: 1}"


class Pipe:
    """Where the agents write their pids."""

    def __init__(self, folder: str) -> None:
        self.path = tempfile.mkdtemp(dir=folder) + "/pids"
        os.mkfifo(self.path, 0o600)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        self._rest = b""

    def command(self) -> list[str]:
        return ["/bin/sh", "-c", f"echo $$ >{self.path}; exec sleep 100000"]

    def pids(self, count: int = 1) -> list[int]:
        """The next so many."""
        while self._rest.count(b"\n") < count:
            if not select.select([self._fd], [], [], PATIENCE_S)[0]:
                raise AssertionError(f"not all of {count} agents have started")
            self._rest += os.read(self._fd, 65_536)
        *lines, self._rest = self._rest.split(b"\n", count)
        return list(map(int, lines))

    def close(self) -> None:
        os.close(self._fd)


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="orc-bench-") as folder:
        return [*_beside_runit(folder), *_slow_ones(folder), _crowd(folder)]


def _beside_runit(folder: str) -> list[Row]:
    """One after the other, so that what else the machine does weighs on all of them."""
    own, ours, theirs = Samples(), Samples(), Samples()
    with _team(folder, 1) as (mine, pids), _peer(folder, _runit) as peer:
        pid = pids[0]
        for _ in range(TIMES):
            time.sleep(STABLE_S)
            own.append(_start(mine))
            took, pid = _kill(mine, pid)
            ours.append(took)
            if peer is not None:
                theirs.append(peer.kill())
    work = f"agent killed → its replacement runs, {TIMES} times"
    found = [within(f"{work}: the agent's own start alone", own.median, "ms"), within(work, ours.median, "ms")]
    if not theirs:
        return [*found, Row(work, str(ours), "runit is not here: make bench-peers", "", "")]
    limit = 0.5 * theirs.median + own.median
    beside = f"runit: {theirs}"
    return [*found, within(f"{work}, ≤ 0.5 × runit + own start", ours.median, "ms", limit, beside)]


def _slow_ones(folder: str) -> list[Row]:
    found = []
    for name, start, pause in (("runit, young", _runit, 0.0), ("supervisord", _supervisord, 0.1)):
        with _peer(folder, start) as peer:
            if peer is not None:
                took = Samples()
                for _ in range(SLOW_TIMES):
                    time.sleep(pause)
                    took.append(peer.kill())
                found.append(within(f"the same by {name}", took.median, "ms"))
    return found


def _start(pipe: Pipe) -> float:
    """The agent's own start, by whoever does nothing else."""
    begin = time.perf_counter_ns()
    with subprocess.Popen(pipe.command(), start_new_session=True) as child:
        pipe.pids()
        took = (time.perf_counter_ns() - begin) / 1e6
        child.kill()
    return took


def _kill(pipe: Pipe, pid: int) -> tuple[float, int]:
    begin = time.perf_counter_ns()
    os.kill(pid, signal.SIGKILL)
    again = pipe.pids()[0]
    return (time.perf_counter_ns() - begin) / 1e6, again


def _crowd(folder: str) -> Row:
    took = Samples()
    with _team(folder, CROWD) as (pipe, pids):
        for _ in range(SLOW_TIMES):
            begin = time.perf_counter_ns()
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            pids = pipe.pids(CROWD)
            took.append((time.perf_counter_ns() - begin) / 1e6)
            time.sleep(PAUSE_S)
    return within(f"{CROWD} agents killed at once → all are back", took.median, "ms", 1000.0, str(took))


@contextmanager
def _team(folder: str, count: int) -> Iterator[tuple[Pipe, list[int]]]:
    """So many agents, and their first pids."""
    pipe, home = Pipe(folder), Home(tempfile.mkdtemp(dir=folder))
    os.environ["ORC_HOME"] = home.root
    agents = "\n".join(f"a{number}: {{command: {_yaml(pipe.command())}}}" for number in range(count))
    try:
        with Team(home, agents, FREELY):
            yield pipe, pipe.pids(count)
    finally:
        pipe.close()


def _yaml(words: list[str]) -> str:
    return "[" + ", ".join(f'"{word}"' for word in words) + "]"


class Peer:
    """Another supervisor with one agent."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe, self.pid = pipe, pipe.pids()[0]

    def kill(self) -> float:
        took, self.pid = _kill(self._pipe, self.pid)
        return took


@contextmanager
def _peer(folder: str, start: Callable[[str, Pipe], list[str] | None]) -> Iterator[Peer | None]:
    """None where it is not installed."""
    pipe = Pipe(folder)
    argv = start(tempfile.mkdtemp(dir=folder), pipe)
    if argv is None:
        yield None
        return
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        peer = None
        try:
            peer = Peer(pipe)
            yield peer
        finally:
            child.kill()
            child.wait()
            if peer is not None:
                os.kill(peer.pid, signal.SIGKILL)
            pipe.close()


def _runit(folder: str, pipe: Pipe) -> list[str] | None:
    program = shutil.which("runsv")
    if program is not None:
        _write(folder + "/run", _script(pipe), 0o700)
    return [program, folder] if program else None


def _supervisord(folder: str, pipe: Pipe) -> list[str] | None:
    program = shutil.which("supervisord")
    if program is not None:
        _write(folder + "/agent", _script(pipe), 0o700)
        own = f"nodaemon=true\nlogfile={folder}/log\npidfile={folder}/pid\nchildlogdir={folder}\n"
        agent = f"command={folder}/agent\nautorestart=true\nstartsecs=0\nstartretries=1000\n"
        _write(folder + "/conf", f"[supervisord]\n{own}[program:agent]\n{agent}", 0o600)
    return [program, "-n", "-c", folder + "/conf"] if program else None


def _script(pipe: Pipe) -> str:
    return f"#!/bin/sh\n{pipe.command()[2]}\n"


def _write(path: str, text: str, mode: int) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
    os.chmod(path, mode)
