"""How the agents fare, every `health_check.interval`: what they take, and whether they give signs of life.

An agent that runs as a process gives a sign by touching the file `$ORC_TEAM_BEAT` (`orc-heartbeat` does); one in a
pane by what the monitor heard of it. Whoever never gave one is judged by its process alone. What goes wrong is told
when it begins and again only after it was well; what follows is a warning, or a restart where that is asked for. The
silence is counted by the boot clock, from when a sign was seen.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from tmux_orchestrator.agents import beats, crew
from tmux_orchestrator.ground import clock
from tmux_orchestrator.work.team import state, tasks, tidings
from tmux_orchestrator.work.team.measures import Measure, Meter
from tmux_orchestrator.work.team.member import Desk, Member
from tmux_orchestrator.work.team.panes import PaneMember

_SECOND_NS = 1_000_000_000
_PATIENCE = 5.0  # seconds for the last measures to be written
_AT_ONCE_NS = 5 * _SECOND_NS  # a young process is busy with itself: its first measure is no average


class Health:
    """Remembers what the last look saw."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._meter = Meter()
        self._recorder = tasks.Recorder(desk.home)
        self.due_ns = 0

    def changed(self) -> None:
        """The interval may be another."""
        self.due_ns = min(self.due_ns, clock.boot_ns() + self._interval_ns())

    def _interval_ns(self) -> int:
        return int(self._desk.live.config.get("team.health_check.interval") * 1e9)

    def look(self, members: Iterable[Member]) -> list[Member]:
        """Look at all that run; those that are to be restarted."""
        now = clock.boot_ns()
        self.due_ns = now + self._interval_ns()
        running = [one for one in members if one.kept.state == state.RUNNING]
        found = self._meter.look({one.name: (one.kept.pid, one.kept.pid_start) for one in running})
        restart = [one for one in running if one.name in found and self._limits(one, found[one.name], now)]
        restart += [one for one in running if self._silence(one, now)]
        for one in members:
            one.count()
        self._record([one for one in running if one.name in found])
        return list(dict.fromkeys(restart))

    def _record(self, measured: list[Member]) -> None:
        metrics: list[tasks.Metric] = []
        for one in measured:
            kept = one.kept
            metrics += [(one.name, "cpu_percent", kept.cpu_percent), (one.name, "memory_mb", kept.memory_mb)]
            if kept.meant_ns:
                metrics.append((one.name, "up_percent", round(kept.up_ns / kept.meant_ns * 100, 3)))
        self._recorder.record(metrics)
        if self._recorder.trouble:
            self._desk.complain(self._recorder.trouble)

    def close(self) -> None:
        self._recorder.close(_PATIENCE)

    def _limits(self, one: Member, measure: Measure, now: int) -> bool:
        kept, spec = one.kept, one.spec
        kept.cpu_percent, kept.memory_mb = measure.cpu_percent, measure.memory_mb
        over = []
        for what, value, limit in (
            ("memory", measure.memory_mb, spec.max_memory_mb),
            ("cpu", measure.cpu_percent if now - kept.began_ns > _AT_ONCE_NS else 0.0, spec.max_cpu_percent),
        ):
            if limit and value > limit:
                over.append(what)
                if what not in kept.over:
                    self._desk.events.append(tidings.over_limit(spec, what, value, limit))
                    self._desk.say(f"WARNING {one.name} is over its limit of {what}: {value:.0f} of {limit}")
        kept.over = over
        return bool(over) and spec.on_limit == "restart"

    def _silence(self, one: Member, now: int) -> bool:
        """Has it given signs of life, and gives none any more?"""
        settings, kept = self._desk.live.config, one.kept
        beat = self._beat(one)
        if beat is None:
            return False
        if one.beat is None or one.beat[0] != beat:
            one.beat = beat, now
        patience = (settings.get("team.health_check.interval") + settings.get("team.health_check.timeout")) * 1e9
        late = now - one.beat[1] > patience
        if late and not kept.late:
            seconds = (now - one.beat[1]) / 1e9
            self._desk.events.append(tidings.late(one.spec, seconds))
            self._desk.say(f"WARNING {one.name} gave no sign of life for {seconds:.0f} s")
        kept.late = late
        return late and one.spec.on_unresponsive == "restart"

    def _beat(self, one: Member) -> int | None:
        """Something that changes with each sign; None before the first of this run."""
        if isinstance(one, PaneMember):
            last = beats.load(self._desk.home)[0].get(one.key)
            mine = last is not None and (last.pid, last.pid_start) == (one.kept.pid, one.kept.pid_start)
            return last.boot_ns if last is not None and mine else None
        try:
            found = os.stat(crew.beat_file(self._desk.home, one.name), follow_symlinks=False)
        except OSError:
            return None
        return found.st_mtime_ns
