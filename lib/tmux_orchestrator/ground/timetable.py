"""When a schedule is due: pure arithmetic on nanoseconds of the wall clock.

Invariant of every rule: `after(t)` is the earliest occurrence later than t, so none is skipped and none comes twice,
whatever the zone's clocks do. Cron expressions are read in the home's time zone by the package `cronsim`, as Debian's
cron does: a fixed time that a change of the clocks skips is due when they have changed, one that comes twice is due
the first time, and what has a `*` in its minutes or hours goes by the hands of the clock (docs/schedules.md).
"""

from __future__ import annotations

from datetime import datetime, tzinfo
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from tmux_orchestrator.ground.errors import UsageError
from tmux_orchestrator.ground.times import SECOND

_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_FIELDS = 5
_LONGEST = 200  # characters of an expression
_FARTHEST_NS = 9_000 * 365 * 86_400 * SECOND  # what `datetime` still knows


class Rule:
    """When something is due."""

    def after(self, ns: int) -> int | None:
        """The earliest occurrence later than `ns`; None if there is none any more."""
        raise NotImplementedError

    def last(self, since_ns: int, until_ns: int) -> int | None:
        """The latest occurrence that is later than `since_ns`, and not later than `until_ns`."""
        found, at = None, self.after(since_ns)
        while at is not None and at <= until_ns:
            found, at = at, self.after(at)
        return found


class Once(Rule):
    """At one moment."""

    def __init__(self, at_ns: int) -> None:
        self.at_ns = at_ns

    def after(self, ns: int) -> int | None:
        return self.at_ns if ns < self.at_ns else None


class Every(Rule):
    """Each `seconds`, counted from a moment, which is no occurrence itself. Raises ValueError for less than one."""

    def __init__(self, seconds: int, from_ns: int) -> None:
        if seconds < 1:
            raise ValueError
        self._every, self._from = seconds * SECOND, from_ns

    def after(self, ns: int) -> int | None:
        return self._from + max(1, (ns - self._from) // self._every + 1) * self._every

    def last(self, since_ns: int, until_ns: int) -> int | None:
        count = (until_ns - self._from) // self._every
        at = self._from + count * self._every
        return at if count > 0 and at > since_ns else None


class Cron(Rule):
    """By a cron expression of five fields, or `@daily` and the like. Raises UsageError for what is none."""

    def __init__(self, text: str, zone: tzinfo) -> None:
        self._expression = _ALIASES.get(text.strip().lower(), text.strip()).upper()
        self._zone = zone
        if len(text) > _LONGEST or len(self._expression.split()) != _FIELDS:
            raise _wrong(text, "it has not five fields")
        try:
            if self.after(0) is None:
                raise _wrong(text, "it never comes")
        except CronSimError as error:
            raise _wrong(text, str(error)) from None

    def after(self, ns: int) -> int | None:
        if not 0 <= ns < _FARTHEST_NS:
            return None
        dates = CronSim(self._expression, datetime.fromtimestamp(ns // SECOND, self._zone))
        for date in dates:
            at = int(date.timestamp()) * SECOND
            if at > ns:  # of an hour that comes twice cronsim may begin with the first, when ns is in the second
                return at
        return None


def _wrong(text: str, why: str) -> UsageError:
    example = "minute hour day month weekday, as in '0 9 * * 1-5', or @daily"
    return UsageError(f"{text[:_LONGEST]!r} is no cron expression ({why}): write {example}")


def zone(name: str) -> tzinfo:
    """The home's time zone; "" is the system's, whatever the caller's TZ says."""
    if name:
        return ZoneInfo(name)
    try:
        with open("/etc/localtime", "rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError):
        return ZoneInfo("UTC")
