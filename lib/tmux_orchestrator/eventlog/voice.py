"""What a daemon says: events into the log, and troubles of its own into its output, each once while it lasts.

What a full disk does not take waits for one that does, up to a bound; a crash loses what waits. What the log would
never take, as it follows from what somebody else wrote, is complained of and let go: it keeps nothing else back.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from tmux_orchestrator.eventlog.daylog import Log, prepare
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.ground.errors import DataError
from tmux_orchestrator.ground.paths import Home

_UNTOLD, _COMPLAINTS = 1000, 100


class Voice:
    """One for the life of the daemon, which is called `name`."""

    def __init__(self, home: Home, name: str) -> None:
        self._home = home
        self._name = name
        self._untold: list[dict[str, Any]] = []
        self._complaints: dict[str, None] = {}

    def publish(self, events: list[dict[str, Any]], settings: Config) -> None:
        """These, and what the log would not take before. Raises SystemFailure, TryLater."""
        self._untold = (self._untold + [one for one in events if self._fits(one)])[-_UNTOLD:]
        if self._untold:
            Log(self._home, durable=settings.get("events.durability") == "disk").append(self._untold)
            self._untold = []

    def _fits(self, one: dict[str, Any]) -> bool:
        try:
            prepare(one)
        except DataError as error:
            self.complain(f"not told: {error}")
            return False
        return True

    def complain(self, trouble: object) -> None:
        """Of something that went wrong; not again until all goes `well`."""
        if str(trouble) not in self._complaints:
            self._complaints = dict.fromkeys([*list(self._complaints)[-_COMPLAINTS:], str(trouble)])
            self.say(f"ERROR {trouble}")

    def well(self) -> None:
        self._complaints.clear()

    def say(self, text: str) -> None:
        """A line of the daemon's output; `text` begins with its level."""
        say(self._name, text)


def say(daemon: str, text: str) -> None:
    """A line of the output of a daemon; `text` begins with its level."""
    level, _, rest = text.partition(" ")
    with contextlib.suppress(OSError):  # the disk may be full
        print(f"{clock.stamp(clock.now_ns())} {level} {daemon}: {rest}", file=sys.stderr, flush=True)
