"""Usage limits: the tasks of an account wait until its reset, then go on one by one, whoever dies or steps a clock."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

import pytest

from support_tasks import Clock, open_queue, task
from support_watch import settings
from tmux_orchestrator.eventlog import event, reader
from tmux_orchestrator.eventlog.daylog import Log, daemon_source
from tmux_orchestrator.eventlog.voice import Voice
from tmux_orchestrator.ground import clock, files
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work import resets
from tmux_orchestrator.work.accounts import Accounts
from tmux_orchestrator.work.message import Message
from tmux_orchestrator.work.queue import MessageQueue

CONFIG = """\
accounts: {anthropic: [dev, architect]}
usage_limits: {one_by_one: 2, unknown: 10m}
"""
HOUR = 3600


class Desk:
    """A queue, a clock that is moved, and the follower, which is made anew when it is killed."""

    def __init__(self, home: Home, clock: Clock) -> None:
        files.make_dir(home.root)
        self.home, self.time = home, clock
        self.settings = settings(home.root, CONFIG)
        self._queue: MessageQueue | None = None
        self._accounts: Accounts | None = None

    @property
    def queue(self) -> MessageQueue:
        self._queue = self._queue or open_queue(self.home)
        return self._queue

    def say(self, kind: str, until: str | None = None, source: dict[str, Any] | None = None, **context: Any) -> None:
        """An event, that the follower reads."""
        if until is not None:
            context["until"] = until
        made = event.build("said", source or daemon_source("monitor"), type=kind, context=context)
        Log(self.home, durable=False).append([made | {"timestamp": clock.stamp(clock.now_ns())}])
        self.look()

    def limited(self, seconds: float | None = HOUR, agent: str = "web:dev") -> None:
        until = None if seconds is None else self.time.stamp(seconds)
        self.say("credit_exhausted", until, agent=agent)

    def look(self) -> None:
        if self._accounts is None:
            self._accounts = Accounts(self.home, self.settings, Voice(self.home, "host"))
        self._accounts.turn(True)

    def kill(self) -> None:
        """Without a word: what it had not saved is read again."""
        if self._accounts is not None:
            self._accounts.heard.close(keep=False)
            self._accounts.heard.waiting.append(b"")  # so its place is not saved
            self._accounts.close()
        self._accounts = None

    def later(self, seconds: float) -> None:
        self.time.passes(seconds)
        self.look()

    def send(self, *recipients: str) -> None:
        for recipient in recipients:
            self.queue.send(task(recipient))

    def get(self, recipient: str) -> Message | None:
        self.queue.sweep(now=True)
        return self.queue.get(recipient)

    def told(self) -> list[str]:
        """What was told of tasks that wait and go on."""
        events = [one for _, one in reader.search(self.home, reader.Query())]
        ours = [one["message"]["content"]["context"] for one in events if one["source"]["identifier"] == "accounts"]
        return [f"{one['issue_type']} {one['account']}" for one in ours]

    def close(self) -> None:
        if self._accounts is not None:
            self._accounts.close()
        self.queue.close()


@pytest.fixture
def desk(home: Home) -> Iterator[Desk]:
    with Clock() as moved:
        made = Desk(home, moved)
        yield made
        made.close()


def test_all_tasks_of_the_account_wait_and_those_of_others_do_not(desk: Desk) -> None:
    desk.send("dev", "architect", "tester")
    desk.limited()
    assert desk.get("dev") is None and desk.get("architect") is None
    assert desk.get("tester") is not None
    assert desk.queue.take(next(iter(desk.queue.database.rows("SELECT task_id FROM tasks")))[0]) is None
    assert desk.told() == ["tasks_wait anthropic"]


def test_after_the_reset_they_go_on_one_by_one_then_all(desk: Desk) -> None:
    desk.send("dev", "dev", "architect", "architect", "dev", "dev")
    desk.limited()
    desk.later(HOUR + 1)
    first = desk.get("dev")
    assert first is not None
    assert desk.get("dev") is None and desk.get("architect") is None  # one at a time, of all of them
    desk.queue.mark_completed(first.task_id)
    second = desk.get("architect")
    assert second is not None and desk.get("dev") is None
    desk.queue.mark_completed(second.task_id)
    desk.later(1)
    assert desk.get("dev") is not None and desk.get("dev") is not None and desk.get("architect") is not None
    assert desk.told() == ["tasks_wait anthropic", "tasks_resume anthropic"]


def test_the_queue_itself_goes_on_though_nobody_follows_the_log(desk: Desk) -> None:
    desk.send("dev", "architect")
    desk.limited()
    desk.kill()
    desk.time.passes(HOUR - 1)
    assert desk.get("dev") is None
    desk.time.passes(2)
    assert desk.get("dev") is not None
    assert desk.get("architect") is None
    desk.time.passes(HOUR + 1)  # nobody counted what was done: after an hour all may run
    assert desk.get("architect") is not None


def test_a_limit_while_they_go_on_one_by_one_makes_them_wait_again(desk: Desk) -> None:
    desk.send("dev", "dev")
    desk.limited()
    desk.later(HOUR + 1)
    assert desk.get("dev") is not None
    desk.limited()
    desk.later(HOUR // 2)
    assert desk.get("dev") is None
    assert desk.told() == ["tasks_wait anthropic", "tasks_resume anthropic", "tasks_wait anthropic"]


@pytest.mark.parametrize("kind", ["recipient", "group"])
def test_what_a_person_paused_stays_paused_and_lifts_no_limit(desk: Desk, kind: str) -> None:
    which = "dev" if kind == "recipient" else "crew"
    desk.queue.send(task("dev", group="crew"))
    desk.queue.limit(kind, which, 0, None, "by hand")
    desk.limited()
    desk.later(HOUR + 1)
    desk.later(HOUR + 1)
    assert desk.get("dev") is None
    desk.limited()
    desk.queue.limit(kind, which, None)
    assert desk.get("dev") is None
    desk.later(HOUR + 1)
    assert desk.get("dev") is not None


def test_it_is_told_once_however_often_it_is_said_and_whoever_dies(desk: Desk) -> None:
    desk.send("dev")
    for _ in range(3):
        desk.limited()
        desk.limited(agent="web:architect")
        desk.kill()
        desk.look()
    desk.later(HOUR + 1)
    for _ in range(3):
        desk.kill()
        desk.later(1)
    assert desk.told() == ["tasks_wait anthropic", "tasks_resume anthropic"]


def test_an_agent_that_no_account_lists_has_its_own(desk: Desk) -> None:
    desk.send("tester", "dev")
    desk.limited(agent="tester")
    assert desk.get("tester") is None
    assert desk.get("dev") is not None
    assert desk.told() == ["tasks_wait tester"]


def test_of_two_accounts_that_list_a_recipient_the_first_counts(desk: Desk) -> None:
    desk.settings = settings(desk.home.root, "accounts: {one: [dev], two: [dev, tester]}")
    desk.send("dev", "tester")
    desk.say("credit_exhausted", account="two")
    assert desk.get("dev") is not None and desk.get("tester") is None


@pytest.mark.parametrize(
    ("kind", "context"),
    [
        ("credit_exhausted", {"agent": "web:dev"}),
        ("credit_exhausted", {"account": "dev"}),
        ("notification", {"issue_type": "limited", "agent": "web:dev", "limited_until": None}),
        ("notification", {"issue_type": "limited", "subjects": ["web:dev", "web:tester"]}),
    ],
)
def test_who_says_it_and_how(desk: Desk, kind: str, context: dict[str, Any]) -> None:
    desk.send("dev")
    desk.say(kind, **context)
    assert desk.get("dev") is None
    desk.later(599)
    assert desk.get("dev") is None  # nobody said until when: 10 minutes
    desk.later(2)
    assert desk.get("dev") is not None


def test_an_agent_says_it_of_itself(desk: Desk) -> None:
    desk.send("dev")
    desk.say("credit_exhausted", source=daemon_source("x") | {"type": "agent", "identifier": "dev"})
    assert desk.get("dev") is None


@pytest.mark.parametrize(
    ("kind", "context"),
    [
        ("notification", {"issue_type": "recovered", "was": "limited", "subjects": ["web:dev"]}),
        ("status_update", {"credit_exhausted": False, "agent": "web:architect"}),
    ],
)
def test_when_it_is_over_before_its_time_they_go_on_one_by_one(desk: Desk, kind: str, context: dict[str, Any]) -> None:
    desk.send("dev", "dev")
    desk.limited()
    desk.say(kind, **context)
    assert desk.get("dev") is not None and desk.get("dev") is None
    assert desk.told() == ["tasks_wait anthropic", "tasks_resume anthropic"]


@pytest.mark.parametrize(
    ("kind", "context"),
    [
        ("notification", {"issue_type": "idle", "agent": "dev", "note": "limited"}),
        ("credit_exhausted", {"agent": None}),
        ("credit_exhausted", {"agent": ["no name", 7, None, {}]}),
        ("credit_exhausted", {"agent": "'; DROP TABLE limits; --"}),
        ("credit_exhausted", {"agent": "dev", "until": "2020-01-01T00:00:00Z"}),
        ("status_update", {"credit_exhausted": False, "agent": "dev"}),
        ("notification", {"issue_type": "recovered", "was": "limited", "subjects": [[]]}),
    ],
)
def test_what_says_nothing_of_a_limit_changes_nothing(desk: Desk, kind: str, context: dict[str, Any]) -> None:
    desk.send("dev")
    desk.say(kind, **context)
    assert desk.get("dev") is not None
    assert desk.told() == []


def test_a_step_of_the_clock_is_a_step_of_the_reset_and_nobody_waits_for_ever(desk: Desk) -> None:
    desk.send("dev", "dev")
    desk.limited()
    desk.time.steps(-HOUR)
    desk.later(HOUR + 1)
    assert desk.get("dev") is None  # the reset is a time of day
    desk.time.steps(2 * HOUR)
    desk.look()
    assert desk.get("dev") is not None and desk.get("dev") is None


def test_switched_off_nothing_waits(desk: Desk) -> None:
    desk.send("dev")
    desk.limited()
    desk.settings = settings(desk.home.root, CONFIG.replace("{one", "{enabled: false, one"))
    assert desk._accounts is not None
    desk._accounts.configure(desk.settings)
    desk.later(2)
    assert desk.get("dev") is not None
    desk.limited()
    assert desk.queue.database.rows("SELECT * FROM limits") == []


def test_a_locked_database_is_waited_for_without_waiting(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    desk.send("dev")
    path = desk.queue.database.path
    with sqlite3.connect(path) as other:
        other.execute("BEGIN IMMEDIATE")
        desk.limited()
        for _ in range(20):
            desk.later(3)
        other.execute("ROLLBACK")
    assert capfd.readouterr().err.count("what is known of usage limits waits") == 1
    assert desk.told() == ["tasks_wait anthropic"]
    desk.later(3)
    assert desk.get("dev") is None
    assert desk.told() == ["tasks_wait anthropic"]


def test_without_a_limit_no_database_is_made(desk: Desk) -> None:
    desk.say("notification", issue_type="recovered", was="limited", subjects=["web:dev"])
    desk.later(2)
    assert not os.path.exists(f"{desk.home.root}/data")


@pytest.fixture
def utc() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


NOW = clock.parse_stamp("2026-11-26T18:30:00Z")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2026-11-26T19:00:00Z", "2026-11-26T19:00:00"),
        ("2026-11-26T20:00:00+01:00", "2026-11-26T19:00:00"),
        ("1795719600", "2026-11-26T19:00:00"),
        ("7pm", "2026-11-26T19:00:00"),
        ("7:15 pm", "2026-11-26T19:15:00"),
        ("at 19:05.", "2026-11-26T19:05:00"),
        ("3am (Europe/Berlin)", "2026-11-27T02:00:00"),
        ("6pm", "2026-11-27T18:00:00"),
        ("12am", "2026-11-27T00:00:00"),
        ("Nov 28 at 3pm (UTC)", "2026-11-28T15:00:00"),
        ("Dec 2nd, 9:30 am", "2026-12-02T09:30:00"),
        ("5h 30m", "2026-11-27T00:00:00"),
        ("3 days 5 hours 2 minutes", "2026-11-29T23:32:00"),
        ("1 hour and 30 minutes", "2026-11-26T20:00:00"),
        ("45s", "2026-11-26T18:30:45"),
        *((text, None) for text in ("", "soon", "3", "25:00", "13pm", "3pm (Nowhere/Land)", "Foo 3 at 3pm", "99 days")),
        *((text, None) for text in ("Feb 31 at 3pm", "3pm (../../etc/passwd)", "9999-99-99", "١pm", "x" * 10_000)),
    ],
)
def test_until_when_as_it_is_said(text: str, found: str | None, utc: None) -> None:
    until = resets.parse(text, NOW)
    assert (until and clock.stamp(until)[:19]) == found


def test_where_nobody_uses_the_queue_a_limit_is_no_news_and_makes_no_database(desk: Desk) -> None:
    desk.limited()
    desk.look()
    assert desk.told() == [] and not os.path.exists(desk.home.data)
    assert desk.get("dev") is None  # now there is one
    desk.limited()
    desk.look()
    assert desk.told() == []
    desk.send("dev")
    assert desk.get("dev") is None, "it waits all the same"
