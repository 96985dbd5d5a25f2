"""The ten tests again, the other way in: hooks installed, `deliver: wake`, the bodies handed over by hooks.

A message counts as separate when the model was told it whole, under its own header; how many turns that took is told.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable

from agents import trials
from agents.hooks import HookBed
from agents.trials import Outcome
from support_orc import BIN
from support_tmux import wait_until

NAMES = ("codex", "claude")


class WakeBed(HookBed):
    """A bed whose agent is woken, and pulls."""

    latency_ms = 300  # Claude Code waits for the hook: 162 to 339 measured, so the typed way's 110 does not hold
    most_bytes = 10_000

    def __init__(self, folder: str, name: str, config: str) -> None:
        super().__init__(folder, name, f"{config}profiles: {{{name}: {{deliver: wake}}}}\n")

    def _warm_up(self) -> None:
        """Its first prompt may come before the hooks are trusted; what is tested is what comes after."""
        super()._warm_up()
        self.hooks_say("idle")


def flood(bed: WakeBed) -> Outcome:
    """4: two hundred messages in ten seconds: all of them within the minute, in as many turns as the bound has."""
    begin, codes = time.time(), []
    for number in range(trials.FLOOD):
        command = [f"{BIN}/orc-publish", "-t", bed.name, f"flood {number}"]
        codes.append(subprocess.run(command, env=bed.env, stdin=subprocess.DEVNULL, capture_output=True).returncode)
        time.sleep(max(0.0, begin + number * 0.05 - time.time()))
    wait_until(lambda: time.time() - begin > 59, 60, "the minute")
    had = [body for body in bed.bodies() if body.startswith("flood ")]
    turns = sum(any("flood " in text for text in request["prompts"]) for request in bed.requests())
    readable = json.loads(bed.run("orc-read", "--filter", "flood [0-9]+$", "--json"))["count"]
    order = had == [f"flood {number}" for number in range(len(had))]
    figures = f"{len(had)} of {trials.FLOOD} told in {turns} turns, " + ("in order" if order else "out of order")
    figures += f", {readable} readable, {codes.count(0)} exit 0"
    return Outcome(len(set(had)) == trials.FLOOD and turns <= trials.PER_MINUTE and order, figures)


TESTS: dict[int, Callable[[WakeBed], Outcome]] = {
    1: trials.idle,
    2: trials.busy,
    3: trials.crowd,
    4: flood,
    5: trials.killed,
    6: trials.targets,
    7: trials.odd,
    8: trials.dialog,
    9: trials.draft,
    10: trials.lightest,
}
