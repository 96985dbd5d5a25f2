"""One task that a command does: its process group, what it prints, and its end.

The command reads the payload from standard input, and finds the rest in `ORC_TASK_*`. What it prints is passed on as
it comes, never faster than the reader takes it, and the end of it is kept. When it has ended, what it left in its
process group is killed, so that no two attempts at a task run at once. It dies with its worker: the kernel kills the
command, `guard` what it started.
"""

from __future__ import annotations

import functools
import os
import select
import signal
import subprocess
import sys
from typing import IO

from tmux_orchestrator.ground import children, clock, fastjson, handover
from tmux_orchestrator.work import guard
from tmux_orchestrator.work.message import Message

_KEPT = 4096  # bytes of the end of what it prints
_PART = 4096  # bytes: of so many, a pipe that says that it has room takes all
_LEFT = 512  # parts that are read after its end: more than a pipe holds comes from who left its process group
_SMALL = 32_768  # bytes of a payload that the environment still holds
_SECOND = 1_000_000_000


class Guard:
    """The process that ends the groups of a worker that is no more; if it dies itself, another is told of them all."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._groups: set[int] = set()
        self.pidfd = -1  # readable when it has died

    def ready(self) -> int:
        """The descriptor on which a command names itself."""
        if self._process is None:
            self._start()
        self.renew()
        return self._pipe()

    def renew(self) -> None:
        """Start another if it has died."""
        if self._process is not None and self._process.poll() is not None:
            self.close()
            self._start()

    def _start(self) -> None:
        argv = [sys.executable, "-I", "-S", guard.__file__]
        null = subprocess.DEVNULL
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=null, stderr=null, bufsize=0, start_new_session=True, cwd="/"
        )
        self.pidfd = os.pidfd_open(self._process.pid)
        for group in self._groups:
            self._say(b"+", group)

    def add(self, group: int) -> None:
        self._groups.add(group)  # it has said so itself

    def remove(self, group: int) -> None:
        self._groups.discard(group)
        self._say(b"-", group)

    def _say(self, sign: bytes, group: int) -> None:
        try:
            os.write(self._pipe(), b"%b%d\n" % (sign, group))
        except OSError:
            pass  # it is gone: the next one hears of it

    def _pipe(self) -> int:
        assert self._process is not None and self._process.stdin is not None
        return self._process.stdin.fileno()

    def close(self) -> None:
        """It kills whatever still runs, and ends."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()
            os.close(self.pidfd)
            self._process, self.pidfd = None, -1


class _Stream:
    """One of the two that the command prints to."""

    def __init__(self, source: IO[bytes], target: int) -> None:
        os.set_blocking(source.fileno(), False)
        self._source, self._target = source, target
        self.waiting = b""  # what the reader has no room for yet

    def fd(self) -> int:
        """What to wait for; -1: nothing comes, or it has to wait for the reader."""
        return -1 if self.waiting or self._source.closed else self._source.fileno()

    def pass_on(self, tail: bytearray) -> bool:
        """Take some and give it on; False when there is nothing now, or no room."""
        if not self.waiting:
            self.waiting = self._read()
            tail += self.waiting
            del tail[:-_KEPT]
        if not self.waiting:
            return False
        try:
            if self._target >= 0:
                if not _has_room(self._target):
                    return False
                self.waiting = self.waiting[os.write(self._target, self.waiting) :]
                return True
        except BlockingIOError:
            return False
        except OSError:
            self._target = -1  # nobody reads it any more: it is only kept
        self.waiting = b""
        return True

    def _read(self) -> bytes:
        part = None if self._source.closed else self._source.read(_PART)
        if part == b"":
            self.close()
        return part or b""

    def close(self) -> None:
        self._source.close()


