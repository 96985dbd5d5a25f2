"""Power cuts: the image of a mounted file system, copied while it is written to, is what a disk would hold then."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator

from proof.log_rows import Row, Run, Writer, rising, rows, told
from support_tmux import wait_until
from tmux_orchestrator.eventlog import event, reader
from tmux_orchestrator.eventlog.daylog import Log
from tmux_orchestrator.eventlog.follow import Follower, Place, load_place, save_place
from tmux_orchestrator.ground.paths import Home

WRITERS, CUTS = 4, 5


def check(quick: bool) -> list[Row]:
    return rows(quick, [power_cuts, cursors])


@contextlib.contextmanager
def _mounted(image: str, place: str) -> Iterator[Home]:
    os.makedirs(place, exist_ok=True)
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    try:
        yield Home(place + "/home")
    finally:
        wait_until(lambda: _unmount(place), 20, "the unmounting")


def _unmount(place: str) -> bool:
    return subprocess.run(["umount", place], capture_output=True, check=False).returncode == 0


def _new_image(run: Run, name: str) -> str:
    path = f"{run.folder}/{name}.img"
    with open(path, "wb") as file:
        file.truncate(32 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-b", "4096", path], check=True)
    return path


def power_cuts(run: Run) -> tuple[int, str]:
    """Cuts while 4 publish, some with ids of their own (needs root): all that was acknowledged is there, once."""
    rounds, acknowledged = run.pick(full=20, quick=1), 0
    for round_ in range(rounds):
        acknowledged += _round(run, _new_image(run, "disk"), f"r{round_}")
    return rounds * CUTS, f"{acknowledged} acknowledged in all, none of them lost"


def _round(run: Run, image: str, name: str) -> int:
    """Some cuts of one disk."""
    copy, acknowledged = f"{run.folder}/copy.img", 0
    with _mounted(image, run.folder + "/disk") as home:
        made = [
            Writer(
                run, home, f"{name}w{n}", 100_000, durable=1, group=1 + n, pause=0.002, ids=f"own{n}" if n % 2 else ""
            )
            for n in range(WRITERS)
        ]
        for one in made:
            one.go()
        try:
            for _ in range(CUTS):
                time.sleep(run.rng.uniform(0.005, 0.1))
                for one in made:
                    os.kill(one.child.pid, signal.SIGSTOP)
                known = {one.name: one.acknowledged() for one in made}
                shutil.copyfile(image, copy)
                for one in made:
                    os.kill(one.child.pid, signal.SIGCONT)
                acknowledged += _after_the_cut(run, copy, known)
        finally:
            for one in made:
                one.child.kill()
                one.child.wait()
    return acknowledged


def _after_the_cut(run: Run, copy: str, known: dict[str, list[int]]) -> int:
    with _mounted(copy, run.folder + "/copy") as home:
        found: dict[str, set[int]] = {name: set() for name in known}
        events = [one for _, one in reader.search(home, reader.Query())]
        for one in events:
            name, number = told(one)
            assert number not in found[name], "stored twice"
            found[name].add(number)
        rising(events)
        for name, numbers in known.items():
            lost = set(numbers) - found[name]
            assert not lost, f"{len(lost)} of {len(numbers)} acknowledged events of {name} are lost"
        log = Log(home)
        mine = {name[-1]: numbers for name, numbers in known.items()}
        again = [f"own{n}-{number}" for n in "13" for number in mine[n][-20:]]
        log.append([event.build("once more", {"type": "human"}) | {"id": one} for one in again])
        log.append([event.build("after", {"type": "human"})])
        log.close()
        after = [one for _, one in reader.search(home, reader.Query())][len(events) :]
        assert [one["message"]["content"]["body"] for one in after] == ["after"], "an id from before is forgotten"
        rising(events + after)
    return sum(map(len, known.values()))


def cursors(run: Run) -> tuple[int, str]:
    """Cuts while a cursor moves (needs root): it is the old one or the new one, and never beyond what is there."""
    cuts = run.pick(full=20, quick=2)
    image, copy = _new_image(run, "disk"), f"{run.folder}/copy.img"
    with _mounted(image, run.folder + "/disk") as home:
        log, cursor = Log(home), home.root + "/cursor"
        log.append([event.build("w 0", {"type": "human"})])
        follower = Follower(home, Place())
        for number in range(1, cuts * 10):
            log.append([event.build(f"w {number}", {"type": "human"})])
            while follower.read():
                save_place(cursor, follower.place)
            if number % 10:
                continue
            shutil.copyfile(image, copy)
            with _mounted(copy, run.folder + "/copy") as there:
                place = load_place(there.root + "/cursor")
                assert place is not None and place.last_seq == number + 1
                again = Follower(there, place)
                assert again.read() == [] and not again.jumps
                again.close()
        follower.close()
        log.close()
    return cuts, ""
