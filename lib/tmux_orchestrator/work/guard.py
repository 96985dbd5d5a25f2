"""Ends what a worker's commands left running, when the worker itself was killed.

A program of its own (run by path, it imports nothing of ours): `+PID` and `-PID` on standard input, a line each, name
the process groups that run. The input ends when the worker does, whatever ended it; then all of them are killed.
Each command names itself before it becomes what it runs, so there is none that the guard has not heard of.
"""

from __future__ import annotations

import os
import signal


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    rest = b""
    while part := os.read(0, 4096):
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except OSError:
            pass  # ended with the worker


if __name__ == "__main__":
    main()
