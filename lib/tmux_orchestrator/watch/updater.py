"""The state updater: follows the log, keeps the state of each session on file, and tells management of what is severe.

What one read brought is taken in under a lock: first the notices are stored, by ids that follow from the events, so
that they are stored once however often this is done; then the files of the sessions; then the cursor. Killed anywhere
in between, the next life reads the same events again, and each file knows which of them it has (see `changes`): none
is lost and none counts twice, also should two updaters run. One updater by lock (its pid file). It hosts whatever has
to be looked after once in a while (see `ground.guest`).
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

from tmux_orchestrator.agents import registry
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.eventlog import event, follow, reader
from tmux_orchestrator.eventlog.daylog import DAY_NS, Log, daemon_source
from tmux_orchestrator.ground import clock, config, files, watch
from tmux_orchestrator.ground.errors import DataError, OrcError
from tmux_orchestrator.ground.guest import Maker
from tmux_orchestrator.ground.locks import Lock
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.watch import changes, sessions
from tmux_orchestrator.watch.changes import Notice
from tmux_orchestrator.watch.sessions import State

_WORDS = [f'"{kind}"'.encode("ascii") for kind in sessions.COUNTS]
_SECOND_NS = 1_000_000_000
_MINUTE_NS = 60 * _SECOND_NS
_PATIENCE = 10.0  # seconds for the lock


class Updater:
    """Owns the loop, and has a guest if `host` makes one. `run` returns when a signal asks for it."""

    def __init__(self, home: Home, host: Maker | None = None) -> None:
        files.make_dir(home.events)
        self.home = home
        self.live = config.Live(home)
        clock.use_zone(self.live.config.get("events.timezone"))
        self._cursor = home.run + "/cursors/component.state_updater"  # no reader's name has a dot
        self._follower = follow.Follower(home, self._load_place())
        self._lock = Lock(home.run + "/state_updater.lock", _PATIENCE)
        self._watch = watch.Watch([home.events])
        self._guest = host and host(home, self.live.config)
        self._saved_at = clock.boot_ns()
        self._said: tuple[str, int] = ("", 0)
        self._stopping = False

    def run(self) -> None:
        wakeup = watch.on_stop(self._stop)
        try:
            while not self._stopping:
                problem, more = "", False
                try:
                    if self.live.poll() and self._guest:
                        self._guest.configure(self.live.config)
                    more = self.turn()
                except (OrcError, OSError) as error:
                    problem = str(error)
                    self._read_again()
                self._complain(problem)
                due = self._guest.turn(more) if self._guest else 0
                if not more:
                    self._sleep(wakeup, quiet=bool(problem), due=due)
        finally:
            self.close()

    def close(self) -> None:
        try:
            follow.save_place(self._cursor, self._follower.place)
        except OrcError:
            pass  # the events since are read again, and known
        if self._guest:
            self._guest.close()
        self._follower.close()
        self._watch.close()
        self._lock.close()

    def turn(self) -> bool:
        """Take in what one read brings; False when there was nothing. Raises OrcError, OSError: nothing moved."""
        lines = self._follower.read()
        for jump in self._follower.jumps:
            self._say(f"WARNING {jump}")
        self._follower.jumps.clear()
        if not lines:
            return False
        found = list(_concerned(lines))
        if found:
            with self._lock:
                self._take(found)
                self._save_place()
        elif clock.boot_ns() - self._saved_at > _SECOND_NS:
            self._save_place()
        return True

    # what one read brought

    def _take(self, found: list[dict[str, Any]]) -> None:
        agents, now = registry.load(self.home), clock.now_ns()
        states: dict[str | None, State] = {}
        notices = []
        for one in found:
            at = changes.time_of(one, now)
            if at is None:
                continue
            for session, names in changes.whom(one, agents).items():
                if session not in states:
                    states[session] = self._load(session)
                if changes.is_applied(states[session], one, at):
                    continue
                for told in changes.apply(states[session], one, names, at, _registered(agents, session)):
                    if now - at < DAY_NS:  # what is older is no news
                        notices.append(_notice(told, session, one))
        if notices:
            Log(self.home, durable=self.live.config.get("events.durability") == "disk").append(notices)
        taken = {agent.session for agent in agents}
        for state in states.values():
            sessions.save(self.home, state, taken)

    def _load(self, session: str | None) -> State:
        try:
            return sessions.load(self.home, session) or sessions.blank(session)
        except DataError as error:
            self._say(f"WARNING {error}: it is set aside as .damaged, and begun anew")
            sessions.set_aside(self.home, session)
            return sessions.blank(session)

    # the cursor

    def _load_place(self) -> follow.Place:
        try:
            return follow.load_place(self._cursor) or follow.Place()
        except DataError as error:
            self._say(f"WARNING {error}: the log is read again, and what counted before does not count twice")
            return follow.Place()

    def _save_place(self) -> None:
        follow.save_place(self._cursor, self._follower.place)
        self._saved_at = clock.boot_ns()

    def _read_again(self) -> None:
        """Go back to where the cursor on file stands."""
        self._follower.close()
        self._follower = follow.Follower(self.home, self._load_place())

    # waiting and telling

    def _sleep(self, wakeup: int, quiet: bool, due: int) -> None:
        """Until the log grows, the guest is due or a signal comes, a second at the longest; `quiet`: it fails now."""
        changed = -1 if quiet else self._watch.fileno()
        longest = 1.0 if quiet or changed >= 0 else 0.1
        ready = watch.readable(
            [wakeup, changed], min(longest, (due - clock.boot_ns()) / _SECOND_NS) if due else longest
        )
        if wakeup in ready:
            os.read(wakeup, 512)
        if changed in ready:
            self._watch.drain()

    def _stop(self, number: int, at: FrameType | None) -> None:
        self._stopping = True

    def _complain(self, problem: str) -> None:
        """Once a minute at most; it is tried again every second."""
        before, until = self._said
        if problem and (problem != before or clock.boot_ns() > until):
            self._said = (problem, clock.boot_ns() + _MINUTE_NS)
            self._say(f"ERROR {problem}")

    def _say(self, text: str) -> None:
        level, _, rest = text.partition(" ")
        print(f"{clock.stamp(clock.now_ns())} {level} state_updater: {rest}", file=sys.stderr, flush=True)


def _concerned(lines: list[bytes]) -> Iterator[dict[str, Any]]:
    """The events among the lines that change a state; most lines are never decoded."""
    for line in lines:
        if any(word in line for word in _WORDS):
            one = reader.decode(line)
            if one is not None and changes.concerns(one):
                yield one


def _registered(agents: list[Agent], session: str | None) -> set[str]:
    return {agent.name for agent in agents if agent.session == session}


def _notice(told: Notice, session: str | None, one: dict[str, Any]) -> dict[str, Any]:
    """The one notification of something severe. Its id follows from the event, so it is stored once."""
    who = f"{session or ''}:{told.agent}" if told.agent else session or "somebody"
    what = f"violation of {told.rule} ({told.severity})" if told.what == "violation" else "credit exhausted"
    named = f" (orc-read --id {event.short(one['id'])})" if event.is_id(one["id"]) else ""
    more = "\nThere is more; for an hour it is told by orc-state show alone." if told.last else ""
    made = event.build(
        f"{who}: {what}: {told.text}{named}{more}",
        daemon_source(changes.NAMED),
        category="compliance" if told.what == "violation" else "credit",
        priority=told.severity,
        groups=["management"],
        context={
            "agent": f"{session or ''}:{told.agent}" if told.agent else None,
            "session": session,
            "issue_type": told.what,
            "rule": told.rule,
            "severity": told.severity,
            "event": one["id"] if named else None,
        },
        tags=[told.what],
    )
    key = f"{one['id']} {one['timestamp']} {session}".encode("utf-8", "surrogatepass")
    return made | {"id": "state-updater." + hashlib.sha256(key).hexdigest()[:32].upper()}
