"""Who gets an event: targets, groups, roles and the configured rules, resolved to registered agents.

Pure. Names are exact: tmux's own matching by prefix or pattern is never asked. Whoever is not a registered agent
gets nothing, the sender never gets its own message, and what the system itself records is delivered to nobody.
Every target that an event names ends in a delivery, or in a problem that says why not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from tmux_orchestrator.agents import places
from tmux_orchestrator.agents.places import Place
from tmux_orchestrator.agents.registry import Agent, near
from tmux_orchestrator.eventlog.event import RECORDS
from tmux_orchestrator.eventlog.matching import Match
from tmux_orchestrator.ground.errors import UsageError
from tmux_orchestrator.ground.times import parse_time

# Why a target got nothing.
UNKNOWN = "unknown_target"
ABSENT = "not_registered"  # a bare name, or a role, that may register yet
AMBIGUOUS = "ambiguous_target"
NOT_AN_AGENT = "not_an_agent"
OWN = "own_message"
HOPS = "hops"
# Why one is held that a rule of the configuration holds.
BY_RULE = "rule"

# What becomes of a delivery: typed, gathered into a digest, kept waiting; not typed, by a rule or because it is the
# monitoring's, which is that delivery's end and no failure.
TYPE, DIGEST, HOLD, DROP, LOG = "type", "digest", "hold", "drop", "log"

MONITORING = frozenset({"monitor", "state_updater"})


class Delivery(NamedTuple):
    """One agent that gets the event, with which priority, and what is done: TYPE, DIGEST, HOLD, DROP or LOG."""

    target: Agent
    priority: str
    action: str


class Problem(NamedTuple):
    """A target that got nothing, why, and what the sender can do about it."""

    target: str
    reason: str
    advice: str


class Routing(NamedTuple):
    deliveries: list[Delivery]
    problems: list[Problem]


class Pane(Place, Protocol):
    """What routing needs to know of a tmux pane."""

    pid: int
    nonce: str


class Directory:
    """Everybody who can be addressed: the registered agents, the configured groups, the panes of the server."""

    def __init__(
        self, agents: Sequence[Agent], groups: Mapping[str, Sequence[str]], panes: Sequence[Pane] | None = None
    ) -> None:
        """`panes` None: nobody has looked yet, so what only they can tell has to wait for a look."""
        self.agents = list(agents)
        self.groups = groups
        self.has_looked = panes is not None
        self.panes = list(panes or ())
        self.by_key = {agent.key: agent for agent in agents}
        self._by_name: dict[str, list[Agent]] = {}
        for agent in agents:
            self._by_name.setdefault(agent.name, []).append(agent)
        self._by_nonce = {agent.nonce: agent for agent in agents if agent.nonce}
        self._by_pane = {(agent.pane, agent.pid): agent for agent in agents}

    def present(self) -> list[Agent]:
        """Those who did not leave on purpose."""
        return [agent for agent in self.agents if not agent.ended]

    def find(self, text: str, session: str | None) -> Agent | Problem:
        """The agent that a name, session:name, session:window[.pane] or %pane means to a sender in `session`."""
        if ":" not in text and not text.startswith("%"):
            return self._named(text, session)
        return self.by_key.get(text) or self._in_window(text)

    def _named(self, text: str, session: str | None) -> Agent | Problem:
        named = self._by_name.get(text, [])
        for agent in named:
            if agent.session == session:
                return agent
        if len(named) > 1:
            return Problem(text, AMBIGUOUS, f"say {' or '.join(agent.key for agent in named)}")
        return named[0] if named else Problem(text, ABSENT, f"no agent is called so{near(self.agents, text)}")

    def _in_window(self, text: str) -> Agent | Problem:
        found = places.matching(self.panes, text)
        if len({pane.window_index for pane in found}) > 1:
            return Problem(text, AMBIGUOUS, "several windows are called so: give the window's number")
        return self._agent_in(found, text)

    def _agent_in(self, panes: list[Pane], text: str) -> Agent | Problem:
        agents = {agent.key: agent for agent in map(self._owner, panes) if agent is not None}
        if len(agents) > 1:
            return Problem(text, AMBIGUOUS, f"{len(agents)} agents are there: say {' or '.join(agents)}")
        if agents:
            return next(iter(agents.values()))
        if panes:
            return Problem(text, NOT_AN_AGENT, f"start it with orc-run, or adopt it: orc-agent adopt {text}")
        return Problem(text, UNKNOWN, f"there is no such agent, window or pane{near(self.agents, text)}")

    def _owner(self, pane: Pane) -> Agent | None:
        """The agent that is registered in this pane; an id alone may be another server's."""
        return self._by_nonce.get(pane.nonce) or self._by_pane.get((pane.id, pane.pid))


