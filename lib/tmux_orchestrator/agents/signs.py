"""What an agent's own hooks last said: logs/run/signs/SESSION@NAME.json, one small file for each agent.

Hooks of one agent may run at the same time, so each reads, alters and replaces the file under its lock. A reader
needs none: it sees the file before a change or after it. It is no truth about life and death, and it is about one
process: what an earlier process of that name said does not count, but for its session's id, by which a conversation
is taken up again. A damaged file counts as none: the next hook writes it anew.
"""

from __future__ import annotations

import os

from tmux_orchestrator.agents import launch
from tmux_orchestrator.ground import fastjson, files, proc
from tmux_orchestrator.ground.errors import OrcError
from tmux_orchestrator.ground.locks import Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tmux_orchestrator.agents.registry import Agent
    from tmux_orchestrator.ground.paths import Home

STATES = ("working", "idle", "waiting", "limited")
TAKEN = 160  # how many ids of messages that a prompt held are remembered
_LIMIT = 1 << 16
_PATIENCE = 1.0

# Field -> default, whose type is the field's type. Times are nanoseconds of the wall clock.
FIELDS: dict[str, Any] = {
    "pid": 0,  # the agent's registered process, and its start
    "pid_start": 0,
    "state": "",  # one of STATES; "": no hook has said
    "since": 0,  # since when it is so
    "at": 0,  # when a hook last said anything
    "hook": "",  # which one that was
    "cli": 0,  # the process that calls the hooks: the agent's own, or its child, or what an adopted shell started
    "cli_start": 0,
    "turn": 0,  # since when it works on what it was asked; 0: it is asked nothing
    "continued": 0,  # how many times in a row its turn went on with what had come, instead of ending
    "session_id": "",  # how the CLI calls its conversation
    "question": "",  # what it asks a person for, when it waits
    "limited_until": "",
    "taken": [],  # [short id, when] of the messages that prompts held, the newest last
    "usage": {},  # what the CLI said of its limits: name -> {"used_percent": float, "resets": stamp}
}


class Sign:
    """What the hooks of one agent said."""

    __slots__ = tuple(FIELDS)

    if TYPE_CHECKING:
        pid: int
        pid_start: int
        state: str
        since: int
        at: int
        hook: str
        cli: int
        cli_start: int
        turn: int
        continued: int
        session_id: str
        question: str
        limited_until: str
        taken: list[list[Any]]
        usage: dict[str, Any]

    def __init__(self, fields: dict[str, Any]) -> None:
        """Raises ValueError for a field of the wrong type; unknown ones are left out."""
        for field, default in FIELDS.items():
            value = fields.get(field, default)
            if type(value) is not type(default):
                raise ValueError(f"{field} has the wrong type")
            setattr(self, field, value.copy() if type(value) in (list, dict) else value)
        if not all(type(one) is list and [type(part) for part in one] == [str, int] for one in self.taken):
            raise ValueError("taken has the wrong type")

    def to_dict(self) -> dict[str, Any]:
        return {field: getattr(self, field) for field in FIELDS}

    def enter(self, state: str, now: int) -> None:
        """A turn's edge: it is in this state from now on."""
        if state != self.state:
            self.state, self.since = state, now
        self.question = self.limited_until = ""

    def take(self, ids: list[str], now: int) -> None:
        """A prompt held these messages."""
        self.taken = [*self.taken, *([one, now] for one in ids)][-TAKEN:]

    def took(self, short_id: str) -> bool:
        return any(one[0] == short_id for one in self.taken)

    def of_turn(self) -> list[str]:
        """The messages that the prompts of this turn held; none between two turns."""
        return [one[0] for one in self.taken if self.turn and one[1] >= self.turn]

    def calls(self, pid: int, start: int) -> bool:
        """Is this the process that calls the hooks, or may it become that one? The first does, as long as it lives.

        Any other is an agent CLI that the agent itself runs for a while, with the same settings: not this agent.
        """
        return (self.cli, self.cli_start) == (pid, start) or not proc.alive(self.cli, self.cli_start)


def path(home: Home, agent: Agent) -> str:
    return _path(home, agent.session, agent.name)


def _path(home: Home, session: str, name: str) -> str:
    return f"{home.run}/signs/{launch.file(home, session, name).rpartition('/')[2]}"


def load(home: Home, agent: Agent) -> Sign | None:
    """What the hooks of this very process said; None if they said nothing yet."""
    sign = _read(path(home, agent))
    return sign if sign is not None and (sign.pid, sign.pid_start) == (agent.pid, agent.pid_start) else None


def session_id(home: Home, agent: Agent) -> str:
    """How the agent CLI called its last conversation, whichever process had it; "" if no hook said."""
    sign = _read(path(home, agent))
    return sign.session_id if sign is not None else ""


def update(home: Home, agent: Agent, change: Callable[[Sign], None]) -> Sign:
    """Alter what is on file for this process of the agent. Raises TryLater, SystemFailure."""
    where = path(home, agent)
    with Lock(where.removesuffix(".json") + ".lock", _PATIENCE):
        sign = _read(where)
        if sign is None or (sign.pid, sign.pid_start) != (agent.pid, agent.pid_start):
            known = sign.session_id if sign is not None else ""
            sign = Sign({"pid": agent.pid, "pid_start": agent.pid_start, "session_id": known})
        change(sign)
        files.replace(where, fastjson.dumps(sign.to_dict()).encode("ascii"), sync=False)
    return sign


def forget(home: Home, session: str, name: str) -> None:
    """Who has this name from now on said nothing yet."""
    try:
        os.unlink(_path(home, session, name))
    except OSError:
        pass


def rename(home: Home, agent: Agent, new: str) -> None:
    """What the agent said goes along with it to its new name."""
    try:
        os.rename(path(home, agent), _path(home, agent.session, new))
    except OSError:
        pass


def _read(where: str) -> Sign | None:
    try:
        return Sign(fastjson.loads(files.read(where, _LIMIT) or b""))
    except (ValueError, TypeError, AttributeError, OrcError):
        return None
