"""What may stand in `to.targets`, and what a slip is told."""

from __future__ import annotations

import pytest

from tmux_orchestrator.agents import address
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.ground.errors import UsageError

AGENTS = [
    Agent({"name": name, "session": session, "role": role})
    for name, session, role in (("pm", "web", "pm"), ("dev", "web", "backend"), ("dev", "api", "backend"))
]


@pytest.mark.parametrize(
    ("target", "session", "stored"),
    [
        ("pm", None, "web:pm"),
        ("dev", "api", "api:dev"),
        ("dev", "web", "web:dev"),
        ("api:dev", None, "api:dev"),
        ("web:2", None, "web:2"),
        ("web:no such window.1", None, "web:no such window.1"),
        ("%7", None, "%7"),
        ("pane-7", None, "%7"),
        ("@all", None, "@all"),
        ("@backend", None, "@backend"),
    ],
)
def test_how_a_target_is_stored(target: str, session: str | None, stored: str) -> None:
    assert address.canonical(AGENTS, target, session, False) == stored


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("dev", "say web:dev or api:dev"),
        ("devv", r"did you mean .*dev.*--queue if it will come"),
        ("pane-", "--queue"),
        ("pane-x7", "--queue"),
        ("%x", "a pane is % and a number"),
        ("%٣", "a pane is % and a number"),
        ("@ops", r"roles: @backend, @pm\): or say --queue"),
        ("@Ops", "is no role"),
        ("", "is no target"),
        ("a\nb", "is no target"),
        ("x" * 129, "is no target"),
    ],
)
def test_what_is_refused(target: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        address.canonical(AGENTS, target, None, False)


def test_who_comes_later() -> None:
    assert address.canonical([], "ops", None, True) == "ops"
    assert address.canonical([], "@ops", None, True) == "@ops"
    with pytest.raises(UsageError, match="no agent is called 'No'"):
        address.canonical([], "No", None, True)


@pytest.mark.parametrize("target", ["ops", "@ops"])
def test_where_there_is_no_option_none_is_named(target: str) -> None:
    with pytest.raises(UsageError, match=r"see orc-agent list$"):
        address.canonical(AGENTS, target, None, None)
