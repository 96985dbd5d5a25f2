"""Waits for the ends of the agents' processes: a pidfd for each, so that the kernel tells of an end when it happens.

Ends that follow the first one within a breath are acted on together. Of adopted panes the registered process may be a
shell, whose end is not the agent's: these are looked at only.
"""

from __future__ import annotations

import os

from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.ground import clock

BREATH_NS = 300_000_000
NEVER = 1 << 63


class Deaths:
    """`due_ns`: when, on the boot clock, to act on ends that were told; NEVER if none was."""

    def __init__(self) -> None:
        self.due_ns = NEVER
        self._fds: dict[int, tuple[int, int]] = {}  # descriptor -> (pid, start)
        self._attended: set[tuple[int, int]] = set()  # of those that have one, or have ended

    def filenos(self) -> list[int]:
        return list(self._fds)

    def attend(self, agents: list[Agent]) -> None:
        """Wait for these, and no others; one that has ended already counts as just told."""
        own = {(agent.pid, agent.pid_start): agent for agent in agents if not agent.adopted}
        for fd, process in list(self._fds.items()):
            if process not in own:
                del self._fds[fd]
                os.close(fd)
        self._attended &= own.keys()
        for process in own.keys() - self._attended:
            self._attended.add(process)
            try:
                fd = os.pidfd_open(process[0])
            except OSError:
                self.soon()
                continue
            if own[process].alive():
                self._fds[fd] = process
            else:
                os.close(fd)
                self.soon()

    def take(self, ready: set[int]) -> None:
        """These descriptors are readable: their processes have ended."""
        for fd in ready & self._fds.keys():
            del self._fds[fd]
            os.close(fd)
            self.soon()

    def soon(self) -> None:
        """Something is to be looked at within a breath."""
        self.due_ns = min(self.due_ns, clock.boot_ns() + BREATH_NS)

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()
