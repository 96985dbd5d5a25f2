"""What is known of each agent over time: what it does, since when, and when it last gave a sign of life.

A look at a screen is a sample, and a sample may lie: a screen that is half drawn, a gap between two tool calls. So
what the kernel, the registry or a hook says counts at once, and so does work; anything else that only a screen says
counts when two looks in a row say it. Times are of the boot clock, which no step of the wall clock moves. What the
next life of the monitor, and who lists the agents, must know of it is in `logs/run/lives.json` (see `agents.since`).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from tmux_orchestrator.agents import since
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.agents.signs import Sign
from tmux_orchestrator.agents.since import UNRESPONSIVE, Kept
from tmux_orchestrator.agents.state import Seen
from tmux_orchestrator.ground import clock, files, proc
from tmux_orchestrator.ground.paths import Home

ENDED = ("dead", "gone")
_CERTAIN = "certain"


@dataclass(slots=True)
class Life:
    """One process of one agent. Nanoseconds of the boot clock."""

    seen: Seen
    state: str
    since: int  # in this state
    stamp: int  # the same, by the wall clock of that moment
    moved: int  # the screen last changed, a hook spoke, or the state did
    busied: bool = False  # it has worked, or taken a prompt, since its process started
    spoke: int = 0  # when a hook last did, wall clock
    picture: int = 0
    sampled: str = ""  # another state that the last look saw
    question: str = ""  # what it asks, as two looks in a row saw it: a dialog is drawn bit by bit
    sampled_question: str = ""

    @property
    def key(self) -> str:
        return self.seen.agent.key

    @property
    def unsettled(self) -> bool:
        """Would another look soon say more? The last one saw something that one look alone is not believed for."""
        return bool(self.sampled) or (self.state == "waiting" and self.sampled_question != self.question)

    def began(self) -> int:
        """When its process started, wall clock."""
        return clock.now_ns() - proc.age_ns(self.seen.agent.pid_start)

    def process(self) -> tuple[int, int]:
        return self.seen.agent.pid, self.seen.agent.pid_start


@dataclass(slots=True)
class Lives:
    """All of them, by the agent's key."""

    of: dict[str, Life] = field(default_factory=dict)
    looked: int = 0  # when that was, last
    _before: dict[str, Kept] = field(default_factory=dict)  # of an earlier life of the monitor
    _kept: bytes = b""

    def take(self, seen: Iterable[Seen], signs: dict[str, Sign | None], now: int, silence_ns: int) -> None:
        """What a look saw of some agents. `silence_ns`: so long may one work and show nothing.

        After a time in which nobody looked, nobody is blamed for having shown nothing in it.
        """
        for one in seen:
            key = one.agent.key
            life = self.of.get(key)
            if life is None or life.process() != (one.agent.pid, one.agent.pid_start):
                life = self.of[key] = self._begin(one, now)
            _update(life, one, signs.get(key), now)
            if life.state == UNRESPONSIVE and life.moved > life.since:
                _enter(life, "working", now)
            elif life.state == "working" and now - life.moved >= silence_ns:
                _enter(life, UNRESPONSIVE, now)

    def knows_end(self, one: Seen) -> bool:
        """Was it seen before that this process has ended?"""
        life = self.of.get(one.agent.key)
        return life is not None and life.state in ENDED and life.process() == (one.agent.pid, one.agent.pid_start)

    def woke(self, now: int, longest_ns: int) -> None:
        """A look begins. If nobody looked for so long, what was not seen in between is held against nobody."""
        if self.looked and now - self.looked > longest_ns:
            for life in self.of.values():
                life.moved = max(life.moved, now)
                if life.state == "idle":  # perhaps it has worked meanwhile
                    life.since = now
        self.looked = now

    def keep_only(self, agents: Iterable[Agent]) -> dict[str, str]:
        """Forget those that are not registered any more; the new keys of those that are called otherwise by now."""
        there = {agent.key: agent for agent in agents}
        gone = {life.process(): life for key, life in self.of.items() if key not in there}
        self.of = {key: life for key, life in self.of.items() if key in there}
        renamed: dict[str, str] = {}
        for key, agent in there.items() if gone else ():
            life = gone.pop((agent.pid, agent.pid_start), None) if agent.pid and key not in self.of else None
            if life is not None:
                renamed[life.key] = key
                life.seen = replace(life.seen, agent=agent)
                self.of[key] = life
        return renamed

    def _begin(self, one: Seen, now: int) -> Life:
        wall = clock.now_ns()
        life = Life(one, one.state, now, wall, now, _has_worked(one))
        before = self._before.pop(one.agent.key, None)
        if before is not None and before[:2] == life.process():
            life.busied |= before.busied
            if before.state == one.state:
                life.stamp = min(before.stamp, wall)
                life.since = now - (wall - life.stamp)
        return life

    # over restarts

    def load(self, home: Home) -> None:
        """What an earlier life of the monitor kept."""
        self._before = since.load(home)

    def save(self, home: Home) -> None:
        """Raises SystemFailure."""
        kept = {key: Kept(*life.process(), life.state, life.stamp, life.busied) for key, life in self.of.items()}
        data = since.dump(kept)
        if data != self._kept:
            files.replace(since.path(home), data, sync=False)
            self._kept = data


def _has_worked(one: Seen) -> bool:
    return one.state in ("working", "waiting", "limited")


def _update(life: Life, one: Seen, sign: Sign | None, now: int) -> None:
    picture = zlib.crc32("\n".join(one.screen.text).encode("utf-8", "replace")) if one.screen else life.picture
    if picture != life.picture:
        life.picture, life.moved = picture, now
    if sign is not None:
        if sign.at != life.spoke:  # once: if the clock runs back, its time lies ahead
            life.spoke = sign.at
            life.moved = max(life.moved, now - max(0, clock.now_ns() - sign.at))
        life.busied |= bool(sign.taken) or sign.state == "working"
    state = one.state
    shown = "working" if life.state == UNRESPONSIVE else life.state
    if state in (shown, life.sampled) or state == "working" or one.confidence == _CERTAIN:
        if state != shown:
            _enter(life, state, now)
        life.sampled = ""
    else:
        life.sampled = state
    asked = " ".join(one.screen.question.split()) if one.screen else ""
    if asked == life.sampled_question:  # however sure a hook is that there is a dialog
        life.question = asked
    life.sampled_question = asked
    life.seen = one
    life.busied |= _has_worked(one)


def _enter(life: Life, state: str, now: int) -> None:
    life.state, life.since, life.stamp = state, now, clock.now_ns()
    if state != UNRESPONSIVE:
        life.moved = now
