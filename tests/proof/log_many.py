"""Many writers and followers: every event whole, once, in order; over locks, days, clocks and files that change."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from proof.log_rows import Row, Run, Writer, all_there, env, rising, rows, stored, told
from support_tmux import wait_until
from tmux_orchestrator.eventlog import daylog, days, event, reader
from tmux_orchestrator.eventlog.daylog import Log
from tmux_orchestrator.eventlog.follow import Follower, Place
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.errors import LATER, TryLater
from tmux_orchestrator.ground.locks import Lock
from tmux_orchestrator.ground.paths import Home

SECOND = 1_000_000_000
ZONES = (
    "Pacific/Kiritimati",
    "America/Los_Angeles",
    "Asia/Kolkata",
    "Pacific/Pago_Pago",
    "UTC",
    "",
    "Europe/Berlin",
    "X",
)
_HOLD = """
import fcntl, os, signal, sys
file = open(sys.argv[1], "ab")
fcntl.flock(file, fcntl.LOCK_EX)
os.kill(os.getpid(), signal.SIGSTOP)
"""
QUEUE = 16_384  # events that inotify keeps for one watcher


def check(quick: bool) -> list[Row]:
    return rows(quick, [writers, lost_lock, stopped_holder, midnight, same_ids, overflow, replaced])


def _together(run: Run, home: Home, number: int, count: int, **more: object) -> list[Writer]:
    """Writers that are ready, and have not begun."""
    made = [Writer(run, home, f"w{n}", count, **more) for n in range(number)]  # type: ignore[arg-type]
    for one in made:
        wait_until(lambda one=one: one.lines() == ["ready"], 30, "a writer's start")  # type: ignore[misc]
    return made


def writers(run: Run) -> tuple[int, str]:
    """16 writers, each in its order, lines from 400 bytes to 20 kB."""
    home, count = run.home(), run.pick(full=500, quick=60)
    small = _together(run, home, 16, count)
    for one in small:
        one.go()
    waits = [one.done().worst() for one in small]
    home_large = run.home("large")
    large = _together(run, home_large, 4, count, size=20_000, group=3)
    for one in large:
        one.go()
    for one in large:
        one.done()
    total = 0
    for place, made in ((home, small), (home_large, large)):
        events = stored(place)
        rising(events)
        total += all_there(events, made)
    assert total == 20 * count
    worst, p99 = max(one for one, _ in waits), max(one for _, one in waits)
    return total, f"worst wait {worst:.0f} ms, p99 {p99:.1f} ms"


def lost_lock(run: Run) -> tuple[int, str]:
    """The lock file deleted and replaced while 8 write: nothing is lost or torn."""
    home, count = run.home(), run.pick(full=1500, quick=150)
    made = _together(run, home, 8, count, size=5000)
    path, tampered = home.run + "/log.lock", 0
    for one in made:
        one.go()
    while any(one.child.poll() is None for one in made):
        if tampered % 2:
            with open(path + ".new", "wb"):
                pass
            os.rename(path + ".new", path)
        elif os.path.exists(path):
            os.unlink(path)
        tampered += 1
        time.sleep(0.001)
    for one in made:
        one.done()
    events = stored(home)
    assert all_there(events, made) == 8 * count
    repeated = sum(count - 1 for count in Counter(one["seq"] for one in events).values())
    return len(events), f"lock taken away {tampered} times, {repeated} numbers given twice"


def stopped_holder(run: Run) -> tuple[int, str]:
    """A process that is stopped with the lock in its hand costs the others 5 s and exit 75; they go on after it."""
    home = run.home()
    Log(home).append([event.build("first", {"type": "human"})])
    holder = run.start(sys.executable, "-I", "-S", "-c", _HOLD, home.run + "/log.lock")
    wait_until(lambda: _is_locked(home.run + "/log.lock"), what="the holder")
    start = time.monotonic()
    done = subprocess.run(["orc-publish", "x"], env=env(home), capture_output=True, text=True, check=False)
    waited = time.monotonic() - start
    assert done.returncode == LATER and 4.9 < waited < 15 and done.stderr.count("\n") == 1, done
    holder.kill()
    holder.wait()
    subprocess.run(["orc-publish", "y"], env=env(home), check=True, stdout=subprocess.DEVNULL)
    assert [one["message"]["content"]["body"] for one in stored(home)] == ["first", "y"]
    return 1, f"{waited:.1f} s"


def _is_locked(path: str) -> bool:
    lock = Lock(path, timeout=0)
    try:
        lock.acquire()
    except TryLater:
        return True
    finally:
        lock.close()
    return False


def midnight(run: Run) -> tuple[int, str]:
    """8 publishers in 8 zones over midnight, then the clock goes 2 h back: each event once, no line in a closed day."""
    count, events = run.pick(full=1000, quick=100), 0
    for round_ in range(run.pick(full=3, quick=1)):
        home, skew = run.home(f"m{round_}"), f"{run.folder}/skew{round_}"
        to_midnight = daylog.DAY_NS - time.time_ns() % daylog.DAY_NS
        _write(skew, to_midnight - 20_000 * SECOND)
        clock.use_zone("UTC")
        made = [Writer(run, home, f"w{n}", count, zone=zone, clock=skew, pause=0.0005) for n, zone in enumerate(ZONES)]
        for one in made:
            wait_until(lambda one=one: one.lines() == ["ready"], 30, "a writer's start")  # type: ignore[misc]
        steps = [0.25, 0.5, 0.75]
        for one in made:
            one.go()
        _at(made, count, steps[0], lambda skew=skew, ns=to_midnight: _write(skew, ns - SECOND // 2))  # type: ignore[misc]
        _at(made, count, steps[1], lambda skew=skew, ns=to_midnight: _write(skew, ns + SECOND))  # type: ignore[misc]
        _at(made, count, steps[2], lambda skew=skew, ns=to_midnight: _write(skew, ns - 7200 * SECOND))  # type: ignore[misc]
        for one in made:
            one.done()
        first, second = _two_days(home)
        assert max(one["seq"] for one in first) < min(one["seq"] for one in second), "a line in a closed day"
        rising(first + second)
        assert all_there(first + second, made) == 8 * count
        assert any(one["message"]["type"] == "clock_step" for one in second)
        events += 8 * count
    return events, ""


def _write(path: str, ns: int) -> None:
    with open(path + ".new", "w", encoding="ascii") as file:
        file.write(str(ns).ljust(63))
    if not os.path.exists(path):
        os.rename(path + ".new", path)
        return
    with open(path + ".new", "rb") as file, open(path, "r+b") as kept:
        kept.write(file.read())


def _at(made: list[Writer], count: int, share: float, do: Callable[[], None]) -> None:
    """When so much has been written."""
    wait_until(lambda: sum(len(one.lines()) for one in made) > share * count * len(made), 60, f"{share} of the events")
    do()


def _two_days(home: Home) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    names = sorted(os.listdir(home.events))
    assert len(names) == 2, names
    found = []
    for name in names:
        with open(f"{home.events}/{name}", "rb") as file:
            decoded = [reader.decode(line) for line in file.read().split(b"\n")[:-1]]
        assert all(decoded)
        found.append([one for one in decoded if one])
    return found[0], found[1]


def same_ids(run: Run) -> tuple[int, str]:
    """8 processes publish the same ids at the same time: each is stored once, and everybody is told that it is."""
    home, count = run.home(), run.pick(full=500, quick=40)
    made = _together(run, home, 8, count, ids="build", durable=1)
    for one in made:
        one.go()
    for one in made:
        assert one.done().acknowledged() == list(range(count))
    events = stored(home)
    rising(events)
    assert sorted(told(one)[1] for one in events) == list(range(count))
    return 8 * count, f"published, {count} stored"


def overflow(run: Run) -> tuple[int, str]:
    """More changes than inotify keeps while orc-read -f is stopped: all are shown, in order."""
    home, count = run.home(), run.pick(full=20_000, quick=QUEUE // 2 + 500)
    log = Log(home, durable=False)
    out = f"{run.folder}/followed"
    with open(out, "wb") as file:
        child = run.start("orc-read", "-f", "-n", "0", "-o", "message.content.body", env=env(home), stdout=file)
    wait_until(lambda: _watches(child.pid), 30, "the follower's start")
    log.append([event.build("first", {"type": "human"})])
    wait_until(lambda: os.path.getsize(out) > 0, 30, "the first event")
    os.kill(child.pid, signal.SIGSTOP)
    noise = os.open(home.events + "/noise", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in range(count):  # two files by turns, for changes of one are told once
        log.append([event.build(str(number), {"type": "human"})])
        os.write(noise, b"x")
    os.close(noise)
    os.kill(child.pid, signal.SIGCONT)
    wanted = ["first", *map(str, range(count))]
    wait_until(lambda: _words(out)[-1:] == wanted[-1:], 60, "the last event")
    assert _words(out) == wanted
    return count, f"events in {2 * count} changes; the queue holds {QUEUE}"


def _watches(pid: int) -> bool:
    folder = f"/proc/{pid}/fd"
    try:
        return any("inotify" in os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder))
    except FileNotFoundError:
        return False


def _words(path: str) -> list[str]:
    with open(path, encoding="utf-8") as file:
        return file.read().split()


def replaced(run: Run) -> tuple[int, str]:
    """A day file replaced by its copy, again and again, while it is written and followed: each event is seen once."""
    home, count = run.home(), run.pick(full=6000, quick=500)
    made = _together(run, home, 4, count // 4)
    seen: list[tuple[str, int]] = []
    follower, stop = Follower(home, Place()), threading.Event()

    def follow() -> None:
        while True:
            last = stop.is_set()
            while lines := follower.read():
                seen.extend(told(one) for line in lines if (one := reader.decode(line)))
            if last:
                return
            stop.wait(0.001)

    thread = threading.Thread(target=follow)
    thread.start()
    for one in made:
        one.go()
    times = 0
    lock = Lock(home.run + "/log.lock", timeout=60)
    while any(one.child.poll() is None for one in made):
        lock.acquire()
        for day in days.days(home):
            path = daylog.day_file(home, day)
            with open(path, "rb") as file, open(path + ".new", "wb") as copy:
                copy.write(file.read())
            os.rename(path + ".new", path)
            times += 1
        lock.release()
        time.sleep(0.005)
    lock.close()
    stop.set()
    thread.join()
    follower.close()
    for one in made:
        one.done()
    events = stored(home)
    rising(events)
    assert seen == [told(one) for one in events] and all_there(events, made) == 4 * (count // 4)
    return len(events), f"replaced {times} times, {len(follower.jumps)} jumps told"
