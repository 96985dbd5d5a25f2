"""What the hooks of agent CLIs mean, as tables: from a payload to what is known of the agent, and what is said back.

A payload is whatever stands on standard input, so each field is taken only in its right type and size, and one that
is not counts as absent: nothing in here raises for a payload. Pure: times come in, nothing is read or written. A new
CLI is a row in EVENTS, in CONTEXT if it takes text, and in TYPES if one event of it means several things.
"""

from __future__ import annotations

from tmux_orchestrator.eventlog.event import MARKS
from tmux_orchestrator.ground import clock, fastjson, output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tmux_orchestrator.agents.signs import Sign

QUESTION = 500  # characters of what is asked
_IDS = 64  # of one prompt
_ALPHABET = frozenset("0123456789ABCDEFGHJKMNPQRSTVWXYZ")

# CLI -> what it calls an event -> what that means. Those that are missing here mean nothing to us.
EVENTS: dict[str, dict[str, str]] = {
    "claude": {
        "SessionStart": "session_start",
        "SessionEnd": "session_end",
        "UserPromptSubmit": "prompt",
        "Stop": "stop",
        "StopFailure": "stop_failure",
        "PermissionRequest": "permission",
        "Notification": "notification",
        "PreCompact": "compact",
        "PostToolUse": "tool",
        "PostToolUseFailure": "tool",
        "statusLine": "status",
    },
    "codex": {
        "SessionStart": "session_start",
        "SessionEnd": "session_end",
        "UserPromptSubmit": "prompt",
        "Stop": "stop",
        "Interrupt": "interrupt",
        "PermissionRequest": "permission",
        "PreCompact": "compact",
        "PostToolUse": "tool",
    },
    "gemini": {
        "SessionStart": "session_start",
        "SessionEnd": "session_end",
        "BeforeAgent": "prompt",
        "AfterAgent": "stop",
        "Notification": "notification",
        "PreCompress": "compact",
        "AfterTool": "tool",
    },
    # Its only sign: it waits for input after an answer. It gives no payload.
    "aider": {"notification": "stop"},
}
SILENT = ("aider",)  # CLIs that put nothing on standard input

# What a notification means, by its type; any other is noted and changes nothing.
TYPES: dict[str, dict[str, str]] = {
    "claude": {
        "permission_prompt": "permission",
        "worker_permission_prompt": "permission",
        "elicitation_dialog": "permission",
        "idle_prompt": "stop",
    },
    "gemini": {"ToolPermission": "permission"},
}

# CLI -> event -> how a text is handed to the model: as context beside what was asked, or as what to go on with.
CONTEXT: dict[str, dict[str, str]] = {
    "claude": {"SessionStart": "context", "UserPromptSubmit": "context", "Stop": "block"},
    "codex": {"SessionStart": "context", "UserPromptSubmit": "context", "Stop": "block"},
    "gemini": {"SessionStart": "context", "BeforeAgent": "context", "AfterAgent": "block"},
}

# Why a turn that failed means that the account's limit is reached.
_LIMITS = ("rate_limit", "billing_error")
_BEGINNINGS = ("session_start", "prompt")
_ENDINGS = ("stop", "stop_failure", "interrupt", "session_end")
# What a status line says of limits -> how it is called there, in short.
_SHORT = {"five_hour": "5h", "seven_day": "7d", "context": "context"}


class Report:
    """What one call of a hook says. `event` is the CLI's own word, `kind` what it means; the rest may be empty."""

    __slots__ = ("cli", "error", "event", "kind", "prompt", "question", "session_id", "source", "usage")

    def __init__(self, cli: str, event: str, kind: str) -> None:
        self.cli, self.event, self.kind = cli, event, kind
        self.session_id = self.source = self.prompt = self.question = self.error = ""
        self.usage: dict[str, Any] = {}


