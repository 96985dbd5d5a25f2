"""Is a live agent at work, free, asking or limited: what its hooks said last, weighed against what its screen shows.

Hooks know the edges of a turn, and are lost: Esc fires none in some CLIs, a limit none in others, and whoever kills
a hook kills its word. The screen knows nothing of edges, and is read by patterns that age. So a hook's word counts
until the screen clearly shows something else, for longer than a screen takes to be drawn anew. Pure; ages come from
the times that were noted with the words, so one look needs no memory. Whoever looks again and again may keep one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tmux_orchestrator.ground import clock

if TYPE_CHECKING:
    from tmux_orchestrator.agents.registry import Agent
    from tmux_orchestrator.agents.signs import Sign

HOOK, SCREEN = "hook", "screen"

# Seconds since a hook's last word.
DRAWN_S = 2.0  # within them the screen may show what was before
ASKED_S = 10.0  # a dialog that is not on the screen by then has been answered
WORKED_S = 30.0  # an empty input box and nothing that moves, for so long: the end of the turn was never told
LIMITED_S = 300.0  # a limit that nobody said the end of
AGAIN_S = 1.0  # between two looks that saw the same


class Verdict(NamedTuple):
    """What it does, and whose word that is: HOOK or SCREEN."""

    state: str
    source: str


def weigh(sign: Sign | None, shown: str, now: int, again: bool = False) -> Verdict:
    """The state of a live agent. `shown`: what the screen says (see screen.Screen). `now`: wall clock, ns.

    `again`: an earlier look, after the hooks' last word, saw the same on the screen.
    """
    if sign is None or not sign.state:
        return Verdict(shown, SCREEN)
    if shown in ("unknown", sign.state):
        return Verdict(sign.state, HOOK)
    if shown == "waiting":  # a dialog is there, whatever asked for it
        return Verdict(shown, SCREEN)
    age = max(now - sign.at, 0) / 1e9
    return Verdict(sign.state, HOOK) if _stands(sign, shown, age, now, again) else Verdict(shown, SCREEN)


def _stands(sign: Sign, shown: str, age: float, now: int, again: bool) -> bool:
    """Does a hook's word that is `age` seconds old stand, though the screen shows something else?"""
    if age < DRAWN_S:
        return True
    if sign.state == "waiting":
        return age < ASKED_S
    if sign.state == "working":
        return shown == "idle" and age < WORKED_S and not again
    if sign.state == "limited":
        return shown == "idle" and _is_limited(sign, age, now)
    return False  # a spinner, or a limit, after the end of the turn that was told


def _is_limited(sign: Sign, age: float, now: int) -> bool:
    try:
        return now < clock.parse_stamp(sign.limited_until)
    except ValueError:
        return age < LIMITED_S


class Memory:
    """What earlier looks saw that differs from the hooks' word, so that the second of them is believed."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, str, int]] = {}  # key -> the word's time, what was shown, since when

    def again(self, agent: Agent, sign: Sign | None, shown: str, now: int) -> bool:
        """Has this been seen before, `AGAIN_S` ago or longer, and has no hook spoken since?"""
        if sign is None or shown in ("unknown", sign.state):
            self._seen.pop(agent.key, None)
            return False
        at, before, since = self._seen.get(agent.key, (0, "", 0))
        if (at, before) != (sign.at, shown):
            self._seen[agent.key] = sign.at, shown, now
            return False
        return now - since >= AGAIN_S * 1e9
