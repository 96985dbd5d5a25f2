"""Stopping agents with all their processes: SIGTERM, a bounded time, SIGKILL; also those that left the session.

An agent has stopped when no process of its session and none with its mark is left. The whole of /proc is looked
through only when somebody's first process has ended or his time is over, and for all of them at once.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable

from tmux_orchestrator.ground import clock
from tmux_orchestrator.work.team import kin, processes, state, tidings
from tmux_orchestrator.work.team.member import Desk, Member
from tmux_orchestrator.work.team.panes import PaneMember

_PAUSE_NS = 50_000_000
_STUBBORN_NS = 10_000_000_000  # after SIGKILL


class Stopping:
    """Whoever is being stopped."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._members: list[Member] = []
        self._firsts: dict[Member, tuple[int, int]] = {}  # pid and start of its first process
        self._look_ns = 0

    def __bool__(self) -> bool:
        return bool(self._members)

    def __contains__(self, one: object) -> bool:
        return one in self._members

    def begin(self, members: Iterable[Member], force: bool, why: str) -> None:
        """Those that have no process have stopped at once."""
        members = [one for one in members if one not in self._members or force]
        if not members:
            return
        found = self._families(members)
        for one in members:
            family = processes.family_of(one.process, found, one.name)
            timeout = 0.0 if force else one.spec.stop_timeout
            one.deadline_ns = clock.boot_ns() + int(timeout * 1e9)
            if not family and one.kept.state != state.STARTING:
                one.stopped(why)
                continue
            one.count()
            one.kept.state = state.STOPPING
            self._members = [*[other for other in self._members if other is not one], one]
            self._firsts[one] = self._first(one)
            self._desk.say(f"DEBUG {one.name}: {'SIGKILL' if force else 'SIGTERM'} to {sorted(family)}")
            if isinstance(one, PaneMember) and not force:
                one.end()
            else:
                kin.send(family, signal.SIGKILL if force else signal.SIGTERM)
                kin.send(family, signal.SIGCONT)

    def turn(self) -> list[Member]:
        """Those that have stopped since."""
        now = clock.boot_ns()
        pending = [one for one in self._members if one.process is None or now >= one.deadline_ns]
        if not pending or now < self._look_ns:
            return []
        self._look_ns = now + _PAUSE_NS
        found, done = self._families(pending), []
        for one in pending:
            family = processes.family_of(one.process, found, one.name)
            if not family and one.process is None and not one.is_pending:
                done.append(one)
            elif now >= one.deadline_ns + _STUBBORN_NS:
                self._desk.events.append(tidings.stubborn(one.spec, sorted(family)))
                done.append(one)
            elif now >= one.deadline_ns:
                kin.send(family, signal.SIGKILL)
        self._members = [one for one in self._members if one not in done]
        for one in done:
            del self._firsts[one]
            one.stopped()
        return done

    def due_in_ns(self) -> int:
        """How long until `turn` may say more."""
        now = clock.boot_ns()
        if any(one.process is None for one in self._members):
            return max(0, self._look_ns - now)
        return max(0, max(min(one.deadline_ns for one in self._members), self._look_ns) - now)

    def _families(self, members: Iterable[Member]) -> dict[str, kin.Family]:
        leaders = {pid: (one.name, start) for one in members for pid, start in [self._first(one)] if pid}
        return kin.families(self._desk.team.id, leaders)

    def _first(self, one: Member) -> tuple[int, int]:
        """Its first process, which the others' session is called by, also when it has ended since."""
        return (one.kept.pid, one.kept.pid_start) if one.kept.pid else self._firsts.get(one, (0, 0))
