"""An event: what it must look like, and how it reads on one line.

The fields are told in docs/format.md. Here an event is a plain dict, because the log keeps every field that
somebody wrote, known or not. `check` judges what may be stored. `shape` judges what stands in a file, which anybody
may have written: what it lets through has the fields that readers rely on, in the types that they rely on.
"""

from __future__ import annotations

import os

from tmux_orchestrator.ground.errors import DataError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_LINE = 256 * 1024
MAX_HOPS = 1000
PRIORITIES = ("critical", "high", "normal", "low")
SOURCES = ("daemon", "agent", "pm", "human", "cron", "hook")
MARKS = {"critical": "🚨 CRITICAL", "high": "⚠️ HIGH PRIORITY", "normal": "📨", "low": "💤"}

# What the system records about deliveries and itself. Nothing ever delivers these, so no loop can feed itself.
RECORDS = frozenset(
    {"delivery", "rate_limited", "recovery", "ack", "clock_step", "day_start", "clear_queues", "cancel"}
)

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz")
_WORD = _LOWER | frozenset("0123456789_-")
_ID = _WORD | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ.:")
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


ID_LENGTH, MS_LENGTH = 26, 10  # characters of an id of ours; its first ones are the milliseconds


class Ids:
    """Makes ids that sort by time and are unique across hosts: 48 bits of milliseconds, 50 random bits, a counter.

    26 characters of Crockford's base 32, as a ULID; the last six (the short id) tell events of one writer apart.
    """

    def __init__(self) -> None:
        bits = int.from_bytes(os.urandom(10), "big")
        self._count = bits & (1 << 29) - 1
        self._ms = -1
        self._head = ""
        self._mine = _base32(bits >> 30, 10)

    def make(self, ns: int) -> str:
        ms = ns // 1_000_000
        self._count = n = self._count + 1 & (1 << 30) - 1
        if ms != self._ms or not n & 1023:
            self._ms, self._head = ms, _base32(ms, MS_LENGTH) + self._mine + _base32(n >> 10, 4)
        return self._head + _ALPHABET[n >> 5 & 31] + _ALPHABET[n & 31]


def _base32(number: int, digits: int) -> str:
    return "".join([_ALPHABET[number >> 5 * i & 31] for i in range(digits - 1, -1, -1)])


def short(event_id: str) -> str:
    """How an event is called in a pane and on a command line; `orc-read --id` and `orc-ack` take it."""
    return event_id[-6:]


def is_id(text: str) -> bool:
    """May a caller choose this as an id? 6 to 128 of letters, digits and `._:-`, the first a letter or digit."""
    return 6 <= len(text) <= 128 and text[0].isalnum() and _ID.issuperset(text)


def is_word(text: object) -> bool:
    """Is it a type's name: `[a-z][a-z0-9_-]*`, at most 64?"""
    return isinstance(text, str) and 0 < len(text) <= 64 and text[0] in _LOWER and _WORD.issuperset(text)


def build(body: str, source: dict[str, Any], **given: Any) -> dict[str, Any]:
    """An event without id, sequence and time, which the log stamps.

    `given`: targets, groups, type, category, priority, subject, context, requires_ack, tags, correlation_id,
    reply_to, supersedes, not_before, expires, hops, queue; what is absent takes its default.
    """
    return {
        "source": source,
        "to": {"groups": given.get("groups") or [], "targets": given.get("targets") or []},
        "message": {
            "type": given.get("type") or "notification",
            "category": given.get("category"),
            "priority": given.get("priority") or "normal",
            "content": {"subject": given.get("subject"), "body": body, "context": given.get("context") or {}},
        },
        "metadata": {
            "requires_ack": bool(given.get("requires_ack")),
            "tags": given.get("tags") or [],
            "correlation_id": given.get("correlation_id"),
            "reply_to": given.get("reply_to"),
            "supersedes": given.get("supersedes"),
            "not_before": given.get("not_before"),
            "expires": given.get("expires"),
            "hops": given.get("hops") or 0,
            **({"queue": True} if given.get("queue") else {}),
        },
    }


_COMMON = ("notification", "message", "delivery")
_SOURCE = ("identifier", "session", "host")
_METADATA = ("correlation_id", "reply_to", "supersedes", "not_before", "expires")


