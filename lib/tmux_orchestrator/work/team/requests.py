"""What other processes ask of the running supervisor: private files in logs/run/team/asked/, each answered by one.

A request is put there whole (`ID.ask`), the supervisor takes it away and, when it is done, puts its answer (`ID.told`)
there, which whoever asked takes away. What nobody took is removed when a supervisor starts. The folder is private to
the user; a file in it that is no request is removed, and answered if that can be done.
"""

from __future__ import annotations

import os
import time
from typing import Any

from tmux_orchestrator.agents import crew
from tmux_orchestrator.ground import fastjson, files, pidfile
from tmux_orchestrator.ground.errors import GaveUp, OrcError, UnavailableError
from tmux_orchestrator.ground.paths import Home

START, STOP, RESTART, END = "start", "stop", "restart", "end"  # the last one: of all, and the supervisor
WORDS = (START, STOP, RESTART, END)
_ASK, _TOLD = ".ask", ".told"
_LIMIT = 1 << 16
_NAP = 0.01
_AWAY = "the team's supervisor does not run: start it with orc-team start"


def folder(home: Home) -> str:
    return crew.folder(home) + "/asked"


def put(home: Home, word: str, agents: list[str], force: bool) -> str:
    """Ask, and wait for no answer; the request's path without its ending. Raises UnavailableError."""
    if not os.path.isdir(folder(home)):
        raise UnavailableError(_AWAY)
    name = f"{folder(home)}/{os.urandom(8).hex()}"
    request = {"word": word, "agents": agents, "force": force}
    files.replace(name + _ASK, fastjson.dumps(request).encode("ascii"), sync=False)
    return name


def ask(home: Home, word: str, agents: list[str], force: bool, timeout: float) -> dict[str, str]:
    """What became of each agent, as the supervisor tells it. Raises UnavailableError, GaveUp."""
    pid = pidfile.running(home, "team")
    if pid is None:
        raise UnavailableError(_AWAY)
    name = put(home, word, agents, force)
    end = time.monotonic() + timeout
    try:
        while time.monotonic() < end:
            told = files.read(name + _TOLD, _LIMIT)
            if told is not None:
                return {agent: str(state) for agent, state in fastjson.loads(told).items()}
            if pidfile.running(home, "team") != pid:
                raise UnavailableError("the team's supervisor ended meanwhile: see orc-team status")
            time.sleep(_NAP)
    finally:
        for ending in (_ASK, _TOLD):
            _remove(name + ending)
    raise GaveUp(f"the team's supervisor did not answer within {timeout:.0f} s: see logs/team.out")


class Request:
    """One that was asked, and whom it is about."""

    def __init__(self, name: str, word: str, agents: list[str], force: bool) -> None:
        self.name, self.word, self.agents, self.force = name, word, agents, force


class Desk:
    """The supervisor's side."""

    def __init__(self, home: Home) -> None:
        self._folder = folder(home)
        files.make_dir(self._folder)
        for name in os.listdir(self._folder):
            if not (name.endswith(_ASK) and _is_for_us(home, f"{self._folder}/{name}")):
                _remove(f"{self._folder}/{name}")

    @property
    def folder(self) -> str:
        return self._folder

    def take(self) -> list[Request]:
        """What was asked since, the oldest first."""
        found = []
        for name in os.listdir(self._folder):
            if name.endswith(_ASK):
                path = f"{self._folder}/{name}"
                try:
                    found.append((os.stat(path).st_mtime_ns, path))
                except OSError:
                    continue
        return [request for _, path in sorted(found) if (request := self._read(path)) is not None]

    def _read(self, path: str) -> Request | None:
        name = path.removesuffix(_ASK)
        try:
            given: dict[str, Any] = fastjson.loads(files.read(path, _LIMIT) or b"")
            word, agents, force = given["word"], given["agents"], given["force"]
            if (
                word in WORDS
                and type(force) is bool
                and type(agents) is list
                and all(type(one) is str for one in agents)
            ):
                return Request(name, word, list(agents), force)
        except (OSError, OrcError, ValueError, KeyError, TypeError, AttributeError):
            pass
        finally:
            _remove(path)
        return None

    def tell(self, request: Request, states: dict[str, str]) -> None:
        """Raises SystemFailure."""
        files.replace(request.name + _TOLD, fastjson.dumps(states).encode("ascii"), sync=False)


def _is_for_us(home: Home, path: str) -> bool:
    """Was it asked since this process has the pid file? From then on others see that there is a supervisor."""
    try:
        return os.lstat(path).st_mtime_ns >= os.stat(home.pid_file("team")).st_mtime_ns
    except OSError:
        return False


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
