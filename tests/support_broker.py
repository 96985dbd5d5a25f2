"""A broker without a tmux server: its files, lanes and turns are real, panes only remember, clocks are moved by tests.

    with Desk(tmp_path, "monitoring: {max_messages_per_minute: 10}") as desk:
        desk.agent("dev")
        event = desk.publish("hello", "dev")
        desk.start()
        desk.run(seconds=2)
        assert desk.panes.bodies("team:dev") == ["hello"]

`crash` forgets the broker as kill -9 would: nothing is flushed, nothing closed in order.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, cast

from tmux_orchestrator.agents import profiles, registry
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.agents.screen import Screen
from tmux_orchestrator.delivery.broker import Broker
from tmux_orchestrator.delivery.typist import Typist, View
from tmux_orchestrator.eventlog import event, reader
from tmux_orchestrator.eventlog.daylog import Log, day_file, days
from tmux_orchestrator.ground import clock, files, proc, tmux
from tmux_orchestrator.ground.paths import Home

SECOND = 1_000_000_000
HEADER = re.compile(r"^\[[^\]]*\] ")


class Killed(BaseException):
    """The broker dies here."""


class Clocks:
    """A wall clock that may step, and a boot clock that may not."""

    def __init__(self) -> None:
        self.wall = clock.now_ns()
        self.boot = 1_000_000 * SECOND

    def pass_by(self, ns: int) -> None:
        self.wall += ns
        self.boot += ns


class Panes:
    """Stands for the typist. `typed` is what reached a pane: (boot ns, target, text).

    `reasons` holds what keeps a pane from being typed into, seen before (`look`) or only by tmux's guard (`refuse`).
    `screens` gives a pane a screen; without one it is a program whose input box nobody sees.
    """

    def __init__(self, clocks: Clocks) -> None:
        self.clocks = clocks
        self.profiles = profiles.load({})
        self.typed: list[tuple[int, str, str]] = []
        self.pressed: list[str] = []
        self.reasons: dict[str, str] = {}
        self.refuse: dict[str, str] = {}
        self.screens: dict[str, Screen] = {}
        self.visible: list[tmux.Pane] = []
        self.before_typing: Callable[[str], None] = lambda text: None
        self.after_typing: Callable[[], None] = lambda: None

    def profile(self, agent: Agent) -> profiles.Profile:
        return self.profiles[agent.profile]

    def look(self, agents: Sequence[Agent], closely: set[str]) -> dict[str, View]:
        views = {}
        for agent in agents:
            guard = tmux.Guard(agent.pid, agent.nonce or "c0ffee")
            reason = self.reasons.get(agent.key, "")
            seen = self.screens.get(agent.key) or (Screen("unknown") if agent.key in closely and not reason else None)
            views[agent.key] = View(reason, None if reason else guard, seen)
        return views

    def type(
        self, frames: Sequence[tuple[Agent, View, str]], meanwhile: Callable[[], None] = lambda: None
    ) -> list[str]:
        results = []
        for agent, _, text in frames:
            self.before_typing(text)
            refused = self.refuse.get(agent.key, "")
            if refused in ("", "unknown"):
                self.typed.append((self.clocks.boot, agent.key, text))
            results.append(refused or "typed")
            self.after_typing()
        meanwhile()
        return results

    def submit(self, agent: Agent) -> str:
        self.pressed.append(agent.key)
        return self.refuse.get(agent.key, "") or "typed"

    def panes(self) -> list[tmux.Pane]:
        return self.visible

    def descriptors(self) -> list[tmux.Tmux]:
        return []

    def drain(self) -> None:
        pass

    def close(self) -> None:
        pass

    def frames(self, key: str) -> list[str]:
        return [text for _, target, text in self.typed if target == key]

    def bodies(self, key: str) -> list[str]:
        return [HEADER.sub("", text) for text in self.frames(key)]


class Desk:
    """A home, agents that are nothing but registered, and one broker at a time."""

    def __init__(self, root: str, config: str = "") -> None:
        self.home = Home(root)
        self.clocks = Clocks()
        self.panes = Panes(self.clocks)
        self.broker: Broker | None = None
        self.agents: list[Agent] = []
        for folder in (self.home.events, self.home.run, self.home.registry):
            files.make_dir(folder)
        if config:
            self.configure(config)
        self._real = clock.now_ns, clock.boot_ns
        clock.now_ns, clock.boot_ns = lambda: self.clocks.wall, lambda: self.clocks.boot
        self.log = Log(self.home, durable=False, now=lambda: self.clocks.wall)

    def __enter__(self) -> Desk:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.crash()
        self.log.close()
        clock.now_ns, clock.boot_ns = self._real

    def configure(self, text: str) -> None:
        files.replace(self.home.config_file, text.encode())

    # who is there

    def agent(self, name: str, **fields: Any) -> str:
        """Register an agent; its key."""
        mine = os.getpid()
        given = {"name": name, "session": "team", "pid": mine, "pid_start": proc.start_time(mine), "nonce": "c0ffee"}
        self.agents = [agent for agent in self.agents if agent.name != name]
        self.agents.append(Agent(given | {"pane": f"%{len(self.agents)}", "profile": "plain"} | fields))
        self.register()
        return self.agents[-1].key

    def forget(self, name: str) -> None:
        self.agents = [agent for agent in self.agents if agent.name != name]
        self.register()

    def register(self) -> None:
        data = json.dumps({"agents": [agent.to_dict() for agent in self.agents]}).encode()
        files.replace(registry.path(self.home), data)

    # what is said

    def publish(self, body: str, *targets: str, sender: str = "tester", **given: Any) -> str:
        source = {"type": "human", "identifier": sender, "session": None, "host": "h", "verified": False}
        source |= given.pop("source", {})
        return self.log.append([event.build(body, source, targets=list(targets), **given)])[0]

    def raw(self, line: bytes) -> None:
        """Append a line as no publisher of ours would."""
        day = clock.local_day(self.clocks.wall)
        files.append(day_file(self.home, day), line + b"\n")

    # the broker

    def start(self) -> Broker:
        broker = self.broker = Broker(self.home)
        broker.outcomes._log.close()
        broker.outcomes._log = Log(self.home, durable=False, now=lambda: self.clocks.wall)
        typist = cast(Typist, self.panes)
        dispatcher = broker.dispatcher
        for user in (broker, broker.intake, dispatcher, dispatcher.choice, dispatcher.evidence):
            user.typist = typist
        broker._look_around()
        broker.intake.restore(clock.boot_id())
        return broker

    def turn(self) -> bool:
        assert self.broker is not None
        return self.broker._turn()

    def run(self, seconds: float = 1.0, until: Callable[[], object] | None = None) -> None:
        """Turns, as the broker would take them, while so much time passes by (or until something holds)."""
        assert self.broker is not None
        end = self.clocks.boot + int(seconds * SECOND)
        while True:
            more = self.turn()
            if until is not None and until():
                return
            if more:
                continue
            wake = self.broker.dispatcher.wake_at()
            if self.clocks.boot >= end:
                return
            self.clocks.pass_by(max(1, min(wake, end) - self.clocks.boot))

    def crash(self) -> None:
        """The broker is gone; what it had not written is lost."""
        broker, self.broker = self.broker, None
        if broker is None:
            return
        broker.journal.close()
        broker.outcomes._log.close()
        broker.follower.close()
        broker._watch.close()

    def again(self) -> Broker:
        self.crash()
        self.clocks.pass_by(SECOND // 20)  # nothing starts in no time
        return self.start()

    # what became of it

    def events(self) -> list[dict[str, Any]]:
        found = []
        for day in days(self.home, self.clocks.wall):
            with open(day_file(self.home, day), "rb") as file:
                found += [e for line in file.read().split(b"\n")[:-1] if (e := reader.decode(line)) is not None]
        return found

    def outcomes(self, event_id: str = "") -> list[dict[str, Any]]:
        contexts = [
            found["message"]["content"]["context"]
            for found in self.events()
            if found.get("message", {}).get("type") in ("delivery", "rate_limited")
        ]
        return [context for context in contexts if event_id in ("", context["event"])]

    def said(self, event_id: str, target: str = "") -> list[str]:
        """`outcome` or `outcome: reason` of each record."""
        return [
            c["outcome"] + (f": {c['reason']}" if c["reason"] else "")
            for c in self.outcomes(event_id)
            if target in ("", c["target"])
        ]

    def ends(self, event_id: str) -> list[str]:
        """The targets for which an end was recorded."""
        return [context["target"] for context in self.outcomes(event_id) if context.get("final")]
