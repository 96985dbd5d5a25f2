"""What the log says of deliveries, where the journal does not know it.

A broker that dies between the two has told an end that its journal still owes; and a journal may be lost, or damaged.
What the log says was delivered is not typed again. Without a whole journal the log is asked from yesterday on.
"""

from __future__ import annotations

from typing import Any

from tmux_orchestrator.delivery.acks import cancelled_id
from tmux_orchestrator.delivery.bucket import WINDOW_NS
from tmux_orchestrator.delivery.journal import Journal
from tmux_orchestrator.delivery.lane import CRITICAL, LINE, NORMAL
from tmux_orchestrator.eventlog import follow, reader
from tmux_orchestrator.eventlog.days import DAY_NS
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.paths import Home

Key = tuple[str, str]


class History:
    """`place`: where to read on. `delivered`: (event id, target); of these `unended` have no end in the log, and no
    journal knows of them any more. `cancelled`: id -> why, of what is cancelled beyond `place`. `lately`: (target,
    kind) of each frame that the windows still count, when only the log remembers it."""

    def __init__(self, home: Home, journal: Journal) -> None:
        self.delivered: set[Key] = set()
        self.unended: set[Key] = set()
        self.lately: list[Key] = []
        self.cancelled: dict[str, str] = {}
        self._now = clock.now_ns()
        place = follow.place_from(journal.memory.place)
        self._lost = place is None or journal.damaged > 0
        self.place = follow.since(home, self._now - DAY_NS) if place is None or self._lost else place
        ahead = follow.Follower(home, self.place.copy())
        while lines := ahead.read():
            for line in lines:
                known = b'"delivery"' in line or b'"cancel"' in line
                if known and (event := reader.decode(line)) is not None:
                    self._take(event)
        ahead.close()

    def _take(self, event: dict[str, Any]) -> None:
        """One event; a record of what was typed or has ended counts."""
        context = event["message"]["content"]["context"]
        cancelled = cancelled_id(event)
        if cancelled is not None:
            self.cancelled[cancelled] = f"cancelled by {event['source'].get('identifier')}"
        if event["message"]["type"] != "delivery":
            return
        outcome, target = context.get("outcome"), str(context.get("target"))
        if not context.get("final") and (outcome in ("held", "failed") or not self._lost):
            return
        key = (str(context.get("event")), target)
        self.delivered.add(key)
        self.unended -= {key}
        if not context.get("final"):
            self.unended.add(key)
        if self._lost and outcome in ("typed", "digested") and self._is_late(event["timestamp"]):
            kind = CRITICAL if context.get("priority") == "critical" else NORMAL
            self.lately.append((target, kind if outcome == "typed" else LINE))

    def _is_late(self, stamp: str) -> bool:
        try:
            return self._now - clock.parse_stamp(stamp) < WINDOW_NS
        except ValueError:
            return False
