"""What the proofs of the delivery share: their rows, many events at once, and reading what became of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from support_orc import Agent, System
from support_tmux import wait_until
from tmux_orchestrator.eventlog import reader

Row = tuple[str, int, str]
AgentT = TypeVar("AgentT", bound=Agent)
SEED = int(os.environ.get("PROOF_SEED", "20261120"))
NO_BOUND = "monitoring: {max_messages_per_minute: 0}\ndelivery: {queue_size: 100000, pair_per_minute: 0}\n"
ENDS = ("confirmed", "acked", "digested", "superseded", "expired", "dead")


def row(name: str, count: int, problem: str, told: str = "") -> Row:
    """`problem` is what went wrong, "" if nothing did; `told` what else is worth saying."""
    return name, count, f"failed: {problem}" if problem else f"ok{': ' * bool(told)}{told}"


def proved(*proofs: Callable[[], Row | list[Row]]) -> list[Row]:
    """The rows of all; one that gives up waiting has failed, and the others go on."""
    rows: list[Row] = []
    for proof in proofs:
        try:
            found = proof()
        except AssertionError as error:
            found = row(getattr(proof, "func", proof).__name__.replace("_", " "), 0, str(error) or "an assertion")
        rows += found if isinstance(found, list) else [found]
    return rows


def an_event(target: str, body: str, **fields: Any) -> dict[str, Any]:
    """An event for `publish_all`: `priority`, and what else goes into the metadata."""
    message = {"priority": fields.pop("priority", "normal"), "content": {"body": body}}
    return {"to": {"targets": [target]}, "message": message, "metadata": fields}


def publish_all(system: System, events: Iterable[dict[str, Any]]) -> list[str]:
    """Publish them with one process, in this order; their ids."""
    lines = "".join(json.dumps(event) + "\n" for event in events)
    return system.run("orc-publish", "--jsonl", stdin=lines.encode()).split("\n")


def outcomes(system: System) -> dict[str, list[dict[str, Any]]]:
    """What was recorded of each event, read once; damaged lines are stepped over."""
    found: dict[str, list[dict[str, Any]]] = {}
    folder = system.root + "/logs/events"
    for name in sorted(os.listdir(folder)):
        with open(f"{folder}/{name}", "rb") as file:
            lines = [
                line for line in file.read().split(b"\n")[:-1] if b'"delivery"' in line or b'"rate_limited"' in line
            ]
        for event in filter(None, map(reader.decode, lines)):
            context = event["message"]["content"].get("context")
            if event["source"].get("identifier") == "broker" and isinstance(context, dict):
                found.setdefault(context["event"], []).append(context)
    return found


def wait_over(system: System, *ids: str, seconds: float = 30.0) -> None:
    """Until each has its end in the day file."""
    wait_until(lambda: all(is_over(outcomes(system).get(one, [])) for one in ids), seconds, "the ends")


def all_typed(system: System, agent: AgentT) -> AgentT:
    """The agent, once nothing that was published for it can come any more: it has read a last message, by the same
    sender, behind all of them."""
    wait_over(system, system.publish("-t", agent.name, "the end."))
    return agent.settled()


def wait_screen(system: System, pane: str, words: str) -> None:
    wait_until(lambda: words in system.server.screen(pane), what=f"{words!r} in {pane}")


def said(contexts: Iterable[dict[str, Any]]) -> list[str]:
    return [c["outcome"] + (f": {c['reason']}" if c["reason"] else "") for c in contexts]


def is_over(contexts: Iterable[dict[str, Any]]) -> bool:
    """Did it reach its end?"""
    return any(context.get("final") for context in contexts)