def shape(event: Any) -> dict[str, Any]:
    """The event with every part that readers use: absent ones filled in. Raises DataError for a wrong type."""
    if not isinstance(event, dict):
        raise DataError("an event is a JSON object: see docs/format.md")
    source, to, message, metadata = [_part(event, name) for name in ("source", "to", "message", "metadata")]
    content = _part(message, "content")
    _part(content, "context")
    for holder, name, default in (
        (source, "type", "human"),
        (message, "type", "notification"),
        (message, "priority", "normal"),
        (content, "body", ""),
        (metadata, "requires_ack", False),
        (metadata, "hops", 0),
    ):
        value = holder.get(name)
        if value is None:
            holder[name] = default
        elif type(value) is not type(default):
            raise DataError(f"{name} has the wrong type: see docs/format.md")
    for holder, names in ((source, _SOURCE), (message, ("category",)), (content, ("subject",)), (metadata, _METADATA)):
        for name in names:
            value = holder.get(name)
            if value is not None and type(value) is not str:
                raise DataError(f"{name} is not text: see docs/format.md")
    for holder, name in ((to, "groups"), (to, "targets"), (metadata, "tags")):
        values = holder.get(name)
        if values is None:
            holder[name] = []
        elif type(values) is not list or not all(type(value) is str for value in values):
            raise DataError(f"{name} is not a list of words: see docs/format.md")
    return event


def _part(holder: dict[str, Any], name: str) -> dict[str, Any]:
    value = holder.get(name)
    if value is None:
        value = holder[name] = {}
    if not isinstance(value, dict):
        raise DataError(f"{name} is not an object: see docs/format.md")
    return value


def check(event: Any) -> dict[str, Any]:
    """The event, with absent parts filled in. Raises DataError for what may not be stored."""
    try:
        if _is_sound(event):
            return event  # type: ignore[no-any-return]
    except (KeyError, TypeError, AttributeError):
        pass
    _judge(shape(event))
    return event  # type: ignore[no-any-return]


def _is_sound(event: Any) -> bool:
    """Nearly every event is, and this says so quickly; whatever else it says or raises, `_judge` knows better."""
    source, to, message, metadata = event["source"], event["to"], event["message"], event["metadata"]
    content = message["content"]
    words = to["groups"] + to["targets"] + metadata["tags"]
    lines = (source["identifier"], source["session"], source["host"], message["category"], content["subject"])
    more = (metadata["correlation_id"], metadata["reply_to"], metadata["supersedes"])
    times = (metadata["not_before"], metadata["expires"])
    text = "".join([line for line in lines + more + times if line is not None] + words)
    return (
        len(text) <= 128
        and text.isprintable()
        and "" not in words
        and source["type"] in SOURCES
        and (message["type"] in _COMMON or is_word(message["type"]))
        and message["priority"] in PRIORITIES
        and content["body"].strip() != ""
        and type(content["context"]) is dict
        and type(metadata["requires_ack"]) is bool
        and type(metadata["hops"]) is int
        and 0 <= metadata["hops"] <= MAX_HOPS
    )


def _judge(event: dict[str, Any]) -> None:
    """Say what is wrong with an event whose types are right."""
    source, to, message, metadata = event["source"], event["to"], event["message"], event["metadata"]
    content = message["content"]
    if source["type"] not in SOURCES:
        raise DataError(f"source.type is none of {', '.join(SOURCES)}: correct it")
    if not is_word(message["type"]):
        raise DataError("the type is not a lower-case word of a-z 0-9 _ -: correct it")
    if message["priority"] not in PRIORITIES:
        raise DataError(f"the priority is none of {', '.join(PRIORITIES)}: correct it")
    if not content["body"].strip():
        raise DataError("the message is empty: give it a body")
    if not 0 <= metadata["hops"] <= MAX_HOPS:
        raise DataError("hops is not a small whole number: correct it")
    _line(content, "subject", 1024)
    for holder, names in ((source, _SOURCE), (message, ("category",)), (metadata, _METADATA)):
        for name in names:
            _line(holder, name, 128)
    for holder, name in ((to, "groups"), (to, "targets"), (metadata, "tags")):
        _words(holder[name], name)


def _line(holder: dict[str, Any], name: str, limit: int) -> None:
    value = holder.get(name) or ""
    if len(value) > limit or not value.isprintable():
        raise DataError(
            f"{name} is not a line of at most {limit} characters: shorten it or take control characters out"
        )


def _words(values: list[str], name: str) -> None:
    if len(values) > 256:
        raise DataError(f"{name} is a list of more than 256: address a group, or take some out")
    for value in values:
        if not 0 < len(value) <= 128 or not value.isprintable():
            raise DataError(f"{name} holds something that is not a line of 1 to 128 characters: correct it")


def render(event: dict[str, Any]) -> str:
    """The event on one line: the priority first, then subject and body, then the tags."""
    message, tags = event["message"], event["metadata"]["tags"]
    subject, body = message["content"].get("subject"), message["content"]["body"]
    parts = [MARKS.get(message["priority"], "📨")]
    if subject:
        parts.append(f"{subject}:" if body else subject)
    if body:
        parts.append(body.replace("\n", " "))
    if tags:
        parts.append(f"Tags: [{', '.join(tags)}]")
    return " ".join(parts)
