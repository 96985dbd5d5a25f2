"""How the monitoring itself fares: its cycles and their parts, the other components, and the word that all is well.

`logs/run/monitor.json` is the monitor's own account, replaced after each cycle; a next life that finds it without the
mark of an end says for how long nobody watched.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from tmux_orchestrator.eventlog import event
from tmux_orchestrator.eventlog.daylog import daemon_source
from tmux_orchestrator.ground import clock, components, fastjson, files
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.ground.errors import OrcError
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.watch import matters
from tmux_orchestrator.watch.gleaned import STATUS
from tmux_orchestrator.watch.lives import Life
from tmux_orchestrator.watch.matters import Matter
from tmux_orchestrator.watch.strategies import Look

_CYCLES = 100  # of which percentiles are told
_WELL = (matters.IDLE, matters.TEAM_IDLE, matters.FRESH, matters.LIMITED)  # of an agent that is in order
_NAMED = 5


class Health:
    """Keeps the account. `cycle`: the last one, in milliseconds."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.cycle: dict[str, Any] = {}
        self._cycles: list[float] = []
        self._started = clock.stamp(clock.now_ns())
        self._reported = clock.boot_ns()
        self._standing: Sequence[Matter] = ()
        self._lives: list[Life] = []

    # the account

    def begins(self, settings: Config) -> list[dict[str, Any]]:
        """What to tell at the start: that an earlier life ended without being asked to."""
        before = read(self.home)
        if before is None or before.get("ended") or not settings.get("monitoring.use_file_logging"):
            return []
        try:
            away = clock.now_ns() - clock.parse_stamp(str(before.get("at")))
        except ValueError:
            return []
        text = f"The monitor is back: nobody watched the agents for {matters.spoken(max(0, away))}"
        return [self._event(text, ["monitoring", "system"], {"issue_type": "monitor_back"})]

    def ends(self) -> None:
        self._save(ended=True)

    def measured(
        self, begin: float, looked: float, judged: float, end: float, looks: Sequence[Look], lives: Iterable[Life]
    ) -> None:
        """A cycle is over; the times are of the monotonic clock, in seconds."""
        self._lives = list(lives)
        self.cycle = {
            "cycle_ms": _ms(end - begin),
            "look_ms": _ms(looked - begin),
            "judge_ms": _ms(judged - looked),
            "act_ms": _ms(end - judged),
            "looked_at": sum(len(look.seen) for look in looks),
            "strategy": "+".join(dict.fromkeys(look.strategy for look in looks if look.seen)) or looks[0].strategy,
        }
        self._cycles = [*self._cycles[1 - _CYCLES :], end - begin]
        try:
            self._save(ended=False)
        except OrcError:
            pass  # it is an account, not a memory

    def _save(self, ended: bool) -> None:
        ordered = sorted(self._cycles)
        percentiles = {
            f"p{percent}_ms": _ms(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)])
            for percent in (50, 95)
            if ordered
        }
        account = self.cycle | {
            "pid": os.getpid(),
            "started": self._started,
            "at": clock.stamp(clock.now_ns()),
            "ended": ended,
            "agents": len(self._lives),
            "states": dict(Counter(life.state for life in self._lives)),
            **percentiles,
        }
        files.replace(_path(self.home), fastjson.dumps(account).encode("ascii") + b"\n", sync=False)

    # the others

    def components(self, settings: Config) -> list[Matter]:
        """Those that should run, ran, and ended without being asked to."""
        found = []
        for name in components.wanted(settings):
            if name == "monitor" or not components.crash(self.home, name):
                continue
            text = f"The {name} is down: orc-component start {name}"
            if name == "broker":
                text += " (what is published meanwhile is typed when it is back)"
            context = {"component": name, "issue_type": matters.COMPONENT}
            found.append(Matter(matters.COMPONENT, name, text, context=context))
        return found

    # all is well

    def report(
        self, lives: Iterable[Life], standing: Sequence[Matter], settings: Config, now: int
    ) -> list[dict[str, Any]]:
        """The regular word, when it is due."""
        self._lives, self._standing = list(lives), standing
        every = settings.get("monitoring.healthy_report")
        if not every or not self._lives or now - self._reported < every * 1e9:
            return []
        self._reported = now
        if not settings.get("monitoring.use_file_logging"):
            return []
        return [self._event(self.words(), ["monitoring", "status", "health"], self._context())]

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The same as the answer to somebody who asks."""
        made = self._event(self.words(), ["monitoring", "status", "health"], self._context())
        source, metadata = asked["source"], asked["metadata"]
        made["source"] = daemon_source(STATUS)
        made["message"]["type"] = "status_update"
        made["metadata"]["reply_to"] = asked["id"]
        made["metadata"]["correlation_id"] = metadata.get("correlation_id")
        made["metadata"]["hops"] = metadata.get("hops", 0) + 1
        sender = f"{source.get('session')}:{source.get('identifier')}"
        if sender in {life.key for life in self._lives}:
            made["to"] = {"groups": [], "targets": [sender]}
        return made

    def words(self) -> str:
        """In one line: is anybody in need, and what do they do?"""
        states = Counter(life.state for life in self._lives)
        idle = states["idle"]
        active = len(self._lives) - idle - states["dead"] - states["gone"] - states["unknown"]
        needy = [one for one in self._standing if one.kind not in _WELL]
        if not needy:
            return f"All agents healthy - {active} active, {idle} idle, monitoring stable"
        named = "; ".join(f"{one.subject} {one.kind}" for one in needy[:_NAMED])
        more = f" and {len(needy) - _NAMED} more" if len(needy) > _NAMED else ""
        return f"{len(needy)} need attention - {active} active, {idle} idle: {named}{more}"

    def _context(self) -> dict[str, Any]:
        states = Counter(life.state for life in self._lives)
        return {"issue_type": "status", "states": dict(states), "agents": len(self._lives)}

    def _event(self, text: str, tags: list[str], context: dict[str, Any]) -> dict[str, Any]:
        return event.build(
            text,
            daemon_source("monitor"),
            category="health",
            groups=["management"],
            tags=tags,
            context=context,
        )


def read(home: Home) -> dict[str, Any] | None:
    """The account of the monitor that runs, or ran last; None where there is none that can be read."""
    try:
        found = fastjson.loads(files.read(_path(home)) or b"")
    except (ValueError, OrcError):
        return None
    return found if isinstance(found, dict) else None


def _path(home: Home) -> str:
    return home.run + "/monitor.json"


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
