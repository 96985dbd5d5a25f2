"""Which conversation an agent that is started again takes up, and by which command line.

Its hooks said how the CLI calls the conversation (see `signs`). What they say comes from outside: only a plain word
may stand on a command line. A conversation that the CLI did not know is not asked for again, so an agent cannot fall
into the same hole twice; the registered command line is never changed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tmux_orchestrator.agents import signs
from tmux_orchestrator.agents.profiles import Profile
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.agents.state import Seen
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.paths import Home

SOON_NS = 15_000_000_000  # a CLI that does not know the conversation says so, and ends, within this time
_ID = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Again:
    """How an agent is started again. `argv` is [] for its registered one."""

    argv: list[str]
    session: str = ""  # the conversation that it takes up
    lost: str = ""  # one that its CLI did not know


def plan(home: Home, seen: Seen, profile: Profile, fresh: bool = False) -> Again:
    """`fresh`: a new conversation, whatever its hooks said and its command line says."""
    agent = seen.agent
    lost = agent.resumed if agent.resumed and _failed_soon(seen) else agent.lost
    session = "" if fresh or not profile.resume_session else known(home, agent)
    if session and session != lost:
        return Again(profile.resume_argv(agent.argv, session), session, lost)
    if fresh or lost:
        return Again(profile.fresh_argv(agent.argv), "", lost)
    return Again([])


def known(home: Home, agent: Agent) -> str:
    """The id that its hooks told last; "" if it is none that may stand on a command line."""
    said = signs.session_id(home, agent)
    return said if _ID.fullmatch(said) else ""


def _failed_soon(seen: Seen) -> bool:
    if seen.pane is None or not seen.pane.dead_status:
        return False  # it runs, was killed, or nobody knows how it ended
    try:
        return clock.parse_stamp(seen.since or "") - clock.parse_stamp(seen.agent.registered) < SOON_NS
    except ValueError:
        return False
