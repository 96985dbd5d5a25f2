"""One tmux server, for whoever wants to know or to type something.

`keep=True` keeps a control-mode connection (a daemon: 0.2 ms for a guarded message), `keep=False` runs a tmux
process per call (a command that runs once). Both give the same results for the same cases. Nothing here starts a
server, unless `run` is told to.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from types import TracebackType

from tmux_orchestrator.ground import proc
from tmux_orchestrator.ground.errors import UnavailableError
from tmux_orchestrator.ground.paths import find_home
from tmux_orchestrator.ground.tmux import guard as guards
from tmux_orchestrator.ground.tmux import panes as screens
from tmux_orchestrator.ground.tmux.connection import Connection
from tmux_orchestrator.ground.tmux.frames import SESSION
from tmux_orchestrator.ground.tmux.guard import Guard
from tmux_orchestrator.ground.tmux.jobs import Frame, Job, grouped, job
from tmux_orchestrator.ground.tmux.panes import CHUNK, Pane, Screenshot
from tmux_orchestrator.ground.tmux.plain import Plain
from tmux_orchestrator.ground.tmux.words import Line, Reply, TmuxError, text

# Seconds to wait for tmux to answer, and for it to let go.
DEADLINE = 5.0
LEAVING = 0.5
# Messages on their way to tmux at one time: more would not be faster, and would hold up everything else.
BATCH = 64


def socket_args(socket: str) -> list[str]:
    """tmux's own options for a socket: a path, a name, or "" for what tmux would use by itself."""
    if not socket:
        return []
    return ["-S" if "/" in socket else "-L", socket]


def find_socket(configured: str) -> str:
    """The socket to use: ORC_TMUX_SOCKET, else what is configured, else "" ($TMUX, else tmux's default)."""
    return os.environ.get("ORC_TMUX_SOCKET", "") or configured


def showing(socket: str, pane_id: str, inside: bool) -> list[str]:
    """The command that shows a person this pane: `inside` the server in the client in use, else in a new one."""
    at = ["-t", pane_id]
    show = "switch-client" if inside else "attach-session"
    return ["tmux", *socket_args(socket), "select-window", *at, ";", "select-pane", *at, ";", show, *at]


