"""The flood bound: in every 60 seconds, as the agent's own terminal sees them, over kills and clock steps."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from proof.delivery_rows import SEED, Row, an_event, outcomes, proved, publish_all, row, said
from support_orc import ROOT, Agent, System
from support_tmux import START, raw, wait_until

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SECOND = 1_000_000_000
NORMAL, CRITICAL, LINE = "messages", "critical ones", "digest lines"
BOUNDS = {NORMAL: 10, CRITICAL: 3, LINE: 1}
_SENDERS = 3


def check(quick: bool) -> list[Row]:
    if quick:
        return proved(partial(flood, events=2000, kills=4, steps=2, seconds=75))
    return proved(partial(flood, events=10_000, kills=20, steps=8, seconds=300), behind_a_flood)


class Frame(NamedTuple):
    at: int  # boot clock, when the first byte of it was read in the pane
    text: str

    @property
    def kind(self) -> str:
        if "more since" in self.text[:60]:
            return LINE
        return CRITICAL if "CRITICAL" in self.text[:40] else NORMAL


class Clocked(Agent):
    """Its program writes down when it read what."""

    def reads(self) -> list[tuple[int, bytes]]:
        """(boot clock, what was read)."""
        pairs = [line.partition(b" ") for line in raw(self.log).split(b"\n")[:-1]]
        return [(int(when), base64.b64decode(data)) for when, _, data in pairs]

    def read(self) -> bytes:
        return b"".join(data for _, data in self.reads())


def clocked(system: System, name: str) -> Clocked:
    """A program that writes down what it is sent, and when."""
    log = f"{system.root}/{name}.clocked"
    program = HERE + "/programs/clocked.py"
    found = system.agent(name, sys.executable, "-I", "-S", program, log, log=log)
    agent = Clocked(system, name, log, vars(found))
    wait_until(lambda: "ready" in agent.screen(), what="the recorder's start")
    return agent


def frames(agent: Clocked) -> list[Frame]:
    """What arrived, in order."""
    stream, reads = b"", []
    for when, data in agent.reads():
        reads.append((len(stream), when))
        stream += data
    found, begin = [], stream.find(START)
    while begin >= 0:
        end = stream.find(START, begin + 1)
        read_at = max(at for offset, at in reads if offset <= begin)
        found.append(Frame(read_at, stream[begin : end if end >= 0 else None].decode("utf-8", "replace")))
        begin = end
    return found


def worst(times: list[int], span_ns: int = 60 * SECOND) -> int:
    """The most that any window of this length saw, wherever it is laid."""
    most = first = 0
    for number, at in enumerate(times):
        while times[first] < at - span_ns:
            first += 1
        most = max(most, number - first + 1)
    return most


def exceeded(found: list[Frame]) -> tuple[str, str]:
    """(which bounds were broken, how much the fullest window held)."""
    most = {kind: worst([frame.at for frame in found if frame.kind == kind]) for kind in BOUNDS}
    over = [f"{most[kind]} {kind} in 60 s" for kind, bound in BOUNDS.items() if most[kind] > bound]
    return ", ".join(over), ", ".join(f"{count} {kind}" for kind, count in most.items())


class Stepped:
    """Brokers whose wall clock is set by a file; each is killed, and the next started."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.file = system.root + "/step"
        self.step(0)
        self.broker = self.start()

    def step(self, seconds: int) -> None:
        with open(self.file + ".new", "w", encoding="ascii") as file:
            file.write(str(seconds))
        os.replace(self.file + ".new", self.file)

    def start(self) -> subprocess.Popen[bytes]:
        python = ROOT + "/.venv/bin/python"
        argv = [python, "-I", "-S", "-X", "utf8", HERE + "/programs/stepped.py", "orc-broker", self.file]
        with open(self.system.root + "/broker.out", "ab") as out:
            child = subprocess.Popen(argv, env=self.system.env, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self.system.children.append(child)
        return child

    def kill(self) -> None:
        self.broker.send_signal(signal.SIGKILL)
        self.broker.wait()
        self.broker = self.start()


def flood(events: int, kills: int, steps: int, seconds: float) -> list[Row]:
    """So many events in about a second to one agent, while brokers die and clocks jump."""
    chance = random.Random(SEED)
    with System() as system:
        agent = clocked(system, "dev")
        stepped = Stepped(system)
        sent = [
            an_event(agent.name, f"message {n}.", priority=chance.choices(["normal", "critical", "low"], [90, 2, 8])[0])
            for n in range(events)
        ]
        for number, one in enumerate(sent):
            one["source"] = {"identifier": f"sender{number % _SENDERS}"}
        ids = publish_all(system, sent)
        _disturb(stepped, chance, kills, steps, seconds)
        found = frames(agent.settled())
        over, most = exceeded(found)
        told = f"at most {most}; {kills} kills, {steps} clock steps, {seconds:.0f} s, seed {SEED}"
        bound = row("flood: typed in the fullest of all 60 s windows", len(found), over, told)
        return [bound, _readable(system, agent, ids, found)]


def _disturb(stepped: Stepped, chance: random.Random, kills: int, steps: int, seconds: float) -> None:
    """Kill and step at moments drawn by lot, most of them early, and let the time pass that is to be observed."""
    acts: list[tuple[float, Callable[[], None]]] = [
        (seconds * chance.random() ** 2 * 0.8, stepped.kill) for _ in range(kills)
    ]
    for _ in range(steps):
        hours = chance.choice((-3600, 3600, 0))
        acts.append((seconds * chance.random() * 0.8, partial(stepped.step, hours)))
    begin = time.monotonic()
    for at, act in sorted(acts, key=lambda one: one[0]):
        time.sleep(max(0.0, begin + at - time.monotonic()))
        act()
    time.sleep(max(0.0, begin + seconds - time.monotonic()))


def _readable(system: System, agent: Clocked, ids: list[str], found: list[Frame]) -> Row:
    """Every event was typed, or is read with the command that the digest line names."""
    typed = {event_id for event_id in ids if any("#" + event_id[-6:] in frame.text for frame in found)}
    waiting = {json.loads(line)["id"] for line in system.run("orc-read", "--unread", agent.name).split("\n")}
    lost = set(ids) - typed - waiting
    problem = f"{len(lost)} neither typed nor read, as {sorted(lost)[:3]}" if lost else ""
    told = f"{len(typed)} typed, {len(waiting & set(ids))} read with orc-read --unread"
    return row("flood: events that can be read", len(ids), problem, told)


def behind_a_flood() -> list[Row]:
    """Somebody floods; a person's message comes after it."""
    with System() as system:
        agent = clocked(system, "dev")
        system.broker()
        publish_all(
            system, [an_event(agent.name, f"flood {n}.") | {"source": {"identifier": "ci"}} for n in range(500)]
        )
        wait_until(lambda: len(frames(agent)) >= 10, what="the flood's share")
        event = system.publish("-t", agent.name, "--from", "ada", "one question")
        before = time.monotonic()
        wait_until(lambda: "typed" in said(outcomes(system).get(event, [])), 62, "the person's message")
        took = time.monotonic() - before
        problem = "" if took <= 60 else f"it took {took:.1f} s"
        over, _ = exceeded(frames(agent.settled()))
        return [
            row("a person's message behind a flood of 500: typed within a minute", 1, problem or over, f"{took:.1f} s")
        ]
