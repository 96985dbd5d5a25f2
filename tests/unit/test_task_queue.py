"""The task queue: what is claimed, by whom, how long, and how it ends. Time is the test's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support_tasks import Clock, locks, open_queue, record, states, task, told
from tmux_orchestrator.ground import clock as real_clock
from tmux_orchestrator.ground import proc
from tmux_orchestrator.ground.errors import DataError, TryLater
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work import ending, leases
from tmux_orchestrator.work.message import Message
from tmux_orchestrator.work.queue import MessageQueue
from tmux_orchestrator.work.store.database import Database

ROOT = Path(__file__).resolve().parents[2]
RULES = "team: {message_queue: {lease: 60, attempts: 3, retry_backoff: [5, 15], max_size: 10}}"


@pytest.fixture
def clock() -> Iterator[Clock]:
    with Clock() as clock:
        yield clock


@pytest.fixture
def queue(home: Home, clock: Clock) -> Iterator[MessageQueue]:
    queue = open_queue(home, RULES)
    yield queue
    queue.close()


@pytest.fixture
def other(home: Home, queue: MessageQueue) -> Iterator[MessageQueue]:
    """As another process would have it."""
    other = open_queue(home, RULES)
    yield other
    other.close()


def sent(queue: MessageQueue, recipient: str = "dev", **fields: Any) -> str:
    message = task(recipient, **fields)
    assert queue.send(message)
    return message.task_id


def claimed(queue: MessageQueue, recipient: str = "dev", **how: Any) -> Message:
    queue.sweep(now=True)
    message = queue.get(recipient, **how)
    assert message is not None
    return message


def ready(queue: MessageQueue, recipient: str = "dev") -> bool:
    queue.sweep(now=True)
    return queue.is_ready(recipient)


# the document's own words


def test_the_documents_example(home: Home) -> None:
    queue = MessageQueue(db_path="data/orchestrator.db")
    queue.send(Message("architect", "code_developer", "task_delegate", {"spec_id": "SPEC-071"}, priority=2))
    assert queue.has_messages() and queue.size("code_developer") == 1
    message = queue.get("code_developer")
    assert message is not None and message.payload == {"spec_id": "SPEC-071"}
    queue.mark_started(message.task_id, agent="code_developer")
    queue.mark_completed(message.task_id, duration_ms=1500)
    assert [slow["duration_ms"] for slow in queue.get_slowest_tasks()] == [1500]
    assert queue.get_agent_performance()[0]["completed_tasks"] == 1
    assert queue.get_queue_depth() == []
    queue.record_metric("code_developer", "cpu_percent", 12.5)
    assert queue.cleanup_old_tasks(days=30) == 0
    queue.stop()
    assert os.stat(home.root + "/data/orchestrator.db").st_mode & 0o777 == 0o600


def test_the_example_of_the_documentation_runs_word_for_word(home: Home) -> None:
    text = (ROOT / "docs/tasks.md").read_text()
    example = text.partition("```python\n")[2].partition("```")[0]
    found: dict[str, Any] = {}
    exec(example, found)
    assert found["message"].payload == {"spec_id": "SPEC-071"}
    queue = MessageQueue()
    assert states(queue) == {found["message"].task_id: "completed"}
    queue.close()


# order


def test_priority_comes_before_age(queue: MessageQueue, clock: Clock) -> None:
    ids = []
    for priority in (5, 1, 10, 5, 1):
        ids.append(sent(queue, priority=priority))
        clock.passes(0.001)
    order = [claimed(queue).task_id for _ in ids]
    assert order == [ids[1], ids[4], ids[0], ids[3], ids[2]]


def test_of_the_same_moment_the_first_sent_is_the_first(queue: MessageQueue) -> None:
    ids = [sent(queue) for _ in range(5)]
    assert [claimed(queue).task_id for _ in ids] == ids


def test_a_time_of_the_documents_form_is_an_age_too(queue: MessageQueue, clock: Clock) -> None:
    new = sent(queue, timestamp="2025-10-16T10:30:45.900000")
    old = sent(queue, timestamp="2025-10-16T10:30:45")
    assert [claimed(queue).task_id for _ in "12"] == [old, new]
    assert record(queue, old)["created_at"].endswith(":45.000000Z")


# claims


def test_a_task_is_given_to_one_worker_alone(queue: MessageQueue, other: MessageQueue) -> None:
    task_id = sent(queue)
    message = claimed(queue)
    assert message.task_id == task_id and message.attempt == 1
    assert other.get("dev") is None and other.take(task_id) is None
    with pytest.raises(DataError, match="another worker has it"):
        other.mark_completed(task_id, token="0123456789ab1")
    with pytest.raises(DataError, match="the token of its claim is missing"):
        other.mark_completed(task_id)
    queue.mark_completed(task_id)
    assert told(queue, task_id) == ["queued", "running", "completed"]


def test_a_lease_that_ended_frees_the_task_and_refuses_the_late_worker(
    queue: MessageQueue, other: MessageQueue, clock: Clock
) -> None:
    task_id = sent(queue)
    late = claimed(queue)
    clock.passes(60)
    with pytest.raises(DataError, match="its lease ended"):
        queue.mark_completed(task_id)  # before anybody took it back
    second = claimed(other)
    assert (second.task_id, second.attempt) == (task_id, 2)
    for act in (queue.mark_completed, queue.release, queue.extend):
        with pytest.raises(DataError, match="another worker has it"):
            act(task_id, token=late.token)
    with pytest.raises(DataError):
        queue.mark_failed(task_id, "late")
    other.mark_completed(task_id)
    assert told(queue, task_id) == ["queued", "running", "queued", "running", "completed"]


def test_extending_holds_the_task(queue: MessageQueue, other: MessageQueue, clock: Clock) -> None:
    sent(queue)
    message = claimed(queue)
    for _ in range(5):
        clock.passes(40)
        queue.extend(message.task_id)
        assert not ready(other)
    queue.mark_completed(message.task_id)


def test_a_dead_worker_frees_its_task_at_once(queue: MessageQueue, other: MessageQueue) -> None:
    sent(queue)
    child = os.fork()
    if not child:
        import signal

        signal.pause()
    try:
        message = claimed(queue, worker=leases.worker(child))
        assert not ready(other)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    again = claimed(other)
    assert again.task_id == message.task_id
    with pytest.raises(DataError, match="another worker"):
        queue.mark_completed(message.task_id)


def test_a_worker_whose_process_has_a_number_of_its_own_space_is_not_thought_dead(queue: MessageQueue) -> None:
    away = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*away, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no other space of processes may be made here")
    sent(queue)
    work = "from tmux_orchestrator.work.queue import MessageQueue as Q; q = Q(); print(q.get('dev').token); input()"
    with subprocess.Popen(
        [*away, sys.executable, "-c", work], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdin is not None and worker.stdout is not None
        token = worker.stdout.readline().strip()
        queue.sweep(now=True)
        queue.mark_completed(queue.database.rows("SELECT task_id FROM tasks")[0][0], token=token)
        worker.stdin.write("\n")


def test_a_pid_that_somebody_else_got_is_not_the_worker(queue: MessageQueue) -> None:
    sent(queue)
    start = proc.start_time(os.getpid())
    assert start is not None
    claimed(queue, worker=f"{os.getpid()}:{start - 1}")
    assert ready(queue)


def test_a_step_of_the_wall_clock_ends_no_lease(queue: MessageQueue, clock: Clock) -> None:
    message_id = sent(queue)
    claimed(queue)
    clock.steps(86_400)
    assert not ready(queue)
    clock.steps(-2 * 86_400)
    assert not ready(queue)
    queue.mark_completed(message_id)


def test_a_sweep_does_not_take_what_was_extended_while_it_looked(
    queue: MessageQueue, other: MessageQueue, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = sent(queue)
    claimed(queue)
    clock.passes(59.9)
    look = leases.is_gone

    def extended_meanwhile(named: str | None) -> bool:
        queue.extend(task_id)
        return look(named) or True  # and the worker is thought dead

    monkeypatch.setattr(leases, "is_gone", extended_meanwhile)
    other.sweep(now=True)
    queue.mark_completed(task_id)


def test_a_lease_is_a_time(queue: MessageQueue) -> None:
    sent(queue)
    for lease in (0, -1, float("nan"), float("inf"), 1e12):
        with pytest.raises(DataError, match="the lease"):
            queue.get("dev", lease=lease)
    claimed(queue, lease=0.5)


def test_after_a_boot_nobody_holds_anything(home: Home) -> None:
    before = open_queue(home, RULES)
    ids = [sent(before) for _ in range(2)]
    claimed(before)
    before.mark_failed(claimed(before).task_id, "e", retry=True)
    before.close()
    after = open_queue(home, RULES, boot="another")
    assert states(after) == dict.fromkeys(ids, "queued")
    assert record(after, ids[0])["error_message"] == "the machine was started anew"
    assert {claimed(after).task_id for _ in ids} == set(ids)
    after.close()


# ends


def test_completed_twice_with_one_token_is_once(queue: MessageQueue, clock: Clock) -> None:
    task_id = sent(queue)
    token = claimed(queue).token
    clock.passes(1.5)
    queue.mark_completed(task_id, token=token, exit_code=0, output="x" * 5000 + "end")
    queue.mark_completed(task_id, token=token)
    found = record(queue, task_id)
    assert found["duration_ms"] == 1500 and len(found["output"]) == 4096 and found["output"].endswith("end")
    assert told(queue, task_id) == ["queued", "running", "completed"]


def test_a_failure_is_tried_again_with_longer_rests_until_it_is_dead(queue: MessageQueue, clock: Clock) -> None:
    task_id = sent(queue)
    for rest in (5, 10):
        claimed(queue)
        assert queue.mark_failed(task_id, "no", retry=True, exit_code=3) == "queued"
        clock.passes(rest - 0.001)
        assert not ready(queue)
        clock.passes(0.001)
        assert ready(queue)
    assert claimed(queue).attempt == 3
    assert queue.mark_failed(task_id, "no", retry=True) == "dead"
    assert not queue.has_messages()
    found = record(queue, task_id)
    assert (found["status"], found["error_message"], found["attempt"]) == ("dead", "no", 3)


def test_the_longest_rest(queue: MessageQueue, clock: Clock) -> None:
    task_id = sent(queue, max_attempts=100)
    for _ in range(50):
        claimed(queue)
        queue.mark_failed(task_id, "no", retry=True)
        clock.passes(15)
    assert ready(queue)


def test_a_final_failure_is_not_tried_again(queue: MessageQueue, clock: Clock) -> None:
    task_id = sent(queue)
    claimed(queue)
    assert queue.mark_failed(task_id, "bad data") == "failed"
    clock.passes(100)
    assert not ready(queue)


def test_a_task_that_kills_its_workers_dies_too(queue: MessageQueue, clock: Clock) -> None:
    task_id = sent(queue)
    for _ in range(3):
        claimed(queue)
        clock.passes(61)
    assert not ready(queue)
    assert record(queue, task_id)["status"] == "dead"


def test_what_is_given_back_was_never_tried(queue: MessageQueue, clock: Clock) -> None:
    task_id = sent(queue)
    for _ in range(5):
        assert claimed(queue).attempt == 1
        queue.release(task_id)
    claimed(queue)
    queue.release(task_id, rest=5)
    assert not ready(queue)
    clock.passes(5)
    assert claimed(queue).attempt == 1


def test_cancelling_ends_what_runs_and_what_waits(queue: MessageQueue) -> None:
    task_id = sent(queue)
    claimed(queue)
    assert queue.cancel(task_id, "not needed")
    assert not queue.cancel(task_id)
    with pytest.raises(DataError, match="it is cancelled"):
        queue.mark_completed(task_id)
    with pytest.raises(DataError, match="there is no task"):
        queue.cancel("nothing")


def test_a_retry_by_hand_is_one_attempt_more(queue: MessageQueue) -> None:
    task_id = sent(queue, max_attempts=1)
    claimed(queue)
    assert queue.mark_failed(task_id, "no", retry=True) == "dead"
    assert queue.retry(task_id) and not queue.retry(task_id)
    assert claimed(queue).attempt == 2
    assert queue.mark_failed(task_id, "no", retry=True) == "dead"


# before and after


def test_what_comes_after_waits_for_all(queue: MessageQueue) -> None:
    first, second = sent(queue), sent(queue)
    last = sent(queue, after=[first, second], priority=1)
    assert queue.size() == 3
    for task_id in (first, second):
        assert claimed(queue).task_id == task_id
        assert not ready(queue) or task_id == first
        queue.mark_completed(task_id)
    assert claimed(queue).task_id == last


def test_a_failure_cancels_what_comes_after_it_and_after_that(queue: MessageQueue) -> None:
    first = sent(queue)
    second = sent(queue, after=[first])
    third = sent(queue, after=[second])
    claimed(queue)
    queue.mark_failed(first, "no")
    assert states(queue) == {first: "failed", second: "cancelled", third: "cancelled"}
    with pytest.raises(DataError, match=f"comes after {second}"):
        queue.retry(third)
    with pytest.raises(DataError, match=f"comes after {first}"):
        queue.retry(second)
    assert queue.retry(first) and queue.retry(second) and queue.retry(third)
    for task_id in (first, second, third):
        assert claimed(queue).task_id == task_id
        assert not ready(queue)
        queue.mark_completed(task_id)


def test_nothing_comes_after_itself_or_nothing(queue: MessageQueue) -> None:
    ended = sent(queue)
    queue.cancel(ended)
    for after in ("itself", "missing", ended):
        with pytest.raises(DataError):
            queue.send(task(task_id="itself", after=[after]))
    assert list(states(queue)) == [ended]


def test_a_time_to_begin_and_a_time_to_expire(queue: MessageQueue, clock: Clock) -> None:
    later = sent(queue, not_before=clock.stamp(10))
    never = sent(queue, not_before=clock.stamp(20), expires=clock.stamp(15))
    soon = sent(queue, expires=clock.stamp(5))
    assert queue.size() == 3
    clock.passes(5)
    assert not ready(queue)
    assert states(queue) == {later: "queued", never: "queued", soon: "cancelled"}
    clock.passes(5)
    assert claimed(queue).task_id == later
    clock.passes(10)
    assert not ready(queue)
    assert record(queue, never)["error_message"] == "expired"


def test_what_was_begun_in_time_does_not_expire(
    queue: MessageQueue, other: MessageQueue, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody claims it between a sweep's look and what the sweep does."""
    task_id = sent(queue, expires=clock.stamp(5))
    clock.passes(4.95)
    queue.sweep(now=True)
    clock.passes(0.06)
    begin = Database.__enter__

    def claimed_meanwhile(self: Database) -> Database:
        if self is other.database:
            assert queue.get("dev") is not None
        return begin(self)

    monkeypatch.setattr(Database, "__enter__", claimed_meanwhile)
    other.sweep(now=True)
    assert record(queue, task_id)["status"] == "running"


