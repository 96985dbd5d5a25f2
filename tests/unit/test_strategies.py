"""How agents are looked at: both ways see the same, the user's own executable is kept on a short lead, stages."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from support_orc import System
from support_tmux import wait_until
from support_watch import agent, seen, settings
from tmux_orchestrator.agents.control import Control
from tmux_orchestrator.ground import config, proc
from tmux_orchestrator.ground.errors import DataError, NotPermitted, UnavailableError
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.watch import rollout, strategies
from tmux_orchestrator.watch.rollout import Rollout
from tmux_orchestrator.watch.strategies import Looker

AGENTS = {"web:dev": agent()}


@pytest.fixture
def system() -> Iterator[System]:
    with System() as system:
        yield system


def program(folder: Path, text: str, mode: int = 0o700) -> str:
    path = folder / "strategy"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(mode)
    return str(path)


def test_concurrent_and_polling_see_the_same(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORC_TMUX_SOCKET", system.server.socket)
    system.demo("idle")
    busy, dead = system.demo("asks"), system.demo("dead")
    busy.keys("[[tool:rm -rf build]] x", "Enter")
    dead.kill()
    system.run("orc-agent", "wait", "asks", "--until", "waiting", "--timeout", "20s")
    home = Home(system.root)
    kept, plain = (Control(home, config.load(home), keep) for keep in (True, False))
    looks = [Looker().look(name, kept, plain, kept.registered) for name in ("concurrent", "polling")]
    kept.close()
    assert [look.strategy for look in looks] == ["concurrent", "polling"]
    states = [[(one.agent.key, one.state, one.why) for one in look.seen] for look in looks]
    assert states[0] == states[1]
    assert [state for _, state, _ in states[0]] == ["idle", "waiting", "dead"]


def test_the_users_own_executable_gets_agents_and_answers_findings(system: System, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    path = program(
        tmp_path,
        f"""cat > {asked}
