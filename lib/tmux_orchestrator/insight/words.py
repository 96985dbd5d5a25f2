"""How things are told to people: times, counts, sizes, and the commands that mend. Nothing is kept."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

from tmux_orchestrator.ground.clock import parse_stamp
from tmux_orchestrator.ground.paths import CODE

_STEPS = ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s"))


def span(seconds: float) -> str:
    """`45s`, `3m20s`, `2h13m`, `4d2h`: the two largest units."""
    left = max(0, int(seconds))
    for size, unit, smaller, small_unit in _STEPS:
        if left >= size:
            rest = left % size // smaller
            return f"{left // size}{unit}" + (f"{rest}{small_unit}" if rest else "")
    return f"{left}s"


def age_s(stamp: str, now_ns: int) -> float:
    """Seconds since a stamp; 0 for one that lies ahead or is none."""
    try:
        return max(0.0, (now_ns - parse_stamp(stamp)) / 1e9)
    except ValueError:
        return 0.0


def count(number: int, word: str) -> str:
    """`1 message`, `3 messages`."""
    return f"{number} {word}{'' if number == 1 else 's'}"


def ms(value: float | None) -> str:
    """Milliseconds with three digits that matter; `-` for none."""
    if value is None:
        return "-"
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms"


def share(value: float | None) -> str:
    """0.94 as `94.0 %`; `-` for none."""
    return "-" if value is None else f"{value * 100:.1f} %"


def size(number: int) -> str:
    """Bytes for people: `512 bytes`, `1.5 MiB`."""
    if number < 1024:
        return count(number, "byte")
    exponent = min((number.bit_length() - 1) // 10, 4)
    return f"{number / (1 << 10 * exponent):.1f} {'KMGT'[exponent - 1]}iB"


def some(names: Sequence[str], most: int = 5) -> str:
    """The first few of many names."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def manager(*argv: str) -> str:
    """The command line of orchestrator_manager.sh, good in any folder."""
    where = CODE if os.path.exists(CODE + "/orchestrator_manager.sh") else CODE + "/bin"
    return shlex.join([where + "/orchestrator_manager.sh", *argv])
