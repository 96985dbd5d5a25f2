"""Agents and their supervisor killed at random moments: nobody is lost, nobody runs twice, no line is lost."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from functools import partial
from pathlib import Path

from proof.delivery_rows import Row, proved, row
from support_team import Team, alive
from support_tmux import wait_until
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work.team import kin, state

AGENTS = 10
COUNTING = "n=0; while :; do n=$((n + 1)); echo $$ $n; sleep 0.01; done"
FREELY = "restart: {max: 1000, within: 1}\nlog: {max_mb: 1000}\nstop: {timeout: 2}"


def check(quick: bool) -> list[Row]:
    return proved(partial(kills, 20 if quick else 100), partial(stops, 5 if quick else 30))


def _team(folder: str) -> Team:
    os.environ["ORC_HOME"] = folder
    agents = "\n".join(f'a{number}: {{command: ["sh", "-c", "{COUNTING}"]}}' for number in range(AGENTS))
    return Team(Home(folder), agents, FREELY)


def _doubled(team: Team) -> list[str]:
    """Agents of which more than one first process lives; a child of a shell counts for nothing."""
    found = kin.leaders(state.load(team.home).id)
    return [name for name, those in found.items() if len(those) > 1]


def _all_run(team: Team) -> bool:
    agents = state.load(team.home).agents.values()
    return len(agents) == AGENTS and all(one.state == "running" and alive(one.pid) for one in agents)


def kills(count: int) -> Row:
    """Half of the kills hit the supervisor, at most a tenth of a second after whatever it did last."""
    chance = random.Random(int(os.environ.get("PROOF_SEED", "1")))
    with tempfile.TemporaryDirectory() as folder, _team(folder) as team:
        wait_until(lambda: _all_run(team), 60, "all agents")
        agents = 0
        for _ in range(count):
            for kept in chance.sample(sorted(state.load(team.home).agents.items()), chance.randrange(1, 4)):
                if kept[1].pid and alive(kept[1].pid):
                    os.kill(kept[1].pid, signal.SIGKILL)
                    agents += 1
            time.sleep(chance.random() * 0.1)
            team.kill()
            time.sleep(chance.random() * 0.05)
            team.begin()
            wait_until(lambda: _all_run(team), 60, "all agents again")
            if doubled := _doubled(team):
                return row("kill -9 of the supervisor", count, f"twice: {doubled}")
        wait_until(lambda: len(team.said("a0")) > 0, what="some output")
        team.end()
        lost = [line for number in range(AGENTS) for line in _gaps(team.said(f"a{number}"))]
        what = f"kill -9 of the supervisor, and {agents} of agents: all run, once each, no line lost"
        defects = "a defect" if Path(folder, "logs/defects.log").exists() else ""
        return row(what, count, "; ".join(lost) or defects)


def _gaps(lines: list[str]) -> list[str]:
    """Numbers that one process printed and the stream lacks; some may stand there twice."""
    seen: dict[str, set[int]] = {}
    for line in lines:
        pid, _, number = line.partition(" ")
        if pid.isdigit() and number.isdigit():
            seen.setdefault(pid, set()).add(int(number))
    return [
        f"{pid} lacks some of {max(those)}" for pid, those in seen.items() if those != set(range(1, max(those) + 1))
    ]


def stops(count: int) -> Row:
    """SIGTERM at any moment of a beginning: the supervisor ends with 0, and no process of any agent is left."""
    chance = random.Random(int(os.environ.get("PROOF_SEED", "1")))
    left: list[str] = []
    with tempfile.TemporaryDirectory() as folder, _team(folder) as team:
        for _ in range(count):
            time.sleep(chance.random() * 0.05)
            code = team.end()
            left += [f"ended with {code}"] * (code != 0) + [f"left {sorted(team.families())}"] * bool(team.families())
            team.begin()
    return row("SIGTERM in the middle of a beginning: nobody is left", count, "; ".join(left))
