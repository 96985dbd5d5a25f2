"""Starting agents on a real tmux: their pane's own process, in the caller's environment, registered before it runs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support_tmux import Server, wait_until
from tmux_orchestrator.agents import launch, registry, roster, runner, state, windows
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.agents.resume import Again
from tmux_orchestrator.commands import run as command
from tmux_orchestrator.ground import errors, proc
from tmux_orchestrator.ground.errors import DataError, UnavailableError, UsageError
from tmux_orchestrator.ground.paths import CODE, Home
from tmux_orchestrator.ground.tmux import Tmux

SLEEP = ("sleep", "1000")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A private tmux server, running, and the one that the commands use."""
    with Server() as made:
        made.start(["sleep", "1000"], session="main")
        monkeypatch.setenv("ORC_TMUX_SOCKET", made.socket)
        yield made


def orc(name: str, *argv: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [name, *argv], capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL, **more
    )


def orc_run(*argv: str, **more: Any) -> dict[str, Any]:
    """Run orc-run; the record that it prints."""
    done = orc("orc-run", *argv, **more)
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def agents(home: Home) -> list[Agent]:
    return registry.load(home)


def panes(server: Server) -> dict[str, str]:
    """Pane id -> session:window."""
    lines = server.tmux("list-panes", "-a", "-F", "#{pane_id} #{session_name}:#{window_name}").splitlines()
    return dict(line.split(" ", 1) for line in lines)


def shown(server: Server, pane: str) -> str:
    """The screen and what has scrolled off it: tmux's own line about the end takes one."""
    server.tmux("run-shell", "true")  # see places.reap
    return server.tmux("capture-pane", "-p", "-J", "-S", "-", "-t", pane)


def kill(agent: Agent) -> None:
    assert runner.end(agent.pid, agent.pid_start)
    wait_until(lambda: not agent.alive())


def dead(server: Server, pane: str) -> bool:
    return server.show(pane, "#{pane_dead}") == "1"


def words(folder: Path, *argv: str) -> list[str]:
    """A command that writes its arguments and environment into the folder, then waits."""
    code = """
import json, os, sys, time
with open(os.environ["OUT"], "w") as file:
    json.dump([sys.argv[1:], dict(os.environ), os.getcwd(), os.getpid(), os.umask(0)], file)
time.sleep(1000)
"""
    return [sys.executable, "-c", code, *argv]


def told(path: Path) -> list[Any]:
    def complete() -> bool:
        try:
            json.loads(path.read_text())
        except (ValueError, FileNotFoundError):
            return False
        return True

    wait_until(complete, what=str(path))
    found: list[Any] = json.loads(path.read_text())
    return found


