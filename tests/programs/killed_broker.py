"""orc-broker that dies by kill -9 at its first frame, before or after typing it: killed_broker.py before|after."""

import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "lib"))

from tmux_orchestrator.delivery.typist import Typist
from tmux_orchestrator.run import run

real = Typist.type


def dies(self: Typist, *given: object) -> list[str]:
    if sys.argv[1] == "after":
        real(self, *given)  # type: ignore[arg-type]
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


Typist.type = dies  # type: ignore[assignment,method-assign]
run("orc-broker", sys.argv[2:])
