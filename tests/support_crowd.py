"""Many agents at once: real panes on a real server, each with a light program, registered as `orc-run` would.

    agents = crowd(system, 100, sessions=20, shows=["claude-idle", "codex-working"])

Their keys are `crowdS:aN`. Nothing can restart them: they have no launch file.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from typing import Any

from support_orc import ROOT, System
from support_tmux import wait_until
from tmux_orchestrator.agents import registry
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.ground import clock, files, proc
from tmux_orchestrator.ground.paths import Home

SCREENS = ("claude-idle", "claude-working", "claude-permission", "gemini-idle", "gemini-working", "")
# The demo agent's input box, with the cursor in it, and somebody who reads what is typed and shows nothing of it.
_BOX = r"printf '\342\226\201%.0s' 1 2 3 4 5 6 7 8 9; printf '\n\342\226\270 \n'; "
_BOX += r"printf '\342\226\224%.0s' 1 2 3 4 5 6 7 8 9; printf '\033[A\r\033[2C'"
BOX = f"stty raw -echo; printf '\\033[?2004h\\r\\n'; stty opost onlcr; {_BOX}; exec cat > /dev/null"


def crowd(system: System, count: int, sessions: int = 1, shows: Sequence[str] = SCREENS) -> list[Agent]:
    """So many agents, spread over so many sessions, that show these screens in turn; "" is the demo agent's box."""
    server = system.server
    before = registry.load(Home(system.root))
    names = {f"a{number}": number for number in range(count)}
    lines = [_window(server.size, name, number, sessions, shows) for name, number in names.items()]
    _source(system, lines)
    listed = server.tmux("list-panes", "-a", "-F", "#{session_name} #{window_name} #{pane_id} #{pane_pid}").split("\n")
    here = [words for line in listed if (words := line.split())[0].startswith("crowd")]
    pid = server.pid
    same = {"socket": server.socket, "server_pid": pid, "server_start": proc.start_time(pid) or 0}
    made = [_agent(same, words, shows[names[words[1]] % len(shows)]) for words in here]
    _source(
        system,
        [
            line
            for agent in made
            for line in (
                f"set-option -p -t {agent.pane} @orc_nonce {agent.nonce}",
                f"set-option -p -t {agent.pane} remain-on-exit on",
            )
        ],
    )
    everybody = {"agents": [agent.to_dict() for agent in before + made]}
    files.replace(registry.path(Home(system.root)), json.dumps(everybody).encode())
    for agent in made[-3:]:
        wait_until(lambda agent=agent: server.screen(agent.pane).strip(), what="the last screens")  # type: ignore[misc]
    return made


def _window(size: list[str], name: str, number: int, sessions: int, shows: Sequence[str]) -> str:
    """The tmux command that starts one of them."""
    session, shown = f"crowd{number % sessions}", shows[number % len(shows)]
    program = f"cat '{ROOT}/tests/screens/{shown}.ansi'; exec sleep infinity" if shown else BOX
    first = ["new-session", "-d", *size, "-s", session]
    make = first if number < sessions else ["new-window", "-d", "-t", session + ":"]
    return shlex.join([*make, "-n", name, "--", "sh", "-c", program])


def _source(system: System, lines: list[str]) -> None:
    path = system.root + "/crowd.tmux"
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    if not system.server.tmux("list-sessions", check=False):
        system.server.tmux("new-session", "-d", "-s", "first", "sleep", "infinity")
    system.server.tmux("source-file", path)


def _agent(server: dict[str, Any], words: list[str], shown: str) -> Agent:
    session, name, pane, pid = words
    own = {"name": name, "session": session, "role": name, "profile": shown.partition("-")[0] or "demo", "pane": pane}
    process = {"pid": int(pid), "pid_start": proc.start_time(int(pid)) or 0}
    return Agent(server | own | process | {"nonce": os.urandom(16).hex(), "registered": clock.stamp(clock.now_ns())})
