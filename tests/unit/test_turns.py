"""What an agent does, from its hooks' last word and from its screen: each pair, by the word's age."""

from __future__ import annotations

import os

import pytest

from tmux_orchestrator.agents import turns
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.agents.signs import Sign
from tmux_orchestrator.agents.turns import HOOK, SCREEN, Memory, Verdict
from tmux_orchestrator.ground import clock

NOW = 1_800_000_000 * 10**9
AGENT = Agent({"name": "dev", "session": "s", "pid": os.getpid()})


def said(state: str, age: float = 0.0, limited_until: str = "") -> Sign:
    at = NOW - int(age * 1e9)
    return Sign({"state": state, "since": at, "at": at, "limited_until": limited_until})


@pytest.mark.parametrize("shown", ["idle", "working", "waiting", "limited", "unknown"])
def test_without_a_hook_the_screen_is_believed(shown: str) -> None:
    assert turns.weigh(None, shown, NOW) == Verdict(shown, SCREEN)
    assert turns.weigh(said(""), shown, NOW) == Verdict(shown, SCREEN)


@pytest.mark.parametrize("state", ["idle", "working", "waiting", "limited"])
@pytest.mark.parametrize("age", [0, 1e6])
def test_a_screen_that_says_the_same_or_nothing_leaves_the_word(state: str, age: float) -> None:
    assert turns.weigh(said(state, age), state, NOW) == Verdict(state, HOOK)
    assert turns.weigh(said(state, age), "unknown", NOW) == Verdict(state, HOOK)


# what the hooks said, seconds ago, what the screen shows -> what it is, by whose word
TABLE = [
    ("working", 1, "idle", "working", HOOK),  # not drawn yet
    ("working", 29, "idle", "working", HOOK),
    ("working", 31, "idle", "idle", SCREEN),  # Esc sent no hook
    ("working", 1, "limited", "working", HOOK),  # a new prompt, and the banner of the last turn
    ("working", 3, "limited", "limited", SCREEN),  # Codex has no hook for a limit
    ("working", 0, "waiting", "waiting", SCREEN),  # a menu, or a dialog that no hook told
    ("idle", 1, "working", "idle", HOOK),  # the spinner of the turn that has ended
    ("idle", 3, "working", "working", SCREEN),  # a visible spinner outranks an old idle
    ("idle", 3, "limited", "limited", SCREEN),
    ("idle", 0, "waiting", "waiting", SCREEN),
    ("waiting", 9, "idle", "waiting", HOOK),  # a dialog that is not drawn yet, or that no profile knows
    ("waiting", 9, "working", "waiting", HOOK),
    ("waiting", 11, "idle", "idle", SCREEN),  # denied by Esc: no hook
    ("waiting", 11, "working", "working", SCREEN),  # granted: no hook until the tool has run
    ("limited", 1, "working", "limited", HOOK),
    ("limited", 3, "working", "working", SCREEN),  # it tries again
    ("limited", 299, "idle", "limited", HOOK),
    ("limited", 301, "idle", "idle", SCREEN),
    ("limited", 0, "waiting", "waiting", SCREEN),
]


@pytest.mark.parametrize(("state", "age", "shown", "expected", "source"), TABLE)
def test_the_word_against_the_screen(state: str, age: float, shown: str, expected: str, source: str) -> None:
    assert turns.weigh(said(state, age), shown, NOW) == Verdict(expected, source)


def test_every_pair_that_differs_has_its_row() -> None:
    states = ("idle", "working", "waiting", "limited")
    missing = {(a, b) for a in states for b in states if a != b} - {row[0:3:2] for row in TABLE}
    assert missing == {("waiting", "limited")}, "as ('waiting', 'idle')"


def test_a_limit_stands_until_its_end() -> None:
    later, earlier = clock.stamp(NOW + 10**9), clock.stamp(NOW - 10**9)
    assert turns.weigh(said("limited", 9000, later), "idle", NOW) == Verdict("limited", HOOK)
    assert turns.weigh(said("limited", 9, earlier), "idle", NOW) == Verdict("idle", SCREEN)


def test_a_clock_that_ran_back_does_not_make_a_word_old() -> None:
    assert turns.weigh(said("working", -3600), "idle", NOW) == Verdict("working", HOOK)


def test_the_second_look_is_believed_and_the_first_is_not() -> None:
    memory, sign = Memory(), said("working", 5)
    assert not memory.again(AGENT, sign, "idle", NOW)
    assert not memory.again(AGENT, sign, "idle", NOW + 10**8), "too soon to be another picture"
    assert memory.again(AGENT, sign, "idle", NOW + 2 * 10**9)
    assert turns.weigh(sign, "idle", NOW, again=True) == Verdict("idle", SCREEN)


@pytest.mark.parametrize("between", ["working", "unknown", "limited"])
def test_what_was_seen_once_does_not_count_when_something_else_was_seen_since(between: str) -> None:
    memory, sign = Memory(), said("working", 5)
    memory.again(AGENT, sign, "idle", NOW)
    memory.again(AGENT, sign, between, NOW + 10**9)
    assert not memory.again(AGENT, sign, "idle", NOW + 2 * 10**9)


def test_a_new_word_begins_anew() -> None:
    memory = Memory()
    memory.again(AGENT, said("working", 5), "idle", NOW)
    assert not memory.again(AGENT, said("working", 0), "idle", NOW + 2 * 10**9)
