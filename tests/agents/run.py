#!/usr/bin/env python3
"""The ten tests against real agent programs, Codex and Claude Code, with Gemini CLI submission; the hooks of all; the
developer's recipe.

usage: run.py [--only CLI,CLI] [--tests N,N] [--ways typed,wake]

The ten are run for both ways into an agent: its messages typed, and handed over by its hooks after a short wake.

The CLIs are fetched from npm into ORC_AGENTS_DIR, or into a folder that is removed afterwards. Each runs in a tmux
server, a home and a system of its own and talks to an endpoint on loopback, whose log says what was submitted.
Prints, for each test, our figures beside those of eight existing tools; exit 1 when something does not hold.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from agents import clis, hooks, peers, recipes, trials, wake
from agents.bed import Bed

Trial = Callable[[Bed], trials.Outcome]

TESTS: dict[int, tuple[str, Trial]] = {
    1: ("idle: one and three lines, 10 each, whole and alone · command to model request", trials.idle),
    2: ("busy: four messages in four seconds", trials.busy),
    3: ("eight senders, five messages each", trials.crowd),
    4: ("flood of 200 in ten seconds, the first minute", trials.flood),
    5: ("agent killed, then a message with shell commands", trials.killed),
    6: ("wrong and nearly right targets", trials.targets),
    7: ("leading -, trailing ;, ESC[201~, 20 KB", trials.odd),
    8: ("a permission dialog is open", trials.dialog),
    9: ("somebody's half-typed draft", trials.draft),
    10: ("the lightest command", trials.lightest),
    11: ("Gemini CLI: one and three lines, 10 each, whole and alone", trials.idle),
}
TITLE = {number: title for number, (title, _) in [*TESTS.items(), *hooks.TESTS.items(), *recipes.TESTS.items()]}
GEMINI = 11  # it joins what comes while it works into one prompt, so submission is what is tested
ORDER = (1, 2, 3, 6, 7, 8, 9, 10, 5, GEMINI)  # the flood has a system of its own: its bucket is full afterwards
TITLES = {"codex": "Codex", "claude": "Claude Code", "gemini": "Gemini CLI"}
WAYS = ("typed", "wake")

Results = dict[int, dict[str, trials.Outcome]]


def attempt(trial: Callable[[Any], trials.Outcome], bed: Bed | recipes.RecipeBed) -> trials.Outcome:
    """A trial that breaks off has failed; what the system looked like is told on stderr."""
    try:
        return trial(bed)
    except (AssertionError, OSError, ValueError, subprocess.SubprocessError) as error:
        traceback.print_exc()
        sys.stderr.write(bed.story()[-6000:])
        return trials.Outcome(False, f"broke off: {str(error).splitlines()[0][:80] if str(error) else error!r}")


def run_all(
    bed: Bed | recipes.RecipeBed, trials_of: Mapping[int, Callable[[Any], trials.Outcome]], results: Results
) -> None:
    title = TITLES[bed.name] + (", wake" if isinstance(bed, wake.WakeBed) else "")
    for number, trial in trials_of.items():
        begin = time.monotonic()
        outcome = attempt(trial, bed)
        results.setdefault(number, {})[title] = outcome
        took = time.monotonic() - begin
        mark = "holds" if outcome.held else "FAILS"
        print(f"{title:17} {number:2} {mark}  {outcome.figures}  ({took:.0f} s)", flush=True)


def run_on(folder: str, name: str, wanted: list[int], ways: list[str], results: Results) -> None:
    open_bed = [number for number in ORDER if number in wanted]
    bounded_bed = [number for number in wanted if number in TESTS and number not in ORDER]
    for config, numbers in ((trials.OPEN, open_bed), (trials.BOUNDED, bounded_bed)):
        if numbers and "typed" in ways:
            with Bed(folder, name, config) as bed:
                run_all(bed, {number: TESTS[number][1] for number in numbers}, results)
        if numbers and "wake" in ways and name in wake.NAMES:
            with wake.WakeBed(folder, name, config) as bed:
                run_all(bed, {number: wake.TESTS[number] for number in numbers}, results)
    hooked = [number for number in hooks.TESTS if number in wanted and hooks.can(name, number)]
    if hooked:
        with hooks.HookBed(folder, name, trials.OPEN) as bed:
            run_all(bed, {number: hooks.TESTS[number][1] for number in hooked}, results)
    for number in recipes.TESTS:
        if number in wanted and recipes.can(name, number):
            with recipes.RecipeBed(folder, name) as own:
                run_all(own, {number: recipes.TESTS[number][1]}, results)


def table(results: Results, versions: dict[str, str]) -> None:
    print("\n" + " · ".join(f"{TITLES[name]} {version}" for name, version in versions.items()))
    for number, about in TITLE.items():
        ours = results.get(number, {})
        if not ours:
            continue
        print(f"\n{number}. {about}")
        for title, outcome in ours.items():
            print(f"   {'holds' if outcome.held else 'FAILS'}  orc, {title:24} {outcome.figures}")
        for peer, (codex, claude) in peers.FIGURES.get(number, {}).items():
            figures = codex if claude in ("", "the same", codex) else f"Codex {codex} | Claude Code {claude}"
            print(f"          {peers.NAMES[peer]:29} {figures}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", default="codex,claude,gemini", metavar="CLI,CLI")
    parser.add_argument("--tests", default=",".join(map(str, TITLE)), metavar="N,N")
    parser.add_argument("--ways", default=",".join(WAYS), metavar="WAY,WAY")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    names = [name for name in clis.PACKAGES if name in options.only.split(",")]
    wanted = [int(number) for number in options.tests.split(",")]
    kept = os.environ.get("ORC_AGENTS_DIR")
    folder = kept or tempfile.mkdtemp(prefix="orc-agents-")
    results: Results = {}
    try:
        clis.install(folder)
        for name in names:
            run_on(
                folder,
                name,
                [
                    number
                    for number in wanted
                    if number in hooks.TESTS or number in recipes.TESTS or (name == "gemini") == (number == GEMINI)
                ],
                options.ways.split(","),
                results,
            )
        table(results, {name: clis.version(folder, name) for name in names})
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)
    every = [outcome.held for those in results.values() for outcome in those.values()]
    print(f"\n{sum(every)} of {len(every)} hold")
    return 0 if all(every) else 1


if __name__ == "__main__":
    sys.exit(main())
