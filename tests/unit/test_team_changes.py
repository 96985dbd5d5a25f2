"""What is wanted of the team changes while something else is under way: nobody runs twice, and nobody is forgotten."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from support_team import Team, alive, configure
from support_tmux import wait_until
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work import state

FOREVER = "sleep 1000"
# Says who it is, and ends when the file `end` is there, whatever it is told.
STUBBORN = "trap '' TERM; echo $$; until [ -e end ]; do sleep 0.02; done"


def shell(text: str) -> str:
    return json.dumps(["sh", "-c", text])


def stubborn(more: str = "") -> str:
    return f"a: {{command: {shell(STUBBORN)}, stop_timeout: 60{more}}}"


def pids_of(team: Team, count: int) -> list[int]:
    """Of its runs; a line may come twice when its supervisor was killed."""
    wait_until(lambda: len(set(team.said("a"))) >= count, what=f"{count} runs")
    return list(map(int, dict.fromkeys(team.said("a"))))


def test_one_that_leaves_and_comes_back_begins_when_the_one_before_has_ended(home: Home) -> None:
    other = f"b: {{command: {FOREVER}}}"
    with Team(home, f"{stubborn()}\n{other}") as team:
        [first] = pids_of(team, 1)
        configure(home, other)
        wait_until(lambda: "a" not in state.load(home).agents, what="the change")
        configure(home, f"a: {{command: {shell('echo $$; exec sleep 1000')}}}\n{other}")
        wait_until(lambda: "a" in state.load(home).agents, what="its return")
        wait_until(lambda: team.log().count("the configuration has changed") == 2, what="both changes")
        Path(home.root, "end").touch()
        _, second = pids_of(team, 2)
        assert team.wait("a", state="running").pid == second
        assert not alive(first) and alive(second)
        assert len(team.said("a")) == 2
        assert team.kept("a").restarts == 0


def test_one_that_is_wanted_again_while_it_stops_runs_again(home: Home) -> None:
    with Team(home, stubborn()) as team:
        pids_of(team, 1)
        configure(home, stubborn(", enabled: false"))
        team.wait("a", state="stopping")
        configure(home, stubborn())
        wait_until(lambda: team.log().count("the configuration has changed") == 2, what="both changes")
        Path(home.root, "end").touch()
        wait_until(lambda: team.kept("a").state == "exited", what="its next run")
        assert len(pids_of(team, 2)) == 2


def test_one_that_is_not_wanted_any_more_while_it_is_restarted_stays_away(home: Home) -> None:
    with Team(home, stubborn()) as team:
        pids_of(team, 1)
        configure(home, stubborn(", role: other"))
        team.wait("a", state="stopping")
        configure(home, stubborn(", role: other, enabled: false"))
        wait_until(lambda: team.log().count("the configuration has changed") == 2, what="both changes")
        Path(home.root, "end").touch()
        team.wait("a", state="stopped")
        assert team.end() == 0
        assert len(team.said("a")) == 1


def test_another_runner_begins_when_the_process_before_has_ended(home: Home) -> None:
    """And the other way round: a wait for a pane that is to stop does not end the new process."""
    with Team(home, stubborn()) as team:
        [first] = pids_of(team, 1)
        configure(home, f"a: {{command: {FOREVER}, runner: pane, session: none}}")
        wait_until(lambda: "the configuration has changed" in team.log(), what="the change")
        team.wait("a", state="stopping", pid=first)
        configure(home, f"a: {{command: {FOREVER}}}")
        wait_until(lambda: team.log().count("the configuration has changed") == 2, what="both changes")
        assert team.kept("a").pid == first and alive(first)
        Path(home.root, "end").touch()
        second = team.wait_other("a", first)
        assert alive(second) and not alive(first)


def test_one_that_left_and_still_stops_when_the_supervisor_is_killed_is_not_forgotten(home: Home) -> None:
    other = f"b: {{command: {FOREVER}}}"
    with Team(home, f"{stubborn()}\n{other}") as team:
        [first] = pids_of(team, 1)
        configure(home, other)
        wait_until(lambda: list(state.load(home).agents) == ["b"], what="the change")
        team.kill()
        assert alive(first)
        configure(home, f"{stubborn()}\n{other}")
        team.begin()  # it may run on, as the one that is wanted
        assert team.kept("a").pid == first
        team.kill()
        configure(home, other)
        team.begin()
        Path(home.root, "end").touch()
        assert team.end() == 0
        assert not alive(first)


# Ends of all its processes


def test_who_is_told_to_stop_through_a_shell_has_its_time(home: Home) -> None:
    """The shell dies of SIGTERM at once; what it started tidies up first."""
    text = "trap 'sleep 0.3; echo tidy; exit 0' TERM; echo ready; while :; do sleep 0.02; done"
    with Team(home, f"a: {{command: {shell(f'sh -c {json.dumps(text)}; exit 3')}}}") as team:
        wait_until(lambda: team.said("a") == ["ready"], what="its trap")
        assert team.ask("stop", "a").stdout == "a: stopped\n"
        wait_until(lambda: team.said("a")[-1] == "tidy", what="its last line")


def test_who_stays_when_its_shell_has_stopped_is_ended_though_it_has_no_mark(home: Home) -> None:
    text = "env -i sh -c 'trap \"\" TERM; echo $$; while :; do sleep 0.02; done' & exec sleep 1000"
    with Team(home, f"a: {{command: {shell(text)}, stop_timeout: 0.3}}") as team:
        [left] = pids_of(team, 1)
        assert team.ask("stop", "a").returncode == 0
        assert not alive(left)


@pytest.mark.parametrize("supervised", [True, False])
def test_what_one_that_was_taken_over_leaves_is_ended(home: Home, supervised: bool) -> None:
    with Team(home, f"a: {{command: {shell('sleep 1000 & echo $!; exec sleep 1000')}}}") as team:
        [first] = pids_of(team, 1)
        pid = team.wait("a", state="running").pid
        team.kill()
        if not supervised:
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not alive(pid), what="its end")
        team.begin()
        if supervised:
            os.kill(pid, signal.SIGKILL)
        team.wait_other("a", pid)
        assert not alive(first)
        assert alive(pids_of(team, 2)[1])
