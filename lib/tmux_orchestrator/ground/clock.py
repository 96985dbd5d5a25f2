"""Time: one way to read it, one way to write it.

Stamps are RFC 3339 in UTC with microseconds. The day of a day file is the home's (configured zone, else the
system's), never that of the caller's TZ, which cron, ssh and agents set as they like.
Rates and windows count `boot_ns`, which no step of the wall clock moves.
"""

from __future__ import annotations

import os
import time

_FIRST_S, _LAST_S = -62_135_596_800, 253_402_300_799  # of the years 1 and 9999


def now_ns() -> int:
    """Wall clock, nanoseconds since the epoch."""
    return time.time_ns()


def boot_ns() -> int:
    """Nanoseconds since boot, time asleep included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Names this boot of this kernel: `boot_ns` of two boots cannot be compared."""
    with open("/proc/sys/kernel/random/boot_id", "rb") as file:
        return file.read().decode("ascii").strip()


_last: tuple[int, str] = (-1, "")  # of the second that was written last: most stamps are of the same


def stamp(ns: int) -> str:
    """RFC 3339, UTC, microseconds. A time that no such stamp can say is the nearest that one can."""
    global _last
    second, head = _last
    if ns // 1_000_000_000 != second:
        second = ns // 1_000_000_000
        t = time.gmtime(min(max(second, _FIRST_S), _LAST_S))
        head = f"{t[0]:04d}-{t[1]:02d}-{t[2]:02d}T{t[3]:02d}:{t[4]:02d}:{t[5]:02d}."
        _last = second, head
    return f"{head}{ns // 1000 % 1_000_000:06d}Z"


def parse_stamp(text: str) -> int:
    """Nanoseconds since the epoch of `2026-11-20T10:30:45Z`, with or without a fraction. Raises ValueError."""
    if not (text[10:11] == "T" and text[-1:] == "Z" and (len(text) == 20 or text[19] == ".")):
        raise ValueError(f"not a stamp: {text!r}")
    # days from civil, Howard Hinnant's algorithm: `datetime` and `calendar` cost an import
    month = int(text[5:7])
    year = int(text[:4]) - (month <= 2)
    era, of_era = divmod(year, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + int(text[8:10]) - 1
    since = era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468
    seconds = since * 86_400 + int(text[11:13]) * 3600 + int(text[14:16]) * 60 + int(text[17:19])
    return seconds * 1_000_000_000 + int(text[20:-1][:9].ljust(9, "0"))


def local_day(ns: int) -> str:
    """YYYY-MM-DD in the home's zone."""
    t = time.localtime(ns // 1_000_000_000)
    return f"{t[0]:04d}-{t[1]:02d}-{t[2]:02d}"


def local_time(ns: int) -> str:
    """HH:MM:SS in the home's zone."""
    t = time.localtime(ns // 1_000_000_000)
    return f"{t[3]:02d}:{t[4]:02d}:{t[5]:02d}"


def use_zone(zone: str) -> None:
    """Make `local_day` mean this zone ("" = the system's), whatever the caller's TZ says.

    The C library keeps the zone it was last told; the environment is put back for child processes.
    """
    caller = os.environ.get("TZ")
    if caller is None and not zone:
        return
    if zone:
        os.environ["TZ"] = ":" + zone
    else:
        del os.environ["TZ"]
    time.tzset()
    if caller is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = caller
