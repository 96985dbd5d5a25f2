"""One target: what waits for it, what it may still be typed, why it is held, and what was just typed into it.

A lane decides nothing about panes and writes nothing down; the dispatcher does, and tells the lane. Rooms count
boot time, which no clock step moves; the outbox counts wall time, in which messages expire.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.delivery.bucket import MINUTE, SECOND, WINDOW_NS, Bucket, Window
from tmux_orchestrator.delivery.outbox import Outbox
from tmux_orchestrator.delivery.turns import Room, Typing
from tmux_orchestrator.delivery.waiting import End, Item

MS = 1_000_000
NORMAL, CRITICAL, LINE = "normal", "critical", "line"
WAKE, PULL, SILENT = "wake", "pull", "hook_silent"

# When a held pane is looked at again: soon at first, then once a second.
_LOOKS = (20 * MS, 50 * MS, 100 * MS, 250 * MS, 500 * MS, SECOND)
# When evidence of a submission is looked for, after the last keystroke.
_EVIDENCE = tuple(ms * MS for ms in (25, 25, 25, 25, 50, 50, 100, 200, 250, 250))
_RETRIES = tuple(seconds * SECOND for seconds in (1, 2, 4, 8, 16))


@dataclass(slots=True)
class Flight:
    """A frame on its way: chosen, typed, waiting for its submit key, or for evidence that it was submitted.

    Times are boot clock. `pid` is the process that it is for. `mark` is what the frame is recognised by on a
    screen, `tail` its end if it is long. `parcel` is what the hook of `agent` hands over instead; `text` is then the
    wake, which is typed only where `way` is WAKE.
    """

    typing: Typing
    text: str
    attempt: int
    kind: str
    intended_at: int
    pid: int
    mark: str = ""
    tail: str = ""
    counted_at: int = 0  # where the window has it, once it may have been seen
    typed_at: int = 0
    submit_at: int = 0  # 0 once the key was pressed
    presses: int = 0  # of the submit key, beyond the first
    was_in_box: bool = False
    looks: int = 0
    way: str = ""  # WAKE or PULL; SILENT: typed, though the profile says wake
    parcel: str = ""
    agent: Agent | None = None
    full: bool = False  # the parcel holds no more
    beside: int = 0  # how many waited beside it when it was offered
    sign_at: int = 0  # when a hook had last spoken then, wall clock
    gone_at: int = 0  # since when nobody has the parcel

    @property
    def ids(self) -> list[str]:
        """The events whose text it holds; the digest line holds nobody's."""
        return [""] if self.kind == LINE else [item.id for item in self.typing.all()]


