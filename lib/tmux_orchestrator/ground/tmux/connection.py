"""A kept connection to tmux: a control-mode client in a private session, `_orc`.

Invariant: a reply belongs to the line that asked for it. Replies come framed by `%begin` and `%end` (or `%error`)
with the same three numbers, one frame per command, in order; what a frame holds may imitate them, so only the very
numbers that opened it close it, and every exchange ends with a command that prints a secret: if that is not where
it must be, nothing of the exchange is believed and the connection is dropped. Frames that hooks of the user's
configuration cause carry another flag and do not count.

A connection that does not answer in time is dropped, and with it the texts that tmux has not read by then.
"""

from __future__ import annotations

import itertools
import os
import selectors
import subprocess
import time
from collections import deque
from collections.abc import Iterator

from tmux_orchestrator.ground.errors import OrcError, UnavailableError
from tmux_orchestrator.ground.tmux.bodies import Bodies, path_word
from tmux_orchestrator.ground.tmux.plain import no_server
from tmux_orchestrator.ground.tmux.words import Line, Reply, join, text

SESSION = "_orc"
# The window of the private session shows nothing and reads nothing.
_ATTACH = ["new-session", "-A", "-E", "-s", SESSION, "-x", "80", "-y", "24", "-f", "no-output,ignore-size"]
_INERT = ["sleep", "infinity"]
MOST_NOTES = 1000
# Stands for a text that could not be written (disk full): tmux types nothing, and the text goes another way.
UNREADABLE = "/dev/null"


class Frames:
    """Cuts what tmux writes into the answers to our commands, notifications, and other words."""

    def __init__(self) -> None:
        self.answers: deque[Reply] = deque()
        self.notes: deque[str] = deque(maxlen=MOST_NOTES)
        self.said = ""
        self.exited = False
        self._rest = b""
        self._open: bytes | None = None
        self._body: list[bytes] = []

    def feed(self, data: bytes) -> None:
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if self._open is not None:
                self._inside(line)
            elif line.startswith(b"%begin "):
                self._open = line[7:]
                self._body = []
            elif line.startswith(b"%"):
                self.exited = self.exited or line.startswith(b"%exit")
                self.notes.append(text(line))
            elif line:
                self.said = text(line)

    def _inside(self, line: bytes) -> None:
        if line[:5] == b"%end " and line[5:] == self._open:
            self._close(None)
        elif line[:7] == b"%error " and line[7:] == self._open:
            self._close(text(b" ".join(self._body)))
        else:
            self._body.append(line)

    def _close(self, error: str | None) -> None:
        if self._open is not None and self._open.endswith(b" 1"):
            self.answers.append(Reply(self._body, error))
        elif error:
            self.said = error
        self._open = None


class Connection:
    """A live client of the server. Raises UnavailableError, also when there is no server; it never starts one."""

    def __init__(self, base: list[str], env: dict[str, str], folder: str, timeout: float = 5.0) -> None:
        self._frames = Frames()
        self._bodies = Bodies(folder)
        try:
            # Its output is read to the last word: tmux says there why it would not have us.
            self._client = subprocess.Popen(
                [*base, "-C", *_ATTACH, *_INERT],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=env,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            raise UnavailableError(f"cannot run tmux: {error.strerror}: install tmux") from None
        assert self._client.stdin is not None and self._client.stdout is not None
        self._in = self._client.stdin.fileno()
        self._out = self._client.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        self.alive = True
        if self.exchange([], timeout) is None:
            said = self._frames.said
            if no_server(said):
                raise UnavailableError(f"no tmux server ({said}): start an agent with orc-run, or set ORC_TMUX_SOCKET")
            raise UnavailableError(f"tmux would not be connected to ({said or 'no answer'}): look at tmux ls")

    def fileno(self) -> int:
        """Readable when there are notifications, or when the server is gone."""
        return self._out

    def exchange(self, lines: list[Line], timeout: float) -> list[Reply | None] | None:
        """A reply for each line, in order; None for lines that may have run and did not answer.

        None instead of a list: nothing was sent, the connection had already been lost.
        """
        self._read()
        if not self.alive:
            return None
        secret = os.urandom(16).hex()
        files = itertools.count()
        payload = b"".join([self._payload(line, files) for line in lines])
        payload += join([["display-message", "-p", secret]]).encode() + b"\n"
        replies = self._collect(memoryview(payload), lines, secret.encode(), time.monotonic() + timeout)
        if not lines:
            return [] if self.alive else None
        return replies + [None] * (len(lines) - len(replies))

    def _collect(self, payload: memoryview, lines: list[Line], secret: bytes, until: float) -> list[Reply | None]:
        """Send it all and read until the secret comes back; on any doubt drop the connection and all replies."""
        replies: list[Reply | None] = []
        reply, due = Reply(), self._due(lines, 0)
        self._frames.answers.clear()
        with selectors.DefaultSelector() as both:
            both.register(self._out, selectors.EVENT_READ)
            both.register(self._in, selectors.EVENT_WRITE)
            while self.alive:
                while self._frames.answers:
                    answer = self._frames.answers.popleft()
                    if answer.lines == [secret] or len(replies) == len(lines):
                        if answer.lines == [secret] and len(replies) == len(lines) and not self._frames.answers:
                            return replies
                        self.close()
                        return []
                    reply.lines += answer.lines
                    reply.error = answer.error
                    due -= 1
                    if not due or reply.error is not None:
                        replies.append(reply)
                        reply, due = Reply(), self._due(lines, len(replies))
                left = until - time.monotonic()
                ready = both.select(left) if left > 0 else []
                if not ready:
                    self.close()
                    return replies
                for key, _ in ready:
                    if key.fd == self._out:
                        self._read()
                    else:
                        payload = self._write(payload)
                        if not payload:
                            both.unregister(self._in)
        return replies

    def _payload(self, line: Line, files: Iterator[int]) -> bytes:
        """The line as bytes for tmux, its texts put where tmux will read them."""
        loads = [["load-buffer", "-b", buffer, self._put(next(files), body)] for buffer, body in line.texts]
        return join([*loads, *line.commands]).encode() + b"\n"

    def _put(self, index: int, body: bytes) -> str:
        try:
            return path_word(self._bodies.put(index, body))
        except (OSError, OrcError):
            return UNREADABLE

    @staticmethod
    def _due(lines: list[Line], index: int) -> int:
        """How many answers the line with this index gets."""
        return lines[index].replies + len(lines[index].texts) if index < len(lines) else 0

    def _write(self, payload: memoryview) -> memoryview:
        try:
            return payload[os.write(self._in, payload) :]
        except BlockingIOError:
            return payload
        except OSError:
            self.close()
            return payload[:0]

    def _read(self) -> None:
        """Take in what has come, without waiting."""
        while self.alive:
            try:
                data = os.read(self._out, 1 << 18)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            self._frames.feed(data)
            if not data or self._frames.exited:
                self.close()

    def drain(self) -> list[str]:
        """The notifications that have come; `alive` is false afterwards if the server is gone."""
        self._read()
        notes = list(self._frames.notes)
        self._frames.notes.clear()
        return notes

    def close(self) -> None:
        """Leave. What tmux has not read of our bodies by now is never typed."""
        if not self.alive:
            return
        self.alive = False
        self._bodies.drop()
        assert self._client.stdin is not None and self._client.stdout is not None
        self._client.stdin.close()
        self._client.stdout.close()
        try:
            self._client.wait(0.2)
        except subprocess.TimeoutExpired:
            self._client.kill()
            self._client.wait()
