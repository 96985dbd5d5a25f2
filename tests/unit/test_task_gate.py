"""The row at the gate: who finds the task database busy waits in it, holds nobody up, and leaves it again."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from support_tasks import open_queue, task
from support_tmux import wait_until
from tmux_orchestrator.ground.errors import TryLater
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work import waiting
from tmux_orchestrator.work.queue import MessageQueue
from tmux_orchestrator.work.store import gate
from tmux_orchestrator.work.store.database import Database

PATIENCE = 0.3


@pytest.fixture
def queue(home: Home) -> Iterator[MessageQueue]:
    made = open_queue(home)
    yield made
    made.close()
    for _, changes in made.watches:
        changes.close()


@pytest.fixture
def other(queue: MessageQueue) -> Iterator[sqlite3.Connection]:
    """Another program's connection, that knows of no gate."""
    connection = sqlite3.connect(queue.db_path, isolation_level=None, check_same_thread=False)
    yield connection
    connection.close()


def lock(path: str) -> int:
    fd = os.open(path + "-gate", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def test_who_finds_it_free_has_no_gate(queue: MessageQueue) -> None:
    queue.send(task())
    assert not os.path.exists(queue.db_path + "-gate")


def test_who_finds_it_busy_goes_on_as_soon_as_it_is_free(queue: MessageQueue, other: sqlite3.Connection) -> None:
    other.execute("BEGIN IMMEDIATE")
    done = threading.Event()

    def send() -> None:
        queue.send(task(task_id="late-1"))
        done.set()

    thread = threading.Thread(target=send)
    thread.start()
    wait_until(lambda: os.path.exists(queue.db_path + "-gate"), what="the gate")
    assert not done.is_set()
    other.execute("COMMIT")
    thread.join()
    assert queue.database.row("SELECT status FROM tasks") == ("queued",)


def test_one_that_was_stopped_in_front_holds_nobody_up(queue: MessageQueue, other: sqlite3.Connection) -> None:
    held = lock(queue.db_path)
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.2, lambda: other.execute("COMMIT"))
    timer.start()
    queue.send(task())  # busy, so it stands in the row, where the first never moves
    timer.join()
    queue.send(task())
    os.close(held)
    assert queue.size() == 2


def test_a_database_that_stays_locked_is_told(queue: MessageQueue, other: sqlite3.Connection) -> None:
    impatient = Database(queue.db_path, patience=PATIENCE)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(TryLater, match="is locked by another process"):
        impatient.change("DELETE FROM limits")
    other.execute("ROLLBACK")
    impatient.change("DELETE FROM limits")
    impatient.close()


@pytest.mark.parametrize("seconds", [None, 0.1])
def test_who_waits_for_a_task_waits_for_the_lock_too(
    queue: MessageQueue, other: sqlite3.Connection, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.send(task(task_id="task-one"))
    queue.database._patience = 0.01
    other.execute("BEGIN IMMEDIATE")
    if seconds is not None:
        with pytest.raises(TryLater):
            waiting.get(queue, "dev", seconds, None, None)
        other.execute("COMMIT")
        return
    tried = []
    get = queue.get

    def tries(*of: Any, **named: Any) -> Any:
        tried.append(of)
        if len(tried) == 3:
            other.execute("COMMIT")
        return get(*of, **named)

    monkeypatch.setattr(queue, "get", tries)
    found = waiting.get(queue, "dev", seconds, None, None)
    assert found is not None and len(tried) >= 3


def test_who_has_met_others_stands_in_the_row_before_it_asks_until_nobody_is_there_for_a_while(
    queue: MessageQueue, other: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "_WHILE", 3)
    asked = 0

    def stand(self: gate.Gate, seconds: float) -> bool:
        nonlocal asked
        asked += 1
        return real(self, seconds)

    real = gate.Gate._stand
    monkeypatch.setattr(gate.Gate, "_stand", stand)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.05, lambda: other.execute("COMMIT")).start()
    queue.send(task())
    assert asked == 1
    for _ in range(5):
        queue.size()  # reading meets nobody
        queue.send(task())
    assert asked == 4


def test_who_has_the_database_to_himself_waits_for_nobody_in_the_row(
    queue: MessageQueue, other: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.05, lambda: other.execute("COMMIT")).start()
    queue.send(task(task_id="first-1"))  # meets somebody
    with queue.database:
        held = lock(queue.db_path)  # of the next one, who waits for the end of this transaction
        monkeypatch.setattr(gate.Gate, "_stand", None)
        queue.database.change("UPDATE tasks SET priority = 1")
        queue.database.rows("UPDATE tasks SET priority = 2 RETURNING task_id")
    os.close(held)
    assert queue.database.row("SELECT priority FROM tasks") == (2,)


def test_a_folder_where_no_gate_can_be_made_is_no_hindrance(queue: MessageQueue, other: sqlite3.Connection) -> None:
    os.mkdir(queue.db_path + "-gate")
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.05, lambda: other.execute("COMMIT")).start()
    queue.send(task())
    assert queue.size() == 1


def test_a_child_after_a_fork_has_a_gate_of_its_own(queue: MessageQueue, other: sqlite3.Connection) -> None:
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.05, lambda: other.execute("COMMIT")).start()
    queue.send(task())
    child = os.fork()
    if not child:
        code = 1
        try:
            queue.size()
            code = 0 if queue.database._gate is None else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
