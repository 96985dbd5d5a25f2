"""The meter and the hard window: what passes, what waits, and what a clock that steps changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmux_orchestrator.delivery.bucket import MINUTE, SECOND, Bucket, Window
from tmux_orchestrator.ground.rates import parse_limit, parse_rate, parse_span

RATES = st.tuples(st.integers(1, 50), st.integers(1, 120 * SECOND))
GAPS = st.lists(st.integers(0, 90 * SECOND), max_size=200)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10/min", (10, MINUTE)),
        ("5/s", (5, SECOND)),
        ("100/hour", (100, 60 * MINUTE)),
        ("3/30s", (3, 30 * SECOND)),
        ("1/0.5s", (1, SECOND // 2)),
        ("2/100ms", (2, SECOND // 10)),
        ("1/d", (1, 1440 * MINUTE)),
        ("7/2m", (7, 2 * MINUTE)),
    ],
)
def test_rates(text: str, rate: tuple[int, int]) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "/",
        "10/",
        "/min",
        "0/min",
        "-1/s",
        "1.5/s",
        "10/0s",
        "10/fortnight",
        "1/1.2.3s",
        "1/.",
        "1e3/s",
        "10/min/s",
        "٣/min",
        "1/٣s",
        " 1/s",
        "1 /s",
        "99999999999/s",
        "1/9999999999999999999s",
        "1/10000d",
        "1/-5s",
    ],
)
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError):
        parse_rate(text)


def test_spans() -> None:
    assert [parse_span(text) for text in ("30s", "min", "1.5h", "2", ".5s")] == [
        30 * SECOND,
        MINUTE,
        90 * MINUTE,
        2 * SECOND,
        SECOND // 2,
    ]


def test_a_burst_then_the_rate() -> None:
    bucket = Bucket(10, MINUTE)
    assert [bucket.take(0) for _ in range(10)] == [0] * 10
    assert bucket.take(0) == 6 * SECOND
    assert bucket.take(6 * SECOND - 1) == 1
    assert bucket.take(6 * SECOND) == 0


def test_a_bucket_alone_is_no_bound() -> None:
    """The reason why the window exists: 10 a minute passes 19 within one."""
    bucket = Bucket(10, MINUTE)
    passed = [at for at in range(0, 60 * SECOND, SECOND // 2) for _ in range(20) if bucket.take(at) == 0]
    assert len(passed) == 19


def test_a_window_is() -> None:
    window = Window(10)
    passed = []
    for at in range(0, 60 * SECOND, SECOND // 2):
        for _ in range(20):
            if window.room(at) == 0:
                window.note(at)
                passed.append(at)
    assert len(passed) == 10


@given(RATES, st.integers(1, 50), GAPS)
def test_what_passes_never_exceeds_burst_and_rate(rate: tuple[int, int], burst: int, gaps: list[int]) -> None:
    bucket, now, passed = Bucket(*rate, burst), 0, []
    for gap in gaps:
        now += gap
        if bucket.take(now) == 0:
            passed.append(now)
    for first, start in enumerate(passed):
        for last in range(first, len(passed)):
            assert last - first + 1 <= burst + (passed[last] - start) // bucket.interval_ns + 1


@given(RATES, GAPS, st.integers(1, 5))
def test_a_wait_is_exact(rate: tuple[int, int], gaps: list[int], cost: int) -> None:
    bucket, now = Bucket(*rate, 5), 0
    for gap in gaps:
        now += gap
        wait = bucket.peek(now, cost)
        assert bucket.take(now, cost) == wait
        if wait:
            assert bucket.peek(now + wait - 1, cost) == 1
            assert bucket.peek(now + wait, cost) == 0


def test_peek_takes_nothing() -> None:
    bucket = Bucket(1, MINUTE)
    assert [bucket.peek(0) for _ in range(5)] == [0] * 5
    assert (bucket.level_ns, bucket.stamp_ns) == (0, 0)


@given(st.integers(-(10**18), 10**18), st.integers(1, 20))
def test_a_clock_that_runs_back_blocks_no_longer_than_one_burst_and_gives_nothing_away(step: int, taken: int) -> None:
    bucket = Bucket(10, MINUTE)
    start = 2 * 10**18
    granted = [bucket.take(start) for _ in range(taken)].count(0)
    then = start - abs(step)
    assert bucket.take(then) <= bucket.burst * bucket.interval_ns
    again = 1 + [bucket.take(then) for _ in range(20)].count(0) if granted < 10 else 0
    assert granted + again <= 10
    assert bucket.take(then + bucket.burst * bucket.interval_ns) == 0


def test_a_level_beyond_the_brim_is_a_full_bucket() -> None:
    bucket = Bucket(10, MINUTE, level_ns=1 << 80, stamp_ns=5)
    assert bucket.take(5) == 6 * SECOND
    assert bucket.take(5 + 6 * SECOND) == 0


def test_what_never_fits_is_refused() -> None:
    bucket = Bucket(10, MINUTE, burst=3)
    for cost in (0, 4, -1):
        with pytest.raises(ValueError):
            bucket.take(0, cost)
    assert bucket.take(0, 3) == 0


# The window.


@given(st.integers(1, 12), GAPS)
def test_no_window_holds_more(limit: int, gaps: list[int]) -> None:
    window, now, passed = Window(limit), 0, []
    for gap in gaps:
        now += gap
        if window.room(now) == 0:
            window.note(now)
            passed.append(now)
    for start in passed:
        assert sum(start <= at <= start + MINUTE for at in passed) <= limit


@given(st.integers(1, 12), GAPS)
def test_the_wait_for_room_is_exact(limit: int, gaps: list[int]) -> None:
    window, now = Window(limit), 0
    for gap in gaps:
        now += gap
        wait = window.room(now)
        if not wait:
            window.note(now)
            continue
        ahead = Window(limit, times=list(window.times))
        assert Window(limit, times=list(window.times)).room(now + wait - 1) == 1
        assert ahead.room(now + wait) == 0


@given(st.integers(1, 5), st.lists(st.integers(0, 10**12), max_size=30), st.integers(0, 10**12))
def test_a_window_is_rebuilt_from_what_is_known(limit: int, times: list[int], now: int) -> None:
    window = Window(limit, times=times)
    wait = window.room(now)
    assert (wait == 0) == (sum(now - MINUTE <= at for at in times) < limit)
    assert wait <= MINUTE + 1, "times that lie ahead must not block for longer than a window"


def test_a_clock_that_runs_back_blocks_a_minute_at_most() -> None:
    window = Window(2, times=[10**18, 10**18 + 1])
    assert window.room(5) == MINUTE + 1
    assert window.room(5 + MINUTE + 1) == 0


def test_what_was_done_later_counts_from_then_and_what_was_not_done_not_at_all() -> None:
    window = Window(1)
    window.note(0)
    window.moved(0, 3 * SECOND)
    assert window.room(MINUTE + SECOND) == 2 * SECOND + 1
    window.forget(3 * SECOND)
    window.forget(12345)
    assert window.room(MINUTE) == 0 and window.used(MINUTE) == 0


def test_a_limit_of_zero_is_none() -> None:
    window = Window(0)
    for _ in range(100):
        assert window.room(0) == 0
        window.note(0)


def test_a_lowered_limit_waits_until_enough_is_old() -> None:
    window = Window(2, times=[0, 1, 2, 3])
    assert window.room(10) == 2 + MINUTE - 10 + 1


@pytest.mark.parametrize(
    ("text", "limit"),
    [("5000/hour", (5000, 60 * MINUTE, 5000)), ("60/min burst 10", (60, MINUTE, 10)), ("1/s burst 5", (1, SECOND, 5))],
)
def test_a_limit_is_a_rate_and_how_many_may_come_at_once(text: str, limit: tuple[int, int, int]) -> None:
    assert parse_limit(text) == limit


@pytest.mark.parametrize(
    "text", ["", "burst 5", "5/s burst", "5/s burst 0", "5/s burst -1", "5/s  burst 3", "5/s burst ٣"]
)
def test_no_limit(text: str) -> None:
    with pytest.raises(ValueError, match=r"is (no rate|no time|too long)|has no burst"):
        parse_limit(text)
