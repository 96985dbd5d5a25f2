"""`orc-task run`: a command per task, its exit code, its lease, and its death with the worker. Real processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support_tasks import BIN, Command, ended_more_than_once, open_queue, record, states, task, wait_status
from support_tmux import wait_until
from tmux_orchestrator.ground import proc
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work.queue import MessageQueue

RULES = "team: {message_queue: {lease: 30, attempts: 3, retry_backoff: [0.2, 0.2]}}"


@pytest.fixture
def queue(home: Home) -> Iterator[MessageQueue]:
    queue = open_queue(home, RULES)
    yield queue
    queue.close()


def sent(queue: MessageQueue, **fields: object) -> str:
    message = task(**fields)  # type: ignore[arg-type]
    queue.send(message)
    return message.task_id


def once(*argv: str) -> subprocess.CompletedProcess[str]:
    words = [f"{BIN}/orc-task", "run", "-r", "dev", "--once", "--", *argv]
    return subprocess.run(words, capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL)


def pids(file: Path, count: int) -> list[int]:
    """What the command and what it started wrote down of themselves."""
    wait_until(lambda: file.exists() and len(file.read_text().split()) == count, 20, "the command's processes")
    return [int(word) for word in file.read_text().split()]


def wait_extended(queue: MessageQueue, task_id: str) -> None:
    before = ends(queue, task_id)
    wait_until(lambda: ends(queue, task_id) != before, 20, "an extension")


def ends(queue: MessageQueue, task_id: str) -> int:
    """The end of the lease by the clock since boot."""
    return int(queue.database.rows("SELECT wake_boot FROM tasks WHERE task_id = ?", task_id)[0][0])


def are_gone(numbers: list[int]) -> bool:
    return all(proc.start_time(number) is None for number in numbers)


# A command with a child of its own that ignores SIGTERM, as it does; both write down their numbers.
STUBBORN = "trap '' TERM; sleep 1000 & echo $$ $! >>{file}; wait; wait; wait"


def test_the_payload_and_the_rest_reach_the_command(queue: MessageQueue) -> None:
    payload = {"text": "zwölf\n$(touch canary)", "n": [1, None]}
    sent(queue, payload=payload, priority=2, sender="pm", type="spec_created", correlation_id="line one")
    done = once("sh", "-c", "cat; env | grep ^ORC_TASK_ | sort; echo problem >&2")
    assert (done.returncode, done.stderr) == (0, "problem\n")
    first, *rest = done.stdout.splitlines()
    assert json.loads(first) == payload
    said = dict(line.removeprefix("ORC_TASK_").split("=", 1) for line in rest)
    assert json.loads(said.pop("PAYLOAD")) == payload
    found = next(iter(states(queue)))
    assert said.pop("ID") == found and said.pop("TOKEN")
    assert said == {
        "TYPE": "spec_created",
        "SENDER": "pm",
        "RECIPIENT": "dev",
        "PRIORITY": "2",
        "ATTEMPT": "1",
        "CORRELATION_ID": "line one",
    }
    kept = record(queue, found)
    assert kept["status"] == "completed" and kept["exit_code"] == 0 and "problem" in kept["output"]


def test_a_large_payload_comes_by_standard_input_alone(queue: MessageQueue) -> None:
    sent(queue, payload={"text": "x" * 1_000_000})
    done = once("sh", "-c", 'wc -c; echo "<$ORC_TASK_PAYLOAD>"')
    assert done.stdout.split() == ["1000013", "<>"]


def test_a_command_that_reads_nothing_is_not_waited_for(queue: MessageQueue) -> None:
    sent(queue, payload={"text": "x" * 1_000_000})
    assert once("true").returncode == 0


@pytest.mark.parametrize(
    ("code", "status", "attempt"), [(0, "completed", 1), (3, "queued", 1), (65, "failed", 1), (75, "queued", 0)]
)
def test_the_exit_code_ends_the_task(queue: MessageQueue, code: int, status: str, attempt: int) -> None:
    task_id = sent(queue)
    done = once("sh", "-c", f"echo it went so; exit {code}")
    assert (done.returncode, done.stdout, done.stderr) == (code, "it went so\n", "")
    found = record(queue, task_id)
    assert (found["status"], found["attempt"]) == (status, attempt)
    if code in (3, 65):
        assert found["error_message"] == f"sh ended with {code}: it went so"
        assert found["exit_code"] == code


def test_a_signal_is_a_failure(queue: MessageQueue) -> None:
    task_id = sent(queue)
    assert once("sh", "-c", "kill -9 $$").returncode == 137
    assert record(queue, task_id)["exit_code"] == 137


def test_without_a_task_once_is_a_no(queue: MessageQueue) -> None:
    done = once("true")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


def test_a_command_that_is_not_there_claims_nothing(queue: MessageQueue) -> None:
    task_id = sent(queue)
    done = once("no-such-command")
    assert done.returncode == 127 and done.stderr.count("\n") == 1
    assert once("/etc/passwd").returncode == 126
    found = record(queue, task_id)
    assert (found["status"], found["attempt"]) == ("queued", 0)


def test_the_end_of_a_long_output_is_kept_and_all_of_it_passed_on(queue: MessageQueue) -> None:
    task_id = sent(queue)
    done = once("sh", "-c", "seq 200000")
    assert done.stdout == "".join(f"{n}\n" for n in range(1, 200_001))
    kept = record(queue, task_id)["output"]
    assert len(kept) == 4096 and kept.endswith("199999\n200000\n")


def test_a_reader_that_left_does_not_end_the_task(queue: MessageQueue) -> None:
    task_id = sent(queue)
    with Command("run", "-r", "dev", "--once", "--", "sh", "-c", "seq 100000; echo the end") as worker:
        assert worker.process.stdout is not None
        worker.process.stdout.close()
        assert worker.process.wait(30) == 0
    assert record(queue, task_id)["output"].endswith("the end\n")


def test_a_reader_that_takes_nothing_does_not_cost_the_lease(queue: MessageQueue) -> None:
    task_id = sent(queue)
    words = ("run", "-r", "dev", "--once", "--lease", "6", "--", "sh", "-c", "seq 100000")
    with Command(*words) as worker:
        wait_status(queue, task_id, "running")
        wait_extended(queue, task_id)
        wait_extended(queue, task_id)
        assert record(queue, task_id)["status"] == "running"
        assert worker.ends()[0] == 0
    assert record(queue, task_id)["status"] == "completed"


def test_the_lease_is_extended_for_as_long_as_the_command_runs(queue: MessageQueue, tmp_path: Path) -> None:
    task_id = sent(queue)
    stop = tmp_path / "stop"
    script = f"until [ -e {stop} ]; do sleep 0.05; done"
    with Command("run", "-r", "dev", "--once", "--lease", "6", "--", "sh", "-c", script) as worker:
        wait_status(queue, task_id, "running")
        for _ in range(2):
            wait_extended(queue, task_id)
            queue.sweep(now=True)
        stop.touch()
        assert worker.ends() == (0, "", "")
    assert record(queue, task_id)["attempt"] == 1


def test_tasks_are_done_as_they_come_and_so_many_at_once(queue: MessageQueue, tmp_path: Path) -> None:
    """Three wait for each other, so that they have to run at once; then one that comes while nobody is busy."""
    script = f"touch {tmp_path}/$ORC_TASK_ID; until [ $(ls {tmp_path} | wc -l) -ge 3 ]; do sleep 0.02; done"
    with Command("run", "-r", "dev", "--jobs", "3", "--", "sh", "-c", script) as worker:
        ids = [sent(queue) for _ in range(3)]
        for task_id in ids:
            wait_status(queue, task_id, "completed")
        wait_status(queue, sent(queue), "completed")
        worker.signal(signal.SIGTERM)
        assert worker.ends() == (0, "", "")
    assert ended_more_than_once(queue) == []


def test_a_killed_worker_takes_the_command_and_all_of_its_group_with_it(queue: MessageQueue, tmp_path: Path) -> None:
    task_id, file = sent(queue), tmp_path / "pids"
    with Command("run", "-r", "dev", "--", "sh", "-c", STUBBORN.format(file=file)) as worker:
        numbers = pids(file, 2)
        worker.process.kill()
        worker.process.wait()
        wait_until(lambda: are_gone(numbers), what="the end of the command and its child")
    queue.sweep(now=True)
    found = record(queue, task_id)
    assert (found["status"], found["attempt"]) == ("queued", 1)
    assert "ended" in found["error_message"]


def test_a_guard_that_was_killed_is_replaced(queue: MessageQueue, tmp_path: Path) -> None:
    file = tmp_path / "pids"
    with Command("run", "-r", "dev", "--jobs", "2", "--", "sh", "-c", STUBBORN.format(file=file)) as worker:
        sent(queue)
        first = pids(file, 2)
        old = _guards(worker.process.pid)
        os.kill(old[0], signal.SIGKILL)
        wait_until(lambda: set(_guards(worker.process.pid)) - set(old), what="another guard")
        sent(queue)
        numbers = pids(file, 4)
        assert set(first) < set(numbers) and not are_gone(first[:1])
        worker.process.kill()
        worker.process.wait()
        wait_until(lambda: are_gone(numbers), what="the end of both commands and their children")


def _guards(worker: int) -> list[int]:
    found = []
    for child in Path(f"/proc/{worker}/task/{worker}/children").read_text().split():
        with contextlib.suppress(OSError):
            found += [int(child)] if b"guard.py" in Path(f"/proc/{child}/cmdline").read_bytes() else []
    return found


def test_what_a_command_leaves_in_its_group_ends_with_it(queue: MessageQueue, tmp_path: Path) -> None:
    file = tmp_path / "pids"
    task_id = sent(queue)
    assert once("sh", "-c", f"sleep 1000 & echo $! >{file}").returncode == 0
    wait_until(lambda: are_gone(pids(file, 1)), what="the end of what was left")
    assert record(queue, task_id)["status"] == "completed"


def test_asked_to_stop_it_lets_the_command_finish(queue: MessageQueue, tmp_path: Path) -> None:
    task_id, file = sent(queue), tmp_path / "pids"
    script = f"trap 'echo tidied up; exit 0' TERM; echo $$ >{file}; while :; do sleep 0.05; done"
    with Command("run", "-r", "dev", "--", "sh", "-c", script) as worker:
        pids(file, 1)
        worker.signal(signal.SIGTERM)
        assert worker.ends()[:2] == (0, "tidied up\n")
    assert record(queue, task_id)["status"] == "completed"


def test_a_task_that_did_not_finish_is_given_back(queue: MessageQueue, tmp_path: Path) -> None:
    task_id, file = sent(queue), tmp_path / "pids"
    with Command("run", "-r", "dev", "--", "sh", "-c", f"echo $$ >{file}; exec sleep 1000") as worker:
        numbers = pids(file, 1)
        worker.signal(signal.SIGINT)
        assert worker.ends()[0] == 0
        assert are_gone(numbers)
    found = record(queue, task_id)
    assert (found["status"], found["attempt"], found["error_message"]) == ("queued", 0, "given back")


def test_a_second_signal_kills_at_once(queue: MessageQueue, tmp_path: Path) -> None:
    task_id, file, asked = sent(queue), tmp_path / "pids", tmp_path / "asked"
    script = f"trap 'touch {asked}' TERM; sleep 1000 & echo $$ $! >>{file}; while :; do wait; done"
    with Command("run", "-r", "dev", "--", "sh", "-c", script, program="patient.py") as worker:
        numbers = pids(file, 2)
        worker.signal(signal.SIGTERM)
        wait_until(asked.exists, what="the first signal to reach the command")
        worker.signal(signal.SIGTERM)
        assert worker.ends()[0] == 0, "the first alone would leave it all the time there is"
        wait_until(lambda: are_gone(numbers), what="the end of the command and its child")
    assert record(queue, task_id)["status"] == "queued"


def test_a_cancelled_task_ends_its_command(queue: MessageQueue, tmp_path: Path) -> None:
    task_id, file = sent(queue), tmp_path / "pids"
    script = f"[ -e {file} ] && exit 0; echo $$ >{file}; exec sleep 1000"
    with Command("run", "-r", "dev", "--", "sh", "-c", script) as worker:
        numbers = pids(file, 1)
        queue.cancel(task_id)
        wait_until(lambda: are_gone(numbers), what="the end of the command")
        wait_status(queue, sent(queue), "completed")  # it goes on with the next
        worker.signal(signal.SIGTERM)
        code, out, said = worker.ends()
    assert (code, out) == (0, "")
    assert said.startswith(f"orc-task: task {task_id} ") and "it is cancelled" in said and said.count("\n") == 1


def test_a_worker_that_was_stopped_past_its_lease_is_refused_and_goes_on(queue: MessageQueue, tmp_path: Path) -> None:
    task_id, end = sent(queue), tmp_path / "end"
    script = f"until [ -e {end} ]; do sleep 0.02; done"
    with Command("run", "-r", "dev", "--lease", "3", "--", "sh", "-c", script) as worker:
        wait_status(queue, task_id, "running")
        worker.signal(signal.SIGSTOP)

        def is_free() -> bool:
            queue.sweep(now=True)
            return queue.is_ready("dev")

        wait_until(is_free, 20, "the end of the lease")
        mine = queue.get("dev")
        end.touch()  # the command ends well, while its worker stands still
        worker.signal(signal.SIGCONT)
        wait_status(queue, sent(queue), "completed")
        assert mine is not None and mine.task_id == task_id and mine.attempt == 2
        queue.mark_completed(task_id, token=mine.token)
        worker.signal(signal.SIGTERM)
        code, _, said = worker.ends()
    assert code == 0 and f"task {task_id} cannot be" in said and "another worker has it" in said
    assert ended_more_than_once(queue) == []


def test_a_paused_recipient_gets_nothing_and_costs_nothing(queue: MessageQueue) -> None:
    queue.limit("recipient", "dev", 0)
    task_id = sent(queue)
    with Command("run", "-r", "dev", "--", "true") as worker:
        wait_until(lambda: b"inotify" in _open(worker.process.pid), what="the worker's start")
        other = sent(queue)
        assert set(states(queue).values()) == {"queued"}
        queue.limit("recipient", "dev", None)
        for one in (task_id, other):
            wait_status(queue, one, "completed")
        worker.signal(signal.SIGTERM)
        assert worker.ends() == (0, "", "")


def _open(pid: int) -> bytes:
    """What the process has open."""
    found = b""
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found += os.fsencode(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return found


def test_a_command_that_ends_its_task_itself_is_let_finish(queue: MessageQueue, tmp_path: Path) -> None:
    task_id, end = sent(queue), tmp_path / "end"
    script = (
        f'orc-task done "$ORC_TASK_ID" --token "$ORC_TASK_TOKEN"; until [ -e {end} ]; do sleep 0.02; done; echo bye'
    )
    with Command("run", "-r", "dev", "--once", "--", "sh", "-c", script) as worker:
        wait_status(queue, task_id, "completed")
        end.touch()
        assert worker.ends() == (0, "bye\n", "")


def test_a_failing_task_is_tried_again_until_it_is_dead(queue: MessageQueue) -> None:
    task_id = sent(queue)
    with Command("run", "-r", "dev", "--", "sh", "-c", "echo $ORC_TASK_ATTEMPT; exit 1") as worker:
        wait_status(queue, task_id, "dead")
        worker.signal(signal.SIGTERM)
        assert worker.ends() == (0, "1\n2\n3\n", "")
