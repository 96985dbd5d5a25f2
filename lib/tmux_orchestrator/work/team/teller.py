"""Publishes the supervisor's events by a thread of its own: the log may be locked, or its disk slow; nobody waits.

Events keep their order. What the log does not take now is tried again each second, within the bounds of `Voice`; a
crash loses what waits.
"""

from __future__ import annotations

import queue
import threading

from tmux_orchestrator.eventlog.voice import Voice
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.ground.errors import OrcError
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work.team.tidings import DAEMON, Event

_PATIENCE = 10.0  # seconds for the last events to be published


class Teller:
    """`trouble` says why events wait, "" when none do."""

    def __init__(self, home: Home) -> None:
        self.trouble = ""
        self._voice = Voice(home, DAEMON)
        self._events: queue.SimpleQueue[tuple[list[Event], Config] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="teller", daemon=True)

    def tell(self, events: list[Event], settings: Config) -> None:
        """Does not wait."""
        if not events:
            return
        if not self._thread.is_alive():
            self._thread.start()
        self._events.put((events, settings))

    def close(self) -> None:
        """What was told is published, if that takes no longer."""
        if self._thread.is_alive():
            self._events.put(None)
            self._thread.join(_PATIENCE)

    def _run(self) -> None:
        settings: Config | None = None
        while True:
            try:
                told = self._events.get(timeout=1.0 if self.trouble else None)
            except queue.Empty:
                told = ([], settings) if settings is not None else None
            if told is None:
                return
            events, settings = told
            try:
                self._voice.publish(events, settings)
                self.trouble = ""
            except OrcError as error:
                self.trouble = str(error)
            except Exception as error:  # noqa: BLE001 # this thread is all that tells anything
                self.trouble = f"a defect: {type(error).__name__}: {error}"
