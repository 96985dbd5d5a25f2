"""A component that falls is started again by another one; one that somebody stops is not."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from support_orc import System
from support_tmux import wait_until
from tmux_orchestrator.eventlog.voice import Voice
from tmux_orchestrator.ground import clock, config, pidfile
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.watch.revival import Revival

SOON = 30.0  # seconds, on a busy machine


@pytest.fixture
def system() -> Iterator[System]:
    with System() as made:
        made.run("orc-component", "start")
        yield made


def pid_of(system: System, name: str) -> int:
    return pidfile.running(Home(system.root), name) or 0


def told(system: System) -> list[dict[str, Any]]:
    contexts = [event["message"]["content"]["context"] for event in system.events()]
    return [one for one in contexts if one.get("issue_type") == "component_restarted"]


def falls(system: System, name: str) -> None:
    """kill -9, and its return."""
    old = pid_of(system, name)
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: pid_of(system, name) not in (0, old), SOON, f"{name} again")


@pytest.mark.parametrize("name", ["broker", "monitor", "state_updater"])
def test_whoever_falls_comes_back_and_that_is_told_once(system: System, name: str) -> None:
    falls(system, name)
    wait_until(lambda: len(told(system)) > 0, SOON, "the word")
    assert [one["component"] for one in told(system)] == [name]


def test_who_was_stopped_stays_away(system: System) -> None:
    system.run("orc-component", "stop", "broker")
    falls(system, "monitor")  # whoever looks after both has looked at the broker too
    assert pid_of(system, "broker") == 0


def test_who_falls_again_and_again_is_left_to_a_person(system: System) -> None:
    falls(system, "monitor")
    os.kill(pid_of(system, "monitor"), signal.SIGKILL)
    falls(system, "broker")  # as before; by the rules of recovery the monitor's next start is later
    assert pid_of(system, "monitor") == 0


@pytest.mark.parametrize("text", ["", "recovery: {enabled: false}"])
def test_where_recovery_is_off_nobody_is_started_again(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with System(text) as system:
        home = Home(system.root)
        for name in ("ORC_TMUX_SOCKET", "PATH"):
            monkeypatch.setenv(name, system.env[name])
        later = clock.boot_ns()
        monkeypatch.setattr(clock, "boot_ns", lambda: later)
        system.run("orc-component", "start", "monitor")
        revival = Revival(home, config.load(home), Voice(home, "test"), ("monitor",))
        revival.turn()
        old = pid_of(system, "monitor")
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: pid_of(system, "monitor") == 0, SOON, "its end")
        for _ in range(5):
            later += 10**9
            revival.turn()
        starter = revival._known["monitor"].starter
        assert (starter is None) == bool(text)
        if starter is not None:
            assert starter.wait(SOON) == 0
            assert pid_of(system, "monitor") not in (0, old)


def test_what_runs_in_the_foreground_is_its_callers_business(system: System) -> None:
    system.run("orc-component", "stop", "broker")
    child = system.broker()
    falls(system, "monitor")  # whoever looks after both has seen that broker
    child.kill()
    child.wait()
    system.run("orc-component", "stop", "monitor")
    system.run("orc-component", "start", "monitor")
    falls(system, "monitor")
    assert pid_of(system, "broker") == 0
