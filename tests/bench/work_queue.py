"""The task queue: send + get + done, many processes at once, a task's way to a waiting worker; beside its peers."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import fmean

from bench.delivery_start import FLOOR, clean
from bench.delivery_tools import PYTHON, Row, Samples, against, missed_by, spawn, timed, within
from bench.work_peers import HERE, PEERS, QUEUES
from support_orc import BIN, System
from support_tmux import wait_until
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work import Message, MessageQueue

ROUNDS, CYCLES = 20, 500
RACES, EACH = 11, 200
SENDS, WAITS = 40, 300
BOUNDS = {"litequeue": 0.9, "redis": 0.3}
NAMES = {
    "floor": "the least of SQLite",
    "redis": "Redis, a list and a hash for each task",
    "plainredis": "Redis, two lists of payloads",
    "persist": "persist-queue",
}


def rows() -> list[Row]:
    return [*_cycles(), *_races(8, 1.3), *_races(32, None), *_commands(), *_waits()]


class Process:
    """One queue of `work_peers`, that does as many tasks as it is told."""

    def __init__(self, name: str, folder: str) -> None:
        argv = [PYTHON, HERE + "/work_peers.py", name, folder]
        self._child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._child.stdin is not None and self._child.stdout is not None
        self._in, self._out = self._child.stdin, self._child.stdout
        assert self._out.readline() == "ready\n", f"{name} does not run"

    def start(self, tasks: int) -> None:
        self._in.write(f"{tasks}\n")
        self._in.flush()

    def took(self) -> list[float]:
        """Microseconds of each task."""
        return [float(word) for word in self._out.readline().split()]

    def close(self) -> None:
        self._in.close()
        self._child.wait()


@contextmanager
def _folder() -> Iterator[str]:
    """Where the queues are; with a Redis server of our own, when it is installed."""
    with tempfile.TemporaryDirectory(prefix="orc-bench-") as folder:
        server = shutil.which("redis-server")
        if server is None or not os.path.isdir(PEERS):
            yield folder
            return
        path = folder + "/redis"
        argv = [server, "--port", "0", "--unixsocket", path, "--dir", folder, "--appendonly", "yes", "--save", ""]
        child = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        try:
            wait_until(lambda: os.path.exists(path), what="redis-server")
            yield folder
        finally:
            child.terminate()
            child.wait()


def _present(folder: str) -> list[str]:
    peers, has_redis = os.path.isdir(PEERS), os.path.exists(folder + "/redis")
    return [name for name in QUEUES if name in ("ours", "floor") or (peers and ("redis" not in name or has_redis))]


def _cycles() -> list[Row]:
    """Round by round, so that what else the machine does weighs on all."""
    work = "task: send + get + done, kept connection"
    with _folder() as folder, ExitStack() as stack:
        processes = {name: Process(name, folder) for name in _present(folder)}
        for process in processes.values():
            stack.callback(process.close)
        took: dict[str, list[list[float]]] = {name: [] for name in processes}
        for _ in range(ROUNDS):
            for name, process in processes.items():
                process.start(CYCLES)
                took[name].append(process.took())
    ours = took.pop("ours")
    return [_cycle(work, ours, NAMES.get(name, name), theirs, BOUNDS.get(name)) for name, theirs in took.items()]


def _cycle(work: str, ours: list[list[float]], name: str, theirs: list[list[float]], bound: float | None) -> Row:
    """The mean counts: a checkpoint, that few tasks pay for all, is a part of the price."""
    ratio = _mean(ours) / _mean(theirs)
    medians = f"{_median(ours) / _median(theirs):.2f} × by the median"
    beside = f"{ratio:.2f} × {name}: {_times(theirs)}, {medians}"
    missed = "" if bound is None else missed_by(ratio, bound)
    return Row(work, _times(ours), beside, "" if bound is None else f"≤ {bound:g} ×", missed)


def _mean(rounds: list[list[float]]) -> float:
    return fmean(one for each in rounds for one in each)


def _median(rounds: list[list[float]]) -> float:
    return Samples(one for each in rounds for one in each).median


def _times(rounds: list[list[float]]) -> str:
    every = Samples(one for each in rounds for one in each)
    return f"{fmean(every):.0f} µs (median {every.median:.0f}, p99 {every.quantile(0.99):.0f})"


def _races(count: int, least: float | None) -> list[Row]:
    """So many processes on one queue: tasks per second of all, and the longest that one had to wait."""
    names = ["ours", "litequeue"] if os.path.isdir(PEERS) else ["ours"]
    rates: dict[str, list[float]] = {name: [] for name in names}
    waits = dict.fromkeys(names, 0.0)
    with tempfile.TemporaryDirectory(prefix="orc-bench-") as folder, ExitStack() as stack:
        crowds = {name: [Process(name, folder) for _ in range(count)] for name in names}
        for process in (one for crowd in crowds.values() for one in crowd):
            stack.callback(process.close)
        for _ in range(RACES):
            for name, crowd in crowds.items():
                rate, wait = _race(crowd)
                rates[name].append(rate)
                waits[name] = max(waits[name], wait)
    told = {name: f"{Samples(rates[name]).median:,.0f} tasks/s, longest {waits[name]:.0f} ms" for name in names}
    work = f"task: {count} processes at once, send + get + done"
    if len(names) == 1:
        return [Row(work, told["ours"], "", "", "")]
    ratio = Samples(rates["ours"]).ratio(Samples(rates["litequeue"]))
    target = "" if least is None else f"≥ {least:g} ×"
    missed = "" if least is None or ratio >= least else f"missed: {ratio:.2f} ×"
    return [Row(work, told["ours"], f"{ratio:.2f} × litequeue: {told['litequeue']}", target, missed)]


def _race(crowd: list[Process]) -> tuple[float, float]:
    start = time.perf_counter()
    for process in crowd:
        process.start(EACH)
    took = [process.took() for process in crowd]
    return len(crowd) * EACH / (time.perf_counter() - start), max(max(one) for one in took) / 1000


def _commands() -> list[Row]:
    """`orc-task send` as a process."""
    ours, bare = Samples(), Samples()
    with System() as system:
        env = clean(system.env)
        argv = [BIN + "/orc-task", "send", "--recipient", "code_developer", "--priority", "1", '{"spec": "x"}']
        spawn([BIN + "/orc-publish", "begin"], env)  # the home has its folders, and its configuration is compiled
        spawn(argv, env)
        for _ in range(SENDS):
            ours.append(timed(lambda: spawn(argv, env)))
            bare.append(timed(lambda: spawn(FLOOR, env)))
    return [against("orc-task send, whole process", ours, "python -I -S -c pass", bare)]


WORKER = """
import sys, time
sys.path.insert(0, sys.argv[1] + "/lib")
from tmux_orchestrator.work import MessageQueue, waiting
queue = MessageQueue()
print("ready", flush=True)
while True:
    got = waiting.get(queue, "code_developer", None, None, None)
    now = time.time_ns()
    queue.mark_completed(got.task_id)
    print(now - got.payload["sent"], flush=True)
