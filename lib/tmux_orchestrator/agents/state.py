"""What each agent is doing, from what the kernel, tmux, the agent's hooks and its screen say now.

The kernel has the first word: a process that is gone is `dead`, or `gone` when it left on purpose (it was stopped,
it ended with status 0, or its pane was closed). Only of a live one are hooks and screen believed (see `turns`). Each
state says where it comes from (`source`), how sure it is (`confidence`), and since when where that is a fact. The
agents of a server are looked at in one go; nothing is kept, unless the caller keeps a `turns.Memory`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from tmux_orchestrator.agents import places, screen, turns
from tmux_orchestrator.agents.profiles import PLAIN, Profile
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.errors import UnavailableError
from tmux_orchestrator.ground.tmux import Pane, Screenshot, Tmux

if TYPE_CHECKING:
    from collections.abc import Callable

    from tmux_orchestrator.agents.signs import Sign

STARTING_S = 20.0  # so long may a CLI take to show a screen that its profile knows
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")

# fmt: off
FIELDS = (
    "name", "role", "groups", "target", "pane", "pid", "profile", "state", "since", "source", "last_heartbeat",
    "question", "limited_until", "adopted", "paused", "supervisor", "queued",
)
# fmt: on
COLUMNS = ("name", "role", "target", "profile", "state", "question")


@dataclass(slots=True)
class Seen:
    """One agent, its pane (None: it has none any more) and its state. `why` explains `dead` and `gone`."""

    agent: Agent
    state: str
    source: str
    confidence: str = "certain"
    since: str | None = None
    why: str = ""
    pane: Pane | None = None
    screen: screen.Screen | None = field(default=None, repr=False)
    last_heartbeat: str | None = None
    sign: Sign | None = field(default=None, repr=False)

    @property
    def question(self) -> str:
        """What it waits for a person to say: as its dialog puts it, else as its hook did."""
        said = self.sign.question if self.sign and self.source == turns.HOOK else ""
        return (self.screen.question if self.screen else "") or said

    @property
    def limited_until(self) -> str | None:
        """As its screen says it, else its hook."""
        said = self.sign.limited_until if self.sign and self.source == turns.HOOK else ""
        return (self.screen.limited_until if self.screen else None) or said or None

    @property
    def unexplained(self) -> bool:
        """Has it ended, and tmux, whose pane it was, does not know yet how?"""
        return self.state == "dead" and self.source == "kernel" and self.pane is not None

    def record(self) -> dict[str, Any]:
        """The fields that `orc-agent list` prints."""
        agent, shown = self.agent, self.screen
        return {
            "name": agent.name,
            "role": agent.role,
            "groups": agent.groups,
            "target": places.label(self.pane) if self.pane else None,
            "pane": self.pane.id if self.pane else None,
            "pid": None if self.state in ("dead", "gone") else agent.pid,
            "profile": agent.profile,
            "state": self.state,
            "since": self.since,
            "source": self.source,
            "last_heartbeat": self.last_heartbeat,
            "question": self.question or None,
            "limited_until": self.limited_until,
            "adopted": agent.adopted,
            "paused": agent.paused,
            "supervisor": agent.supervisor,
            "queued": shown.queued if shown else False,
        }

    def details(self) -> dict[str, Any]:
        """The same and more, for `orc-agent show`."""
        agent, shown, sign = self.agent, self.screen, self.sign
        return self.record() | {
            "session": agent.session,
            "why": self.why or None,
            "confidence": self.confidence,
            "choices": shown.choices if shown else [],
            "composer": shown.composer if shown else None,
            "session_id": sign.session_id or None if sign else None,
            "usage": sign.usage if sign else {},
            "hook": {"event": sign.hook, "at": clock.stamp(sign.at)} if sign and sign.at else None,
            "argv": agent.argv,
            "cwd": agent.cwd or None,
            "restart": agent.restart,
            "registered": agent.registered,
        }


def look(
    agents: Iterable[Agent],
    profiles: Mapping[str, Profile],
    server: Callable[[str], Tmux],
    signs: Callable[[Agent], Sign | None],
    memory: turns.Memory | None = None,
) -> list[Seen]:
    """The state of every agent, in the same order.

    `server` gives the connection for a socket, `signs` what an agent's hooks said. `memory` is for whoever looks often.
    """
    agents = list(agents)
    seen: dict[str, Seen] = {}
    for socket in {agent.socket: None for agent in agents}:
        those = [agent for agent in agents if agent.socket == socket]
        view = _observe(server(socket), those)
        for agent in those:
            pane = view.panes.get(agent.key)
            shot = view.shots.get(pane.id) if pane else None
            profile = profiles.get(agent.profile) or profiles[PLAIN]
            seen[agent.key] = judge(agent, pane, shot, profile, signs(agent), memory, view.answered)
            if pane and pane.dead:
                seen[agent.key].since = view.ended.get(pane.id)
    return [seen[agent.key] for agent in agents]


def judge(
    agent: Agent,
    pane: Pane | None,
    shot: Screenshot | None,
    profile: Profile,
    sign: Sign | None = None,
    memory: turns.Memory | None = None,
    answered: bool = True,
) -> Seen:
    """The state of one agent; `pane` holds its registered process on its own server, None where none does.

    `answered`: did that server say so?
    """
    seen = _judge(agent, pane, shot, profile, answered)
    seen.sign = sign
    if seen.state in ("dead", "gone") or seen.pane is None or (sign is None and memory is None):
        return seen
    if seen.state == "starting" and (sign is None or sign.state == "idle"):
        return seen  # the hook of a start comes before there is anything to type into
    now, shown = clock.now_ns(), seen.screen.state if seen.screen else "unknown"
    verdict = turns.weigh(sign, shown, now, memory is not None and memory.again(agent, sign, shown, now))
    if sign is not None and verdict.source == turns.HOOK:
        seen.state, seen.source, seen.confidence = verdict.state, turns.HOOK, "certain"
        seen.since = clock.stamp(sign.since)
    return seen


def _judge(agent: Agent, pane: Pane | None, shot: Screenshot | None, profile: Profile, answered: bool) -> Seen:
    """What the kernel, tmux and the screen say."""
    running = agent.alive()
    if agent.ended and not running:
        return Seen(agent, "gone", "registry", why=agent.ended, pane=pane)
    if pane is None and running:
        return Seen(agent, "unknown", "kernel", "none", why="its pane is gone, or its tmux server does not answer")
    if pane is None:
        return _without_pane(agent, answered)
    if pane.dead or not running:
        return _ended(agent, pane)
    if agent.command and pane.command != agent.command:
        return Seen(agent, "gone", "tmux", why=f"{pane.command} is in the foreground", pane=pane)
    if shot is None:
        return Seen(agent, "unknown", "tmux", "none", why="its screen could not be read", pane=pane)
    return _shown(agent, pane, shot, profile)


class _View(NamedTuple):
    """Each agent's pane by key; the screens of those that run, and when the others ended, by pane id."""

    panes: dict[str, Pane]
    shots: dict[str, Screenshot]
    ended: dict[str, str]
    answered: bool = True


