"""orc-status on whole systems: who does what, what waits, how far behind, and everything that needs a person."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support_orc import System
from support_tmux import wait_until
from tmux_orchestrator.agents import profiles, registry, state
from tmux_orchestrator.agents.screen import Screen
from tmux_orchestrator.agents.state import Seen
from tmux_orchestrator.eventlog import event
from tmux_orchestrator.eventlog.daylog import Log
from tmux_orchestrator.ground import clock, config, fastjson, files
from tmux_orchestrator.ground.locks import Lock
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.ground.tmux import Pane, Screenshot
from tmux_orchestrator.insight import backlog, evidence, glance, latency, status, status_text, words
from tmux_orchestrator.insight.backlog import Backlog, Waiting

SOURCE = {"type": "human", "identifier": "ann", "session": None, "host": "h", "verified": False}
LIB = str(Path(status.__file__).resolve().parents[2])


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    for name in ("MONITOR", "STATE_UPDATER"):  # only what a test starts is to be missed when it ends
        monkeypatch.setenv("ORC_COMPONENTS_" + name, "false")
    with System() as made:
        yield made


def told(system: System) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(system.run("orc-status", "--json"))
    return found


def gathered(system: System, monkeypatch: pytest.MonkeyPatch) -> status.Report:
    """The same in this process."""
    home = Home(system.root)
    for name in ("ORC_HOME", "ORC_TMUX_SOCKET"):
        monkeypatch.setenv(name, system.env[name])
    return status.gather(home, config.load(home))


def kinds(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [(problem["kind"], problem["subject"]) for problem in document["problems"]]


# whole systems


def test_an_empty_home_has_a_status(system: System) -> None:
    found = told(system)
    assert found["agents"] == []
    assert found["broker"] == {"queued": 0, "held": 0, "rate_limited": 0, "lag_events": 0}
    names = ["broker", "state_updater", "monitor", "team"]
    assert [(one["name"], one["running"]) for one in found["components"]] == [(name, False) for name in names]
    assert kinds(found) == [("not_running", "broker")]
    assert kinds(json.loads(system.run("orc-status", "--json", ORC_COMPONENTS_MONITOR="true"))) == [
        ("not_running", "broker"),
        ("not_running", "monitor"),
    ]
    assert "no agents yet" in system.run("orc-status")


def test_the_document_has_the_fields_that_scripts_read(system: System) -> None:
    system.broker()
    agent = system.recorder("dev")
    system.wait_outcome(system.publish("-t", "dev", "-p", "high", "hello"), "typed")
    found = told(system)
    assert list(found) == ["components", "agents", "broker", "latency_ms", "problems", "tasks"]
    broker = found["components"][0]
    assert list(broker) == ["name", "running", "pid", "since", "restarts"]
    assert broker["pid"] == int(Path(system.root, "logs/broker.pid").read_text())
    assert clock.parse_stamp(broker["since"]) <= clock.now_ns()
    (dev,) = found["agents"]
    assert tuple(dev) == state.FIELDS and dev["pid"] == agent.pid and dev["target"] == agent.target
    assert list(found["latency_ms"]) == ["critical", "high", "normal", "low"]
    high = found["latency_ms"]["high"]
    assert list(high) == ["p50", "p95", "p99", "count", "within_target"]
    assert high["count"] == 1 and high["p50"] == high["p99"] == system.outcomes()[0]["latency_ms"]
    assert found["problems"] == []
    assert "nothing needs you" in system.run("orc-status")


def test_states_holds_and_what_needs_a_person(system: System) -> None:
    system.broker()
    pm, dev, qa = system.demo("pm"), system.demo("dev"), system.demo("qa")
    system.publish("-t", "pm", "[[tool:make clean]]")
    wait_until(lambda: "Run this command?" in pm.screen())
    dev.draft("a draft")
    qa.kill()
    held = {name: system.publish("-t", name, "for you") for name in ("pm", "dev", "qa")}
    for name, outcome in (("pm", "held: dialog"), ("dev", "held: draft"), ("qa", "failed: agent_gone")):
        system.wait_outcome(held[name], outcome)
    wait_until(lambda: told(system)["broker"]["held"] == 3, what="the broker's own word")
    found = told(system)
    assert {one["name"]: one["state"] for one in found["agents"]} == {"pm": "waiting", "dev": "idle", "qa": "dead"}
    assert found["broker"]["queued"] == 3
    assert kinds(found) == [("waiting", "team:pm"), ("dead", "team:qa")]
    mends = {problem["subject"]: problem["mend"] for problem in found["problems"]}
    text = system.run("orc-status")
    assert "3 messages waiting, 3 held" in text
    assert "make clean" in text and mends["team:pm"] in text
    assert "ended by signal 9" in text and mends["team:qa"] == "orc-agent restart team:qa"
    assert "1 message held: draft" in text
    system.run(*mends["team:qa"].split())
    wait_until(lambda: kinds(told(system)) == [("waiting", "team:pm")], what="the command mends it")


def test_messages_for_names_that_nobody_has(system: System) -> None:
    broker = system.broker()
    for _ in range(2):
        parked = system.publish("-t", "later", "--queue", "for later")
    system.wait_outcome(parked, "held: not_registered")

    def check() -> None:
        (problem,) = [one for one in told(system)["problems"] if one["kind"] == "not_registered"]
        assert problem["subject"] == "later" and problem["text"].startswith("2 messages for later")
        assert problem["mend"] == "orc-run later -- COMMAND"
        assert told(system)["broker"]["held"] == 2
        assert "for later: 2 messages held: not_registered" in system.run("orc-status")

    check()
    broker.kill()
    broker.wait()
    check()
    system.broker()
    system.recorder("later")
    wait_until(lambda: told(system)["problems"] == [], what="they are typed")
    wait_until(lambda: told(system)["broker"]["queued"] == 0, what="the broker's own word")


def test_over_the_limit_is_told(system: System) -> None:
    system.configure("monitoring: {max_messages_per_minute: 2}\n")
    system.broker()
    system.recorder("dev")
    events = [system.publish("-t", "dev", f"message {number}") for number in range(5)]
    system.wait_outcome(events[-1], "digested: flood")  # until then all three of them are over the limit
    wait_until(lambda: told(system)["broker"]["rate_limited"] == 2, what="the broker's own word")
    assert "2 messages over the limit" in system.run("orc-status")


def test_without_a_broker_the_journal_and_the_log_say_what_waits(system: System) -> None:
    system.broker()
    agent = system.demo("dev")
    agent.draft("a draft")
    system.wait_outcome(system.publish("-t", "dev", "held"), "held: draft")
    system.children[0].kill()
    system.children[0].wait()
    assert told(system)["broker"] | {"lag_events": 0} == {"queued": 1, "held": 1, "rate_limited": 0, "lag_events": 0}
    system.publish("-t", "dev", "nobody has seen this")
    system.publish("nor is this for anybody")
    found = told(system)
    assert found["broker"]["lag_events"] >= 2
    (problem,) = found["problems"]
    assert problem["kind"] == "not_running" and "2 messages wait for it" in problem["text"]
    manager, *argv = shlex.split(problem["mend"])
    assert os.path.basename(manager) == "orchestrator_manager.sh" and argv == ["start", "broker"]


def test_a_broker_that_hangs_falls_behind(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = system.broker()
    system.recorder("dev")
    system.wait_outcome(system.publish("-t", "dev", "one"), "typed")
    wait_until(lambda: told(system)["broker"]["lag_events"] == 0)
    broker.send_signal(signal.SIGSTOP)
    try:
        Log(Home(system.root), durable=False).append([event.build("just now", dict(SOURCE))])
        assert backlog.read(Home(system.root)).lag_events == 0, "it may be about to look"
        for number in range(3):
            system.publish("-t", "dev", f"late {number}")
        wait_until(lambda: told(system)["broker"]["lag_events"] >= 3, what="a lag that is older than the last word")
        monkeypatch.setattr(status, "_LAG_S", 0.0)
        report = gathered(system, monkeypatch)
        (problem,) = report.problems
        assert problem.kind == "lag" and problem.mend.endswith("restart broker")
    finally:
        broker.send_signal(signal.SIGCONT)
    wait_until(lambda: told(system)["broker"]["lag_events"] == 0, what="it catches up")


def test_a_profile_that_no_longer_understands_its_screen(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    system.configure("profiles: {demo: {composer: {end: 'another release'}}}\n")
    system.broker()
    system.demo("dev")
    system.wait_outcome(system.publish("-t", "dev", "held"), "held: no_composer")
    wait_until(lambda: told(system)["broker"]["held"] == 1)
    assert told(system)["problems"] == [], "a minute of patience"
    monkeypatch.setattr(status, "_PUZZLED_S", 0.0)
    (problem,) = gathered(system, monkeypatch).problems
    assert problem.kind == "profile" and "composer.end does not fit" in problem.text
    kept = Path(system.root, "logs/run/evidence/team@dev.txt")
    assert str(kept) in problem.text and kept.stat().st_mode & 0o777 == 0o600
    text = kept.read_text()
    assert "Say what to do" in text and "composer.end does not fit" in text
    assert "\\x1b[" in text and "\x1b" not in text
    system.configure("")
    wait_until(lambda: gathered(system, monkeypatch).problems == [], what="the profile fits again")


def test_restarts_are_counted_from_the_components_output(home: Home) -> None:
    files.make_dir(home.logs)
    say = "2026-11-20T10:00:00.000000Z INFO broker: "
    lines = ["started (pid 1)", "stopped on request", "started (pid 2)", "started (pid 3)", "x", "started (pid 4)"]
    Path(home.out_file("broker")).write_text("".join(f"{say}{line}\n" for line in lines))
    assert status.restarts(home, "broker") == 2
    assert status.restarts(home, "monitor") == 0


# the line for tmux


def test_the_line_for_tmux_is_short_and_kept(system: System) -> None:
    system.broker()
    system.demo("dev")
    system.demo("qa").kill()
    home = Home(system.root)
    assert system.run("orc-status", "--tmux") == "1 dead (qa) · 1 idle"
    assert glance.kept(home) == "1 dead (qa) · 1 idle\n".encode()
    Path(glance.path(home)).write_text("kept\n")
    assert system.run("orc-status", "--tmux") == "kept"
    old = time.time() - glance.FRESH_S - 1
    os.utime(glance.path(home), (old, old))
    assert system.run("orc-status", "--tmux") == "1 dead (qa) · 1 idle"


def test_one_asker_renews_the_line_and_the_others_print_the_old_one(system: System) -> None:
    home = Home(system.root)
    system.run("orc-status", "--tmux")
    Path(glance.path(home)).write_text("old\n")
    os.utime(glance.path(home), (0, 0))
    with Lock(home.run + "/status.lock"):
        assert system.run("orc-status", "--tmux") == "old"


def test_the_kept_line_costs_next_to_nothing(home: Home) -> None:
    glance.keep(home, "kept")
    code = f"""
