"""The state of each session: registry/sessions/SESSION.json, for whoever wants to know without reading the log.

Only the state updater writes here, and replaces a file as a whole, so a reader sees the state before an event or
after it. What is read is fitted to the shape below: a part of the wrong type counts as not there. A file that cannot
be read at all is set aside as `.damaged` and begun anew; what it held is still in the log.
Everything is bounded: texts, agents, files. The shape is told in docs/state.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from tmux_orchestrator.ground import fastjson, files
from tmux_orchestrator.ground.errors import DataError
from tmux_orchestrator.ground.paths import Home

State = dict[str, Any]

MOST_SESSIONS = 256  # files of sessions in which nobody is registered; beyond, the oldest makes room
MOST_AGENTS = 64
LAST_EVENTS = 20
MOST_SENT = 32  # notices of a session within an hour
TEXT = 120  # characters of what somebody wrote
NAME = 64
_NOBODYS = "@"  # the file of what names no session; no encoded name has this character
_LIMIT = 1 << 20  # more than the bounds above allow, each character of all texts escaped

# None stands for a text or null, a tuple for a record or null.
_COMPLETED = {"time": None, "task": None, "text": None, "event": None}
_VIOLATION = {"time": None, "rule": None, "severity": None, "commit": None, "text": None, "event": None}
_CREDIT = {"exhausted": False, "since": None, "until": None, "used_percent": 0}
_EVENT = {"time": None, "type": None, "agent": None, "text": None, "event": None}
_AGENT: dict[str, Any] = {
    "status": "unknown",
    "since": None,
    "current_task": None,
    "completed": 0,
    "last_completed": (_COMPLETED,),
    "violations": 0,
    "last_violation": (_VIOLATION,),
    "credit": _CREDIT,
    "recoveries": 0,
    "updated": None,
}
COUNTS = ("violation", "credit_exhausted", "task_completed", "status_update", "alert", "recovery", "notification")
_STATE: dict[str, Any] = {
    "session": None,
    "updated": None,
    "agents": {},
    "credit": _CREDIT,  # of the session as a whole: of events that name no agent
    "counts": dict.fromkeys((*COUNTS, "sent_on", "not_sent_on", "forgotten_agents"), 0),
    "last_events": [],
    "sent_on": {},  # what management was told within the hour: "agent rule" -> when
    "applied": {"seq": 0, "id": None, "timestamp": None},
}
FIELDS = tuple(_STATE)


def path(home: Home, session: str | None) -> str:
    return f"{home.registry}/sessions/{_NOBODYS if session is None else files.encoded(session)}.json"


def blank(session: str | None) -> State:
    return _fitted(_STATE, {"session": session})  # type: ignore[no-any-return]


def blank_agent() -> dict[str, Any]:
    return _fitted(_AGENT, None)  # type: ignore[no-any-return]


def cut(value: object, most: int = TEXT) -> str | None:
    """A text, as much of it as is kept; None for anything else, and for an empty one."""
    if not isinstance(value, str) or not value.strip():
        return None
    value = value.strip()
    return value if len(value) <= most else value[: most - 1] + "…"


def load(home: Home, session: str | None) -> State | None:
    """None where there is no file. Raises DataError for a damaged one."""
    found = _read(path(home, session))
    return found if found is None else found | {"session": session}


def every(home: Home) -> Iterator[State | str]:
    """Each state, by the file's name; for a damaged file what is wrong with it."""
    for name in _names(home):
        try:
            found = _read(f"{home.registry}/sessions/{name}")
        except DataError as error:
            yield str(error)
            continue
        if found is not None:
            yield found


def save(home: Home, state: State, registered: set[str]) -> None:
    """Put the state in place of the old one; a new file may need another to make room. Raises SystemFailure."""
    file = path(home, state["session"])
    if not os.path.lexists(file):
        _make_room(home, {os.path.basename(path(home, one)) for one in registered})
    files.replace(file, fastjson.dumps(state).encode("ascii") + b"\n")


def set_aside(home: Home, session: str | None) -> None:
    file = path(home, session)
    os.replace(file, file.removesuffix(".json") + ".damaged")


def _make_room(home: Home, keep: set[str]) -> None:
    folder = f"{home.registry}/sessions/"
    others = [folder + name for name in _names(home) if name not in keep]
    if len(others) >= MOST_SESSIONS:
        os.unlink(min(others, key=lambda file: os.lstat(file).st_mtime_ns))


def _names(home: Home) -> list[str]:
    try:
        return sorted(name for name in os.listdir(home.registry + "/sessions") if name.endswith(".json"))
    except FileNotFoundError:
        return []


def _read(file: str) -> State | None:
    data = files.read(file, _LIMIT)
    if data is None:
        return None
    try:
        found = fastjson.loads(data)
        state: State = _fitted(_STATE, found) | {"agents": {}, "last_events": [], "sent_on": {}}
        state["agents"] = {name: _fitted(_AGENT, one) for name, one in found["agents"].items()}
        state["last_events"] = [_fitted(_EVENT, one) for one in found["last_events"]][-LAST_EVENTS:]
        state["sent_on"] = {key: when for key, when in found["sent_on"].items() if isinstance(when, str)}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file} is damaged ({error}): move it away") from None
    return state


def _fitted(shape: Any, found: Any) -> Any:
    """What was found as far as it has the shape, and the shape's own values for the rest."""
    if isinstance(shape, tuple):
        return _fitted(shape[0], found) if isinstance(found, dict) else None
    if isinstance(shape, dict):
        given = found if isinstance(found, dict) else {}
        return {name: _fitted(part, given.get(name)) for name, part in shape.items()}
    if isinstance(shape, list):
        return []
    if shape is None:
        return found if isinstance(found, str) else None
    return found if type(found) is type(shape) else shape
