"""The supervisor of the team: starts every agent, hears of each end from the kernel, and starts again what crashed.

One by lock (its pid file). The loop waits for many things at once and for none of them alone: ends of processes
(pidfds), output and requests (inotify, and once a second), times. What one agent does, or a fault in what is done
for it, holds up no other. SIGTERM stops all agents within a bound. Killed at any moment, it leaves the agents as they
are, and the next one takes them over: by logs/run/team.json, and by the mark that each process carries.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from types import FrameType

from tmux_orchestrator.agents import crew
from tmux_orchestrator.eventlog.voice import Voice
from tmux_orchestrator.ground import clock, config, files, watch
from tmux_orchestrator.ground.errors import ConfigError, OrcError, UsageError
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work.team import requests, restarts, roster, state, tidings
from tmux_orchestrator.work.team.health import Health
from tmux_orchestrator.work.team.holes import Holes
from tmux_orchestrator.work.team.member import FAIL, RESTART, START, STAY, Desk, Member
from tmux_orchestrator.work.team.muster import Muster
from tmux_orchestrator.work.team.occasions import Triggers
from tmux_orchestrator.work.team.panes import Errands
from tmux_orchestrator.work.team.stopping import Stopping
from tmux_orchestrator.work.team.stream import Stream
from tmux_orchestrator.work.team.teller import Teller
from tmux_orchestrator.work.team.tidings import DAEMON

_SECOND_NS = 1_000_000_000
_GATHER_NS = 20_000_000  # between two looks at what the agents print
_PATIENCE = 5.0  # seconds
_BREATH_NS = 300_000_000
_NAP_NS = 100_000_000  # where inotify is not to be had


class Supervisor:
    """Owns the loop. `run` returns when a signal asks for it, and all agents have stopped."""

    def __init__(self, home: Home, only: Iterable[str] = (), debug: bool = False) -> None:
        """`only`: the agents to start; all that are enabled, unless some are named. Raises ConfigError, UsageError."""
        live = config.Live(home)
        clock.use_zone(live.config.get("events.timezone"))
        specs = roster.load(home, live.config)
        unknown = sorted(set(only) - specs.keys())
        if unknown:
            raise UsageError(f"no agent of the team is called {unknown[0]!r}: see team.agents in the configuration")
        files.make_dir(home.run)
        files.make_dir(crew.folder(home))
        self.home, self.live = home, live
        self.desk = Desk(home, live, state.load(home), Stream(home), Voice(home, DAEMON), Holes(), debug)
        self.errands, self.stopping, self.health = Errands(), Stopping(self.desk), Health(self.desk)
        self.muster = Muster(self.desk, self.errands, self.stopping, only)
        self._specs = specs
        self._asked = requests.Desk(home)
        self._pending: list[requests.Request] = []
        folders = [crew.folder(home), self._asked.folder]
        if any(spec.triggers for spec in specs.values()):
            files.make_dir(home.events)
            folders.append(home.events)
        self._watch = watch.Watch(folders)
        self._wakeup = -1
        self._ending = False
        self._copy_ns = self._second_ns = 0
        self._saved = b""
        self._triggers = Triggers(home, self.desk.team.place)
        self._teller = Teller(home)
        self._more = self._heard = self._dirty = True

    def run(self) -> None:
        self._wakeup = watch.on_stop(self._stop)
        self.desk.team.began_ns = clock.boot_ns()
        self._part("its state", self._save)
        self.desk.say(f"INFO the team of {len(self._specs)} agents is supervised (pid {os.getpid()})")
        if not self._specs:
            self.desk.say("WARNING no agent is configured: write team.agents into the configuration, see docs/team.md")
        if self.desk.team.damaged:
            self.desk.say("ERROR team.json is damaged: agents are known by their marks, and none is stopped by hand")
        self.muster.take_over(self._specs)
        try:
            ended = False
            while not ended:
                ended = self._turn()
                if not ended:
                    self._wait()
        finally:
            self._close()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._ending = True

    # one turn

    def _turn(self) -> bool:
        """True when all is over."""
        now = clock.boot_ns()
        every_second = now >= self._second_ns
        self._part("requests", self._take_requests)
        self._part("stops", self._take_stops)
        if ending := self._ending:  # asked once: a signal that comes later in this turn is the next one's
            self._part("stops", self._end)
        for one in [] if ending else list(self.muster.members.values()):
            with self.muster.fault_of(one):
                self._dirty |= one.due()
                if every_second:
                    one.look()
        self._part("panes", self.errands.turn)
        if every_second:
            self._second_ns = now + _SECOND_NS
            self._part("the configuration", self._reload)
        if every_second or self._heard:
            self._part("triggers", self._read_triggers)
        if now >= self.health.due_ns:
            self._part("health", self._look)
        if (self._heard or self._more or every_second) and now >= self._copy_ns:
            self._part("output", lambda: self._copy(every_second))
        self._part("answers", self._answer)
        self._part("the log", self._tell)
        if self._dirty or every_second:
            self._part("its state", self._save)
        return ending and all(one.kept.state == state.STOPPED for one in self.muster.everybody())

    def _end(self) -> None:
        """All are to stop."""
        left = [one for one in self.muster.everybody() if one.kept.state != state.STOPPED]
        self.stopping.begin(left, False, "the team stops")

    def _part(self, what: str, do: Callable[[], object]) -> None:
        """A part of the turn whose failure is told, and holds up no other."""
        try:
            do()
        except (OrcError, OSError) as error:
            self.desk.complain(f"{what}: {error}")
        except Exception as error:  # noqa: BLE001
            self.desk.complain(f"{what}: a defect: {type(error).__name__}: {error}")

    def _wait(self) -> None:
        """Until something ends, is printed, asked or due; a second at the longest."""
        now, inotify = clock.boot_ns(), self._watch.fileno()
        left = min([self._second_ns - now, self.health.due_ns - now])
        left = min([left, *(one.due_in_ns() for one in self.muster.members.values())])
        if self.stopping:
            left = min(left, self.stopping.due_in_ns())
        if self.desk.failures:
            left = min(left, self.desk.failed_ns + _BREATH_NS - now)
        if self._heard or self._more:  # what is printed within a moment is read together
            left = min(left, self._copy_ns - now)
            inotify = -1
        elif inotify < 0:
            left, self._heard = min(left, _NAP_NS), True
        ends = {one.process.pidfd: one for one in self.muster.everybody() if one.process is not None}
        jobs = [job.pidfd for job in self.errands.jobs]
        ready = watch.readable([self._wakeup, inotify, *jobs, *ends], left / 1e9)
        for fd in ready & ends.keys():
            with self.muster.fault_of(ends[fd]):
                ends[fd].ended()
        if self._wakeup in ready:
            os.read(self._wakeup, 512)
        if inotify in ready:
            self._watch.drain()
            self._heard = True
        self.errands.take(ready)
        self._dirty |= bool(ready - {inotify})

    # its parts

    def _take_stops(self) -> None:
        if self.stopping:
            for one in self.stopping.turn():
                self.muster.has_stopped(one, self._ending)
                self._dirty = True

    def _take_requests(self) -> None:
        for request in self._asked.take():
            self._dirty = True
            self.desk.say(f"INFO asked: {request.word} {' '.join(request.agents)}")
            known = [one for name in request.agents if (one := self.muster.members.get(name)) is not None]
            if request.word == requests.END:
                self._ending = True
                self.stopping.begin(self.muster.everybody(), True, "the team is ended")
            elif request.word == requests.START:
                for one in known:
                    self.muster.begin_by_hand(one)
            else:
                self._stop_by_hand(known, request)
            self._pending.append(request)

    def _stop_by_hand(self, known: list[Member], request: requests.Request) -> None:
        again = request.word == requests.RESTART
        for one in known:
            one.kept.wanted, one.then = again, START if again else STAY
        self.stopping.begin(known, request.force, "it was asked for")
        for one in known:
            if one.kept.state == state.STOPPED:
                self.muster.has_stopped(one, self._ending)

    def _answer(self) -> None:
        """Those requests whose agents have come to rest."""
        for request in list(self._pending):
            members = [one for name in request.agents if (one := self.muster.members.get(name)) is not None]
            if any(one.kept.state in (state.STOPPING, state.STARTING) or one.then != STAY for one in members):
                continue
            self._pending.remove(request)
            states = dict.fromkeys(request.agents, "unknown")
            self._asked.tell(request, states | {one.name: one.kept.state for one in members})

    def _reload(self) -> None:
        """A changed configuration is taken up; a wrong one is told, and the old one holds."""
        changed = self.live.poll()
        if self.live.problem:
            if changed:
                self.desk.say(f"ERROR {self.live.problem}: the configuration before it holds")
            return
        if not changed or self._ending:
            return
        try:
            specs = roster.load(self.home, self.live.config)
        except ConfigError as error:
            self.desk.say(f"ERROR {error}: the team before it holds")
            return
        self.desk.say("INFO the configuration has changed")
        self.muster.change(specs)
        self.health.changed()
        self._dirty = True

    def _read_triggers(self) -> None:
        those = [(one.spec, one.kept) for one in self.muster.members.values() if self.muster.wants(one)]
        before = self._triggers.place
        for name in self._triggers.read(those):
            self.desk.say(f"WARNING more events wait for {name} than are kept: some do not start it")
        self.desk.team.place = self._triggers.place
        self._dirty |= self.desk.team.place != before

    def _look(self) -> None:
        if not self.desk.troubled:
            self.desk.voice.well()
        self.desk.troubled = False
        self._dirty = True
        for one in self.health.look(self.muster.members.values()):
            again = restarts.may(one.kept, clock.boot_ns(), self.live.config)
            one.then = RESTART if again else FAIL
            one.kept.restarts += again
            self.stopping.begin([one], False, "it is restarted")

    def _copy(self, every_second: bool) -> None:
        """What the agents have printed goes into the stream."""
        began = clock.boot_ns()
        self._more = self._heard = False
        for one in self.muster.everybody():
            with self.muster.fault_of(one):
                self._more |= one.copy(self.desk.stream, every_second)
        try:
            self.desk.stream.flush(self.live.config)
        finally:  # a flood takes a fifth of the time at most
            now = clock.boot_ns()
            self._copy_ns = now + max(_GATHER_NS, 4 * (now - began))

    def _tell(self, all_of_it: bool = False) -> None:
        """What failed within a breath is told together."""
        desk = self.desk
        if desk.failures and (all_of_it or clock.boot_ns() >= desk.failed_ns + _BREATH_NS):
            desk.events.append(tidings.failed(desk.failures))
            desk.failures, desk.failed_ns = [], 0
        events, self.desk.events = self.desk.events, []
        self._teller.tell(events, self.live.config)
        if self._teller.trouble:
            self.desk.complain(f"the log: {self._teller.trouble}")

    def _save(self) -> None:
        data = state.encode(self.desk.team)
        if data != self._saved or not os.path.lexists(crew.file(self.home)):
            state.save(self.home, data)
            self._saved = data
        self._dirty = False

    def _close(self) -> None:
        self.desk.say("INFO the team has stopped" if not self.stopping else "WARNING ended with agents that run")
        while self._more:
            self._part("output", lambda: self._copy(False))
        self._part("output", lambda: self._copy(True))
        self._part("the log", lambda: self._tell(True))
        self._part("its state", self._save)
        for one in self.muster.everybody():
            one.close()
        self.errands.close()
        self.desk.holes.close(_PATIENCE)
        self.health.close()
        self._teller.close()
        self._watch.close()
        self._triggers.close()
        self.desk.stream.close()