def test_the_agent_is_the_panes_own_process_and_gets_its_arguments_as_they_are(
    server: Server, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.json"
    monkeypatch.setenv("OUT", str(out))
    nasty = ["", "-", "--", ";", "a;", "#(touch x)", "#{pane_id}", "$(x) `y`", "two\nlines", "'\"\\", "é→"]
    record = orc_run("pm", "--session", "main", "--", *words(tmp_path, *nasty))
    argv, _, _, pid, _ = told(out)
    (agent,) = agents(home)
    assert argv == nasty
    assert pid == agent.pid == record["pid"] == int(server.show(record["pane"], "#{pane_pid}"))
    assert list(proc.ancestors(pid))[1] == server.pid, "something is between tmux and the agent"
    assert agent.pid_start == proc.start_time(pid)
    assert (agent.server_pid, agent.server_start) == (server.pid, proc.start_time(server.pid))
    assert agent.socket == server.socket
    assert server.show(agent.pane, "#{@orc_nonce} #{@orc_agent}") == f"{agent.nonce} pm"
    assert len(agent.nonce) == 32
    assert (agent.role, agent.session, agent.profile, agent.restart) == ("pm", "main", "plain", "never")
    assert record["target"] == "main:1.0" and panes(server)[agent.pane] == "main:pm"


def test_it_runs_with_the_callers_environment_folder_and_umask(
    server: Server, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.json"
    folder = tmp_path / "with space #(touch CANARY) #{pane_id}"
    folder.mkdir()
    odd = "two\nlines 'quoted' \"twice\" $(x) #(touch CANARY) é \udcff;"
    env = os.environ | {"OUT": str(out), "ODD": odd, "CLAUDECODE": "1", "LINES": "7", "TMUX_PANE": "%77", "EMPTY": ""}
    for mask in ("027", "002"):
        out.unlink(missing_ok=True)
        command = ["sh", "-c", f'umask {mask}; orc-run "$@"; :', "sh", f"a{mask}", "--session", "main", "--"]
        done = subprocess.run([*command, *words(tmp_path)], env=env, cwd=folder, capture_output=True, check=True)
        assert done.returncode == 0
        _, got, cwd, _, umask = told(out)
        assert umask == int(mask, 8)
        assert cwd == str(folder)
    agent = agents(home)[-1]
    expected = {
        name: value
        for name, value in env.items()
        if name not in ("CLAUDECODE", "LINES", "COLUMNS", "_", "SHLVL", "PWD")
    }
    own = {"ORC_HOME", "ORC_AGENT", "ORC_SESSION", "PATH"}
    own |= {"TMUX", "TMUX_PANE", "TERM", "TERM_PROGRAM", "TERM_PROGRAM_VERSION"}
    for name in expected.keys() - own:
        assert got[name] == expected[name], name
    assert not {"CLAUDECODE", "COLUMNS", "LINES"} & got.keys()
    assert (got["ORC_HOME"], got["ORC_AGENT"], got["ORC_SESSION"]) == (home.root, "a002", "main")
    assert got["TMUX_PANE"] == agent.pane and got["TMUX"].startswith(server.socket + ",")
    assert got["TERM"] == server.tmux("show-options", "-gv", "default-terminal")
    assert got["PATH"].split(":")[0] == CODE + "/bin" and got["PATH"].count(CODE + "/bin") == 1


def test_ignored_signals_of_ours_are_not_handed_on(server: Server, home: Home) -> None:
    record = orc_run("pm", "--session", "main", "--", *SLEEP)
    wait_until(lambda: registry.program(record["pid"]) == "sleep")
    status = Path(f"/proc/{record['pid']}/status").read_text()
    ignored = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn")), 16)
    assert not ignored & 1 << signal.SIGPIPE - 1 and not ignored & 1 << signal.SIGXFSZ - 1


def test_the_environment_is_never_on_a_command_line(
    server: Server, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "s3cr3t-in-the-environment")
    seen: list[str] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            for entry in filter(str.isdigit, os.listdir("/proc")):
                try:
                    seen.append(Path(f"/proc/{entry}/cmdline").read_bytes().decode("utf-8", "replace"))
                except OSError:
                    pass

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        record = orc_run("pm", "--session", "main", "--", "sleep", "1234.5")
        wait_until(lambda: any("1234.5" in line for line in seen))
        wait_until(lambda: registry.program(record["pid"]) == "sleep")
    finally:
        over.set()
        watcher.join()
    assert any("--launch" in line for line in seen), "the launcher was not seen: this test proves nothing"
    assert not any("s3cr3t" in line for line in seen)
    assert "s3cr3t" not in server.tmux("list-panes", "-a", "-F", "#{pane_start_command}")
    file = Path(agents(home)[0].launch)
    assert "s3cr3t" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_without_a_server_one_is_started_and_the_session_is_called_as_the_folder(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my.back:end #1"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    with Server() as server:
        monkeypatch.setenv("ORC_TMUX_SOCKET", server.socket)
        record = orc_run("pm", "--", *SLEEP, cwd=folder)
        assert panes(server) == {record["pane"]: "my-back-end--1:pm"}
        assert orc_run("dev", "--session", "équipe", "--", *SLEEP)["target"] == "équipe:0.0"
        assert orc_run("dev2", "--session", "équipe", "--", *SLEEP)["target"] == "équipe:1.0"


def test_inside_tmux_the_session_is_the_one_around_us(
    server: Server, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    pane, _ = server.start(["sleep", "1000"], session="web")
    monkeypatch.setenv("TMUX_PANE", pane)
    monkeypatch.setenv("TMUX", f"{server.socket},{server.pid},0")
    assert orc_run("one", "--", *SLEEP)["target"] == "web:1.0"
    monkeypatch.setenv("TMUX", f"/elsewhere,{os.getpid()},0")  # another server's pane of that number
    assert not orc_run("two", "--", *SLEEP)["target"].startswith("web:")


def test_names_are_matched_exactly_never_by_prefix(server: Server, home: Home) -> None:
    server.start(["sleep", "1000"], session="backend")
    assert orc_run("pm", "--session", "back", "--", *SLEEP)["target"] == "back:0.0"
    assert orc_run("dev", "--session", "backend", "--window", "log", "--", *SLEEP)["target"] == "backend:1.0"
    assert orc_run("dev2", "--session", "backend", "--window", "lo", "--", *SLEEP)["target"] == "backend:2.0"


def test_a_window_is_shared_by_name_or_index(server: Server, home: Home) -> None:
    first = orc_run("a", "--session", "main", "--window", "team", "--", *SLEEP)
    second = orc_run("b", "--session", "main", "--window", "team", "--", *SLEEP)
    third = orc_run("c", "--session", "main", "--window", "1", "--", *SLEEP)
    assert [r["target"] for r in (first, second, third)] == ["main:1.0", "main:1.1", "main:1.2"]
    server.tmux("new-window", "-t", "main:", "-n", "team", "sleep", "1000")
    done = orc("orc-run", "d", "--session", "main", "--window", "team", "--", *SLEEP)
    assert (done.returncode, done.stdout) == (errors.USAGE, "") and "several windows 'team'" in done.stderr
    done = orc("orc-run", "d", "--session", "main", "--window", "9", "--", *SLEEP)
    assert done.returncode == errors.USAGE and "no window 9" in done.stderr
    assert [a.name for a in agents(home)] == ["a", "b", "c"]


CANARY = "#(touch CANARY)"


@pytest.mark.parametrize(
    "argv",
    [
        [CANARY],
        ["Pm"],
        ["a" * 33],
        ["pm", "--role", CANARY],
        ["pm", "--group", CANARY],
        ["pm", "--session", CANARY],
        ["pm", "--session", "a:b"],
        ["pm", "--session", "a.b"],
        ["pm", "--session", "-a"],
        ["pm", "--session", "a;"],
        ["pm", "--session", "a\nb"],
        ["pm", "--session", "$0"],
        ["pm", "--session", "a\\b"],
        ["pm", "--window", CANARY],
        ["pm", "--window", "a:b"],
        ["pm", "--window", "7"],
        ["pm", "--profile", CANARY],
        ["pm", "--restart", "sometimes"],
        ["pm", "--nonsense"],
    ],
)
def test_what_is_no_name_is_refused_and_nothing_is_made(server: Server, home: Home, argv: list[str]) -> None:
    before = panes(server)
    with pytest.raises(UsageError) as raised:
        command.main([*argv, "--", *SLEEP])
    assert "CANARY" not in str(raised.value) or repr(CANARY) in str(raised.value)
    assert panes(server) == before and agents(home) == []
    assert not list(Path(home.root).rglob("*.json")), "the environment was left behind"


def test_no_text_of_the_caller_is_ever_given_to_tmux(
    server: Server, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every word that reaches tmux is recorded: what tmux does not get, it cannot expand, and no shell can run."""
    (tmp_path / "bin").mkdir()
    wrapper, record_of = tmp_path / "bin/tmux", tmp_path / "told"
    wrapper.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {record_of}\nexec {shutil.which("tmux")} "$@"\n')
    wrapper.chmod(0o700)
    folder = tmp_path / f"work {CANARY}"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("NASTY", CANARY)
    session = "odd #[fg=red] (touch CANARY)"
    server.tmux("rename-session", "-t", "=main:", session)
    record = orc_run("pm", "--session", session, "--", "sh", "-c", "exit 3", CANARY, cwd=folder)
    wait_until(lambda: "Start it again: orc-agent restart pm" in shown(server, record["pane"]))
    assert orc("orc-agent", "restart", "pm", cwd=folder).returncode == 0
    orc_run("dev", "--session", "fresh", "--", "sh", "-c", "exit 3", CANARY, cwd=folder)
    told_to_tmux = record_of.read_text()
    assert "respawn-pane" in told_to_tmux and "new-window" in told_to_tmux and "new-session" in told_to_tmux
    assert "touch CANARY" not in told_to_tmux and not list(tmp_path.rglob("CANARY"))


def test_the_users_own_options_are_left_alone(server: Server, home: Home) -> None:
    def options() -> list[str]:
        local = [server.tmux("show-options", *flags, "-t", "main:0") for flags in ([], ["-w"], ["-p"])]
        return local + [server.tmux("show-options", flag) for flag in ("-g", "-gw", "-s")]

    before = options()
    orc_run("pm", "--session", "main", "--", *SLEEP)
    assert options() == before
    assert server.tmux("show-options", "-w", "-t", "main:1") in ("", "automatic-rename off")


def test_an_agent_that_ends_at_once_leaves_a_pane_that_says_so(server: Server, home: Home) -> None:
    record = orc_run("pm", "--session", "main", "--", "sh", "-c", "echo last words; exit 3")
    wait_until(lambda: "pm ended (status 3)" in shown(server, record["pane"]))
    screen = shown(server, record["pane"])
    assert "last words" in screen and "Start it again: orc-agent restart main:pm" in screen
    (agent,) = agents(home)
    assert not agent.alive() and agent.pid == record["pid"]


def test_a_killed_agents_pane_stays_readable_and_what_it_says_works(server: Server, home: Home) -> None:
    command = "echo working on it; exec sleep 1000"
    record = orc_run("pm", "--session", "main", "--", "sh", "-c", command)
    wait_until(lambda: "working on it" in shown(server, record["pane"]))
    (agent,) = agents(home)
    os.kill(agent.pid, signal.SIGKILL)
    wait_until(lambda: "ended (signal 9)" in shown(server, record["pane"]))
    screen = shown(server, record["pane"])
    assert "working on it" in screen
    again = screen.partition("Start it again: ")[2].partition(" (")[0]
    assert subprocess.run(["sh", "-c", again], check=False).returncode == 0
    (later,) = agents(home)
    assert later.alive() and later.pane == agent.pane and later.nonce != agent.nonce and later.pid != agent.pid
    assert server.show(later.pane, "#{pane_dead} #{@orc_nonce}") == f"0 {later.nonce}"


def test_a_program_that_is_not_there_is_refused_before_anything_is_made(server: Server, home: Home) -> None:
    before = panes(server)
    done = orc("orc-run", "pm", "--session", "main", "--", "no-such-agent")
    assert done.returncode == errors.USAGE and "'no-such-agent'" in done.stderr
    assert panes(server) == before and agents(home) == [] and not os.path.exists(home.registry)


def test_a_program_that_cannot_be_started_says_so_in_the_pane(server: Server, home: Home, tmp_path: Path) -> None:
    script = tmp_path / "agent"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o700)
    record = orc_run("pm", "--session", "main", "--", str(script))
    wait_until(lambda: "pm ended (status 127)" in shown(server, record["pane"]))
    assert "orc-run: cannot start" in shown(server, record["pane"])
    script.write_text("#!/bin/sh\nexec sleep 1000\n")
    assert orc("orc-agent", "restart", "pm").returncode == 0
    wait_until(lambda: registry.program(agents(home)[0].pid) == "sleep")


def test_a_folder_that_is_gone_at_the_restart_is_told_and_nothing_is_started(
    server: Server, home: Home, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    record = orc_run("pm", "--session", "main", "--", "sh", "-c", "exit 0", cwd=folder)
    wait_until(lambda: dead(server, record["pane"]))
    folder.rmdir()
    done = orc("orc-agent", "restart", "pm")
    assert done.returncode == errors.USAGE and f"the folder {str(folder)!r} is gone" in done.stderr
    assert dead(server, record["pane"])


def test_a_name_that_is_taken_by_a_live_agent_is_refused(server: Server, home: Home) -> None:
    orc_run("pm", "--session", "main", "--", *SLEEP)
    before = [agent.to_dict() for agent in agents(home)], panes(server)
    done = orc("orc-run", "pm", "--session", "main", "--", *SLEEP)
    assert done.returncode == errors.USAGE and "main:pm is running" in done.stderr
    assert ([agent.to_dict() for agent in agents(home)], panes(server)) == before
    assert orc_run("pm", "--session", "other", "--", *SLEEP)["target"] == "other:0.0"


def test_a_dead_agents_name_gets_its_pane_back_or_else_a_new_window(server: Server, home: Home) -> None:
    first = orc_run("pm", "--session", "main", "--", *SLEEP)
    kill(agents(home)[0])
    second = orc_run("pm", "--session", "main", "--role", "lead", "--", "sleep", "999")
    assert second["pane"] == first["pane"] and second["pid"] != first["pid"] and second["role"] == "lead"
    kill(agents(home)[0])
    server.tmux("kill-pane", "-t", first["pane"])
    third = orc_run("pm", "--session", "main", "--", *SLEEP)
    assert third["pane"] != first["pane"] and len(agents(home)) == 1
    kill(agents(home)[0])
    server.tmux("respawn-pane", "-k", "-t", third["pane"], "sleep", "998")  # somebody's, with our options still on it
    fourth = orc_run("pm", "--session", "main", "--", *SLEEP)
    assert fourth["pane"] != third["pane"]
    assert server.show(third["pane"], "#{pane_current_command} #{pane_dead}") == "sleep 0"


def test_of_two_at_the_same_time_one_wins(server: Server, home: Home) -> None:
    for n in range(3):
        argv = ["orc-run", f"pm{n}", "--session", f"race{n}", "--", *SLEEP]
        racers = [subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
        ends = [(racer.communicate(timeout=60), racer.returncode) for racer in racers]
        codes = sorted(code for _, code in ends)
        assert codes == [0, errors.USAGE, errors.USAGE, errors.USAGE], ends
        assert [name for name in panes(server).values() if name.startswith(f"race{n}:")] == [f"race{n}:pm{n}"]
    assert [agent.name for agent in agents(home)] == ["pm0", "pm1", "pm2"]
    assert all(agent.alive() for agent in agents(home))


def test_different_agents_start_at_the_same_time(server: Server, home: Home) -> None:
    racers = [subprocess.Popen(["orc-run", f"a{n}", "--session", "team", "--", *SLEEP]) for n in range(6)]
    assert [racer.wait(timeout=60) for racer in racers] == [0] * 6
    assert sorted(a.name for a in agents(home) if a.alive()) == [f"a{n}" for n in range(6)]
    assert sorted(name for name in panes(server).values() if "team" in name) == [f"team:a{n}" for n in range(6)]


CRASH = """
import os, signal, sys
from tmux_orchestrator.agents import roster, runner
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.ground.tmux import Tmux
roster.register = lambda home, agent: os.kill(os.getpid(), signal.SIGKILL)
plan = runner.Plan("pm", "main", "", "pm", [], "plain", "never", "none", ["touch", sys.argv[2]], "/",
                   dict(os.environ), 0o22)
runner.start(Home(os.environ["ORC_HOME"]), Tmux(sys.argv[1]), sys.argv[1], plan)
"""


def test_a_crash_before_the_registration_leaves_no_agent_and_the_next_try_works(
    server: Server, home: Home, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", CRASH, server.socket, str(ran)], env=env, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    (pane,) = [pane for pane, name in panes(server).items() if name == "main:pm"]
    wait_until(lambda: "orc-run was ended before" in shown(server, pane))
    wait_until(lambda: dead(server, pane))
    assert agents(home) == [] and not ran.exists()
    orc_run("pm", "--session", "main", "--", "touch", str(ran))
    wait_until(ran.exists)


def test_the_agent_does_not_run_before_it_is_registered(
    server: Server, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"
    register = roster.register

    def slow(home: Home, agent: Agent) -> None:
        wait_until(lambda: b"--launch" in Path(f"/proc/{agent.pid}/cmdline").read_bytes())
        lock = launch.file(home, "main", "pm").removesuffix(".json") + ".lock"
        wait_until(lambda: any(os.path.realpath(fd) == lock for fd in Path(f"/proc/{agent.pid}/fd").iterdir()))
        assert not ran.exists()
        register(home, agent)

    monkeypatch.setattr(roster, "register", slow)
    start(server, home, ["touch", str(ran)])
    wait_until(ran.exists)


def test_a_failure_leaves_no_pane_behind(server: Server, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(home: Home, agent: Agent) -> None:
        raise UnavailableError("no")

    monkeypatch.setattr(roster, "register", fail)
    before = panes(server)
    with pytest.raises(UnavailableError):
        start(server, home, list(SLEEP))
    assert panes(server) == before


def test_a_failure_leaves_a_dead_agent_as_it_was(server: Server, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    orc_run("pm", "--session", "main", "--", *SLEEP)
    kill(agents(home)[0])
    before = agents(home)[0].to_dict(), Path(agents(home)[0].launch).read_text()
    server.tmux("kill-pane", "-t", agents(home)[0].pane)
    with pytest.raises(UsageError):
        command.main(["pm", "--session", "main", "--window", "9", "--", "sleep", "999"])
    assert (agents(home)[0].to_dict(), Path(agents(home)[0].launch).read_text()) == before


def start(server: Server, home: Home, argv: list[str]) -> Agent:
    env = {"PATH": os.environ["PATH"]}
    plan = runner.Plan("pm", "main", "", "pm", [], "plain", "never", "none", argv, "/", env, 0o22)
    return runner.start(home, Tmux(server.socket), server.socket, plan)


def test_after_a_restart_of_the_server_a_new_pane_of_the_same_number_is_nobody(server: Server, home: Home) -> None:
    server.tmux("kill-session", "-t", "=main:", ";", "start-server", check=False)
    wait_until(lambda: server.tmux("list-sessions", check=False) == "")
    before = orc_run("pm", "--session", "main", "--", *SLEEP)
    assert before["pane"] == "%0"
    server.kill()
    pane, _ = server.start(["sleep", "1000"], session="main")
    server.tmux("set-option", "-p", "-t", pane, "@orc_agent", "pm", ";", "set-option", "-p", "-t", pane, "@orc_nonce",
                agents(home)[0].nonce)  # fmt: skip
    assert pane == "%0"
    wait_until(lambda: not agents(home)[0].alive())
    (line,) = orc("orc-agent", "list", "-o", "name,state,pane,target").stdout.splitlines()
    assert line == "pm\tdead\t-\t-"
    for action in (["peek", "pm"], ["interrupt", "pm"], ["show", "%0"]):
        done = orc("orc-agent", *action)
        assert done.returncode == errors.UNAVAILABLE, (action, done)
    again = orc_run("pm", "--session", "main", "--", *SLEEP)
    assert again["pane"] == "%1" and server.show("%0", "#{pane_dead}") == "0"


def test_restart(server: Server, home: Home) -> None:
    agent = start(server, home, list(SLEEP))
    tmux = Tmux(server.socket)
    with pytest.raises(UsageError, match="--force"):
        runner.restart(home, tmux, agent, force=False, how=Again([]))
    assert agent.alive()
    later = runner.restart(home, tmux, agent, force=True, how=Again([]))
    assert not agent.alive() and later.alive()
    assert later.pane == agent.pane and later.pid != agent.pid and later.nonce != agent.nonce
    assert [a.to_dict() for a in agents(home)] == [later.to_dict()]
    wait_until(lambda: registry.program(later.pid) == "sleep")
    Path(agent.launch).write_text("{")
    with pytest.raises(DataError, match="lost or damaged"):
        runner.restart(home, tmux, later, force=True, how=Again([]))
    assert later.alive(), "it was ended although it could not be started again"


def test_stop_is_noted_before_it_happens(server: Server, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = start(server, home, list(SLEEP))
    noted: list[str] = []
    end = runner.end

    def watched(pid: int, start: int) -> bool:
        noted.append(agents(home)[0].ended)
        return end(pid, start)

    monkeypatch.setattr(runner, "end", watched)
    assert runner.stop(home, agent, agent.pid, agent.pid_start)
    assert noted == ["stopped"] and not agent.alive()
    assert not runner.stop(home, agent, agent.pid, agent.pid_start)
    assert runner.restart(home, Tmux(server.socket), agents(home)[0], force=False, how=Again([])).ended == ""


def test_an_agent_that_ignores_sigterm_is_killed() -> None:
    stubborn = "import signal; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        begun = proc.start_time(process.pid)
        assert begun is not None
        assert runner.end(process.pid, begun, grace_s=0.2)
        assert process.wait() == -signal.SIGKILL


def test_a_later_process_with_the_same_pid_is_never_ended() -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        begun = proc.start_time(process.pid)
        assert begun is not None
        assert not runner.end(process.pid, begun - 1)
        assert process.poll() is None
        assert runner.end(process.pid, begun)
    assert not runner.end(process.pid, begun)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("/x/backend", "backend"),
        ("/x/my.app", "my-app"),
        ("/", "orc"),
        ("/x/#(y)", "y"),
        ("/x/...", "orc"),
        ("/é", "é"),
    ],
)
def test_a_session_is_called_as_the_folder(folder: str, name: str) -> None:
    assert windows.folder_name(folder) == name
    assert windows.allowed(windows.folder_name(folder))


@pytest.mark.parametrize("session", ["a/b", "a@b", "%41", "a b", "é", ".."])
def test_no_two_agents_share_a_launch_file_and_none_leaves_its_folder(home: Home, session: str) -> None:
    path = launch.file(home, session, "pm")
    assert os.path.dirname(path) == home.registry + "/launch"
    others = {launch.file(home, other, "pm") for other in ("a_b", "A b", "a%2Fb", "a@b@", "a", "") if other != session}
    assert path not in others and "@" not in os.path.basename(path).removesuffix("@pm.json")


def test_what_is_printed_is_the_record_of_a_starting_agent(server: Server, home: Home) -> None:
    record = orc_run("pm", "--session", "main", "--group", "a", "--group", "b", "--restart", "crash", "--", *SLEEP)
    assert tuple(record) == state.FIELDS
    assert (record["state"], record["groups"], record["profile"]) == ("starting", ["a", "b"], "plain")
    assert record["since"].endswith("Z")
    assert agents(home)[0].restart == "crash"
    done = orc("orc-run", "dev", "--session", "main", "-o", "name,role", "--", *SLEEP)
    assert done.stdout == "dev\tdev\n"
