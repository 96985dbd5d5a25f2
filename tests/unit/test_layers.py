"""The house stays true: imports go down the floors, each package has one home, and hot commands load little."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.run import HOT

LIB = Path(__file__).resolve().parents[2] / "lib"
PACKAGE = LIB / "tmux_orchestrator"
FLOORS = {
    "ground": 0,
    "eventlog": 1,
    "agents": 2,
    "delivery": 3,
    "watch": 3,
    "work": 3,
    "coordination": 3,
    "insight": 4,
    "cluster": 4,
    "core": 4,  # import paths of what is below
    "commands": 5,
    "run": 5,
    "bundle": 5,
}
# Whoever else wants one of these asks its home. A trailing dot: every module below.
HOMES = {
    "yaml": ("ground.config_compile",),
    "redis": ("cluster.",),
    "inotify_simple": ("ground.watch",),
    "libtmux": ("agents.windows",),
    "sqlite3": ("work.store.sqlite",),
    "_sqlite3": ("work.store.sqlite",),
    "cronsim": ("ground.timetable",),
    "psutil": ("work.team.measures",),
}
# Standard library that a hot command may load on its way, besides what a bare interpreter has: C code, or tiny.
CHEAP = {"__future__", "_json", "_signal", "errno", "fcntl", "mmap", "pwd", "time"}
CHEAP |= {"_functools", "_sqlite3", "itertools"}  # of tasks
CHEAP |= {"_operator", "_sha256", "_socket", "_struct", "struct"}  # of heartbeats
RUNS = {
    "publish": ["--tag", "t", "hello"],
    "read": ["--tail", "3"],
    "ack": ["--help"],
    "heartbeat": ["--agent", "team:dev", "--host", "127.0.0.1:9"],  # signs, and asks in vain
    "ratelimit": ["key", "--rate", "10/min"],
    "hook": ["claude", "Stop"],
    "task": ["get", "--recipient", "dev"],
}
# Besides the runner: a hook is ended by a thread of its own when it takes too long.
EXITING = ("run", "commands.hook")


def name_of(file: Path) -> str:
    """`ground.tmux.server` for lib/tmux_orchestrator/ground/tmux/server.py, `ground` for its __init__."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}


@cache
def tree_of(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text())


def imports(name: str) -> set[str]:
    """All that a module imports, anywhere in it, as full names; a relative import is refused."""
    found: set[str] = set()
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                below = full.removeprefix("tmux_orchestrator.")
                found.add(full if below in MODULES else str(node.module))
    return found


def our(name: str) -> set[str]:
    ours = {full.removeprefix("tmux_orchestrator.") for full in imports(name) if full.startswith("tmux_orchestrator.")}
    return {full for full in ours if full in MODULES}


def literals(name: str) -> list[ast.List | ast.Tuple]:
    return [node for node in ast.walk(tree_of(name)) if isinstance(node, ast.List | ast.Tuple) and node.elts]


def test_every_room_has_a_floor() -> None:
    assert {name.partition(".")[0] for name in MODULES if name} <= set(FLOORS)


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_imports_go_down(name: str) -> None:
    room = name.partition(".")[0]
    for other in our(name):
        below = other.partition(".")[0]
        allowed = FLOORS[below] < FLOORS[room] or (below == room and room != "commands") or other == "commands"
        assert allowed, f"{name} imports {other}"


def test_one_home_for_each_package() -> None:
    for name in MODULES:
        for full in imports(name):
            homes = HOMES.get(full.partition(".")[0])
            assert homes is None or name.startswith(homes), f"{name} imports {full}: its home is {homes}"


def test_only_ground_tmux_runs_tmux() -> None:
    for name in MODULES:
        if name.startswith("ground.tmux"):
            continue
        for node in literals(name):
            first = node.elts[0]
            assert not (isinstance(first, ast.Constant) and first.value == "tmux" and isinstance(node, ast.List)), (
                f"{name}:{node.lineno} runs tmux"
            )


def test_only_the_runner_exits_and_only_errors_knows_the_codes() -> None:
    codes = {2, 64, 65, 69, 70, 74, 75, 77, 78, 124}
    for name in MODULES:
        for node in ast.walk(tree_of(name)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                called = f"{node.value.id}.{node.attr}"
                assert name in EXITING or called not in ("os._exit", "sys.exit"), f"{name}:{node.lineno} {called}"
            if not name.startswith("commands.") and name != "run":
                continue
            if isinstance(node, ast.Return) and isinstance(node.value, ast.Constant):
                assert node.value.value not in codes, f"{name}:{node.lineno} returns a bare number"


LOADED = """
import os, sys
bare = set(sys.modules)
sys.path.insert(0, {lib!r})
leave = os._exit
def tell(code):
    os.write(2, "\\n".join(["", "LOADED", *sorted(set(sys.modules) - bare)]).encode())
    leave(code)
os._exit = tell
from tmux_orchestrator.run import run
run("orc-" + sys.argv[1], sys.argv[2:])
"""


@pytest.mark.parametrize("command", sorted(HOT))
def test_hot_commands_load_little(home: Home, command: str) -> None:
    start = [sys.executable, "-I", "-S", "-c", LOADED.format(lib=str(LIB))]
    said = b""
    for name in ("publish", "publish", command):  # the first makes the home, the second compiles the configuration
        said = subprocess.run(
            [*start, name, *RUNS[name]], capture_output=True, stdin=subprocess.DEVNULL, check=False
        ).stderr
    errors, _, names = said.decode().partition("\nLOADED\n")
    heavy = {name for name in names.split("\n") if not name.startswith("tmux_orchestrator")} - CHEAP
    assert names and not heavy, f"{command} loads {sorted(heavy)} {errors}"


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_modules_and_functions_are_short(name: str) -> None:
    text = MODULES[name].read_text()
    assert text.count("\n") <= 350, f"{name} has {text.count(os.linesep)} lines"
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"{name}: {node.name} has {length} lines"


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_modules_say_what_they_own(name: str) -> None:
    doc = ast.get_docstring(tree_of(name))
    assert doc or not MODULES[name].read_text(), f"{name} has no docstring"
