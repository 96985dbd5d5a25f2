"""Being woken when files change.

inotify is a hint, never the truth: it overflows, it runs out of instances, it does not see other machines. So
`wait` returns after a second at the latest, and whoever waits then looks for itself. Where inotify is not to be
had the watch only sleeps, a tenth of a second at a time.
"""

from __future__ import annotations

import select
import time

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
        if select.select([self._inotify], [], [], min(seconds, _SECOND))[0]:
            self.drain()

    def close(self) -> None:
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None


def is_closed(fd: int) -> bool:
    """Has whoever read from this pipe gone? Without asking, it shows only when there is something to write."""
    poll = select.poll()
    poll.register(fd, 0)
    return any(told & (select.POLLERR | select.POLLHUP) for _, told in poll.poll(0))
