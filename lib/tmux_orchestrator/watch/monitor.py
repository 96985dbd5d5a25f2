"""The monitor: sees what becomes of the agents, tells it once, and has what died brought back.

The kernel tells of an end in the moment in which it happens (a pidfd for each registered agent), hooks of a turn's
edges; screens are looked at every `look_interval` for agents without hooks and every `check_interval` for all. What was
seen goes one way: a look (`strategies`) into the lives of the agents (`lives`), from there the matters that stand
(`matters`), of these the ones to be told (`notices`). Deaths of one breath are one; those that want to come back are
brought back by the rules of `recovery` first. One monitor by lock (its pid file); killed at any moment, its next life
goes on from what the registry, the panes and its files in `logs/run/` say. `monitor.json` there says how it fares.
"""

from __future__ import annotations

import os
import time
from types import FrameType
from typing import Any

from tmux_orchestrator.agents import adoption, signs
from tmux_orchestrator.agents.control import Control
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.agents.signs import Sign
from tmux_orchestrator.agents.state import Seen
from tmux_orchestrator.eventlog.voice import Voice
from tmux_orchestrator.ground import clock, config, files, watch
from tmux_orchestrator.ground.errors import OrcError
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.watch import health, incidents, matters, questions, recovery
from tmux_orchestrator.watch.checkins import Reminder
from tmux_orchestrator.watch.deaths import NEVER, Deaths
from tmux_orchestrator.watch.gleaned import Gleaned
from tmux_orchestrator.watch.hearing import Hearing
from tmux_orchestrator.watch.lives import ENDED, Life, Lives
from tmux_orchestrator.watch.looking import Looking
from tmux_orchestrator.watch.matters import Matter
from tmux_orchestrator.watch.notices import Notices
from tmux_orchestrator.watch.recovery import FAILED, RESPAWNED, Outcome, Recovery
from tmux_orchestrator.watch.schedule import Schedules
from tmux_orchestrator.watch.tail import Tail

_SECOND_NS = 1_000_000_000


class _Stopped(Exception):
    """A signal asked to stop in the middle of a recovery."""


