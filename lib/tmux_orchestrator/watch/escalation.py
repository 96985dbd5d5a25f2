"""What an agent cannot decide, put before whoever is above it, with what they need to know about it.

An escalation is one event of type `escalation`, priority high, to `delivery.escalate_to`; it is repeated until somebody
acknowledges it. It is in the log before anybody is asked whether they can hear it, so none is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.agents.state import Seen
from tmux_orchestrator.eventlog import event, reader
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.paths import Home

ALERTS = ("alert", "notification", "violation", "credit_exhausted", "escalation")
_RECENT = 5
_RECENT_NS = 3_600_000_000_000
_URGENT = frozenset({"critical", "high"})
_ISSUE = 200  # characters of the headline
_NAMED = 20  # agents of a team that are told by name


def reached(agents: Iterable[Agent], targets: Iterable[str], asker: str, absent: Iterable[str] = ()) -> list[str]:
    """The targets that mean somebody else who is there. What is no agent's name is the broker's to judge, and counts.

    `asker` is the key of who asks, `absent` the keys of those who cannot help now.
    """
    known = list(agents)
    gone = {asker, *absent}
    others = [agent for agent in known if agent.key not in gone and not agent.ended]
    keys, names = {agent.key for agent in known}, {agent.key for agent in others} | {agent.name for agent in others}
    found = []
    for target in targets:
        if target.startswith("@"):
            there = any(target[1:] in ("all", agent.role) for agent in others)
        else:
            window = target.startswith("%") or (":" in target and target not in keys)
            there = window or target in names
        found += [target] if there else []
    return found


def recent(home: Home, session: str | None) -> list[str]:
    """The ids of the last urgent notifications of the hour that are about the session; about any, for None."""
    query = reader.Query()
    query.since, query.types = clock.now_ns() - _RECENT_NS, list(ALERTS)
    query.match = lambda one: one["message"]["priority"] in _URGENT and session in (None, _about(one))
    return [one["id"] for _, one in reader.last(home, query, _RECENT)]


def _about(one: dict[str, Any]) -> str | None:
    found = one["message"]["content"]["context"].get("session")
    return found if isinstance(found, str) else one["source"].get("session")


def states(team: Sequence[Seen]) -> str:
    """A team in a line: `pm idle, dev dead (ended by signal 9)`."""
    told = [f"{one.agent.name} {one.state}" + (f" ({one.why})" if one.why else "") for one in team[:_NAMED]]
    return ", ".join(told) + (f" and {len(team) - _NAMED} more" if len(team) > _NAMED else "")


def build(
    text: str, source: dict[str, Any], targets: list[str], team: Sequence[Seen], alerts: list[str]
) -> dict[str, Any]:
    """The event: the text as it was given, and below it who asks, how its team is, and what was last reported."""
    session = source.get("session")
    asker = f"{session}:{source['identifier']}" if session else str(source["identifier"])
    issue = " ".join(text.strip().partition("\n")[0].split())[:_ISSUE]
    said = text.strip()
    lines = [said if said.startswith("ESCALATION:") else f"ESCALATION: {said}", f"- From: {asker}"]
    if team:
        lines.append(f"- Team: {states(team)}")
    if alerts:
        lines.append(f"- Recent alerts: {' '.join('#' + event.short(one) for one in alerts)} (orc-read --id ID)")
    context = {
        "agent": asker,
        "session": session,
        "issue": issue.removeprefix("ESCALATION:").strip(),
        "issue_type": "escalation",
        "team": {one.agent.key: one.state for one in team},
        "recent": alerts,
    }
    return event.build(
        "\n".join(lines),
        source,
        type="escalation",
        category="escalation",
        priority="high",
        targets=targets,
        context=context,
        tags=["escalation"],
        requires_ack=bool(targets),
    )
