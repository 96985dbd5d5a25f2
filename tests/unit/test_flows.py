"""Events become tasks: whose, of what type and priority; once each, whoever dies when; and nothing stops the others."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from support_faults import Faults, Killed
from support_watch import settings
from tmux_orchestrator.eventlog import daylog, event, reader
from tmux_orchestrator.eventlog.daylog import Log, daemon_source
from tmux_orchestrator.eventlog.voice import Voice
from tmux_orchestrator.ground import clock, config_schema, files
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work import flows, message, reading
from tmux_orchestrator.work.flows import Flows
from tmux_orchestrator.work.queue import MessageQueue
from tmux_orchestrator.work.store.database import Database

SECOND = 1_000_000_000
ARCHITECT = {"type": "agent", "identifier": "architect", "session": "web", "host": "h", "verified": True}
HUMAN = {"type": "human", "identifier": "root", "session": None, "host": "h", "verified": False}


class Desk:
    """A log, and flows that are made anew when they are killed. The boot clock moves from turn to turn."""

    def __init__(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        files.make_dir(home.root)
        self.home = home
        self.settings = settings(home.root)
        self.log = Log(home, durable=False)
        self.flows: Flows | None = None
        self._queue: MessageQueue | None = None
        self.boot = clock.boot_ns()
        monkeypatch.setattr(clock, "boot_ns", lambda: self.boot)

    @property
    def queue(self) -> MessageQueue:
        self._queue = self._queue or MessageQueue(None, self.home, self.settings)
        return self._queue

    def say(self, kind: str, context: Any = None, body: str = "so it is", source: Any = None, **more: Any) -> str:
        made = event.build(body, dict(source or ARCHITECT), type=kind, context=context, **more)
        return self.log.append([made])[0]

    def raw(self, line: bytes) -> None:
        files.append(daylog.day_file(self.home, daylog.days(self.home)[-1]), line + b"\n")

    def configure(self, text: str) -> None:
        self.settings = settings(self.home.root, text)
        if self.flows is not None:
            self.flows.configure(self.settings)

    def turn(self, times: int = 3) -> None:
        self.flows = self.flows or Flows(self.home, self.settings, Voice(self.home, "host"))
        for _ in range(times):
            self.boot = max(self.boot, self.flows.turn())
            while self.flows.turn(news=True) <= self.boot:
                pass

    def kill(self) -> None:
        """It is gone, and has not put its cursor in order."""
        if self.flows is not None:
            self.flows.heard.close(keep=False)
            self.flows._close_queue()
        self.flows = None

    def tasks(self) -> list[dict[str, Any]]:
        self.turn()
        return list(reading.tasks(self.queue.database))

    def close(self) -> None:
        self.kill()
        self.log.close()
        if self._queue is not None:
            self._queue.close()


@pytest.fixture
def desk(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    desk = Desk(home, monkeypatch)
    yield desk
    desk.close()


# whose, and how urgent


@pytest.mark.parametrize(
    ("kind", "context", "more", "recipient", "priority"),
    [
        ("spec_created", {"spec_id": "SPEC-048"}, {}, "code_developer", 5),
        ("spec_created", {"severity": "critical"}, {"priority": "low"}, "code_developer", 8),
        ("spec_created", None, {"targets": ["web:dev"]}, "code_developer", 5),
        ("implementation_complete", {"pr_number": 123}, {"priority": "high"}, "project_manager", 3),
        ("bug_report", {"severity": "critical"}, {"priority": "low"}, "project_manager", 1),
        ("bug_report", {"severity": "High"}, {}, "project_manager", 3),
        ("bug_report", {"severity": "medium"}, {"priority": "low"}, "project_manager", 5),
        ("bug_report", {"severity": "normal"}, {"priority": "low"}, "project_manager", 5),
        ("bug_report", {"severity": "low"}, {"priority": "high"}, "project_manager", 8),
        ("bug_report", {"severity": "ouch"}, {"priority": "critical"}, "project_manager", 1),
        ("bug_report", {"severity": ["critical"]}, {"priority": "high"}, "project_manager", 3),
        ("spec_request", None, {}, "architect", 5),
        ("demo_request", None, {}, "assistant", 5),
        ("question", None, {}, "assistant", 5),
        ("task_delegate", {"recipient": "assistant"}, {}, "assistant", 5),
        ("task_delegate", {"recipient": "assistant", "priority": 9}, {"targets": ["web:dev"]}, "assistant", 9),
        ("task_delegate", {"recipient": "assistant", "priority": 11}, {}, "assistant", 5),
        ("task_delegate", {"recipient": "../x"}, {}, "project_manager", 5),
        ("task_delegate", None, {}, "project_manager", 5),
    ],
)
def test_whose_task_it_is(
    desk: Desk, kind: str, context: Any, more: dict[str, Any], recipient: str, priority: int
) -> None:
    said = desk.say(kind, context, **more)
    (task,) = desk.tasks()
    assert (task["recipient"], task["type"], task["priority"]) == (recipient, kind, priority)
    assert (task["status"], task["sender"], task["correlation_id"]) == ("queued", "architect", said)


def test_what_the_worker_gets(desk: Desk) -> None:
    context = {"spec_id": "SPEC-048", "priority": "US-048", "event": "mine", "body": "mine"}
    said = desk.say("spec_created", context, "it is ready", subject="SPEC-048", correlation_id="US-048")
    (task,) = desk.tasks()
    assert task["payload"] == {
        "spec_id": "SPEC-048",
        "priority": "US-048",
        "event": said,
        "sender": "web:architect",
        "verified": True,
        "subject": "SPEC-048",
        "body": "it is ready",
    }
    found = reader.find(desk.home, said)
    assert found is not None
    assert (task["correlation_id"], task["created_at"]) == ("US-048", found["timestamp"])


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("notification", {}),
        ("task_completed", {}),
        ("spec_created", {"source": daemon_source("tasks")}),
        ("spec_created", {"source": daemon_source("flows")}),
        ("question", {"targets": ["web:pm"]}),
        ("task_delegate", {"groups": ["management"]}),
    ],
)
def test_what_makes_no_task(desk: Desk, kind: str, more: dict[str, Any]) -> None:
    desk.say(kind, **more)
    assert desk.tasks() == []


def test_rules_of_ones_own(desk: Desk) -> None:
    desk.configure(
        """
