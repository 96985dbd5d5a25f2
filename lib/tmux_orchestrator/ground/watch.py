"""Being woken: when files change, when something can be read, by a signal to stop.

inotify is a hint, never the truth: it overflows, it runs out of instances, it does not see other machines. So
`wait` returns after a second at the latest, and whoever waits then looks for itself. Where inotify is not to be
had the watch only sleeps, a tenth of a second at a time.
"""

from __future__ import annotations

import math
import os
import select
import signal
import time
from collections.abc import Callable
from types import FrameType

from tmux_orchestrator.ground import paths

paths.add_packages()

from inotify_simple import INotify, flags  # noqa: E402

_CHANGES = flags.MODIFY | flags.CREATE | flags.MOVED_TO | flags.DELETE
_SECOND = 1.0
_NAP = 0.1


class Watch:
    """Watches folders, not what is in their folders. `fileno` is -1 where inotify is not to be had."""

    def __init__(self, folders: list[str]) -> None:
        self._inotify: INotify | None = None
        try:
            self._inotify = INotify()
            for folder in folders:
                self._inotify.add_watch(folder, _CHANGES)
        except OSError:
            self.close()

    def fileno(self) -> int:
        return -1 if self._inotify is None else self._inotify.fileno()

    def drain(self) -> None:
        """Forget what has been told: the caller looks now."""
        if self._inotify is not None:
            self._inotify.read(timeout=0)

    def wait(self, seconds: float) -> None:
        """Return when something changed, or after `seconds`, or after one second."""
        if self._inotify is None:
            time.sleep(min(seconds, _NAP))
            return
        if readable([self._inotify.fileno()], min(seconds, _SECOND)):
            self.drain()

    def close(self) -> None:
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None


def readable(fds: list[int], seconds: float) -> set[int]:
    """Those that have something to read, as soon as one has or after `seconds`. -1 stands for none.

    Not by `select`, which refuses descriptors from 1024 on.
    """
    poll = select.poll()
    for fd in fds:
        if fd >= 0:
            poll.register(fd, select.POLLIN)
    return {fd for fd, _ in poll.poll(math.ceil(max(0.0, seconds) * 1000))}


def on_stop(handler: Callable[[int, FrameType | None], None]) -> int:
    """Have the handler called by each signal to stop; a descriptor that becomes readable with it."""
    wakeup, written = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(written, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, handler)
    return wakeup


def is_closed(fd: int) -> bool:
    """Has whoever read from this pipe gone? Without asking, it shows only when there is something to write."""
    poll = select.poll()
    poll.register(fd, 0)
    return any(told & (select.POLLERR | select.POLLHUP) for _, told in poll.poll(0))
