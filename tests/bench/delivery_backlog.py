"""10,000 messages for one pane with the bucket off: waiting already, and coming in while they are typed.

Beside it, a tmux process per message into the same pane, as many as fit into two seconds.
"""

from __future__ import annotations

import json
import os
import time

from bench.delivery_pane import Desk
from bench.delivery_tools import PATIENCE_S, UNBOUNDED, Receiver, Row, Samples, missed_by
from support_orc import System
from support_tmux import wait_until
from tmux_orchestrator.eventlog import event

COUNT, GROUP, ROUNDS = 10_000, 500, 3
_SOURCE = {"type": "human", "identifier": "bench", "session": None, "host": None, "verified": False}


def rows() -> list[Row]:
    with System(UNBOUNDED) as system:
        receiver = Receiver(system)
        system.broker()
        desk = Desk(system, receiver)
        try:
            waiting, burst = Samples(), Samples()
            for number in range(ROUNDS):
                waiting.append(_waiting(desk, f"w{number}"))
                burst.append(_burst(desk, f"b{number}"))
            peer = _per_second(desk)
        finally:
            desk.close()
            receiver.close()
    beside = f"chained tmux {peer:.0f}/s: "
    return [
        _row("10,000 waiting → all in the pane", waiting, beside, peer, 1000.0),
        _row("burst of 10,000, append → all in the pane", burst, beside, peer),
    ]


def _row(work: str, took: Samples, beside: str, peer: float, bound: float | None = None) -> Row:
    rate = COUNT / took.median * 1e3
    target, missed = ("", "") if bound is None else (f"< {bound:g} ms", missed_by(took.median, bound))
    return Row(work, f"{took}, {rate:.0f}/s", f"{beside}{rate / peer:.0f} × as many", target, missed)


def _publish(desk: Desk, name: str) -> int:
    """Append them all; when that began."""
    texts = [f"the build of branch {name} is red since commit {number:05d}." for number in range(COUNT)]
    start = time.time_ns()
    for at in range(0, COUNT, GROUP):
        desk.log.append(
            [
                event.build(text, dict(_SOURCE), targets=["team:rx"], type="message", priority="normal")
                for text in texts[at : at + GROUP]
            ]
        )
    return start


def _waiting(desk: Desk, name: str) -> float:
    """From the moment in which the agent is no longer paused to the last word."""
    desk.receiver.forget()
    desk.system.run("orc-agent", "pause", "team:rx")
    _publish(desk, name)
    wait_until(lambda: _queued(desk) == COUNT, PATIENCE_S, "that all of them wait")
    desk.system.run("orc-agent", "resume", "team:rx")
    resumed = os.stat(desk.system.root + "/registry/agents.json").st_mtime_ns
    return (desk.receiver.wait(_last(name)) - resumed) / 1e6


def _burst(desk: Desk, name: str) -> float:
    desk.receiver.forget()
    start = _publish(desk, name)
    return (desk.receiver.wait(_last(name)) - start) / 1e6


def _last(name: str) -> str:
    return f"branch {name} is red since commit {COUNT - 1:05d}."


def _queued(desk: Desk) -> int:
    with open(desk.system.root + "/logs/run/broker.json", encoding="ascii") as file:
        return int(json.load(file)["queued"])


def _per_second(desk: Desk) -> float:
    """How many messages a tmux process each brings into the pane in a second."""
    start, count, word = time.time_ns(), 0, ""
    while time.time_ns() - start < 2e9:
        word = desk.word()
        desk.chained(word)
        count += 1
    return count / (desk.receiver.wait(word) - start) * 1e9


if __name__ == "__main__":
    for row in rows():
        print(*row, sep=" | ")
