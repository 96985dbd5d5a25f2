"""Work that a long-lived process does beside its own, for a room that its own room does not know.

The command that starts the process hands it a maker of guests. A guest does a little at a time, never waits, and
raises nothing: what goes wrong it tells itself, and tries again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.ground.paths import Home


class Guest(Protocol):
    def turn(self, news: bool) -> int:
        """Do what is due; when to come again at the latest, on the boot clock. `news`: the log has grown."""

    def configure(self, settings: Config) -> None:
        """The configuration has changed."""

    def close(self) -> None:
        """The host ends."""


Maker = Callable[[Home, Config], Guest]


class Several:
    """Some guests as one."""

    def __init__(self, *guests: Guest) -> None:
        self._guests = guests

    def turn(self, news: bool) -> int:
        return min(guest.turn(news) for guest in self._guests)

    def configure(self, settings: Config) -> None:
        for guest in self._guests:
            guest.configure(settings)

    def close(self) -> None:
        for guest in self._guests:
            guest.close()
