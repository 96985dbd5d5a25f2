"""One target: what waits for it, what it may still be typed, why it is held, and what was just typed into it.

A lane decides nothing about panes and writes nothing down; the dispatcher does, and tells the lane. Rooms count
boot time, which no clock step moves; the outbox counts wall time, in which messages expire.
"""

from __future__ import annotations

from dataclasses import dataclass

from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.delivery.bucket import MINUTE, Bucket, Window
from tmux_orchestrator.delivery.outbox import Outbox, Room, Typing

MS = 1_000_000
SECOND = 1000 * MS
NORMAL, CRITICAL, LINE = "normal", "critical", "line"

# When a held pane is looked at again: soon at first, then once a second.
_LOOKS = (20 * MS, 50 * MS, 100 * MS, 250 * MS, 500 * MS, SECOND)
# When evidence of a submission is looked for, after the last keystroke.
_EVIDENCE = tuple(ms * MS for ms in (25, 25, 25, 25, 50, 50, 100, 200, 250, 250))
_RETRIES = tuple(seconds * SECOND for seconds in (1, 2, 4, 8, 16))
# An intent whose end is not known was typed at the latest when tmux's deadline ran out.
_DOUBT_NS = 5 * SECOND
STEADY_AFTER = 20  # refusals because the screen moved, after which its cursor is no longer asked for


@dataclass(slots=True)
class Flight:
    """A frame that was typed: waiting for its submit key, or for evidence that it was submitted."""

    typing: Typing
    mark: str
    text: str
    attempt: int
    typed_ns: int  # boot clock
    submit_at: int = 0  # boot clock; 0 once the key was pressed
    pressed_again: bool = False
    empty_looks: int = 0
    looks: int = 0


class Lane:
    """The state of one target; `agent` is None as long as nobody of that name is registered."""

    def __init__(self, key: str, per_minute: int, critical_per_minute: int, outbox: Outbox) -> None:
        self.key = key
        self.agent: Agent | None = None
        self.outbox = outbox
        self.flight: Flight | None = None
        self.per_minute = per_minute
        self.windows = {
            NORMAL: Window(per_minute),
            CRITICAL: Window(critical_per_minute),
            LINE: Window(1 if per_minute else 0),
        }
        self.bucket = Bucket(per_minute, MINUTE) if per_minute else None
        self.hold = ""
        self.held_since = 0  # boot clock
        self.moves = 0
        self.failures = 0
        self.due_at = 0  # boot clock: not looked at before
        self._looks = 0

    def room(self, now: int) -> Room:
        """What may be typed now."""
        normal = self.windows[NORMAL].room(now) == 0 and (self.bucket is None or self.bucket.peek(now) == 0)
        return Room(normal, self.windows[CRITICAL].room(now) == 0, self.windows[LINE].room(now) == 0)

    def room_at(self, now: int) -> int:
        """When, on the boot clock, there is more room than now; `now` if all is open."""
        waits = [window.room(now) for window in self.windows.values()]
        if self.bucket is not None:
            waits.append(self.bucket.peek(now))
        return now + min((wait for wait in waits if wait), default=0)

    def intend(self, kind: str, now: int) -> None:
        """A frame of this kind is about to be typed."""
        self.windows[kind].note(now)
        if kind == NORMAL and self.bucket is not None:
            self.bucket.take(now)

    def typed(self, kind: str, intended: int, now: int) -> None:
        """It was typed: the window counts from when it could be seen."""
        self.windows[kind].moved(intended, now)
        self.failures = self.moves = 0
        self.release()

    def undo(self, kind: str, intended: int) -> None:
        """Nothing was typed after all."""
        self.windows[kind].forget(intended)
        if kind == NORMAL and self.bucket is not None:
            self.bucket.level_ns = max(0, self.bucket.level_ns - self.bucket.interval_ns)

    def remember(self, kind: str, intended: int, now: int) -> None:
        """A frame that an earlier life of the broker intended; it counts as typed."""
        if kind in self.windows:
            self.windows[kind].note(min(now, intended + _DOUBT_NS))
            if kind == NORMAL and self.bucket is not None:
                self.bucket.level_ns = self.bucket.level_ns + self.bucket.interval_ns
                self.bucket.stamp_ns = max(self.bucket.stamp_ns, intended)

    def hold_for(self, reason: str, now: int) -> bool:
        """Leave the pane alone for a while; True when this reason is new."""
        new = reason != self.hold
        if new:
            self.hold, self.held_since, self._looks = reason, now, 0
        self.due_at = now + _LOOKS[min(self._looks, len(_LOOKS) - 1)]
        self._looks += 1
        return new

    def release(self) -> None:
        self.hold, self.held_since, self._looks = "", 0, 0

    def failed(self, now: int, breaker_failures: int, open_ns: int) -> int:
        """Typing went wrong: wait before the next try; how often it did so in a row."""
        self.failures += 1
        pause = _RETRIES[min(self.failures, len(_RETRIES)) - 1]
        self.due_at = now + (open_ns if self.failures >= breaker_failures else pause)
        return self.failures

    def next_evidence(self, now: int) -> None:
        """When to look for evidence again."""
        assert self.flight is not None
        self.due_at = now + _EVIDENCE[min(self.flight.looks, len(_EVIDENCE) - 1)]
        self.flight.looks += 1

    def wake_at(self, boot: int, wall: int) -> int | None:
        """When, on the boot clock, the lane next wants a turn; None while only an event can change anything."""
        if self.flight is not None:
            return self.flight.submit_at or self.due_at
        if not len(self.outbox):
            soonest = self.outbox.wake_ns()
            return None if soonest is None else boot + max(0, soonest - wall)
        times = [self.due_at if self.due_at > boot else boot]
        if not self.hold and self.due_at <= boot:
            times = [at for at in (self.room_at(boot),) if at > boot]
            soonest = self.outbox.wake_ns()
            times += [] if soonest is None else [boot + max(0, soonest - wall)]
        return min(times, default=boot + SECOND)


def mark_of(text: str) -> str:
    """What a frame is recognised by on a screen: its header without spaces, from the id on."""
    squeezed = "".join(text[:400].split())
    start = max(0, squeezed.find("#", 0, 120))
    end = squeezed.find("]", start)
    return squeezed[start : end + 1 if start < end < start + 28 else start + 28]
