"""Child processes that end with the process that started them, however that ends.

The kernel tells only the child itself (PR_SET_PDEATHSIG), and forgets it at each fork: what a child starts is for
whoever keeps it to end.
"""

from __future__ import annotations

import ctypes
import os
import signal

_prctl = ctypes.CDLL(None).prctl
_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """In the child, before it becomes another program: SIGKILL as soon as the parent ends, or if it has by now."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
