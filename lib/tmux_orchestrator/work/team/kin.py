"""All processes of an agent: those of its session, and those that went away from it.

Every process that an agent starts carries `ORC_TEAM_RUN=<team>.<agent>.<run>` in its environment, whatever session
it made for itself; one that emptied its environment is still in the session. Processes are only ever signalled
through a pidfd whose process was looked at again after it was opened: a number that the kernel gave to somebody else
is never hit. The mark is a label among the processes of one user, not a wall.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping

from tmux_orchestrator.agents import crew
from tmux_orchestrator.ground import proc
from tmux_orchestrator.ground.config_kinds import NAME

_RUN = re.compile("[0-9]{1,19}")
Family = dict[int, int]  # pid -> start


def mark(team: str, name: str, run: int) -> str:
    """Neither a team's id nor an agent's name has a dot in it."""
    return f"{team}.{name}.{run}"


def marked(pid: int, team: str) -> tuple[str, int] | None:
    """The agent and the run that a process is of."""
    head = f"{crew.RUN}={team}.".encode()
    for variable in proc.environment(pid):
        if variable.startswith(head):
            name, _, run = variable[len(head) :].decode("utf-8", "replace").partition(".")
            return (name, int(run)) if _RUN.fullmatch(run) and NAME.fullmatch(name) else None
    return None


def families(team: str, leaders: Mapping[int, tuple[str, int]]) -> dict[str, Family]:
    """The live processes of each agent. `leaders`: of agents' sessions, with name and start."""
    found: dict[str, Family] = {}
    there = proc.table()
    for pid, facts in there.items():
        name = None
        if facts.session in leaders:
            name, start = leaders[facts.session]
            first = there.get(facts.session)
            if first is not None and first.start != start:  # another one's session by now
                name = None
        if name is None:
            run = marked(pid, team)
            name = run[0] if run is not None else None
        if name is not None:
            found.setdefault(name, {})[pid] = facts.start
    return found


def group_of(pid: int) -> Family:
    """Who is left of the group of a process that has ended. While one is, its number is nobody else's."""
    there = proc.table()
    return {} if pid in there else {one: facts.start for one, facts in there.items() if facts.group == pid}


def leaders(team: str) -> dict[str, list[tuple[int, int, int]]]:
    """The leaders of sessions that are agents' processes, by name: (run, pid, start), the latest run last."""
    found: dict[str, list[tuple[int, int, int]]] = {}
    for pid, facts in proc.table().items():
        run = marked(pid, team) if facts.session == pid else None
        if run is not None:
            found.setdefault(run[0], []).append((run[1], pid, facts.start))
    return {name: sorted(those) for name, those in found.items()}


def send(family: Family, number: signal.Signals) -> None:
    """Signal each of these very processes that still lives."""
    for pid, start in family.items():
        if pid == os.getpid():
            continue
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            continue
        try:
            if proc.alive(pid, start):
                signal.pidfd_send_signal(fd, number)
        except OSError:
            pass  # gone meanwhile, or became another user's
        finally:
            os.close(fd)
