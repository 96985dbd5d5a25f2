"""The broker knows its own records at a glance, and takes nothing else for one."""

from __future__ import annotations

from tmux_orchestrator.delivery.outcomes import Outcomes
from tmux_orchestrator.eventlog import event
from tmux_orchestrator.eventlog.daylog import Log, daemon_source
from tmux_orchestrator.ground import fastjson, files
from tmux_orchestrator.ground.paths import Home


def _lines(home: Home) -> list[bytes]:
    with open(f"{home.logs}/today.jsonl", "rb") as file:
        return file.read().split(b"\n")[:-1]


def _outcomes(home: Home) -> Outcomes:
    files.make_dir(home.run)
    return Outcomes(home, Log(home, durable=False))


def test_own_records_are_known(home: Home) -> None:
    outcomes = _outcomes(home)
    outcomes.record("01JD3Z0000000000000000000A", "team:dev", "typed", attempt=1, latency_ms=0.4, targets=1)
    outcomes.record("01JD3Z0000000000000000000B", "team:dev", "rate_limited", "rate_limited", targets=1)
    assert outcomes.flush()
    assert [outcomes.wrote(line) for line in _lines(home)] == [True, True]


def test_what_the_broker_says_to_others_is_no_record(home: Home) -> None:
    outcomes = _outcomes(home)
    outcomes.say("nobody acknowledged it", "escalation", {"event": "01JD3Z"}, "high", ("@pm",))
    outcomes.say("it did not reach the target", "notification", {"count": 1}, "normal", ("team:pm",))
    assert outcomes.flush()
    assert [outcomes.wrote(line) for line in _lines(home)] == [False, False]


def test_what_others_write_is_no_record(home: Home) -> None:
    outcomes, log = _outcomes(home), Log(home, durable=False)
    outcomes.record("01JD3Z0000000000000000000A", "team:dev", "typed", targets=1)
    assert outcomes.flush()
    record = _lines(home)[0].decode()
    human = {"type": "human", "identifier": "ann", "session": None, "host": None, "verified": False}
    log.append([event.build(record, human, targets=["dev"]), event.build("x", human, context={"seen": record})])
    log.append([event.build("confirmed elsewhere", daemon_source("bridge"), type="delivery")])
    log.append([event.build("x", human, targets=["dev"]) | {"id": "chosen.by-somebody:" + "x" * 100}])
    assert [outcomes.wrote(line) for line in _lines(home)[1:]] == [False] * 4
    assert not outcomes.wrote(b"") and not outcomes.wrote(b'{"source": ')


def test_a_record_reads_as_any_event_would(home: Home) -> None:
    """It is put together from a form, so every part that differs is checked against what `build` would have made."""
    outcomes = _outcomes(home)
    context = {"event": "01JD3Z0000000000000000000A", "target": 'te"am:dé\\v', "outcome": "held", "reason": "draft"}
    outcomes.record(*context.values(), attempt=2, latency_ms=0.4, final=False, targets=3)
    outcomes.record("01JD3Z0000000000000000000B", "team:dev", "rate_limited", "pair_cap", targets=1)
    assert outcomes.flush()
    wanted = [
        event.build(
            'held te"am:dé\\v: draft',
            daemon_source("broker"),
            type="delivery",
            priority="low",
            context=context | {"attempt": 2, "latency_ms": 0.4, "final": False, "targets": 3},
            reply_to="01JD3Z0000000000000000000A",
        ),
        event.build(
            "rate_limited team:dev: pair_cap",
            daemon_source("broker"),
            type="rate_limited",
            priority="low",
            context={
                "event": "01JD3Z0000000000000000000B",
                "target": "team:dev",
                "outcome": "rate_limited",
                "reason": "pair_cap",
                "targets": 1,
            },
            reply_to="01JD3Z0000000000000000000B",
        ),
    ]
    assert [b"{" + line[line.index(b'"source"') :] for line in _lines(home)] == [
        fastjson.dumps(event.check(made)).encode() for made in wanted
    ]


def test_a_name_that_no_event_can_hold_keeps_the_others_from_nothing(home: Home) -> None:
    outcomes = _outcomes(home)
    outcomes.say("to nobody", "notification", {}, "normal", ("te\nam:dev",))
    outcomes.record("01JD3Z0000000000000000000A", "team:dev", "typed", targets=1)
    assert outcomes.flush()
    assert [b'"typed team:dev"' in line for line in _lines(home)] == [True]