def test_time_and_order_both_hold(queue: MessageQueue, clock: Clock) -> None:
    first = sent(queue)
    second = sent(queue, after=[first], not_before=clock.stamp(10))
    third = sent(queue, after=[first], not_before=clock.stamp(10))
    claimed(queue)
    queue.mark_completed(first)
    assert not ready(queue)
    clock.passes(10)
    assert [claimed(queue).task_id for _ in "12"] == [second, third]


# limits


def test_a_recipient_and_a_group_have_limits(queue: MessageQueue) -> None:
    for _ in range(4):
        sent(queue, group="builds")
    free = sent(queue)
    queue.limit("group", "builds", 2)
    got = [claimed(queue) for _ in range(3)]
    assert [message.task_id == free for message in got] == [False, False, True]
    assert queue.get("dev") is None
    queue.mark_completed(got[0].task_id)
    assert claimed(queue).group == "builds"
    queue.limit("group", "builds", None)
    queue.limit("recipient", "dev", 3)
    assert queue.get("dev") is None
    waiting = [task_id for task_id, status in states(queue).items() if status == "queued"]
    assert queue.take(waiting[0]) is None
    queue.limit("recipient", "dev", 4)
    assert claimed(queue)


def test_a_pause_ends_by_itself(queue: MessageQueue, clock: Clock) -> None:
    sent(queue)
    queue.limit("recipient", "dev", 0, real_clock.now_ns() + 5_000_000_000, "the account is limited")
    assert queue.get("dev") is None
    clock.passes(5)
    assert claimed(queue)


