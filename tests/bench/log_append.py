"""Appending to the log: one writer, groups, on disk, many writers at once; beside Redis and the filelock package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time

from filelock import FileLock

from bench.delivery_tools import PYTHON, Row, Samples, within
from support_orc import ROOT
from support_tmux import wait_until
from tmux_orchestrator.eventlog.daylog import Log, daemon_source
from tmux_orchestrator.eventlog.event import build
from tmux_orchestrator.ground.fastjson import dumps
from tmux_orchestrator.ground.paths import Home

EVENTS, WRITERS, EACH = 20_000, 32, 300
EVENT = build("Agent backend:1 has been idle for 30 minutes", daemon_source("bench"), targets=["backend:1"])
WRITER = """
import sys, time
sys.path[:0] = [{lib!r}, {tests!r}]
from bench.log_append import EACH, EVENT, Home, Log
log = Log(Home(sys.argv[1]), durable=False)
sys.stdin.readline()
for _ in range(EACH):
    start = time.perf_counter_ns()
    log.append([EVENT])
    print((time.perf_counter_ns() - start) / 1e6)
"""


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="orc-bench-") as folder:
        kept, synced = Log(Home(folder + "/kept"), durable=False), Log(Home(folder + "/synced"))
        single = _per_second(lambda: kept.append([EVENT]), EVENTS)
        group = 64 * _per_second(lambda: kept.append([EVENT] * 64), EVENTS // 64)
        disk = _per_second(lambda: synced.append([EVENT]), EVENTS // 40)
        disk_group = 64 * _per_second(lambda: synced.append([EVENT] * 64), EVENTS // 256)
        locked = _per_second(lambda: _by_filelock(folder), EVENTS // 10)
        everysec, always = _redis(folder, "everysec"), _redis(folder, "always")
        waits = _many(folder)
    beside = f"{single / locked:.1f} × filelock, open, json and write each ({locked:,.0f}/s)"
    found = [
        _rate("append, one writer, kept", single, 100_000, beside),
        _rate("append, groups of 64, kept", group, None, ""),
        within(f"append, {WRITERS} writers at once, p99", waits.quantile(0.99), "ms", 10, f"worst {max(waits):.1f} ms"),
    ]
    if everysec:
        found.append(_ratio("append, one writer, kept", single, everysec, "XADD each, AOF everysec", 8))
        found.append(_ratio("append, on disk each", disk, always, "XADD each, AOF always", 1.2))
        found.append(_ratio("append, on disk in groups of 64", disk_group, always, "XADD each, AOF always", 3))
    return found


def _per_second(work: object, count: int) -> float:
    assert callable(work)
    work()
    start = time.perf_counter()
    for _ in range(count):
        work()
    return count / (time.perf_counter() - start)


def _rate(work: str, rate: float, least: float | None, beside: str) -> Row:
    missed = f"missed by {100 * (least / rate - 1):.0f} %" if least and rate < least else ""
    return Row(work, f"{rate:,.0f} events/s", beside, f"≥ {least:,.0f}/s" if least else "", missed)


def _ratio(work: str, rate: float, peer: float, name: str, least: float) -> Row:
    missed = "" if rate >= least * peer else f"missed: {rate / peer:.1f} ×"
    return Row(work, f"{rate:,.0f} events/s", f"{rate / peer:.1f} × {name} ({peer:,.0f}/s)", f"≥ {least:g} ×", missed)


def _by_filelock(folder: str) -> None:
    with FileLock(folder + "/peer.lock"), open(folder + "/peer.jsonl", "a", encoding="ascii") as file:
        file.write(dumps(EVENT) + "\n")


def _redis(folder: str, sync: str) -> float:
    """XADD from one kept client, a reply each, as redis-benchmark counts it; 0 where there is no Redis."""
    server, client = shutil.which("redis-server"), shutil.which("redis-benchmark")
    if server is None or client is None:
        return 0.0
    folder = f"{folder}/{sync}"
    os.mkdir(folder)
    path = folder + "/sock"
    argv = [server, "--port", "0", "--unixsocket", path, "--dir", folder, "--save", "", "--appendonly", "yes"]
    child = subprocess.Popen([*argv, "--appendfsync", sync], stdout=subprocess.DEVNULL)
    try:
        ping = [shutil.which("redis-cli") or "redis-cli", "-s", path, "ping"]
        wait_until(lambda: subprocess.run(ping, capture_output=True, check=False).returncode == 0, what="Redis")
        count = "20000" if sync == "everysec" else "3000"
        told = [client, "-s", path, "-c", "1", "-n", count, "--csv", "XADD", "log", "*", "event", dumps(EVENT)]
        out = subprocess.run(told, capture_output=True, text=True, check=True).stdout.strip().splitlines()[-1]
        return float(out.split('","')[1].strip('"'))
    finally:
        child.terminate()
        child.wait()


def _many(folder: str) -> Samples:
    """How long each append of many writers at once took."""
    program = WRITER.format(lib=ROOT + "/lib", tests=ROOT + "/tests")
    writers = [
        subprocess.Popen(
            [PYTHON if os.path.exists(PYTHON) else sys.executable, "-c", program, folder + "/many"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(WRITERS)
    ]
    time.sleep(3.0)  # all have loaded and wait for the line that lets them go
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    return Samples(float(line) for writer in writers for line in writer.communicate()[0].split())
