"""How long messages took from the log into a pane, from the `delivery` records, against each priority's target.

A message counts once per target: with its first typing, or with the digest that brought it. One that was held,
limited or waited for a dead agent is counted apart: its wait says how long somebody's draft or dialog stood there,
not how fast the system is. Nothing is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from tmux_orchestrator.eventlog import reader
from tmux_orchestrator.eventlog.event import PRIORITIES
from tmux_orchestrator.ground.clock import parse_stamp
from tmux_orchestrator.ground.paths import Home

# Milliseconds from the log into the pane.
TARGETS_MS = {"critical": 50.0, "high": 75.0, "normal": 100.0, "low": 500.0}
# The records that tell it.
KINDS = ("delivery", "rate_limited")
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_DIGIT = {char: value for value, char in enumerate(_ALPHABET)}

Sample = tuple[str, str]  # event id, target


def percentile(ordered: Sequence[float], percent: float) -> float | None:
    """The nearest rank in an ordered sequence; None for an empty one."""
    if not ordered:
        return None
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


def summary(samples: Iterable[float], target_ms: float) -> dict[str, Any]:
    """`p50` `p95` `p99` in milliseconds, `count`, and `within_target`, a share of 1."""
    ordered = sorted(samples)
    within = sum(sample <= target_ms for sample in ordered)
    found = {f"p{rank}": _rounded(percentile(ordered, rank)) for rank in (50, 95, 99)}
    return found | {"count": len(ordered), "within_target": round(within / len(ordered), 4) if ordered else None}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


class Tally:
    """Takes delivery and rate_limited events in the order of the log.

    `direct` and `delayed` hold milliseconds by priority, `outcomes` how many messages (per target) had each: held and
    rate_limited at any time, typed, and the ends.
    """

    def __init__(self) -> None:
        self.direct: dict[str, list[float]] = {priority: [] for priority in PRIORITIES}
        self.delayed: dict[str, list[float]] = {priority: [] for priority in PRIORITIES}
        self.outcomes: Counter[str] = Counter()
        self._seen: dict[str, set[Sample]] = {"held": set(), "rate_limited": set(), "typed": set()}

    def take(self, event: dict[str, Any]) -> None:
        """One record; what is none of ours is left out."""
        try:
            context = event["message"]["content"]["context"]
            outcome, key = context["outcome"], (context["event"], context["target"])
            if outcome == "failed" and not context.get("final"):
                outcome = "held"  # for an agent that is gone: it waits until it is back
            seen = self._seen.get(outcome)
            if seen is None:
                self.outcomes[outcome] += 1
            elif key not in seen:
                seen.add(key)
                self.outcomes[outcome] += 1
                if outcome != "typed":
                    return
                self._add(key, str(context.get("priority") or "normal"), float(context["latency_ms"]))
            if outcome == "digested" and context.get("reason") == "gathered":
                self._gathered(key, event["timestamp"])
        except (KeyError, TypeError, ValueError):
            return

    def _gathered(self, key: Sample, stamp: str) -> None:
        """It came with others in one frame, whose record says when but not since when."""
        made = made_ms(key[0])
        if made is not None:
            self._add(key, "low", max(0.0, parse_stamp(stamp) / 1e6 - made))

    def _add(self, key: Sample, priority: str, took_ms: float) -> None:
        delayed = key in self._seen["held"] or key in self._seen["rate_limited"]
        (self.delayed if delayed else self.direct)[priority].append(took_ms)

    def latency_ms(self) -> dict[str, dict[str, Any]]:
        """The summary of each priority."""
        return {priority: summary(self.direct[priority], TARGETS_MS[priority]) for priority in PRIORITIES}


def made_ms(event_id: str) -> int | None:
    """When an event was stored, from an id that the log made; None for one that its sender chose."""
    if len(event_id) != 26 or not all(char in _DIGIT for char in event_id):
        return None
    number = 0
    for char in event_id[:10]:
        number = number * 32 + _DIGIT[char]
    return number


def recent(home: Home, since_ns: int, most: int) -> Tally:
    """The newest `most` records of each kind since then."""
    found: list[dict[str, Any]] = []
    for kind in KINDS:
        query = reader.Query()
        query.since, query.types = since_ns, [kind]
        found += [event for _, event in reader.last(home, query, most)]
    tally = Tally()
    for event in sorted(found, key=_place):
        tally.take(event)
    return tally


def _place(event: dict[str, Any]) -> int:
    seq = event.get("seq")
    return seq if isinstance(seq, int) else 0
