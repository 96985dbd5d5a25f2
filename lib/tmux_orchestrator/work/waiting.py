"""Waiting for a task: woken by inotify when somebody writes the database, at the latest after a second.

A hint only: each time the queue itself is asked. Between two looks a moment passes, so that a busy queue does not
keep those awake who wait for something else.
"""

from __future__ import annotations

import os
import time

from tmux_orchestrator.ground import watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tmux_orchestrator.work.message import Message
    from tmux_orchestrator.work.queue import MessageQueue

_MOMENT = 0.001  # seconds


def get(
    queue: MessageQueue, recipient: str, seconds: float | None, lease: float | None, worker: str | None
) -> Message | None:
    """`queue.get`, as soon as there is a task; None after `seconds` (None: however long it takes)."""
    end = None if seconds is None else time.monotonic() + seconds
    changes = watch.Watch([os.path.dirname(queue.db_path)])
    try:
        while True:
            got = queue.get(recipient, lease=lease, worker=worker) if queue.is_ready(recipient) else None
            left = 1.0 if end is None else end - time.monotonic()
            if got is not None or left <= 0:
                return got
            changes.wait(left)
            time.sleep(_MOMENT)
    finally:
        changes.close()