def needs_panes(event: Mapping[str, Any], directory: Directory, rules: Iterable[Rule] = ()) -> bool:
    """Can the event be routed only by looking at the panes, and has nobody looked yet?"""
    if directory.has_looked or event["message"]["type"] in RECORDS:
        return False
    texts = list(event["to"].get("targets") or [])
    for group in event["to"].get("groups") or []:
        texts += directory.groups.get(group, ())
    rule = _first(event, rules)
    texts += rule.route if rule else []
    return any(text.startswith("%") or (":" in text and text not in directory.by_key) for text in texts)


def route(
    event: Mapping[str, Any],
    directory: Directory,
    rules: Iterable[Rule] = (),
    max_hops: int = 8,
    quiet_monitoring: bool = True,
) -> Routing:
    """Who gets a checked event, each agent once, and which targets get nothing.

    `quiet_monitoring`: what the monitoring itself publishes below critical is logged, not typed.
    """
    if event["message"]["type"] in RECORDS:
        return Routing([], [])
    rule = _first(event, rules)
    found = _Found(event["source"], directory)
    for text in event["to"].get("targets") or []:
        found.take(text, named=True)
    for group in event["to"].get("groups") or []:
        for text in directory.groups.get(group, ()):
            found.take(text, named=False)
        found.everybody(agent for agent in directory.present() if group in agent.groups)
    for text in rule.route if rule else []:
        found.take(text, named=False)
    if int(event["metadata"].get("hops") or 0) > max_hops:
        advice = f"it answers a chain of more than {max_hops} answers: begin a new one"
        return Routing([], found.problems + [Problem(key, HOPS, advice) for key in found.agents])
    priority = rule.priority if rule and rule.priority else event["message"]["priority"]
    action = rule.action if rule else TYPE
    if quiet_monitoring and priority != "critical" and is_monitoring(event):
        action = LOG
    return Routing([Delivery(agent, priority, action) for agent in found.agents.values()], found.problems)


class _Found:
    """The agents and problems of one event, while its targets are gone through."""

    def __init__(self, source: Mapping[str, Any], directory: Directory) -> None:
        self.directory = directory
        self.source = source
        self.agents: dict[str, Agent] = {}
        self.problems: list[Problem] = []

    def _is_sender(self, agent: Agent) -> bool:
        return (agent.name, agent.session) == (self.source.get("identifier"), self.source.get("session"))

    def everybody(self, agents: Iterable[Agent]) -> bool:
        """Take them all but the sender; was there anybody?"""
        there = list(agents)
        self.agents |= {agent.key: agent for agent in there if not self._is_sender(agent)}
        return bool(there)

    def take(self, text: str, named: bool) -> None:
        """`named`: the event itself names this target, so its sender has to hear when there is no such one."""
        if text.startswith("@"):
            role = text[1:]
            there = self.everybody(a for a in self.directory.present() if role in ("all", a.role))
            if not there and named:
                self.problems.append(Problem(text, ABSENT, "nobody has that role"))
            return
        found = self.directory.find(text, self.source.get("session"))
        if isinstance(found, Problem):
            if named or found.reason in (AMBIGUOUS, NOT_AN_AGENT):
                self.problems.append(found)
        elif not self._is_sender(found):
            self.agents[found.key] = found
        elif named:
            self.problems.append(Problem(text, OWN, "nobody is sent their own message"))


class Rule:
    """One rule of the configuration."""

    def __init__(self, rule: Mapping[str, Any]) -> None:
        """As the compiled configuration has it. Raises re.error for a bad pattern."""
        self.matches = Match(rule.get("match") or {}).matches
        self.route: list[str] = rule.get("route") or []
        self.priority: str | None = rule.get("priority") or None
        self.action: str = rule.get("action") or TYPE


def _first(event: Mapping[str, Any], rules: Iterable[Rule]) -> Rule | None:
    """The rule that applies: the first that matches."""
    return next((rule for rule in rules if rule.matches(event)), None)


def is_monitoring(event: Mapping[str, Any]) -> bool:
    """Did the monitoring itself publish it?"""
    source = event["source"]
    return source.get("type") == "daemon" and source.get("verified") is True and source.get("identifier") in MONITORING


def sender_key(event: Mapping[str, Any]) -> str:
    """Whom an outbox takes for one sender: an agent's key; a name of which nothing is established ends in `?`."""
    source = event["source"]
    name, session = source.get("identifier") or source.get("type") or "", source.get("session")
    key = f"{session}:{name}" if session else name
    return key if source.get("verified") is True else key + "?"


def times(event: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """(expires, not before) in nanoseconds since the epoch; what cannot be read is none."""
    metadata = event["metadata"]
    return _ns(metadata.get("expires")), _ns(metadata.get("not_before"))


def _ns(text: str | None) -> int | None:
    if not text:
        return None
    try:
        return parse_time(text, 0)
    except UsageError:
        return None
