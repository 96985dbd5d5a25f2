"""Looking at panes and typing into them, with a tmux that answers as it is told."""

from __future__ import annotations

import os
import pty
import tty
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from tmux_orchestrator.agents import profiles
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.agents.screen import Screen
from tmux_orchestrator.delivery.typist import Typist, View, _hold
from tmux_orchestrator.ground import clock, proc, tmux
from tmux_orchestrator.ground.errors import UnavailableError
from tmux_orchestrator.ground.tmux import Pane, Screenshot

SECOND = 1_000_000_000
BOX = ["● Done", "", "▁" * 60, "▸ \x1b[2mSay what to do\x1b[0m", "▔" * 60, "  enter sends"]


class Server:
    """Stands for `ground.tmux.Tmux`; one per socket, however often it is connected to."""

    there = True
    made: ClassVar[list[str]] = []
    shots: ClassVar[dict[str, Screenshot]] = {}
    typed: ClassVar[list[Any]] = []
    looked: ClassVar[list[list[str]]] = []

    def __init__(self, socket: str, keep: bool = False) -> None:
        if not keep:
            raise AssertionError("the typist keeps its connections")
        self.socket, self.alive = socket, True
        Server.made.append(socket)

    def _ask(self) -> None:
        if not Server.there:
            self.alive = False
            raise UnavailableError("no tmux server")

    def server(self) -> tuple[int, int]:
        self._ask()
        return 1, 1

    def look(self, panes: list[str]) -> dict[str, Screenshot]:
        self._ask()
        Server.looked.append(list(panes))
        return {pane: Server.shots[pane] for pane in panes if pane in Server.shots}

    def type_many(self, frames: list[Any], meanwhile: Callable[[], None] | None = None) -> list[str]:
        self._ask()
        if meanwhile is not None:
            meanwhile()
        Server.typed += frames
        return ["typed"] * len(frames)

    def press(self, pane: str, guard: tmux.Guard, keys: list[str]) -> str:
        self._ask()
        Server.typed.append((pane, guard, keys))
        return "dead"

    def close(self) -> None:
        self.alive = False

    def panes(self) -> list[Pane]:
        self._ask()
        return []

    def drain(self) -> list[str]:
        self._ask()
        return []


@pytest.fixture(autouse=True)
def _server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tmux, "Tmux", Server)
    for name, fresh in (("made", []), ("shots", {}), ("typed", []), ("looked", [])):
        monkeypatch.setattr(Server, name, fresh)
    monkeypatch.setattr(Server, "there", True)


class Boot:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = clock.boot_ns()
        monkeypatch.setattr(clock, "boot_ns", lambda: self.now)


@pytest.fixture
def boot(monkeypatch: pytest.MonkeyPatch) -> Boot:
    return Boot(monkeypatch)


def agent(name: str = "dev", **fields: Any) -> Agent:
    mine = os.getpid()
    given = {"name": name, "session": "team", "pid": mine, "pid_start": proc.start_time(mine), "nonce": "c0ffee"}
    return Agent(given | {"pane": "%1", "profile": "plain"} | fields)


def shot(lines: list[str], **changed: Any) -> Screenshot:
    given = {"id": "%1", "pid": os.getpid(), "nonce": "c0ffee", "command": "python", "cursor_x": 2, "cursor_y": 3}
    flags = {"dead": False, "in_mode": False, "input_off": False, "synchronized": False}
    pane = Pane(**dict.fromkeys(Pane.__slots__, "") | flags | given | changed)  # type: ignore[arg-type]
    return Screenshot(pane, lines)


def typist() -> Typist:
    return Typist(profiles.load({}), "socket")


