"""Our own commands, run by the supervisor without waiting for them: their end is one more thing that it hears of."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable
from typing import IO

from tmux_orchestrator.ground.output import clean
from tmux_orchestrator.ground.paths import CODE

_LIMIT = 1 << 16


class Job:
    """One command that runs; `then` is called with its exit code, output and last line of errors."""

    def __init__(
        self, words: list[str], then: Callable[[int, str, str], None], folder: str | None, env: dict[str, str]
    ) -> None:
        """Raises OSError."""
        self._then = then
        self._said, self._complained = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        self._child = subprocess.Popen(
            [f"{CODE}/bin/{words[0]}", *words[1:]],
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._complained,
            cwd=folder,
            env=env,
            start_new_session=True,
        )
        self.pidfd = os.pidfd_open(self._child.pid)

    def ended(self) -> None:
        """Its process has ended."""
        os.close(self.pidfd)
        code = self._child.wait()
        lines = _read(self._complained).splitlines()
        said = _read(self._said)
        self._then(code, said, clean(lines[-1]) if lines else "")

    def kill(self) -> None:
        """It is not waited for any more."""
        self._child.kill()
        self._child.wait()
        os.close(self.pidfd)
        self._said.close()
        self._complained.close()


def _read(file: IO[bytes]) -> str:
    with file:
        file.seek(0)
        return file.read(_LIMIT).decode("utf-8", "replace")
