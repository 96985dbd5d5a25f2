"""What `orc-agent` does with one agent or with all: find, look, press keys, wait, rename, forget.

Whatever reaches a pane goes through the guard that tmux checks in the same step: the registered process, or the
refusal's reason. The registry is read when a `Control` is made, and by `look_anew`; a change goes through `roster`.
"""

from __future__ import annotations

import os
import select
import time
from functools import partial

from tmux_orchestrator.agents import (
    adoption,
    beats,
    launch,
    places,
    registry,
    resume,
    roster,
    runner,
    screen,
    sender,
    signs,
    since,
    state,
)
from tmux_orchestrator.agents import profiles as known
from tmux_orchestrator.agents.profiles import Profile
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.agents.turns import DRAWN_S, Memory
from tmux_orchestrator.ground import tmux
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.ground.errors import GaveUp, SystemFailure, TryLater, UnavailableError, UsageError
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.ground.tmux import Guard, Pane, Tmux

LOOK_S = 0.25  # how often `wait` looks at the screen
_ENDED = (tmux.GONE, tmux.DEAD, tmux.REPLACED)
_WAIT_FOR = {
    tmux.COPY_MODE: "is in copy mode: leave it with q, then try again",
    tmux.INPUT_OFF: "takes no input: run tmux select-pane -e, then try again",
    tmux.SYNCHRONIZED: "is synchronised with others: set synchronize-panes off, then try again",
    tmux.NOT_FOREGROUND: "has another program in the foreground: start the agent again",
    tmux.MOVED: "has changed its screen meanwhile: look with orc-agent peek, then try again",
    tmux.UNKNOWN: "may have got the key, tmux did not answer: look with orc-agent peek",
}


