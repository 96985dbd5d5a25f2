"""The team's supervisor with real processes: what ends comes back, what must stop stops, nothing is lost with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from support_team import ROOT, Team, alive, configure
from support_tmux import wait_until
from tmux_orchestrator.ground import clock, pidfile
from tmux_orchestrator.ground.locks import Lock
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work import Message, MessageQueue, TeamDaemon
from tmux_orchestrator.work.team import kin, state

FOREVER = "sleep 1000"


def shell(text: str) -> str:
    return json.dumps(["sh", "-c", text])


# Ends


def test_what_is_killed_runs_again_and_is_told(home: Home) -> None:
    with Team(home, f"a: {{command: {FOREVER}}}\nb: {{command: {FOREVER}}}") as team:
        pid, other = team.wait("a", state="running").pid, team.wait("b", state="running").pid
        os.kill(pid, signal.SIGKILL)
        again = team.wait_other("a", pid)
        assert alive(again) and team.kept("b").pid == other
        one = team.status()["a"]
        assert (one["pid"], one["alive"], one["restarts"], one["state"]) == (again, True, 1, "running")
        wait_until(lambda: team.events("recovery"), what="the record")
        context = team.events("recovery")[0]["message"]["content"]["context"]
        assert (context["agent"], context["action"], context["reason"]) == ("a", "respawned", "ended by SIGKILL")
        assert team.subjects() == []


def test_a_good_end_is_no_crash(home: Home) -> None:
    with Team(home, "a: {command: 'true'}\nb: {command: 'true', restart: always}") as team:
        assert team.wait("a", state="exited").restarts == 0
        assert team.wait("b", state="failed").restarts == 3
        assert team.kept("a").state == "exited"


def test_after_three_restarts_it_has_failed_which_is_told_once_and_ends_by_hand(home: Home) -> None:
    with Team(home, f"a: {{command: {shell('[ -e go ] && exec sleep 1000; exit 3')}}}") as team:
        kept = team.wait("a", state="failed")
        assert (kept.restarts, kept.run, kept.reason) == (3, 4, "ended with 3")
        wait_until(lambda: team.subjects(), what="the alert")
        assert team.subjects() == [("critical", "Agent Failed", "a")]
        assert team.ask("start", "a").returncode == 0
        team.wait("a", state="failed", run=8)
        Path(home.root, "go").touch()
        started = team.ask("start", "a")
        assert (started.returncode, started.stdout) == (0, "a: running\n")
        assert team.kept("a").restarts == 0


def test_many_that_fail_together_are_one_message(home: Home) -> None:
    with Team(home, "\n".join(f"a{number}: {{command: [/no/such]}}" for number in range(14))) as team:
        wait_until(lambda: team.events(), what="the alert")
        team.end()
        [one] = team.events()
        content = one["message"]["content"]
        assert (one["message"]["priority"], content["subject"]) == ("critical", "Agents Failed")
        assert content["context"]["agents"] == [f"a{number}" for number in range(14)]
        assert content["body"].split("\n")[0] == "14 agents have failed:"
        assert content["body"].split("\n")[-1] == "and 4 more: orc-team status"


def test_one_that_has_failed_is_tried_again_after_its_time_and_told_once(home: Home) -> None:
    with Team(home, "a: {command: 'false'}", "restart: {max: 1, again_after: 0.2}") as team:
        wait_until(lambda: team.kept("a").run >= 6, 30, "three times two starts")
        assert team.subjects() == [("critical", "Agent Failed", "a")]


def test_a_crash_loop_starves_nobody(home: Home) -> None:
    agents = f"loop: {{command: 'false'}}\ngood: {{command: {FOREVER}}}"
    with Team(home, agents, "restart: {max: 1000, within: 7d}") as team:
        pid = team.wait("good", state="running").pid
        wait_until(lambda: team.kept("loop").run > 20, what="many crashes")
        os.kill(pid, signal.SIGKILL)
        team.wait_other("good", pid)
        assert team.kept("loop").state != "failed" or team.kept("loop").run > 1000


@pytest.mark.parametrize(
    ("agent", "reason"),
    [
        ("{command: [/no/such/program, x]}", "No such file or directory: /no/such/program"),
        ("{command: no-such-program-anywhere}", "No such file or directory: no-such-program-anywhere"),
        ("{command: [/etc/passwd]}", "Permission denied: /etc/passwd"),
        ("{command: [sleep, '1'], folder: /no/such/folder}", "No such file or directory: /no/such/folder"),
    ],
)
def test_what_cannot_be_started_has_failed_at_once(home: Home, agent: str, reason: str) -> None:
    with Team(home, f"a: {agent}\nb: {{command: {FOREVER}}}") as team:
        kept = team.wait("a", state="failed")
        assert (kept.run, kept.reason) == (1, f"cannot be started: {reason}")
        assert team.wait("b", state="running")
        wait_until(lambda: team.subjects(), what="the alert")
        assert f"a cannot be started: {reason}" in team.events()[0]["message"]["content"]["body"]


def test_what_a_crash_leaves_in_its_group_is_ended(home: Home) -> None:
    text = "sleep 1000 & echo $!; [ -e again ] && exec sleep 1000; touch again; exit 1"
    with Team(home, f"a: {{command: {shell(text)}}}") as team:
        team.wait("a", restarts=1, state="running")
        wait_until(lambda: len(team.said("a")) == 2, what="two runs")
        first, second = map(int, team.said("a"))
        wait_until(lambda: not alive(first), what="the end of the first child")
        assert alive(second)


def test_fifty_agents_killed_at_once_are_all_back(home: Home) -> None:
    names = [f"a{number}" for number in range(50)]
    with Team(home, "\n".join(f"{name}: {{command: {FOREVER}}}" for name in names)) as team:
        before = {name: team.wait(name, state="running").pid for name in names}
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)
        after = {name: team.wait_other(name, before[name]) for name in names}
        assert all(alive(pid) for pid in after.values())
        wait_until(lambda: len(team.events("recovery")) == 50, what="fifty records")


# Stopping


def test_sigterm_stops_all_and_says_so(home: Home) -> None:
    text = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    with Team(home, f"a: {{command: {shell(text)}}}\nb: {{command: {FOREVER}}}") as team:
        wait_until(lambda: team.said("a") == ["ready"], what="its trap")
        pids = [team.kept("a").pid, team.wait("b", state="running").pid]
        assert team.end() == 0
        assert not any(map(alive, pids))
        assert team.said("a")[-1] == "bye"
        assert {name: one["state"] for name, one in team.status().items()} == {"a": "stopped", "b": "stopped"}
        assert team.subjects() == [] and pidfile.running(home, "team") is None
        team.begin()
        team.wait("a", state="running", restarts=0)


def test_one_that_ignores_sigterm_is_killed_after_its_time(home: Home) -> None:
    text = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    with Team(home, f"a: {{command: {shell(text)}, stop_timeout: 0.3}}") as team:
        wait_until(lambda: team.said("a") == ["ready"], what="its trap")
        pid = team.kept("a").pid
        assert team.ask("stop", "a").stdout == "a: stopped\n"
        assert not alive(pid)
        assert team.kept("a").wanted is False


def test_force_does_not_wait(home: Home) -> None:
    text = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    with Team(home, f"a: {{command: {shell(text)}, stop_timeout: 600}}\nb: {{command: {FOREVER}}}") as team:
        wait_until(lambda: team.said("a") == ["ready"], what="its trap")
        pid = team.kept("a").pid
        stopped = team.ask("stop", "--force")
        assert (stopped.returncode, stopped.stdout) == (0, "the team has stopped\n")
        assert not alive(pid) and team.child.wait(10) == 0
        assert team.kept("a").wanted is True  # the next supervisor starts it


def test_force_hurries_a_stop_that_waits(home: Home) -> None:
    text = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    with Team(home, f"a: {{command: {shell(text)}, stop_timeout: 600}}") as team:
        wait_until(lambda: team.said("a") == ["ready"], what="its trap")
        team.child.terminate()
        team.wait("a", state="stopping")
        assert team.ask("stop", "--force").returncode == 0


def test_who_forked_and_left_is_found_by_its_mark(home: Home) -> None:
    text = "setsid sh -c 'echo $$; exec sleep 1000' & exit 0"
    with Team(home, f"a: {{command: {shell(text)}}}\nb: {{command: {FOREVER}}}") as team:
        team.wait("a", state="exited")
        wait_until(lambda: len(team.said("a")) == 1, what="the pid")
        left, other = int(team.said("a")[0]), team.wait("b", state="running").pid
        assert alive(left)
        assert team.ask("stop", "a").returncode == 0
        assert not alive(left) and alive(other)


def test_a_stopped_agent_that_cannot_even_hear_is_ended(home: Home) -> None:
    with Team(home, f"a: {{command: {FOREVER}, stop_timeout: 600}}") as team:
        pid = team.wait("a", state="running").pid
        os.kill(pid, signal.SIGSTOP)
        assert team.ask("stop", "a").returncode == 0
        assert not alive(pid)


def test_a_reused_number_is_not_signalled(home: Home) -> None:
    """The pid of an agent that is gone has become somebody else's."""
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as bystander:
        try:
            os.makedirs(home.run)
            team = state.load(home)
            team.agents["a"] = state.Kept(state="running", pid=bystander.pid, pid_start=12345, run=7)
            state.save(home, state.encode(team))
            with Team(home, f"a: {{command: {FOREVER}}}") as running:
                other = running.wait_other("a", bystander.pid)
                assert running.kept("a").run == 8
                assert running.end() == 0
                assert not alive(other) and bystander.poll() is None
            kin.send({bystander.pid: 12345}, signal.SIGKILL)
            assert bystander.poll() is None
        finally:
            bystander.kill()


