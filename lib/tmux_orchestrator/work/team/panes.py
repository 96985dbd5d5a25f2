"""Agents of the team that live in a pane of tmux: started, brought back and stopped by our own commands.

`orc-run --supervisor team` starts one as its pane's own process and registers it, so the monitor leaves it alone;
`orc-recover` brings several back with one call, in their panes, with conversation and briefing; `orc-agent stop` ends
one. Its process is the one that the registry names. How it ended, tmux knows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from tmux_orchestrator.agents import registry
from tmux_orchestrator.ground.errors import OrcError
from tmux_orchestrator.work.team import processes, state
from tmux_orchestrator.work.team.jobs import Job
from tmux_orchestrator.work.team.member import Desk, Member
from tmux_orchestrator.work.team.roster import Spec
from tmux_orchestrator.work.team.state import Kept


@dataclass
class Errands:
    """What is to be asked of our commands, and what was."""

    jobs: list[Job] = field(default_factory=list)
    returning: list[PaneMember] = field(default_factory=list)  # to be brought back, with one call for all

    def turn(self) -> None:
        """Bring back who is to come back."""
        if not self.returning:
            return
        those, self.returning = self.returning, []
        reason = those[0].kept.reason or "the team starts it"
        words = ["orc-recover", "--force", "--reason", reason, *(one.key for one in those)]

        def done(code: int, said: str, trouble: str) -> None:
            for one in those:
                one.started(code == 0, trouble or f"orc-recover ended with {code}")

        try:
            self.jobs.append(Job(words, done, None, those[0].env()))
        except OSError as error:
            for one in those:
                one.started(False, str(error.strerror))

    def take(self, ready: set[int]) -> None:
        for job in [job for job in self.jobs if job.pidfd in ready]:
            self.jobs.remove(job)
            job.ended()

    def close(self) -> None:
        for job in self.jobs:
            job.kill()
        self.jobs.clear()


class PaneMember(Member):
    """A member whose process is a pane's."""

    def __init__(self, desk: Desk, spec: Spec, kept: Kept, errands: Errands) -> None:
        super().__init__(desk, spec, kept)
        self._errands = errands
        self._pending = False

    @property
    def is_pending(self) -> bool:
        return self._pending

    @property
    def key(self) -> str:
        return f"{self.spec.session}:{self.name}"

    def env(self) -> dict[str, str]:
        """Without the mark: the tmux server that a command may start is nobody's process."""
        return processes.environment(self.desk.home, self.spec, "", marked=False)

    def registered(self) -> registry.Agent | None:
        try:
            return registry.resolve(registry.load(self.desk.home), self.key)
        except OrcError as error:
            self.desk.complain(error)
            return None

    def running(self) -> processes.Process | None:
        """Its live process, if it has one."""
        agent = self.registered()
        return processes.adopt(agent.pid, agent.pid_start) if agent is not None and agent.alive() else None

    def look(self) -> None:
        """Whoever has started it meanwhile, it is ours."""
        if self.kept.state in (state.EXITED, state.FAILED, state.WAITING) and (process := self.running()) is not None:
            self.adopt(process)

    def start(self) -> None:
        if (process := self.running()) is not None:  # somebody else has started it
            self._runs(process)
            return
        self.kept.state, self.kept.pid, self.kept.pid_start = state.STARTING, 0, 0
        agent = self.registered()
        if agent is not None and not agent.adopted and list(self.spec.command) == agent.argv:
            self._errands.returning.append(self)
            self._pending = True
            return
        spec = self.spec
        words = ["orc-run", spec.name, "--session", spec.session, "--role", spec.role or spec.name]
        words += [word for group in spec.groups for word in ("--group", group)]
        words += ["--profile", spec.profile] if spec.profile else []
        words += ["--restart", spec.restart, "--supervisor", "team", "--", *spec.command]

        def done(code: int, said: str, trouble: str) -> None:
            self.started(code == 0, trouble or f"orc-run ended with {code}")

        self._errands.jobs.append(Job(words, done, spec.folder, self.env()))
        self._pending = True

    def started(self, well: bool, trouble: str) -> None:
        """The command that was to start it has ended."""
        self._pending = False
        process = self.running()
        if self.kept.state == state.STOPPING:  # wanted no more meanwhile
            if process is not None:
                self.process = process
                self.end()
            return
        if process is None and well:  # it has ended already
            self._ask_how()
            return
        if process is None:
            self.fail(f"cannot be started: {trouble}")
            return
        self._runs(process)
        self.desk.say(f"INFO {self.name} started (pid {process.pid}, pane of {self.spec.session})")

    def ended(self) -> None:
        """The kernel says that it is gone; tmux is asked how."""
        assert self.process is not None
        self.process.ended(spare=True)
        self._ask_how()

    def _ask_how(self) -> None:
        noticed = time.monotonic()

        def done(code: int, said: str, trouble: str) -> None:
            if (process := self.running()) is not None and self.kept.state != state.STOPPING:
                self.adopt(process)
                return
            now, _, why = said.strip().partition("\t")
            self.gone(why or trouble or "ended", now == "gone", noticed)

        try:
            self._errands.jobs.append(Job(["orc-agent", "show", self.key, "-o", "state,why"], done, None, self.env()))
        except OSError as error:
            self.gone(f"ended ({error.strerror})", False, noticed)

    def end(self) -> None:
        """Have it stopped."""

        def done(code: int, said: str, trouble: str) -> None:
            if code:
                self.desk.say(f"WARNING {self.name}: {trouble}")

        try:
            self._errands.jobs.append(Job(["orc-agent", "stop", self.key], done, None, self.env()))
        except OSError as error:
            self.desk.say(f"ERROR {self.name} cannot be stopped: {error.strerror}")
