"""What a machine says of its agent CLIs, which may be of any release, slow, broken, or not there."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest

from support_tmux import wait_until
from tmux_orchestrator.agents import hook_trust
from tmux_orchestrator.ground import proc


def program(folder: Path, name: str, script: str) -> dict[str, str]:
    """An environment whose PATH begins with a program of this name."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"PATH": f"{folder}:{os.defpath}", "HOME": str(folder)}


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo '2.1.197 (Claude Code)'", "2.1.197"),
        ("echo codex-cli 0.171.0", "0.171.0"),
        ("echo 'a warning'; echo v; echo 0.61.0", "0.61.0"),
        ("echo none", None),
        ("exit 1", None),
        ("head -c 3000000 /dev/zero", None),
    ],
)
def test_the_version(tmp_path: Path, script: str, expected: str | None) -> None:
    assert hook_trust.version("cli", program(tmp_path, "cli", script)) == expected


def test_a_cli_that_is_not_there(tmp_path: Path) -> None:
    env = {"PATH": str(tmp_path)}
    assert hook_trust.version("codex", env) is None
    assert hook_trust.codex("/", env) is None


def answering(*lines: object) -> str:
    """A program that reads the three requests, and prints these lines."""
    texts = [line if isinstance(line, str) else json.dumps(line, separators=(",", ":")) for line in lines]
    said = "".join(f"echo {shlex.quote(text)}\n" for text in texts)
    return f"read a; read b; read c\n{said}exec sleep 600"


def hook(event: str, command: str, status: str) -> dict[str, str]:
    return {"eventName": event, "command": command, "trustStatus": status}


def test_whether_codex_trusts_our_hooks(tmp_path: Path) -> None:
    hooks = [
        hook("stop", "/opt/bin/orc-hook codex Stop", "trusted"),
        hook("sessionStart", "'/my opt/orc-hook' codex SessionStart", "untrusted"),
        hook("stop", "say done", "untrusted"),
    ]
    answer = {"id": 2, "result": {"data": [{"cwd": "/", "hooks": hooks}]}}
    script = answering({"id": 1, "result": {}}, {"method": "warning"}, "no JSON", answer)
    assert hook_trust.codex("/", program(tmp_path, "codex", script)) == {"stop": "trusted", "sessionStart": "untrusted"}


@pytest.mark.parametrize("answer", [{"id": 2, "error": {"message": "no"}}, {"id": 2, "result": {"data": 7}}, [], "x"])
def test_an_answer_of_another_form_says_nothing(
    tmp_path: Path, answer: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook_trust, "PATIENCE_S", 1.0)
    monkeypatch.setattr(hook_trust, "_GRACE_S", 0.1)
    assert hook_trust.codex("/", program(tmp_path, "codex", answering(answer))) is None


def test_whoever_does_not_answer_is_ended_with_what_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook_trust, "PATIENCE_S", 0.5)
    monkeypatch.setattr(hook_trust, "_GRACE_S", 0.1)
    env = program(tmp_path, "codex", f"sleep 600 & echo $! >{tmp_path}/pid; wait")
    assert hook_trust.codex("/", env) is None
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: proc.start_time(pid) is None, what="the end of its child")


def test_whether_a_login_shell_finds_a_program(tmp_path: Path) -> None:
    env = program(tmp_path, "orc-thing", "exit 0") | {"SHELL": "/bin/sh"}
    (tmp_path / ".profile").write_text("PATH=/nowhere\n")
    assert not hook_trust.login_shell_finds("orc-thing", env)
    (tmp_path / ".profile").write_text(f"PATH={tmp_path}\n")
    assert hook_trust.login_shell_finds("orc-thing", env)
