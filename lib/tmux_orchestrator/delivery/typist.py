"""Looking at panes and typing into them: what may be typed now, the keystrokes, and what the screen says after.

Nothing is typed on a guess. The pane must be the registered process on the registered server; a profile with an
input box must show it, empty, with no dialog. What was seen goes along as a guard that tmux itself checks in the
same step as the paste, so what changes in between refuses the paste instead of receiving it.
The typist keeps no state but its connections; who waits for what is the lane's business.
"""

from __future__ import annotations

import os
import termios
from dataclasses import replace

from tmux_orchestrator.agents import screen
from tmux_orchestrator.agents.profiles import PLAIN, Profile
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.ground import clock, proc, tmux
from tmux_orchestrator.ground.errors import UnavailableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tmux_orchestrator.ground.tmux import Guard, Screenshot

_BACKOFF_NS = (200_000_000, 5_000_000_000)
_STARTING_NS = 5_000_000_000  # in which a program without an input box should have taken its terminal over


class View:
    """What was seen of one agent: `reason` is why nothing can be typed now ("" if it can)."""

    __slots__ = ("guard", "reason", "screen")

    def __init__(self, reason: str, guard: Guard | None = None, seen: screen.Screen | None = None) -> None:
        self.reason, self.guard, self.screen = reason, guard, seen

    def ignore_cursor(self) -> None:
        """For a screen that never stands still: the dialogs and the box were seen a moment ago."""
        if self.guard is not None:
            self.guard = replace(self.guard, cursor=None)

    def shows(self, mark: str) -> bool:
        """Does the screen hold this text, however it is wrapped?"""
        return self.screen is not None and mark in "".join("".join(self.screen.text).split())

    def drafts(self, mark: str) -> bool:
        """Does the input box hold it?"""
        return self.screen is not None and mark in "".join(self.screen.draft.split())

    def in_composer(self, mark: str) -> bool:
        """Is it (or a paste that hides it) still in the input box?"""
        return self.drafts(mark) or (self.screen is not None and "[Pasted" in self.screen.draft)


