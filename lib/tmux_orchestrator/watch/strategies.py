"""How the agents are looked at, and what to do when that fails.

`concurrent` asks each tmux server once for all its agents over a kept connection; `polling` asks for one agent after
the other with a tmux process each, so that what breaks one look breaks no other. Both say the same of the same agent.
`custom` is an executable of the user's: it is given the agents as JSON lines and answers findings as JSON lines, which
are told beside our own; life and death it does not decide. A strategy that fails is left for `REST_NS`, polling takes
over, and the failure is a finding; so one look that goes wrong costs one look.
"""

from __future__ import annotations

import os
import selectors
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tmux_orchestrator.agents import state
from tmux_orchestrator.agents.control import Control
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.agents.state import Seen
from tmux_orchestrator.eventlog.event import PRIORITIES, is_word
from tmux_orchestrator.ground import clock, fastjson
from tmux_orchestrator.ground.errors import DataError, NotPermitted, OrcError, UnavailableError
from tmux_orchestrator.ground.output import clean
from tmux_orchestrator.watch.matters import Matter

POLLING, CONCURRENT, CUSTOM = "polling", "concurrent", "custom"
NAMES = (CONCURRENT, POLLING, CUSTOM)
FAILURES = 3  # in a row, after which a strategy rests
REST_NS = 300 * 10**9
_DEAF_S = 2.0  # seconds
_OUTPUT = 1 << 20  # bytes that a custom one may answer
_FINDINGS, _TEXT, _LINES = 1000, 500, 20


@dataclass(slots=True)
class Look:
    """What one look found, by which strategy, and why not by the one that was asked for."""

    seen: list[Seen]
    strategy: str
    findings: list[Matter] = field(default_factory=list)
    problem: str = ""


class Looker:
    """Looks by a strategy, and by polling where that fails."""

    def __init__(self) -> None:
        self._failures: dict[str, int] = {}
        self._rests: dict[str, int] = {}  # strategy -> until when, boot clock
        self._problems: dict[str, str] = {}

    def look(self, strategy: str, control: Control, poll: Control, agents: Sequence[Agent]) -> Look:
        """`control` has kept connections, `poll` has none. What polling cannot see either is `unknown`."""
        if strategy != POLLING and clock.boot_ns() >= self._rests.get(strategy, 0):
            try:
                found = _LOOKS[strategy](control, agents)
                self._failures[strategy] = 0
                self._problems.pop(strategy, None)
                return found
            except (OrcError, OSError, ValueError) as error:
                self._failed(strategy, str(error))
        problem = self._problems.get(strategy, "")
        return Look(_polling(poll, agents).seen, POLLING, problem=problem)

    def rests(self, strategy: str) -> bool:
        return clock.boot_ns() < self._rests.get(strategy, 0)

    def _failed(self, strategy: str, why: str) -> None:
        self._problems[strategy] = why
        self._failures[strategy] = self._failures.get(strategy, 0) + 1
        if self._failures[strategy] >= FAILURES:
            self._failures[strategy] = 0
            self._rests[strategy] = clock.boot_ns() + REST_NS


def _polling(control: Control, agents: Sequence[Agent]) -> Look:
    """One by one. A server that does not answer is asked once: of its other agents only the kernel tells."""
    seen: list[Seen] = []
    deaf: set[str] = set()
    for agent in agents:
        begin = time.monotonic()
        if agent.socket in deaf:
            seen.append(state.judge(agent, None, None, control.profile(agent), answered=False))
        else:
            seen += control.look([agent])
        if time.monotonic() - begin > _DEAF_S:
            deaf.add(agent.socket)
    return Look(seen, POLLING)


def _concurrent(control: Control, agents: Sequence[Agent]) -> Look:
    return Look(control.look(list(agents)), CONCURRENT)


def _custom(control: Control, agents: Sequence[Agent]) -> Look:
    seen = control.look(list(agents))
    settings = control.settings
    answer = run(settings.get("monitoring.custom"), seen, settings.get("monitoring.custom_timeout"))
    return Look(seen, CUSTOM, findings(answer, {one.agent.key: one.agent for one in seen}))


_LOOKS: dict[str, Callable[[Control, Sequence[Agent]], Look]] = {CONCURRENT: _concurrent, CUSTOM: _custom}


# the user's own executable


