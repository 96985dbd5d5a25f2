"""The catalogue is true: each command has all that a command has, and behaves as all commands do."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from pathlib import Path

import pytest

from tmux_orchestrator import __version__
from tmux_orchestrator.ground import errors
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.run import OTHER_NAMES

ROOT = Path(__file__).resolve().parents[2]
STUBS = sorted((ROOT / "bin").glob("orc-*"))
COMMANDS = [stub.name for stub in STUBS]
DOCS = sorted((ROOT / "docs").glob("*.md"))
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


def test_a_command_of_two_names_is_one(home: Home) -> None:
    for other, name in OTHER_NAMES.items():
        assert (ROOT / "bin" / other).read_bytes() == STUBS[0].read_bytes()
        assert call(other, "--help").stdout == usage(name)
        assert call(other, "--version").stdout == f"{other} {__version__}\n"


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


@pytest.mark.parametrize("command", [*COMMANDS, "tmux-orc"])
def test_each_command_has_its_page_its_completions_and_its_row(command: str) -> None:
    assert (ROOT / f"man/{command}.1").read_text().startswith(".TH ")
    for name in ("orc.bash", "_orc", "orc.fish"):
        words = (ROOT / "share/completion" / name).read_text().split()
        assert command in words or f"{command})" in words, name
    assert f"\n| `{command}` | " in (ROOT / "README.md").read_text()


def test_pages_and_rows_are_of_commands_that_exist() -> None:
    names = {*COMMANDS, "tmux-orc"}
    rows = re.findall(r"^\| `(\S+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(names)
    assert {page.stem for page in (ROOT / "man").glob("*.1")} == names | {"orchestrator_manager.sh"}


@pytest.mark.parametrize("path", ["README.md", "docs/format.md", "man/orc.7"])
def test_exit_codes_are_told(path: str) -> None:
    """Beside words: a number that stands for itself, such as 64, is nowhere else."""
    text = (ROOT / path).read_text()
    codes = {name: code for name, code in vars(errors).items() if name.isupper() and isinstance(code, int)}
    assert len(codes) >= 11 and 2 not in codes.values()
    missing = {name: code for name, code in codes.items() if not re.search(rf"(?<![\w.:-]){code}(?![\w.:%-])", text)}
    assert missing == {}


def test_exit_codes_are_known_to_one_module_alone() -> None:
    numbers = {
        str(code) for name, code in vars(errors).items() if name.isupper() and isinstance(code, int) and code > 1
    }
    for file in sorted((ROOT / "lib/tmux_orchestrator").rglob("*.py")):
        if file.name != "errors.py":
            told = re.search(rf"(?:return|code =|exit\() ?(?:{'|'.join(sorted(numbers))})\b", file.read_text())
            assert told is None, f"{file.name}: {told and told.group()}"


@pytest.mark.parametrize("path", ["README.md", "CHANGELOG.md", *(f"docs/{file.name}" for file in DOCS)])
def test_links_lead_somewhere(path: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / path).read_text()):
        assert ((ROOT / path).parent / target).exists(), f"{path}: {target}"


def test_the_readme_can_be_read_in_one_sitting() -> None:
    assert (ROOT / "README.md").read_text().count("\n") < 150


def test_make_alone_lists_its_targets() -> None:
    listed = {line.split()[0] for line in call("make", "-s", "-C", str(ROOT)).stdout.splitlines()}
    assert listed >= {"setup", "check", "test", "lint", "types", "bench", "proof", "man", "install", "dist", "clean"}
    assert listed >= {"demo", "test-agents"}
