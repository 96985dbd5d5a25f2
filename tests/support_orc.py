"""A whole system for tests: a home, a private tmux server, agents started by orc-run, and the broker as a process.

    with System() as system:
        system.broker()
        dev = system.demo("dev")
        event = system.publish("-t", "dev", "hello")
        system.wait_outcome(event, "confirmed")
        assert dev.settled().prompts() == [...]

Everything that was started is ended, by its pid.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from types import TracebackType
from typing import Any, Self

from support_tmux import RECORDER, Server, raw, recorded, wait_until
from tmux_orchestrator.ground import components, pidfile
from tmux_orchestrator.ground.paths import Home

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = ROOT + "/bin"
DEMO = ROOT + "/share/demo/agent.py"
HEADER = re.compile(r"^\[[^\]]*#(\w{6})[^\]]*\] ")


class Agent:
    """One agent of a system; `log` is what its program writes."""

    def __init__(self, system: System, name: str, log: str, fields: dict[str, Any]) -> None:
        self.system, self.name, self.log = system, name, log
        self.pane: str = fields["pane"]
        self.pid: int = fields["pid"]
        self.target: str = fields["target"]

    def entries(self) -> list[dict[str, Any]]:
        """What the demo agent wrote down."""
        try:
            with open(self.log, encoding="utf-8") as file:
                return [json.loads(line) for line in file.read().split("\n")[:-1]]
        except FileNotFoundError:
            return []

    def prompts(self) -> list[str]:
        """The prompts that were submitted, whole."""
        return [entry["prompt"] for entry in self.entries() if "prompt" in entry]

    def bodies(self) -> list[str]:
        """The same without our header."""
        return [HEADER.sub("", prompt) for prompt in self.prompts()]

    def recorded(self) -> bytes:
        """The bytes that a recorder was sent."""
        return recorded(self.log)

    def read(self) -> bytes:
        """All that its program has read so far, marks included."""
        if self.log.endswith(".bytes"):
            return raw(self.log)
        return "".join(entry.get("keys", "") for entry in self.entries()).encode()

    def settled(self) -> Self:
        """Itself, once its program has written down everything that was typed into its pane until now.

        The log says `typed` when tmux has the bytes: the program reads them when its turn comes.
        """
        for _ in range(2):  # the demo agent writes down what it reads before what it makes of it
            mark = self.system.server.mark(self.pane)
            wait_until(lambda mark=mark: mark in self.read(), 60, f"the mark in {self.name}'s log")  # type: ignore[misc]
        return self

    def screen(self) -> str:
        return self.system.server.screen(self.pane)

    def keys(self, *keys: str) -> None:
        """Press keys, as a person at the terminal would."""
        self.system.server.tmux("send-keys", "-t", self.pane, *keys)

    def draft(self, text: str) -> None:
        """A person types this, and submits nothing; returns when it is on the screen."""
        self.keys(text)
        wait_until(lambda: text in self.screen(), what=f"the draft {text!r}")

    def kill(self) -> None:
        """kill -9 of the agent; returns when it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        wait_until(lambda: self.system.server.show(self.pane, "#{pane_dead}") == "1", what="the agent's end")