class Tmux:
    """The server on one socket. Every method raises UnavailableError when there is no server, and after `DEADLINE`
    seconds without an answer; a kept connection is made anew at the next call."""

    def __init__(self, socket: str, keep: bool = False, run: str = "") -> None:
        """`run` is the folder for texts on their way (the home's run folder by default)."""
        # -u: tmux shows UTF-8 whatever the locale of a daemon; -N: it never starts a server.
        options = ["-u", *socket_args(socket)]
        self._starting = Plain(["tmux", *options])
        self._base = ["tmux", "-N", *options]
        self._plain = Plain(self._base)
        self._keep = keep
        self._connection: Connection | None = None
        self._folder = f"{run or find_home().run}/typing" if keep else ""
        self._buffers = os.urandom(8).hex()
        self._count = 0

    def __enter__(self) -> Tmux:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def run(self, *argv: str, timeout: float = DEADLINE, start: bool = False) -> list[str]:
        """The lines that one command prints. Raises TmuxError with tmux's words when tmux refuses it.

        `start` lets a command such as new-session start the server.
        """
        line = Line([list(argv)], 1)
        reply = (self._starting.exchange([line], timeout) if start else self._exchange([line], timeout))[0]
        result = _lines(_answered(reply))
        if isinstance(result, TmuxError):
            raise result
        return result

    def run_many(self, commands: Sequence[Sequence[str]], timeout: float = DEADLINE) -> list[list[str] | TmuxError]:
        """The same for many commands at once: a result or an error for each."""
        lines = [Line([list(argv)], 1) for argv in commands]
        replies = self._exchange(lines, timeout)
        return [_lines(_answered(reply)) for reply in replies + [None] * (len(lines) - len(replies))]

    def server(self) -> tuple[int, int]:
        """The server's pid and its start time in ticks (0: not seen from here): together they name this server."""
        pid = int(self.run("display-message", "-p", "#{pid}")[0])
        return pid, proc.start_time(pid) or 0

    def panes(self) -> list[Pane]:
        """All panes but ours."""
        word = screens.opening()
        reply = _answered(self._exchange([screens.listing(word)], DEADLINE)[0])
        if reply.error is not None:
            raise TmuxError(reply.error)
        return screens.listed(reply, word)

    def look(self, pane_ids: Sequence[str], attributes: bool = True) -> dict[str, Screenshot]:
        """The visible screens, with their attributes as escape sequences; a pane that is gone is left out."""
        word = screens.opening()
        found: dict[str, Screenshot] = {}
        for start in range(0, len(pane_ids), CHUNK):
            chunk = pane_ids[start : start + CHUNK]
            replies = self._exchange([screens.looking(pane, attributes, word) for pane in chunk], DEADLINE)
            for pane, reply in zip(chunk, replies + [None] * (len(chunk) - len(replies)), strict=True):
                screen = screens.looked(_answered(reply), word)
                if screen is not None:
                    found[pane] = screen
        return found

    def type(self, pane_id: str, guard: Guard, body: bytes, key: str | None = None) -> str:
        """Paste the body, then press the key, if the pane is as the guard wants it: TYPED, or why nothing was typed.

        UNKNOWN: tmux has it and did not answer; it may have been typed. An UnavailableError means that it was not.
        """
        return self.type_many([(pane_id, guard, body, key)])[0]

    def type_many(self, frames: Sequence[Frame], meanwhile: Callable[[], None] | None = None) -> list[str]:
        """The same for many, in order. NO_SERVER for those that were not sent because the server had been lost.

        `meanwhile` is called at most once, while tmux has work to do.
        """
        word = screens.opening()
        batches = [self._jobs(frames[at : at + BATCH], word) for at in range(0, len(frames), BATCH)]
        outcomes: list[str] = []
        for jobs in batches:
            try:
                replies = self._exchange([each.line for each in jobs], DEADLINE, meanwhile)
            except UnavailableError:
                if not outcomes:
                    raise
                break
            meanwhile = None
            for each, reply in zip(jobs, replies, strict=False):
                outcomes += self._outcomes(each, reply, word)
            if None in replies or len(replies) < len(jobs):
                break
        return outcomes + [guards.NO_SERVER] * (len(frames) - len(outcomes))

    def _jobs(self, frames: Sequence[Frame], word: str) -> list[Job]:
        groups = grouped(frames) if self._keep else [[frame] for frame in frames]
        return [job(group, self._buffer, word) for group in groups]

    def _outcomes(self, done: Job, reply: Reply | None, word: str) -> list[str]:
        """One outcome per frame. A text that tmux could not read was not typed, nor those after it: the disk was
        full, or the server is in another namespace. They go by standard input."""
        found = guards.outcomes(reply, done.guard, word, len(done.frames))
        if reply is None or not any(name in (reply.error or "") for name, _ in done.line.texts):
            return found
        typed = [outcome for outcome in found if outcome == guards.TYPED]
        for frame in done.frames[len(typed) :]:
            again = job([frame], self._buffer, word)
            try:
                typed += guards.outcomes(self._plain.exchange([again.line], DEADLINE)[0], again.guard, word, 1)
            except UnavailableError:
                typed.append(guards.NO_SERVER)
        return typed

    def press(self, pane_id: str, guard: Guard, keys: Sequence[str]) -> str:
        """Press keys (tmux's names, such as Enter, C-c, y) under the same guard, with the same results."""
        word = screens.opening()
        reply = self._exchange([guards.pressing(pane_id, guard, list(keys), word)], DEADLINE)[0]
        return guards.outcomes(reply, guard, word, 1)[0]

    @property
    def alive(self) -> bool:
        """Is there a kept connection?"""
        return self._connection is not None and self._connection.alive

    def fileno(self) -> int:
        """For a selector: readable when there is something to drain. Connects if need be."""
        return self._connect().fileno()

    def drain(self) -> list[str]:
        """The notifications since the last call; look at `alive` afterwards. Does not keep a server that has become
        nobody else's."""
        notes = self._connection.drain() if self._connection is not None else []
        if any(note.startswith("%sessions-changed") for note in notes) and self.alive:
            self.end_if_alone()
        return notes

    def close(self) -> None:
        """Leave, and end our private session if nobody else is in it. The next call connects anew."""
        if self.alive and self._connection is not None:
            self._connection.close()
            self._end_session("==:#{session_attached},0", LEAVING)

    def end_if_alone(self) -> None:
        """End our private session if it is the only one left, and with it a server that nobody else uses.

        A kept connection keeps the server alive.
        """
        self._end_session(f"==:#{{S:#{{session_name}}:}},{SESSION}:", DEADLINE)

    def _end_session(self, condition: str, timeout: float) -> None:
        end = ["if-shell", "-F", "-t", f"={SESSION}:", f"#{{{condition}}}", f"kill-session -t ={SESSION}"]
        try:
            self._plain.exchange([Line([end], 2)], timeout)
        except UnavailableError:
            pass

    def _buffer(self) -> str:
        """A buffer name that no other message has ever had."""
        self._count += 1
        return f"orc-{self._buffers}-{self._count:x}"

    def _connect(self) -> Connection:
        if not self.alive:
            self._connection = Connection(self._base, self._folder, DEADLINE)
        assert self._connection is not None
        return self._connection

    def _exchange(
        self, lines: list[Line], timeout: float, meanwhile: Callable[[], None] | None = None
    ) -> list[Reply | None]:
        """A reply per line; None: sent and not answered; a shorter list: the rest was not sent.

        Raises UnavailableError when nothing was sent.
        """
        if not self._keep:
            return self._plain.exchange(lines, timeout)
        replies = self._connect().exchange(lines, timeout, meanwhile)
        if replies is None:
            # The connection had been lost before; nothing was sent, so one more try is safe.
            replies = self._connect().exchange(lines, timeout, meanwhile)
        if replies is None:
            raise UnavailableError("tmux went away: start it again")
        return replies


def _answered(reply: Reply | None) -> Reply:
    if reply is None:
        raise UnavailableError("tmux did not answer in time: look whether its server still runs")
    return reply


def _lines(reply: Reply) -> list[str] | TmuxError:
    return TmuxError(reply.error) if reply.error is not None else [text(line) for line in reply.lines]
