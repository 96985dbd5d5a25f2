"""What ended together, and teams that come back: thirty at once, a lost tmux server, a reboot; on real tmux."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support_orc import BIN, System
from support_tmux import wait_until
from tmux_orchestrator.agents import registry
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.ground import clock, fastjson, files, proc
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.watch import incidents
from tmux_orchestrator.watch.incidents import LostServer

SLEEP = ("sleep", "1000")


@pytest.fixture
def system() -> Iterator[System]:
    with System("recovery: {spacing_s: 0}\n") as system:
        yield system


def start(system: System, key: str, *options: str, argv: tuple[str, ...] = SLEEP) -> Agent:
    session, _, name = key.rpartition(":")
    system.run("orc-run", name, "--session", session, *options, "--", *argv)
    return agent(system, key)


def agent(system: System, key: str) -> Agent:
    return next(one for one in agents(system) if one.key == key)


def agents(system: System) -> list[Agent]:
    return registry.load(Home(system.root))


def lines(system: System, *argv: str, code: int = 0) -> list[dict[str, Any]]:
    return [json.loads(line) for line in system.run(*argv, code=code).splitlines()]


def brief(records: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(one["agent"], one["action"]) for one in records]


def said(system: System, kind: str = "notification") -> list[tuple[list[str], str]]:
    """(targets, body) of each."""
    return [
        (e["to"]["targets"], e["message"]["content"]["body"]) for e in system.events() if e["message"]["type"] == kind
    ]


def lose(system: System) -> None:
    """kill -9 of our own tmux server; returns when every agent has ended with it."""
    those = [one for one in agents(system) if one.alive()]
    system.server.kill()
    wait_until(lambda: not any(one.alive() for one in those), what="the end of its agents")


def windows(system: System) -> list[str]:
    return sorted(system.server.tmux("list-panes", "-a", "-F", "#{session_name}:#{window_name}").split())


# what ended together, without tmux

SERVERS = st.tuples(st.sampled_from(["/a", "/b"]), st.integers(0, 3), st.integers(0, 2))


@given(st.lists(SERVERS, max_size=30), st.sets(st.integers(1, 3)))
def test_each_agent_of_a_server_that_is_gone_is_in_one_incident(
    servers: list[tuple[str, int, int]], living: set[int]
) -> None:
    those = [
        Agent({"name": f"a{n}", "session": "s", "socket": socket, "server_pid": pid, "server_start": at})
        for n, (socket, pid, at) in enumerate(servers)
    ]
    lost = incidents.lost_servers(those, lambda one: one.server_pid in living)
    expected = {one.key for one in those if one.server_pid and one.server_start and one.server_pid not in living}
    assert [key for server in lost for key in server.agents if key not in expected] == []
    assert sorted(key for server in lost for key in server.agents) == sorted(expected)
    assert len({(server.socket, server.pid, server.start) for server in lost}) == len(lost)


def test_an_incident_is_one_line_with_ten_names() -> None:
    line = LostServer("/s", 7, 1, tuple(f"t:a{n}" for n in range(12))).line()
    assert line.startswith("tmux server 7 (/s) ended, and with it 12 agents: t:a0, t:a1,")
    assert line.endswith("t:a9 and 2 more")
    assert LostServer("/s", 7, 1, ("t:a",)).line() == "tmux server 7 (/s) ended, and with it 1 agent: t:a"


# many at once


def test_thirty_killed_at_once_are_one_report_and_back_once_each_spaced(system: System) -> None:
    system.configure("recovery: {spacing_s: 0.1}\n")
    start(system, "team:pm")
    those = [start(system, f"team:a{n}", "--restart", "crash") for n in range(30)]
    for one in those:
        os.kill(one.pid, signal.SIGKILL)
    wait_until(lambda: not any(one.alive() for one in those), what="the end of all")
    command = [f"{BIN}/orc-recover", "--all"]
    both = [subprocess.Popen(command, env=system.env, stdout=subprocess.PIPE) for _ in range(2)]
    done = [[json.loads(line) for line in one.communicate(timeout=90)[0].splitlines()] for one in both]
    assert sorted(len(one) for one in done) == [0, 30], "the second finds nobody"
    assert {one["action"] for one in done[0] + done[1]} == {"respawned"}
    assert sorted(one["agent"] for one in done[0] + done[1]) == sorted(one.key for one in those)
    back = [one for one in agents(system) if one.role != "pm"]
    assert all(one.alive() for one in back) and len({one.pid for one in back} | {one.pid for one in those}) == 60
    stamps = sorted(clock.parse_stamp(one.registered) for one in back)
    assert min(b - a for a, b in itertools.pairwise(stamps)) >= 100_000_000
    reports = [body for targets, body in said(system) if targets == ["team:pm"]]
    assert len(reports) == 1 and reports[0].split("\n")[-1] == "and 20 more: orc-read --type recovery"
    assert len([targets for targets, body in said(system) if body.startswith("You are")]) == 30


# a lost tmux server


def test_a_lost_server_is_one_incident_and_its_agents_are_back_on_a_new_one(system: System) -> None:
    pm = start(system, "team:pm", "--restart", "crash")
    those = [start(system, f"team:a{n}", "--restart", "crash") for n in range(3)]
    start(system, "team:never")
    lose(system)
    (lost,) = incidents.lost_servers(one for one in agents(system) if not one.alive())
    assert (lost.pid, len(lost.agents)) == (pm.server_pid, 5)
    outcomes = lines(system, "orc-recover", "--all")
    assert [one["agent"] for one in outcomes] == ["team:pm", "team:a0", "team:a1", "team:a2"]
    assert {one["reason"] for one in outcomes} == {f"its tmux server {pm.server_pid} ({system.server.socket}) ended"}
    assert windows(system) == ["team:a0", "team:a1", "team:a2", "team:pm"]
    (report,) = [body for targets, body in said(system) if targets == ["team:pm"] and not body.startswith("You are")]
    assert report == f"tmux server {pm.server_pid} ({system.server.socket}) ended; started again: " + ", ".join(
        one.key for one in those
    )
    assert agent(system, "team:a0").server_pid == system.server.pid != pm.server_pid


def test_a_monitor_brings_the_agents_of_a_lost_server_back(system: System) -> None:
    start(system, "team:pm", "--restart", "crash")
    start(system, "team:dev", "--restart", "crash")
    system.children.append(
        subprocess.Popen([f"{BIN}/orc-monitor"], env=system.env, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    )
    wait_until(lambda: os.path.exists(system.root + "/logs/monitor.pid"), what="the monitor's start")
    old = agent(system, "team:dev").server_pid
    lose(system)
    wait_until(lambda: all(one.alive() and one.server_pid != old for one in agents(system)), what="their return")
    wait_until(lambda: [t for t, body in said(system) if body.startswith("You are")] == [["team:pm"], ["team:dev"]])


def test_one_that_outlived_its_server_is_left_alone(system: System) -> None:
    script = (
        "import signal, time; signal.signal(signal.SIGHUP, signal.SIG_IGN); print('up', flush=True); time.sleep(1000)"
    )
    stays = start(system, "team:stays", "--restart", "crash", argv=(sys.executable, "-c", script))
    wait_until(lambda: "up" in system.server.screen(stays.pane), what="its start")
    start(system, "team:dev", "--restart", "crash")
    system.server.kill()
    wait_until(lambda: not agent(system, "team:dev").alive(), what="the other's end")
    try:
        assert [one["agent"] for one in lines(system, "orc-agent", "restore")] == ["team:dev"]
        assert agent(system, "team:stays").pid == stays.pid and stays.alive()
    finally:
        os.kill(stays.pid, signal.SIGKILL)


# restore


def reboot(system: System) -> None:
    """What a reboot leaves: no server, no socket, another boot id, and pids that are somebody else's."""
    lose(system)
    shutil.rmtree(system.server.folder)
    path = registry.path(Home(system.root))
    stored = fastjson.loads(files.read(path) or b"")
    for one in stored["agents"]:
        one |= {"boot": "another", "pid": os.getpid(), "pid_start": proc.start_time(os.getpid())}
        one |= {"server_pid": os.getppid(), "server_start": proc.start_time(os.getppid())}
    files.replace(path, fastjson.dumps(stored).encode())


