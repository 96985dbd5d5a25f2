"""Telling of what is against the task queue's alert rules: once when it begins, and once when it is over.

What begins in one look is one event for each rule, whatever the number. What comes and goes is over when it was not
seen for `monitoring.cooldown`. What stands is in `logs/run/task_alerts.json`, and so are the events that belong to a
change of it until the log has them: they are written there first, with ids that the log stores once, so no crash
loses one or tells it twice. The database is only read, and none is made.
"""

from __future__ import annotations

import os
import zlib
from typing import Any

from tmux_orchestrator.eventlog import event
from tmux_orchestrator.eventlog.daylog import Log, daemon_source
from tmux_orchestrator.eventlog.voice import Voice
from tmux_orchestrator.ground import clock, fastjson, files
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.ground.errors import DataError, OrcError, TryLater
from tmux_orchestrator.ground.output import clean
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.insight import task_rules, words
from tmux_orchestrator.insight.task_rules import RULES, Finding
from tmux_orchestrator.work.queue import path_of
from tmux_orchestrator.work.store.database import VERSION, Database

NAMED = "tasks"  # the daemon that says these
_NAMED = 10  # of what begins at once, how many are told by name
_UNTOLD = 100  # events that wait for a log that takes them
_PATIENCE = 0.25  # seconds, for whoever has the database to himself just now: the host has other things to do
_STALE_S = 600  # who asks what stands believes nothing that is older, and than three looks
_SUBJECT = 300

Event = dict[str, Any]


class Standing:
    """A broken rule that was told. Wall clock; `gone` is when it was first not seen any more, 0 while it is."""

    __slots__ = ("gone", "rule", "since", "subject", "text")

    def __init__(self, rule: str, subject: str, text: str, since: int, gone: int = 0) -> None:
        self.rule, self.subject, self.text, self.since, self.gone = rule, subject, text, since, gone

    def to_list(self) -> list[Any]:
        return [self.rule, self.subject, self.text, self.since, self.gone]


class Alerts:
    """Looked after by a long-lived process, which calls `turn` again and again."""

    def __init__(self, home: Home, settings: Config, voice: Voice) -> None:
        self._home, self._voice = home, voice
        self._standing, self._untold, _ = _load(home)
        self._due = 0
        self.configure(settings)

    def configure(self, settings: Config) -> None:
        """The configuration has changed: look again."""
        self._settings, self._due = settings, 0

    def close(self) -> None:
        """Nothing is open between two looks."""

    def turn(self, news: bool = False) -> int:
        """Look, if it is time; when to be called again, on the boot clock. What goes wrong is told, and tried again."""
        ticks = clock.boot_ns()
        if ticks >= self._due:
            self._due = ticks + int(self._settings.get("team.bottleneck_alerts.check_interval") * 1e9)
            try:
                self.check(clock.now_ns())
                self._voice.well()
            except TryLater:
                pass  # somebody has the database or the log just now
            except (OrcError, OSError) as error:
                self._voice.complain(f"the task queue's alert rules: {error}")
        return self._due

    def check(self, now: int) -> None:
        """Look now, and tell what has changed. Raises OrcError, OSError: what was not told is told the next time."""
        self._tell()
        found = self._look(now)
        if found is None:
            return
        before = self._memory(0)
        begun = self._begin(found, now)
        over = self._end(now)
        self._untold = [*self._untold, *begun, *over][-_UNTOLD:]
        if self._standing or self._memory(0) != before:
            self._keep(now)
        self._tell()

    def _look(self, now: int) -> list[Finding] | None:
        """None while there is no task database that this program knows."""
        path = path_of(self._home, self._settings.get("team.message_queue.db_path"))
        if not os.path.exists(path):
            return None
        database = Database(path, version=None, patience=_PATIENCE)
        try:
            return task_rules.judge(database, self._settings, now) if database.version() == VERSION else None
        finally:
            database.close()

    # what has changed

    def _begin(self, found: list[Finding], now: int) -> list[Event]:
        new: dict[str, list[Finding]] = {}
        seen = {(one.rule, one.subject) for one in found}
        for one in found:
            told = self._standing.get((one.rule, one.subject))
            if told is None:
                self._standing[one.rule, one.subject] = Standing(one.rule, one.subject, task_rules.line(one), now)
                new.setdefault(one.rule, []).append(one)
            else:
                told.text, told.gone = task_rules.line(one), 0
        for name, told in self._standing.items():
            if name not in seen:
                told.gone = min(told.gone or now, now)  # the clock may have run back
        return [_alert(rule, those, now) for rule, those in new.items()]

    def _end(self, now: int) -> list[Event]:
        rest = int(self._settings.get("monitoring.cooldown") * 1e9)
        over = [told for told in self._standing.values() if told.gone and now - told.gone >= rest]
        for told in over:
            del self._standing[told.rule, told.subject]
        return [_over(over, now)] if over else []

    # the memory

    def _memory(self, now: int) -> bytes:
        standing = [told.to_list() for told in self._standing.values()]
        return fastjson.dumps({"looked": now, "standing": standing, "untold": self._untold}).encode("ascii")

    def _keep(self, now: int) -> None:
        files.make_dir(self._home.run)
        files.replace(_file(self._home), self._memory(now), sync=False)

    def _tell(self) -> None:
        if self._untold:
            log = Log(self._home, durable=self._settings.get("events.durability") == "disk")
            try:
                log.append(self._untold)
            except DataError as error:  # it never will: somebody has written into the database by hand
                self._voice.complain(f"not told: {error}")
            finally:
                log.close()
            self._untold = []
            self._keep(clock.now_ns())


