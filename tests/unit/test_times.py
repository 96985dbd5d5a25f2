"""What people write for times and durations."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Iterator
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.errors import UsageError
from tmux_orchestrator.ground.times import SECOND, parse_duration, parse_time

NOW = 1_795_170_645_123_456_789  # 2026-11-20T10:30:45.123456789Z


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The home's zone is Berlin; the caller's TZ says something else."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    clock.use_zone("Europe/Berlin")
    assert os.environ["TZ"] == "Asia/Tokyo"
    yield
    monkeypatch.undo()
    time.tzset()


def utc(text: str) -> int:
    """An independent reading, whole seconds."""
    return int(datetime.datetime.fromisoformat(text).timestamp()) * SECOND


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("45", 45), ("0", 0), ("2.5s", 2.5), (".5", None), ("0.5", 0.5), ("30m", 1800), ("1h30m", 5400),
        ("24h", 86_400), ("2d", 172_800), ("1w", 604_800), ("1w2d3h4m5s", 788_645), ("1.5h", 5400), (" 5m ", 300),
        ("90m", 5400), ("0.000000001", 1e-9), ("0s", 0),
        ("", None), ("s", None), ("m5", None), ("-5m", None), ("+5", None), ("5 m", None), ("5x", None), ("5ms", None),
        ("30m1h", None), ("1h1h", None), ("1h30", None), ("1:30", None), ("1e3", None), ("0x10", None), ("1_0", None),
        ("inf", None), ("nan", None), ("٣m", None), ("٣", None), ("5.m", None), ("5.", None), ("1..5s", None),
        ("1.0000000001", None), ("9" * 30, None), ("999999999999w", None), ("5m\n5s", None), ("5m\0", None),
    ],
)  # fmt: skip
def test_durations(text: str, seconds: float | None) -> None:
    if seconds is not None:
        assert parse_duration(text) == seconds
    else:
        with pytest.raises(UsageError, match=r"is no duration: write 45, 2\.5s, 30m"):
            parse_duration(text)


@given(st.integers(0, 99), st.integers(0, 6), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59_999))
def test_any_duration_is_the_sum_of_its_parts(weeks: int, days: int, hours: int, minutes: int, ms: int) -> None:
    text = f"{weeks}w{days}d{hours}h{minutes}m{ms // 1000}.{ms % 1000:03}s"
    whole = datetime.timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, milliseconds=ms)
    assert parse_duration(text) == whole.total_seconds()


@given(st.text(max_size=30))
def test_any_text_is_a_duration_or_a_usage_error(text: str) -> None:
    try:
        assert parse_duration(text) >= 0
    except UsageError:
        pass


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-20T10:30:45Z", NOW // SECOND * SECOND),
        ("2026-11-20T10:30:45.123456789Z", NOW),
        ("2026-11-20t10:30:45.5z", NOW // SECOND * SECOND + SECOND // 2),
        ("2026-11-20 10:30:45Z", NOW // SECOND * SECOND),
        ("2026-11-20T11:30:45+01:00", NOW // SECOND * SECOND),
        ("2026-11-20T05:00:45-05:30", NOW // SECOND * SECOND),
        ("2026-11-20T10:30Z", utc("2026-11-20T10:30+00:00")),
        ("2016-12-31T23:59:60Z", utc("2017-01-01T00:00+00:00")),
        ("2024-02-29T00:00:00Z", utc("2024-02-29T00:00+00:00")),
        ("1969-12-31T23:59:59Z", -SECOND),
        ("@0", 0),
        ("@1795170645", NOW // SECOND * SECOND),
        ("@1795170645.123456789", NOW),
        ("now", NOW),
        ("5m", NOW - 300 * SECOND),
        ("-30s", NOW - 30 * SECOND),
        ("1h30m", NOW - 5400 * SECOND),
        (" 2h ", NOW - 7200 * SECOND),
        ("2.5s", NOW - 5 * SECOND // 2),
        ("2026-11-20", utc("2026-11-20T00:00+01:00")),
        ("2026-07-20", utc("2026-07-20T00:00+02:00")),
        ("2026-11-20 10:30", utc("2026-11-20T10:30+01:00")),
        ("2026-11-20 10:30:45", utc("2026-11-20T10:30:45+01:00")),
        ("2026-11-20T10:30:45.25", utc("2026-11-20T10:30:45+01:00") + SECOND // 4),
        ("10:30", utc("2026-11-20T10:30+01:00")),
        ("23:59:59.5", utc("2026-11-20T23:59:59+01:00") + SECOND // 2),
        ("today", utc("2026-11-20T00:00+01:00")),
        ("yesterday", utc("2026-11-19T00:00+01:00")),
    ],
)
def test_times(berlin: None, text: str, expected: int) -> None:
    assert parse_time(text, NOW) == expected


def test_hours_that_come_twice_or_never(berlin: None) -> None:
    assert parse_time("2026-10-25 02:30", NOW) == utc("2026-10-25T02:30+02:00")
    assert parse_time("2026-10-25 03:30", NOW) == utc("2026-10-25T03:30+01:00")
    assert parse_time("2026-10-25 01:30", NOW) == utc("2026-10-25T01:30+02:00")
    assert parse_time("2026-03-29 02:30", NOW) == utc("2026-03-29T03:30+02:00")
    assert parse_time("2026-03-29 03:30", NOW) == utc("2026-03-29T03:30+02:00")


def test_yesterday_over_a_change_of_the_clocks(berlin: None) -> None:
    after = utc("2026-10-26T00:10+01:00")  # the day before had 25 hours
    assert parse_time("yesterday", after) == utc("2026-10-25T00:00+02:00")
    assert parse_time("yesterday", utc("2026-01-01T00:10+01:00")) == utc("2025-12-31T00:00+01:00")


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "tomorrow", "Today", "45", "0", "20261120", "@", "@-5", "@1e9", "@x", "--5m", "5x", "-", "+5m",
        "24:00", "1:30", "10:60", "10:", "10:3", "10:30:", "10:30Z", "-10:30", "10:30:45:00",
        "2026-13-01", "2026-00-01", "2026-02-30", "2025-02-29", "1900-02-29", "2026-11-31", "2026-11-00", "0000-01-01",
        "2026-1-2", "26-11-20", "2026/11/20", "2026-11-20T", "2026-11-20 ", "2026-11-20T10", "2026-11-20T1:30",
        "2026-11-20T24:00", "2026-11-20T10:60", "2026-11-20T10:30:61", "2026-11-20T10:30:4", "2026-11-20T10:30:45.",
        "2026-11-20T10:30:45+1:00", "2026-11-20T10:30:45+0100", "2026-11-20T10:30:45+24:00", "2026-11-20T10:30:45 Z",
        "2026-11-20T10:30:45+01:00Z", "2026-11-20T10:30:45X", "2026-11-20X10:30", "2026-11-20Z", "２026-11-20",
        "2026-11-20\n", "2026-11-20T10:30:45Z; rm", "2026-11-20T10:30:45.0000000001Z", "2026-11-20T10:30:45+01:0x",
    ],
)  # fmt: skip
def test_what_is_no_time(text: str) -> None:
    if text.strip() == "2026-11-20":
        assert parse_time(text, NOW) == parse_time("2026-11-20", NOW)
        return
    with pytest.raises(UsageError, match="is no time: write 2026-11-20T10:30:45Z"):
        parse_time(text, NOW)


@given(st.integers(0, 253_402_300_799 * SECOND))
def test_every_stamp_reads_back(ns: int) -> None:
    assert parse_time(clock.stamp(ns), NOW) == ns // 1000 * 1000


@given(
    st.datetimes(datetime.datetime(1, 1, 2), datetime.datetime(9999, 12, 30)),
    st.integers(-23 * 60, 23 * 60),
)
def test_any_rfc_3339_time_agrees_with_the_standard_library(moment: datetime.datetime, minutes: int) -> None:
    moment = moment.replace(tzinfo=datetime.timezone(datetime.timedelta(minutes=minutes)))
    since = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    expected = (since.days * 86_400 + since.seconds) * SECOND + since.microseconds * 1000
    assert parse_time(moment.isoformat(), NOW) == expected


@given(st.datetimes(datetime.datetime(1990, 1, 1), datetime.datetime(2037, 1, 1)))
def test_any_local_time_is_one_of_the_homes_zone(moment: datetime.datetime) -> None:
    caller = os.environ.get("TZ")
    try:
        clock.use_zone("America/New_York")
        got = parse_time(moment.strftime("%Y-%m-%d %H:%M:%S"), NOW) // SECOND
        back = datetime.datetime.fromtimestamp(got, ZoneInfo("America/New_York")).replace(tzinfo=None)
        # The hour that a change of the clocks skips does not exist: it counts on from the hour before.
        assert back - moment.replace(microsecond=0) in (datetime.timedelta(0), datetime.timedelta(hours=1))
    finally:
        assert os.environ.get("TZ") == caller
        time.tzset()


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_a_usage_error(text: str) -> None:
    try:
        assert isinstance(parse_time(text, NOW), int)
    except UsageError:
        pass


@given(st.text(alphabet="0123456789-:.TZ+ @", max_size=30))
def test_any_scramble_is_a_time_or_a_usage_error(text: str) -> None:
    for tried in (text, "2026-11-20" + text, "2026-11-20T10:30:45" + text):
        try:
            assert isinstance(parse_time(tried, NOW), int)
        except UsageError:
            pass
