"""A command with a wall clock that tests step: stepped.py COMMAND FILE [options]; the file holds seconds to add."""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "lib"))

from tmux_orchestrator.ground import clock

STEP_FILE = sys.argv[2]


def now_ns() -> int:
    with open(STEP_FILE, encoding="ascii") as file:
        return time.time_ns() + int(file.read()) * 1_000_000_000


clock.now_ns = now_ns  # before anybody else takes it over

from tmux_orchestrator.run import run  # noqa: E402

run(sys.argv[1], sys.argv[3:])