def read(cli: str, event: str, payload: dict[str, Any]) -> Report | None:
    """What a call says; None for an event that means nothing. `event` is "" where only the payload names it."""
    event = event or _word(payload.get("hook_event_name"))
    kind = EVENTS[cli].get(event, "")
    if kind == "notification":
        kind = TYPES.get(cli, {}).get(_word(payload.get("notification_type")), kind)
    if not kind:
        return None
    report = Report(cli, event, kind)
    report.session_id = _word(payload.get("session_id"))
    report.source = _word(payload.get("source") or payload.get("reason"))
    report.error = _word(payload.get("error"))
    report.prompt = _text(payload.get("prompt"))
    if kind == "permission":
        report.question = _question(payload)
    elif kind == "status":
        report.usage = _usage(payload)
    return report


def apply(report: Report, sign: Sign, now: int) -> None:
    """Alter what is known of the agent. `now`: nanoseconds of the wall clock.

    The conversation is the one that was last begun or prompted: the end of another one, which the same process has
    had before or beside it, says nothing of this one.
    """
    if report.session_id and (report.kind in _BEGINNINGS or not sign.session_id):
        sign.session_id = report.session_id
    if not concerns(report, sign):
        return
    if report.kind == "status":
        sign.usage = report.usage or sign.usage
        return
    sign.at, sign.hook = now, report.event
    step = _STEPS.get(report.kind)
    if step is not None:
        step(report, sign, now)


def concerns(report: Report, sign: Sign) -> bool:
    """Is it no end of another conversation than the one that was last begun or prompted?"""
    return report.kind not in _ENDINGS or report.session_id in ("", sign.session_id) or not sign.session_id


def _session_start(report: Report, sign: Sign, now: int) -> None:
    """A start amid a turn, after the conversation was made shorter, is no edge."""
    if report.source in ("startup", "resume", "clear", "fork"):
        _idle(report, sign, now)


def _session_end(report: Report, sign: Sign, now: int) -> None:
    sign.enter("", now)
    sign.turn = 0


def _prompt(report: Report, sign: Sign, now: int) -> None:
    sign.enter("working", now)
    sign.turn, sign.continued = sign.turn or now, 0
    sign.take(ids(report.prompt), now)


def _idle(report: Report, sign: Sign, now: int) -> None:
    sign.enter("idle", now)
    sign.turn = 0


def _failure(report: Report, sign: Sign, now: int) -> None:
    _idle(report, sign, now)
    if report.error in _LIMITS:
        sign.enter("limited", now)
        full = [one.get("resets", "") for one in sign.usage.values() if one.get("used_percent", 0) >= 99]
        sign.limited_until = max(full, default="")


def _permission(report: Report, sign: Sign, now: int) -> None:
    """A CLI may say it twice, first with the details."""
    question = report.question if report.event != "Notification" else sign.question or report.question
    sign.enter("waiting", now)
    sign.question = question


def _tool(report: Report, sign: Sign, now: int) -> None:
    """A tool has run: what was asked has been answered."""
    if sign.state == "waiting":
        sign.enter("working", now)


_STEPS = {
    "session_start": _session_start,
    "session_end": _session_end,
    "prompt": _prompt,
    "stop": _idle,
    "interrupt": _idle,
    "stop_failure": _failure,
    "permission": _permission,
    "tool": _tool,
}


def takes_text(report: Report) -> bool:
    """Can the model be handed a text in answer to this call?"""
    return report.event in CONTEXT.get(report.cli, {})


def say(report: Report, text: str) -> str:
    """What the CLI reads on standard output, so that its model is handed the text; "" without one."""
    form = CONTEXT.get(report.cli, {}).get(report.event)
    if not text or form is None:
        return ""
    if form == "block":
        return fastjson.dumps({"decision": "block", "reason": text})
    return fastjson.dumps({"hookSpecificOutput": {"hookEventName": report.event, "additionalContext": text}})