def view(one: Agent, closely: bool = False) -> View:
    return typist().look([one], {one.key} if closely else set())[one.key]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, ""),
        ({"in_mode": True}, "copy_mode"),
        ({"input_off": True}, "input_off"),
        ({"synchronized": True}, "synchronized"),
        ({"dead": True}, "agent_gone"),
        ({"pid": 1}, "agent_gone"),
        ({"nonce": "other"}, "agent_gone"),
    ],
)
@pytest.mark.parametrize("profile", ["demo", "plain"])
def test_what_a_pane_is_held_for(profile: str, changed: dict[str, Any], reason: str) -> None:
    Server.shots["%1"] = shot(BOX, **changed)
    seen = view(agent(profile=profile), closely=True)
    assert seen.reason == reason
    assert (seen.guard is None) == (reason != "")


def test_a_pane_that_is_not_there_is_gone() -> None:
    assert view(agent(profile="demo")).reason == "agent_gone"


def test_a_dead_process_is_not_even_looked_for() -> None:
    assert view(agent(pid=999_999_999, profile="demo")).reason == "agent_gone"
    assert view(agent(pid_start=1)).reason == "agent_gone"
    assert Server.made == []


def test_an_adopted_pane_with_another_program_in_front_is_left_alone() -> None:
    Server.shots["%1"] = shot(BOX, command="bash")
    assert view(agent(profile="demo", command="claude")).reason == "not_foreground"
    assert view(agent(profile="demo", command="bash")).reason == ""


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (BOX, ""),
        ([*BOX[:3], "▸ half a thought", *BOX[4:]], "draft"),
        (BOX[:3], "no_composer"),
        ([], "no_composer"),
        (["━" * 40, "Run this command?", "▸ 1. Yes", "  2. No", " Enter chooses"], "dialog"),
    ],
)
def test_what_a_screen_is_held_for(lines: list[str], reason: str) -> None:
    Server.shots["%1"] = shot(lines)
    assert view(agent(profile="demo")).reason == reason


def test_an_agent_that_is_limited_or_must_not_be_disturbed_is_held() -> None:
    profile = profiles.load({})["demo"]
    assert _hold(profile, Screen("limited", "empty")) == "limited"
    assert _hold(replace(profile, when_busy="hold"), Screen("working", "empty")) == "busy"
    assert _hold(replace(profile, when_busy="type"), Screen("working", "empty")) == ""


def test_the_guard_says_what_was_seen() -> None:
    Server.shots["%1"] = shot(BOX)
    guard = view(agent(profile="demo")).guard
    assert guard is not None and guard.cursor == (2, 3) and guard.absent and guard.nonce == "c0ffee"
    plain = view(agent(command="claude")).guard
    assert plain is not None and plain.cursor is None and plain.command == "claude"
    assert Server.looked == [["%1"]], "a plain program need not be looked at"


def test_a_server_that_leaves_unasked_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    Server.shots["%1"] = shot(BOX)
    one = typist()
    one.look([agent(profile="demo")], set())
    monkeypatch.setattr(Server, "there", False)
    one.drain()
    assert one.descriptors() == []


def test_the_panes_of_a_server_are_looked_at_in_one_go() -> None:
    there = [agent(f"a{n}", profile="demo", pane=f"%{n}", socket="/x" if n == 3 else "") for n in range(4)]
    for n in range(4):
        Server.shots[f"%{n}"] = shot(BOX)
    views = typist().look(there, set())
    assert [views[one.key].reason for one in there] == [""] * 4
    assert Server.looked == [["%0", "%1", "%2"], ["%3"]] and Server.made == ["socket", "/x"]


def test_frames_keep_their_order_over_several_servers() -> None:
    one = typist()
    there = [agent(f"a{n}", pane=f"%{n}", socket="/x" if n % 2 else "") for n in range(4)]
    guard = tmux.Guard(1, "c0ffee")
    assert one.type([(a, View("", guard), f"text {a.name}") for a in there]) == ["typed"] * 4
    assert [frame[2] for frame in Server.typed] == [b"text a0", b"text a2", b"text a1", b"text a3"]
    assert {frame[3] for frame in Server.typed} == {"Enter"}


