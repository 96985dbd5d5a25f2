"""What waits for an agent's own hook to hand over: logs/run/parcels/SESSION@NAME.json, one parcel for each agent.

The broker offers a parcel and may withdraw it; the hook takes it, as a whole. Each does so under the file's lock, so
a parcel is had by one of them. What was taken has left the file before the model is told; only then does the hook
write into the agent's sign that it was handed over. A crash between leaves a parcel that nobody has and no sign tells
of: whoever offered it has to offer it again, as a repeat. It is for one process: a later one of that name finds none.
"""

from __future__ import annotations

import os

from tmux_orchestrator.agents import launch
from tmux_orchestrator.ground import fastjson, files
from tmux_orchestrator.ground.errors import OrcError, SystemFailure
from tmux_orchestrator.ground.locks import Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tmux_orchestrator.agents.registry import Agent
    from tmux_orchestrator.ground.paths import Home

MOST = 120  # events of one parcel; a sign remembers more of them (signs.TAKEN)
_LIMIT = 1 << 20
_PATIENCE = 1.0


class Parcel:
    """`ids`: the short ids of the events that it holds. `text`: what the model is handed."""

    __slots__ = ("ids", "text")

    def __init__(self, ids: list[str], text: str) -> None:
        self.ids, self.text = ids, text


def path(home: Home, agent: Agent) -> str:
    return f"{home.run}/parcels/{launch.file(home, agent.session, agent.name).rpartition('/')[2]}"


def offer(home: Home, agent: Agent, parcel: Parcel) -> None:
    """Let the agent's hook take it, in place of what was offered before. Raises TryLater, SystemFailure."""
    where = path(home, agent)
    content = {"pid": agent.pid, "pid_start": agent.pid_start, "ids": parcel.ids, "text": parcel.text}
    with _lock(where):
        files.replace(where, fastjson.dumps(content).encode("ascii"), sync=False)


def offered(home: Home, agent: Agent) -> list[str]:
    """The short ids of what is offered to this very process now; a hook may take it at any time."""
    found = _read(path(home, agent))
    return found[1].ids if found is not None and found[0] == (agent.pid, agent.pid_start) else []


def take(home: Home, agent: Agent) -> Parcel | None:
    """What is offered to this very process: from now on nobody else has it. Raises TryLater, SystemFailure."""
    return _remove(home, agent, (agent.pid, agent.pid_start))


def withdraw(home: Home, agent: Agent) -> list[str]:
    """Offer nothing any more; the short ids of what nobody took. Raises TryLater, SystemFailure."""
    parcel = _remove(home, agent, None)
    return [] if parcel is None else parcel.ids


def _remove(home: Home, agent: Agent, process: tuple[int, int] | None) -> Parcel | None:
    where = path(home, agent)
    if not os.path.exists(where):  # mostly
        return None
    with _lock(where):
        found = _read(where)
        if found is None or (process is not None and found[0] != process):
            return None
        try:
            os.unlink(where)
        except OSError as error:
            raise SystemFailure(f"cannot remove {where} ({error.strerror}): see whose it is") from None
    return found[1]


def _read(where: str) -> tuple[tuple[int, int], Parcel] | None:
    """Of which process, and what; None for damage."""
    try:
        found = fastjson.loads(files.read(where, _LIMIT) or b"")
        process, ids, text = (found["pid"], found["pid_start"]), found["ids"], found["text"]
    except (ValueError, KeyError, TypeError, OrcError):
        return None
    if type(ids) is not list or not all(type(one) is str for one in ids) or type(text) is not str:
        return None
    return process, Parcel(ids, text)


def _lock(where: str) -> Lock:
    return Lock(where.removesuffix(".json") + ".lock", _PATIENCE)
