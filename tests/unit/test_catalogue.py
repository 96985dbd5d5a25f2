"""The catalogue is true: each command has all that a command has, and behaves as all commands do."""

from __future__ import annotations

import ast
import os
import subprocess
from pathlib import Path

import pytest

from tmux_orchestrator import __version__
from tmux_orchestrator.ground.paths import Home

ROOT = Path(__file__).resolve().parents[2]
STUBS = sorted((ROOT / "bin").glob("orc-*"))
COMMANDS = [stub.name for stub in STUBS]
# Tested through the manager, whose helper it is.
TESTS = {"orc-component": "manager.bats"}


def module(command: str) -> Path:
    return ROOT / "lib/tmux_orchestrator/commands" / (command.removeprefix("orc-").replace("-", "_") + ".py")


def usage(command: str) -> str:
    for node in ast.parse(module(command).read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "USAGE":
            return str(ast.literal_eval(node.value))
    raise AssertionError(f"{command} has no USAGE")


def call(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30, check=False)


def test_stubs_are_identical_and_short() -> None:
    first = STUBS[0].read_bytes()
    assert first.count(b"\n") < 10
    for stub in STUBS:
        assert stub.read_bytes() == first, stub.name
        assert os.access(stub, os.X_OK), stub.name
        assert not stub.is_symlink(), stub.name


def test_each_module_is_a_command() -> None:
    modules = {file.stem for file in (ROOT / "lib/tmux_orchestrator/commands").glob("*.py")} - {"__init__"}
    assert modules == {module(command).stem for command in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_its_tests(command: str) -> None:
    names = [TESTS.get(command, command + ".bats"), command.removeprefix("orc-") + ".bats"]
    assert any((ROOT / "tests/cmd" / name).exists() for name in names), f"no tests/cmd/{names[0]}"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_and_version(home: Home, command: str) -> None:
    helped = call(command, "--help")
    assert (helped.returncode, helped.stdout, helped.stderr) == (0, usage(command), "")
    versioned = call(command, "--version")
    assert (versioned.returncode, versioned.stdout, versioned.stderr) == (0, f"{command} {__version__}\n", "")
    assert not os.path.exists(home.root), "asking made something"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_its_parts(command: str) -> None:
    text = usage(command)
    assert text.startswith(f"usage: {command}")
    examples = text.partition("\nexamples:\n")[2].strip("\n").split("\n")
    assert len([line for line in examples if command in line]) >= 2
    assert max(map(len, text.split("\n"))) <= 120


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_option_is_a_usage_error_in_one_line(home: Home, command: str) -> None:
    done = call(command, "--no-such-option")
    assert done.returncode == 64
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"{command}: ")
    assert "--no-such-option" in done.stderr


@pytest.mark.parametrize("command", ["tmux-orc", str(ROOT / "orchestrator_manager.sh")])
def test_shell_front_ends_answer_too(command: str) -> None:
    name = os.path.basename(command)
    helped = call(command, "--help")
    assert helped.returncode == 0 and helped.stdout.startswith(f"usage: {name}") and "examples:" in helped.stdout
    assert call(command, "--version").stdout == f"{name} {__version__}\n"


def test_the_manager_stays_small() -> None:
    assert (ROOT / "orchestrator_manager.sh").read_text().count("\n") < 250
