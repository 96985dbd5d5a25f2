"""Real tmux for tests: a private server on a socket of its own, panes in it, and a program that records bytes.

    with Server() as server:
        recorder = Recorder(server)
        ...                                   # type into recorder.pane with Tmux(server.socket)
        assert recorder.settled() == b"..."

Nothing here touches tmux's default socket, and everything that was started is ended.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from types import TracebackType

RECORDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "programs", "recorder.py")
START = b"\x1b[200~"
END = b"\x1b[201~"
_MARK_BYTES = 32
_MARK = re.compile(b"[\x0e\x0f]{%d}" % _MARK_BYTES)


def recorded(path: str) -> bytes:
    """What a recorder has written down so far, without the marks."""
    return _MARK.sub(b"", raw(path))


def raw(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def wait_until(condition: Callable[[], object], seconds: float = 10.0, what: str = "") -> None:
    """Wait for the condition to hold, with a bound."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what or condition}")
        time.sleep(0.005)


class Server:
    """A tmux server with an empty configuration; it starts with the first pane."""

    def __init__(self, width: int = 100, height: int = 30) -> None:
        self.folder = tempfile.mkdtemp(prefix="orc-test-")
        self.socket = self.folder + "/socket"
        self.size = ["-x", str(width), "-y", str(height)]
        self.env = {k: v for k, v in os.environ.items() if k not in ("TMUX", "TMUX_PANE")}
        self.env["TMUX_TMPDIR"] = self.folder
        self._count = 0

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def tmux(self, *argv: str, check: bool = True) -> str:
        """Run one tmux command on this server; what it printed."""
        command = ["tmux", "-S", self.socket, "-f", "/dev/null", *argv]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=20, check=False)
        if check and done.returncode:
            raise AssertionError(f"tmux {argv}: {done.stderr}")
        return done.stdout.removesuffix("\n")

    def start(self, argv: list[str], session: str = "", remain: bool = True) -> tuple[str, int]:
        """Run argv as a pane's own process, in a session of its own; the pane's id and the process's pid."""
        self._count += 1
        told = ["-P", "-F", "#{pane_id} #{pane_pid}"]
        name = session or f"s{self._count}"
        keep = [";", "set-option", "-w", "-t", f"={name}:", "remain-on-exit", "on"] if remain else []
        pane, pid = self.tmux("new-session", "-d", *self.size, *told, "-s", name, "--", *argv, *keep).split()
        wait_until(lambda: not _is_tmux(pid), what="the program's start")
        return pane, int(pid)

    def screen(self, pane: str) -> str:
        return self.tmux("capture-pane", "-p", "-t", pane)

    def show(self, pane: str, what: str) -> str:
        """The value of one tmux format for the pane."""
        return self.tmux("display-message", "-p", "-t", pane, what)

    def mark(self, pane: str) -> bytes:
        """Put a mark behind everything that has been typed into the pane, past every guard and mode; the mark.

        Programs take nothing of it for a key: a control character each, so that no read can cut one in two.
        """
        mark = "".join("\x0e\x0f"[byte & 1] for byte in os.urandom(_MARK_BYTES))
        self.tmux("set-buffer", "-b", "mark", mark, ";", "paste-buffer", "-r", "-d", "-b", "mark", "-t", pane)
        return mark.encode()

    @property
    def pid(self) -> int:
        return int(self.tmux("display-message", "-p", "#{pid}"))

    def kill(self) -> None:
        """kill -9 of the server, as a crash would; returns when it is gone."""
        pid = self.pid
        watch = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(watch, signal.SIGKILL)
            wait_until(lambda: not os.path.exists(f"/proc/{pid}") or _zombie(pid), what="the server's end")
        finally:
            os.close(watch)

    def close(self) -> None:
        """End the server, by its pid if it does not listen to reason: one that was stopped answers nobody."""
        pid = self._listener()
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.tmux("kill-server", check=False)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _listener(self) -> int:
        """The process behind the socket, whether it answers or not; 0 if there is none."""
        with socket.socket(socket.AF_UNIX) as one:
            try:
                one.connect(self.socket)
            except OSError:
                return 0
            return int(struct.unpack("3i", one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])


def _is_tmux(pid: str) -> bool:
    """Has the pane's process not become the program yet? It begins as a copy of the server."""
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe")) == "tmux"
    except OSError:
        return False


def _zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] in ("Z", "X")
    except OSError:
        return True


class Recorder:
    """A pane whose program is raw, has bracketed paste on, and writes down what it is sent."""

    def __init__(self, server: Server, words: str = "", nonce: str = "c0ffee", paste: bool = True) -> None:
        self.server = server
        self.nonce = nonce
        self.log = tempfile.mktemp(prefix="typed-", dir=server.folder)
        setting = "on" if paste else "off"
        argv = ["env", f"RECORDER_PASTE={setting}", sys.executable, "-I", "-S", RECORDER, self.log, words]
        self.pane, self.pid = server.start(argv)
        server.tmux("set-option", "-p", "-t", self.pane, "@orc_nonce", nonce)
        wait_until(lambda: "ready" in server.screen(self.pane), what="the recorder's start")

    def recorded(self) -> bytes:
        """What has been recorded so far."""
        return recorded(self.log)

    def settled(self) -> bytes:
        """All bytes, after a mark put past every guard has come through: nothing can be on its way any more."""
        mark = self.server.mark(self.pane)
        wait_until(lambda: mark in raw(self.log), 60, "the mark in the recorder")
        return self.recorded()
