"""The state updater: each event counts once whatever dies in between, what is severe is told once, nothing grows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_faults import Faults, Killed
from support_tmux import wait_until
from tmux_orchestrator.agents import registry
from tmux_orchestrator.eventlog import daylog, event, reader
from tmux_orchestrator.eventlog.daylog import Log, daemon_source
from tmux_orchestrator.ground import clock, files, pidfile, proc, watch
from tmux_orchestrator.ground.errors import OrcError
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.watch import changes, sessions
from tmux_orchestrator.watch.updater import Updater

BIN = Path(__file__).resolve().parents[2] / "bin"
SECOND = 1_000_000_000
HUMAN = {"type": "human", "identifier": "root", "session": None, "host": "h", "verified": False}
DEV = {"type": "agent", "identifier": "dev", "session": "web", "host": "h", "verified": True}
MONITOR = daemon_source("monitor")


class Desk:
    """A log, and an updater that is made anew when it is killed. The clock is the test's."""

    def __init__(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = home
        self.ns = clock.now_ns()
        monkeypatch.setattr(clock, "now_ns", lambda: self.ns)
        self.log = Log(home, durable=False, now=lambda: self.ns)
        self.updater: Updater | None = None

    def say(self, kind: str, context: Any = None, body: str = "so it is", source: Any = None, **more: Any) -> str:
        self.ns += SECOND
        made = event.build(body, dict(source or HUMAN), type=kind, context=context, **more)
        return self.log.append([made])[0]

    def raw(self, line: bytes) -> None:
        files.append(daylog.day_file(self.home, clock.local_day(self.ns)), line + b"\n")

    def take(self) -> None:
        self.updater = self.updater or Updater(self.home)
        while self.updater.turn():
            pass

    def kill(self) -> None:
        """It is gone, and has not put its cursor in order."""
        if self.updater is not None:
            self.updater._follower.close()
            self.updater._watch.close()
            self.updater._lock.close()
        self.updater = None

    def state(self, session: str | None = "web") -> dict[str, Any]:
        self.take()
        found = sessions.load(self.home, session)
        assert found is not None, f"no file of {session}"
        return found

    def agent(self, name: str = "dev", session: str | None = "web") -> dict[str, Any]:
        found: dict[str, Any] = self.state(session)["agents"][name]
        return found

    def sent(self) -> list[dict[str, Any]]:
        """What was sent on."""
        self.take()
        found = [one for _, one in reader.search(self.home, reader.Query())]
        return [one for one in found if one["source"]["identifier"] == changes.NAMED]


@pytest.fixture
def desk(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    desk = Desk(home, monkeypatch)
    yield desk
    desk.kill()
    desk.log.close()


def violation(desk: Desk, rule: str = "secret", severity: str | None = "critical", **more: Any) -> str:
    context = {"agent": "web:dev", "rule": rule, "severity": severity, **more}
    return desk.say("violation", context, "a key in a.txt")


# what an event changes


def test_a_violation(desk: Desk) -> None:
    first = violation(desk, severity="low")
    last = violation(desk, severity="normal", commit="c0ffee")
    agent = desk.agent()
    assert agent["violations"] == 2 and desk.state()["counts"]["violation"] == 2
    assert agent["last_violation"] == {
        "time": clock.stamp(desk.ns),
        "rule": "secret",
        "severity": "normal",
        "commit": "c0ffee",
        "text": "a key in a.txt",
        "event": last,
    }
    assert [one["event"] for one in desk.state()["last_events"]] == [first, last]
    assert desk.sent() == []


def test_what_an_agent_does(desk: Desk) -> None:
    desk.say("status_update", {"status": "working", "current_task": "T-7"}, source=DEV)
    assert (desk.agent()["status"], desk.agent()["current_task"]) == ("working", "T-7")
    since = desk.agent()["since"]
    desk.say("status_update", {"status": "working", "used_percent": 41.6}, source=DEV)
    assert (desk.agent()["since"], desk.agent()["current_task"]) == (since, "T-7"), "what is not said stays"
    done = desk.say("task_completed", None, "all tests pass", source=DEV)
    agent = desk.agent()
    assert (agent["completed"], agent["current_task"], agent["credit"]["used_percent"]) == (1, None, 42)
    assert agent["last_completed"] == {
        "time": clock.stamp(desk.ns),
        "task": "T-7",
        "text": "all tests pass",
        "event": done,
    }


def test_credit_ends_and_comes_back(desk: Desk) -> None:
    desk.say("credit_exhausted", {"agent": "web:dev", "until": "3pm"})
    credit = desk.agent()["credit"]
    assert (credit["exhausted"], credit["until"], desk.agent()["status"]) == (True, "3pm", "limited")
    desk.say("status_update", {"agent": "web:dev", "status": "idle"})
    assert desk.agent()["credit"]["exhausted"], "a state alone does not say that there is credit"
    desk.say("status_update", {"agent": "web:dev", "credit_exhausted": False})
    assert desk.agent()["credit"] == {
        "exhausted": False,
        "since": clock.stamp(desk.ns),
        "until": None,
        "used_percent": 0,
    }


@pytest.mark.parametrize(
    ("kind", "context", "status"),
    [
        ("alert", {"agents": ["web:dev", "web:qa", "api:dev"], "issue_type": "dead"}, "dead"),
        ("alert", {"subjects": ["web:dev", "nobody", "api:dev"], "issue_type": "dead"}, "dead"),
        ("alert", {"agent": "web:dev", "session": "web", "issue_type": "pm_dead"}, "dead"),
        ("notification", {"agents": ["web:dev", "web:qa"], "session": "web", "issue_type": "team_idle"}, "idle"),
        ("notification", {"agent": "dev", "session": "web", "issue_type": "waiting"}, "waiting"),
        ("recovery", {"agent": "web:dev", "action": "respawned"}, "starting"),
        ("recovery", {"agent": "web:dev", "action": "failed"}, "dead"),
        ("recovery", {"agent": "web:dev", "action": "refused"}, "unknown"),
    ],
)
def test_what_our_own_daemons_say_of_agents(desk: Desk, kind: str, context: Any, status: str) -> None:
    desk.say(kind, context, source=MONITOR)
    assert desk.agent()["status"] == status
    assert [desk.agent(*one.split(":")[::-1])["status"] for one in context.get("agents", [])] == [
        status for _ in context.get("agents", [])
    ]
    assert desk.sent() == [], "they have told it themselves"
    assert sessions.load(desk.home, None) is None


def test_what_is_over(desk: Desk) -> None:
    desk.say("notification", {"agent": "web:dev", "issue_type": "waiting"}, source=MONITOR)
    desk.say("notification", {"agent": "web:dev", "issue_type": "recovered", "was": "limited"}, source=MONITOR)
    assert desk.agent()["status"] == "waiting", "it is not that which is over"
    desk.say("notification", {"agent": "web:dev", "issue_type": "recovered", "was": "waiting"}, source=MONITOR)
    assert desk.agent()["status"] == "unknown"


@pytest.mark.parametrize(
    ("kind", "context"),
    [
        ("status_update", {"issue_type": "status", "states": {"idle": 3}, "agents": 3}),
        ("notification", {"issue_type": "team_idle", "subjects": ["web", "api"]}),
        ("notification", {"issue_type": "component", "component": "broker"}),
        ("alert", {"issue_type": "dead"}),
        ("alert", {"issue_type": ["dead"], "agent": "web:dev"}),
    ],
)
def test_what_is_about_no_agent_changes_nothing(desk: Desk, kind: str, context: Any) -> None:
    desk.say(kind, context, source=MONITOR)
    desk.take()
    assert not os.path.exists(desk.home.registry + "/sessions")


@pytest.mark.parametrize("source", [DEV, HUMAN, MONITOR | {"verified": False}, daemon_source(changes.NAMED)])
def test_nobody_else_says_that_an_agent_is_dead(desk: Desk, source: Any) -> None:
    desk.say("alert", {"agent": "web:dev", "issue_type": "dead"}, source=source)
    desk.say("notification", {"agent": "web:dev", "issue_type": "dead"}, source=source)
    desk.take()
    assert sessions.load(desk.home, "web") is None


def test_what_the_task_queue_tells_is_about_tasks(desk: Desk) -> None:
    told = {"task_id": "t-1", "recipient": "dev", "agent": "web:dev", "session": "web", "status": "completed"}
    desk.say("task_completed", told, "task_completed: dev.spec_created", source=daemon_source("tasks"))
    desk.take()
    assert sessions.load(desk.home, "web") is None
    desk.say("task_completed", {"task": "t-1"}, source=DEV)
    assert desk.agent()["completed"] == 1, "the agent itself says so of itself"


class Guest:
    """Looked after twice a second."""

    def __init__(self) -> None:
        self.turns: list[bool] = []
        self.told: list[Any] = []

    def turn(self, news: bool) -> int:
        self.turns.append(news)
        return clock.boot_ns() + SECOND // 2

    def configure(self, settings: Any) -> None:
        self.told.append(settings.get("events.durability"))

    def close(self) -> None:
        self.told.append("close")


def test_a_guest_has_its_turns(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    guest, waits = Guest(), []
    updater = Updater(home, lambda home, settings: guest)
    readable = watch.readable

    def wait(fds: list[int], seconds: float) -> set[int]:
        waits.append(seconds)
        if len(waits) == 2:
            files.replace(home.config_file, b"events: {durability: os}\n")
        if len(waits) == 4:
            updater._stop(0, None)
        return readable(fds, 0)

    monkeypatch.setattr(watch, "readable", wait)
    monkeypatch.setattr(watch, "on_stop", lambda handler: -1)
    updater.run()
    assert len(guest.turns) >= 4 and guest.told == ["os", "close"]
    assert all(0 < seconds <= 0.5 for seconds in waits)


def test_to_whom_an_event_belongs(desk: Desk) -> None:
    agent = registry.Agent({"name": "lead", "session": "api"})
    data = json.dumps({"agents": [agent.to_dict()]}).encode()
    files.replace(registry.path(desk.home), data)
    desk.say("violation", {"agent": "lead", "rule": "r", "severity": "low"})
    desk.say("violation", {"agent": "nobody", "rule": "r", "severity": "low"})
    desk.say("violation", {"session": "a/b ☃", "rule": "r", "severity": "low"})
    assert desk.agent("lead", "api")["violations"] == 1, "the only one who is called so"
    assert desk.agent("nobody", None)["violations"] == 1
    assert desk.state("a/b ☃")["agents"] == {} and desk.state("a/b ☃")["counts"]["violation"] == 1
    assert sorted(os.listdir(desk.home.registry + "/sessions")) == ["@.json", "a%2Fb%20%E2%98%83.json", "api.json"]
    assert all(os.lstat(desk.home.registry + "/sessions/" + name).st_mode & 0o777 == 0o600 for name in ("@.json",))


# what is sent on


@pytest.mark.parametrize(
    ("severity", "priority", "sent"),
    [
        ("critical", "low", "critical"),
        ("HIGH", "low", "high"),
        ("normal", "critical", None),
        ("whatever", "critical", None),
        (None, "critical", "critical"),
        (None, "high", "high"),
        (["high"], "low", None),
        (None, "normal", None),
    ],
)
def test_what_is_severe_becomes_one_notification(desk: Desk, severity: Any, priority: str, sent: str | None) -> None:
    context = {"agent": "web:dev", "rule": "secret", "severity": severity}
    made = desk.say("violation", context, "a key in a.txt", priority=priority)
    assert [one["message"]["priority"] for one in desk.sent()] == ([sent] if sent else [])
    for one in desk.sent():
        assert (one["message"]["type"], one["to"]["groups"], one["source"]["verified"]) == (
            "notification",
            ["management"],
            True,
        )
        content = one["message"]["content"]
        assert content["body"].startswith(f"web:dev: violation of secret ({sent}): a key in a.txt (orc-read --id ")
        assert (content["context"]["event"], content["context"]["issue_type"]) == (made, "violation")


def test_not_again_within_an_hour_also_in_another_life(desk: Desk) -> None:
    violation(desk)
    desk.take()
    desk.kill()
    violation(desk)
    violation(desk, rule="straight-to-main")
    assert len(desk.sent()) == 2
    desk.ns += 3600 * SECOND
    violation(desk)
    assert len(desk.sent()) == 3
    counts = desk.state()["counts"]
    assert (counts["violation"], counts["sent_on"], counts["not_sent_on"]) == (4, 3, 1)


def test_credit_is_told_when_it_ends_not_while_it_is_out(desk: Desk) -> None:
    for _ in range(3):
        desk.say("credit_exhausted", {"agent": "web:dev"})
        desk.ns += 3600 * SECOND
    assert [one["message"]["content"]["body"].split(": ")[1] for one in desk.sent()] == ["credit exhausted"]
    desk.say("status_update", {"agent": "web:dev", "credit_exhausted": False})
    desk.say("credit_exhausted", {"agent": "web:dev", "until": clock.stamp(desk.ns + 2 * SECOND)})
    assert len(desk.sent()) == 2
    desk.ns += 3600 * SECOND
    desk.say("credit_exhausted", {"agent": "web:dev"})
    assert len(desk.sent()) == 3, "it should have been back meanwhile"


def test_a_flood_of_rules_is_a_bounded_number_of_notifications(desk: Desk) -> None:
    for n in range(100):
        violation(desk, rule=f"r{n}")
    sent = desk.sent()
    assert len(sent) == sessions.MOST_SENT
    assert ["There is more" in one["message"]["content"]["body"] for one in sent] == [False] * 31 + [True]
    assert desk.agent()["violations"] == 100


def test_old_news_are_counted_and_not_sent_on(desk: Desk) -> None:
    violation(desk)
    desk.ns += daylog.DAY_NS
    assert desk.agent()["violations"] == 1 and desk.sent() == []


# whatever dies in between


def scene(desk: Desk) -> None:
    for n in range(3):
        violation(desk, rule=f"r{n % 2}")
        desk.say("task_completed", {"agent": f"web:dev-{n}"})
        desk.say("violation", {"agent": "api:dev", "rule": "r", "severity": "high"})


def counted(desk: Desk) -> tuple[Any, ...]:
    web, api = desk.state("web"), desk.state("api")
    told = sorted(one["message"]["content"]["context"]["rule"] for one in desk.sent())
    return web["counts"], web["agents"]["dev"]["violations"], len(web["last_events"]), api["counts"], told


@pytest.mark.parametrize("how", ["killed", "ENOSPC", "EIO", "short"])
def test_killed_or_refused_at_every_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    desk = Desk(Home(f"{tmp_path}/plain"), monkeypatch)
    scene(desk)
    wanted, at = counted(desk), 1
    desk.kill()
    assert (wanted[1], wanted[4]) == (3, ["r", "r0", "r1"])
    while True:
        desk = Desk(Home(f"{tmp_path}/{at}"), monkeypatch)
        scene(desk)
        desk.updater = Updater(desk.home)
        with Faults(how, at) as faults:
            try:
                desk.take()
            except Killed:
                pass
            except (OrcError, OSError):
                desk.updater._read_again()
        if how == "killed" and faults.calls >= at:
            desk.kill()
        assert counted(desk) == wanted, f"{how} at {at}: {faults.told}"
        desk.kill()
        desk.log.close()
        if faults.calls < at:
            break
        at += 1
    assert at > 12


def test_a_cursor_that_is_lost_or_damaged_counts_nothing_twice(desk: Desk) -> None:
    scene(desk)
    before = counted(desk)
    for data in (None, b"garbage"):
        desk.kill()
        cursor = desk.home.run + "/cursors/component.state_updater"
        os.unlink(cursor) if data is None else files.replace(cursor, data)
        assert counted(desk) == before


def test_a_line_without_a_number_counts_once_too(desk: Desk) -> None:
    violation(desk)
    made = event.build("by hand", HUMAN, type="violation", context={"agent": "web:dev", "severity": "low"})
    desk.raw(json.dumps({"id": "by-hand-1", "timestamp": clock.stamp(desk.ns)} | made).encode())
    desk.raw(json.dumps({"id": "by-hand-2", "timestamp": "yesterday"} | made).encode())
    assert desk.agent()["violations"] == 2, "what has no time is no event"
    desk.kill()
    os.unlink(desk.home.run + "/cursors/component.state_updater")
    assert desk.agent()["violations"] == 2


def test_a_new_log_goes_on_counting(desk: Desk) -> None:
    for _ in range(5):
        violation(desk)
    assert desk.agent()["violations"] == 5
    desk.kill()
    for name in os.listdir(desk.home.events):
        os.unlink(f"{desk.home.events}/{name}")
    os.unlink(desk.home.run + "/log.lock")
    violation(desk)
    assert desk.state()["applied"]["seq"] < 5
    assert desk.agent()["violations"] == 6


def test_a_damaged_file_is_set_aside(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    violation(desk)
    desk.take()
    for data in (b"{", b"[]", b'{"agents": 3}', b'{"agents": {}, "last_events": [], "sent_on": 1}', b""):
        files.replace(sessions.path(desk.home, "web"), data)
        violation(desk)
        assert desk.agent()["violations"] == 1
        assert files.read(desk.home.registry + "/sessions/web.damaged") == data
        assert "is damaged" in capsys.readouterr().err


def test_parts_of_the_wrong_type_are_as_good_as_not_there(desk: Desk) -> None:
    violation(desk)
    state = desk.state()
    state["agents"]["dev"] |= {"violations": "many", "credit": [], "last_violation": 5, "since": {}}
    files.replace(sessions.path(desk.home, "web"), json.dumps(state | {"counts": None}).encode())
    violation(desk)
    assert desk.agent()["violations"] == 1 and desk.state()["counts"]["violation"] == 1


def test_two_at_once_count_nothing_twice(desk: Desk) -> None:
    desk.take()
    other = Updater(desk.home)
    for turn in range(4):
        violation(desk, rule=f"r{turn}")
        one, two = (desk.updater, other) if turn % 2 else (other, desk.updater)
        assert one is not None and two is not None
        assert one.turn() and two.turn()
    other.close()
    assert desk.agent()["violations"] == 4 and len(desk.sent()) == 4


# nothing grows

HOSTILE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(), max_size=300)
    | st.sampled_from(["web", "web:dev", "critical", "dead", "x" * 5000, "😀" * 300, "a:b:c", ":", "dev:"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELDS = "agent session agents subjects rule severity commit until status state task current_task action used_percent"


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sessions.COUNTS),
    st.fixed_dictionaries({}, optional=dict.fromkeys([*FIELDS.split(), "issue_type", "was"], HOSTILE)),
)
def test_no_event_breaks_or_swells_a_state(kind: str, context: dict[str, Any]) -> None:
    made = event.shape(event.build("body " * 1000, dict(MONITOR), type=kind, context=context))
    made |= {"id": "x" * 9000, "seq": 3, "timestamp": "2026-11-20T10:00:00Z"}
    if not changes.concerns(made):
        return
    at = changes.time_of(made, clock.now_ns())
    assert at is not None
    for session, names in changes.whom(made, []).items():
        state = sessions.blank(session)
        changes.apply(state, made, names, at, ())
        assert changes.is_applied(state, made, at)
        assert len(json.dumps(state)) < 4000 + 12 * 3 * sessions.TEXT * (1 + len(names))
        assert len(os.path.basename(sessions.path(Home("/x"), session))) < 200


def test_agents_and_files_are_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST_SESSIONS", 5)
    agents = [registry.Agent({"name": "lead", "session": "web"})]
    files.replace(registry.path(desk.home), json.dumps({"agents": [one.to_dict() for one in agents]}).encode())
    desk.say("status_update", {"agent": "web:lead", "status": "😀" * 999})
    for n in range(sessions.MOST_AGENTS + 20):
        text = "😀" * 1000
        name = f"web:{n}{text}"
        desk.say("violation", {"agent": name, "rule": text, "severity": f"{n}{text}", "commit": text}, text)
        desk.say("task_completed", {"agent": name, "task": text}, text)
        desk.say("status_update", {"agent": name, "task": text, "status": text}, text)
        desk.say("credit_exhausted", {"agent": name, "until": text}, text)
    state = desk.state()
    assert len(state["agents"]) == sessions.MOST_AGENTS and "lead" in state["agents"]
    assert state["counts"]["forgotten_agents"] == 21 and len(state["last_events"]) == sessions.LAST_EVENTS
    assert os.path.getsize(sessions.path(desk.home, "web")) < 900_000, "what is larger than 1 MiB is not read again"
    for n in range(20):
        desk.say("status_update", {"agent": f"s{n}:dev", "status": "idle"})
        desk.take()
    left = sorted(os.listdir(desk.home.registry + "/sessions"))
    assert left == ["s15.json", "s16.json", "s17.json", "s18.json", "s19.json", "web.json"], "who is registered stays"


# the process


def until(condition: Callable[[], bool], what: str) -> None:
    wait_until(condition, 20, what)


def start(home: Home) -> subprocess.Popen[bytes]:
    child = subprocess.Popen([BIN / "orc-state", "--follow"], stdin=subprocess.DEVNULL)
    until(lambda: pidfile.running(home, "state_updater") == child.pid, "the start")
    return child


def test_kill_9_in_the_middle_of_a_stream(home: Home) -> None:
    """Whenever it is killed: in the end each event has counted once, and each rule was told once."""
    total, killed = 400, 0
    source: dict[str, Any] = {}
    contexts = [{"agent": f"s{n % 3}:dev", "rule": f"r{n % 5}", "severity": "high"} for n in range(total)]
    events = [event.build("v", source, type="violation", context=context) for context in contexts]
    lines = b"".join(json.dumps(one).encode() + b"\n" for one in events)
    child = start(home)
    publisher = subprocess.Popen([BIN / "orc-publish", "--jsonl"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert publisher.stdin is not None
    step = len(lines) // 8
    for at in range(0, len(lines), step):
        publisher.stdin.write(lines[at : at + step])
        publisher.stdin.flush()
        seen = sum(seen_by(home).values())
        until(lambda seen=seen: sum(seen_by(home).values()) > seen, "some of it")  # type: ignore[misc]
        child.kill()
        child.wait()
        killed += 1
        child = start(home)
    publisher.stdin.close()
    assert publisher.wait() == 0 and killed >= 8
    until(lambda: sum(seen_by(home).values()) >= total, "all of it")
    publish = [f"{BIN}/orc-publish", "--type", "violation", "--context", '{"agent": "s0:dev", "severity": "low"}', "v"]
    subprocess.run(publish, stdout=subprocess.DEVNULL, check=True)
    until(lambda: sum(seen_by(home).values()) > total, "one more, which only this last life can have taken")
    child.send_signal(signal.SIGTERM)
    assert child.wait() == 0 and proc.start_time(child.pid) is None
    assert seen_by(home) == {"s0": 135, "s1": 133, "s2": 133}
    query = reader.Query()
    query.types = ["notification"]
    told = [one["message"]["content"]["context"] for _, one in reader.search(home, query)]
    assert sorted((one["session"], one["rule"]) for one in told) == [
        (f"s{s}", f"r{r}") for s in range(3) for r in range(5)
    ]


def seen_by(home: Home) -> dict[str, int]:
    found = [one for one in sessions.every(home) if not isinstance(one, str)]
    return {str(one["session"]): int(one["agents"]["dev"]["violations"]) for one in found}
