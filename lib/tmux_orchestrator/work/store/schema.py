"""What the task database holds, and how one version of it becomes the next, or the one before.

`PRAGMA user_version` says which version a file has. Version 1 is the schema that the source document of the task
queue prints, so a database that was made by that document's own code (it says 0) is taken over as it is. Version 2
adds what workers that may die need. Each step is one transaction: a crash leaves the old version or the new one.

The columns that carry the queue, beside the document's:

    live        1 may be claimed, 2 runs, 3 rests before its next attempt; NULL: it waits (for a time, or for other
                tasks) or it ended. Only what is live stands in the index of the claims, so history costs them nothing.
    wake_boot   of a running task the end of its lease, of a resting one the end of its rest: nanoseconds since boot
    due_ns      of a waiting task when it may run, or when it expires: nanoseconds since the epoch
    tried_ms    how long attempts before this one ran
    rested_ms   how long it rested between them
    followed    1: another task comes after it. Only then a completion looks for those whom it lets in.
    token       who may end it: each claim makes a new one

The document's indexes keep their names. What they index is only what the queries of their names read (see
docs/decisions/task-indexes.md), because each further page that a change touches costs it 3 microseconds.
"""

from __future__ import annotations

from tmux_orchestrator.work.store.sqlite import _sqlite3

_DOCUMENT = """
CREATE TABLE IF NOT EXISTS tasks (
    task_id TEXT PRIMARY KEY,
    sender TEXT NOT NULL,
    recipient TEXT NOT NULL,
    type TEXT NOT NULL,
    priority INTEGER NOT NULL DEFAULT 5,
    status TEXT NOT NULL DEFAULT 'queued',
    payload TEXT NOT NULL,
    created_at TEXT NOT NULL,
    started_at TEXT,
    completed_at TEXT,
    duration_ms INTEGER,
    error_message TEXT
);
CREATE INDEX IF NOT EXISTS idx_priority ON tasks(priority, created_at);
CREATE INDEX IF NOT EXISTS idx_duration ON tasks(duration_ms DESC);
CREATE INDEX IF NOT EXISTS idx_recipient_status ON tasks(recipient, status);
CREATE INDEX IF NOT EXISTS idx_status ON tasks(status);
CREATE TABLE IF NOT EXISTS agent_metrics (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    agent TEXT NOT NULL,
    metric_name TEXT NOT NULL,
    metric_value REAL NOT NULL,
    timestamp TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS idx_agent_metric ON agent_metrics(agent, metric_name, timestamp);
"""

_FAILED_1, _FAILED_2 = "status = 'failed'", "status IN ('failed', 'dead')"


def _views(failed: str) -> str:
    return f"""
DROP VIEW IF EXISTS bottlenecks;
DROP VIEW IF EXISTS agent_performance;
DROP VIEW IF EXISTS queue_depth;
CREATE VIEW bottlenecks AS
SELECT task_id, recipient AS agent, type, duration_ms, created_at, started_at, completed_at
FROM tasks
WHERE status = 'completed' AND duration_ms IS NOT NULL
ORDER BY duration_ms DESC
LIMIT 100;
CREATE VIEW agent_performance AS
SELECT
    recipient AS agent,
    COUNT(*) AS total_tasks,
    SUM(CASE WHEN status = 'completed' THEN 1 ELSE 0 END) AS completed_tasks,
    SUM(CASE WHEN {failed} THEN 1 ELSE 0 END) AS failed_tasks,
    AVG(CASE WHEN status = 'completed' THEN duration_ms END) AS avg_duration_ms,
    MAX(CASE WHEN status = 'completed' THEN duration_ms END) AS max_duration_ms,
    MIN(CASE WHEN status = 'completed' THEN duration_ms END) AS min_duration_ms
FROM tasks
GROUP BY recipient;
CREATE VIEW queue_depth AS
SELECT
    recipient AS agent,
    COUNT(*) AS queued_tasks,
    SUM(CASE WHEN priority <= 2 THEN 1 ELSE 0 END) AS high_priority,
    SUM(CASE WHEN priority BETWEEN 3 AND 7 THEN 1 ELSE 0 END) AS normal_priority,
    SUM(CASE WHEN priority >= 8 THEN 1 ELSE 0 END) AS low_priority
FROM tasks
WHERE status = 'queued'
GROUP BY recipient;
"""


# name -> its declaration, in the order of the table
ADDED = {
    "attempt": "INTEGER NOT NULL DEFAULT 0",
    "max_attempts": "INTEGER NOT NULL DEFAULT 3",
    "live": "INTEGER DEFAULT 1",
    "token": "TEXT",
    "worker": "TEXT",
    "wake_boot": "INTEGER",
    "started_boot": "INTEGER",
    "due_ns": "INTEGER",
    "not_before": "TEXT",
    "expires": "TEXT",
    "grp": "TEXT",
    "correlation_id": "TEXT",
    "exit_code": "INTEGER",
    "output": "TEXT",
    "tried_ms": "INTEGER NOT NULL DEFAULT 0",
    "rested_ms": "INTEGER NOT NULL DEFAULT 0",
    "followed": "INTEGER",
}

