"""What broker and monitor cost while nothing happens: their share of a core and their memory, with ten agents."""

from __future__ import annotations

import time

from bench.delivery_tools import Row, within
from support_orc import System

AGENTS, SECONDS = 10, 20


def rows() -> list[Row]:
    with System() as system:
        for number in range(AGENTS):
            system.recorder(f"agent{number}")
        pids = [system.broker().pid, int(system.run("orc-component", "start", "monitor").rpartition(" ")[2][:-1])]
        system.wait_outcome(system.publish("-t", "agent0", "hello"), "typed")
        time.sleep(1)  # the monitor's first look is over
        before, start = [_cpu_ns(pid) for pid in pids], time.monotonic_ns()
        time.sleep(SECONDS)
        passed = time.monotonic_ns() - start
        shares = [(_cpu_ns(pid) - was) / passed * 100 for pid, was in zip(pids, before, strict=True)]
        memory = [_resident_mb(pid) for pid in pids]
        system.run("orc-component", "stop", "monitor")
    told = f"{AGENTS} agents, {SECONDS} s"
    return [
        within(f"idle broker and monitor, {told}: of a core", sum(shares), "%", 0.5),
        within(f"the monitor of that, {told}: of a core", shares[1], "%", 0.5),
        within(f"idle broker and monitor, {told}: resident", sum(memory), "MB", 60.0),
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