def test_after_a_reboot_all_teams_are_back_and_nobody_else_is_touched(system: System) -> None:
    start(system, "web:dev", "--group", "g")
    start(system, "web:pm", "--role", "pm")
    start(system, "shop:qa", "--window", "both")
    start(system, "shop:dev", "--window", "both")
    start(system, "shop:left")
    system.run("orc-agent", "stop", "shop:left")
    reboot(system)
    assert {one["state"] for one in lines(system, "orc-agent", "list")} == {"dead", "gone"}
    dry = lines(system, "orc-agent", "restore", "--dry-run")
    assert [one["agent"] for one in dry] == ["web:pm", "web:dev", "shop:qa", "shop:dev"]
    assert not os.path.exists(system.server.socket) and said(system) == []
    assert brief(lines(system, "orc-agent", "restore")) == [(one["agent"], "respawned") for one in dry]
    assert windows(system) == ["shop:both", "shop:both", "web:dev", "web:pm"]
    assert {one.key: one.alive() for one in agents(system)} == {
        "web:dev": True,
        "web:pm": True,
        "shop:qa": True,
        "shop:dev": True,
        "shop:left": False,
    }
    assert agent(system, "web:dev").groups == ["g"] and proc.start_time(os.getpid()) is not None
    assert lines(system, "orc-agent", "restore", code=1) == []
    assert brief(lines(system, "orc-agent", "restore", "--all")) == [("shop:left", "respawned")]


