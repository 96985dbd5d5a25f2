"""When an agent that runs and ends is to be started: by the clock, after an interval, by events.

An occasion of the schedule that passed while the supervisor was away comes once when it is back. Occasions are kept
by the wall clock's time of the last one, so a clock that is set back a little repeats none; one that was set back by
more than a day had been wrong before, and begins anew. Events are read from the log behind a kept place, so that none
is missed; of those that come while the agent runs, a bounded number waits its turn.
"""

from __future__ import annotations

from collections.abc import Iterable

from tmux_orchestrator.eventlog.follow import Follower, end_of_log, place_from
from tmux_orchestrator.eventlog.reader import decode
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.ground.times import SECOND
from tmux_orchestrator.ground.timetable import Cron, zone
from tmux_orchestrator.work.team.roster import Spec
from tmux_orchestrator.work.team.state import Kept, is_event
from tmux_orchestrator.work.team.tidings import DAEMON

MOST = 100  # events that wait for one agent
NEVER = 1 << 63
_DAY_NS = 86_400 * SECOND


class Clock:
    """The schedule of one agent."""

    def __init__(self, spec: Spec, timezone: str) -> None:
        self._rule = Cron(spec.schedule, zone(timezone)) if spec.schedule else None
        self._next: tuple[int, int] | None = None  # fired -> what comes after

    def due_ns(self, kept: Kept, now_wall_ns: int) -> int:
        """When its next occasion is, by the wall clock; it may have passed."""
        if self._rule is None:
            return NEVER
        if not 0 < kept.fired_wall_ns <= now_wall_ns + _DAY_NS:
            kept.fired_wall_ns = now_wall_ns
        if self._next is None or self._next[0] != kept.fired_wall_ns:
            self._next = kept.fired_wall_ns, self._rule.after(kept.fired_wall_ns) or NEVER
        return self._next[1]

    def take(self, kept: Kept, now_wall_ns: int) -> bool:
        """Has an occasion come? Those that passed since the last one are one."""
        due = self.due_ns(kept, now_wall_ns)
        if due > now_wall_ns:
            return False
        assert self._rule is not None
        recent = self._rule.last(due - 1, now_wall_ns) if now_wall_ns - due < _DAY_NS else None
        kept.fired_wall_ns = recent or now_wall_ns
        return True


class Triggers:
    """Reads the log for events that start somebody."""

    def __init__(self, home: Home, place: list[object]) -> None:
        self._follower = Follower(home, place_from(place) or end_of_log(home))

    @property
    def place(self) -> list[str | int]:
        return self._follower.place.to_list()

    def read(self, agents: Iterable[tuple[Spec, Kept]]) -> list[str]:
        """Note what has come; the names of agents whose events are too many."""
        wanting = [(spec, kept) for spec, kept in agents if spec.triggers]
        full: dict[str, None] = {}
        for line in self._follower.read():
            one = decode(line)
            if one is None or (one["source"]["type"] == "daemon" and one["source"].get("identifier") == DAEMON):
                continue
            for spec, kept in wanting:
                event = [one["id"], one["message"]["type"]]
                if event[1] not in spec.triggers or not is_event(event):
                    continue
                if len(kept.waiting) < MOST:
                    kept.waiting.append(event)
                else:
                    full[spec.name] = None
        return list(full)

    def close(self) -> None:
        self._follower.close()
