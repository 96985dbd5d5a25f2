"""What recovery tells, as events: the log of each agent, those who are back, and project managers of all at once.

Pure: the caller appends them. Twenty deaths of one breath, or of one tmux server, are one message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tmux_orchestrator.agents import managers
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.eventlog import event
from tmux_orchestrator.watch import incidents
from tmux_orchestrator.watch.incidents import LostServer

RESPAWNED, REFUSED, FAILED = "respawned", "refused", "failed"
FIELDS = ("agent", "action", "reason", "attempt", "downtime_ms", "wait_s", "session_id")


@dataclass(slots=True)
class Outcome:
    """What was done for one agent. `wait_s`: when it may be tried again, in tenths rounded up; 0 if only by hand."""

    agent: str
    action: str
    reason: str
    attempt: int = 0
    downtime_ms: int = 0
    wait_s: float = 0.0
    session_id: str | None = None  # the conversation that it took up again
    session: str = field(default="", repr=False)
    new: bool = field(default=True, repr=False)  # was it not told before that it failed so?
    alerted: bool = field(default=False, repr=False)  # everybody whom it concerns was alerted already

    def record(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in FIELDS}


def recorded(one: Outcome, source: dict[str, Any]) -> dict[str, Any]:
    text = f"{one.agent} {one.action}: {one.reason}"
    return event.build(text, source, type="recovery", priority="low", context=one.record())


def notice(text: str, targets: list[str], one: Outcome, source: dict[str, Any], priority: str) -> dict[str, Any]:
    context = {"agent": one.agent, "session": one.session, "issue_type": "recovery"}
    return event.build(
        text,
        source,
        type="notification",
        category="recovery",
        priority=priority,
        targets=targets,
        context=context,
        tags=["recovery"],
    )


def to_managers(
    done: Sequence[Outcome], agents: Sequence[Agent], lost: Sequence[LostServer], source: dict[str, Any]
) -> list[dict[str, Any]]:
    """One message for each project manager: who is back, and who could not be brought back."""
    by_manager: dict[str, list[Outcome]] = {}
    for one in done:
        manager = managers.of_session(agents, one.session)
        if manager is None or manager.key == one.agent:
            continue  # nobody hears of itself
        if one.action == RESPAWNED or (one.action == FAILED and one.new):
            by_manager.setdefault(manager.key, []).append(one)
    return [
        notice("\n".join(_lines(those, lost)), [key], those[0], source, "high") for key, those in by_manager.items()
    ]


def manager_is_back(one: Outcome, agents: Sequence[Agent], source: dict[str, Any]) -> list[dict[str, Any]]:
    """One message to the others of its session; none where there is nobody."""
    team = [agent.key for agent in agents if agent.session == one.session and agent.key != one.agent]
    team = [agent.key for agent in agents if agent.key in team and not agent.ended]
    text = f"Your project manager {one.agent} is back: it was started again: {one.reason}"
    return [notice(text, team, one, source, "normal")] if team else []


def no_manager(one: Outcome, escalate_to: list[str], source: dict[str, Any]) -> dict[str, Any]:
    """The alert of a session that is without its project manager."""
    again = f"orc-agent restart {one.agent}, or orc-run {one.agent.rpartition(':')[2]} --session {one.session} -- …"
    return event.build(
        f"Session {one.session} has no project manager: {one.agent} could not be started again ({one.reason}): {again}",
        source,
        type="alert",
        category="recovery",
        priority="critical",
        groups=["management"],
        targets=escalate_to,
        context={"agent": one.agent, "session": one.session, "issue_type": "no_pm"},
        tags=["recovery", "pm"],
    )


def _lines(those: Sequence[Outcome], lost: Sequence[LostServer]) -> list[str]:
    lines: list[str] = []
    single = list(those)
    for server in lost:
        back = [one.agent for one in those if one.agent in server.agents and one.action == RESPAWNED]
        if back:
            lines.append(f"{server.name()} ended; started again: {incidents.names(back)}")
            single = [one for one in single if one.agent not in back]
    for one in single[: incidents.NAMED]:
        said = "was started again" if one.action == RESPAWNED else "could not be started again"
        lines.append(f"{one.agent} {said}: {one.reason}")
    if len(single) > incidents.NAMED:
        lines.append(f"and {len(single) - incidents.NAMED} more: orc-read --type recovery")
    return lines
