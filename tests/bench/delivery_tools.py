"""What the delivery rows share: samples and their ratios, and a pane whose program says when it read what.

Ratios are medians over pairs that were taken one right after the other: what else the machine does then weighs on
both. A target that was missed is shown with by how much; nothing here fails because of a time.
"""

from __future__ import annotations

import os
import select
import statistics
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from support_orc import ROOT, Agent, System

STAMPING = ROOT + "/lib/tmux_orchestrator/insight/recorder.py"
UNBOUNDED = """\
monitoring: {max_messages_per_minute: 0}
delivery: {critical_per_minute: 0, pair_per_minute: 0, queue_size: 20000, max_typed_bytes: 65536}
"""
PYTHON = ROOT + "/.venv/bin/python"
PATIENCE_S = 60.0
PAUSE_S = 0.004  # between two samples: what the one before left to do is done


class Row(NamedTuple):
    """One line of the table: `measured` and `beside` are words, `missed` is "" or by how much."""

    work: str
    measured: str
    beside: str
    target: str
    missed: str


class Samples(list[float]):
    """Milliseconds, in the order in which they were taken."""

    @property
    def median(self) -> float:
        return statistics.median(self)

    def quantile(self, share: float) -> float:
        return sorted(self)[min(len(self) - 1, int(len(self) * share))]

    def __str__(self) -> str:
        return f"{self.median:.2f} ms (min {min(self):.2f}, p99 {self.quantile(0.99):.2f})"

    def plus(self, other: Samples) -> Samples:
        """The sum of two things that were measured side by side."""
        return Samples(a + b for a, b in zip(self, other, strict=True))

    def ratio(self, other: Samples) -> float:
        """The median of the pairs' ratios."""
        return statistics.median(a / b for a, b in zip(self, other, strict=True))


def missed_by(value: float, bound: float) -> str:
    return "" if value <= bound else f"missed by {100 * (value / bound - 1):.0f} %"


def against(work: str, ours: Samples, name: str, theirs: Samples, bound: float | None = None) -> Row:
    """A row that is a ratio; without a bound it is for comparison only."""
    ratio = ours.ratio(theirs)
    target = "" if bound is None else f"≤ {bound:g} ×"
    missed = "" if bound is None else missed_by(ratio, bound)
    return Row(work, str(ours), f"{ratio:.2f} × {name}: {theirs}", target, missed)


def within(work: str, value: float, unit: str, bound: float | None = None, beside: str = "") -> Row:
    """A row that is a number of its own."""
    target = "" if bound is None else f"< {bound:g} {unit}"
    return Row(work, f"{value:.3g} {unit}", beside, target, "" if bound is None else missed_by(value, bound))


def timed(work: Callable[[], object]) -> float:
    """Milliseconds that it takes."""
    start = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - start) / 1e6


def spawn(argv: list[str], env: dict[str, str]) -> None:
    """One process, from its start to its end."""
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    pid = os.posix_spawn(argv[0], argv, env, file_actions=quiet)
    if os.waitpid(pid, 0)[1]:
        raise AssertionError(f"{argv} did not succeed")


class Syncs:
    """An append of an event's size and its fdatasync, in the file system of the system's log."""

    def __init__(self, system: System) -> None:
        self._file = os.open(system.root + "/bench.sync", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def take(self) -> None:
        os.write(self._file, b"x" * 599 + b"\n")
        os.fdatasync(self._file)

    def close(self) -> None:
        os.close(self._file)


class Receiver:
    """An agent (profile plain) that says when it had read which bytes."""

    def __init__(self, system: System, name: str = "rx") -> None:
        pipe = f"{system.root}/{name}.pipe"
        os.mkfifo(pipe, 0o600)
        self._read = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self.data = bytearray()
        self._ends: list[tuple[int, int]] = []  # (bytes so far, ns)
        self._rest = b""
        self.agent: Agent = system.agent(name, sys.executable, "-I", "-S", STAMPING, pipe)
        self.take(PATIENCE_S)

    def wait(self, word: str) -> int:
        """When, on the wall clock, the word was read."""
        needle, start = word.encode(), max(0, len(self.data) - 4096)
        end = time.monotonic() + PATIENCE_S
        while (found := self.data.find(needle, start)) < 0:
            start = max(start, len(self.data) - len(needle))
            if time.monotonic() > end:
                raise AssertionError(f"{word!r} did not arrive")
            self.take(1.0)
        return next(ns for upto, ns in self._ends if upto >= found + len(needle))

    def forget(self) -> None:
        self.data.clear()
        self._ends.clear()

    def close(self) -> None:
        os.close(self._read)

    def take(self, seconds: float = 0.0) -> None:
        """Take in what the program has told; wait so long for it."""
        if not select.select([self._read], [], [], seconds)[0]:
            return
        self._rest += os.read(self._read, 1 << 20)
        while (newline := self._rest.find(b"\n")) >= 0:
            ns, length = map(int, self._rest[:newline].split())
            if len(self._rest) <= newline + length:
                break
            self.data += self._rest[newline + 1 : newline + 1 + length]
            self._rest = self._rest[newline + 1 + length :]
            self._ends.append((len(self.data), ns))
