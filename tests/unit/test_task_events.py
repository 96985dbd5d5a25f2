"""The pump: each change of a task is one event of the log, whoever dies when; nothing is made, nothing stops it."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from support_faults import Faults, Killed
from support_watch import agent, settings
from tmux_orchestrator.agents import registry
from tmux_orchestrator.eventlog import reader
from tmux_orchestrator.eventlog.voice import Voice
from tmux_orchestrator.ground import clock, files
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work import outbox
from tmux_orchestrator.work.message import Message
from tmux_orchestrator.work.outbox import Pump
from tmux_orchestrator.work.queue import MessageQueue
from tmux_orchestrator.work.store.database import Database

SECOND = 1_000_000_000


class Desk:
    """A queue, and a pump that is made anew when it is killed. The boot clock moves only from look to look."""

    def __init__(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        files.make_dir(home.root)
        self.home = home
        self.settings = settings(home.root)
        self._queue: MessageQueue | None = None
        self.pump: Pump | None = None
        self.boot = clock.boot_ns()
        monkeypatch.setattr(clock, "boot_ns", lambda: self.boot)

    @property
    def queue(self) -> MessageQueue:
        self._queue = self._queue or MessageQueue(None, self.home, self.settings)
        return self._queue

    def send(self, recipient: str = "dev", kind: str = "spec_created", **more: Any) -> str:
        message = Message("architect", recipient, kind, {"spec": 7}, **more)
        self.queue.send(message)
        return message.task_id

    def look(self, times: int = 3) -> None:
        """So many looks; each is at once when the one before asks for it."""
        self.pump = self.pump or Pump(self.home, self.settings, Voice(self.home, "host"))
        for _ in range(times):
            self.boot = max(self.boot, self.pump.turn())
            while self.pump.turn() <= self.boot:
                pass

    def kill(self) -> None:
        """It is gone, and what it had open with it."""
        if self.pump is not None:
            self.pump.close()
            self.pump._log.close()
        self.pump = None

    def told(self) -> list[dict[str, Any]]:
        return [one for _, one in reader.search(self.home, reader.Query())]

    def kinds(self) -> list[str]:
        return [one["message"]["type"] for one in self.told()]

    def close(self) -> None:
        self.kill()
        if self._queue is not None:
            self._queue.close()


@pytest.fixture
def desk(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    desk = Desk(home, monkeypatch)
    yield desk
    desk.close()


def contexts(desk: Desk) -> list[dict[str, Any]]:
    return [one["message"]["content"]["context"] for one in desk.told()]


# what is told


def test_the_life_of_a_task(desk: Desk) -> None:
    task_id = desk.send(priority=2, correlation_id="US-048")
    desk.queue.get("dev")
    desk.queue.mark_completed(task_id, duration_ms=155_000)
    desk.look()
    assert desk.kinds() == ["task_queued", "task_started", "task_completed"]
    assert [one["message"]["content"]["body"] for one in desk.told()] == [
        "task_queued: dev.spec_created (priority=2)",
        "task_started: dev.spec_created",
        "task_completed: dev.spec_created (duration=155,000ms)",
    ]
    queued, started, completed = contexts(desk)
    fixed = {"task_id": task_id, "sender": "architect", "recipient": "dev", "type": "spec_created", "priority": 2}
    for one in (queued, started, completed):
        assert one.items() >= (fixed | {"correlation_id": "US-048"}).items() and "payload" not in one
    assert (queued["status"], queued["attempt"], queued["started_at"], queued["completed_at"]) == (
        "queued",
        0,
        None,
        None,
    )
    assert (started["status"], started["attempt"], started["completed_at"]) == ("running", 1, None)
    assert (completed["status"], completed["duration_ms"]) == ("completed", 155_000)
    assert completed["created_at"] <= completed["started_at"] <= completed["completed_at"]
    for one in desk.told():
        source = one["source"]
        assert (source["type"], source["identifier"], source["verified"]) == ("daemon", "tasks", True)
        assert one["to"] == {"groups": [], "targets": []}
        assert one["metadata"]["correlation_id"] == "US-048"


def test_failing_and_coming_back(desk: Desk) -> None:
    task_id = desk.send(max_attempts=2)
    desk.queue.get("dev")
    desk.queue.release(task_id)
    desk.queue.get("dev")
    desk.queue.mark_failed(task_id, "no disk", retry=True)
    desk.boot += 3600 * SECOND
    desk.queue.get("dev")
    desk.queue.mark_failed(task_id, "no luck", retry=True)
    desk.queue.retry(task_id)
    desk.queue.cancel(task_id, "enough")
    desk.look()
    assert desk.kinds() == [
        "task_queued",
        *("task_started", "task_queued"),
        *("task_started", "task_failed"),
        *("task_started", "task_dead"),
        *("task_queued", "task_cancelled"),
    ]
    failed, dead, cancelled = contexts(desk)[4], contexts(desk)[6], contexts(desk)[8]
    assert (failed["retry"], failed["error_message"], failed["status"]) == (True, "no disk", "queued")
    assert ("retry" in dead, dead["error_message"], dead["attempt"]) == (False, "no luck", 2)
    assert cancelled["error_message"] == "enough"
    assert [one["message"]["priority"] for one in desk.told()[4::2]] == ["normal", "high", "low"]


def test_a_batch_after_the_other(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "BATCH", 4)
    sent = [desk.send() for _ in range(11)]
    desk.look(1)
    assert [one["task_id"] for one in contexts(desk)] == sent
    assert [one["id"].rpartition(".")[2] for one in desk.told()] == [str(n) for n in range(1, 12)]
    assert desk.queue.database.rows("SELECT count(*) FROM outbox") == [(0,)]


# once each, whoever dies


@pytest.mark.parametrize("how", ["killed", "torn", "ENOSPC", "short"])
def test_each_change_is_told_once_wherever_the_pump_dies(desk: Desk, how: str) -> None:
    sent: list[str] = []
    at = 1
    while True:
        sent += [desk.send(), desk.send()]
        desk.kill()
        with Faults(how, at) as faults:
            try:
                desk.look()
            except Killed:
                pass
        desk.kill()
        desk.look()
        if faults.calls < at:
            break
        at += 1
    assert at > 5, "nothing was hit"
    assert [one["task_id"] for one in contexts(desk)] == sent


@pytest.mark.parametrize("begins", ["BEGIN", "DELETE FROM outbox", "UPDATE meta", "COMMIT"])
def test_killed_between_log_and_database(desk: Desk, monkeypatch: pytest.MonkeyPatch, begins: str) -> None:
    change = Database.change

    def dies(self: Database, sql: str, *values: object) -> int:
        if sql.startswith(begins):
            raise Killed
        return change(self, sql, *values)

    sent = [desk.send(), desk.send()]
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Database, "change", dies)
        desk.look()
    desk.kill()
    assert len(desk.told()) == 2
    sent.append(desk.send())
    desk.look()
    assert [one["task_id"] for one in contexts(desk)] == sent


def test_one_pump_at_a_time(desk: Desk) -> None:
    desk.send()
    other = Pump(desk.home, desk.settings, Voice(desk.home, "other"))
    with other._lock:
        desk.look()
        assert desk.told() == []
    desk.look()
    other.turn()
    other.close()
    other._log.close()
    assert desk.kinds() == ["task_queued"]


def test_another_pump_died_between_log_and_database(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """This one lives, and was sure of what is told."""
    sent = [desk.send()]
    desk.look()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        sent += [desk.send(), desk.send()]
        other = Pump(desk.home, desk.settings, Voice(desk.home, "other"))
        patch.setattr(Database, "__enter__", dies)
        other.turn()
        other.turn()
    other.close()
    other._log.close()
    sent.append(desk.send())
    desk.look()
    assert [one["task_id"] for one in contexts(desk)] == sent


def dies(*of: Any) -> None:
    raise Killed


def test_a_database_that_a_power_cut_took_back(desk: Desk) -> None:
    """Some of what is told it has to tell again, the rest it knows nothing of any more."""
    sent = [desk.send() for _ in range(3)]
    database = desk.queue.database
    desk.look()
    lost = [desk.send() for _ in range(3)]
    rows = database.rows("SELECT * FROM outbox WHERE task_id = ?", lost[0])
    desk.look()
    desk.kill()
    database.change("UPDATE meta SET value = '3' WHERE name = 'told'")
    database.change("DELETE FROM tasks WHERE task_id IN (?, ?)", *lost[1:])
    database.change("INSERT INTO outbox VALUES (?, ?, ?, ?, ?)", *rows[0])
    new = desk.send()
    desk.look()
    assert [one["task_id"] for one in contexts(desk)] == [*sent, *lost, new]
    assert desk.told()[-1]["id"].endswith(".7"), "no id is there twice"


# nothing is made, nothing is held up


def test_without_a_database_nothing_is_made(desk: Desk) -> None:
    desk.look()
    assert not os.path.exists(desk.home.data) and not os.path.exists(desk.home.logs + "/run/outbox.lock")
    desk.send()
    desk.look()
    assert desk.kinds() == ["task_queued"]


def test_a_database_of_another_version_is_left_as_it_is(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    desk.queue.database.migrate(1)
    desk.look()
    assert desk.queue.database.version() == 1 and capfd.readouterr().err == ""
    desk.queue.database.migrate(2)
    desk.send()
    desk.look()
    assert desk.kinds() == ["task_queued"]
    desk.queue.database.change("PRAGMA user_version = 99")
    desk.send()
    desk.kill()
    desk.look()
    assert "version 99" in capfd.readouterr().err


def test_changes_of_long_ago_are_told_as_well(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "BATCH", 2)
    sent = [desk.send() for _ in range(5)]
    for path in (desk.queue.db_path, desk.queue.db_path + "-wal"):
        os.utime(path, ns=(0, 0))
    desk.look(1)
    assert [one["task_id"] for one in contexts(desk)] == sent


def test_while_nothing_changes_nothing_is_read(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.send()
    desk.look()
    for path in (desk.queue.db_path, desk.queue.db_path + "-wal"):
        os.utime(path, ns=(0, 0))  # it was long ago
    desk.look()
    asked: list[str] = []

    def rows(self: Database, sql: str, *values: object) -> list[Any]:
        asked.append(sql)
        return []

    monkeypatch.setattr(Database, "rows", rows)
    desk.look(5)
    assert asked == []


def test_a_change_that_has_the_size_and_time_of_the_one_before(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A WAL begins anew at its head, and file times move in ticks."""
    desk.send()
    real, now = os.stat, clock.now_ns()

    def same(path: Any, *args: Any, **named: Any) -> Any:
        found = real(path, *args, **named)
        if not str(path).startswith(desk.queue.db_path):
            return found
        return SimpleNamespace(st_ino=found.st_ino, st_size=4096, st_mtime_ns=now)

    monkeypatch.setattr(os, "stat", same)
    monkeypatch.setattr(clock, "now_ns", lambda: now)
    desk.look()
    desk.send()
    desk.look()
    assert desk.kinds() == ["task_queued", "task_queued"]


