"""From the table `outbox` into the log: one event for each change of a task, within a second, each once.

The queue only writes rows, so the log costs it no sync. The pump appends a batch of them under ids that follow from a
count in the database, then deletes the rows and adds to the count in one transaction. Whoever died between the two
left a word in the lock's file; then, and at the beginning, the next one looks in the log what is told already. One
pump at a time by that lock; any long-lived process may be its host.

While nothing happens it looks at the times of two files, twice a second. It makes nothing: without a database there is
none. What cannot be read or written is told once, and tried again.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from tmux_orchestrator.agents import registry
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.eventlog import event, reader
from tmux_orchestrator.eventlog.daylog import DAY_NS, Log, daemon_source, prepare
from tmux_orchestrator.eventlog.voice import Voice
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.ground.errors import DataError, OrcError, TryLater, UsageError
from tmux_orchestrator.ground.locks import Lock
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work import ending
from tmux_orchestrator.work.queue import path_of
from tmux_orchestrator.work.store import place
from tmux_orchestrator.work.store.database import VERSION, Database
from tmux_orchestrator.work.store.refusal import Damaged

if TYPE_CHECKING:
    from tmux_orchestrator.eventlog.daylog import Prepared
    from tmux_orchestrator.work.store.database import Row

NAMED = "tasks"  # the daemon that says these
BATCH = 200
_SECOND = 1_000_000_000
_LOOK, _REST = _SECOND // 2, 2 * _SECOND  # between two looks; after a failure
_SETTLED = _SECOND // 20  # file times move in ticks of up to 10 ms
_FAR = 8 * DAY_NS  # how far back the log is searched
_MANY = 100_000  # events beyond the count that are found there
_PATIENCE = 0.25  # seconds, for whoever writes the database just now
_BUSY = 20  # looks in a row at which it is locked until that is told

_ROWS = """
SELECT outbox.n, outbox.task_id, outbox.status, outbox.attempt, outbox.error_message, tasks.sender, tasks.recipient,
       tasks.type, tasks.priority, tasks.correlation_id, tasks.created_at, tasks.started_at, tasks.completed_at,
       tasks.duration_ms, tasks.status, tasks.attempt, tasks.live, tasks.rowid
