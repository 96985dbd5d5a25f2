"""The monitor: sees in the moment in which it happens that an agent's process ended, and acts once for all of them.

The kernel tells (a pidfd for each registered agent), nothing is polled; a look over everybody at the start and every
`check_interval` finds what nobody told. Deaths of one breath are one: those that want to come back are brought back by
the rules of `recovery`, which tells their project manager; the others are one alert. What was told is kept in
`logs/run/monitor.json`, so that a monitor that starts again does not tell it again. One monitor by lock (its pid file);
killed at any moment, its next life goes on from what the registry, the panes and these two files say.
"""

from __future__ import annotations

import os
import sys
import time
from types import FrameType
from typing import Any

from tmux_orchestrator.agents import adoption
from tmux_orchestrator.agents.control import Control
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.agents.state import Seen
from tmux_orchestrator.eventlog import event
from tmux_orchestrator.eventlog.daylog import Log, daemon_source
from tmux_orchestrator.ground import clock, config, fastjson, files, watch
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.ground.errors import OrcError
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.watch import policy
from tmux_orchestrator.watch.recovery import REFUSED, RESPAWNED, Outcome, Recovery

_BREATH_NS = 300_000_000  # deaths that follow the first one so soon are told together
_SECOND_NS = 1_000_000_000
_NAMED = 10


class _Stopped(Exception):
    """A signal asked to stop in the middle of a recovery."""


