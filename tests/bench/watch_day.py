"""What a day of monitoring 20 idle agents costs, and how soon a death is seen, beside polling every two minutes.

Processor time is that of the monitor and of the tmux server together, taken over a minute and told for a day. The
poller is what people write: a loop with a tmux process per pane. How late it sees a death is reckoned, not measured.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import statistics
import subprocess
import time
from collections.abc import Callable

from bench.delivery_tools import Row, Samples, within
from support_crowd import crowd
from support_orc import System
from support_tmux import wait_until
from tmux_orchestrator.agents import signs
from tmux_orchestrator.agents.signs import Sign
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.paths import Home

AGENTS, SECONDS, DAY = 20, 60, 86_400
POLL_S, POLLS = 120, 10
DEATHS = 20
AT_ONCE = "recovery: {grace_s: 0, cooldown_s: 0, backoff_s: [0, 0], breaker: 1000 in 900, spacing_s: 0}\n"


def rows() -> list[Row]:
    return [*_day(), *_deaths()]


def _day() -> list[Row]:
    with System() as system:
        agents = crowd(system, AGENTS, 4, ["claude-idle", "gemini-idle", ""])
        server = system.server.pid
        quiet = _cpu_s(server)
        time.sleep(5)
        if (quiet := _cpu_s(server) - quiet) > 0.05:
            raise AssertionError(f"the agents are not idle: tmux used {quiet:.2f} s in 5 s")
        before = _children_s() + _cpu_s(server)
        for _ in range(POLLS):
            _poll(system)
        polled = (_children_s() + _cpu_s(server) - before) / POLLS * DAY / POLL_S
        looking = _watched(system, server)
        for agent in agents:
            signs.update(Home(system.root), agent, _speaks)
        hooked = _watched(system, server)
    work = f"monitor, {AGENTS} idle agents, {SECONDS} s told for a day: processor seconds"
    poll = f"polling every {POLL_S} s, a tmux process per pane: {polled:.1f} s"
    return [
        within(
            f"{work}, agents without hooks (a look every 5 s)", looking, "s", None, f"{looking / polled:.2f} × {poll}"
        ),
        within(f"{work}, agents with hooks", hooked, "s", None, f"{hooked / polled:.2f} × {poll}"),
    ]


def _speaks(sign: Sign) -> None:
    """A hook has said that it is idle: its screen needs no look before the next sweep."""
    sign.enter("idle", clock.now_ns())
    sign.at = clock.now_ns()


def _watched(system: System, server: int) -> float:
    """What a day costs, from a minute without the first look."""
    pid = int(system.run("orc-component", "start", "monitor").rpartition(" ")[2][:-1])
    account = system.root + "/logs/run/monitor.json"
    wait_until(lambda: os.path.exists(account), what="the first look")
    time.sleep(2)
    before, begun = _cpu_s(pid) + _cpu_s(server), time.monotonic()
    time.sleep(SECONDS)
    used, passed = _cpu_s(pid) + _cpu_s(server) - before, time.monotonic() - begun
    system.run("orc-component", "stop", "monitor")
    return used / passed * DAY


def _poll(system: System) -> None:
    tmux = ["tmux", "-S", system.server.socket]
    listed = subprocess.run([*tmux, "list-panes", "-a", "-F", "#{pane_id}"], capture_output=True, text=True, check=True)
    for pane in listed.stdout.split():
        subprocess.run([*tmux, "capture-pane", "-p", "-t", pane], stdout=subprocess.DEVNULL, check=True)


def _cpu_s(pid: int) -> float:
    with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
        return int(file.read().split()[0]) / 1e9


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _deaths() -> list[Row]:
    """kill -9 → the stamp of the `recovery` event: seen, told apart from others, and its replacement runs."""
    seen = Samples()
    with System(AT_ONCE) as system:
        agent = system.agent("dev", "sleep", "100000", options=("--restart", "crash"))
        system.run("orc-component", "start", "monitor")
        pid = agent.pid
        for number in range(DEATHS):
            wait_until(_attended(system, pid), what="the monitor to know it")
            killed = clock.now_ns()
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda number=number: len(_recoveries(system)) > number, 20, "the recovery")  # type: ignore[misc]
            seen.append((_recoveries(system)[-1] - killed) / 1e6)
            pid = json.loads(system.run("orc-agent", "show", "dev", "-o", "jsonl"))["pid"]
        system.run("orc-component", "stop", "monitor")
    late = f"polling every {POLL_S} s: half of them after {POLL_S / 2:.0f} s, the latest after {POLL_S} s"
    work = f"kill -9 → its replacement runs and is logged, {DEATHS} times"
    return [
        within(f"{work}: median", statistics.median(seen), "ms", None, late),
        within(f"{work}: latest", max(seen), "ms", 1000.0, late),
    ]


def _attended(system: System, pid: int) -> Callable[[], bool]:
    """Does the monitor hold a descriptor of the process by now?"""

    def attended() -> bool:
        with open(system.root + "/logs/monitor.pid", encoding="ascii") as file:
            folder = f"/proc/{int(file.read())}/fdinfo"
        told = []
        for fd in os.listdir(folder):
            try:
                with open(f"{folder}/{fd}", encoding="ascii") as file:
                    told.append(file.read())
            except OSError:
                pass  # closed meanwhile
        return any(f"\nPid:\t{pid}\n" in one for one in told)

    return attended


def _recoveries(system: System) -> list[int]:
    """The stamps of the recovery events that say `respawned`."""
    found = []
    for event in system.events():
        message = event["message"]
        if message["type"] == "recovery" and message["content"]["context"]["action"] == "respawned":
            found.append(clock.parse_stamp(event["timestamp"]))
    return found


if __name__ == "__main__":
    for row in rows():
        print(*row, sep=" | ")
