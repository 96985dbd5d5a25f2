"""What an agent's hook hands its model beside a prompt, at a start, or when a turn is about to end.

The texts are the model's to read, so they are small: a CLI cuts what is long without a word.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tmux_orchestrator.agents.hooks import Report
    from tmux_orchestrator.agents.registry import Agent
    from tmux_orchestrator.ground.paths import Home


def context_for(home: Home, agent: Agent, report: Report) -> str:
    """What the model is to be handed in answer to this call of a hook; mostly nothing."""
    if report.kind == "session_start" and report.source in ("compact", "resume", "clear"):
        return _briefing(agent)
    return ""


def _briefing(agent: Agent) -> str:
    """Who it is and how it reads what waits, for a conversation that may no longer hold that."""
    role = f", in the role {agent.role}" if agent.role else ""
    return (
        f"You are the agent {agent.name}{role}, in the tmux session {agent.session}. "
        f"What was sent to you and you have not read: orc-read --unread {agent.name} -o text. "
        f'To write to another agent: orc-publish -t NAME "…".'
    )