# The supervisor's own end


def test_agents_survive_the_supervisors_kill_and_the_next_one_takes_them_over(home: Home) -> None:
    text = "n=0; while :; do n=$((n + 1)); echo $n; sleep 0.02; done"
    with Team(home, f"a: {{command: {shell(text)}}}\nb: {{command: {FOREVER}}}") as team:
        pids = [team.wait(name, state="running").pid for name in "ab"]
        wait_until(lambda: len(team.said("a")) > 3, what="some lines")
        team.kill()
        out = Path(home.run, "team", "a.out")
        size = out.stat().st_size
        wait_until(lambda: out.stat().st_size > size, what="what it goes on printing")
        assert all(map(alive, pids))
        team.begin()
        assert [team.kept(name).pid for name in "ab"] == pids
        after = len(team.said("a"))
        wait_until(lambda: len(team.said("a")) > after + 3, what="more lines")
        numbers = list(map(int, team.said("a")))
        assert sorted(set(numbers)) == list(range(1, numbers[-1] + 1)), "a line is lost"
        os.kill(pids[1], signal.SIGKILL)
        assert team.wait_other("b", pids[1])
        assert team.kept("b").restarts == 1


def test_what_died_while_nobody_supervised_is_started_again(home: Home) -> None:
    with Team(home, f"a: {{command: {FOREVER}}}") as team:
        pid = team.wait("a", state="running").pid
        team.kill()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not alive(pid), what="its end")
        team.begin()
        team.wait_other("a", pid)
        assert team.kept("a").restarts == 1
        wait_until(lambda: team.events("recovery"), what="the record")


