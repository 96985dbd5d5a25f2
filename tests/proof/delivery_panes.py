"""Each state of a pane in which typing would go wrong: held, with its reason, nothing typed anywhere, and delivered
by itself afterwards. And tmux's server away, late, killed in the middle, or another one with the same pane ids."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from proof.delivery_rows import NO_BOUND, Row, proved, row, wait_over
from support_orc import Agent, System
from support_tmux import wait_until


class State(NamedTuple):
    """How a pane gets into it, why it is held ("" where it need not be), and how it gets out."""

    enter: Callable[[Agent], object]
    reason: str
    leave: Callable[[Agent], object]


def _tmux(*words: str) -> Callable[[Agent], object]:
    """A tmux command on the agent's pane, which `PANE` stands for."""
    return lambda agent: agent.system.server.tmux(*[agent.pane if word == "PANE" else word for word in words])


def _keys(*keys: str) -> Callable[[Agent], object]:
    return lambda agent: agent.keys(*keys)


def _dialog(agent: Agent) -> None:
    agent.keys("[[tool:rm -rf build]] clean", "Enter")
    wait_until(lambda: "Yes" in agent.screen(), what="the dialog")


def _neighbour(agent: Agent) -> str:
    """Another pane beside the agent's, which must get nothing either."""
    server = agent.system.server
    found = server.tmux("list-panes", "-t", agent.pane, "-F", "#{pane_id}").split()
    return next((pane for pane in found if pane != agent.pane), "")


def _synchronize(agent: Agent) -> None:
    server = agent.system.server
    if not _neighbour(agent):
        server.tmux("split-window", "-d", "-t", agent.pane, "cat")
    server.tmux("set-option", "-w", "-t", agent.pane, "synchronize-panes", "on")


def _half_drawn(agent: Agent) -> None:
    """What a CLI's screen looks like in the middle of being drawn: its input box is not there."""
    wait_until(lambda: "idle ·" in agent.screen(), what="an agent that draws nothing by itself")
    with open(agent.system.server.show(agent.pane, "#{pane_tty}"), "w", encoding="utf-8") as screen:
        screen.write("\x1b[2J\x1b[H◆ demo agent\r\n▁▁▁▁▁▁▁▁▁▁▁▁\r\n")
    wait_until(lambda: "Say what to do" not in agent.screen(), what="the screen to be half drawn")


def _drawn_again(agent: Agent) -> None:
    os.kill(agent.pid, signal.SIGWINCH)


STATES = {
    "copy mode": State(_tmux("copy-mode", "-t", "PANE"), "copy_mode", _tmux("send-keys", "-t", "PANE", "-X", "cancel")),
    "clock mode": State(_tmux("clock-mode", "-t", "PANE"), "copy_mode", _keys("q")),
    "choose-tree": State(_tmux("choose-tree", "-t", "PANE"), "copy_mode", _keys("q")),
    "input off": State(_tmux("select-pane", "-d", "-t", "PANE"), "input_off", _tmux("select-pane", "-e", "-t", "PANE")),
    "synchronized panes": State(
        _synchronize, "synchronized", _tmux("set-option", "-w", "-t", "PANE", "synchronize-panes", "off")
    ),
    "zoomed beside another": State(
        _tmux("resize-pane", "-Z", "-t", "PANE"), "", _tmux("resize-pane", "-Z", "-t", "PANE")
    ),
    "dead": State(Agent.kill, "agent_gone", lambda agent: agent.system.run("orc-agent", "restart", agent.name)),
}
# These need a program whose screen is understood.
SEEN = {
    "dialog open": State(_dialog, "dialog", _keys("Escape")),
    "a person's draft": State(lambda agent: agent.draft("half a thought"), "draft", _keys("C-u")),
    "half-drawn screen": State(_half_drawn, "no_composer", _drawn_again),
    "20x5": State(
        _tmux("resize-window", "-t", "PANE", "-x", "20", "-y", "5"),
        "no_composer",
        _tmux("resize-window", "-t", "PANE", "-x", "120", "-y", "40"),
    ),
}


def check(quick: bool) -> list[Row]:
    return proved(
        partial(pane_states, "recorder", STATES),
        partial(pane_states, "demo", SEEN | STATES),
        partial(server_killed, 3 if quick else 20),
        partial(server_stuck, 1 if quick else 5),
        server_late,
        another_server,
    )


def pane_states(kind: str, states: dict[str, State]) -> Row:
    problems = []
    with System(NO_BOUND) as system:
        system.broker()
        agent = system.recorder("dev") if kind == "recorder" else system.demo("dev")
        system.server.tmux("split-window", "-d", "-t", agent.pane, "cat")
        for name, state in states.items():
            if name == "dead":
                agent = system.recorder("dying") if kind == "recorder" else system.demo("dying")
            state.enter(agent)
            typed, beside = _typed(agent), _beside(agent)
            event = system.publish("-t", agent.name, f"during {name}.")
            wanted = ("failed: " if state.reason == "agent_gone" else "held: ") + state.reason
            if state.reason:
                _wait_told(system, event)
                if _typed(agent) != typed or system.said(event) != [wanted]:
                    problems.append(f"{name}: {', '.join(system.said(event))}")
            state.leave(agent)
            wait_over(system, event)
            _wait_typed(agent, f"during {name}.")
            agent.settled()
            if beside != _beside(agent):
                problems.append(f"{name}: the pane beside it was typed into")
            if _typed(agent).count(f"during {name}.") != 1:
                problems.append(f"{name}: typed twice")
    told = ", ".join(states)
    return row(f"states of a pane, held and delivered afterwards ({kind})", len(states), "; ".join(problems), told)


