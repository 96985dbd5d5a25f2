"""What the supervisor keeps on disk: logs/run/team.json, replaced as a whole at each change.

It holds which process each agent is, how often it was started again and why, what is wanted by hand, and up to where
the log was read for triggers. A crash leaves the last file; what was started after it is found by the mark that each
process carries (see `kin`). Boot-clock times of another boot mean nothing, so of a file of another boot only what is
wanted, the runs' number and the clock's occasions stay.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from tmux_orchestrator.agents import crew
from tmux_orchestrator.ground import clock, fastjson, files
from tmux_orchestrator.ground.errors import OrcError
from tmux_orchestrator.ground.paths import Home

# What an agent is: `waiting` for its time or event, `exited` well, `failed` and not started again by itself, `stopped`
# by hand; `unresponsive` is one that runs and is late with its sign of life.
STARTING, RUNNING, STOPPING = "starting", "running", "stopping"
WAITING, EXITED, FAILED, STOPPED, UNRESPONSIVE = "waiting", "exited", "failed", "stopped", "unresponsive"
STATES = (STARTING, RUNNING, STOPPING, WAITING, EXITED, FAILED, STOPPED, UNRESPONSIVE)
_LIMIT = 1 << 24


@dataclass(slots=True)
class Kept:
    """One agent. `_ns` of the boot clock, but for those of the wall clock (`began_wall_ns`, `fired_wall_ns`)."""

    state: str = STOPPED
    wanted: bool = True  # False: stopped by hand
    pid: int = 0
    pid_start: int = 0
    run: int = 0  # the number of the last start
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
    """`id` is in the mark of each process; `place` is where the log is read next for triggers."""

    id: str
    began_ns: int = 0
    place: list[Any] = field(default_factory=list)
    agents: dict[str, Kept] = field(default_factory=dict)


def load(home: Home) -> Team:
    """What was kept; a new team where there is nothing, or nothing that can be read."""
    try:
        stored = fastjson.loads(files.read(crew.file(home), _LIMIT) or b"{}")
        team = Team(stored["team"])
        if not (isinstance(team.id, str) and team.id.isalnum() and len(team.id) <= 32):
            raise ValueError
        same_boot = stored["boot"] == clock.boot_id()
        team.began_ns = stored["began_ns"] if same_boot and type(stored["began_ns"]) is int else 0
        team.place = stored["place"] if isinstance(stored["place"], list) else []
        for name, given in stored["agents"].items():
            team.agents[name] = _kept(given, same_boot)
        return team
    except (OSError, OrcError, ValueError, KeyError, TypeError, AttributeError):
        return Team(os.urandom(6).hex())


def _kept(given: dict[str, Any], same_boot: bool) -> Kept:
    kept, default = Kept(), Kept()
    for one in fields(Kept):
        value = given.get(one.name)
        if type(value) is type(getattr(default, one.name)):
            setattr(kept, one.name, value)
    kept.waiting = [pair for pair in kept.waiting if _is_pair(pair)]
    kept.event = kept.event if _is_pair(kept.event) else []
    if same_boot:
        return kept
    return Kept(wanted=kept.wanted, run=kept.run, fired_wall_ns=kept.fired_wall_ns, waiting=kept.waiting)


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(part) is str for part in value)


def encode(team: Team) -> bytes:
    agents = {name: asdict(kept) for name, kept in team.agents.items()}
    return fastjson.dumps(
        {"team": team.id, "boot": clock.boot_id(), "began_ns": team.began_ns, "place": team.place, "agents": agents}
    ).encode("ascii")


def save(home: Home, data: bytes) -> None:
    """Raises SystemFailure. No sync: what a power cut ends is of another boot."""
    files.replace(crew.file(home), data, sync=False)