import os, sys
bare = set(sys.modules)
sys.path.insert(0, {LIB!r})
leave = os._exit
def tell(code):
    os.write(2, "\\n".join(sorted(set(sys.modules) - bare)).encode())
    leave(code)
os._exit = tell
from tmux_orchestrator.run import run
run("orc-status", ["--tmux"])
"""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, check=False)
    assert done.stdout == b"kept\n"
    assert {name for name in done.stderr.decode().split("\n") if not name.startswith("tmux_orch")} == {"__future__"}


# what is drawn


def agent(name: str, session: str = "team", **more: Any) -> registry.Agent:
    return registry.Agent({"name": name, "session": session, "role": name, "profile": "demo"} | more)


def report(
    *agents: Seen, waiting: tuple[Waiting, ...] = (), problems: tuple[status.Problem, ...] = ()
) -> status.Report:
    running = {"name": "broker", "running": True, "pid": 7, "since": "2026-11-20T10:00:00Z", "restarts": 1}
    return status.Report(
        [running], list(agents), Backlog(7, list(waiting)), latency.Tally().latency_ms(), list(problems)
    )


NOW = clock.parse_stamp("2026-11-20T12:13:00Z")


def test_thirty_agents_fit_on_a_small_screen() -> None:
    those = [Seen(agent(f"agent-{n}"), "working" if n % 2 else "idle", "screen") for n in range(28)]
    those += [Seen(agent("pm"), "waiting", "screen", screen=Screen("waiting", question="Go on?"))]
    those += [Seen(agent("qa"), "dead", "tmux", why="ended by signal 9", since="2026-11-20T12:10:00Z")]
    found = report(*those, problems=(status.Problem("dead", "team:qa", "", "orc-agent restart team:qa"),))
    lines = status_text.render(found, NOW, 80)
    assert len(lines) <= 20 and max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "broker up 2h13m (pid 7, 1 restart)" in text
    assert "30 agents: 1 dead, 1 waiting, 14 working, 14 idle" in text
    assert text.index("qa") < text.index("Go on?") < text.index("agent-1 ")
    assert "ended by signal 9 3m ago" in text and "→ orc-agent restart team:qa" in text
    for number in range(28):
        assert f"agent-{number}" in text


def test_tasks_are_told_where_there_is_a_queue() -> None:
    found = report()
    assert "tasks" not in "".join(status_text.render(found, NOW))
    for counts, told in (
        ((0, 0), "none waits"),
        ((5, 0), "5 queued"),
        ((0, 2), "2 running"),
        ((5, 2), "5 queued, 2 running"),
    ):
        found.tasks = dict(zip(("queued", "running"), counts, strict=True))
        assert f"tasks: {told}" in status_text.render(found, NOW)


def test_a_command_is_never_cut() -> None:
    seen = Seen(agent("pm"), "waiting", "screen", screen=Screen("waiting", question="a long question " * 20))
    mend = "orc-agent answer team:pm yes, or orc-agent attach team:pm"
    lines = status_text.render(report(seen, problems=(status.Problem("waiting", "team:pm", "", mend),)), NOW, 60)
    assert any(line.endswith(mend) for line in lines)
    assert all(len(line) <= 60 for line in lines if mend not in line)


def test_a_long_line_makes_room_for_its_command() -> None:
    seen = Seen(agent("pm"), "waiting", "screen", screen=Screen("waiting", question="a long question " * 20))
    problem = status.Problem("waiting", "team:pm", "", "orc-agent attach team:pm")
    lines = status_text.render(report(seen, problems=(problem,)), NOW, 100)
    (line,) = [line for line in lines if "a long question" in line]
    assert line.endswith("→ orc-agent attach team:pm") and len(line) == 100


def test_names_that_two_sessions_have_are_told_whole() -> None:
    those = [Seen(agent("pm", "web"), "idle", "screen"), Seen(agent("pm", "api"), "idle", "screen")]
    those.append(Seen(agent("dev", "api"), "idle", "screen"))
    text = "\n".join(status_text.render(report(*those), NOW))
    assert "web:pm api:pm dev" in text


def test_what_agents_say_reaches_no_terminal_raw() -> None:
    nasty = "Go \x1b[31mon\x07 \u202e?"
    seen = Seen(agent("pm"), "waiting", "screen", screen=Screen("waiting", question=nasty, limited_until=nasty))
    problem = status.Problem("held", "x", nasty, nasty)
    text = "\n".join(status_text.render(report(seen, problems=(problem,), waiting=(Waiting(nasty, 1, nasty),)), NOW))
    assert text.isprintable() or set(text) - {c for c in text if c.isprintable()} == {"\n"}
    assert "\\x1b[31m" in text
    those = [Seen(agent("pm", where), "dead", "screen") for where in ("#(touch x)", "b")]
    assert status_text.tmux_line(report(*those)) == "2 dead ((touch x):pm, b:pm)", "tmux reads # as its own"


def test_waiting_messages_are_told_with_their_agent_or_apart() -> None:
    seen = Seen(agent("dev"), "idle", "screen")
    held = Waiting("team:dev", 2, "draft", "2026-11-20T12:11:00Z")
    text = "\n".join(status_text.render(report(seen, waiting=(held, Waiting("later", 1, "not_registered"))), NOW))
    assert "dev  2 messages held: draft 2m" in text
    assert "for later: 1 message held: not_registered" in text
    assert status_text.tmux_line(report(seen, waiting=(held,))) == "1 idle · 2 queued"


# parts


def test_the_pattern_that_fails_is_named() -> None:
    rows = ["▁" * 20, "▸ say", "▔" * 20, "footer"]
    pane = Pane("%1", 0, 0, 1, False, False, False, False, 20, 4, 2, 1, None, None, "s", "w", "", "", "x")

    def failed(changed: dict[str, Any], lines: list[str] = rows) -> str:
        profile = profiles.load({"demo": {"composer": changed}})["demo"]
        return evidence.failed_pattern(profile, Screenshot(pane, lines))

    assert failed({}) == ""
    assert failed({"prompt": "other"}) == "composer.prompt"
    assert failed({"above": "other"}) == "composer.above"
    assert failed({"end": "other"}) == "composer.end"
    assert failed({"above": "other", "end": "other"}) == "composer"
    assert failed({}, ["", *rows[:3]]) == "composer.cursor"
    assert failed({}, ["nothing"] * 4) == "composer.prompt"


def test_only_the_running_brokers_word_counts(system: System) -> None:
    home = Home(system.root)
    broker = system.broker()
    broker.send_signal(signal.SIGSTOP)  # lest it tells something new
    told = b'{"pid": 1, "targets": {}, "damaged": 9, "place": ["2026-11-20", 1, 2, "", 0]}'
    files.replace(home.run + "/broker.json", told)
    found = backlog.read(home)
    assert (found.pid, found.damaged) == (broker.pid, 0)
    broker.kill()
    broker.wait()
    assert backlog.read(home).pid == 0


def test_the_lag_without_a_place_is_all_that_is_young(home: Home) -> None:
    log = Log(home, durable=False)
    log.append([event.build("for dev", dict(SOURCE), targets=["dev"]), event.build("for nobody", dict(SOURCE))])
    log.append([event.build("a record", dict(SOURCE), targets=["dev"], type="delivery")])
    found = backlog.read(home)
    assert (found.lag_events, found.lag_addressed) == (3, 1)
    assert 0 <= words.age_s(found.lag_since, clock.now_ns()) < 60


def test_a_damaged_journal_costs_only_the_damaged_lines(home: Home) -> None:
    lines = ['["add", "id-one", "s:dev", "2026-11-20", 0, 5]', "{", '["add", "id-two", "s:dev", "2026-11-20", 5, 5]']
    lines += ['["told", "id-one", "s:dev", "draft", 5]', '["told", "id-one", "s:dev", "late", 6]', '["torn']
    files.replace(home.run + "/broker.journal", "\n".join(lines).encode())
    (waiting,) = backlog.read(home).waiting
    assert (waiting.target, waiting.queued, waiting.hold) == ("s:dev", 2, "draft")
    assert backlog.read(home).held == 2


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.9, "59s"), (60, "1m"), (200, "3m20s"), (7980, "2h13m"), (90_000, "1d1h")]
)
def test_spans(seconds: float, text: str) -> None:
    assert words.span(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 bytes"), (1, "1 byte"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (3 << 40, "3.0 TiB")]
)
def test_sizes(number: int, text: str) -> None:
    assert words.size(number) == text


def test_the_document_is_json(home: Home) -> None:
    found = report(Seen(agent("dev"), "idle", "screen")).document()
    assert fastjson.loads(fastjson.dumps(found)) == found


def test_an_adopted_agent_is_never_said_to_be_restarted_by_us() -> None:
    by_hand = Seen(agent("dev", adopted=True), "dead", "tmux", why="its pane is closed")
    waits = backlog.Waiting("team:dev", 2, "agent_gone", "2026-11-20T10:00:00Z")
    found = [*status._of_agent(by_hand), status._old(waits, by_hand, 3600.0)]
    assert [problem.mend for problem in found] == [
        "orc-agent adopt, once it is started again, or orc-agent forget team:dev"
    ] * 2
    ours = Seen(agent("dev"), "dead", "tmux", why="ended by signal 9")
    assert status._old(waits, ours, 3600.0).mend == "orc-agent restart team:dev"