class Errand:
    """Started when it is made. Raises OSError when the command cannot be run."""

    def __init__(self, message: Message, argv: list[str], keeper: Guard) -> None:
        self.message = message
        self.code: int | None = None  # of the command, once it has ended: as a shell says it
        self.lost = False  # somebody else's by now: what comes of it counts for nothing
        self.extend_at = self.ends_at = self.settle_at = 0  # boot clock: of the lease; when to say again how it ended
        self._kill_at = self._after = 0
        self._tail = bytearray()
        self._keeper = keeper
        self._process = _spawn(argv, message, keeper.ready())
        keeper.add(self._process.pid)
        assert self._process.stdout is not None and self._process.stderr is not None
        self._streams = [_Stream(self._process.stdout, 1), _Stream(self._process.stderr, 2)]
        self._pidfd = os.pidfd_open(self._process.pid)

    def fds(self) -> list[int]:
        """What to wait for."""
        return [self._pidfd, *(stream.fd() for stream in self._streams)]

    def is_held_up(self) -> bool:
        """Does it wait for whoever reads what it prints?"""
        return any(stream.waiting for stream in self._streams)

    def work(self) -> bool:
        """Pass on what it printed, see whether it ended; True when it has, and all it printed is passed on."""
        moved = [stream.pass_on(self._tail) for stream in self._streams]
        if self.code is not None:
            self._after += sum(moved)
        elif _has_ended(self._process.pid):
            self._signal(signal.SIGKILL)  # what it left; its number is its own until it is waited for
            code = self._process.wait()
            self._keeper.remove(self._process.pid)
            self.code = 128 - code if code < 0 else code
            os.close(self._pidfd)
            self._pidfd = -1
            return False
        is_dry = not any(moved) or self._after > _LEFT
        return self.code is not None and is_dry and not self.is_held_up()

    def end(self, grace: float) -> None:
        """Ask the command to end, and see that it does within so many seconds."""
        if not self._kill_at:
            self._kill_at = clock.boot_ns() + int(grace * _SECOND)
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGCONT)  # one that is stopped would not hear it

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def insist(self) -> int | None:
        """Kill what was asked to end and did not in time; when to ask again."""
        if not self._kill_at or self.code is not None:
            return None
        if clock.boot_ns() >= self._kill_at:
            self.kill()
            return None
        return self._kill_at

    def _signal(self, number: int) -> None:
        if self.code is None:
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                pass

    def output(self) -> str:
        """The end of what it printed."""
        return self._tail.decode("utf-8", "replace")

    def close(self) -> None:
        for stream in self._streams:
            stream.close()


def _spawn(argv: list[str], message: Message, told: int) -> subprocess.Popen[bytes]:
    text = fastjson.dumps(message.payload)
    payload = os.memfd_create("payload")
    try:
        os.write(payload, text.encode("ascii") + b"\n")
        os.lseek(payload, 0, os.SEEK_SET)
        return subprocess.Popen(
            argv,
            stdin=payload,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=_environment(message, text),
            process_group=0,
            umask=handover.callers_umask(),
            preexec_fn=functools.partial(_begin, os.getpid(), told),
        )
    finally:
        os.close(payload)


def _begin(worker: int, told: int) -> None:
    """In the child, before it is the command."""
    children.die_with_parent(worker)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        os.write(told, b"+%d\n" % os.getpid())
    except OSError:
        pass  # the guard has just died: the worker will tell the next one
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def _environment(message: Message, text: str) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("ORC_TASK_")}
    said = {
        "ID": message.task_id,
        "TYPE": message.type,
        "SENDER": message.sender,
        "RECIPIENT": message.recipient,
        "PRIORITY": str(message.priority),
        "ATTEMPT": str(message.attempt),
        "CORRELATION_ID": message.correlation_id or "",
        "TOKEN": message.token,
    }
    if len(text) <= _SMALL:
        said["PAYLOAD"] = text
    return env | {f"ORC_TASK_{name}": value for name, value in said.items()}


def _has_room(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(0))


def _has_ended(pid: int) -> bool:
    """Without waiting for it, so that its number stays its own."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
