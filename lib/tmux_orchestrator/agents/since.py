"""Since when each agent does what it does: logs/run/lives.json, which the monitor keeps.

One look knows what is on the screen, not for how long; the monitor, which looks again and again, does, and it alone
sees that somebody who seems to work does not move any more. What it keeps counts for the very process it was about.
A damaged file counts as none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from tmux_orchestrator.ground import clock, fastjson, files
from tmux_orchestrator.ground.errors import OrcError

if TYPE_CHECKING:
    from tmux_orchestrator.agents.state import Seen
    from tmux_orchestrator.ground.paths import Home

UNRESPONSIVE = "unresponsive"


class Kept(NamedTuple):
    """What is kept of one agent. `stamp`: since when it is in the state, wall clock; `busied`: has it ever worked?"""

    pid: int
    pid_start: int
    state: str
    stamp: int
    busied: bool


def path(home: Home) -> str:
    return home.run + "/lives.json"


def load(home: Home) -> dict[str, Kept]:
    """By the agent's key."""
    try:
        stored = fastjson.loads(files.read(path(home)) or b"{}")
        return {key: Kept(*one) for key, one in stored.items() if _is_kept(one)}
    except (ValueError, AttributeError, OrcError):
        return {}


def dump(kept: dict[str, Kept]) -> bytes:
    return fastjson.dumps({key: list(one) for key, one in kept.items()}).encode("ascii")


def fill(seen: Iterable[Seen], kept: dict[str, Kept]) -> None:
    """Add to what a look saw what the monitor knows of it."""
    for one in seen:
        known = kept.get(one.agent.key)
        if known is None or (known.pid, known.pid_start) != (one.agent.pid, one.agent.pid_start):
            continue
        if known.state == UNRESPONSIVE and one.state == "working":
            one.state, one.source, one.since = UNRESPONSIVE, "monitor", None
        if known.state == one.state and one.since is None:
            one.since = clock.stamp(known.stamp)


def _is_kept(one: Any) -> bool:
    kinds = (int, int, str, int, bool)
    return isinstance(one, list) and len(one) == 5 and all(type(v) is k for v, k in zip(one, kinds, strict=True))
