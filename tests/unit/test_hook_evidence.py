"""What the agents' hooks say, as the broker uses it: evidence that a frame was taken, and a pane closed in time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support_broker import SECOND, Desk
from support_faults import Killed
from tmux_orchestrator.agents import signs
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.agents.screen import Screen
from tmux_orchestrator.delivery.hooks import Hooks
from tmux_orchestrator.delivery.typist import View
from tmux_orchestrator.eventlog.event import short
from tmux_orchestrator.ground.paths import Home


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with Desk(str(tmp_path / "home")) as found:
        yield found


@pytest.fixture
def key(desk: Desk) -> str:
    """An agent whose input box is empty and whose screen never shows what it was typed."""
    key = desk.agent("dev", profile="demo")
    desk.panes.screens[key] = Screen("idle", "empty")
    return key


def says(desk: Desk, state: str = "", *took: str) -> None:
    """The agent's hook speaks."""

    def change(sign: signs.Sign) -> None:
        sign.at = desk.clocks.wall
        if state:
            sign.enter(state, desk.clocks.wall)
        sign.take([short(event) for event in took], desk.clocks.wall)

    signs.update(desk.home, desk.agents[-1], change)


def another_process(desk: Desk) -> str:
    return desk.agent("dev", profile="demo", pid=os.getppid(), pid_start=1)


def dies_after_typing(desk: Desk) -> None:
    def die() -> None:
        raise Killed

    desk.panes.after_typing = die
    with pytest.raises(Killed):
        desk.run(1)
    desk.panes.after_typing = lambda: None


# evidence


def test_a_frame_is_confirmed_by_the_hook_that_took_its_id(desk: Desk, key: str) -> None:
    desk.start()
    event, other = desk.publish("x", "dev"), desk.publish("y", "dev")
    desk.run(0.1)
    says(desk, "working", event)
    desk.run(0.1)
    assert desk.said(event) == ["typed", "confirmed: hook"] and desk.ends(event) == [key]
    assert desk.said(other) == ["typed"]


def test_a_hook_that_took_another_message_confirms_nothing(desk: Desk, key: str) -> None:
    desk.start()
    event = desk.publish("x", "dev")
    desk.run(0.1)
    says(desk, "working", "ABCDEF")
    desk.run(0.2)
    assert desk.said(event) == ["typed"]


def test_what_an_earlier_process_took_confirms_nothing(desk: Desk, key: str) -> None:
    desk.start()
    event = desk.publish("x", "dev")
    says(desk, "working", event)
    another_process(desk)
    desk.run(0.2)
    assert desk.said(event) == ["typed"]


def test_what_it_took_the_first_time_does_not_confirm_the_repeat(desk: Desk, key: str) -> None:
    desk.configure("delivery: {ack_timeout: 5}\n")
    desk.start()
    event = desk.publish("x", "dev", requires_ack=True)
    desk.run(0.1)
    says(desk, "idle", event)
    desk.run(6)
    assert desk.said(event) == ["typed", "confirmed: hook", "typed"]
    assert " · repeat 1" in desk.panes.frames(key)[1]
    says(desk, "idle", event)
    desk.run(0.5)
    assert desk.said(event)[-1] == "confirmed: hook"


def test_after_a_crash_the_hook_is_asked_before_anything_is_typed_again(desk: Desk, key: str) -> None:
    desk.start()
    event, lost = desk.publish("x", "dev"), desk.publish("y", "dev")
    dies_after_typing(desk)
    says(desk, "working", event)
    desk.again()
    desk.run(1)
    assert desk.said(event) == ["confirmed: hook"] and desk.ends(event) == [key]
    assert desk.panes.bodies(key) == ["x", "y"] and "repeat" not in desk.panes.frames(key)[1]
    assert desk.said(lost) == ["typed"]


def test_what_a_hook_took_before_the_crash_does_not_end_the_repeat_in_doubt(desk: Desk, key: str) -> None:
    desk.configure("delivery: {ack_timeout: 5}\n")
    desk.start()
    event = desk.publish("x", "dev", requires_ack=True)
    desk.run(0.1)
    says(desk, "idle", event)
    desk.run(0.5)
    desk.clocks.pass_by(5 * SECOND)
    dies_after_typing(desk)
    desk.again()
    desk.run(0.1)
    assert len(desk.panes.frames(key)) == 3 and " · repeat 1" in desk.panes.frames(key)[2]


def test_an_agent_that_took_it_and_died_has_had_it(desk: Desk, key: str) -> None:
    desk.start()
    event = desk.publish("x", "dev")
    desk.turn()
    says(desk, "working", event)
    desk.panes.reasons[key] = "agent_gone"
    desk.run(0.2)
    assert desk.said(event) == ["typed", "confirmed: hook"]