def test_only_the_sessions_that_are_named(system: System) -> None:
    for key in ("web:dev", "shop:dev"):
        start(system, key)
    lose(system)
    assert "did you mean web" in failed(system, "orc-agent", "restore", "wep", code=64)
    assert brief(lines(system, "orc-agent", "restore", "web")) == [("web:dev", "respawned")]
    assert windows(system) == ["web:dev"]


def failed(system: System, *argv: str, code: int) -> str:
    done = subprocess.run([f"{BIN}/{argv[0]}", *argv[1:]], env=system.env, capture_output=True, text=True, check=False)
    assert done.returncode == code and done.stderr.count("\n") == 1 and done.stdout == ""
    return done.stderr


def test_what_cannot_be_started_is_named_and_leaves_no_window(system: System, tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    start(system, "web:dev")
    system.run("orc-run", "lost", "--session", "web", "--", *SLEEP)
    subprocess.run(
        [f"{BIN}/orc-run", "folder", "--session", "web", "--", *SLEEP],
        env=system.env,
        cwd=folder,
        check=True,
        capture_output=True,
    )
    system.server.start(["sleep", "1000"], session="byhand")
    system.run("orc-agent", "adopt", "byhand:0", "--name", "hand", "--profile", "plain")
    os.unlink(agent(system, "web:lost").launch)
    folder.rmdir()
    lose(system)
    done = lines(system, "orc-agent", "restore", code=69)
    assert brief(done) == [
        ("web:dev", "respawned"),
        ("web:lost", "failed"),
        ("web:folder", "failed"),
        ("byhand:hand", "refused"),
    ]
    reasons = [one["reason"] for one in done]
    assert "lost or damaged" in reasons[1] and "is gone" in reasons[2] and reasons[3] == "adopted"
    assert windows(system) == ["web:dev"], "no half-made ones"
    shutil.rmtree(f"{system.root}/registry/launch")
    lose(system)
    assert brief(lines(system, "orc-agent", "restore", "web", code=69)) == [
        ("web:dev", "failed"),
        ("web:lost", "failed"),
        ("web:folder", "failed"),
    ]
    failures = [e for e in system.events() if e["message"]["content"]["context"].get("action") == "failed"]
    assert len(failures) == 4, "one had another reason by now; what failed for the same reason is told once"


def test_two_at_once_make_one_team(system: System) -> None:
    for n in range(4):
        start(system, f"web:a{n}")
    lose(system)
    command = [f"{BIN}/orc-agent", "restore"]
    those = [subprocess.Popen(command, env=system.env, stdout=subprocess.DEVNULL) for _ in range(3)]
    assert sorted(one.wait(60) for one in those) == [0, 1, 1]
    assert windows(system) == ["web:a0", "web:a1", "web:a2", "web:a3"]


def test_restoring_heeds_no_rules_of_time_and_leaves_the_living(system: System) -> None:
    system.configure("recovery: {spacing_s: 0, breaker: 1 in 900}\n")
    dev = start(system, "web:dev", "--restart", "crash")
    stays = start(system, "web:qa")
    for _ in range(3):
        os.kill(agent(system, "web:dev").pid, signal.SIGKILL)
        wait_until(lambda: not agent(system, "web:dev").alive(), what="its end")
        assert brief(lines(system, "orc-agent", "restore")) == [("web:dev", "respawned")]
    assert agent(system, "web:qa").pid == stays.pid and agent(system, "web:dev").pane == dev.pane


CRASH = """
import os, signal
from tmux_orchestrator.agents import roster
from tmux_orchestrator.commands import agent
roster.register = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
agent.main(["restore"])
"""


def test_one_that_is_killed_in_the_middle_leaves_nothing_behind_the_next_one(system: System) -> None:
    for key in ("web:dev", "web:qa"):
        start(system, key)
    lose(system)
    env = system.env | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", CRASH], env=env, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    wait_until(lambda: system.server.show("=web:dev", "#{pane_dead}") == "1", what="the end of the launcher")
    assert not any(one.alive() for one in agents(system))
    assert brief(lines(system, "orc-agent", "restore")) == [("web:dev", "respawned"), ("web:qa", "respawned")]
    assert windows(system) == ["web:dev", "web:qa"] and all(one.alive() for one in agents(system))


def test_one_that_is_killed_between_two_is_gone_on_with(system: System) -> None:
    for n in range(3):
        start(system, f"web:a{n}")
    lose(system)
    system.configure("recovery: {spacing_s: 600}\n")
    first = subprocess.Popen([f"{BIN}/orc-agent", "restore"], env=system.env, stdout=subprocess.DEVNULL)
    wait_until(lambda: any("You are a0" in body for _, body in said(system)), what="the first one's return")
    first.kill()
    first.wait()
    system.configure("recovery: {spacing_s: 0}\n")
    assert brief(lines(system, "orc-agent", "restore")) == [("web:a1", "respawned"), ("web:a2", "respawned")]
    assert windows(system) == ["web:a0", "web:a1", "web:a2"]


def test_who_is_back_on_a_new_server_gets_what_was_sent_meanwhile(system: System) -> None:
    system.broker()
    dev = system.demo("dev")
    system.wait_confirmed(system.publish("-t", "dev", "before"))
    lose(system)
    asked = system.publish("-t", "dev", "-p", "high", "--subject", "Parser", "build the parser")
    assert brief(lines(system, "orc-agent", "restore")) == [("team:dev", "respawned")]
    system.wait_confirmed(asked, 30)
    wait_until(lambda: any(body.startswith("You are dev") for body in dev.bodies()), 30, "the briefing in the pane")
    (briefing,) = [body for body in dev.settled().bodies() if body.startswith("You are dev")]
    assert f"1 message came for you: 1 high. The most urgent:\n- #{asked[-6:]} Parser (high)" in briefing
