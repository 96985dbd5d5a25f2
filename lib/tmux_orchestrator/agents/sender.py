"""Who publishes, as far as it can be established.

Only ancestry counts: a process below the process of a registered agent, or of one that the team's supervisor runs, is
that agent. Everything else is a claim, and
`verified` is false. It is a label, not a wall: agents of one Unix user can all write the log.
"""

from __future__ import annotations

import os

from tmux_orchestrator.agents import registry
from tmux_orchestrator.ground import proc
from tmux_orchestrator.ground.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def source(agents: list[registry.Agent], claimed: str | None) -> dict[str, Any]:
    """The source of an event that this process publishes; `claimed` is what --from says."""
    if claimed is not None and not (len(claimed) <= 128 and claimed.isprintable() and claimed.rpartition(":")[2]):
        raise UsageError("--from is no name of 1 to 128 characters: give a name, or session:name")
    caller = registry.caller(agents)
    if caller is not None and claimed in (None, caller.name, caller.key):
        return of(caller)
    member = _of_the_team() if caller is None else None
    if member is not None and claimed in (None, member):
        return _agent("agent", member, None)
    if claimed is not None:
        kind = "agent"
    elif proc.has_terminal(os.getpid()):
        kind = "human"
    else:
        kind = "cron"
    session, _, name = (claimed or user_name()).rpartition(":")
    host = os.uname().nodename
    return {"type": kind, "identifier": name, "session": session or None, "host": host, "verified": False}


def of(agent: registry.Agent) -> dict[str, Any]:
    """The source of what this agent publishes: the process tree has shown that it is this one."""
    return _agent("pm" if agent.role == "pm" else "agent", agent.name, agent.session)


def _agent(kind: str, name: str, session: str | None) -> dict[str, Any]:
    host = os.uname().nodename
    return {"type": kind, "identifier": name, "session": session, "host": host, "verified": True}


def _of_the_team() -> str | None:
    """The agent without a pane that this process belongs to."""
    if not os.environ.get("ORC_TEAM_AGENT"):
        return None
    from tmux_orchestrator.agents import crew
    from tmux_orchestrator.ground import paths

    found = crew.caller(paths.find_home())
    return found[0] if found is not None else None


def user_name() -> str:
    """The name of the user that this process runs as."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