def test_a_limit_is_a_number_of_something(queue: MessageQueue) -> None:
    for kind, which, parallel in (("agent", "dev", 1), ("group", "", 1), ("group", "g", -1), ("group", "g", True)):
        with pytest.raises(DataError):
            queue.limit(kind, which, parallel)


# how much, and how often


def test_a_full_queue_refuses_low_work_first_and_high_work_never(queue: MessageQueue) -> None:
    for _ in range(10):
        sent(queue)
    with pytest.raises(TryLater, match="the queue is full"):
        queue.send(task(priority=8))
    for _ in range(10):
        sent(queue, priority=7)
    with pytest.raises(TryLater):
        queue.send(task(priority=3))
    for _ in range(5):
        sent(queue, priority=2)
    assert queue.size() == 25


def test_a_task_that_is_known_is_not_queued_again_even_when_the_queue_is_full(queue: MessageQueue) -> None:
    for number in range(10):
        sent(queue, task_id=f"task-{number}", priority=9)
    assert not queue.send(task(task_id="task-3", priority=9, payload={"other": 1}))
    assert record(queue, "task-3")["payload"] == {}
    claimed(queue)
    queue.mark_completed("task-0")
    assert not queue.send(task(task_id="task-0", priority=9))
    assert queue.size() == 9