def test_one_that_was_started_after_the_state_was_written_is_found_by_its_mark(home: Home) -> None:
    with Team(home, f"a: {{command: {FOREVER}}}") as team:
        team.wait("a", state="running")
        stale = Path(home.run, "team.json").read_bytes()
        pid = team.kept("a").pid
        os.kill(pid, signal.SIGKILL)
        again = team.wait_other("a", pid)
        team.kill()
        Path(home.run, "team.json").write_bytes(stale)
        team.begin()
        assert team.wait("a", run=2).pid == again
        assert len(team.families()["a"]) == 1


def test_failed_and_stopped_by_hand_stay_so_after_the_supervisors_kill(home: Home) -> None:
    with Team(home, f"a: {{command: 'false'}}\nb: {{command: {FOREVER}}}") as team:
        team.wait("a", state="failed")
        assert team.ask("stop", "b").returncode == 0
        team.again()
        assert (team.kept("a").state, team.kept("a").run) == ("failed", 4)
        assert team.kept("b").state == "stopped"
        assert team.ask("start", "b").returncode == 0


def test_two_supervisors_are_one(home: Home) -> None:
    with Team(home, f"a: {{command: {FOREVER}}}") as team:
        pid = team.wait("a", state="running").pid
        second = subprocess.run([f"{ROOT}/bin/orc-team"], capture_output=True, text=True, check=False)
        assert second.returncode == 1
        assert second.stderr == (f"orc-team: the team is supervised already (pid {team.child.pid}): orc-team status\n")
        assert team.kept("a").pid == pid


