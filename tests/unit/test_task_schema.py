"""The database from one version to another: one that the document's own code made, and back to it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from support_tasks import BIN, open_queue, record, task
from tmux_orchestrator.ground.errors import DataError
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work.queue import MessageQueue
from tmux_orchestrator.work.store.database import VERSION, Database

# What the code of the multi-agent daemon document makes, and what it writes.
DOCUMENT = """
PRAGMA journal_mode = WAL;
CREATE TABLE tasks (
    task_id TEXT PRIMARY KEY, sender TEXT NOT NULL, recipient TEXT NOT NULL, type TEXT NOT NULL,
    priority INTEGER NOT NULL DEFAULT 5, status TEXT NOT NULL DEFAULT 'queued', payload TEXT NOT NULL,
    created_at TEXT NOT NULL, started_at TEXT, completed_at TEXT, duration_ms INTEGER, error_message TEXT
);
CREATE INDEX idx_priority ON tasks(priority, created_at);
CREATE INDEX idx_duration ON tasks(duration_ms DESC);
CREATE INDEX idx_recipient_status ON tasks(recipient, status);
CREATE INDEX idx_status ON tasks(status);
CREATE TABLE agent_metrics (
    id INTEGER PRIMARY KEY AUTOINCREMENT, agent TEXT NOT NULL, metric_name TEXT NOT NULL, metric_value REAL NOT NULL,
    timestamp TEXT NOT NULL
);
CREATE INDEX idx_agent_metric ON agent_metrics(agent, metric_name, timestamp);
CREATE VIEW bottlenecks AS SELECT task_id, recipient AS agent, type, duration_ms, created_at, started_at, completed_at
FROM tasks WHERE status = 'completed' AND duration_ms IS NOT NULL ORDER BY duration_ms DESC LIMIT 100;
INSERT INTO tasks (task_id, sender, recipient, type, payload, created_at, status, started_at, completed_at, duration_ms)
VALUES
('old-done', 'pm', 'dev', 't', '{"n": 1}', '2025-10-16T10:30:45.123456', 'completed', '2025-10-16T10:30:46',
 '2025-10-16T10:30:47.5', 1500),
('old-failed', 'pm', 'dev', 't', '{}', '2025-10-16T10:30:45', 'failed', NULL, '2025-10-16T10:30:47', NULL),
('old-running', 'pm', 'dev', 't', '{}', '2025-10-16T10:30:45.2', 'running', '2025-10-16T10:30:46', NULL, NULL),
('old-queued', 'pm', 'dev', 't', '{}', '2025-10-16T10:30:45.1', 'queued', NULL, NULL, NULL),
('old-broken', 'pm', 'dev', 't', 'no JSON', '2025-10-16T10:30:44', 'queued', NULL, NULL, NULL),
(NULL, 'pm', 'dev', 't', '{}', 'whenever', 'queued', NULL, NULL, NULL);
INSERT INTO agent_metrics (agent, metric_name, metric_value, timestamp)
VALUES ('dev', 'cpu_percent', 1.5, '2025-10-16T10:30:45.123456');
"""
SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY 1, 2"


@pytest.fixture
def path(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()  # an earlier test may have left another zone
    os.makedirs(home.root + "/data", mode=0o700)
    yield home.root + "/data/orchestrator.db"


def made_by_the_document(path: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(DOCUMENT)


def schema(path: str) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return [(*row[:3], " ".join((row[3] or "").split())) for row in connection.execute(SCHEMA)]


def test_a_database_of_the_documents_code_is_taken_over(home: Home, path: str) -> None:
    made_by_the_document(path)
    queue = open_queue(home)
    done = record(queue, "old-done")
    assert done["status"] == "completed" and done["payload"] == {"n": 1} and done["duration_ms"] == 1500
    assert done["created_at"] == "2025-10-16T10:30:45.123456Z"
    assert (done["started_at"], done["completed_at"]) == ("2025-10-16T10:30:46.000000Z", "2025-10-16T10:30:47.500000Z")
    assert [slow["task_id"] for slow in queue.get_slowest_tasks()] == ["old-done"]
    rows = queue.database.rows("SELECT timestamp FROM agent_metrics WHERE metric_name = 'cpu_percent'")
    assert rows == [("2025-10-16T10:30:45.123456Z",)]
    got = [queue.get("dev") for _ in range(4)]
    assert [message.task_id for message in got[:2] if message] == ["old-queued", "old-running"]
    assert got[2] is not None and len(got[2].task_id) == 26, "one without an id gets one"
    assert got[3] is None
    broken = record(queue, "old-broken")
    assert (broken["status"], broken["payload"]) == ("failed", "no JSON")
    queue.mark_completed("old-queued")
    queue.close()


def test_what_was_taken_over_is_as_what_was_made_anew(home: Home, path: str, tmp_path: Path) -> None:
    made_by_the_document(path)
    open_queue(home).close()
    fresh = Home(str(tmp_path / "fresh"))
    queue = open_queue(fresh)
    queue.close()
    ours, other = schema(path), schema(queue.db_path)
    assert [row[:3] for row in ours] == [row[:3] for row in other]
    assert [row for row in ours if row[1] != "tasks"] == [row for row in other if row[1] != "tasks"]


def test_forth_and_back_and_forth_again(home: Home) -> None:
    queue = open_queue(home)
    first = task(priority=2)
    queue.send_all([first, task(), task(after=[first.task_id], group="g")])
    for _ in range(2):
        queue.database.migrate(1)
        assert queue.database.version() == 1
        assert len(queue.database.rows("SELECT * FROM tasks")[0]) == 12
        assert queue.database.rows("SELECT queued_tasks, high_priority FROM queue_depth") == [(3, 1)]
        queue.database.migrate(VERSION)
    message = queue.get("dev")
    assert message is not None and message.task_id == first.task_id
    queue.mark_completed(first.task_id)
    queue.close()


def test_a_step_that_fails_leaves_the_version_before(home: Home, path: str) -> None:
    made_by_the_document(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE deps (mine TEXT)")  # somebody's own, in the way of ours
    before = schema(path)
    with pytest.raises(DataError):
        open_queue(home)
    database = Database(path, version=None)
    assert database.version() == 1
    database.close()
    after = schema(path)
    assert [row for row in after if row[1] in ("tasks", "deps")] == [
        row for row in before if row[1] in ("tasks", "deps")
    ]


def test_a_newer_database_is_left_as_it_is(home: Home) -> None:
    queue = open_queue(home)
    queue.database.change(f"PRAGMA user_version = {VERSION + 1}")
    queue.close()
    with pytest.raises(DataError, match="newer than this program"):
        MessageQueue(None, home)


def test_many_make_it_at_once(home: Home) -> None:
    words = [f"{BIN}/orc-task", "send", "-r", "dev", "x"]
    pipe = subprocess.PIPE
    started = [subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe) for _ in range(8)]
    said = [(*child.communicate(timeout=60), child.returncode) for child in started]
    assert [one for one in said if one[2] or one[1]] == []
    queue = open_queue(home)
    assert queue.size() == 8
    queue.close()
