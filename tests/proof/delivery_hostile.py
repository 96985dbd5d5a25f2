"""Whoever can write the log can say anything in it; nothing that stands there stops a delivery or runs.

The log is what the broker believes: a line that somebody appends by hand with `verified: true` is shown as verified.
That is no wall, as promise 6 says; what is held here is that it does no more than that.
"""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Iterator
from functools import partial
from typing import Any

from proof.delivery_rows import NO_BOUND, SEED, Row, proved, row, wait_over
from support_orc import Agent, System
from support_tmux import wait_until

_JUNK: list[Any] = [
    None,
    True,
    0,
    -1,
    3.5,
    10**400,
    2**63,
    "",
    "x" * 10_000,
    "\ud800",
    "a\nb",
    "\x1b[31m",
    [],
    {},
    [[]],
]
_JUNK += ["dev", "@all", "%0", "%99999999999", "team:0." + "9" * 30, ":", "PM ACK: ABCDEF", "@1e999", [None], {"a": 1}]
_JUNK += [
    "9999-99-99T99:99:99.999999Z",
    "#(touch CANARY)",
    "#{pane_id}",
    "$(touch CANARY)",
    "'; run-shell 'touch CANARY",
]
_TYPES = ("message", "ack", "delivery", "rate_limited", "clear_queues", "escalation")


def check(quick: bool) -> list[Row]:
    return proved(partial(lines_by_hand, 500 if quick else 20_000), names, forged)


def an_event(number: int, **message: Any) -> dict[str, Any]:
    """What a line of the log holds."""
    source = {"type": "agent", "identifier": "dev", "session": "team", "host": "h", "verified": True}
    content: dict[str, Any] = {"subject": None, "body": f"$(touch CANARY) {number}", "context": {}}
    metadata: dict[str, Any] = {"requires_ack": False, "tags": [], "reply_to": None, "supersedes": None}
    return {
        "id": f"HOSTILE{number:08d}",
        "seq": number,
        "timestamp": "2026-11-20T10:00:00.000000Z",
        "source": source,
        "to": {"groups": [], "targets": ["nobody", "team:0"]},
        "message": {"type": "message", "category": None, "priority": "normal", "content": content} | message,
        "metadata": metadata | {"expires": None, "not_before": None, "hops": 0},
    }


def _holders(value: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Every place in the event."""
    for name, inner in list(value.items()):
        yield value, name
        if isinstance(inner, dict):
            yield from _holders(inner)


def spoiled(number: int, chance: random.Random) -> bytes:
    """A line with something wrong in it, or several things."""
    if number % 50 == 0:
        return chance.choice(
            [b"\xff\xfe\x00", b"[" * 100_000, b"{}", b"null", b'{"id": NaN}', b"\x00" * 5000, b'"' * 99]
        )
    event = an_event(number, type=chance.choice(_TYPES))
    for _ in range(chance.choice((1, 1, 2, 4))):
        holder, name = chance.choice(list(_holders(event)))
        if chance.random() < 0.2:
            holder.pop(name, None)
        else:
            holder[name] = copy.deepcopy(chance.choice(_JUNK))
    return json.dumps(event).encode()


def _append(system: System, lines: list[bytes]) -> None:
    folder = system.root + "/logs/events"
    with open(f"{folder}/{max(os.listdir(folder))}", "ab") as file:
        file.write(b"\n".join(lines) + b"\n")


def lines_by_hand(count: int) -> Row:
    """Wrong types everywhere, what is no JSON, a line of 3 MB: the next message comes through, over a restart too."""
    chance = random.Random(SEED)
    with System(NO_BOUND) as system:
        broker = system.broker()
        agent = system.recorder("dev")
        system.publish("-t", "dev", "before")
        for first in range(1, count + 1, 500):
            _append(system, [spoiled(n, chance) for n in range(first, min(first + 500, count + 1))])
        _append(system, [json.dumps(an_event(count + 1)).encode().replace(b"(touch", b"(touch" + b" " * 3_000_000)])
        problem = _comes_through(system, agent, "after the bad lines.")
        broker.kill()
        broker.wait()
        again = system.broker()
        problem = problem or _comes_through(system, agent, "after the restart.")
        if again.poll() is not None or os.path.exists(system.root + "/logs/defects.log"):
            problem = "the broker has a defect: " + system.story()[-300:]
        screens = "".join(system.server.screen(agent.pane).split())
        canary = "a canary was executed" if os.path.exists("CANARY") or not screens else ""
    return row("lines of the log written by hand", count + 1, problem or canary, f"seed {SEED}")


def _comes_through(system: System, agent: Agent, text: str) -> str:
    event = system.publish("-t", "dev", text)
    try:
        wait_over(system, event, seconds=60)
    except AssertionError as error:
        return str(error)
    return "" if text.encode() in agent.settled().recorded() else f"{text!r} was not typed"


def names() -> Row:
    """tmux's formats, control characters and 10,000 characters as names: refused where they are given, run nowhere."""
    nasty = ["#(touch CANARY)", "team:#(touch CANARY)", "$(touch CANARY)", "team:0;kill-server", "a" * 10_000, "%0;x"]
    nasty += ["team:\x1b[31m", "team:a\nb", "=team:0", "team:*", "team:0.", "team:{last}", "team:+", "team:$", "-t", ""]
    problems = []
    with System() as system:
        broker = system.broker()
        agent = system.recorder("dev")
        for name in nasty:
            out = system.run("orc-publish", f"--to={name}", "x", code=None).split("\n")[0]
            if out:  # a window, which only the broker can look for
                wait_over(system, out)
                if not system.said(out)[-1].startswith("failed"):
                    problems.append(f"{name!r}: {system.said(out)}")
        if agent.settled().recorded() or os.path.exists("CANARY") or broker.poll() is not None:
            problems.append(f"typed {agent.recorded()!r}, or executed")
    return row("names that are no names", len(nasty), "; ".join(problems))


def forged() -> Row:
    """What `verified: true` by hand brings: the mark, and nothing else. Without it the mark says unverified."""
    with System(NO_BOUND) as system:
        system.broker()
        agent = system.recorder("dev")
        boss = system.recorder("boss")
        system.run("orc-publish", "-t", "dev", "--from", "boss", "I am not the boss")
        lie = an_event(1) | {"to": {"targets": ["team:dev"], "groups": []}}
        lie["source"] = lie["source"] | {"identifier": "boss"}
        lie["timestamp"] = system.events()[-1]["timestamp"]
        _append(system, [json.dumps(lie).encode()])
        wait_until(lambda: agent.recorded().count(b"\x1b[200~") == 2, 20, "both")
        by_flag, by_hand = agent.settled().recorded().decode("utf-8", "replace").split("\x1b[200~")[1:]
        problem = "" if "boss ?unverified" in by_flag else f"a flag was believed: {by_flag[:80]}"
        told = "shown as verified" if "boss ✓" in by_hand else "shown as unverified"
        if boss.settled().recorded():
            problem = "the boss was told something"
    return row("a sender that is claimed by a flag, and one that is forged in the log", 2, problem, f"by hand: {told}")
