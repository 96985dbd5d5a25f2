"""Rates as people write them: `10/min`, `5/s`, `100/hour`, `3/30s`."""

from __future__ import annotations

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
_UNITS = {
    "ms": SECOND // 1000,
    "s": SECOND,
    "sec": SECOND,
    "second": SECOND,
    "m": MINUTE,
    "min": MINUTE,
    "minute": MINUTE,
    "h": 60 * MINUTE,
    "hour": 60 * MINUTE,
    "d": 24 * 60 * MINUTE,
    "day": 24 * 60 * MINUTE,
}
_MOST = 1_000_000  # a larger count or burst is a mistake


def parse_span(text: str) -> int:
    """Nanoseconds of `30s`, `min`, `1.5h`; a bare number is seconds. Raises ValueError."""
    unit = text.lstrip("0123456789.")
    number = text[: len(text) - len(unit)]
    if (unit and unit not in _UNITS) or number == "." or number.count(".") > 1 or not text:
        raise ValueError(f"{text!r} is no time")
    whole, _, part = number.partition(".")
    size = _UNITS[unit or "s"]
    if len(number) > 12:
        raise ValueError(f"{text!r} is too long")
    return int(whole or ("0" if part else "1")) * size + (int(part) * size // 10 ** len(part) if part else 0)


def parse_rate(text: str) -> tuple[int, int]:
    """(how many, in how many nanoseconds) of `10/min`, `5/s`, `100/hour`, `3/30s`. Raises ValueError."""
    number, slash, span = text.partition("/")
    if not (slash and number.isascii() and number.isdigit() and len(number) < 9 and 0 < int(number) <= _MOST):
        raise ValueError(f"{text!r} is no rate")
    period = parse_span(span)
    if not 0 < period <= 366 * 24 * 60 * MINUTE:
        raise ValueError(f"{text!r} is no rate")
    return int(number), period


def parse_limit(text: str) -> tuple[int, int, int]:
    """(how many, in how many nanoseconds, how many at once) of a rate, or of `60/min burst 10`. Raises ValueError."""
    rate, word, number = text.partition(" burst ")
    count, period = parse_rate(rate)
    if not word:
        return count, period, count
    if not (number.isascii() and number.isdigit() and len(number) < 9 and 0 < int(number) <= _MOST):
        raise ValueError(f"{text!r} has no burst")
    return count, period, int(number)
