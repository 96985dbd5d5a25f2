"""A hundred panes, two thousand events, monitor and broker on: every alarm is one that was caused, memory is flat."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from proof.delivery_rows import SEED, Row, an_event, proved, publish_all, row
from support_crowd import crowd
from support_monitor import monitor
from support_orc import Agent, System
from support_tmux import wait_until

CONFIG = "monitoring: {look_interval: 1, healthy_report: 20}\n"
LIGHT, EVENTS, DEATHS, BATCH = 88, 2000, 5, 20
# A short run ends before the broker's windows and memories are full for the first time.
GROWTH_KB, SHORT_GROWTH_KB = 2048, 4096
# What is told of agents to whom nothing happened: nobody has briefed them, all is well.
_USUAL = ("fresh", "status", "idle", "team_idle")
_TALKS = """\
import time
while True:
    print('error: it crashed. The limit is reached. Do you want to go on?', flush=True)
    time.sleep({})
"""


def check(quick: bool) -> list[Row]:
    return proved(partial(long_run, 60 if quick else 600))


def long_run(seconds: float) -> list[Row]:
    chance = random.Random(SEED)
    with System(CONFIG) as system:
        broker = system.broker()
        real, odd = _agents(system)
        light = crowd(system, LIGHT, 18, ["", "claude-idle", "gemini-idle", ""])
        child = monitor(system)
        wait_until(lambda: _account(system).get("agents") == LIGHT + len(real) + len(odd), 30, "a look at all")
        caused: list[tuple[str, str]] = []
        acts = _deaths(chance, [(agent.key, agent.pid) for agent in light], caused, seconds)
        acts += [(seconds * 0.4, partial(_asks, system, real[1], caused))]
        targets = [agent.key for agent in light if agent.profile == "demo"] + [f"team:{one.name}" for one in real]
        acts += _publishing(system, chance, targets, seconds)
        early, pids = {}, {"monitor": child.pid, "broker": broker.pid}
        acts += [(seconds / 3, lambda: early.update({name: _resident_kb(pid) for name, pid in pids.items()}))]
        _perform(acts, seconds)
        wait_until(lambda: len(_alarms(system)) >= len(caused), 20, "the last alarm")
        late = {name: _resident_kb(pid) for name, pid in pids.items()}
        return [_no_false_alarm(system, caused, seconds), *_flat(early, late, seconds), _published(system)]


def _agents(system: System) -> tuple[list[Agent], list[Agent]]:
    """Real ones that work, and programs that are no agents at all, though they are said to be."""
    real = [system.demo(name) for name in ("pm", "dev-0", "dev-1", "dev-2", "dev-3", "dev-4")]
    odd = [system.recorder("plain"), system.agent("pager", "less", "+F", system.root + "/broker.out")]
    for number, profile in enumerate(("claude", "codex", "gemini", "claude")):
        argv = (sys.executable, "-c", _TALKS.format(0.05 * (number + 1)))
        odd.append(system.agent(f"talker-{number}", *argv, options=("--profile", profile)))
    return real, odd


Act = tuple[float, Callable[[], object]]


def _deaths(
    chance: random.Random, agents: list[tuple[str, int]], caused: list[tuple[str, str]], seconds: float
) -> list[Act]:
    """Some die, each at a time of its own."""

    def die(key: str, pid: int) -> None:
        caused.append(("dead", key))
        os.kill(pid, signal.SIGKILL)

    chosen = chance.sample(agents, DEATHS)
    return [(seconds * (number + 1) / (DEATHS + 1), partial(die, *one)) for number, one in enumerate(chosen)]


def _asks(system: System, agent: Agent, caused: list[tuple[str, str]]) -> None:
    caused.append(("waiting", f"team:{agent.name}"))
    system.publish("-t", agent.name, "-p", "critical", "[[tool:make clean]] tidy up")


def _publishing(system: System, chance: random.Random, targets: list[str], seconds: float) -> list[Act]:
    """Events in batches: half of them for readers only, the others to whoever it hits."""
    acts: list[Act] = []
    for first in range(0, EVENTS, BATCH):
        batch = []
        for number in range(first, first + BATCH):
            one = an_event(
                chance.choice(targets), f"event {number}.", priority=chance.choice(("normal", "low", "high"))
            )
            one["source"] = {"identifier": f"sender{number % 7}"}
            if number % 2:
                one["to"] = {}
            batch.append(one)
        acts.append((seconds * 0.95 * first / EVENTS, partial(publish_all, system, batch)))
    return acts


def _perform(acts: list[Act], seconds: float) -> None:
    begin = time.monotonic()
    for at, act in sorted(acts, key=lambda one: one[0]):
        time.sleep(max(0.0, begin + at - time.monotonic()))
        act()
    time.sleep(max(0.0, begin + seconds - time.monotonic()))


def _account(system: System) -> dict[str, Any]:
    try:
        with open(system.root + "/logs/run/monitor.json", "rb") as file:
            return dict(json.load(file))
    except (OSError, ValueError):
        return {}


def _alarms(system: System) -> list[tuple[str, str]]:
    """What the monitoring told of: (issue, about whom), but what is usual."""
    found = []
    for event in system.events():
        context = event["message"]["content"]["context"]
        if event["source"]["identifier"] not in ("monitor", "questions", "recovery"):
            continue
        issue = context.get("issue_type") or event["message"]["type"]
        about = context.get("subjects") or [context.get("agent") or context.get("component") or "?"]
        found += [(str(issue), str(one)) for one in about if issue not in _USUAL]
    return found


def _no_false_alarm(system: System, caused: list[tuple[str, str]], seconds: float) -> Row:
    told = Counter(_alarms(system))
    false, missing = told - Counter(caused), Counter(caused) - told
    problem = f"false: {sorted(false)[:5]}" if false else f"not told: {sorted(missing)}" if missing else ""
    account = _account(system)
    said = f"{len(caused)} caused, each told once; {seconds:.0f} s, a cycle took {account.get('p50_ms')} ms"
    return row(
        "alarms of a long run with 100 agents", sum(told.values()), problem, f"{said} (p95 {account.get('p95_ms')})"
    )


def _flat(early: dict[str, int], late: dict[str, int], seconds: float) -> list[Row]:
    rows = []
    for name, before in early.items():
        grown = late[name] - before
        problem = "" if grown <= (GROWTH_KB if seconds >= 600 else SHORT_GROWTH_KB) else f"grew by {grown} KB"
        told = f"{before / 1024:.1f} MB after a third of {seconds:.0f} s, {late[name] / 1024:.1f} MB at its end"
        rows.append(row(f"memory of the {name}, KB more at the end", grown, problem, told))
    return rows


def _published(system: System) -> Row:
    """All of them are in the log."""
    bodies = [event["message"]["content"]["body"] for event in system.events()]
    count = len({body for body in bodies if body.startswith("event ")})
    return row("events published meanwhile, in the log", count, "" if count == EVENTS else "some are not there")


def _resident_kb(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))
