"""Typing into panes of a real tmux: byte for byte when the pane is as it must be, else not a single byte."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from support_bodies import CANARY, NASTY, SEED, frame, fuzzed
from support_tmux import END, START, Recorder, Server, wait_until
from tmux_orchestrator.ground.tmux import Guard, Tmux
from tmux_orchestrator.ground.tmux.bodies import Bodies


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as private:
        yield private


@pytest.fixture(params=[True, False], ids=["kept", "plain"])
def tmux(request: pytest.FixtureRequest, server: Server) -> Iterator[Tmux]:
    with Tmux(server.socket, keep=request.param, run=server.folder + "/run") as client:
        yield client


def nothing_ran(server: Server) -> None:
    """No canary, once whatever tmux may have started before has had its turn."""
    server.tmux("run-shell", "true")
    assert not os.path.exists(CANARY)


def guard_of(recorder: Recorder, **more: object) -> Guard:
    return Guard(recorder.pid, recorder.nonce, **more)  # type: ignore[arg-type]


def test_the_canary_can_sing(server: Server) -> None:
    server.start(["sleep", "1000"])
    with Tmux(server.socket, keep=True, run=server.folder + "/run") as tmux:
        tmux.run("list-panes", "-a", "-F", f"#(touch {CANARY})")
        wait_until(lambda: os.path.exists(CANARY))
        tmux.run("list-panes", "-a", "-F", f"#(touch${{IFS}}{CANARY}-2)")
        wait_until(lambda: os.path.exists(CANARY + "-2"))
    os.unlink(CANARY + "-2")
    os.unlink(CANARY)


def test_bodies_arrive_byte_for_byte(server: Server, tmux: Tmux) -> None:
    recorder = Recorder(server)
    bodies = NASTY + fuzzed(300)
    outcomes = tmux.type_many([(recorder.pane, guard_of(recorder), body.encode(), "Enter") for body in bodies])
    assert set(outcomes) == {"typed"}, f"seed {SEED}"
    expected = b"".join(map(frame, bodies))
    assert recorder.settled() == expected, f"seed {SEED}"
    assert server.tmux("list-buffers") == ""
    nothing_ran(server)


def test_no_key_means_no_enter(server: Server, tmux: Tmux) -> None:
    recorder = Recorder(server)
    assert tmux.type(recorder.pane, guard_of(recorder), b"text") == "typed"
    assert recorder.settled() == START + b"text" + END


def test_a_program_without_bracketed_paste_gets_the_bare_text(server: Server, tmux: Tmux) -> None:
    recorder = Recorder(server, paste=False)
    assert tmux.type(recorder.pane, guard_of(recorder), b"two\nlines", "Enter") == "typed"
    assert recorder.settled() == b"two\nlines\r"


def test_a_large_body_arrives_whole(server: Server, tmux: Tmux) -> None:
    recorder = Recorder(server)
    body = "0123456789" * 30_000
    assert tmux.type(recorder.pane, guard_of(recorder), body.encode(), "Enter") == "typed"
    assert recorder.settled() == frame(body)


def test_keys_are_pressed(server: Server, tmux: Tmux) -> None:
    recorder = Recorder(server)
    keys = ["y", "Enter", "Escape", "C-c", ";", "'", '"', "\\", "#", "$", "-", "~", "{", "}", "Up"]
    assert tmux.press(recorder.pane, guard_of(recorder), keys) == "typed"
    assert recorder.settled() == b"y\r\x1b\x03;'\"\\#$-~{}\x1b[A"


State = Callable[[Server, Recorder], None]


def copy_mode(server: Server, recorder: Recorder) -> None:
    server.tmux("copy-mode", "-t", recorder.pane)


def clock_mode(server: Server, recorder: Recorder) -> None:
    server.tmux("clock-mode", "-t", recorder.pane)


def input_off(server: Server, recorder: Recorder) -> None:
    server.tmux("select-pane", "-d", "-t", recorder.pane)


def synchronized(server: Server, recorder: Recorder) -> None:
    server.tmux("set-option", "-w", "-t", recorder.pane, "synchronize-panes", "on")


def dead(server: Server, recorder: Recorder) -> None:
    os.kill(recorder.pid, 9)
    wait_until(lambda: server.show(recorder.pane, "#{pane_dead}") == "1")


def respawned(server: Server, recorder: Recorder) -> None:
    server.tmux("respawn-pane", "-k", "-t", recorder.pane)
    wait_until(lambda: "ready" in server.screen(recorder.pane))


def other_nonce(server: Server, recorder: Recorder) -> None:
    server.tmux("set-option", "-p", "-t", recorder.pane, "@orc_nonce", "decaf")


def no_nonce(server: Server, recorder: Recorder) -> None:
    server.tmux("set-option", "-p", "-u", "-t", recorder.pane, "@orc_nonce")


def gone(server: Server, recorder: Recorder) -> None:
    server.tmux("kill-pane", "-t", recorder.pane)


STATES: list[tuple[str, State]] = [
    ("copy_mode", copy_mode),
    ("copy_mode", clock_mode),
    ("input_off", input_off),
    ("synchronized", synchronized),
    ("dead", dead),
    ("replaced", respawned),
    ("replaced", other_nonce),
    ("replaced", no_nonce),
    ("gone", gone),
]


@pytest.mark.parametrize(("reason", "enter"), STATES, ids=[state.__name__ for _, state in STATES])
def test_each_state_refuses_and_nothing_is_typed_anywhere(
    server: Server, tmux: Tmux, reason: str, enter: State
) -> None:
    recorder, beside = Recorder(server), Recorder(server)
    server.tmux("join-pane", "-d", "-s", beside.pane, "-t", recorder.pane)
    guard = guard_of(recorder)
    enter(server, recorder)
    assert tmux.type(recorder.pane, guard, b"text", "Enter") == reason
    assert tmux.press(recorder.pane, guard, ["y", "Enter"]) == reason
    assert server.tmux("list-buffers") == ""
    if reason == "synchronized":
        server.tmux("set-option", "-w", "-t", recorder.pane, "synchronize-panes", "off")
    if reason == "input_off":
        server.tmux("select-pane", "-e", "-t", recorder.pane)
    if reason == "copy_mode":
        server.tmux("copy-mode", "-q", "-t", recorder.pane)
    assert beside.settled() == b""
    assert (recorder.recorded() if reason in ("dead", "gone") else recorder.settled()) == b""


@pytest.mark.parametrize(
    ("cue", "words", "outcome"),
    [
        ("Do you want to (proceed|continue)", "Do you want to proceed? ", "dialog"),
        ("Do you want to (proceed|continue)", "Do as you want", "typed"),
        ("x{3}", "axxxb", "dialog"),
        ("x{3}", "axxb", "typed"),
        ("a, b: c", "a, b: c", "dialog"),
        ("issue #7}", "issue #7} is open", "dialog"),
        ("[#]{2}", "##", "dialog"),
        ("#{pane_id}", "%0", "bad_cue"),
        ("(#)[{]pane_id[}]", "%0", "typed"),
        ("(#)[{]pane_id[}]", "#{pane_id}", "dialog"),
        ("#S", "s1", "typed"),
        ("#S", "#S", "dialog"),
        ("100%d", "100%d", "dialog"),
        ("❯ 1[.] Yes", "❯ 1. Yes", "dialog"),
        ("it's", "it's", "dialog"),
        ('"quoted"\\?', '"quoted"?', "dialog"),
        (f"#(touch {CANARY})", "nothing", "typed"),
        ("(unbalanced", "nothing", "bad_cue"),
    ],
)
def test_a_dialog_on_the_screen_refuses(server: Server, tmux: Tmux, cue: str, words: str, outcome: str) -> None:
    recorder = Recorder(server, words)
    guard = guard_of(recorder, absent=("no such words", cue))
    assert tmux.type(recorder.pane, guard, b"text", "Enter") == outcome
    assert recorder.settled() == (START + b"text" + END + b"\r" if outcome == "typed" else b"")
    nothing_ran(server)


def test_only_the_visible_screen_is_searched(server: Server, tmux: Tmux) -> None:
    recorder = Recorder(server, "proceed?" + "\\n" * 40)
    assert tmux.type(recorder.pane, guard_of(recorder, absent=("proceed",)), b"text") == "typed"


def test_a_cursor_that_moved_refuses(server: Server, tmux: Tmux) -> None:
    recorder = Recorder(server, "one\\ntwo ")
    seen = tmux.look([recorder.pane])[recorder.pane].pane
    here = (seen.cursor_x, seen.cursor_y)
    assert tmux.type(recorder.pane, guard_of(recorder, cursor=here), b"a") == "typed"
    for elsewhere in ((here[0] + 1, here[1]), (here[0], here[1] + 1)):
        assert tmux.type(recorder.pane, guard_of(recorder, cursor=elsewhere), b"b") == "moved"
    assert recorder.settled() == START + b"a" + END


def test_an_adopted_pane_must_have_the_agent_in_the_foreground(server: Server, tmux: Tmux) -> None:
    recorder = Recorder(server)
    command = server.show(recorder.pane, "#{pane_current_command}")
    assert tmux.type(recorder.pane, guard_of(recorder, command=command), b"a") == "typed"
    for other in ("bash", "", command + "x", "#{pane_current_command}", f"#(touch {CANARY})", "a,b}c", "%"):
        assert tmux.type(recorder.pane, guard_of(recorder, command=other), b"b") == "not_foreground", other
    assert recorder.settled() == START + b"a" + END
    nothing_ran(server)


def test_a_command_with_a_hostile_name_is_matched_exactly(server: Server, tmux: Tmux) -> None:
    name = f"a,b}}#{{c}}#(touch${{IFS}}{CANARY}):%d"
    pane, pid = server.start(["bash", "-c", 'exec -a "$0" sleep 1000', name])
    server.tmux("set-option", "-p", "-t", pane, "@orc_nonce", "c0ffee")
    wait_until(lambda: server.show(pane, "#{pane_current_command}") == name)
    assert tmux.type(pane, Guard(pid, "c0ffee", command=name), b"a") == "typed"
    assert tmux.type(pane, Guard(pid, "c0ffee", command=name + "x"), b"a") == "not_foreground"
    nothing_ran(server)


@pytest.mark.parametrize(
    "pane", ["", "%", "0", "%x", "dev", "=dev", "dev:1.0", "%1 ", "%1\n", "%1;", "{last}", "!", "+"]
)
def test_only_a_pane_id_is_a_target(server: Server, tmux: Tmux, pane: str) -> None:
    recorder = Recorder(server)
    with pytest.raises(ValueError, match="not a pane id"):
        tmux.type(pane, guard_of(recorder), b"text")
    with pytest.raises(ValueError, match="not a pane id"):
        tmux.press(pane, guard_of(recorder), ["Enter"])
    with pytest.raises(ValueError, match="not a pane id"):
        tmux.look([pane])


@pytest.mark.parametrize("key", ["", "Foo", "text", "Enter ", "C-", "C-xx", "Enter\n", "\x1b", "é", "-l x", "0x41"])
def test_what_is_not_a_key_is_never_typed_as_text(server: Server, tmux: Tmux, key: str) -> None:
    recorder = Recorder(server)
    with pytest.raises(ValueError, match="not a key"):
        tmux.press(recorder.pane, guard_of(recorder), ["Enter", key])
    with pytest.raises(ValueError, match="not a key"):
        tmux.type(recorder.pane, guard_of(recorder), b"text", key)
    assert recorder.settled() == b""


@pytest.mark.parametrize(
    "guard",
    [
        Guard(1, ""),
        Guard(1, "a b"),
        Guard(1, "a}"),
        Guard(1, f"#(touch {CANARY})"),
        Guard(1, "a\n"),
        Guard(1, "a", command="x\nkill-server"),
        Guard(1, "a", command="x\0"),
        Guard(1, "a", absent=("x\nkill-server",)),
        Guard(1, "a", absent=("#[fg=red]",)),
    ],
)
def test_a_guard_that_cannot_be_said_is_refused(server: Server, tmux: Tmux, guard: Guard) -> None:
    recorder = Recorder(server)
    with pytest.raises(ValueError, match=r"nonce|newline|cue"):
        tmux.type(recorder.pane, guard, b"text")


def test_an_empty_text_is_refused(server: Server, tmux: Tmux) -> None:
    recorder = Recorder(server)
    with pytest.raises(ValueError, match="empty"):
        tmux.type(recorder.pane, guard_of(recorder), b"", "Enter")
    assert recorder.settled() == b""


def test_refusals_among_many_leave_the_rest_in_order(server: Server, tmux: Tmux) -> None:
    recorder, other = Recorder(server), Recorder(server)
    frames, expected = [], []
    for i in range(150):
        guard = [guard_of(recorder), guard_of(recorder, cursor=(70, 7)), Guard(1, recorder.nonce)][i % 3]
        pane = recorder.pane if i % 10 else "%999"
        frames.append((pane, guard, b"n%d" % i, "Enter"))
        expected.append("gone" if not i % 10 else ["typed", "moved", "replaced"][i % 3])
    assert tmux.type_many(frames) == expected
    typed = b"".join(frame(f"n{i}") for i, outcome in enumerate(expected) if outcome == "typed")
    assert recorder.settled() == typed
    assert other.settled() == b""
    assert server.tmux("list-buffers") == ""


def test_hooks_of_the_user_do_not_confuse_the_count(server: Server, tmux: Tmux) -> None:
    recorder = Recorder(server)
    noise = "show-options -g status ; show-options -g no-such-option"
    for hook in ("load-buffer", "paste-buffer", "send-keys", "display-message", "list-panes", "set-buffer"):
        server.tmux("set-hook", "-g", f"after-{hook}", noise)
    frames = [(recorder.pane, Guard(pid, recorder.nonce), b"a", "Enter") for pid in (recorder.pid, 1) * 20]
    assert tmux.type_many(frames) == ["typed", "replaced"] * 20
    for hook in ("set-buffer", "paste-buffer"):
        server.tmux("set-hook", "-gu", f"after-{hook}")
    assert recorder.settled() == frame("a") * 20


def test_a_server_that_cannot_read_our_files_gets_the_text_another_way(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(server)
    monkeypatch.setattr(Bodies, "put", lambda *_: "/nonexistent")
    with Tmux(server.socket, keep=True, run=server.folder + "/run") as tmux:
        for pid in (recorder.pid, 1):
            outcome = tmux.type(recorder.pane, Guard(pid, recorder.nonce), b"text", "Enter")
            assert outcome == ("typed" if pid > 1 else "replaced")
    assert recorder.settled() == frame("text")
    assert server.tmux("list-buffers") == ""
