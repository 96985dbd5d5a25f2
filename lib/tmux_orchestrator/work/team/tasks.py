"""What the team's supervisor asks of the task queue, and leaves in it: how much waits, who works on what, measures.

The queue is the tasks' truth, and it may be locked, full or damaged: nothing of that holds up the supervision. Measures
are written by a thread of their own, which keeps the connection; while it is held up, measures are dropped.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterable

from tmux_orchestrator.ground import config
from tmux_orchestrator.ground.errors import OrcError
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work import reading
from tmux_orchestrator.work.queue import MessageQueue, path_of

Metric = tuple[str, str, float]  # agent, name, value
_WAITING = 4  # rounds of measures


class Recorder:
    """Keeps measures among the agents' metrics. `trouble` says why it does not, "" when it does."""

    def __init__(self, home: Home) -> None:
        self.trouble = ""
        self._home = home
        self._rounds: queue.Queue[list[Metric] | None] = queue.Queue(_WAITING)
        self._thread: threading.Thread | None = None

    def record(self, metrics: list[Metric]) -> None:
        """Does not wait."""
        if not metrics:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
            self._thread.start()
        try:
            self._rounds.put_nowait(metrics)
        except queue.Full:
            self.trouble = "the task database is held up: some measures are not kept"

    def close(self, seconds: float) -> None:
        """What was recorded is written, if that takes no longer."""
        if self._thread is not None:
            try:
                self._rounds.put_nowait(None)
            except queue.Full:
                return
            self._thread.join(seconds)

    def _run(self) -> None:
        kept: MessageQueue | None = None
        while (metrics := self._rounds.get()) is not None:
            try:
                kept = kept or MessageQueue(home=self._home)
                with kept.database:
                    for metric in metrics:
                        kept.record_metric(*metric)
                self.trouble = ""
            except OrcError as error:
                self.trouble = f"measures are not kept: {error}"
        if kept is not None:
            kept.database.close()


def look(home: Home, settings: config.Config) -> tuple[int | None, dict[str, str]]:
    """How many tasks are queued (None: that cannot be known now), and the task that each agent works on."""
    if not os.path.exists(path_of(home, settings.get("team.message_queue.db_path"))):
        return 0, {}
    try:
        kept = MessageQueue(home=home, settings=settings)
        try:
            return kept.size(), _current(reading.tasks(kept.database, status=["running"]))
        finally:
            kept.database.close()
    except OrcError:
        return None, {}


def _current(running: Iterable[dict[str, object]]) -> dict[str, str]:
    """Of several, the one that was begun last."""
    found: dict[str, str] = {}
    for one in sorted(running, key=lambda task: str(task["started_at"])):
        found[str(one["recipient"])] = str(one["task_id"])
    return found
