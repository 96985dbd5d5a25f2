"""A component that falls is started again, by one that still stands: the state updater starts all others, the broker
the state updater.

Only what was seen running in the background is ever started, and only if nobody asked it to stop. How often is the
rule of `recovery` in the configuration: at once after a stable run, then later and later, then not by itself. What
was done is told; that a component stays away, the monitor tells. The memory of it dies with its host.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field

from tmux_orchestrator.agents import policy
from tmux_orchestrator.eventlog import event
from tmux_orchestrator.eventlog.daylog import Log, daemon_source
from tmux_orchestrator.eventlog.voice import Voice
from tmux_orchestrator.ground import clock, components, pidfile
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.ground.errors import OrcError
from tmux_orchestrator.ground.paths import CODE, Home

_SECOND = 1_000_000_000
_SETTLE = _SECOND  # from its end until it counts as fallen: who stops it says so within that
NAMED = "components"  # the daemon that says what was done


@dataclass
class _Known:
    """One component, as long as it was seen."""

    pid: int = 0  # 0: it was not seen in the background
    since: int = 0  # on the boot clock, as are the next two
    ended: int = 0  # 0: it runs
    past: policy.Past = field(default_factory=policy.Past)
    starter: subprocess.Popen[bytes] | None = None


class Revival:
    """A guest (see `ground.guest`) that looks after `whom` once a second."""

    def __init__(self, home: Home, settings: Config, voice: Voice, whom: tuple[str, ...]) -> None:
        self._home, self._voice = home, voice
        self._known = {name: _Known() for name in whom if components.exists(name)}
        self._look_at, self._began = 0, clock.now_ns()
        self.configure(settings)

    def configure(self, settings: Config) -> None:
        self._rules = policy.Rules.of(settings)
        self._is_on: bool = settings.get("recovery.enabled")

    def turn(self, news: bool = False) -> int:
        now = clock.boot_ns()
        if now >= self._look_at:
            self._look_at = now + _SECOND
            for name, known in self._known.items():
                try:
                    self._look(name, known, now)
                except (OrcError, OSError) as error:
                    self._voice.complain(f"{name} is not looked after: {error}")
        return self._look_at

    def _look(self, name: str, known: _Known, now: int) -> None:
        pid = pidfile.running(self._home, name)
        if pid is not None:
            self._runs(name, known, pid, now)
        elif not known.pid:
            self._find(name, known, now)
        elif not known.ended:
            known.ended = now
        elif self._is_on and now - known.ended >= _SETTLE and self._has_gone(known):
            self._start(name, known, now)

    def _runs(self, name: str, known: _Known, pid: int, now: int) -> None:
        if pid == known.pid:
            return
        if known.starter is not None:
            self._has_gone(known)
            self._tell(name, known, pid)
        in_background = components.is_in_background(self._home, name, pid)
        known.pid, known.since, known.ended = pid if in_background else 0, now, 0

    def _find(self, name: str, known: _Known, now: int) -> None:
        """It may have come and fallen between two looks."""
        found = components.fallen(self._home, name)
        if found is not None and found[1] >= self._began:
            known.pid, known.since, known.ended = found[0], now, now

    def _start(self, name: str, known: _Known, now: int) -> None:
        if components.fallen(self._home, name) is None:
            known.pid = 0  # somebody has stopped it
            return
        ran = known.ended - known.since
        if not policy.judge(known.past, ran, now, self._rules).allowed:
            return
        policy.started(known.past, ran, now, self._rules)
        self._voice.say(f"WARNING {name} (pid {known.pid}) fell: started again")
        known.starter = subprocess.Popen(
            [f"{CODE}/bin/orc-component", "start", name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._home.root,
            env=os.environ | {"ORC_HOME": self._home.root},
            start_new_session=True,
        )

    @staticmethod
    def _has_gone(known: _Known) -> bool:
        """Has whoever starts it come to an end?"""
        return known.starter is None or known.starter.poll() is not None

    def _tell(self, name: str, known: _Known, pid: int) -> None:
        known.starter = None
        away_ms = (clock.boot_ns() - known.ended) // 1_000_000
        made = event.build(
            f"The {name} fell (pid {known.pid}) and was started again (pid {pid})",
            daemon_source(NAMED),
            category="system",
            priority="high",
            groups=["management"],
            tags=["monitoring", "system", "recovered"],
            context={"component": name, "issue_type": "component_restarted", "downtime_ms": away_ms},
        )
        Log(self._home, durable=False, lock_timeout=0.1).append([made])

    def close(self) -> None:
        """Whom it is starting comes up all the same."""
