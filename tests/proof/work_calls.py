"""A change of a task that is killed or refused at any system call: done or not done, never between."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from proof.log_append import ASKING, FAILING, LINE, STRACE
from proof.log_rows import Row, Run, env, rows
from proof.work_tasks import agree, database_of, make_home
from tmux_orchestrator.ground.errors import CONFIG, DATA, DEFECT, LATER, NO, NOPERM, OK, SYSTEM
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work.message import Message
from tmux_orchestrator.work.queue import MessageQueue
from tmux_orchestrator.work.store import salvage
from tmux_orchestrator.work.store.database import Database

WRITING = FAILING | {"mknodat", "mknod", "fallocate", "fchmod", "chmod", "unlinkat"}
# What is asked for, the state that it leads to, and how it may end when it is asked for once more.
ASKED: dict[str, tuple[list[str], set[str], set[int]]] = {
    "the first of all": (["send", "-r", "dev", "--id", "task-one", "{}"], {"queued"}, {OK}),
    "send": (["send", "-r", "dev", "--id", "task-one", "{}"], {"queued"}, {OK}),
    "get": (["get", "-r", "dev", "--lease", "300"], {"running"}, {OK, NO}),
    "done": (["done", "task-one", "--token", "TOKEN"], {"completed"}, {OK}),
    "fail": (["fail", "task-one", "--token", "TOKEN", "--error", "no", "--final"], {"failed"}, {OK, DATA}),
    "cancel": (["cancel", "task-one"], {"cancelled"}, {OK, NO}),
}


def check(quick: bool) -> list[Row]:
    return rows(quick, [calls])


def calls(run: Run) -> tuple[int, str]:
    """Kill -9, ENOSPC, EIO wherever orc-task changes or reads a file of the home: done whole, or not."""
    runs = done = 0
    for kind in ASKED:
        origin = run.home(kind.replace(" ", "-"))
        words = _prepare(origin, kind)
        calls = _calls(run, origin, words)
        faults = [(name, at, fault) for name, at, ours, after in calls for fault in _faults(name, ours, after)]
        for name, at, fault in run.rng.sample(faults, 5) if run.quick else faults:
            done += _fault(run, origin, kind, words, f"{name}:{fault}:when={at}")
            runs += 1
    return runs, f"{done} were done all the same"


def _prepare(home: Home, kind: str) -> list[str]:
    """The home in which it is asked, and the words."""
    make_home(home, "FULL")
    words, token = ASKED[kind][0], ""
    if kind != "the first of all":
        queue = MessageQueue(home=home)
        queue.send(Message("test", "ops", "t", {}, task_id="task-zero"))
        if kind != "send":
            queue.send(Message("test", "dev", "t", {}, task_id="task-one"))
        if kind in ("done", "fail"):
            token = queue.take("task-one", 300, "").token  # type: ignore[union-attr]
        queue.close()
        subprocess.run(["orc-task", "list"], env=env(home), check=True, capture_output=True)  # compiles the settings
    return [token if word == "TOKEN" else word for word in words]


def _faults(name: str, ours: bool, after: bool) -> list[str]:
    """To be killed between two calls that change nothing is to be killed before the second."""
    if name in WRITING:
        return ["signal=KILL", "error=ENOSPC", "error=EIO"]
    return ["signal=KILL"] * after + ["error=EIO"] * (name in ASKING and ours)


def _copy(run: Run, origin: Home) -> Home:
    home = run.home("fault")
    shutil.rmtree(home.root, ignore_errors=True)
    shutil.copytree(origin.root, home.root, symlinks=True)
    return home


def _calls(run: Run, origin: Home, words: list[str]) -> list[tuple[str, int, bool, bool]]:
    """(name, which one of them, is it on our files, does it follow a change) of each."""
    home, out = _copy(run, origin), f"{run.folder}/trace"
    subprocess.run([*STRACE, "-o", out, "orc-task", *words], env=env(home), check=True, capture_output=True)
    counts: dict[str, int] = {}
    found, inside, after = [], False, False
    with open(out, encoding="utf-8", errors="replace") as file:
        for line in file:
            match = re.match(LINE, line)
            if match is None:
                continue
            name = match[1]
            counts[name] = counts.get(name, 0) + 1
            inside = inside or "/data/orchestrator.db" in line
            if inside and name not in ("exit_group", "munmap"):
                found.append((name, counts[name], home.root in line, after))
                after = name in WRITING
    assert len(found) > 20, found
    return found


def _fault(run: Run, origin: Home, kind: str, words: list[str], fault: str) -> bool:
    """One fault; was the change made all the same?"""
    home, where = _copy(run, origin), f"{kind}, {fault}"
    said = subprocess.run(
        [*STRACE, "-o", "/dev/null", "-e", f"inject={fault}", "orc-task", *words],
        env=env(home), capture_output=True, text=True, check=False,
    )  # fmt: skip
    code = said.returncode
    assert code != DEFECT and said.stderr.count("\n") <= 1, f"{where}: {code} {said.stderr}"
    assert code in (OK, SYSTEM, LATER, NOPERM, CONFIG) or "KILL" in fault, f"{where}: {code} {said.stderr}"
    _, wanted, again = ASKED[kind]
    before = _state(home, where)
    assert code != OK or before in wanted, f"{where}: acknowledged, and it is {before}"
    once_more = subprocess.run(["orc-task", *words], env=env(home), capture_output=True, text=True, check=False)
    assert once_more.returncode in again, f"{where}: afterwards {once_more.returncode} {once_more.stderr}"
    assert _state(home, where) in wanted, f"{where}: it stays {_state(home, where)}"
    return before in wanted


def _state(home: Home, where: str) -> str | None:
    """The status of the task; that all which the database holds agrees is asserted."""
    path = database_of(home)
    if not os.path.exists(path):
        return None
    assert salvage.findings(path) == [], f"{where}: {salvage.findings(path)}"
    database = Database(path)
    try:
        agree(database, where)
        found = database.row("SELECT status FROM tasks WHERE task_id = 'task-one'")
        return found[0] if found else None
    finally:
        database.close()