def status_line(name: str, usage: dict[str, Any]) -> str:
    """What the CLI shows below its input box: `backend · 5h 42% · 7d 13%`."""
    shown = [f"{_SHORT[key]} {usage[key]['used_percent']:.0f}%" for key in _SHORT if key in usage]
    return " · ".join([name, *shown])


# The ids of the messages that a prompt holds.

_HEADS = tuple(f"[{mark} from " for mark in MARKS.values())
_DIGEST = f"[{MARKS['low']} "


def ids(prompt: str) -> list[str]:
    """The short ids in the headers of our frames, as they are written (see delivery.frame), in their order.

    Only what begins a line counts: a text that quotes a header or tells of an id has not brought that message.
    """
    found: list[str] = []
    rows = False
    for line in prompt.split("\n"):
        if _is_digest(line):
            rows = True
            continue
        rows = rows and line.startswith("#")
        if rows:
            name, _, rest = line[1:].partition(" ")
            short_id = name if rest.startswith("from ") else ""
        else:
            short_id = _in_header(line)
        if len(short_id) == 6 and _ALPHABET.issuperset(short_id) and short_id not in found:
            found.append(short_id)
    return found[:_IDS]


def _is_digest(line: str) -> bool:
    """`[MARK N messages, none urgent]` or `[MARK N messages, none urgent · repeat N]`."""
    count, _, rest = line.removeprefix(_DIGEST).partition(" messages, none urgent")
    times = rest.removeprefix(" · repeat ").removesuffix("]")
    return line.startswith(_DIGEST) and count.isdigit() and (rest == "]" or (times.isdigit() and rest.endswith("]")))


def _in_header(line: str) -> str:
    """`[MARK from NAME CHECK #ID] …` or `[MARK from NAME CHECK #ID · …] …`; "" for any other line."""
    head = next((head for head in _HEADS if line.startswith(head)), "")
    words = line[len(head) :].split(" ", 3) if head else []
    if len(words) < 3 or not words[2].startswith("#"):
        return ""
    name, bracket, _ = words[2][1:].partition("]")
    return name if bracket or (len(words) > 3 and words[3].startswith("·")) else ""


# Fields of a payload.


def _word(value: object) -> str:
    return value if type(value) is str and len(value) <= 128 and value.isascii() and value.isprintable() else ""


def _text(value: object) -> str:
    return value if type(value) is str else ""


def _question(payload: dict[str, Any]) -> str:
    """`Bash: rm -rf build`, or what the notification says."""
    tool, given = _word(payload.get("tool_name")), payload.get("tool_input")
    detail = next((one for one in given.values() if type(one) is str), "") if type(given) is dict else ""
    if not tool and type(payload.get("details")) is dict:
        tool, detail = _word(payload["details"].get("title")), _text(payload["details"].get("command"))
    said = f"{tool}: {detail}" if tool and detail else tool or _text(payload.get("message"))
    return output.clean(" ".join(said[: 4 * QUESTION].split()))[:QUESTION]


def _usage(payload: dict[str, Any]) -> dict[str, Any]:
    limits, window = payload.get("rate_limits"), payload.get("context_window")
    found: dict[str, Any] = {}
    for name, value in list(limits.items())[:16] if type(limits) is dict else []:
        used = _percent(value)
        if used is not None and _word(name) and name != "context":
            found[name] = {"used_percent": used, "resets": _stamp(value.get("resets_at"))}
    used = _percent(window)
    if used is not None:
        found["context"] = {"used_percent": used}
    return found


def _percent(value: object) -> float | None:
    used = value.get("used_percentage") if isinstance(value, dict) else None
    if isinstance(used, bool) or not isinstance(used, int | float):
        return None
    return float(used) if 0 <= used <= 1000 else None


def _stamp(seconds: object) -> str:
    """Of seconds since the epoch."""
    if type(seconds) is not int and type(seconds) is not float:
        return ""
    return clock.stamp(int(seconds) * 1_000_000_000) if 0 < seconds < 1 << 33 else ""
