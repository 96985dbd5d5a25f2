"""kill -9 of the broker at every system call of one delivery, and every write of it refused by the system.

strace attaches to an idle broker, a message is published, and the n-th call of one kind kills it (or fails). A broker
that was killed is started again, normally. Every id has to be typed once or twice, the second time with a mark, and
its end has to be in the log.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import partial

from proof.delivery_rows import NO_BOUND, Row, is_over, proved, row
from support_orc import Agent, System
from support_tmux import wait_until

START = b"\x1b[200~"
# What changes files, and what may be refused for want of room.
WRITING = ("write", "pwrite64", "fdatasync", "fsync", "ftruncate", "rename", "openat", "mkdir", "unlink")
_CALL = re.compile(r"^(?:\[pid +\d+\] |\d+ +)?(\w+)\(", re.MULTILINE)
_RUN_ON = 2  # calls beyond those that were counted


def check(quick: bool) -> list[Row]:
    if not shutil.which("strace"):
        return [row("kill -9 of the broker at every system call", 0, "", "skipped: no strace")]
    every = 25 if quick else 1
    return proved(
        partial(killed_everywhere, "recorder", every),
        partial(killed_everywhere, "demo", every),
        partial(refused_everywhere, "ENOSPC", every),
        partial(refused_everywhere, "EIO", every),
    )


@contextlib.contextmanager
def traced(pid: int, *options: str) -> Iterator[str]:
    """strace attached to the process; the path of what it writes."""
    with tempfile.TemporaryDirectory(prefix="orc-trace-") as folder:
        path, told = folder + "/trace", folder + "/told"
        with open(told, "wb") as out:
            child = subprocess.Popen(["strace", "-o", path, *options, "-p", str(pid)], stderr=out)
        try:
            wait_until(lambda: b"attached" in _read(told), 10, "strace at the broker")
            yield path
        finally:
            child.terminate()
            child.wait()


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def points(system: System, agent: Agent, calls: tuple[str, ...] = ()) -> list[tuple[str, int]]:
    """Each system call of one undisturbed delivery: its name, and the how-manieth of that name it is."""
    broker = system.broker()
    with traced(broker.pid) as path:
        event = system.publish("-t", agent.name, "undisturbed")
        wait_until(lambda: is_over(system.outcomes(event)), what="an undisturbed delivery")
        count = Counter(_CALL.findall(_read(path).decode("utf-8", "replace")))
    broker.terminate()
    broker.wait()
    return [
        (name, n) for name, most in count.items() if name in calls or not calls for n in range(1, most + 1 + _RUN_ON)
    ]


def frames(agent: Agent, marker: str) -> list[str]:
    """What was typed into the agent that holds the marker."""
    if agent.log.endswith(".bytes"):
        return [text for raw in agent.recorded().split(START) if marker in (text := raw.decode("utf-8", "replace"))]
    return [prompt for prompt in agent.prompts() if marker in prompt]


def judged(system: System, agent: Agent, event: str, marker: str) -> str:
    """What is wrong with the delivery of this event; "" if nothing is."""
    wait_until(lambda: is_over(system.outcomes(event)), 20, f"an end of {event}, {system.said(event)}")
    typed = frames(agent.settled(), marker)
    if not 1 <= len(typed) <= 2:
        return f"typed {len(typed)} times"
    if any("repeat" not in frame or event[-6:] not in frame for frame in typed[1:]):
        return "a repeat without its mark"
    return ""


def killed_everywhere(kind: str, every: int) -> Row:
    problems, deaths, twice = [], 0, 0
    with System(NO_BOUND) as system:
        agent = system.recorder("dev") if kind == "recorder" else system.demo("dev")
        todo = points(system, agent)[::every]
        for name, n in todo:
            marker = f"killed at {name}-{n}."
            broker = system.broker()
            with traced(broker.pid, "-e", f"inject={name}:signal=KILL:when={n}"):
                event = system.publish("-t", agent.name, marker)
                _wait_end(system, broker, event)
            deaths += broker.poll() is not None
            _end(broker)
            again = system.broker()
            problem = judged(system, agent, event, marker)
            twice += len(frames(agent, marker)) == 2
            problems += [f"{name} {n}: {problem}"] if problem else []
            _end(again)
    told = f"{deaths} deaths, {twice} repeats, each marked"
    return row(
        f"kill -9 of the broker at each system call of a delivery ({kind})", len(todo), "; ".join(problems), told
    )


def _wait_end(system: System, broker: subprocess.Popen[bytes], event: str) -> None:
    """Until the broker has died, or has delivered all the same."""
    wait_until(lambda: broker.poll() is not None or is_over(system.outcomes(event)), 20, f"the end of {event}")


def _end(broker: subprocess.Popen[bytes]) -> None:
    if broker.poll() is None:
        broker.terminate()
    broker.wait()


def refused_everywhere(error: str, every: int) -> Row:
    """The n-th call of one kind fails; the broker lives, and delivers in the end. Exactly once: nothing was unknown."""
    problems, refused = [], 0
    with System(NO_BOUND) as system:
        agent = system.recorder("dev")
        todo = points(system, agent, WRITING)[::every]
        broker = system.broker()
        for name, n in todo:
            marker = f"{error} at {name}-{n}."
            with traced(broker.pid, "-e", f"inject={name}:error={error}:when={n}") as path:
                event = system.publish("-t", agent.name, marker)
                problem = judged(system, agent, event, marker)
                refused += b"(INJECTED)" in _read(path)
            if broker.poll() is not None:
                problem = f"the broker died with {broker.returncode} {problem}"
                broker = system.broker()
            problems += [f"{name} {n}: {problem}"] if problem else []
    return row(f"{error} at each write of a delivery", len(todo), "; ".join(problems), f"{refused} refused")
