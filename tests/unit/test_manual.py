"""Manual pages and completions: made from the usage texts, sound, and what is committed is what would be made."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
AS_MADE = "run make man"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_manual", ROOT / "share/manual/make.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make = load()
MADE: dict[str, str] = make.files()
NAMES = [*make.commands(), *make.SCRIPTS]
PAGES = [path for path in MADE if path.startswith("man/")]


@pytest.mark.parametrize("path", MADE)
def test_what_is_committed_is_what_would_be_made(path: str) -> None:
    assert (ROOT / path).exists(), AS_MADE
    assert (ROOT / path).read_text() == MADE[path], AS_MADE


def test_nothing_is_left_of_what_is_gone() -> None:
    found = {f"{folder}/{file.name}" for folder in ("man", "share/completion") for file in (ROOT / folder).iterdir()}
    assert found == set(MADE), AS_MADE


@pytest.mark.parametrize("path", PAGES)
def test_a_formatter_has_nothing_against_a_page(path: str) -> None:
    assert make.faults(str(ROOT / path)) == ""


@pytest.mark.skipif(not shutil.which("man") or not shutil.which("groff"), reason="man is not installed")
def test_a_formatter_is_heard(tmp_path: Path) -> None:
    broken = tmp_path / "broken.1"
    broken.write_text(".TH X 1\n.SH NAME\nx \\- y\n.TP\n.nosuchmacro\n")
    assert make.faults(str(broken)) != ""


def shown(path: str, width: int = 100) -> str:
    """A page as a reader sees it."""
    env = os.environ | {"LC_ALL": "C.UTF-8", "MANWIDTH": str(width)}
    return subprocess.run(["man", "-l", path], env=env, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(not shutil.which("man") or not shutil.which("groff"), reason="man is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_examples_can_be_copied_from_a_page(name: str) -> None:
    usage: str = make.described(name)[1]
    text = shown(str(ROOT / f"man/{name}.1"), width=160)
    for line in usage.partition("\nexamples:\n")[2].strip("\n").split("\n"):
        assert line.strip() in text
    for option in make.words(name):
        assert option in text


def test_what_follows_an_option_belongs_to_it() -> None:
    lines = ["  -f, --follow            go on", "                          until something matches", "  -q  quiet"]
    assert make.option_list(lines) == [
        ".TP",
        "\\fB\\-f, \\-\\-follow\\fR",
        "go on",
        "until something matches",
        ".TP",
        "\\fB\\-q\\fR",
        "quiet",
    ]


def test_indented_lines_stay_as_they_are() -> None:
    assert make.filled(["a", "b", "", "  .x  y", "c", "", ""]) == ["a", "b", ".PP", ".nf", "  .x  y", ".fi", "c"]
    assert make.filled(["a", "  b", "", "  c"]) == ["a", ".nf", "  b", ".fi", ".PP", ".nf", "  c", ".fi"]


def test_text_is_never_roff() -> None:
    assert make.escape(".so /etc/passwd") == "\\&.so /etc/passwd"
    assert make.escape("'x' `y` ~ ^ \\n -- …é") == "\\(aqx\\(aq \\(gay\\(ga \\(ti \\(ha \\en \\-\\- ...\\[u00E9]"


def test_no_spelling_has_two_sets_of_values() -> None:
    seen: dict[str, str] = {}
    for name in make.commands():
        for attribute, spelled in make.spellings(name).items():
            for option in spelled:
                values = make.VALUES.get(attribute, "none")
                assert seen.setdefault(option, values) == values, f"{name} {option}"


def complete(*typed: str, agents: str = "") -> list[str]:
    """What bash offers for the last word."""
    script = """
        source "$1"; shift
        orc-agent() { [ "$*" = "list -o name" ] && printf '%s\\n' $AGENTS; }
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _orc
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-uc", script, "bash", str(ROOT / "share/completion/orc.bash"), *typed],
        env=os.environ | {"AGENTS": agents},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    "typed, wanted",
    [
        (["orc-publish", "--su"], ["--subject", "--supersede"]),
        (["/some/where/bin/orc-publish", "--wa"], ["--wait"]),
        (["orc-publish", "-p", ""], ["critical", "high", "normal", "low"]),
        (["orc-publish", "hello", "--to", ""], ["pm", "backend"]),
        (["orc-publish", "-t", "b"], ["backend"]),
        (["orc-publish", "--file", ""], []),
        (["orc-run", "pm", "--restart", "c"], ["crash"]),
        (["orc-agent", "pa"], ["pause"]),
        (["orc-agent", "pause", "p"], ["pm"]),
        (["tmux-orc", "pub"], ["publish", "pubsub"]),
        (["tmux-orc", "publish", "--pri"], ["--priority"]),
        (["tmux-orc", "agent", "stop", "ba"], ["backend"]),
        (["orchestrator_manager.sh", "cl"], ["clear-queues"]),
        (["tmux-orc", "nonsense", "x"], []),
    ],
)
def test_bash_completes(typed: list[str], wanted: list[str]) -> None:
    assert complete(*typed, agents="pm backend") == wanted


@pytest.mark.parametrize("shell, path", [("zsh", "share/completion/_orc"), ("fish", "share/completion/orc.fish")])
def test_the_other_shells_can_read_theirs(shell: str, path: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([shell, "-n", str(ROOT / path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
