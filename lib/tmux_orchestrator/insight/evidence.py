"""Why a profile does not understand its agent's screen: the pattern that fails, and the screen itself, kept.

A new release of an agent CLI may draw its input box in another way. Then nobody types on a guess, messages wait,
and somebody has to see which pattern no longer fits. The screen is kept in logs/run/evidence/, with its attributes
written out as escapes, so that it can be looked at in any terminal and turned into a test.
"""

from __future__ import annotations

import os
from dataclasses import replace

from tmux_orchestrator.agents import launch, screen
from tmux_orchestrator.agents.profiles import Composer, Profile
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.agents.state import Seen
from tmux_orchestrator.ground import clock, files
from tmux_orchestrator.ground.output import clean
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.ground.tmux import Screenshot

_KEPT_S = 600  # a screen is kept anew after this time


def not_understood(seen: Seen, profile: Profile) -> bool:
    """Does the agent run, with a screen in which its profile finds no input box?"""
    return seen.screen is not None and seen.state == "unknown" and profile.composer is not None


def failed_pattern(profile: Profile, shot: Screenshot) -> str:
    """The key of the profile whose pattern keeps the input box from being found; "" when it is found."""
    composer, cursor = profile.composer, (shot.pane.cursor_x, shot.pane.cursor_y)
    if composer is None or _found(profile, shot.lines, cursor):
        return ""
    if not any(composer.prompt.match(line) for line in screen.plain(shot.lines)):
        return "composer.prompt"
    for key, relaxed in _relaxed(composer).items():
        if _found(replace(profile, composer=relaxed), shot.lines, cursor):
            return "composer." + key
    return "composer"


def _relaxed(composer: Composer) -> dict[str, Composer]:
    """The same input box without one of its conditions each."""
    return {
        "above": replace(composer, above=None),
        "end": replace(composer, end=None),
        "bright": replace(composer, bright=False),
        "cursor": replace(composer, cursor=False),
    }


def _found(profile: Profile, lines: list[str], cursor: tuple[int, int]) -> bool:
    return screen.classify(profile, lines, cursor).composer != "none"


def path(home: Home, agent: Agent) -> str:
    name = os.path.basename(launch.file(home, agent.session, agent.name)).removesuffix(".json")
    return f"{home.run}/evidence/{name}.txt"


def keep(home: Home, agent: Agent, profile: Profile, shot: Screenshot) -> tuple[str, str]:
    """Keep the screen: (the pattern that fails, the file). Raises SystemFailure."""
    failed, file = failed_pattern(profile, shot), path(home, agent)
    try:
        if clock.now_ns() / 1e9 - os.stat(file).st_mtime < _KEPT_S:
            return failed, file
    except FileNotFoundError:
        pass
    told = [
        f"{clock.stamp(clock.now_ns())} agent {agent.key}, profile {profile.name}: {failed or 'nothing'} does not fit",
        f"{shot.pane.width}x{shot.pane.height}, cursor at {shot.pane.cursor_x},{shot.pane.cursor_y}",
        "--- as it is shown",
        *(clean(line) for line in screen.plain(shot.lines)),
        "--- with its attributes",
        *(clean(line) for line in shot.lines),
    ]
    files.replace(file, "".join(line + "\n" for line in told).encode("utf-8", "backslashreplace"), sync=False)
    return failed, file