def test_all_or_none_of_a_batch(queue: MessageQueue) -> None:
    with pytest.raises(DataError):
        queue.send_all([task(), task(after=["missing"])])
    with pytest.raises(DataError):
        queue.send_all([task(), task(priority=11)])
    with pytest.raises(TryLater):
        queue.send_all([task(priority=9) for _ in range(11)])
    assert queue.size() == 0 and queue.send_all([]) == 0
    assert queue.send_all([task(task_id="first-1"), task(after=["first-1"]), task(task_id="first-1")]) == 2


def test_pruning_by_hand_takes_what_nobody_tells(queue: MessageQueue, clock: Clock) -> None:
    sent(queue)
    queue.mark_completed(claimed(queue).task_id)
    clock.passes(1)
    assert queue.cleanup_old_tasks(0) == ending.old(queue.database, 0) == 0, "who tells it may be about to"
    clock.passes(60)
    waits = sent(queue)
    assert ending.prune(queue.database, 0) == (0, False), "the state updater leaves it"
    assert ending.old(queue.database, 0) == queue.cleanup_old_tasks(0) == 1
    assert queue.database.rows("SELECT task_id FROM outbox") == [(waits,)]


def test_pruning_takes_only_what_ended_and_was_told(queue: MessageQueue, clock: Clock) -> None:
    done, waits = sent(queue), sent(queue)
    queue.mark_completed(claimed(queue).task_id)
    queue.record_metric("dev", "cpu_percent", 1)
    clock.passes(31 * 86_400)
    assert ending.prune(queue.database, 30) == (0, False), "the log has not heard of it"
    queue.database.change("DELETE FROM outbox")
    assert queue.cleanup_old_tasks(32) == 0
    assert queue.cleanup_old_tasks() == 1
    assert list(states(queue)) == [waits] and done not in states(queue)
    assert queue.database.rows("SELECT * FROM agent_metrics") == []
    for days in (-1, 40_000, True):
        with pytest.raises(DataError):
            queue.cleanup_old_tasks(days)


