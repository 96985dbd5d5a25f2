"""When each agent last gave a sign of life: logs/run/beats.json, and the signs that were left for the monitor.

The monitor's `Listener` alone writes beats.json, at most once a second, as a whole; others read it. A beat is of one
process: a later one of that name has given no sign yet. It is of one boot too, for its silence counts by the boot
clock; a file of another boot, or a damaged one, counts as none.

While no monitor listens, a sign is left as a signed datagram in logs/run/signs/beats/, one file for each agent,
replaced by its next one and removed by the monitor that has read it.
"""

from __future__ import annotations

from tmux_orchestrator.agents import launch
from tmux_orchestrator.ground import clock, fastjson, files
from tmux_orchestrator.ground.errors import OrcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from tmux_orchestrator.agents.registry import Agent
    from tmux_orchestrator.agents.state import Seen
    from tmux_orchestrator.ground.paths import Home

PROCESS, SIGNED, LEFT = "process", "signed", "left"  # how a sign came: Unix socket, UDP, file
_LIMIT = 1 << 24

# Field -> default, whose type is the field's type.
FIELDS: dict[str, Any] = {
    "pid": 0,  # the agent's registered process, and its start
    "pid_start": 0,
    "wall_ns": 0,  # when it was given, by our clocks
    "boot_ns": 0,
    "sent_ns": 0,  # the same by its sender's wall clock
    "via": "",
}


class Beat:
    """The last sign of one process."""

    __slots__ = tuple(FIELDS)

    if TYPE_CHECKING:
        pid: int
        pid_start: int
        wall_ns: int
        boot_ns: int
        sent_ns: int
        via: str

    def __init__(self, fields: Mapping[str, Any]) -> None:
        """Raises ValueError for a field of the wrong type; unknown ones are left out."""
        for field, default in FIELDS.items():
            value = fields.get(field, default)
            if type(value) is not type(default):
                raise ValueError(f"{field} has the wrong type")
            setattr(self, field, value)

    def is_of(self, agent: Agent) -> bool:
        return self.pid == agent.pid and self.pid_start == agent.pid_start

    def to_dict(self) -> dict[str, Any]:
        return {field: getattr(self, field) for field in FIELDS}


def file(home: Home) -> str:
    return home.run + "/beats.json"


def left_dir(home: Home) -> str:
    return home.run + "/signs/beats"


def left_file(home: Home, agent: Agent) -> str:
    return f"{left_dir(home)}/{launch.file(home, agent.session, agent.name).rpartition('/')[2][:-5]}.beat"


def load(home: Home) -> tuple[dict[str, Beat], dict[str, int]]:
    """The last signs, by the agent's key, and how many datagrams were taken and dropped."""
    try:
        stored = fastjson.loads(files.read(file(home), _LIMIT) or b"{}")
        if stored.get("boot") != clock.boot_id():
            return {}, {}
        counters = {name: count for name, count in stored["counters"].items() if type(count) is int}
        return {key: Beat(fields) for key, fields in stored["beats"].items()}, counters
    except (OSError, OrcError, ValueError, KeyError, TypeError, AttributeError):
        return {}, {}


def save(home: Home, last: Mapping[str, Beat], counters: Mapping[str, int]) -> None:
    """Raises SystemFailure."""
    told = {key: beat.to_dict() for key, beat in last.items()}
    text = fastjson.dumps({"boot": clock.boot_id(), "beats": told, "counters": dict(counters)})
    files.replace(file(home), text.encode("ascii"), sync=False)


def when(agent: Agent, last: Mapping[str, Beat]) -> str | None:
    """The stamp of the last sign of the agent's process."""
    beat = last.get(agent.key)
    return clock.stamp(beat.wall_ns) if beat is not None and beat.is_of(agent) else None


def fill(seen: Iterable[Seen], last: Mapping[str, Beat]) -> None:
    """Add to what a look saw when each gave its last sign."""
    for one in seen:
        one.last_heartbeat = when(one.agent, last)
