"""Telling of a matter once: when it begins, again by a ladder that ends, and when it is over.

What begins in one breath is one event, by kind. A matter that comes and goes is not told again before the cooldown is
over; one that stays is repeated at most twice, the last time to those whom things are escalated to. What was told is in
`logs/run/told.json`, written when the event is on disk: a crash in between tells it once more, but for a death, whose
event has an id of its own that the log stores once.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tmux_orchestrator.agents.since import UNRESPONSIVE
from tmux_orchestrator.eventlog import event
from tmux_orchestrator.eventlog.daylog import daemon_source
from tmux_orchestrator.ground import fastjson, files
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.ground.errors import OrcError
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.watch import matters
from tmux_orchestrator.watch.matters import Matter

NAMED = 10  # of a group, how many are told by name
ESCALATE = "escalate"
_DEATHS = (matters.DEAD, matters.PM_DEAD, matters.SERVER)  # their identities name a process: they happen once
_TOLD = 1000  # matters that are over and remembered
_PATIENCE_NS = 3600 * 10**9


@dataclass(frozen=True, slots=True)
class Kind:
    """How a kind of matter is told. `ladder`: the priority of each telling; ESCALATE goes further up, as high."""

    ladder: tuple[str, ...]
    tags: tuple[str, ...]
    several: str  # the headline when there is more than one
    over: str = ""  # what is said of those that are over; "": nothing
    type: str = "notification"
    category: str = "health"
    requires_ack: bool = False
    source: str = "monitor"  # what others ask is typed to whom it is for, unlike what the monitoring itself has to say


_PM = ("recovery", "critical", "pm-management")
# fmt: off
KINDS = {
    matters.DEAD: Kind(("critical",), ("health", "dead"), "{} agents died:", "is back", "alert", requires_ack=True),
    matters.PM_DEAD: Kind(("critical",), _PM, "{} PMs crashed:", "is back", "alert", "recovery", True),
    matters.COMPONENT: Kind(
        ("critical",), ("system", "emergency"), "{} components are down:", "runs again", "alert", "system"),
    matters.SERVER: Kind(
        ("critical",), ("system", "emergency"), "{} tmux servers are gone:", type="alert", category="system"),
    UNRESPONSIVE: Kind(
        ("high", "high", ESCALATE), ("health", "unresponsive"), "{} agents are unresponsive:", "responds again"),
    matters.SILENT: Kind(
        ("high", ESCALATE), ("health", "heartbeat"), "{} agents sent no heartbeat:", "sends heartbeats again"),
    matters.WAITING: Kind(
        ("high", "high", ESCALATE), ("health", "waiting"), "{} agents wait for an answer:", category="question",
        source="questions"),
    matters.LIMITED: Kind(("normal",), ("health", "limited"), "{} agents are limited:", "is no longer limited"),
    matters.FRESH: Kind(("normal",), ("health", "briefing"), "{} agents have no briefing yet:"),
    matters.TEAM_IDLE: Kind(("normal",), ("health", "idle", "team"), "{} teams are idle:"),
    matters.IDLE: Kind(("low", "high"), ("health", "idle"), "{} agents are idle:"),
    matters.STRATEGY: Kind(("high",), ("strategy",), "{} strategies failed:", "works again", category="system"),
}
# fmt: on
_OTHER = Kind(("normal",), ("health",), "{} findings:")


@dataclass(slots=True)
class Told:
    """What was told of a matter. Wall clock."""

    identity: str
    at: int  # of the last telling
    rung: int  # which one that was
    over: int = 0  # since when it stands no more

    def to_list(self) -> list[Any]:
        return [self.identity, self.at, self.rung, self.over]


class Notices:
    """Remembers what was told, and makes the events for what is to be told now."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._told = _load(home)
        self._kept = self._memory()

    def step(
        self, standing: Iterable[Matter], settings: Config, now: int, quiet: frozenset[str] = frozenset()
    ) -> list[dict[str, Any]]:
        """The events to publish, most urgent first. `quiet`: subjects whose return somebody else tells of."""
        due: dict[tuple[str, int, str, tuple[str, ...]], list[Matter]] = {}
        there = {(one.kind, one.subject): one for one in standing}
        for name, matter in there.items():
            rung = self._rung(name, matter, settings, now)
            if rung is not None:
                due.setdefault((matter.kind, rung, matter.priority, matter.targets), []).append(matter)
        over = self._ends(there.keys(), now, settings)
        made = [self._tell(kind, rung, those, settings) for (kind, rung, _, _), those in due.items()]
        made += [self._over(kind, those) for kind, names in over.items() if (those := [*_without(names, quiet)])]
        if not settings.get("monitoring.use_file_logging"):
            made = [one for one in made if one["message"]["priority"] in ("critical", "high")]
        return sorted(made, key=lambda one: event.PRIORITIES.index(one["message"]["priority"]))

    def subjects(self) -> set[str]:
        """Whom something was told of that may not be over yet."""
        return {subject for _, subject in self._told}

    def stands(self, matter: Matter) -> bool:
        """Was this very matter told, and is it not over since?"""
        told = self._told.get((matter.kind, matter.subject))
        return told is not None and not told.over and told.identity == matter.identity

    def rename(self, names: dict[str, str]) -> None:
        """Who was told of is called otherwise now."""
        for kind, subject in [name for name in self._told if name[1] in names]:
            self._told[kind, names[subject]] = self._told.pop((kind, subject))

    def save(self) -> None:
        """When the events are published. Raises SystemFailure."""
        memory = self._memory()
        if memory != self._kept:
            files.replace(self._home.run + "/told.json", memory)
            self._kept = memory

    def _memory(self) -> bytes:
        return fastjson.dumps([[*name, *told.to_list()] for name, told in self._told.items()]).encode("ascii")

    def _rung(self, name: tuple[str, str], matter: Matter, settings: Config, now: int) -> int | None:
        """Which telling is due now, if any; it is noted as told."""
        told, ladder = self._told.get(name), KINDS.get(matter.kind, _OTHER).ladder
        if told is None or told.identity != matter.identity:
            self._told[name] = Told(matter.identity, now, 0)
            return 0
        told.at = min(told.at, now)  # the clock ran back
        if told.over:
            if now - told.at < settings.get("monitoring.cooldown") * 1e9:
                return None
            told.at, told.rung, told.over = now, 0, 0
            return 0
        if told.rung + 1 < len(ladder) and now - told.at >= settings.get("monitoring.remind_after") * 1e9:
            told.at, told.rung = now, told.rung + 1
            return told.rung
        return None

    def _ends(self, standing: Iterable[tuple[str, str]], now: int, settings: Config) -> dict[str, list[str]]:
        """The subjects of what stands no more, by kind; forgotten when nobody needs to remember them."""
        there = set(standing)
        over: dict[str, list[str]] = {}
        for name, told in list(self._told.items()):
            if name in there:
                continue
            if not told.over:
                told.over = now
                if KINDS.get(name[0], _OTHER).over:
                    over.setdefault(name[0], []).append(name[1])
            elif now - told.over > max(_PATIENCE_NS, settings.get("monitoring.cooldown") * 1e9) or told.over > now:
                del self._told[name]
        past = [name for name, told in self._told.items() if told.over]  # what stands is as many as there are agents
        for name in past[: max(0, len(past) - _TOLD)]:
            del self._told[name]
        return over

    def _tell(self, name: str, rung: int, those: list[Matter], settings: Config) -> dict[str, Any]:
        """One event for matters of one kind, rung, priority and receiver."""
        kind, first = KINDS.get(name, _OTHER), those[0]
        escalated = kind.ladder[rung] == ESCALATE
        lines = [one.text for one in those[:NAMED]]
        if len(those) > NAMED:
            lines.append(f"and {len(those) - NAMED} more: orc-status")
        context = dict(first.context)
        if len(those) > 1:
            lines.insert(0, kind.several.format(len(those)))
            context = {"issue_type": name, "subjects": [one.subject for one in those]}
        if rung:
            context["reminder"] = rung
        made = event.build(
            "\n".join(lines),
            daemon_source(kind.source),
            type="escalation" if escalated else kind.type,
            category=kind.category,
            priority="high" if escalated else first.priority or kind.ladder[rung],
            groups=[] if escalated or first.targets else ["management"],
            targets=settings.get("delivery.escalate_to") if escalated else list(first.targets),
            context=context,
            tags=["monitoring", *kind.tags],
            requires_ack=kind.requires_ack,
        )
        if name in _DEATHS and not rung:
            named = ",".join(sorted(f"{one.subject} {one.identity}" for one in those))
            made["id"] = f"{name}-{zlib.crc32(named.encode('utf-8', 'replace')):08x}"
        return made

    def _over(self, name: str, subjects: list[str]) -> dict[str, Any]:
        """One event for what stands no more."""
        said = KINDS[name].over
        lines = [f"{subject} {said}" for subject in subjects[:NAMED]]
        lines += [f"and {len(subjects) - NAMED} more"] if len(subjects) > NAMED else []
        context: dict[str, Any] = {"issue_type": "recovered", "was": name, "subjects": subjects[:100]}
        if len(subjects) == 1 and ":" in subjects[0]:
            context |= {"agent": subjects[0], "session": subjects[0].rpartition(":")[0]}
        tags = ["monitoring", "recovered", name]
        body = "\n".join(lines)
        source = daemon_source("monitor")
        return event.build(body, source, category="health", groups=["management"], context=context, tags=tags)


def _without(subjects: list[str], quiet: frozenset[str]) -> list[str]:
    return [subject for subject in subjects if subject not in quiet]


def _load(home: Home) -> dict[tuple[str, str], Told]:
    """What was told; nothing when the file is damaged: then it is told again."""
    told: dict[tuple[str, str], Told] = {}
    try:
        for entry in fastjson.loads(files.read(home.run + "/told.json") or b"[]"):
            kind, subject, identity, at, rung, over = entry
            if [type(v) for v in entry] == [str, str, str, int, int, int] and rung >= 0:
                told[kind, subject] = Told(identity, at, rung, over)
    except (ValueError, TypeError, OrcError):
        return {}
    return told