class Typist:
    """Types through one kept connection per tmux server; a server that is away is asked again with backoff."""

    def __init__(self, profiles: dict[str, Profile], default_socket: str) -> None:
        self.profiles = profiles
        self._default = default_socket
        self._servers: dict[str, tmux.Tmux] = {}
        self._retry: dict[str, tuple[int, int]] = {}  # socket -> (not before this boot ns, pause)

    def profile(self, agent: Agent) -> Profile:
        return self.profiles.get(agent.profile) or self.profiles[PLAIN]

    def look(self, agents: list[Agent], closely: set[str]) -> dict[str, View]:
        """What can be typed to each, by the agent's key; the panes of a server are looked at in one go.

        Where there is no input box to see, the guard alone judges, except for the agents named in `closely`.
        """
        views: dict[str, View] = {}
        by_socket: dict[str, list[Agent]] = {}
        for agent in agents:
            if not agent.alive():
                views[agent.key] = View("agent_gone")
            elif self.profile(agent).composer is None and _is_starting(agent):
                views[agent.key] = View("starting")
            elif self.profile(agent).composer is None and agent.key not in closely:
                views[agent.key] = View("", self._guard(agent, None))
            else:
                by_socket.setdefault(agent.socket or self._default, []).append(agent)
        for socket, those in by_socket.items():
            try:
                server = self._server(socket)
                shots = server.look([agent.pane for agent in those])
            except UnavailableError:
                self._lost(socket)
                views.update({agent.key: View("no_server") for agent in those})
                continue
            for agent in those:
                views[agent.key] = self._judge(agent, shots.get(agent.pane))
        return views

    def type(self, frames: list[tuple[Agent, View, str]], meanwhile: Callable[[], None] | None = None) -> list[str]:
        """Paste and submit each frame: "typed", or the reason why nothing was. In this order, guarded each.

        A profile that wants a pause before its submit key gets the paste only; `submit` follows.
        `meanwhile` is called at most once, while a server works on its frames.
        """
        results = [""] * len(frames)
        by_socket: dict[str, list[int]] = {}
        for number, (agent, _, _) in enumerate(frames):
            by_socket.setdefault(agent.socket or self._default, []).append(number)
        for socket, numbers in by_socket.items():
            batch = []
            for number in numbers:
                agent, view, text = frames[number]
                profile = self.profile(agent)
                key = None if profile.pause_ms else profile.key
                assert view.guard is not None
                batch.append((agent.pane, view.guard, text.encode("utf-8"), key))
            try:
                server = self._server(socket)
                answers = server.type_many(batch, meanwhile)
                meanwhile = None
            except UnavailableError:
                self._lost(socket)
                answers = ["no_server"] * len(numbers)
            for number, answer in zip(numbers, answers, strict=True):
                results[number] = _REASONS.get(answer, answer)
        return results

    def submit(self, agent: Agent) -> str:
        """Press the submit key once more, or after the profile's pause; "typed" or the reason why not."""
        profile = self.profile(agent)
        try:
            answer = self._server(agent.socket or self._default).press(
                agent.pane, self._guard(agent, None), [profile.key]
            )
        except UnavailableError:
            return "no_server"
        return _REASONS.get(answer, answer)

    def panes(self) -> list[tmux.Pane]:
        """Every pane of the default server; none while there is no server. It is asked now, whatever the backoff:
        what depends on the answer is decided once."""
        self._retry.pop(self._default, None)
        try:
            return self._server(self._default).panes()
        except UnavailableError:
            self._lost(self._default)
            return []

    def close(self) -> None:
        for server in self._servers.values():
            server.close()
        self._servers.clear()

    def descriptors(self) -> list[tmux.Tmux]:
        """The kept connections, for a selector."""
        return [server for server in self._servers.values() if server.alive]

    def drain(self) -> None:
        """Take in what tmux said unasked; a server that left is forgotten."""
        for socket, server in list(self._servers.items()):
            try:
                server.drain()
            except UnavailableError:
                self._lost(socket)

    def _server(self, socket: str) -> tmux.Tmux:
        server = self._servers.get(socket)
        if server is not None and server.alive:
            return server
        not_before, _ = self._retry.get(socket, (0, 0))
        if clock.boot_ns() < not_before:
            raise UnavailableError("no tmux server")
        server = self._servers[socket] = tmux.Tmux(socket, keep=True)
        server.server()
        self._retry.pop(socket, None)
        return server

    def _lost(self, socket: str) -> None:
        server = self._servers.pop(socket, None)
        if server is not None:
            server.close()
        not_before, pause = self._retry.get(socket, (0, 0))
        if clock.boot_ns() >= not_before:  # else it was not even asked
            pause = min(pause * 2, _BACKOFF_NS[1]) if pause else _BACKOFF_NS[0]
            self._retry[socket] = (clock.boot_ns() + pause, pause)

    def _guard(self, agent: Agent, shot: Screenshot | None) -> Guard:
        profile = self.profile(agent)
        return tmux.Guard(
            pid=agent.pid,
            nonce=agent.nonce,
            command=agent.command or None,
            cursor=None if shot is None else (shot.pane.cursor_x, shot.pane.cursor_y),
            absent=profile.guard,
        )

    def _judge(self, agent: Agent, shot: Screenshot | None) -> View:
        if shot is None or shot.pane.dead or shot.pane.pid != agent.pid or shot.pane.nonce != agent.nonce:
            return View("agent_gone")
        for flag, reason in (
            (shot.pane.in_mode, "copy_mode"),
            (shot.pane.input_off, "input_off"),
            (shot.pane.synchronized, "synchronized"),
            (agent.command and shot.pane.command != agent.command, "not_foreground"),
        ):
            if flag:
                return View(reason)
        profile = self.profile(agent)
        seen = screen.classify(profile, shot.lines, (shot.pane.cursor_x, shot.pane.cursor_y))
        if profile.composer is None:
            return View("", self._guard(agent, None), seen)
        return View(_hold(profile, seen), self._guard(agent, shot), seen)


def _is_starting(agent: Agent) -> bool:
    """Has it begun a moment ago, its terminal still as tmux made it? A full-screen program throws away what came
    before it took the terminal over; one with an input box shows that."""
    return proc.age_ns(agent.pid_start) < _STARTING_NS and _reads_lines(agent.pid)


def _reads_lines(pid: int) -> bool:
    """Does the process's terminal edit lines, as it does until a program takes it over?"""
    try:
        terminal = os.open(f"/proc/{pid}/fd/0", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return bool(termios.tcgetattr(terminal)[3] & termios.ICANON)
    except termios.error:
        return False
    finally:
        os.close(terminal)


_REASONS = {"gone": "agent_gone", "dead": "agent_gone", "replaced": "agent_gone"}


def _hold(profile: Profile, seen: screen.Screen) -> str:
    """Why a pane that shows this must be left alone; "" if it need not."""
    if seen.state == "waiting":
        return "dialog"
    if seen.composer == "none":
        return "no_composer"
    if seen.composer == "draft":
        return "draft"
    if seen.state == "limited":
        return "limited"
    if seen.state == "working" and profile.when_busy == "hold":
        return "busy"
    return ""
