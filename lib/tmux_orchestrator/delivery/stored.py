"""Events as they stand in the log, where anybody may have written them: judged, and read again after a restart."""

from __future__ import annotations

import os
from typing import Any

from tmux_orchestrator.delivery.journal import Owed
from tmux_orchestrator.eventlog import reader
from tmux_orchestrator.eventlog.daylog import day_file, parse_stamp
from tmux_orchestrator.eventlog.event import MAX_LINE, check, is_id
from tmux_orchestrator.ground.errors import OrcError
from tmux_orchestrator.ground.paths import Home

Event = dict[str, Any]


def checked(line: bytes) -> Event | None:
    """The event of a line, in the shape that everybody relies on; None for damage, and for what is no event."""
    event = reader.decode(line) if len(line) <= MAX_LINE else None
    try:
        if event is None or type(event["seq"]) is not int or not is_id(event["id"]):
            return None
        parse_stamp(event["timestamp"])
        return check(event)
    except (OrcError, AttributeError, LookupError, TypeError, ValueError):
        return None


def read_again(home: Home, event_id: str, owed: Owed) -> Event | None:
    """The event that is owed, from where it stood, or from wherever it stands now; None when it is gone."""
    try:
        with open(day_file(home, owed.day), "rb") as file:
            event = checked(os.pread(file.fileno(), owed.length, owed.offset))
    except OSError:
        event = None
    if event is None or event["id"] != event_id:  # the file was replaced
        query = reader.Query()
        query.ids = [event_id]
        lines = (line for line, found in reader.search(home, query) if found["id"] == event_id)
        event = next((found for line in lines if (found := checked(line)) is not None), None)
    return event
