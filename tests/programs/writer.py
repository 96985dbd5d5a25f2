"""Appends events, for tests: writer.py HOME NAME COUNT [key=value...]. Says `ready`, and begins when its input ends.

Bodies are "NAME NUMBER" and a filling. Each number is printed when the log has acknowledged it; the last line is
`worst MS p99 MS`, of the time that an append took. Keys: size (bytes of filling), group (events an append), durable
(1 or 0), ids (a prefix: number N has the id PREFIX-N), clock (a file that holds nanoseconds to add to the clock),
timeout (seconds that the lock is waited for), pause (seconds between appends).
"""

from __future__ import annotations

import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + "/lib")

from tmux_orchestrator.eventlog import event
from tmux_orchestrator.eventlog.daylog import Log
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.paths import Home

DEFAULTS = {"size": "100", "group": "1", "durable": "0", "ids": "", "clock": "", "timeout": "60", "pause": "0"}
SOURCE = {"type": "agent", "session": "s", "host": "h", "verified": False}


def skewed(path: str) -> None:
    """Make the clock of this process run as the file says."""
    fd, real = os.open(path, os.O_RDONLY), time.time_ns
    clock.now_ns = lambda: real() + int(os.pread(fd, 64, 0) or b"0")


def main(home: str, name: str, count: str, *more: str) -> None:
    given = DEFAULTS | dict(word.split("=", 1) for word in more)
    clock.use_zone("UTC")
    if given["clock"]:
        skewed(given["clock"])
    log = Log(Home(home), given["durable"] == "1", clock.now_ns, float(given["timeout"]))
    filling, group, waits = "x" * int(given["size"]), int(given["group"]), []
    source = SOURCE | {"identifier": name}
    print("ready", flush=True)
    sys.stdin.read()
    for first in range(0, int(count), group):
        numbers = range(first, min(first + group, int(count)))
        events = [event.build(f"{name} {number} {filling}", source) for number in numbers]
        if given["ids"]:
            for number, one in zip(numbers, events, strict=True):
                one["id"] = f"{given['ids']}-{number}"
        start = time.monotonic()
        log.append(events)
        waits.append(time.monotonic() - start)
        os.write(1, "".join(f"{number}\n" for number in numbers).encode())
        if given["pause"] != "0":
            time.sleep(float(given["pause"]))
    waits.sort()
    print(f"worst {waits[-1] * 1e3:.1f} p99 {waits[int(len(waits) * 0.99)] * 1e3:.1f}")


main(*sys.argv[1:])
