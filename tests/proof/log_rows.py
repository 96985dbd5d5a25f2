"""What the proofs of the log share: their runs and rows, processes that write, and reading what came of it.

Every module here that has `check(quick) -> list[Row]` is a proof: `run.py` runs them all, `make test` their quick
versions. A row is (what, how many, "ok…" or "failed: …"). Those of the log are functions of a `Run`, which return how
many and what else is worth saying, and raise whatever shows that a promise is broken.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from tmux_orchestrator.eventlog import reader
from tmux_orchestrator.ground.paths import Home

Row = tuple[str, int, str]
Work = Callable[["Run"], tuple[int, str]]
SEED = int(os.environ.get("PROOF_SEED", "20261120"))
HERE = os.path.dirname(os.path.abspath(__file__))
WRITER = os.path.dirname(HERE) + "/programs/writer.py"


class Run:
    """One run of a proof: a folder of its own, a random source, and how much of it is wanted."""

    def __init__(self, quick: bool) -> None:
        self.quick = quick
        self.rng = random.Random(SEED)
        self.folder = tempfile.mkdtemp(prefix="orc-proof-")
        self._children: list[subprocess.Popen[Any]] = []

    def pick(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def home(self, name: str = "home") -> Home:
        return Home(f"{self.folder}/{name}")

    def start(self, *argv: str, **more: Any) -> subprocess.Popen[Any]:
        """A process that is ended with the run."""
        child = subprocess.Popen(argv, **more)
        self._children.append(child)
        return child

    def end(self) -> None:
        for child in self._children:
            if child.poll() is None:
                child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout, child.stderr):
                if pipe is not None:
                    pipe.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def rows(quick: bool, works: Sequence[Work]) -> list[Row]:
    """Run each; its row is named by the first line of what it says of itself. `needs root` there: only root can."""
    found = []
    for work in works:
        what = (work.__doc__ or "").split("\n")[0].rstrip(".")
        if "needs root" in what and os.geteuid() != 0:
            found.append((what, 0, "ok: not run as a user"))
            continue
        run = Run(quick)
        try:
            count, told = work(run)
            found.append((what, count, f"ok{': ' * bool(told)}{told}"))
        except Exception:  # noqa: BLE001 # whatever it is, the promise is not proven
            found.append((what, 0, f"failed: {traceback.format_exc()}"))
        finally:
            run.end()
    return found


def env(home: Home) -> dict[str, str]:
    return os.environ | {"ORC_HOME": home.root}


class Writer:
    """tests/programs/writer.py as a process. It begins with `go`."""

    def __init__(self, run: Run, home: Home, name: str, count: int, zone: str = "", **more: object) -> None:
        words = [f"{key}={value}" for key, value in more.items()]
        self.name = name
        self.out = f"{run.folder}/{name}.out"
        with open(self.out, "wb") as out:
            self.child = run.start(
                *(sys.executable, "-I", "-S", WRITER, home.root, name, str(count), *words),
                stdin=subprocess.PIPE,
                stdout=out,
                env=os.environ | ({"TZ": zone} if zone else {}),
            )

    def go(self) -> None:
        assert self.child.stdin is not None
        self.child.stdin.close()

    def done(self) -> Writer:
        code = self.child.wait(300)
        assert code == 0, f"{self.name} ended with {code}"
        return self

    def lines(self) -> list[str]:
        with open(self.out, encoding="ascii") as file:
            return file.read().split("\n")[:-1]

    def acknowledged(self) -> list[int]:
        return [int(line) for line in self.lines() if line.isdigit()]

    def worst(self) -> tuple[float, float]:
        """Milliseconds: the longest append, and the 99th percentile."""
        words = self.lines()[-1].split()
        return float(words[1]), float(words[3])


def stored(home: Home) -> list[dict[str, Any]]:
    """Every event of the log, in the order of its files; damage is an error."""
    query = reader.Query()
    found = [event for _, event in reader.search(home, query)]
    assert query.damaged == 0, f"{query.damaged} damaged lines"
    return found


def told(event: dict[str, Any]) -> tuple[str, int]:
    """(name, number) that a writer wrote."""
    words = event["message"]["content"]["body"].split(" ")
    return words[0], int(words[1])


def all_there(events: list[dict[str, Any]], writers: Sequence[Writer]) -> int:
    """Each writer's acknowledged events are there, once, in its order; how many."""
    by_name: dict[str, list[int]] = {writer.name: [] for writer in writers}
    for event in events:
        if event["message"]["type"] != "clock_step":
            name, number = told(event)
            by_name[name].append(number)
    for writer in writers:
        assert by_name[writer.name] == writer.acknowledged(), f"of {writer.name} some are lost, twice or out of order"
    assert len({event["id"] for event in events}) == len(events), "an id comes twice"
    return sum(map(len, by_name.values()))


def rising(events: list[dict[str, Any]]) -> None:
    numbers = [event["seq"] for event in events]
    assert numbers == sorted(set(numbers)), "the sequence falls or repeats"
