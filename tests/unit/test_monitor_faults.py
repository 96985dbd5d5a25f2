"""The monitor and everything that goes wrong around it: no false death, no crash, nothing told that is not so.

Each test ends with the death of a witness, which must be seen and told: the monitor has gone on.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support_monitor import Watched, monitor, open_count
from support_orc import ROOT
from support_tmux import wait_until
from tmux_orchestrator.ground import clock, proc

STEPPED = ROOT + "/tests/programs/stepped.py"


@pytest.fixture
def watched() -> Iterator[Watched]:
    with Watched() as watched:
        yield watched


def passes(seconds: float, begun: int = 0) -> None:
    """So much time, since `begun`: nothing happens in it that could be waited for."""
    begun = begun or clock.boot_ns()
    wait_until(lambda: clock.boot_ns() - begun > seconds * 1e9, seconds + 5, "the time to pass")


def errors(watched: Watched) -> list[str]:
    return [line for line in watched.output() if " ERROR " in line]


def replaced(path: str, content: bytes) -> None:
    with open(path + ".new", "wb") as file:
        file.write(content)
    os.replace(path + ".new", path)


# what panes show

WORDS = """\
Traceback (most recent call last): Killed
The tests say: You've hit your usage limit. 5-hour limit reached, resets at 3am.
When a dialog asks "Do you want to proceed?", choose ❯ 1. Yes, or press Esc to cancel.
Do you want to make this edit? Enter to confirm was the old key.
error: process crashed, agent died, ended by signal 9 (core dumped)
Pane is dead (status 1). [exited]. No server running. logout
What the mock answers is API Error: 429, once the limit is reached.
"""
ESCAPES = (
    b"begins\n\033[38;5\033]0;title without an end\n\033Pq no end\n\033[999999;999999H\033[?1049"
    b"\033[\033[4\033(\n\033[?25l\xc3\n"
)
MUCH = "error: everything crashed, and there is more of it\\n"
SHOWS = {
    "megabytes": f"import sys; [sys.stdout.write('{MUCH}' * 10000) for _ in range(40)]",
    "prose": "print(open('prose').read(), end='', flush=True)",
    "prose of an agent": "[print('● ' + line, end='', flush=True) for line in open('prose')]",
    "half escape sequences": "import os; os.write(1, open('escapes', 'rb').read())",
    "garbage": "import os; os.write(1, os.urandom(300000))",
    "a flood that never ends": f"import os, time\nwhile True: os.write(1, b'{MUCH}' * 100); time.sleep(0.02)",
}


@pytest.mark.parametrize("shows", list(SHOWS))
def test_what_a_pane_shows_is_no_death_no_limit_and_no_question(watched: Watched, shows: str) -> None:
    folder = Path(watched.root)
    (folder / "prose").write_text(WORDS, encoding="utf-8")
    (folder / "escapes").write_bytes(ESCAPES)
    program = f"import os; os.chdir({watched.root!r})\n{SHOWS[shows]}\nimport time; time.sleep(1000)"
    odd = [
        watched.agent(f"odd-{profile}", sys.executable, "-c", program, options=("--profile", profile))
        for profile in ("claude", "codex", "gemini", "demo")
    ]
    for agent in odd:
        wait_until(lambda agent=agent: agent.screen().strip(), what="what it shows")  # type: ignore[misc]
    watched.looks(6)
    assert {watched.state(agent) for agent in odd} <= {"starting", "unknown", "working"}
    watched.goes_on()


@pytest.mark.parametrize("argv", [["less", "+G", "prose"], ["vi", "prose"], ["top"]])
def test_a_full_screen_program_is_none_of_these_either(watched: Watched, argv: list[str]) -> None:
    if shutil.which(argv[0]) is None:
        pytest.skip(f"no {argv[0]} here")
    argv = [word if word != "prose" else watched.root + "/prose" for word in argv]
    Path(watched.root, "prose").write_text(WORDS, encoding="utf-8")
    odd = watched.agent("odd", *argv, options=("--profile", "claude"))
    wait_until(lambda: odd.screen().strip(), what="its screen")
    watched.looks(6)
    assert watched.state(odd) in ("starting", "unknown")
    watched.goes_on()


def test_a_program_that_names_its_window_as_it_likes(watched: Watched) -> None:
    names = r"\033]2;%%0\t\n1 dead 9\033\\\033k#{pane_dead}\t1\t9\033\\"
    odd = watched.agent("odd", "bash", "-c", f"printf '{names}'; exec -a '%0 1 1 9' sleep 1000")
    watched.server.tmux("set-option", "-w", "-t", odd.pane, "allow-rename", "on")
    watched.server.tmux("set-option", "-p", "-t", odd.pane, "@orc_agent", "a\tb\n%9 1 1")
    watched.looks()
    assert watched.state(odd) in ("starting", "unknown")
    watched.goes_on()


# where panes are


def test_sessions_windows_and_panes_that_are_renamed_and_moved(watched: Watched) -> None:
    other, tmux = watched.demo("other"), watched.server.tmux
    tmux("rename-window", "-t", other.pane, "tests: #{pane_dead}")
    watched.looks()
    tmux("rename-session", "-t", "=team", "renamed")
    watched.looks()
    tmux("new-session", "-d", "-s", "elsewhere", "sleep", "1000")
    tmux("move-window", "-s", other.pane, "-t", "=elsewhere:7")
    watched.looks()
    tmux("join-pane", "-d", "-s", other.pane, "-t", watched.witness.pane)
    watched.looks()
    tmux("break-pane", "-d", "-s", other.pane)
    watched.looks()
    assert watched.state(other) == watched.state(watched.witness) == "idle"
    watched.goes_on()


def test_a_closed_pane_is_no_death(watched: Watched) -> None:
    other = watched.demo("other")
    wait_until(lambda: open_count(watched.monitor.pid) == 2, what="a look at both")
    watched.server.tmux("kill-pane", "-t", other.pane)
    wait_until(lambda: watched.state(other) == "gone", what="its end")
    watched.goes_on()


def test_who_died_and_is_forgotten_is_not_back(watched: Watched) -> None:
    other = watched.demo("other")
    other.kill()
    wait_until(lambda: watched.told(), what="the alert")
    watched.run("orc-agent", "forget", "other")
    watched.looks()
    watched.goes_on("dead: team:other died")


def test_a_pane_id_that_is_another_servers_by_now(watched: Watched) -> None:
    """The server falls with all its agents, and the next one gives the same pane ids to programs of somebody."""
    other = watched.demo("other")
    wait_until(lambda: open_count(watched.monitor.pid) == 2, what="a look at both")
    watched.server.kill()
    wait_until(lambda: proc.start_time(other.pid) is proc.start_time(watched.witness.pid) is None, what="their ends")
    wait_until(lambda: watched.told(), what="the alert")
    for number in range(3):
        watched.server.start(["sh", "-c", "printf '● working …'; sleep 1000"], f"stranger{number}")
    panes = watched.server.tmux("list-panes", "-a", "-F", "#{pane_id}").split()
    assert {other.pane, watched.witness.pane} <= set(panes), "the ids are used again"
    watched.looks()
    (alert,) = watched.told()
    assert alert.startswith("server: tmux server ") and "with it 2 agents" in alert
    watched.run("orc-agent", "restart", "witness")
    watched.witness.pid = json.loads(watched.run("orc-agent", "show", "witness", "-o", "jsonl"))["pid"]
    wait_until(lambda: open_count(watched.monitor.pid) == 1, what="a look at the new one")
    watched.goes_on("server: tmux server ")


# who does not answer


@contextlib.contextmanager
def halted(pid: int, seconds: float) -> Iterator[None]:
    """The process is stopped, what is in the block is done, and after so many seconds in all it goes on."""
    os.kill(pid, signal.SIGSTOP)
    begun = clock.boot_ns()
    try:
        yield
        passes(seconds, begun)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_tmux_that_hangs_is_nobodys_death(watched: Watched) -> None:
    other = watched.demo("other")
    wait_until(lambda: open_count(watched.monitor.pid) == 2, what="a look at both")
    with halted(watched.server.pid, 12):  # two looks end without an answer
        pass
    watched.looks()
    assert watched.state(other) == watched.state(watched.witness) == "idle"
    watched.goes_on()


def test_how_somebody_ended_while_tmux_hung_is_known_when_it_answers(watched: Watched) -> None:
    ends = {}
    for name, status in (("left", 0), ("failed", 3)):
        os.mkfifo(watched.root + "/" + name)
        ends[name] = watched.agent(name, "sh", "-c", f"read x < {watched.root}/{name}; exit {status}")
    wait_until(lambda: open_count(watched.monitor.pid) == 3, what="a look at all")
    with halted(watched.server.pid, 12):
        for name in ends:
            with open(watched.root + "/" + name, "w", encoding="ascii") as leave:
                leave.write("now\n")
    wait_until(lambda: watched.state(ends["failed"]) == "dead", what="what tmux says")
    watched.looks(2)
    assert watched.state(ends["left"]) == "gone"
    watched.goes_on("dead: team:failed died: ended with status 3")


def test_what_stands_is_not_over_because_tmux_hangs(watched: Watched) -> None:
    limited = watched.demo("limited")
    limited.keys("[[limit]] x", "Enter")
    wait_until(lambda: watched.told(), what="the word of the limit")
    with halted(watched.server.pid, 12):
        pass
    watched.looks()
    watched.goes_on("limited: ")


def test_a_stopped_monitor_goes_on_where_it_was(watched: Watched) -> None:
    watched.watch("idle_after: 2, unresponsive_after: 2")
    other = watched.demo("other")
    other.keys("[[slow:1000]] x", "Enter")
    wait_until(lambda: watched.state(other) == "working", what="its work")
    with halted(watched.monitor.pid, 4):
        other.keys("Escape")
        wait_until(lambda: "idle" in other.screen(), what="the end of its work")
        other.keys("[[slow:1000]] y", "Enter")
    watched.looks(6)
    assert watched.state(other) == "working"
    watched.goes_on()


# the clock


@pytest.mark.parametrize("seconds", [86_400, -86_400, 3])
def test_a_clock_that_steps(tmp_path: Path, seconds: int) -> None:
    step = tmp_path / "step"
    step.write_text("0")
    python = [ROOT + "/.venv/bin/python", "-I", "-S", "-X", "utf8", STEPPED, "orc-monitor", str(step)]
    with Watched("idle_after: 600", "", *python) as watched:
        other = watched.demo("other")
        other.keys("[[slow:1000]] x", "Enter")
        wait_until(lambda: watched.state(other) == "working", what="its work")
        for at in (seconds, 0):
            replaced(str(step), str(at).encode())
            watched.looks()
        assert watched.state(other) == "working" and watched.state(watched.witness) == "idle"
        watched.goes_on()


# strategies


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("exit 3", "ended with status 3"),
        ("sleep 1000", "was killed"),
        ("head -c 100000 /dev/urandom", "is no finding"),
        ("kill -9 $$", "ended with status -9"),
        ('cat > /dev/null; echo \'{"agent": "team:witness", "issue_type": "dead", "text": 1}\'', "that does not exist"),
    ],
)
def test_a_strategy_that_fails_is_told_once_and_polling_goes_on(watched: Watched, text: str, words: str) -> None:
    path = watched.root + "/strategy"
    replaced(path, f"#!/bin/sh\n{text}\n".encode())
    os.chmod(path, 0o700)
    patience = 0.3 if text == "sleep 1000" else 20
    watched.watch(f"strategy: custom, custom: {path}, custom_timeout: {patience}")
    wait_until(lambda: watched.told(), what="the notice")
    assert words in watched.told()[0]
    watched.looks(6)
    assert watched.account()["strategy"] == "polling"
    watched.goes_on("strategy: The strategy of monitoring.strategy failed, agents are polled: ")


# files

GARBAGE = [b"", b"{", b"\xff\xfe\x00", b"[[[[" * 50_000, b'{"agents": 7}', b'{"agents": [{"name": 5}]}']


def test_a_registry_that_is_damaged_is_said_once_and_waited_for(watched: Watched) -> None:
    path = watched.root + "/registry/agents.json"
    with open(path, "rb") as file:
        good = file.read()
    watched.looks()
    for content in (b"{", b'{"agents": 7}'):
        before = len(errors(watched))
        replaced(path, content)
        wait_until(lambda before=before: len(errors(watched)) > before, what="the word of it")  # type: ignore[misc]
        passes(2.5)
        replaced(path, good)
        watched.looks()
    lines = errors(watched)
    assert len(lines) == 2 and all("is damaged" in line for line in lines), lines[:10]
    watched.goes_on()


@pytest.mark.parametrize("name", ["told.json", "lives.json", "rollout.json", "monitor.json", "recovery.json"])
def test_memories_that_are_damaged(watched: Watched, name: str) -> None:
    """They count as empty at the next start, and a running monitor replaces them."""
    path = f"{watched.root}/logs/run/{name}"
    watched.looks()
    for content in GARBAGE:
        watched.monitor.kill()
        watched.monitor.wait()
        replaced(path, content)
        watched.monitor = monitor(watched)
        watched.looks(2)
    back = [one for one in watched.told() if one.startswith("monitor_back: ")]
    watched.goes_on(*["monitor_back: "] * len(back))


@pytest.mark.parametrize("content", GARBAGE)
def test_signs_that_are_damaged(watched: Watched, content: bytes) -> None:
    folder = watched.root + "/logs/run/signs"
    for name in ("team@witness.json", "team@nobody.json", "x", "team@witness.json/../y.json"):
        replaced(f"{folder}/{name}" if ".." not in name else f"{folder}/y.json", content)
    os.mkdir(folder + "/team@other.json")
    other = watched.demo("other")
    watched.looks()
    assert watched.state(other) == watched.state(watched.witness) == "idle"
    watched.goes_on()


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system of one's own takes root")
def test_a_disk_that_is_full_for_a_while() -> None:
    watched = Watched()
    place = watched.root + "/logs"
    os.makedirs(place)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], check=True)
    try:
        with watched:
            died = watched.demo("died")
            wait_until(lambda: open_count(watched.monitor.pid) == 2, what="a look at both")
            fill = place + "/fill"
            with contextlib.suppress(OSError), open(fill, "wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 4096)
            while watched.run("orc-publish", "x", code=None):
                pass  # the last page of the day file has room
            died.kill()
            passes(3)
            assert watched.told() == [] and watched.monitor.poll() is None
            os.unlink(fill)
            wait_until(lambda: watched.told(), what="the alert that could not be told")
            assert len(errors(watched)) < 5, errors(watched)
            watched.goes_on("dead: team:died died")
    finally:
        subprocess.run(["umount", place], check=True)
