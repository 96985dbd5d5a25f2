"""What is owed to whom, and how each of it ended: the journal and the day file, always told together.

An end reaches the log before the journal forgets what was owed; a crash in between tells it twice, never not at all.
"""

from __future__ import annotations

from typing import Any

from tmux_orchestrator.delivery.journal import Journal, Owed
from tmux_orchestrator.delivery.outcomes import Outcomes
from tmux_orchestrator.delivery.waiting import End, Item
from tmux_orchestrator.eventlog.event import short
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.paths import Home

Event = dict[str, Any]
_DAY_S = 86_400
Place = tuple[str, int, int]  # where an event's line stands: day, offset, length


class Ledger:
    """Notes what is owed, and tells every end. `agents` are the keys of those who can be told of a failure."""

    def __init__(self, home: Home, journal: Journal, outcomes: Outcomes) -> None:
        self.home = home
        self.journal = journal
        self.outcomes = outcomes
        self.agents: set[str] = set()
        self._targets: dict[str, list[int]] = {}  # event id -> [how many targets it has, how many are open]

    def expect(self, event_id: str, targets: int) -> None:
        """An event has so many targets; each `record` of it says so."""
        if targets:
            self._targets[event_id] = [targets, targets]

    def owe(self, event_id: str, target: str, place: Place) -> None:
        self.journal.note("add", event_id, target, *place)

    def owed(self, event_id: str, target: str) -> Owed | None:
        return self.journal.memory.owed.get((event_id, target))

    def record(self, event_id: str, target: str, outcome: str, reason: str = "", **more: Any) -> None:
        """Say in the day file where one delivery stands."""
        total = self._targets.get(event_id, (1, 1))[0]
        self.outcomes.record(event_id, target, outcome, reason, **more, targets=total)

    def close(self, event_id: str, target: str) -> None:
        """Nothing more is owed; what became of it has been recorded."""
        if self.owed(event_id, target) is not None:
            self.journal.note("end", event_id, target)
        count = self._targets.get(event_id)
        if count is not None:
            count[1] -= 1
            if count[1] <= 0:
                del self._targets[event_id]

    def end(self, target: str, item: Item, outcome: str, reason: str = "", **more: Any) -> None:
        """Record an end, and close."""
        self.record(item.id, target, outcome, reason, **asked(item.event), **more, final=True)
        self.close(item.id, target)
        if outcome in ("expired", "dead"):
            self.hear(item.event, f"{short(item.id)} to {target}: {outcome} {reason}".strip())

    def ended(self, target: str, ends: list[End]) -> None:
        """The same for what an outbox ended."""
        for item, outcome, reason in ends:
            self.end(target, item, outcome, reason)

    def once(self, event_id: str, target: str, reason: str) -> bool:
        """Is this the first time that this is said of this delivery? It is remembered over restarts."""
        owed = self.owed(event_id, target)
        if owed is None or reason in owed.told:
            return False
        self.journal.note("told", event_id, target, reason, clock.now_ns())
        return True

    def hear(self, event: Event, line: str) -> None:
        """Let the sender know, if it is an agent for sure: everybody else reads the log."""
        source = event["source"]
        sender = f"{source.get('session')}:{source.get('identifier')}"
        if sender in self.agents and source.get("verified") is True:
            self.outcomes.failed(sender, line)


def asked(event: Event) -> dict[str, Any]:
    """What a record says of an event that binds whom it reaches to check in: within what time, and who asked for it."""
    content, source = event["message"]["content"], event["source"]
    seconds = content["context"].get("check_in_s")
    if type(seconds) not in (int, float) or not 0 < seconds <= _DAY_S:
        return {}
    by = content["context"].get("scheduled_by") or source.get("identifier") or source["type"]
    return {"check_in_s": seconds, "asked_by": str(by)[:128]}