class System:
    """A home and a tmux server of its own. `config` is YAML text."""

    def __init__(self, config: str = "", width: int = 120, height: int = 40) -> None:
        self.server = Server(width, height)
        self.root = tempfile.mkdtemp(prefix="orc-home-")
        self.env = self.server.env | {
            "ORC_HOME": self.root,
            "ORC_TMUX_SOCKET": self.server.socket,
            "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        }
        if config:
            self.configure(config)
        self.children: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> System:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            sys.stderr.write(self.story())
        self.close()

    def close(self) -> None:
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait()
        for name in components.COMMANDS:  # those that a test has started in the background, and did not come to stop
            pidfile.stop(Home(self.root), name)
        self.server.close()
        shutil.rmtree(self.root, ignore_errors=True)

    def configure(self, text: str) -> None:
        path = self.root + "/orchestrator_config.yaml"
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(path + ".new", path)

    # commands

    def run(self, *argv: str, code: int | None = 0, stdin: bytes | None = None, **env: str) -> str:
        """Run one of our commands; its standard output. `code` None: any exit code will do."""
        done = subprocess.run(
            [f"{BIN}/{argv[0]}", *argv[1:]],
            env=self.env | env,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=90,
            check=False,
        )
        if code is not None and done.returncode != code:
            raise AssertionError(f"{argv}: exit {done.returncode}: {done.stderr.decode()}")
        return done.stdout.decode().rstrip("\n")

    def publish(self, *argv: str, code: int = 0, **env: str) -> str:
        """The id of the event."""
        return self.run("orc-publish", *argv, code=code, stdin=None, **env).split("\n")[0]

    def broker(self, *argv: str, **env: str) -> subprocess.Popen[bytes]:
        """Start a broker; returns when it holds its lock and follows the log."""
        out = open(self.root + "/broker.out", "ab")
        child = subprocess.Popen(
            [f"{BIN}/orc-broker", *argv], env=self.env | env, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
        out.close()
        self.children.append(child)
        if not argv:
            wait_until(lambda: self._broker_pid() == child.pid or child.poll() is not None, what="the broker's start")
        return child

    def _broker_pid(self) -> int | None:
        try:
            with open(self.root + "/logs/run/broker.json", encoding="ascii") as file:
                return int(json.load(file)["pid"])
        except (OSError, ValueError):
            return None

    # agents

    def agent(self, name: str, *argv: str, log: str = "", options: tuple[str, ...] = ()) -> Agent:
        """Start a program as an agent of session `team`."""
        line = self.run("orc-run", name, "--session", "team", *options, "--", *argv).split("\n")[-1]
        return Agent(self, name, log, json.loads(line))

    def demo(self, name: str, *options: str) -> Agent:
        """The demo agent: a real screen with an input box, a busy state and a dialog."""
        log = f"{self.root}/{name}.log"
        found = self.agent(name, sys.executable, DEMO, "--log", log, log=log, options=("--profile", "demo", *options))
        wait_until(lambda: "Say what to do" in found.screen(), what="the demo agent's screen")
        return found

    def recorder(self, name: str, *options: str) -> Agent:
        """A program that writes down each byte it is sent (profile plain)."""
        log = f"{self.root}/{name}.bytes"
        found = self.agent(name, sys.executable, "-I", "-S", RECORDER, log, log=log, options=options)
        wait_until(lambda: "ready" in found.screen(), what="the recorder's start")
        return found

    # what the log says

    def events(self) -> list[dict[str, Any]]:
        folder = self.root + "/logs/events"
        found: list[dict[str, Any]] = []
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            with open(f"{folder}/{name}", "rb") as file:
                found += [json.loads(line) for line in file.read().split(b"\n")[:-1]]
        return found

    def outcomes(self, event_id: str = "") -> list[dict[str, Any]]:
        """The contexts of the delivery records, in order."""
        contexts = [
            event["message"]["content"]["context"]
            for event in self.events()
            if event["message"]["type"] in ("delivery", "rate_limited")
        ]
        return [context for context in contexts if event_id in ("", context["event"])]

    def said(self, event_id: str) -> list[str]:
        """The outcomes of one event as `outcome` or `outcome: reason`."""
        return [c["outcome"] + (f": {c['reason']}" if c["reason"] else "") for c in self.outcomes(event_id)]

    def wait_outcome(self, event_id: str, outcome: str, seconds: float = 15.0) -> None:
        """Until the day file says so (`confirmed`, or with a reason `held: draft`)."""
        wait_until(lambda: outcome in self.said(event_id), seconds, f"{outcome} of {event_id}")

    def wait_confirmed(self, event_id: str, seconds: float = 15.0) -> None:
        """Until the day file says so, by whatever evidence: which the screen shows first is the agent CLI's affair."""

        def confirmed() -> bool:
            return any(said.partition(":")[0] == "confirmed" for said in self.said(event_id))

        wait_until(confirmed, seconds, f"confirmed of {event_id}")

    def story(self) -> str:
        """For a failed test: what the log, the broker and the panes say."""
        lines = [
            f"{e['seq']} {e['message']['type']} {json.dumps(e['message']['content'])}" for e in self.events()[-40:]
        ]
        for name in ("broker.out", "logs/defects.log"):
            if os.path.exists(f"{self.root}/{name}"):
                with open(f"{self.root}/{name}", encoding="utf-8", errors="replace") as file:
                    lines += [f"-- {name}", file.read()[-3000:]]
        for pane in self.server.tmux("list-panes", "-a", "-F", "#{pane_id}", check=False).split():
            lines += [f"-- {pane}", self.server.screen(pane).rstrip()]
        return "\n".join(lines) + "\n"