echo '{{"agent": "team:dev", "issue_type": "no_tests", "text": "runs no tests", "priority": "high"}}'
""",
    )
    system.configure(f"monitoring: {{strategy: custom, custom: {path}}}\n")
    system.demo("dev")
    for _ in range(2):
        system.run("orc-monitor", "--once")
    (event,) = [one for one in system.events() if one["message"]["content"]["context"].get("strategy") == "custom"]
    assert event["message"]["content"]["body"] == "team:dev: runs no tests" and event["message"]["priority"] == "high"
    line = asked.read_text()
    assert '"agent": "team:dev"' in line and '"state": "idle"' in line and '"screen": [' in line


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("exit 3", DataError, "ended with status 3"),
        ("yes", DataError, "more than"),
        ("sleep 1000 & sleep 1000", UnavailableError, "was killed"),
        ("exec >&-; sleep 1000", UnavailableError, "was killed"),
    ],
)
def test_an_executable_that_fails_floods_or_hangs(tmp_path: Path, text: str, kind: type[Exception], words: str) -> None:
    children = tmp_path / "children"
    path = program(tmp_path, f"echo $$ >> {children}\n{text}")
    with pytest.raises(kind, match=words):
        strategies.run(path, [seen("idle")], 0.5)
    pid = int(children.read_text())
    wait_until(lambda: proc.start_time(pid) is None, what="its end")
    numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    wait_until(lambda: not any(_group(number) == pid for number in numbers), what="the end of what it started")


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid) if proc.start_time(pid) is not None else 0
    except ProcessLookupError:
        return 0


def test_one_that_reads_nothing_may_answer_all_the_same(tmp_path: Path) -> None:
    assert strategies.run(program(tmp_path, "exit 0"), [seen("idle")] * 5000, 20) == b""


@pytest.mark.parametrize(
    "line",
    [
        b"garbage",
        b"[]",
        b'"text"',
        b"{}",
        b'{"agent": "web:nobody", "issue_type": "x", "text": "y"}',
        b'{"agent": "web:dev", "issue_type": "X Y", "text": "y"}',
        b'{"agent": "web:dev", "issue_type": "x", "text": 1}',
        b'{"agent": "web:dev", "issue_type": "x", "text": "y", "priority": "urgent"}',
        b'{"agent": ["web:dev"], "issue_type": "x", "text": "y"}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_finding(line: bytes) -> None:
    with pytest.raises(DataError, match="line 2"):
        strategies.findings(b"\n" + line + b"\n", AGENTS)


def test_a_finding_is_shown_without_what_a_terminal_would_obey() -> None:
    (one,) = strategies.findings(b'{"agent": "web:dev", "issue_type": "x", "text": "\\u001b[2J gone"}', AGENTS)
    assert "\x1b" not in one.text


def test_only_what_is_the_users_own_is_run(tmp_path: Path) -> None:
    with pytest.raises(NotPermitted, match="go-w"):
        strategies.check(program(tmp_path, "exit 0", 0o722))
    with pytest.raises(DataError, match="chmod"):
        strategies.check(program(tmp_path, "exit 0", stat.S_IRUSR))
    for path in ("", "strategy", str(tmp_path), str(tmp_path / "nothing")):
        with pytest.raises(DataError):
            strategies.check(path)


def test_what_fails_falls_back_is_told_and_rests(tmp_path: Path) -> None:
    home = Home(str(tmp_path))
    control = Control(home, settings(str(tmp_path), f"monitoring: {{custom: {program(tmp_path, 'exit 1')}}}\n"))
    looker = Looker()
    for _ in range(strategies.FAILURES):
        look = looker.look("custom", control, control, [])
        assert look.strategy == "polling" and "ended with status 1" in look.problem
    assert looker.rests("custom")
    program(tmp_path, "exit 0")
    assert looker.look("custom", control, control, []).strategy == "polling", "it rests"


# stages

SIX = [agent(f"dev-{n}") for n in range(60)]
NEW = "features: {strategy: polling, healthy_cycles: 3, canary_percent: 20}\n"


def test_a_new_strategy_begins_with_canaries_and_has_all_after_healthy_looks(tmp_path: Path) -> None:
    here, one = settings(str(tmp_path), NEW), Rollout()
    one.follow(here)
    new, usual = one.share(SIX, here)
    assert 0 < len(new) < 30 and len(new) + len(usual) == 60 and one.share(SIX, here)[0] == new
    assert [one.went("", here) for _ in range(3)] == ["", "", "strategy polling looks at all agents now"]
    assert one.share(SIX, here) == (SIX, [])
    os.makedirs(tmp_path / "logs/run")
    rollout.save(Home(str(tmp_path)), one)
    assert rollout.load(Home(str(tmp_path))) == one


def test_it_is_out_by_itself_until_it_is_named_anew(tmp_path: Path) -> None:
    here, one = settings(str(tmp_path), NEW), Rollout()
    one.follow(here)
    assert "failed and is out again: it hung" in one.went("it hung", here)
    one.follow(here)
    assert one.share(SIX, here) == ([], SIX)
    changed = settings(str(tmp_path), NEW.replace("}", ", stage: canary}"))
    one.follow(changed)
    assert one.share(SIX, changed)[0]
    assert [one.went("", changed) for _ in range(50)] == [""] * 50, "no further than it may"


@pytest.mark.parametrize(
    "text", ["", "features: {strategy: concurrent}\n", "features: {strategy: polling, stage: none}\n"]
)
def test_nothing_new_is_nothing_to_let_in(tmp_path: Path, text: str) -> None:
    here, one = settings(str(tmp_path), text), Rollout()
    one.follow(here)
    assert one.share(SIX, here) == ([], SIX)


def test_a_single_agent_is_the_canary(tmp_path: Path) -> None:
    here, one = settings(str(tmp_path), NEW), Rollout()
    one.follow(here)
    assert one.share(SIX[:1], here) == (SIX[:1], [])


@pytest.mark.parametrize("data", ["", "{", "[1,2]", '["a","b",1,""]', '["a","all","x",""]'])
def test_a_damaged_stage_counts_as_none(tmp_path: Path, data: str) -> None:
    os.makedirs(tmp_path / "logs/run")
    (tmp_path / "logs/run/rollout.json").write_text(data)
    assert rollout.load(Home(str(tmp_path))) == Rollout()
