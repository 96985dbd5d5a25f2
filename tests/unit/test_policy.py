"""When a dead agent may be started again: at once, later and later, then only by hand; whatever the clock does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tmux_orchestrator.agents import policy
from tmux_orchestrator.agents.policy import BACKOFF, BREAKER, COOLDOWN, Past, Rules, Verdict

S = 1_000_000_000
RULES = Rules(grace=180 * S, cooldown=300 * S, first=30 * S, longest=600 * S, attempts=5, within=900 * S)
NOW = 1_800_000_000 * S


def after(*starts: int, short_runs: int = 0) -> Past:
    """Starts so many seconds ago."""
    return Past([NOW - ago * S for ago in starts], short_runs)


def test_the_first_start_is_due_at_once() -> None:
    assert policy.judge(Past(), 0, NOW, RULES).allowed
    assert policy.judge(Past(), 3600 * S, NOW, RULES).allowed


def test_a_stable_run_is_followed_by_a_start_at_once_but_for_the_cooldown() -> None:
    assert policy.judge(after(301), 200 * S, NOW, RULES).allowed
    assert policy.judge(after(200), 200 * S, NOW, RULES) == Verdict(COOLDOWN, 100 * S)


def test_short_runs_are_followed_later_and_later() -> None:
    for short_runs, pause in ((0, 30), (1, 60), (2, 120), (3, 240), (4, 480), (5, 600), (40, 600)):
        past = after(10, short_runs=short_runs)
        assert policy.judge(past, 5 * S, NOW, RULES) == Verdict(BACKOFF, (pause - 10) * S)
        assert policy.judge(after(pause, short_runs=short_runs), 5 * S, NOW, RULES).allowed


def test_too_many_starts_need_a_hand() -> None:
    assert policy.judge(after(890, 600, 400, 200, 100), 200 * S, NOW, RULES) == Verdict(BREAKER)
    assert policy.judge(after(901, 600, 400, 200, 100), 5 * S, NOW, RULES).allowed


def test_a_clock_that_ran_back_makes_nobody_wait_for_longer() -> None:
    assert policy.judge(after(-86_400), 5 * S, NOW, RULES) == Verdict(BACKOFF, 30 * S)
    assert policy.judge(after(-86_400), 500 * S, NOW, RULES) == Verdict(COOLDOWN, 300 * S)


def test_a_crash_loop_is_started_five_times_in_a_quarter_of_an_hour() -> None:
    past, now, starts = Past(), NOW, 0
    while now < NOW + 900 * S:
        if policy.judge(past, S, now, RULES).allowed:
            policy.started(past, S, now, RULES)
            starts += 1
        now += S
    assert starts == RULES.attempts


def test_a_stable_run_forgets_the_short_ones() -> None:
    past = after(400, short_runs=3)
    policy.started(past, 200 * S, NOW, RULES)
    assert past.short_runs == 0 and past.starts[-1] == NOW


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)), max_size=60))
def test_no_window_holds_more_starts_than_the_breaker_lets_through(steps: list[tuple[int, int]]) -> None:
    past, now, starts = Past(), NOW, []
    for wait, ran in steps:
        now += wait * S
        if policy.judge(past, ran * S, now, RULES).allowed:
            policy.started(past, ran * S, now, RULES)
            starts.append(now)
    for start in starts:
        assert sum(start <= at < start + RULES.within for at in starts) <= RULES.attempts


def test_what_is_stored_comes_back_and_garbage_is_an_empty_past() -> None:
    stored = Past([NOW, NOW + 1], 2, ["failed"])
    assert Past.from_dict(stored.to_dict()) == stored
    assert Past.from_dict({"starts": [NOW], "short_runs": 0}) == Past([NOW]), "as an older version wrote it"
    garbages: list[object] = [
        None,
        [],
        {},
        {"starts": 5, "short_runs": 0},
        {"starts": ["x"], "short_runs": 0},
        {"starts": [NOW], "short_runs": 0, "told": [1]},
    ]
    for garbage in garbages:
        assert Past.from_dict(garbage) == Past()


def test_what_was_told_is_not_new_and_the_last_few_are_remembered() -> None:
    past = Past()
    assert [past.tells(what) for what in ("a", "b", "a", "c", "d", "e", "b", "a")] == [
        True,
        True,
        False,
        True,
        True,
        True,
        False,
        True,
    ]
    assert past.told == ["c", "d", "e", "a"]


def test_a_past_that_cannot_be_is_none() -> None:
    assert Past.from_dict({"starts": [1], "short_runs": -5, "told": []}) == Past()
