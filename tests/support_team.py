"""A team for tests: a home with some agents, its supervisor as a process, and what became of them.

    with Team(home, "a: {command: 'sleep 1000'}") as team:
        team.wait("a", state="running")

The supervisor is ended by its pid, and so is whatever the agents left, which carries the team's mark.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from support_tmux import wait_until
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work.team import kin, state

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FAST = "  health_check: {interval: 0.5}\n"


def configure(home: Home, agents: str, settings: str = "", rest: str = "") -> None:
    """`agents` are lines below team.agents, `settings` further ones below team, `rest` other sections."""
    os.makedirs(home.root, exist_ok=True)
    lines = "".join(f"    {line}\n" for line in agents.strip().split("\n"))
    more = "".join(f"  {line}\n" for line in settings.strip().split("\n") if line)
    Path(home.config_file).write_text(f"team:\n  agents:\n{lines}{more}{rest}")


class Team:
    """The supervisor is a child of the test; `again` starts another one after it."""

    def __init__(self, home: Home, agents: str, settings: str = "", *words: str, rest: str = "") -> None:
        configure(home, agents, settings, rest)
        self.home, self._words = home, words
        self._heard = ""
        self.said_last = ""  # into its output, by a supervisor that was ended
        self.begin()

    def begin(self) -> None:
        """Returns when it has looked at all agents."""
        self.child = subprocess.Popen(
            [f"{ROOT}/bin/orc-team", *self._words], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        label = f"(pid {self.child.pid})"
        wait_until(lambda: label in self.log() or self.child.poll() is not None, what="the supervisor")
        if self.child.poll() is not None:
            raise AssertionError(f"the supervisor ended: {self.child.communicate()[1].decode()}")

    def __enter__(self) -> Team:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            sys.stderr.write(self.log()[-6000:] + self.said_last)
        if self.child.poll() is None:
            self.child.kill()
        self.child.communicate()
        for family in self.families().values():
            kin.send(family, signal.SIGKILL)
        wait_until(lambda: not self.families(), what="the end of all agents")

    def kill(self) -> None:
        """kill -9 of the supervisor."""
        self.child.kill()
        self.child.communicate()

    def end(self) -> int:
        """SIGTERM, and its exit code."""
        self.child.terminate()
        self.said_last = self.child.communicate(timeout=60)[1].decode()
        return self.child.returncode

    def again(self) -> None:
        self.kill()
        self.begin()

    def families(self) -> dict[str, kin.Family]:
        return kin.families(state.load(self.home).id, {})

    def log(self) -> str:
        """The stream."""
        try:
            return Path(self.home.logs + "/team.log").read_text()
        except FileNotFoundError:
            return ""

    def complaints(self) -> str:
        """What it has said on stderr so far."""
        assert self.child.stderr is not None
        os.set_blocking(self.child.stderr.fileno(), False)
        self._heard += (self.child.stderr.read() or b"").decode()
        return self._heard

    def said(self, name: str) -> list[str]:
        """What one agent printed, as the stream has it."""
        lines = [line.split(" ", 2) for line in self.log().split("\n") if line.count(" ") >= 2]
        return [line[2] for line in lines if line[1] == f"{name}:"]

    def status(self) -> dict[str, dict[str, Any]]:
        told = subprocess.run(
            [f"{ROOT}/bin/orc-team", "status", "--json"], capture_output=True, text=True, check=False
        ).stdout
        return {one["name"]: one for one in json.loads(told)["agents"]}

    def kept(self, name: str) -> state.Kept:
        return state.load(self.home).agents.get(name, state.Kept(state=""))

    def wait(self, name: str, seconds: float = 30.0, **wanted: Any) -> state.Kept:
        """Until what is kept of an agent says so."""

        def there() -> bool:
            kept = self.kept(name)
            return all(getattr(kept, field) == value for field, value in wanted.items())

        wait_until(there, seconds, f"{name} {wanted}, not {self.kept(name)}")
        return self.kept(name)

    def wait_other(self, name: str, pid: int) -> int:
        """Until another process runs; its pid."""
        wait_until(lambda: self.kept(name).pid not in (0, pid), 30.0, f"another process of {name}")
        return self.kept(name).pid

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([f"{ROOT}/bin/orc-team", *words], capture_output=True, text=True, timeout=60, check=False)

    def events(self, kind: str = "notification") -> list[dict[str, Any]]:
        """Of the day files, those of the daemon `team`."""
        found: list[dict[str, Any]] = []
        for file in sorted(Path(self.home.events).glob("*.jsonl")):
            found += [json.loads(line) for line in file.read_bytes().split(b"\n")[:-1]]
        return [e for e in found if e["message"]["type"] == kind and e["source"]["identifier"] == "team"]

    def subjects(self) -> list[tuple[str, str, str]]:
        """Of the notifications: priority, subject, agent."""
        return [
            (e["message"]["priority"], e["message"]["content"]["subject"], e["message"]["content"]["context"]["agent"])
            for e in self.events()
        ]


def alive(pid: int) -> bool:
    """Zombies are not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
