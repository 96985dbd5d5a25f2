"""Finding 100 panes, and seeing what 100 agents do, beside libtmux and a tmux process for each."""

from __future__ import annotations

import os
import subprocess
import tempfile

import libtmux

from bench.delivery_tools import Row, Samples, against, timed
from support_orc import ROOT
from support_tmux import Server, wait_until
from tmux_orchestrator.agents import profiles, screen
from tmux_orchestrator.ground.tmux import Tmux

PANES, ROUNDS, SLOW_ROUNDS = 100, 20, 5
_SCREENS = ("claude-idle", "claude-working", "claude-permission", "codex-idle", "codex-working", "gemini-idle")


def rows() -> list[Row]:
    with Server(100, 40) as server, tempfile.TemporaryDirectory(prefix="orc-bench-") as folder:
        panes = _fill(server)
        with Tmux(server.socket, keep=True, run=folder) as ours:
            theirs = libtmux.Server(socket_path=server.socket)
            return [*_discover(ours, theirs), *_look(ours, theirs, server, panes)]


def _fill(server: Server) -> list[str]:
    """A hundred panes that show what agent CLIs show."""
    for number in range(PANES):
        shown = f"{ROOT}/tests/screens/{_SCREENS[number % len(_SCREENS)]}.ansi"
        server.start(["sh", "-c", f"cat '{shown}'; exec sleep infinity"])
    panes = server.tmux("list-panes", "-a", "-F", "#{pane_id}").split()
    wait_until(lambda: server.screen(panes[-1]).strip(), what="the last screen")
    return panes


def _discover(ours: Tmux, theirs: libtmux.Server) -> list[Row]:
    kept, library = Samples(), Samples()
    for _ in range(ROUNDS):
        kept.append(timed(ours.panes))
        library.append(timed(lambda: theirs.panes))
    if len(ours.panes()) != PANES:
        raise AssertionError("not every pane was found")
    return [against(f"discover {PANES} panes", kept, "libtmux server.panes", library, 0.15)]


def _look(ours: Tmux, theirs: libtmux.Server, server: Server, panes: list[str]) -> list[Row]:
    known = profiles.load({})
    profile = [known[_SCREENS[number % len(_SCREENS)].partition("-")[0]] for number in range(PANES)]
    env = {name: value for name, value in os.environ.items() if name != "TMUX"}

    def states() -> list[str]:
        shots = ours.look(panes)
        found = []
        for pane, its in zip(panes, profile, strict=True):
            shot = shots[pane]
            found.append(screen.classify(its, shot.lines, (shot.pane.cursor_x, shot.pane.cursor_y)).state)
        return found

    def captured() -> None:
        for pane in theirs.panes:
            pane.capture_pane()

    def processes() -> None:
        for pane in panes:
            argv = ["tmux", "-S", server.socket, "capture-pane", "-p", "-e", "-t", pane]
            subprocess.run(argv, env=env, stdout=subprocess.DEVNULL, check=True)

    seen, shot, library, each = Samples(), Samples(), Samples(), Samples()
    for _ in range(SLOW_ROUNDS):
        seen.append(timed(states))
        shot.append(timed(lambda: ours.look(panes)))
        library.append(timed(captured))
        each.append(timed(processes))
    return [
        against(f"look at {PANES} agents: capture and state", seen, "libtmux, capture alone", library),
        against(f"look at {PANES} agents: capture alone", shot, "libtmux, capture alone", library),
        against(f"look at {PANES} agents: capture and state", seen, "a tmux process each", each),
    ]


if __name__ == "__main__":
    for row in rows():
        print(*row, sep=" | ")
