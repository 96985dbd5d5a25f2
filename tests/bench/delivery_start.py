"""How long things take to start: `orc-publish` from start to end, the broker until it is ready, a second manager start.

Beside `orc-publish`, in the same rounds: the least its promise costs (bare Python and one sync), jq, and redis-cli
with a server of our own where Redis is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from bench.delivery_tools import PYTHON, Row, Samples, Syncs, against, spawn, timed, within
from support_orc import BIN, ROOT, System
from support_tmux import wait_until

PUBLISHES, STARTS = 60, 7
FLOOR = [PYTHON, "-I", "-S", "-c", "pass"]


def rows() -> list[Row]:
    return [*_published(), *_broker_starts(), *_manager_starts()]


def _published() -> list[Row]:
    with System() as system, _redis() as xadd:
        peers = {"jq -n": ([shutil.which("jq") or "", "-nc", '{"a": 1}'], 0.65), "redis-cli XADD": (xadd, 2.2)}
        peers = {name: peer for name, peer in peers.items() if peer[0] and peer[0][0]}
        argv, env, syncs = [BIN + "/orc-publish", "the build is red"], clean(system.env), Syncs(system)
        ours, floor, sync = Samples(), Samples(), Samples()
        theirs = {name: Samples() for name in peers}
        spawn(argv, env)
        for _ in range(PUBLISHES):
            ours.append(timed(lambda: spawn(argv, env)))
            floor.append(timed(lambda: spawn(FLOOR, env)))
            sync.append(timed(syncs.take))
            for name, (peer, _) in peers.items():
                theirs[name].append(timed(lambda: spawn(peer, env)))  # noqa: B023
        syncs.close()
    work = "orc-publish, whole process"
    found = [against(work, ours, "(python -I -S -c pass + fdatasync)", floor.plus(sync), 1.35)]
    return found + [against(work, ours, name, theirs[name], bound) for name, (_, bound) in peers.items()]


@contextmanager
def _redis() -> Iterator[list[str]]:
    """A Redis server on a socket of its own, and the command line that appends an event; [] where there is none."""
    server, client = shutil.which("redis-server"), shutil.which("redis-cli")
    if server is None or client is None:
        yield []
        return
    with tempfile.TemporaryDirectory(prefix="orc-bench-") as folder:
        path = folder + "/socket"
        argv = [server, "--port", "0", "--unixsocket", path, "--dir", folder, "--appendonly", "yes", "--save", ""]
        child = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        try:
            wait_until(lambda: os.path.exists(path), what="redis-server")
            yield [client, "-s", path, "XADD", "log", "*", "event", "x" * 400]
        finally:
            child.terminate()
            child.wait()


def _broker_starts() -> list[Row]:
    """Until it holds its lock and follows the log."""
    took, floor = Samples(), Samples()
    with System() as system:
        env = clean(system.env)
        for _ in range(STARTS):
            floor.append(timed(lambda: spawn(FLOOR, env)))
            took.append(timed(system.broker))
            system.children[-1].terminate()
            system.children[-1].wait()
            os.unlink(system.root + "/logs/run/broker.json")
    return [against("orc-broker, start → ready", took, "python -I -S -c pass", floor)]


def _manager_starts() -> list[Row]:
    """A second start finds everything running."""
    manager = ROOT + "/orchestrator_manager.sh"
    took = Samples()
    with System() as system:
        env = clean(system.env)
        spawn([manager, "start"], env)
        try:
            for _ in range(STARTS):
                took.append(timed(lambda: spawn([manager, "start"], env)))
        finally:
            spawn([manager, "stop"], env)
    return [within("orchestrator_manager.sh start, the second", took.median, "ms", 1000.0, str(took))]


def clean(env: dict[str, str]) -> dict[str, str]:
    """Without what would change how Python starts."""
    return {name: value for name, value in env.items() if not name.startswith("PYTHON")}


if __name__ == "__main__":
    for row in rows():
        print(*row, sep=" | ")
