"""An append that is cut, refused or killed anywhere: what was acknowledged is there, the rest is whole or not there."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
from typing import Any

from proof.log_rows import Row, Run, env, rows, stored
from tmux_orchestrator.eventlog import daylog, days, event, reader
from tmux_orchestrator.eventlog.daylog import Log
from tmux_orchestrator.eventlog.follow import Follower, Place
from tmux_orchestrator.ground.errors import DEFECT, SystemFailure
from tmux_orchestrator.ground.paths import Home

SOURCE = {"type": "agent", "identifier": "w", "session": "s", "host": "h", "verified": False}
STRACE = ["strace", "-f", "-y"]
# What may fail in its own way; what only looks fails as a disk does, and where it looks at our files.
FAILING = {"write", "pwrite64", "fdatasync", "fsync", "ftruncate", "flock", "mkdir", "symlink", "rename", "unlink"}
ASKING = {"openat", "newfstatat", "pread64", "read", "readlink", "lseek", "getdents64"}
LINE = re.compile(r"^(?:\d+ +)?(\w+)\(")


def check(quick: bool) -> list[Row]:
    return rows(quick, [cut, faults, limit, full])


def made(body: str, **fields: Any) -> dict[str, Any]:
    return event.build(body, dict(SOURCE)) | fields


def bodies(home: Home) -> list[str]:
    return [one["message"]["content"]["body"] for one in stored(home)]


def followed(home: Home) -> list[str]:
    follower = Follower(home, Place())
    found = []
    while lines := follower.read():
        found += [one["message"]["content"]["body"] for line in lines if (one := reader.decode(line))]
    follower.close()
    return found


def cut(run: Run) -> tuple[int, str]:
    """A log cut at every byte: cut, show, append, read all."""
    cuts = 0
    for round_ in range(run.pick(full=4, quick=1)):
        origin = run.home(f"origin{round_}")
        log = Log(origin, durable=False)
        log.append([made("a"), made("naïve 🚨" * run.rng.randint(1, 40))])
        log.append([made("b" * run.rng.randint(1, 500), id="build-1")])
        log.close()
        day = days.days(origin)[-1]
        with open(daylog.day_file(origin, day), "rb") as file:
            data = file.read()
        everything = bodies(origin)
        for at in range(0, len(data) + 1, run.pick(full=1, quick=7)):
            _cut_at(run, origin, day, data[:at], everything)
            cuts += 1
    return cuts, "nothing whole is lost, at most one line of damage each"


def _cut_at(run: Run, origin: Home, day: str, data: bytes, everything: list[str]) -> None:
    home = run.home("cut")
    shutil.rmtree(home.root, ignore_errors=True)
    os.makedirs(home.events, 0o700)
    if run.rng.random() < 0.5:  # the lock's record is as it was before the cut, or lost
        shutil.copytree(origin.run, home.run, symlinks=True)
    with open(daylog.day_file(home, day), "wb") as file:
        file.write(data)
    ended = data.count(b"\n")
    assert bodies(home) == followed(home) == everything[:ended]
    whole = ended + (reader.decode(data.rpartition(b"\n")[2]) is not None)  # only its newline was cut off
    log = Log(home, durable=False)
    log.append([made("after")])
    log.append([made("the end", id="build-2")])
    log.close()
    query = reader.Query()
    read = [one for _, one in reader.search(home, query)]
    said = [one["message"]["content"]["body"] for one in read]
    assert said == followed(home) == [*everything[:whole], "after", "the end"] and query.damaged <= 1
    numbers = [one["seq"] for one in read]
    assert numbers == sorted(set(numbers))


def faults(run: Run) -> tuple[int, str]:
    """Kill -9, ENOSPC, EIO, a short write at every system call of orc-publish that touches the home, or follows."""
    runs = acknowledged = 0
    for kind in ("first of all", "one more", "with an id"):
        calls = _calls(run, kind)
        faults = [(name, at, fault) for name, at, ours in calls for fault in _faults(name, ours)]
        if run.quick:
            faults = run.rng.sample(faults, 8)
        for name, at, fault in faults:
            acknowledged += _fault(run, kind, f"{name}:{fault}:when={at}")
            runs += 1
    return runs, f"{acknowledged} acknowledged all the same, none of them lost, none stored twice, no half line stays"


def _faults(name: str, ours: bool) -> list[str]:
    looks = name in ASKING and ours
    errors = ["error=ENOSPC", "error=EIO"] if name in FAILING else ["error=EIO"] if looks else []
    return ["signal=KILL", *errors, *(["retval=10"] if name == "write" else [])]


def _home(run: Run, kind: str) -> Home:
    home = run.home("fault")
    shutil.rmtree(home.root, ignore_errors=True)
    if kind != "first of all":
        Log(home, durable=False).append([made("before")])
        assert subprocess.run(["orc-read", "-q"], env=env(home), check=False).returncode == 0  # compiles the settings
    return home


def _publish(kind: str) -> list[str]:
    return ["orc-publish", *(["--id", "build-1"] if kind == "with an id" else []), "the message"]


def _calls(run: Run, kind: str) -> list[tuple[str, int, bool]]:
    """(name, which one of them, is it on our files) of each system call from the first on that touches the home."""
    home, out = _home(run, kind), f"{run.folder}/trace"
    subprocess.run([*STRACE, "-o", out, *_publish(kind)], env=env(home), check=True, stdout=subprocess.DEVNULL)
    counts: dict[str, int] = {}
    found, inside = [], False
    with open(out, encoding="utf-8", errors="replace") as file:
        for line in file:
            match = LINE.match(line)
            if match is None:
                continue
            name = match[1]
            counts[name] = counts.get(name, 0) + 1
            inside = inside or home.root in line
            if inside and name != "exit_group":
                found.append((name, counts[name], home.root in line))
    assert len(found) > 20, found
    return found


def _fault(run: Run, kind: str, fault: str) -> bool:
    """One fault; was the event acknowledged all the same?"""
    home = _home(run, kind)
    said = subprocess.run(
        [*STRACE, "-o", "/dev/null", "-e", f"inject={fault}", *_publish(kind)],
        env=env(home), capture_output=True, text=True, check=False,
    )  # fmt: skip
    code = said.returncode
    assert code != DEFECT and said.stderr.count("\n") <= 1, f"{kind} {fault}: {code} {said.stderr}"
    there = _there(home)
    assert code != 0 or there.count("the message") == 1, f"{kind} {fault}: acknowledged and lost"
    if "KILL" not in fault:
        stored(home)  # whoever lives leaves no half line
    again = subprocess.run(_publish(kind), env=env(home), capture_output=True, text=True, check=False)
    assert again.returncode == 0, f"{kind} {fault}: afterwards: {again.stderr}"
    there = _there(home)
    assert [one for one in there if one != "the message"] == ([] if kind == "first of all" else ["before"])
    assert 1 <= there.count("the message") <= (1 if kind == "with an id" else 2), f"{kind} {fault}"
    return code == 0


def _there(home: Home) -> list[str]:
    return [one["message"]["content"]["body"] for _, one in reader.search(home, reader.Query())]


def limit(run: Run) -> tuple[int, str]:
    """A limit on the file's size at every byte of a batch: refused and taken back, then it goes on."""
    home = run.home()
    log = Log(home, durable=False)
    log.append([made("before"), made("x" * 300)])
    path = daylog.day_file(home, days.days(home)[-1])
    batch = [made("a" * run.rng.randint(1, 50)), made("b" * run.rng.randint(1, 50))]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = before = os.path.getsize(path)
    steps = refused = 0
    try:
        for room in range(0, 4096, run.pick(full=1, quick=37)):
            resource.setrlimit(resource.RLIMIT_FSIZE, (before + room, hard))
            steps += 1
            try:
                log.append(batch)
                break
            except SystemFailure:
                refused += 1
                assert os.path.getsize(path) == before
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    size = os.path.getsize(path)
    assert steps == refused + 1 and size > before
    log.append([made("after")])
    assert len(bodies(home)) == 5 and bodies(home)[-1] == "after"
    return refused, ""