class Control:
    """The agents of one home, and the tmux servers that they are on.

    `keep`: for a daemon, which keeps its connections to them (`close` lets go), and remembers what it saw.
    """

    def __init__(self, home: Home, settings: Config, keep: bool = False) -> None:
        self.home = home
        self.settings = settings
        self._keep = keep
        self._memory = Memory() if keep else None
        self.socket = tmux.find_socket(settings.get("tmux.socket"))
        self.registered = registry.load(home)
        self.source = sender.source(self.registered, None)
        self._profiles: dict[str, Profile] = {}
        self._servers: dict[str, Tmux] = {}

    def look_anew(self) -> None:
        """The registry may have changed since."""
        self.registered = registry.load(self.home)

    def configure(self, settings: Config) -> None:
        """The configuration has changed."""
        self.settings, self.socket, self._profiles = settings, tmux.find_socket(settings.get("tmux.socket")), {}

    def drain(self) -> None:
        """Take in what tmux said unasked, over the kept connections."""
        for server in self._servers.values():
            server.drain()

    def close(self) -> None:
        for server in self._servers.values():
            server.close()
        self._servers.clear()

    @property
    def profiles(self) -> dict[str, Profile]:
        self._profiles = self._profiles or known.load(self.settings.profiles)
        return self._profiles

    def server(self, socket: str = "") -> Tmux:
        """The connection for an agent's socket, or for the configured one."""
        socket = socket or self.socket
        if socket not in self._servers:
            self._servers[socket] = Tmux(socket, self._keep, self.home.run)
        return self._servers[socket]

    def everybody(self) -> list[Agent]:
        """The registered agents, and those that `agents.adopt` names."""
        patterns = self.settings.get("agents.adopt")
        if not patterns:
            return self.registered
        try:
            panes = self.server().panes()
            return self.registered + adoption.adopted(self.server(), panes, patterns, self.profiles, self.registered)
        except UnavailableError:
            return self.registered

    def find(self, target: str) -> Agent:
        """The agent that a name, session:name, session:window[.pane] or %pane means.

        Raises UsageError for an unknown or ambiguous one, UnavailableError for a pane that is no agent's.
        """
        agent = registry.resolve(self.registered, target, self.source["session"])
        if agent is None and target.rpartition(":")[2].startswith("pane-"):  # perhaps adopted by the configuration
            agent = next((one for one in self.everybody() if target in (one.name, one.key)), None)
        if agent is not None:
            return agent
        if ":" not in target and not target.startswith("%"):
            near = registry.near(self.registered, target)
            raise UsageError(f"no agent is called {target!r}{near}: see orc-agent list")
        server = self.server()
        here = places.where(server)[1:]
        everybody = [a for a in self.everybody() if (a.server_pid, a.server_start) == here]
        pane = places.one(server.panes(), target, everybody)
        for agent in everybody:
            if agent.pane == pane.id and agent.nonce == pane.nonce:
                return agent
        raise UnavailableError(f"no agent is in {target!r}: start one with orc-run, or run orc-agent adopt {target}")

    def look(self, agents: list[Agent]) -> list[state.Seen]:
        seen = state.look(agents, self.profiles, self.server, partial(signs.load, self.home), self._memory)
        beats.fill(seen, beats.load(self.home)[0])
        return seen

    def show(self, agents: list[Agent]) -> list[state.Seen]:
        """The same for a person: with what the monitor knows, which has looked before."""
        seen = self.look(agents)
        since.fill(seen, since.load(self.home))
        return seen

    def see(self, target: str) -> state.Seen:
        return self.look([self.find(target)])[0]

    def there(self, target: str) -> tuple[state.Seen, Pane]:
        """An agent that still has its pane. Raises UnavailableError."""
        seen = self.see(target)
        if seen.pane is None:
            raise UnavailableError(
                f"{seen.agent.key} has no pane any more ({seen.why}): run {adoption.restart(seen.agent)}"
            )
        return seen, seen.pane

    def press(self, seen: state.Seen, keys: tuple[str, ...] | list[str], still: bool = False) -> None:
        """Press keys in the agent's pane; `still`: only while its cursor is where it was seen.

        Raises UnavailableError when the agent has ended, TryLater when its pane cannot take keys now.
        """
        agent, pane = seen.agent, seen.pane
        if pane is None or seen.state in ("dead", "gone"):
            raise UnavailableError(f"{agent.key} has ended ({seen.why}): run {adoption.restart(agent)}")
        cursor = (pane.cursor_x, pane.cursor_y) if still else None
        guard = Guard(agent.pid, agent.nonce, agent.command or None, cursor)
        said = self.server(agent.socket).press(pane.id, guard, list(keys))
        if said in _ENDED:
            raise UnavailableError(f"{agent.key} has just ended: run {adoption.restart(agent)}")
        if said != tmux.TYPED:
            raise TryLater(f"{agent.key} {_WAIT_FOR.get(said, said)}")

    def profile(self, agent: Agent) -> Profile:
        return self.profiles.get(agent.profile) or self.profiles[known.PLAIN]

    def interrupt(self, target: str) -> None:
        seen = self.see(target)
        self.press(seen, self.profile(seen.agent).interrupt)

    def answer(self, target: str, choice: str, asked: str = "") -> bool:
        """Answer the dialog on the agent's screen; False when there is none, or another than the one that was `asked`
        (its `screen.question_id`). Raises UsageError for the choice."""
        seen = self.see(target)
        keys = self.profile(seen.agent).answer_keys(choice)
        end = time.monotonic() + DRAWN_S
        while seen.state == "waiting" and not _asks(seen) and time.monotonic() < end:
            time.sleep(LOOK_S)  # its hook was faster than its screen
            seen = self.see(target)
        if seen.screen is None or not _asks(seen):
            return False
        if asked and asked != screen.question_id(seen.screen.question):
            return False
        offered = seen.screen.choices
        if choice.isdigit() and offered and not any(label.startswith(f"{choice}.") for label in offered):
            raise UsageError(f"the dialog has no choice {choice}: it offers {'; '.join(offered)}")
        self.press(seen, keys, still=True)
        return True

    def adopt(self, target: str, name: str | None, role: str | None, groups: list[str], profile: str | None) -> Agent:
        """Register the agent CLI that runs in a pane. Raises UsageError for a shell or a pane that is taken."""
        server = self.server()
        pane = places.one(server.panes(), target)
        if any(agent.alive() and places.holds(pane, agent) for agent in self.registered):
            raise UsageError(f"{target} is registered already: see orc-agent list")
        chosen = name or pane.window_name
        if not registry.valid_name(chosen):
            raise UsageError(f"{chosen!r} is no name for an agent: give one with --name, of a-z, 0-9, - and _")
        before = registry.resolve(self.registered, f"{pane.session}:{chosen}")
        if before is not None and before.alive():
            raise UsageError(f"{before.key} is taken by an agent that runs: give another --name")
        agent = adoption.adopt(server, pane, profile, self.profiles)
        agent.name, agent.role, agent.groups = chosen, role or chosen, groups
        roster.register(self.home, agent)
        return agent

    def forget(self, agent: Agent) -> None:
        """Take an agent off the registry. Raises UsageError for one that runs and was not adopted."""
        self._must_be_registered(agent)
        if agent.alive() and not agent.adopted:
            raise UsageError(f"{agent.key} is running: stop it first, with orc-agent stop {agent.key}")
        with launch.start_lock(self.home, agent.session, agent.name):
            roster.forget(self.home, agent.key)
            signs.forget(self.home, agent.session, agent.name)
            if agent.launch:
                _unlink(agent.launch)

    def rename(self, agent: Agent, new: str) -> Agent:
        """Give the agent another name; its launch file and its pane's label go along."""
        self._must_be_registered(agent)
        registry.check_names(new)
        first, second = sorted((agent.name, new))
        with launch.start_lock(self.home, agent.session, first):
            if first == second:
                return agent
            with launch.start_lock(self.home, agent.session, second):
                renamed = self._rename(agent, new)
                signs.rename(self.home, agent, new)
                return renamed

    def _rename(self, agent: Agent, new: str) -> Agent:
        """The launch file has both names while the registry changes, so that a crash leaves one that is right."""
        if not agent.launch:
            return roster.rename(self.home, agent.key, new)
        path = launch.file(self.home, agent.session, new)
        if registry.resolve(registry.load(self.home), f"{agent.session}:{new}") is None:
            _unlink(path)
            try:
                os.link(agent.launch, path)
            except OSError as error:
                raise SystemFailure(f"cannot rename {agent.launch}: {error.strerror}") from None
        renamed = roster.rename(self.home, agent.key, new, launch=path)
        _unlink(agent.launch)
        try:
            runner.label_pane(self.server(agent.socket), renamed)
        except UnavailableError:
            pass  # its pane is gone
        return renamed

    def attach(self, target: str) -> list[str]:
        """The tmux command that shows a person the agent's pane: in the client that they use, or in a new one."""
        seen, pane = self.there(target)
        around = os.environ.get("TMUX", "").split(",")
        inside = len(around) == 3 and around[1] == str(seen.agent.server_pid)
        return tmux.showing(seen.agent.socket, pane.id, inside)

    def pause(self, agent: Agent, paused: bool) -> None:
        self._must_be_registered(agent)
        roster.update(self.home, agent.key, paused=paused)

    def stop(self, agent: Agent) -> bool:
        """End the agent; False when it does not run."""
        process = adoption.process(agent) if agent.adopted else (agent.pid, agent.pid_start)
        if process is None or not agent.alive():
            return False
        if not self._is_registered(agent):
            return runner.end(*process)
        return runner.stop(self.home, agent, *process)

    def restart(self, seen: state.Seen, force: bool, fresh: bool = False) -> Agent:
        """Start it again, with the conversation that it had, unless `fresh` or its CLI does not know that any more."""
        how = resume.plan(self.home, seen, self.profile(seen.agent), fresh)
        return runner.restart(self.home, self.server(seen.agent.socket), seen.agent, force, how)

    def wait(self, target: str, until: str, timeout_s: float | None) -> state.Seen:
        """Look until the agent is idle, waiting or gone (ended, however).

        Raises GaveUp after `timeout_s`, UnavailableError when it ends and something else was waited for.
        """
        agent = self.find(target)
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            seen = self.look([agent])[0]
            over = seen.state in ("dead", "gone")
            if seen.state == until or (over and until == "gone"):
                return seen
            if over:
                raise UnavailableError(f"{agent.key} has ended ({seen.why}): run {adoption.restart(agent)}")
            left = LOOK_S if end is None else min(LOOK_S, end - time.monotonic())
            if left <= 0:
                raise GaveUp(f"{agent.key} is {seen.state} after {timeout_s:g} s: see orc-agent peek {target}")
            _until_end(agent, left)

    def _is_registered(self, agent: Agent) -> bool:
        return any(a.key == agent.key for a in self.registered)

    def _must_be_registered(self, agent: Agent) -> None:
        if not self._is_registered(agent):
            raise UsageError(
                f"{agent.key} comes from agents.adopt: register it first, with orc-agent adopt {agent.pane}"
            )


def _until_end(agent: Agent, seconds: float) -> None:
    """Sleep, but no longer than the agent's process runs."""
    try:
        fd = os.pidfd_open(agent.pid)
    except OSError:
        time.sleep(min(seconds, 0.02))
        return
    try:
        over = select.poll()
        over.register(fd, select.POLLIN)
        if over.poll(seconds * 1000):
            time.sleep(0.02)  # tmux notices a moment later
    finally:
        os.close(fd)


def _asks(seen: state.Seen) -> bool:
    """Is there a dialog on its screen?"""
    return seen.screen is not None and seen.screen.state == "waiting"


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # lost already
