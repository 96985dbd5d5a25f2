"""What the broker costs while nothing happens: its share of a core and its memory, with ten agents registered."""

from __future__ import annotations

import time

from bench.delivery_tools import Row, within
from support_orc import System

AGENTS, SECONDS = 10, 20


def rows() -> list[Row]:
    with System() as system:
        for number in range(AGENTS):
            system.recorder(f"agent{number}")
        child = system.broker()
        system.wait_outcome(system.publish("-t", "agent0", "hello"), "typed")
        before, start = _cpu_ns(child.pid), time.monotonic_ns()
        time.sleep(SECONDS)
        share = (_cpu_ns(child.pid) - before) / (time.monotonic_ns() - start)
        memory = _resident_mb(child.pid)
    return [
        within(f"idle broker, {AGENTS} agents, {SECONDS} s: of a core", share * 100, "%", 0.5),
        within(f"idle broker, {AGENTS} agents: resident", memory, "MB", 60.0),
    ]


def _cpu_ns(pid: int) -> int:
    with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
        return int(file.read().split()[0])


def _resident_mb(pid: int) -> float:
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS:"))


if __name__ == "__main__":
    for row in rows():
        print(*row, sep=" | ")