def _alert(rule: str, those: list[Finding], now: int) -> Event:
    """One event for what began to break a rule."""
    told, first = RULES[rule], those[0]
    subject, body, context = first.title, first.details, first.context
    if len(those) > 1:
        lines = [task_rules.line(one) for one in those[:_NAMED]]
        if len(those) > _NAMED:
            lines.append(f"and {len(those) - _NAMED} more: {told.mend}")
        subject, body = told.several.format(len(those)), "\n".join(lines)
        context = {"subjects": [one.subject for one in those[:100]]}
    made = event.build(
        body,
        daemon_source(NAMED),
        type="alert",
        category="performance",
        priority=told.priority,
        subject=clean(subject)[:_SUBJECT],
        groups=["management"],
        context={"issue_type": rule, "severity": told.severity} | context,
        tags=["tasks", "performance", rule],
    )
    return made | {"id": _id(now, [f"{one.rule} {one.subject}" for one in those])}


def _over(those: list[Standing], now: int) -> Event:
    """One event for what is over."""
    lines = [
        clean(f"{one.subject}: {RULES[one.rule].over}, after {words.span((one.gone - one.since) / 1e9)}")
        for one in those[:_NAMED]
    ]
    lines += [f"and {len(those) - _NAMED} more"] if len(those) > _NAMED else []
    made = event.build(
        "\n".join(lines),
        daemon_source(NAMED),
        category="performance",
        groups=["management"],
        context={"issue_type": "resolved", "was": sorted({one.rule for one in those})},
        tags=["tasks", "performance", "resolved"],
    )
    return made | {"id": _id(now, ["over", *(f"{one.rule} {one.subject}" for one in those)])}


def _id(now: int, about: list[str]) -> str:
    return f"task-alert.{now:x}.{zlib.crc32(' '.join(about).encode('utf-8', 'replace')):08x}"


def _file(home: Home) -> str:
    return home.run + "/task_alerts.json"


def _load(home: Home) -> tuple[dict[tuple[str, str], Standing], list[Event], int]:
    """What stands, what was not told yet, when was looked; nothing of a damaged file: then it is told again."""
    try:
        stored = fastjson.loads(files.read(_file(home)) or b"{}")
        standing: dict[tuple[str, str], Standing] = {}
        for entry in stored.get("standing", ()):
            if [type(part) for part in entry] == [str, str, str, int, int] and entry[0] in RULES:
                standing[entry[0], entry[1]] = Standing(*entry)
        untold = [event.check(one) for one in stored.get("untold", ())]
        looked = stored.get("looked")
        return standing, untold, looked if type(looked) is int else 0
    except (ValueError, TypeError, AttributeError, OrcError):
        return {}, [], 0


def standing(home: Home, settings: Config, now: int) -> list[Standing]:
    """What stands by the last look, if that was not long ago."""
    found, _, looked = _load(home)
    patience = max(_STALE_S, 3 * settings.get("team.bottleneck_alerts.check_interval"))
    return list(found.values()) if abs(now - looked) < patience * 1e9 else []
