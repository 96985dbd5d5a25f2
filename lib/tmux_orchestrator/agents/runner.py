"""Starting, restarting and stopping agents that are their pane's own process.

Under the agent's start lock: have tmux start the launcher, mark the pane, write the launch file, register, let the
lock go. Only then does the launcher become the agent (see `launch`), so whatever reads a keyboard is registered.
An agent that has ended keeps its pane, which says so, and comes back in the same pane. An agent is ended through
its pidfd, after its start time was checked: never a later process with its number.
"""

from __future__ import annotations

import os
import select
import shlex
import shutil
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tmux_orchestrator.agents import launch, places, registry, roster, shells, signs, windows
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.ground import clock, proc
from tmux_orchestrator.ground.errors import OrcError, SystemFailure, UnavailableError, UsageError

if TYPE_CHECKING:
    from tmux_orchestrator.agents.resume import Again
    from tmux_orchestrator.ground.paths import Home
    from tmux_orchestrator.ground.tmux import Tmux

RESTART = ("never", "crash", "always")
MONITOR, TEAM, NONE = SUPERVISORS = ("monitor", "team", "none")
GRACE_S = 10.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What somebody asked `orc-run` for. `window` is "" for a new one of the agent's name."""

    name: str
    session: str
    window: str
    role: str
    groups: list[str]
    profile: str
    restart: str
    supervisor: str
    argv: list[str]
    cwd: str
    env: dict[str, str]
    umask: int


def start(home: Home, tmux: Tmux, socket: str, plan: Plan) -> Agent:
    """Start and register an agent; where it ended before, in the pane that it had.

    Raises UsageError when the name is taken by a live agent or the program is not there, UnavailableError when
    tmux refuses. Nothing is left running then.
    """
    check(plan)
    with launch.start_lock(home, plan.session, plan.name):
        before = registry.resolve(registry.load(home), f"{plan.session}:{plan.name}")
        if before is not None and before.alive():
            raise UsageError(f"{before.key} is running: choose another name, or run orc-agent restart {before.key}")
        path = launch.file(home, plan.session, plan.name)
        same = ("name", "session", "role", "groups", "profile", "restart", "supervisor", "cwd", "argv")
        signs.forget(home, plan.session, plan.name)  # of another agent, which was called so
        agent = Agent({field: getattr(plan, field) for field in same} | {"launch": path, "socket": socket})
        return _launch(home, tmux, agent, before, plan)


def restart(home: Home, tmux: Tmux, agent: Agent, force: bool, how: Again) -> Agent:
    """Start the agent again in its pane. Raises UsageError when it runs and not `force`, or cannot be started."""
    if agent.adopted:
        raise UsageError(f"{agent.key} was adopted, so how it was started is not known: start it with orc-run")
    with launch.start_lock(home, agent.session, agent.name):
        now = registry.resolve(registry.load(home), agent.key)
        if now is None:
            raise UsageError(f"{agent.key} was forgotten meanwhile: start it with orc-run")
        if now.alive() and not force:
            raise UsageError(f"{agent.key} is running: say --force to end it first")
        plan = launch.choose(now.launch, how.argv)
        _check_program((plan["run"] or plan["argv"])[:1], plan["cwd"], plan["env"])
        if now.alive():
            end(now.pid, now.pid_start)
        again = Agent(now.to_dict() | {"ended": "", "resumed": how.session, "lost": how.lost})
        return _launch(home, tmux, again, now, None)


def stop(home: Home, agent: Agent, pid: int, start: int) -> bool:
    """End this process of the agent, and note that it was on purpose; False when it did not run.

    The note comes first: whoever watches for crashes must not see one.
    """
    if not proc.alive(pid, start):
        return False
    roster.update(home, agent.key, ended="stopped")
    return end(pid, start)


