"""One task queue as a process: work_peers.py NAME FOLDER. Each line N of its input runs N tasks: send, get, done on a
kept connection. It answers with the microseconds of each.

Several processes may do so on one queue at once. `floor` is the least that SQLite asks for three changes, each of its
own transaction, with one row and no index but the key.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable
from itertools import count
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PEERS = ROOT + "/.tools/peers"  # where `make bench-peers` installs them
PAYLOAD = {"spec": "x"}
TEXT = '{"spec": "x"}'
Cycle = Callable[[], object]


def ours(folder: str) -> Cycle:
    os.environ["ORC_HOME"] = folder
    from tmux_orchestrator.work import Message, MessageQueue

    queue = MessageQueue()

    def cycle() -> None:
        queue.send(Message("architect", "code_developer", "task_delegate", PAYLOAD))
        got = queue.get("code_developer")
        if got is not None:  # in a race another process may have taken it, and left one for us later
            queue.mark_completed(got.task_id)

    return cycle


def floor(folder: str) -> Cycle:
    database = sqlite3.connect(folder + "/floor.db", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute("CREATE TABLE IF NOT EXISTS tasks (id INTEGER PRIMARY KEY, status TEXT, payload TEXT)")

    def cycle() -> None:
        task = database.execute("INSERT INTO tasks (status, payload) VALUES ('queued', ?)", (TEXT,)).lastrowid
        database.execute("UPDATE tasks SET status = 'running' WHERE id = ?", (task,))
        database.execute("UPDATE tasks SET status = 'completed' WHERE id = ?", (task,))

    return cycle


def litequeue(folder: str) -> Cycle:
    from litequeue import LiteQueue  # type: ignore[import-not-found]

    queue = LiteQueue(folder + "/litequeue.db")

    def cycle() -> None:
        queue.put(TEXT)
        got = queue.pop()
        if got is not None:
            queue.done(got.message_id)

    return cycle


def redis(folder: str) -> Cycle:
    """A list, a second one for what is being done, and a hash with what is known of each task."""
    from redis import Redis  # type: ignore[import-not-found]

    client: Any = Redis(unix_socket_path=folder + "/redis")
    ids = count(1)

    def cycle() -> None:
        task = f"task:{next(ids)}"
        fields = {"sender": "architect", "recipient": "code_developer", "type": "task_delegate", "payload": TEXT}
        known = fields | {"status": "queued", "created_at": time.time()}
        _together(client, ("hset", task, None, None, known), ("lpush", "tasks", task))
        got = client.lmove("tasks", "running", "RIGHT", "LEFT")
        begun = {"status": "running", "started_at": time.time()}
        _together(client, ("hset", got, None, None, begun), ("hgetall", got))
        ended = {"status": "completed", "completed_at": time.time()}
        _together(client, ("hset", got, None, None, ended), ("lrem", "running", 1, got))

    return cycle


def _together(client: Any, *commands: tuple[Any, ...]) -> None:
    """In one transaction, and one round trip."""
    pipeline = client.pipeline()
    for name, *arguments in commands:
        getattr(pipeline, name)(*arguments)
    pipeline.execute()


def plainredis(folder: str) -> Cycle:
    """Two lists of payloads, and nothing that tells one task from another."""
    from redis import Redis

    client: Any = Redis(unix_socket_path=folder + "/redis")

    def cycle() -> None:
        client.lpush("plain", TEXT)
        got = client.lmove("plain", "running", "RIGHT", "LEFT")
        client.lrem("running", 1, got)

    return cycle


def huey(folder: str) -> Cycle:
    from huey.storage import SqliteStorage  # type: ignore[import-not-found]

    storage = SqliteStorage("bench", filename=folder + "/huey.db")

    def cycle() -> None:
        storage.enqueue(TEXT.encode())
        storage.dequeue()
        storage.put_data("result", b"1", is_result=True)

    return cycle


def persistqueue(folder: str) -> Cycle:
    from persistqueue import SQLiteAckQueue  # type: ignore[import-not-found]

    queue = SQLiteAckQueue(folder + "/persist")

    def cycle() -> None:
        queue.put(TEXT)
        queue.ack(queue.get(block=False))

    return cycle


QUEUES = {"ours": ours, "floor": floor, "litequeue": litequeue, "redis": redis}
QUEUES |= {"plainredis": plainredis, "huey": huey, "persist": persistqueue}


def main(name: str, folder: str) -> None:
    sys.path[:0] = [ROOT + "/lib", PEERS]
    cycle = QUEUES[name](folder)
    print("ready", flush=True)
    for line in sys.stdin:
        took = []
        for _ in range(int(line)):
            start = time.perf_counter_ns()
            cycle()
            took.append((time.perf_counter_ns() - start) / 1000)
        print(*took, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
