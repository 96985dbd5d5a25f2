"""A task database that is damaged, in every way a disk or a person can do it: kept aside, and recovered, loudly."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tmux_orchestrator.eventlog import reader
from tmux_orchestrator.ground import locks
from tmux_orchestrator.ground.errors import TryLater
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work import reading, usage
from tmux_orchestrator.work.message import Message
from tmux_orchestrator.work.queue import MessageQueue
from tmux_orchestrator.work.store import database, place, recovered, refusal, salvage, schema
from tmux_orchestrator.work.store.database import LOOK, Database
from tmux_orchestrator.work.store.gate import Gate
from tmux_orchestrator.work.store.pages import Pages
from tmux_orchestrator.work.store.recovered import Recovered
from tmux_orchestrator.work.store.refusal import Damaged

PAGE = 1024


@pytest.fixture
def path(home: Home) -> str:
    return home.root + "/data/orchestrator.db"


def fill(home: Home, count: int = 60, close: bool = True) -> MessageQueue:
    """Tasks of every status, short and long; one that waits for another, one for a time, a limit and metrics."""
    queue = MessageQueue(home=home)
    tasks = [
        Message("a", "dev", "t", {"text": "y" * (n * 97 % 5000), "n": n}, 1 + n % 10, task_id=f"task-{n:04}")
        for n in range(count)
    ]
    queue.send_all(tasks)
    for _ in range(count // 3):
        queue.mark_completed(queue.get("dev").task_id, 5)  # type: ignore[union-attr]
    queue.mark_failed(queue.get("dev").task_id, "no")  # type: ignore[union-attr]
    queue.get("dev")
    first = queue.database.rows("SELECT task_id FROM tasks WHERE status = 'queued' AND live = 1 LIMIT 1")[0][0]
    queue.send(Message("a", "pm", "t", {}, task_id="task-after", after=[first]))
    queue.send(Message("a", "pm", "t", {}, task_id="task-later", not_before="2100-01-01T00:00:00Z"))
    queue.limit("recipient", "ops", 2)
    usage.hold(queue.database, "shared", ["dev", "ops"], 2**62)
    queue.record_metric("dev", "cpu_percent", 1.5)
    if close:
        queue.close()
    return queue


def content(path: str) -> dict[str, list[Any]]:
    opened = Database(path)
    names = ("tasks", "agent_metrics", "deps", "limits", "outbox", "meta")
    try:
        return {name: sorted(opened.rows(f"SELECT * FROM {name}"), key=repr) for name in names}
    finally:
        opened.close()


def kept(path: str) -> list[str]:
    folder, name = os.path.split(path)
    return sorted(one for one in os.listdir(folder) if one.startswith(name + ".damaged") and one.endswith("Z"))


def told(home: Home) -> list[dict[str, Any]]:
    found = [event for _, event in reader.search(home, reader.Query())]
    return [one for one in found if one["source"]["identifier"] == "tasks"]


def overwrite(path: str, at: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


def task(*argv: str, code: int = 0) -> tuple[str, str]:
    done = subprocess.run(["orc-task", *argv], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == code, (argv, done)
    assert done.stderr.count("\n") <= 2 and "Traceback" not in done.stderr
    return done.stdout, done.stderr


WHOLE: dict[str, Callable[[str], object]] = {
    "its header zeroed": lambda path: overwrite(path, 0, bytes(100)),
    "its first page zeroed": lambda path: overwrite(path, 0, bytes(PAGE)),
    "its first page random": lambda path: overwrite(path, 0, random.Random(1).randbytes(PAGE)),
    "the root of its tasks zeroed": lambda path: overwrite(path, PAGE, bytes(PAGE)),
    "an index zeroed": lambda path: overwrite(path, (root_of(path, "idx_priority") - 1) * PAGE, bytes(PAGE)),
    "the index of the ids zeroed": lambda path: overwrite(
        path, (root_of(path, "sqlite_autoindex_tasks_1") - 1) * PAGE, bytes(PAGE)
    ),
}


def root_of(path: str, name: str) -> int:
    with sqlite3.connect(path) as connection:
        return int(connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0])


@pytest.mark.parametrize("what", WHOLE)
def test_damage_that_hits_no_row_loses_nothing(home: Home, path: str, what: str) -> None:
    fill(home)
    before = content(path)
    WHOLE[what](path)
    assert salvage.findings(path)
    queue = MessageQueue(home=home)
    queue.send(Message("a", "dev", "t", {}, task_id="task-new"))
    assert queue.database.row("SELECT count(*) FROM tasks WHERE recipient = 'dev'") is not None
    queue.cancel("task-new")
    queue.close()
    if not kept(path):  # what damages an index alone shows when that is used
        assert salvage.mend(home, path, 0, "test")
    after = content(path)
    for name in before:
        assert [row for row in after[name] if "task-new" not in row] == before[name], name
    assert salvage.findings(path) == [] and kept(path)


def test_it_is_told_on_stderr_and_in_the_log_once(home: Home, path: str) -> None:
    fill(home)
    overwrite(path, 0, bytes(PAGE))
    out, err = task("list", "-o", "task_id")
    assert len(out.split()) == 62 and "62 tasks recovered, 0 lost" in err and err.count("\n") == 1
    assert task("list", "-o", "task_id") == (out, "")
    (event,) = told(home)
    assert event["message"]["priority"] == "critical" and event["to"]["groups"] == ["management"]
    assert event["message"]["content"]["context"]["tasks"] == 62
    assert kept(path) == [os.path.basename(event["message"]["content"]["context"]["kept"])]
    with open(f"{home.root}/data/{kept(path)[0]}", "rb") as file:
        assert file.read(PAGE) == bytes(PAGE)  # as it was found


def test_of_a_damaged_page_only_its_own_rows_are_lost_and_their_ids_are_told(home: Home, path: str) -> None:
    fill(home)
    before = {row[0]: row for row in content(path)["tasks"]}
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        data = file.read()
    leaves = [at for at in range(PAGE, size, PAGE) if data[at] == 13 and b'{"text"' in data[at : at + PAGE]]
    for at in leaves[3:30:9]:
        overwrite(path, at, bytes(PAGE))
    report = salvage.mend(home, path, 0, "test")
    assert report is not None and 0 < report["lost"] < 20
    after = {row[0]: row for row in content(path)["tasks"]}
    assert before.keys() - after.keys() == set(report["lost_ids"])
    assert {key: row for key, row in before.items() if key in after} == after


@pytest.mark.parametrize("keep", [0, 1, 99, 1000, 1024, 5000, 20_000])
def test_a_truncated_file_gives_what_is_left(home: Home, path: str, keep: int) -> None:
    fill(home)
    before = {row[0]: row for row in content(path)["tasks"]}
    os.truncate(path, keep)
    queue = MessageQueue(home=home)
    queue.send(Message("a", "dev", "t", {}, task_id="task-new"))
    queue.close()
    after = {row[0]: row for row in content(path)["tasks"]}
    assert after.pop("task-new")
    for key, row in after.items():
        assert row == before[key] or row[5] == "cancelled"


@pytest.mark.parametrize("data", [b"no database", b"\0" * 5000, b"SQLite format 3\0" + b"\xff" * 3000, b"x" * 100_000])
def test_what_is_no_database_is_kept_and_one_is_begun(home: Home, path: str, data: bytes) -> None:
    os.makedirs(os.path.dirname(path), 0o700)
    Path(path).write_bytes(data)
    _, err = task("send", "-r", "dev", "hello")
    assert "0 tasks recovered" in err
    assert Path(f"{home.root}/data/{kept(path)[0]}").read_bytes() == data
    assert len(task("list", "-o", "task_id")[0].split()) == 1


def test_what_was_removed_does_not_come_back(home: Home, path: str) -> None:
    queue = fill(home, 200, close=False)
    queue.database.rows("PRAGMA secure_delete = OFF")
    queue.database.change("DELETE FROM tasks WHERE rowid % 3 <> 0")
    queue.database.change("VACUUM")
    queue.database.change("DELETE FROM tasks WHERE rowid % 2 <> 0")
    queue.close()
    before = content(path)["tasks"]
    report = salvage.mend(home, path, 0, "test", sure=True)
    assert report is not None and report["lost"] == 0 and content(path)["tasks"] == before


def test_who_waited_for_nobody_knows_whom_is_cancelled_and_told(home: Home, path: str) -> None:
    fill(home)
    for name in ("deps", "idx_deps"):
        overwrite(path, (root_of(path, name) - 1) * PAGE, bytes(PAGE))
    report = salvage.mend(home, path, 0, "test")
    assert report is not None and report["cancelled"] == 1 and report["lost"] == 0
    queue = MessageQueue(home=home)
    record = reading.task(queue.database, "task-after")
    assert record is not None and record["status"] == "cancelled" and "orc-task retry" in record["error_message"]
    assert queue.retry("task-after") and queue.get("pm") is not None
    queue.close()


def test_a_damaged_wal_costs_its_damaged_frames(home: Home, path: str) -> None:
    queue = fill(home, close=False)
    before = {row[0]: row for row in queue.database.rows("SELECT * FROM tasks")}
    copies = {part: Path(path + part).read_bytes() for part in ("", "-wal")}
    queue.close()
    os.unlink(path)
    frames = len(copies["-wal"]) // (PAGE + 24)
    assert frames > 100
    for part, data in copies.items():
        Path(path + part).write_bytes(data)
    overwrite(path + "-wal", 32 + (PAGE + 24) * (frames // 2) + 500, b"\xff" * 100)
    pages = Pages(copies[""], Path(path + "-wal").read_bytes())
    assert pages.broken_frames == 1
    report = salvage.mend(home, path, 0, "test", sure=True)
    assert report is not None
    after = {row[0]: row for row in content(path)["tasks"]}
    assert len(before.keys() - after.keys()) <= 3 and report["unreadable"] >= 1
    assert os.path.getsize(f"{home.root}/data/{kept(path)[0]}-wal") == len(copies["-wal"])  # kept too


def test_whatever_the_damage_what_comes_of_it_is_a_sound_database(home: Home, path: str) -> None:
    fill(home)
    whole = Path(path).read_bytes()
    chance = random.Random(int(os.environ.get("PROOF_SEED", "20261120")))
    for _ in range(40):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 40)):
            at = chance.randrange(len(data))
            length = chance.choice((1, 4, 50, PAGE, 5 * PAGE))
            data[at : at + length] = chance.choice((bytes(length), chance.randbytes(length)))[: len(data) - at]
        Path(path).write_bytes(bytes(data[: chance.choice((len(data), chance.randrange(len(data))))]))
        report = salvage.mend(home, path, 0, "test", sure=True)
        assert report is not None and salvage.findings(path) == []
        queue = MessageQueue(home=home)
        assert len(list(reading.tasks(queue.database))) == report["tasks"]
        queue.get("dev")
        assert queue.send(Message("a", "dev", "t", {}))
        queue.close()


@pytest.mark.parametrize("column", schema.ADDED)
def test_what_damage_made_of_a_row_keeps_no_other_from_being_recovered(home: Home, path: str, column: str) -> None:
    fill(home)
    data = Path(path).read_bytes()
    rows = [values for number, values in Pages(data, b"").rows() if number and len(values) == len(recovered._NAMES)]
    found = Recovered(data, b"")
    at = recovered._NAMES.index(column)
    for values in rows:
        found._task(1, (*values[:at], None, *values[at + 1 :]))
    found.metrics.append((None, "cpu_percent", 1.0, "2026-11-26T10:00:00Z"))
    found.tasks["task-0001"]["priority"] = None
    found._small(1, (None, "dev", "cpu_percent", float("nan"), "2026-11-26T10:00:00Z"))
    new = Database(path + ".other")
    found.store(new)
    assert new.rows("SELECT count(*) FROM tasks") == [(len(found.tasks),)] == [(61,)]
    assert found.lost[-1:] == ["task-0001"] and found.told()["unreadable"] >= 2
    new.close()


def test_damage_in_the_middle_of_work_is_met_by_whoever_meets_it(home: Home, path: str, capfd: Any) -> None:
    fill(home)
    queue = MessageQueue(home=home)
    overwrite(path, PAGE, bytes(os.path.getsize(path) - PAGE))
    other = MessageQueue(home=home)
    assert queue.send(Message("a", "dev", "t", {}, task_id="task-one"))
    assert other.send(Message("a", "dev", "t", {}, task_id="task-two"))
    assert {row[0] for row in queue.database.rows("SELECT task_id FROM tasks")} >= {"task-one", "task-two"}
    queue.close()
    other.close()
    assert len(kept(path)) == 1 and "was damaged" in capfd.readouterr().err


def test_damage_is_met_at_the_gate_too(home: Home, path: str) -> None:
    fill(home)
    queue = MessageQueue(home=home)
    overwrite(path, PAGE, bytes(os.path.getsize(path) - PAGE))
    queue.database._gate = Gate(path + "-gate")
    queue.database._gate._crowd = 5  # others were met there
    queue.database.change("UPDATE tasks SET sender = 'b'")
    assert queue.send(Message("a", "dev", "t", {}, task_id="task-new")) and queue.get("dev") is not None
    queue.close()
    assert len(kept(path)) == 1


def test_within_a_transaction_damage_says_try_again(home: Home, path: str) -> None:
    fill(home, 400)
    queue = MessageQueue(home=home)
    overwrite(path, PAGE, bytes(os.path.getsize(path) - PAGE))
    again = 0
    for number in range(2):
        try:
            queue.send_all([Message("a", "dev", "t", {}, task_id=f"task-x{number}-{n}") for n in range(3)])
        except Exception as error:  # noqa: BLE001
            assert "try again" in str(error)
            again += 1
    assert again <= 1 and queue.send(Message("a", "dev", "t", {}, task_id="task-then"))
    queue.close()


def test_a_disk_that_damages_it_again_and_again_is_not_filled_with_copies(home: Home, path: str) -> None:
    fill(home)
    queue = MessageQueue(home=home)
    with pytest.raises(Damaged):
        for _ in range(30):
            overwrite(path, 0, bytes(100))
            queue.close()
            queue.database.rows("SELECT count(*) FROM tasks")
    queue.close()
    assert len(kept(path)) == 10


def test_an_interrupted_rebuilding_is_taken_up(home: Home, path: str) -> None:
    fill(home)
    before = content(path)
    for part in ("", "-wal", "-shm"):
        if os.path.exists(path + part):
            os.rename(path + part, path + ".salvage" + part)
    Path(path + ".new").write_bytes(b"half")
    queue = MessageQueue(home=home)
    queue.close()
    assert content(path) == before and len(kept(path)) == 1
    assert not os.path.exists(path + ".salvage") and not os.path.exists(path + ".new")


def test_what_somebody_lays_over_it_is_no_damage_while_he_writes(
    home: Home, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(home)
    before, whole = content(path), Path(path).read_bytes()
    Path(path).write_bytes(whole[: len(whole) // 2])
    monkeypatch.setattr(time, "sleep", lambda seconds: Path(path).write_bytes(whole))
    queue = MessageQueue(home=home)
    assert queue.database.rows("PRAGMA integrity_check") == [("ok",)]
    queue.close()
    assert content(path) == before and kept(path) == []


def test_one_that_somebody_takes_away_meanwhile_is_made_anew(
    home: Home, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(home)
    overwrite(path, 0, bytes(100))

    def found(path: str) -> list[str]:
        os.unlink(path)
        return ["damage"]

    monkeypatch.setattr(salvage, "findings", found)
    queue = MessageQueue(home=home)
    assert queue.size() == 0 and kept(path) == []
    queue.close()


def test_who_never_waits_does_not_wait_for_who_makes_the_file(home: Home, path: str) -> None:
    os.makedirs(os.path.dirname(path), mode=0o700)
    lock = locks.Lock(path + place.LOCK)
    lock.acquire()
    timer = threading.Timer(20, lock.release)
    timer.start()
    with pytest.raises(TryLater):
        Database(path, patience=0.01)
    timer.cancel()
    lock.close()


def test_that_sqlite_gives_up_on_its_locks_is_no_damage() -> None:
    error = sqlite3.OperationalError("locking protocol")
    error.sqlite_errorcode = 15
    assert isinstance(refusal.of("x.db", error), TryLater)


def test_a_running_queue_finds_its_file_replaced_or_deleted(home: Home, path: str, capfd: Any) -> None:
    queue = fill(home, close=False)
    queue.database.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    copy = Path(path).read_bytes()
    queue._swept_at = 0
    for number in range(2):
        if number:
            swap(path, copy)
        else:
            os.unlink(path)
        queue.database._look_at = 0  # its time has come
        assert queue.send(Message("a", "dev", "t", {}, task_id=f"task-new{number}"))
        assert "opened anew" in capfd.readouterr().err
        other = MessageQueue(home=home)
        assert other.database.row("SELECT 1 FROM tasks WHERE task_id = ?", f"task-new{number}")
        other.close()
    queue.close()
    assert salvage.findings(path) == []


def swap(path: str, data: bytes) -> None:
    Path(path + ".copy").write_bytes(data)
    os.rename(path + ".copy", path)
    for part in ("-wal", "-shm"):
        os.unlink(path + part)


@pytest.mark.parametrize("parts", [["-wal"], ["-shm"], ["-wal", "-shm"]])
def test_a_wal_deleted_under_a_running_queue_loses_nothing(home: Home, path: str, parts: list[str]) -> None:
    queue = fill(home, close=False)
    before = queue.size()
    for part in parts:
        os.unlink(path + part)
    queue.database._look_at = 0
    assert queue.send(Message("a", "dev", "t", {}, task_id="task-new"))
    assert queue.size() == before + 1
    queue.close()
    assert salvage.findings(path) == []


def test_who_opens_after_the_wal_was_deleted_finds_all(home: Home, path: str) -> None:
    queue = fill(home, close=False)
    before = queue.size()
    os.unlink(path + "-wal")
    other = MessageQueue(home=home)
    assert other.size() == before
    assert queue.send(Message("a", "dev", "t", {}, task_id="task-new")) and other.size() == before + 1
    queue.close()
    other.close()


def test_what_is_changed_while_the_file_goes_aside_is_recovered_too(
    home: Home, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = fill(home, close=False)

    def passes(seconds: float) -> None:
        """Somebody looked just before, and changes something just before the next look."""
        assert seconds * 1e9 > database.LOOK
        queue.database._look_at = 1 << 62
        queue.send(Message("a", "dev", "t", {}, task_id="task-between"))

    monkeypatch.setattr(time, "sleep", passes)
    assert salvage.mend(home, path, 0, "test", sure=True)
    queue.close()
    assert "task-between" in {row[0] for row in content(path)["tasks"]}


def test_a_wal_of_a_file_before_this_one_is_left_alone(home: Home, path: str) -> None:
    idle = fill(home, close=False)
    os.unlink(path + "-wal")
    queue = MessageQueue(home=home)  # rebuilds it; `idle` has the deleted WAL open yet
    assert queue.send(Message("a", "dev", "t", {}, task_id="task-new")) and len(kept(path)) == 1
    queue.close()
    with contextlib.closing(MessageQueue(home=home)) as again:
        assert again.size() > 0
        assert salvage.mend(home, path, 0, "test", sure=True)
    idle.close()
    assert "task-new" in {row[0] for row in content(path)["tasks"]}


def test_a_new_database_has_nothing_of_a_deleted_one_that_others_use(home: Home, path: str) -> None:
    fill(home, 300)
    program = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM tasks').fetchone()"
    program += "; c.execute('UPDATE tasks SET sender = 1'); c.commit(); print('ready', flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdin is not None and other.stdout is not None and other.stdout.readline() == "ready\n"
    os.unlink(path)
    queue = MessageQueue(home=home)
    assert queue.size() == 0 and queue.send(Message("a", "dev", "t", {}, task_id="task-new"))
    other.stdin.close()
    other.stdout.close()
    assert other.wait(30) == 0
    queue.close()
    assert salvage.findings(path) == [] and len(content(path)["tasks"]) == 1


def test_a_wal_that_was_begun_since_is_no_damage(home: Home, path: str) -> None:
    early = Database(path, version=None, mend=place.mender(home, path))  # as the pump opens it: there is no table yet
    queue = MessageQueue(home=home)
    queue.send(Message("a", "dev", "t", {}))
    time.sleep(2 * LOOK / 1e9)  # the time of its next look has come
    assert early.rows("SELECT status FROM tasks") == [("queued",)]
    with early:
        early.change("UPDATE tasks SET priority = 7")
    assert queue.database.rows("SELECT priority FROM tasks") == [(7,)]
    assert kept(path) == []
    early.close()
    queue.close()


def test_check_and_repair(home: Home, path: str) -> None:
    _, err = task("check", code=65)
    assert "there is no database" in err
    fill(home)
    assert task("check")[0] == f"whole: {path}\n"
    assert task("repair")[0] == f"nothing to repair: {path}\n"
    overwrite(path, PAGE, bytes(PAGE))
    out, err = task("check", code=65)
    assert out and "orc-task repair" in err
    assert '"tasks": 62' in task("repair", "--dry-run")[0] and not kept(path)
    out, err = task("repair")
    assert '"tasks": 62' in out and "was damaged" in err and len(kept(path)) == 1
    assert task("check")[0] == f"whole: {path}\n"
    task("check", "word", code=64)


def test_a_newer_version_is_refused_and_left_alone(home: Home, path: str) -> None:
    fill(home)
    opened = Database(path)
    opened.change("PRAGMA user_version = 99")
    opened.close()
    before = Path(path).read_bytes()
    for argv in (["list"], ["send", "-r", "dev", "x"], ["depth"]):
        _, err = task(*argv, code=65)
        assert "newer than this program" in err and err.count("\n") == 1
    assert Path(path).read_bytes() == before and not kept(path)


def test_the_time_until_the_next_look_counts_from_before_the_last_one(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inodes = place.inodes

    def slowly(path: str) -> tuple[int, ...]:
        found = inodes(path)
        time.sleep(5 * LOOK / 1e9)
        return found

    monkeypatch.setattr(place, "inodes", slowly)
    with contextlib.closing(Database(path)) as opened:
        assert opened._look_at < time.monotonic_ns()
        opened.change("DELETE FROM tasks")
        assert opened._look_at < time.monotonic_ns()
