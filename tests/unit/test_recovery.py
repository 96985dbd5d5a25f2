"""Recovery on real tmux: what died is back in its pane, told who it is; live, adopted and stopped ones are left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support_orc import BIN, Agent, System
from support_tmux import wait_until
from tmux_orchestrator.agents import registry, signs
from tmux_orchestrator.agents.control import Control
from tmux_orchestrator.ground import config, proc
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.watch import recovery

QUICK = "recovery: {spacing_s: 0}\n"


@pytest.fixture
def system() -> Iterator[System]:
    with System(QUICK) as system:
        yield system


def recover(system: System, *argv: str, code: int = 0) -> list[dict[str, object]]:
    return [json.loads(line) for line in system.run("orc-recover", *argv, code=code).splitlines()]


def recorded(system: System) -> list[tuple[str, str, str]]:
    contexts = [e["message"]["content"]["context"] for e in system.events() if e["message"]["type"] == "recovery"]
    return [(context["agent"], context["action"], context["reason"]) for context in contexts]


def notices(system: System, target: str) -> list[str]:
    return [
        e["message"]["content"]["body"]
        for e in system.events()
        if e["message"].get("category") == "recovery" and target in e["to"]["targets"]
    ]


def wait_dead(pid: int) -> None:
    """tmux itself may notice only later."""
    wait_until(lambda: proc.start_time(pid) is None, what="the end of the process")


def again(system: System, agent: Agent) -> int:
    """The pid of the agent's new process, once its screen is there."""
    pid = int(json.loads(system.run("orc-agent", "show", agent.name, "-o", "jsonl"))["pid"])
    wait_until(lambda: "Say what to do" in agent.screen(), what="the screen of the agent that is back")
    return pid


def test_a_dead_agent_is_back_in_its_pane_and_briefed(system: System) -> None:
    system.broker()
    pm, dev = system.demo("pm"), system.demo("dev")
    told = system.publish("-t", "dev", "build the parser")
    system.wait_confirmed(told)
    dev.kill()
    (outcome,) = recover(system, "dev", "--reason", "it hung")
    assert (outcome["agent"], outcome["action"], outcome["attempt"]) == ("team:dev", "respawned", 1)
    assert outcome["reason"] == "ended by signal 9 (it hung)"
    assert recorded(system) == [("team:dev", "respawned", "ended by signal 9 (it hung)")]
    assert again(system, dev) != dev.pid
    (briefing,) = notices(system, "team:dev")
    assert briefing.startswith("You are dev, in session team, and were started again: ended by signal 9 (it hung).")
    assert f"#{told[-6:]} build the parser" in briefing and "orc-read --unread dev" in briefing
    assert notices(system, "team:pm") == ["team:dev was started again: ended by signal 9 (it hung)"]
    wait_until(lambda: any("You are dev" in body for body in dev.bodies()), what="the briefing in the pane")
    wait_until(lambda: any("team:dev was started again" in body for body in pm.bodies()), what="the word to the PM")


def test_the_project_manager_hears_of_many_at_once_and_not_of_itself(system: System) -> None:
    pm = system.demo("pm")
    those = [system.demo(name, "--restart", "crash") for name in ("anna", "bob")]
    for agent in (pm, *those):
        agent.kill()
    assert [one["agent"] for one in recover(system, "--all")] == ["team:pm", "team:anna", "team:bob"]
    briefing, report = notices(system, "team:pm")
    assert briefing.startswith("You are pm, in session team,")
    assert report.split("\n") == [
        "team:anna was started again: ended by signal 9",
        "team:bob was started again: ended by signal 9",
    ]
    (back, bobs) = notices(system, "team:bob")
    assert back == "Your project manager team:pm is back: it was started again: ended by signal 9"
    assert bobs.startswith("You are bob") and notices(system, "team:anna")[0] == back


