"""10,000 messages for one pane with the bucket off: waiting already, and coming in while they are typed.

Beside it, a tmux process per message into the same pane, as many as fit into two seconds; and the same 10,000 texts
pasted under the same guards with nothing around it (no log, no intent, no outcome): the least that guarding costs.
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
from tmux_orchestrator.ground.tmux import Guard, Tmux

COUNT, GROUP, BATCH, ROUNDS = 10_000, 500, 64, 3
_SOURCE = {"type": "human", "identifier": "bench", "session": None, "host": None, "verified": False}


def rows() -> list[Row]:
    with System(UNBOUNDED) as system:
        receiver = Receiver(system)
        system.broker()
        desk = Desk(system, receiver)
        try:
            waiting, burst, pasted = Samples(), Samples(), Samples()
            for number in range(ROUNDS):
                waiting.append(_waiting(desk, f"w{number}"))
                burst.append(_burst(desk, f"b{number}"))
                pasted.append(_pasted(desk, f"p{number}"))
            peer = _per_second(desk)
        finally:
            desk.close()
            receiver.close()
    beside = f"chained tmux {peer:.0f}/s: "
    return [
        _row("10,000 waiting → all in the pane", waiting, beside, peer, 1000.0),
        _row("burst of 10,000, append → all in the pane", burst, beside, peer),
        _row("10,000 guarded pastes alone", pasted, beside, peer),
    ]


def _row(work: str, took: Samples, beside: str, peer: float, bound: float | None = None) -> Row:
    rate = COUNT / took.median * 1e3
    target, missed = ("", "") if bound is None else (f"< {bound:g} ms", missed_by(took.median, bound))
    return Row(work, f"{took}, {rate:.0f}/s", f"{beside}{rate / peer:.0f} × as many", target, missed)


def _publish(desk: Desk, name: str) -> int:
    """Append them all; when that began."""
    texts = [_text(name, number) for number in range(COUNT)]
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
    return (desk.receiver.wait(_text(name, COUNT - 1)) - resumed) / 1e6


def _burst(desk: Desk, name: str) -> float:
    desk.receiver.forget()
    start = _publish(desk, name)
    return (desk.receiver.wait(_text(name, COUNT - 1)) - start) / 1e6


def _pasted(desk: Desk, name: str) -> float:
    agent, socket = desk.receiver.agent, desk.system.server.socket
    guard = Guard(agent.pid, desk.system.server.show(agent.pane, "#{@orc_nonce}"))
    texts = [f"[⚠️ HIGH from bench ?unverified #{number:06d}] {_text(name, number)}" for number in range(COUNT)]
    desk.receiver.forget()
    with Tmux(socket, keep=True, run=desk.system.root + "/bench") as server:
        server.server()
        start = time.time_ns()
        for at in range(0, COUNT, BATCH):
            server.type_many([(agent.pane, guard, text.encode(), "Enter") for text in texts[at : at + BATCH]])
            desk.receiver.take()
        return (desk.receiver.wait(_text(name, COUNT - 1)) - start) / 1e6


def _text(name: str, number: int) -> str:
    return f"the build of branch {name} is red since commit {number:05d}."


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
