"""A whole cycle of the monitor for 10, 50, 100 and 500 real panes, beside libtmux and a tmux process per pane.

A cycle reads the registry, looks at each screen, judges, writes what it must, and says how it fared. And how typing
fares while a monitor looks at 100 panes as often as it can.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import libtmux

from bench.delivery_pane import Desk
from bench.delivery_tools import UNBOUNDED, Receiver, Row, Samples, against, timed, within
from support_crowd import crowd
from support_orc import System
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.watch.monitor import Monitor

TARGETS_MS = {10: 20.0, 50: 60.0, 100: 120.0, 500: 800.0}
SESSIONS = {10: 3, 50: 10, 100: 20, 500: 100}
ROUNDS, SLOW_ROUNDS, TYPED = 20, 3, 150


def rows() -> list[Row]:
    found: list[Row] = []
    for panes in TARGETS_MS:
        with System("monitoring: {healthy_report: 0}\n") as system:
            crowd(system, panes, SESSIONS[panes])
            found += _cycles(system, panes)
    return found + _typing()


def _cycles(system: System, panes: int) -> list[Row]:
    ours, library, each = Samples(), Samples(), Samples()
    with _monitor(system) as cycle:
        cycle()
        for _ in range(ROUNDS):
            ours.append(timed(cycle))
        mixed = Samples()
        for _ in range(SLOW_ROUNDS):
            mixed.append(timed(cycle))
            library.append(timed(_libtmux(system)))
            each.append(timed(_processes(system)))
    work = f"cycle of {panes} agents in {SESSIONS[panes]} sessions"
    bound = TARGETS_MS[panes]
    return [
        within(f"{work}, median of {ROUNDS} (p99 {ours.quantile(0.99):.1f} ms)", ours.median, "ms", bound),
        against(work, mixed, "libtmux, capture alone", library),
        against(work, mixed, "a tmux process each, capture alone", each),
    ]


@contextmanager
def _monitor(system: System) -> Iterator[Callable[[], object]]:
    """A monitor in this process: what it does in a turn in which all agents are due."""
    monitor = Monitor(Home(system.root))

    def cycle() -> None:
        monitor._refresh()
        monitor._cycle(monitor.control.registered)

    try:
        yield cycle
        unread = [life.seen for life in monitor.lives.of.values() if life.state not in ("idle", "working", "waiting")]
        if unread:
            raise AssertionError(f"not every agent was read: {unread[:2]}")
    finally:
        monitor.control.close()
        monitor._watch.close()
        monitor.deaths.close()


def _libtmux(system: System) -> Callable[[], object]:
    server = libtmux.Server(socket_path=system.server.socket)

    def look() -> None:
        for pane in server.panes:
            pane.capture_pane()

    return look


def _processes(system: System) -> Callable[[], object]:
    def look() -> None:
        listed = ["tmux", "-S", system.server.socket, "list-panes", "-a", "-F", "#{pane_id}"]
        for pane in subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split():
            argv = ["tmux", "-S", system.server.socket, "capture-pane", "-p", "-e", "-t", pane]
            subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)

    return look


def _typing() -> list[Row]:
    """From the append to the words in the pane, with and without a monitor that looks all the time."""
    with System(UNBOUNDED.replace("minute: 0}", "minute: 0, look_interval: 0.1}", 1)) as system:
        crowd(system, 100, 20)
        receiver = Receiver(system)
        system.broker()
        desk = Desk(system, receiver)
        try:
            alone = _reached(desk)
            system.run("orc-component", "start", "monitor")
            watched = _reached(desk)
            system.run("orc-component", "stop", "monitor")
        finally:
            desk.close()
            receiver.close()
    work = "append → words in the pane while a monitor looks at 100 panes ten times a second"
    return [
        against(work, watched, "without a monitor", alone),
        within(f"{work}: p99", watched.quantile(0.99), "ms", 10.0),
    ]


def _reached(desk: Desk) -> Samples:
    found = Samples()
    for _ in range(TYPED):
        time.sleep(0.01)
        found.append(desk.reaches(desk.append("normal")))
    return found


if __name__ == "__main__":
    os.environ.pop("TMUX", None)
    for row in rows():
        print(*row, sep=" | ")