_INDEXES = ("idx_priority", "idx_duration", "idx_recipient_status", "idx_status", "idx_completed")


def _stamps(table: str, column: str) -> str:
    """The document's code writes local times without an offset: make RFC 3339 in UTC of them, as all others are."""
    plain = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:[0-9][0-9]"
    utc = f"strftime('%Y-%m-%dT%H:%M:%S', substr({column}, 1, 19), 'utc')"
    return f"""
UPDATE {table} SET {column} = coalesce({utc} || '.' || substr(substr({column}, 21) || '000000', 1, 6) || 'Z', {column})
WHERE {column} GLOB '{plain}*' AND substr({column}, 20) NOT GLOB '*[^0-9.]*';
"""


_SECOND = """
UPDATE tasks SET task_id = lower(hex(randomblob(13))) WHERE task_id IS NULL;
UPDATE tasks SET live = NULL WHERE status NOT IN ('queued', 'running');
UPDATE tasks SET status = 'queued', started_at = NULL WHERE status = 'running';
CREATE INDEX idx_priority ON tasks(live, recipient, priority, created_at) WHERE live IS NOT NULL;
CREATE INDEX idx_duration ON tasks(duration_ms DESC) WHERE status = 'completed' AND duration_ms IS NOT NULL;
CREATE INDEX idx_recipient_status ON tasks(recipient, status, completed_at) WHERE status IN ('failed', 'dead');
CREATE INDEX idx_status ON tasks(status, due_ns) WHERE due_ns IS NOT NULL;
CREATE INDEX idx_completed ON tasks(completed_at) WHERE completed_at IS NOT NULL;
CREATE TABLE deps (
    after_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    PRIMARY KEY (after_id, task_id)
) WITHOUT ROWID;
CREATE INDEX idx_deps ON deps(task_id);
CREATE TABLE limits (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    parallel INTEGER NOT NULL,
    until_ns INTEGER,
    reason TEXT,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE TABLE outbox (
    n INTEGER PRIMARY KEY,
    task_id TEXT NOT NULL,
    status TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    error_message TEXT
);
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('told', '0'), ('boot', ''), ('id', lower(hex(randomblob(6))));
CREATE TRIGGER task_sent AFTER INSERT ON tasks BEGIN
    INSERT INTO outbox (task_id, status, attempt) VALUES (new.task_id, new.status, new.attempt);
END;
CREATE TRIGGER task_changed AFTER UPDATE OF status ON tasks WHEN new.status <> old.status BEGIN
    INSERT INTO outbox (task_id, status, attempt, error_message)
    VALUES (new.task_id, new.status, new.attempt, new.error_message);
END;
CREATE TRIGGER task_completed AFTER UPDATE OF status ON tasks WHEN new.followed AND new.status = 'completed' BEGIN
    UPDATE tasks SET live = 1
    WHERE task_id IN (SELECT task_id FROM deps WHERE after_id = new.task_id)
      AND status = 'queued' AND live IS NULL AND not_before IS NULL
      AND NOT EXISTS (SELECT 1 FROM deps JOIN tasks AS before ON before.task_id = deps.after_id
                      WHERE deps.task_id = tasks.task_id AND before.status <> 'completed');
END;
"""

_BACK = """
DROP TRIGGER task_sent;
DROP TRIGGER task_changed;
DROP TRIGGER task_completed;
DROP TABLE deps;
DROP TABLE limits;
DROP TABLE outbox;
DROP TABLE meta;
UPDATE tasks SET status = 'failed' WHERE status IN ('dead', 'cancelled');
"""


def _without(indexes: tuple[str, ...]) -> str:
    return "".join(f"DROP INDEX IF EXISTS {name};\n" for name in indexes)


def _to_1() -> str:
    return _DOCUMENT + _views(_FAILED_1)


def _to_2() -> str:
    columns = "".join(f"ALTER TABLE tasks ADD COLUMN {name} {kind};\n" for name, kind in ADDED.items())
    times = [("tasks", name) for name in ("created_at", "started_at", "completed_at")]
    stamps = "".join(_stamps(*one) for one in [*times, ("agent_metrics", "timestamp")])
    return _without(_INDEXES) + columns + stamps + _SECOND + _views(_FAILED_2)


def _back_to_1() -> str:
    columns = "".join(f"ALTER TABLE tasks DROP COLUMN {name};\n" for name in reversed(ADDED))
    return _without(_INDEXES) + _BACK + columns + _DOCUMENT + _views(_FAILED_1)


def steps(found: int, wanted: int) -> list[tuple[int, str]]:
    """The version that each step leads to, and its statements. Raises KeyError where no step leads there."""
    if found <= wanted:
        up = {1: _to_1, 2: _to_2}
        return [(version, up[version]()) for version in range(found + 1, wanted + 1)]
    down = {1: _back_to_1}
    return [(version, down[version]()) for version in range(found - 1, wanted - 1, -1)]


def split(statements: str) -> list[str]:
    """The statements of a script, one by one: `executescript` would end the transaction that they belong to."""
    found, held = [], ""
    for part in statements.split(";"):
        held += part + ";"
        if _sqlite3.complete_statement(held):
            found.append(held.strip())
            held = ""
    return [one for one in found if one != ";"]
