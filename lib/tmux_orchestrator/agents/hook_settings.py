"""Our lines in the files of others: merged into settings and texts, and taken out again. Pure: texts in, texts out.

Whatever somebody else wrote stays, in its order: our hooks come behind theirs, so that the place of theirs, which
Codex's trust hangs on, is what it was. Ours are known by their command (orc-hook), or stand between two marks.
Merging twice is merging once, and taking out what was merged gives the document that was there before.
"""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

from tmux_orchestrator.ground.errors import DataError

Document = dict[str, Any]

PROGRAM = "orc-hook"
BEGIN = "<!-- tmux-orchestrator: begin, written by orc-hook install -->"
END = "<!-- tmux-orchestrator: end -->"
_LONE = re.compile("[\ud800-\udfff]")  # JSON may hold them escaped, UTF-8 may not


# JSON documents


def parse(path: str, data: bytes | None) -> Document:
    """The settings in a file; none where there is no file. Raises DataError for what we could not write again."""
    if data is None or not data.strip():
        return {}
    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not plain JSON ({error}): mend it (comments count too), then try again") from None
    if not isinstance(found, dict):
        raise DataError(f"{path} holds no object: mend it, or move it away")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> Document:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("it holds a key twice")
    return found


def render(document: Document, like: bytes | None) -> bytes:
    """The document as text, indented as the one before it."""
    text = (like or b"").decode("utf-8", "replace")
    lines = [line for line in text.split("\n")[1:] if line.strip()]
    indent = lines[0][: len(lines[0]) - len(lines[0].lstrip())] if lines else "  "
    said = json.dumps(document, indent=indent or "  ", ensure_ascii=False) + "\n"
    return _LONE.sub(lambda found: f"\\u{ord(found[0]):04x}", said).encode("utf-8")


def words(command: object) -> list[str]:
    """The words of a command line, if it is one of ours; none otherwise."""
    if not isinstance(command, str) or PROGRAM not in command:
        return []
    try:
        found = shlex.split(command)
    except ValueError:
        return []
    return found if found and found[0].rpartition("/")[2] == PROGRAM else []


def has(document: Document, event: str, command: str = "") -> bool:
    """Is there a hook of ours for this event (with this very command, if one is given)?"""
    found = [one["command"] for _, group in _groups("", document, event) for one in group if words(one.get("command"))]
    return command in found if command else bool(found)


def add_hooks(path: str, document: Document, commands: dict[str, str], timeout: int) -> Document:
    """The settings with one hook of ours for each event, its command in `commands`; ours for other events are gone.

    One that stands there already keeps its place, and takes the new command. Raises DataError for settings whose
    hooks are of another form than we know.
    """
    document = json.loads(json.dumps(document))
    for event in _events(path, document):
        if event not in commands:
            _take_out(path, document, event)
    for event, command in commands.items():
        handler = {"type": "command", "command": command, "timeout": timeout}
        ours = [one for _, group in _groups(path, document, event) for one in group if words(one.get("command"))]
        if len(ours) == 1:
            ours[0].clear()
            ours[0].update(handler)
        else:
            if ours:
                _take_out(path, document, event)
            document.setdefault("hooks", {}).setdefault(event, []).append({"hooks": [handler]})
    return document


def drop_hooks(path: str, document: Document) -> Document:
    """The settings without any hook of ours, and without what was there only for ours."""
    document = json.loads(json.dumps(document))
    had = _events(path, document)
    for event in had:
        _take_out(path, document, event)
    if document.get("hooks") == {} and had:
        del document["hooks"]
    return document


def bare(document: Document) -> Document:
    """The settings without what is empty: two that differ in that alone say the same to a CLI."""
    document = dict(document)
    if isinstance(document.get("hooks"), dict):
        document["hooks"] = {event: groups for event, groups in document["hooks"].items() if groups != []}
    if isinstance(document.get("permissions"), dict):
        document["permissions"] = {key: value for key, value in document["permissions"].items() if value != []}
    line = document.get("statusLine")
    if line is None or (isinstance(line, dict) and line.get("command") == ""):
        document.pop("statusLine", None)
    return {key: value for key, value in document.items() if value != {} or key not in ("hooks", "permissions")}


def _events(path: str, document: Document) -> list[str]:
    hooks = document.get("hooks", {})
    if not isinstance(hooks, dict):
        if not path:
            return []
        raise DataError(f"{path}: its hooks are no object: mend it, then try again")
    return list(hooks)