def test_all_means_those_that_want_to_come_back(system: System) -> None:
    for name, policy in (("never", "never"), ("crash", "crash"), ("always", "always"), ("left", "crash")):
        system.agent(name, "sh", "-c", "read x; exit $x", options=("--restart", policy, "--profile", "plain"))
    stopped = system.demo("stopped", "--restart", "always")
    those = {a["name"]: a for a in map(json.loads, system.run("orc-agent", "list").splitlines())}
    for name, status in (("never", "1"), ("crash", "1"), ("always", "0"), ("left", "0")):
        system.server.tmux("send-keys", "-t", those[name]["pane"], status, "Enter")
        wait_dead(those[name]["pid"])
    system.run("orc-agent", "stop", "stopped")
    wait_dead(stopped.pid)
    assert {one["agent"] for one in recover(system, "--all", "--dry-run")} == {"team:crash", "team:always"}
    assert recorded(system) == [], "a dry run says nothing"
    assert {one["agent"] for one in recover(system, "--all")} == {"team:crash", "team:always"}
    assert recover(system, "--all", code=1) == [], "they are back"


def test_each_agent_has_one_supervisor_and_whoever_is_named_is_started(system: System) -> None:
    those = {
        name: system.agent(name, "sleep", "1000", options=("--restart", "crash", *more))
        for name, more in (("mine", ()), ("theirs", ("--supervisor", "team")), ("nobodys", ("--supervisor", "none")))
    }
    told = [line.split("\t") for line in system.run("orc-agent", "list", "-o", "name,supervisor").splitlines()]
    assert told == [["mine", "monitor"], ["theirs", "team"], ["nobodys", "none"]]
    for agent in those.values():
        agent.kill()
    control = Control(Home(system.root), config.load(Home(system.root)))
    assert [one.agent.name for one in recovery.Recovery(control, who="team").candidates()] == ["theirs"]
    assert [one["agent"] for one in recover(system, "--all")] == ["team:mine"]
    assert [one["agent"] for one in recover(system, "theirs", "nobodys")] == ["team:theirs", "team:nobodys"]


def test_a_live_agent_is_not_touched_without_force(system: System) -> None:
    dev = system.demo("dev")
    (outcome,) = recover(system, "dev", code=69)
    assert (outcome["action"], outcome["reason"]) == ("refused", "running")
    os.kill(dev.pid, 0)
    (outcome,) = recover(system, "dev", "--force")
    assert outcome["action"] == "respawned" and again(system, dev) != dev.pid


def test_an_adopted_agent_is_never_started(system: System) -> None:
    system.agent(
        "other",
        "sleep",
        "1000",
        options=(
            "--profile",
            "plain",
        ),
    )
    pane, pid = system.server.start(["sleep", "1000"], session="byhand")
    system.run("orc-agent", "adopt", "byhand:0", "--name", "hand", "--profile", "plain")
    os.kill(pid, signal.SIGKILL)
    wait_dead(pid)
    (outcome,) = recover(system, "hand", "--force", code=69)
    assert (outcome["action"], outcome["reason"]) == ("refused", "adopted")
    assert system.server.show(pane, "#{pane_pid}") == str(pid)


def test_the_rules_hold_over_calls_and_a_hand_ends_them(system: System) -> None:
    system.configure("recovery: {spacing_s: 0, breaker: 2 in 900, backoff_s: [0, 0], cooldown_s: 0}\n")
    dev = system.demo("dev")

    def die() -> None:
        pid = int(json.loads(system.run("orc-agent", "show", "dev", "-o", "jsonl"))["pid"])
        os.kill(pid, signal.SIGKILL)
        wait_dead(pid)

    for attempt in (1, 2):
        die()
        assert recover(system, "dev")[0]["attempt"] == attempt
        again(system, dev)
    die()
    (outcome,) = recover(system, "dev", code=75)
    assert (outcome["action"], outcome["reason"], outcome["wait_s"]) == ("refused", "breaker", 0)
    system.run("orc-agent", "restart", "dev")
    again(system, dev)
    die()
    assert recover(system, "dev")[0]["attempt"] == 1, "a restart by hand begins anew"
    assert recorded(system)[-2:] == [
        ("team:dev", "respawned", "by hand"),
        ("team:dev", "respawned", "ended by signal 9"),
    ]


