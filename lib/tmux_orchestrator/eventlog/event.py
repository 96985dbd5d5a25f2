"""An event: what it must look like, and how it reads on one line.

The shape is told in docs/format.md. Here an event is a plain dict, because the log keeps every field that
somebody wrote, known or not. `check` is the only judge: what it lets through can be stored, routed and shown.
"""

from __future__ import annotations

import os

from tmux_orchestrator.ground.errors import DataError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_LINE = 256 * 1024
PRIORITIES = ("critical", "high", "normal", "low")
SOURCES = ("daemon", "agent", "pm", "human", "cron", "hook")
MARKS = {"critical": "🚨 CRITICAL", "high": "⚠️ HIGH PRIORITY", "normal": "📨", "low": "💤"}

# What the system records about deliveries and itself. Nothing ever delivers these, so no loop can feed itself.
RECORDS = frozenset({"delivery", "rate_limited", "recovery", "ack", "clock_step", "day_start", "clear_queues"})

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz")
_WORD = _LOWER | frozenset("0123456789_-")
_ID = _WORD | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ.:")
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]


class Ids:
    """Makes ids that sort by time and are unique across hosts: 48 bits of milliseconds, 50 random bits, a counter.

    26 characters of Crockford's base 32, as a ULID; the last six (the short id) tell events of one writer apart.
    """

    def __init__(self) -> None:
        bits = int.from_bytes(os.urandom(10), "big")
        self._count = bits & (1 << 29) - 1
        self._ms = -1
        self._head = ""
        self._mine = _base32(bits >> 30, 5)

    def make(self, ns: int) -> str:
        ms = ns // 1_000_000
        if ms != self._ms:
            self._ms, self._head = ms, _base32(ms, 5) + self._mine
        self._count = n = self._count + 1 & (1 << 30) - 1
        return self._head + _PAIRS[n >> 20] + _PAIRS[n >> 10 & 1023] + _PAIRS[n & 1023]


def _base32(number: int, pairs: int) -> str:
    return "".join(_PAIRS[number >> 10 * i & 1023] for i in range(pairs - 1, -1, -1))


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


def _object(holder: dict[str, Any], name: str) -> dict[str, Any]:
    value = holder.setdefault(name, {})
    if not isinstance(value, dict):
        raise DataError(f"{name} is not an object: see docs/format.md")
    return value


def _text(holder: dict[str, Any], name: str, limit: int) -> None:
    value = holder.get(name)
    if value is None:
        return
    if not isinstance(value, str) or len(value) > limit or not value.isprintable():
        raise DataError(
            f"{name} is not a line of at most {limit} characters: shorten it or take control characters out"
        )


def _texts(holder: dict[str, Any], name: str) -> None:
    values = holder.setdefault(name, [])
    if not isinstance(values, list) or len(values) > 256:
        raise DataError(f"{name} is not a list of at most 256 words: see docs/format.md")
    for value in values:
        if not isinstance(value, str) or not 0 < len(value) <= 128 or not value.isprintable():
            raise DataError(f"{name} holds something that is not a line of 1 to 128 characters: correct it")


def check(event: dict[str, Any]) -> dict[str, Any]:
    """The event, with the fields that everybody reads filled in. Raises DataError for what cannot be an event."""
    if not isinstance(event, dict):
        raise DataError("an event is a JSON object: see docs/format.md")
    source, to = _object(event, "source"), _object(event, "to")
    message, metadata = _object(event, "message"), _object(event, "metadata")
    content = _object(message, "content")
    if source.setdefault("type", "human") not in SOURCES:
        raise DataError(f"source.type is none of {', '.join(SOURCES)}: correct it")
    for name in ("identifier", "session", "host"):
        _text(source, name, 128)
    _texts(to, "groups")
    _texts(to, "targets")
    if not is_word(message.setdefault("type", "notification")):
        raise DataError("the type is not a lower-case word of a-z 0-9 _ -: correct it")
    if message.setdefault("priority", "normal") not in PRIORITIES:
        raise DataError(f"the priority is none of {', '.join(PRIORITIES)}: correct it")
    _text(message, "category", 128)
    _text(content, "subject", 1024)
    _object(content, "context")
    if not isinstance(content.get("body"), str) or not content["body"].strip():
        raise DataError("the message is empty: give it a body")
    _texts(metadata, "tags")
    for name in ("correlation_id", "reply_to", "supersedes", "not_before", "expires"):
        _text(metadata, name, 128)
    if not isinstance(metadata.setdefault("requires_ack", False), bool):
        raise DataError("requires_ack is neither true nor false: correct it")
    hops = metadata.setdefault("hops", 0)
    if not isinstance(hops, int) or isinstance(hops, bool) or not 0 <= hops <= 1000:
        raise DataError("hops is not a small whole number: correct it")
    return event


def render(event: dict[str, Any]) -> str:
    """The event on one line: the priority first, then subject and body, then the tags."""
    message = event.get("message") or {}
    content = message.get("content") or {}
    parts = [MARKS.get(str(message.get("priority")), "📨")]
    subject, body = content.get("subject"), content.get("body")
    if subject:
        parts.append(f"{subject}:" if body else str(subject))
    if body:
        parts.append(" ".join(str(body).split("\n")))
    tags = (event.get("metadata") or {}).get("tags")
    if tags:
        parts.append(f"Tags: [{', '.join(str(tag) for tag in tags)}]")
    return " ".join(parts)
