"""Sends tasks, or does them, for tests: tasker.py HOME send|work|mend NAME COUNT [key=value...]. Says `ready`.

`send`: tasks NAME-0 to NAME-(COUNT-1) for `dev`, from where FILE ends; each number is written there when the queue has
acknowledged it. `work`: each task of `dev`, until COUNT are completed; into FILE go lines `claim ID TOKEN`, `try …`
before the completion, and after it `done …` when it was accepted, `stale …` when it was refused. `mend`:
rebuild the database as if it were damaged. Keys: file, lease
(seconds), takes (the longest time that a task takes, seconds), pause (seconds between tasks that are sent).
"""

from __future__ import annotations

import os
import random
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + "/lib")

from tmux_orchestrator.ground.errors import DataError, TryLater
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work import waiting
from tmux_orchestrator.work.message import Message
from tmux_orchestrator.work.queue import MessageQueue
from tmux_orchestrator.work.store import database, salvage

DEFAULTS = {"file": "/dev/null", "lease": "1", "takes": "0.006", "pause": "0"}


def send(queue: MessageQueue, file: int, name: str, count: int, pause: float) -> None:
    done = os.fstat(file).st_size // 7  # lines of six digits
    for number in range(done, count):
        message = Message("test", "dev", "t", {"number": number}, priority=1 + number % 7, task_id=f"{name}-{number}")
        while True:
            try:
                queue.send(message)
                break
            except TryLater:
                time.sleep(0.01)
        os.write(file, b"%06d\n" % number)
        time.sleep(pause)


def work(queue: MessageQueue, file: int, count: int, lease: float, takes: float) -> None:
    while queue.database.rows("SELECT count(*) FROM tasks WHERE status = 'completed'")[0][0] < count:
        try:
            task = waiting.get(queue, "dev", 0.2, lease, None)
            if task is None:
                continue
            said = f"{task.task_id} {task.token}\n".encode()
            os.write(file, b"claim " + said)
            is_long = task.payload["number"] % 25 == 0  # the second claim runs yet when the first comes too late
            time.sleep(min(0.2 * task.attempt**2, 0.8) if is_long else random.uniform(0, takes))
            os.write(file, b"try " + said)
            done(queue, task)
            os.write(file, b"done " + said)
        except DataError:
            os.write(file, b"stale " + said)
        except TryLater:
            pass


def done(queue: MessageQueue, task: Message) -> None:
    """Asked again, until the queue says yes or no."""
    while True:
        try:
            return queue.mark_completed(task.task_id, token=task.token)
        except TryLater:
            time.sleep(0.01)


def main(root: str, action: str, name: str, count: str, *more: str) -> None:
    given = DEFAULTS | dict(word.split("=", 1) for word in more)
    database.MOST_MENDS = 1_000_000  # somebody damages it on purpose
    file = os.open(given["file"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    queue = MessageQueue(home=Home(root))
    print("ready", flush=True)
    if action == "mend":
        salvage.mend(queue.home, queue.db_path, 0, "a test", sure=True)
    if action == "send":
        send(queue, file, name, int(count), float(given["pause"]))
    elif action == "work":
        work(queue, file, int(count), float(given["lease"]), float(given["takes"]))
    queue.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