def test_a_damaged_sign_is_none(desk: Desk, key: str) -> None:
    desk.start()
    says(desk, "waiting")
    with open(signs.path(desk.home, desk.agents[-1]), "wb") as file:
        file.write(b'{"pid": "x", "taken": 7')
    event = desk.publish("x", "dev")
    desk.run(0.1)
    assert desk.said(event) == ["typed"]


def test_a_sign_is_read_again_only_when_it_is_another_one(
    desk: Desk, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks, agent = Hooks(desk.home), desk.agents[-1]
    reads: list[str] = []
    real = signs.load

    def load(home: Home, agent: Agent) -> signs.Sign | None:
        reads.append(agent.key)
        return real(home, agent)

    monkeypatch.setattr(signs, "load", load)
    assert hooks.sign(agent) is None and reads == []
    says(desk, "working")
    for _ in range(5):
        found = hooks.sign(agent)
        assert found is not None and found.state == "working"
    says(desk, "idle")
    found = hooks.sign(agent)
    assert found is not None and found.state == "idle" and len(reads) == 2


# a dialog


def test_a_hook_that_asks_closes_the_pane_before_the_screen_shows_a_dialog(desk: Desk, key: str) -> None:
    desk.start()
    says(desk, "waiting")
    event = desk.publish("x", "dev", priority="critical")
    desk.run(9)
    assert desk.panes.frames(key) == [] and desk.said(event) == ["held: dialog"]
    says(desk, "working")
    desk.run(1.5)
    assert desk.panes.bodies(key) == ["x"]


def test_a_screen_is_believed_when_no_hook_tells_of_the_answer(desk: Desk, key: str) -> None:
    desk.start()
    says(desk, "waiting")
    desk.publish("x", "dev")
    desk.run(9.5)
    assert desk.panes.frames(key) == []
    desk.run(2)
    assert desk.panes.bodies(key) == ["x"]


@pytest.mark.parametrize("screen", [Screen("unknown"), Screen("waiting", "none"), Screen("idle", "none")])
def test_a_screen_without_a_box_or_with_a_dialog_never_opens_the_pane(desk: Desk, key: str, screen: Screen) -> None:
    agent, hooks = desk.agents[-1], Hooks(desk.home)
    says(desk, "waiting")
    desk.clocks.pass_by(3600 * SECOND)
    assert hooks.judged(agent, View("", None, screen)).reason == "dialog"
    assert hooks.judged(agent, View("", None, None)).reason == "dialog"
    assert hooks.judged(agent, View("", None, Screen("idle", "empty"))).reason == ""


def test_an_agent_that_asked_and_died_is_gone_and_has_no_dialog(desk: Desk, key: str) -> None:
    desk.start()
    says(desk, "waiting")
    desk.panes.reasons[key] = "agent_gone"
    event = desk.publish("x", "dev")
    desk.run(0.1)
    assert desk.said(event) == ["failed: agent_gone"]


def test_an_earlier_process_that_asked_closes_nothing(desk: Desk, key: str) -> None:
    desk.start()
    says(desk, "waiting")
    another_process(desk)
    desk.publish("x", "dev")
    desk.run(0.1)
    assert desk.panes.bodies(key) == ["x"]


def test_a_hook_that_asks_while_the_intents_go_to_disk_is_heard(
    desk: Desk, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.start()
    real = os.fdatasync

    def asks(fd: int) -> None:
        says(desk, "waiting")
        real(fd)

    monkeypatch.setattr(os, "fdatasync", asks)
    event = desk.publish("x", "dev")
    desk.run(0.5)
    assert desk.panes.frames(key) == [] and desk.said(event) == ["held: dialog"]
    monkeypatch.setattr(os, "fdatasync", real)
    says(desk, "idle")
    desk.run(2)
    assert desk.panes.bodies(key) == ["x"] and "repeat" not in desk.panes.frames(key)[0]


def test_the_submit_key_is_not_pressed_into_a_dialog_that_came_after_the_paste(desk: Desk) -> None:
    key = desk.agent("dev", profile="claude")
    desk.panes.screens[key] = Screen("idle", "empty")
    desk.start()
    desk.run(1.5)  # it has just started
    event = desk.publish("x", "dev")
    desk.turn()
    assert len(desk.panes.frames(key)) == 1
    desk.clocks.pass_by(SECOND // 1000)
    says(desk, "waiting")
    desk.run(1)
    assert desk.panes.pressed == []
    says(desk, "idle")
    desk.run(0.2)
    assert desk.panes.pressed == [key] and desk.said(event)[0] == "typed"
