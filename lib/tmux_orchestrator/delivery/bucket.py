"""How much may pass: a leaky bucket, and the hard window above it.

Both are pure arithmetic on integers: nanoseconds come in, nanoseconds to wait come out, and whoever uses them
stores them. A bucket alone is no bound: one of 10 that leaks 10 a minute passes 19 in one minute, which is
why promises are held by `Window`, which knows the moment of each of the last events.
A clock that runs back makes neither of them wait for longer than it would after a full burst, and gives nothing away.
"""

from __future__ import annotations

from tmux_orchestrator.ground import rates

SECOND, MINUTE = rates.SECOND, rates.MINUTE
# What may be typed in a minute is counted over a little longer: a busy machine lets an agent read late what was typed.
WINDOW_NS = MINUTE + SECOND // 4


class Bucket:
    """A leaky bucket as a meter: each event pours in, the level leaks at the rate, nothing may flow over.

    `level_ns` is the time that what is inside needs to leak out, at `interval_ns` for an event of cost 1;
    `burst` events fit. (level_ns, stamp_ns) is the whole state.
    """

    __slots__ = ("burst", "interval_ns", "level_ns", "stamp_ns")

    def __init__(self, count: int, period_ns: int, burst: int = 0, level_ns: int = 0, stamp_ns: int = 0) -> None:
        """Leaks `count` events in `period_ns`; `burst` 0 means `count`."""
        self.interval_ns = -(-period_ns // count)
        self.burst = burst or count
        self.level_ns = level_ns
        self.stamp_ns = stamp_ns

    def _leaked(self, now_ns: int) -> int:
        """The level now. Time that ran back leaks nothing, and a level beyond the brim is a full bucket."""
        level = min(self.level_ns, self.burst * self.interval_ns)
        return max(0, level - max(0, now_ns - self.stamp_ns))

    def peek(self, now_ns: int, cost: int = 1) -> int:
        """Nanoseconds until `cost` fits, 0 for now. Raises ValueError if it never will."""
        if not 0 < cost <= self.burst:
            raise ValueError(f"a cost of {cost} never fits into a burst of {self.burst}")
        return max(0, self._leaked(now_ns) + (cost - self.burst) * self.interval_ns)

    def take(self, now_ns: int, cost: int = 1) -> int:
        """As `peek`; when that is 0 the cost has been poured in."""
        wait_ns = self.peek(now_ns, cost)
        self.level_ns = self._leaked(now_ns) + (0 if wait_ns else cost * self.interval_ns)
        self.stamp_ns = now_ns
        return wait_ns

    def fill(self, now_ns: int) -> None:
        """Make it full: the safe reading of a state that nobody can read."""
        self.level_ns = self.burst * self.interval_ns
        self.stamp_ns = now_ns


class Window:
    """At most `limit` events in every window of `span_ns`, wherever it is laid, its ends included.

    Whoever asks `room` and is told 0 must `note` the event before doing it; `moved` when it was done later than
    noted, `forget` when it was not done after all. `limit` 0 is no limit.
    """

    __slots__ = ("limit", "span_ns", "times")

    def __init__(self, limit: int, span_ns: int = MINUTE, times: list[int] | None = None) -> None:
        """`times`: the moments of earlier events, in any order."""
        self.limit = limit
        self.span_ns = span_ns
        self.times = sorted(times or [])

    def room(self, now_ns: int) -> int:
        """Nanoseconds until one more event is within the bound, 0 for now."""
        times = self.times
        if times and times[-1] > now_ns:  # the clock ran back: what lies ahead counts as just done
            times = self.times = [min(at, now_ns) for at in times]
        old = 0
        while old < len(times) and times[old] < now_ns - self.span_ns:
            old += 1
        if old:
            del times[:old]
        if not self.limit or len(times) < self.limit:
            return 0
        return times[-self.limit] + self.span_ns - now_ns + 1

    def used(self, now_ns: int) -> int:
        """How many events of the window that ends now are counted."""
        self.room(now_ns)
        return len(self.times)

    def note(self, ns: int) -> None:
        """An event happened, or is about to."""
        self.times.append(ns)
        if len(self.times) > 1 and self.times[-2] > ns:
            self.times.sort()

    def moved(self, noted_ns: int, ns: int) -> None:
        """The event noted at `noted_ns` was done at `ns`: the window counts from when it was seen."""
        self.forget(noted_ns)
        self.note(ns)

    def forget(self, ns: int) -> None:
        """The event noted at `ns` did not happen. A minute may hold very many; `bisect` costs a start its import."""
        times, at, end = self.times, 0, len(self.times)
        while at < end:
            middle = (at + end) // 2
            if times[middle] < ns:
                at = middle + 1
            else:
                end = middle
        if at < len(times) and times[at] == ns:
            del times[at]
