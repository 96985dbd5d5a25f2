"""Waiting for a task: woken by inotify when somebody writes the database, at the latest after a second.

A hint only: each time the queue itself is asked. It is asked twice, because a change is written a moment before it
can be seen; and the second time after that moment, so a busy queue does not keep those awake who wait for something
else.
"""

from __future__ import annotations

import os
import time

from tmux_orchestrator.ground import watch
from tmux_orchestrator.ground.errors import TryLater

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tmux_orchestrator.work.message import Message
    from tmux_orchestrator.work.queue import MessageQueue

_MOMENT = 0.001  # seconds


def get(
    queue: MessageQueue, recipient: str, seconds: float | None, lease: float | None, worker: str | None
) -> Message | None:
    """`queue.get`, as soon as there is a task; None after `seconds` (None: however long it takes).

    A database that is locked is waited for too; TryLater only when it still is at the end.
    """
    end = None if seconds is None else time.monotonic() + seconds
    changes = _watch(queue)
    was_woken = False
    try:
        while True:
            got = None
            try:
                got = queue.get(recipient, lease=lease, worker=worker) if queue.is_ready(recipient) else None
            except TryLater:
                if end is not None and time.monotonic() >= end:
                    raise
            left = 1.0 if end is None else end - time.monotonic()
            if got is not None or left <= 0:
                return got
            if was_woken:
                time.sleep(_MOMENT)
            else:
                changes.wait(left)
            was_woken = not was_woken
    finally:
        queue.watches.append((os.getpid(), changes))


def _watch(queue: MessageQueue) -> watch.Watch:
    """One of the queue's that nobody uses: to close one takes the kernel 6 milliseconds, while the task would wait."""
    try:
        pid, kept = queue.watches.pop()
    except IndexError:
        pid, kept = 0, None
    if pid == os.getpid():
        return kept  # type: ignore[no-any-return]
    return watch.Watch([os.path.dirname(queue.db_path)])  # not a parent's, whose notices it would take away
