"""What the monitor goes by in the log: who asks how everybody is, and to whom anything was typed.

A request is an event of type `status_request`, or one with the tag `status-request`. Many of one sender that wait
together get one answer. Nothing is stored: requests of a time in which no monitor ran are answered if they are young.
"""

from __future__ import annotations

from typing import Any

from tmux_orchestrator.ground import clock
from tmux_orchestrator.watch.tail import Tail

PAST_S = 86_400.0
YOUNG_NS = 600 * 10**9
STATUS = "status"  # the source of answers, which are typed, unlike what the monitoring has to say of its own
_TYPE, _TAG = "status_request", "status-request"
_MOST = 20  # answers at one time


class Gleaned:
    """Registers itself with the log's tail."""

    def __init__(self, tail: Tail) -> None:
        self._requests: dict[str, dict[str, Any]] = {}  # by sender, the last one
        self._typed: dict[str, int] = {}  # agent's key -> when something was last typed to it, wall clock
        tail.register(self._ask, lambda line: b"status_request" in line or b"status-request" in line, YOUNG_NS / 1e9)
        tail.register(self._told, lambda line: b'"type": "delivery"' in line and b'"typed"' in line, PAST_S)

    def requests(self) -> list[dict[str, Any]]:
        """Those that nobody answered yet; they are handed out once."""
        return [self._requests.pop(name) for name in list(self._requests)[:_MOST]]

    @property
    def asked(self) -> bool:
        return bool(self._requests)

    def typed_since(self, key: str, ns: int) -> bool:
        """Was anything typed to the agent since then?"""
        return self._typed.get(key, 0) >= ns

    def _ask(self, event: dict[str, Any]) -> None:
        message, source, tags = event["message"], event["source"], event["metadata"].get("tags") or []
        if message.get("type") == _TYPE or (_TAG in tags and source.get("type") != "daemon"):
            self._requests[f"{source.get('session')}:{source.get('identifier')}"] = event
        elif message.get("type") == "status_update" and source.get("identifier") == STATUS:
            answered = event["metadata"].get("reply_to")
            self._requests = {name: one for name, one in self._requests.items() if one.get("id") != answered}

    def _told(self, event: dict[str, Any]) -> None:
        context = event["message"]["content"].get("context") or {}
        if context.get("outcome") == "typed" and isinstance(context.get("target"), str):
            try:
                self._typed[context["target"]] = clock.parse_stamp(event["timestamp"])
            except (ValueError, KeyError, TypeError):
                pass
