"""How fast this machine brings words into a pane: a scratch system, real from end to end, and a clock at both ends.

A home, a tmux server and a broker of its own, and a program in a pane that notes when it has read what. The clock
starts before the append (or before `orc-publish` is started) and stops when the program in the pane has the words.
The limits are off, durability is on. Everything that was started is ended, by its pid, whatever happens; only a
kill -9 of this process leaves something behind.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from tmux_orchestrator.eventlog import event
from tmux_orchestrator.eventlog.daylog import Log
from tmux_orchestrator.eventlog.event import PRIORITIES
from tmux_orchestrator.ground import output, pidfile
from tmux_orchestrator.ground.errors import OrcError, UnavailableError
from tmux_orchestrator.ground.paths import CODE, Home
from tmux_orchestrator.ground.tmux import Tmux
from tmux_orchestrator.insight import latency, words
from tmux_orchestrator.insight.latency import TARGETS_MS

_PATIENCE_S = 20.0
_SESSION, _NAME = "measure", "recorder"
_CONFIG = """\
monitoring: {max_messages_per_minute: 0}
delivery: {critical_per_minute: 0, pair_per_minute: 0, max_typed_bytes: 65536, queue_size: 100000}
"""
_SOURCE = {"type": "human", "identifier": "measure", "session": None, "host": None, "verified": False}
APPENDED, SPAWNED = "appended", "spawned"
_HEADS = {
    APPENDED: "from the append to the words in the pane, publisher already running",
    SPAWNED: "from the start of orc-publish to the words in the pane",
}

Samples = dict[str, list[float]]  # priority -> milliseconds


@dataclass(slots=True)
class Measured:
    """Milliseconds of each way and priority; `folder` is where the log lay."""

    count: int
    folder: str
    ways: dict[str, Samples]

    def document(self) -> dict[str, Any]:
        told: dict[str, Any] = {"count": self.count, "folder": self.folder}
        for way, samples in self.ways.items():
            told[way + "_ms"] = {priority: _figures(samples[priority], priority) for priority in PRIORITIES}
        return told


def _figures(samples: list[float], priority: str) -> dict[str, Any]:
    ordered, target = sorted(samples), TARGETS_MS[priority]
    return {
        "min": round(ordered[0], 2),
        "median": round(latency.percentile(ordered, 50) or 0.0, 2),
        "p95": round(latency.percentile(ordered, 95) or 0.0, 2),
        "max": round(ordered[-1], 2),
        "target": target,
        "within_target": round(sum(sample <= target for sample in ordered) / len(ordered), 4),
    }


def render(measured: Measured) -> list[str]:
    """The report for people."""
    told, lines = measured.document(), []
    for way in measured.ways:
        head = f"{'':<10}{'Min':>10}{'Median':>10}{'P95':>10}{'Max':>10}   Within Target"
        lines += [_HEADS[way], output.paint(head, "bold")]
        for priority, one in told[way + "_ms"].items():
            times = "".join(f"{words.ms(one[name]):>10}" for name in ("min", "median", "p95", "max"))
            lines.append(f"{priority:<10}{times}   {words.share(one['within_target'])} of {one['target']:g} ms")
        lines.append("")
    count = words.count(measured.count, "message")
    return [*lines, f"{count} of each priority, limits off, on disk each; the log lay in {measured.folder}"]


def measure(count: int, folder: str) -> Measured:
    """Send `count` messages of each priority, both ways. `folder` is where the scratch home is made, if it is there."""
    if not os.access(folder, os.W_OK):
        folder = tempfile.gettempdir()
    with ExitStack() as stack:
        stack.enter_context(_ended_by_signals())
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="orc-measure-", dir=folder))
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="orc-measure-"))  # a socket's path must be short
        system = stack.enter_context(_System(scratch, place))
        ways = {APPENDED: system.send(count, system.append), SPAWNED: system.send(count, system.spawn)}
    return Measured(count, folder, ways)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and a closed terminal end it as Ctrl-C does, with everything cleaned up."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


class _System:
    """The scratch system: everything that runs, and the pipe through which the recorder tells."""

    def __init__(self, root: str, place: str) -> None:
        self.home = Home(root)
        self.socket = place + "/tmux"
        self._pipe = place + "/pipe"
        # No setting of the caller's, and no tmux.conf: plugins in there would bring old sessions back.
        env = {k: v for k, v in os.environ.items() if not k.startswith(("ORC_", "ORCHESTRATOR_", "TMUX", "XDG_"))}
        self._env = env | {"ORC_HOME": root, "ORC_TMUX_SOCKET": self.socket, "HOME": place, "TMUX_TMPDIR": place}
        self._read = -1
        self._buffer = b""
        self._tail = ""
        self._started: dict[str, int] = {}  # word -> when it was sent, ns
        self._took: dict[str, float] = {}  # word -> milliseconds
        self._children: list[subprocess.Popen[bytes]] = []
        self._broker: subprocess.Popen[bytes] | None = None
        self._log: Log | None = None

    def __enter__(self) -> _System:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop()

    # the two ways

    def append(self, word: str, priority: str) -> None:
        assert self._log is not None
        made = event.build(word, dict(_SOURCE), targets=[f"{_SESSION}:{_NAME}"], type="message", priority=priority)
        self._started[word] = time.time_ns()
        self._log.append([made])

    def spawn(self, word: str, priority: str) -> None:
        self._children = [child for child in self._children if child.poll() is None]
        self._started[word] = time.time_ns()
        self._children.append(self._popen("orc-publish", "-t", f"{_SESSION}:{_NAME}", "-p", priority, word))

    def send(self, count: int, way: Callable[[str, str], None]) -> Samples:
        """One after the other, each when the one before was read. Low ones are gathered meanwhile, as always."""
        sent: dict[str, list[str]] = {priority: [] for priority in PRIORITIES}
        for number in range(count):
            for priority in PRIORITIES:
                word = f"{priority}-{way.__name__}-{number}."
                way(word, priority)
                sent[priority].append(word)
                if priority != "low":
                    self._wait_for(word)
        for word in sent["low"]:
            self._wait_for(word)
        for child in self._children:
            child.wait()
        self._children.clear()
        return {priority: [self._took[word] for word in sent[priority]] for priority in PRIORITIES}

    def _wait_for(self, word: str) -> None:
        end = time.monotonic() + _PATIENCE_S
        while word not in self._took:
            if not self._take(end - time.monotonic()):
                raise UnavailableError(f"{word!r} did not reach the pane in {_PATIENCE_S:g} s: {self._last_words()}")

    def _take(self, seconds: float) -> bool:
        """Take in what the recorder tells; False when it tells nothing for so long."""
        ready = select.poll()  # not select: a process may have more than 1,024 files open
        ready.register(self._read, select.POLLIN)
        if not ready.poll(max(0.0, seconds) * 1000):
            return False
        data = os.read(self._read, 1 << 20)
        self._buffer += data
        while b"\n" in self._buffer:
            head, _, rest = self._buffer.partition(b"\n")
            now, length = map(int, head.split())
            if len(rest) < length:
                break
            self._note(now, rest[:length].decode("utf-8", "replace"))
            self._buffer = rest[length:]
        return bool(data)

    def _note(self, now: int, text: str) -> None:
        """A frame may come in pieces: the words end in a dot, and no piece begins within one often."""
        text = self._tail + text
        self._tail = text[-64:]
        for word in [word for word in self._started if word in text]:
            self._took[word] = (now - self._started.pop(word)) / 1e6

    # start and end

    def _start(self) -> None:
        with open(self.home.config_file, "w", encoding="utf-8") as file:
            file.write(_CONFIG)
        os.mkfifo(self._pipe, 0o600)
        self._read = os.open(self._pipe, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._run_recorder()
        if not self._take(_PATIENCE_S):
            raise UnavailableError("the recorder did not start in its pane: see that tmux works, with orc-doctor")
        self._broker = self._popen("orc-broker", out=self.home.root + "/broker.out")
        end = time.monotonic() + _PATIENCE_S
        while pidfile.running(self.home, "broker") != self._broker.pid:
            if self._broker.poll() is not None or time.monotonic() > end:
                raise UnavailableError(f"the broker did not start: {self._last_words()}")
            time.sleep(0.005)
        self._log = Log(self.home)

    def _run_recorder(self) -> None:
        program = [sys.executable, "-I", "-S", os.path.dirname(os.path.abspath(__file__)) + "/recorder.py", self._pipe]
        argv = [CODE + "/bin/orc-run", _NAME, "--session", _SESSION, "--profile", "plain", "--", *program]
        done = subprocess.run(
            argv, env=self._env, cwd=self.home.root, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip()
            raise UnavailableError(f"the scratch agent does not start ({said}): see orc-doctor")

    def _popen(self, command: str, *argv: str, out: str = os.devnull) -> subprocess.Popen[bytes]:
        with open(out, "ab") as file:
            return subprocess.Popen(
                [f"{CODE}/bin/{command}", *argv],
                env=self._env,
                cwd=self.home.root,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def _last_words(self) -> str:
        try:
            with open(self.home.root + "/broker.out", encoding="utf-8", errors="replace") as file:
                return file.read().strip().split("\n")[-1] or "the broker said nothing"
        except OSError:
            return "the broker said nothing"

    def _stop(self) -> None:
        if self._log is not None:
            self._log.close()
        children = [*self._children, *([self._broker] if self._broker else [])]
        for child in children:
            child.terminate()
        for child in children:
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._end_server()
        if self._read >= 0:
            os.close(self._read)

    def _end_server(self) -> None:
        try:
            server = Tmux(self.socket)
            pid = os.pidfd_open(server.server()[0])
        except (OrcError, OSError):
            return
        try:
            server.run("kill-server")
        except OrcError:
            pass  # it ends before it answers
        try:
            if not pidfile.wait_end(pid, 5):
                signal.pidfd_send_signal(pid, signal.SIGKILL)
        finally:
            os.close(pid)
