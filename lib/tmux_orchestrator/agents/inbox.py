"""Which events concern an agent, or a session: the same rule for orc-read and for the digest's count."""

from __future__ import annotations

from tmux_orchestrator.agents.registry import Agent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Interest:
    """Everything by which the given agents, or their sessions, are addressed."""

    def __init__(self, agents: list[Agent], groups: dict[str, list[str]], sessions: list[str]) -> None:
        self.senders = {(agent.session, agent.name) for agent in agents}
        self.sessions = set(sessions)
        self.targets = {"@all"}
        for agent in agents:
            self.targets |= {agent.key, agent.name, agent.pane, f"@{agent.role}"}
        joined = {group for agent in agents for group in agent.groups}
        configured = {group for group, members in groups.items() if self.targets & (set(members) - {"@all"})}
        self.groups = joined | configured

    def is_addressed(self, event: dict[str, Any]) -> bool:
        """Is the event to one of them?"""
        to = event["to"]
        targets = to.get("targets") or ()
        if self.targets & set(targets) or self.groups & set(to.get("groups") or ()):
            return True
        return any(_in_sessions(target, self.sessions) for target in targets)

    def concerns(self, event: dict[str, Any]) -> bool:
        """Is it to one of them, from one of them, or about their session?"""
        source = event["source"]
        if (source.get("session"), source.get("identifier")) in self.senders or source.get("session") in self.sessions:
            return True
        context = event["message"]["content"].get("context") or {}
        return context.get("session") in self.sessions or self.is_addressed(event)


def _in_sessions(target: str, sessions: set[str]) -> bool:
    return target in sessions or any(target.startswith(session + ":") for session in sessions if ":" not in session)


def of_agent(agents: list[Agent], groups: dict[str, list[str]], key: str) -> Interest:
    """What is addressed to one agent, by key or by name."""
    return Interest([agent for agent in agents if key in (agent.key, agent.name)], groups, [])


def of_session(agents: list[Agent], groups: dict[str, list[str]], where: str, panes: set[str]) -> Interest:
    """`where` is a session, or session:window with the ids of the window's panes."""
    session, colon, _ = where.partition(":")
    mine = [agent for agent in agents if agent.session == session and (not colon or agent.pane in panes)]
    return Interest(mine, groups, [where])
