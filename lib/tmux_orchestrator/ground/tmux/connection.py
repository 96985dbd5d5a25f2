"""A kept connection to tmux: a control-mode client in a private session.

Invariant: a reply belongs to the line that asked for it. Every exchange ends with a command that prints a secret:
if that is not where it must be, nothing of the exchange is believed, and the connection is dropped. So is one that
does not answer in time, and with it the texts that tmux has not read by then.

A crash ends the client and leaves the session, with nobody in it; whoever connects next takes it over. (Option
destroy-unattached, which would end it, brings tmux 3.3a down when a stuck server loses one client and gets another.)
"""

from __future__ import annotations

import functools
import itertools
import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator

from tmux_orchestrator.ground import children
from tmux_orchestrator.ground.errors import OrcError, UnavailableError
from tmux_orchestrator.ground.tmux.bodies import Bodies, path_word
from tmux_orchestrator.ground.tmux.frames import SESSION, Frames, Replies
from tmux_orchestrator.ground.tmux.plain import no_server
from tmux_orchestrator.ground.tmux.words import Line, Reply, join, quote

# Its window shows nothing and reads nothing; a size of its own keeps it out of everybody's.
_ATTACH = ["new-session", "-A", "-E", "-s", SESSION, "-x", "80", "-y", "24", "-f", "no-output,ignore-size"]
_INERT = ["sleep", "infinity"]
# Whatever the user's configuration says: see above.
_STAY = ["set-option", "-t", f"={SESSION}:", "destroy-unattached", "off"]
# Stands for a text that could not be written (disk full): tmux types nothing, and the text goes another way.
UNREADABLE = "/dev/null"


class Connection:
    """A live client of the server. Raises UnavailableError, also when there is no server; it never starts one."""

    def __init__(self, base: list[str], folder: str, timeout: float = 5.0) -> None:
        self._frames = Frames()
        self._bodies = Bodies(folder)
        self._client = self._attach([*base, "-C", *_ATTACH, *_INERT, ";", *_STAY])
        assert self._client.stdin is not None and self._client.stdout is not None
        self._in = self._client.stdin.fileno()
        self._out = self._client.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        self.alive = True
        self.exchange([], timeout)
        if not self.alive:
            said = self._frames.said
            if no_server(said):
                raise UnavailableError(f"no tmux server ({said}): start an agent with orc-run, or set ORC_TMUX_SOCKET")
            raise UnavailableError(f"tmux would not be connected to ({said or 'no answer'}): look at tmux ls")

    @staticmethod
    def _attach(command: list[str]) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        try:
            return subprocess.Popen(
                command,
                stdin=pipe,
                stdout=pipe,
                stderr=subprocess.STDOUT,
                bufsize=0,
                start_new_session=True,
                # If we are killed while tmux writes to it, tmux never lets a living client go: it waits for the
                # words to be read. A dead one it clears away.
                preexec_fn=functools.partial(children.die_with_parent, os.getpid()),
            )
        except OSError as error:
            raise UnavailableError(f"cannot run tmux: {error.strerror}: install tmux") from None

    def fileno(self) -> int:
        """Readable when there are notifications, or when the server is gone."""
        return self._out

    def exchange(
        self, lines: list[Line], timeout: float, meanwhile: Callable[[], None] | None = None
    ) -> list[Reply | None] | None:
        """A reply for each line, in order; None for a line that may have run and did not answer in `timeout` seconds.

        None instead of a list: nothing was sent, the connection had already been lost. `meanwhile` is called once,
        when tmux has everything and works on it; not at all if it does not come to that.
        """
        self._read()
        if not self.alive:
            return None
        self._frames.answers.clear()
        secret = os.urandom(16).hex()
        commands = [join(line.commands) for line in lines]  # whatever cannot be said is refused before anything is sent
        replies = Replies(lines, secret)
        try:
            payloads = self._payloads(lines, commands, f"display -p {quote(secret)}\n".encode())
            self._converse(payloads, replies, time.monotonic() + timeout, meanwhile)
        finally:
            if replies.astray or not replies.complete:
                self.close()
        done: list[Reply | None] = [] if replies.astray else [*replies.done]
        return done + [None] * (len(lines) - len(done))

    def _converse(
        self, payloads: Iterator[bytes], replies: Replies, until: float, meanwhile: Callable[[], None] | None
    ) -> None:
        """Send and take in, both as it comes, until all is answered or nothing more can be expected."""
        payload = memoryview(next(payloads))
        poll = select.poll()
        poll.register(self._out, select.POLLIN)
        poll.register(self._in, select.POLLOUT)
        while self.alive and not replies.astray:
            ready = poll.poll(max(0, until - time.monotonic()) * 1000)
            if not ready:
                return
            for fd, _ in ready:
                if fd == self._out:
                    self._read()
                elif payload:
                    payload = self._write(payload)
                    if not payload and self.alive:  # else the texts have been removed, and none may follow
                        payload = memoryview(next(payloads, b""))
                    if not payload:
                        poll.unregister(self._in)
                        if meanwhile is not None and self.alive:
                            meanwhile()
            while self._frames.answers:
                replies.take(self._frames.answers.popleft())
            if replies.complete:
                return

    def _payloads(self, lines: list[Line], commands: list[str], last: bytes) -> Iterator[bytes]:
        """The lines as bytes for tmux, its texts put where tmux will read them: it works on one while we write the
        texts of the next."""
        files = itertools.count()
        for line, text in zip(lines, commands, strict=True):
            loads = [f"loadb -b {quote(buffer)} {quote(self._put(next(files), body))}" for buffer, body in line.texts]
            yield " ; ".join([*loads, text]).encode() + b"\n"
        yield last

    def _put(self, index: int, body: bytes) -> str:
        try:
            return path_word(self._bodies.put(index, body))
        except (OSError, OrcError):
            return UNREADABLE

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
        """Leave. What tmux has not read of our texts by now is never typed."""
        if not self.alive:
            return
        self.alive = False
        self._bodies.drop()
        self._client.kill()
        self._client.wait()
        assert self._client.stdin is not None and self._client.stdout is not None
        self._client.stdin.close()
        self._client.stdout.close()
