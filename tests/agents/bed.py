"""A test bed: one real agent CLI, started by orc-run in a system of its own, with the endpoint behind it.

What was submitted is what the endpoint was asked, never what a screen shows.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from agents import clis
from support_orc import BIN, HEADER, Agent, System
from support_tmux import wait_until

ENDPOINT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "endpoint.py")


def body_of(text: str) -> str:
    """A submitted text without our header; Claude Code ends all but the last of several prompts with a newline."""
    return HEADER.sub("", text).removesuffix("\n")


def end_rest(home: str) -> None:
    """The CLIs leave daemons behind, which nothing ends: known by the scratch home that they were given."""
    mark = b"HOME=" + home.encode()
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                if name.isdigit() and mark in file.read().split(b"\0"):
                    os.kill(int(name), signal.SIGKILL)
        except (OSError, ValueError):
            pass


class Bed(System):
    """`name` is the CLI and the agent's name; `config` is YAML text."""

    latency_ms = 110  # from the command to the model's request, median
    most_bytes = 4000  # of a message that is cut, with its header and where to read the rest

    def __init__(self, folder: str, name: str, config: str) -> None:
        super().__init__(config)
        self.name = name
        self.folder = folder
        self.home = tempfile.mkdtemp(prefix="orc-cli-")
        self.project = self.home + "/project"
        self.requests_file = self.home + "/requests.jsonl"
        self.endpoint = subprocess.Popen(
            [sys.executable, ENDPOINT, "0", self.requests_file], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
        self.children.append(self.endpoint)
        assert self.endpoint.stdout is not None
        port = int(self.endpoint.stdout.readline())
        clis.prepare(name, self.home, self.project, port)
        ours = {key: self.env[key] for key in ("ORC_HOME", "ORC_TMUX_SOCKET", "TMUX_TMPDIR")}
        self.env = clis.environment(name, self.home, port) | ours
        self.env["PATH"] = f"{BIN}:{self.env['PATH']}"
        self.broker()
        self.cli = self._start()
        self._warm_up()

    def __enter__(self) -> Bed:
        return self

    def _start(self) -> Agent:
        os.chdir(self.project)
        try:
            return self.agent(self.name, clis.program(self.folder, self.name))
        finally:
            os.chdir("/")

    def _warm_up(self) -> None:
        """The CLIs take seconds over their first prompt; the tests are about the others."""
        self.until("idle")
        self.publish("-t", self.name, "good morning")
        if not self.wait_arrival("good morning", 60):
            raise AssertionError("the first message did not arrive within 60 s")
        self.until("idle")

    def close(self) -> None:
        super().close()
        end_rest(self.home)
        if self.endpoint.stdout is not None:
            self.endpoint.stdout.close()
        wait_until(self._removed, what="the end of the scratch home")

    def _removed(self) -> bool:
        """Once whoever wrote into it has ended."""
        shutil.rmtree(self.home, ignore_errors=True)
        return not os.path.exists(self.home)

    def until(self, state: str, seconds: float = 30.0) -> None:
        """Until the agent is in this state, as our own commands see it."""
        self.run("orc-agent", "wait", self.name, "--until", state, "--timeout", f"{seconds:g}s")

    def requests(self) -> list[dict[str, Any]]:
        """What the endpoint was asked in the conversation itself."""
        try:
            with open(self.requests_file, encoding="utf-8") as file:
                found = [json.loads(line) for line in file.read().split("\n")[:-1]]
        except FileNotFoundError:
            return []
        return [request for request in found if request["main"]]

    def turns(self) -> int:
        """How often the model was asked with something new."""
        return sum(bool(request["prompts"]) for request in self.requests())

    def history(self) -> list[str]:
        """The user's texts in the newest request: every submission of the conversation, each as often as it was."""
        requests = self.requests()
        return list(requests[-1]["history"]) if requests else []

    def bodies(self) -> list[str]:
        """The same without our headers; what has none is left out."""
        return [body_of(text) for text in self.history() if HEADER.match(text)]

    def arrival(self, body: str) -> float | None:
        """When the model was first asked with this message, whole and as a prompt of its own."""
        for request in self.requests():
            if any(body_of(text) == body for text in request["prompts"]):
                return float(request["time"])
        return None

    def wait_arrival(self, body: str, seconds: float = 20.0) -> bool:
        try:
            wait_until(lambda: self.arrival(body) is not None, seconds)
        except AssertionError:
            return False
        return True

    def screen(self) -> str:
        return self.server.screen(self.cli.pane)

    def keys(self, *keys: str) -> None:
        self.server.tmux("send-keys", "-t", self.cli.pane, *keys)

    def timed(self, *argv: str) -> float:
        """Milliseconds that one of our commands takes."""
        begin = time.perf_counter()
        subprocess.run([f"{BIN}/{argv[0]}", *argv[1:]], env=self.env, stdin=subprocess.DEVNULL, capture_output=True)
        return (time.perf_counter() - begin) * 1000
