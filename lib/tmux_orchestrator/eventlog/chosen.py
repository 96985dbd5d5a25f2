"""Ids that callers chose: the same one within seven days is stored once.

Each has a mark, a symbolic link `logs/run/ids/ID` whose target says `DAY START END`: between these bytes of that
day's file the event was about to be written. The log has the last word: a mark whose event is not there (a crash
between mark and write, a file that was put back from a copy) counts for nothing. A link is made whole or not at all.
"""

from __future__ import annotations

import os

from tmux_orchestrator.eventlog.days import DAY_NS, day_file
from tmux_orchestrator.ground import clock, fastjson, files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tmux_orchestrator.ground.paths import Home

MEMORY_NS = 7 * DAY_NS


def is_stored(home: Home, chosen: str, now_ns: int, durable: bool) -> bool:
    """Was an event with this id stored within seven days? With `durable` it is on disk when this returns True."""
    try:
        day, start, end = os.readlink(_mark(home, chosen)).split()
        if now_ns - clock.parse_stamp(day + "T00:00:00Z") > MEMORY_NS + DAY_NS:
            return False
        fd = os.open(day_file(home, day), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (OSError, ValueError):
        return False
    try:
        head = f'{{"id": "{chosen}", '.encode("ascii")
        lines = os.pread(fd, int(end) - int(start), int(start)).split(b"\n")
        if not any(line.startswith(head) and _is_whole(line) for line in lines):
            return False
        if durable:  # whoever wrote it may have died before its sync
            os.fdatasync(fd)
        return True
    finally:
        os.close(fd)


def _is_whole(line: bytes) -> bool:
    """A line that was torn by a crash, and ended by whoever came next, is no event."""
    try:
        fastjson.loads(line)
    except ValueError:
        return False
    return True


def mark(home: Home, chosen: list[str], day: str, start: int, end: int) -> None:
    """Note where these events are about to stand. Under the log's lock. Raises OSError."""
    for one in chosen:
        path, place = _mark(home, one), f"{day} {start} {end}"
        try:
            os.symlink(place, path)
        except FileExistsError:  # of an event that was never written, or is forgotten
            os.unlink(path)
            os.symlink(place, path)
        except FileNotFoundError:
            files.make_dir(home.run + "/ids")
            os.symlink(place, path)


def forget(home: Home, now_ns: int) -> int:
    """Remove the marks that are older than an id is remembered; how many."""
    gone = 0
    try:
        for entry in os.scandir(home.run + "/ids"):
            if now_ns - entry.stat(follow_symlinks=False).st_mtime_ns > MEMORY_NS + 2 * DAY_NS:
                os.unlink(entry.path)
                gone += 1
    except FileNotFoundError:
        pass
    return gone


def _mark(home: Home, chosen: str) -> str:
    return f"{home.run}/ids/{chosen}"
