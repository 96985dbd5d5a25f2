"""Which day files there are, and in which of them time ran backwards.

One file a local calendar day, `logs/events/YYYY-MM-DD.jsonl`. A file dated more than a day ahead was written under
a clock that was wrong: it counts for nobody until its day is near, and loses nothing meanwhile.
"""

from __future__ import annotations

import os

from tmux_orchestrator.ground import clock, files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tmux_orchestrator.ground.paths import Home

DAY_NS = 86_400_000_000_000
_DIGITS = frozenset("0123456789")


def is_day(name: str) -> bool:
    """Is it YYYY-MM-DD?"""
    return (
        len(name) == 10
        and name[4] == name[7] == "-"
        and _DIGITS.issuperset(name[:4] + name[5:7] + name[8:])
        and "01" <= name[5:7] <= "12"
        and "01" <= name[8:] <= "31"
    )


def days(home: Home, now_ns: int | None = None) -> list[str]:
    """The days that have a file, oldest first, up to tomorrow."""
    try:
        names = os.listdir(home.events)
    except FileNotFoundError:
        return []
    latest = clock.local_day((clock.now_ns() if now_ns is None else now_ns) + DAY_NS)
    return sorted([n[:10] for n in names if n[10:] == ".jsonl" and n[:10] <= latest and is_day(n[:10])])


def day_file(home: Home, day: str) -> str:
    return f"{home.events}/{day}.jsonl"


def mark_step(home: Home, day: str) -> None:
    """Note, before it is so, that stamps fall somewhere in this day's file. Raises OSError."""
    files.append(home.run + "/clock_steps", f"{day}\n".encode("ascii"))


def stepped(home: Home) -> set[str]:
    """The days in whose files stamps fall: what is looked for there by time is looked for line by line."""
    data = files.read(home.run + "/clock_steps")
    return set(data.decode("ascii", "replace").split()) if data else set()
