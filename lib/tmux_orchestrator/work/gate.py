"""The row in which processes stand that found the task database busy (docs/decisions/task-gate.md).

The kernel keeps the order of those who wait for the gate's `flock`, and only the first of them asks the database again
and again. It keeps nothing but the order: the database's own locks hold, with the gate or without, so whoever has
stood in the row for a tenth of a second, behind one that was stopped, asks too.
"""

from __future__ import annotations

import time

from tmux_orchestrator.ground import locks
from tmux_orchestrator.ground.errors import SystemFailure, TryLater

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

_IN_ROW = 0.1  # seconds
_SHORTEST, _LONGEST = 0.00005, 0.001  # seconds between two tries


def until(path: str, seconds: float, ask: Callable[[], T | None]) -> T | None:
    """Ask until the answer is not None, or for so many seconds."""
    end, pause = time.monotonic() + seconds, _SHORTEST
    gate = locks.Lock(path, min(_IN_ROW, seconds))
    try:
        gate.acquire()
    except (TryLater, SystemFailure):
        pass
    try:
        while (answer := ask()) is None and time.monotonic() < end:
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST)
        return answer
    finally:
        gate.close()
