"""What is known of agents over time: samples that must agree, work that shows nothing, restarts of the monitor."""

from __future__ import annotations

from pathlib import Path

import pytest

from support_watch import MINUTE, SECOND, agent, seen
from tmux_orchestrator.agents import since
from tmux_orchestrator.agents.signs import Sign
from tmux_orchestrator.agents.since import UNRESPONSIVE
from tmux_orchestrator.agents.state import Seen
from tmux_orchestrator.ground import clock, files
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.watch.lives import Lives

SILENCE = 10 * MINUTE


class Watcher:
    """Looks at agents at times of its own."""

    def __init__(self) -> None:
        self.lives = Lives()
        self.now = 1_000 * MINUTE

    def look(self, *those: Seen, after: int = 5 * SECOND, sign: Sign | None = None) -> str:
        self.now += after
        self.lives.woke(self.now, 20 * SECOND)
        signs = {one.agent.key: sign for one in those}
        self.lives.take(those, signs, self.now, SILENCE)
        return self.lives.of[those[0].agent.key].state


@pytest.mark.parametrize("state", ["idle", "waiting", "limited", "unknown"])
def test_what_only_a_screen_says_counts_when_two_looks_in_a_row_say_it(state: str) -> None:
    watcher = Watcher()
    assert watcher.look(seen("working")) == "working"
    assert watcher.look(seen(state)) == "working"
    assert watcher.look(seen("working")) == "working", "it was a gap between two tool calls"
    assert watcher.look(seen(state)) == "working"
    assert watcher.look(seen(state)) == state


@pytest.mark.parametrize("one", [seen("idle", certain=True), seen("dead"), seen("gone")])
def test_what_is_certain_counts_at_once(one: Seen) -> None:
    watcher = Watcher()
    watcher.look(seen("working"))
    assert watcher.look(one) == one.state


def test_work_counts_at_once() -> None:
    watcher = Watcher()
    watcher.look(seen("idle"))
    assert watcher.look(seen("working")) == "working"


def test_work_that_shows_nothing_is_unresponsive_until_something_moves() -> None:
    watcher = Watcher()
    watcher.look(seen("working", text="1"))
    for _ in range(2 * 60):
        state = watcher.look(seen("working", text="1"))
    assert state == UNRESPONSIVE
    assert watcher.lives.of["web:dev"].since == watcher.now
    assert watcher.look(seen("working", text="1")) == UNRESPONSIVE
    assert watcher.look(seen("working", text="2")) == "working"


def test_a_screen_that_moves_or_a_hook_that_speaks_is_a_sign_of_life() -> None:
    watcher = Watcher()
    for number in range(3 * 60):
        assert watcher.look(seen("working", text=str(number))) == "working"
    for _ in range(3 * 60):
        spoke = Sign({"at": clock.now_ns() - SECOND})
        assert watcher.look(seen("working", text="1"), sign=spoke) == "working"


def test_nobody_is_blamed_for_a_time_in_which_nobody_looked() -> None:
    watcher = Watcher()
    watcher.look(seen("working", text="1"))
    assert watcher.look(seen("working", text="1"), after=60 * MINUTE) == "working"


def test_a_question_counts_when_it_is_drawn_whole() -> None:
    watcher = Watcher()
    said = []
    for text in ("Perm", "Permission: run", "Permission: run?", "Permission: run?"):
        watcher.look(seen("waiting", text=text))
        said.append(watcher.lives.of["web:dev"].question)
    assert said == ["", "", "", "Permission: run?"]


def test_since_when_it_is_so() -> None:
    watcher = Watcher()
    watcher.look(seen("working"))
    watcher.look(seen("idle"))
    watcher.look(seen("idle"))
    begun = watcher.now
    for _ in range(5):
        watcher.look(seen("idle", text="a clock on the status line"))
    assert watcher.lives.of["web:dev"].since == begun


def test_another_process_of_the_name_is_another_life() -> None:
    watcher = Watcher()
    watcher.look(seen("working"))
    assert watcher.lives.of["web:dev"].busied
    watcher.look(seen("idle", pid=1, pid_start=1))
    assert not watcher.lives.of["web:dev"].busied and watcher.lives.of["web:dev"].since == watcher.now
    watcher.lives.keep_only([agent("qa")])
    assert watcher.lives.of == {}


def test_what_a_prompt_held_is_a_briefing() -> None:
    watcher = Watcher()
    watcher.look(seen("idle"), sign=Sign({"at": 1}))
    assert not watcher.lives.of["web:dev"].busied
    watcher.look(seen("idle"), sign=Sign({"at": 1, "taken": [["ABCDEF", 1]]}))
    assert watcher.lives.of["web:dev"].busied


def test_the_next_life_of_the_monitor_goes_on(tmp_path: Path) -> None:
    home = Home(str(tmp_path))
    files.make_dir(home.run)
    watcher = Watcher()
    watcher.look(seen("working", "dev"), seen("idle", "qa"))
    watcher.lives.of["web:qa"].stamp -= 20 * MINUTE
    watcher.lives.save(home)
    again = Watcher()
    again.lives.load(home)
    again.look(seen("idle", "dev"), seen("idle", "qa"))
    dev, qa = again.lives.of["web:dev"], again.lives.of["web:qa"]
    assert dev.since == again.now and dev.busied, "another state begins now"
    assert 20 * MINUTE <= again.now - qa.since < 21 * MINUTE and not qa.busied
    (shown,) = listed = [seen("idle", "qa")]
    since.fill(listed, since.load(home))
    assert shown.since == clock.stamp(watcher.lives.of["web:qa"].stamp)
    other = Watcher()
    other.lives.load(home)
    other.look(seen("idle", "qa", pid=1, pid_start=7))
    assert other.lives.of["web:qa"].since == other.now, "another process"


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[1]", b'{"web:dev": [1, 2, 3]}', b'{"web:dev": [1, 2, "idle", "x", true]}']
)
def test_a_damaged_file_counts_as_none(tmp_path: Path, data: bytes) -> None:
    home = Home(str(tmp_path))
    files.make_dir(home.run)
    files.replace(home.run + "/lives.json", data)
    watcher = Watcher()
    watcher.lives.load(home)
    assert watcher.look(seen("idle")) == "idle"
    assert agent().key == "web:dev"


def test_who_lists_the_agents_hears_of_one_that_does_not_move(tmp_path: Path) -> None:
    kept = {"web:dev": since.Kept(agent().pid, agent().pid_start, UNRESPONSIVE, clock.now_ns(), True)}
    works, idle, other = seen("working"), seen("idle"), seen("working", pid=1, pid_start=1)
    since.fill([works, idle, other], kept)
    assert [one.state for one in (works, idle, other)] == [UNRESPONSIVE, "idle", "working"]
    assert works.since is not None and idle.since is None


def test_nobody_is_said_to_have_been_idle_in_a_time_in_which_nobody_looked() -> None:
    watcher = Watcher()
    for _ in range(3):
        watcher.look(seen("idle"))
    life = watcher.lives.of["web:dev"]
    assert watcher.now - life.since == 10 * SECOND
    watcher.look(seen("idle"), after=MINUTE)
    assert watcher.now == life.since


def test_a_hooks_word_from_before_the_clock_ran_back_is_no_sign_of_life_for_ever() -> None:
    watcher = Watcher()
    said = Sign({"state": "working", "at": clock.now_ns() + 60 * MINUTE})
    assert watcher.look(seen("working"), sign=said) == "working"
    for _ in range(SILENCE // (5 * SECOND)):
        watcher.look(seen("working"), sign=said)
    assert watcher.lives.of["web:dev"].state == UNRESPONSIVE
