"""One of a kind: of many starts at one time one wins, whatever an earlier life left in the pid file."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from tmux_orchestrator.ground import pidfile
from tmux_orchestrator.ground.paths import Home

Row = tuple[str, int, str]
CLAIM = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "programs/claim.py")
LEFT = (b"", b"0\n", b"-1\n", b"%d\n" % os.getpid(), b"garbage")


def check(quick: bool) -> list[Row]:
    racers, rounds = 50, 4 if quick else 20
    wrong = [number for number in range(rounds) if not one_wins(racers, LEFT[number % len(LEFT)])]
    said = f"failed: rounds {wrong}" if wrong else f"ok: {rounds} rounds of {racers}, one winner each"
    return [("starts at one time, over an empty, old, negative or reused number", rounds * racers, said)]


def one_wins(racers: int, left: bytes) -> bool:
    """Let so many go at once; is there exactly one winner, and does the pid file name it?"""
    with tempfile.TemporaryDirectory(prefix="orc-starts-") as root:
        home = Home(root)
        os.makedirs(home.logs)
        with open(home.pid_file("broker"), "wb") as file:
            file.write(left)
        gun, trigger = os.pipe()
        argv = [sys.executable, "-I", "-S", CLAIM, root, "race"]
        started = [subprocess.Popen(argv, stdin=gun, stdout=subprocess.PIPE) for _ in range(racers)]
        try:
            ready = [_said(one) for one in started] == [b"r"] * racers
            os.close(trigger)
            os.close(gun)
            winners = [one.pid for one in started if _said(one) == b"1"]
            return ready and len(winners) == 1 and pidfile.running(home, "broker") == winners[0]
        finally:
            for one in started:
                one.kill()
                one.wait()
                if one.stdout:
                    one.stdout.close()


def _said(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return os.read(process.stdout.fileno(), 1)
