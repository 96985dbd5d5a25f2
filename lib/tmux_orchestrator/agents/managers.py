"""Who manages whom: the project manager of a session, or the only one that there is. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from tmux_orchestrator.agents.registry import Agent

ROLE = "pm"


def present(agents: Iterable[Agent]) -> list[Agent]:
    """The project managers that did not leave on purpose."""
    return [agent for agent in agents if agent.role == ROLE and not agent.ended]


def of_session(agents: Iterable[Agent], session: str) -> Agent | None:
    """The project manager whom a session's agents turn to: their own, else the only one there is.

    None where there is no such one, or several have the same right.
    """
    managers = present(agents)
    here = [agent for agent in managers if agent.session == session] or managers
    return here[0] if len(here) == 1 else None
