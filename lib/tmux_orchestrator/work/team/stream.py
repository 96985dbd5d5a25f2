"""logs/team.log: one stream of what all agents print and what their supervisor does, `TIME NAME: text` each line.

Rotated by size: team.log.1 is the last one that was full, and as many as `team.log.keep` stay. Only the supervisor
writes it, and holds its pid file; a crash leaves whole lines, and at most one that was not finished.
"""

from __future__ import annotations

import contextlib
import os

from tmux_orchestrator.ground import clock, files
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.ground.paths import Home

_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def path(home: Home) -> str:
    return home.logs + "/team.log"


class Stream:
    """Lines are gathered and written together; see `flush`."""

    def __init__(self, home: Home) -> None:
        self._path = path(home)
        self._lines: list[str] = []
        self._fd = -1
        self._ms, self._head = -1, ""

    def add(self, name: str, text: str) -> None:
        ns = clock.now_ns()
        if ns // 1_000_000 != self._ms:  # many lines of one moment
            self._ms, self._head = ns // 1_000_000, clock.stamp(ns)
        self._lines.append(f"{self._head} {name}: {text}\n")

    def flush(self, settings: Config) -> None:
        """Write what was gathered; rotate. Raises OSError; what could not be written is dropped."""
        if not self._lines:
            return
        data, self._lines = "".join(self._lines).encode("utf-8", "backslashreplace"), []
        self._open()
        try:
            files.write_all(self._fd, data)
        except OSError:
            self.close()  # what stands there may be half a line, which the next opening ends
            raise
        if os.fstat(self._fd).st_size >= settings.get("team.log.max_mb") * 1024 * 1024:
            self._rotate(settings.get("team.log.keep"))

    def _open(self) -> None:
        """Anew, when somebody moved the file away."""
        if self._fd >= 0 and os.fstat(self._fd).st_nlink:
            return
        self.close()
        self._fd = os.open(self._path, _APPEND, 0o600)
        size = os.fstat(self._fd).st_size
        if size and not _ends(self._path, size):
            files.write_all(self._fd, b"\n")

    def _rotate(self, keep: int) -> None:
        self.close()
        for number in range(keep, 1, -1):
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{self._path}.{number - 1}", f"{self._path}.{number}")
        os.rename(self._path, f"{self._path}.1")
        number = keep + 1
        while os.path.lexists(f"{self._path}.{number}"):  # more were wanted before
            os.unlink(f"{self._path}.{number}")
            number += 1

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _ends(name: str, size: int) -> bool:
    """Does the file end with a whole line?"""
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return os.pread(fd, 1, size - 1) == b"\n"
    finally:
        os.close(fd)