def test_a_young_death_waits_for_its_backoff(system: System) -> None:
    dev = system.demo("dev")
    dev.kill()
    recover(system, "dev")
    pid = again(system, dev)
    os.kill(pid, signal.SIGKILL)
    wait_dead(pid)
    (outcome,) = recover(system, "dev", code=75)
    assert outcome["reason"] == "backoff" and 0 < float(str(outcome["wait_s"])) <= 30


def test_a_start_that_fails_is_told_and_counts(system: System) -> None:
    dev = system.demo("dev")
    dev.kill()
    launch = json.loads(Path(f"{system.root}/registry/agents.json").read_bytes())["agents"][0]["launch"]
    os.unlink(launch)
    (outcome,) = recover(system, "dev", code=69)
    assert outcome["action"] == "failed" and "lost or damaged" in str(outcome["reason"]) and outcome["attempt"] == 1
    assert recorded(system)[0][:2] == ("team:dev", "failed")


def test_a_start_that_fails_again_for_the_same_reason_is_told_once(system: System) -> None:
    system.demo("pm")
    dev = system.demo("dev")
    dev.kill()
    os.unlink(registry.load(Home(system.root))[1].launch)
    for _ in range(2):
        assert recover(system, "dev", "--force", code=69)[0]["action"] == "failed"
    assert len(recorded(system)) == 1
    (told,) = notices(system, "team:pm")
    assert told.startswith("team:dev could not be started again: ") and notices(system, "team:dev") == []


def test_whom_somebody_starts_while_it_waits_for_its_turn_is_left(system: System, monkeypatch: Any) -> None:
    monkeypatch.setenv("ORC_TMUX_SOCKET", system.server.socket)
    anna, bob = (system.agent(name, "sleep", "1000", options=("--restart", "crash")) for name in ("anna", "bob"))
    anna.kill()
    bob.kill()
    home = Home(system.root)
    engine = recovery.Recovery(
        Control(home, config.load(home)), lambda _: print(system.run("orc-agent", "restart", "bob"))
    )
    assert [(one.agent, one.action, one.reason) for one in engine.run(None)] == [
        ("team:anna", "respawned", "ended by signal 9"),
        ("team:bob", "refused", "running"),
    ]
    assert [one[1:] for one in recorded(system) if one[0] == "team:bob"] == [("respawned", "by hand")]
    assert "team:bob" not in recovery.load(home), "no attempt is counted"


def test_two_recoveries_at_once_start_it_once(system: System) -> None:
    dev = system.demo("dev", "--restart", "crash")
    dev.kill()
    command = [f"{BIN}/orc-recover", "dev"]
    started = [subprocess.Popen(command, env=system.env, stdout=subprocess.DEVNULL) for _ in range(4)]
    codes = sorted(one.wait(60) for one in started)
    assert codes == [0, 69, 69, 69], "the others find it running"
    assert [action for _, action, _ in recorded(system)].count("respawned") == 1


CLAUDE = """#!/bin/sh
echo "$*" >>"$0.argv"
case $* in *unknown*) echo No conversation found; exit 1 ;; esac
exec sleep 1000
"""


class Claude:
    """A program that is called claude, writes down how it was started, and does not know the conversation `unknown`."""

    def __init__(self, system: System, *argv: str) -> None:
        self.system, self.path = system, system.root + "/claude"
        Path(self.path).write_text(CLAUDE, encoding="ascii")
        os.chmod(self.path, 0o700)
        system.agent("dev", self.path, *argv, options=("--restart", "crash"))
        self.started = 0
        self.wait()

    @property
    def agent(self) -> registry.Agent:
        return registry.load(Home(self.system.root))[0]

    def wait(self) -> list[str]:
        """How it was started since the last call, once."""
        lines: list[str] = []

        def written() -> bool:
            lines[:] = Path(self.path + ".argv").read_text(encoding="utf-8").split("\n")[self.started : -1]
            return bool(lines)

        wait_until(lambda: os.path.exists(self.path + ".argv") and written(), what="its start")
        self.started += len(lines)
        return lines

    def says(self, session_id: str) -> None:
        """What its hook would write."""
        signs.update(Home(self.system.root), self.agent, lambda sign: setattr(sign, "session_id", session_id))

    def dies(self) -> None:
        os.kill(self.agent.pid, signal.SIGKILL)
        wait_dead(self.agent.pid)

    def ends(self) -> None:
        wait_until(lambda: "status 1" in self.system.run("orc-agent", "show", "dev", "-o", "why"), what="its end")


