"""A task database that is locked, read-only, on a full disk, or no file: told in one line, and nothing half done.

What is damaged is in test_task_damage.py; with counts, all of it is in tests/proof/work_*.py.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proof import work_calls, work_power, work_tasks, work_team
from proof.log_rows import Row
from support_tmux import wait_until
from tmux_orchestrator.ground.errors import LATER, NO, NOPERM, OK, SYSTEM, TryLater
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work.message import Message
from tmux_orchestrator.work.queue import MessageQueue
from tmux_orchestrator.work.store import database

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
HOLD = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE tasks SET sender = 'holder'")
print("ready", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
connection.execute("ROLLBACK")
"""


def task(*argv: str, code: int = OK, **env: str) -> tuple[str, str]:
    done = subprocess.run(
        ["orc-task", *argv],
        env=os.environ | env,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == code, (argv, done)
    assert done.stderr.count("\n") == (code not in (OK, NO)), done
    return done.stdout, done.stderr


def holds(found: list[Row]) -> None:
    assert found and all(said.startswith("ok") for _, _, said in found), found


@contextlib.contextmanager
def mounted(place: Path, options: str) -> Iterator[Home]:
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)
    try:
        yield Home(f"{place}/home")
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_workers_and_a_sender_that_are_killed_and_stopped() -> None:
    holds(work_tasks.check(True))


def test_changes_that_are_killed_or_refused_in_the_middle() -> None:
    holds(work_calls.check(True))


def test_a_supervisor_and_its_workers_that_are_killed_and_stopped() -> None:
    holds(work_team.check(True))


def test_power_cuts() -> None:
    holds(work_power.check(True))


def test_a_process_stopped_in_a_change_costs_the_others_a_bounded_wait(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = MessageQueue(home=home)
    queue.send(Message("a", "dev", "t", {}, task_id="task-one"))
    holder = subprocess.Popen([sys.executable, "-c", HOLD, queue.db_path], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"ready\n"
        wait_until(lambda: state(holder.pid) == "T", 20, "the holder's stop")
        monkeypatch.setattr(database, "BUSY_S", 0.2)
        other = MessageQueue(home=home)
        for change in (lambda: other.send(Message("a", "dev", "t", {})), lambda: other.get("dev")):
            with pytest.raises(TryLater, match="locked by another process"):
                change()
        assert task("list", "-o", "task_id,sender")[0] == "task-one\ta\n"  # who reads does not wait
        assert "1" in task("depth", "-o", "queued_tasks")[0]
        holder.send_signal(signal.SIGCONT)
        assert holder.wait(30) == 0
        assert other.get("dev") is not None
        other.close()
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()  # type: ignore[union-attr]
    queue.close()


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


@needs_root
def test_the_command_gives_up_on_a_lock_with_75(home: Home) -> None:
    queue = MessageQueue(home=home)
    with queue.database:
        _, err = task("send", "-r", "dev", "x", code=LATER)
    assert "try again" in err
    queue.close()


@needs_root
@pytest.mark.parametrize("crashed", [False, True])
def test_on_a_read_only_file_system_reading_works(home: Home, tmp_path: Path, crashed: bool) -> None:
    queue = MessageQueue(home=home)
    queue.send(Message("a", "dev", "t", {}, task_id="task-one"))
    queue.send(Message("a", "dev", "t", {}, task_id="task-two", expires="2020-01-01T00:00:00Z"))
    task("list")
    queue.database.change("UPDATE meta SET value = 'another' WHERE name = 'boot'")
    if not crashed:
        queue.close()
    with mounted(tmp_path / "disk", "size=8m") as there:
        shutil.copytree(home.root, there.root)
        queue.close()
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)
        assert "task-one" in task("list", "-o", "task_id", ORC_HOME=there.root)[0]
        assert "task-one" in task("show", "task-one", ORC_HOME=there.root)[0]
        assert "dev" in task("depth", "-o", "agent", ORC_HOME=there.root)[0]
        for words in (["send", "-r", "dev", "x"], ["get", "-r", "dev"], ["cancel", "task-one"]):
            assert "cannot be written" in task(*words, code=NOPERM, ORC_HOME=there.root)[1]
        subprocess.run(["mount", "-o", "remount,rw", str(tmp_path / "disk")], check=True)
        task("send", "-r", "dev", "x", ORC_HOME=there.root)


@needs_root
def test_on_a_full_disk_nothing_is_half_done_and_with_room_it_goes_on(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=1m") as home:
        queue = MessageQueue(home=home)
        task("list", ORC_HOME=home.root)
        Path(f"{home.root}/ballast").write_bytes(b"x" * 300_000)
        sent: list[str] = []
        refused = 0
        while refused < 5:
            name = f"task-{len(sent) + refused:04}"
            _, err = task_any("send", "-r", "dev", "--id", name, "x" * 20_000, home=home)
            if err:
                assert "the disk" in err and err.count("\n") == 1
                refused += 1
            else:
                sent.append(name)
        assert sent and [row[0] for row in queue.database.rows("SELECT task_id FROM tasks ORDER BY task_id")] == sent
        os.unlink(f"{home.root}/ballast")
        task("send", "-r", "dev", "--id", "task-last", "y", ORC_HOME=home.root)
        assert queue.size() == len(sent) + 1
        queue.close()


def task_any(*argv: str, home: Home) -> tuple[str, str]:
    done = subprocess.run(
        ["orc-task", *argv],
        env=os.environ | {"ORC_HOME": home.root},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode in (OK, SYSTEM), done
    return done.stdout, done.stderr


@pytest.mark.parametrize("kind", ["link", "link to nothing", "fifo", "folder", "folder that is a file"])
def test_what_is_no_file_is_refused_at_once(home: Home, kind: str) -> None:
    folder = Path(home.root, "data")
    folder.mkdir(0o700, parents=True)
    path = folder / "orchestrator.db"
    if kind == "link":
        (folder / "other").write_bytes(b"")
        path.symlink_to("other")
    elif kind == "link to nothing":
        path.symlink_to("/nowhere")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        folder.rmdir()
        folder.write_text("a file")
    for words in (["list"], ["send", "-r", "dev", "x"]):
        task(*words, code=SYSTEM)


def test_many_that_start_at_one_time_make_one_database(home: Home) -> None:
    children = [
        subprocess.Popen(["orc-task", "send", "-r", "dev", str(n)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for n in range(12)
    ]
    said: list[Any] = [(child.communicate(timeout=120), child.returncode) for child in children]
    assert [code for _, code in said] == [OK] * 12, said
    assert len(task("list", "-o", "task_id")[0].split()) == 12
