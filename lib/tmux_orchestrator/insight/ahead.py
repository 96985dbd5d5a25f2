"""What waits for a time that has not come, as the next broker would see it, whether one runs or not.

The broker's journal says what is owed of the log up to its place; beyond that the log itself says what was published,
and what was cancelled. Read only.
"""

from __future__ import annotations

from typing import Any

from tmux_orchestrator.delivery import routing, stored
from tmux_orchestrator.delivery.acks import cancelled_id
from tmux_orchestrator.eventlog import follow
from tmux_orchestrator.eventlog.event import RECORDS
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.insight import backlog

Event = dict[str, Any]

_NEEDLES = (b'"not_before": "', b'"cancel"', b'"clear_queues"')


def waiting(home: Home, now_ns: int) -> list[Event]:
    """The addressed events that are for later, the soonest first. Raises SystemFailure."""
    memory = backlog.journal(home)
    found: dict[str, Event] = {}
    for (event_id, _), owed in memory.owed.items():
        if event_id not in found and not owed.typed_ns:
            event = stored.read_again(home, event_id, owed)
            if event is not None:
                found[event_id] = event
    follower = follow.Follower(home, follow.place_from(memory.place) or backlog.yesterday(home))
    try:
        while lines := follower.read():
            for line in lines:
                if any(needle in line for needle in _NEEDLES):
                    _take(found, stored.checked(line))
    finally:
        follower.close()
    later = [(at, event) for event in found.values() if (at := due_ns(event)) > now_ns]
    return [event for _, event in sorted(later, key=lambda one: one[0])]


def due_ns(event: Event) -> int:
    """When it may be typed; 0 for at once."""
    return routing.times(event)[1] or 0


def _take(found: dict[str, Event], event: Event | None) -> None:
    """One event beyond the broker's place."""
    if event is None:
        return
    kind = event["message"]["type"]
    if kind == "clear_queues":
        found.clear()
    elif kind == "cancel":
        found.pop(cancelled_id(event) or "", None)
    elif kind not in RECORDS and (event["to"]["targets"] or event["to"]["groups"]):
        found[event["id"]] = event
