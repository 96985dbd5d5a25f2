"""When a usage limit ends, as agent CLIs and their providers say it: a time, a time of day, or how long it takes."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from tmux_orchestrator.ground import times
from tmux_orchestrator.ground.errors import UsageError

_SECOND = 1_000_000_000
_LATEST = 32 * 86_400 * _SECOND  # later ones are misread
_LONGEST = 100  # characters
_UNITS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
_SPAN = re.compile(
    r"(\d{1,6})\s*(d(?:ays?)?|h(?:(?:ou)?rs?)?|m(?:in(?:ute)?s?)?|s(?:ec(?:ond)?s?)?)\b[\s,]*(?:and\s+)?"
)
_CLOCK = re.compile(
    r"(?:(?:(?P<month>[a-z]{3})[a-z]*\.?\s+(?P<day>\d{1,2})(?:st|nd|rd|th)?,?\s+)?(?:at\s+)?)"
    r"(?P<hour>\d{1,2})(?::(?P<minute>\d{2}))?\s*(?P<half>[ap]m)?(?:\s*\((?P<zone>[a-z0-9_/+-]{1,40})\))?",
    re.IGNORECASE | re.ASCII,
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def parse(text: object, now: int) -> int | None:
    """Nanoseconds since the epoch; None for what says no time that could be meant. A time of day is the next such."""
    if not isinstance(text, str) or not 0 < len(text) <= _LONGEST:
        return None
    text = text.strip().rstrip(".")
    found = _absolute(text) or _span(text.lower(), now)
    if found is None and (match := _CLOCK.fullmatch(text)):
        try:
            found = _next(match, now)
        except (ValueError, OverflowError, OSError, KeyError):
            return None
    return found if found is not None and found - now <= _LATEST else None


def _absolute(text: str) -> int | None:
    if text.isascii() and text.isdigit() and len(text) == 10:
        return int(text) * _SECOND
    if text[4:5] == "-":
        try:
            return times.parse_time(text, 0)
        except UsageError:
            pass
    return None


def _span(text: str, now: int) -> int | None:
    at = total = 0
    while match := _SPAN.match(text, at):
        total += int(match[1]) * _UNITS[match[2][0]]
        at = match.end()
    return now + total * _SECOND if at and at == len(text) else None


def _next(match: re.Match[str], now: int) -> int | None:
    """The next time that a clock shows this. Raises ValueError, OverflowError, OSError, KeyError: there is none."""
    hour, half = int(match["hour"]), (match["half"] or "").lower()
    if not half and match["minute"] is None:
        return None  # a bare number may be anything
    if half:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + 12 * (half == "pm")
    zone = ZoneInfo(match["zone"]) if match["zone"] else None
    seconds = now / _SECOND
    today = datetime.fromtimestamp(seconds, zone) if zone else datetime(*time.localtime(seconds)[:6])
    wanted = today.replace(hour=hour, minute=int(match["minute"] or 0), second=0, microsecond=0)
    if match["month"]:
        wanted = wanted.replace(month=_MONTHS.index(match["month"].lower()) + 1, day=int(match["day"]))
        if wanted < today - timedelta(days=1):
            wanted = wanted.replace(year=wanted.year + 1)
    elif wanted <= today:
        wanted += timedelta(days=1)
    if zone:
        return int(wanted.timestamp()) * _SECOND
    return int(time.mktime((*wanted.timetuple()[:6], -1, -1, -1))) * _SECOND
