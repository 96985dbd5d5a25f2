"""Task queues for tests: one with a clock that the test moves, workers as processes, what became of the tasks.

with Clock() as clock:
    queue = open_queue(home, "team: {message_queue: {lease: 60}}")
    queue.send(task())
    clock.passes(61)
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from types import TracebackType
from typing import Any
from unittest import mock

from support_tmux import wait_until
from tmux_orchestrator.ground import clock, config
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work import reading
from tmux_orchestrator.work.message import Message
from tmux_orchestrator.work.queue import MessageQueue

SECOND = 1_000_000_000
TESTS = os.path.dirname(os.path.abspath(__file__))
BIN = os.path.dirname(TESTS) + "/bin"
ENDS = ("completed", "failed", "cancelled", "dead")


class Clock:
    """Time stands still, and passes when it is told to; a step moves the wall clock alone."""

    def __init__(self) -> None:
        self._now, self._boot = clock.now_ns(), clock.boot_ns()
        self._patches = [
            mock.patch.object(clock, "now_ns", lambda: self._now),
            mock.patch.object(clock, "boot_ns", lambda: self._boot),
        ]

    def passes(self, seconds: float) -> None:
        self._boot += int(seconds * SECOND)
        self.steps(seconds)

    def steps(self, seconds: float) -> None:
        self._now += int(seconds * SECOND)

    def stamp(self, seconds: float) -> str:
        """So many seconds from now."""
        return clock.stamp(self._now + int(seconds * SECOND))

    def __enter__(self) -> Clock:
        for patch in self._patches:
            patch.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for patch in self._patches:
            patch.stop()


def open_queue(home: Home, text: str = "", boot: str = "") -> MessageQueue:
    """A queue in this home, whose configuration says this; with `boot`, as if the machine had been started so."""
    os.makedirs(home.root, mode=0o700, exist_ok=True)
    with open(home.root + "/orchestrator_config.yaml", "w", encoding="utf-8") as file:
        file.write(text)
    with mock.patch.object(clock, "boot_id", lambda: boot) if boot else mock.MagicMock():
        return MessageQueue(None, home, config.load(home))


def task(recipient: str = "dev", sender: str = "pm", **fields: Any) -> Message:
    return Message(sender, recipient, fields.pop("type", "task_delegate"), fields.pop("payload", {}), **fields)


def states(queue: MessageQueue) -> dict[str, str]:
    """The status of each task, by its id."""
    return {record["task_id"]: record["status"] for record in reading.tasks(queue.database)}


def record(queue: MessageQueue, task_id: str) -> dict[str, Any]:
    found = reading.task(queue.database, task_id)
    assert found is not None, task_id
    return found


def told(queue: MessageQueue, task_id: str) -> list[str]:
    """The statuses that the task went through, as the log will hear of them."""
    return [
        status for (status,) in queue.database.rows("SELECT status FROM outbox WHERE task_id = ? ORDER BY n", task_id)
    ]


def locks() -> int:
    """How many locks of the kind that SQLite takes this process holds."""
    with open("/proc/locks", encoding="ascii") as file:
        return [line.split()[4] for line in file if "POSIX" in line and "->" not in line].count(str(os.getpid()))


def ended_more_than_once(queue: MessageQueue) -> list[str]:
    """Tasks that ended twice without having been queued again by hand."""
    rows = queue.database.rows("SELECT task_id, status FROM outbox")
    ends = Counter(task_id for task_id, status in rows if status in ENDS)
    return [task_id for task_id, count in ends.items() if count > 1]


class Command:
    """A running `orc-task`, or the program of tests/programs that stands in for it, ended with the block."""

    def __init__(self, *argv: str, program: str = "", **env: str) -> None:
        words = [sys.executable, f"{TESTS}/programs/{program}"] if program else [f"{BIN}/orc-task"]
        self.process = subprocess.Popen(
            [*words, *argv],
            env=os.environ | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def __enter__(self) -> Command:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def ends(self, seconds: float = 30) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        out, said = self.process.communicate(timeout=seconds)
        return self.process.returncode, out.decode(), said.decode()


def wait_status(queue: MessageQueue, task_id: str, status: str, seconds: float = 20) -> None:
    wait_until(lambda: states(queue)[task_id] == status, seconds, f"{task_id} {status}")
