"""Reading a log of 1,000,000 events: the last 10, the last 5 minutes, a rare tag; beside bare Python, grep and jq."""

from __future__ import annotations

import os
import shutil
import tempfile

from bench.delivery_tools import PYTHON, Row, Samples, against, spawn, timed
from support_orc import BIN
from tmux_orchestrator.eventlog.daylog import Log, daemon_source
from tmux_orchestrator.eventlog.event import build
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.paths import Home

EVENTS, GROUP, EVERY_NS = 1_000_000, 500, 40_000_000  # 7,500 in five minutes
ROUNDS = 9


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="orc-bench-") as folder:
        path = _fill(folder)
        env = {"PATH": os.environ["PATH"], "ORC_HOME": folder}
        floor = [PYTHON, "-I", "-S", "-c", "pass"]
        last, recent = [BIN + "/orc-read", "-n", "10"], [BIN + "/orc-read", "--since", "5m"]
        rare = [BIN + "/orc-read", "--tag", "rare"]
        found = _beside("the last 10 of 1,000,000", last, {"python -I -S -c pass": (floor, 1.4)}, env)
        found += _beside("the last 5 minutes of them", recent, {"python -I -S -c pass": (floor, 2.0)}, env)
        grep = ["/bin/sh", "-c", f"grep -F '\"rare\"' {path} | cat"]
        peers: dict[str, tuple[list[str], float | None]] = {"grep -F": (grep, 1.5)}
        if shutil.which("jq"):
            select = f"jq -c 'select(.metadata.tags | index(\"rare\"))' {path}"
            peers["jq select"] = (["/bin/sh", "-c", select], 0.12)
        return found + _beside("a tag that 10 of them have", rare, peers, env, rounds=3)


def _fill(folder: str) -> str:
    """A log of eleven hours that ends now; its day files, for a shell."""
    now = clock.now_ns()
    stamps = [now - EVENTS * EVERY_NS]
    log = Log(Home(folder), durable=False, now=lambda: stamps[0])
    source = daemon_source("bench")
    plain = [build(f"message {n}", source, targets=["backend:1"], tags=["health", "idle"]) for n in range(GROUP)]
    rare = build("found", source, tags=["rare"])
    for n in range(EVENTS // GROUP):
        stamps[0] = now - (EVENTS - n * GROUP) * EVERY_NS
        log.append([*plain[:-1], rare] if n % 200 == 0 else plain)
    return f"{folder}/logs/events/*.jsonl"


def _beside(
    work: str,
    argv: list[str],
    peers: dict[str, tuple[list[str], float | None]],
    env: dict[str, str],
    rounds: int = ROUNDS,
) -> list[Row]:
    ours, theirs = Samples(), {name: Samples() for name in peers}
    spawn(argv, env)
    for _ in range(rounds):
        ours.append(timed(lambda: spawn(argv, env)))
        for name, (peer, _) in peers.items():
            theirs[name].append(timed(lambda peer=peer: spawn(peer, env)))  # type: ignore[misc]
    return [against(work, ours, name, theirs[name], bound) for name, (_, bound) in peers.items()]
