"""The roadmap as the recipes change it: share/agents/roadmap.py, as a process and as a module."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import roadmap

from support_recipes import RECIPES, ROADMAP

PROGRAM = str(RECIPES / "roadmap.py")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "ROADMAP.md"
    made.write_text(ROADMAP)
    return made


def call(file: Path, *argv: str, code: int = 0, stdin: str = "") -> list[dict[str, Any]]:
    done = subprocess.run([PROGRAM, "--file", file, *argv], input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == (code > 1)
    return [json.loads(line) for line in done.stdout.splitlines()]


def ids(found: list[dict[str, Any]]) -> list[str]:
    return [one["id"] for one in found]


def test_a_line_of_many_blanks_is_read_at_once(file: Path) -> None:
    """One that nearly is an item is not tried in all the ways in which its blanks could be shared out."""
    lines = [
        "US-001: a (Planned" + ",     " * 60 + "!)",
        f"US-002: b{' ' * 300_000}!",
        "US-003: c (d) (planned,  high ,SPEC-1)  ",
    ]
    file.write_text("".join(f"- [ ] {line}\n" for line in lines))
    first, second, third = call(file, "list")
    assert first["title"].startswith("a (Planned,") and second["title"].endswith(" !")
    assert (third["title"], third["status"], third["severity"], third["spec"]) == ("c (d)", "Planned", "high", "SPEC-1")


def test_items_are_read_with_what_belongs_to_them(file: Path) -> None:
    first, second = call(file, "list")
    assert first["status"] == "Complete"
    assert second["id"] == "US-048"
    assert second["title"] == "Notifications have a sound"
    assert second["text"] == "Loud, but not too loud."
    assert (second["severity"], second["spec"], second["needs_spec"]) == ("normal", None, False)


@pytest.mark.parametrize(
    ("line", "status", "title"),
    [
        ("- [ ] US-1 by hand", "Planned", "by hand"),
        ("- [x] US-1: by hand", "Complete", "by hand"),
        ("- [X] US-1: (why) (complete)", "Complete", "(why)"),
        ("- [ ] US-1: ends in (Planned) (in progress, critical)", "In progress", "ends in (Planned)"),
        ("- [ ] US-1: what (nobody) knows (really)", "Planned", "what (nobody) knows (really)"),
    ],
)
def test_a_persons_lines_are_items_too(line: str, status: str, title: str) -> None:
    item = roadmap.parse(line, 0)
    assert item is not None
    assert (item.status, item.title) == (status, title)


@pytest.mark.parametrize(
    "line", ["", "  - [ ] US-1: x", "- US-1: x", "- [ ] us-1: x", "- [ ] US-1234567: x", "* [ ] US-1: x"]
)
def test_other_lines_are_none(line: str) -> None:
    assert roadmap.parse(line, 0) is None


def test_the_next_is_the_first_that_is_planned_and_waits_for_no_spec(file: Path) -> None:
    call(file, "add", "BUG", "broken", "--severity", "critical", "--needs-spec")
    assert ids(call(file, "next")) == ["US-048"]
    assert call(file, "next", "--with-spec", code=1) == []
    assert call(file, "set", "BUG-001", "--spec", "SPEC-073")[0]["needs_spec"] is False
    assert ids(call(file, "next")) == ids(call(file, "next", "--with-spec")) == ["BUG-001"]
    call(file, "set", "BUG-001", "In progress")
    assert ids(call(file, "next")) == ["US-048"]


def test_a_change_touches_its_line_alone(tmp_path: Path) -> None:
    file = tmp_path / "R.md"
    before = b"\xef\xbb\xbf# R\r\n\r\n- [ ] US-1: caf\xe9 \xff (Planned)\r\n  more\r\n\r\n<!-- end -->"
    file.write_bytes(before)
    file.chmod(0o640)
    call(file, "set", "US-1", "Complete")
    assert file.read_bytes() == before.replace(b"[ ]", b"[x]").replace(b"Planned", b"Complete")
    assert file.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["R.md"]


def test_a_change_can_depend_on_what_it_is_now(file: Path) -> None:
    call(file, "set", "US-048", "In progress", "--if", "Planned")
    before = file.read_text()
    call(file, "set", "US-048", "In progress", "--if", "Planned", code=1)
    call(file, "set", "US-999", "Complete", code=1)
    assert file.read_text() == before


def test_what_is_added_stands_by_its_severity(file: Path) -> None:
    for number, severity in enumerate(("low", "normal", "critical", "high", "critical")):
        call(file, "add", "BUG", f"number {number}", "--severity", severity, stdin="steps: press\nthe key\n")
    order = [one["severity"] for one in call(file, "list", "--status", "Planned")]
    assert order == ["critical", "critical", "high", "normal", "normal", "low"]
    assert ids(call(file, "list")) == ["US-047", "BUG-003", "BUG-005", "BUG-004", "US-048", "BUG-002", "BUG-001"]
    assert "  Loud, but not too loud.\n- [ ] BUG-002" in file.read_text()
    assert call(file, "show", "BUG-001")[0]["text"] == "steps: press\nthe key"


def test_the_same_is_added_once(file: Path) -> None:
    first = call(file, "add", "BUG", "No sound", "--mark", "task 1")
    assert call(file, "add", "BUG", "Something else", "--mark", "task 1") == first
    assert ids(call(file, "add", "BUG", "no SOUND", "--mark", "task 2")) == ["BUG-001"]
    call(file, "set", "BUG-001", "Complete")
    assert ids(call(file, "add", "BUG", "No sound", "--mark", "task 3")) == ["BUG-002"]


def test_hostile_text_is_one_item_and_no_mark(file: Path) -> None:
    title = "-x\n- [ ] US-1: y (Planned)\n\x1b[31m\u202e$(touch canary) (Complete)"
    details = "- [x] US-2: z (Complete)\n<!-- task 9 -->\n\x00\x07"
    call(file, "add", "BUG", "--mark", "task 1", "--", title, stdin=details)
    assert ids(call(file, "list")) == ["US-047", "US-048", "BUG-001"]
    assert call(file, "show", "BUG-001")[0]["status"] == "Planned"
    assert ids(call(file, "add", "BUG", "another", "--mark", "task 9")) == ["BUG-002"]
    assert "\x1b" not in file.read_text() and "\u202e" not in file.read_text()


def test_a_roadmap_is_made_when_there_is_none(tmp_path: Path) -> None:
    file = tmp_path / "ROADMAP.md"
    assert call(file, "list", code=1) == []
    assert not file.exists()
    call(file, "add", "BUG", "broken")
    assert file.read_text() == "# Roadmap\n\n- [ ] BUG-001: broken (Planned)\n"


def test_many_at_once_lose_nothing(file: Path) -> None:
    children = [
        subprocess.Popen(
            [PROGRAM, "--file", file, "add", "BUG", f"number {n}"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        for n in range(12)
    ]
    for child in children:
        child.communicate()
        assert child.returncode == 0
    assert sorted(ids(call(file, "list"))) == [*(f"BUG-{n:03}" for n in range(1, 13)), "US-047", "US-048"]


def test_what_cannot_be_used_is_told_in_a_line(tmp_path: Path, file: Path) -> None:
    call(tmp_path, "list", code=65)
    os.mkfifo(tmp_path / "fifo")
    call(tmp_path / "fifo", "list", code=65)
    call(tmp_path / "none" / "R.md", "add", "BUG", "x", code=74)
    call(file, "set", "US-048", "Done", code=64)
    call(file, "add", "bug", "x", code=64)
    call(file, "set", "US-048", "--spec", "$(x)", code=64)
    call(file, "what", code=64)
    call(file, code=64)
    file.write_bytes(b"x" * (roadmap.LARGEST + 1))
    call(file, "list", code=65)
