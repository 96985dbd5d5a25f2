"""How late the monitor is: a heartbeat that is missed, and a start that the rules allow again, beyond their moments."""

from __future__ import annotations

import itertools
import json
import socket
import statistics

from bench.delivery_tools import Row, Samples, within
from support_orc import System
from support_tmux import wait_until
from tmux_orchestrator.ground import clock

TIMES = 10
LIMIT_S = 1.0  # until the nudge; who stays silent is told of half of that later
BACKOFF_S = 2.0


def rows() -> list[Row]:
    return [*_silence(), *_backoff()]


def _silence() -> list[Row]:
    """The agent's last heartbeat → the stamp of the notice, less what the rules give it."""
    late = Samples()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    said = f"monitoring: {{cooldown: 0}}\nheartbeat: {{missed_after: {LIMIT_S}, port: {port}}}\n"
    with System(said) as system:
        system.agent("dev", "sleep", "100000")
        system.run("orc-component", "start", "monitor")
        for number in range(TIMES):
            system.run("orc-heartbeat", "--agent", "dev")
            given = _last_beat(system)
            wait_until(lambda number=number: len(_stamps(system, "silent")) > number, 20, "the notice")  # type: ignore[misc]
            late.append((_stamps(system, "silent")[-1] - given) / 1e6 - LIMIT_S * 1500)
        system.run("orc-component", "stop", "monitor")
    work = f"a heartbeat missed → told, beyond its limit, {TIMES} times"
    return [
        within(f"{work}: median", statistics.median(late), "ms"),
        within(f"{work}: latest", max(late), "ms", 1000.0),
    ]


def _last_beat(system: System) -> int:
    """When the monitor took it, which writes it down at once."""
    before = clock.stamp(clock.now_ns() - 900_000_000)

    def stamp() -> str:
        return json.loads(system.run("orc-agent", "show", "dev", "-o", "jsonl"))["last_heartbeat"] or ""

    wait_until(lambda: stamp() > before, what="the sign on file")
    return clock.parse_stamp(stamp())


def _backoff() -> list[Row]:
    """The moment that `recovery` allows the next start → the stamp of its event; the agent ends at once each time."""
    late = Samples()
    rules = f"recovery: {{spacing_s: 0, backoff_s: [{BACKOFF_S}, {BACKOFF_S}], breaker: 5 in 900}}\n"
    with System(rules) as system:
        system.agent("bad", "false", options=("--restart", "crash", "--profile", "plain"))
        system.run("orc-component", "start", "monitor")
        wait_until(lambda: len(_starts(system)) == 5, 60, "five starts")
        system.run("orc-component", "stop", "monitor")
        starts = _starts(system)
    for earlier, later in itertools.pairwise(starts):
        late.append((later - earlier) / 1e6 - BACKOFF_S * 1000)
    return [
        within("a start is allowed again → it is done, beyond that moment, 4 times: latest", max(late), "ms", 1000.0)
    ]


def _starts(system: System) -> list[int]:
    events = [one for one in system.events() if one["message"]["type"] == "recovery"]
    done = [one for one in events if one["message"]["content"]["context"]["action"] == "respawned"]
    return [clock.parse_stamp(one["timestamp"]) for one in done]


def _stamps(system: System, issue: str) -> list[int]:
    events = [one for one in system.events() if one["message"]["content"]["context"].get("issue_type") == issue]
    return [clock.parse_stamp(one["timestamp"]) for one in events]


if __name__ == "__main__":
    for row in rows():
        print(*row, sep=" | ")
