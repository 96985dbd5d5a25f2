"""The row in which processes stand that find the task database busy (docs/decisions/task-gate.md).

The kernel keeps the order of those who wait for the gate's `flock`, and only the first of them asks the database again
and again. Who has met others there stands in the row from then on, before it asks at all, until it finds nobody for a
while. The gate keeps nothing but the order: the database's own locks hold, with it or without, so whoever has stood in
the row for a tenth of a second, behind one that was stopped, asks too.
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
_WHILE = 10_000  # changes: many turns of a processor
_CHANGES = ("UPDATE", "INSERT", "DELETE", "BEGIN ")


class Gate:
    """One of a connection's own."""

    __slots__ = ("_crowd", "_lock")

    def __init__(self, path: str) -> None:
        self._lock = locks.Lock(path, 0)
        self._crowd = 0  # changes for which others are expected

    def is_crowded(self, sql: str) -> bool:
        """Better stand in the row before this is asked?"""
        return self._crowd > 0 and sql.lstrip()[:6] in _CHANGES

    def until(self, seconds: float, ask: Callable[[], T | None]) -> T | None:
        """Ask, in turn, until the answer is not None, or for so many seconds."""
        end, pause = time.monotonic() + seconds, _SHORTEST
        self._crowd -= 1
        is_first = self._stand(min(_IN_ROW, seconds))
        try:
            while (answer := ask()) is None and time.monotonic() < end:
                self._crowd = _WHILE
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST)
            return answer
        finally:
            if is_first and self._lock.fd >= 0:  # not closed, by who found the file damaged
                self._lock.release()

    def _stand(self, seconds: float) -> bool:
        """Wait to be the first; False: somebody holds everybody up, or there is no gate."""
        try:
            for wait in (0.0, seconds):
                self._lock.timeout = wait
                try:
                    self._lock.acquire()
                    return True
                except TryLater:
                    self._crowd = _WHILE
        except SystemFailure:
            pass
        return False

    def close(self) -> None:
        self._lock.close()
