"""Who has had how much of one target's last minute, and what a fair share of it is.

Pure; wall clock nanoseconds. For fairness only: the bound itself is a window that no clock step moves.
"""

from __future__ import annotations

from collections import Counter, deque

from tmux_orchestrator.delivery.bucket import WINDOW_NS
from tmux_orchestrator.delivery.waiting import GATHERED, SINGLE, Waiting


class Shares:
    """The frames of the last minute, by sender."""

    def __init__(self) -> None:
        self.of: Counter[str] = Counter()
        self._frames: deque[tuple[int, str]] = deque()

    def note(self, sender: str, ns: int) -> None:
        self._frames.append((ns, sender))
        self.of[sender] += 1

    def forget(self, sender: str, ns: int) -> None:
        """The frame that was noted so was not typed."""
        if (ns, sender) in self._frames:
            self._frames.remove((ns, sender))
            self.of[sender] -= 1

    def prune(self, now_ns: int) -> None:
        while self._frames and not now_ns - WINDOW_NS <= self._frames[0][0] <= now_ns:
            self.of[self._frames.popleft()[1]] -= 1

    def next_ns(self) -> int | None:
        """When the oldest frame is no longer of the last minute."""
        return self._frames[0][0] + WINDOW_NS + 1 if self._frames else None

    def fair(self, waiting: Waiting, limit: int) -> int:
        """What each sender may have of the minute's `limit` before the others; 0 when there is enough for all."""
        if not limit:
            return 0
        gathered = bool(waiting.queues[GATHERED])
        queues = [waiting.queues[rank] for rank in SINGLE]
        frames = sum(len(queue) for senders in queues for queue in senders.values()) + gathered
        if not frames or len(self._frames) + frames <= limit:
            return 0
        return max(1, limit // (len({sender for senders in queues for sender in senders}) + gathered))
