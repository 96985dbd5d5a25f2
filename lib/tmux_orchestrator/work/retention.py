"""What ended long ago goes by itself: `team.message_queue.cleanup_interval_days` after its end, some at a time.

Looked at once an hour, in parts so small that nobody waits for them. A crash leaves what is old for the next look.
"""

from __future__ import annotations

import os

from tmux_orchestrator.eventlog.voice import Voice
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.ground.errors import OrcError
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work import ending
from tmux_orchestrator.work.queue import path_of
from tmux_orchestrator.work.store.database import VERSION, Database

_PATIENCE = 0.25  # seconds, for whoever writes the database just now
_SECOND = 1_000_000_000
_LOOK, _REST = 3600 * _SECOND, _SECOND // 5  # between two looks; between two parts


class Retention:
    """Hosted by the state updater (see `ground.guest`)."""

    def __init__(self, home: Home, settings: Config, voice: Voice) -> None:
        self._home, self._voice = home, voice
        self._look_at = self._gone = 0
        self.configure(settings)

    def configure(self, settings: Config) -> None:
        self._path = path_of(self._home, settings.get("team.message_queue.db_path"))
        self._days = settings.get("team.message_queue.cleanup_interval_days")
        self._look_at = 0

    def turn(self, news: bool) -> int:
        now = clock.boot_ns()
        if now < self._look_at:
            return self._look_at
        self._look_at = now + _LOOK
        try:
            if os.path.exists(self._path) and self._remove():
                self._look_at = now + _REST
        except (OrcError, OSError) as error:
            self._voice.complain(f"old tasks stay: {error}")
        return self._look_at

    def _remove(self) -> bool:
        """A part; is there more?"""
        database = Database(self._path, version=None, patience=_PATIENCE)
        try:
            if database.version() != VERSION:
                return False  # whoever uses it next brings it up, or says why not
            gone, more = ending.prune(database, self._days)
        finally:
            database.close()
        self._gone += gone
        if self._gone and not more:
            self._voice.say(f"INFO removed {self._gone} tasks that ended more than {self._days} days ago")
            self._gone = 0
        self._voice.well()
        return more

    def close(self) -> None:
        pass