def end(pid: int, start: int, grace_s: float = GRACE_S) -> bool:
    """SIGTERM, and SIGKILL after `grace_s` seconds, to this very process; False when it is gone already."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if not proc.alive(pid, start):
            return False
        over = select.poll()
        over.register(fd, select.POLLIN)
        for number, patience in ((signal.SIGTERM, grace_s), (signal.SIGKILL, grace_s)):
            signal.pidfd_send_signal(fd, number)
            if over.poll(patience * 1000):
                return True
    except ProcessLookupError:
        return True
    finally:
        os.close(fd)
    raise SystemFailure(f"process {pid} does not end even by SIGKILL: see what the kernel says of it")


def check(plan: Plan) -> None:
    """Raises UsageError for what cannot be started."""
    registry.check_names(plan.name, plan.role, *plan.groups)
    if plan.restart not in RESTART:
        raise UsageError(f"--restart {plan.restart} is none of {', '.join(RESTART)}: correct it")
    if plan.supervisor not in SUPERVISORS:
        raise UsageError(f"--supervisor {plan.supervisor} is none of {', '.join(SUPERVISORS)}: correct it")
    _check_program(plan.argv[:1], plan.cwd, plan.env)
    if shells.takes_commands(plan.argv):
        raise UsageError(f"{plan.argv[0]} is a shell and would run what is typed into it: give the agent CLI itself")


def _check_program(words: list[str], cwd: str, env: dict[str, str]) -> None:
    """Raises UsageError when the folder or the program is not there."""
    if not os.path.isdir(cwd):
        raise UsageError(f"the folder {cwd!r} is gone: make it, or start the agent in another with orc-run")
    program = words[0] if words else ""
    where = program if "/" not in program else os.path.join(cwd, program)
    if not program or shutil.which(where, path=env.get("PATH", os.defpath)) is None:
        raise UsageError(f"there is no program {program!r} on the PATH: install it, or correct the command")


def _launch(home: Home, tmux: Tmux, agent: Agent, before: Agent | None, plan: Plan | None) -> Agent:
    """Run the launcher in a pane, and register the agent with it; without a plan, from the launch file that is there.

    The start lock is held, so the launcher does not look at either yet.
    """
    argv = launch.command(agent.launch)
    pane = _pane_of(tmux, before) if before else ""
    made = not pane
    if pane:
        tmux.run("respawn-pane", "-k", "-t", pane, "--", *argv)
    else:
        pane = _window(agent, plan, argv)
    try:
        _mark(tmux, agent, pane, bool(plan and plan.window))
        if plan:
            launch.write(agent.launch, plan.argv, plan.cwd, plan.env, plan.umask)
        roster.register(home, agent)
    except BaseException:  # the launcher would end by itself, as it is not registered
        if made:
            _remove(tmux, pane)
        raise
    return agent


def _window(agent: Agent, plan: Plan | None, argv: list[str]) -> str:
    """A pane for an agent that has none: in the window that was asked for, or that it shared before, or a new one."""
    wanted = plan.window if plan else agent.window
    try:
        return windows.make(agent.socket, agent.session, wanted or agent.name, not wanted, argv)
    except UsageError:
        if plan or not wanted:
            raise
        return windows.make(agent.socket, agent.session, agent.name, True, argv)  # several are called so by now


def _mark(tmux: Tmux, agent: Agent, pane: str, shared: bool) -> None:
    """Set the pane's options, and fill in what identifies pane and process."""
    agent.pane, agent.nonce = pane, os.urandom(16).hex()
    label_pane(tmux, agent)
    for name, value in (("@orc_nonce", agent.nonce), ("remain-on-exit", "on")):
        tmux.run("set-option", "-p", "-t", pane, name, value)
    now = next((p for p in tmux.panes() if p.id == pane and p.nonce == agent.nonce), None)
    agent.pid = now.pid if now else 0
    agent.window = now.window_name if now and shared and windows.allowed(now.window_name) else agent.window
    agent.pid_start = proc.start_time(agent.pid) or 0
    agent.socket, agent.server_pid, agent.server_start = places.where(tmux)
    agent.boot = clock.boot_id()
    agent.registered = clock.stamp(clock.now_ns())
    if not agent.pid_start:
        raise UnavailableError(f"{agent.key} ended before it could start: look into pane {pane}, then try again")


def label_pane(tmux: Tmux, agent: Agent) -> None:
    """Write the agent's name on its pane, and what the pane says when the agent has ended."""
    again = shlex.quote(agent.key) if windows.allowed(agent.session) else agent.name
    ended = "#{?pane_dead_signal,signal #{pane_dead_signal},status #{pane_dead_status}}"
    said = f" {agent.name} ended ({ended}). Start it again: orc-agent restart {again} (#{{t:pane_dead_time}}) "
    for name, value in (("@orc_agent", agent.name), ("remain-on-exit-format", said)):
        tmux.run("set-option", "-p", "-t", agent.pane, name, value)


def _pane_of(tmux: Tmux, agent: Agent) -> str:
    """The pane that an agent which has ended still has; "" where it has none, or something else runs in it.

    It may also have one that a start made which was ended before it could register: nobody else's pane bears its name.
    """
    try:
        known = places.where(tmux)[1:] == (agent.server_pid, agent.server_start)
        mine = [pane for pane in tmux.panes() if pane.agent == agent.name]
    except UnavailableError:
        return ""
    same = [p.id for p in mine if known and p.id == agent.pane and (p.dead or p.pid == agent.pid)]
    left = [p.id for p in mine if p.dead and p.session == agent.session]
    return next(iter(same + left), "")


def _remove(tmux: Tmux, pane: str) -> None:
    try:
        tmux.run("kill-pane", "-t", pane)
    except OrcError:
        pass  # gone by itself
