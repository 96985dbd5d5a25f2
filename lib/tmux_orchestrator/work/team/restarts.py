"""When an agent that ended is started again: at once, a few times in a window, then by hand or much later.

The rules of `agents.policy`, without their pauses, and on the boot clock, which no step of the wall clock moves.
"""

from __future__ import annotations

from tmux_orchestrator.agents import policy
from tmux_orchestrator.agents.policy import Past, Rules
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.work.team.state import Kept


def rules(settings: Config) -> Rules:
    within = int(settings.get("team.restart.within") * 1e9)
    return Rules(grace=0, cooldown=0, first=0, longest=0, attempts=settings.get("team.restart.max"), within=within)


def may(kept: Kept, now_ns: int, settings: Config) -> bool:
    """May it be started again, now that it has ended? If so, that is noted."""
    past, by = Past.from_dict(kept.past), rules(settings)
    if not policy.judge(past, 0, now_ns, by).allowed:
        return False
    policy.started(past, 0, now_ns, by)
    kept.past = past.to_dict()
    return True


def recent(kept: Kept) -> list[int]:
    """When it was started again, of late."""
    return Past.from_dict(kept.past).starts


def again_ns(now_ns: int, settings: Config) -> int:
    """When one that has failed is tried again; 0: only by hand."""
    seconds = settings.get("team.restart.again_after")
    return now_ns + int(seconds * 1e9) if seconds else 0


def forgive(kept: Kept) -> None:
    """All that happened is past: it begins anew."""
    kept.past, kept.retry_ns = {}, 0
