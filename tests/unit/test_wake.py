"""Wake and pull with real parts: tmux, the broker's process, orc-hook, and a program with hooks like an agent CLI's."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from support_orc import HEADER, Agent, System
from support_tmux import wait_until

PROGRAMS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "programs")
BYTES = 3000
WAKE = f"profiles: {{demo: {{deliver: wake, hook_bytes: {BYTES}}}}}\n"
NO_BOUND = "monitoring: {max_messages_per_minute: 0}\ndelivery: {pair_per_minute: 0, queue_size: 20000"
PATIENT = NO_BOUND + ", confirm_timeout: 60}\n" + WAKE
IMPATIENT = NO_BOUND + ", confirm_timeout: 1}\n" + WAKE


class Hooked(Agent):
    """An agent with hooks. What its model was told is in its log."""

    def mute(self) -> None:
        with open(self.log + ".mute", "w", encoding="ascii"):
            pass

    def ends_its_turn(self) -> None:
        with open(self.log + ".end", "w", encoding="ascii"):
            pass

    def speak(self) -> None:
        os.unlink(self.log + ".mute")

    def contexts(self) -> list[str]:
        """Each parcel: what came beside a prompt, or what a turn went on with."""
        return [str(entry.get("context") or entry.get("continued")) for entry in self._parcels()]

    def continued(self) -> list[str]:
        return [str(entry["continued"]) for entry in self._parcels() if "continued" in entry]

    def _parcels(self) -> list[dict[str, object]]:
        return [entry for entry in self.entries() if "context" in entry or "continued" in entry]

    def handed(self) -> list[str]:
        """Every message that the model was told, its header included, in order: typed, or out of a parcel."""
        found: list[str] = []
        for entry in self.entries():
            text = str(entry.get("prompt") or entry.get("context") or entry.get("continued") or "")
            parts = re.split(r"\n\n(?=\[)", text)
            found += [part for part in parts if HEADER.match(part)]
        return found

    def bodies(self) -> list[str]:
        return [HEADER.sub("", text) for text in self.handed()]

    def has_had(self, *bodies: str) -> None:
        """These, in this order, and no others: it writes down what its hook printed when that has ended."""
        assert self.settled().bodies() == list(bodies)

    def keyed(self) -> list[str]:
        """What was typed into it in one go."""
        return [str(entry["keys"]) for entry in self.entries() if "\x1b[200~" in str(entry.get("keys"))]


def hooked(system: System, *options: str, name: str = "dev", work: str = "0.2") -> Hooked:
    log = f"{system.root}/{name}.log"
    argv = [sys.executable, PROGRAMS + "/hooked.py", "claude", "--log", log, "--work", work]
    found = system.agent(name, *argv, options=("--profile", "demo", *options))
    agent = Hooked(system, name, log, vars(found))
    wait_until(lambda: "Say what to do" in agent.screen(), what="the agent's screen")
    return agent


def busy(agent: Hooked) -> None:
    """A person gives it work without an end, which its prompt hook tells."""
    agent.keys("[[slow:1000]] work", "Enter")
    wait_until(lambda: sign(agent)["state"] == "working", what="the prompt hook")


def sign(agent: Hooked) -> dict[str, object]:
    with open(f"{agent.system.root}/logs/run/signs/team@{agent.name}.json", encoding="ascii") as file:
        return dict(json.load(file))


def parcel(agent: Hooked) -> list[str]:
    """The ids of what is offered."""
    try:
        with open(f"{agent.system.root}/logs/run/parcels/team@{agent.name}.json", encoding="ascii") as file:
            return list(json.load(file)["ids"])
    except FileNotFoundError:
        return []


@pytest.fixture
def system() -> Iterator[System]:
    with System(PATIENT) as found:
        yield found


def test_an_idle_agent_is_woken_and_its_hook_hands_the_message_over(system: System) -> None:
    system.broker()
    dev = hooked(system)
    event = system.publish("-t", "dev", "-p", "high", "first line\nsecond line; #{x} $(y)")
    system.wait_outcome(event, "confirmed: hook")
    dev.has_had("first line\nsecond line; #{x} $(y)")
    (typed,) = dev.keyed()
    assert "first line" not in typed and event[-6:] in typed and "1 message" in typed
    assert system.said(event) == ["typed: wake", "confirmed: hook"] and parcel(dev) == []


def test_an_agent_that_works_is_typed_nothing_and_gets_it_when_its_turn_ends(system: System) -> None:
    system.broker()
    dev = hooked(system)
    busy(dev)
    events = [system.publish("-t", "dev", f"number {n}") for n in range(3)]
    wait_until(lambda: parcel(dev) == [event[-6:] for event in events], what="all of them in the parcel")
    dev.ends_its_turn()
    system.wait_outcome(events[2], "confirmed: hook")
    dev.has_had("number 0", "number 1", "number 2")
    assert dev.keyed() == []
    assert len(dev.continued()) == 1 and system.said(events[0]) == ["typed: pull", "confirmed: hook"]


def test_a_turn_that_was_interrupted_tells_nobody_and_the_agent_is_woken(system: System) -> None:
    system.broker()
    dev = hooked(system)
    busy(dev)
    event = system.publish("-t", "dev", "x")
    wait_until(lambda: parcel(dev) == [event[-6:]], what="the parcel")
    dev.keys("Escape")
    system.wait_outcome(event, "confirmed: hook")
    dev.has_had("x")
    assert system.said(event) == ["typed: wake", "confirmed: hook"]


def test_after_eight_turns_in_a_row_the_agent_is_woken_again(system: System) -> None:
    system.broker()
    dev = hooked(system, work="1000")
    busy(dev)
    for number in range(10):
        event = system.publish("-t", "dev", f"number {number}")
        wait_until(lambda event=event: parcel(dev) == [event[-6:]], what="the parcel")  # type: ignore[misc]
        dev.ends_its_turn()
        system.wait_outcome(event, "confirmed: hook")
    dev.has_had(*(f"number {number}" for number in range(10)))
    assert len(dev.continued()) == 9 and len(dev.keyed()) == 1


def test_critical_ones_are_typed_whole_and_at_once_also_while_it_works(system: System) -> None:
    system.broker()
    dev = hooked(system)
    busy(dev)
    waiting = system.publish("-t", "dev", "can wait")
    wait_until(lambda: parcel(dev) == [waiting[-6:]], what="the parcel")
    event = system.publish("-t", "dev", "-p", "critical", "stop")
    system.wait_outcome(event, "typed")
    wait_until(lambda: dev.bodies() == ["stop"], what="the critical one")
    wait_until(lambda: parcel(dev) == [waiting[-6:]], what="the parcel, again")
    assert system.said(waiting) == []


def test_order_within_a_parcel_and_over_parcels(system: System) -> None:
    system.broker()
    dev = hooked(system)
    busy(dev)
    high: set[str] = set()
    for number in range(60):
        urgent = number % 10 == 9
        options = ["-p", "high" if urgent else "normal", "--from", f"s{number % 3}"]
        event = system.publish("-t", "dev", *options, f"s{number % 3} {number} {'x' * 100}")
        high |= {event[-6:]} if urgent else set()
    wait_until(lambda: set(parcel(dev)[:6]) == high, what="the high ones at the top of the parcel that waits")
    dev.keys("Escape")
    wait_until(lambda: len(dev.bodies()) >= 60, 30, "all messages")
    said = [body.split()[:2] for body in dev.settled().bodies()]
    assert len(said) == 60
    for sender in range(3):
        numbers = [int(number) for who, number in said if who == f"s{sender}"]
        normal = [number for number in numbers if number % 10 != 9]
        assert normal == sorted(normal) and numbers[:2] == sorted(number for number in numbers if number % 10 == 9)
    assert len(set(dev.handed())) == 60 and all(len(text.encode()) <= BYTES for text in dev.contexts())


def test_a_body_that_is_too_long_is_cut_with_a_pointer(system: System) -> None:
    system.broker()
    dev = hooked(system)
    long = "\n".join(f"row {number}" for number in range(2000))
    small = system.publish("-t", "dev", "small")
    event = system.publish("-t", "dev", long)
    system.wait_outcome(event, "confirmed: hook")
    wait_until(lambda: len(dev.handed()) == 2, what="both")
    cut = next(text for text in dev.handed() if "row 0" in text)
    assert f"orc-read --id {event[-6:]} -o body" in cut and len(cut.encode()) <= BYTES
    assert system.run("orc-read", "--id", event, "-o", "body") == long
    assert small[-6:] in dev.handed()[0]


def test_a_flood_is_few_turns_within_the_bound() -> None:
    with System(f"delivery: {{pair_per_minute: 0, queue_size: 300}}\n{WAKE}") as system:
        system.broker()
        dev = hooked(system, work="0.1")
        system.publish("-t", "dev", "awake")
        wait_until(lambda: dev.bodies() == ["awake"], what="the first")
        lines = "".join(f"flood {number}\n" for number in range(200)).encode()
        system.run("orc-publish", "-t", "dev", "--lines", "-", stdin=lines)
        wait_until(lambda: len(dev.bodies()) >= 201, 60, "all of them")
        assert dev.settled().bodies()[1:] == [f"flood {number}" for number in range(200)]
        assert len(dev.contexts()) <= 10


def test_nothing_is_typed_from_the_permission_hook_on_although_the_dialog_comes_late(system: System) -> None:
    system.broker()
    dev = hooked(system)
    with open(dev.log + ".late", "w", encoding="ascii"):
        pass
    dev.keys("[[tool:rm -rf build]]", "Enter")
    wait_until(lambda: sign(dev)["state"] == "waiting", what="the permission hook")
    assert "Run this command?" not in dev.screen()
    event = system.publish("-t", "dev", "-p", "critical", "stop")
    system.wait_outcome(event, "held: dialog")
    os.unlink(dev.log + ".late")
    wait_until(lambda: "Run this command?" in dev.screen(), what="the dialog")
    assert dev.settled().keyed() == [] and not any("answer" in entry for entry in dev.entries())
    dev.keys("3")
    system.wait_confirmed(event, 30)
    dev.has_had("stop")


def test_where_no_hook_has_ever_spoken_the_bodies_are_typed(system: System) -> None:
    system.broker()
    with open(system.root + "/dev.log.mute", "w", encoding="ascii"):
        pass
    dev = hooked(system)
    event = system.publish("-t", "dev", "x")
    system.wait_confirmed(event)
    assert dev.settled().prompts()[0].endswith("] x") and system.said(event)[0] == "typed: hook_silent"


def test_a_wake_that_no_hook_answers_is_followed_by_the_bodies_and_they_are_no_repeat() -> None:
    with System(IMPATIENT) as system:
        system.broker()
        dev = hooked(system)
        dev.mute()
        event = system.publish("-t", "dev", "x")
        system.wait_confirmed(event)
        wake, body = dev.settled().prompts()
        assert "1 message" in wake and body.endswith("] x") and "repeat" not in body
        assert "typed: hook_silent" in system.said(event) and parcel(dev) == []
        second = system.publish("-t", "dev", "y")  # no hook has spoken since: no other wake
        system.wait_confirmed(second)
        assert dev.settled().prompts()[2].endswith("] y")
        dev.speak()
        third = system.publish("-t", "dev", "z")
        system.wait_confirmed(third)
        wait_until(lambda: sign(dev)["taken"], what="the hook of a prompt that was typed")
        last = system.publish("-t", "dev", "last")
        system.wait_outcome(last, "confirmed: hook")
        wait_until(lambda: dev.bodies() == ["x", "y", "z", "last"], what="all of them")
        assert system.said(last)[0].split()[1] in ("wake", "pull")


@pytest.mark.parametrize("when", ["before", "between", "after"])
def test_a_broker_killed_around_the_wake_loses_nothing_and_tells_nothing_twice(system: System, when: str) -> None:
    dev = hooked(system)
    if when == "after":
        dev.mute()
    broken = subprocess.Popen(
        [sys.executable, PROGRAMS + "/killed_broker.py", when], env=system.env, stderr=subprocess.DEVNULL
    )
    system.children.append(broken)
    event = system.publish("-t", "dev", "--requires-ack", "x")
    assert broken.wait(timeout=20) == -signal.SIGKILL
    wait_until(lambda: parcel(dev) == [event[-6:]], what="the parcel that it left")
    if when == "after":
        wait_until(lambda: len(dev.prompts()) == 1, what="the wake")
        dev.speak()
    if when == "between":
        wait_until(lambda: f"1 message {event[-6:]}" in dev.screen() and not dev.prompts(), what="the wake")
    system.broker()
    system.wait_outcome(event, "confirmed: hook")
    dev.has_had("x")
    (text,) = dev.handed()
    assert text.endswith("] x") and "repeat" not in text
    system.run("orc-ack", event)
    system.wait_outcome(event, "acked")


def test_what_a_hook_took_while_no_broker_ran_is_not_told_again(system: System) -> None:
    dev = hooked(system)
    broken = subprocess.Popen(
        [sys.executable, PROGRAMS + "/killed_broker.py", "before"], env=system.env, stderr=subprocess.DEVNULL
    )
    system.children.append(broken)
    event = system.publish("-t", "dev", "x")
    assert broken.wait(timeout=20) == -signal.SIGKILL
    dev.keys("a person asks", "Enter")
    wait_until(lambda: dev.bodies() == ["x"], what="the hook")
    system.broker()
    system.wait_outcome(event, "confirmed: hook")
    dev.has_had("x")
    assert dev.keyed() == []
