"""One look at some agents: by the usual strategy, and for its share of them by the new one that is let in by stages."""

from __future__ import annotations

from tmux_orchestrator.agents.control import Control
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.eventlog.voice import say
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
        self._found: list[Matter] = []  # those of the strategies themselves
        self._looker = Looker()
        self._rollout = rollout.load(home)

    def look(
        self, control: Control, poll: Control, agents: list[Agent], settings: Config, everybody: bool = True
    ) -> list[Look]:
        """`control` has kept connections, `poll` has none. What was found of those who are not looked at now stands,
        unless these are `everybody`."""
        self._rollout.follow(settings)
        if not agents and not everybody:
            return [Look([], settings.get("monitoring.strategy"))]
        new, usual = self._rollout.share(agents, settings)
        looks = [self._looker.look(settings.get("monitoring.strategy"), control, poll, usual)]
        if new:
            looks.append(self._looker.look(settings.get("features.strategy"), control, poll, new))
            said = self._rollout.went(looks[-1].problem, settings)
            if said:
                say("monitor", f"INFO {said}")
        now = {agent.key for agent in agents}
        stands = [] if everybody else [one for one in self._found if one.subject not in now]
        self._found = stands + [finding for look in looks for finding in look.findings]
        failed = (("monitoring.strategy", looks[0].problem), ("features.strategy", self._rollout.failed))
        self.findings = [matters.strategy(key, problem) for key, problem in failed if problem] + self._found
        return looks

    def save(self) -> None:
        """Where the new strategy stands. Raises SystemFailure."""
        rollout.save(self.home, self._rollout)