# What is wanted changes


def test_a_changed_configuration_is_taken_up_and_a_wrong_one_is_not(home: Home) -> None:
    agents = f"a: {{command: {FOREVER}}}\nb: {{command: {FOREVER}}}\nc: {{command: {FOREVER}}}"
    with Team(home, agents) as team:
        pids = {name: team.wait(name, state="running").pid for name in "abc"}
        configure(home, "a: {command: [sleep, '1001']}\nb: {enabled: 7}")
        wait_until(lambda: "the configuration before it holds" in team.log(), what="the refusal")
        assert all(map(alive, pids.values()))
        configure(home, f"a: {{command: [sleep, '1001']}}\nc: {{command: {FOREVER}}}\nd: {{command: {FOREVER}}}")
        a, d = team.wait_other("a", pids["a"]), team.wait("d", state="running").pid
        wait_until(lambda: not alive(pids["b"]), what="the end of b")
        assert b"1001" in Path(f"/proc/{a}/cmdline").read_bytes() and alive(d)
        assert team.kept("c").pid == pids["c"] and team.kept("a").restarts == 0
        wait_until(lambda: list(state.load(home).agents) == ["a", "c", "d"], what="the state without b")
        assert team.subjects() == []


def test_who_left_the_configuration_while_nobody_supervised_is_stopped(home: Home) -> None:
    with Team(home, f"a: {{command: {FOREVER}}}\nb: {{command: {FOREVER}}}\nc: {{command: {FOREVER}}}") as team:
        pids = {name: team.wait(name, state="running").pid for name in "abc"}
        team.kill()
        configure(home, f"b: {{command: {FOREVER}, enabled: false}}\nc: {{command: {FOREVER}}}")
        team.begin()
        wait_until(lambda: not alive(pids["a"]) and not alive(pids["b"]), what="their ends")
        assert team.wait("c", state="running").pid == pids["c"]


def test_agents_names_those_that_are_supervised(home: Home) -> None:
    with Team(home, f"a: {{command: {FOREVER}}}\nb: {{command: {FOREVER}}}", "", "--agents", "b") as team:
        team.wait("b", state="running")
        assert team.kept("a").state == "stopped"
        assert team.ask("start", "a").returncode == 0
        assert team.ask("restart", "a", "b").stdout == "a: running\nb: running\n"
        assert (team.kept("a").run, team.kept("a").restarts) == (2, 0)
        assert team.ask("start", "nobody").returncode == 64


def test_python_starts_sees_and_stops_the_team(home: Home) -> None:
    configure(home, f"a: {{command: {FOREVER}}}")
    daemon = TeamDaemon()
    daemon.start()
    try:
        wait_until(lambda: daemon.status().agents["a"].is_alive, what="the agent")
        told = daemon.status()
        assert told.uptime > 0 and told.message_queue_size == 0
        assert told.agents["a"].pid and told.agents["a"].current_task is None
    finally:
        assert daemon.stop() is True
    assert daemon.stop() is False
    assert daemon.status().agents["a"].is_alive is False


# What it is told


