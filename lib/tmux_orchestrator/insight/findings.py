"""What a check of orc-doctor gets, and what it says.

A check is a function that takes a `Case` and yields a `Finding` for each thing that is wrong. What several checks need
is looked up once, and stays broken alone: with a wrong configuration the defaults stand in, with a damaged registry
there are no agents, and the check that owns the matter says so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tmux_orchestrator.agents import registry
from tmux_orchestrator.agents.control import Control
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.agents.state import Seen
from tmux_orchestrator.ground import config, config_schema
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.ground.errors import ConfigError, DataError, OrcError
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.insight import backlog
from tmux_orchestrator.insight.backlog import Backlog


@dataclass(slots=True)
class Finding:
    """`mend` is the command that mends it. `note`: worth knowing, nothing is broken. `fix`: mends it safely."""

    text: str
    mend: str
    note: bool = False
    fix: Callable[[], None] | None = None
    check: str = ""
    fixed: bool = False

    def record(self) -> dict[str, Any]:
        return {
            "check": self.check,
            "text": self.text,
            "mend": self.mend,
            "note": self.note,
            "fixable": self.fix is not None,
            "fixed": self.fixed,
        }


def of_error(error: OrcError) -> Finding:
    """Our errors say what is wrong and, behind the last colon, what to do."""
    text, _, mend = str(error).rpartition(": ")
    return Finding(text or mend, mend)


class Case:
    """One home on one machine."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.registry_problem: OrcError | None = None

    @cached_property
    def settings(self) -> Config:
        try:
            return config.load(self.home)
        except ConfigError:
            return Config({"values": config_schema.defaults(), "stamp": [], "digest": "", "variables": {}})

    @cached_property
    def agents(self) -> list[Agent]:
        try:
            return registry.load(self.home)
        except OrcError as error:
            self.registry_problem = error
            return []

    @cached_property
    def control(self) -> Control | None:
        """None with a damaged registry or a wrong profile."""
        if self.registry_problem or not self.agents:
            return None
        try:
            control = Control(self.home, self.settings)
            return control if control.profiles else None
        except (ConfigError, DataError):
            return None

    @cached_property
    def seen(self) -> list[Seen]:
        """Every registered agent as it is now."""
        return self.control.look(self.agents) if self.control else []

    @cached_property
    def backlog(self) -> Backlog:
        return backlog.read(self.home)

    def folder(self, path: str) -> str:
        """The folder, or the nearest above it that is there."""
        while not os.path.isdir(path):
            path = os.path.dirname(path)
        return path


Check = Callable[[Case], Iterator[Finding]]