class Lane:
    """The state of one target; `agent` is None as long as nobody of that name is registered."""

    def __init__(self, key: str, get: Callable[[str], Any]) -> None:
        """`get` reads the configuration."""
        self.key = key
        self.agent: Agent | None = None
        self.outbox = Outbox()
        self.windows = {kind: Window(0, WINDOW_NS) for kind in (NORMAL, CRITICAL, LINE)}
        self.bucket: Bucket | None = None
        self.parcels = 0  # how many messages a parcel holds, about; 0: each message is a frame of its own
        self.configure(get)
        self.flight: Flight | None = None
        self.unsettled: list[Item] = []  # typed, or perhaps: the screen is asked before anything else is typed
        self.hold = ""
        self.held_since = 0
        self.held_before: dict[str, int] = {}  # by an earlier life of the broker: reason -> since when
        self.full = False  # the last turn typed as many as a turn may: there may be more
        self.moves = 0
        self.ready = (0, 0)  # (pid, since when its input box has been seen)
        self.failures = 0
        self.silence = (0, 0, 0)  # (pid, how many wakes in a row its hook did not answer, when that was, wall clock)
        self.recalls: dict[str, str] = {}  # event id, or "" for all -> why it is to be ended in a parcel that waits
        self.presses = 0  # of the submit key, for a wake that an earlier life of the broker left in the input box
        self.due_at = 0  # not looked at before
        self._looks = 0

    def configure(self, get: Callable[[str], Any]) -> None:
        """Take the bounds of the configuration, or of a new one, into use; what was typed still counts."""
        limit = get("monitoring.max_messages_per_minute")
        self.windows[NORMAL].limit = limit
        self.windows[CRITICAL].limit = get("delivery.critical_per_minute")
        self.windows[LINE].limit = 1 if limit else 0
        # Not all of a minute at once: whoever comes after a flood would wait for as long as the window is. A parcel
        # holds what has come since the one before, so half of them are spread over the minute.
        burst = limit - limit // (2 if self.parcels else 10)
        if limit and (self.bucket is None or self.bucket.burst != burst):
            self.bucket = Bucket(limit, MINUTE, burst)
        self.bucket = self.bucket if limit else None
        self.outbox.limit, self.outbox.per_frame = limit, self.parcels or 1
        self.outbox.queue_size = get("delivery.queue_size")
        self.outbox.pair_limit = get("delivery.pair_per_minute") if limit else 0
        self.outbox.gather_ns = get("delivery.digest_ms") * 800_000

    def busy(self) -> bool:
        """Is something on its way, or waiting?"""
        return self.flight is not None or bool(self.unsettled) or bool(self.outbox)

    def rests(self, wall: int) -> bool:
        """Is there nothing to see its pane for, because all that waits is for later? Then nothing holds it either."""
        return self.flight is None and not self.unsettled and self.outbox.rests(wall)

    def uncertain(self) -> list[Item]:
        """What may have been handed over, and nobody knows yet."""
        flight = self.flight
        return self.unsettled if flight is None or not flight.parcel else [*self.unsettled, *flight.typing.all()]

    def pulls(self) -> bool:
        """Does a parcel wait for the agent's turn to end, and nothing is typed?"""
        return self.flight is not None and self.flight.way == PULL

    def clear(self, reason: str, event_id: str = "") -> list[End]:
        """End everything that waits, or all there is of one event; what waits in a parcel is taken back first."""
        if self.flight is not None and self.pulls() and event_id in ("", *self.flight.ids):
            self.recalls[event_id], self.due_at = reason, 0
        return self.outbox.end(event_id, "expired", reason) if event_id else self.outbox.clear("expired", reason)

    def waiting(self) -> int:
        """How many messages have not reached an end: waiting, on their way, or in doubt."""
        flying = 0 if self.flight is None else len(self.flight.typing.all())
        return len(self.outbox) + flying + sum(len(item.all()) for item in self.unsettled)

    # the bounds

    def room(self, now: int) -> Room:
        """What may be typed now. A parcel does not wait for the bucket until the queue is full, and no line tells of
        what is in the next one."""
        window = self.windows[NORMAL].room(now) == 0
        crowded = self.parcels > 0 and 4 * len(self.outbox) >= 3 * self.outbox.queue_size
        normal = window and (crowded or self.bucket is None or self.bucket.peek(now) == 0)
        line = self.windows[LINE].room(now) == 0 and not (window and self.parcels)
        return Room(normal, self.windows[CRITICAL].room(now) == 0, line)

    def _room_at(self, now: int) -> int | None:
        """When there is more room than now; None if all is open."""
        waits = [window.room(now) for window in self.windows.values()]
        waits += [self.bucket.peek(now)] if self.bucket is not None else []
        return min((now + wait for wait in waits if wait), default=None)

    def intend(self, kind: str, now: int) -> None:
        """A frame of this kind is about to be typed."""
        self.windows[kind].note(now)
        if kind == NORMAL and self.bucket is not None:
            self.bucket.take(now)

    def landed(self, flight: Flight, now: int) -> None:
        """It was typed, or nobody knows: the window counts from when it could be seen at the latest."""
        self.windows[flight.kind].moved(flight.counted_at or flight.intended_at, now)
        flight.counted_at = now

    def undo(self, flight: Flight) -> None:
        """Nothing was typed after all."""
        self.windows[flight.kind].forget(flight.intended_at)
        if flight.kind == NORMAL and self.bucket is not None:
            self.bucket.level_ns = max(0, self.bucket.level_ns - self.bucket.interval_ns)

    def remember(self, kind: str, at: int) -> None:
        """A frame that an earlier life of the broker typed, then or before."""
        if kind in self.windows:
            self.intend(kind, at)

    # when to look

    def hold_for(self, reason: str, now: int) -> None:
        """Leave the pane alone for a while, the longer the longer it lasts."""
        if reason != self.hold:
            self.hold, self.held_since, self._looks = reason, self.held_before.pop(reason, now), 0
        self.due_at = now + _LOOKS[min(self._looks, len(_LOOKS) - 1)]
        self._looks += 1

    def was_held(self, since: dict[str, int]) -> None:
        """By an earlier life of the broker, for these reasons: a hold that goes on is as old as it is."""
        for reason, at in since.items():
            self.held_before[reason] = min(at, self.held_before.get(reason, at))

    def release(self) -> None:
        self.hold, self.held_since, self._looks = "", 0, 0
        self.held_before.clear()

    def failed(self, now: int, breaker: int, open_ns: int) -> None:
        """Typing went wrong: wait before the next try; after `breaker` times in a row, for `open_ns`."""
        self.failures += 1
        pause = _RETRIES[min(self.failures, len(_RETRIES)) - 1]
        self.due_at = now + (open_ns if self.failures >= breaker else pause)

    def next_evidence(self, now: int) -> None:
        """When to look for evidence again."""
        assert self.flight is not None
        self.due_at = now + _EVIDENCE[min(self.flight.looks, len(_EVIDENCE) - 1)]
        self.flight.looks += 1

    def is_due(self, boot: int) -> bool:
        """Is a pane that nothing holds to be looked at again by then?"""
        return not self.hold and 0 < self.due_at <= boot

    def wake_at(self, boot: int, wall: int) -> int | None:
        """When, on the boot clock, the lane next wants a turn; None while only an event can change anything."""
        if self.flight is not None:
            return self.flight.submit_at or self.due_at
        if not self.busy():
            return None
        if self.rests(wall):
            soonest = self.outbox.wake_ns()
            return None if soonest is None else boot + max(0, soonest - wall)
        if self.hold or self.due_at > boot or self.unsettled:
            return self.due_at
        if self.full:
            return boot
        soonest = self.outbox.wake_ns()
        times = [self._room_at(boot), None if soonest is None else boot + max(0, soonest - wall)]
        return min((at for at in times if at is not None), default=None)


def mark_of(text: str) -> str:
    """What a frame is recognised by on a screen: its header without spaces, from the id on."""
    squeezed = "".join(text[:400].split())
    start = max(0, squeezed.find("#", 0, 120))
    end = squeezed.find("]", start)
    return squeezed[start : end + 1 if start < end < start + 28 else start + 28]


def tail_of(text: str) -> str:
    """The end of a long frame without spaces: its beginning may have left the screen. "" for a short one."""
    return "".join(text[-200:].split())[-40:] if len(text) > 400 else ""
