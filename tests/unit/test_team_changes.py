"""What is wanted of the team changes while something else is under way: nobody runs twice, and nobody is forgotten."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support_team import ROOT, Team, alive, configure
from support_tmux import wait_until
from tmux_orchestrator.agents import crew
from tmux_orchestrator.ground import config, pidfile
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work.team import kin, processes, requests, roster, state, tidings
from tmux_orchestrator.work.team.teller import Teller

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
        team.wait("a", pid=first)
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


# What is kept is lost, or a lie


@pytest.mark.parametrize("text", [None, '{"team": 3, "agents": [', "[" * 100_000])
def test_without_its_state_the_team_is_found_by_its_marks(home: Home, text: str | None) -> None:
    with Team(home, f"a: {{command: {FOREVER}}}\nb: {{command: {FOREVER}, enabled: false}}") as team:
        pid = team.wait("a", state="running").pid
        assert team.ask("start", "b").returncode == 0
        other = team.wait("b", state="running").pid
        team.kill()
        kept = Path(home.run, "team.json")
        kept.unlink() if text is None else kept.write_text(text)
        team.begin()
        team.wait("a", pid=pid)
        wait_until(lambda: not alive(other), what="the end of what is not wanted")
        assert len(team.families()["a"]) == 1
        team.end()
        assert ("team.json is damaged" in team.said_last) == (text is not None)


def test_a_copy_of_a_home_leaves_the_first_ones_agents_alone(home: Home, tmp_path: Path) -> None:
    with Team(home, f"a: {{command: {FOREVER}}}") as team:
        pid = team.wait("a", state="running").pid
        copy = Home(str(tmp_path / "copy"))
        os.makedirs(copy.run)
        Path(copy.run, "team.json").write_bytes(Path(home.run, "team.json").read_bytes())
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ORC_HOME", copy.root)
            with Team(copy, f"a: {{command: {FOREVER}}}") as second:
                assert second.wait("a", state="running").pid != pid
                assert second.end() == 0
        assert alive(pid) and team.kept("a").restarts == 0


def test_numbers_that_no_system_has_are_nobodys(home: Home) -> None:
    os.makedirs(home.run)
    team = state.load(home)
    lies: dict[str, Any] = {
        "pid": 1 << 70,
        "pid_start": -1,
        "up_ns": 10**400,
        "meant_ns": 1,
        "run": 1 << 80,
        "waiting": [["a\0", "b"]],
    }
    team.agents = {name: state.Kept(state="running", **lies) for name in ("a", "gone", "../../gone")}
    state.save(home, state.encode(team))
    with Team(home, f"a: {{command: {FOREVER}}}") as running:
        running.wait("a", state="running")
        assert list(running.status()) == ["a"]
        assert running.end() == 0


def test_one_whose_command_changed_while_nobody_supervised_begins_anew(home: Home) -> None:
    agents = f"a: {{command: {FOREVER}}}\nb: {{command: {FOREVER}}}"
    with Team(home, agents) as team:
        pid, other = team.wait("a", state="running").pid, team.wait("b", state="running").pid
        team.kill()
        configure(home, agents.replace("1000", "1001", 1))
        team.begin()
        again = team.wait_other("a", pid)
        assert b"1001" in Path(f"/proc/{again}/cmdline").read_bytes() and not alive(pid)
        assert team.kept("b").pid == other and team.kept("a").restarts == 0


def test_a_disk_that_takes_no_state_holds_nobody_up(home: Home) -> None:
    """As a full one; agents are found by their marks all the same."""
    os.makedirs(home.run + "/team.json/x")
    with Team(home, f"a: {{command: {FOREVER}}}") as team:
        wait_until(lambda: team.families().get("a"), what="its process")
        family = team.families()["a"]
        team.again()
        wait_until(lambda: "taken over" in team.log(), what="the next supervisor")
        assert team.families()["a"] == family
        assert team.end() == 0
        assert team.families() == {}


def test_what_goes_wrong_again_is_told_again(home: Home) -> None:
    kept = Path(home.run, "team.json")
    with Team(home, f"a: {{command: {FOREVER}}}", "health_check: {interval: 0.5}") as team:
        team.wait("a", state="running")
        for number in (1, 2):
            kept.unlink()
            (kept / "x").mkdir(parents=True)
            wait_until(lambda: team.complaints().count("its state: ") == number, what="it is told")  # noqa: B023
            (kept / "x").rmdir()
            kept.rmdir()
            team.wait("a", state="running")
            seen = team.kept("a").up_ns
            wait_until(lambda: team.kept("a").up_ns > seen + 2_000_000_000, what="some looks")  # noqa: B023


def test_a_defect_in_telling_does_not_end_the_telling(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    teller, told = Teller(home), []

    def publish(events: list[tidings.Event], settings: config.Config) -> None:
        told.extend(events)
        if len(told) == 1:
            raise RuntimeError("a defect")

    monkeypatch.setattr(teller._voice, "publish", publish)
    settings = config.load(home)
    teller.tell([{"one": 1}], settings)
    wait_until(lambda: "a defect" in teller.trouble, what="the trouble")
    teller.tell([{"two": 2}], settings)
    wait_until(lambda: {"two": 2} in told and not teller.trouble, what="the next event")
    teller.close()


# Around a start


def test_a_start_that_cannot_be_watched_leaves_nobody(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []
    mark = kin.mark("abc", "a", 1)

    def refuse(pid: int) -> int:
        started.append(pid)
        raise OSError(errno.EMFILE, "Too many open files")

    configure(home, f"a: {{command: {FOREVER}}}")
    os.makedirs(crew.folder(home))
    spec = roster.load(home, config.load(home))["a"]
    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(OSError, match="Too many"):
        processes.start(home, spec, mark, {})
    assert len(started) == 1 and not alive(started[0])


def test_a_request_that_comes_while_the_supervisor_begins_is_kept(home: Home) -> None:
    """It holds its pid file for a while before it looks at what is asked."""
    os.makedirs(requests.folder(home))
    old, new = Path(requests.folder(home), "a.ask"), Path(requests.folder(home), "b.ask")
    told = Path(requests.folder(home), "c.told")
    for file in (old, told):
        file.write_text('{"word": "stop", "agents": ["a"], "force": false}')
    os.utime(old, (1, 1))
    fd = pidfile.claim(home, "team")
    assert fd is not None
    try:
        new.write_text('{"word": "start", "agents": ["a"], "force": false}')
        os.utime(new, (2e9, 2e9))
        assert [one.word for one in requests.Desk(home).take()] == ["start"]
        assert os.listdir(requests.folder(home)) == []
    finally:
        os.close(fd)


def test_an_event_whose_run_was_cut_off_starts_the_next_one(home: Home) -> None:
    text = "echo $ORC_TEAM_EVENT_ID; until [ -e end ]; do sleep 0.02; done"
    with Team(home, f"a: {{command: {shell(text)}, triggers: [question]}}") as team:
        team.wait("a", state="waiting")
        publish = [f"{ROOT}/bin/orc-publish", "--type", "question", "--id", "the-question", "why?"]
        subprocess.run(publish, check=True, capture_output=True)
        wait_until(lambda: team.said("a") == ["the-question"], what="its run")
        assert team.end() == 0
        team.begin()
        wait_until(lambda: team.said("a") == ["the-question"] * 2, what="its next run")
        assert team.ask("restart", "a").returncode == 0
        wait_until(lambda: team.said("a") == ["the-question"] * 3, what="its run after a restart")
        Path(home.root, "end").touch()
        team.wait("a", state="waiting", event=[])
        team.end()
        team.begin()
        team.wait("a", state="waiting")
        assert len(team.said("a")) == 3


def test_an_id_that_no_variable_can_have_starts_nobody_and_holds_nobody_up(home: Home) -> None:
    """Anybody may write a line of the log by hand."""
    with Team(home, f"a: {{command: {shell('echo $ORC_TEAM_EVENT_ID')}, triggers: [question]}}") as team:
        team.wait("a", state="waiting")
        publish = [f"{ROOT}/bin/orc-publish", "--type", "question", "--id", "first-one", "why?"]
        subprocess.run(publish, check=True, capture_output=True)
        [day] = Path(home.events).glob("*.jsonl")
        line = day.read_text().splitlines()[-1]
        with day.open("a") as file:
            for name in ("a\\u0000b", "a\\ud800b", "a\\nb"):
                file.write(line.replace("first-one", name) + "\n")
        subprocess.run([*publish[:4], "last-one", "why?"], check=True, capture_output=True)
        wait_until(lambda: team.said("a") == ["first-one", "last-one"], what="both runs")
        assert team.kept("a").state in ("running", "waiting") and team.subjects() == []


def test_an_output_that_was_removed_is_read_again_from_the_next_start(home: Home) -> None:
    with Team(home, f"a: {{command: {shell('echo run; exec sleep 1000')}}}") as team:
        pid = team.wait("a", state="running").pid
        wait_until(lambda: team.said("a") == ["run"], what="its line")
        os.unlink(f"{crew.folder(home)}/a.out")
        os.kill(pid, signal.SIGKILL)
        team.wait_other("a", pid)
        wait_until(lambda: team.said("a") == ["run"] * 2, what="the line of the next one")