def full(run: Run) -> tuple[int, str]:
    """A full file system (needs root): acknowledged is there, refused is not, and it goes on."""
    acknowledged = refused = 0
    for round_ in range(run.pick(full=20, quick=1)):
        place = f"{run.folder}/small{round_}"
        os.mkdir(place)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={256 + 4 * round_}k", "tmpfs", place], check=True)
        try:
            good, bad = _fill(run, Home(place + "/home"), place)
        finally:
            subprocess.run(["umount", place], check=True)
        acknowledged, refused = acknowledged + good, refused + bad
    assert refused
    return refused, f"refusals, beside {acknowledged} events acknowledged"


def _fill(run: Run, home: Home, place: str) -> tuple[int, int]:
    ballast = place + "/ballast"
    with open(ballast, "wb") as file:
        file.write(b"x" * 65536)
    log = Log(home)
    told, refused, number = [], 0, 0
    while refused < 25:
        names = [f"{number + n} " + "y" * run.rng.randint(1, 3000) for n in range(run.rng.choice((1, 1, 5)))]
        number += len(names)
        try:
            log.append([made(name, id=f"build-{name.split()[0]}-full") for name in names])
            told += names
        except SystemFailure:
            refused += 1
    assert bodies(home) == told
    done = subprocess.run(["orc-publish", "x" * 60_000], env=env(home), capture_output=True, text=True, check=False)
    assert done.returncode == 74 and done.stderr.count("\n") == 1, done
    os.unlink(ballast)
    log.append([made("room again")])
    log.close()
    subprocess.run(["orc-publish", "and for all"], env=env(home), check=True, stdout=subprocess.DEVNULL)
    assert bodies(home) == [*told, "room again", "and for all"]
    return len(told), refused
