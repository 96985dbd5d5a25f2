"""What this machine says of an agent CLI: its version, whether Codex trusts our hooks and finds our commands.

Codex runs a hook only after a person has trusted its very words. It is asked through its app server, which answers
for the folder it is asked about. A CLI that is not there, answers late or otherwise than expected has said nothing:
None, never an error.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from typing import Any

from tmux_orchestrator.agents import hook_settings

PATIENCE_S = 10.0
_GRACE_S = 2.0
_LIMIT = 1 << 20
_HELLO = {"id": 1, "method": "initialize", "params": {"clientInfo": {"name": "orc-hook", "version": "1"}}}


def version(cli: str, env: Mapping[str, str]) -> str | None:
    """The version of the CLI that is on the PATH."""
    lines = _run([cli, "--version"], b"", env)
    words = [word for line in lines for word in line.split() if word[:1].isdigit() and "." in word]
    return words[0][:40] if words else None


def codex(folder: str, env: Mapping[str, str]) -> dict[str, str] | None:
    """For each hook of ours that Codex knows in this folder: the event, in its words, and `trusted` or what else."""
    asked = [_HELLO, {"method": "initialized"}, {"id": 2, "method": "hooks/list", "params": {"cwds": [folder]}}]
    said = "".join(json.dumps(one) + "\n" for one in asked)
    for line in _run(["codex", "app-server"], said.encode("utf-8", "surrogateescape"), env, until='"id":2,'):
        try:
            answer = json.loads(line)
            if answer.get("id") == 2:
                return dict(_ours(answer["result"]["data"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return None


def login_shell_finds(program: str, env: Mapping[str, str]) -> bool:
    """Does a login shell, which Codex has for every command, find the program? /etc/profile may set another PATH."""
    shell = env.get("SHELL") or "/bin/sh"
    return any(line.startswith("/") for line in _run([shell, "-lc", f"command -v {program}"], b"", env))


def _ours(folders: Any) -> Iterable[tuple[str, str]]:
    for folder in folders:
        for hook in folder["hooks"]:
            if hook_settings.words(hook.get("command")):
                yield str(hook["eventName"]), str(hook["trustStatus"])


def _run(argv: list[str], said: bytes, env: Mapping[str, str], until: str = "") -> list[str]:
    """The lines that the program prints, until one holds `until`, within the time there is."""
    program = shutil.which(argv[0], path=env.get("PATH"))
    if program is None:
        return []
    try:
        child = subprocess.Popen(
            [program, *argv[1:]],
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return []
    try:
        return _answer(child, said, until)
    except OSError:
        return []
    finally:
        _end(child)


def _answer(child: subprocess.Popen[bytes], said: bytes, until: str) -> list[str]:
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(said)
    child.stdin.flush()
    end, data = time.monotonic() + PATIENCE_S, b""
    while (left := end - time.monotonic()) > 0 and len(data) < _LIMIT:
        if not select.select([child.stdout], [], [], left)[0]:
            break
        block = os.read(child.stdout.fileno(), 1 << 16)
        data += block
        if not block or (until and until.encode() in data and data.endswith(b"\n")):
            break
    return data.decode("utf-8", "replace").split("\n")


def _end(child: subprocess.Popen[bytes]) -> None:
    """It ends by itself when nobody talks to it any more; else with all that it has started."""
    for pipe in (child.stdin, child.stdout):
        try:
            pipe.close()  # type: ignore[union-attr]
        except OSError:
            pass
    try:
        child.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
