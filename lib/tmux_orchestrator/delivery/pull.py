"""What an agent's hook hands its model beside a prompt, at a start, or when a turn is about to end.

The texts are the model's to read, so they are small: a CLI cuts what is long without a word. What the broker offers
(see agents.parcel) is handed over as a whole; that it was goes into the agent's sign when it has been printed.
"""

from __future__ import annotations

from tmux_orchestrator.agents import parcel, signs
from tmux_orchestrator.ground import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tmux_orchestrator.agents.hooks import Report
    from tmux_orchestrator.agents.parcel import Parcel
    from tmux_orchestrator.agents.registry import Agent
    from tmux_orchestrator.agents.signs import Sign
    from tmux_orchestrator.ground.paths import Home

IN_A_ROW = 8  # so many times a turn that would end goes on with what has come


def context_for(agent: Agent, report: Report) -> str:
    """What the model is to be told in answer to this call of a hook; mostly nothing."""
    if report.kind == "session_start" and report.source in ("compact", "resume", "clear"):
        return _briefing(agent)
    return ""


def parcel_for(home: Home, agent: Agent, report: Report, sign: Sign | None) -> Parcel | None:
    """The messages that this call of a hook hands over; `delivered` must follow. Raises TryLater, SystemFailure."""
    if report.kind == "prompt" or (report.kind == "stop" and (sign is None or sign.continued < IN_A_ROW)):
        return parcel.take(home, agent)
    return None


def delivered(home: Home, agent: Agent, report: Report, handed: Parcel) -> None:
    """They have been printed. A turn that was about to end goes on."""
    now = clock.now_ns()

    def change(sign: Sign) -> None:
        if report.kind == "stop":
            sign.at, sign.hook, sign.continued = now, report.event, sign.continued + 1
            sign.enter("working", now)
            sign.turn = sign.turn or now
        sign.take(handed.ids, now)

    signs.update(home, agent, change)


def _briefing(agent: Agent) -> str:
    """Who it is and how it reads what waits, for a conversation that may no longer hold that."""
    role = f", in the role {agent.role}" if agent.role else ""
    return (
        f"You are the agent {agent.name}{role}, in the tmux session {agent.session}. "
        f"What was sent to you and you have not read: orc-read --unread {agent.name} -o text. "
        f'To write to another agent: orc-publish -t NAME "…".'
    )
