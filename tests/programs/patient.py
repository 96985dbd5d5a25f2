"""`orc-task` whose worker never loses patience with a command that it asked to end: patient.py [options]."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "lib"))

from tmux_orchestrator.run import run
from tmux_orchestrator.work import worker

worker.GRACE_S = 100_000.0

run("orc-task", sys.argv[1:])