def check(path: str) -> None:
    """Raises DataError or NotPermitted unless it is a program that only the user, or root, could have put there."""
    if not path.startswith("/"):
        raise DataError(f"monitoring.custom {path!r} is no absolute path: name the executable")
    try:
        found = os.stat(path)
    except OSError as error:
        raise DataError(f"monitoring.custom {path}: {error.strerror}: name an executable") from None
    if not stat.S_ISREG(found.st_mode) or not os.access(path, os.X_OK):
        raise DataError(f"monitoring.custom {path} is no executable: run chmod +x")
    if found.st_uid not in (os.geteuid(), 0) or found.st_mode & 0o022:
        raise NotPermitted(f"monitoring.custom {path} could be another user's: run chmod go-w, and own it")


def run(path: str, seen: Sequence[Seen], timeout: float) -> bytes:
    """What the executable answers. It and all it started are killed at the timeout, in seconds.

    Raises DataError when it fails or says too much, UnavailableError at the timeout.
    """
    check(path)
    asked = "".join(fastjson.dumps(_told(one)) + "\n" for one in seen).encode("ascii")
    child = subprocess.Popen(
        [path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        answer = _converse(child, asked, time.monotonic() + timeout)
        code = child.wait(0.1 if answer is None else timeout)
    except subprocess.TimeoutExpired:
        answer = None
    finally:
        _kill(child)
    if answer is None:
        raise UnavailableError(f"{path} did not end within {timeout:g} s and was killed: make it quicker")
    if code:
        raise DataError(f"{path} ended with status {code}: run it by hand with an agent's line")
    return answer


def _told(one: Seen) -> dict[str, Any]:
    lines = [line for line in one.screen.text if line.strip()][-_LINES:] if one.screen else []
    return one.record() | {"agent": one.agent.key, "session": one.agent.session, "why": one.why, "screen": lines}


def _converse(child: subprocess.Popen[bytes], asked: bytes, end: float) -> bytes | None:
    """Write and read, both as it comes; None at the end of the time. Raises DataError for too long an answer."""
    assert child.stdin is not None and child.stdout is not None
    answer, left = b"", memoryview(asked)
    with selectors.DefaultSelector() as ready:
        os.set_blocking(child.stdin.fileno(), False)
        ready.register(child.stdin, selectors.EVENT_WRITE)
        ready.register(child.stdout, selectors.EVENT_READ)
        while ready.get_map():
            seconds = end - time.monotonic()
            events = ready.select(max(0.0, seconds))
            if seconds <= 0 or not events:
                return None
            for key, _ in events:
                if key.fileobj is child.stdin:
                    left = _write(child, left)
                    if not left:
                        ready.unregister(child.stdin)
                        child.stdin.close()
                    continue
                block = os.read(child.stdout.fileno(), 1 << 16)
                answer += block
                if len(answer) > _OUTPUT:
                    raise DataError(f"{child.args} answered more than {_OUTPUT} bytes: say less")  # type: ignore[str-bytes-safe]
                if not block:
                    return answer
    return answer


def _write(child: subprocess.Popen[bytes], left: memoryview) -> memoryview:
    assert child.stdin is not None
    try:
        return left[os.write(child.stdin.fileno(), left) :]
    except BlockingIOError:
        return left
    except BrokenPipeError:  # it need not read what it does not want
        return left[:0]


def _kill(child: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    child.wait()
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            stream.close()


def findings(answer: bytes, agents: dict[str, Agent]) -> list[Matter]:
    """The findings of an answer: {"agent", "issue_type", "text"} and, if wanted, "priority", a line each.

    Raises DataError for anything else: who answers garbage has failed.
    """
    found: list[Matter] = []
    for number, line in enumerate(answer.split(b"\n"), 1):
        if not line.strip():
            continue
        if len(found) >= _FINDINGS:
            raise DataError(f"more than {_FINDINGS} findings: say less")
        found.append(_finding(line, number, agents))
    return found


def _finding(line: bytes, number: int, agents: dict[str, Agent]) -> Matter:
    try:
        one = fastjson.loads(line)
        agent, kind, text = one["agent"], one["issue_type"], one["text"]
        priority = one.get("priority", "normal")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"line {number} of the answer is no finding: agent, issue_type and text are wanted") from None
    texts = all(isinstance(value, str) for value in (agent, text, priority))
    if not texts or agent not in agents or not is_word(kind) or priority not in PRIORITIES:
        raise DataError(f"line {number} of the answer: an agent, issue_type or priority that does not exist")
    context = {"agent": agent, "session": agents[agent].session, "issue_type": kind, "strategy": CUSTOM}
    said = clean(text)[:_TEXT]
    return Matter(f"custom-{kind}", agent, f"{agent}: {said}", said, agents[agent].session, (), priority, context)