flows:
  fallback: boss
  rules:
    - match: {type: [bug_report, smell], tags: ui, text: 'red|green'}
      task: {recipient: painter, type: paint, priority: high}
    - match: {type: spec_created, source: "web:architect"}
      task: {recipient: builder, priority: severity}
    - match: {type: demo_request}
"""
    )
    desk.say("smell", None, "all red", tags=["ui"])
    desk.say("smell", None, "all red")
    desk.say("bug_report", None, "all blue", tags=["ui"])
    desk.say("spec_created", {"severity": "low"})
    desk.say("spec_created", source=HUMAN)
    desk.say("demo_request")
    found = [(one["recipient"], one["type"], one["priority"]) for one in desk.tasks()]
    assert found == [
        ("painter", "paint", 3),
        ("boss", "bug_report", 5),
        ("builder", "spec_created", 8),
        ("boss", "spec_created", 5),
    ]
    desk.configure("flows: {fallback: '', rules: []}\n")
    desk.say("bug_report")
    desk.configure("flows: {enabled: false}\n")
    desk.say("spec_created")
    assert len(desk.tasks()) == 4


def test_a_time_and_an_end(desk: Desk) -> None:
    later = clock.stamp(clock.now_ns() + 3600 * SECOND)
    desk.say("spec_created", not_before=later)
    desk.say("spec_created", expires=later)
    desk.say("spec_created", not_before="soon", expires="never")
    desk.say("spec_created", not_before="2199-01-01T02:00:00+02:00")
    found = [(one["not_before"], one["expires"]) for one in desk.tasks()]
    assert found == [(later, None), (None, later), (None, None), ("2199-01-01T00:00:00.000000Z", None)]


def test_the_queue_is_never_full_for_what_is_promised(desk: Desk) -> None:
    desk.configure("team: {message_queue: {max_size: 1}}\n")
    for _ in range(4):
        desk.say("spec_created", priority="low")
    assert len(desk.tasks()) == 4


# once each


def test_no_second_task_for_the_same_correlation_id(desk: Desk) -> None:
    desk.say("spec_created", correlation_id="US-048")
    desk.say("spec_created", correlation_id="US-048", body="again")
    (task,) = desk.tasks()
    got = desk.queue.get("code_developer")
    assert got is not None and got.task_id == task["task_id"]
    desk.say("spec_created", correlation_id="US-048")
    assert len(desk.tasks()) == 1, "it runs"
    desk.queue.mark_completed(got.task_id)
    desk.say("spec_created", correlation_id="US-048")
    assert len(desk.tasks()) == 1, "it is done"
    desk.say("implementation_complete", correlation_id="US-048")
    desk.say("spec_created", correlation_id="US-049")
    desk.say("spec_created")
    desk.say("spec_created")
    assert [one["recipient"] for one in desk.tasks()][1:] == ["project_manager", *["code_developer"] * 3]


@pytest.mark.parametrize("ends", ["failed", "dead", "cancelled"])
def test_what_came_to_nothing_may_be_asked_for_again(desk: Desk, ends: str) -> None:
    desk.say("spec_created", correlation_id="US-048")
    (task,) = desk.tasks()
    if ends == "cancelled":
        desk.queue.cancel(task["task_id"])
    else:
        desk.queue.database.change("UPDATE tasks SET max_attempts = 1")
        desk.queue.get("code_developer")
        desk.queue.mark_failed(task["task_id"], "no", retry=ends == "dead")
    desk.kill()
    os.unlink(desk.home.run + "/cursors/component.flows")
    assert [one["status"] for one in desk.tasks()] == [ends], "the same event is the same wish"
    desk.say("spec_created", correlation_id="US-048")
    desk.say("spec_created", correlation_id="US-048")
    assert [one["status"] for one in desk.tasks()] == [ends, "queued"]


@pytest.mark.parametrize("how", ["killed", "torn", "ENOSPC"])
def test_each_event_makes_one_task_wherever_its_host_dies(desk: Desk, how: str) -> None:
    said: list[str] = []
    at = 1
    while True:
        said += [desk.say("spec_created"), desk.say("bug_report")]
        with Faults(how, at) as faults:
            try:
                desk.turn()
            except Killed:
                pass
        desk.kill()
        assert [one["payload"]["event"] for one in desk.tasks()] == said
        if faults.calls < at:
            break
        at += 1
    assert at > 2, "nothing was hit"


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_around_the_database(desk: Desk, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    put = Flows._put

    def dies(self: Flows, queue: Any, message: Any, event_id: str, by_rule: bool) -> None:
        if event_id == said[1]:
            if when == "after":
                put(self, queue, message, event_id, by_rule)
            raise Killed
        put(self, queue, message, event_id, by_rule)

    said = [desk.say("spec_created") for _ in range(3)]
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Flows, "_put", dies)
        desk.turn()
    desk.kill()
    assert [one["payload"]["event"] for one in desk.tasks()] == said


def test_two_hosts_make_one_task(desk: Desk) -> None:
    said = [desk.say("spec_created") for _ in range(5)]
    other = Flows(desk.home, desk.settings, Voice(desk.home, "other"))
    desk.turn()
    while other.turn(news=True) <= desk.boot:
        pass
    other.close()
    assert [one["payload"]["event"] for one in desk.tasks()] == said


def test_without_its_place_it_begins_yesterday(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    real = clock.now_ns
    for days in (3, 1, 0):
        with monkeypatch.context() as patch:
            patch.setattr(clock, "now_ns", lambda days=days: real() - days * daylog.DAY_NS)
            log = Log(desk.home, durable=False, now=clock.now_ns)
            log.append([event.build(f"{days} days ago", dict(ARCHITECT), type="spec_created")])
            log.close()
    assert [one["payload"]["body"] for one in desk.tasks()] == ["1 days ago", "0 days ago"]
    desk.kill()
    files.replace(desk.home.run + "/cursors/component.flows", b"rubbish\n")
    assert len(desk.tasks()) == 2


def test_it_goes_on_where_it_was(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.say("spec_created")
    desk.turn()
    desk.kill()
    said = desk.say("spec_created")
    taken: list[str] = []
    monkeypatch.setattr(Flows, "_put", lambda self, queue, message, event_id, by_rule: taken.append(event_id))
    desk.turn()
    assert taken == [said]


# nothing holds it up


def test_a_locked_database_is_waited_for_without_waiting(
    desk: Desk, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.say("spec_created")
    assert len(desk.tasks()) == 1
    holder = sqlite3.connect(desk.queue.db_path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    said = [desk.say("spec_created"), desk.say("bug_report")]
    assert desk.flows is not None
    put, tried = Flows._put, []

    def tries(self: Flows, *of: Any) -> None:
        tried.append(of)
        put(self, *of)

    monkeypatch.setattr(Flows, "_put", tries)
    assert desk.flows.turn(news=True) == desk.flows.turn(news=True) > desk.boot
    assert len(tried) == 1, "it does not ask again at once, whatever else the log brings"
    desk.turn(3)
    assert capfd.readouterr().err == ""
    for _ in range(20):
        desk.boot = desk.flows.turn()
    assert capfd.readouterr().err.count("is locked by another process") == 1
    holder.execute("ROLLBACK")
    holder.close()
    assert [one["payload"]["event"] for one in desk.tasks()][1:] == said


def test_the_host_is_not_held_up_by_what_sqlite_does_by_itself(desk: Desk) -> None:
    desk.say("spec_created")
    desk.turn()
    assert desk.flows is not None and desk.flows._queue is not None
    ((milliseconds,),) = desk.flows._queue.database.rows("PRAGMA busy_timeout")
    assert milliseconds <= 10
    assert desk.flows._queue.database.rows("PRAGMA wal_autocheckpoint") == [(0,)]


def test_what_a_damaged_database_does_not_take_waits(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    path = desk.home.root + "/data/orchestrator.db"
    files.make_dir(os.path.dirname(path))
    files.replace(path, b"no database at all, but long enough to have a header of its own" * 20)
    said = desk.say("spec_created")
    desk.turn(5)
    assert capfd.readouterr().err.count("is damaged") == 1
    desk.kill()
    desk.turn(2)
    os.unlink(path)
    assert [one["payload"]["event"] for one in desk.tasks()] == [said]


def test_a_database_that_was_put_in_place_of_the_open_one(desk: Desk) -> None:
    desk.say("spec_created")
    assert len(desk.tasks()) == 1
    path = desk.queue.db_path
    for name in ("", "-wal", "-shm"):
        os.rename(path + name, path + ".old" + name)
    desk.queue.close()
    desk._queue = None
    desk.say("bug_report")
    assert [one["type"] for one in desk.tasks()] == ["bug_report"]


HOSTILE = [
    b"",
    b"{",
    b'{"type": "spec_created"}',
    b'{"id": "01", "timestamp": "x", "message": {"type": "spec_created"}}',
    b'{"id": "good-id", "timestamp": "x", "message": {"type": "spec_created", "priority": "high-ish"}}',
    b'{"id": "good-id", "timestamp": "x", "message": {"type": "spec_created", "content": {"context": []}}}',
    b'{"id": "../../x", "timestamp": "x", "message": {"type": "spec_created", "content": {"body": "b"}}}',
    b'{"id": "good-id", "timestamp": "x", "message": {"type": "Spec_Created", "content": {"body": "b"}}}',
    b'{"a": ' * 5000 + b'"type": "spec_created"',
]


def test_lines_that_somebody_wrote_by_hand_stop_nothing(desk: Desk) -> None:
    desk.say("notification")
    for line in HOSTILE:
        desk.raw(line)
    good = b'{"id":"good-id","timestamp":"some day","message":{"type":"spec_created","content":{"body":"b"}}}'
    desk.raw(good)
    deep = {"a": "\ud800"}
    for _ in range(50):
        deep = {"a": deep}  # type: ignore[dict-item]
    odd = ARCHITECT | {"identifier": "\x1b[31m; DROP TABLE tasks"}
    desk.raw(
        event_line(
            "other-id",
            source=odd,
            context={"recipient": {}, "type": [], "severity": {}, "deep": deep},
            metadata={"correlation_id": "'; --", "expires": "\x00", "hops": -1},
        )
    )
    desk.raw(event_line("third-id", source=odd | {"identifier": "a" * 100}, context={"deep": deep}, metadata={}))
    last = desk.say("bug_report")
    found = {one["payload"]["event"]: one for one in desk.tasks()}
    assert list(found) == ["good-id", "third-id", last]
    assert found["good-id"]["sender"] == "human" and found["third-id"]["sender"] == "agent"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["recipient", "type", "priority", "severity", "event", "body"])
EVENTS = st.fixed_dictionaries(
    {
        "id": st.just("some-id") | JSON,
        "timestamp": st.just("2026-11-26T18:00:00Z") | st.text(max_size=30),
        "source": st.fixed_dictionaries({"type": st.sampled_from(["agent", "daemon"]), "identifier": JSON}) | JSON,
        "to": st.just({}) | JSON,
        "message": st.fixed_dictionaries(
            {
                "type": st.sampled_from(sorted(flows.TYPES)),
                "content": st.fixed_dictionaries(
                    {"body": st.just("b") | JSON, "context": st.dictionaries(NAMES, JSON, max_size=4) | JSON}
                ),
            }
        ),
        "metadata": st.dictionaries(st.sampled_from(["correlation_id", "expires", "not_before", "hops"]), JSON) | JSON,
    }
)


@given(EVENTS)
@example({"id": "some-id", "timestamp": "x", "message": {"type": "bug_report", "content": {"body": "b"}}})
def test_whatever_an_event_holds_it_is_a_task_or_none(one: Any) -> None:
    found = flows._checked(json.dumps(one).encode())
    made = MAKER.task(found) if found is not None else None
    if made is not None:
        made[0].checked()
        assert all(message.moment(one, "it") for one in (made[0].expires, made[0].not_before) if one is not None)


class Maker(Flows):
    """With the usual rules, and nothing else."""

    def __init__(self) -> None:
        self._settings = Config({"values": config_schema.defaults(), "stamp": [], "digest": "", "variables": {}})
        self.rules = [flows.Rule(rule) for rule in self._settings.get("flows.rules")]


MAKER = Maker()


def test_what_no_database_takes_stops_nothing(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    said = [desk.say("spec_created", not_before=when) for when in (None, "2999-01-01T00:00:00Z", None)]
    desk.turn(8)
    assert [one["payload"]["event"] for one in desk.tasks()] == [said[0], said[2]]
    assert capfd.readouterr().err.count(f"WARNING host: flows: {said[1]} makes no task") == 1
    desk.queue.database.migrate(1)
    desk.say("spec_created")
    assert len(desk.tasks()) == 3, "a version that was brought back is brought forth again"


def test_a_defect_of_ours_stops_one_event_alone(
    desk: Desk, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [desk.say("spec_created") for _ in range(3)]
    task = Flows.task

    def slips(self: Flows, one: Any) -> Any:
        return task(self, one if one["id"] != said[1] else {})

    monkeypatch.setattr(Flows, "task", slips)
    assert [one["payload"]["event"] for one in desk.tasks()] == [said[0], said[2]]
    assert "makes no task: KeyError" in capfd.readouterr().err


def event_line(event_id: str, source: Any, context: Any, metadata: Any) -> bytes:
    message = {"type": "bug_report", "priority": "normal", "content": {"body": "b", "context": context}}
    one = {"id": event_id, "timestamp": "2026-11-26T18:00:00Z", "source": source, "to": {}, "message": message}
    return json.dumps(one | {"metadata": metadata}).encode()


def test_a_long_chain_of_answers_makes_no_task_and_is_told_once(desk: Desk) -> None:
    desk.say("bug_report", correlation_id="ping-pong", hops=8)
    desk.say("spec_created", correlation_id="ping-pong", hops=9)
    desk.say("spec_created", correlation_id="ping-pong", hops=10)
    assert [one["type"] for one in desk.tasks()] == ["bug_report"]
    told = [one for _, one in reader.search(desk.home, reader.Query()) if one["source"]["identifier"] == flows.NAMED]
    assert [one["to"]["groups"] for one in told] == [["management"]]
    assert "makes no task for code_developer" in told[0]["message"]["content"]["body"]


def test_many_at_once_take_turns(desk: Desk) -> None:
    said = [desk.say("spec_created") for _ in range(50)]
    desk.flows = Flows(desk.home, desk.settings, Voice(desk.home, "host"))
    assert desk.flows.turn(news=True) <= desk.boot, "there is more, and the host has other things to do"
    database = Database(desk.home.root + "/data/orchestrator.db", version=None)
    assert database.rows("SELECT count(*) FROM tasks") == [(flows._MOST,)]
    database.close()
    desk.kill()
    assert [one["payload"]["event"] for one in desk.tasks()] == said, "its place is behind what is in the database"


def test_one_that_takes_long_lets_the_host_go_on(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [desk.say("spec_created") for _ in range(3)]
    put = Flows._put

    def flushes(self: Flows, *of: Any) -> None:
        put(self, *of)
        desk.boot += SECOND // 100

    monkeypatch.setattr(Flows, "_put", flushes)
    desk.flows = Flows(desk.home, desk.settings, Voice(desk.home, "host"))
    assert desk.flows.turn(news=True) <= desk.boot
    assert len(list(reading.tasks(desk.queue.database))) == 1
    assert [one["payload"]["event"] for one in desk.tasks()] == said


def test_the_share_that_went_to_the_right_agent(desk: Desk) -> None:
    database = desk.queue.database
    assert flows.routed_share(database) == (0, 0)
    for kind in ("spec_created", "spec_created", "task_delegate", "bug_report"):
        desk.say(kind)
    desk.tasks()
    assert flows.routed_share(database) == (0, 0), "nothing has ended"
    for recipient in ("code_developer", "project_manager", "project_manager"):
        got = desk.queue.get(recipient)
        assert got is not None
        desk.queue.mark_completed(got.task_id)
    got = desk.queue.get("code_developer")
    assert got is not None
    desk.queue.mark_failed(got.task_id, "no")
    assert flows.routed_share(database) == (2, 4)
