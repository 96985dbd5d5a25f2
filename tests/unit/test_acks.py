"""Acknowledgments: what is one, whose copies it closes, when repeats come and when they stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support_broker import SECOND, Desk
from tmux_orchestrator.agents.screen import Screen
from tmux_orchestrator.delivery.acks import Acks
from tmux_orchestrator.delivery.waiting import Item
from tmux_orchestrator.eventlog.ack import acknowledged_id

MINUTE = 60 * SECOND


def item(name: str, **fields: Any) -> Item:
    return Item(name, 1, "ada", "normal", "text", requires_ack=True, **fields)


def an_event(
    kind: str = "message", body: str = "", tags: list[str] | None = None, context: Any = None
) -> dict[str, Any]:
    return {
        "message": {"type": kind, "content": {"body": body, "context": context or {}}},
        "metadata": {"tags": tags or []},
    }


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("PM ACK: ABC123", "ABC123"),
        ("PM ACK: ABC123 - done", "ABC123"),
        ("PM ACK: ABC123, thanks", "ABC123"),
        ("PM ACK: #ABC123.", "ABC123"),
        ("PM ACK: ", None),
        ("PM ACK: ...", None),
        ("pm ack: ABC123", None),
        ("I say PM ACK: ABC123", None),
        ("", None),
    ],
)
def test_what_a_body_acknowledges(body: str, found: str | None) -> None:
    assert acknowledged_id(an_event(body=body, tags=["acknowledgment"])) == found
    assert acknowledged_id(an_event(body=body)) is None


@pytest.mark.parametrize(("context", "found"), [({"event": "ABC123"}, "ABC123"), ({}, None), ({"event": 7}, None)])
def test_what_an_ack_event_acknowledges(context: dict[str, Any], found: str | None) -> None:
    assert acknowledged_id(an_event("ack", context=context)) == found


def test_a_target_closes_its_own_copy_and_anybody_else_all() -> None:
    acks = Acks(300)
    for target in ("team:a", "team:b"):
        acks.typed(item("E"), target, 0)
    assert [one.target for one in acks.acknowledged("E", "team:a")] == ["team:a"]
    assert len(acks) == 1
    acks.typed(item("E"), "team:a", 0)
    assert {one.target for one in acks.acknowledged("E", "other:x")} == {"team:a", "team:b"}
    assert len(acks) == 0 and acks.next_ns is None
    assert acks.acknowledged("E", "team:a") == []


def test_each_is_due_again_after_a_timeout_and_the_next_moment_is_known() -> None:
    acks = Acks(10)
    acks.typed(item("E"), "t", 0)
    acks.typed(item("F"), "t", 5 * SECOND)
    assert acks.next_ns == 10 * SECOND and acks.due(9 * SECOND) == []
    assert [one.item.id for one in acks.due(10 * SECOND)] == ["E"]
    assert acks.next_ns == 15 * SECOND
    acks.forget("F", "t")
    acks.forget("nobody", "t")
    assert acks.next_ns == 20 * SECOND


def test_a_repeat_counts_however_often_it_is_told() -> None:
    acks = Acks(10)
    acks.typed(item("E"), "t", 0)
    acks.typed(item("E", repeat=2), "t", 0)
    acks.typed(item("E", repeat=1), "t", 0)
    assert acks.due(10 * SECOND)[0].repeats == 2


# With the rest of the broker.

CONFIG = "delivery: {ack_timeout: 5s, escalate_to: ['@boss']}\n"


@pytest.fixture
def home_path(tmp_path: Path) -> str:
    return str(tmp_path / "home")


def test_it_is_repeated_three_times_then_escalated(home_path: str) -> None:
    with Desk(home_path, CONFIG) as desk:
        key, boss = desk.agent("dev"), desk.agent("chief", role="boss")
        desk.start()
        asked = desk.publish("are you there?", "dev", requires_ack=True)
        desk.run(120)
        frames = desk.panes.frames(key)
        assert len(frames) == 4 and [f"repeat {n}" in frame for n, frame in enumerate(frames)] == [
            False,
            True,
            True,
            True,
        ]
        assert desk.said(asked)[-1] == "dead: not_acknowledged" and desk.ends(asked) == [key]
        assert any("Nobody acknowledged" in body for body in desk.panes.bodies(boss))


def test_restarts_do_not_begin_the_count_anew(home_path: str) -> None:
    with Desk(home_path, CONFIG) as desk:
        key = desk.agent("dev")
        desk.start()
        asked = desk.publish("are you there?", "dev", requires_ack=True)
        for _ in range(12):
            desk.run(6)
            desk.again()
        assert len(desk.panes.frames(key)) == 4
        assert desk.ends(asked) == [key]


def test_restarts_do_not_put_a_repeat_off(home_path: str) -> None:
    with Desk(home_path, "delivery: {ack_timeout: 20s, escalate_to: []}\n") as desk:
        key = desk.agent("dev")
        desk.start()
        asked = desk.publish("are you there?", "dev", requires_ack=True)
        for _ in range(5):
            desk.run(6)
            desk.again()
        assert len(desk.panes.frames(key)) == 2 and desk.said(asked)[0] == "typed"


def test_one_that_comes_before_the_screen_shows_anything_counts(home_path: str) -> None:
    with Desk(home_path, CONFIG) as desk:
        key = desk.agent("dev", profile="demo")
        desk.start()
        desk.panes.screens[key] = Screen("idle", "empty")
        asked = desk.publish("please", "dev", requires_ack=True)
        desk.run(0.1)
        desk.publish(f"PM ACK: {asked}", tags=["acknowledgment"])
        desk.run(0.1)
        desk.panes.screens[key] = Screen("idle", "empty", text=desk.panes.frames(key))
        desk.run(60)
        assert len(desk.panes.frames(key)) == 1
        assert desk.said(asked) == ["typed", "acked"]


def test_one_that_comes_while_a_repeat_is_on_its_way_ends_the_repeats(home_path: str) -> None:
    with Desk(home_path, CONFIG) as desk:
        key = desk.agent("dev", profile="demo")
        desk.start()
        desk.panes.screens[key] = Screen("idle", "empty", text=["#"])
        asked = desk.publish("please", "dev", requires_ack=True)
        desk.run(30, until=lambda: len(desk.panes.frames(key)) == 2)
        desk.publish(f"PM ACK: {asked}", tags=["acknowledgment"])
        desk.run(120)
        assert len(desk.panes.frames(key)) == 2
        assert desk.ends(asked) == [key]


def test_one_for_what_waits_keeps_it_from_being_typed(home_path: str) -> None:
    with Desk(home_path, CONFIG) as desk:
        key = desk.agent("dev")
        desk.start()
        desk.panes.reasons[key] = "copy_mode"
        asked = desk.publish("please", "dev", requires_ack=True)
        desk.run(1)
        desk.publish(f"PM ACK: {asked[-6:]}", tags=["acknowledgment"])
        desk.run(1)
        desk.panes.reasons.clear()
        desk.run(20)
        assert desk.panes.frames(key) == [] and desk.ends(asked) == [key]


def test_one_for_what_an_earlier_life_typed_is_taken_before_the_screen_is_asked(home_path: str) -> None:
    with Desk(home_path, CONFIG) as desk:
        key = desk.agent("dev")
        desk.start()
        asked = desk.publish("please", "dev", requires_ack=True)
        desk.run(1)
        desk.panes.reasons[key] = "copy_mode"
        desk.again()
        desk.run(1)
        desk.publish(f"PM ACK: {asked}", tags=["acknowledgment"])
        desk.run(1)
        desk.panes.reasons.clear()
        desk.run(60)
        assert len(desk.panes.frames(key)) == 1 and desk.ends(asked) == [key]


@pytest.mark.parametrize("wanted", ["", "x", "zzzzzz", "é" * 9])
def test_one_for_nothing_known_changes_nothing(home_path: str, wanted: str) -> None:
    with Desk(home_path, CONFIG) as desk:
        key = desk.agent("dev")
        desk.start()
        asked = desk.publish("please", "dev", requires_ack=True)
        desk.run(0.5)
        desk.publish("x", type="ack", context={"event": wanted})
        desk.run(6)
        assert len(desk.panes.frames(key)) == 2 and desk.ends(asked) == []
