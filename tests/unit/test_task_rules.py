"""Whatever several workers do, in whatever order, and whoever dies: the rules of the queue against a plain model."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_tasks import Clock, ended_more_than_once, open_queue, states, task
from tmux_orchestrator.ground import proc
from tmux_orchestrator.ground.errors import DataError
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work.queue import MessageQueue

LEASE, ATTEMPTS, RESTS = 60, 3, (5, 10)
RULES = f"team: {{message_queue: {{lease: {LEASE}, attempts: {ATTEMPTS}, retry_backoff: [5, 10], max_size: 10000}}}}"
WORKERS, RECIPIENTS, GROUPS = 3, ("dev", "qa"), (None, "ci")
BAD_ENDS = ("failed", "dead", "cancelled")


@dataclass
class Task:
    """What the model knows of one."""

    id: str
    recipient: str
    group: str | None
    order: tuple[int, int]
    after: list[str]
    status: str = "queued"
    attempt: int = 0
    token: str = ""
    worker: int = 0
    until: float = 0.0  # end of the lease, or of the rest
    begins: float = 0.0
    expires: float | None = None


@dataclass
class Claim:
    id: str
    token: str
    queue: int


@dataclass
class Model:
    now: float = 0.0
    tasks: dict[str, Task] = field(default_factory=dict)
    limits: dict[tuple[str, str], int] = field(default_factory=dict)
    dead: set[int] = field(default_factory=set)

    def settle(self) -> None:
        """What time and death have done; ends may end others, which the order of sending covers."""
        for one in self.tasks.values():
            if one.status == "running" and (one.until <= self.now or one.worker in self.dead):
                if one.attempt < ATTEMPTS:
                    one.status, one.until = "queued", 0.0
                else:
                    self.end(one, "dead")
        for one in self.tasks.values():
            if one.status == "queued" and one.expires is not None and one.expires <= self.now:
                self.end(one, "cancelled")

    def end(self, one: Task, status: str) -> None:
        one.status = status
        if status in BAD_ENDS:
            for other in self.tasks.values():
                if one.id in other.after and other.status == "queued":
                    self.end(other, "cancelled")

    def running(self, kind: str, name: str | None) -> int:
        wanted = "recipient" if kind == "recipient" else "group"
        return sum(one.status == "running" and getattr(one, wanted) == name for one in self.tasks.values())

    def may_run(self, one: Task) -> bool:
        if one.status != "queued" or max(one.until, one.begins) > self.now:
            return False
        if any(self.tasks[before].status != "completed" for before in one.after):
            return False
        names = (("recipient", one.recipient), ("group", one.group))
        return all(self.running(*at) < self.limits.get(at, 10**9) for at in names if at[1] is not None)  # type: ignore[arg-type]

    def first(self, recipient: str) -> Task | None:
        ready = [one for one in self.tasks.values() if one.recipient == recipient and self.may_run(one)]
        return min(ready, key=lambda one: one.order, default=None)


class World:
    """Three workers at one database, and the model; what they do is chosen by two numbers each."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="orc-tasks-")
        self.clock = Clock()
        self.model = Model()
        self.alive = mock.patch.object(proc, "alive", lambda pid, start: start not in self.model.dead)
        self.claims = [Claim("none-such", "", 0)]
        self.lives = list(range(1, WORKERS + 1))  # each worker's number; a new one after each death

    def __enter__(self) -> World:
        self.clock.__enter__()
        self.alive.start()
        self.queues = [open_queue(Home(self.folder), RULES) for _ in range(WORKERS)]
        for number in range(6):
            self.send(number, number * 7)
        return self

    def __exit__(self, *error: object) -> None:
        for queue in self.queues:
            queue.close()
        self.alive.stop()
        self.clock.__exit__(None, None, None)
        shutil.rmtree(self.folder)

    def settled(self) -> Model:
        """Both have noticed what is due."""
        for _ in range(2):  # what the first ended may have let others in
            self.queues[0].sweep(now=True)
        self.model.settle()
        return self.model

    def agrees(self) -> None:
        model = self.settled()
        assert states(self.queues[0]) == {one.id: one.status for one in model.tasks.values()}
        assert self.queues[1].size() == sum(one.status == "queued" for one in model.tasks.values())
        assert ended_more_than_once(self.queues[0]) == []

    def known(self, number: int) -> Task:
        tasks = list(self.model.tasks.values())
        return tasks[-1 - number % len(tasks)]

    def claim(self, number: int) -> tuple[Claim, MessageQueue, Task | None]:
        """One of the last claims, whose it is, and the task if the claim is still good."""
        claim = self.claims[-1 - number % min(len(self.claims), 6)]
        one = self.settled().tasks.get(claim.id)
        good = one is not None and one.status == "running" and one.token == claim.token
        return claim, self.queues[claim.queue], one if good else None

    # what they do

    def send(self, a: int, b: int) -> None:
        model = self.settled()
        begins, expires = (None, None, None, 3, 20)[b % 5], (None, None, None, 30, 200)[b // 5 % 5]
        after = [self.known(b).id] if b % 3 == 0 and model.tasks else []
        recipient, group, priority = RECIPIENTS[a % 4 == 3], GROUPS[a % 2], 1 + b % 10
        message = task(
            recipient,
            group=group,
            priority=priority,
            after=after,
            not_before=begins and self.clock.stamp(begins),
            expires=expires and self.clock.stamp(expires),
        )
        if any(model.tasks[before].status in BAD_ENDS for before in after):
            with pytest.raises(DataError):
                self.queues[a % WORKERS].send(message)
            return
        assert self.queues[a % WORKERS].send(message)
        one = Task(message.task_id, recipient, group, (priority, len(model.tasks)), after)
        one.begins = model.now + (begins or 0)
        one.expires = expires and model.now + expires
        model.tasks[one.id] = one
        self._passes(0.001)

    def get(self, a: int, b: int) -> None:
        who, recipient = a % WORKERS, RECIPIENTS[b % 4 == 3]
        expected = self.settled().first(recipient)
        got = self.queues[who].get(recipient, worker=f"1:{self.lives[who]}")
        assert (got.task_id if got else None) == (expected.id if expected else None)
        if got is not None and expected is not None:
            self._claimed(expected, got.token, who)

    def take(self, a: int, b: int) -> None:
        who, expected = a % WORKERS, self.known(b)
        may = self.settled().may_run(expected)
        got = self.queues[who].take(expected.id, worker=f"1:{self.lives[who]}")
        assert (got is not None) == may
        if got is not None:
            self._claimed(expected, got.token, who)

    def _claimed(self, one: Task, token: str, who: int) -> None:
        one.status, one.token, one.worker, one.attempt = "running", token, self.lives[who], one.attempt + 1
        one.until = self.model.now + LEASE
        self.claims.append(Claim(one.id, token, who))

    def complete(self, a: int, b: int) -> None:
        claim, queue, one = self.claim(a)
        known = self.model.tasks.get(claim.id)
        if one:
            queue.mark_completed(claim.id, token=claim.token)
            self.model.end(one, "completed")
        elif known and known.status == "completed" and known.token == claim.token:
            queue.mark_completed(claim.id, token=claim.token)
        else:
            with pytest.raises(DataError):
                queue.mark_completed(claim.id, token=claim.token)

    def fail(self, a: int, b: int) -> None:
        claim, queue, one = self.claim(a)
        retry = b % 4 > 0
        if one is None:
            with pytest.raises(DataError):
                queue.mark_failed(claim.id, "late", claim.token, retry)
        elif retry and one.attempt < ATTEMPTS:
            assert queue.mark_failed(claim.id, "no", claim.token, retry) == "queued"
            one.status, one.until = "queued", self.model.now + RESTS[one.attempt - 1]
        else:
            end = "dead" if retry else "failed"
            assert queue.mark_failed(claim.id, "no", claim.token, retry) == end
            self.model.end(one, end)

    def release(self, a: int, b: int) -> None:
        claim, queue, one = self.claim(a)
        if one is None:
            with pytest.raises(DataError):
                queue.release(claim.id, claim.token)
        else:
            queue.release(claim.id, claim.token)
            one.status, one.until, one.attempt = "queued", 0.0, one.attempt - 1

    def extend(self, a: int, b: int) -> None:
        claim, queue, one = self.claim(a)
        if one is None:
            with pytest.raises(DataError):
                queue.extend(claim.id, token=claim.token)
        else:
            queue.extend(claim.id, token=claim.token)
            one.until = self.model.now + LEASE

    def cancel(self, a: int, b: int) -> None:
        one = self.known(a)
        is_open = self.settled().tasks[one.id].status in ("queued", "running")
        assert self.queues[0].cancel(one.id) is is_open
        if is_open:
            self.model.end(one, "cancelled")

    def limit(self, a: int, b: int) -> None:
        kind, name = (("recipient", "dev"), ("group", "ci"))[a % 2]
        parallel = (None, None, 0, 1, 2)[b % 5]
        self.queues[0].limit(kind, name, parallel)
        self.model.limits.pop((kind, name), None)
        if parallel is not None:
            self.model.limits[kind, name] = parallel

    def passes(self, a: int, b: int) -> None:
        self._passes((0.5, 4, 9, 31, 61)[a % 5])

    def _passes(self, seconds: float) -> None:
        self.clock.passes(seconds)
        self.model.now += seconds

    def dies(self, a: int, b: int) -> None:
        self.model.dead.add(self.lives[a % WORKERS])
        self.lives[a % WORKERS] = max(self.lives) + 1


OFTEN = ["get"] * 6 + ["send"] * 4 + ["complete", "fail", "passes"] * 2
ACTS = st.sampled_from([*OFTEN, "take", "release", "extend", "cancel", "limit", "dies"])
STEPS = st.lists(st.tuples(ACTS, st.integers(0, 59), st.integers(0, 59)), min_size=50, max_size=80)


@settings(max_examples=25, deadline=None)
@given(steps=STEPS)
def test_whatever_they_do_the_rules_hold(steps: list[tuple[str, int, int]]) -> None:
    with World() as world:
        for act, a, b in steps:
            getattr(world, act)(a, b)
            world.agrees()