class Monitor:
    """Owns the loop. `run` returns when a signal asks for it."""

    def __init__(self, home: Home) -> None:
        files.make_dir(home.registry)
        self.home = home
        self.live = config.Live(home)
        clock.use_zone(self.live.config.get("events.timezone"))
        self._watch = watch.Watch([home.registry])
        self._pidfds: dict[int, str] = {}  # descriptor -> the agent's key
        self._attended: set[tuple[int, int]] = set()  # (pid, start) of those that have one, or have ended
        self._told = _load(home)
        self._wakeup = -1  # readable with a signal to stop
        self._due_ns = 1  # when to act next, on the boot clock: at once
        self._sweep_ns = 0
        self._stopping = False

    def run(self) -> None:
        self._wakeup = watch.on_stop(self._stop)
        try:
            while not self._stopping:
                self._turn()
                self._sleep()
        except _Stopped:
            pass
        finally:
            for fd in self._pidfds:
                os.close(fd)
            self._watch.close()

    def once(self) -> dict[str, Any]:
        """One cycle: what was found and done, and how long each part took (milliseconds)."""
        begin = time.monotonic()
        control = Control(self.home, self.live.config)
        seen = control.look(control.registered)
        looked = time.monotonic()
        done = self._act(control, seen)
        end = time.monotonic()
        return {
            "cycle_ms": _ms(end - begin),
            "look_ms": _ms(looked - begin),
            "act_ms": _ms(end - looked),
            "agents": len(seen),
            "strategy": "concurrent",
            "findings": [{"agent": one.agent.key, "state": one.state, "why": one.why} for one in _ended(seen)],
            "recovered": [one.record() for one in done],
        }

    # one turn

    def _turn(self) -> None:
        try:
            self.live.poll()
            control = Control(self.home, self.live.config)
            self._attend(control.registered)
            if clock.boot_ns() >= min(self._due_ns, self._sweep_ns):
                self._due_ns = 1 << 63
                self._sweep_ns = clock.boot_ns() + int(self.live.config.get("monitoring.check_interval") * 1e9)
                self._act(control, control.look(control.registered))
        except (OrcError, OSError) as error:
            self._say(f"ERROR {error}")
            self._due_ns = clock.boot_ns() + _SECOND_NS

    def _attend(self, agents: list[Agent]) -> None:
        """Have a pidfd for each agent that lives and is its pane's own process; one that has ended is looked at."""
        own = {(agent.pid, agent.pid_start): agent for agent in agents if not agent.adopted}
        self._attended &= own.keys()
        for process in own.keys() - self._attended:
            self._attended.add(process)
            agent = own[process]
            try:
                fd = os.pidfd_open(agent.pid)
            except OSError:
                fd = -1
            if fd >= 0 and agent.alive():
                self._pidfds[fd] = agent.key
                continue
            self._due_ns = min(self._due_ns, clock.boot_ns() + _BREATH_NS)
            if fd >= 0:
                os.close(fd)

    def _sleep(self) -> None:
        """Until something ends, the registry changes, something is due, or a signal comes; a second at the longest."""
        left = (min(self._due_ns, self._sweep_ns) - clock.boot_ns()) / 1e9
        ready = watch.readable([self._wakeup, self._watch.fileno(), *self._pidfds], min(1.0, left))
        if self._wakeup in ready:
            os.read(self._wakeup, 512)
        if self._watch.fileno() in ready:
            self._watch.drain()
        for fd in ready & self._pidfds.keys():
            del self._pidfds[fd]
            os.close(fd)
            self._due_ns = min(self._due_ns, clock.boot_ns() + _BREATH_NS)

    def _rest(self, seconds: float) -> None:
        """Between two agents that are started; a signal to stop ends it all."""
        watch.readable([self._wakeup], seconds)
        if self._stopping:
            raise _Stopped

    # acting

    def _act(self, control: Control, seen: list[Seen]) -> list[Outcome]:
        """Bring back who wants to come back; tell of the others, once each."""
        settings = self.live.config
        done: list[Outcome] = []
        if settings.get("recovery.enabled") and any(one.state in ("dead", "gone") for one in seen):
            done = Recovery(control, self._rest).run(None)
            waits = [one.wait_s for one in done if one.action == REFUSED and one.wait_s]
            if waits:
                self._due_ns = min(self._due_ns, clock.boot_ns() + int(min(waits) * 1e9) + 1)
        back = {one.agent for one in done if one.action == RESPAWNED}
        later = {one.agent for one in done if one.action == REFUSED and one.reason in (policy.BACKOFF, policy.COOLDOWN)}
        fresh = [one for one in _ended(seen) if one.agent.key not in back | later and not self._knows(one)]
        if fresh:
            self._tell(fresh, settings)
        known = {one.agent.key: _death(one) for one in seen if self._knows(one) or one in fresh}
        if known != self._told:
            self._told = known
            files.replace(self.home.run + "/monitor.json", fastjson.dumps(known).encode("ascii"))
        return done

    def _knows(self, seen: Seen) -> bool:
        return self._told.get(seen.agent.key) == _death(seen) and seen.state == "dead"

    def _tell(self, fresh: list[Seen], settings: Config) -> None:
        """One alert for all that ended together and stay so."""
        lines = [f"{one.agent.key} died: {one.why}: {adoption.restart(one.agent)}" for one in fresh[:_NAMED]]
        if len(fresh) > _NAMED:
            lines.append(f"and {len(fresh) - _NAMED} more: orc-status")
        head = [f"{len(fresh)} agents died:"] if len(fresh) > 1 else []
        context = {"agents": [one.agent.key for one in fresh], "issue_type": "dead"}
        if len(fresh) == 1:
            context |= {"agent": fresh[0].agent.key, "session": fresh[0].agent.session}
        made = event.build(
            "\n".join(head + lines),
            daemon_source("monitor"),
            type="alert",
            category="health",
            priority="critical",
            groups=["management"],
            context=context,
            tags=["health", "dead"],
        )
        Log(self.home, durable=settings.get("events.durability") == "disk").append([made])

    # beginning and end

    def _stop(self, number: int, at: FrameType | None) -> None:
        self._stopping = True

    def _say(self, text: str) -> None:
        level, _, rest = text.partition(" ")
        print(f"{clock.stamp(clock.now_ns())} {level} monitor: {rest}", file=sys.stderr, flush=True)


def _ended(seen: list[Seen]) -> list[Seen]:
    return [one for one in seen if one.state == "dead"]


def _death(seen: Seen) -> list[int]:
    """What names this death: the process that ended."""
    return [seen.agent.pid, seen.agent.pid_start]


def _load(home: Home) -> dict[str, list[int]]:
    """The deaths that were told, by the agent's key; none when the file is damaged: then they are told again."""
    try:
        stored = fastjson.loads(files.read(home.run + "/monitor.json") or b"{}")
    except ValueError:
        return {}
    return stored if isinstance(stored, dict) else {}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
