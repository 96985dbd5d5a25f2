"""The team from outside: start its supervisor, see how it fares, stop it; from any process, and from Python.

    daemon = TeamDaemon()
    daemon.start()     # in the background, as `orchestrator_manager.sh start team` does
    daemon.status()
    daemon.stop()

Whether the supervisor runs, its pid file says; what it knows, logs/run/team.json; whether an agent lives, the kernel.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import Any

from tmux_orchestrator.ground import clock, components, config, pidfile, proc
from tmux_orchestrator.ground.errors import UnavailableError, UsageError
from tmux_orchestrator.ground.paths import CODE, Home, find_home
from tmux_orchestrator.work.team import requests, roster, state, tasks
from tmux_orchestrator.work.team.tidings import DAEMON

FIELDS = (
    "name", "pid", "alive", "uptime_s", "cpu_percent", "memory_mb", "current_task", "restarts", "state", "reason",
    "up_percent",
)  # fmt: skip
_SPARE = 30.0  # seconds beyond the agents' own time to end


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """One agent. `pid` and `uptime` (seconds) are of its process, if one lives; `cpu_percent` is of one core.

    `up_percent`: for how much of the time in which it was meant to run it did; `reason`: how its last run ended.
    """

    name: str
    pid: int | None
    is_alive: bool
    uptime: float
    cpu_percent: float
    memory_mb: float
    current_task: str | None
    restarts: int
    state: str
    reason: str
    up_percent: float | None

    def record(self) -> dict[str, Any]:
        values = (
            self.name, self.pid, self.is_alive, round(self.uptime, 1), self.cpu_percent, self.memory_mb,
            self.current_task, self.restarts, self.state, self.reason or None, self.up_percent,
        )  # fmt: skip
        return dict(zip(FIELDS, values, strict=True))


@dataclass(frozen=True, slots=True)
class TeamStatus:
    """`uptime`: seconds of the supervisor, 0 when it does not run; `message_queue_size`: None when nobody can tell."""

    agents: dict[str, AgentStatus]
    message_queue_size: int | None
    uptime: float
    pid: int | None

    def record(self) -> dict[str, Any]:
        return {
            "agents": [one.record() for one in self.agents.values()],
            "message_queue_size": self.message_queue_size,
            "uptime_s": round(self.uptime, 1),
            "pid": self.pid,
        }


class TeamDaemon:
    """The supervisor of one home, and its agents."""

    def __init__(self, home: str | None = None) -> None:
        """`home`: the folder of the system; without one, that of the environment."""
        self.home = Home(os.path.abspath(home)) if home else find_home()

    def start(self) -> None:
        """Have it run, in the background. Raises UnavailableError, ConfigError."""
        roster.load(self.home, config.load(self.home))
        done = subprocess.run(  # by another process: it is no child of whoever asks for it
            [CODE + "/bin/orc-component", "start", DAEMON],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=os.environ | {"ORC_HOME": self.home.root},
            check=False,
        )
        if done.returncode:
            raise UnavailableError(done.stderr.rstrip("\n").rpartition("\n")[2].removeprefix("orc-component: "))

    def stop(self, force: bool = False) -> bool:
        """Stop all agents, then it; False when it did not run. `force`: at once. Raises SystemFailure."""
        if force and pidfile.running(self.home, DAEMON) is not None:
            requests.put(self.home, requests.END, [], True)
        return components.stop(self.home, DAEMON)

    def ask(self, word: str, agents: list[str], force: bool = False) -> dict[str, str]:
        """Have some agents started, stopped or restarted while it runs; the state of each then.

        Raises UsageError for a name that nobody has, UnavailableError, GaveUp.
        """
        specs = roster.load(self.home, config.load(self.home))
        for name in agents:
            if name not in specs:
                raise UsageError(f"no agent of the team is called {name!r}: take one of {', '.join(specs) or 'none'}")
        patience = max(specs[name].stop_timeout for name in agents) + _SPARE
        return requests.ask(self.home, word, agents, force, patience)

    def status(self) -> TeamStatus:
        """How all agents fare."""
        settings = config.load(self.home)
        team, pid = state.load(self.home), pidfile.running(self.home, DAEMON)
        waiting, doing = tasks.look(self.home, settings)
        now = clock.boot_ns()
        agents: dict[str, AgentStatus] = {}
        for name in [*roster.load(self.home, settings), *team.agents]:
            kept = team.agents.get(name, state.Kept())
            agents.setdefault(name, _status(name, kept, now, pid is not None, doing.get(name)))
        uptime = (now - team.began_ns) / 1e9 if pid is not None and team.began_ns else 0.0
        return TeamStatus(agents, waiting, max(0.0, uptime), pid)


def _status(name: str, kept: state.Kept, now_ns: int, supervised: bool, task: str | None) -> AgentStatus:
    alive = bool(kept.pid) and proc.alive(kept.pid, kept.pid_start)
    what = kept.state
    if not supervised:
        what = state.RUNNING if alive else state.STOPPED if what != state.FAILED else what
    elif what == state.RUNNING and kept.late:
        what = state.UNRESPONSIVE
    return AgentStatus(
        name=name,
        pid=kept.pid if alive else None,
        is_alive=alive,
        uptime=proc.age_ns(kept.pid_start) / 1e9 if alive else 0.0,
        cpu_percent=kept.cpu_percent if alive else 0.0,
        memory_mb=kept.memory_mb if alive else 0.0,
        current_task=task,
        restarts=kept.restarts,
        state=what,
        reason=kept.reason,
        up_percent=round(kept.up_ns / kept.meant_ns * 100, 2) if kept.meant_ns else None,
    )
