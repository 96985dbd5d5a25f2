"""Who has to check in by when: an agent that promised to, or that was ordered to, and has said nothing since.

A promise is an event by an agent whose context says `{"check_in": "30m"}`. An order is a message that was published
with --check-in; it binds each target from when it was typed into its pane, as the broker's record says. Whatever the
agent publishes after that, an acknowledgment too, keeps it. Who is overdue is reminded once; if that does not help
within as long again, its project manager hears of it, once.

Only events change what is known, and what is told is an event too: so after a restart the last days of the log say the
same as before, and no second file can disagree with them. A step of the clock makes nobody late, and whoever is dead,
limited or at a dialog is asked when it is back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tmux_orchestrator.agents import managers, registry
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.eventlog import event
from tmux_orchestrator.eventlog.daylog import Log, daemon_source
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.clock import parse_stamp
from tmux_orchestrator.ground.errors import UsageError
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.ground.times import SECOND, parse_duration
from tmux_orchestrator.watch import matters
from tmux_orchestrator.watch.tail import Tail

Event = dict[str, Any]

NUDGE, REPORT = "nudge", "report"
SOURCE = "check-in"  # not the monitor: what somebody asked for is typed, whatever the monitoring may type
LEAST_S, LONGEST_S = 1, 12 * 3600
MEMORY_S = 2 * 86_400  # an order that is older binds nobody any more
_STEP_NS = 60 * SECOND
_REACHED = ("typed", "confirmed", "digested")
_GONE = ("gone", "")
_NEVER = 1 << 63


@dataclass(slots=True)
class Promise:
    """One agent has to say something. Wall clock."""

    agent: str
    event_id: str
    by: str  # who asked for it; itself, if it promised
    since: int
    within: int
    nudged: int = 0  # when it was reminded


class CheckIns:
    """What the events say of it. `now` and `boot` are the clocks."""

    def __init__(
        self, now: Callable[[], int] = lambda: clock.now_ns(), boot: Callable[[], int] = lambda: clock.boot_ns()
    ) -> None:
        self.promises: dict[str, Promise] = {}
        self._bound: dict[tuple[str, str], int] = {}  # (order, whom it has reached) -> when
        self._now, self._boot = now, boot
        self._offset: int | None = None  # of the wall clock from the boot clock

    def take(self, one: Event) -> None:
        """The next event of the log."""
        self._follow_clock()
        try:
            at = parse_stamp(one["timestamp"])
        except ValueError:
            return
        source, message = one["source"], one["message"]
        context = message["content"]["context"]
        sender = _sender(source)
        if sender:
            self.promises.pop(sender, None)
            within = _duration_ns(context.get("check_in"))
            if within:
                self.promises[sender] = Promise(sender, one["id"], sender, at, within)
        if message["type"] == "delivery":
            self._reached(context, at)
        elif source.get("identifier") == SOURCE and source["type"] == "daemon":
            self._told(context, at)

    def due(self, now: int, state: Callable[[str], str]) -> list[tuple[str, Promise]]:
        """(NUDGE or REPORT, whom it is about). The same again until `take` has seen the event that tells it.

        `state`: what an agent does, "" for one that is not there: such a one owes nothing.
        """
        self._follow_clock()
        self._bound = {name: at for name, at in self._bound.items() if now - at < MEMORY_S * SECOND}
        found = []
        for key, one in list(self.promises.items()):
            if now < _due_ns(one):
                continue
            doing = state(key)
            if doing in _GONE or now - one.since >= MEMORY_S * SECOND:
                del self.promises[key]
            elif doing not in ("dead", "limited", "waiting"):
                found.append((REPORT if one.nudged else NUDGE, one))
        return found

    def wake_ns(self) -> int:
        """When somebody is due next."""
        return min(map(_due_ns, self.promises.values()), default=_NEVER)

    def _reached(self, context: dict[str, Any], at: int) -> None:
        """A message was typed: if it is an order, it binds its target now; the sooner of two counts."""
        event_id, target, seconds = context.get("event"), context.get("target"), context.get("check_in_s")
        within = _duration_ns(seconds) if not isinstance(seconds, str) else 0
        if not (within and isinstance(event_id, str) and isinstance(target, str)):
            return
        if context.get("outcome") not in _REACHED or (event_id, target) in self._bound:
            return
        self._bound[event_id, target] = at
        before = self.promises.get(target)
        if before is None or _due_ns(before) > at + within:
            self.promises[target] = Promise(target, event_id, str(context.get("asked_by")), at, within)

    def _told(self, context: dict[str, Any], at: int) -> None:
        """Somebody was reminded, or reported."""
        one = self.promises.get(str(context.get("agent")))
        if one is None or one.event_id != context.get("promise"):
            return
        if context.get("issue_type") == REPORT:
            del self.promises[one.agent]
        else:
            one.nudged = at

    def _follow_clock(self) -> None:
        """What counts is time that passed, not what a step of the wall clock made of it."""
        offset = self._now() - self._boot()
        if self._offset is None or abs(offset - self._offset) < _STEP_NS:
            self._offset = offset if self._offset is None else self._offset
            return
        for one in self.promises.values():
            one.since += offset - self._offset
            one.nudged += (offset - self._offset) if one.nudged else 0
        self._offset = offset


class Reminder:
    """Reminds and reports. `state` is what an agent does now; `get` reads the configuration."""

    def __init__(self, home: Home, get: Callable[[str], Any], tail: Tail, state: Callable[[str], str]) -> None:
        self.home, self.tail = home, tail
        self.checkins = CheckIns()
        self._get, self._state = get, state
        tail.register(self.checkins.take, _concerns, MEMORY_S)

    def turn(self, now: int) -> int:
        """Tell whom it concerns of what is overdue; when to be called again. Raises OrcError."""
        self.tail.turn()
        due = self.checkins.due(now, self._state)
        if due:
            agents = registry.load(self.home)
            log = Log(self.home, durable=self._get("events.durability") == "disk", now=clock.now_ns)
            log.append([self._event(kind, one, agents) for kind, one in due])
            self.tail.turn()
        return max(self.checkins.wake_ns(), now + SECOND)

    def _event(self, kind: str, one: Promise, agents: list[Agent]) -> Event:
        limit = f"by {clock.local_time(one.since + one.within)[:5]} ({matters.spoken(one.within)})"
        session = one.agent.rpartition(":")[0]
        asked = "" if one.by == one.agent else f", as {one.by} asked"
        if kind == NUDGE:
            answer = f"orc-publish --reply-to {event.short(one.event_id)}"
            text = f"You were to check in {limit}{asked}: say in a line where you are: {answer} …"
            to: dict[str, list[str]] = {"targets": [one.agent]}
        else:
            text = f"{one.agent} was to check in {limit}{asked}, and says nothing: orc-agent peek {one.agent}"
            to = self._manager(one.agent, session, agents)
        return event.build(
            text,
            daemon_source(SOURCE),
            category="check_in",
            priority="high",
            tags=["check-in"],
            context={"agent": one.agent, "session": session, "issue_type": kind, "promise": one.event_id},
            **to,
        )

    def _manager(self, agent: str, session: str, agents: list[Agent]) -> dict[str, list[str]]:
        """The project manager of its session, or the group management; of a project manager, who is told of trouble."""
        if any(one.key == agent for one in managers.present(agents)):
            return {"targets": self._get("delivery.escalate_to")}
        manager = managers.of_session(agents, session)
        return {"targets": [manager.key]} if manager is not None else {"groups": ["management"]}


def _concerns(line: bytes) -> bool:
    """At a glance: does somebody check in, or have to?"""
    return b'"check' in line or b'"type": "agent"' in line or b'"type": "pm"' in line


def _due_ns(one: Promise) -> int:
    return (one.nudged or one.since) + one.within


def _sender(source: dict[str, Any]) -> str:
    """The key of the agent that published it for sure; "" for anybody else."""
    known = source.get("verified") is True and source["type"] in ("agent", "pm") and source.get("session")
    return f"{source['session']}:{source.get('identifier')}" if known else ""


def _duration_ns(value: Any) -> int:
    """Seconds, or a duration as people write it; 0 for what is none, or out of bounds."""
    try:
        seconds = parse_duration(value) if isinstance(value, str) else value
    except UsageError:
        return 0
    if type(seconds) not in (int, float) or not LEAST_S <= seconds <= LONGEST_S:
        return 0
    return int(seconds * SECOND)
