"""Events come in: each is owed once, records and damage to nobody, and time, acknowledgments and restarts end it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support_broker import SECOND, Desk
from tmux_orchestrator.agents.screen import Screen
from tmux_orchestrator.eventlog import event
from tmux_orchestrator.eventlog.daylog import day_file, days
from tmux_orchestrator.eventlog.event import short
from tmux_orchestrator.ground import clock

DEV = {"type": "agent", "identifier": "dev", "session": "team", "verified": True}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with Desk(str(tmp_path / "home")) as found:
        yield found


def take_again(desk: Desk, event_id: str) -> None:
    """The line of an event is read a second time, as when its file was replaced."""
    assert desk.broker is not None
    day = days(desk.home)[-1]
    with open(day_file(desk.home, day), "rb") as file:
        lines = file.read().split(b"\n")
    offset = 0
    for line in lines:
        if line.startswith(f'{{"id": "{event_id}"'.encode()):
            desk.broker.intake.take(line, (day, offset, len(line)))
        offset += len(line) + 1


@pytest.mark.parametrize("kind", sorted(event.RECORDS))
def test_what_the_system_records_is_delivered_to_nobody(desk: Desk, kind: str) -> None:
    desk.agent("dev")
    desk.start()
    desk.publish("x", "dev", type=kind)
    desk.run(5)
    assert desk.panes.typed == []


@pytest.mark.parametrize(
    "changed",
    [
        {"id": "x\x1b[201~ rm"},
        {"id": "short"},
        {"timestamp": "yesterday"},
        {"message": {"type": "no word", "content": {"body": "x"}}},
        {"message": {"content": {"body": "x", "subject": "a\nb"}}},
    ],
    ids=["control bytes", "short id", "no time", "type", "subject"],
)
def test_a_line_by_hand_that_could_not_be_published_is_damage(desk: Desk, changed: dict[str, Any]) -> None:
    desk.agent("dev")
    broker = desk.start()
    line = {"id": "BYHAND1", "seq": 1, "timestamp": clock.stamp(desk.clocks.wall), "to": {"targets": ["dev"]}}
    line |= {"message": {"content": {"body": "x"}}} | changed
    desk.raw(json.dumps(line).encode())
    desk.run(5)
    assert desk.panes.typed == [] and broker.intake.damaged == 1


def test_what_is_read_twice_is_owed_once(desk: Desk) -> None:
    key = desk.agent("dev")
    desk.panes.reasons[key] = "draft"
    desk.start()
    first, later = desk.publish("x", "dev"), desk.publish("y", "late", queue=True)
    desk.run(1)
    for one in (first, later):
        take_again(desk, one)
    desk.panes.reasons.clear()
    desk.run(5)
    late = desk.agent("late")
    desk.run(5)
    assert len(desk.panes.frames(key)) == len(desk.panes.frames(late)) == 1
    assert desk.said(later, "late") == ["held: not_registered"]
    assert desk.said(first) == ["held: draft", "typed"] and desk.ends(first) == [key]


def test_what_is_read_twice_while_nobody_knows_whether_it_was_typed(desk: Desk) -> None:
    key = desk.agent("dev", profile="demo")
    desk.panes.screens[key] = Screen("idle", "empty")
    desk.start()
    desk.panes.refuse[key] = "unknown"
    event_id = desk.publish("x", "dev")
    desk.run(0.01)
    desk.panes.refuse.clear()
    take_again(desk, event_id)
    desk.panes.screens[key] = Screen("idle", "empty", text=desk.panes.frames(key))
    desk.run(20)
    assert len(desk.panes.frames(key)) == 1 and desk.said(event_id)[-1] == "confirmed: seen_later"


def test_what_is_read_twice_while_its_acknowledgment_is_awaited(desk: Desk) -> None:
    key = desk.agent("dev")
    desk.start()
    event_id = desk.publish("x", "dev", requires_ack=True)
    desk.run(1)
    take_again(desk, event_id)
    desk.run(5)
    assert len(desk.panes.frames(key)) == 1


def test_what_has_no_end_of_its_own_expires(desk: Desk) -> None:
    desk.configure("delivery: {ttl: 2m, notification_ttl: 1m}\n")
    key = desk.agent("dev")
    desk.panes.reasons[key] = "draft"
    desk.start()
    notice, task = desk.publish("x", "dev"), desk.publish("y", "dev", type="task_delegate")
    desk.run(90)
    assert desk.ends(notice) == [key] and desk.ends(task) == []
    desk.run(60)
    assert desk.ends(task) == [key] and desk.panes.typed == []


def test_what_is_for_later_expires_later(desk: Desk) -> None:
    desk.configure("delivery: {notification_ttl: 1m}\n")
    key = desk.agent("dev")
    desk.start()
    desk.publish("x", "dev", not_before=clock.stamp(desk.clocks.wall + 120 * SECOND))
    desk.run(130)
    assert desk.panes.bodies(key) == ["x"]


def test_an_acknowledgment_of_one_target_leaves_the_others(desk: Desk) -> None:
    dev, two = desk.agent("dev"), desk.agent("two")
    desk.start()
    asked = desk.publish("x", "dev", "two", requires_ack=True)
    desk.run(1)
    desk.publish(f"PM ACK: {asked}", tags=["acknowledgment"], source=DEV)
    desk.run(1)
    assert desk.ends(asked) == [dev]
    desk.publish(f"PM ACK: {asked}", tags=["acknowledgment"])
    desk.run(1)
    assert desk.ends(asked) == [dev, two]


def test_an_acknowledgment_of_one_target_leaves_what_waits_for_the_others(desk: Desk) -> None:
    dev, two = desk.agent("dev"), desk.agent("two")
    desk.panes.reasons[two] = "draft"
    desk.start()
    asked = desk.publish("x", "dev", "two", requires_ack=True)
    desk.run(1)
    desk.publish(f"PM ACK: {asked}", tags=["acknowledgment"], source=DEV)
    desk.run(1)
    desk.panes.reasons.clear()
    desk.run(2)
    assert desk.ends(asked) == [dev] and len(desk.panes.frames(two)) == 1


def test_clearing_ends_what_waits_for_a_name_too(desk: Desk) -> None:
    desk.start()
    waits = desk.publish("x", "late", queue=True)
    desk.run(1)
    desk.publish("clear", type="clear_queues")
    desk.run(1)
    late = desk.agent("late")
    desk.run(1)
    desk.again()
    desk.run(1)
    assert desk.ends(waits) == ["late"] and desk.panes.frames(late) == []


def test_no_reminder_while_one_waits(desk: Desk) -> None:
    desk.configure("delivery: {ack_timeout: 5s, escalate_to: []}\n")
    key = desk.agent("dev")
    desk.start()
    asked = desk.publish("x", "dev", requires_ack=True)
    desk.run(1)
    desk.panes.reasons[key] = "draft"
    desk.run(60)
    assert desk.ends(asked) == []
    desk.panes.reasons.clear()
    desk.run(3)
    assert len(desk.panes.frames(key)) == 2 and "repeat 1" in desk.panes.frames(key)[1]


def test_nothing_is_escalated_while_its_last_repeat_is_on_its_way(desk: Desk) -> None:
    desk.configure("delivery: {ack_timeout: 5s, ack_repeats: 0, confirm_timeout: 20s, escalate_to: []}\n")
    key = desk.agent("dev", profile="demo")
    desk.panes.screens[key] = Screen("idle", "empty")
    desk.start()
    asked = desk.publish("x", "dev", requires_ack=True)
    desk.run(15)
    assert desk.ends(asked) == []
    desk.run(20)
    assert desk.said(asked)[-1] == "dead: not_acknowledged"


def test_a_reminder_is_not_put_off_by_another_message_on_its_way(desk: Desk) -> None:
    desk.configure("delivery: {ack_timeout: 20s, confirm_timeout: 10s, escalate_to: []}\n")
    key = desk.agent("dev", profile="demo")
    desk.panes.screens[key] = Screen("idle", "empty")
    desk.start()
    desk.publish("x", "dev", requires_ack=True)
    desk.run(0.01)
    desk.panes.screens[key] = Screen("idle", "empty", text=desk.panes.frames(key))
    desk.run(15)
    desk.publish("y", "dev")
    desk.run(15)
    assert desk.panes.bodies(key) == ["x", "y", "x"]


# after a restart


def test_what_is_gone_from_the_log_is_told(desk: Desk) -> None:
    key = desk.agent("dev")
    desk.panes.reasons[key] = "draft"
    desk.start()
    gone = desk.publish("x", "dev")
    desk.run(1)
    desk.crash()
    os.unlink(day_file(desk.home, days(desk.home)[-1]))
    desk.panes.reasons.clear()
    desk.start()
    desk.run(5)
    assert desk.said(gone) == ["dead: no longer in the log"] and desk.panes.typed == []


def test_what_stands_elsewhere_in_its_file_is_found(desk: Desk) -> None:
    """An editor saved it: another event stands where this one stood."""
    key = desk.agent("dev")
    desk.panes.reasons[key] = "draft"
    desk.start()
    desk.publish("x", "dev")
    wanted = desk.publish("y", "dev")
    desk.run(1)
    desk.crash()
    path = day_file(desk.home, days(desk.home)[-1])
    with open(path, "rb") as file:
        lines = file.read().split(b"\n")[:-1]
    order = [line for line in lines if short(wanted).encode() in line]
    order += [line for line in lines if line not in order]
    with open(path, "wb") as file:
        file.write(b"\n".join(order) + b"\n")
    desk.panes.reasons.clear()
    desk.start()
    desk.run(5)
    assert sorted(desk.panes.bodies(key)) == ["x", "y"]


def test_the_windows_of_another_boot_are_over(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.configure("monitoring: {max_messages_per_minute: 1}\n")
    key = desk.agent("dev")
    desk.start()
    desk.publish("x", "dev")
    desk.run(1)
    desk.crash()
    monkeypatch.setattr(clock, "boot_id", lambda: "the next boot")
    desk.start()
    desk.publish("y", "dev")
    desk.run(2)
    assert desk.panes.bodies(key) == ["x", "y"]
