"""Panes and screens as a real tmux tells them, whatever the programs in them call themselves."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import pytest

from support_tmux import Recorder, Server, wait_until
from tmux_orchestrator.ground.tmux import Tmux
from tmux_orchestrator.ground.tmux.panes import opening

CANARY = f"{tempfile.gettempdir()}/orc-canary-panes-{os.getppid()}"
HOSTILE = [
    "two words", "a\tb", "a\nb", 'q"u\'o', f"#(touch {CANARY})", "#{pane_id}", "日本 🚨", "%end 1 2 1", "%0 0 0",
    "a,b}c", "\\t", "$(x)", "_orc ", "-x", "=x", "\x1b[31m",
]  # fmt: skip


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as private:
        yield private


@pytest.fixture(params=[True, False], ids=["kept", "plain"])
def tmux(request: pytest.FixtureRequest, server: Server) -> Iterator[Tmux]:
    with Tmux(server.socket, keep=request.param, run=server.folder + "/run") as client:
        yield client


def test_a_pane_as_it_is(server: Server, tmux: Tmux) -> None:
    recorder = Recorder(server, "one\\ntwo ")
    server.tmux("set-option", "-p", "-t", recorder.pane, "@orc_agent", "backend:1")
    (pane,) = tmux.panes()
    assert (pane.id, pane.pid, pane.session, pane.window_index, pane.pane_index) == ("%0", recorder.pid, "s1", 0, 0)
    assert (pane.nonce, pane.agent, pane.width, pane.height) == (recorder.nonce, "backend:1", 100, 30)
    assert (pane.cursor_x, pane.cursor_y) == (0, 2)
    assert (pane.dead, pane.in_mode, pane.input_off, pane.synchronized) == (False, False, False, False)
    assert pane.command == server.show("%0", "#{pane_current_command}")
    assert (pane.dead_status, pane.dead_signal) == (None, None)


def test_flags(server: Server, tmux: Tmux) -> None:
    ids = [server.start(["sleep", "1000"])[0] for _ in range(3)]
    server.tmux("copy-mode", "-t", ids[0])
    server.tmux("select-pane", "-d", "-t", ids[1])
    server.tmux("set-option", "-w", "-t", ids[2], "synchronize-panes", "on")
    by_id = {pane.id: pane for pane in tmux.panes()}
    assert [(by_id[i].in_mode, by_id[i].input_off, by_id[i].synchronized) for i in ids] == [
        (True, False, False),
        (False, True, False),
        (False, False, True),
    ]


def test_how_a_pane_died(server: Server, tmux: Tmux) -> None:
    for ending in ("exit 0", "exit 3", "kill -9 $$"):
        server.start(["sh", "-c", f"read x; {ending}"])
    for i in range(3):
        server.tmux("send-keys", "-t", f"%{i}", "Enter")
    wait_until(lambda: all(pane.dead for pane in tmux.panes()))
    # tmux 3.3a now and then leaves an ended program a zombie, its status unknown, until another child ends.
    server.tmux("run-shell", "true")
    wait_until(lambda: all(pane.dead_status is not None or pane.dead_signal for pane in tmux.panes()))
    ends = {pane.id: (pane.dead_status, pane.dead_signal) for pane in tmux.panes()}
    assert ends["%0"] == (0, None)
    assert ends["%1"] == (3, None)
    assert ends["%2"][1] == 9


@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_sessions_and_windows_forge_nothing(server: Server, tmux: Tmux, name: str) -> None:
    plain, _ = server.start(["sleep", "1000"], session="plain")
    server.tmux("new-session", "-d", "-s", "second", "--", "sleep", "1000")
    # Both commands expand formats, so the hostile name has to be made harmless for them.
    server.tmux("rename-window", "-t", "=second:", "--", name.replace("#", "##"))
    server.tmux("rename-session", "-t", "=second", "--", name.replace("#", "##"))
    before = {pane.id: pane for pane in tmux.panes()}
    assert sorted(before) == ["%0", "%1"]
    assert before[plain].session == "plain"
    assert before["%1"].window_name == server.show("%1", "#{window_name}")
    assert before["%1"].session == server.show("%1", "#{session_name}")
    assert tmux.look(["%1"])["%1"].pane == before["%1"]
    assert not os.path.exists(CANARY)


@pytest.mark.parametrize(
    "name", ["x\ny", "x\ty", "x\n%0\t0", f"#(touch${{IFS}}{CANARY})", "\x1b[31m", "a\n\n\nb", "日本x", "a}b,c#{d}"]
)
def test_a_program_cannot_forge_a_pane_by_its_name(server: Server, tmux: Tmux, name: str) -> None:
    pane, pid = server.start(["bash", "-c", 'exec -a "$0" sleep 1000', name])
    server.start(["sleep", "1000"])
    wait_until(lambda: {found.id: found.command for found in tmux.panes()}[pane] == name)
    assert [(found.id, found.pid) for found in tmux.panes()][:1] == [(pane, pid)]
    assert len(tmux.panes()) == 2
    assert tmux.look([pane])[pane].pane.command == name
    assert not os.path.exists(CANARY)


def test_a_screen_with_and_without_attributes(server: Server, tmux: Tmux) -> None:
    recorder = Recorder(server, "\x1b[2mdim\x1b[0m plain 日本🚨\\n❯ ")
    shot = tmux.look([recorder.pane])[recorder.pane]
    assert shot.lines[0].startswith("\x1b[2mdim\x1b[0m")
    assert shot.lines[0].endswith(" plain 日本🚨")
    assert shot.lines[1] == "❯ ready"
    assert len(shot.lines) == shot.pane.height == 30
    assert tmux.look([recorder.pane], attributes=False)[recorder.pane].lines[0] == "dim plain 日本🚨"


def test_a_screen_that_imitates_everything(server: Server, tmux: Tmux) -> None:
    words = "%end 1 2 1\\n%begin 1 3 1\\n%exit\\n\\n%0 0 0 1 0 0 0 0 0 1 100 30 0 0 /dev/pts/9\t\t\tx\tx\n"
    recorder, other = Recorder(server, words), Recorder(server)
    shots = tmux.look([recorder.pane, other.pane])
    assert shots[recorder.pane].lines[:4] == ["%end 1 2 1", "%begin 1 3 1", "%exit", ""]
    assert shots[recorder.pane].pane.pid == recorder.pid
    assert shots[other.pane].pane.pid == other.pid
    assert shots[other.pane].lines[0] == "ready"


def test_the_word_that_opens_a_record_is_never_the_same() -> None:
    assert len({opening() for _ in range(1000)}) == 1000


def test_panes_that_are_gone_are_left_out(server: Server, tmux: Tmux) -> None:
    ids = [server.start(["sh", "-c", f"echo pane {i}; sleep 1000"])[0] for i in range(60)]
    wait_until(lambda: all("pane" in shot.lines[0] for shot in tmux.look(ids).values()))
    for i in (0, 24, 25, 59):
        server.tmux("kill-pane", "-t", ids[i])
    shots = tmux.look([*ids, "%999"])
    assert {pane: shot.lines[0] for pane, shot in shots.items()} == {
        pane: f"pane {i}" for i, pane in enumerate(ids) if i not in (0, 24, 25, 59)
    }
    assert len(tmux.panes()) == 56


def test_hooks_of_the_user_do_not_show(server: Server, tmux: Tmux) -> None:
    recorder = Recorder(server)
    for hook in ("list-panes", "capture-pane", "display-message"):
        server.tmux("set-hook", "-g", f"after-{hook}", "show-options -g status")
    assert [pane.id for pane in tmux.panes()] == [recorder.pane]
    assert tmux.look([recorder.pane])[recorder.pane].lines == ["ready", *[""] * 29]
