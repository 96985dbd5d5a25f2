"""Acknowledgments: what one looks like, and which event one is of.

An acknowledgment is an `ack` event, or an event tagged `acknowledgment` whose body begins with `PM ACK: ` and an id.
Its source says who gave it, and from which session.
"""

from __future__ import annotations

from tmux_orchestrator.eventlog import event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TAG = "acknowledgment"
_FORM = "PM ACK: "


def build(event_id: str, note: str, source: dict[str, Any]) -> dict[str, Any]:
    """The event that says that `source` acknowledges the event with this id."""
    return event.build(
        f"ACK {event_id}" + (f" - {note}" if note else ""),
        source,
        type="ack",
        tags=[TAG],
        context={"event": event_id, "note": note},
        reply_to=event_id,
    )


def acknowledged_id(given: dict[str, Any]) -> str | None:
    """The id (or short id) that an event acknowledges, if it is an acknowledgment."""
    message = given["message"]
    content = message["content"]
    if message["type"] == "ack":
        found = (content.get("context") or {}).get("event")
        return found if isinstance(found, str) else None
    body = content.get("body") or ""
    tags = (given.get("metadata") or {}).get("tags") or ()
    if TAG not in tags or not body.startswith(_FORM):
        return None
    return str(body[len(_FORM) :].split(" ", 1)[0].strip(" ,.;:#-")) or None
