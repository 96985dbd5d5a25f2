"""Project managers first: whose session is without one, and by what command another is started.

A team whose project manager died is brought one, whatever that one's `--restart` said: by the command that it was
registered with, else by `agents.pm_command`, which takes its name, role, groups and session over. Only a session that
had a project manager registered, and has somebody to manage, is without one. Nothing is kept here.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable

from tmux_orchestrator.agents import launch, managers, profiles, registry, runner
from tmux_orchestrator.agents.control import Control
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.agents.state import Seen
from tmux_orchestrator.ground import handover
from tmux_orchestrator.ground.errors import DataError, UsageError


def leaderless(seen: Iterable[Seen], stays: Callable[[Seen], bool]) -> list[Seen]:
    """The dead project manager of each session that has no other, and a team: somebody else who `stays`.

    One that was stopped or left by itself is not missed, nor is one of the team supervisor.
    """
    seen = list(seen)
    found: dict[str, Seen] = {}
    managed = {
        one.agent.session for one in seen if one.agent.role == managers.ROLE and one.state not in ("dead", "gone")
    }
    teams = {one.agent.session for one in seen if one.agent.role != managers.ROLE and stays(one)}
    for one in seen:
        ours = one.agent.role == managers.ROLE and one.agent.supervisor != runner.TEAM
        if ours and one.state == "dead" and one.agent.session in teams - managed:
            found.setdefault(one.agent.session, one)
    return list(found.values())


def command(control: Control, agent: Agent) -> list[str]:
    """`agents.pm_command` as words; [] where there is none, or it is what the project manager ran already.

    Raises UsageError.
    """
    try:
        words = shlex.split(control.settings.get("agents.pm_command"))
    except ValueError as error:
        raise UsageError(f"agents.pm_command is no command line ({error}): mend its quotes") from None
    return [] if words == agent.argv else words


def start(control: Control, agent: Agent, argv: list[str]) -> Agent:
    """A new project manager in the place of the dead one. Raises UsageError, UnavailableError."""
    like = _surroundings(control, agent)
    plan = runner.Plan(
        name=agent.name,
        session=agent.session,
        window=agent.window,
        role=managers.ROLE,
        groups=agent.groups,
        profile=profiles.for_command(control.profiles, argv).name,
        restart=agent.restart,
        supervisor=agent.supervisor,
        argv=argv,
        cwd=like.cwd,
        env=like.env,
        umask=like.umask,
    )
    return runner.start(control.home, control.server(agent.socket), agent.socket, plan)


class _Surroundings:
    """Folder, environment and umask for the new one: of the old one, else of an agent of its session, else ours."""

    def __init__(self, cwd: str, env: dict[str, str], umask: int) -> None:
        self.cwd, self.env, self.umask = cwd, env, umask


def _surroundings(control: Control, agent: Agent) -> _Surroundings:
    others = [one for one in registry.load(control.home) if one.session == agent.session and one.key != agent.key]
    for one in (agent, *others):
        try:
            plan = launch.read(one.launch)
        except DataError:
            continue
        if os.path.isdir(plan["cwd"]):
            return _Surroundings(plan["cwd"], plan["env"], plan["umask"])
    return _Surroundings(os.getcwd(), dict(os.environ), handover.callers_umask())
