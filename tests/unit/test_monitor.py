"""The monitor on real tmux: a death is seen at once, told once, and mended where that is wanted."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from support_monitor import alerts, monitor, open_count, recovered, said
from support_orc import BIN, DEMO, Agent, System
from support_tmux import wait_until
from tmux_orchestrator.ground import clock, proc

QUICK = "recovery: {spacing_s: 0}\n"


@pytest.fixture
def system() -> Iterator[System]:
    with System(QUICK) as system:
        yield system


def pid_of(system: System, name: str) -> int | None:
    found = json.loads(system.run("orc-agent", "show", name, "-o", "jsonl"))["pid"]
    return None if found is None else int(found)


def test_who_stays_dead_is_told_once_however_many_they_are(system: System) -> None:
    system.broker()
    pm = system.demo("pm")
    those = [system.demo(f"dev-{n}") for n in range(4)]
    first = monitor(system)
    wait_until(lambda: open_count(first.pid) == 5, what="a look at all of them")
    for agent in those:
        os.kill(agent.pid, signal.SIGKILL)
    wait_until(lambda: alerts(system), what="the alert")
    (alert,) = alerts(system)
    assert alert.startswith("4 agents died:\n")
    assert "team:dev-2 died: ended by signal 9: orc-agent restart team:dev-2" in alert
    wait_until(lambda: any("4 agents died" in body for body in pm.bodies()), what="the word in the PM's pane")
    first.kill()
    first.wait()
    second = monitor(system)
    late = system.demo("late")
    wait_until(lambda: open_count(second.pid) == 2, what="a look at the new one")
    os.kill(late.pid, signal.SIGKILL)
    wait_until(lambda: len(alerts(system)) == 2, what="the second alert")
    assert "late died" in alerts(system)[1] and "dev" not in alerts(system)[1], "what was told is told no more"


def test_who_wants_to_come_back_is_back_at_once(system: System) -> None:
    system.broker()
    pm, dev = system.demo("pm"), system.demo("dev", "--restart", "crash")
    monitor(system)
    os.kill(dev.pid, signal.SIGKILL)
    wait_until(lambda: recovered(system), what="the recovery")
    assert pid_of(system, "dev") not in (None, dev.pid) and alerts(system) == []
    assert (recovered(system)[0]["agent"], recovered(system)[0]["action"]) == ("team:dev", "respawned")
    wait_until(lambda: any("dev was started again" in body for body in pm.bodies()), what="the word to the PM")
    wait_until(lambda: any("You are dev" in body for body in dev.bodies()), what="the briefing")


def test_one_that_dies_again_and_again_ends_with_one_alert(system: System) -> None:
    system.configure("recovery: {spacing_s: 0, backoff_s: [0, 0], breaker: 3 in 900}\n")
    system.agent("bad", "false", options=("--restart", "crash", "--profile", "plain"))
    monitor_ = subprocess.Popen([f"{BIN}/orc-monitor"], env=system.env, stdin=subprocess.DEVNULL)
    system.children.append(monitor_)
    wait_until(lambda: alerts(system), what="the alert")
    assert [one["action"] for one in recovered(system)] == ["respawned"] * 3
    assert "team:bad died: ended with status 1: orc-agent restart team:bad" in alerts(system)[0]


def test_a_backoff_is_waited_for(system: System) -> None:
    system.configure("recovery: {spacing_s: 0, backoff_s: [1, 1], breaker: 2 in 900}\n")
    system.agent("bad", "false", options=("--restart", "crash", "--profile", "plain"))
    child = subprocess.Popen([f"{BIN}/orc-monitor"], env=system.env, stdin=subprocess.DEVNULL)
    system.children.append(child)
    wait_until(lambda: alerts(system), what="the alert after the second start")
    assert [one["attempt"] for one in recovered(system)] == [1, 2]


def test_who_left_on_purpose_or_is_stopped_is_no_death(system: System) -> None:
    dev, left = system.demo("dev"), system.agent("left", "sh", "-c", "read x; exit 0", options=("--profile", "plain"))
    child = monitor(system)
    wait_until(lambda: open_count(child.pid) == 2, what="a look at both")
    system.run("orc-agent", "stop", "dev")
    left.keys("Enter")
    wait_until(lambda: proc.start_time(dev.pid) is proc.start_time(left.pid) is None, what="their ends")
    qa = system.demo("qa")
    wait_until(lambda: open_count(child.pid) == 1, what="a look at the new one")
    os.kill(qa.pid, signal.SIGKILL)
    wait_until(lambda: alerts(system), what="the alert")
    assert len(alerts(system)) == 1 and alerts(system)[0].startswith("team:qa died")


def test_disabled_recovery_only_tells(system: System) -> None:
    system.configure("recovery: {enabled: false}\n")
    dev = system.demo("dev", "--restart", "always")
    monitor(system)
    os.kill(dev.pid, signal.SIGKILL)
    wait_until(lambda: alerts(system), what="the alert")
    assert recovered(system) == [] and pid_of(system, "dev") is None


def test_a_second_one_leaves_and_a_signal_ends_it_even_between_two_starts(system: System) -> None:
    system.configure("recovery: {spacing_s: 60}\n")
    those = [system.demo(name, "--restart", "crash") for name in ("anna", "bob")]
    child = monitor(system)
    assert (
        "runs already"
        in subprocess.run(
            [f"{BIN}/orc-monitor"], env=system.env, capture_output=True, text=True, timeout=30, check=False
        ).stderr
    )
    wait_until(lambda: open_count(child.pid) == 2, what="a look at both")
    for agent in those:
        os.kill(agent.pid, signal.SIGKILL)
    wait_until(lambda: pid_of(system, "anna") not in (None, those[0].pid), what="the first one's return")
    child.terminate()
    assert child.wait(20) == 0
    assert [one["agent"] for one in recovered(system)] == ["team:anna"], "what was done is told"


def test_one_cycle(system: System) -> None:
    system.demo("dev").kill()
    told = json.loads(system.run("orc-monitor", "--once", "--json", code=1))
    assert told["agents"] == 1 and told["findings"] == [
        {"agent": "team:dev", "state": "dead", "why": "ended by signal 9"}
    ]
    assert told["cycle_ms"] >= told["look_ms"] > 0 and len(alerts(system)) == 1
    system.run("orc-monitor", "--once", code=1)
    assert len(alerts(system)) == 1, "told once"
    system.run("orc-agent", "restart", "dev")
    assert system.run("orc-monitor", "--once") == "1 agents, none dead"


def test_a_damaged_memory_and_a_damaged_registry_stop_nothing(system: System) -> None:
    dev = system.demo("dev")
    os.makedirs(system.root + "/logs/run", exist_ok=True)
    with open(system.root + "/logs/run/monitor.json", "w", encoding="ascii") as file:
        file.write("[broken")
    child = monitor(system)
    path = system.root + "/registry/agents.json"
    with open(path, "rb") as whole:
        data = whole.read()
    for content in (b"{", data):
        with open(path + ".new", "wb") as new:
            new.write(content)
        os.replace(path + ".new", path)
    os.kill(dev.pid, signal.SIGKILL)
    wait_until(lambda: alerts(system), what="the alert")
    assert child.poll() is None


NERVOUS = (
    "monitoring: {look_interval: 0.2, idle_after: 1, remind_after: 600, healthy_report: 1, unresponsive_after: 2}\n"
)


def test_a_question_reaches_the_project_manager_once(system: System) -> None:
    system.configure("monitoring: {look_interval: 0.2}\n")
    system.broker()
    pm, dev = system.demo("pm"), system.demo("dev")
    monitor(system)
    dev.keys("[[tool:rm -rf build]] clean up", "Enter")
    wait_until(lambda: any("rm -rf build" in body for body in pm.bodies()), what="the question in the PM's pane")
    (asked,) = said(system, "waiting")
    assert asked["message"]["priority"] == "high" and "Run this command?" in asked["message"]["content"]["body"]
    listed = json.loads(system.run("orc-agent", "show", "dev", "-o", "jsonl"))
    assert listed["state"] == "waiting" and listed["since"] is not None
    assert asked["to"]["targets"] == ["team:pm"]
    system.run("orc-agent", "answer", "dev", "no", "--asked", "00000000", code=1)
    assert json.loads(system.run("orc-agent", "show", "dev", "-o", "jsonl"))["state"] == "waiting", "another's answer"
    answers = asked["message"]["content"]["context"]["answers"]
    system.run(*shlex.split(answers[-1]))
    system.run("orc-agent", "wait", "dev", "--until", "idle", "--timeout", "20s")
    assert len(said(system, "waiting")) == 1 and len([b for b in pm.settled().bodies() if "rm -rf build" in b]) == 1


def test_idle_agents_and_the_word_that_all_is_well(system: System) -> None:
    system.configure(NERVOUS + "recovery: {grace_s: 0}\n")
    for name in ("dev", "qa"):
        system.demo(name)
    monitor(system)
    wait_until(lambda: said(system, "status"), what="the report")
    assert said(system, "status")[0]["message"]["content"]["body"].startswith("All agents healthy - 0 active, 2 idle")
    wait_until(lambda: said(system, "team_idle"), what="the team's idleness")
    fresh = said(system, "fresh")
    assert len(fresh) == 1 and fresh[0]["message"]["content"]["body"].startswith("2 agents have no briefing yet:")
    wait_until(lambda: len(said(system, "status")) >= 3, what="two more reports")
    assert len(said(system, "team_idle")) == len(said(system, "fresh")) == 1, "told once"


# Shows that it works, and nothing else, until Enter is pressed; tmux lets no program of its own stay stopped.
WORKING = r"\r\342\227\220 Working \342\200\246"
HANGS = f"printf '{WORKING} 1s'; read -r line; printf '{WORKING} 2s'; sleep 1000"


def hanging(system: System) -> Agent:
    return system.agent("dev", "sh", "-c", HANGS, options=("--profile", "demo"))


def test_a_program_that_hangs_in_its_work_is_unresponsive(system: System) -> None:
    system.configure(NERVOUS)
    dev = hanging(system)
    monitor(system)
    wait_until(lambda: said(system, "unresponsive"), what="the word of it")
    assert json.loads(system.run("orc-agent", "show", "dev", "-o", "jsonl"))["state"] == "unresponsive"
    dev.keys("Enter")
    wait_until(lambda: said(system, "recovered"), what="its return")
    assert said(system, "recovered")[0]["message"]["content"]["body"] == "team:dev responds again"


def test_a_broker_that_falls_is_told_and_so_is_its_return(system: System) -> None:
    system.configure("monitoring: {look_interval: 0.2}\n")
    system.run("orc-component", "start", "broker")
    system.demo("qa")
    child = monitor(system)
    with open(system.root + "/logs/broker.pid", encoding="ascii") as file:
        pid = int(file.read())
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: said(system, "component"), what="the alert")
    assert said(system, "component")[0]["message"]["priority"] == "critical"
    system.run("orc-component", "start", "broker")
    wait_until(lambda: said(system, "recovered"), what="its return")
    system.run("orc-component", "stop", "broker")
    system.demo("dev")
    wait_until(lambda: open_count(child.pid) == 2, what="another look")
    assert len(said(system, "component")) == 1, "a stop on purpose is no fall"


def test_a_monitor_that_fell_says_for_how_long_nobody_watched(system: System) -> None:
    system.demo("dev")
    first = monitor(system)
    wait_until(lambda: os.path.exists(system.root + "/logs/run/monitor.json"), what="its account")
    first.kill()
    first.wait()
    second = monitor(system)
    wait_until(lambda: said(system, "monitor_back"), what="the word of it")
    assert second.poll() is None
    second.terminate()
    assert second.wait(20) == 0
    monitor(system)
    assert len(said(system, "monitor_back")) == 1


def test_a_monitor_that_was_stopped_for_a_while_blames_nobody(system: System) -> None:
    system.configure(NERVOUS.replace("unresponsive_after: 2", "unresponsive_after: 4"))
    hanging(system)
    other = system.demo("qa")
    child = monitor(system)
    wait_until(lambda: open_count(child.pid) == 2, what="a look at both")
    os.kill(child.pid, signal.SIGSTOP)
    begun = clock.boot_ns()
    wait_until(lambda: clock.boot_ns() - begun > 5e9, what="the time in which nobody looks")
    os.kill(other.pid, signal.SIGKILL)
    os.kill(child.pid, signal.SIGCONT)
    wait_until(lambda: alerts(system), what="the alert")
    assert said(system, "unresponsive") == [] and "qa died" in alerts(system)[0]
    wait_until(lambda: said(system, "unresponsive"), what="that of a time in which somebody looked")


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_who_stops_giving_heartbeats_is_told_of_until_one_comes(system: System) -> None:
    system.configure(f"monitoring: {{look_interval: 0.2}}\nheartbeat: {{missed_after: 1, port: {free_port()}}}\n")
    system.demo("dev", "--restart", "crash")
    monitor(system)
    assert system.run("orc-heartbeat", "--agent", "dev") == "ack"
    wait_until(lambda: said(system, "silent"), what="the word of its silence")
    assert "team:dev sent no heartbeat for" in said(system, "silent")[0]["message"]["content"]["body"]
    assert system.run("orc-heartbeat", "--agent", "dev").startswith("no sign of life")
    wait_until(lambda: said(system, "recovered"), what="the word of its return")
    assert said(system, "recovered")[0]["message"]["content"]["body"] == "team:dev sends heartbeats again"


def test_agents_that_are_adopted_by_pattern_are_watched_too(system: System) -> None:
    system.configure("monitoring: {look_interval: 0.2}\nagents: {adopt: ['hand:*']}\n")
    tmux = system.server.tmux
    pane = tmux("new-session", "-d", "-P", "-F", "#{pane_id}", "-s", "hand", "-x", "100", "-y", "30", "bash --norc")
    tmux("send-keys", "-t", pane, f"{sys.executable} {DEMO}", "Enter")
    wait_until(lambda: "Say what to do" in system.server.screen(pane), what="the agent by hand")
    assert json.loads(system.run("orc-monitor", "--once", "--json"))["agents"] == 1
    child = subprocess.Popen([f"{BIN}/orc-monitor"], env=system.env, stdin=subprocess.DEVNULL)
    system.children.append(child)
    tmux("send-keys", "-t", pane, "[[tool:rm -rf build]] x", "Enter")
    wait_until(lambda: said(system, "waiting"), what="its question")
    assert said(system, "waiting")[0]["message"]["content"]["context"]["agent"] == f"hand:pane-{pane[1:]}"
    tmux("send-keys", "-t", pane, "Escape", "C-d")
    system.demo("qa").kill()
    wait_until(lambda: alerts(system), what="the witness's alert")
    assert len(alerts(system)) == 1 and "qa died" in alerts(system)[0], "who left by hand did not die"


def test_who_gives_no_sign_of_life_at_all_is_started_again(system: System) -> None:
    beat = f"heartbeat: {{missed_after: 1, port: {free_port()}}}\n"
    system.configure("monitoring: {look_interval: 0.2}\n" + beat + QUICK.replace("0", "0, grace_s: 0"))
    dev = system.agent("dev", "sh", "-c", HANGS, options=("--profile", "demo", "--restart", "crash"))
    alive = system.demo("alive", "--restart", "crash")
    alive.keys("[[slow:1000]] x", "Enter")
    monitor(system)
    for name in ("dev", "alive"):
        system.run("orc-heartbeat", "--agent", name)
    wait_until(lambda: recovered(system), what="the hung one's return")
    assert (recovered(system)[0]["agent"], recovered(system)[0]["action"]) == ("team:dev", "respawned")
    assert "no sign of life" in recovered(system)[0]["reason"] and proc.start_time(dev.pid) is None
    wait_until(lambda: len(said(system, "silent")) > 0, what="the word of who is silent only")
    assert proc.start_time(alive.pid) is not None, "its screen moves"


def test_a_death_in_the_middle_of_a_long_recovery_is_told_at_once(system: System) -> None:
    system.configure("recovery: {spacing_s: 60}\n")
    those = [system.demo(name, "--restart", "crash") for name in ("anna", "bob")]
    other = system.demo("qa")
    child = monitor(system)
    wait_until(lambda: open_count(child.pid) == 3, what="a look at all")
    for agent in those:
        os.kill(agent.pid, signal.SIGKILL)
    wait_until(lambda: len(recovered(system)) == 1, what="the first one's return")
    os.kill(other.pid, signal.SIGKILL)
    wait_until(lambda: alerts(system), what="the alert")
    assert alerts(system) == ["team:qa died: ended by signal 9: orc-agent restart team:qa"]
    assert len(recovered(system)) == 1, "the other one waits for its turn, and is no news"


def test_a_tmux_server_that_ends_is_one_incident(system: System) -> None:
    for name in ("dev", "qa", "ops"):
        system.demo(name)
    child = monitor(system)
    wait_until(lambda: open_count(child.pid) == 3, what="a look at all")
    pid = int(system.server.tmux("display-message", "-p", "#{pid}"))
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: alerts(system), what="the alert")
    assert len(alerts(system)) == 1
    assert alerts(system)[0].startswith(f"tmux server {pid} (") and "with it 3 agents" in alerts(system)[0]
    assert alerts(system)[0].endswith("orc-agent restore")


def test_who_asks_how_everybody_is_gets_an_answer(system: System) -> None:
    system.broker()
    system.demo("dev")
    pm = system.demo("pm")
    monitor(system)
    first = system.publish("-g", "management", "--tag", "status-request", "PM requesting daemon status update")
    wait_until(lambda: answers(system, first), what="an answer to somebody outside")
    words = answers(system, first)[0]["message"]["content"]["body"]  # the request itself may keep the PM busy
    assert words.startswith("All agents healthy - ") and words.endswith(" idle, monitoring stable")
    second = system.publish("--type", "status_request", "--from", "team:pm", "how are they?")
    wait_until(lambda: answers(system, second), what="an answer to the PM")
    assert answers(system, second)[0]["to"]["targets"] == ["team:pm"]
    wait_until(lambda: "All agents healthy" in pm.screen(), what="the answer in its pane")
    assert len(answers(system, first)) == len(answers(system, second)) == 1


def answers(system: System, asked: str) -> list[dict[str, Any]]:
    events = [e for e in system.events() if e["message"]["type"] == "status_update"]
    return [e for e in events if e["metadata"]["reply_to"] == asked]


def test_who_was_sent_a_message_has_had_a_briefing(system: System) -> None:
    system.configure("monitoring: {look_interval: 0.2}\nrecovery: {grace_s: 0}\n")
    system.broker()
    system.demo("dev")
    system.demo("qa")
    system.wait_outcome(system.publish("-t", "dev", "your work: the parser"), "confirmed")
    monitor(system)
    wait_until(lambda: said(system, "fresh"), what="the word of who has none")
    assert said(system, "fresh")[0]["message"]["content"]["context"]["agent"] == "team:qa"


def test_a_monitor_keeps_no_tmux_server_that_is_nobody_elses(system: System) -> None:
    system.configure("monitoring: {look_interval: 0.2}\n")
    system.broker()
    dev = system.demo("dev")
    child = monitor(system)
    wait_until(lambda: "_orc" in system.server.tmux("list-sessions", "-F", "#{session_name}"), what="a kept connection")
    pid = int(system.server.tmux("display-message", "-p", "#{pid}"))
    system.server.tmux("kill-session", "-t", "=team")
    wait_until(lambda: proc.start_time(pid) is proc.start_time(dev.pid) is None, what="the server's end")
    assert child.poll() is None


def test_a_question_is_not_waited_for_until_the_next_usual_look(system: System) -> None:
    system.configure("monitoring: {look_interval: 4}\n")
    dev = system.demo("dev")
    monitor(system)
    dev.keys("[[tool:rm -rf build]] clean up", "Enter")
    wait_until(lambda: said(system, "waiting"), what="the question, two looks later")
