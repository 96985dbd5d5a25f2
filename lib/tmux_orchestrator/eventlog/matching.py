"""The `match` of a rule, whatever the rule does: alternatives per condition, and all conditions have to hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from tmux_orchestrator.eventlog.event import render


class Match:
    """As the compiled configuration has it; without a condition it is every event."""

    def __init__(self, match: Mapping[str, Any]) -> None:
        """Raises re.error for a bad pattern."""
        self._wanted = {name: frozenset(match[name]) for name in _FIELDS if match.get(name)}
        self._text = re.compile(match["text"]) if match.get("text") else None
        self.types: frozenset[str] = self._wanted.get("type", frozenset())

    def matches(self, event: Mapping[str, Any]) -> bool:
        for name, wanted in self._wanted.items():
            if wanted.isdisjoint(_FIELDS[name](event)):
                return False
        return self._text is None or self._text.search(render(dict(event))) is not None


def _names(event: Mapping[str, Any]) -> list[str]:
    """What a rule may call a sender: its name, session:name, or its type."""
    source = event["source"]
    name = source.get("identifier") or ""
    return [name, f"{source.get('session') or ''}:{name}", source.get("type") or ""]


_FIELDS: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "type": lambda event: [event["message"]["type"]],
    "category": lambda event: [event["message"].get("category") or ""],
    "tags": lambda event: event["metadata"].get("tags") or [],
    "priority": lambda event: [event["message"]["priority"]],
    "source": _names,
}
