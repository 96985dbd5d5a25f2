"""Power cuts while tasks are sent and done, with `synchronous_mode: FULL`: what was acknowledged is there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

from proof.log_power import _mounted, _new_image
from proof.log_rows import Row, Run, rows
from proof.work_tasks import TASKER, agree, database_of, make_home
from support_tmux import wait_until
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work.message import Message
from tmux_orchestrator.work.queue import MessageQueue
from tmux_orchestrator.work.store import salvage
from tmux_orchestrator.work.store.database import Database

CUTS = 5


def check(quick: bool) -> list[Row]:
    return rows(quick, [power_cuts])


def power_cuts(run: Run) -> tuple[int, str]:
    """Cuts while two send and two work (needs root): all that was sent is there, all that was done stays done."""
    rounds, sent, done = run.pick(full=20, quick=1), 0, 0
    for _ in range(rounds):
        one = _round(run, _new_image(run, "disk"))
        sent, done = sent + one[0], done + one[1]
    assert sent and done
    return rounds * CUTS, f"{sent} sent and {done} done as acknowledged, none of them lost"


def _round(run: Run, image: str) -> tuple[int, int]:
    """Some cuts of one disk."""
    copy, sent, done = f"{run.folder}/copy.img", 0, 0
    for name in ("send0", "send1", "work0", "work1"):
        open(f"{run.folder}/{name}", "wb").close()
    with _mounted(image, run.folder + "/disk") as home:
        make_home(home, "FULL")
        MessageQueue(home=home).close()
        made = [
            run.start(
                *(sys.executable, "-I", TASKER, home.root, "send" if name[0] == "s" else "work", name, "100000"),
                *(f"file={run.folder}/{name}", "takes=0.001", "pause=0.001"),
                stdout=subprocess.DEVNULL,
            )
            for name in ("send0", "send1", "work0", "work1")
        ]
        try:
            wait_until(lambda: len(_lines(run, "work0")) > 3, 60, "the first task")
            for _ in range(CUTS):
                time.sleep(run.rng.uniform(0.005, 0.1))
                for one in made:
                    os.kill(one.pid, signal.SIGSTOP)
                known = {name: _lines(run, name) for name in ("send0", "send1", "work0", "work1")}
                shutil.copyfile(image, copy)
                for one in made:
                    os.kill(one.pid, signal.SIGCONT)
                with _mounted(copy, run.folder + "/copy") as there:
                    counts = _after_the_cut(there, known)
                sent, done = sent + counts[0], done + counts[1]
        finally:
            for one in made:
                one.kill()
                one.wait()
    return sent, done


def _lines(run: Run, name: str) -> list[str]:
    with open(f"{run.folder}/{name}", encoding="ascii") as file:
        return file.read().split("\n")[:-1]


def _after_the_cut(home: Home, known: dict[str, list[str]]) -> tuple[int, int]:
    assert salvage.findings(database_of(home)) == []
    database = Database(database_of(home))
    agree(database, "after the cut")
    found = {task: (status, token) for task, status, token in database.rows("SELECT task_id, status, token FROM tasks")}
    database.close()
    sent = [f"{name}-{int(number)}" for name in ("send0", "send1") for number in known[name]]
    assert not set(sent) - found.keys(), f"{len(set(sent) - found.keys())} of {len(sent)} acknowledged tasks are lost"
    done = [line.split(" ")[1:] for name in ("work0", "work1") for line in known[name] if line.startswith("done ")]
    undone = [task for task, token in done if found[task] != ("completed", token)]
    assert not undone, f"{len(undone)} of {len(done)} acknowledged completions are lost"
    queue = MessageQueue(home=home)  # and it goes on
    assert queue.send(Message("test", "dev", "t", {}, task_id="after-the-cut"))
    assert queue.get("dev") is not None
    queue.close()
    return len(sent), len(done)
