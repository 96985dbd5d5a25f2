"""The kept connection and the plain process: quoting, framing, losing the server, finding it again."""

from __future__ import annotations

import os
import random
import signal
import sys
import textwrap
from collections.abc import Iterator

import pytest

from support_tmux import END, START, Recorder, Server, wait_until
from tmux_orchestrator.ground.errors import UnavailableError
from tmux_orchestrator.ground.tmux import Guard, Tmux, TmuxError, find_socket, server, socket_args
from tmux_orchestrator.ground.tmux.connection import Connection
from tmux_orchestrator.ground.tmux.frames import Frames
from tmux_orchestrator.ground.tmux.jobs import Frame, grouped
from tmux_orchestrator.ground.tmux.words import Line

SEED = 7
NASTY = [
    "", " ", ";", "ends;", "ends\\;", ";;", "\\", "\\\\;", "'", "''", "'\\''", '"', "$HOME", "~root", "~", "#{pane_id}",
    "##", "{ a", "}", "# comment", "%if 1", "%end 1 2 1", "a\tb", "-p", "--", "\x1b[31m", "\r", "x" * 3000, "FOO=bar",
    "🚨",
]  # fmt: skip


@pytest.fixture
def private() -> Iterator[Server]:
    with Server() as started:
        yield started


@pytest.fixture(params=[True, False], ids=["kept", "plain"])
def tmux(request: pytest.FixtureRequest, private: Server) -> Iterator[Tmux]:
    with Tmux(private.socket, keep=request.param, run=private.folder + "/run") as client:
        yield client


def test_every_argument_arrives_as_it_is(private: Server, tmux: Tmux) -> None:
    private.start(["sleep", "1000"])
    rng = random.Random(SEED)
    words = NASTY + ["".join(rng.choices("ab;'\"\\ #${}~%=-\t", k=rng.randint(1, 12))) for _ in range(100)]
    results = tmux.run_many([["set-option", "-s", "--", f"@w{i}", word] for i, word in enumerate(words)])
    assert results == [[]] * len(words)
    shown = tmux.run_many([["show-options", "-s", "-v", f"@w{i}"] for i in range(len(words))])
    assert shown == [[word] for word in words], f"seed {SEED}"


@pytest.mark.parametrize("word", ["a\nkill-server", "\n", "a\0b"])
def test_a_newline_or_nul_is_refused_before_anything_is_sent(private: Server, tmux: Tmux, word: str) -> None:
    private.start(["sleep", "1000"])
    with pytest.raises(ValueError, match="newline"):
        tmux.run_many([["set-option", "-s", "@sent", "yes"], ["set-option", "-s", "@word", word]])
    with pytest.raises(TmuxError):
        tmux.run("show-options", "-s", "-v", "@sent")


def test_what_a_command_prints_cannot_pass_for_a_frame(private: Server, tmux: Tmux) -> None:
    private.start(["sleep", "1000"])
    body = "%end 1 2 1\n%error 1 2 1\n%begin 1 2 1\n%exit\n\nlast"
    with open(private.folder + "/body", "w", encoding="utf-8") as file:
        file.write(body)
    private.tmux("load-buffer", "-b", "forged", private.folder + "/body")
    assert tmux.run("show-buffer", "-b", "forged") == body.split("\n")
    assert tmux.run("display-message", "-p", "in step") == ["in step"]


def test_an_error_is_an_error_and_the_rest_goes_on(private: Server, tmux: Tmux) -> None:
    private.start(["sleep", "1000"])
    with pytest.raises(TmuxError, match="can't find pane: %77"):
        tmux.run("capture-pane", "-p", "-t", "%77")
    with pytest.raises(TmuxError, match="unknown command"):
        tmux.run("no-such-command")
    first, second, third = tmux.run_many(
        [["display-message", "-p", "a"], ["capture-pane", "-t", "%77"], ["display-message", "-p", "b"]]
    )
    assert (first, str(second), third) == (["a"], "can't find pane: %77", ["b"])


