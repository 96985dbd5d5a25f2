"""Heartbeats, signed both ways, beside an asyncio datagram endpoint that signs and checks and keeps nothing."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import tempfile
import time

from bench.delivery_tools import Row, missed_by, within
from support_orc import ROOT
from tmux_orchestrator.agents import roster
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.ground import clock, proc
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.watch import datagram

COUNT, WINDOW, ALONE, ROUNDS = 20_000, 32, 3_000, 5
PER_SECOND, P99_MS = 80_000, 0.2


class Answering:
    """One answering process, and a sender that talks with it."""

    def __init__(self, kind: str, home: Home, port: int) -> None:
        argv = [sys.executable, ROOT + "/tests/programs/heartbeats.py", kind, home.root, str(port)]
        env = os.environ | {"ORC_HEARTBEAT_PORT": str(port)}
        self.child = subprocess.Popen(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.child.stdout is not None and self.child.stdout.readline() == b"ready\n"
        self.signer = datagram.Signer(datagram.load_key(home), hashlib.sha256)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(5)
        self.socket.connect(("127.0.0.1", port))
        self.rates: list[float] = []
        self.alone: list[float] = []

    def signs(self, count: int) -> list[bytes]:
        sender = int.from_bytes(os.urandom(8), "big")
        bodies = [datagram.pack(datagram.SIGN, sender, n, clock.now_ns(), b"team:dev") for n in range(1, count + 1)]
        return [body + self.signer.tag(body) for body in bodies]

    def check(self, answers: list[bytes], count: int) -> None:
        counters = {datagram.unpack(self.signer.opened(answer))[2] for answer in answers}
        if counters != set(range(1, count + 1)):
            raise AssertionError(f"{count - len(counters)} of {count} signs had no answer")

    def flood(self) -> None:
        """Many at once: so many are on their way at any time."""
        signs, answers = self.signs(COUNT), []
        send, receive = self.socket.send, self.socket.recv
        start = time.perf_counter_ns()
        for sign in signs[:WINDOW]:
            send(sign)
        for sign in signs[WINDOW:]:
            answers.append(receive(datagram.LIMIT))
            send(sign)
        for _ in range(WINDOW):
            answers.append(receive(datagram.LIMIT))
        self.rates.append(COUNT / (time.perf_counter_ns() - start) * 1e9)
        self.check(answers, COUNT)

    def one_by_one(self) -> None:
        answers = []
        for sign in self.signs(ALONE):
            start = time.perf_counter_ns()
            self.socket.send(sign)
            answers.append(self.socket.recv(datagram.LIMIT))
            self.alone.append((time.perf_counter_ns() - start) / 1e6)
        self.check(answers, ALONE)

    def close(self) -> None:
        self.socket.close()
        self.child.communicate(b"", timeout=20)


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="orc-bench-") as folder:
        home = Home(folder)
        start = proc.start_time(os.getpid())
        roster.register(
            home, Agent({"name": "dev", "session": "team", "role": "dev", "pid": os.getpid(), "pid_start": start})
        )
        datagram.load_key(home)
        both = [Answering(kind, home, _free_port()) for kind in ("listener", "asyncio")]
        try:
            for _ in range(ROUNDS):
                for one in both:
                    one.flood()
                    one.one_by_one()
        finally:
            for one in both:
                one.close()
    ours, theirs = both
    rate, other = max(ours.rates), max(theirs.rates)
    return [
        Row(
            "heartbeats, signed both ways, 32 on their way",
            f"{rate:,.0f} a second (median {sorted(ours.rates)[ROUNDS // 2]:,.0f})",
            f"{rate / other:.2f} × asyncio: {other:,.0f}",
            f"≥ {PER_SECOND:,} a second",
            missed_by(PER_SECOND / rate, 1.0),
        ),
        within("one heartbeat and its answer, median", _quantile(ours, 0.5), "ms", beside=_told(theirs, 0.5)),
        within("one heartbeat and its answer, p99", _quantile(ours, 0.99), "ms", P99_MS, _told(theirs, 0.99)),
    ]


def _quantile(one: Answering, share: float) -> float:
    return sorted(one.alone)[int(len(one.alone) * share)]


def _told(one: Answering, share: float) -> str:
    return f"asyncio: {_quantile(one, share):.3g} ms"


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


if __name__ == "__main__":
    for row in rows():
        print(*row, sep=" | ")
