"""What stands below an entry of `rules` and of `flows.rules`, what each of them needs, and the flows to begin with."""

from __future__ import annotations

from typing import Any

from tmux_orchestrator.ground.config_kinds import Key

PRIORITIES = ("critical", "high", "normal", "low")
_WORDS = "one text or a list"
# Conditions are lists of alternatives, and all of them have to hold.
_MATCH: dict[str, Key] = {
    "type": Key("type", "texts_or_one", [], _WORDS),
    "category": Key("category", "texts_or_one", [], _WORDS),
    "tags": Key("tags", "texts_or_one", [], _WORDS),
    "priority": Key("priority", "choices", [], _WORDS, choices=PRIORITIES),
    "source": Key("source", "texts_or_one", [], _WORDS),
    "text": Key("text", "regex", "", "a pattern"),
}
RULE: dict[str, Any] = {
    "match": _MATCH,
    "route": Key("route", "targets", [], "targets"),
    "priority": Key("priority", "choice", "", "the new priority", choices=PRIORITIES),
    "action": Key("action", "choice", "type", "what happens", choices=("type", "digest", "hold", "drop")),
}
FLOW: dict[str, Any] = {
    "match": _MATCH | {"addressed": Key("addressed", "bool", False, "to somebody, or to nobody")},
    "task": {
        "recipient": Key("recipient", "name", "", "whose task it is"),
        "type": Key("type", "kind", "", "its type; else the event's"),
        "priority": Key("priority", "choice", "event", "how urgent", choices=("event", "severity", *PRIORITIES)),
    },
}
SHAPES = {"rules": RULE, "flows.rules": FLOW}


def _flow(kind: str, recipient: str, priority: str = "", **match: Any) -> dict[str, Any]:
    more = {"priority": priority} if priority else {}
    return {"match": {"type": [kind], **match}, "task": {"recipient": recipient, **more}}


FLOWS = (
    _flow("spec_created", "code_developer"),
    _flow("implementation_complete", "project_manager"),
    _flow("bug_report", "project_manager", priority="severity"),
    _flow("spec_request", "architect"),
    _flow("demo_request", "assistant"),
    _flow("question", "assistant", addressed=False),
)


def lack(path: str, rule: dict[str, Any]) -> str:
    """What a rule of this list lacks, as the end of a sentence that begins with the rule; "" for a whole one."""
    if "match" not in rule:
        return "has no match: say which messages it is for"
    if path == "rules":
        return "does nothing: give it a route, a priority or an action" if len(rule) == 1 else ""
    if not rule["match"].get("type"):
        return "matches no type: say which events it is for"
    if "task" in rule and not rule["task"].get("recipient"):
        return "names nobody: give its task a recipient, or leave the task out, so that there is none"
    return ""
