"""Panes where somebody started an agent CLI by hand.

Beneath such an agent there is a shell, so what is typed must never come after the agent: the name of the program
in the foreground goes into the guard that tmux checks in the same step as the paste. An adopted pane is known by
the process it was started with (usually the shell), is never respawned, and a shell is never adopted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from tmux_orchestrator.agents import places, profiles, registry
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.agents.shells import HIDE_SHELLS, SHELLS
from tmux_orchestrator.ground import clock, proc
from tmux_orchestrator.ground.errors import UnavailableError, UsageError

if TYPE_CHECKING:
    from tmux_orchestrator.agents.profiles import Profile
    from tmux_orchestrator.ground.tmux import Pane, Tmux


def adopt(tmux: Tmux, pane: Pane, wanted: str | None, known: Mapping[str, Profile]) -> Agent:
    """The agent that runs in the pane, marked there and not yet registered; `wanted` is a profile's name.

    Its name, role and groups are for the caller to fill in. Raises UsageError for a shell, and for a program
    that no profile knows unless one is named.
    """
    profile, argv = _judge(pane, wanted, known)
    return _agent(places.where(tmux), pane, profile, argv, _mark(tmux, pane))


def adopted(
    tmux: Tmux, panes: Sequence[Pane], patterns: Sequence[str], known: Mapping[str, Profile], taken: Sequence[Agent]
) -> list[Agent]:
    """The panes that `agents.adopt` names and whose foreground is a profile's program, as agents called pane-N.

    They are not registered. `taken` are the agents that are, whose panes are left out. Raises UnavailableError.
    """
    nonces = {agent.nonce for agent in taken}
    where: places.Where | None = None
    found = []
    for pane in panes:
        if not _matches(pane, patterns) or (pane.nonce and pane.nonce in nonces):
            continue
        try:
            profile, argv = _judge(pane, None, known)
        except (UsageError, UnavailableError):
            continue
        where = where or places.where(tmux)
        agent = _agent(where, pane, profile, argv, _mark(tmux, pane))
        agent.name = agent.role = "pane-" + pane.id[1:]
        found.append(agent)
    return found


def by_pattern(agent: Agent) -> bool:
    """Is it adopted by the configuration, and in no registry?"""
    return agent.adopted and agent.name.startswith("pane-")


def _judge(pane: Pane, wanted: str | None, known: Mapping[str, Profile]) -> tuple[Profile, list[str]]:
    """The profile and the command line of what is in the foreground of the pane."""
    if pane.dead:
        raise UnavailableError(f"nothing runs in {pane.id}: start an agent there, or with orc-run")
    argv = _argv(_foreground(pane.pid))
    program = os.path.basename(argv[0]).lstrip("-") if argv else pane.command
    if not argv or {program, pane.command} & (SHELLS | HIDE_SHELLS):
        raise UsageError(
            f"{program} is in the foreground of {pane.id}, no agent: start the agent CLI there, then adopt"
        )
    profile = known.get(wanted) if wanted else profiles.for_command(dict(known), argv)
    if profile is None:
        raise UsageError(f"there is no profile {wanted!r}: take one of {', '.join(sorted(known))}")
    if not wanted and profile.name == profiles.PLAIN:
        raise UsageError(f"no profile knows {program}, which runs in {pane.id}: name one with --profile")
    return profile, argv


def restart(agent: Agent) -> str:
    """The command that brings an agent back that has ended; one that was started by hand is not ours to start."""
    if agent.adopted:
        return f"orc-agent adopt, once it is started again, or orc-agent forget {agent.key}"
    return f"orc-agent restart {agent.key}"


def process(agent: Agent) -> tuple[int, int] | None:
    """The agent's own process (pid, start): the foreground's leader where it is still the agent's program."""
    pid = _foreground(agent.pid) if agent.alive() else 0
    start = proc.start_time(pid) if pid else None
    if start is None or registry.program(pid) != agent.command:
        return None
    return pid, start


def _agent(where: places.Where, pane: Pane, profile: Profile, argv: list[str], nonce: str) -> Agent:
    return Agent(
        {
            "session": pane.session,
            "profile": profile.name,
            "socket": where.socket,
            "server_pid": where.pid,
            "server_start": where.start,
            "pane": pane.id,
            "pid": pane.pid,
            "pid_start": proc.start_time(pane.pid) or 0,
            "nonce": nonce,
            "adopted": True,
            "argv": argv,
            "boot": clock.boot_id(),
            "registered": clock.stamp(clock.now_ns()),
            "command": pane.command,
        }
    )


def _mark(tmux: Tmux, pane: Pane) -> str:
    """The pane's nonce, set where it has none."""
    nonce = pane.nonce or os.urandom(16).hex()
    if not pane.nonce:
        tmux.run("set-option", "-p", "-t", pane.id, "@orc_nonce", nonce)
    return nonce


def _matches(pane: Pane, patterns: Sequence[str]) -> bool:
    """Does a pattern name the pane's session, or its session:window or session:index?"""
    windows = (f"{pane.session}:{pane.window_name}", f"{pane.session}:{pane.window_index}")
    return any(
        fnmatchcase(name, pattern) for pattern in patterns for name in (windows if ":" in pattern else (pane.session,))
    )


def _foreground(pid: int) -> int:
    """The leader of the foreground process group of the process's terminal; 0 where there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return max(0, int(file.read().rpartition(b")")[2].split()[5]))
    except (OSError, IndexError, ValueError):
        return 0


def _argv(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]
    except OSError:
        return []