def _groups(path: str, document: Document, event: str) -> list[tuple[Document, list[Document]]]:
    """(group, its handlers) for an event, in order. Raises DataError for another form, where `path` is given."""
    hooks = document.get("hooks")
    groups = hooks.get(event, []) if isinstance(hooks, dict) else []
    found: list[tuple[Document, list[Document]]] = []
    for group in groups if isinstance(groups, list) else [None]:
        handlers = group.get("hooks", []) if isinstance(group, dict) else None
        if isinstance(group, dict) and isinstance(handlers, list) and all(isinstance(one, dict) for one in handlers):
            found.append((group, handlers))
        elif path:
            raise DataError(f"{path}: its hooks for {event} are of a form that is not known: mend it, then try again")
    return found


def _take_out(path: str, document: Document, event: str) -> None:
    emptied = []
    for group, handlers in _groups(path, document, event):
        kept = [one for one in handlers if not words(one.get("command"))]
        if len(kept) != len(handlers):
            group["hooks"] = kept
            if not kept:
                emptied.append(group)
    if not isinstance(document["hooks"][event], list):
        return
    document["hooks"][event] = [one for one in document["hooks"][event] if not any(one is gone for gone in emptied)]
    if emptied and not document["hooks"][event]:
        del document["hooks"][event]


def add_status_line(path: str, document: Document, command: str) -> Document:
    """Claude Code's settings with our status line; one that is there is run by ours, and printed."""
    line = document.get("statusLine")
    if line is not None and not (isinstance(line, dict) and isinstance(line.get("command"), str)):
        raise DataError(f"{path}: its statusLine is of a form that is not known: mend it, then try again")
    theirs = wrapped(line["command"]) if line and words(line["command"]) else line["command"] if line else ""
    command = f"{command} --then {shlex.quote(theirs)}" if theirs else command
    return document | {"statusLine": (line or {"type": "command"}) | {"command": command}}


def drop_status_line(document: Document) -> Document:
    """The settings with the status line that ours runs, or without one."""
    line = document.get("statusLine")
    if not isinstance(line, dict) or not words(line.get("command")):
        return document
    theirs = wrapped(line["command"])
    if theirs:
        return document | {"statusLine": line | {"command": theirs}}
    return {key: value for key, value in document.items() if key != "statusLine"}


def wrapped(command: str) -> str:
    """The status line command that ours runs; "" if there is none."""
    found = words(command)
    return found[found.index("--then") + 1] if "--then" in found[:-1] else ""


def add_rules(path: str, document: Document, rules: list[str]) -> Document:
    """Claude Code's settings with these rules among those that are allowed."""
    permissions = document.get("permissions", {})
    allowed = permissions.get("allow", []) if isinstance(permissions, dict) else None
    if not isinstance(allowed, list):
        raise DataError(f"{path}: its permissions are of a form that is not known: mend it, then try again")
    fresh = [rule for rule in rules if rule not in allowed]
    return document | {"permissions": permissions | {"allow": [*allowed, *fresh]}} if fresh else document


def allowed(document: Document) -> list[Any]:
    """The rules among those that are allowed; none where there is no list of them."""
    permissions = document.get("permissions")
    found = permissions.get("allow") if isinstance(permissions, dict) else None
    return found if isinstance(found, list) else []


def drop_rules(document: Document, rules: list[str]) -> Document:
    """The settings without these rules, and without what is empty then."""
    found = allowed(document)
    if not any(rule in rules for rule in found):
        return document
    permissions, kept = document["permissions"], [rule for rule in found if rule not in rules]
    rest: Document = {key: value for key, value in permissions.items() if key != "allow"}
    permissions = permissions | {"allow": kept} if kept else rest
    if permissions:
        return document | {"permissions": permissions}
    return {key: value for key, value in document.items() if key != "permissions"}


# Texts


def add_section(path: str, text: str, body: str) -> str:
    """The text with our section: where it stands already, else at the end."""
    before, _, after = _parts(path, text)
    section = f"{BEGIN}\n{body.strip()}\n{END}\n"
    if after is None:
        return before + ("\n" if before else "") + section
    return before + section + after


def drop_section(path: str, text: str) -> str:
    """The text without our section, and without the line's end that was put before it."""
    before, _, after = _parts(path, text)
    if after is None:
        return text
    return before + after if after else before.removesuffix("\n")


def has_section(text: str) -> bool:
    return BEGIN in text and END in text


def _parts(path: str, text: str) -> tuple[str, str, str | None]:
    """What stands before our section, the section, and what stands behind it; None behind where there is none."""
    if BEGIN not in text and END not in text:
        return text, "", None
    before, begin, rest = text.partition(BEGIN)
    body, end, after = rest.partition(END)
    if not begin or not end or BEGIN in body + after or END in after:
        raise DataError(f"{path}: the marks of our section are no pair: take them out, then try again")
    return before, body, after.removeprefix("\n")
