"""Agents as a look would see them, without tmux: for the rules of what is judged and told."""

from __future__ import annotations

import os
from typing import Any

from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.agents.screen import Screen
from tmux_orchestrator.agents.state import Seen
from tmux_orchestrator.ground import config, proc
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.ground.paths import Home

SECOND = 1_000_000_000
MINUTE = 60 * SECOND


def agent(name: str = "dev", session: str = "web", **fields: Any) -> Agent:
    """One whose process is this one, unless told otherwise."""
    own = {"name": name, "session": session, "role": name, "pid": os.getpid()}
    return Agent(own | {"pid_start": proc.start_time(os.getpid())} | fields)


def seen(
    state: str, name: str = "dev", session: str = "web", text: str = "", certain: bool = False, **fields: Any
) -> Seen:
    """`text` is what the screen shows; a question, when it waits."""
    question = text if state == "waiting" else ""
    until = text if state == "limited" else None
    shown = Screen(state, question=question, limited_until=until, text=[text])
    over = state in ("dead", "gone")
    return Seen(
        agent(name, session, **fields),
        state,
        "kernel" if over else "hook" if certain else "screen",
        "certain" if certain or over else "likely",
        why="ended by signal 9" if over else "",
        screen=None if over else shown,
    )


def settings(root: str, text: str = "") -> Config:
    """The configuration of a home that says this."""
    with open(root + "/orchestrator_config.yaml", "w", encoding="utf-8") as file:
        file.write(text)
    return config.load(Home(root))
