"""Who is run by the team's supervisor as a plain process, for those who ask from inside of one.

A process is an agent's of the team when the agent's own process is above it: by pid and start time the one that
logs/run/team.json names, which the supervisor (`work`) writes; or, before it has come to write that, the process that
the supervisor itself started, which was told its name. The environment of the asking process alone would only be a
claim. An agent gives a sign of life by touching a file of its own, which the supervisor looks at.
"""

from __future__ import annotations

import os

from tmux_orchestrator.ground import clock, fastjson, files, pidfile, proc
from tmux_orchestrator.ground.errors import OrcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tmux_orchestrator.ground.paths import Home

AGENT, RUN, BEAT = "ORC_TEAM_AGENT", "ORC_TEAM_RUN", "ORC_TEAM_BEAT"  # in the environment of an agent's processes
_LIMIT = 1 << 24
_TOUCH = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def file(home: Home) -> str:
    return home.run + "/team.json"


def folder(home: Home) -> str:
    """What the agents print, and their signs of life."""
    return home.run + "/team"


def beat_file(home: Home, name: str) -> str:
    return f"{folder(home)}/{name}.beat"


def load(home: Home) -> dict[str, Any]:
    """What the supervisor keeps; nothing of another boot, or of a damaged file."""
    try:
        stored = fastjson.loads(files.read(file(home), _LIMIT) or b"{}")
        return stored if isinstance(stored, dict) and stored.get("boot") == clock.boot_id() else {}
    except (OSError, OrcError, ValueError):
        return {}


def caller(home: Home) -> tuple[str, int] | None:
    """The agent of the team that this process belongs to, and the pid of the agent's process."""
    name = os.environ.get(AGENT)
    if not name:
        return None
    above = list(proc.ancestors(os.getpid()))
    try:
        kept = load(home)["agents"][name]
        if kept["pid"] in above and proc.alive(kept["pid"], kept["pid_start"]):
            return name, kept["pid"]
    except (KeyError, TypeError):
        pass
    supervisor = pidfile.running(home, "team")
    if supervisor in above[1:]:
        child = above[above.index(supervisor) - 1]
        if f"{AGENT}={name}".encode() in proc.environment(child):
            return name, child
    return None


def beat(home: Home, name: str) -> None:
    """A sign of life. Raises OSError."""
    fd = os.open(beat_file(home, name), _TOUCH, 0o600)
    try:
        os.utime(fd)
    finally:
        os.close(fd)