# threads and forks


def test_threads_may_share_a_queue(home: Home) -> None:
    queue = open_queue(home, "team: {message_queue: {max_size: 100000}}")

    def work(number: int) -> list[str]:
        done = []
        for _ in range(100):
            queue.send_all([task(), task()])
            for turn in range(2):
                message = queue.get("dev")
                assert message is not None
                if number and turn:
                    queue.mark_completed(message.task_id)
                    done.append(message.task_id)
                else:
                    queue.release(message.task_id, message.token)
        return done

    with ThreadPoolExecutor(4) as pool:
        done = [task_id for part in pool.map(work, range(4)) for task_id in part]
    found = states(queue)
    assert len(found) == 800, "each task has an id of its own"
    assert len(done) == len(set(done)) == list(found.values()).count("completed")
    queue.close()


def test_a_child_after_a_fork_is_a_worker_of_its_own(home: Home) -> None:
    """With its own locks (two queues are open: SQLite would take the parent's for its own), ids and claims."""
    queue, second = open_queue(home), open_queue(home)
    sent(queue), sent(queue)
    mine = claimed(queue)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            message = second.get("dev")
            assert message is not None
            second.send(task("other", task_id="of-the-child"))
            worker = record(second, message.task_id)["worker"]
            said = f"{message.token} {worker} {locks()} {Message('a', 'b', 't', {}).task_id}"
            os.write(write, said.encode())
        finally:
            os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    os.close(write)
    token, worker, held, task_id = os.read(read, 1000).decode().split()
    os.close(read)
    assert token[:12] != mine.token[:12]
    assert worker.startswith(f"{child}:")
    assert int(held) >= 2, "of the database and of the index of its log"
    assert task_id[10:] != Message("a", "b", "t", {}).task_id[10:]
    again = claimed(queue)
    assert again.attempt == 2, "it was the child's, which is dead"
    assert states(queue)["of-the-child"] == "queued"
    queue.close()
    second.close()


def test_to_look_at_the_file_drops_no_lock(home: Home) -> None:
    queue = open_queue(home)
    before = locks()
    other = open_queue(home)
    assert before >= 2 and locks() >= before
    other.close()
    assert locks() == before
    queue.close()


def test_a_transaction_that_a_signal_cut_off_is_undone_by_the_next(queue: MessageQueue, other: MessageQueue) -> None:
    queue.database.change("BEGIN IMMEDIATE")  # … and between this and the body of the block, the handler raised
    queue.database.change("DELETE FROM tasks")
    sent_id = task()
    assert queue.send_all([sent_id, task(after=[sent_id.task_id])]) == 2
    assert other.size() == 2
