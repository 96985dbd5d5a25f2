"""What ended together: the agents of a tmux server that is gone are one incident, not one for each.

Pure but for the one question that it asks the kernel, which may be passed in: does this agent's server still run?
Nothing is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tmux_orchestrator.agents.registry import Agent

NAMED = 10  # so many are called by name; of the others, how many there are


@dataclass(frozen=True, slots=True)
class LostServer:
    """A tmux server that is gone, and the keys of the agents that are gone with it, in the order of registration."""

    socket: str
    pid: int
    start: int
    agents: tuple[str, ...]

    def name(self) -> str:
        return f"tmux server {self.pid} ({self.socket})"

    def line(self) -> str:
        """The incident on one line."""
        count = f"{len(self.agents)} agents" if len(self.agents) != 1 else "1 agent"
        return f"{self.name()} ended, and with it {count}: {names(self.agents)}"


def lost_servers(ended: Iterable[Agent], lives: Callable[[Agent], bool] = Agent.server_alive) -> list[LostServer]:
    """Which servers are gone, and which of these agents with them; `ended`: agents whose process is gone.

    An agent whose server runs on, or whose server was not seen from here, is in none of them.
    """
    found: dict[tuple[str, int, int, str], list[str]] = {}
    for agent in ended:
        if agent.server_pid and agent.server_start:
            server = (agent.socket, agent.server_pid, agent.server_start, agent.boot)
            if server in found or not lives(agent):
                found.setdefault(server, []).append(agent.key)
    return [LostServer(socket, pid, start, tuple(keys)) for (socket, pid, start, _), keys in found.items()]


def names(keys: Iterable[str]) -> str:
    """The first few, and how many more."""
    keys = list(keys)
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return ", ".join(keys[:NAMED]) + more
