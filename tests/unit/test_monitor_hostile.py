"""The monitor and what was written to make it fall, fall silent, or say the same thing again."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from support_monitor import Watched, alerts, monitor, open_count, recovered, said
from support_tmux import wait_until
from tmux_orchestrator.agents import registry
from tmux_orchestrator.eventlog import event
from tmux_orchestrator.eventlog.daylog import Log
from tmux_orchestrator.ground import clock, files
from tmux_orchestrator.ground.locks import Lock
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.watch.monitor import Monitor

FAR = 10**30


@pytest.fixture
def watched() -> Iterator[Watched]:
    with Watched() as watched:
        yield watched


def altered(path: str, change: Any) -> None:
    """The file's document, changed, in its place."""
    with open(path, "rb") as file:
        data = json.load(file)
    change(data)
    files.replace(path, json.dumps(data).encode())


# what makes it fall silent


def test_a_request_that_cannot_be_answered_silences_nobody(watched: Watched) -> None:
    source = {"type": "human", "identifier": "x", "session": None, "host": "h"}
    asked = event.build("how are you?", source, type="status_request", hops=event.MAX_HOPS)
    Log(Home(watched.root)).append([asked])
    watched.looks(2)
    watched.goes_on()


# what makes it fall


def test_a_sign_of_a_time_that_no_calendar_has(watched: Watched) -> None:
    agent = watched.witness
    with open(watched.root + "/registry/agents.json", "rb") as file:
        start = next(one["pid_start"] for one in json.load(file)["agents"] if one["pid"] == agent.pid)
    for at in (FAR, -FAR):
        sign = {"pid": agent.pid, "pid_start": start, "state": "idle", "since": at, "at": at}
        files.replace(watched.root + "/logs/run/signs/team@witness.json", json.dumps(sign).encode())
        watched.looks(2)
    watched.goes_on()


def start_of(watched: Watched, pid: int) -> int:
    with open(watched.root + "/registry/agents.json", "rb") as file:
        return int(next(one["pid_start"] for one in json.load(file)["agents"] if one["pid"] == pid))


def test_a_beat_of_a_time_that_no_calendar_has(watched: Watched) -> None:
    watched.monitor.kill()
    watched.monitor.wait()
    pid = watched.witness.pid
    beat = {"pid": pid, "pid_start": start_of(watched, pid), "wall_ns": FAR, "boot_ns": 1, "sent_ns": 1, "via": "left"}
    kept = {"boot": clock.boot_id(), "beats": {"team:witness": beat}, "counters": {}}
    files.replace(watched.root + "/logs/run/beats.json", json.dumps(kept).encode())
    watched.monitor = monitor(watched)
    watched.looks(2)
    assert watched.monitor.poll() is None


@pytest.mark.parametrize(
    "field",
    [
        {"pid": FAR},
        {"pid_start": FAR},
        {"restart": "bogus"},
        {"socket": "a\0b"},
        {"socket": "\ud800"},
        {"groups": [5]},
        {"supervisor": "bogus"},
        {"registered": "9999-99-99T99:99:99Z"},
        {"boot": "x"},
    ],
)
def test_a_registered_agent_that_cannot_be(watched: Watched, field: dict[str, Any]) -> None:
    path = watched.root + "/registry/agents.json"
    with open(path, "rb") as file:
        good = file.read()
    other = {"name": "other", "session": "team", "pid": 1 << 21, "restart": "crash", "supervisor": "monitor"}
    altered(path, lambda data: data["agents"].append(other | field))
    wait_until(lambda: watched.monitor.poll() is not None or told(watched), what="a word of it")
    assert watched.monitor.poll() is None, watched.output()[-1]
    files.replace(path, good)
    watched.looks(2)
    assert watched.monitor.poll() is None


def told(watched: Watched) -> bool:
    return bool(recovered(watched) or alerts(watched) or any(" ERROR " in line for line in watched.output()))


# what makes it spin, or wait


def test_a_death_while_the_registry_is_damaged_makes_nobody_spin(tmp_path: Any) -> None:
    home = Home(str(tmp_path))
    mine = Monitor(home)
    files.replace(registry.path(home), b"{")
    mine.deaths.soon()
    wait_until(lambda: clock.boot_ns() > mine.deaths.due_ns, what="the breath after a death")
    mine._turn()
    mine._watch.close()
    mine.tail.close()
    assert mine.deaths.due_ns > clock.boot_ns(), "or the loop would not sleep"


def test_what_is_scheduled_goes_on_in_a_long_recovery(watched: Watched) -> None:
    watched.configure("monitoring: {look_interval: 0.2, healthy_report: 0}\nrecovery: {spacing_s: 60}\n")
    those = [watched.demo(name, "--restart", "crash") for name in ("anna", "bob")]
    wait_until(lambda: open_count(watched.monitor.pid) == 3, what="a look at all")
    for agent in those:
        os.kill(agent.pid, signal.SIGKILL)
    wait_until(lambda: len(recovered(watched)) == 1, what="the first one's return")
    watched.run("orc-schedule", "add", "--every", "1s", "-t", "witness", "again and again")
    wait_until(
        lambda: sum("again and again" in str(e) for e in watched.events()) > 2, what="what comes after the first one"
    )
    assert len(recovered(watched)) == 1


