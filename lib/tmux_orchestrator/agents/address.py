"""What may stand in `to.targets`, checked when an event is published.

Names are known here, so a wrong one is refused at once, with near names. Windows and panes are tmux's, which the
hot commands do not ask: the broker judges those.
"""

from __future__ import annotations

from tmux_orchestrator.agents import registry
from tmux_orchestrator.ground.errors import UsageError


def canonical(agents: list[registry.Agent], target: str, session: str | None, queue: bool | None) -> str:
    """The target as it is stored: session:name for an agent.

    `queue`: a name may register later; None where the caller has no option to say so.

    Raises UsageError for what cannot be a target, and for a name or role that nobody has.
    """
    if not target or len(target) > 128 or not target.isprintable():
        raise UsageError(f"{target!r} is no target: name an agent, session:window, %pane, @role or @all")
    if target.startswith("@"):
        return _everybody(agents, target, queue)
    if target.startswith("%"):
        if not (target[1:].isascii() and target[1:].isdigit()):
            raise UsageError(f"{target!r} is no pane: a pane is % and a number, as tmux prints it")
        return target
    agent = registry.resolve(agents, target, session)
    if agent is not None:
        return agent.key
    if ":" in target:
        return target
    if target.startswith("pane-") and target[5:].isascii() and target[5:].isdigit():
        return "%" + target[5:]  # adopted by the configuration, and in no registry
    if queue and registry.valid_name(target):
        return target
    hint = "" if queue is None else "; --queue if it will come"
    raise UsageError(f"no agent is called {target!r}{registry.near(agents, target)}: see orc-agent list{hint}")


def _everybody(agents: list[registry.Agent], target: str, queue: bool | None) -> str:
    role = target[1:]
    if not registry.valid_name(role):
        raise UsageError(f"{target!r} is no role: a role is @ and a name")
    roles = {agent.role for agent in agents}
    if role != "all" and role not in roles and not queue:
        known = ", ".join(sorted("@" + r for r in roles if r)) or "none yet"
        hint = "see orc-agent list" if queue is None else "or say --queue if somebody will come"
        raise UsageError(f"nobody has the role {target} (roles: {known}): {hint}")
    return target
