"""One look at some agents: by the usual strategy, and for its share of them by the new one that is let in by stages."""

from __future__ import annotations

import sys

from tmux_orchestrator.agents.control import Control
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.watch import matters, rollout
from tmux_orchestrator.watch.matters import Matter
from tmux_orchestrator.watch.strategies import Look, Looker


class Looking:
    """`findings`: of the last look, those of the strategies themselves, and what failed."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.findings: list[Matter] = []
        self._looker = Looker()
        self._rollout = rollout.load(home)

    def look(self, control: Control, poll: Control, agents: list[Agent], settings: Config) -> list[Look]:
        """`control` has kept connections, `poll` has none. Raises SystemFailure."""
        before = self._rollout.name
        self._rollout.follow(settings)
        new, usual = self._rollout.share(agents, settings)
        looks = [self._looker.look(settings.get("monitoring.strategy"), control, poll, usual)]
        if new:
            looks.append(self._looker.look(settings.get("features.strategy"), control, poll, new))
            said = self._rollout.went(looks[-1].problem, settings)
            if said:
                print(f"{clock.stamp(clock.now_ns())} INFO monitor: {said}", file=sys.stderr, flush=True)
        if new or before != self._rollout.name:
            rollout.save(self.home, self._rollout)
        keys = ("monitoring.strategy", "features.strategy")
        self.findings = [_failed(key, look) for key, look in zip(keys, looks, strict=False) if look.problem]
        self.findings += [finding for look in looks for finding in look.findings]
        return looks


def _failed(key: str, look: Look) -> Matter:
    context = {"strategy": key, "issue_type": matters.STRATEGY}
    text = f"The strategy of {key} failed, agents are polled: {look.problem}"
    return Matter(matters.STRATEGY, key, text, context=context)
