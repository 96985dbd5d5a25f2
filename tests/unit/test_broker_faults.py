"""The broker under faults: the quick version of each proof in tests/proof/delivery_*.py, and what needs no tmux."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proof import (
    delivery_brokers,
    delivery_crash,
    delivery_flood,
    delivery_hostile,
    delivery_kill,
    delivery_order,
    delivery_panes,
)
from proof.delivery_flood import worst
from proof.delivery_rows import Row
from support_broker import SECOND, Desk
from support_faults import Faults, Killed
from tmux_orchestrator.eventlog import event
from tmux_orchestrator.eventlog.event import short
from tmux_orchestrator.ground import tmux
from tmux_orchestrator.ground.config import Config

MINUTE = 60 * SECOND


def holds(found: Row | list[Row]) -> None:
    rows = found if isinstance(found, list) else [found]
    assert rows and all(said.startswith("ok") for _, _, said in rows), rows


# With real parts.


def test_killed_agents_execute_nothing() -> None:
    holds(delivery_kill.killed_agents(8))


def test_other_programs_get_no_byte() -> None:
    holds([delivery_kill.foreign_panes(), delivery_kill.shell_instead_of_the_agent()])


@pytest.mark.parametrize("kind", ["recorder", "demo"])
def test_each_state_of_a_pane(kind: str) -> None:
    states = delivery_panes.STATES if kind == "recorder" else delivery_panes.SEEN | delivery_panes.STATES
    holds(delivery_panes.pane_states(kind, states))


def test_tmux_servers_that_leave_come_and_stand_still() -> None:
    holds([delivery_panes.server_killed(2), delivery_panes.server_late(), delivery_panes.another_server()])
    holds(delivery_panes.server_stuck(1))


@pytest.mark.skipif(not os.path.exists("/usr/bin/strace"), reason="needs strace")
def test_killed_and_refused_at_some_system_calls() -> None:
    holds(delivery_crash.killed_everywhere("recorder", 30))
    holds(delivery_crash.refused_everywhere("ENOSPC", 15))


def test_order_and_what_is_never_typed() -> None:
    holds([delivery_order.never_merged(8, 1), delivery_order.in_order(20), delivery_order.by_priority()])
    holds([delivery_order.at_its_time(), delivery_order.long_chain()])
    holds(delivery_order.echo_bots(3))


def test_one_broker_and_the_next_at_once() -> None:
    holds([delivery_brokers.second_broker(), delivery_brokers.take_over(1)])


def test_what_a_broker_remembers_and_takes_up() -> None:
    holds([delivery_brokers.lost_journal(), delivery_brokers.log_replaced(), delivery_brokers.stopped(1000)])
    holds(delivery_brokers.reloaded())


def test_an_idle_broker_costs_nothing() -> None:
    holds(delivery_brokers.idle(2))


def test_hostile_lines_and_names() -> None:
    holds([delivery_hostile.lines_by_hand(1000), delivery_hostile.names(), delivery_hostile.forged()])


def test_a_flood_over_kills_and_clock_steps() -> None:
    holds(delivery_flood.flood(events=2000, kills=5, steps=2, seconds=20))


# Every call that changes a file, on a desk: one delivery of everything there is.

CONFIG = "delivery: {ack_timeout: 600s, escalate_to: []}\n"
WANTED: tuple[tuple[str, str, tuple[str, ...], dict[str, Any]], ...] = (
    ("one", "normal", ("dev",), {}),
    ("now", "critical", ("dev", "two"), {}),
    ("small", "low", ("dev",), {}),
    ("tiny", "low", ("dev",), {}),
    ("sure", "normal", ("two",), {"requires_ack": True}),
    ("late", "normal", ("late",), {"queue": True}),
)


def delivered(folder: str, faults: Faults) -> None:
    """Publish, let the fault happen, go on, and look at everything that must hold."""
    with Desk(folder, CONFIG) as desk:
        keys = {name: desk.agent(name) for name in ("dev", "two")}
        ids = {body: desk.publish(body, *to, priority=level, **more) for body, level, to, more in WANTED}
        refused = desk.publish("nobody", "nosuch:1")
        desk.panes.before_typing = lambda text: intent_is_there(desk, faults, text)
        desk.start()
        try:
            with faults:
                desk.run(3)
        except Killed:
            desk.again()
        desk.run(2)
        keys["late"] = desk.agent("late")
        desk.run(1)
        desk.publish(f"PM ACK: {ids['sure']}", tags=["acknowledgment"])
        desk.run(80)
        desk.again()
        desk.run(5)
        for body, _, to, _ in WANTED:
            for key in [keys[name] for name in to]:
                frames = [text for text in desk.panes.frames(key) if "#" + short(ids[body]) in text]
                assert 1 <= len(frames) <= 2, (faults.at, body, frames)
                assert all("repeat" in text for text in frames[1:]), (faults.at, body, frames)
                assert key in desk.ends(ids[body]), (faults.at, body, desk.said(ids[body]))
        assert desk.ends(refused) == ["nosuch:1"] * len(desk.ends(refused)) != []


def intent_is_there(desk: Desk, faults: Faults, text: str) -> None:
    """This is about to be typed: the intent is in the file."""
    with faults.off(), open(desk.home.run + "/broker.journal", encoding="ascii") as file:
        intents = file.read().split('["intent", "')[1:]
    assert any(short(intent.split('"')[0]) in text for intent in intents), text


@pytest.mark.parametrize("how", ["killed", "torn", "ENOSPC", "EIO", "short"])
def test_a_fault_at_every_call_that_changes_a_file(tmp_path: Path, how: str) -> None:
    at, times = 0, 1 if how in ("killed", "torn") else 7
    while True:
        at += 1
        faults = Faults(how, at, times=times)
        delivered(str(tmp_path / f"home{at}"), faults)
        if faults.calls < at:
            break
    assert at > 15, "there is more to it than that"


# The windows, in a time of their own.


@pytest.mark.parametrize("seed", range(4))
def test_no_window_holds_too_much_over_kills_and_clock_steps(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    with Desk(str(tmp_path / "home"), "delivery: {ttl: 30d, notification_ttl: 30d}\n") as desk:
        key = desk.agent("dev")
        desk.start()
        levels = chance.choices(["normal", "high", "critical", "low"], [80, 10, 3, 7], k=2000)
        source = {"type": "human", "host": "h", "verified": False, "session": None}
        made = [
            event.build(f"m{n}", source | {"identifier": f"s{n % 3}"}, targets=["dev"], priority=level)
            for n, level in enumerate(levels)
        ]
        desk.log.append(made)
        for _ in range(12):
            desk.run(chance.uniform(0, 30))
            if chance.random() < 0.3:
                desk.clocks.wall += chance.choice((-3600, 3600)) * SECOND
            with Faults(chance.choice(("killed", "torn")), chance.randint(1, 30)):
                try:
                    desk.run(40)
                except Killed:
                    pass
            desk.again()
        desk.run(200)
        at: dict[str, list[int]] = {"line": [], "critical": [], "normal": []}
        for ns, _, text in desk.panes.typed:
            kind = "line" if "more since" in text else "critical" if "CRITICAL" in text[:30] else "normal"
            at[kind].append(ns)
        assert len(desk.panes.frames(key)) > 30
        assert worst(at["normal"]) <= 10 and worst(at["critical"]) <= 3 and worst(at["line"]) <= 1


# What somebody wrote into the log by hand.

_STAMP = '"timestamp": "2026-11-20T10:00:00.000000Z"'


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe",
        b"{}",
        b"null",
        b"[" * 100_000,
        b'{"id": "BYHAND1", "seq": 1}',
        b'{"id": "BY\\nHAND", "seq": 1, ' + _STAMP.encode() + b', "to": {"targets": ["dev", "nosuch:1"]}}',
        b'{"id": "BYHAND3", "seq": "1", ' + _STAMP.encode() + b', "message": {"content": {"body": "x"}}}',
        b'{"id": "BYHAND4", "seq": 1, "timestamp": 7, "to": {"targets": ["dev"]}}',
        b'{"id": "BYHAND5", "seq": 1, ' + _STAMP.encode() + b', "metadata": {"hops": 1e999}}',
        b'{"id": "BYHAND6", "seq": 1, ' + _STAMP.encode() + b', "message": {"type": "ack", "content": []}}',
    ],
)
def test_a_line_that_is_no_event_stops_nothing(tmp_path: Path, line: bytes) -> None:
    with Desk(str(tmp_path / "home")) as desk:
        key = desk.agent("dev")
        desk.start()
        desk.publish("before", "dev")
        desk.run(1)
        desk.raw(line)
        desk.publish("after", "dev")
        desk.run(2)
        assert desk.panes.bodies(key)[-2:] == ["before", "after"]
        broker = desk.again()
        desk.publish("again", "dev")
        desk.run(2)
        assert desk.panes.bodies(key)[-1] == "again" and broker._problems == {}


def test_a_target_that_no_event_can_hold_stops_no_record(tmp_path: Path) -> None:
    """The name of a session may be longer than a target may be, and then its agent cannot be told."""
    with Desk(str(tmp_path / "home")) as desk:
        desk.agent("dev")
        desk.agent("far", session="s" * 126)
        desk.start()
        sender = {"type": "agent", "identifier": "far", "session": "s" * 126, "verified": True}
        lost = desk.publish("x", "nosuch:1", source=sender)
        desk.run(3)
        fine = desk.publish("y", "dev")
        desk.run(3)
        assert desk.said(lost) == ["failed: unknown_target"] and desk.said(fine) == ["typed"]


def test_one_look_at_the_panes_serves_the_lines_that_came_before_it(tmp_path: Path) -> None:
    with Desk(str(tmp_path / "home")) as desk:
        desk.agent("dev")
        desk.start()
        looks: list[int] = []

        def look() -> list[tmux.Pane]:
            looks.append(0)
            return []

        desk.panes.panes = look  # type: ignore[method-assign]
        lost = [desk.publish("x", "nosuch:1") for _ in range(50)]
        desk.run(1)
        assert len(looks) == 1 and {said for one in lost for said in desk.said(one)} == {"failed: unknown_target"}
        desk.publish("x", "nosuch:1")
        desk.run(1)
        assert len(looks) == 2


# The loop itself.


def test_a_signal_that_is_not_meant_to_end_it_does_not_keep_it_awake(tmp_path: Path) -> None:
    with Desk(str(tmp_path / "home")) as desk:
        broker = desk.start()
        wakeup, written = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        os.write(written, b"\x0e")
        broker._sleep(wakeup, 0)
        with pytest.raises(BlockingIOError):
            os.read(wakeup, 1)
        os.close(wakeup)
        os.close(written)


@pytest.mark.parametrize("name", ["status", "registry", "events"])
def test_what_cannot_be_read_or_written_is_waited_out(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Desk(str(tmp_path / "home")) as desk:
        key = desk.agent("dev")
        broker = desk.start()
        desk.run(1)

        def refuse(*args: Any, **named: Any) -> Any:
            raise OSError(5, "Input/output error")

        broken: Callable[[], None] = {
            "status": lambda: monkeypatch.setattr(broker, "_tell_status", refuse),
            "registry": lambda: monkeypatch.setattr(broker, "_read_registry", refuse),
            "events": lambda: monkeypatch.setattr(broker.follower, "read", refuse),
        }[name]
        desk.publish("x", "dev")
        with monkeypatch.context():
            broken()
            desk.run(20)
        assert capsys.readouterr().err.count("ERROR") == 1
        monkeypatch.undo()
        desk.publish("y", "dev")
        desk.run(2)
        assert desk.panes.bodies(key)[-1] == "y"


def test_once_leaves_when_nothing_more_can_be_done_and_not_before(tmp_path: Path) -> None:
    with Desk(str(tmp_path / "home")) as desk:
        key, held = desk.agent("dev"), desk.agent("held")
        desk.panes.reasons[held] = "draft"
        desk.panes.refuse[key] = "moved"
        broker = desk.start()
        desk.publish("x", "dev")
        desk.publish("x", "held")
        desk.turn()
        assert not broker._idle(), "the screen only moved"
        desk.panes.refuse.clear()
        desk.run(0.1)
        assert desk.panes.bodies(key) == ["x"] and broker._idle()


def test_settings_are_taken_up_and_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    with Desk(str(tmp_path / "home"), "monitoring: {max_messages_per_minute: 2}\n") as desk:
        key = desk.agent("dev")
        broker = desk.start()
        for number in range(9):
            desk.publish(f"x {number}", "dev")
        desk.run(3)
        assert len([body for body in desk.panes.bodies(key) if body.startswith("x")]) == 2
        desk.configure("monitoring: {max_messages_per_minute: none}\n")
        desk.run(3)
        assert isinstance(broker.intake.settings, Config)
        assert broker.intake.settings.get("monitoring.max_messages_per_minute") == 2
        desk.configure("monitoring: {max_messages_per_minute: 4}\n")
        desk.run(3)
        assert len([body for body in desk.panes.bodies(key) if body.startswith("x")]) == 4
