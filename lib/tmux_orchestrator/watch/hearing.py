"""Heartbeats as the monitor uses them: who gives none is nudged, then told of, then taken for hung.

A nudge goes with the answer to the next heartbeat and is typed nowhere. Told of is who is still silent a step later,
until a sign comes. Hung is who is silent for another step and shows no other sign of life either: neither its screen
nor its hooks have moved for as long. A background line that sends heartbeats may die while the agent works on; that
agent is told of, and left alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.watch import matters, silence
from tmux_orchestrator.watch.heartbeat import Listener
from tmux_orchestrator.watch.lives import ENDED, Life
from tmux_orchestrator.watch.matters import Matter


class Hearing:
    """`hung`: the agents that are to be started again. `changed`: somebody fell silent, or is not any more."""

    def __init__(self, home: Home, settings: Config) -> None:
        self.hung: set[str] = set()
        self.changed = False
        self._listener = Listener(home, settings)
        self._ladder = silence.Ladder(settings)
        self._told: dict[str, int] = {}  # key -> since when it is silent, of those that are told of

    def turn(self, agents: list[Agent], lives: Mapping[str, Life], settings: Config) -> str:
        """Take in what came, and see who gives none. What went wrong with listening, said once; or ""."""
        self._listener.heed(settings)
        self._ladder.heed(settings)
        self._listener.take(agents)
        silent, now = self._listener.silences(agents), clock.boot_ns()
        held = {one.key for one in agents if one.key in silent and (one.paused or not one.alive())}
        held |= {life.key for life in lives.values() if life.state in ("limited", *ENDED)}
        told = dict(self._told)
        self._told = {key: at for key, at in told.items() if silent.get(key) == at and key not in held}
        self.hung &= self._told.keys()
        for finding, key in self._ladder.climb(silent, held, now):
            if finding == silence.NUDGE:
                self._listener.nudge(key, silence.NUDGE_TEXT)
            elif finding == silence.ALERT:
                self._told[key] = silent[key]
            elif key in self._told and key in lives and now - lives[key].moved >= self._ladder.limit_ns:
                self.hung.add(key)
                self.changed = True
        self.changed |= told != self._told
        return self._listener.news()

    def matters(self, lives: Mapping[str, Life]) -> list[Matter]:
        """Of those who stay silent."""
        now, self.changed = clock.boot_ns(), False
        return [matters.silent(lives[key], now - since) for key, since in self._told.items() if key in lives]

    def wait(self, fds: list[int], seconds: float) -> set[int]:
        """Those that can be read; heartbeats are answered meanwhile."""
        return self._listener.wait(fds, seconds)

    def next_due(self, now: int) -> int:
        return self._ladder.next_due(now)

    def close(self) -> None:
        self._listener.close()