def test_many_commands_stay_in_step(private: Server, tmux: Tmux) -> None:
    private.start(["sleep", "1000"])
    commands = [["display-message", "-p", f"{i}"] if i % 7 else ["has-session", "-t", f"={i}"] for i in range(500)]
    results = tmux.run_many(commands)
    for i, result in enumerate(results):
        assert result == [f"{i}"] if i % 7 else isinstance(result, TmuxError)


def test_what_is_done_meanwhile_is_done_once_while_tmux_has_everything(private: Server) -> None:
    recorder = Recorder(private)
    guard, calls = Guard(recorder.pid, recorder.nonce), []

    def meanwhile() -> None:
        calls.append(1)
        wait_until(lambda: recorder.recorded().count(END) == 64)  # tmux goes on by itself

    with Tmux(private.socket, keep=True, run=private.folder + "/run") as tmux:
        assert (
            tmux.type_many([(recorder.pane, guard, b"n%d" % i, None) for i in range(100)], meanwhile) == ["typed"] * 100
        )
    assert calls == [1]


def test_what_fails_meanwhile_leaves_no_answer_for_others(private: Server) -> None:
    recorder = Recorder(private)
    guard = Guard(recorder.pid, recorder.nonce)

    def fail() -> None:
        raise KeyError

    with Tmux(private.socket, keep=True, run=private.folder + "/run") as tmux:
        with pytest.raises(KeyError):
            tmux.type_many([(recorder.pane, guard, b"x", None)], fail)
        assert not tmux.alive
        assert tmux.run("display-message", "-p", "in step") == ["in step"]


def test_nothing_is_sent_when_one_of_many_cannot_be_said(private: Server) -> None:
    private.start(["sleep", "1000"])
    with Tmux(private.socket, keep=True, run=private.folder + "/run") as tmux:
        with pytest.raises(ValueError, match="newline"):
            tmux.run_many([["set-buffer", "-b", "told", "x"], ["set-buffer", "-b", "more", "two\nlines"]])
        assert tmux.run("list-buffers") == []


def test_the_server_is_named_by_pid_and_start(private: Server, tmux: Tmux) -> None:
    private.start(["sleep", "1000"])
    pid, start = tmux.server()
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        assert (pid, start) == (private.pid, int(file.read().rpartition(")")[2].split()[19]))


def test_without_a_server_it_says_so_and_starts_none(private: Server, tmux: Tmux) -> None:
    for call in (
        tmux.panes,
        tmux.server,
        lambda: tmux.run("new-session", "-d", "sleep", "1000"),
        lambda: tmux.look(["%0"]),
        lambda: tmux.type("%0", Guard(1, "a"), b"text"),
        lambda: tmux.press("%0", Guard(1, "a"), ["Enter"]),
    ):
        with pytest.raises(UnavailableError, match="no tmux server"):
            call()
    tmux.end_if_alone()
    assert not os.path.exists(private.socket)


def test_a_server_is_started_when_told(private: Server, tmux: Tmux) -> None:
    tmux.run("new-session", "-d", "-s", "new", "sleep", "1000", start=True)
    assert [pane.session for pane in tmux.panes()] == ["new"]


def test_a_killed_server_is_noticed_and_the_next_one_found(private: Server, tmux: Tmux) -> None:
    recorder = Recorder(private)
    guard = Guard(recorder.pid, recorder.nonce)
    assert tmux.type(recorder.pane, guard, b"one") == "typed"
    first = tmux.server()
    private.kill()
    wait_until(lambda: (tmux.drain(), not tmux.alive)[1])
    with pytest.raises(UnavailableError, match="no tmux server"):
        tmux.type(recorder.pane, guard, b"two")
    os.unlink(private.socket)
    with pytest.raises(UnavailableError, match="no tmux server"):
        tmux.panes()
    again = Recorder(private)
    assert again.pane == recorder.pane, "ids start again with the server"
    assert tmux.type(recorder.pane, guard, b"three") == "replaced"
    assert tmux.type(again.pane, Guard(again.pid, again.nonce), b"four") == "typed"
    assert tmux.server() != first
    assert again.settled() == START + b"four" + END


