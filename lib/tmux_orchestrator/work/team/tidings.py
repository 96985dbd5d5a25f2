"""The events that tell of the team: an agent that was started again, has failed, is over a limit or late.

They are of the daemon `team`. What needs a person goes to the group `management`, once for each time that it begins;
a start after a crash is a record, which nobody gets typed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tmux_orchestrator.eventlog import event
from tmux_orchestrator.eventlog.daylog import daemon_source
from tmux_orchestrator.work.team.roster import Spec

DAEMON = "team"
Event = dict[str, Any]
_NAMED = 10  # of several agents, so many are called by name


def _tell(spec: Spec, body: str, subject: str, priority: str, issue: str, tags: list[str], **context: Any) -> Event:
    return event.build(
        body,
        daemon_source(DAEMON),
        type="notification",
        category="health",
        priority=priority,
        subject=subject,
        groups=["management"],
        tags=["team", *tags],
        context={"agent": spec.name, "issue_type": issue, **context},
    )


def restarted(spec: Spec, reason: str, restarts: int, downtime_ms: float) -> Event:
    context = {"agent": spec.name, "action": "respawned", "reason": reason, "attempt": restarts}
    context |= {"downtime_ms": round(downtime_ms, 1), "session_id": None}
    body = f"{spec.name} {reason}: started again"
    return event.build(
        body, daemon_source(DAEMON), type="recovery", category="recovery", context=context, tags=["team", "recovery"]
    )


@dataclass(frozen=True, slots=True)
class Failure:
    """An agent that nobody starts again for now; `again_s`: in how many seconds that will be; 0: only by hand."""

    spec: Spec
    reason: str
    attempts: int
    again_s: float

    def text(self) -> str:
        tried = f" after {self.attempts} restart{'s' * (self.attempts != 1)}" if self.attempts else ""
        again = f", or in {self.again_s:.0f} s by itself" if self.again_s else ""
        name = self.spec.name
        return f"{name} {self.reason}, and is not started again{tried}: orc-team start {name}{again}"


def failed(those: list[Failure]) -> Event:
    """Of all that failed within a breath, one event."""
    first = those[0]
    if len(those) == 1:
        context = {"reason": first.reason, "restarts": first.attempts}
        return _tell(first.spec, first.text(), "Agent Failed", "critical", "crash", ["crash"], **context)
    lines = [f"{len(those)} agents have failed:", *(one.text() for one in those[:_NAMED])]
    if len(those) > _NAMED:
        lines.append(f"and {len(those) - _NAMED} more: orc-team status")
    names = [one.spec.name for one in those]
    return _tell(first.spec, "\n".join(lines), "Agents Failed", "critical", "crash", ["crash"], agents=names)


def over_limit(spec: Spec, what: str, value: float, limit: float) -> Event:
    unit = {"memory": "MB", "cpu": "% of a core"}[what]
    follows = " It is restarted." if spec.on_limit == "restart" else ""
    body = f"{spec.name} takes {value:.0f} {unit}, more than {limit:.0f}.{follows}"
    context = {"resource": what, "value": value, "limit": limit}
    return _tell(spec, body, "Agent Over Its Limit", "high", "resource", ["resources"], **context)


def late(spec: Spec, seconds: float) -> Event:
    follows = " It is restarted." if spec.on_unresponsive == "restart" else f" See orc-team status --agent {spec.name}."
    body = f"{spec.name} runs, and gave no sign of life for {seconds:.0f} s.{follows}"
    return _tell(spec, body, "Agent Unresponsive", "high", "unresponsive", ["heartbeat"], silent_s=round(seconds))


def stubborn(spec: Spec, pids: list[int]) -> Event:
    """Not even SIGKILL ends it."""
    listed = ", ".join(map(str, pids[:10]))
    body = f"{spec.name} does not end: see what process {listed} waits for in /proc/PID/stack"
    return _tell(spec, body, "Agent Does Not End", "high", "crash", ["crash"], pids=pids[:10])
