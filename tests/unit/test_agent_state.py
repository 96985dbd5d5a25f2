"""What agents are doing, which panes a target means, adoption, and what orc-agent does with an agent."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support_orc import System
from support_tmux import Server, wait_until
from tmux_orchestrator.agents import adoption, launch, places, profiles, registry, roster, state
from tmux_orchestrator.agents.control import Control
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.agents.signs import Sign
from tmux_orchestrator.ground import clock, config, errors, proc
from tmux_orchestrator.ground.errors import GaveUp, TryLater, UnavailableError, UsageError
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.ground.tmux import Pane, Screenshot, Tmux

PROFILES = profiles.load({})
SCREENS = Path(__file__).parent.parent / "screens"


def pane(**fields: Any) -> Pane:
    known: dict[str, Any] = {field.name: 0 for field in dataclasses.fields(Pane)}
    known |= {
        "id": "%1",
        "session": "s",
        "window_name": "w",
        "nonce": "n",
        "agent": "pm",
        "command": "claude",
    }
    known |= {"dead": False, "in_mode": False, "dead_status": None, "dead_signal": None}
    return Pane(**known | fields)


def live(**fields: Any) -> Agent:
    """An agent whose process is this one."""
    own = {"name": "pm", "session": "s", "role": "pm", "pane": "%1", "pid": os.getpid(), "nonce": "n"}
    return Agent(own | {"pid_start": proc.start_time(os.getpid())} | fields)


def ended(**fields: Any) -> Agent:
    return live(pid_start=1, **fields)


def shot(name: str = "") -> Screenshot:
    return Screenshot(pane(), (SCREENS / name).read_text().split("\n") if name else [""])


# What the kernel and tmux say


@pytest.mark.parametrize(
    ("agent", "where", "expected", "why"),
    [
        (ended(), pane(dead=True, dead_status=0), "gone", "ended with status 0"),
        (ended(), pane(dead=True, dead_status=3), "dead", "ended with status 3"),
        (ended(), pane(dead=True, dead_signal=9), "dead", "ended by signal 9"),
        (ended(), pane(), "dead", "its process is gone"),
        (ended(), None, "dead", "its process and its pane are gone"),
        (ended(ended="stopped"), pane(dead=True, dead_signal=15), "gone", "stopped"),
        (ended(ended="stopped"), None, "gone", "stopped"),
        (live(), None, "unknown", "its pane is gone, or its tmux server does not answer"),
        (live(adopted=True, command="claude"), pane(command="bash"), "gone", "bash is in the foreground"),
    ],
)
def test_the_kernel_has_the_first_word(agent: Agent, where: Pane | None, expected: str, why: str) -> None:
    seen = state.judge(agent, where, shot("claude-idle.ansi"), PROFILES["claude"])
    assert (seen.state, seen.why) == (expected, why)
    assert seen.screen is None
    assert (seen.record()["pid"] is None) == (expected in ("dead", "gone"))


@pytest.mark.parametrize(
    ("screen", "expected"),
    [
        ("claude-idle", "idle"),
        ("claude-working", "working"),
        ("claude-permission", "waiting"),
        ("claude-limit", "limited"),
    ],
)
def test_of_a_live_one_the_screen_is_believed(screen: str, expected: str) -> None:
    seen = state.judge(live(profile="claude"), pane(), shot(screen + ".ansi"), PROFILES["claude"])
    assert (seen.state, seen.source, seen.confidence) == (expected, "screen", "likely")
    record = seen.record()
    assert tuple(record) == state.FIELDS
    assert bool(record["question"]) == (expected == "waiting")


@pytest.mark.parametrize(("answered", "expected"), [(True, "gone"), (False, "unknown")])
def test_who_ended_without_its_pane_was_closed_unless_its_server_fell_or_hangs(answered: bool, expected: str) -> None:
    server = {"server_pid": os.getpid(), "server_start": proc.start_time(os.getpid())}
    assert state.judge(ended(**server), None, None, PROFILES["claude"], answered=answered).state == expected
    server["server_start"] = 1
    assert state.judge(ended(**server), None, None, PROFILES["claude"], answered=answered).state == "dead"


def test_an_unknown_screen_is_a_start_only_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = live(registered="2026-11-20T10:30:45.123456Z")
    for patience, adopted, expected in ((1e9, False, "starting"), (0.0, False, "unknown"), (1e9, True, "unknown")):
        monkeypatch.setattr(state, "STARTING_S", patience)
        agent.adopted = adopted
        seen = state.judge(agent, pane(), shot(), PROFILES["claude"])
        assert (seen.state, seen.since) == (expected, agent.registered if expected == "starting" else None)


def hooked(said: str, age: float = 5.0, **fields: Any) -> Sign:
    at = clock.now_ns() - int(age * 1e9)
    return Sign({"state": said, "since": at, "at": at, "hook": "Stop", "session_id": "abc"} | fields)


@pytest.mark.parametrize(
    ("said", "age", "screen", "expected", "source"),
    [
        ("working", 5, "claude-idle", "working", "hook"),
        ("working", 31, "claude-idle", "idle", "screen"),
        ("idle", 5, "claude-working", "working", "screen"),
        ("idle", 5, "claude-permission", "waiting", "screen"),
        ("waiting", 5, "claude-idle", "waiting", "hook"),
        ("idle", 5, "", "idle", "hook"),
        ("", 5, "claude-idle", "idle", "screen"),
        (None, 5, "claude-idle", "idle", "screen"),
    ],
)
def test_hooks_and_screen(
    said: str | None, age: float, screen: str, expected: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign = None if said is None else hooked(said, age, question="Bash: ls" if said == "waiting" else "")
    monkeypatch.setattr(state, "STARTING_S", 0.0)
    shown = shot(f"{screen}.ansi" if screen else "")
    seen = state.judge(live(profile="claude"), pane(), shown, PROFILES["claude"], sign)
    assert (seen.state, seen.source) == (expected, source)
    assert seen.confidence == ("certain" if source == "hook" else "likely")
    details = seen.details()
    assert details["session_id"] == (sign.session_id if sign else None)
    assert (details["since"] is not None) == (source == "hook")
    assert bool(details["question"]) == (expected == "waiting")


def test_a_hook_speaks_for_an_agent_whose_screen_cannot_be_read_and_never_for_a_dead_one() -> None:
    profile = PROFILES["claude"]
    assert state.judge(live(), pane(), None, profile, hooked("working")).state == "working"
    assert state.judge(live(), None, None, profile, hooked("working")).state == "unknown"
    assert state.judge(ended(), pane(dead=True, dead_signal=9), None, profile, hooked("working")).state == "dead"


def test_a_start_is_no_start_any_more_when_a_prompt_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "STARTING_S", 1e9)
    for said, expected in (("idle", "starting"), ("working", "working")):
        assert state.judge(live(), pane(), shot(), PROFILES["claude"], hooked(said)).state == expected


# Which panes a target means


def at(identity: str, session: str, index: int, name: str, number: int = 0) -> Pane:
    return pane(id=identity, session=session, window_index=index, window_name=name, pane_index=number, nonce=identity)


PANES = [
    at("%0", "back", 0, "sh"),
    at("%1", "backend", 0, "dev"),
    at("%2", "backend", 1, "log", 0),
    at("%3", "backend", 1, "log", 1),
    at("%4", "backend", 2, "my.app"),
    at("%5", "backend", 3, "5"),
    at("%6", "backend", 5, "twice"),
    at("%7", "backend", 6, "twice"),
    at("%8", "backend", 7, "a.1"),
    at("%9", "backend", 8, "a", 1),
]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("backend:dev", ["%1"]),
        ("backend:0", ["%1"]),
        ("backend:0.0", ["%1"]),
        ("backend:dev.0", ["%1"]),
        ("backend:1", ["%2", "%3"]),
        ("backend:1.1", ["%3"]),
        ("backend:log.1", ["%3"]),
        ("backend:my.app", ["%4"]),
        ("backend:my.app.0", ["%4"]),
        ("backend:5", ["%6"]),  # a number is an index, and never a window's name
        ("backend:twice", ["%6", "%7"]),
        ("backend:a.1", ["%8", "%9"]),
        ("%3", ["%3"]),
        ("%33", []),
        ("back:0", ["%0"]),
        ("bac:0", []),
        ("back", []),
        ("backend:de", []),
        ("backend:d*", []),
        ("backend:", []),
        (":0", []),
        ("=backend:0", []),
        ("backend:+", []),
        ("backend:^", []),
        ("backend:0.1", []),
        ("backend:@1", []),
        ("$1:0", []),
        ("", []),
        ("%", []),
        ("{last}", []),
        ("backend:0.0.0", []),
        ("Backend:0", []),
        ("backend: 0", []),
        ("backend:00", []),
        ("backend:-1", []),
        ("backend:٢", []),
    ],
)
def test_targets_are_matched_exactly(target: str, expected: list[str]) -> None:
    assert [found.id for found in places.matching(PANES, target)] == expected


@pytest.mark.parametrize("other", [{"id": "%2"}, {"nonce": "m"}, {"pid": 1}])
def test_a_pane_holds_an_agent_only_when_everything_agrees(other: dict[str, Any]) -> None:
    fields = {"pid": os.getpid()}
    assert places.holds(pane(**fields), live())
    assert not places.holds(pane(**fields | other), live())


def test_of_several_panes_the_agents_is_meant() -> None:
    with pytest.raises(UsageError, match=r"means 2 panes: say backend:1.0 or %2, backend:1.1 or %3"):
        places.one(PANES, "backend:1")
    assert places.one(PANES, "backend:1", [live(nonce="%3")]).id == "%3"
    with pytest.raises(UnavailableError, match="no pane"):
        places.one(PANES, "backend:9")


# Panes where somebody started an agent by hand


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server() as made:
        monkeypatch.setenv("ORC_TMUX_SOCKET", made.socket)
        yield made


@pytest.fixture
def by_hand(server: Server, tmp_path: Path) -> str:
    """A pane with a shell, in which `claude` was typed; its id."""
    (tmp_path / "bin").mkdir()
    shutil.copy("/bin/sleep", tmp_path / "bin/claude")
    shell, _ = server.start(["env", "PS1=shell$ ", f"PATH={tmp_path}/bin:{os.defpath}", "sh"], session="web")
    server.tmux("rename-window", "-t", "web:", "dev")
    wait_until(lambda: "shell$" in server.screen(shell))
    server.tmux("send-keys", "-t", shell, "claude 1000", "Enter")
    wait_until(lambda: server.show(shell, "#{pane_current_command}") == "claude")
    return shell


def control(home: Home) -> Control:
    return Control(home, config.load(home))


def to_the_shell(server: Server, shell: str) -> None:
    server.tmux("send-keys", "-t", shell, "C-c")
    wait_until(lambda: server.show(shell, "#{pane_current_command}") == "sh")


def test_adoption(server: Server, home: Home, by_hand: str) -> None:
    agent = control(home).adopt("web:dev", None, None, ["devs"], None)
    assert (agent.key, agent.role, agent.groups, agent.profile) == ("web:dev", "dev", ["devs"], "claude")
    assert (agent.adopted, agent.command, agent.pane, agent.launch) == (True, "claude", by_hand, "")
    assert agent.pid == int(server.show(by_hand, "#{pane_pid}"))
    assert server.show(by_hand, "#{@orc_nonce}") == agent.nonce
    assert [a.to_dict() for a in registry.load(home)] == [agent.to_dict()]
    with pytest.raises(UsageError, match="registered already"):
        control(home).adopt("web:0", "other", None, [], None)
    with pytest.raises(UsageError, match="was adopted"):
        control(home).restart(control(home).look([agent])[0], force=True)


def test_a_shell_is_never_adopted_whatever_profile_is_named(server: Server, home: Home, by_hand: str) -> None:
    to_the_shell(server, by_hand)
    for profile in (None, "plain", "claude"):
        with pytest.raises(UsageError, match="sh is in the foreground"):
            control(home).adopt("web:dev", None, None, [], profile)
    assert registry.load(home) == [] and server.show(by_hand, "#{@orc_nonce}") == ""


def test_a_program_that_no_profile_knows_needs_one_to_be_named(server: Server, home: Home) -> None:
    server.start(["sleep", "1000"], session="web")
    with pytest.raises(UsageError, match="name one with --profile"):
        control(home).adopt("web:0", "dev", None, [], None)
    with pytest.raises(UsageError, match="there is no profile 'x'"):
        control(home).adopt("web:0", "dev", None, [], "x")
    with pytest.raises(UsageError, match="no name"):
        control(home).adopt("web:0", "Dev", None, [], "plain")
    agent = control(home).adopt("web:0", "dev", None, [], "plain")
    assert (agent.profile, agent.command) == ("plain", "sleep")


def test_when_the_adopted_agent_left_nothing_is_typed_into_its_shell(server: Server, home: Home, by_hand: str) -> None:
    control(home).adopt("web:dev", None, None, [], None)
    seen = control(home).see("dev")
    assert seen.state == "unknown"
    to_the_shell(server, by_hand)
    before = server.screen(by_hand)
    with pytest.raises(TryLater, match="another program in the foreground"):
        control(home).press(seen, ["x"])
    assert control(home).see("dev").state == "gone"
    with pytest.raises(UnavailableError, match="sh is in the foreground"):
        control(home).interrupt("dev")
    assert control(home).stop(control(home).find("dev")) is False
    assert server.screen(by_hand) == before


def test_stopping_an_adopted_agent_leaves_its_shell_alone(server: Server, home: Home, by_hand: str) -> None:
    control(home).adopt("web:dev", None, None, [], None)
    assert control(home).stop(control(home).find("dev"))
    wait_until(lambda: server.show(by_hand, "#{pane_current_command} #{pane_dead}") == "sh 0")
    assert control(home).see("dev").state == "gone"


def test_the_configuration_names_panes_to_adopt(server: Server, home: Home, by_hand: str) -> None:
    tmux = Tmux(server.socket)
    server.start(["sleep", "1000"], session="web2")

    def found(*patterns: str, taken: tuple[Agent, ...] = ()) -> list[str]:
        return [a.key for a in adoption.adopted(tmux, tmux.panes(), patterns, PROFILES, taken)]

    name = f"web:pane-{by_hand[1:]}"
    for patterns in (["web"], ["w*"], ["web:dev"], ["web:0"], ["*:d?v"], ["x", "web"]):
        assert found(*patterns) == [name], patterns
    for patterns in ([], ["we"], ["web:"], ["dev"], ["web:1"], ["Web"]):
        assert found(*patterns) == [], patterns
    (agent,) = adoption.adopted(tmux, tmux.panes(), ["*"], PROFILES, [])
    assert (agent.adopted, agent.command, agent.profile) == (True, "claude", "claude")
    assert found("*", taken=(agent,)) == []
    nonce = server.show(by_hand, "#{@orc_nonce}")
    assert nonce == agent.nonce, "the guard has nothing to check"
    assert found("web") == [name] and server.show(by_hand, "#{@orc_nonce}") == nonce
    to_the_shell(server, by_hand)
    assert found("web") == []


def test_agents_by_pattern_can_be_used_and_not_changed(
    server: Server, home: Home, by_hand: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.makedirs(home.root, mode=0o700)
    Path(home.config_file).write_text("agents:\n  adopt: [web]\n")
    steering = control(home)
    agent = steering.find("web:dev")
    assert agent.key == f"web:pane-{by_hand[1:]}" and registry.load(home) == []
    assert steering.find(agent.name).key == steering.find(agent.key).key == agent.key
    assert [seen.record()["adopted"] for seen in steering.look(steering.everybody())] == [True]
    for change in (
        lambda: steering.forget(agent),
        lambda: steering.pause(agent, True),
        lambda: steering.rename(agent, "x"),
    ):
        with pytest.raises(UsageError, match=r"comes from agents\.adopt"):
            change()
    assert steering.stop(agent)
    wait_until(lambda: server.show(by_hand, "#{pane_current_command}") == "sh")


# What orc-agent does, with an agent that has a real screen


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    with System() as made:
        for name in ("ORC_HOME", "ORC_TMUX_SOCKET"):
            monkeypatch.setenv(name, made.env[name])
        yield made


def of(system: System) -> Control:
    return control(Home(system.root))


def becomes(system: System, wanted: str, name: str = "dev") -> None:
    wait_until(lambda: of(system).see(name).state == wanted, what=f"{name} {wanted}")


def test_the_states_of_a_real_agent(system: System) -> None:
    dev = system.demo("dev")
    becomes(system, "idle")
    dev.keys("[[slow:30]]", "Enter")
    becomes(system, "working")
    of(system).interrupt("dev")
    becomes(system, "idle")
    dev.keys("[[limit]]", "Enter")
    becomes(system, "limited")
    assert of(system).see("dev").record()["limited_until"]
    dev.keys("[[exit]]", "Enter")
    becomes(system, "gone")
    seen = of(system).see("dev")
    assert seen.source == "tmux" and seen.since is not None and seen.why == "ended with status 0"
    of(system).restart(of(system).see("dev"), force=False)
    becomes(system, "idle")
    again = of(system).find("dev")
    os.kill(again.pid, signal.SIGKILL)
    becomes(system, "dead")


def test_a_dialog_is_answered_only_while_it_is_there(system: System) -> None:
    dev = system.demo("dev")
    assert of(system).answer("dev", "yes") is False
    dev.keys("[[tool:make]]", "Enter")
    becomes(system, "waiting")
    seen = of(system).see("dev")
    assert seen.screen is not None and "make" in seen.record()["question"] and len(seen.screen.choices) == 3
    with pytest.raises(UsageError, match="no answer that profile demo knows"):
        of(system).answer("dev", "perhaps")
    assert seen.pane is not None
    assert of(system).answer("dev", "2")
    answers = [entry["answer"] for entry in dev.settled().entries() if "answer" in entry]
    assert len(answers) == 1
    becomes(system, "idle")
    with pytest.raises(TryLater, match="changed its screen"):
        of(system).press(dataclasses.replace(seen, pane=dataclasses.replace(seen.pane, cursor_x=77)), ["1"], still=True)
    assert of(system).answer("dev", "yes") is False
    assert dev.settled().prompts() == ["[[tool:make]]"]


def test_a_choice_that_the_dialog_does_not_offer_is_refused(system: System) -> None:
    dev = system.demo("dev")
    dev.keys("[[tool:make]]", "Enter")
    becomes(system, "waiting")
    Path(system.root + "/orchestrator_config.yaml").write_text('profiles:\n  demo:\n    answers: {"7": ["7"]}\n')
    with pytest.raises(UsageError, match="no choice 7"):
        of(system).answer("dev", "7")


def test_keys_are_held_back_where_they_would_go_astray(system: System) -> None:
    dev = system.demo("dev")
    becomes(system, "idle")
    system.server.tmux("copy-mode", "-t", dev.pane)
    with pytest.raises(TryLater, match="copy mode"):
        of(system).interrupt("dev")
    system.server.tmux("send-keys", "-X", "-t", dev.pane, "cancel")
    system.server.tmux("select-pane", "-d", "-t", dev.pane)
    with pytest.raises(TryLater, match="takes no input"):
        of(system).interrupt("dev")


def test_wait(system: System) -> None:
    dev = system.demo("dev")
    assert of(system).wait("dev", "idle", 10).state == "idle"
    with pytest.raises(GaveUp, match=r"dev is idle after 0\.1 s"):
        of(system).wait("dev", "waiting", 0.1)
    dev.keys("[[slow:1000]]", "Enter")
    becomes(system, "working")
    dev.keys("Escape")
    assert of(system).wait("dev", "idle", 10).state == "idle"
    dev.keys("[[slow:0.3]] [[crash]]", "Enter")
    assert of(system).wait("dev", "gone", 10).state == "dead"
    with pytest.raises(UnavailableError, match="has ended"):
        of(system).wait("dev", "idle", 10)


def test_peek_shows_control_characters_and_does_not_send_them(system: System) -> None:
    script = r"printf 'one\n\033[31mred\033[0m \302\233x\n\342\200\256end\n\n'; exec sleep 1000"
    system.agent("dev", "sh", "-c", script)
    wait_until(lambda: "end" in system.run("orc-agent", "peek", "dev"))
    lines = system.run("orc-agent", "peek", "dev").split("\n")
    assert lines[0] == "one" and lines[1].startswith("red ") and lines[2].endswith("end")
    assert "".join(lines).isprintable()
    assert system.run("orc-agent", "peek", "dev", "-n", "1").endswith("end")
    system.run("orc-agent", "peek", "dev", "-n", "0", code=errors.USAGE)


def test_rename_takes_everything_along(system: System) -> None:
    dev = system.demo("dev")
    before = of(system).find("dev")
    of(system).rename(before, "lead")
    renamed = of(system).find("lead")
    assert (
        renamed.alive() and renamed.pid == dev.pid and renamed.launch == launch.file(Home(system.root), "team", "lead")
    )
    assert os.path.exists(renamed.launch) and not os.path.exists(before.launch)
    assert system.server.show(dev.pane, "#{@orc_agent}") == "lead"
    with pytest.raises(UsageError, match="no agent is called 'dev'"):
        of(system).find("dev")
    system.agent("dev", "sleep", "1000")
    with pytest.raises(UsageError, match="taken"):
        of(system).rename(of(system).find("dev"), "lead")
    assert of(system).find("dev").alive()
    of(system).restart(of(system).see("lead"), force=True)
    becomes(system, "idle", "lead")
    for wrong in ("Lead", "#(touch CANARY)", ""):
        with pytest.raises(UsageError, match="no name"):
            of(system).rename(of(system).find("lead"), wrong)
    of(system).rename(of(system).find("lead"), "lead")
    assert of(system).find("lead").alive()


def test_forget(system: System) -> None:
    system.agent("dev", "sleep", "1000")
    agent = of(system).find("dev")
    with pytest.raises(UsageError, match="stop it first"):
        of(system).forget(agent)
    assert of(system).stop(agent)
    assert not of(system).stop(of(system).find("dev"))
    of(system).forget(of(system).find("dev"))
    assert registry.load(Home(system.root)) == [] and not os.path.exists(agent.launch)


def test_pause_and_resume(system: System) -> None:
    system.agent("dev", "sleep", "1000")
    for paused in (True, False):
        of(system).pause(of(system).find("dev"), paused)
        assert of(system).find("dev").paused is paused
        assert of(system).see("dev").record()["paused"] is paused


def test_attach_shows_the_pane_and_nothing_else(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    dev = system.agent("dev", "sleep", "1000")
    system.agent("pm", "sleep", "1000")
    argv = of(system).attach("dev")
    assert argv[-3:] == ["attach-session", "-t", dev.pane] and system.server.socket in argv
    monkeypatch.setenv("TMUX", f"{system.server.socket},{system.server.pid},0")
    argv = of(system).attach("dev")
    assert argv[-3:] == ["switch-client", "-t", dev.pane]
    system.server.tmux(*argv[argv.index("select-window") : -4])
    assert system.server.tmux("display-message", "-p", "-t", "team:", "#{pane_id}") == dev.pane


def test_found_by_name_by_window_and_by_pane(system: System) -> None:
    dev = system.agent("dev", "sleep", "1000")
    system.server.tmux("split-window", "-t", dev.pane, "sleep", "1000")
    for target in ("dev", "team:dev", "team:0", dev.target, dev.pane):
        assert of(system).find(target).name == "dev", target
    other = system.server.tmux("split-window", "-P", "-F", "#{pane_id}", "-t", dev.pane, "sleep", "1000")
    with pytest.raises(UnavailableError, match=f"orc-agent adopt {other}"):
        of(system).find(other)
    with pytest.raises(UsageError, match=r"did you mean dev\?"):
        of(system).find("devv")
    with pytest.raises(UnavailableError, match="there is no pane"):
        of(system).find("team:7")


def test_sent_messages_are_events_with_the_callers_name(system: System) -> None:
    system.agent("dev", "sleep", "1000")
    system.agent("pm", "sh", "-c", "orc-agent send dev hello; orc-agent broadcast $'a\nb'; exec sleep 1000")
    wait_until(lambda: len(system.events()) == 2)
    system.run("orc-agent", "send", "backend-dev:2", "STATUS REQUEST: Please provide current task and progress")
    system.run("orc-agent", "broadcast", "--session", "team", "-", stdin="TEAM UPDATE\n- é -x\n".encode())
    sent = [(e["source"]["identifier"], e["source"]["verified"], e["to"]["targets"]) for e in system.events()]
    person = sent[2][0]
    assert sent == [
        ("pm", True, ["team:dev"]),
        ("pm", True, ["team:dev"]),
        (person, False, ["backend-dev:2"]),
        (person, False, ["team:dev", "team:pm"]),
    ]
    assert system.events()[3]["message"]["content"]["body"] == "TEAM UPDATE\n- é -x"
    system.run("orc-agent", "send", "nobody", "x", code=errors.USAGE)
    system.run("orc-agent", "broadcast", "--session", "tem", "x", code=errors.USAGE)
    system.run("orc-agent", "send", "dev", " ", code=errors.DATA)
    system.run("orc-agent", "send", "dev", stdin=b"\xff", code=errors.DATA)
    assert len(system.events()) == 4


def register(server: Server, home: Home, count: int, *argv: str) -> list[Agent]:
    """Agents a0, a1, … that were not started by orc-run, which takes a third of a second each."""
    made = [server.start(list(argv), session=f"s{n}") for n in range(count)]
    where = places.where(Tmux(server.socket))
    for n, (pane_id, pid) in enumerate(made):
        server.tmux("set-option", "-p", "-t", pane_id, "@orc_nonce", f"n{n}")
        fields = {"name": f"a{n}", "session": f"s{n}", "role": "r", "pane": pane_id, "nonce": f"n{n}", "pid": pid}
        fields |= {"pid_start": proc.start_time(pid), "socket": where.socket}
        roster.register(home, Agent(fields | {"server_pid": where.pid, "server_start": where.start}))
    return registry.load(home)


def test_many_agents_are_listed_in_order_with_few_calls(
    server: Server, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(server, home, 30, "sleep", "1000")
    calls = []
    exchange = Tmux._exchange

    def counted(self: Tmux, *args: Any) -> Any:
        calls.append(args)
        return exchange(self, *args)

    monkeypatch.setattr(Tmux, "_exchange", counted)
    steering = control(home)
    found = steering.look(steering.everybody())
    assert [(s.agent.name, s.pane is not None) for s in found] == [(f"a{n}", True) for n in range(30)]
    assert len(calls) == 4, "where, panes, and two chunks of screens"


def test_an_end_that_tmux_misses_is_told_as_what_it_was(server: Server, home: Home) -> None:
    """One after the other, with no other child of tmux's that would wake it: it misses about one in four."""
    for agent in register(server, home, 12, "sh", "-c", "read line; exit 0"):
        server.tmux("send-keys", "-t", agent.pane, "Enter")
        wait_until(lambda agent=agent: not agent.alive())  # type: ignore[misc]
        wait_until(lambda agent=agent: control(home).see(agent.key).state == "gone", what=agent.key)  # type: ignore[misc]


