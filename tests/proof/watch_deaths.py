"""Thirty agents that die at once: one alert where nobody comes back; where all do, each once, spaced, one report."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from itertools import pairwise
from typing import Any

from proof.delivery_rows import Row, proved, row
from support_crowd import BOX
from support_monitor import monitor, open_count
from support_orc import Agent, System
from support_tmux import wait_until
from tmux_orchestrator.agents import registry
from tmux_orchestrator.ground import proc
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.ground.tmux import SESSION

AGENTS = 30
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def check(quick: bool) -> list[Row]:
    return proved(at_once, partial(back, 0.4 if quick else 2.0))


def team(system: System, *options: str) -> tuple[Agent, list[Agent]]:
    """A project manager and thirty agents, and a monitor that knows them all."""
    system.broker()
    manager = system.demo("pm")
    those = [system.agent(f"dev-{n}", "sh", "-c", BOX, options=("--profile", "demo", *options)) for n in range(AGENTS)]
    child = monitor(system)
    wait_until(lambda: open_count(child.pid) == AGENTS + 1, what="a look at all of them")
    return manager, those


def messages(system: System, kind: str, source: str) -> list[dict[str, Any]]:
    return [e for e in system.events() if e["message"]["type"] == kind and e["source"]["identifier"] == source]


def _panes(system: System) -> set[str]:
    """All but those of our private session."""
    listed = system.server.tmux("list-panes", "-a", "-F", "#{session_name} #{pane_id}").split("\n")
    return {line for line in listed if not line.startswith(SESSION + " ")}


def at_once() -> Row:
    with System() as system:
        manager, those = team(system)
        for agent in those:
            os.kill(agent.pid, signal.SIGKILL)
            time.sleep(0.003)  # within one breath, and while the monitor runs
        wait_until(lambda: messages(system, "alert", "monitor"), 20, "the alert")
        wait_until(lambda: any("agents died" in body for body in manager.bodies()), 20, "the word in the pane")
        late = system.demo("late")
        os.kill(late.pid, signal.SIGKILL)
        wait_until(lambda: any("late died" in e["message"]["content"]["body"] for e in system.events()), 20, "the next")
        alerts = messages(system, "alert", "monitor")
        subjects = alerts[0]["message"]["content"]["context"].get("subjects", [])
        typed = [body for body in manager.settled().bodies() if "dev-" in body]
        problem = "" if len(alerts) == 2 and len(typed) == 1 else f"{len(alerts)} alerts, {len(typed)} typed"
        if sorted(subjects) != sorted(f"team:{agent.name}" for agent in those):
            problem = f"the alert names {len(subjects)}"
        return row("agents killed at once, restart never: alerts", len(alerts) - 1, problem, f"it names all {AGENTS}")


def back(spacing_s: float) -> list[Row]:
    with System(f"recovery: {{spacing_s: {spacing_s}}}\n") as system:
        manager, those = team(system, "--restart", "crash")
        panes = _panes(system)
        for agent in those:
            os.kill(agent.pid, signal.SIGKILL)
        seconds = 30 + AGENTS * (spacing_s + 1)
        wait_until(lambda: len(messages(system, "recovery", "recovery")) >= AGENTS, seconds, "their return")
        wait_until(lambda: any("was started again" in body for body in manager.bodies()), 20, "the report")
        told = [e["message"]["content"]["context"] for e in messages(system, "recovery", "recovery")]
        now = {agent.name: agent for agent in registry.load(Home(system.root)) if agent.role != "pm"}
        once = sorted(one["agent"] for one in told if one["action"] == "respawned")
        problem = ""
        if once != sorted(f"team:{agent.name}" for agent in those) or len(told) != AGENTS:
            problem = f"{len(told)} recoveries, of {len(set(once))} agents"
        elif not all(agent.alive() for agent in now.values()) or any(proc.start_time(a.pid) for a in those):
            problem = "not all of them run, or an old one does"
        elif _panes(system) != panes:
            problem = f"there are other panes than before: {_panes(system) ^ panes}"
        elif messages(system, "alert", "monitor"):
            problem = "an alert was raised"
        starts = sorted(agent.pid_start * _TICK_S for agent in now.values())
        least = min(later - earlier for earlier, later in pairwise(starts))
        close = "" if least >= spacing_s - _TICK_S else "closer than that"
        reports = [e for e in messages(system, "notification", "recovery") if e["to"]["targets"] == ["team:pm"]]
        typed = [body for body in manager.settled().bodies() if "was started again" in body]
        many = "" if len(reports) == len(typed) == 1 else f"{len(reports)} reports, {len(typed)} typed"
    return [
        row("agents killed at once, restart crash: back, each once", len(once), problem),
        row(f"of these, {spacing_s:g} s apart by configuration: the closest two", len(starts), close, f"{least:.2f} s"),
        row("of these: reports to the project manager", len(reports), many),
    ]
