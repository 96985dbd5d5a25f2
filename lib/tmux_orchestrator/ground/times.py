"""What people write for a time or a duration, as numbers.

A day without an offset is one of the home's zone (`clock.use_zone`). A bare duration as a time lies in the
past: `5m` and `-5m` are both five minutes ago. Whatever is not a listed form is a UsageError that lists them.
Neither `re` nor `datetime` is imported: `orc-read --since 5m` has to start as fast as without it.
"""

from __future__ import annotations

import time

from tmux_orchestrator.ground.errors import UsageError

SECOND = 1_000_000_000
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_LONGEST = 10_000 * 365 * 86_400 * SECOND

TIME_FORMS = "2026-11-20T10:30:45Z, 2026-11-20, '2026-11-20 10:30', 10:30, today, yesterday, now, 5m or @1700000000"
DURATION_FORMS = "45, 2.5s, 30m, 1h30m, 2d or 1w"


class _Bad(Exception):
    pass


def _int(text: str, length: int = 0) -> int:
    if not (text.isascii() and text.isdigit()) or (length and len(text) != length) or len(text) > 18:
        raise _Bad
    return int(text)


def _decimal(text: str) -> int:
    """`2.5` in nanoseconds, exactly."""
    whole, point, part = text.partition(".")
    ns = _int(whole) * SECOND
    if point:
        if len(part) > 9:
            raise _Bad
        ns += _int(part) * 10 ** (9 - len(part))
    return ns


def _duration(text: str) -> int:
    total, number, rank = 0, "", float("inf")
    if text.isascii() and text and text[-1].isdigit() and not any(c in _UNITS for c in text):
        return _decimal(text)
    for char in text:
        if char not in _UNITS:
            number += char
            continue
        unit = _UNITS[char]
        if unit >= rank:  # largest first, each once: `30m1h` is more likely a slip than meant
            raise _Bad
        total, number, rank = total + _decimal(number) * unit, "", unit
    if number or rank == float("inf") or total > _LONGEST:
        raise _Bad
    return total


def parse_duration(text: str) -> float:
    """Seconds: `45`, `2.5s`, `30m`, `1h30m`, `2d`, `1w`. Raises UsageError."""
    try:
        return _duration(text.strip()) / SECOND
    except _Bad:
        raise UsageError(f"{text!r} is no duration: write {DURATION_FORMS}") from None


def _date(text: str) -> tuple[int, int, int]:
    parts = text.split("-")
    if len(parts) != 3:
        raise _Bad
    year, month, day = _int(parts[0], 4), _int(parts[1], 2), _int(parts[2], 2)
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not (year > 0 and 1 <= month <= 12 and 1 <= day <= _DAYS[month - 1]) or (month == 2 and day == 29 and not leap):
        raise _Bad
    return year, month, day


def _clock(text: str) -> tuple[int, int, int, int]:
    """Hours, minutes, seconds, nanoseconds of `10:30[:45[.123]]`."""
    parts = text.split(":")
    if len(parts) not in (2, 3):
        raise _Bad
    hour, minute, second, ns = _int(parts[0], 2), _int(parts[1], 2), 0, 0
    if len(parts) == 3:
        _int(parts[2][:2], 2)
        second, ns = divmod(_decimal(parts[2]), SECOND)
    if hour > 23 or minute > 59 or second > 60:  # 60 is a leap second, which counts as the next one
        raise _Bad
    return hour, minute, second, ns


def _offset(text: str) -> int | None:
    """Seconds east of UTC of `Z` or `+01:00`; None for none."""
    if not text:
        return None
    if text == "Z":
        return 0
    hour, minute = _int(text[1:3], 2), _int(text[4:], 2)
    if text[3] != ":" or hour > 23 or minute > 59:
        raise _Bad
    seconds = hour * 3600 + minute * 60
    return -seconds if text[0] == "-" else seconds


def _utc(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 in the proleptic Gregorian calendar."""
    if month < 3:
        year, month = year - 1, month + 12
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * month - 457) // 5 + day - 719_469


def _east(seconds: int) -> int:
    """The home's offset from UTC at a moment."""
    return time.localtime(seconds).tm_gmtoff


def _local(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int:
    """A moment of the home's zone; of an hour that comes twice the first. `time.mktime` would ask TZ again."""
    as_if_utc = _utc(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second
    try:
        before, after = _east(as_if_utc - 86_400), _east(as_if_utc + 86_400)
        moment = as_if_utc - before
        if _east(moment) != before and _east(as_if_utc - after) == after:
            moment = as_if_utc - after
    except (OverflowError, OSError, ValueError):
        raise _Bad from None
    return moment * SECOND


def _calendar(text: str) -> int:
    day, rest = text[:10], text[10:]
    date = _date(day)
    if not rest:
        return _local(*date, 0, 0, 0)
    if rest[0] not in "T ":
        raise _Bad
    rest = rest[1:]
    cut = len(rest) - 1 if rest.endswith("Z") else max(rest.find("+"), rest.find("-"))
    if cut < 0:
        cut = len(rest)
    hour, minute, second, ns = _clock(rest[:cut])
    east = _offset(rest[cut:])
    if east is None:
        return _local(*date, hour, minute, second) + ns
    return (_utc(*date) * 86_400 + hour * 3600 + minute * 60 + second - east) * SECOND + ns


def _time(text: str, now_ns: int) -> int:
    if text == "now":
        return now_ns
    if text in ("today", "yesterday"):
        t = time.localtime(now_ns // SECOND)
        if text == "yesterday":
            t = time.gmtime((_utc(t[0], t[1], t[2]) - 1) * 86_400)
        return _local(t[0], t[1], t[2], 0, 0, 0)
    if text[2:3] == ":":
        hour, minute, second, ns = _clock(text)
        t = time.localtime(now_ns // SECOND)
        return _local(t[0], t[1], t[2], hour, minute, second) + ns
    if text.startswith("@"):
        return _decimal(text[1:])
    if len(text) >= 10 and text[4:5] == "-":
        return _calendar(text.upper())
    if text.isascii() and text.isdigit():  # a bare number could be seconds ago or an epoch: refuse to guess
        raise _Bad
    return now_ns - _duration(text.removeprefix("-"))


def parse_time(text: str, now_ns: int) -> int:
    """Nanoseconds since the epoch. Raises UsageError.

    RFC 3339; `YYYY-MM-DD[ HH:MM[:SS]]` and, today, `HH:MM[:SS]` in the home's zone; `now`, `today`, `yesterday`;
    `5m`, `-30s` (ago); `@epoch`.
    """
    try:
        return _time(text.strip(), now_ns)
    except (_Bad, IndexError):
        raise UsageError(f"{text!r} is no time: write {TIME_FORMS}") from None