def test_an_agent_knows_who_it_is(home: Home) -> None:
    script = "orc-publish hello; orc-publish --from x other; cat /proc/self/stat | cut -d' ' -f6; env; umask"
    agent = f"a: {{command: {shell(script + '; exec sleep 1000')}, mood: good, flag: yes, env: {{X: 'y z'}}, role: qa}}"
    with Team(home, agent) as team:
        wait_until(lambda: any(line.startswith("00") for line in team.said("a")), 30, "all that it says")
        said = team.said("a")
        for line in ("ORC_TEAM_MOOD=good", "ORC_TEAM_FLAG=true", "X=y z", "ORC_TEAM_AGENT=a", "ORC_TEAM_ROLE=qa"):
            assert line in said
        assert f"ORC_HOME={home.root}" in said
        assert str(team.kept("a").pid) in said  # the leader of its session
        sources = []
        for file in Path(home.events).glob("*.jsonl"):
            sources += [json.loads(line)["source"] for line in file.read_bytes().split(b"\n")[:-1]]
        told = [(one["type"], one["identifier"], one["verified"]) for one in sources if one["identifier"] != "team"]
        assert told == [("agent", "a", True), ("agent", "x", False)]


def test_an_agent_is_known_before_the_state_is_written(home: Home) -> None:
    text = "f=$ORC_HOME/logs/run/team.json; until grep -q '\"pid\": [1-9]' $f; do sleep 0.01; done; rm $f"
    with Team(home, f"a: {{command: {shell(text + '; orc-publish hello; exec sleep 1000')}}}") as team:
        wait_until(lambda: team.said("a"), what="its event")
        lines = [line for file in Path(home.events).glob("*.jsonl") for line in file.read_bytes().split(b"\n")[:-1]]
        told = [json.loads(line)["source"] for line in lines]
        assert [(one["identifier"], one["verified"]) for one in told] == [("a", True)]
        assert team.end() == 0


def test_an_event_starts_one_and_is_told_to_it(home: Home) -> None:
    agent = f"a: {{command: {shell('echo got $ORC_TEAM_EVENT_TYPE $ORC_TEAM_EVENT_ID; sleep 0.1')}, triggers: [go]}}"
    with Team(home, agent) as team:
        team.wait("a", state="waiting", run=0)
        ids = [
            subprocess.run([f"{ROOT}/bin/orc-publish", "--type", kind, "x"], capture_output=True, text=True, check=True)
            for kind in ("go", "stop", "go")
        ]
        first, _, third = [one.stdout.strip() for one in ids]
        wait_until(lambda: len(team.said("a")) == 2, what="two runs")
        assert team.said("a") == [f"got go {first}", f"got go {third}"]
        team.wait("a", state="waiting", run=2)
        team.again()
        subprocess.run([f"{ROOT}/bin/orc-publish", "--type", "go", "y"], capture_output=True, check=True)
        wait_until(lambda: len(set(team.said("a"))) == 3, what="the third run, and no second of the others")
        team.wait("a", state="waiting", run=3)
        many = [f"{ROOT}/bin/orc-publish", "--type", "go", "--lines"]
        done = subprocess.run(many, input="1\n2\n3\n", capture_output=True, text=True, check=True)
        team.wait("a", state="waiting", run=6)
        said = list(dict.fromkeys(team.said("a")))  # a kill of the supervisor may show lines twice
        assert said[3:] == [f"got go {one}" for one in done.stdout.split()]


def test_an_interval_starts_one_again_and_again(home: Home) -> None:
    with Team(home, "a: {command: 'true', interval: 1}") as team:
        wait_until(lambda: team.kept("a").run >= 3, what="three runs")
        assert team.kept("a").restarts == 0


# How they fare


