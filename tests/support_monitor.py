"""A real monitor for tests: started and past its first look, what it said, and proof that it goes on.

with Watched() as watched:                # a system with a witness agent and orc-monitor
    other = watched.agent("other", …)
    watched.looks(3)                      # three more cycles are over
    watched.goes_on()                     # the witness is killed, and its death is told; nothing else was
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from typing import Any

from support_orc import BIN, Agent, System
from support_tmux import wait_until

QUICK = "recovery: {grace_s: 0, spacing_s: 0}\n"
LOOKS = "look_interval: 0.2, healthy_report: 0"


def monitor(system: System, *command: str) -> subprocess.Popen[bytes]:
    """Started, and past its first look. What it prints is in `logs/monitor.out`."""
    os.makedirs(system.root + "/logs", 0o700, exist_ok=True)
    with open(system.root + "/logs/monitor.out", "ab") as out:
        argv = list(command) or [f"{BIN}/orc-monitor"]
        child = subprocess.Popen(argv, env=system.env, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    system.children.append(child)
    pid_file = system.root + "/logs/monitor.pid"
    wait_until(lambda: os.path.exists(pid_file) and open_count(child.pid) > 0, what="the monitor's start")
    return child


def open_count(pid: int) -> int:
    """How many processes it waits for."""
    count, folder = 0, f"/proc/{pid}/fd"
    for fd in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            count += "pidfd" in os.readlink(f"{folder}/{fd}")
    return count


def alerts(system: System) -> list[str]:
    return [e["message"]["content"]["body"] for e in system.events() if e["message"]["type"] == "alert"]


def recovered(system: System) -> list[dict[str, Any]]:
    return [e["message"]["content"]["context"] for e in system.events() if e["message"]["type"] == "recovery"]


def said(system: System, issue: str) -> list[dict[str, Any]]:
    """The monitoring's events about such an issue."""
    return [e for e in system.events() if e["message"]["content"]["context"].get("issue_type") == issue]


class Watched(System):
    """A system with a monitor that looks five times a second, and a witness agent that nothing happens to."""

    def __init__(self, monitoring: str = "", more: str = "", *command: str) -> None:
        super().__init__()
        self._command = command
        self.watch(monitoring, more)

    def __enter__(self) -> Watched:
        self.witness = self.demo("witness")
        self.monitor = monitor(self, *self._command)
        return self

    def watch(self, monitoring: str = "", more: str = "") -> None:
        """Change the section `monitoring`, and what else is configured."""
        self.configure(f"monitoring: {{{LOOKS}{', ' * bool(monitoring)}{monitoring}}}\n{QUICK}{more}")

    def account(self) -> dict[str, Any]:
        """What the monitor says of itself."""
        return self._kept("monitor")

    def looks(self, count: int = 4, seconds: float = 20.0) -> None:
        """Until it has looked so many times more."""
        seen = [self.account().get("at")]

        def enough() -> bool:
            at = self.account().get("at")
            seen.extend([at] if at != seen[-1] else [])
            return len(seen) > count

        wait_until(enough, seconds, f"{count} looks")

    def state(self, agent: Agent) -> str:
        """What the monitor takes it for; "" if it has not seen it yet."""
        return str(self._kept("lives").get(f"team:{agent.name}", ["", "", ""])[2])

    def _kept(self, name: str) -> dict[str, Any]:
        try:
            with open(f"{self.root}/logs/run/{name}.json", "rb") as file:
                return dict(json.load(file))
        except (OSError, ValueError, TypeError, RecursionError):  # a test has damaged it
            return {}

    def told(self) -> list[str]:
        """What the monitoring said, but that new agents have no briefing."""
        found = []
        for event in self.events():
            content = event["message"]["content"]
            issue = content["context"].get("issue_type", "")
            if event["source"]["identifier"] in ("monitor", "questions", "recovery") and issue != "fresh":
                found.append(f"{issue or event['message']['type']}: {content['body']}")
        return found

    def output(self) -> list[str]:
        """The lines that the monitor printed."""
        with open(self.root + "/logs/monitor.out", encoding="utf-8", errors="replace") as file:
            return file.read().split("\n")[:-1]

    def goes_on(self, *expected: str) -> None:
        """Nothing but `expected` (beginnings) was told; and a death is still seen, and told once."""
        self.looks(2)
        before = self.told()
        assert len(before) == len(expected), before
        assert all(one.startswith(begin) for one, begin in zip(before, expected, strict=True)), before
        os.kill(self.witness.pid, signal.SIGKILL)
        wait_until(lambda: len(self.told()) > len(before), what="the witness's alert")
        assert self.told()[len(before) :] == [
            "dead: team:witness died: ended by signal 9: orc-agent restart team:witness"
        ]
        assert self.monitor.poll() is None
