"""What follows when an agent that gave signs of life gives none: a nudge, then an alert, then its recovery.

Pure: boot-clock nanoseconds come in, findings go out, each once per silence and one rung at a time. The nudge is due
after `limit` of silence, each further rung a `step` after the one before. Nothing is found while an agent is inhibited
(limited, paused, dead), and its silence begins anew when that ends; a sign, or another process, ends it.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from tmux_orchestrator.ground.config import Config

NUDGE, ALERT, RECOVER = RUNGS = ("nudge", "alert", "recover")
NEVER = 1 << 63
NUDGE_TEXT = "no sign of life had come from you for a while: go on with your work, or say what holds it up"


class _Place:
    """How far up one agent is: `base` is what the next rung counts from."""

    __slots__ = ("base", "rung", "since")

    def __init__(self, since: int) -> None:
        self.since = self.base = since
        self.rung = 0


class Ladder:
    """Has nobody on it at first. The times may change at any moment."""

    def __init__(self, settings: Config) -> None:
        self.limit_ns = self.step_ns = 0
        self._places: dict[str, _Place] = {}
        self.heed(settings)

    def heed(self, settings: Config) -> None:
        """The limit is the configured one, and a step half of it: one beat, if two make the limit."""
        self.limit_ns = int(settings.get("heartbeat.missed_after") * 1e9)
        self.step_ns = self.limit_ns // 2

    def climb(self, silences: Mapping[str, int], inhibited: Container[str], now: int) -> list[tuple[str, str]]:
        """What is found at `now`; `silences` is since when each agent that ever gave a sign has been silent."""
        found = []
        self._places = {key: place for key, place in self._places.items() if key in silences}
        for key, since in silences.items():
            place = self._places.get(key)
            if place is None or since > place.since:
                place = self._places[key] = _Place(since)
            if key in inhibited:
                place.base, place.rung = now, 0
            elif now >= self._due(place):
                found.append((RUNGS[place.rung], key))
                place.base, place.rung = now, place.rung + 1
        return found

    def next_due(self, now: int) -> int:
        """When after `now` there may be something to find; NEVER when nobody can be missed."""
        return min((due for place in self._places.values() if (due := self._due(place)) > now), default=NEVER)

    def _due(self, place: _Place) -> int:
        if place.rung == len(RUNGS):
            return NEVER
        return place.base + (self.step_ns if place.rung else self.limit_ns)
