"""Who gets an event, and what a target that names nobody is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.delivery import routing
from tmux_orchestrator.delivery.routing import Directory, Routing, Rule, needs_panes, route, sender_key, times
from tmux_orchestrator.eventlog.event import RECORDS
from tmux_orchestrator.ground import config_compile, config_schema, tmux

NS = 10**9


@dataclass
class Pane:
    id: str
    session: str
    window_index: int
    window_name: str
    pane_index: int = 0
    pid: int = 0
    nonce: str = ""


def agent(name: str, session: str = "work", **fields: Any) -> Agent:
    return Agent({"name": name, "session": session, "nonce": f"n-{session}-{name}", **fields})


PM = agent("pm", role="pm", groups=["leads"])
DEV = agent("dev", role="dev", groups=["backend"])
DEV2 = agent("dev", "other", role="dev")
OPS = agent("ops", "other", role="ops", groups=["backend", "leads"])
GONE = agent("old", role="dev", ended="stopped")
AGENTS = [PM, DEV, DEV2, OPS, GONE]
GROUPS = {"management": ["@pm"], "backend": ["work:dev", "nobody"], "empty": [], "odd": ["dev", "work:9", "@nobody"]}
PANES = [
    Pane("%1", "work", 0, "pm", nonce="n-work-pm"),
    Pane("%2", "work", 1, "5", nonce="n-work-dev"),
    Pane("%3", "work", 1, "5", pane_index=1, pid=77),
    Pane("%4", "work", 2, "shell", pid=78),
    Pane("%5", "work", 3, "twin"),
    Pane("%6", "work", 4, "twin"),
    Pane("%7", "other", 5, "v1.2", nonce="n-other-ops"),
    Pane("%8", "other", 6, "v1", pane_index=2, nonce="n-other-dev"),
    Pane("%9", "other", 7, "both", nonce="n-other-ops"),
    Pane("%10", "other", 7, "both", pane_index=1, nonce="n-other-dev"),
    Pane("%11", "dev", 8, "pm"),
]
HERE = Directory(AGENTS, GROUPS, PANES)
MONITOR = {"type": "daemon", "identifier": "monitor", "session": None, "verified": True}


def event(*targets: str, source: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "id": "01JD3ZAAAAAAAAAAAAAA7K2M9Q",
        "source": source or {"type": "human", "identifier": "ann", "session": None, "verified": False},
        "to": {"targets": list(targets), "groups": more.get("groups", [])},
        "message": {
            "type": more.get("type", "message"),
            "category": more.get("category"),
            "priority": more.get("priority", "normal"),
            "content": {"subject": None, "body": more.get("body", "hello"), "context": {}},
        },
        "metadata": {"tags": more.get("tags", []), "hops": more.get("hops", 0), **more.get("metadata", {})},
    }


def by(one: Agent, verified: bool = True) -> dict[str, Any]:
    return {"type": "agent", "identifier": one.name, "session": one.session, "verified": verified}


def keys(routed: Routing) -> list[str]:
    return [delivery.target.key for delivery in routed.deliveries]


def reasons(routed: Routing) -> list[tuple[str, str]]:
    return [(problem.target, problem.reason) for problem in routed.problems]


# Targets.


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("pm", "work:pm"),
        ("work:dev", "work:dev"),
        ("other:dev", "other:dev"),
        ("work:0", "work:pm"),
        ("work:1", "work:dev"),
        ("work:1.0", "work:dev"),
        ("other:v1.2", None),
        ("other:5", "other:ops"),
        ("other:v1", "other:dev"),
        ("%1", "work:pm"),
        ("%2", "work:dev"),
        ("other:both.1", "other:dev"),
        ("other:7.0", "other:ops"),
        ("@pm", "work:pm"),
        ("old", "work:old"),
    ],
)
def test_targets(target: str, found: str | None) -> None:
    routed = route(event(target), HERE)
    assert keys(routed) == ([found] if found else [])
    assert bool(routed.problems) == (found is None)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("nobody", "not_registered"),
        ("dev", "ambiguous_target"),
        ("p", "not_registered"),
        ("work:p", "unknown_target"),
        ("work:sh", "unknown_target"),
        ("work:*", "unknown_target"),
        ("work:shel?", "unknown_target"),
        ("wor:pm", "unknown_target"),
        ("work:", "unknown_target"),
        (":pm", "unknown_target"),
        ("work:5", "unknown_target"),
        ("work:twin", "ambiguous_target"),
        ("work:3", "not_an_agent"),
        ("work:shell", "not_an_agent"),
        ("work:2", "not_an_agent"),
        ("work:1.1", "not_an_agent"),
        ("work:1.2", "unknown_target"),
        ("dev:pm", "not_an_agent"),
        ("%3", "not_an_agent"),
        ("%99", "unknown_target"),
        ("%", "unknown_target"),
        ("other:both", "ambiguous_target"),
        ("other:v1.2", "ambiguous_target"),
        ("@nobody", "not_registered"),
    ],
)
def test_what_reaches_nobody(target: str, reason: str) -> None:
    routed = route(event(target), HERE)
    assert (keys(routed), reasons(routed)) == ([], [(target, reason)])


def test_what_helps_is_said() -> None:
    advice = {p.target: p.advice for p in route(event("opz", "dev", "work:shell", "work:pn"), HERE).problems}
    assert "did you mean ops" in advice["opz"] and "did you mean work:pm" in advice["work:pn"]
    assert advice["dev"] == "say work:dev or other:dev"
    assert advice["work:shell"] == "start it with orc-run, or adopt it: orc-agent adopt work:shell"


def test_a_bare_name_is_first_the_senders_session() -> None:
    assert keys(route(event("dev", source=by(OPS)), HERE)) == ["other:dev"]
    assert keys(route(event("dev", source=by(PM)), HERE)) == ["work:dev"]


def test_an_agent_goes_before_a_window_of_its_name() -> None:
    panes = [Pane("%1", "work", 0, "pm", nonce="n-work-dev")]
    assert keys(route(event("work:pm"), Directory(AGENTS, {}, panes))) == ["work:pm"]


def test_a_pane_id_of_another_server_is_nobody() -> None:
    registered = [agent("pm", pane="%1", pid=10, nonce="")]
    assert keys(route(event("%1"), Directory(registered, {}, [Pane("%1", "work", 0, "x", pid=10)]))) == ["work:pm"]
    routed = route(event("%1"), Directory(registered, {}, [Pane("%1", "work", 0, "x", pid=11)]))
    assert reasons(routed) == [("%1", "not_an_agent")]


def test_a_pane_without_a_nonce_is_not_the_agent_without_one() -> None:
    registered = [agent("pm", nonce="")]
    routed = route(event("%4"), Directory(registered, {}, [Pane("%4", "work", 0, "x", pid=5)]))
    assert reasons(routed) == [("%4", "not_an_agent")]


@given(st.text(max_size=12), st.sampled_from(["", "%", "@", "work:", "other:v1."]))
def test_any_target_ends_somewhere(text: str, prefix: str) -> None:
    routed = route(event(prefix + text), HERE)
    assert bool(routed.deliveries) != bool(routed.problems)


# Everybody, roles, groups.


def test_everybody_but_who_left_and_who_says_it() -> None:
    assert keys(route(event("@all"), HERE)) == ["work:pm", "work:dev", "other:dev", "other:ops"]
    assert keys(route(event("@all", source=by(DEV)), HERE)) == ["work:pm", "other:dev", "other:ops"]
    assert keys(route(event("@dev", source=by(DEV, verified=False)), HERE)) == ["other:dev"]


def test_nobody_receives_their_own_message() -> None:
    assert reasons(route(event("work:dev", source=by(DEV)), HERE)) == [("work:dev", "own_message")]
    assert reasons(route(event("%2", source=by(DEV)), HERE)) == [("%2", "own_message")]
    routed = route(event(groups=["management"], source=by(PM)), HERE)
    assert routed == Routing([], [])
    assert route(event("@pm", source=by(PM)), HERE) == Routing([], [])


def test_groups() -> None:
    assert keys(route(event(groups=["management"]), HERE)) == ["work:pm"]
    assert keys(route(event(groups=["leads"]), HERE)) == ["work:pm", "other:ops"]
    routed = route(event(groups=["backend"]), HERE)
    assert (keys(routed), routed.problems) == (["work:dev", "other:ops"], [])


@pytest.mark.parametrize("group", ["empty", "unknown", ""])
def test_an_empty_group_is_no_problem(group: str) -> None:
    assert route(event(groups=[group]), HERE) == Routing([], [])


def test_a_member_that_cannot_be_meant_is_a_problem_one_that_is_not_there_is_none() -> None:
    assert reasons(route(event(groups=["odd"]), HERE)) == [("dev", "ambiguous_target")]


def test_each_agent_once() -> None:
    routed = route(event("pm", "work:pm", "%1", "work:0", "@pm", "@all", groups=["management", "leads"]), HERE)
    assert sorted(keys(routed)) == ["other:dev", "other:ops", "work:dev", "work:pm"]


def test_unaddressed_and_records_reach_nobody() -> None:
    assert route(event(), HERE) == Routing([], [])
    for kind in RECORDS:
        assert route(event("pm", "nobody", groups=["leads"], type=kind), HERE) == Routing([], [])
        assert not needs_panes(event("%1", type=kind), Directory(AGENTS, GROUPS))


def test_the_records_are_these() -> None:
    known = {"delivery", "rate_limited", "recovery", "ack", "clock_step", "day_start", "clear_queues", "cancel"}
    assert known == RECORDS


# Hops, monitoring.


def test_hops() -> None:
    assert keys(route(event("pm", hops=8), HERE)) == ["work:pm"]
    routed = route(event("pm", "@dev", "nobody", hops=9), HERE)
    assert routed.deliveries == []
    assert reasons(routed) == [
        ("nobody", "not_registered"),
        ("work:pm", "hops"),
        ("work:dev", "hops"),
        ("other:dev", "hops"),
    ]
    assert keys(route(event("pm", hops=2), HERE, max_hops=1)) == []


def test_monitoring_is_logged_and_not_typed() -> None:
    def action(source: dict[str, Any], priority: str = "high", quiet: bool = True) -> str:
        found = route(event("pm", source=source, priority=priority), HERE, quiet_monitoring=quiet)
        return found.deliveries[0].action

    assert action(MONITOR) == "log"
    assert action(MONITOR, "critical") == "type"
    assert action(MONITOR, quiet=False) == "type"
    assert action(MONITOR | {"verified": False}) == "type", "a claim is shown as one, not believed"
    assert action(MONITOR | {"identifier": "broker"}) == "type"
    assert action(by(DEV)) == "type"


# Rules.


def rule(match: dict[str, Any], **then: Any) -> Rule:
    return Rule({"match": match, "route": [], "priority": None, "action": "type"} | then)


@pytest.mark.parametrize(
    ("match", "matches"),
    [
        ({}, True),
        ({"type": ["bug_report"]}, True),
        ({"type": ["alert", "bug_report"]}, True),
        ({"type": ["alert"]}, False),
        ({"category": ["build"]}, True),
        ({"category": ["buil"]}, False),
        ({"tags": ["red", "blue"]}, True),
        ({"tags": ["green"]}, False),
        ({"priority": ["high"]}, True),
        ({"priority": ["low"]}, False),
        ({"source": ["dev"]}, True),
        ({"source": ["work:dev"]}, True),
        ({"source": ["agent"]}, True),
        ({"source": ["other:dev"]}, False),
        ({"text": "HIGH PRIORITY .*disk"}, True),
        ({"text": r"Tags: \[red, x\]"}, True),
        ({"text": "^disk"}, False),
        ({"type": ["bug_report"], "text": "cpu"}, False),
        ({"type": ["bug_report"], "tags": ["red"], "text": "full"}, True),
    ],
)
def test_what_a_rule_matches(match: dict[str, Any], matches: bool) -> None:
    one = event("pm", source=by(DEV), type="bug_report", category="build", tags=["red", "x"], priority="high")
    one["message"]["content"]["body"] = "the disk\nis full"
    assert rule(match).matches(one) is matches


def test_a_rule_routes_and_changes() -> None:
    rules = [
        rule({"type": ["other"]}, priority="low"),
        rule({"type": ["bug_report"]}, route=["@pm", "work:dev", "nobody"], priority="critical", action="digest"),
        rule({}, action="drop"),
    ]
    routed = route(event("other:ops", type="bug_report"), HERE, rules)
    assert [(d.target.key, d.priority, d.action) for d in routed.deliveries] == [
        ("other:ops", "critical", "digest"),
        ("work:pm", "critical", "digest"),
        ("work:dev", "critical", "digest"),
    ]
    assert routed.problems == []
    assert keys(route(event(type="bug_report"), HERE, rules)) == ["work:pm", "work:dev"]
    assert route(event("pm"), HERE, rules).deliveries[0].action == "drop"


def test_a_rule_can_make_what_the_monitoring_says_heard() -> None:
    routed = route(event("pm", source=MONITOR), HERE, [rule({"source": ["monitor"]}, priority="critical")])
    assert routed.deliveries[0].action == "type"


# Panes are asked for only when they are needed.


def test_needs_panes() -> None:
    nobody_looked = Directory(AGENTS, GROUPS)
    assert not needs_panes(event("pm", "work:dev", "@all", groups=["backend", "unknown"]), nobody_looked)
    for one in (event("%1"), event("work:0"), event(groups=["odd"])):
        assert needs_panes(one, nobody_looked)
        assert not needs_panes(one, HERE), "somebody looked"
    assert needs_panes(event("pm"), nobody_looked, [rule({}, route=["work:0"])])
    assert not needs_panes(event("pm"), nobody_looked, [rule({"type": ["x"]}, route=["work:0"])])


# Small things.


def test_sender_keys() -> None:
    assert sender_key(event(source=by(DEV))) == DEV.key
    assert sender_key(event(source=by(DEV, verified=False))) == "work:dev?"
    assert sender_key(event(source=MONITOR)) == "monitor"
    assert sender_key(event(source={"type": "cron"})) == "cron?"


def test_times() -> None:
    one = event(metadata={"expires": "2026-11-20T10:45:45Z", "not_before": "2026-11-20T10:45:45.500000Z"})
    assert times(one) == (1795171545 * NS, 1795171545 * NS + NS // 2)
    assert times(event()) == (None, None)
    assert times(event(metadata={"expires": "soon-ish", "not_before": ""})) == (None, None)


def test_panes_are_tmux_panes() -> None:
    assert set(routing.Pane.__annotations__) <= set(tmux.Pane.__dataclass_fields__)


def test_the_shipped_example_does_what_it_says() -> None:
    example = next(section.example for section in config_schema.SECTIONS if section.name == "rules")
    values, mistakes = config_compile.parse(("rules:\n  " + "\n  ".join(example)).encode())
    assert mistakes == []
    rules = [Rule(one) for one in values["rules"]]
    lint = event(
        "work:dev", source={"type": "agent", "identifier": "lint", "session": None}, body="0 problems in 12 files"
    )
    assert [one.action for one in route(lint, HERE, rules).deliveries] == ["drop"]
    lint["message"]["content"]["body"] = "10 problems in 12 files"
    assert [one.action for one in route(lint, HERE, rules).deliveries] == ["type"]
    bug = event(type="bug_report", priority="high")
    assert [(one.target.key, one.priority) for one in route(bug, HERE, rules).deliveries] == [("work:pm", "critical")]
