"""orc-broker that dies by kill -9 at its first frame: killed_broker.py before|between|after.

Before or after typing it, or between the paste and its submit key.
"""

import os
import signal
import sys
from dataclasses import replace

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "lib"))

from tmux_orchestrator.delivery.typist import Typist
from tmux_orchestrator.run import run

real = Typist.type


def dies(self: Typist, *given: object) -> list[str]:
    if sys.argv[1] == "between":
        self.profiles = {name: replace(one, pause_ms=1000) for name, one in self.profiles.items()}
    if sys.argv[1] != "before":
        real(self, *given)  # type: ignore[arg-type]
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


Typist.type = dies  # type: ignore[assignment,method-assign]
run("orc-broker", sys.argv[2:])
