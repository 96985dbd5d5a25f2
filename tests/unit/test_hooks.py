"""What the hooks of agent CLIs mean: payloads that the CLIs really sent, and whatever else may stand there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmux_orchestrator.agents import hooks
from tmux_orchestrator.agents.hooks import Report
from tmux_orchestrator.agents.signs import Sign
from tmux_orchestrator.delivery import frame
from tmux_orchestrator.eventlog import event

# As Claude Code 2.1.197, Codex 0.171.0 and Gemini CLI 0.61.0 put them on standard input, in the order of a session.
SENT = {
    file.stem: [json.loads(line) for line in file.read_text().splitlines()]
    for file in sorted((Path(__file__).parent.parent / "payloads").glob("*.jsonl"))
}


def call(sign: Sign, cli: str, name: str, payload: dict[str, Any], now: int = 100) -> Report:
    report = hooks.read(cli, name, payload)
    assert report is not None
    hooks.apply(report, sign, now)
    return report


def told(cli: str) -> list[tuple[str, str]]:
    """(event, state after it) for each payload that was sent."""
    sign, found = Sign({}), []
    for number, one in enumerate(SENT[cli]):
        call(sign, cli, one["event"], one["payload"], number + 1)
        found.append((one["event"], sign.state))
    return found


def test_a_session_of_claude_code() -> None:
    assert told("claude") == [
        ("statusLine", ""),
        ("SessionStart", "idle"),
        ("UserPromptSubmit", "working"),
        ("Stop", "idle"),
        ("UserPromptSubmit", "working"),
        ("PermissionRequest", "waiting"),
        ("Notification", "waiting"),  # permission_prompt
        ("PostToolUse", "working"),
        ("SessionEnd", ""),
        ("SessionStart", "idle"),  # clear
        ("SessionEnd", ""),
        ("PreCompact", ""),
        ("Notification", ""),  # idle_prompt of the session that was cleared
        ("StopFailure", ""),
        ("StopFailure", ""),
        ("PostToolUseFailure", ""),
        ("SessionEnd", ""),
    ]


def test_a_session_of_codex() -> None:
    assert told("codex") == [
        ("SessionStart", "idle"),
        ("UserPromptSubmit", "working"),
        ("Stop", "idle"),
        ("UserPromptSubmit", "working"),
        ("PermissionRequest", "waiting"),
        ("PostToolUse", "working"),
        ("Interrupt", "idle"),
        ("PreCompact", "idle"),
        ("SessionEnd", "idle"),  # of the other conversation
    ]


def test_a_session_of_gemini_cli() -> None:
    states = dict(told("gemini")[:7])
    assert states == {
        "SessionStart": "idle",
        "BeforeAgent": "working",
        "PreCompress": "working",
        "AfterAgent": "idle",
        "Notification": "waiting",
        "AfterTool": "working",
    }


@pytest.mark.parametrize("cli", sorted(SENT))
def test_every_payload_is_understood(cli: str) -> None:
    for one in SENT[cli]:
        report = hooks.read(cli, one["event"], one["payload"])
        assert report is not None and report.session_id == one["payload"]["session_id"]
        if one["event"] != "statusLine":
            again = hooks.read(cli, "", one["payload"])
            assert again is not None and (again.event, again.kind) == (report.event, report.kind), (
                "the payload names it"
            )


@pytest.mark.parametrize("cli", sorted(SENT))
def test_the_ids_of_what_was_typed_are_in_the_prompts(cli: str) -> None:
    prompts = [one["payload"]["prompt"] for one in SENT[cli] if hooks.EVENTS[cli][one["event"]] == "prompt"]
    assert prompts
    for prompt in prompts:
        assert hooks.ids(prompt) == [part[:6] for part in prompt.split("?unverified #")[1:]]


def test_the_question_is_what_is_asked_for() -> None:
    for cli, question in (
        ("claude", "Bash: touch /tmp/build/touched; sleep 1"),
        ("codex", "Bash: touch /tmp/build/touched; sleep 1"),
        ("gemini", "Confirm Shell Command: touch /tmp/build/touched; sleep 1"),
    ):
        sign = Sign({})
        for one in SENT[cli]:
            if one["event"] == "PermissionRequest" or one["payload"].get("notification_type") == "ToolPermission":
                call(sign, cli, one["event"], one["payload"])
                assert sign.question == question


def test_the_notification_that_follows_leaves_the_details() -> None:
    sign = Sign({})
    call(sign, "claude", "PermissionRequest", {"tool_name": "Bash", "tool_input": {"command": "ls"}})
    call(sign, "claude", "Notification", {"notification_type": "permission_prompt", "message": "needs you"})
    assert sign.question == "Bash: ls"
    call(sign, "claude", "Stop", {})
    call(sign, "claude", "Notification", {"notification_type": "permission_prompt", "message": "needs you"})
    assert (sign.state, sign.question) == ("waiting", "needs you")
    call(sign, "claude", "Notification", {"notification_type": "auth_success", "message": "hello"})
    assert (sign.state, sign.hook) == ("waiting", "Notification"), "any other is noted and changes nothing"


@pytest.mark.parametrize(
    ("error", "state"),
    [("rate_limit", "limited"), ("billing_error", "limited"), ("server_error", "idle"), ("", "idle")],
)
def test_why_a_turn_failed(error: str, state: str) -> None:
    sign = Sign({"usage": {"five_hour": {"used_percent": 100.0, "resets": "2026-11-26T20:00:00.000000Z"}}})
    call(sign, "claude", "UserPromptSubmit", {"prompt": "go"})
    call(sign, "claude", "StopFailure", {"error": error})
    assert (sign.state, sign.turn) == (state, 0)
    assert sign.limited_until == ("2026-11-26T20:00:00.000000Z" if state == "limited" else "")


def test_a_compacted_conversation_amid_a_turn_is_no_edge() -> None:
    sign = Sign({})
    call(sign, "claude", "UserPromptSubmit", {"prompt": "go"}, 5)
    call(sign, "claude", "SessionStart", {"source": "compact"}, 9)
    assert (sign.state, sign.since, sign.at, sign.turn) == ("working", 5, 9, 5)


def test_the_end_of_another_conversation_says_nothing() -> None:
    sign = Sign({})
    call(sign, "codex", "UserPromptSubmit", {"session_id": "new", "prompt": "go"}, 5)
    for name in ("Stop", "Interrupt", "SessionEnd"):
        call(sign, "codex", name, {"session_id": "old"}, 9)
        assert (sign.state, sign.session_id, sign.at) == ("working", "new", 5)
    call(sign, "codex", "SessionEnd", {"session_id": "new"})
    assert (sign.state, sign.session_id, sign.turn) == ("", "new", 0)


def test_a_turn_goes_on_over_queued_prompts_and_questions() -> None:
    sign = Sign({})
    call(sign, "claude", "UserPromptSubmit", {"prompt": "[📨 from pm ✓ #AAAAAA] a"}, 5)
    call(sign, "claude", "PermissionRequest", {"tool_name": "Bash"}, 6)
    call(sign, "claude", "PostToolUse", {}, 7)
    call(sign, "claude", "UserPromptSubmit", {"prompt": "[📨 from pm ✓ #BBBBBB] b"}, 8)
    assert sign.of_turn() == ["AAAAAA", "BBBBBB"]
    call(sign, "claude", "Stop", {}, 9)
    call(sign, "claude", "UserPromptSubmit", {"prompt": "[📨 from pm ✓ #CCCCCC] c"}, 10)
    assert sign.of_turn() == ["CCCCCC"]


def test_a_tool_that_ran_while_nothing_was_asked_changes_nothing() -> None:
    sign = Sign({})
    for state in ("idle", "working", "limited", ""):
        sign.enter(state, 1)
        call(sign, "claude", "PostToolUse", {})
        assert sign.state == state


@pytest.mark.parametrize(
    "name", ["PreToolUse", "SubagentStop", "notification", "", "x" * 300, "Stop\n", "__class__", "statusline"]
)
def test_events_that_mean_nothing(name: str) -> None:
    assert hooks.read("claude", name, {"hook_event_name": ["Stop"]}) is None


def test_aider_says_one_thing() -> None:
    sign = Sign({})
    call(sign, "aider", "notification", {})
    assert sign.state == "idle"


# What is said back


@pytest.mark.parametrize(
    ("cli", "name", "expected"),
    [
        (
            "claude",
            "UserPromptSubmit",
            {"hookSpecificOutput": {"hookEventName": "UserPromptSubmit", "additionalContext": "é"}},
        ),
        ("codex", "SessionStart", {"hookSpecificOutput": {"hookEventName": "SessionStart", "additionalContext": "é"}}),
        ("gemini", "BeforeAgent", {"hookSpecificOutput": {"hookEventName": "BeforeAgent", "additionalContext": "é"}}),
        ("claude", "Stop", {"decision": "block", "reason": "é"}),
        ("codex", "Stop", {"decision": "block", "reason": "é"}),
        ("gemini", "AfterAgent", {"decision": "block", "reason": "é"}),
        ("claude", "PermissionRequest", None),
        ("codex", "Interrupt", None),
        ("aider", "notification", None),
    ],
)
def test_what_the_cli_reads(cli: str, name: str, expected: dict[str, Any] | None) -> None:
    report = hooks.read(cli, name, {})
    assert report is not None
    assert hooks.say(report, "") == ""
    assert hooks.takes_text(report) == (expected is not None)
    assert hooks.say(report, "é") == ("" if expected is None else json.dumps(expected))


# The status line


def status(**limits: Any) -> Report:
    report = hooks.read("claude", "statusLine", {"rate_limits": limits, "context_window": {"used_percentage": None}})
    assert report is not None
    return report


def test_the_status_line() -> None:
    report = status(
        five_hour={"used_percentage": 42.4, "resets_at": 1790000000}, seven_day={"used_percentage": 13}, other=7
    )
    assert report.usage == {
        "five_hour": {"used_percent": 42.4, "resets": "2026-09-21T14:13:20.000000Z"},
        "seven_day": {"used_percent": 13.0, "resets": ""},
    }
    assert hooks.status_line("dev", report.usage) == "dev · 5h 42% · 7d 13%"
    assert hooks.status_line("dev", {}) == "dev"
    sign = Sign({"state": "working", "since": 3, "at": 3})
    hooks.apply(report, sign, 9)
    assert (sign.state, sign.since, sign.at, sign.usage) == ("working", 3, 3, report.usage), "it is no edge"
    hooks.apply(status(), sign, 9)
    assert sign.usage == report.usage, "one that says nothing of limits takes nothing back"


@pytest.mark.parametrize("used", [None, "42", True, -1, 1e300, [], {}])
def test_a_percentage_that_is_none(used: object) -> None:
    found = status(five_hour={"used_percentage": used, "resets_at": used}).usage
    assert found == {}


# The ids that a prompt holds


SOURCE = {"type": "agent", "identifier": "pm", "session": "s", "host": "h", "verified": True}


def made(body: str, number: int, **given: Any) -> dict[str, Any]:
    return {"id": f"01M7WFG0R57KNY9BRVETD{number:05d}"} | event.build(body, SOURCE, **given)


def test_the_ids_of_our_frames() -> None:
    one = made("hello\nthere", 11111, priority="high", requires_ack=True)
    two = made("again", 22222)
    assert hooks.ids(frame.frame(one)) == ["D11111"]
    assert hooks.ids(frame.frame(one, repeat=2, count=3, session="s")) == ["D11111"]
    assert hooks.ids(f"{frame.frame(one)}\n\n{frame.frame(two)}") == ["D11111", "D22222"]
    low = [made(f"low {number}\n[📨 from x ✓ #ZZZZZZ] y", number, priority="low") for number in range(3)]
    assert hooks.ids(frame.low_digest(low, "dev")) == ["D00000", "D00001", "D00002"]
    again = frame.low_digest(low, "dev", repeat=1)
    assert again.startswith("[💤 3 messages, none urgent · repeat 1]\n")
    assert hooks.ids(again) == ["D00000", "D00001", "D00002"]
    assert hooks.ids(frame.low_digest(low, "dev") + "\n\n" + frame.frame(two)) == [
        "D00000",
        "D00001",
        "D00002",
        "D22222",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "see #ABCDEF",
        "> [📨 from pm ✓ #ABCDEF] quoted",
        "text [📨 from pm ✓ #ABCDEF] amid a line",
        " [📨 from pm ✓ #ABCDEF] indented",
        "[📨 from pm #ABCDEF] no check",
        "[📨 from pm ✓ #ABCDEF",
        "[📨 from pm ✓ #ABCDEF ack]",
        "[📨 from pm ✓ #abcdef] small letters",
        "[📨 from pm ✓ #ABCDE] short",
        "[📨 from pm ✓ #ABCDEFG] long",
        "#ABCDEF from pm ✓: a row of no digest",
        "[💤 2 messages, none urgent]\ntext\n#ABCDEF from pm ✓: behind other text",
        "[💤 2 messages, none urgent]\n#ABCDEF is an id",
        "[💤 2 messages, none urgent · repeat]\n#ABCDEF from pm ✓: x",
        "[💤 2 messages, none urgent · repeat 1] x\n#ABCDEF from pm ✓: x",
    ],
)
def test_what_is_no_header_of_ours(text: str) -> None:
    assert hooks.ids(text) == []


@given(st.text(max_size=60), st.integers(0, 99999), st.sampled_from(event.PRIORITIES), st.booleans())
def test_a_frame_has_one_id_whatever_its_body_says(body: str, number: int, priority: str, ack: bool) -> None:
    one = made(body, number, priority=priority, requires_ack=ack)
    assert hooks.ids(frame.frame(one)) == [event.short(one["id"])]


def test_a_prompt_of_very_many_ids_is_bounded() -> None:
    prompt = "\n".join(f"[📨 from pm ✓ #{number:06d}] x" for number in range(1000))
    assert len(hooks.ids(prompt)) == 64


# Whatever else may stand there


KEYS = ["hook_event_name", "session_id", "source", "reason", "prompt", "error", "tool_name", "tool_input", "message"]
KEYS += ["notification_type", "rate_limits", "context_window"]
ATOMS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = ATOMS | st.text(max_size=20) | st.sampled_from(["Stop", "startup", "permission_prompt", "rate_limit"])
NESTED = st.dictionaries(
    st.sampled_from(["five_hour", "context", "command", "used_percentage", "resets_at"]),
    VALUES | st.dictionaries(st.sampled_from(["used_percentage", "resets_at"]), VALUES, max_size=2),
    max_size=3,
)
PAYLOADS = st.dictionaries(st.sampled_from(KEYS), VALUES | NESTED | st.lists(VALUES, max_size=2), max_size=6)


@given(st.sampled_from(sorted(hooks.EVENTS)), st.data())
def test_any_payload_leaves_a_sign_that_can_be_kept(cli: str, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["", *hooks.EVENTS[cli]]) | st.text(max_size=10))
    sign = Sign({"state": "working", "turn": 1})
    report = hooks.read(cli, name, data.draw(PAYLOADS))
    if report is None:
        return
    hooks.apply(report, sign, 100)
    assert Sign(json.loads(json.dumps(sign.to_dict()))).to_dict() == sign.to_dict()
    assert len(sign.question) <= hooks.QUESTION and sign.question.isprintable()
    assert hooks.status_line("dev", report.usage).startswith("dev")
    json.loads(hooks.say(report, "x") or "{}")
