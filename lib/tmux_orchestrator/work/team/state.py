"""What the supervisor keeps on disk: logs/run/team.json, replaced as a whole at each change.

It holds which process each agent is, how often it was started again and why, what is wanted by hand, and up to where
the log was read for triggers. A crash leaves the last file; what was started after it is found by the mark that each
process carries (see `kin`). Boot-clock times of another boot mean nothing, so of a file of another boot only what is
wanted, the runs' number, events and the clock's occasions stay; and so of a copy of another home's file, whose
processes are the other home's. The team's id follows from the home's path: without the file the marks still tell
whose a process is.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from tmux_orchestrator.agents import crew
from tmux_orchestrator.ground import clock, fastjson, files
from tmux_orchestrator.ground.config_kinds import NAME
from tmux_orchestrator.ground.errors import OrcError
from tmux_orchestrator.ground.paths import Home

# What an agent is: `waiting` for its time or event, `exited` well, `failed` and not started again by itself, `stopped`
# by hand; `unresponsive` is one that runs and is late with its sign of life.
STARTING, RUNNING, STOPPING = "starting", "running", "stopping"
WAITING, EXITED, FAILED, STOPPED, UNRESPONSIVE = "waiting", "exited", "failed", "stopped", "unresponsive"
STATES = (STARTING, RUNNING, STOPPING, WAITING, EXITED, FAILED, STOPPED, UNRESPONSIVE)
_LIMIT = 1 << 24
_LONGEST = 256  # characters of an event's id that can be an agent's variable


@dataclass(slots=True)
class Kept:
    """One agent. `_ns` of the boot clock, but for those of the wall clock (`began_wall_ns`, `fired_wall_ns`)."""

    state: str = STOPPED
    wanted: bool = True  # False: stopped by hand
    pid: int = 0
    pid_start: int = 0
    run: int = 0  # the number of the last start
    made: str = ""  # what was started: see `Spec.digest`
    began_ns: int = 0  # of this run
    began_wall_ns: int = 0
    restarts: int = 0
    past: dict[str, Any] = field(default_factory=dict)  # see `policy.Past`
    reason: str = ""  # how the last run ended, or why there was none
    told: bool = False  # that it failed, and it was not stable since
    retry_ns: int = 0  # when one that has failed is tried again; 0: only by hand
    fired_wall_ns: int = 0  # the last occasion of its schedule
    waiting: list[list[str]] = field(default_factory=list)  # events that it was not started for yet: [id, type]
    event: list[str] = field(default_factory=list)  # the one that it runs for
    up_ns: int = 0  # how long it ran, of the time in which it was meant to
    meant_ns: int = 0
    cpu_percent: float = 0.0
    memory_mb: float = 0.0
    late: bool = False  # with its sign of life
    over: list[str] = field(default_factory=list)  # limits that it is over


@dataclass(slots=True)
class Team:
    """`id` is in the mark of each process; `place` is where the log is read next for triggers.

    `damaged`: there is a file, and it could not be read.
    """

    id: str
    began_ns: int = 0
    place: list[Any] = field(default_factory=list)
    agents: dict[str, Kept] = field(default_factory=dict)
    damaged: bool = False


def load(home: Home) -> Team:
    """What was kept; a new team where there is nothing, or nothing that can be read."""
    mine = hashlib.sha256(os.fsencode(os.path.realpath(home.root))).hexdigest()[:12]
    try:
        data = files.read(crew.file(home), _LIMIT)
        if data is None:
            return Team(mine)
        stored, team = fastjson.loads(data), Team(mine)
        same_boot = stored["boot"] == clock.boot_id() and stored["team"] == mine
        team.began_ns = stored["began_ns"] if same_boot and type(stored["began_ns"]) is int else 0
        team.place = stored["place"] if isinstance(stored["place"], list) else []
        for name, given in stored["agents"].items():
            if NAME.fullmatch(name):
                team.agents[name] = _kept(given, same_boot)
        return team
    except (OSError, OrcError, ValueError, KeyError, TypeError, AttributeError):
        return Team(mine, damaged=True)


def _kept(given: dict[str, Any], same_boot: bool) -> Kept:
    kept, default = Kept(), Kept()
    for one in fields(Kept):
        value = given.get(one.name)
        if type(value) is type(getattr(default, one.name)) and _is_possible(value):
            setattr(kept, one.name, value)
    if kept.pid >= 1 << 31:
        kept.pid = 0
    kept.waiting = [pair for pair in kept.waiting if is_event(pair)]
    kept.event = kept.event if is_event(kept.event) else []
    if same_boot:
        return kept
    return Kept(
        wanted=kept.wanted, run=kept.run, fired_wall_ns=kept.fired_wall_ns, waiting=kept.waiting, event=kept.event
    )


def _is_possible(value: object) -> bool:
    return not isinstance(value, int | float) or 0 <= value < 1 << 62


def is_event(value: object) -> bool:
    """An event's id and type, as variables can have them: whatever wrote the log may have made up any id."""
    return isinstance(value, list) and len(value) == 2 and all(type(part) is str and _is_plain(part) for part in value)


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and len(text) <= _LONGEST


def encode(team: Team) -> bytes:
    agents = {name: asdict(kept) for name, kept in team.agents.items()}
    return fastjson.dumps(
        {"team": team.id, "boot": clock.boot_id(), "began_ns": team.began_ns, "place": team.place, "agents": agents}
    ).encode("ascii")


def save(home: Home, data: bytes) -> None:
    """Raises SystemFailure. No sync: what a power cut ends is of another boot."""
    files.replace(crew.file(home), data, sync=False)
