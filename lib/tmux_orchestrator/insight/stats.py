"""Figures of a stretch of time, all from the log: how many messages, what became of them, how fast, how often.

Only the records of deliveries are decoded; of everything else the log's own lines are counted by the bytes that they
must hold. Nothing is kept.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tmux_orchestrator.eventlog import reader
from tmux_orchestrator.eventlog.event import PRIORITIES, RECORDS
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.insight import backlog, latency, words
from tmux_orchestrator.insight.latency import TARGETS_MS

OUTCOMES = (
    "typed",
    "confirmed",
    "acked",
    "digested",
    "held",
    "rate_limited",
    "superseded",
    "expired",
    "failed",
    "dead",
)
_TOLD = tuple(f'"type": "{kind}"'.encode() for kind in latency.KINDS)
_RECORDS = tuple(f'"type": "{kind}"'.encode() for kind in sorted(RECORDS - set(latency.KINDS)))
_NOBODY = (b'"to": {"groups": [], "targets": []}', b'"to": {"targets": [], "groups": []}')
_PRIORITY = b'"priority": "'


@dataclass(slots=True)
class Stats:
    """From `since_ns` to `until_ns`. `published`: messages addressed to somebody, by priority; `logged`: all lines."""

    since_ns: int
    until_ns: int
    waits: backlog.Backlog
    tally: latency.Tally = field(default_factory=latency.Tally)
    published: Counter[str] = field(default_factory=Counter)
    logged: int = 0

    @property
    def minutes(self) -> float:
        return max(1 / 60, (self.until_ns - self.since_ns) / 60e9)

    def take(self, line: bytes) -> None:
        """One line of the log."""
        at = line.find(_PRIORITY) + len(_PRIORITY)
        if at < len(_PRIORITY):
            return  # damage: every event that the log stored has one
        self.logged += 1
        if any(kind in line for kind in _TOLD):
            event = reader.decode(line)
            if event is not None and event["message"]["type"] in latency.KINDS:
                self.tally.take(event)
                return
        if not any(needle in line for needle in (*_NOBODY, *_RECORDS)):
            self.published[line[at : line.find(b'"', at)].decode("ascii", "replace")] += 1

    def document(self) -> dict[str, Any]:
        """The fields that scripts read."""
        outcomes = {name: self.tally.outcomes[name] for name in OUTCOMES}
        published = self.published.total()
        return {
            "since": clock.stamp(self.since_ns),
            "until": clock.stamp(self.until_ns),
            "queue_depth": self.waits.queued,
            "held": self.waits.held,
            "rate_limited": self.waits.rate_limited,
            "awaiting_ack": self.waits.awaiting_ack,
            "events": self.logged,
            "published": published,
            "published_by_priority": {priority: self.published[priority] for priority in PRIORITIES},
            "outcomes": outcomes,
            "latency_ms": self.tally.latency_ms(),
            "delayed_ms": {
                priority: latency.summary(self.tally.delayed[priority], TARGETS_MS[priority]) for priority in PRIORITIES
            },
            "per_minute": {
                "events": round(self.logged / self.minutes, 2),
                "published": round(published / self.minutes, 2),
                "typed": round(outcomes["typed"] / self.minutes, 2),
            },
        }


def gather(home: Home, since_ns: int, until_ns: int) -> Stats:
    """Read the log of that time. Raises DataError, SystemFailure."""
    query = reader.Query()
    query.since = since_ns
    stats = Stats(since_ns, until_ns, backlog.read(home))
    first = None
    for file, start, stop in reader.spans(home, query):
        for line in file.forward(start, stop, []):
            first = first or _stamp(line)
            stats.take(line)
    stats.since_ns = max(since_ns, first or 0)
    return stats


def _stamp(line: bytes) -> int | None:
    event = reader.decode(line)
    try:
        return None if event is None else clock.parse_stamp(event["timestamp"])
    except ValueError:
        return None


def render(stats: Stats, since: str) -> list[str]:
    """The report for people; each figure can be found with grep."""
    told = stats.document()
    waits, rates = ("held", "rate_limited", "awaiting_ack"), told["per_minute"]
    lines = [
        f"Queue Depth: {told['queue_depth']}",
        "Waiting: " + (", ".join(f"{told[name]} {name}" for name in waits if told[name]) or "nothing for long"),
        f"Since: {since}",
        f"Published: {told['published']} ({rates['published']:g} per minute)",
        f"Typed: {told['outcomes']['typed']} ({rates['typed']:g} per minute)",
        f"Events: {told['events']} ({rates['events']:g} per minute)",
        "Outcomes: " + (", ".join(f"{n} {name}" for name, n in told["outcomes"].items() if n) or "none"),
    ]
    for priority in PRIORITIES:
        lines += ["", *_of_priority(priority, told)]
    return lines


def _of_priority(priority: str, told: dict[str, Any]) -> list[str]:
    one, delayed, target = told["latency_ms"][priority], told["delayed_ms"][priority], TARGETS_MS[priority]
    rows = [f"Messages: {told['published_by_priority'][priority]} published, {one['count']} typed at once"]
    if delayed["count"]:
        rows[0] += f", {delayed['count']} after a hold (P50 {words.span((delayed['p50'] or 0) / 1000)})"
    rows += [f"{rank.upper()}: {words.ms(one[rank])}" for rank in ("p50", "p95", "p99")]
    rows.append(f"Within Target: {words.share(one['within_target'])} (target {target:g} ms)")
    return [f"{priority:<8}  {row}" for row in rows]