"""
READER = """
import sys, time
print("ready", flush=True)
while line := sys.stdin.buffer.raw.read(64):
    print(time.time_ns() - int(line), flush=True)
"""


def _waits() -> list[Row]:
    """From the begin of `send` to the task in the hands of a worker that waits for it, in another process.

    Beside it a line through a pipe to a process that waits for that: what the machine needs to wake somebody.
    """
    ours, pipe = Samples(), Samples()
    with System() as system, ExitStack() as stack:
        worker = stack.enter_context(_child([PYTHON, "-c", WORKER, os.path.dirname(BIN)], system))
        reader = stack.enter_context(_child([PYTHON, "-c", READER], system))
        queue = MessageQueue(home=Home(system.root))
        stack.callback(queue.close)
        for _ in range(WAITS):
            time.sleep(0.01)  # both have begun to wait
            queue.send(Message("architect", "code_developer", "task_delegate", {"sent": time.time_ns()}))
            ours.append(_answer(worker))
            assert reader.stdin is not None
            reader.stdin.write(str(time.time_ns()))
            reader.stdin.flush()
            pipe.append(_answer(reader))
    work = "task: sent → in the hands of a waiting worker"
    beside = f"a line through a pipe: {pipe}"
    return [
        within(work + ", median", ours.median, "ms", 5.0, beside),
        within(work + ", p99", ours.quantile(0.99), "ms", 5.0, beside),
    ]


@contextmanager
def _child(argv: list[str], system: System) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(argv, env=system.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        yield child
    finally:
        child.kill()
        child.wait()


def _answer(child: subprocess.Popen[str]) -> float:
    """Milliseconds."""
    assert child.stdout is not None
    return int(child.stdout.readline()) / 1e6


if __name__ == "__main__":
    for row in rows():
        print(*row, sep=" | ")
