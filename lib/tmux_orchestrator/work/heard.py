"""What a guest reads of the log: each line once, in order, from a place of its own, which waits for the work on it.

The place is kept when everything that was read is done. A crash in between brings the lines again, so what is done
with a line has to be the same the second time. Without a place that can be read, it begins with yesterday.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from tmux_orchestrator.eventlog import follow
from tmux_orchestrator.eventlog.days import DAY_NS
from tmux_orchestrator.eventlog.voice import Voice
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.errors import DataError
from tmux_orchestrator.ground.paths import Home

_SECOND = 1_000_000_000


class Heard:
    """`waiting`: the lines that were read and are not done, the oldest first."""

    def __init__(self, home: Home, name: str, voice: Voice) -> None:
        self._cursor = f"{home.run}/cursors/component.{name}"  # no reader's name has a dot
        try:
            place = follow.load_place(self._cursor)
        except DataError as error:
            voice.complain(f"{name}: {error}")
            place = None
        self._follower = follow.Follower(home, place or follow.since(home, clock.now_ns() - DAY_NS))
        self._kept = self._follower.place.to_list()
        self._kept_at = 0
        self.waiting: deque[bytes] = deque()

    def read(self, concerns: Callable[[bytes], object]) -> bool:
        """Have the next lines wait that concern somebody; were there any lines?"""
        lines = self._follower.read()
        self._follower.jumps.clear()  # the host tells of them
        self.waiting += filter(concerns, lines)
        return bool(lines)

    def done(self, some: bool) -> None:
        """Something was done, or nothing concerned anybody: keep the place, if nothing waits; the latter now and then.

        It survives kill -9; after a power cut it may be an older one, or none.
        """
        if self.waiting or not (some or clock.boot_ns() - self._kept_at > _SECOND):
            return
        place = self._follower.place.to_list()
        if place != self._kept:
            follow.save_place(self._cursor, self._follower.place, sync=False)
            self._kept = place
        self._kept_at = clock.boot_ns()

    def close(self, keep: bool = True) -> None:
        """`keep`: also the place."""
        if keep:
            self.done(True)
        self._follower.close()