def test_over_its_limit_is_told_once_and_changes_nothing(home: Home) -> None:
    eat = json.dumps([f"{ROOT}/.venv/bin/python", "-c", "x = bytearray(80 << 20); import time; time.sleep(1000)"])
    agents = f"a: {{command: {eat}, max_memory_mb: 40}}\nb: {{command: {FOREVER}, max_memory_mb: 40}}"
    with Team(home, agents, "health_check: {interval: 0.5}") as team:
        wait_until(lambda: team.subjects(), what="the warning")
        kept = team.kept("a")
        team.wait("a", over=["memory"], run=1)
        wait_until(lambda: team.kept("a").up_ns > kept.up_ns + 10**9, what="two more looks")
        assert team.subjects() == [("high", "Agent Over Its Limit", "a")]
        one = team.status()["a"]
        assert one["memory_mb"] > 80 and one["state"] == "running" and one["up_percent"] == 100


def test_over_its_limit_restarts_where_that_is_wanted_and_not_for_ever(home: Home) -> None:
    eat = json.dumps([f"{ROOT}/.venv/bin/python", "-c", "x = bytearray(80 << 20); import time; time.sleep(1000)"])
    agents = f"a: {{command: {eat}, max_memory_mb: 40, on_limit: restart}}"
    with Team(home, agents, "health_check: {interval: 0.5}\nrestart: {max: 2}") as team:
        wait_until(lambda: team.kept("a").run == 3, 60, "two restarts")
        team.wait("a", 60, state="failed")
        wait_until(lambda: ("critical", "Agent Failed", "a") in team.subjects(), what="the alert")


def test_children_count(home: Home) -> None:
    burn = f"setsid {ROOT}/.venv/bin/python -c 'while True: pass' & wait"
    with Team(home, f"a: {{command: {shell(burn)}}}", "health_check: {interval: 0.5}") as team:
        wait_until(lambda: team.kept("a").cpu_percent > 5, 30, "its child's time")


def test_silence_after_signs_of_life_is_told_once(home: Home) -> None:
    text = "orc-heartbeat --every 0.2 & exec sleep 1000"
    agents = f"a: {{command: {shell(text)}}}\nb: {{command: {FOREVER}}}"
    with Team(home, agents, "health_check: {interval: 0.5, timeout: 0.5}") as team:
        wait_until(lambda: Path(home.run, "team", "a.beat").exists(), what="the first sign")
        [beating] = [
            pid for pid in team.families()["a"] if b"--every" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        ]
        os.kill(beating, signal.SIGSTOP)
        wait_until(lambda: team.subjects(), 30, "the warning")
        assert team.status()["a"]["state"] == "unresponsive" and team.status()["b"]["state"] == "running"
        so_far = team.kept("a").up_ns
        wait_until(lambda: team.kept("a").up_ns > so_far + 1_500_000_000, 30, "two more looks")
        os.kill(beating, signal.SIGCONT)
        team.wait("a", late=False, run=1)
        assert team.subjects() == [("high", "Agent Unresponsive", "a")]


def test_measures_are_kept_and_the_current_task_is_shown(home: Home) -> None:
    with Team(home, f"a: {{command: {FOREVER}}}", "health_check: {interval: 0.5}") as team:
        tasks = MessageQueue(home=home)
        try:
            for kind in ("x", "y"):
                tasks.send(Message(sender="t", recipient="a", type=kind, payload={}))
            task = tasks.get("a")
            assert task is not None
            told = json.loads(team.ask("status", "--json").stdout)
            assert (told["message_queue_size"], told["agents"][0]["current_task"]) == (1, task.task_id)
            sql = "SELECT DISTINCT metric_name FROM agent_metrics WHERE agent = 'a' ORDER BY 1"
            wanted = [("cpu_percent",), ("memory_mb",), ("up_percent",)]
            wait_until(lambda: tasks.database.rows(sql) == wanted, what="the measures")
        finally:
            tasks.database.close()


def test_a_damaged_task_database_holds_nobody_up(home: Home) -> None:
    os.makedirs(home.data)
    Path(home.data, "orchestrator.db").write_bytes(b"nonsense" * 1000)
    with Team(home, f"a: {{command: {FOREVER}}}", "health_check: {interval: 0.5}") as team:
        pid = team.wait("a", state="running").pid
        wait_until(lambda: team.kept("a").memory_mb > 0, what="a measure")
        os.kill(pid, signal.SIGKILL)
        team.wait_other("a", pid)
        assert team.ask("status").returncode == 0


