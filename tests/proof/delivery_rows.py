"""What the proofs of the delivery share: their rows, many events at once, and reading what became of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from support_orc import System

Row = tuple[str, int, str]
SEED = 20261120
NO_BOUND = "monitoring: {max_messages_per_minute: 0}\ndelivery: {queue_size: 100000, pair_per_minute: 0}\n"
ENDS = ("confirmed", "acked", "digested", "superseded", "expired", "dead")


def row(name: str, count: int, problem: str, told: str = "") -> Row:
    """`problem` is what went wrong, "" if nothing did; `told` what else is worth saying."""
    return name, count, f"failed: {problem}" if problem else f"ok{': ' * bool(told)}{told}"


def an_event(target: str, body: str, **fields: Any) -> dict[str, Any]:
    """An event for `publish_all`: `priority`, and what else goes into the metadata."""
    message = {"priority": fields.pop("priority", "normal"), "content": {"body": body}}
    return {"to": {"targets": [target]}, "message": message, "metadata": fields}


def publish_all(system: System, events: Iterable[dict[str, Any]]) -> list[str]:
    """Publish them with one process, in this order; their ids."""
    lines = "".join(json.dumps(event) + "\n" for event in events)
    return system.run("orc-publish", "--jsonl", stdin=lines.encode()).split("\n")


def outcomes(system: System) -> dict[str, list[dict[str, Any]]]:
    """What was recorded of each event, read once."""
    found: dict[str, list[dict[str, Any]]] = {}
    for context in system.outcomes():
        found.setdefault(context["event"], []).append(context)
    return found


def said(contexts: Iterable[dict[str, Any]]) -> list[str]:
    return [c["outcome"] + (f": {c['reason']}" if c["reason"] else "") for c in contexts]


def is_over(contexts: Iterable[dict[str, Any]]) -> bool:
    """Did it reach its end?"""
    return any(context.get("final") for context in contexts)
