"""What is worth telling somebody, by what is known of the agents right now.

Pure: the lives of the agents come in, the matters that stand come out; whether one was told already, and how often it
is told again, is for `notices`. A matter hides others: of an agent that is dead nobody hears that it is idle, one that
is limited or paused is not blamed for waiting, and of a team that is idle as a whole nobody hears one by one.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tmux_orchestrator.agents import adoption, managers
from tmux_orchestrator.agents.since import UNRESPONSIVE
from tmux_orchestrator.ground import proc
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.watch.incidents import LostServer
from tmux_orchestrator.watch.lives import Life

DEAD, PM_DEAD, SILENT, WAITING, LIMITED = "dead", "pm_dead", "silent", "waiting", "limited"
IDLE, TEAM_IDLE, FRESH, COMPONENT, STRATEGY = "idle", "team_idle", "fresh", "component", "strategy"
SERVER = "server"
_SHOWN = (UNRESPONSIVE, WAITING, LIMITED, IDLE, FRESH)
_QUESTION = 300
_ON_CALL = (managers.ROLE, "orchestrator")  # roles whose agents wait for messages when all is well


@dataclass(frozen=True, slots=True)
class Matter:
    """One thing to tell. `identity`: with another one it is another matter, of the same kind and subject."""

    kind: str
    subject: str  # an agent's key, a session, a component
    text: str
    identity: str = ""
    session: str = ""
    targets: tuple[str, ...] = ()  # who is told by name; nobody: the group management
    priority: str = ""  # instead of the kind's own
    context: dict[str, Any] = field(default_factory=dict, hash=False, compare=False)


def standing(lives: Iterable[Life], settings: Config, now: int) -> list[Matter]:
    """The matters of the agents; `now` on the boot clock."""
    found: list[Matter] = []
    there = [life for life in lives if life.state != "gone"]
    for life in there:
        found += _of(life, settings, now)
    return _teams(there, found, settings, now)


def _of(life: Life, settings: Config, now: int) -> list[Matter]:
    if life.state == "dead":
        return [death(life)]
    if life.seen.agent.paused:
        return []
    if life.state == "waiting":
        return [question(life)] if life.question else []
    if life.state == "limited":
        return [_limit(life)]
    if life.state == UNRESPONSIVE:
        return [_unresponsive(life, now)]
    if life.state == "idle":
        return _idle(life, settings, now)
    return []


def kept(before: Iterable[Matter], lives: Mapping[str, Life]) -> list[Matter]:
    """Those that their screens told, of agents of which nobody knows now: tmux does not answer, something covers it."""
    hidden = {key for key, life in lives.items() if life.state == "unknown"}
    return [one for one in before if one.kind in _SHOWN and one.subject in hidden]


def strategy(name: str, problem: str) -> Matter:
    text = f"The strategy of {name} failed, agents are polled: {problem}"
    return Matter(STRATEGY, name, text, context={"issue_type": STRATEGY, "strategy": name})


def death(life: Life) -> Matter:
    agent, why = life.seen.agent, life.seen.why
    identity = f"{agent.pid}/{agent.pid_start}"
    if agent.role == managers.ROLE:
        text = f"PM crash detected {agent.key} - {why}: {adoption.restart(agent)}"
        return _about(life, PM_DEAD, text, identity)
    return _about(life, DEAD, f"{agent.key} died: {why}: {adoption.restart(agent)}", identity)


def by_server(deaths: list[Matter], lost: Iterable[LostServer], told: Container[str]) -> list[Matter]:
    """The deaths, but those that come with a tmux server's end, which are one matter: also of those that die of it
    a moment later, and of the last one that is not back. `told`: the subjects that somebody heard of."""
    for server in lost:
        if (len(server.agents) > 1 or server.name() in told) and any(one.subject in server.agents for one in deaths):
            deaths = [one for one in deaths if one.subject not in server.agents]
            context = {"issue_type": SERVER, "server_pid": server.pid, "agents": list(server.agents)}
            text = f"{server.line()}: orc-agent restore"
            deaths.append(Matter(SERVER, server.name(), text, str(server.start), context=context))
    return deaths


def question(life: Life) -> Matter:
    """It asks a person something."""
    asked = life.question[:_QUESTION]
    return _about(life, WAITING, f"Agent {life.key} waits for an answer: {asked}", asked)


def _limit(life: Life) -> Matter:
    until = life.seen.screen.limited_until if life.seen.screen else None
    text = f"Agent {life.key} has reached its usage limit" + (f", until {until}" if until else "")
    return _about(life, LIMITED, text, limited_until=until)


def _unresponsive(life: Life, now: int) -> Matter:
    still = now - life.moved
    text = f"Agent {life.key} unresponsive {spoken(still)} - nothing moves: orc-agent peek {life.key}"
    return _about(life, UNRESPONSIVE, text, unresponsive_duration=still // 10**9)


def silent(life: Life, still: int) -> Matter:
    """It sent heartbeats, and does not any more."""
    text = f"Agent {life.key} sent no heartbeat for {spoken(still)}: orc-agent peek {life.key}"
    return _about(life, SILENT, text, silent_duration=still // 10**9)


def _idle(life: Life, settings: Config, now: int) -> list[Matter]:
    still, agent = now - life.since, life.seen.agent
    if not life.busied and not agent.adopted and agent.role not in _ON_CALL:
        if proc.age_ns(agent.pid_start) < settings.get("recovery.grace_s") * 1e9:
            return []
        text = f"Fresh agent {life.key} has no briefing yet: orc-agent send {life.key} '…'"
        return [_about(life, FRESH, text, f"{agent.pid}/{agent.pid_start}")]
    if still < settings.get("monitoring.idle_after") * 1e9 or agent.role in _ON_CALL:
        return []
    text = f"Agent {life.key} idle {spoken(still)} - investigate or restart"
    return [_about(life, IDLE, text, idle_duration=still // 10**9)]


def _teams(there: list[Life], found: list[Matter], settings: Config, now: int) -> list[Matter]:
    """One matter for each session in which everybody is idle; its agents are not told of one by one."""
    sessions: dict[str, list[Life]] = {}
    for life in there:
        sessions.setdefault(life.seen.agent.session, []).append(life)
    idle = {
        session: lives
        for session, lives in sessions.items()
        if len(lives) > 1 and all(_rests(life, settings, now) for life in lives)
    }
    kept = [one for one in found if not (one.kind == IDLE and one.session in idle)]
    for session, lives in idle.items():
        still = now - max(life.since for life in lives)
        text = f"Team idle {spoken(still)}: all {len(lives)} agents of session {session} wait for work"
        context = {"session": session, "issue_type": TEAM_IDLE, "agents": [life.key for life in lives]}
        kept.append(Matter(TEAM_IDLE, session, text, session=session, context=context))
    return kept


def _rests(life: Life, settings: Config, now: int) -> bool:
    return life.state == "idle" and now - life.since >= settings.get("monitoring.idle_after") * 1e9


def _about(life: Life, kind: str, text: str, identity: str = "", **more: Any) -> Matter:
    agent = life.seen.agent
    context = {"agent": life.key, "session": agent.session, "issue_type": kind} | more
    return Matter(kind, life.key, text, identity, agent.session, context=context)


def spoken(ns: int) -> str:
    """A length of time as people write it: 40s, 15min, 2h5min."""
    seconds = ns // 10**9
    if seconds < 60:
        return f"{seconds}s"
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours}h{minutes}min" if hours and minutes else f"{hours}h" if hours else f"{minutes}min"
