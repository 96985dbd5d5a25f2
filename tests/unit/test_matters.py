"""What is worth telling, by what the agents do: one matter hides another, and prose is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from support_watch import MINUTE, SECOND, seen, settings
from tmux_orchestrator.agents.since import UNRESPONSIVE
from tmux_orchestrator.agents.state import Seen
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.watch import matters
from tmux_orchestrator.watch.lives import Life
from tmux_orchestrator.watch.matters import Matter

NOW = 1_000 * MINUTE


@pytest.fixture
def usual(tmp_path: Path) -> Config:
    return settings(str(tmp_path), "recovery: {grace_s: 0}\n")


def life(one: Seen, minutes: float = 0, busied: bool = True, state: str = "") -> Life:
    since = NOW - int(minutes * MINUTE)
    asked = one.screen.question if one.screen else ""
    return Life(one, state or one.state, since, 0, since, busied, question=asked)


def told(settings: Config, *lives: Life) -> list[tuple[str, str]]:
    return [(one.kind, one.subject) for one in matters.standing(lives, settings, NOW)]


@pytest.mark.parametrize(
    ("one", "kind", "words"),
    [
        (life(seen("dead")), "dead", "web:dev died: ended by signal 9: orc-agent restart web:dev"),
        (life(seen("dead", "pm", role="pm")), "pm_dead", "PM crash detected web:pm - ended by signal 9"),
        (life(seen("waiting", text="Run rm -rf build?")), "waiting", "waits for an answer: Run rm -rf build?"),
        (life(seen("limited", text="3am")), "limited", "has reached its usage limit, until 3am"),
        (life(seen("working"), 12, state=UNRESPONSIVE), UNRESPONSIVE, "unresponsive 12min - nothing moves"),
        (life(seen("idle"), 15), "idle", "Agent web:dev idle 15min - investigate or restart"),
        (life(seen("idle"), 1, busied=False), "fresh", "Fresh agent web:dev has no briefing yet"),
    ],
)
def test_each_kind_and_its_words(usual: Config, one: Life, kind: str, words: str) -> None:
    (found,) = matters.standing([one], usual, NOW)
    assert found.kind == kind and words in found.text
    assert found.context["agent"] == one.key and found.context["session"] == "web"
    assert found.context["issue_type"] == kind


@pytest.mark.parametrize(
    "one",
    [
        life(seen("working"), 60),
        life(seen("idle"), 14.9),
        life(seen("gone"), 60),
        life(seen("unknown"), 60),
        life(seen("starting"), 60),
        life(seen("idle", paused=True), 60),
        life(seen("waiting", text="x?", paused=True), 60),
        life(seen("idle", "pm", role="pm"), 1, busied=False),
    ],
)
def test_what_is_no_matter(usual: Config, one: Life) -> None:
    assert told(usual, one) == []


def test_a_new_agent_is_not_judged_in_its_first_minutes(tmp_path: Path) -> None:
    strict = settings(str(tmp_path), "recovery: {grace_s: 604800}\n".replace("604800", "86400"))
    assert told(strict, life(seen("idle"), 1, busied=False)) == []


def test_a_team_that_is_idle_is_one_matter(usual: Config) -> None:
    those = [life(seen("idle", name), minutes) for name, minutes in (("dev", 40), ("qa", 20), ("ops", 60))]
    (found,) = matters.standing(those, usual, NOW)
    assert (found.kind, found.subject) == ("team_idle", "web")
    assert found.text == "Team idle 20min: all 3 agents of session web wait for work"
    those[1] = life(seen("working", "qa"))
    assert told(usual, *those) == [("idle", "web:dev"), ("idle", "web:ops")]
    those[2] = life(seen("idle", "pm", role="pm"), 60)
    assert told(usual, *those) == [("idle", "web:dev")], "who is on call may wait"
    dead = [life(seen("dead", "dev")), life(seen("dead", "qa"))]
    assert told(usual, *dead) == [("dead", "web:dev"), ("dead", "web:qa")], "no idle alarm for a dead session"


def test_of_a_team_with_somebody_whom_nobody_can_read_it_is_not_said_that_all_are_idle(usual: Config) -> None:
    those = [life(seen("idle", "dev"), 40), life(seen("idle", "qa"), 40), life(seen("unknown", "ops"), 40)]
    assert told(usual, *those) == [("idle", "web:dev"), ("idle", "web:qa")]


def test_what_stood_of_somebody_stands_while_nobody_knows() -> None:
    limit = Matter("limited", "web:dev", "limited")
    for now, expected in (("unknown", [limit]), ("idle", []), ("dead", [])):
        assert matters.kept([limit], {"web:dev": life(seen(now))}) == expected
    assert matters.kept([limit], {}) == []
    heard = [Matter(kind, "web:dev", "told by others than the screen") for kind in ("dead", "silent")]
    assert matters.kept(heard, {"web:dev": life(seen("unknown"))}) == []


def test_another_question_is_another_matter(usual: Config) -> None:
    first, second = (
        matters.standing([life(seen("waiting", text=text))], usual, NOW)[0] for text in ("Run a?", "Run b?")
    )
    assert first.identity != second.identity


@pytest.mark.parametrize(
    ("ns", "words"),
    [
        (0, "0s"),
        (59 * SECOND, "59s"),
        (60 * SECOND, "1min"),
        (15 * MINUTE, "15min"),
        (60 * MINUTE, "1h"),
        (125 * MINUTE, "2h5min"),
    ],
)
def test_lengths_of_time(ns: int, words: str) -> None:
    assert matters.spoken(ns) == words
