"""Time: one way to read it, one way to write it.

Stamps are RFC 3339 in UTC with microseconds. The day of a day file is the home's (configured zone, else the
system's), never that of the caller's TZ, which cron, ssh and agents set as they like.
Rates and windows count `boot_ns`, which no step of the wall clock moves.
"""

from __future__ import annotations

import os
import time


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


def stamp(ns: int) -> str:
    """RFC 3339, UTC, microseconds."""
    t = time.gmtime(ns // 1_000_000_000)
    micro = ns // 1000 % 1_000_000
    return f"{t[0]:04d}-{t[1]:02d}-{t[2]:02d}T{t[3]:02d}:{t[4]:02d}:{t[5]:02d}.{micro:06d}Z"


def local_day(ns: int) -> str:
    """YYYY-MM-DD in the home's zone."""
    t = time.localtime(ns // 1_000_000_000)
    return f"{t[0]:04d}-{t[1]:02d}-{t[2]:02d}"


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
