"""One process of an agent: started, or taken over from a supervisor that is gone; its end, from the kernel.

It is the leader of a session of its own, reads nothing, and appends what it prints to a private file: no pipe leads
to the supervisor, so the end of the supervisor is nobody else's. Of a child the kernel tells how it ended; of one
that was taken over only that it did. What a child's end leaves in its process group is ended while the child, not
yet reaped, keeps the group's number from being given to anybody else.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from functools import cache

from tmux_orchestrator.agents import crew
from tmux_orchestrator.ground import config_schema, handover, proc
from tmux_orchestrator.ground.paths import CODE, Home
from tmux_orchestrator.work.team import kin
from tmux_orchestrator.work.team.roster import Spec

_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
# What would tell the agent that it is somebody or somewhere else.
_OTHERS = ("TMUX", "TMUX_PANE", "ORC_SESSION", "LINES", "COLUMNS", "CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT")
_known = cache(config_schema.variables)  # asked at each start, which is not to wait for it


def out_file(home: Home, name: str) -> str:
    return f"{crew.folder(home)}/{name}.out"


def forget_beat(home: Home, name: str) -> None:
    """Signs of the process before."""
    try:
        os.unlink(crew.beat_file(home, name))
    except OSError:
        pass


def environment(home: Home, spec: Spec, mark: str, marked: bool = True) -> dict[str, str]:
    """Ours, without what is about us alone, with what is about the agent."""
    known = _known()
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in _OTHERS and (name in known or not name.startswith("ORC_TEAM_"))
    }
    path = [part for part in env.get("PATH", os.defpath).split(":") if part != CODE + "/bin"]
    env |= {"PATH": ":".join([CODE + "/bin", *path]), "ORC_HOME": home.root, "ORC_AGENT": spec.name}
    env |= dict(spec.env)
    if marked:
        env |= {crew.AGENT: spec.name, crew.RUN: mark, crew.BEAT: crew.beat_file(home, spec.name)}
    return env


class Process:
    """A live process, pinned by its pidfd; `child` is None when another supervisor has started it."""

    def __init__(self, pid: int, start: int, pidfd: int, child: subprocess.Popen[bytes] | None) -> None:
        self.pid, self.start, self.pidfd = pid, start, pidfd
        self._child = child

    @property
    def adopted(self) -> bool:
        return self._child is None

    def ended(self, spare: bool = False) -> int | None:
        """How a process that has ended did so: its exit code, or the negative number of a signal; None: nobody knows.

        Whatever it left in its process group is killed, unless it ended well, or `spare`.
        """
        self.close()
        if self._child is None:
            if not spare:
                kin.send(kin.group_of(self.pid), signal.SIGKILL)
            return None
        how = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        if not spare and how is not None and not (how.si_code == os.CLD_EXITED and how.si_status == 0):
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except OSError:
                pass
        return self._child.wait()

    def close(self) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


def start(home: Home, spec: Spec, mark: str, extra: dict[str, str]) -> Process:
    """Raises OSError, as of a command that does not exist; ValueError for words that no command can have."""
    out = os.open(out_file(home, spec.name), _APPEND, 0o600)
    try:
        child = subprocess.Popen(
            spec.command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=spec.folder,
            env=environment(home, spec, mark) | extra,
            start_new_session=True,
            umask=handover.callers_umask(),
        )
    finally:
        os.close(out)
    try:
        return Process(child.pid, _start_of(child.pid), os.pidfd_open(child.pid), child)
    except OSError:  # nobody would hear of its end
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        raise


def _start_of(pid: int) -> int:
    found = proc.start_of(pid)
    if found is None:  # it is our child, so it is there
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return found


def adopt(pid: int, start_ticks: int) -> Process | None:
    """Take over this very process; None when it is gone."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    if proc.alive(pid, start_ticks):
        return Process(pid, start_ticks, pidfd, None)
    os.close(pidfd)
    return None


def family_of(process: Process | None, found: dict[str, kin.Family], name: str) -> kin.Family:
    """The agent's processes, its first one among them."""
    family = dict(found.get(name, {}))
    if process is not None and proc.alive(process.pid, process.start):
        family[process.pid] = process.start
    return family
