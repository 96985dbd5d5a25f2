"""Whatever several workers do, in whatever order, and whoever dies: the rules of the queue against a plain model."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from support_tasks import Clock, ended_more_than_once, open_queue, states, task
from tmux_orchestrator.ground import proc
from tmux_orchestrator.ground.errors import DataError
from tmux_orchestrator.ground.paths import Home

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


class Rules(RuleBasedStateMachine):
    sent = Bundle("sent")
    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp(prefix="orc-tasks-")
        self.clock = Clock()
        self.clock.__enter__()
        self.model = Model()
        self.alive = mock.patch.object(proc, "alive", lambda pid, start: start not in self.model.dead)
        self.alive.start()
        self.queues = [open_queue(Home(self.folder), RULES) for _ in range(WORKERS)]
        self.lives = list(range(1, WORKERS + 1))  # each worker's number; a new one after each death

    def teardown(self) -> None:
        for queue in self.queues:
            queue.close()
        self.alive.stop()
        self.clock.__exit__(None, None, None)
        shutil.rmtree(self.folder)

    def settled(self) -> Model:
        """Both have noticed what is due."""
        self.queues[0].sweep(now=True)
        self.queues[0].sweep(now=True)  # what the first ended may have let others in
        self.model.settle()
        return self.model

    @rule(
        target=sent,
        who=st.integers(0, WORKERS - 1),
        recipient=st.sampled_from(RECIPIENTS),
        group=st.sampled_from(GROUPS),
        priority=st.integers(1, 10),
        begins=st.sampled_from([None, 3, 20]),
        expires=st.sampled_from([None, None, None, 30, 200]),
        after=st.lists(sent, max_size=2),
    )
    def send(
        self,
        who: int,
        recipient: str,
        group: str | None,
        priority: int,
        begins: int | None,
        expires: int | None,
        after: list[str],
    ) -> str:
        model = self.settled()
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
                self.queues[who].send(message)
            return next(iter(model.tasks))
        assert self.queues[who].send(message)
        model.tasks[message.task_id] = Task(
            message.task_id,
            recipient,
            group,
            (priority, len(model.tasks)),
            after,
            begins=model.now + (begins or 0),
            expires=None if expires is None else model.now + expires,
        )
        self.passes(0.001)
        return message.task_id

    @rule(target=claims, who=st.integers(0, WORKERS - 1), recipient=st.sampled_from(RECIPIENTS))
    def get(self, who: int, recipient: str) -> Claim:
        expected = self.settled().first(recipient)
        got = self.queues[who].get(recipient, worker=f"1:{self.lives[who]}")
        assert (got.task_id if got else None) == (expected.id if expected else None)
        if got is None or expected is None:
            return Claim("none-such", "", who)
        return self.claimed(expected, got.token, who)

    @rule(target=claims, who=st.integers(0, WORKERS - 1), task_id=sent)
    def take(self, who: int, task_id: str) -> Claim:
        expected = self.settled().tasks[task_id]
        may = self.model.may_run(expected)
        got = self.queues[who].take(task_id, worker=f"1:{self.lives[who]}")
        assert (got is not None) == may
        return self.claimed(expected, got.token, who) if got else Claim("none-such", "", who)

    def claimed(self, one: Task, token: str, who: int) -> Claim:
        one.status, one.token, one.worker, one.attempt = "running", token, self.lives[who], one.attempt + 1
        one.until = self.model.now + LEASE
        return Claim(one.id, token, who)

    def holds(self, claim: Claim) -> Task | None:
        """The task, if the claim is still good."""
        one = self.settled().tasks.get(claim.id)
        return one if one and one.status == "running" and one.token == claim.token else None

    @rule(claim=claims)
    def complete(self, claim: Claim) -> None:
        one, queue = self.holds(claim), self.queues[claim.queue]
        known = self.model.tasks.get(claim.id)
        if one:
            queue.mark_completed(claim.id, token=claim.token)
            self.model.end(one, "completed")
        elif known and known.status == "completed" and known.token == claim.token:
            queue.mark_completed(claim.id, token=claim.token)
        else:
            with pytest.raises(DataError):
                queue.mark_completed(claim.id, token=claim.token)

    @rule(claim=claims, retry=st.booleans())
    def fail(self, claim: Claim, retry: bool) -> None:
        one, queue = self.holds(claim), self.queues[claim.queue]
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

    @rule(claim=claims)
    def release(self, claim: Claim) -> None:
        one, queue = self.holds(claim), self.queues[claim.queue]
        if one is None:
            with pytest.raises(DataError):
                queue.release(claim.id, claim.token)
        else:
            queue.release(claim.id, claim.token)
            one.status, one.until, one.attempt = "queued", 0.0, one.attempt - 1

    @rule(claim=claims)
    def extend(self, claim: Claim) -> None:
        one, queue = self.holds(claim), self.queues[claim.queue]
        if one is None:
            with pytest.raises(DataError):
                queue.extend(claim.id, token=claim.token)
        else:
            queue.extend(claim.id, token=claim.token)
            one.until = self.model.now + LEASE

    @rule(task_id=sent)
    def cancel(self, task_id: str) -> None:
        one = self.settled().tasks[task_id]
        open_still = one.status in ("queued", "running")
        assert self.queues[0].cancel(task_id) is open_still
        if open_still:
            self.model.end(one, "cancelled")

    @rule(kind=st.sampled_from(["recipient", "group"]), parallel=st.sampled_from([None, 0, 1, 2]))
    def limit(self, kind: str, parallel: int | None) -> None:
        name = "dev" if kind == "recipient" else "ci"
        self.queues[0].limit(kind, name, parallel)
        self.model.limits.pop((kind, name), None)
        if parallel is not None:
            self.model.limits[kind, name] = parallel

    @rule(seconds=st.sampled_from([0.5, 4, 9, 31, 61]))
    def passes(self, seconds: float) -> None:
        self.clock.passes(seconds)
        self.model.now += seconds

    @rule(who=st.integers(0, WORKERS - 1))
    def dies(self, who: int) -> None:
        self.model.dead.add(self.lives[who])
        self.lives[who] = max(self.lives) + 1

    @invariant()
    def both_agree(self) -> None:
        model = self.settled()
        assert states(self.queues[0]) == {one.id: one.status for one in model.tasks.values()}
        assert self.queues[1].size() == sum(one.status == "queued" for one in model.tasks.values())
        assert ended_more_than_once(self.queues[0]) == []


Rules.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestRules = Rules.TestCase