# Faults


def test_an_agent_that_fills_its_output_takes_bounded_space_and_time(home: Home) -> None:
    agents = f"noisy: {{command: ['yes', {'x' * 500}]}}\nb: {{command: {FOREVER}}}"
    with Team(home, agents, "log: {max_mb: 1, keep: 2}") as team:
        pid, noisy = team.wait("b", state="running").pid, team.wait("noisy", state="running").pid
        out = Path(home.run, "team", "noisy.out")
        wait_until(lambda: out.stat().st_size > 300 << 20, 60, "300 MB of output")
        os.kill(pid, signal.SIGKILL)
        team.wait_other("b", pid)
        wait_until(lambda: Path(home.logs, "team.log.1").exists(), 60, "a rotation")
        assert team.ask("stop", "noisy").returncode == 0 and not alive(noisy)
        wait_until(lambda: out.stat().st_blocks * 512 < 2 << 20, 60, "the space given back")
        logs = sorted(Path(home.logs).glob("team.log*"))
        assert len(logs) <= 3 and sum(file.stat().st_size for file in logs) < 8 << 20


def test_a_locked_log_holds_no_restart_up(home: Home) -> None:
    with Team(home, f"a: {{command: {FOREVER}}}") as team:
        pid = team.wait("a", state="running").pid
        with Lock(home.run + "/log.lock"):
            os.kill(pid, signal.SIGKILL)
            team.wait_other("a", pid)
            assert team.events("recovery") == []
        wait_until(lambda: len(team.events("recovery")) == 1, 30, "the record")


def test_what_is_no_request_is_removed_and_changes_nothing(home: Home) -> None:
    with Team(home, f"a: {{command: {FOREVER}}}") as team:
        pid = team.wait("a", state="running").pid
        asked = Path(home.run, "team", "asked")
        wrong = [b"", b"{", b"[1]", b"\xff" * 70_000]
        wrong += [b'{"word": "stop", "agents": %s, "force": %s}' % two for two in ((b'"a"', b"true"), (b'["a"]', b"1"))]
        for number, text in enumerate(wrong):
            (asked / f"{number}.ask").write_bytes(text)
        (asked / "link.ask").symlink_to("/etc/passwd")
        (asked / "other").write_text("stays")
        wait_until(lambda: [file.name for file in asked.iterdir()] == ["other"], what="their removal")
        assert team.ask("start", "a").stdout == "a: running\n"
        assert team.kept("a").pid == pid and team.child.poll() is None


def test_a_fault_in_one_agents_affairs_is_not_anothers(home: Home) -> None:
    """Its output is no file that could be opened, and its state holds nonsense."""
    os.makedirs(home.run + "/team/a.out")
    kept = {"state": 7, "pid": "x", "waiting": [1, ["a"]], "past": {"starts": "no"}, "run": -1}
    text = {"team": "abc", "boot": clock.boot_id(), "began_ns": 1, "place": [1], "agents": {"a": kept, "b": kept}}
    Path(home.run, "team.json").write_text(json.dumps(text))
    with Team(home, f"a: {{command: {FOREVER}}}\nb: {{command: {FOREVER}}}") as team:
        assert team.wait("a", state="failed").reason.startswith("cannot be started: Is a directory")
        pid = team.wait("b", state="running").pid
        os.kill(pid, signal.SIGKILL)
        team.wait_other("b", pid)


def test_a_stop_in_the_middle_of_a_beginning_leaves_nobody(home: Home) -> None:
    names = [f"a{number}" for number in range(20)]
    with Team(home, "\n".join(f"{name}: {{command: {FOREVER}}}" for name in names)) as team:
        assert team.end() == 0
        assert team.families() == {}
        for number in range(5):
            team.begin()
            wait_until(lambda: team.kept(names[number * 4]).run > number + 1, what="some starts")  # noqa: B023
            assert team.end() == 0
            assert team.families() == {}
