"""A silent agent is nudged, reported, recovered: each once, in this order, never while there is a reason for it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tmux_orchestrator.ground import config
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.watch.silence import NEVER, RUNGS, Ladder

S = 1_000_000_000
NOBODY: frozenset[str] = frozenset()


def ladder(missed_after: float = 120.0) -> Ladder:
    settings = config.load(Home("/nonexistent"))
    settings.values["heartbeat"]["missed_after"] = missed_after
    return Ladder(settings)


def test_each_rung_is_found_once_at_its_time() -> None:
    one, silent = ladder(), {"team:dev": 1000 * S}
    found = {}
    for second in range(1000, 2000):
        for finding, key in one.climb(silent, NOBODY, second * S):
            found[finding] = second - 1000
            assert key == "team:dev"
    assert found == {"nudge": 120, "alert": 180, "recover": 240}
    assert one.next_due(2000 * S) == NEVER


def test_the_next_time_is_told_to_the_nanosecond() -> None:
    one, silent = ladder(1.0), {"a": 5 * S, "b": 6 * S}
    assert one.climb(silent, NOBODY, 6 * S - 1) == [] and one.next_due(6 * S - 1) == 6 * S
    assert one.next_due(6 * S) == 7 * S, "of what is overdue it says nothing: nobody is to spin"
    assert one.climb(silent, NOBODY, 6 * S) == [("nudge", "a")]
    assert one.next_due(6 * S) == 6 * S + S // 2
    assert one.climb(silent, NOBODY, 6 * S + S // 2) == [("alert", "a")]
    assert ladder().next_due(0) == NEVER


def test_a_sign_ends_it_and_the_next_silence_is_another() -> None:
    one = ladder()
    assert one.climb({"a": 0}, NOBODY, 130 * S) == [("nudge", "a")]
    assert one.climb({"a": 131 * S}, NOBODY, 200 * S) == []
    assert one.climb({"a": 131 * S}, NOBODY, 251 * S) == [("nudge", "a")]
    assert one.climb({}, NOBODY, 400 * S) == [] and one.next_due(400 * S) == NEVER


def test_nothing_is_found_while_there_is_a_reason_and_all_begins_anew_after_it() -> None:
    one, silent = ladder(), {"a": 0}
    assert one.climb(silent, NOBODY, 120 * S) == [("nudge", "a")]
    for second in range(121, 5000):
        assert one.climb(silent, {"a"}, second * S) == []
    assert one.climb(silent, NOBODY, 5000 * S) == []
    assert one.climb(silent, NOBODY, 5119 * S) == [("nudge", "a")]


def test_who_comes_late_to_look_finds_one_rung_at_a_time() -> None:
    one, silent = ladder(), {"a": 0}
    assert one.climb(silent, NOBODY, 9000 * S) == [("nudge", "a")]
    assert one.climb(silent, NOBODY, 9001 * S) == []
    assert one.climb(silent, NOBODY, 9060 * S) == [("alert", "a")]


def test_the_limit_may_change() -> None:
    one, silent = ladder(), {"a": 0}
    assert one.climb(silent, NOBODY, 50 * S) == []
    settings = config.load(Home("/nonexistent"))
    settings.values["heartbeat"]["missed_after"] = 40.0
    one.heed(settings)
    assert one.climb(silent, NOBODY, 51 * S) == [("nudge", "a")]


@given(st.lists(st.tuples(st.integers(0, 300), st.sampled_from(["", "sign", "held", "gone"])), max_size=60))
def test_whatever_happens_the_rungs_are_climbed_in_order_and_not_too_soon(steps: list[tuple[int, str]]) -> None:
    one, now, since, next_rung, quiet_from = ladder(), 0, 0, 0, 0
    for seconds, what in steps:
        now += seconds * S
        if what == "sign":
            since = quiet_from = now
            next_rung = 0
        elif what in ("held", "gone"):
            quiet_from, next_rung = now, 0
        found = one.climb({} if what == "gone" else {"a": since}, {"a"} if what == "held" else NOBODY, now)
        if what == "gone":
            quiet_from = since
        if found:
            assert found == [(RUNGS[next_rung], "a")] and what not in ("held", "gone")
            assert now - quiet_from >= (60 if next_rung else 120) * S
            next_rung, quiet_from = next_rung + 1, now