def test_the_conversation_is_taken_up_again_by_its_id_and_never_nested(system: System) -> None:
    system.configure("recovery: {spacing_s: 0, backoff_s: [0, 0]}\n")
    claude = Claude(system, "--continue", "--model", "m")
    claude.says("5f3a-1")
    claude.dies()
    (outcome,) = recover(system, "dev")
    assert outcome["session_id"] == "5f3a-1" and claude.wait() == ["--resume 5f3a-1 --model m"]
    (record,) = [e for e in system.events() if e["message"]["type"] == "recovery"]
    assert record["message"]["content"]["context"]["session_id"] == "5f3a-1"
    claude.says("7b.2_x")
    claude.dies()
    recover(system, "dev")
    assert claude.wait() == ["--resume 7b.2_x --model m"]
    system.run("orc-agent", "restart", "dev", "--force")
    assert claude.wait() == ["--resume 7b.2_x --model m"]
    system.run("orc-agent", "restart", "dev", "--force", "--fresh")
    assert claude.wait() == ["--model m"] and claude.agent.argv[1:] == ["--continue", "--model", "m"]
    claude.dies()
    assert recover(system, "dev", "--fresh")[0]["session_id"] is None and claude.wait() == ["--model m"]


@pytest.mark.parametrize("said", ["", "-p", "--dangerous", "a b", "x;y", "../x", "$(x)", "a\nb", "x\n", "ä", "x" * 129])
def test_what_is_no_plain_id_reaches_no_command_line(system: System, said: str) -> None:
    claude = Claude(system)
    claude.says(said)
    claude.dies()
    assert recover(system, "dev")[0]["session_id"] is None and claude.wait() == [""]


def test_a_conversation_that_the_program_does_not_know_is_asked_for_once(system: System) -> None:
    system.configure("recovery: {spacing_s: 0, backoff_s: [0, 0], cooldown_s: 0}\n")
    claude = Claude(system)
    claude.says("unknown")
    claude.dies()
    assert recover(system, "dev")[0]["session_id"] == "unknown" and claude.wait() == ["--resume unknown"]
    claude.ends()
    for _ in range(2):
        assert recover(system, "dev")[0]["session_id"] is None and claude.wait() == [""]
        claude.dies()
    claude.says("newer")
    assert recover(system, "dev")[0]["session_id"] == "newer" and claude.wait() == ["--resume newer"]


def test_another_agent_of_that_name_takes_no_conversation_over(system: System) -> None:
    claude = Claude(system)
    claude.says("first")
    claude.dies()
    claude = Claude(system)
    claude.dies()
    assert recover(system, "dev")[0]["session_id"] is None


def test_a_conversation_goes_along_with_a_new_name(system: System) -> None:
    claude = Claude(system)
    claude.says("first")
    system.run("orc-agent", "rename", "dev", "lead")
    claude.dies()
    assert recover(system, "lead")[0]["session_id"] == "first"


def test_what_is_not_there_to_be_started_is_a_failure_and_ends_nobody(system: System) -> None:
    claude = Claude(system)
    pid = claude.agent.pid
    os.rename(claude.path, claude.path + ".away")
    (outcome,) = recover(system, "dev", "--force", code=69)
    assert outcome["action"] == "failed" and "there is no program" in str(outcome["reason"])
    assert proc.start_time(pid) is not None
