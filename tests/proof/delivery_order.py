"""Order, and what is never typed: FIFO per sender, priorities, nothing merged, expiry, chains and loops of answers."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections import Counter
from functools import partial
from typing import Any

from proof.delivery_flood import HERE, clocked, frames, worst
from proof.delivery_rows import NO_BOUND, Row, an_event, proved, publish_all, row, wait_over, wait_screen
from support_orc import Agent, System
from support_tmux import wait_until
from tmux_orchestrator.ground.clock import parse_stamp

_NUMBERED = re.compile(r"(\w+) says (\d+)\.")
_HOPS = 8


def check(quick: bool) -> list[Row]:
    return proved(
        partial(never_merged, 8, 2 if quick else 5),
        partial(in_order, 10 if quick else 100),
        by_priority,
        at_its_time,
        long_chain,
        partial(echo_bots, 20 if quick else 130),
    )


def never_merged(senders: int, each: int) -> Row:
    """Processes of their own publish to one pane at the same time."""
    with System(NO_BOUND) as system:
        system.broker()
        agent = system.demo("dev")

        def send(name: str) -> None:
            for number in range(each):
                system.publish("-t", "dev", "--from", name, f"{name} says {number}.\nand a second line")

        threads = [threading.Thread(target=send, args=(f"s{n}",)) for n in range(senders)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until(lambda: len(agent.prompts()) >= senders * each, 60, "all prompts")
        told = [_NUMBERED.findall(prompt) for prompt in agent.settled().prompts()]
        wrong = [one for one in told if len(one) != 1]
        problem = (
            f"{len(told)} prompts, {len(wrong)} of them merged or cut" if wrong or len(told) != senders * each else ""
        )
        problem = problem or _disorder([one[0] for one in told])
    return row(f"{senders} senders to one pane, prompts separate and whole", senders * each, problem)


def _disorder(told: list[tuple[str, str]]) -> str:
    """Does any sender's message come before an earlier one of the same sender?"""
    last: Counter[str] = Counter()
    for name, number in told:
        if int(number) < last[name]:
            return f"{name} {number} came after {last[name]}"
        last[name] = int(number)
    return ""


def in_order(each: int) -> Row:
    """Two senders by turns; first in, first out for each, and neither has to wait for the other's end."""
    with System(NO_BOUND) as system:
        agent = system.recorder("dev")
        names = ("left", "right")
        sent = [(name, n) for n in range(each) for name in names]
        events = [an_event("dev", f"{name} says {n}.") | {"source": {"identifier": name}} for name, n in sent]
        ids = publish_all(system, events)
        system.broker()
        wait_over(system, *ids, seconds=60)
        told = _NUMBERED.findall(agent.settled().recorded().decode("utf-8", "replace"))
        problem = _disorder(told) or ("" if len(told) == len(sent) else f"{len(told)} of {len(sent)} were typed")
    return row("two senders to one agent, in order for each", len(sent), problem)


def _paused(system: System) -> Agent:
    agent = system.recorder("dev")
    system.run("orc-agent", "pause", "dev")
    return agent


def by_priority() -> Row:
    """What waits together leaves by priority; what is superseded or has expired does not leave at all."""
    with System(NO_BOUND) as system:
        system.broker()
        agent = _paused(system)
        for priority in ("low", "normal", "high", "critical"):
            system.publish("-t", "dev", "-p", priority, f"{priority} says 1.")
        old = system.publish("-t", "dev", "--supersede", "state", "state says 1.")
        system.publish("-t", "dev", "--supersede", "state", "state says 2.")
        brief = system.publish("-t", "dev", "--ttl", "0.3", "brief says 1.")
        wait_until(lambda: any(s.startswith("expired") for s in system.said(brief)), 10, "the expiry")
        wait_until(lambda: any(s.startswith("superseded") for s in system.said(old)), 10, "the replacement")
        system.run("orc-agent", "resume", "dev")
        expected = ["critical", "high", "normal", "state", "low"]
        wait_until(lambda: b"low says 1." in agent.recorded(), 10, "the last one")
        told = _NUMBERED.findall(agent.settled().recorded().decode("utf-8", "replace"))
    problem = "" if told == [(name, "2" if name == "state" else "1") for name in expected] else f"typed were {told}"
    return row("priority, supersede, expiry: typed in their order, or not", 7, problem)


def at_its_time() -> Row:
    """--in: not before, and not much later, over a restart of the broker."""
    with System() as system:
        broker = system.broker()
        agent = clocked(system, "dev")
        before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        system.publish("-t", "dev", "--in", "3s", "later says 1.")
        broker.kill()
        broker.wait()
        system.broker()
        wait_until(lambda: frames(agent), 20, "the message")
        took = (frames(agent)[0].at - before) / 1e9
    return row(
        "a message for later, over a restart", 1, "" if 3 <= took <= 5 else f"typed after {took:.2f} s", f"{took:.2f} s"
    )


def long_chain() -> Row:
    """Answers to answers: the ninth and later are refused, and say why."""
    with System(NO_BOUND) as system:
        system.broker()
        system.recorder("dev")
        event = system.publish("-t", "dev", "begin")
        said: list[str] = []
        for _ in range(_HOPS + 2):
            event = system.publish("-t", "dev", "--reply-to", event, "and again")
            wait_over(system, event)
            said.append(system.said(event)[-1])
    expected = ["typed"] * _HOPS + ["failed: hops"] * 2
    return row("a chain of answers: typed up to eight, then refused", len(said), "" if said == expected else str(said))


def echo_bots(seconds: float) -> list[Row]:
    """Two agents that answer everything, each under its cap; somebody else still gets through."""
    cap = 4
    with System(f"delivery: {{pair_per_minute: {cap}}}\n") as system:
        system.broker()
        for name, other in (("ping", "pong"), ("pong", "ping")):
            log = f"{system.root}/{name}.bytes"
            bot = system.agent(name, sys.executable, HERE + "/programs/echo.py", log, other, log=log)
            wait_screen(system, bot.pane, "ready")
        first = system.publish("-t", "ping", "go")
        began = time.monotonic()
        wait_until(lambda: any(o["reason"] == "pair_cap" for o in system.outcomes()), 30, "the report of the loop")
        person = system.publish("-t", "ping", "--from", "ada", "are you busy?")
        system.wait_outcome(person, "typed")
        time.sleep(max(0.0, began + seconds - time.monotonic()))
        typed = [e for e in system.events() if _is_typed(e)]
        others = [e for e in typed if e["message"]["content"]["context"]["event"] not in (first, person)]
        most = max(
            worst([parse_stamp(e["timestamp"]) for e in others if _target(e) == f"team:{name}"])
            for name in ("ping", "pong")
        )
    problem = "" if most <= cap else f"{most} answers in a minute"
    told = (
        f"at most {most} in a minute, seen for {seconds:.0f} s, logged as rate_limited: pair_cap; a third party typed"
    )
    return [row("two agents that answer each other, under the pair cap", len(typed), problem, told)]


def _is_typed(event: dict[str, Any]) -> bool:
    message = event["message"]
    return bool(message["type"] == "delivery" and message["content"]["context"]["outcome"] == "typed")


def _target(event: dict[str, Any]) -> str:
    return str(event["message"]["content"]["context"]["target"])
