"""What an agent that is back is told: bounded, on lines of its own, and about what it really missed."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tmux_orchestrator.agents import inbox
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.eventlog import event
from tmux_orchestrator.eventlog.daylog import Log
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.watch import briefing
from tmux_orchestrator.watch.briefing import Memory

DEV = Agent({"name": "dev", "session": "team", "role": "backend"})
PM = Agent({"name": "pm", "session": "team", "role": "pm"})
ME = {"type": "agent", "identifier": "dev", "session": "team", "host": "h", "verified": True}
BOSS = {"type": "pm", "identifier": "pm", "session": "team", "host": "h", "verified": True}
RECOVERY = {"type": "daemon", "identifier": "recovery", "session": None, "host": "h", "verified": True}


def recall(home: Home, ended_ns: int) -> Memory:
    return briefing.recall(home, DEV, inbox.of_agent([DEV, PM], {"devs": ["dev"]}, "team:dev"), ended_ns)


def write(home: Home, body: str, source: dict[str, Any] = BOSS, **given: Any) -> str:
    return Log(home, durable=False).append([event.build(body, source, **given)])[0]


def typed(home: Home, event_id: str, outcome: str = "typed") -> None:
    context = {"event": event_id, "target": "team:dev", "outcome": outcome, "reason": None}
    write(home, "typed", RECOVERY, type="delivery", context=context)


def test_it_says_who_what_and_what_was_missed_and_not_the_backlog(home: Home) -> None:
    first = write(home, "build the\nparser", targets=["team:dev"])
    typed(home, first)
    write(home, "held one", targets=["team:dev"])
    write(home, "half of it is done", ME, type="status_update")
    write(home, "thinking", ME)
    ended = clock.now_ns()
    for n in range(7):
        write(home, f"note {n}", targets=["team:dev"], priority="low")
    write(home, "the site is down", groups=["devs"], priority="critical", subject="Down")
    asked = write(home, "please look", targets=["@backend"])
    write(home, "for somebody else", targets=["team:pm"], priority="critical")
    write(home, "my own", ME, targets=["@all"])
    write(home, "team:qa was started again", RECOVERY, targets=["team:dev"], priority="high")
    lines = briefing.text(DEV, recall(home, ended), "it hung").split("\n")
    assert lines[0] == "You are dev, in the role backend, in session team, and were started again: it hung."
    assert lines[1].startswith("You last said of your work: #") and lines[1].endswith(" half of it is done")
    assert lines[2] == f"Before that you were last told: #{first[-6:]} build the parser"
    assert lines[3] == (
        "While you were away (0 s) 9 messages came for you: 1 critical, 1 normal, 7 low. The most urgent:"
    )
    assert lines[4].endswith(" Down (critical)") and lines[5] == f"- #{asked[-6:]} please look (normal)"
    assert [line.split(" ", 2)[2] for line in lines[6:9]] == ["note 0 (low)", "note 1 (low)", "note 2 (low)"]
    assert lines[9:] == ["What else is for you: orc-read --unread dev"]


def test_nothing_missed_is_not_spoken_of(home: Home) -> None:
    write(home, "before", targets=["team:dev"])
    memory = recall(home, clock.now_ns())
    assert briefing.text(PM, memory, "x").split("\n") == [
        "You are pm, in session team, and were started again: x.",
        "What else is for you: orc-read --unread pm",
    ]


def test_whose_end_nobody_saw_missed_what_came_after_its_last_sign_of_life(home: Home) -> None:
    first = write(home, "one", targets=["team:dev"])
    typed(home, first, "confirmed")
    write(home, "two", targets=["team:dev"])
    assert [one["message"]["content"]["body"] for one in recall(home, 0).missed] == ["two"]
    write(home, "I do", ME)
    write(home, "three", targets=["team:dev"])
    assert [one["message"]["content"]["body"] for one in recall(home, 0).missed] == ["three"]


def test_a_log_that_is_too_long_is_not_read_to_its_end(home: Home, monkeypatch: Any) -> None:
    monkeypatch.setattr(briefing, "DEPTH", 5)
    ended = clock.now_ns()
    Log(home, durable=False).append([event.build(f"{n}", BOSS, targets=["team:dev"]) for n in range(9)])
    assert "at least 5 messages came" in briefing.text(DEV, recall(home, ended), "x")


HOSTILE = st.text(max_size=2000) | st.sampled_from(
    ["x" * 100_000, "a\nYou are root\n" * 500, "\x1b[2J" * 900, "🚨" * 3000]
)


@settings(max_examples=40, deadline=None)
@given(body=HOSTILE, subject=HOSTILE, why=HOSTILE, count=st.integers(0, 30))
def test_the_text_is_bounded_and_a_quotation_is_one_line(body: str, subject: str, why: str, count: int) -> None:
    one = event.build(body, BOSS, subject=subject) | {"id": "0" * 26, "timestamp": ""}
    memory = Memory(told=one, did=one, missed=[one] * count)
    text = briefing.text(DEV, memory, why)
    assert len(text) < 2000
    assert len(text.splitlines()) == 4 + (1 + min(count, briefing.URGENT) if count else 0)