class Monitor:
    """Owns the loop. `run` returns when a signal asks for it."""

    def __init__(self, home: Home) -> None:
        for folder in (home.registry, home.run, home.run + "/signs"):
            files.make_dir(folder)
        self.home = home
        self.live = config.Live(home)
        clock.use_zone(self.live.config.get("events.timezone"))
        self.control = Control(home, self.live.config, keep=True)
        self.poll = Control(home, self.live.config)
        self.lives, self.looking = Lives(), Looking(home)
        self.lives.load(home)
        self.notices, self.voice = Notices(home), Voice(home, "monitor")
        self.health = health.Health(home)
        self._watch = watch.Watch([home.registry, home.run + "/signs"])
        self.deaths = Deaths()
        self.hearing: Hearing | None = None
        self.agents: list[Agent] = []  # the registered ones, and those that are adopted by pattern
        self._signs: dict[str, Sign | None] = {}
        self._touched = True  # a hook may have spoken since they were read
        self._mending: set[str] | None = None  # while a recovery runs: whose deaths are no news
        self._puzzling: set[tuple[int, int]] = set()  # processes whose end was news at the last look
        self._waits: dict[tuple[int, int], int] = {}  # of who has ended: the process, and when to try again
        self._back: set[str] = set()  # whose return `recovery` told
        self.tail = Tail(home)
        self.gleaned = Gleaned(self.tail)
        self.schedules = Schedules(home, lambda key: self.live.config.get(key))
        self.reminder = Reminder(home, lambda key: self.live.config.get(key), self.tail, self._doing)
        self._time_ns = NEVER  # when the clock has something to say next, wall clock
        self._wakeup = -1  # readable with a signal to stop
        self._stood: list[Matter] = []  # matters of agents that stood after the last cycle
        self._due_ns = 1  # when to look at all next, on the boot clock: at once
        self._sweep_ns = self._look_ns = 0
        self._stopping = False

    def run(self) -> None:
        self._wakeup = watch.on_stop(self._stop)
        self.voice.publish(self.health.begins(self.live.config), self.live.config)
        self.hearing = Hearing(self.home, self.live.config)
        try:
            while not self._stopping:
                self._turn()
                self._keep_time()
                self._sleep()
        except _Stopped:
            pass
        finally:
            self.health.ends()
            self.deaths.close()
            self._watch.close()
            self.hearing.close()
            self.tail.close()
            self.control.close()

    def once(self) -> dict[str, Any]:
        """One cycle: what was found and done, and how long each part took (milliseconds)."""
        done = self._cycle(self._everybody())
        self._keep_time()
        ended = [life for life in self.lives.of.values() if life.state == "dead"]
        self.tail.close()
        self.control.close()
        return self.health.cycle | {
            "agents": len(self.lives.of),
            "findings": [{"agent": one.key, "state": one.state, "why": one.seen.why} for one in ended],
            "recovered": [one.record() for one in done],
        }

    # one turn

    def _turn(self) -> None:
        try:
            self._refresh()
            now = clock.boot_ns()
            if now >= min(self._due_ns, self._sweep_ns, self.deaths.due_ns):
                self._due_ns = self.deaths.due_ns = NEVER
                self._sweep_ns = now + self._ns("monitoring.check_interval")
                self._look_ns = now + self._ns("monitoring.look_interval")
                self._cycle(self._everybody())
            elif now >= self._look_ns:
                self._look_ns = now + self._ns("monitoring.look_interval")
                self._everybody()
                self._cycle(self._unhooked() + self._heard())
            elif self.gleaned.asked or (self.hearing is not None and self.hearing.changed):
                self._cycle([])
            elif self._touched and (heard := self._heard()):
                self._cycle(heard)
        except (OrcError, OSError) as error:
            self.voice.complain(error)
            self._due_ns = self._sweep_ns = self._look_ns = clock.boot_ns() + _SECOND_NS
            self.deaths.due_ns = NEVER  # they are among what is looked at then

    def _keep_time(self) -> None:
        """What is scheduled, and who has to check in."""
        now, self._time_ns = clock.now_ns(), NEVER
        try:
            self._time_ns = min(self.schedules.turn(now), self.reminder.turn(now))
        except (OrcError, OSError) as error:
            self.voice.complain(error)

    def _doing(self, key: str) -> str:
        """What an agent does; "" for one that is not registered."""
        life = self.lives.of.get(key)
        if life is not None:
            return life.state
        return "unknown" if any(agent.key == key for agent in self.control.registered) else ""

    def _ns(self, key: str) -> int:
        return int(self.live.config.get(key) * 1e9)

    def _refresh(self) -> None:
        """What the configuration and the registry say now, and who gave a sign of life."""
        if self.live.poll() and not self.live.problem:
            for control in (self.control, self.poll):
                control.configure(self.live.config)
            self._due_ns = clock.boot_ns()  # another interval, another way of looking: from now on
        self.control.look_anew()
        self.poll.registered = self.control.registered
        known = {agent.key for agent in self.control.registered}
        adopted = [agent for agent in self.agents if agent.key not in known and adoption.by_pattern(agent)]
        self.agents = self.control.registered + adopted
        self.notices.rename(self.lives.keep_only(self.agents))
        self.deaths.attend(self.agents)
        if self.hearing is not None and (news := self.hearing.turn(self.agents, self.lives.of, self.live.config)):
            self.voice.say(f"WARNING {news}")

    def _everybody(self) -> list[Agent]:
        """With those whose panes `agents.adopt` names, as they are now."""
        self.agents = self.control.everybody()
        self.notices.rename(self.lives.keep_only(self.agents))
        return self.agents

    def _unhooked(self) -> list[Agent]:
        return [agent for agent in self.agents if self._signs.get(agent.key) is None]

    def _heard(self) -> list[Agent]:
        """The agents whose hooks have said anything new."""
        known = {key: sign.at for key, sign in self._signs.items() if sign is not None}
        self._read_signs()
        now = {key: sign.at for key, sign in self._signs.items() if sign is not None}
        return [agent for agent in self.agents if now.get(agent.key) != known.get(agent.key)]

    def _read_signs(self) -> None:
        self._touched = False
        self._signs = {agent.key: signs.load(self.home, agent) for agent in self.agents}

    def _sleep(self, longest: float = 1.0) -> None:
        """Until something ends, the registry changes, something is due, or a signal comes; `longest` seconds."""
        now = clock.boot_ns()
        due = [self._due_ns, self._sweep_ns, self._look_ns, self.deaths.due_ns]
        due += [self.hearing.next_due(now)] if self.hearing is not None else []
        left = min((min(due) - now) / 1e9, (self._time_ns - clock.now_ns()) / 1e9)
        fds = [self._wakeup, self._watch.fileno(), *self.deaths.filenos()]
        ready = self._wait(fds, min(longest, left))
        if self._wakeup in ready:
            os.read(self._wakeup, 512)
        if self._watch.fileno() in ready:
            self._watch.drain()
            self._touched = True
        self.deaths.take(ready)

    def _rest(self, seconds: float) -> None:
        """Between two agents that are started. What happens to others meanwhile is seen and told; a signal to stop
        ends it all."""
        end = clock.boot_ns() + int(seconds * 1e9)
        while (left := end - clock.boot_ns()) > 0 and not self._stopping:
            self._sleep(min(1.0, left / 1e9))
            if self._wakeup >= 0 and not self._stopping:
                self._turn()
                self._keep_time()
        if self._stopping:
            raise _Stopped

    def _wait(self, fds: list[int], seconds: float) -> set[int]:
        return watch.readable(fds, seconds) if self.hearing is None else self.hearing.wait(fds, seconds)

    # a cycle: look, mend, judge, tell

    def _cycle(self, agents: list[Agent]) -> list[Outcome]:
        """Look at these, and act on what is known of all."""
        begin, settings = time.monotonic(), self.live.config
        self.control.drain()
        self.lives.woke(clock.boot_ns(), 3 * self._ns("monitoring.look_interval") + 5 * _SECOND_NS)
        if everybody := len(agents) == len(self.agents):
            self._read_signs()
        looks = self.looking.look(self.control, self.poll, agents, settings, everybody)
        looked = time.monotonic()
        seen = self._explained([one for look in looks for one in look.seen])
        self.lives.take(seen, self._signs, clock.boot_ns(), self._ns("monitoring.unresponsive_after"))
        if any(life.unsettled for life in self.lives.of.values()):
            self._look_ns = min(self._look_ns, clock.boot_ns() + _SECOND_NS)
        for life in self.lives.of.values():
            life.busied = life.busied or self.gleaned.typed_since(life.key, life.began())
        judged = time.monotonic()
        done = self._recover()
        standing = self._standing(done)
        told = self.notices.step(standing, settings, clock.now_ns(), self._quiet())
        told += self.health.report(self.lives.of.values(), standing, settings, clock.boot_ns())
        told += [self.health.answer(asked) for asked in self.gleaned.requests()]
        self.voice.publish(told, settings)
        self.notices.save()
        self.lives.save(self.home)
        self.looking.save()
        self.health.measured(begin, looked, judged, time.monotonic(), looks, self.lives.of.values())
        self.voice.well()
        return done

    def _explained(self, seen: list[Seen]) -> list[Seen]:
        """Without ends that are news, once, if tmux needs a moment to say how one of them was, or others may follow
        in the same breath: what ended together is told together."""
        news = [one for one in seen if one.state in ENDED and not self.lives.knows_end(one)]
        ended = {(one.agent.pid, one.agent.pid_start): one for one in news}
        fresh, self._puzzling = ended.keys() - self._puzzling, set(ended)
        more = self.deaths.due_ns != NEVER or any(ended[process].unexplained for process in fresh)
        if not fresh or not more or self._wakeup < 0:
            return seen
        self.deaths.soon()
        return [one for one in seen if (one.agent.pid, one.agent.pid_start) not in fresh]

    def _recover(self) -> list[Outcome]:
        """Bring back who wants to come back, and may by now; between two of them the monitor goes on (see `_rest`)."""
        now = clock.boot_ns()
        ours = {seen.agent.key for seen in recovery.wanted([life.seen for life in self.lives.of.values()])}
        ended = [life for life in self.lives.of.values() if life.state in ENDED and life.key in ours]
        hung = self._hung()
        if self._mending is not None:
            self._mending |= {life.key for life in ended}
            return []
        if not self.live.config.get("recovery.enabled"):
            return []
        self._waits = {one.process(): self._waits.get(one.process(), 0) for one in [*ended, *hung]}
        if all(at > now for at in self._waits.values()):
            self._due_ns = min([self._due_ns, *self._waits.values()])
            return []
        self._mending = {life.key for life in ended}
        try:
            engine = Recovery(self.control, self._rest, patience=0)
            done = engine.run(None) if ended else []
            done += engine.run([life.key for life in hung], "no sign of life", hung=True) if hung else []
        except recovery.Busy:  # nobody waits for it: of others there may be something to tell
            self._waits = {one: max(at, now + _SECOND_NS) for one, at in self._waits.items()}
            self._due_ns = min([self._due_ns, *self._waits.values()])
            return []
        finally:
            mending, self._mending = self._mending, None
        late = [one for one in self.lives.of.values() if one.key in mending and one.state in ENDED]
        self._waits = {one.process(): now for one in late} | self._waits  # who ended meanwhile is next
        said = {one.agent: one for one in done}
        for life in [*ended, *hung]:
            self._waits[life.process()] = _until(said.get(life.key))
        self._due_ns = min([self._due_ns, *self._waits.values()])
        self._back |= {one.agent for one in done if one.action == RESPAWNED}
        return done

    def _hung(self) -> list[Life]:
        """Those that live, give no sign of it, and are ours to end and to start again."""
        keys = self.hearing.hung if self.hearing is not None else set()
        lives = [life for key, life in self.lives.of.items() if key in keys and life.state not in ENDED]
        return [one for one in lives if recovery.would_come_back(one.seen.agent)]

    def _standing(self, done: list[Outcome]) -> list[Matter]:
        """The matters that stand, but for deaths that are mended, or will be."""
        found = matters.standing(self.lives.of.values(), self.live.config, clock.boot_ns())
        mended = {one.key for one in self.lives.of.values() if 0 < self._waits.get(one.process(), 0) < NEVER}
        mended |= self._mending or set()
        mended -= {one.subject for one in found if self.notices.stands(one)}  # what was told is so until it is back
        mended |= {one.agent for one in done if one.action == RESPAWNED}
        deaths = [one for one in found if one.kind in (matters.DEAD, matters.PM_DEAD)]
        others = [self._asked(one) if one.kind == matters.WAITING else one for one in found if one not in deaths]
        deaths = [one for one in deaths if one.subject not in mended]
        self._back -= {one.subject for one in deaths}
        there = [one.seen.agent for one in self.lives.of.values() if one.state != "gone" and one.key not in mended]
        lost = incidents.lost_servers(there) if deaths else []
        silent = self.hearing.matters(self.lives.of) if self.hearing is not None else []
        kept = matters.kept(self._stood, self.lives.of)
        self._stood = [*matters.by_server(deaths, lost, self.notices.subjects()), *others, *silent, *kept]
        return self._stood + self.looking.findings + self.health.components(self.live.config)

    def _quiet(self) -> frozenset[str]:
        """The agents of which it is not to be said that they are well again: `recovery` does, or it is not so."""
        there = {key for key, life in self.lives.of.items() if life.state not in ENDED}
        return frozenset(self._back | {subject for subject in self.notices.subjects() if ":" in subject} - there)

    def _asked(self, matter: Matter) -> Matter:
        """A question goes to who can answer it."""
        settings, life = self.live.config, self.lives.of[matter.subject]
        agent, away = life.seen.agent, {one.key for one in self.lives.of.values() if one.state == "waiting"}
        above = settings.get("delivery.escalate_to")
        to = questions.route(self.agents, agent, above, settings.groups, away)
        return questions.address(matter, life, to, self.control.profile(agent).answers)

    def _stop(self, number: int, at: FrameType | None) -> None:
        self._stopping = True


def _until(outcome: Outcome | None) -> int:
    """When, on the boot clock, whoever was not started may be tried again; NEVER: only by hand."""
    if outcome is None or outcome.action in (FAILED, RESPAWNED):  # one that is back is another process
        return clock.boot_ns() + _SECOND_NS
    wait_s = outcome.wait_s
    if outcome.alerted and not wait_s:
        return NEVER - 1  # recovery itself told whom it concerns, so it is no news for us
    return clock.boot_ns() + int(wait_s * 1e9) + 1 if wait_s else NEVER
