"""A team is not left without its project manager: its own command, else agents.pm_command, else one alert."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support_orc import BIN, System
from support_tmux import wait_until
from tmux_orchestrator.agents import registry
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.agents.state import Seen
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.watch import recovery, succession

RULES = "recovery: {spacing_s: 0, backoff_s: [0, 0], breaker: 2 in 900}\n"


@pytest.fixture
def system() -> Iterator[System]:
    with System(RULES) as system:
        yield system


def program(system: System, name: str, code: str = "sleep 1000") -> str:
    """A program of this name, which tells where it was started."""
    path = f"{system.root}/{name}"
    Path(path).write_text(f'#!/bin/sh\necho "$PWD $ORC_AGENT $MARK $*" >>"$0.ran"\n{code}\n', encoding="ascii")
    os.chmod(path, 0o700)
    return path


def ran(path: str) -> list[str]:
    wait_until(lambda: os.path.exists(path + ".ran"), what="its start")
    return Path(path + ".ran").read_text(encoding="utf-8").splitlines()


def agent(system: System, name: str) -> Agent:
    return next(one for one in registry.load(Home(system.root)) if one.name == name)


def dies(system: System, name: str) -> None:
    one = agent(system, name)
    if one.alive():
        os.kill(one.pid, signal.SIGKILL)
    wait_until(lambda: not one.alive(), what="its end")


def recover(system: System, code: int = 0) -> list[tuple[str, str, str]]:
    told = [json.loads(line) for line in system.run("orc-recover", "--all", code=code).splitlines()]
    return [(one["agent"], one["action"], one["reason"]) for one in told]


def told(system: System, kind: str, **wanted: Any) -> list[dict[str, Any]]:
    return [e for e in system.events() if e["message"]["type"] == kind]


def team(*agents: tuple[str, str, str, dict[str, Any]]) -> list[Seen]:
    return [
        Seen(Agent({"session": session, "name": name, "role": name.rstrip("0123456789"), **more}), state, "kernel")
        for session, name, state, more in agents
    ]


def test_who_is_missed() -> None:
    back: dict[str, Any] = {"restart": "crash", "supervisor": "monitor"}
    live: dict[str, Any] = {}
    never: dict[str, Any] = {}
    cases = [
        (team(("a", "pm", "dead", never), ("a", "dev", "idle", live)), ["a:pm"]),
        (team(("a", "pm", "dead", never), ("a", "dev", "dead", back)), ["a:pm"]),
        (team(("a", "pm", "dead", never), ("a", "dev", "dead", never)), []),
        (team(("a", "pm", "dead", never)), []),
        (team(("a", "pm", "dead", never), ("b", "dev", "idle", live)), []),
        (team(("a", "pm", "gone", never), ("a", "dev", "idle", live)), []),
        (team(("a", "pm", "unknown", never), ("a", "dev", "idle", live)), []),
        (team(("a", "pm", "dead", {"supervisor": "team"}), ("a", "dev", "idle", live)), []),
        (team(("a", "pm1", "dead", never), ("a", "pm2", "idle", live), ("a", "dev", "idle", live)), []),
        (team(("a", "pm1", "dead", never), ("a", "pm2", "dead", never), ("a", "dev", "idle", live)), ["a:pm1"]),
        (team(("a", "dev", "dead", never), ("a", "qa", "idle", live)), []),
    ]
    for seen, missed in cases:
        assert [one.agent.key for one in succession.leaderless(seen, recovery._stays)] == missed


def test_a_manager_that_never_comes_back_does_for_its_team_and_its_team_hears_of_it_once(system: System) -> None:
    system.agent("pm", "sleep", "1000")
    dies(system, "pm")
    assert recover(system, code=1) == [], "it has nobody to manage"
    for name in ("dev", "qa"):
        system.agent(name, "sleep", "1000")
    assert recover(system) == [("team:pm", "respawned", "ended by signal 9")]
    (back,) = [e for e in told(system, "notification") if "is back" in e["message"]["content"]["body"]]
    assert back["to"]["targets"] == ["team:dev", "team:qa"] and back["message"]["priority"] == "normal"
    assert recover(system, code=1) == [] and told(system, "alert") == []


def test_when_its_own_command_fails_the_configured_one_takes_its_place(system: System) -> None:
    own, other = program(system, "own"), program(system, "other")
    system.configure(RULES + f"agents: {{pm_command: \"'{other}' --name 'a b; touch x'\"}}\n")
    system.run("orc-run", "pm", "--session", "team", "--group", "heads", "--", own, MARK="of the old one")
    ran(own)
    system.agent("dev", "sleep", "1000")
    os.unlink(own)
    dies(system, "pm")
    ((key, action, reason),) = recover(system)
    assert (key, action) == ("team:pm", "respawned") and "agents.pm_command" in reason and "no program" in reason
    assert ran(other) == [f"{os.getcwd()} pm of the old one --name a b; touch x"]
    pm = agent(system, "pm")
    assert pm.alive() and (pm.role, pm.groups, pm.argv[0]) == ("pm", ["heads"], other)
    assert len(registry.load(Home(system.root))) == 2 and told(system, "alert") == []
    dies(system, "pm")
    assert [one[:2] for one in recover(system)] == [("team:pm", "respawned")], "now that is its own command"


def test_a_manager_that_dies_again_and_again_is_over_with(system: System) -> None:
    other = program(system, "other")
    system.configure(RULES + f"agents: {{pm_command: {other}}}\n")
    system.agent("dev", "sleep", "1000")
    system.agent("pm", program(system, "bad", "exit 3"))
    for _ in range(2):
        dies(system, "pm")
        assert [one[1] for one in recover(system)] == ["respawned"]
    dies(system, "pm")
    assert "agents.pm_command, after: breaker" in recover(system)[0][2]
    ran(other)
    program(system, "other", "exit 3")
    dies(system, "pm")
    assert [one[1] for one in recover(system)] == ["respawned"], "the new one has a start of its own left"
    dies(system, "pm")
    assert recover(system, code=75) == [("team:pm", "refused", "breaker")]
    assert len(told(system, "alert")) == 1, "and there is no third command"


def later_death_is_told(system: System, name: str) -> None:
    """By then an earlier one would have been told as well."""
    system.agent(name, "false", options=("--profile", "plain"))
    wait_until(lambda: name in str(told(system, "alert")), what="word of a later death")


def test_the_monitor_tells_of_a_session_without_a_manager_once(system: System) -> None:
    system.agent("dev", "sleep", "1000")
    system.agent("pm", program(system, "bad", "exit 3"))
    for _ in range(2):
        child = subprocess.Popen(
            [f"{BIN}/orc-monitor"], env=system.env, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        system.children.append(child)
        wait_until(lambda: told(system, "alert"), what="the alert")
        later_death_is_told(system, f"late-{child.pid}")
        child.terminate()
        child.wait(20)
    bodies = [e["message"]["content"]["body"] for e in told(system, "alert")]
    assert len([body for body in bodies if "pm" in body]) == 1 and "Session team has no project manager" in bodies[0]


@pytest.mark.parametrize("configured", ["", "/no/such/program", "'unclosed"])
def test_without_any_command_that_works_there_is_one_alert(system: System, configured: str) -> None:
    own = program(system, "own")
    system.configure(RULES + f'agents: {{pm_command: "{configured}"}}\ndelivery: {{escalate_to: ["dev"]}}\n')
    system.agent("pm", own)
    system.agent("dev", "sleep", "1000")
    os.unlink(own)
    for _ in range(2):
        dies(system, "pm")
        ((key, action, reason),) = recover(system, code=69)
        assert (key, action) == ("team:pm", "failed")
    (alert,) = told(system, "alert")
    assert alert["message"]["priority"] == "critical"
    assert alert["to"] == {"groups": ["management"], "targets": ["dev"]}
    assert alert["message"]["content"]["body"].startswith("Session team has no project manager: team:pm could not be")
    assert reason in alert["message"]["content"]["body"]
    program(system, "own")
    system.run("orc-agent", "restart", "pm")
    os.unlink(own)
    dies(system, "pm")
    recover(system, code=69)
    assert len(told(system, "alert")) == 2, "another death is told anew"


def test_an_adopted_manager_is_followed_by_the_configured_command_only(system: System) -> None:
    other = program(system, "other")
    system.agent("dev", "sleep", "1000")
    pane = system.server.tmux("new-window", "-d", "-P", "-F", "#{pane_id}", "-t", "=team:", "-n", "pm", "sleep", "1000")
    system.server.tmux("set-option", "-p", "-t", pane, "remain-on-exit", "on")  # a pane that closes tells of no death
    system.run("orc-agent", "adopt", pane, "--name", "pm", "--profile", "plain")
    dies(system, "pm")
    assert recover(system, code=69) == [("team:pm", "refused", "adopted")] and len(told(system, "alert")) == 1
    system.configure(RULES + f"agents: {{pm_command: {other}}}\n")
    assert [one[1] for one in recover(system)] == ["respawned"]
    ran(other)
    assert not agent(system, "pm").adopted and agent(system, "pm").alive()
