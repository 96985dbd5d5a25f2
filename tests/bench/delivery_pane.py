"""From the append, or from the start of `orc-publish`, to the words in the pane.

Beside it, in the same rounds and into the same pane: a tmux process per message, which guards and keeps nothing, with
the two syncs that a promise costs (the event, the intent), and libtmux.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import libtmux

from bench.delivery_tools import PAUSE_S, PYTHON, UNBOUNDED, Receiver, Row, Samples, Syncs, against, timed, within
from support_orc import BIN, DEMO, System
from support_tmux import wait_until
from tmux_orchestrator.eventlog import event
from tmux_orchestrator.eventlog.daylog import Log
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.insight.latency import TARGETS_MS

ROUNDS, SPAWNS, LOW, DEMO_ROUNDS = 150, 60, 24, 40
_SOURCE = {"type": "human", "identifier": "bench", "session": None, "host": None, "verified": False}


class Desk:
    """Who publishes and who types, in one process: ours and the peers'."""

    def __init__(self, system: System, receiver: Receiver) -> None:
        self.system, self.receiver = system, receiver
        self.log = Log(Home(system.root))
        self.syncs = Syncs(system)
        self.env = {name: value for name, value in system.env.items() if not name.startswith("PYTHON")}
        self.pane = receiver.agent.pane
        server = libtmux.Server(socket_path=system.server.socket)
        self.libtmux_pane = next(pane for pane in server.panes if pane.pane_id == self.pane)
        self._text = system.root + "/bench.text"
        self._tmux = next(f"{folder}/tmux" for folder in os.get_exec_path() if os.access(f"{folder}/tmux", os.X_OK))
        self._count = 0

    def close(self) -> None:
        self.log.close()
        self.syncs.close()

    def word(self) -> str:
        self._count += 1
        return f"the build of branch main is red since commit {self._count:06d}."

    def reaches(self, way: Callable[[str], object]) -> float:
        """Milliseconds from the call to the words in the pane."""
        time.sleep(PAUSE_S)
        word = self.word()
        start = time.time_ns()
        way(word)
        return (self.receiver.wait(word) - start) / 1e6

    def append(self, priority: str, target: str = "team:rx") -> Callable[[str], object]:
        def way(word: str) -> None:
            made = event.build(word, dict(_SOURCE), targets=[target], type="message", priority=priority)
            self.log.append([made])

        return way

    def publish(self, word: str) -> None:
        self._wait(self._spawn([BIN + "/orc-publish", "-t", "team:rx", "-p", "high", word]))

    def chained(self, word: str) -> None:
        """A tmux process per message."""
        self._wait(self._spawn(self.typing(self.pane, word)))

    def libtmux(self, word: str) -> None:
        self.libtmux_pane.send_keys(word, enter=True, literal=True)

    def typing(self, pane: str, word: str) -> list[str]:
        """The command line that types a text into a pane, as a message of ours looks there."""
        with open(self._text, "w", encoding="utf-8") as file:
            file.write(f"[⚠️ HIGH from bench ?unverified #{self._count:06d}] {word}")
        load = ["load-buffer", "-b", "bench", self._text]
        paste = ["paste-buffer", "-p", "-r", "-d", "-b", "bench", "-t", pane]
        return [*self.tmux(), *load, ";", *paste, ";", "send-keys", "-t", pane, "Enter"]

    def tmux(self) -> list[str]:
        return [self._tmux, "-S", self.system.server.socket]

    def _spawn(self, argv: list[str]) -> int:
        quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
        return os.posix_spawn(argv[0], argv, self.env, file_actions=quiet)

    def run(self, argv: list[str]) -> None:
        """A whole process."""
        self._wait(self._spawn(argv))

    @staticmethod
    def _wait(pid: int) -> None:
        if os.waitpid(pid, 0)[1]:
            raise AssertionError("a command did not succeed")


def rows() -> list[Row]:
    with System(UNBOUNDED) as system:
        receiver = Receiver(system)
        system.broker()
        desk = Desk(system, receiver)
        try:
            return [*_appended(desk), *_spawned(desk), *_looked(system, desk)]
        finally:
            desk.close()
            receiver.close()


def _appended(desk: Desk) -> list[Row]:
    ours = {priority: Samples() for priority in ("critical", "high", "normal", "low")}
    chained, libtmux_keys, syncs = Samples(), Samples(), Samples()
    for number in range(ROUNDS):
        for priority in ("critical", "high", "normal"):
            ours[priority].append(desk.reaches(desk.append(priority)))
        chained.append(desk.reaches(desk.chained))
        libtmux_keys.append(desk.reaches(desk.libtmux))
        syncs.append(timed(desk.syncs.take) + timed(desk.syncs.take))
        if number < LOW:
            ours["low"].append(desk.reaches(desk.append("low")))
    with_syncs, usual = chained.plus(syncs), ours["high"]
    return [
        against("append → pane, plain", usual, "tmux process + 2 fdatasync", with_syncs, 1.0),
        against("append → pane, plain", usual, "libtmux send_keys", libtmux_keys),
        within("append → pane, plain: p99", usual.quantile(0.99), "ms", 5.0, f"beside {with_syncs.quantile(0.99):.2f}"),
        *[
            within(f"append → pane, {name}: p99", ours[name].quantile(0.99), "ms", TARGETS_MS[name], str(ours[name]))
            for name in ours
        ],
    ]


def _spawned(desk: Desk) -> list[Row]:
    floor_argv = [PYTHON, "-I", "-S", "-c", "pass"]
    reached, floor, chained = Samples(), Samples(), Samples()
    for _ in range(SPAWNS):
        reached.append(desk.reaches(desk.publish))
        floor.append(timed(lambda: desk.run(floor_argv)))
        chained.append(desk.reaches(desk.chained))
    return [
        against("spawn orc-publish → pane", reached, "python -I -S -c pass", floor, 1.6),
        against("spawn orc-publish → pane", reached, "tmux process, keeps nothing", chained),
    ]


def _looked(system: System, desk: Desk) -> list[Row]:
    """A profile with an input box: the screen is looked at before, and the submission is what counts."""
    log = system.root + "/tui.log"
    argv = (sys.executable, DEMO, "--work", "0.01", "--log", log)
    tui = system.agent("tui", *argv, log=log, options=("--profile", "demo"))
    wait_until(lambda: "Say what to do" in tui.screen(), what="the demo agent's screen")
    pane = tui.pane
    capture = [*desk.tmux(), "capture-pane", "-p", "-e", "-t", pane]

    def submitted(way: Callable[[str], object]) -> float:
        count, word = len(tui.prompts()), desk.word()
        time.sleep(0.2)  # it is idle again, and confirmed
        start = time.time_ns()
        way(word)
        wait_until(lambda: len(tui.prompts()) > count, what="the prompt")
        prompt = next(entry for entry in reversed(tui.entries()) if "prompt" in entry)
        return float(prompt["time"]) * 1e3 - start / 1e6

    def peer(word: str) -> None:
        desk.run(capture)
        desk.run(desk.typing(pane, word))

    ours, theirs, syncs = Samples(), Samples(), Samples()
    for _ in range(DEMO_ROUNDS):
        ours.append(submitted(desk.append("high", "team:tui")))
        theirs.append(submitted(peer))
        syncs.append(timed(desk.syncs.take) + timed(desk.syncs.take))
    both = theirs.plus(syncs)
    return [against("append → submitted, input box looked at", ours, "2 tmux processes + 2 fdatasync", both, 1.0)]


if __name__ == "__main__":
    for row in rows():
        print(*row, sep=" | ")
