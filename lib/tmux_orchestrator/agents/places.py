"""Which tmux server this is, and which of its panes a target means: session:window, session:window.pane or %pane.

tmux's own targets match prefixes and patterns and fall back to some other pane, so tmux is never asked: names are
compared here, exactly, over a list of all panes. Nothing is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from tmux_orchestrator.ground import proc
from tmux_orchestrator.ground.errors import UnavailableError, UsageError

if TYPE_CHECKING:
    from tmux_orchestrator.agents.registry import Agent
    from tmux_orchestrator.ground.tmux import Pane, Tmux


class Place(Protocol):
    """What has to be known of a pane to say where it is."""

    id: str
    session: str
    window_index: int
    window_name: str
    pane_index: int


SomePane = TypeVar("SomePane", bound=Place)


class Where(NamedTuple):
    """A tmux server: the path of its socket, and its process, since a later server has the same path."""

    socket: str
    pid: int
    start: int


def where(tmux: Tmux) -> Where:
    """Raises UnavailableError when there is no server."""
    pid, socket = tmux.run("display-message", "-p", "#{pid} #{socket_path}")[0].split(" ", 1)
    return Where(socket, int(pid), proc.start_time(int(pid)) or 0)


def reap(tmux: Tmux) -> None:
    """Have tmux collect its dead children, after which their panes say how they ended.

    tmux 3.3 misses the end of a pane's process that falls into the milliseconds in which it runs utempter for that
    same pane, and notices at its next child's end: this is one.
    """
    tmux.run("run-shell", "true")


def label(pane: Pane) -> str:
    """session:window.pane, by indexes."""
    return f"{pane.session}:{pane.window_index}.{pane.pane_index}"


def matching(panes: Sequence[SomePane], target: str) -> list[SomePane]:
    """Every pane that the target may mean; none for what is no such target.

    A number is an index and nothing else. Where `a.b` may be window `a.b` or pane `b` of window `a`, both count.
    """
    if target.startswith("%"):
        return [pane for pane in panes if pane.id == target]
    session, colon, rest = target.partition(":")
    window, dot, index = rest.rpartition(".")
    if not colon or not rest:
        return []
    return [
        pane
        for pane in panes
        if pane.session == session
        and (_in_window(pane, rest) or (dot and index == str(pane.pane_index) and _in_window(pane, window)))
    ]


def one(panes: Sequence[Pane], target: str, agents: Sequence[Agent] = ()) -> Pane:
    """The pane that the target means; in a window with several, the one of an agent.

    Raises UnavailableError when there is none, UsageError when there are several.
    """
    found = matching(panes, target)
    if len(found) > 1:
        nonces = {agent.nonce for agent in agents}
        found = [pane for pane in found if pane.nonce in nonces] or found
    if not found:
        raise UnavailableError(f"there is no pane {target!r}: see orc-agent list, or tmux list-panes -a")
    if len(found) > 1:
        choices = ", ".join(f"{label(pane)} or {pane.id}" for pane in found[:4])
        raise UsageError(f"{target!r} means {len(found)} panes: say {choices}")
    return found[0]


def holds(pane: Pane, agent: Agent) -> bool:
    """Does the pane (of the agent's own server) still hold the registered process?"""
    return pane.id == agent.pane and pane.nonce == agent.nonce and pane.pid == agent.pid


def _in_window(pane: Place, window: str) -> bool:
    if window.isascii() and window.isdigit():
        return window == str(pane.window_index)
    return window == pane.window_name