def test_a_server_that_dies_over_a_batch_leaves_the_truth(private: Server, tmux: Tmux) -> None:
    recorder = Recorder(private)
    guard = Guard(recorder.pid, recorder.nonce)
    assert tmux.type(recorder.pane, guard, b"first") == "typed"
    pid = private.pid
    killer = os.fork()
    if killer == 0:
        wait_until(lambda: recorder.recorded().count(END) > 40)
        os.kill(pid, signal.SIGKILL)
        os._exit(0)
    outcomes = tmux.type_many([(recorder.pane, guard, b"n%d" % i, "Enter") for i in range(5000)])
    os.waitpid(killer, 0)
    typed = outcomes.count("typed")
    assert typed >= 39
    assert outcomes == ["typed"] * typed + ["unknown"] * outcomes.count("unknown") + ["no_server"] * outcomes.count(
        "no_server"
    )
    assert outcomes.count("unknown") <= 64
    assert recorder.recorded().count(END) <= 1 + typed + outcomes.count("unknown")


def test_a_stuck_server_is_given_up_and_the_text_is_revoked(
    private: Server, tmux: Tmux, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(private)
    guard = Guard(recorder.pid, recorder.nonce)
    assert tmux.type(recorder.pane, guard, b"before") == "typed"
    monkeypatch.setattr(server, "DEADLINE", 0.3)
    pid = private.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        outcomes = tmux.type_many([(recorder.pane, guard, b"stuck%d" % i, "Enter") for i in range(70)])
        with pytest.raises(UnavailableError, match=r"did not answer|would not be connected"):
            tmux.run("display-message", "-p", "x", timeout=0.3)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert outcomes[0] == "unknown"
    assert outcomes[-1] == "no_server"
    monkeypatch.setattr(server, "DEADLINE", 10.0)
    assert tmux.type(recorder.pane, guard, b"after") == "typed"
    assert recorder.settled() == START + b"before" + END + START + b"after" + END
    assert private.tmux("list-buffers") == ""


def sessions(private: Server) -> list[str]:
    return private.tmux("list-sessions", "-F", "#{session_name}", check=False).split("\n")


def test_our_session_lives_as_long_as_the_connection(private: Server) -> None:
    private.start(["sleep", "1000"], session="work")
    with Tmux(private.socket, keep=True, run=private.folder + "/run") as tmux:
        assert [pane.session for pane in tmux.panes()] == ["work"]
        assert sessions(private) == ["_orc", "work"]
        assert private.tmux("show-options", "-v", "-t", "=_orc:", "destroy-unattached") == "off"
        with Tmux(private.socket, keep=True, run=private.folder + "/run") as other:
            assert len(other.panes()) == 1
        assert tmux.alive
        assert sessions(private) == ["_orc", "work"]
    assert sessions(private) == ["work"]


def test_our_session_keeps_no_server_alive(private: Server) -> None:
    private.start(["sleep", "1000"], session="work")
    with Tmux(private.socket, keep=True, run=private.folder + "/run") as tmux:
        assert len(tmux.panes()) == 1
        tmux.end_if_alone()
        assert sessions(private) == ["_orc", "work"]
        tmux.drain()
        pid = private.pid
        private.tmux("kill-session", "-t", "=work")
        wait_until(lambda: "%sessions-changed" in tmux.drain())
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
        assert tmux.drain()[-1] == "%exit"
        assert not tmux.alive


def test_a_session_that_a_crash_left_is_used_again(private: Server) -> None:
    private.start(["sleep", "1000"], session="work")
    child = os.fork()
    if child == 0:
        tmux = Tmux(private.socket, keep=True, run=private.folder + "/run")
        tmux.type("%0", Guard(1, "a"), b"left behind")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert sessions(private) == ["_orc", "work"]
    assert len(os.listdir(private.folder + "/run/typing")) == 1
    with Tmux(private.socket, keep=True, run=private.folder + "/run") as tmux:
        assert tmux.type("%0", Guard(1, "a"), b"text") == "replaced"
        assert sessions(private) == ["_orc", "work"]
        (left,) = os.listdir(private.folder + "/run/typing")
        assert left.startswith(f"{os.getpid()}.")
        assert os.stat(f"{private.folder}/run/typing/{left}").st_mode & 0o777 == 0o600
    assert sessions(private) == ["work"]
    assert os.listdir(private.folder + "/run/typing") == []


def test_a_crash_leaves_no_client(private: Server) -> None:
    recorder = Recorder(private)
    for _ in range(5):
        before = len(recorder.recorded())
        child = os.fork()
        if child == 0:
            tmux = Tmux(private.socket, keep=True, run=private.folder + "/run")
            while True:
                tmux.type_many([(recorder.pane, Guard(recorder.pid, recorder.nonce), b"text", "Enter")] * 64)
        wait_until(lambda before=before: len(recorder.recorded()) > before + 5000)  # type: ignore[misc]
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    wait_until(lambda: private.tmux("list-clients") == "", what="the clients' end")


def test_we_are_never_moved_to_a_session_of_somebody_else(private: Server) -> None:
    pane, _ = private.start(["sleep", "1000"], session="work")
    private.tmux("set-option", "-g", "detach-on-destroy", "off")
    with Tmux(private.socket, keep=True, run=private.folder + "/run") as tmux:
        assert len(tmux.panes()) == 1
        private.tmux("kill-session", "-t", "=_orc")
        wait_until(lambda: (tmux.drain(), not tmux.alive)[1])
        wait_until(lambda: private.show(pane, "#{session_attached}") == "0")
        assert len(tmux.panes()) == 1
        assert sessions(private) == ["_orc", "work"]


def test_notifications_come_and_the_end_of_the_server_shows(private: Server) -> None:
    private.start(["sleep", "1000"])
    with Tmux(private.socket, keep=True, run=private.folder + "/run") as tmux:
        assert not tmux.alive
        assert tmux.fileno() >= 0
        assert tmux.alive
        tmux.drain()
        private.start(["sleep", "1000"])
        seen: list[str] = []
        wait_until(lambda: seen.extend(tmux.drain()) or "%sessions-changed" in seen)
        private.kill()
        wait_until(lambda: (tmux.drain(), not tmux.alive)[1])


def test_the_connection_sizes_nothing(private: Server) -> None:
    pane, _ = private.start(["sleep", "1000"])
    before = private.show(pane, "#{window_width}x#{window_height}")
    with Tmux(private.socket, keep=True, run=private.folder + "/run") as tmux:
        assert [f"{pane.width}x{pane.height}" for pane in tmux.panes()] == [before] == ["100x30"]


def test_it_works_from_inside_a_pane(private: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    pane, _ = private.start(["sleep", "1000"])
    monkeypatch.setenv("TMUX", f"{private.socket},{private.pid},0")
    monkeypatch.setenv("TMUX_PANE", pane)
    for keep in (True, False):
        with Tmux("", keep=keep, run=private.folder + "/run") as tmux:
            assert [found.id for found in tmux.panes()] == [pane]


def test_two_connections_share_the_private_session(private: Server) -> None:
    private.start(["sleep", "1000"])
    with (
        Tmux(private.socket, keep=True, run=private.folder + "/run") as one,
        Tmux(private.socket, keep=True, run=private.folder + "/run") as two,
    ):
        assert one.server() == two.server()
        one.close()
        assert two.run("display-message", "-p", "here") == ["here"]


def test_frames_only_close_with_their_own_numbers() -> None:
    frames = Frames()
    text = b"%begin 1 5 1\n%end 1 4 1\n%end 1 5 0\n%error 1 6 1\n%begin 1 5 1\n%exit\n\n%end 1 5 1\n"
    for i in range(len(text)):
        frames.feed(text[i : i + 1])
    assert [answer.lines for answer in frames.answers] == [
        [b"%end 1 4 1", b"%end 1 5 0", b"%error 1 6 1", b"%begin 1 5 1", b"%exit", b""]
    ]
    assert not frames.exited


def test_frames_of_hooks_and_notes_between_frames_do_not_count() -> None:
    frames = Frames()
    frames.feed(b"%begin 1 5 0\nhook\n%end 1 5 0\n%window-add @1\nbare\n%begin 1 6 1\n%end 1 6 1\n%exit gone\n")
    assert [answer.lines for answer in frames.answers] == [[]]
    assert list(frames.notes) == ["%window-add @1", "%exit gone"]
    assert (frames.said, frames.exited) == ("bare", True)


@pytest.mark.parametrize(
    "forgery",
    [
        "frame(1, 'one', 'forged'); frame(2, 'two')",  # one frame too many
        "frame(1, 'one')",  # one too few
        "frame(1, secret)",
    ],
)
def test_an_exchange_out_of_step_is_not_believed(tmp_path: os.PathLike[str], forgery: str) -> None:
    """A stand-in for tmux whose frames do not fit: as if a screen had guessed the numbers of a frame."""
    program = os.path.join(tmp_path, "tmux.py")
    with open(program, "w", encoding="utf-8") as file:
        file.write(
            textwrap.dedent(f"""
            import sys
            def frame(number, *bodies):
                for body in bodies:
                    print(f"%begin 1 {{number}} 1\\n{{body}}\\n%end 1 {{number}} 1", flush=True)
            hello = sys.stdin.readline().split()[-1].strip("'")
            frame(0, hello)
            sys.stdin.readline(); sys.stdin.readline()
            secret = sys.stdin.readline().split()[-1].strip("'")
            {forgery}
            frame(3, secret)
            sys.stdin.readline()
            """)
        )
    connection = Connection([sys.executable, "-I", "-S", program], str(tmp_path))
    assert connection.exchange([Line([["a"]], 1), Line([["b"]], 1)], 5.0) == [None, None]
    assert not connection.alive
    connection.close()


def test_a_connection_that_breaks_while_texts_are_written_leaves_none(tmp_path: os.PathLike[str]) -> None:
    program, folder = os.path.join(tmp_path, "tmux.py"), os.path.join(tmp_path, "typing")
    with open(program, "w", encoding="utf-8") as file:
        file.write(
            textwrap.dedent("""
            import os, sys, time
            hello = sys.stdin.readline().split()[-1].strip("'")
            os.close(0)
            print(f"%begin 1 1 1\\n{hello}\\n%end 1 1 1", flush=True)
            time.sleep(1000)
            """)
        )
    connection = Connection([sys.executable, "-I", "-S", program], folder)
    lines = [Line([["a"]], 1, [(f"b{number}", b"secret")]) for number in range(5)]
    assert connection.exchange(lines, 5.0) == [None] * 5
    assert not connection.alive
    assert os.listdir(folder) == []


def test_a_home_with_a_hostile_name_runs_nothing(private: Server) -> None:
    canary = private.folder + "/canary"
    private.env["CANARY"] = canary
    folder = private.folder + "/it's #(touch $CANARY) $(touch $CANARY) #{pane_id} \"x; y"
    recorder = Recorder(private)
    with Tmux(private.socket, keep=True, run=folder) as tmux:
        assert tmux.type(recorder.pane, Guard(recorder.pid, recorder.nonce), b"text") == "typed"
        assert len(os.listdir(folder + "/typing")) == 1
        private.tmux("run-shell", "true")
        assert not os.path.exists(canary)
        tmux.run("list-panes", "-a", "-F", "#(touch $CANARY)")
        wait_until(lambda: os.path.exists(canary), what="the canary of an expanded format")
    assert recorder.settled() == START + b"text" + END


def test_texts_go_together_only_behind_one_guard() -> None:
    guard, still = Guard(1, "a"), Guard(1, "a", cursor=(0, 0))
    frames: list[Frame] = [("%1", guard, b"x", None) for _ in range(20)]
    frames += [("%2", guard, b"x", None), *[("%2", still, b"x", None) for _ in range(3)]]
    assert [len(group) for group in grouped(frames)] == [8, 8, 4, 1, 1, 1, 1]
    assert [frame for group in grouped(frames) for frame in group] == frames


def test_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    assert socket_args("") == []
    assert socket_args("work") == ["-L", "work"]
    assert socket_args("/run/a b") == ["-S", "/run/a b"]
    monkeypatch.delenv("ORC_TMUX_SOCKET", raising=False)
    assert find_socket("work") == "work"
    monkeypatch.setenv("ORC_TMUX_SOCKET", "/x/y")
    assert find_socket("work") == "/x/y"