def _observe(tmux: Tmux, agents: Sequence[Agent]) -> _View:
    """What a server shows of its agents; nothing where there is no server."""
    try:
        server = places.where(tmux)[1:]
        here = [a for a in agents if (a.server_pid, a.server_start) == server]
        panes = _panes(tmux, here)
        if any(_unexplained(panes[a.key]) for a in here if a.key in panes and not a.alive()):
            places.reap(tmux)
            panes = _panes(tmux, here)
        shots = tmux.look([pane.id for pane in panes.values() if not pane.dead])
        return _View(panes, shots, _times(tmux, panes.values()))
    except UnavailableError:
        return _View({}, {}, {}, answered=False)


def _panes(tmux: Tmux, agents: Sequence[Agent]) -> dict[str, Pane]:
    listed = {pane.id: pane for pane in tmux.panes()}
    return {a.key: listed[a.pane] for a in agents if a.pane in listed and places.holds(listed[a.pane], a)}


def _unexplained(pane: Pane) -> bool:
    return pane.dead_status is None and pane.dead_signal is None


def _times(tmux: Tmux, panes: Iterable[Pane]) -> dict[str, str]:
    """When the processes of dead panes ended."""
    dead = {pane.id for pane in panes if pane.dead}
    lines = tmux.run("list-panes", "-a", "-F", "#{pane_id} #{pane_dead_time}") if dead else []
    found = dict(line.split(" ", 1) for line in lines)
    return {pane: clock.stamp(int(found[pane]) * 1_000_000_000) for pane in dead if found.get(pane, "").isdigit()}


def _without_pane(agent: Agent, answered: bool) -> Seen:
    """It ended, and so did its pane: with the server, or closed by somebody. A server that hangs knows, and may say."""
    if not agent.server_alive():
        return Seen(agent, "dead", "kernel", why="its process and its pane are gone")
    if not answered:
        return Seen(agent, "unknown", "kernel", "none", why="it ended, and its tmux server does not answer how")
    return Seen(agent, "gone", "tmux", why="its pane was closed")


def _ended(agent: Agent, pane: Pane) -> Seen:
    if pane.dead_signal:
        return Seen(agent, "dead", "tmux", why=f"ended by signal {pane.dead_signal}", pane=pane)
    if pane.dead_status is None:
        return Seen(agent, "dead", "kernel", why="its process is gone", pane=pane)
    state = "dead" if pane.dead_status else "gone"
    return Seen(agent, state, "tmux", why=f"ended with status {pane.dead_status}", pane=pane)


def _shown(agent: Agent, pane: Pane, shot: Screenshot, profile: Profile) -> Seen:
    shown = screen.classify(profile, shot.lines, (shot.pane.cursor_x, shot.pane.cursor_y))
    if shown.state != "unknown":
        return Seen(agent, shown.state, "screen", "likely", pane=pane, screen=shown)
    age_ns = clock.boot_ns() - agent.pid_start * _TICK_NS
    if age_ns < STARTING_S * 1e9 and not agent.adopted:
        return Seen(agent, "starting", "kernel", since=agent.registered, pane=pane, screen=shown)
    return Seen(agent, "unknown", "screen", "none", pane=pane, screen=shown)
