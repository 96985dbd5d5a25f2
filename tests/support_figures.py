"""A task queue with clocks of the test's own, for what is told of time.

with Times(home) as times:
    task = times.send("dev", type="build")
    times.passes(10)              # it waits for 10 s
    times.done(times.take("dev"), after=2)
"""

from __future__ import annotations

import random
from types import TracebackType
from typing import Any

from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work.message import Message
from tmux_orchestrator.work.queue import MessageQueue

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
_INSERT = """
INSERT INTO tasks (task_id, sender, recipient, type, status, live, payload, created_at, started_at, completed_at,
                   duration_ms)
VALUES (?, 'tester', ?, ?, ?, NULL, '{}', ?, ?, ?, ?)"""


class Times:
    """`now` and `boot` move when the test says so."""

    def __init__(self, home: Home, at: str = "2026-11-26T12:00:00Z", boot: int = 1_000) -> None:
        """`boot`: for how many seconds the machine has run."""
        self.home = home
        self.now, self.boot = clock.parse_stamp(at), boot * SECOND
        self._real = clock.now_ns, clock.boot_ns
        clock.now_ns, clock.boot_ns = lambda: self.now, lambda: self.boot
        self.queue = MessageQueue(None, home)
        self._count = 0

    def __enter__(self) -> Times:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.queue.close()
        clock.now_ns, clock.boot_ns = self._real

    def passes(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)
        self.boot += int(seconds * SECOND)

    def send(self, agent: str, type: str = "build", **more: Any) -> str:
        message = Message("tester", agent, type, {}, **more)
        self.queue.send(message)
        return message.task_id

    def take(self, agent: str) -> str:
        got = self.queue.get(agent, lease=86_400)
        assert got is not None, f"no task for {agent}"
        return got.task_id

    def done(self, task: str, after: float = 0) -> None:
        self.passes(after)
        self.queue.mark_completed(task)

    def fails(self, task: str, after: float = 0, retry: bool = False) -> None:
        self.passes(after)
        self.queue.mark_failed(task, "no luck", retry=retry)

    def ended(self, agent: str, ms: int | None, type: str = "build", status: str = "completed", ago: float = 0) -> str:
        """A task that ended so long ago (seconds), without having been in the queue before."""
        self._count += 1
        task, end = f"ended-{self._count:06}", self.now - int(ago * SECOND)
        start = clock.stamp(end - (ms or 0) * 1_000_000)
        values = (task, agent, type, status, start, start if ms is not None else None, clock.stamp(end), ms)
        self.queue.database.change(_INSERT, *values)
        return task

    def crowd(self, count: int, seed: int = 1) -> None:
        """So many tasks that ended in the last 30 days."""
        rng = random.Random(seed)
        with self.queue.database as database:
            for _ in range(count):
                status = rng.choice(("completed",) * 18 + ("failed", "dead"))
                agent, kind = rng.choice(("ann", "ben", "cid")), rng.choice(("build", "test"))
                self.ended(agent, int(rng.lognormvariate(8, 1)), kind, status, rng.uniform(7200, 30 * 86_400))
            database.change("DELETE FROM outbox")
