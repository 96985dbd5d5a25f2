"""Agents of the team that live in panes: started, brought back and stopped by our own commands, in real tmux."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from support_orc import System
from support_team import Team, alive
from support_tmux import wait_until
from tmux_orchestrator.agents import registry
from tmux_orchestrator.ground.paths import Home


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    with System() as one:
        for name, value in one.env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("TMUX", raising=False)
        yield one


def agent(name: str, more: str = "", seconds: int = 1000) -> str:
    return f"{name}: {{command: [sleep, '{seconds}'], runner: pane, session: s{more}}}"


def registered(system: System, name: str) -> registry.Agent | None:
    return registry.resolve(registry.load(Home(system.root)), f"s:{name}")


def test_it_is_the_panes_own_process_and_comes_back_when_it_is_killed(system: System) -> None:
    with Team(Home(system.root), agent("a", ", role: qa, groups: [devs]")) as team:
        pid = team.wait("a", state="running").pid
        found = registered(system, "a")
        assert found is not None
        assert (found.pid, found.supervisor, found.role, found.groups) == (pid, "team", "qa", ["devs"])
        os.kill(pid, signal.SIGKILL)
        again = team.wait_other("a", pid)
        team.wait("a", state="running", restarts=1, reason="ended by signal 9")
        found = registered(system, "a")
        assert found is not None and found.pid == again
        assert subprocess.run(["orc-agent", "list", "-o", "name,state"], capture_output=True, text=True).stdout


def test_several_that_die_together_are_brought_back_together(system: System) -> None:
    names = ["a", "b", "c"]
    more = "recovery: {spacing_s: 0}\n"
    with Team(Home(system.root), "\n".join(map(agent, names)), rest=more) as team:
        before = {name: team.wait(name, state="running").pid for name in names}
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)
        for name, pid in before.items():
            team.wait_other(name, pid)
            team.wait(name, state="running", restarts=1)


def test_one_that_is_stopped_stays_so_and_one_that_left_well_has_exited(system: System) -> None:
    with Team(Home(system.root), agent("a") + "\n" + agent("b", seconds=0)) as team:
        pid = team.wait("a", state="running").pid
        team.wait("b", state="exited", restarts=0)
        stopped = team.ask("stop", "a")
        assert (stopped.returncode, stopped.stdout) == (0, "a: stopped\n")
        assert not alive(pid)
        found = registered(system, "a")
        assert found is not None and found.ended == "stopped"
        assert team.ask("start", "a").stdout == "a: running\n"
        assert team.kept("a").pid != pid


def test_what_cannot_run_in_a_pane_has_failed(system: System) -> None:
    with Team(Home(system.root), "a: {command: [/no/such/program], runner: pane, session: s}") as team:
        kept = team.wait("a", state="failed")
        assert "there is no program '/no/such/program'" in kept.reason
        wait_until(lambda: team.subjects() == [("critical", "Agent Failed", "a")], what="the alert")


def test_the_next_supervisor_takes_them_over(system: System) -> None:
    with Team(Home(system.root), agent("a")) as team:
        pid = team.wait("a", state="running").pid
        team.kill()
        team.begin()
        assert team.wait("a", state="running").pid == pid
        os.kill(pid, signal.SIGKILL)
        team.wait_other("a", pid)
        assert team.end() == 0
        found = registered(system, "a")
        assert found is not None and not found.alive()


def test_a_tmux_server_that_an_agent_starts_is_not_its_own(system: System) -> None:
    """The process agent starts one in a pane, and with it the server: both go on when it is stopped."""
    script = json.dumps(["sh", "-c", "orc-run other --session s -- sleep 1000; exec sleep 1000"])
    with Team(Home(system.root), f"a: {{command: {script}}}") as team:
        wait_until(lambda: registered(system, "other") is not None, 20, "the other agent")
        assert team.ask("stop", "a").returncode == 0
        found = registered(system, "other")
        assert found is not None and found.alive()


def test_one_that_a_person_restarts_is_not_restarted_again(system: System) -> None:
    with Team(Home(system.root), agent("a")) as team:
        pid = team.wait("a", state="running").pid
        system.run("orc-agent", "restart", "--force", "s:a")
        again = team.wait_other("a", pid)
        team.wait("a", state="running", restarts=0)
        found = registered(system, "a")
        assert found is not None and found.pid == again and alive(again)


def test_one_that_is_unwanted_before_it_runs_does_not_stay(system: System) -> None:
    with Team(Home(system.root), agent("a")) as team:
        wait_until(lambda: team.kept("a").state in ("starting", "running"), what="its start")
        stopped = team.ask("stop", "a")
        assert (stopped.returncode, stopped.stdout) == (0, "a: stopped\n")
        found = registered(system, "a")
        assert found is None or not found.alive()
