"""Profiles: the shipped files, the configuration's changes to them, and which profile a command line gets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tmux_orchestrator.agents import profiles
from tmux_orchestrator.ground.errors import ConfigError, UsageError
from tmux_orchestrator.ground.tmux import guard

SHIPPED = profiles.load()


def test_what_is_shipped() -> None:
    assert set(SHIPPED) == {"aider", "claude", "codex", "demo", "gemini", "plain"}
    assert {name for name, profile in SHIPPED.items() if profile.composer is None} == {"plain"}
    assert {name for name, profile in SHIPPED.items() if profile.when_busy == "hold"} == {"aider"}
    assert {name for name, profile in SHIPPED.items() if not profile.confirm} == {"plain"}


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_a_shipped_profile_is_complete(name: str) -> None:
    profile = SHIPPED[name]
    assert profile.interrupt
    assert {"yes", "no"} <= set(profile.answers)
    assert bool(profile.cues) == (name != "plain")
    assert bool(profile.guard) == bool(profile.cues)
    assert guard.search(profile.guard) or not profile.guard
    assert profile.match or name == "plain"


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["claude"], "claude"),
        (["/usr/local/bin/claude", "--model", "opus"], "claude"),
        (["node", "/usr/lib/node_modules/@anthropic-ai/claude-code/cli.js"], "claude"),
        (["node", "--max-old-space-size=4096", "/x/node_modules/@openai/codex/bin/codex.js"], "codex"),
        (["env", "A=1", "B=2", "codex", "-m", "x"], "codex"),
        (["npx", "-y", "@google/gemini-cli"], "gemini"),
        (["python3", "-m", "aider", "--model", "x"], "aider"),
        (["/usr/bin/python3.11", "-I", "/opt/orc/share/demo/agent.py", "--log", "x"], "demo"),
        (["uvx", "aider"], "aider"),
        (["nice", "-n", "5", "claude"], "claude"),
        (["vim", "claude"], "plain"),
        (["node", "claude-notes.js"], "plain"),
        (["agent"], "plain"),
        (["env"], "plain"),
        ([""], "plain"),
        ([], "plain"),
    ],
)
def test_which_profile_a_command_gets(argv: list[str], name: str) -> None:
    assert profiles.for_command(SHIPPED, argv).name == name


def test_changes_are_merged_table_by_table() -> None:
    changed = profiles.load({"claude": {"submit": {"pause_ms": 150}, "match": ["claude", "cc"]}})
    assert (changed["claude"].key, changed["claude"].pause_ms) == (SHIPPED["claude"].key, 150)
    assert profiles.for_command(changed, ["cc"]).name == "claude"
    assert changed["claude"].composer == SHIPPED["claude"].composer
    assert changed["codex"] == SHIPPED["codex"]


def test_a_new_profile_starts_from_plain_or_from_another() -> None:
    made = profiles.load({"mine": {"match": ["mine"]}, "fork": {"like": "codex", "match": ["fork"]}})
    assert made["mine"].composer is None
    assert made["fork"].composer == SHIPPED["codex"].composer
    assert profiles.for_command(made, ["fork"]).name == "fork"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"claude": {"submitt": {}}}, "profiles.claude.submitt: unknown key (did you mean submit?)"),
        ({"claude": {"submit": {"pause": 5}}}, "profiles.claude.submit.pause: unknown key (did you mean pause_ms?)"),
        ({"claude": {"submit": {"pause_ms": "5"}}}, "profiles.claude.submit.pause_ms: a whole number is expected"),
        ({"claude": {"submit": {"pause_ms": True}}}, "profiles.claude.submit.pause_ms: a whole number is expected"),
        ({"claude": {"submit": {"pause_ms": -1}}}, "profiles.claude.submit.pause_ms: 0 to 10000 is expected"),
        ({"claude": {"submit": 5}}, "profiles.claude.submit: a table is expected"),
        ({"claude": {"match": "claude"}}, "profiles.claude.match: a list is expected"),
        ({"claude": {"match": [5]}}, "profiles.claude.match: a list of texts is expected"),
        ({"claude": {"when_busy": "wait"}}, "profiles.claude.when_busy: 'wait' is neither type nor hold"),
        ({"claude": {"state": {"working": ["("]}}}, "profiles.claude.state.working: '(' is no regular expression"),
        ({"claude": {"composer": {"prompt": "["}}}, "profiles.claude.composer.prompt: '[' is no regular expression"),
        ({"claude": {"dialog": {"cues": [["one"]]}}}, "profiles.claude.dialog.cues: a group needs two cues or more"),
        ({"claude": {"dialog": {"guard": ["a\nb"]}}}, "profiles.claude.dialog.guard: a tmux argument cannot hold"),
        ({"claude": {"dialog": {"guard": [""]}}}, "profiles.claude.dialog.guard: an empty cue finds everything"),
        ({"claude": {"state": {"limited_until": ["x"]}}}, "profiles.claude.state.limited_until: each pattern needs"),
        ({"claude": {"answers": {"yes": "y"}}}, "profiles.claude.answers.yes: a list is expected"),
        ({"x": {"like": "claud"}}, "profiles.x.like: no profile 'claud' (did you mean claude"),
        ({"x": 5}, "profiles.x: a table is expected"),
        ({"claude": {"submit": {5: 5}}}, "profiles.claude.submit.5: unknown key"),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        profiles.load(changes)
    assert str(error.value).startswith(said)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    for name in os.listdir(profiles.FOLDER):
        (tmp_path / name).write_bytes(Path(profiles.FOLDER, name).read_bytes())
    (tmp_path / "codex.toml").write_text("match = [")
    with pytest.raises(ConfigError, match=r"codex\.toml"):
        profiles.load(None, str(tmp_path))


def test_answers() -> None:
    assert SHIPPED["claude"].answer_keys("yes") == ["1"]
    assert SHIPPED["codex"].answer_keys("no") == ["Escape"]
    with pytest.raises(UsageError, match="did you mean yes"):
        SHIPPED["claude"].answer_keys("yess")


def test_resuming() -> None:
    assert SHIPPED["claude"].resume_argv(["claude", "-p"], "abc") == ["claude", "--resume", "abc", "-p"]
    assert SHIPPED["claude"].resume_argv(["claude"], None) == ["claude", "--continue"]
    assert SHIPPED["codex"].resume_argv(["env", "A=1", "codex"], "abc") == ["env", "A=1", "codex", "resume", "abc"]
    assert SHIPPED["plain"].resume_argv(["vim", "x"], "abc") == ["vim", "x"]


@pytest.mark.parametrize(
    ("given", "resumed", "fresh"),
    [
        ("claude --resume old --model m", "claude --resume new --model m", "claude --model m"),
        ("claude --model m -r old", "claude --resume new --model m", "claude --model m"),
        ("claude --resume=old", "claude --resume new", "claude"),
        ("claude -c --fork-session", "claude --resume new", "claude"),
        ("claude --session-id old", "claude --resume new", "claude"),
        ("claude --resume -p", "claude --resume new -p", "claude -p"),
        ("claude -p -- --resume old", "claude --resume new -p -- --resume old", "claude -p -- --resume old"),
        ("codex resume --last", "codex resume new", "codex"),
        ("codex --full-auto resume old", "codex resume new --full-auto", "codex --full-auto"),
        ("env A=1 node /x/gemini.js -r latest", "env A=1 node /x/gemini.js --resume new", "env A=1 node /x/gemini.js"),
        ("vim --resume x", "vim --resume x", "vim --resume x"),
    ],
)
def test_a_command_line_that_says_which_conversation_says_it_once(given: str, resumed: str, fresh: str) -> None:
    argv = given.split()
    profile = profiles.for_command(SHIPPED, argv)
    assert profile.resume_argv(argv, "new") == resumed.split()
    assert profile.resume_argv(profile.resume_argv(argv, "old"), "new") == resumed.split()
    assert profile.fresh_argv(argv) == fresh.split()
    assert argv == given.split()
