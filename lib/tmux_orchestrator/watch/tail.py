"""The end of the log, for whoever in the monitor takes events: each new one once, in order.

A taker may ask for the last days too, which it gets when it registers, and says of each line at a glance whether it
wants it: nearly all of a log is deliveries, and to decode a day of them takes seconds. Damage is stepped over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tmux_orchestrator.eventlog import follow, reader
from tmux_orchestrator.ground import clock, files, watch
from tmux_orchestrator.ground.paths import Home

Taker = Callable[[dict[str, Any]], None]
Glance = Callable[[bytes], bool]


class Tail:
    """Follows the log from its end on."""

    def __init__(self, home: Home) -> None:
        files.make_dir(home.events)
        self.home = home
        self._follower = follow.Follower(home, follow.end_of_log(home))
        self._begin = self._follower.place.copy()
        self._takers: list[tuple[Taker, Glance]] = []
        self._watch: watch.Watch | None = None

    def register(self, take: Taker, wants: Glance = lambda line: True, past_s: float = 0.0) -> None:
        """Give it every event that it wants from now on; before these, those of the last `past_s` seconds.

        To be called before the first `turn`.
        """
        self._takers.append((take, wants))
        if not past_s or not self._begin.day:
            return
        query = reader.Query()
        query.since = clock.now_ns() - int(past_s * 1e9)
        query.before = (self._begin.day, self._begin.offset)
        for file, start, stop in reader.spans(self.home, query):
            for line in file.forward(start, stop, []):
                if wants(line) and (event := reader.decode(line)) is not None:
                    take(event)

    def turn(self) -> None:
        """Give out what is new."""
        while lines := self._follower.read():
            for line in lines:
                takers = [take for take, wants in self._takers if wants(line)]
                event = reader.decode(line) if takers else None
                for take in takers if event is not None else ():
                    take(event)  # type: ignore[arg-type]
        self._follower.jumps.clear()

    def fileno(self) -> int:
        """Readable when the log may have grown: `drain`, then take a `turn`. -1 where that is not to be had."""
        if self._watch is None:
            self._watch = watch.Watch([self.home.events])
        return self._watch.fileno()

    def drain(self) -> None:
        if self._watch is not None:
            self._watch.drain()

    def close(self) -> None:
        self._follower.close()
        if self._watch is not None:
            self._watch.close()
