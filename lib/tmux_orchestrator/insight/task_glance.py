"""The task queue at one glance, for orc-status: how much waits and runs, and which alerts stand.

Nothing is made or changed: without a database there is nothing to tell, and one that cannot be read is a problem to
look at, no reason for orc-status to fail.
"""

from __future__ import annotations

import os

from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.ground.errors import OrcError
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.insight import task_alerts, task_figures
from tmux_orchestrator.insight.task_rules import RULES
from tmux_orchestrator.work.queue import path_of
from tmux_orchestrator.work.store.database import VERSION, Database

Trouble = tuple[str, str, str, str]  # kind, subject, text, the command that helps


def look(home: Home, settings: Config) -> tuple[dict[str, int] | None, list[Trouble]]:
    """`queued` and `running`, None where there is no queue; what needs a person."""
    path = path_of(home, settings.get("team.message_queue.db_path"))
    if not os.path.exists(path):
        return None, []
    alerts = task_alerts.standing(home, settings, clock.now_ns())
    troubles = [("alert", one.subject, one.text, RULES[one.rule].mend) for one in alerts]
    try:
        database = Database(path, version=None)
        try:
            if database.version() != VERSION:  # an older one is taken over by whoever uses it next
                return None, troubles
            depths = task_figures.depths(database).values()
        finally:
            database.close()
    except OrcError as error:
        return None, [*troubles, ("tasks", "tasks", str(error), "orc-task check")]
    counts = {"queued": sum(one.queued for one in depths), "running": sum(one.running for one in depths)}
    return counts, troubles
