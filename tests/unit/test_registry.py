"""The registry as readers see it: what a name means, who is calling, what a damaged file says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support_tmux import wait_until
from tmux_orchestrator.agents import registry
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.ground import proc
from tmux_orchestrator.ground.errors import DataError, UsageError
from tmux_orchestrator.ground.paths import Home


def agent(name: str, session: str = "s", **fields: Any) -> Agent:
    return Agent({"name": name, "session": session, **fields})


def me(name: str = "me", **fields: Any) -> Agent:
    """An agent whose registered process is this one."""
    start = proc.start_time(os.getpid())
    return agent(name, pid=os.getpid(), pid_start=start, **fields)


def test_fields_survive_a_round_trip_and_unknown_ones_are_left_out() -> None:
    one = agent("pm", groups=["a"], argv=["claude", "-x"], paused=True, pid=7)
    again = Agent(one.to_dict() | {"from_a_later_release": 1})
    assert again.to_dict() == one.to_dict()
    assert set(one.to_dict()) == set(registry.FIELDS)


def test_lists_are_not_shared_between_agents() -> None:
    one, two = agent("a"), agent("b")
    one.groups.append("g")
    assert two.groups == [] and registry.FIELDS["groups"] == []


@pytest.mark.parametrize("name", ["a", "pm", "dev-2", "a_b", "a" * 32])
def test_names(name: str) -> None:
    assert registry.valid_name(name)


@pytest.mark.parametrize("name", ["", "A", "1a", "-a", "_a", "a" * 33, "a b", "a:b", "ä", "a\n", "a#(x)", "@a", "aé"])
def test_what_is_no_name(name: str) -> None:
    assert not registry.valid_name(name)


def test_a_bare_name_is_first_the_callers_sessions_then_the_only_one() -> None:
    agents = [agent("dev", "one"), agent("dev", "two"), agent("pm", "one")]
    assert registry.resolve(agents, "dev", "two") is agents[1]
    assert registry.resolve(agents, "dev", "one") is agents[0]
    assert registry.resolve(agents, "pm", "two") is agents[2]
    assert registry.resolve(agents, "pm") is agents[2]
    assert registry.resolve(agents, "two:dev", "one") is agents[1]
    assert registry.resolve(agents, "two:pm", "one") is None
    assert registry.resolve(agents, "nobody", "one") is None


def test_a_bare_name_that_several_have_is_refused_with_the_choices() -> None:
    agents = [agent("dev", "one"), agent("dev", "two")]
    with pytest.raises(UsageError, match="one:dev or two:dev"):
        registry.resolve(agents, "dev", "three")


def test_near_names() -> None:
    agents = [agent("backend", "web"), agent("frontend", "web")]
    assert "backend" in registry.near(agents, "bakend")
    assert "web:backend" in registry.near(agents, "web:bakend")
    assert registry.near(agents, "zzzzzz") == ""


def test_no_file_means_nobody(tmp_path: Path) -> None:
    assert registry.load(Home(str(tmp_path))) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"agents": 5}',
        '{"agents": [5]}',
        '{"agents": [{"name": 5}]}',
        '{"agents": [{"pid": true}]}',
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "registry").mkdir(mode=0o700)
    (tmp_path / "registry/agents.json").write_text(text)
    with pytest.raises(DataError, match=r"agents\.json is damaged"):
        registry.load(Home(str(tmp_path)))


def test_the_caller_is_the_innermost_registered_process() -> None:
    parent = agent("outer", pid=os.getppid(), pid_start=proc.start_time(os.getppid()))
    assert registry.caller([]) is None
    assert registry.caller([parent]) is parent
    own = me()
    assert registry.caller([parent, own]) is own
    assert registry.caller([own, parent]) is own


def test_a_reused_pid_is_somebody_else() -> None:
    assert registry.caller([agent("old", pid=os.getpid(), pid_start=1)]) is None


def test_another_process_tree_is_not_the_caller() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        stranger = agent("stranger", pid=other.pid, pid_start=proc.start_time(other.pid))
        assert stranger.alive()
        assert registry.caller([stranger]) is None
        other.communicate(b"\n")
    assert not stranger.alive()


def test_beneath_an_adopted_shell_only_the_agents_program_counts() -> None:
    program = registry.program(os.getpid())
    assert program
    shell: dict[str, Any] = {"pid": os.getppid(), "pid_start": proc.start_time(os.getppid()), "adopted": True}
    assert registry.caller([agent("typed", command="no-such-program", **shell)]) is None
    assert registry.caller([agent("typed", command="", **shell)]) is None
    ours = agent("agent", command=program, **shell)
    assert registry.caller([ours]) is ours
    own = me("own", adopted=True, command=program)
    assert registry.caller([own]) is own


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["/usr/bin/sleep"], "sleep"),
        (["claude"], "claude"),
        (["./claude"], "./claude"),
        (["claude: working"], "claude:"),
    ],
)
def test_a_program_is_called_as_tmux_calls_it(words: list[str], name: str) -> None:
    with subprocess.Popen([*words, "1000"], executable="/bin/sleep") as process:
        try:
            wait_until(lambda: registry.program(process.pid))  # for an instant an exec has no words yet
            assert registry.program(process.pid) == name
        finally:
            process.kill()
    assert registry.program(process.pid) == ""