def _wait_told(system: System, event: str) -> None:
    """Until something is recorded of it."""
    wait_until(lambda: system.said(event), 20, f"an outcome of {event}")


def _wait_typed(agent: Agent, text: str) -> None:
    wait_until(lambda: text in _typed(agent), 30, text)


def _typed(agent: Agent) -> str:
    if agent.log.endswith(".bytes"):
        return agent.recorded().decode("utf-8", "replace")
    return "\n".join(agent.prompts())


def _beside(agent: Agent) -> str:
    pane = _neighbour(agent)
    return agent.system.server.screen(pane).strip() if pane else ""


# The server.


def _sessions_back(system: System, agent: Agent) -> None:
    """Start the agents again on a new server."""
    system.run("orc-agent", "restart", agent.name)


def server_killed(times: int) -> Row:
    """kill -9 of the tmux server in the middle of a stream of messages: the broker lives, and nothing is lost."""
    problems, count = [], 0
    with System(NO_BOUND) as system:
        broker = system.broker()
        agent = system.recorder("dev")
        for number in range(times):
            ids = [system.publish("-t", "dev", f"round {number} message {n}.") for n in range(3)]
            system.server.kill()
            ids += [system.publish("-t", "dev", f"round {number} message {n}.") for n in range(3, 5)]
            unread = _typed_to_the_dead(system, ids)
            _sessions_back(system, agent)
            wait_over(system, *ids)
            _wait_typed(agent, f"round {number} message 4.")
            text = _typed(agent.settled())
            count += len(ids)
            for n, event in enumerate(ids):
                if f"round {number} message {n}." not in text and event not in unread:
                    problems.append(f"round {number} message {n} was not typed")
        if broker.poll() is not None:
            problems.append("the broker died")
    return row("messages around a kill -9 of the tmux server", count, "; ".join(problems), f"{times} kills, all typed")


def _typed_to_the_dead(system: System, ids: list[str]) -> set[str]:
    """Those that the agent's terminal had taken when the server died, and the agent with it: perhaps it read them.

    They are told in the log before the first that the broker could not type any more.
    """
    wait_until(lambda: any(system.said(one) not in ([], ["typed"]) for one in ids), 20, "the server's end")
    return {one for one in ids if system.said(one) == ["typed"]}


def server_stuck(times: int) -> Row:
    """The tmux server stands still for longer than anybody waits for it, and goes on; its agents never knew."""
    problems, slowest = [], 0.0
    with System(NO_BOUND) as system:
        broker = system.broker()
        agents = [system.recorder("plain"), system.demo("demo")]
        for number in range(times):
            pid = system.server.pid
            os.kill(pid, signal.SIGSTOP)
            ids = [system.publish("-t", agent.name, f"stuck {number}.") for agent in agents]
            for event_id in ids:
                _wait_notice(system, event_id)
            os.kill(pid, signal.SIGCONT)
            began = time.monotonic()
            wait_over(system, *ids)
            slowest = max(slowest, time.monotonic() - began)
            for agent in agents:
                _wait_typed(agent, f"stuck {number}.")
                if _typed(agent.settled()).count(f"stuck {number}.") > 2:
                    problems.append(f"{agent.name}: typed {_typed(agent).count(f'stuck {number}.')} times")
        if broker.poll() is not None:
            problems.append("the broker died")
    told = f"all typed, at most {slowest:.1f} s after it went on"
    return row("messages to a tmux server that stands still", 2 * times, "; ".join(problems), told)


def _wait_notice(system: System, event_id: str) -> None:
    """Until the broker has seen that tmux does not answer: before it typed, or after."""

    def noticed() -> bool:
        with open(system.root + "/logs/run/broker.journal", encoding="ascii") as file:
            doubted = any(line.startswith(f'["landed", "{event_id}"') for line in file)
        return doubted or "held: no_server" in system.said(event_id)

    wait_until(noticed, 40, f"no answer for {event_id}")


def server_late() -> Row:
    """The broker runs before there is a server, and delivers when there is one."""
    with System() as system:
        broker = system.broker()
        event = system.publish("-t", "dev", "--queue", "before anything.")
        system.wait_outcome(event, "held: not_registered")
        agent = system.demo("dev")
        began = time.monotonic()
        wait_until(lambda: "before anything." in _typed(agent), 20, "the message")
        took = time.monotonic() - began
        problem = "the broker died" if broker.poll() is not None else ""
    return row("a tmux server that comes after the broker", 1, problem, f"delivered {took:.1f} s later")


def another_server() -> Row:
    """The server restarts, and another program has the agent's old pane id."""
    with System() as system:
        system.broker()
        agent = system.demo("dev")
        system.server.kill()
        pane, _ = system.server.start(["cat"], session="team")
        if pane != agent.pane:
            return row("another pane with the agent's id", 0, f"the new pane is {pane}, not {agent.pane}")
        before = system.server.screen(pane)
        event = system.publish("-t", "dev", "$(touch CANARY)")
        by_id = system.publish("-t", pane, "$(touch CANARY)")
        wait_until(lambda: system.said(event) and system.said(by_id), 20, "the outcomes")
        problem = "it was typed into" if system.server.screen(pane) != before else ""
        told = system.said(event)[:1] + system.said(by_id)[:1]
        problem = problem or ("" if told == ["failed: agent_gone", "failed: not_an_agent"] else str(told))
        if problem:
            return row("another pane with the agent's id, bytes typed", 2, problem)
        system.run("orc-agent", "restart", "dev")
        wait_until(lambda: "$(touch CANARY)" in _typed(agent), 20, "the delivery to the agent that is back")
    return row("another pane with the agent's id, bytes typed", 2, problem, "0")
