"""Claims a broker's pid file and says who won: claim.py HOME [race] [wait] [stubborn]. Prints 1 or 0 (and r, ready).

`race`: say r, and go on when something comes, or the end, on standard input. `wait`: stand by. `stubborn`: no SIGTERM.
"""

import os
import signal
import sys

sys.path.insert(0, os.path.realpath(__file__ + "/../../../lib"))

from tmux_orchestrator.ground import pidfile
from tmux_orchestrator.ground.paths import Home

if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "race" in sys.argv:
    os.write(1, b"r")
    os.read(0, 1)
fd = pidfile.claim(Home(sys.argv[1]), "broker", wait="wait" in sys.argv)
os.write(1, b"0" if fd is None else b"1")
if fd is not None:
    signal.pause()
