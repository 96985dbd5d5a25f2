"""Processes as the kernel knows them: a pid counts only together with its start time.

Pids are reused; (pid, start time) within one boot is not. Everything is read from /proc, and a process that is
gone is None, never an error.
"""

from __future__ import annotations

import os

from tmux_orchestrator.ground import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_TICKS = os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on; the name before them may hold anything."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = os.read(fd, 4096).decode("ascii", "replace")
    except OSError:
        return None
    finally:
        os.close(fd)
    fields = text[text.rfind(")") + 2 :].split()
    return fields if len(fields) > 19 else None


class Facts:
    """Where a process stands: who started it, its group and session; its start in clock ticks since boot."""

    __slots__ = ("group", "parent", "session", "start")

    def __init__(self, parent: int, group: int, session: int, start: int) -> None:
        self.parent, self.group, self.session, self.start = parent, group, session, start


def table() -> dict[int, Facts]:
    """Every live process of this machine, by its pid; zombies are none."""
    found: dict[int, Facts] = {}
    for name in os.listdir("/proc"):
        fields = _stat(int(name)) if name.isdigit() else None
        if fields is not None and fields[0] not in "ZX":
            found[int(name)] = Facts(int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]))
    return found


def environment(pid: int) -> list[bytes]:
    """The variables that the process was started with; none of one that is gone, or another user's."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None if there is no such live process."""
    fields = _stat(pid)
    if fields is None or fields[0] in "ZX":
        return None
    return int(fields[19])


def start_of(pid: int) -> int | None:
    """The same of a process that may have ended already, while nobody has waited for it."""
    fields = _stat(pid)
    return None if fields is None else int(fields[19])


def age_ns(start: int) -> int:
    """How long ago a process started; `start` is in clock ticks since boot."""
    return clock.boot_ns() - start * 1_000_000_000 // _TICKS


def alive(pid: int, start: int) -> bool:
    """Is this very process (not a later one with its number) alive?"""
    return start_time(pid) == start


def ancestors(pid: int) -> Iterator[int]:
    """The process and those above it, up to the first of the system; each is looked at when it is asked for."""
    for _ in range(64):
        fields = _stat(pid) if pid > 0 else None
        if fields is None:
            return
        yield pid
        pid = int(fields[1])


def has_terminal(pid: int) -> bool:
    """Has the process a controlling terminal?"""
    fields = _stat(pid)
    return fields is not None and fields[4] != "0"