def test_somebody_elses_recovery_keeps_the_monitor_from_nothing_else(watched: Watched) -> None:
    dev = watched.demo("dev", "--restart", "crash")
    wait_until(lambda: open_count(watched.monitor.pid) == 2, what="a look at both")
    with Lock(watched.root + "/logs/run/recovery.lock"):
        os.kill(dev.pid, signal.SIGKILL)
        watched.looks(3)
        os.kill(watched.witness.pid, signal.SIGKILL)
        wait_until(lambda: alerts(watched), what="the alert")
        assert len(alerts(watched)) == 1 and "witness died" in alerts(watched)[0]
    wait_until(lambda: recovered(watched), what="the return of the other")
    assert len(alerts(watched)) == 1


# what would be told again


def test_a_death_that_was_told_is_not_told_again_after_the_recovery_of_others(watched: Watched) -> None:
    watched.configure(
        "monitoring: {look_interval: 0.2, healthy_report: 0, cooldown: 0}\n"
        "recovery: {spacing_s: 3, backoff_s: [0, 0], breaker: 1 in 900}\n"
    )
    watched.agent("bad", "false", options=("--restart", "crash", "--profile", "plain"))
    wait_until(lambda: alerts(watched), what="the alert")
    those = [watched.demo(name, "--restart", "crash") for name in ("anna", "bob")]
    wait_until(lambda: open_count(watched.monitor.pid) == 3, what="a look at all")
    for agent in those:
        os.kill(agent.pid, signal.SIGKILL)
    wait_until(lambda: len(recovered(watched)) == 3, what="the return of both")
    watched.looks(5)
    assert len(alerts(watched)) == 1, alerts(watched)


def test_what_a_strategy_finds_stands_while_only_others_are_looked_at(watched: Watched) -> None:
    path = watched.root + "/strategy"
    with open(path, "w", encoding="ascii") as file:
        file.write(
            "#!/bin/sh\ngrep -q team:witness && "
            'echo \'{"agent": "team:witness", "issue_type": "no_tests", "text": "no tests"}\'; exit 0\n'
        )
    os.chmod(path, 0o700)
    watched.demo("other")
    sign = {"pid": watched.witness.pid, "pid_start": start_of(watched, watched.witness.pid), "state": "idle"}
    files.replace(watched.root + "/logs/run/signs/team@witness.json", json.dumps(sign).encode())
    watched.watch(f"strategy: custom, custom: {path}, cooldown: 0, check_interval: 1")
    wait_until(lambda: said(watched, "no_tests"), what="the finding")
    watched.looks(20)
    assert len(said(watched, "no_tests")) == 1, "an agent with hooks is not looked at each time"


def test_a_new_strategy_that_is_out_does_not_work_again(watched: Watched) -> None:
    path = watched.root + "/strategy"
    with open(path, "w", encoding="ascii") as file:
        file.write("#!/bin/sh\nexit 3\n")
    os.chmod(path, 0o700)
    watched.watch(f"custom: {path}", "features: {strategy: custom, stage: all}\n")
    wait_until(lambda: said(watched, "strategy"), what="the notice")
    watched.looks(5)
    watched.goes_on("strategy: ")


def test_who_gets_another_name_is_the_same_one(watched: Watched) -> None:
    dev, bad = watched.demo("dev"), watched.demo("bad")
    dev.keys("[[slow:1000]] x", "Enter")
    wait_until(lambda: watched.state(dev) == "working", what="its work")
    dev.keys("Escape")
    wait_until(lambda: watched.state(dev) == "idle", what="the end of its work")
    os.kill(bad.pid, signal.SIGKILL)
    wait_until(lambda: alerts(watched), what="the alert")
    watched.run("orc-agent", "rename", "dev", "new")
    watched.run("orc-agent", "rename", "bad", "worse")
    watched.looks(5)
    assert not [e for e in said(watched, "fresh") if "team:new" in str(e)]
    assert len(alerts(watched)) == 1


def test_a_death_while_hung_ones_are_started_again_is_no_alert_if_it_is_mended_next() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    hangs = "printf '✻ Working… (1s · esc to interrupt)\\n'; exec sleep 1000"
    with Watched("", f"heartbeat: {{missed_after: 1, port: {port}}}\n") as watched:
        watched.configure(
            "monitoring: {look_interval: 0.2, healthy_report: 0}\nrecovery: {grace_s: 0, spacing_s: 4}\n"
            f"heartbeat: {{missed_after: 1, port: {port}}}\n"
        )
        for name in ("one", "two"):
            watched.agent(name, "sh", "-c", hangs, options=("--profile", "plain", "--restart", "crash"))
        third = watched.demo("third", "--restart", "crash")
        wait_until(lambda: open_count(watched.monitor.pid) == 4, what="a look at all")
        for name in ("one", "two"):
            watched.run("orc-heartbeat", "--agent", name)
        wait_until(lambda: len(recovered(watched)) == 1, what="the first one's return")
        os.kill(third.pid, signal.SIGKILL)
        wait_until(lambda: len(recovered(watched)) == 3, 20, what="the return of all")
        assert alerts(watched) == []
