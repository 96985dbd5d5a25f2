"""When an agent that ended may be started again: at once after a stable run, then ever later, then not by itself.

Pure: nanoseconds of the wall clock come in, a verdict comes out; whoever asks keeps the `Past`. The rule:

1. After a run of at least `grace` the next start is due at once, but no sooner than `cooldown` after the last one.
2. After a shorter run it is due `first` after the last start, twice as long after each further short run, at most
   `longest`.
3. After `attempts` starts within `within` nobody starts it again until somebody asks for it by hand.

A clock that ran back makes nobody wait for longer than these times: a start that lies ahead counts as just done.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

from tmux_orchestrator.ground.config import Config

Kind = TypeVar("Kind")
COOLDOWN, BACKOFF, BREAKER = "cooldown", "backoff", "breaker"


@dataclass(frozen=True, slots=True)
class Rules:
    """Nanoseconds, but for the number of `attempts`; see the section `recovery` of the configuration."""

    grace: int
    cooldown: int
    first: int
    longest: int
    attempts: int
    within: int

    @classmethod
    def of(cls, settings: Config) -> Rules:
        first, longest = settings.get("recovery.backoff_s")
        attempts, within = settings.get("recovery.breaker")
        return cls(
            grace=_ns(settings.get("recovery.grace_s")),
            cooldown=_ns(settings.get("recovery.cooldown_s")),
            first=_ns(first),
            longest=_ns(longest),
            attempts=attempts,
            within=_ns(within),
        )


@dataclass(slots=True)
class Past:
    """What was done for one agent: when it was started again, and after how many short runs in a row.

    `told`: what was said already of its staying away, so that it is said once.
    """

    starts: list[int] = field(default_factory=list)
    short_runs: int = 0
    told: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {"starts": self.starts, "short_runs": self.short_runs, "told": self.told}

    def tells(self, what: str) -> bool:
        """Is it new? It is remembered as told; the last few are."""
        if what in self.told:
            return False
        self.told = [*self.told, what][-4:]
        return True

    @classmethod
    def from_dict(cls, stored: object) -> Past:
        """What `to_dict` made; an empty past for anything else."""
        if not isinstance(stored, dict):
            return cls()
        short_runs = stored.get("short_runs")
        starts, told = _list(stored.get("starts"), int), _list(stored.get("told", []), str)
        if type(short_runs) is not int or short_runs < 0 or starts is None or told is None:
            return cls()
        return cls(starts, short_runs, told)


@dataclass(frozen=True, slots=True)
class Verdict:
    """May it be started now? If not, why, and in how many nanoseconds; 0: only by hand."""

    reason: str = ""
    wait_ns: int = 0

    @property
    def allowed(self) -> bool:
        return not self.reason


def judge(past: Past, ran_ns: int, now_ns: int, rules: Rules) -> Verdict:
    """`ran_ns`: how long the agent ran before it ended."""
    starts = [min(at, now_ns) for at in past.starts]
    if sum(now_ns - at < rules.within for at in starts) >= rules.attempts:
        return Verdict(BREAKER)
    if not starts:
        return Verdict()
    stable = ran_ns >= rules.grace
    pause = rules.cooldown if stable else min(rules.longest, rules.first << min(past.short_runs, 32))
    left = starts[-1] + pause - now_ns
    return Verdict(COOLDOWN if stable else BACKOFF, left) if left > 0 else Verdict()


def started(past: Past, ran_ns: int, now_ns: int, rules: Rules) -> None:
    """It was started again."""
    past.short_runs = 0 if ran_ns >= rules.grace or not past.starts else past.short_runs + 1
    recent = [min(at, now_ns) for at in past.starts if now_ns - at < rules.within]
    past.starts = [*recent[-rules.attempts :], now_ns]


def _list(values: object, kind: type[Kind]) -> list[Kind] | None:
    """The values, if they are a list of that kind alone."""
    return values if isinstance(values, list) and all(type(value) is kind for value in values) else None


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
