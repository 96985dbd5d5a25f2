"""What an agent's processes take, by psutil: memory now, and processor time between two looks.

Counted are the processes of the agent's session and all that descend from them. Processor time of a child that has
ended counts for whoever waited for it, so that short helpers are seen. Nothing here limits anything: an address-space
limit ends programs that only reserve.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import psutil

from tmux_orchestrator.ground import clock, proc

_MB = 1024 * 1024


@dataclass(slots=True)
class Measure:
    """`cpu_percent` is of one core."""

    cpu_percent: float = 0.0
    memory_mb: float = 0.0


class Meter:
    """Remembers the processor time of the last look."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[int, int, float]] = {}  # name -> (pid, boot ns, seconds of processor)

    def look(self, processes: Mapping[str, tuple[int, int]]) -> dict[str, Measure]:
        """Of each agent, by its first process (pid, start)."""
        there = proc.table()
        children: dict[int, list[int]] = {}
        for pid, facts in there.items():
            children.setdefault(facts.parent, []).append(pid)
        sessions: dict[int, list[int]] = {}
        for pid, facts in there.items():
            sessions.setdefault(facts.session, []).append(pid)
        found = {}
        for name, (pid, start) in processes.items():
            if pid in there and there[pid].start == start:
                found[name] = self._measure(name, pid, start, _below([pid, *sessions.get(pid, [])], children))
        self._before = {name: kept for name, kept in self._before.items() if name in found}
        return found

    def _measure(self, name: str, pid: int, start: int, family: Iterable[int]) -> Measure:
        spent = memory = 0.0
        for one in family:
            try:
                process = psutil.Process(one)
                times = process.cpu_times()
                memory += process.memory_info().rss
                spent += times.user + times.system + times.children_user + times.children_system
            except psutil.Error:
                continue  # gone meanwhile
        now = clock.boot_ns()
        before = self._before.get(name)
        if before is None or before[0] != pid:
            before = (pid, now - proc.age_ns(start), 0.0)
        self._before[name] = (pid, now, spent)
        seconds = max((now - before[1]) / 1e9, 0.001)
        return Measure(round(max(0.0, spent - before[2]) / seconds * 100, 1), round(memory / _MB, 1))


def _below(first: Iterable[int], children: Mapping[int, list[int]]) -> set[int]:
    """These and all that descend from them."""
    found: set[int] = set()
    left = list(first)
    while left:
        pid = left.pop()
        if pid not in found:
            found.add(pid)
            left += children.get(pid, [])
    return found
