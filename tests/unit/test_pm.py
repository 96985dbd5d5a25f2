"""The project manager's interface: what is its business and how it is told, questions, escalations, the script."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support_orc import System
from support_tmux import wait_until
from tmux_orchestrator.agents import managers, profiles, registry, roster
from tmux_orchestrator.agents.control import Control
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.agents.screen import Screen, question_id
from tmux_orchestrator.agents.state import Seen
from tmux_orchestrator.core.communication.pm_pubsub_integration import PMPubsubIntegration, create_pm_monitoring_script
from tmux_orchestrator.eventlog import event, reader
from tmux_orchestrator.eventlog.daylog import Log, daemon_source
from tmux_orchestrator.ground import config, files, output
from tmux_orchestrator.ground.errors import TryLater, UsageError
from tmux_orchestrator.ground.paths import CODE, Home
from tmux_orchestrator.insight import doctor_pm
from tmux_orchestrator.insight.findings import Case
from tmux_orchestrator.watch import escalation, matters, notices, notifications, pm, questions
from tmux_orchestrator.watch.lives import Life
from tmux_orchestrator.watch.notifications import Scope

ANN = {"type": "human", "identifier": "ann", "session": None, "host": "h", "verified": False}
GROUPS = {"management": ["@pm"]}


def agent(name: str, session: str = "web", **fields: Any) -> Agent:
    return Agent({"name": name, "session": session, "role": name} | fields)


def told(body: str = "x", source: dict[str, Any] | None = None, **given: Any) -> dict[str, Any]:
    """An event as the log has it."""
    made = event.build(body, source or daemon_source("monitor"), **given)
    return made | {"id": "0" * 26, "seq": 1, "timestamp": "2026-11-20T10:30:45.000000Z"}


def publish(home: Home, body: str, source: dict[str, Any] | None = None, **given: Any) -> str:
    log = Log(home, durable=False)
    try:
        return log.append([event.build(body, source or daemon_source("monitor"), **given)])[0]
    finally:
        log.close()


# whose manager


@pytest.mark.parametrize(
    ("pms", "session", "expected"),
    [
        (["web:pm"], "web", "web:pm"),
        (["api:pm"], "web", "api:pm"),
        (["web:pm", "api:pm"], "web", "web:pm"),
        (["web:pm", "api:pm"], "db", None),
        ([], "web", None),
    ],
)
def test_the_manager_of_a_session_is_its_own_else_the_only_one(
    pms: list[str], session: str, expected: str | None
) -> None:
    agents = [agent("pm", key.partition(":")[0]) for key in pms] + [agent("dev")]
    found = managers.of_session(agents, session)
    assert (found and found.key) == expected
    for one in agents:
        one.ended = "stopped"
    assert managers.of_session(agents, session) is None


# what is a project manager's business

TEAMS = [agent("pm"), agent("dev"), agent("pm", "api"), agent("qa", "db")]
MANAGEMENT: dict[str, Any] = {"groups": ["management"]}


@pytest.mark.parametrize(
    ("given", "web", "api"),
    [
        (MANAGEMENT, True, True),
        (MANAGEMENT | {"context": {"session": "web"}}, True, False),
        (MANAGEMENT | {"context": {"agent": "api:2"}}, False, True),
        (MANAGEMENT | {"context": {"agents": ["web:dev", "api:pm"]}}, True, True),
        (MANAGEMENT | {"context": {"session": "db"}}, True, True),  # of nobody nearer
        ({"context": {"session": "web"}}, True, False),  # logged for readers
        ({"context": {"session": "db"}}, False, False),
        ({"targets": ["web:dev"], "context": {"session": "web"}}, False, False),  # a worker's briefing
        ({"targets": ["web:pm"], "context": {"session": "api"}}, True, False),
        ({"targets": ["@pm"]}, True, True),
        (MANAGEMENT | {"type": "delivery", "context": {"session": "web"}}, False, False),
        ({"type": "recovery", "context": {"agent": "web:dev", "action": "failed"}}, True, False),
        ({"type": "recovery", "context": {"agent": "web:dev", "action": "respawned"}}, False, False),
        (MANAGEMENT | {"context": {"agent": 7, "agents": "x", "session": ["y"]}}, True, True),  # nobody's session
        (MANAGEMENT | {"context": {"issue_type": "dead", "subjects": ["web:dev", "web:qa"]}}, True, False),
        (MANAGEMENT | {"context": {"issue_type": "team_idle", "subjects": ["api"]}}, False, True),
        (MANAGEMENT | {"context": {"issue_type": "component", "subjects": ["broker"]}}, True, True),
        (MANAGEMENT | {"context": {"issue_type": "status", "agents": 3}}, True, True),
        (MANAGEMENT | {"source": ANN}, False, False),
    ],
)
def test_a_manager_hears_the_daemons_about_what_is_its_business(given: dict[str, Any], web: bool, api: bool) -> None:
    one = told(**given)
    assert [Scope(TEAMS, GROUPS, where, []).notifies(one) for where in ("web:pm", "api")] == [web, api]
    assert Scope(TEAMS, GROUPS, "web", []).notifies(one) == web


def test_a_manager_whom_nobody_registered_hears_what_is_for_management() -> None:
    assert Scope([], GROUPS, "web:0", []).notifies(told(**MANAGEMENT, context={"session": "web"}))
    assert not Scope([], GROUPS, "web:0", []).notifies(told(targets=["@dev"]))


def test_a_window_is_the_agent_in_it() -> None:
    agents = [agent("pm", pane="%1"), agent("lead", pane="%2", role="pm")]
    assert [one.key for one in Scope(agents, GROUPS, "web:1", ["%2"]).mine] == ["web:lead"]
    assert [one.key for one in Scope(agents, GROUPS, "web:pm", []).mine] == ["web:pm"]
    assert [one.key for one in Scope(agents, GROUPS, "web:7", []).mine] == ["web:pm", "web:lead"]
    assert len(Scope(agents, GROUPS, None, []).mine) == 2


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"type": "alert", "category": "health", "context": {"issue_type": "dead"}}, "failure"),
        ({"category": "recovery", "context": {"issue_type": "recovery"}}, "recovery"),
        ({"type": "recovery", "context": {"action": "failed"}}, "recovery"),
        ({"category": "health", "context": {"issue_type": "idle"}}, "health"),
        ({"category": "health", "context": {"issue_type": "something new"}}, "health"),
        ({"context": {"issue_type": "limited"}}, "limit"),
        ({"context": {"issue_type": "waiting"}}, "question"),
        ({"type": "escalation"}, "escalation"),
        ({"type": "credit_exhausted"}, "limit"),
        ({"type": "status_update", "context": {"issue_type": {"no": "word"}}}, "status_update"),
    ],
)
def test_a_notification_has_a_kind(given: dict[str, Any], expected: str) -> None:
    assert notifications.kind(told(**given)) == expected


def test_kinds_fields_and_figures_are_told(home: Home) -> None:
    text = Path(CODE, "docs/pm.md").read_text()
    words = {issue for issues in notifications.ISSUES.values() for issue in issues} | set(notifications.ISSUES)
    words |= set(notifications.EVENTS) | set(notifications.EVENTS.values()) | set(notifications.CATEGORIES)
    words |= set(notifications.record(told(), False)) | set(PMPubsubIntegration("web").monitor_pubsub_health())
    assert {word for word in words if f"`{word}`" not in text} == set()


def test_all_that_the_monitor_tells_of_has_a_kind() -> None:
    known = {notifications.kind(told(context={"issue_type": issue}, category="x")) for issue in notices.KINDS}
    assert known == {"failure", "health", "limit", "question"}


# the interface over a log


def test_a_notification_has_what_a_script_asks_for(home: Home) -> None:
    context = {"agent": "backend:1", "session": "backend", "issue_type": "idle", "idle_duration": 1800}
    given: dict[str, Any] = {
        "type": "notification",
        "category": "health",
        "priority": "high",
        "subject": "Agent Health Alert",
    }
    made = publish(
        home, "Agent backend:1 has been idle", **given, **MANAGEMENT, context=context, tags=["idle"], requires_ack=True
    )
    (one,) = PMPubsubIntegration("backend:0").get_daemon_notifications(30)
    assert one["id"] == made and one["short_id"] == made[-6:]
    assert (one["priority"], one["type"], one["requires_ack"], one["context"]) == ("high", "health", True, context)
    assert one["raw_message"] == "⚠️ HIGH PRIORITY Agent Health Alert: Agent backend:1 has been idle Tags: [idle]"
    assert one["timestamp"].endswith("Z") and one["verified"] and one["source"] == "monitor"


def test_what_is_older_is_left_out(home: Home) -> None:
    publish(home, "then", **MANAGEMENT)
    assert [one["body"] for one in PMPubsubIntegration("web").get_daemon_notifications(1)] == ["then"]
    with pytest.raises(UsageError):
        PMPubsubIntegration("web").get_daemon_notifications(0)
    with pytest.raises(UsageError):
        PMPubsubIntegration("web").get_daemon_notifications(float("nan"))
    assert PMPubsubIntegration("web").get_daemon_notifications(1e-9) == []


def test_an_acknowledgment_carries_the_session_and_is_seen(home: Home) -> None:
    files.make_dir(home.registry)
    first, second = publish(home, "one", **MANAGEMENT), publish(home, "two", **MANAGEMENT)
    mine = PMPubsubIntegration("web:3")
    assert mine.acknowledge_notification(first, "done") and mine.acknowledge_notification("#" + second[-6:].lower())
    assert [one["acknowledged"] for one in mine.get_daemon_notifications()] == [True, True]
    found = reader.find(home, first)
    acks = [one for _, one in reader.last(home, _query(types=["ack"]), 2)]
    assert found and [one["source"]["session"] for one in acks] == ["web", "web"]
    assert [one["message"]["content"]["context"]["event"] for one in acks] == [first, second]
    assert acks[0]["message"]["content"]["body"] == f"ACK {first} - done" and not acks[0]["source"]["verified"]


def _query(**given: Any) -> reader.Query:
    query = reader.Query()
    for name, value in given.items():
        setattr(query, name, value)
    return query


def test_an_acknowledgment_from_outside_its_tree_is_the_managers_by_its_own_word(home: Home) -> None:
    roster.register(home, agent("lead", role="pm", pane="%1"))
    stored = publish(home, "one", **MANAGEMENT)
    assert PMPubsubIntegration("web:0").acknowledge_notification(stored)
    (one,) = [one for _, one in reader.last(home, _query(types=["ack"]), 1)]
    assert [one["source"][name] for name in ("identifier", "session", "verified")] == ["lead", "web", False]


@pytest.mark.parametrize("wanted", ["", "x", "no-such-event", "../../etc", "\0", "ab\ncd" * 10, None, 7])
def test_what_is_no_event_cannot_be_acknowledged(home: Home, wanted: Any) -> None:
    publish(home, "one", **MANAGEMENT)
    assert PMPubsubIntegration("web").acknowledge_notification(wanted, "x") is False
    assert [one for _, one in reader.last(home, _query(types=["ack"]), 1)] == []


def test_broadcasts_are_by_priority(home: Home) -> None:
    publish(home, "low one", ANN, priority="low", **MANAGEMENT)
    publish(home, "high one", ANN, priority="high", **MANAGEMENT)
    publish(home, "to the role", ANN, priority="high", targets=["@pm"])
    publish(home, "to another", ANN, priority="high", targets=["web:dev"])
    mine = PMPubsubIntegration("web")
    assert [one["body"] for one in mine.get_management_broadcasts("high")] == ["high one", "to the role"]
    assert len(mine.get_management_broadcasts()) == 3
    with pytest.raises(UsageError):
        mine.get_management_broadcasts("urgent")


@pytest.mark.parametrize("given", ['"web:0"', "'web:0'", " web:0\n", "web:0"])
def test_a_session_is_taken_as_a_shell_hands_it_over(home: Home, given: str) -> None:
    assert PMPubsubIntegration(given).session == "web:0"


@pytest.mark.parametrize("given", ["", "  ", ":0", "a\x1bb", "x" * 300, '""', "a\nb"])
def test_what_is_no_session_is_refused(home: Home, given: str) -> None:
    with pytest.raises(UsageError):
        PMPubsubIntegration(given)


def test_health_never_raises(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = PMPubsubIntegration("web:0")
    found = mine.monitor_pubsub_health()
    assert (found["ok"], found["broker_running"], found["queue_depth"], found["session"]) == (False, False, 0, "web:0")
    files.make_dir(home.root)
    Path(home.config_file).write_text("nonsense: 1\n")
    assert "nonsense" in mine.monitor_pubsub_health()["problems"][0]
    monkeypatch.setattr("tmux_orchestrator.ground.paths.CODE", "/nowhere")
    assert "orc-doctor" in mine.monitor_pubsub_health()["problems"][0]


@pytest.mark.parametrize("name", ["web", "web:0", "a/../b:1", "." * 200, "é ü:2"])
def test_a_cursor_is_one_file_below_the_home(home: Home, name: str) -> None:
    cursor = PMPubsubIntegration(name).cursor
    assert os.path.dirname(os.path.normpath(cursor)) == home.run + "/cursors"
    assert len(os.path.basename(cursor)) < 200


def test_the_cursor_moves_behind_what_was_printed(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    publish(home, "before \x1b[2J", priority="high", **MANAGEMENT)
    assert pm.check(["web:0"]) == 0
    assert "[high] ⚠️ HIGH PRIORITY before \\x1b[2J" in capsys.readouterr().out
    publish(home, "normal", **MANAGEMENT)
    publish(home, "after", priority="critical", requires_ack=True, **MANAGEMENT)
    mine = PMPubsubIntegration("web:0")
    assert [one["body"] for one in mine.unseen()[0]] == ["after"] == [one["body"] for one in mine.unseen()[0]]
    assert pm.check(["web:0"]) == 0
    assert "after (orc-ack " in capsys.readouterr().out
    assert pm.check(["web:0"]) == 0
    assert capsys.readouterr().out == ""
    Path(mine.cursor).write_text("nonsense")
    assert pm.check(["web:0"]) == 65
    assert capsys.readouterr().err.count("\n") == 1


def test_the_script_is_private_and_runs(home: Home) -> None:
    path = create_pm_monitoring_script()
    assert path == create_pm_monitoring_script() and path.startswith(home.root + "/")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    publish(home, "urgent", priority="high", **MANAGEMENT)
    done = subprocess.run([path, "web:0"], cwd="/", env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[high] ⚠️ HIGH PRIORITY urgent\n", "")


# questions


def asked(agents: list[Agent], waiting: Agent, busy: set[str] | None = None, **groups: list[str]) -> questions.Asked:
    return questions.route(agents, waiting, ["@orchestrator"], GROUPS | groups, busy or set())


def test_a_worker_asks_its_manager_then_the_only_one_then_management_then_a_person() -> None:
    dev, own, other, third = agent("dev"), agent("pm"), agent("pm", "api"), agent("pm", "db")
    assert asked([dev, own, other], dev) == questions.Asked(targets=["web:pm"])
    assert asked([dev, other], dev) == questions.Asked(targets=["api:pm"])
    assert asked([dev, other, third], dev) == questions.Asked(groups=["management"])
    assert asked([dev, agent("lead", groups=["management"])], dev) == questions.Asked(groups=["management"])
    assert asked([dev, agent("lead")], dev, management=["lead"]) == questions.Asked(groups=["management"])
    assert asked([dev, agent("lead")], dev) == questions.Asked(to_person=True)
    assert asked([dev, agent("pm", ended="stopped")], dev) == questions.Asked(to_person=True)


def test_a_manager_asks_the_orchestrator_then_a_person() -> None:
    own, other, above = agent("pm"), agent("pm", "api"), agent("orchestrator", "main")
    assert asked([own, other, above], own) == questions.Asked(targets=["@orchestrator"])
    assert asked([own, other], own) == questions.Asked(to_person=True)


def test_who_waits_for_a_person_as_well_is_not_asked() -> None:
    dev, own, above = agent("dev"), agent("pm"), agent("orchestrator", "main")
    assert asked([dev, own], dev, {"web:dev", "web:pm"}) == questions.Asked(to_person=True)
    assert asked([own, above], own, {"web:pm", "main:orchestrator"}) == questions.Asked(to_person=True)


def test_a_question_names_the_command_of_each_answer() -> None:
    known = profiles.load({})["claude"].answers
    text = questions.message(agent("dev"), "Do you want to\nproceed? \x1b[2J", ["1. Yes", "2. Always", "3. No"], known)
    assert text.split("\n") == [
        "Agent web:dev waits for an answer: Do you want to proceed? \\x1b[2J",
        "- orc-agent answer web:dev 1    (1. Yes)",
        "- orc-agent answer web:dev 2    (2. Always)",
        "- orc-agent answer web:dev 3    (3. No)",
        "- to see it first: orc-agent peek web:dev",
    ]


def test_where_choices_have_no_number_the_profiles_words_stand_in() -> None:
    known = profiles.load({})["aider"].answers
    offered = [command for command, _ in questions.commands(agent("dev"), ["Yes", "No"], known)]
    assert offered == [f"orc-agent answer web:dev {word}" for word in ("yes", "no", "always", "enter", "cancel")]
    assert "orc-agent attach web:dev" in questions.message(agent("dev"), "?", [], [])


# A registered session is what tmux may have called one.
SESSIONS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)


@given(st.text(), st.lists(st.text(), max_size=20), SESSIONS)
def test_a_question_can_always_be_stored_and_offers_nothing_but_answers(
    question: str, choices: list[str], session: str
) -> None:
    waiting, known = agent("dev", session, pane="%7"), profiles.load({})["claude"].answers
    shown = Screen("waiting", question=question, choices=choices)
    life = Life(Seen(waiting, "waiting", "screen", screen=shown), "waiting", 0, 0, 0, question=question)
    matter = questions.address(matters.question(life), life, questions.Asked(targets=["web:pm"]), known)
    made = event.build(matter.text, ANN, targets=list(matter.targets), context=matter.context)
    event.check(made)
    target = waiting.key if waiting.key.isprintable() else "%7"
    for command in matter.context["answers"]:
        words = shlex.split(command)
        assert words[:3] == ["orc-agent", "answer", target] and words[3] in known
        assert words[4:] == (["--asked", question_id(question)] if question.split() else [])
    lines = matter.text.split("\n")
    assert all(output.clean(line) == line for line in lines)
    assert len(lines) <= 11 and len("".join(lines)) < 4000


# escalation


def test_an_escalation_says_who_asks_and_how_the_team_is(home: Home) -> None:
    source = ANN | {"type": "pm", "identifier": "pm", "session": "web"}
    dev = Seen(agent("dev"), "dead", "tmux", why="ended by signal 9")
    alert = publish(home, "web:dev died", priority="critical", type="alert", context={"session": "web"})
    publish(home, "api:dev died", priority="critical", type="alert", context={"session": "api"})
    publish(home, "idle", priority="low", context={"session": "web"})
    recent = escalation.recent(home, "web")
    made = escalation.build(
        "  it burns\n- Need: water", source, ["@orchestrator"], [Seen(agent("pm"), "idle", "screen"), dev], recent
    )
    assert recent == [alert] and len(escalation.recent(home, None)) == 2
    event.check(made)
    assert made["message"]["content"]["body"].split("\n") == [
        "ESCALATION: it burns",
        "- Need: water",
        "- From: web:pm",
        "- Team: pm idle, dev dead (ended by signal 9)",
        f"- Recent alerts: #{alert[-6:]} (orc-read --id ID)",
    ]
    context = made["message"]["content"]["context"]
    assert (context["agent"], context["session"], context["issue"]) == ("web:pm", "web", "it burns")
    assert context["team"] == {"web:pm": "idle", "web:dev": "dead"} and context["recent"] == [alert]


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (["@orchestrator"], []),
        (["@lead", "lead", "web:lead"], ["@lead", "lead", "web:lead"]),
        (["web:pm", "@pm", "pm"], []),  # itself
        (["@all", "main:0", "%7"], ["@all", "main:0", "%7"]),
        (["web:old", "@old", "old"], []),  # left on purpose
    ],
)
def test_whom_a_target_reaches(targets: list[str], expected: list[str]) -> None:
    agents = [agent("pm"), agent("lead"), agent("old", ended="stopped")]
    assert escalation.reached(agents, targets, "web:pm") == expected


# the checklist


def walked(home: Home, session: str = "web") -> dict[str, doctor_pm.Step]:
    return {step.check: step for step in doctor_pm.Walk(Case(home), session).steps()}


def test_a_manager_that_died_has_to_come_back(home: Home) -> None:
    roster.register(home, agent("pm", pid=1, pid_start=1, paused=True))
    found = walked(home)
    assert not found["manager"].ok and found["manager"].mend == "orc-agent restart web:pm"
    assert found["group"].ok and not found["paused"].ok and found["paused"].mend == "orc-agent resume web:pm"


def test_two_managers_of_one_session_are_one_too_many_unless_it_is_said_which(home: Home) -> None:
    roster.register(home, agent("pm"))
    roster.register(home, agent("lead", role="pm"))
    assert "web:pm, web:lead are project managers of one session" in walked(home)["manager"].text
    assert walked(home, "web:lead")["manager"].text.startswith("web:lead is registered")


def test_a_damaged_registry_hides_no_other_step(home: Home) -> None:
    files.make_dir(home.registry)
    Path(registry.path(home)).write_text("{")
    found = walked(home)
    assert set(found) >= {"session", "broker", "monitor", "manager", "flow", "escalation", "script", "speed"}
    assert not found["flow"].ok and "damaged" in found["flow"].text


def test_messages_that_come_too_late_are_told(home: Home) -> None:
    assert walked(home)["speed"].ok
    for number, took in enumerate((40.0, 4000.0)):
        context = {"event": f"{number}" * 26, "target": "web:pm", "outcome": "typed", "priority": "normal"}
        publish(home, "typed", type="delivery", context=context | {"latency_ms": took})
        assert walked(home)["speed"].ok == (took < 100)
    assert walked(home)["speed"].text == "slower than the target in 5 of 100: normal 4000 ms (target 100 ms)"


def test_a_script_whose_loop_has_ended_is_told(home: Home) -> None:
    assert not walked(home)["script"].ok
    assert pm.check(["web"]) == 0
    assert walked(home)["script"].ok
    long_ago = time.time() - 3600
    os.utime(PMPubsubIntegration("web").cursor, (long_ago, long_ago))
    assert "ran 1h ago" in walked(home)["script"].text and not walked(home)["script"].ok


# answering a real dialog


def test_an_answer_does_not_land_when_the_dialog_has_gone_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    with System() as system:
        for name in ("ORC_HOME", "ORC_TMUX_SOCKET"):
            monkeypatch.setenv(name, system.env[name])
        dev = system.demo("dev")
        home = Home(system.root)
        control = Control(home, config.load(home))
        dev.keys("[[tool:make]]", "Enter")
        wait_until(lambda: control.see("dev").state == "waiting", what="the dialog")
        seen = control.see("dev")
        dev.keys("Escape")
        wait_until(lambda: control.see("dev").state == "idle", what="its end")
        before = dev.screen()
        with pytest.raises(TryLater, match="has changed its screen meanwhile"):
            control.press(seen, ["1"], still=True)
        assert dev.screen() == before
        assert control.answer("dev", "1") is False


def test_the_interface_is_on_the_path_of_the_projects_interpreter() -> None:
    module = "tmux_orchestrator.core.communication.pm_pubsub_integration"
    python = f"{CODE}/.venv/bin/python"
    done = subprocess.run(
        [python, "-I", "-c", f"import {module} as it; print(it.__file__)"], cwd="/", capture_output=True, text=True
    )
    assert done.stdout.strip().startswith(CODE), done.stderr
    assert sys.version_info >= (3, 11)
