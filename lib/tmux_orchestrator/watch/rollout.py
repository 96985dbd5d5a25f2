"""A new strategy is let in by stages: for none, for a share of the agents, for all; when it fails it is out by itself.

`features.strategy` names it and `features.stage` the furthest that it may go. It begins with the canaries, a share of
the agents that is always the same ones; after `features.healthy_cycles` looks in a row that went well it has them all.
One look that fails ends it until the configuration names it anew. Where it stands is in `logs/run/rollout.json`.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.ground import fastjson, files
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.ground.errors import OrcError
from tmux_orchestrator.ground.paths import Home

NONE, CANARY, ALL = STAGES = ("none", "canary", "all")


@dataclass(slots=True)
class Rollout:
    """Where the new strategy stands. `failed`: why it was ended, "" if it was not."""

    name: str = ""
    stage: str = NONE
    healthy: int = 0
    failed: str = ""
    kept: bytes = field(default=b"", repr=False, compare=False)  # what the file holds

    def follow(self, settings: Config) -> None:
        """The configuration may name another one, or another furthest stage."""
        name, furthest = settings.get("features.strategy"), settings.get("features.stage")
        if name == settings.get("monitoring.strategy"):
            name = ""  # it is the usual one
        wanted = f"{name}:{furthest}:{settings.get('monitoring.custom')}" if name else ""
        if wanted != self.name:
            self.name, self.healthy, self.failed = wanted, 0, ""
            self.stage = CANARY if name and furthest != NONE else NONE

    def share(self, agents: Sequence[Agent], settings: Config) -> tuple[list[Agent], list[Agent]]:
        """Who is looked at by the new strategy, and who by the usual one."""
        if self.stage == NONE or self.failed:
            return [], list(agents)
        percent = 100 if self.stage == ALL else settings.get("features.canary_percent")
        new = [agent for agent in agents if zlib.crc32(agent.key.encode()) % 100 < percent]
        if not new and self.stage == CANARY:
            new = sorted(agents, key=lambda agent: zlib.crc32(agent.key.encode()))[:1]
        return new, [agent for agent in agents if agent not in new]

    def went(self, problem: str, settings: Config) -> str:
        """A look by the new strategy is over; what is to be said of it, if anything."""
        name = self.name.partition(":")[0]
        if problem:
            self.failed, self.stage = problem[:300], NONE
            return f"strategy {name} failed and is out again: {self.failed}"
        self.healthy += 1
        enough = self.healthy >= settings.get("features.healthy_cycles")
        if self.stage == CANARY and settings.get("features.stage") == ALL and enough:
            self.stage, self.healthy = ALL, 0
            return f"strategy {name} looks at all agents now"
        return ""


def load(home: Home) -> Rollout:
    """Where it stood; at the beginning, when the file is damaged."""
    try:
        data = files.read(_path(home)) or b""
        name, stage, healthy, failed = fastjson.loads(data)
        if [type(v) for v in (name, stage, healthy, failed)] == [str, str, int, str] and stage in STAGES:
            return Rollout(name, stage, healthy, failed, data)
    except (ValueError, TypeError, OrcError):
        pass
    return Rollout()


def save(home: Home, rollout: Rollout) -> None:
    """Raises SystemFailure."""
    data = fastjson.dumps([rollout.name, rollout.stage, rollout.healthy, rollout.failed]).encode("ascii")
    if data != rollout.kept and (rollout.name or rollout.kept):
        files.replace(_path(home), data, sync=False)
        rollout.kept = data


def _path(home: Home) -> str:
    return home.run + "/rollout.json"
