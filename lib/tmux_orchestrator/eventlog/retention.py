"""Old days are removed whole: day files of the log, and the diaries of what was typed.

Never today's or yesterday's, and never the newest two that there are, whatever the clock says: what waits may still be
needed from them. Nor a day from which something is owed for a time that has not come.
A crash leaves some old files for the next time.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass

from tmux_orchestrator.eventlog.days import DAY_NS, days, is_day
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.errors import SystemFailure
from tmux_orchestrator.ground.paths import Home

_LEAST_DAYS = 2


@dataclass(frozen=True, slots=True)
class Old:
    """A file that may go."""

    path: str
    size: int


def old(home: Home, retention_days: int, now_ns: int, needed: Collection[str] = ()) -> list[Old]:
    """The day files that are older than so many days, oldest first; none of the days that are still `needed`."""
    kept = max(_LEAST_DAYS, retention_days)
    first = clock.local_day(now_ns - kept * DAY_NS)
    kept_days = {*needed, *days(home, now_ns)[-_LEAST_DAYS:]}
    found = []
    for folder in (home.events, home.registry + "/logs/communications"):
        for name in _names(folder):
            day = name.removesuffix(".jsonl")
            if name != day and is_day(day) and day < first and day not in kept_days:
                found.append(Old(f"{folder}/{name}", os.lstat(f"{folder}/{name}").st_size))
    return found


def remove(files: list[Old]) -> None:
    """Raises SystemFailure."""
    for one in files:
        try:
            os.unlink(one.path)
        except FileNotFoundError:
            continue  # somebody else was faster
        except OSError as error:
            raise SystemFailure(f"cannot remove {one.path}: {error.strerror}: see who owns it") from None


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