def test_a_lock_is_waited_for_and_told_when_it_lasts(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    desk.send()
    holder = sqlite3.connect(desk.queue.db_path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    desk.look(2)
    assert capfd.readouterr().err == ""
    desk.look(20)
    holder.execute("ROLLBACK")
    holder.close()
    assert capfd.readouterr().err.count("is locked by another process") == 1
    desk.look()
    desk.send()
    desk.look()
    assert desk.kinds() == ["task_queued", "task_queued"]


def test_a_damaged_database_is_rebuilt_and_told_once(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    path = desk.queue.db_path
    desk.close()
    desk._queue = None
    files.replace(path, b"no database at all, but long enough to have a header of its own" * 20)
    for name in (path + "-wal", path + "-shm"):
        if os.path.exists(name):
            os.unlink(name)
    desk.look(5)
    assert capfd.readouterr().err.count("has been rebuilt") == 1
    desk.send()
    desk.look()
    assert desk.kinds()[-1] == "task_queued" and capfd.readouterr().err == ""


def test_what_cannot_be_read_is_told_once_and_tried_again(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    desk.send()
    database = desk.queue.database
    database.change("UPDATE meta SET value = 'many' WHERE name = 'told'")
    desk.look(5)
    assert capfd.readouterr().err.count("has lost its count") == 1
    database.change("UPDATE meta SET value = '0' WHERE name = 'told'")
    desk.look()
    assert desk.kinds() == ["task_queued"]


def test_a_database_that_was_put_in_place_of_the_open_one(desk: Desk) -> None:
    desk.send()
    desk.look()
    path = desk.queue.db_path
    os.rename(path, path + ".old")
    for name in ("-wal", "-shm"):
        os.rename(path + name, path + ".old" + name)
    desk.queue.close()
    desk._queue = None
    second = desk.send()
    desk.look()
    assert [one["task_id"] for one in contexts(desk)][-1] == second


def test_rows_that_were_written_by_hand_stop_nothing(desk: Desk) -> None:
    database = desk.queue.database
    desk.send()
    odd = "UPDATE tasks SET sender = x'00ff', type = 7, correlation_id = char(10), recipient = char(27) || '[31m'"
    database.change(odd)
    database.change("INSERT INTO outbox (task_id, status, attempt) VALUES ('gone', 'queued', 0)")
    database.change("INSERT INTO outbox (task_id, status, attempt) VALUES ('gone', 'melted', 0)")
    last = desk.send()
    database.change("UPDATE tasks SET correlation_id = char(10) WHERE task_id = ?", last)
    desk.look()
    assert contexts(desk)[-1]["task_id"] == last, "all that it lacks is what no line can be"
    assert database.rows("SELECT count(*) FROM outbox") == [(0,)]
    desk.send()
    desk.look()
    assert desk.told()[-1]["id"].endswith(".5")


def test_what_is_no_text_is_let_go_and_the_rest_is_told(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    sent = [desk.send() for _ in range(4)]
    bad = "UPDATE tasks SET recipient = CAST(x'ff41' AS TEXT) WHERE task_id IN (?, ?)"
    desk.queue.database.change(bad, sent[1], sent[2])
    desk.look()
    assert [one["task_id"] for one in contexts(desk)] == [sent[0], sent[3]]
    assert capfd.readouterr().err.count("is not told") == 1


# who is told that there is work


def register(desk: Desk, *names: str) -> None:
    data = json.dumps({"agents": [agent(*name.split(":")[::-1]).to_dict() for name in names]}).encode()
    files.replace(registry.path(desk.home), data)


def calls(desk: Desk) -> list[dict[str, Any]]:
    return [one for one in desk.told() if one["message"]["type"] == "notification"]


def test_an_agent_is_told_when_its_queue_begins_to_fill(desk: Desk) -> None:
    register(desk, "web:dev", "web:qa", "api:qa")
    first = desk.send(priority=3)
    desk.send()
    desk.send("qa")
    desk.send("nobody")
    desk.look()
    desk.send()
    desk.look()
    (call,) = calls(desk)
    assert call["to"]["targets"] == ["web:dev"] and call["message"]["priority"] == "normal"
    text = call["message"]["content"]["body"]
    assert text.startswith("A task for you: spec_created from architect, priority 3.")
    assert "orc-task get -r dev" in text
    assert call["message"]["content"]["context"] == {"task_id": first, "recipient": "dev"}


def test_an_agent_is_not_told_of_what_a_worker_has(desk: Desk) -> None:
    register(desk, "web:dev")
    desk.send()
    got = desk.queue.get("dev")
    desk.look()
    desk.send()
    desk.look()
    assert got is not None and calls(desk) == [], "somebody is at work, and will ask again"
    desk.queue.mark_completed(got.task_id)
    last = desk.queue.get("dev")
    assert last is not None
    desk.queue.mark_completed(last.task_id)
    desk.look()
    desk.send()
    desk.look()
    assert len(calls(desk)) == 1


def test_an_agent_is_not_told_of_what_is_held_back(desk: Desk) -> None:
    register(desk, "web:dev")
    desk.queue.limit("recipient", "dev", 0)
    desk.send()
    desk.send(not_before=clock.stamp(clock.now_ns() + 3600 * SECOND))
    desk.look()
    assert calls(desk) == []
