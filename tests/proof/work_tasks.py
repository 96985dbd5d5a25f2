"""Tasks among processes that die and stand still: each is completed once, and none is lost."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import Any

from proof.log_rows import HERE, Row, Run, env, rows
from support_tmux import wait_until
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work.message import Message
from tmux_orchestrator.work.queue import MessageQueue
from tmux_orchestrator.work.store import salvage
from tmux_orchestrator.work.store.database import Database

TASKER = os.path.dirname(HERE) + "/programs/tasker.py"
WORKERS = 8
LEASE = 1.0
RUN = ("orc-task", "run", "-r", "dev", "--jobs", "2", "--lease", "1s", "--", "sh", "-c")
CONFIG = """\
team:
  message_queue: {max_size: 20000, attempts: 100, synchronous_mode: %s}
"""

NEXT = {
    None: {"queued"},
    "queued": {"running", "cancelled"},
    "running": {"queued", "completed", "failed", "cancelled", "dead"},
    "failed": {"queued"},
    "cancelled": {"queued"},
    "dead": {"queued"},
}


def check(quick: bool) -> list[Row]:
    return rows(quick, [once, by_command, rebuilt])


def make_home(home: Home, mode: str = "NORMAL") -> None:
    os.makedirs(home.root, 0o700)
    with open(home.root + "/orchestrator_config.yaml", "w", encoding="ascii") as file:
        file.write(CONFIG % mode)


def database_of(home: Home) -> str:
    return home.root + "/data/orchestrator.db"


class Team:
    """A sender and workers, each of which is replaced when it is killed."""

    def __init__(self, run: Run, home: Home, count: int, workers: int, senders: int = 1, pause: float = 0) -> None:
        self._run, self._home, self._count, self._senders, self._pause = run, home, count, senders, pause
        self.kills = self.stops = 0
        self._stopped: dict[int, float] = {}
        self.members = [self._start(number) for number in range(senders + workers)]

    def _start(self, number: int) -> subprocess.Popen[Any]:
        is_sender = number < self._senders
        each = self._count // self._senders
        words = ["send", f"job{number}", str(each)] if is_sender else ["work", f"w{number}", str(self._count)]
        with open(f"{self._run.folder}/said{number}", "ab") as said:
            return self._run.start(
                *(sys.executable, "-I", TASKER, self._home.root, *words),
                f"file={self._run.folder}/{'sent' if is_sender else 'worked'}{number}",
                *(f"lease={LEASE}", f"pause={self._pause}"),
                stdout=subprocess.DEVNULL,
                stderr=said,
            )

    def disturb(self) -> None:
        """Kill one, or stop it for longer than a lease, or not as long."""
        now = time.monotonic()
        for number, until in list(self._stopped.items()):
            if until <= now:
                self.members[number].send_signal(signal.SIGCONT)
                del self._stopped[number]
        number = self._run.rng.randrange(len(self.members))
        member = self.members[number]
        if number in self._stopped or member.poll() is not None:
            return
        if self._run.rng.random() < 0.5:
            member.kill()
            member.wait()
            self.kills += 1
            self.members[number] = self._start(number)
        elif len(self._stopped) < len(self.members) // 2:
            member.send_signal(signal.SIGSTOP)
            self._stopped[number] = now + self._run.rng.choice((0.1, LEASE * 1.3))
            self.stops += 1

    def calm(self) -> None:
        for number in self._stopped:
            self.members[number].send_signal(signal.SIGCONT)
        self._stopped.clear()

    def wait(self) -> None:
        for number, member in enumerate(self.members):
            code = member.wait(300)
            with open(f"{self._run.folder}/said{number}", encoding="utf-8") as said:
                assert code == 0, f"member {number} ended with {code}: {said.read()[-3000:]}"

    def sent(self) -> list[str]:
        """The ids that the queue has acknowledged."""
        found = []
        for number in range(self._senders):
            with open(f"{self._run.folder}/sent{number}", encoding="ascii") as file:
                found += [f"job{number}-{int(line)}" for line in file.read().split("\n")[:-1]]
        return found

    def worked(self) -> list[tuple[str, str, str]]:
        """(claim, try, done or stale; task; token) of all workers."""
        found: list[tuple[str, str, str]] = []
        for name in os.listdir(self._run.folder):
            if name.startswith("worked"):
                with open(f"{self._run.folder}/{name}", encoding="ascii") as file:
                    found += [tuple(line.split(" ")) for line in file.read().split("\n")[:-1]]  # type: ignore[misc]
        return found


def once(run: Run) -> tuple[int, str]:
    """Tasks through 8 workers, all of them and the sender killed and stopped at random: each completed once."""
    count, home = run.pick(full=10_000, quick=600), run.home()
    make_home(home)
    team = Team(run, home, count, WORKERS)
    end = time.monotonic() + 280
    while completed(home) < count and time.monotonic() < end:
        team.disturb()
        time.sleep(run.rng.uniform(0, run.pick(full=200, quick=50) / 1000))
    team.calm()
    team.wait()
    told = _each_once(home, team, count)
    assert team.kills and team.stops
    return count, f"{team.kills} kills, {team.stops} stops, {told}"


def completed(home: Home) -> int:
    if not os.path.exists(database_of(home)):
        return 0
    try:
        database = Database(database_of(home))
        found = database.rows("SELECT count(*) FROM tasks WHERE status = 'completed'")[0][0]
        database.close()
    except OSError:
        return 0
    return int(found)


def _each_once(home: Home, team: Team, count: int) -> str:
    """What the workers saw, what the tasks say, and what the outbox tells, is the same."""
    assert salvage.findings(database_of(home)) == []
    database = Database(database_of(home))
    tokens: dict[str, str] = dict(database.rows("SELECT task_id, token FROM tasks WHERE status = 'completed'"))
    told = Counter(row[0] for row in database.rows("SELECT task_id FROM outbox WHERE status = 'completed'"))
    begun = Counter(row[0] for row in database.rows("SELECT task_id FROM outbox WHERE status = 'running'"))
    others = database.rows("SELECT task_id, status FROM tasks WHERE status <> 'completed'")
    database.close()
    sent, worked = team.sent(), team.worked()
    assert len(set(sent)) == count and not set(sent) - tokens.keys(), "acknowledged tasks are lost"
    assert not others and len(tokens) == count, f"not completed: {others[:5]}"
    assert len(told) == count and set(told.values()) == {1}, "a completion is told twice, or not at all"
    done = [(task, token) for what, task, token in worked if what == "done"]
    stale = [(task, token) for what, task, token in worked if what == "stale"]
    twice = [task for task, times in Counter(task for task, _ in done).items() if times > 1]
    assert not twice, f"{len(twice)} completed twice: {twice[:5]}"
    assert all(tokens[task] == token for task, token in done), "a completion of another claim was accepted"
    assert not set(stale) & set(tokens.items()), "a completion was accepted and refused"
    tried = {(task, token) for what, task, token in worked if what == "try"}
    assert set(tokens.items()) <= tried, "completed by nobody"
    claimed = Counter(task for what, task, _ in worked if what == "claim")
    both = [task for task, times in claimed.items() if times > begun[task]]
    assert not both, f"{len(both)} were claimed by two at one time: {both[:5]}"
    claims = sum(claimed.values())
    return (
        f"{claims} claims, {len(stale)} late completions refused, {len(done)} accepted as seen by a worker that lived"
    )


def by_command(run: Run) -> tuple[int, str]:
    """Tasks through 4 of `orc-task run --jobs 2`, killed and stopped at random: each completed once."""
    count, home, out = run.pick(full=2000, quick=200), run.home(), f"{run.folder}/done"
    make_home(home)
    with contextlib.closing(MessageQueue(home=home)) as queue:
        queue.send_all([Message("test", "dev", "t", {}, task_id=f"job0-{number}") for number in range(count)])
    words = [*RUN, f'sleep 0.05; echo "$ORC_TASK_ID $ORC_TASK_TOKEN" >>{out}']
    kills = stops = 0

    def start() -> subprocess.Popen[Any]:
        return run.start(*words, env=env(home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    workers = [start() for _ in range(4)]
    end = time.monotonic() + 280
    while completed(home) < count and time.monotonic() < end:
        number = run.rng.randrange(len(workers))
        if run.rng.random() < 0.5:
            workers[number].kill()
            workers[number].wait()
            workers[number], kills = start(), kills + 1
        else:
            workers[number].send_signal(signal.SIGSTOP)
            time.sleep(run.rng.choice((0.1, LEASE * 1.3)))
            workers[number].send_signal(signal.SIGCONT)
            stops += 1
        time.sleep(run.rng.uniform(0, 0.2))
    for worker in workers:
        worker.terminate()
    codes = [worker.wait(60) for worker in workers]
    assert set(codes) <= {0, -signal.SIGTERM}, codes  # that is one which had just been started
    begun = each_by_command(home, out, count)
    return count, f"{kills} kills, {stops} stops, {begun} commands begun"


def each_by_command(home: Home, out: str, count: int) -> int:
    """What the commands wrote, what the tasks say and what the outbox tells is the same; how many were begun."""
    with contextlib.closing(MessageQueue(home=home)) as queue:
        agree(queue.database, "at the end")
        tokens: dict[str, str] = dict(
            queue.database.rows("SELECT task_id, token FROM tasks WHERE status = 'completed'")
        )
        told = Counter(row[0] for row in queue.database.rows("SELECT task_id FROM outbox WHERE status = 'completed'"))
    with open(out, encoding="ascii") as file:
        ran = [tuple(line.split(" ")) for line in file.read().split("\n")[:-1]]
    assert len(tokens) == count and set(tokens.items()) <= set(ran), "completed by nobody"
    assert len(told) == count and set(told.values()) == {1}, "a completion is told twice, or not at all"
    twice = len(ran) - len(set(ran))
    assert not twice, f"{twice} claims were begun twice"
    return len(ran)


def rebuilt(run: Run) -> tuple[int, str]:
    """The same while the file is rebuilt, or loses its WAL, again and again under all of them: nothing is lost."""
    count, home = run.pick(full=3000, quick=300), run.home()
    make_home(home)
    team = Team(run, home, count, workers=3, senders=2, pause=0.01)
    path, times, ways = database_of(home), 0, Counter[str]()
    wait_until(lambda: completed(home) > 0, 60, "the first task")
    while all(not member.poll() for member in team.members) and any(m.poll() is None for m in team.members):
        way = run.rng.choice(("rebuilt", "without its WAL"))
        if way == "rebuilt":
            subprocess.run([sys.executable, "-I", TASKER, home.root, "mend", "-", "0"], check=True, capture_output=True)
        else:
            _delete_wal(path)
        times, ways[way] = times + 1, ways[way] + 1
        time.sleep(run.rng.uniform(0.2, run.pick(full=30, quick=6) / 10))
    team.wait()
    told = _each_once(home, team, count)
    return count, f"{', '.join(f'{number} times {way}' for way, number in ways.items())}; {told}"


def _delete_wal(path: str) -> None:
    try:
        os.unlink(path + "-wal")
    except FileNotFoundError:
        pass


def agree(database: Database, where: str) -> None:
    """Each task is in exactly one state, and the outbox has told each of its changes, in order."""
    told: dict[str, list[str]] = {}
    for task_id, status in database.rows("SELECT task_id, status FROM outbox ORDER BY n"):
        told.setdefault(task_id, []).append(status)
    sql = "SELECT task_id, status, live, token, wake_boot FROM tasks"
    for task_id, status, live, token, wake in database.rows(sql):
        if status == "queued":
            sound = live in (1, 3, None) and token is None
        elif status == "running":
            sound = live == 2 and bool(token) and bool(wake)
        else:
            sound = live is None
        assert sound, f"{where}: {task_id} is {status} and {live}"
        changes = [None, *told.get(task_id, [])]
        assert changes[-1] == status, f"{where}: {task_id} is {status}, told were {changes}"
        for one, other in itertools.pairwise(changes):
            assert other in NEXT.get(one, set()), f"{where}: {task_id}: {changes}"
