"""Changes to the registry: whole or not at all, never losing one another, private to the user."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tmux_orchestrator.agents import registry, roster
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.ground.errors import DataError, TryLater, UsageError
from tmux_orchestrator.ground.paths import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(str(tmp_path / "home"))


def agent(name: str, session: str = "s", **fields: Any) -> Agent:
    return Agent({"name": name, "session": session, "role": name, **fields})


def keys(home: Home) -> list[str]:
    return [a.key for a in registry.load(home)]


def test_register_adds_and_replaces_by_key(home: Home) -> None:
    for one in (agent("a"), agent("b"), agent("a", "other"), agent("a", pid=7)):
        roster.register(home, one)
    assert keys(home) == ["s:a", "s:b", "other:a"]
    assert registry.load(home)[0].pid == 7


def test_files_are_private_whatever_the_umask(home: Home) -> None:
    before = os.umask(0)
    try:
        roster.register(home, agent("a"))
    finally:
        os.umask(before)
    for name, mode in (("", 0o700), ("/agents.json", 0o600), ("/agents.lock", 0o600)):
        assert stat.S_IMODE(os.stat(home.registry + name).st_mode) == mode, name


def test_forget(home: Home) -> None:
    roster.register(home, agent("a"))
    roster.register(home, agent("b"))
    assert roster.forget(home, "s:a").name == "a"
    assert keys(home) == ["s:b"]
    with pytest.raises(UsageError, match="not registered"):
        roster.forget(home, "s:a")


def test_rename(home: Home) -> None:
    roster.register(home, agent("a"))
    roster.register(home, agent("b"))
    roster.register(home, agent("c", "other"))
    assert roster.rename(home, "s:a", "c").key == "s:c"
    assert keys(home) == ["s:c", "s:b", "other:c"]
    with pytest.raises(UsageError, match="taken"):
        roster.rename(home, "s:c", "b")
    with pytest.raises(UsageError, match="no name"):
        roster.rename(home, "s:c", "#(x)")
    assert keys(home) == ["s:c", "s:b", "other:c"]


def test_update(home: Home) -> None:
    roster.register(home, agent("a"))
    assert roster.update(home, "s:a", paused=True).paused
    assert registry.load(home)[0].paused
    with pytest.raises(UsageError, match="did you mean s:a"):
        roster.update(home, "s:aa", paused=True)
    for field in ("colour", "name", "session"):
        with pytest.raises(ValueError, match=field):
            roster.update(home, "s:a", **{field: "x"})
    with pytest.raises(DataError, match="wrong type"):
        roster.update(home, "s:a", paused="yes")


@pytest.mark.parametrize("fields", [{"role": "Big Boss"}, {"groups": ["ok", "#(x)"]}, {"role": ""}])
def test_what_is_no_name_is_not_registered(home: Home, fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="no name"):
        roster.register(home, Agent({"name": "a", "session": "s", "role": "a"} | fields))
    assert keys(home) == []


def test_a_damaged_list_is_never_overwritten(home: Home) -> None:
    roster.register(home, agent("a"))
    Path(registry.path(home)).write_text("{")
    with pytest.raises(DataError):
        roster.register(home, agent("b"))
    assert Path(registry.path(home)).read_text() == "{"


def test_a_busy_lock_ends_in_try_later(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    roster.register(home, agent("a"))
    monkeypatch.setattr(roster, "_PATIENCE", 0.05)
    with FileLock(home.registry + "/agents.lock"), pytest.raises(TryLater):
        roster.register(home, agent("b"))


WRITER = """
import sys
from tmux_orchestrator.agents import roster
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.ground.paths import Home
for i in range(10):
    roster.register(Home(sys.argv[1]), Agent({"name": f"a{i}", "session": sys.argv[2], "role": "r"}))
"""


def test_concurrent_writers_lose_nothing(home: Home) -> None:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, home.root, f"s{n}"], env=env, stderr=subprocess.PIPE)
        for n in range(8)
    ]
    for writer in writers:
        _, complaint = writer.communicate(timeout=60)
        assert writer.returncode == 0, complaint
    assert sorted(keys(home)) == sorted(f"s{n}:a{i}" for n in range(8) for i in range(10))
