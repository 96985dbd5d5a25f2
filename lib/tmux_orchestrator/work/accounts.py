"""Usage limits: while an account has reached its own, the tasks of all that use it wait; then they go on one by one.

Who knows of a limit tells the log: the monitor and its hooks (`issue_type: limited`), a credit monitor or an agent
itself (`credit_exhausted`). This reads the log from a place of its own, and writes what follows into the task database
(see `usage`), which does the rest also without it. An event is taken once or, after a crash, again, to the same end:
it says until when by its own time, and what is told about it has an id that follows from it.

What the database does not take waits, and is tried again; the host is never held up.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import Any

from tmux_orchestrator.eventlog import event, reader
from tmux_orchestrator.eventlog.daylog import Log, daemon_source
from tmux_orchestrator.eventlog.voice import Voice
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.ground.errors import DataError, OrcError, TryLater
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work import leases, resets, usage
from tmux_orchestrator.work.heard import Heard
from tmux_orchestrator.work.message import name
from tmux_orchestrator.work.queue import Rules, path_of
from tmux_orchestrator.work.store.database import Database

Event = dict[str, Any]

NAMED = "accounts"
_UNHEARD = (NAMED, "state_updater")  # the latter repeats what it has read
_GLANCE = re.compile(rb'"credit_exhausted"|"limited"')
_SECOND = 1_000_000_000
_DAY = 86_400 * _SECOND
_REST = 2 * _SECOND  # after a failure
_BUSY = 20  # times in a row that the database is locked until that is told
_PATIENCE = 0.01  # seconds
_MOST = 100  # agents of one event


class Accounts:
    """Hosted by the state updater (see `ground.guest`)."""

    def __init__(self, home: Home, settings: Config, voice: Voice) -> None:
        self.home = home
        self._voice = voice
        self.heard = Heard(home, NAMED, voice)
        self._database: Database | None = None
        self._told: set[str] = set()
        self._is_quiet = False  # no account waits
        self._look_at = self._busy = 0
        self.configure(settings)

    def configure(self, settings: Config) -> None:
        self._close_database()
        self._settings, self._rules = settings, Rules(settings)
        self._path = path_of(self.home, settings.get("team.message_queue.db_path"))
        self._accounts: dict[str, list[str]] = settings.get("accounts")
        self._is_on: bool = settings.get("usage_limits.enabled")
        self._is_quiet = False

    def close(self) -> None:
        self.heard.close()
        self._close_database()

    def turn(self, news: bool = False) -> int:
        now = clock.boot_ns()
        if now < self._look_at and not news:
            return self._look_at
        self._look_at = now + _SECOND
        try:
            if self.heard.waiting or self.heard.read(_GLANCE.search):
                self._work()
            self._look()
            self._busy = 0
            self._voice.well()
        except (OrcError, OSError) as error:
            self._failed(error, now)
        return self._look_at

    def _failed(self, error: Exception, now: int) -> None:
        self._close_database()
        self._is_quiet = False
        locked = isinstance(error, TryLater)
        self._busy += locked
        self._look_at = now + _REST
        if not locked or self._busy == _BUSY:
            self._voice.complain(f"accounts: what is known of usage limits waits: {error}")

    # the log

    def _work(self) -> None:
        """Take what waits. Raises OrcError, OSError: it stays."""
        some, waiting = bool(self.heard.waiting), self.heard.waiting
        while waiting:
            one = reader.decode(waiting[0]) if self._is_on and len(waiting[0]) <= event.MAX_LINE else None
            said = Said.of(one) if one is not None else None
            if said is not None:
                self._take(said)
            waiting.popleft()
        self.heard.done(some)

    # the accounts

    def _take(self, said: Said) -> None:
        for account in dict.fromkeys(self._account(who) for who in said.whom):
            if said.is_over:
                if os.path.exists(self._path) and usage.resume(self._open(), account):
                    self._is_quiet = False
            else:
                self._hold(account, said)

    def _account(self, who: str) -> str:
        """The first that lists the recipient; else its own."""
        return next((account for account, those in self._accounts.items() if who in those), who)

    def _hold(self, account: str, said: Said) -> None:
        if not os.path.exists(self._path):
            return  # nobody uses the queue
        those = self._accounts.get(account, [account])
        recipients = [one for one in those if self._account(one) == account]
        until = resets.parse(said.until, said.at)
        waits, held_until = usage.states(self._open()).get(account, (False, 0))
        if until is None:
            until = max(said.at + int(self._settings.get("usage_limits.unknown") * _SECOND), held_until * waits)
        if until <= clock.now_ns() or not recipients:
            return  # it is over already
        if not waits and usage.have_tasks(self._open(), recipients):
            text = f"{account} has reached its usage limit: the tasks of {', '.join(recipients)} wait"
            self._tell(f"wait.{_digest(account, said.event_id)}", "tasks_wait", account, text, until)
        usage.hold(self._open(), account, recipients, until)
        self._is_quiet = False

    def _look(self) -> None:
        """Whose time has come goes on, one by one and then all; each is told."""
        if self._is_quiet or not os.path.exists(self._path):
            return
        database = self._open()
        leases.sweep(database, self._rules)
        for account, (waits, until) in usage.states(database).items():
            if not self._is_on:
                usage.lift(database, account, 0)
            elif not waits:
                text = f"the usage limit of {account} is over: its tasks go on, one by one"
                if usage.have_tasks(database, usage.recipients(database, account)):
                    self._tell(f"on.{_digest(account, str(until))}", "tasks_resume", account, text, None)
                usage.lift(database, account, self._settings.get("usage_limits.one_by_one"))
        if not usage.states(database):
            self._is_quiet = True
            self._close_database()

    def _open(self) -> Database:
        self._database = self._database or Database(self._path, self._rules.full, patience=_PATIENCE)
        return self._database

    def _close_database(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _tell(self, key: str, issue: str, account: str, text: str, until: int | None) -> None:
        """Once: its id follows from what it tells."""
        if key in self._told:
            return
        end = clock.stamp(until) if until is not None else None
        made = event.build(
            text + (f" until {end}" if end else ""),
            daemon_source(NAMED),
            category="task",
            groups=["management"],
            context={"issue_type": issue, "account": account, "until": end},
        )
        Log(self.home, durable=False, lock_timeout=0.1).append([made | {"id": f"usage.{key}"}])
        self._told.add(key)


class Said:
    """What an event says of a limit."""

    __slots__ = ("at", "event_id", "is_over", "until", "whom")

    def __init__(self, one: Event, is_over: bool) -> None:
        """Raises KeyError, TypeError, ValueError, AttributeError for what somebody wrote by hand."""
        context = one["message"]["content"]["context"]
        self.event_id = str(one["id"])
        self.at = clock.parse_stamp(one["timestamp"])
        self.is_over = is_over
        self.until: object = context.get("until") or context.get("limited_until")
        self.whom = _names(context, one["source"])

    @staticmethod
    def of(one: Event) -> Said | None:
        try:
            context, source = one["message"]["content"]["context"], one["source"]
            if source["type"] == "daemon" and source.get("identifier") in _UNHEARD:
                return None
            kind, issue = one["message"]["type"], context.get("issue_type")
            if kind == "credit_exhausted" or issue == "limited":
                return Said(one, False)
            if context.get("credit_exhausted") is False or (issue == "recovered" and context.get("was") == "limited"):
                return Said(one, True)
        except (KeyError, TypeError, ValueError, AttributeError):
            pass
        return None


def _names(context: dict[str, Any], source: dict[str, Any]) -> list[str]:
    """The recipients, or the account itself, that it is about: `session:name` is an agent's, who is called `name`."""
    said = context.get("account") or context.get("agent") or context.get("subjects")
    if said is None and source["type"] in ("agent", "pm", "hook"):
        said = source.get("identifier")
    those = said if isinstance(said, list) else [said]
    found = []
    for one in those[:_MOST]:
        try:
            found.append(name(one.rpartition(":")[2], "") if isinstance(one, str) else "")
        except DataError:
            continue
    return [one for one in found if one]


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]