def test_a_profile_with_a_pause_gets_its_key_later() -> None:
    one, there = typist(), agent(profile="claude")
    one.type([(there, View("", tmux.Guard(1, "c0ffee")), "text")])
    assert Server.typed[-1][3] is None
    assert one.submit(there) == "agent_gone"
    _, guard, keys = Server.typed[-1]
    assert keys == ["Enter"] and guard.cursor is None and guard.absent


def test_a_server_that_is_away_is_asked_again_with_patience(boot: Boot) -> None:
    one, there = typist(), agent(profile="demo")
    Server.there = False
    for _ in range(400):
        assert one.look([there], set())[there.key].reason == "no_server"
        boot.now += SECOND // 10
    assert 8 <= len(Server.made) <= 20, "40 seconds, with pauses that grow to five"
    Server.there = True
    Server.shots["%1"] = shot(BOX)
    boot.now += 5 * SECOND
    assert one.look([there], set())[there.key].reason == ""
    assert len(one.descriptors()) == 1


def test_a_server_that_leaves_in_the_middle_types_nothing_and_is_connected_to_again(boot: Boot) -> None:
    one, there = typist(), agent(profile="demo")
    Server.shots["%1"] = shot(BOX)
    seen = one.look([there], set())[there.key]
    Server.there = False
    assert one.type([(there, seen, "text")]) == ["no_server"]
    assert one.submit(there) == "no_server"
    assert one.panes() == [] and one.descriptors() == []
    Server.there = True
    one.panes()
    assert len(one.descriptors()) == 1, "whoever asks for the panes does not wait for the next try"
    boot.now += SECOND
    assert one.look([there], set())[there.key].reason == ""


def test_a_full_screen_program_gets_nothing_before_it_has_taken_its_terminal_over(boot: Boot) -> None:
    """It would throw away what came before that."""
    child, terminal = pty.fork()
    if child == 0:
        os.write(1, b"!")
        os.read(0, 1)
        os._exit(0)
    assert os.read(terminal, 1) == b"!", "the terminal is the child's own from now on"
    try:
        start = proc.start_time(child) or 0
        one = agent(pid=child, pid_start=start)
        boot.now = start * SECOND // os.sysconf("SC_CLK_TCK") + SECOND
        assert view(one).reason == "starting"
        boot.now += 5 * SECOND  # one that reads lines all its life gets its messages all the same
        assert view(one).reason == ""
        boot.now -= 5 * SECOND
        tty.setraw(terminal)
        assert view(one).reason == ""
    finally:
        os.write(terminal, b"x\n")
        os.waitpid(child, 0)
        os.close(terminal)


# what is seen


def test_a_mark_is_found_however_it_is_wrapped() -> None:
    wrapped = View("", None, Screen("idle", text=["  > [📨 from ada #ABC", "    123] the text"]))
    assert wrapped.shows("#ABC123]") and not wrapped.drafts("#ABC123]")
    assert not View("no_server").shows("#ABC123]")


def test_an_input_box_that_holds_our_text_or_hides_a_paste() -> None:
    ours = View("draft", None, Screen("idle", "draft", draft="[📨 from ada #ABC123] the\ntext"))
    hidden = View("draft", None, Screen("idle", "draft", draft="[Pasted text #1 +20 lines]"))
    other = View("draft", None, Screen("idle", "draft", draft="half a thought"))
    assert ours.drafts("#ABC123]") and ours.in_composer("#ABC123]")
    assert not hidden.drafts("#ABC123]") and hidden.in_composer("#ABC123]")
    assert not other.in_composer("#ABC123]") and not View("").in_composer("#ABC123]")


def test_a_screen_that_never_stands_still_is_typed_into_without_its_cursor() -> None:
    seen = View("", tmux.Guard(1, "c0ffee", cursor=(1, 2), absent=("cue",)))
    seen.ignore_cursor()
    assert seen.guard == tmux.Guard(1, "c0ffee", absent=("cue",))
    View("draft").ignore_cursor()
