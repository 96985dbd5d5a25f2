"""What the daemons have to say to one project manager: which events those are, and how each is told.

A project manager hears what is about its session, about a session whose agents have nobody nearer, and about nothing in
particular, as far as it is addressed to it, to the group `management`, or to nobody. Read only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tmux_orchestrator.agents import inbox, managers
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.eventlog import ack, event, reader
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.watch.matters import TEAM_IDLE

GROUP = "management"

# A notification's type, by what stands in its context as issue_type; then by the event's type; then by its category.
# What none of these knows keeps the type of its event.
ISSUES = {
    "failure": ("dead", "pm_dead", "crash", "failure", "component", "server", "emergency"),
    "recovery": ("recovery", "recovered", "recovery_needed"),
    "question": ("waiting", "question"),
    "limit": ("limited", "credit_exhausted"),
    "health": ("idle", TEAM_IDLE, "fresh", "unresponsive", "silent", "status", "monitor_back", "strategy"),
    "escalation": ("escalation",),
}
EVENTS = {"recovery": "recovery", "escalation": "escalation", "credit_exhausted": "limit", "violation": "violation"}
CATEGORIES = ("recovery", "health")
_BY_ISSUE = {issue: kind for kind, issues in ISSUES.items() for issue in issues}


def kind(one: Mapping[str, Any]) -> str:
    """The notification's type."""
    message = one["message"]
    issue = message["content"]["context"].get("issue_type")
    if isinstance(issue, str) and issue in _BY_ISSUE:
        return _BY_ISSUE[issue]
    if message["type"] in EVENTS:
        return EVENTS[message["type"]]
    return str(message["category"]) if message.get("category") in CATEGORIES else str(message["type"])


def record(one: Mapping[str, Any], acknowledged: bool) -> dict[str, Any]:
    """What a project manager's script gets to see of an event."""
    message, metadata, source = one["message"], one["metadata"], one["source"]
    return {
        "id": one["id"],
        "short_id": event.short(one["id"]),
        "priority": message["priority"],
        "type": kind(one),
        "raw_message": event.render(dict(one)),
        "timestamp": one["timestamp"],
        "subject": message["content"].get("subject"),
        "body": message["content"]["body"],
        "context": message["content"]["context"],
        "category": message.get("category"),
        "tags": metadata["tags"],
        "requires_ack": metadata["requires_ack"],
        "acknowledged": acknowledged,
        "source": source.get("identifier"),
        "verified": source.get("verified") is True,
    }


def acknowledged(home: Home, since: int | None) -> set[str]:
    """The ids and short ids that were acknowledged since then; see `is_acknowledged`."""
    query = reader.Query()
    query.since, query.tags = since, [ack.TAG]
    found = (ack.acknowledged_id(one) for _, one in reader.search(home, query))
    return {wanted if event.short(wanted) != wanted else wanted.upper() for wanted in found if wanted}


def is_acknowledged(event_id: str, found: set[str]) -> bool:
    return event_id in found or event.short(event_id).upper() in found


class Scope:
    """What is one project manager's business. `where`: a session, session:window or session:name; None: everything."""

    def __init__(
        self, agents: Sequence[Agent], groups: Mapping[str, Sequence[str]], where: str | None, panes: Iterable[str]
    ) -> None:
        """`panes`: the ids of the window's panes."""
        self.agents = list(agents)
        self.session = where.partition(":")[0] if where else None
        self.mine = _mine(self.agents, where, set(panes))
        windows = [where] if where and ":" in where else []
        self._interest = inbox.Interest(self.mine, {name: list(those) for name, those in groups.items()}, windows)
        self._interest.groups.add(GROUP)  # also of one that nobody registered
        self._own = (
            {agent.key for agent in self.mine} | {agent.pane for agent in self.mine if agent.pane} | set(windows)
        )

    def is_addressed(self, one: dict[str, Any]) -> bool:
        """Is it to this project manager, or to a group or role of it?"""
        return self._interest.is_addressed(one)

    def notifies(self, one: dict[str, Any]) -> bool:
        """Did a daemon say it, to this project manager or to nobody, and about what is its business?"""
        to = one["to"]
        if one["source"].get("type") != "daemon" or not _is_news(one):
            return False
        if not self.is_addressed(one):
            return not (to["targets"] or to["groups"]) and self._concerns(one, addressed=False)
        return bool(self._own & set(to["targets"])) or self._concerns(one, addressed=True)

    def _concerns(self, one: dict[str, Any], addressed: bool) -> bool:
        about = _sessions(one["message"]["content"]["context"])
        return self.session is None or not about or any(self._is_mine(session, addressed) for session in about)

    def _is_mine(self, session: str, addressed: bool) -> bool:
        if session == self.session:
            return True
        manager = managers.of_session(self.agents, session)
        return addressed if manager is None else manager.session == self.session


def _mine(agents: Sequence[Agent], where: str | None, panes: set[str]) -> list[Agent]:
    """The agents for whom is read: who is in the window; else the project managers of the session."""
    if where is None:
        return managers.present(agents)
    session, colon, _ = where.partition(":")
    here = [agent for agent in agents if agent.session == session]
    named = [agent for agent in here if agent.key == where or agent.pane in panes] if colon else []
    return named or managers.present(here)


def _is_news(one: dict[str, Any]) -> bool:
    """A recovery that failed is in its record alone; of one that succeeded a notification tells."""
    message = one["message"]
    if message["type"] == "recovery":
        return message["content"]["context"].get("action") in ("refused", "failed")
    return message["type"] not in event.RECORDS


def _sessions(context: Mapping[str, Any]) -> set[str]:
    """The sessions that an event is about: it names agents, or sessions, one or several."""
    named = [context.get("agent"), *_list(context.get("agents")), *_list(context.get("subjects"))]
    found = {name.rpartition(":")[0] for name in named if isinstance(name, str) and ":" in name}
    own = [context.get("session")]
    if context.get("issue_type") == TEAM_IDLE:
        own += _list(context.get("subjects"))
    return found | {session for session in own if isinstance(session, str) and session}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