FROM outbox LEFT JOIN tasks ON tasks.task_id = outbox.task_id ORDER BY outbox.n LIMIT ?"""
_OTHERS = """
SELECT 1 FROM tasks WHERE recipient = ?1 AND (live = 2 OR (live = 1 AND rowid < ?2))
UNION ALL SELECT 1 FROM limits WHERE kind IN ('recipient', 'account') AND name = ?1 AND parallel = 0 LIMIT 1"""
_ENDED = ("completed", "failed", "cancelled", "dead")
_TYPES = {status: f"task_{status}" for status in (*_ENDED, "queued")} | {"running": "task_started"}


class Pump:
    """Hosted by whoever calls `turn` again and again (see `ground.guest`)."""

    def __init__(self, home: Home, settings: Config, voice: Voice) -> None:
        self.home = home
        self._voice = voice
        self._database: Database | None = None
        self._lock = Lock(home.run + "/outbox.lock", 0)
        self._seen: list[tuple[int, ...]] | None = None
        self._look_at = 0
        self._busy = 0
        self._inode: tuple[int, ...] = ()
        self._is_sure = False  # that nothing is told which is not counted
        self._log: Log
        self.configure(settings)

    def configure(self, settings: Config) -> None:
        self.close()
        self._path = path_of(self.home, settings.get("team.message_queue.db_path"))
        self._log = Log(self.home, durable=settings.get("events.durability") == "disk")
        self._seen = None

    def close(self) -> None:
        self._lock.close()
        self._close_database()

    def turn(self, news: bool = False) -> int:
        """Tell what has changed; when to be called again, on the boot clock: at once while there is more."""
        now = clock.boot_ns()
        if now < self._look_at:
            return self._look_at
        self._look_at = now + _LOOK
        try:
            if self._has_changed():
                if self._tell():
                    self._look_at, self._seen = now, None
                self._busy = 0
                self._voice.well()
        except (OrcError, OSError) as error:
            self._failed(error, now)
        return self._look_at

    def _failed(self, error: Exception, now: int) -> None:
        self._seen = None
        self._close_database()
        locked = isinstance(error, TryLater)
        self._busy += locked
        if not locked:
            self._look_at = now + _REST
        if not locked or self._busy == _BUSY:
            self._voice.complain(f"what happens to tasks is not told: {error}")

    # the database

    def _has_changed(self) -> bool:
        """Since the last look? A change so new that its time may hide another one counts as one the next time too."""
        found: list[tuple[int, ...]] = []
        newest = 0
        for path in (self._path, self._path + "-wal"):
            try:
                one = os.stat(path)
            except (FileNotFoundError, NotADirectoryError):
                found.append(())
            else:
                found.append((one.st_ino, one.st_size, one.st_mtime_ns))
                newest = max(newest, one.st_mtime_ns)
        if found == self._seen:
            return False
        self._seen = found if abs(clock.now_ns() - newest) > _SETTLED else None
        if found[0][:1] != self._inode:  # another file, whose count may be another
            self._inode, self._is_sure = found[0][:1], False
        return found[0] != ()

    def _open(self) -> Database | None:
        """The database, as it is; None for one that has no outbox yet."""
        if self._database is None or not self._database.is_current():
            self._close_database()
            self._database = Database(
                self._path, version=None, mend=place.mender(self.home, self._path), patience=_PATIENCE
            )
            version = self._database.version()
            if version > VERSION:
                raise DataError(f"{self._path} is of version {version}, newer than this program: update the program")
            if version < VERSION:
                self._close_database()
        return self._database

    def _close_database(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    # one batch

    def _tell(self) -> bool:
        """A batch; is there more? Raises OrcError, OSError: then it comes again, as a whole."""
        try:
            self._lock.acquire()
        except TryLater:  # another pump works
            self._seen = None
            return False
        try:
            database = self._open()
            return database is not None and self._tell_from(database)
        finally:
            self._lock.release()

    def _tell_from(self, database: Database) -> bool:
        rows = self._rows(database)
        if not rows:
            return False
        if not self._is_sure or os.fstat(self._lock.fd).st_size:
            self._count_what_is_told(database)
            self._is_sure = True
            return True
        head, told = self._count(database)
        events = []
        waking = _Waking(self.home, database)
        for number, row in enumerate(rows, told + 1):
            events.append(_prepared(_event(row), f"{head}{number}"))
            call = waking.call(row)
            if call is not None:
                events.append(_prepared(call, f"{head}{number}.call"))
        os.pwrite(self._lock.fd, b"telling\n", 0)
        self._log.store([one for one in events if one is not None], are_new=True)
        with database:
            database.change("DELETE FROM outbox WHERE n <= ?", rows[-1][0])
            database.change("UPDATE meta SET value = ? WHERE name = 'told'", str(told + len(rows)))
        os.ftruncate(self._lock.fd, 0)
        return len(rows) == BATCH

    def _rows(self, database: Database) -> list[Row]:
        """The next batch. What somebody wrote by hand, and is no text, is let go: it keeps nothing else back."""
        while True:
            for most in (BATCH, 1):
                try:
                    return database.rows(_ROWS, most)
                except Damaged:
                    raise
                except DataError as error:
                    trouble = error
            database.change("DELETE FROM outbox WHERE n = (SELECT min(n) FROM outbox)")
            self._voice.complain(f"a change of a task is not told: {trouble}")

    def _count(self, database: Database) -> tuple[str, int]:
        """How the ids begin, and how many there are."""
        meta: dict[str, str] = dict(database.rows("SELECT name, value FROM meta WHERE name IN ('id', 'told')"))
        try:
            return f"task.{meta['id']}.", int(meta["told"])
        except (KeyError, ValueError):
            raise DataError(f"{self._path} has lost its count of what was told: run orc-task repair") from None

    def _count_what_is_told(self, database: Database) -> None:
        """Rows that are in the log go. A number that is there is not given again, also when the rows are not those of
        then: a power cut, or an older copy, has taken the database back."""
        head, told = self._count(database)
        known = self._told_beyond(head, told)
        if known:
            rows = database.rows("SELECT task_id, status, attempt, n FROM outbox ORDER BY n LIMIT ?", len(known))
            same = 0
            while same < len(rows) and known.get(told + same + 1) == rows[same][:3]:
                same += 1
            with database:
                database.change("DELETE FROM outbox WHERE n <= ?", rows[same - 1][3] if same else -1)
                database.change("UPDATE meta SET value = ? WHERE name = 'told'", str(max(known)))
        os.ftruncate(self._lock.fd, 0)

    def _told_beyond(self, head: str, told: int) -> dict[int, tuple[object, ...]]:
        """The changes in the log whose numbers are greater: number -> (task, status, attempt)."""
        found: dict[int, tuple[object, ...]] = {}
        query = reader.Query()
        query.since = clock.now_ns() - _FAR
        for file, start, stop in reader.spans(self.home, query, backward=True):
            for line in file.backward(start, stop, [f'"{head}'.encode()]):
                one = reader.decode(line)
                number = one["id"].removeprefix(head) if one is not None else ""
                if one is None or not number.isdecimal() or len(number) > 15:
                    continue
                if int(number) <= told or len(found) >= _MANY:
                    return found
                context = one["message"]["content"]["context"]
                found[int(number)] = tuple(context.get(name) for name in ("task_id", "status", "attempt"))
        return found


def _prepared(made: dict[str, Any], wanted: str) -> Prepared | None:
    """For the log; None for what it would never take, because somebody has written it into the database by hand."""
    for metadata in (made["metadata"], made["metadata"] | {"correlation_id": None}):
        try:
            return prepare(made | {"metadata": metadata, "id": wanted})
        except DataError:
            continue
    return None


def _event(row: Row) -> dict[str, Any]:
    """The change that a row tells. What the task became since is left out."""
    _, task_id, status, attempt, error, sender, recipient, kind, priority, line, created, started, ended, took = row[
        :14
    ]
    now_status, now_attempt = row[14:16]
    again = status == "queued" and error is not None and error != ending.GIVEN_BACK
    has_ended = status in _ENDED and status == now_status
    context = {
        "task_id": task_id,
        "sender": sender,
        "recipient": recipient,
        "type": kind,
        "priority": priority,
        "status": status,
        "attempt": attempt,
        "duration_ms": took if has_ended else None,
        "error_message": error,
        "correlation_id": line,
        "created_at": created,
        "started_at": started if has_ended or (status == now_status and attempt == now_attempt) else None,
        "completed_at": ended if has_ended else None,
    }
    if again:
        context["retry"] = True
    said = "task_failed" if again else _TYPES.get(status, "task_changed")
    bad = said in ("task_failed", "task_dead")
    return event.build(
        _text(said, context),
        daemon_source(NAMED),
        type=said,
        category="task",
        priority=("normal" if again else "high") if bad else "low",
        context=context,
        correlation_id=line if type(line) is str else None,
    )


def _text(said: str, context: dict[str, Any]) -> str:
    what = f"{said}: {context['recipient']}.{context['type']}"
    if said == "task_queued":
        return f"{what} (priority={context['priority']})"
    if said == "task_completed" and type(context["duration_ms"]) is int:
        return f"{what} (duration={context['duration_ms']:,}ms)"
    error = context["error_message"]
    return f"{what} (attempt {context['attempt']}{', tried again' * ('retry' in context)}): {error}" if error else what


class _Waking:
    """Who is told that there is work: an agent in a pane that has the recipient's name, when nobody is at work for it.

    Only of a task that still waits, before which none waits, so that a queue that fills is one message; a worker that
    was waiting has it by now.
    """

    def __init__(self, home: Home, database: Database) -> None:
        self._home, self._database = home, database
        self._agents: list[Agent] | None = None

    def call(self, row: Row) -> dict[str, Any] | None:
        status, task_id, sender, recipient, kind, priority = row[2], row[1], row[5], row[6], row[7], row[8]
        live, rowid = row[16:18]
        if status != "queued" or live != 1:
            return None
        agent = self._named(recipient)
        if agent is None or self._database.row(_OTHERS, recipient, rowid) is not None:
            return None
        return event.build(
            f"A task for you: {kind} from {sender}, priority {priority}. Take it: orc-task get -r {recipient}. "
            "When it is done, ask again until there is none.",
            daemon_source(NAMED),
            category="task",
            targets=[agent.key],
            supersedes=f"task.{agent.key}",
            context={"task_id": task_id, "recipient": recipient},
        )

    def _named(self, recipient: str) -> Agent | None:
        if self._agents is None:
            try:
                self._agents = [agent for agent in registry.load(self._home) if not agent.ended]
            except OrcError:
                self._agents = []  # whose file it is says so
        try:
            return registry.resolve(self._agents, recipient)
        except UsageError:  # several have that name
            return None
