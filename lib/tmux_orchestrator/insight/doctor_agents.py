"""What orc-doctor checks of the agents: the registry, their tmux servers, their panes and their screens."""

from __future__ import annotations

import os
import pwd
import shlex
from collections.abc import Iterator, Mapping

from tmux_orchestrator.agents import adoption, hook_setup, hook_trust, launch, registry, signs
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.ground.errors import OrcError, UnavailableError
from tmux_orchestrator.insight import evidence, words
from tmux_orchestrator.insight.findings import Case, Finding


def damaged_registry(case: Case) -> Iterator[Finding]:
    if not case.agents and case.registry_problem is not None:
        path = registry.path(case.home)
        where = shlex.quote(path)
        text = str(case.registry_problem).rpartition(": ")[0]
        yield Finding(text, f"mv {where} {where}.damaged, then start the agents again with orc-run")


def servers(case: Case) -> Iterator[Finding]:
    """Messages typed as root into somebody else's server run with root's word in that user's agents."""
    for socket in sorted({agent.socket for agent in case.agents if agent.alive() and agent.socket}):
        those = [agent.key for agent in case.agents if agent.socket == socket and agent.alive()]
        try:
            owner = os.stat(socket).st_uid
        except OSError:
            text = f"the socket {socket} of {words.some(those)} is gone, though its tmux server runs"
            server = next(agent.server_pid for agent in case.agents if agent.socket == socket)
            yield Finding(text, f"kill -USR1 {server}")
            continue
        if owner != os.geteuid():
            user = _name(owner)
            text = f"the tmux server of {words.some(those)} is {user}'s, and this is {_name(os.geteuid())}"
            yield Finding(text, f"run everything as {user}: sudo -u {shlex.quote(user)} {words.manager('restart')}")
            continue
        try:
            if case.control is not None:
                case.control.server(socket).server()
        except UnavailableError as error:
            yield Finding(f"the tmux server of {words.some(those)} does not answer ({error})", f"tmux -S {socket} ls")


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def ended(case: Case) -> Iterator[Finding]:
    for seen in case.seen:
        key = shlex.quote(seen.agent.key)
        if seen.state == "dead":
            text = f"{seen.agent.key} died ({seen.why})"
            mend = adoption.restart(seen.agent)
            yield Finding(text, mend if seen.agent.adopted else f"{mend}, or orc-agent forget {key}")
        elif seen.state == "unknown" and seen.pane is None:
            text = f"{seen.agent.key} runs (pid {seen.agent.pid}), but {seen.why}"
            yield Finding(text, f"orc-agent stop {key}, then {adoption.restart(seen.agent)}")


def screens(case: Case) -> Iterator[Finding]:
    """A new release of an agent CLI may draw its input box in another way; nobody types on a guess."""
    control = case.control
    for seen in case.seen:
        if control is None or seen.pane is None:
            continue
        profile = control.profile(seen.agent)
        if not evidence.not_understood(seen, profile):
            continue
        shot = control.server(seen.agent.socket).look([seen.pane.id]).get(seen.pane.id)
        failed, file = evidence.keep(case.home, seen.agent, profile, shot) if shot else ("", "")
        if failed:
            key = seen.agent.key
            waiting = case.backlog.of(key)
            urgent = waiting is not None and waiting.hold == "no_composer"
            text = f"profile {profile.name} finds no input box on {key}'s screen: {failed} does not fit ({file})"
            mend = f"orc-agent attach {shlex.quote(key)}, or correct profiles.{profile.name}.{failed}"
            yield Finding(text, mend, note=not urgent)


def hooks(case: Case) -> Iterator[Finding]:
    """Without its hooks an agent's turns are known from its screen alone. One that has spoken has them."""
    silent: dict[str, list[Agent]] = {}
    for agent in case.agents:
        if agent.profile in hook_setup.CLIS and agent.alive() and signs.load(case.home, agent) is None:
            silent.setdefault(agent.profile, []).append(agent)
    for cli, agents in silent.items():
        env = _environment(agents[0])
        places = [hook_setup.place(cli, env, None)]
        if os.path.isdir(agents[0].cwd):
            places.append(hook_setup.place(cli, env, agents[0].cwd))
        yield from _unheard(cli, words.some([agent.key for agent in agents]), places, env)


def _unheard(cli: str, who: str, places: list[hook_setup.Place], env: Mapping[str, str]) -> Iterator[Finding]:
    """Why no hook of this CLI has spoken."""
    found = [hook_setup.status(place) for place in places]
    if not any(record["installed"] for record in found):
        text = f"the hooks of {cli} are not installed: what {who} does is known from the screen alone"
        yield Finding(text, f"orc-hook install {cli}, then start the agent again", note=True)
        return
    for record in found:
        for problem in record["problems"] if record["installed"] else []:
            text, _, mend = problem.rpartition(": ")
            yield Finding(text, mend, note=True)
    trust = hook_trust.codex(os.path.dirname(places[-1].text), env) if cli == "codex" else None
    if trust and any(said != "trusted" for said in trust.values()):
        yield Finding(
            f"codex calls none of our hooks, as nobody trusts them yet ({who})", "run /hooks in it", note=True
        )


def _environment(agent: Agent) -> Mapping[str, str]:
    """What the agent was started with."""
    try:
        env: dict[str, str] = launch.read(agent.launch)["env"] if agent.launch else {}
        return env or os.environ
    except OrcError:
        return os.environ
