"""Changes to who is registered: the only writer of registry/agents.json.

Every change reads, alters and replaces the whole file under the lock registry/agents.lock, so two changes never
lose one another and readers need no lock. A crash leaves the list before the change or after it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tmux_orchestrator.agents import registry
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.ground import fastjson, files
from tmux_orchestrator.ground.errors import TryLater, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tmux_orchestrator.ground.paths import Home

_PATIENCE = 10.0


def register(home: Home, agent: Agent) -> None:
    """Add the agent, or put it in the place of the one with its key."""

    def change(agents: list[Agent]) -> None:
        registry.check_names(agent.name, agent.role, *agent.groups)
        for at, other in enumerate(agents):
            if other.key == agent.key:
                agents[at] = agent
                return
        agents.append(agent)

    _change(home, change)


def forget(home: Home, key: str) -> Agent:
    """Take the agent off the list; what was registered. Raises UsageError for an unknown key."""
    found: list[Agent] = []

    def change(agents: list[Agent]) -> None:
        found.append(_find(agents, key))
        agents.remove(found[0])

    _change(home, change)
    return found[0]


def rename(home: Home, key: str, new: str, launch: str = "") -> Agent:
    """Give the agent another name within its session, and another launch file.

    Raises UsageError when the name is taken, or none at all.
    """
    found: list[Agent] = []

    def change(agents: list[Agent]) -> None:
        agent = _find(agents, key)
        if any(a.name == new and a.session == agent.session for a in agents):
            raise UsageError(f"{agent.session}:{new} is taken: choose another name")
        agent.name, agent.launch = new, launch
        registry.check_names(new)
        found.append(agent)

    _change(home, change)
    return found[0]


def update(home: Home, key: str, **fields: Any) -> Agent:
    """Set some fields of a registered agent. Raises UsageError for an unknown key, ValueError for a field."""
    unknown = set(fields) - (set(registry.FIELDS) - {"name", "session"})
    if unknown:
        raise ValueError(f"no such field: {', '.join(sorted(unknown))}")
    found: list[Agent] = []

    def change(agents: list[Agent]) -> None:
        agent = _find(agents, key)
        found.append(Agent(agent.to_dict() | fields))
        agents[agents.index(agent)] = found[0]

    _change(home, change)
    return found[0]


def _find(agents: list[Agent], key: str) -> Agent:
    for agent in agents:
        if agent.key == key:
            return agent
    raise UsageError(f"{key!r} is not registered{registry.near(agents, key)}: see orc-agent list")


def _change(home: Home, change: Callable[[list[Agent]], None]) -> None:
    with _locked(home):
        agents = registry.load(home)
        change(agents)
        text = fastjson.dumps({"agents": [agent.to_dict() for agent in agents]})
        files.replace(registry.path(home), text.encode("ascii") + b"\n")


@contextmanager
def _locked(home: Home) -> Iterator[None]:
    from filelock import FileLock, Timeout  # 32 ms: only who writes pays for it

    files.make_dir(home.registry)
    lock = FileLock(home.registry + "/agents.lock", timeout=_PATIENCE, mode=0o600, poll_interval=0.005)
    try:
        lock.acquire()
    except Timeout:
        raise TryLater("the registry is locked by another process: try again") from None
    try:
        yield
    finally:
        lock.release()
