"""What the supervisor asks of the task queue, and leaves in it: how much waits, what an agent works on, measures.

The queue is the tasks' truth; nothing that goes wrong with it keeps an agent from being supervised.
"""

from __future__ import annotations

from collections.abc import Mapping

from tmux_orchestrator.eventlog.voice import Voice
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work.measures import Measure


def record(home: Home, settings: Config, measures: Mapping[str, Measure], voice: Voice) -> None:
    """Keep the measures of this look among the agents' metrics."""


def waiting(home: Home, settings: Config) -> int:
    """How many tasks wait for anybody."""
    return 0


def current(home: Home, settings: Config) -> dict[str, str]:
    """The task that each agent works on."""
    return {}
