"""tmux through a process of its own for every few lines: slower, and nothing to keep or to lose.

Commands that run once use it, and the kept connection where a server cannot read our bodies. Lines are chained,
with a mark printed after each: tmux drops the rest of a chain after an error, so what the marks do not account for
is the line that failed, and what comes after it goes into the next process.
"""

from __future__ import annotations

import os
import subprocess

from tmux_orchestrator.ground.errors import UnavailableError
from tmux_orchestrator.ground.tmux.words import Line, Reply, argument, text

# tmux refuses command lines above 16 KB.
LONGEST = 12_000


def no_server(said: str) -> bool:
    """Do tmux's words mean that there is no server?"""
    return said.startswith(("no server running", "error connecting to"))


def lost_server(said: str) -> bool:
    """Do tmux's words mean that the server went away while it worked?"""
    return said.startswith(("server exited", "lost server"))


def _branches(line: Line) -> bool:
    return line.replies != len(line.commands)


class Plain:
    """One server; `base` is the tmux command with its socket."""

    def __init__(self, base: list[str]) -> None:
        self._base = base

    def exchange(self, lines: list[Line], timeout: float) -> list[Reply | None]:
        """A reply for each line, in order; None for one that may have run but did not answer in time.

        The list is shorter when the server was lost or stuck on the way: the rest has not been sent. `timeout`
        (seconds) is for each process. Raises UnavailableError when there is no server and nothing ran.
        """
        replies: list[Reply | None] = []
        while len(replies) < len(lines) and None not in replies:
            try:
                replies += self._some(lines[len(replies) :], timeout)
            except UnavailableError:
                if not replies:
                    raise
                break
        return replies

    def _some(self, lines: list[Line], timeout: float) -> list[Reply | None]:
        """The replies to the first line at least, and to as many as one process could do."""
        mark = os.urandom(16).hex()
        words, count = self._chain(lines, mark)
        body = lines[0].texts[0][1] if lines[0].texts else b""
        try:
            done = subprocess.run(words, input=body, capture_output=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            return [None] * count
        except OSError as error:
            raise UnavailableError(f"cannot run tmux: {error.strerror}: install tmux") from None
        said = text(done.stderr).strip()
        if done.returncode and no_server(said):
            raise UnavailableError(f"no tmux server ({said}): start an agent with orc-run, or set ORC_TMUX_SOCKET")
        parts = [
            part.removesuffix(b"\n").split(b"\n") if part else [] for part in done.stdout.split(mark.encode() + b"\n")
        ]
        replies: list[Reply | None] = [Reply(part) for part in parts[:-1]]
        if not replies and count == 1 and not done.returncode:
            # show-buffer and the like close standard output behind them.
            return [Reply(parts[0])]
        if len(replies) < count and (lost_server(said) or not said):
            return replies + [None] * (count - len(replies))
        if len(replies) < count:
            return [*replies, Reply(parts[-1], said)]
        if said and _branches(lines[0]):
            # An error inside a branch does not keep tmux from going on behind it.
            return [Reply(parts[0], said)]
        return replies

    def _chain(self, lines: list[Line], mark: str) -> tuple[list[str], int]:
        """A command line for the first line and as many of the next as fit.

        A line with a branch goes alone: an error in there shows only on standard error, which all lines share.
        So does a line with a text, which is on standard input; it can have only one.
        """
        words = list(self._base)
        size = count = 0
        alone = False
        for line in lines:
            more = self._words(line, mark)
            size += sum([len(word.encode()) + 1 for word in more])
            if count and (size > LONGEST or alone or _branches(line)):
                break
            alone = _branches(line)
            words += [*([";"] if count else []), *more]
            count += 1
        return words, count

    @staticmethod
    def _words(line: Line, mark: str) -> list[str]:
        words: list[str] = []
        for command in [*[["load-buffer", "-b", buffer, "-"] for buffer, _ in line.texts], *line.commands]:
            words += [*[argument(word) for word in command], ";"]
        return [*words, "display-message", "-p", mark]
