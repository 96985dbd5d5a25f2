"""The agent of share/demo behaves in a real terminal as the real agent CLIs do, and its profile understands it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support_orc import DEMO
from support_tmux import Server, wait_until
from tmux_orchestrator.agents import profiles, screen

PROFILE = profiles.load()["demo"]


class Demo:
    def __init__(self, server: Server, log: Path) -> None:
        self.server, self.log = server, log
        self.pane, self.pid = server.start([sys.executable, DEMO, "--log", str(log), "--work", "0.2"])
        self.until(composer="empty")

    def screen(self) -> screen.Screen:
        """What is shown; looked at anew where it changed between the picture and the cursor."""
        while True:
            before = self.server.show(self.pane, "#{cursor_x} #{cursor_y}")
            lines = self.server.tmux("capture-pane", "-e", "-p", "-t", self.pane).split("\n")
            if self.server.show(self.pane, "#{cursor_x} #{cursor_y}") == before:
                x, y = before.split()
                return screen.classify(PROFILE, lines, (int(x), int(y)))

    def until(self, **fields: object) -> None:
        wait_until(
            lambda: all(getattr(self.screen(), name) == value for name, value in fields.items()), what=str(fields)
        )

    def paste(self, text: str, enter: bool = True) -> None:
        """As the typist does: a bracketed paste, and the key in the same command list."""
        path = self.log.with_suffix(".paste")
        path.write_text(text, encoding="utf-8")
        key = [";", "send-keys", "-t", self.pane, "Enter"] if enter else []
        paste = ["paste-buffer", "-p", "-r", "-d", "-b", "x", "-t", self.pane]
        self.server.tmux("load-buffer", "-b", "x", str(path), ";", *paste, *key)

    def keys(self, *keys: str) -> None:
        self.server.tmux("send-keys", "-t", self.pane, *keys)

    def logged(self, field: str) -> list[Any]:
        if not self.log.exists():
            return []
        entries = [json.loads(line) for line in self.log.read_text(encoding="utf-8").split("\n")[:-1]]
        return [entry[field] for entry in entries if field in entry]

    def ended(self) -> str:
        """Exit status and signal. tmux may miss the death of a child until another one ends."""
        how = "#{pane_dead_status}/#{pane_dead_signal}"

        def known() -> bool:
            self.server.tmux("run-shell", "true")
            return self.server.show(self.pane, how) != "/"

        wait_until(known, what="the end")
        return self.server.show(self.pane, how)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    with Server() as server:
        yield Demo(server, tmp_path / "demo.log")


def test_a_prompt_of_several_lines_is_submitted_once_and_whole(demo: Demo) -> None:
    text = "first line\n\n  indented ünïcödé 漢字\ttab\nlast"
    demo.paste(text)
    wait_until(lambda: demo.logged("prompt") == [text], what="the prompt")
    demo.until(state="idle", composer="empty")
    assert "Done: first line indented" in "\n".join(demo.screen().text)


def test_what_comes_while_it_works_is_queued(demo: Demo) -> None:
    demo.paste("[[slow:1000]] work")
    demo.until(state="working", composer="empty", queued=False)
    demo.paste("second")
    demo.paste("third")
    demo.until(state="working", queued=True)
    wait_until(lambda: len(demo.logged("prompt")) == 3, what="both of them")
    demo.keys(*PROFILE.interrupt)
    demo.until(state="idle", queued=False)
    assert demo.logged("prompt") == ["[[slow:1000]] work", "second", "third"]
    assert demo.logged("queued") == [False, True, True]


def test_a_draft_is_seen_and_kept(demo: Demo) -> None:
    demo.paste("one\ntwo\n\nfour", enter=False)
    demo.until(state="idle", composer="draft", draft="one\ntwo\n\nfour")
    demo.keys("BSpace")
    demo.until(draft="one\ntwo\n\nfou")
    demo.keys("Enter")
    wait_until(lambda: demo.logged("prompt") == ["one\ntwo\n\nfou"], what="the prompt")


def test_a_long_draft_is_still_a_draft(demo: Demo) -> None:
    demo.paste("\n".join(f"line {number}" for number in range(100)), enter=False)
    demo.until(composer="draft")
    assert demo.screen().draft.endswith("line 99")


@pytest.mark.parametrize(
    ("keys", "answer"),
    [
        (["Enter"], "Yes"),
        (["Down", "Enter"], "Yes, and do not ask again"),
        (["Down", "Down", "Down", "Up", "Down", "Enter"], "No"),
        (["Escape"], "No"),
        (["1"], "Yes"),
        (["3"], "No"),
    ],
)
def test_the_dialog_defaults_to_yes_and_runs_nothing(demo: Demo, keys: list[str], answer: str) -> None:
    canary = demo.log.with_name("canary")
    demo.paste(f"[[tool:touch {canary}]] please")
    demo.until(state="waiting", composer="none", choices=["1. Yes", "2. Yes, and do not ask again", "3. No"])
    assert demo.screen().question.endswith("Run this command?")
    assert any(demo.server.show(demo.pane, f"#{{C/r:{cue}}}") != "0" for cue in PROFILE.guard)
    demo.keys(*keys)
    demo.until(state="idle", composer="empty")
    assert (demo.logged("answer"), demo.logged("command")) == ([answer], [f"touch {canary}"])
    assert not canary.exists()
    assert all(demo.server.show(demo.pane, f"#{{C/r:{cue}}}") == "0" for cue in PROFILE.guard)


def test_a_paste_into_the_dialog_is_lost_but_its_enter_answers(demo: Demo) -> None:
    """The trap that the real CLIs set for whoever types without looking."""
    demo.paste("[[tool:make]]")
    demo.until(state="waiting")
    demo.paste("hello")
    demo.until(state="idle")
    assert demo.logged("answer") == ["Yes"]
    assert demo.logged("prompt") == ["[[tool:make]]"]


def test_escape_interrupts(demo: Demo) -> None:
    demo.paste("[[slow:60]]")
    demo.until(state="working")
    demo.keys(*PROFILE.interrupt)
    demo.until(state="idle", composer="empty")
    assert "Interrupted" in "\n".join(demo.screen().text)


def test_a_limit(demo: Demo) -> None:
    demo.paste("[[limit]]")
    demo.until(state="limited")
    until = demo.screen().limited_until
    assert until is not None and len(until) == 5
    demo.paste("[[slow:9]] again")
    demo.until(state="working")


@pytest.mark.parametrize(("prompt", "end"), [("[[exit]]", "0/"), ("[[crash]]", "/9")])
def test_it_ends_as_it_is_told(demo: Demo, prompt: str, end: str) -> None:
    demo.paste(prompt)
    assert demo.ended() == end


def test_every_byte_is_logged(demo: Demo) -> None:
    demo.keys("a", "C-a", "Up")
    wait_until(lambda: "".join(demo.logged("keys")).startswith("a\x01\x1b"), what="the keys")
    demo.until(draft="a")
    assert demo.logged("prompt") == []


def test_a_marker_inside_a_paste_ends_it_there(demo: Demo) -> None:
    """Nothing is guessed: what follows the marker counts as typed, as in any terminal program."""
    demo.paste("a\x1b[201~b\rc", enter=False)
    demo.until(draft="c")
    assert demo.logged("prompt") == ["ab"]


def test_a_resize_is_drawn(demo: Demo) -> None:
    demo.server.tmux("resize-window", "-t", demo.pane, "-x", "44", "-y", "12")
    wait_until(lambda: "▔" * 44 in demo.server.screen(demo.pane).split("\n"), what="the new width")
    demo.until(state="idle", composer="empty")


def test_without_a_terminal_it_says_so() -> None:
    done = subprocess.run([sys.executable, DEMO], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr.count("\n") == 1
    assert os.access(DEMO, os.X_OK)