def test_an_agent_of_another_server_is_in_none_of_our_panes(server: Server, home: Home) -> None:
    (agent,) = register(server, home, 1, "sleep", "1000")
    assert control(home).see("a0").pane is not None and control(home).find(agent.pane).name == "a0"
    for field in ("server_pid", "server_start"):
        other = roster.update(
            home, agent.key, **{"server_pid": agent.server_pid, "server_start": agent.server_start} | {field: 7}
        )
        assert control(home).look([other])[0].pane is None
        with pytest.raises(UnavailableError, match="no agent is in"):
            control(home).find(agent.pane)


def test_a_pane_that_somebody_else_took_over_is_not_the_agents(server: Server, home: Home) -> None:
    (agent,) = register(server, home, 1, "sleep", "1000")
    server.tmux("respawn-pane", "-k", "-t", agent.pane, "sleep", "999")
    wait_until(lambda: not agent.alive())
    assert control(home).see("a0").pane is None
    server.tmux("set-option", "-p", "-t", agent.pane, "@orc_nonce", "another")
    with pytest.raises(UnavailableError, match="no agent is in"):
        control(home).find(agent.pane)


def test_a_damaged_registry_is_told_and_not_overwritten(home: Home) -> None:
    os.makedirs(home.registry, mode=0o700)
    Path(registry.path(home)).write_text(json.dumps({"agents": 1}))
    with pytest.raises(errors.DataError):
        control(home)
