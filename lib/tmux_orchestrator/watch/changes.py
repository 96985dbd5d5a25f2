"""What an event changes in the state of a session, and whether management is told of it. Pure: no file, no clock.

An event counts once, however often it is read: a state remembers the last one that was applied to it, by sequence
number and by time (a new log begins its numbers anew, its times go on), and the ids of the last few, which is what
tells lines that were written by hand and have no number.
What an agent says of itself is taken as it is. What is said of others in `alert` and `notification` counts only from
our own daemons. Nothing that the state updater wrote is ever taken in, so it cannot feed itself.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from tmux_orchestrator.agents import registry
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.eventlog.daylog import parse_stamp
from tmux_orchestrator.eventlog.event import is_id
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.errors import UsageError
from tmux_orchestrator.watch import sessions
from tmux_orchestrator.watch.sessions import NAME, State, cut

NAMED = "state_updater"
# Of these daemons nothing is taken in: the updater itself, and the task queue, whose `task_completed` is about a task
# and its worker, which may be no agent at all. An agent's own is about the agent.
_UNHEARD = (NAMED, "tasks")
_STATES = frozenset(
    ("starting", "working", "idle", "waiting", "limited", "unresponsive", "dead", "gone", "unknown")
)  # fmt: skip
# What the monitoring calls a state; "recovered" ends the one that it names.
_ISSUES = {state: state for state in _STATES}
_ISSUES |= {"pm_dead": "dead", "team_idle": "idle", "fresh": "idle", "recovered": "unknown"}
_OTHERS = ("alert", "notification")  # what is said of others
_SEVERE = ("critical", "high")
_HOUR_NS = 3600 * 1_000_000_000
_QUOTED = 300  # characters of an event's text in a notice
_MOST_SEQ = 1 << 53  # beyond it a number is no number of the log's

Event = dict[str, Any]


class Notice(NamedTuple):
    """What management is to be told. `what` is the event's type, `last`: nothing more is sent within the hour."""

    agent: str | None
    what: str
    rule: str
    severity: str
    text: str
    last: bool = False


def concerns(event: Event) -> bool:
    """Is it one that changes a state?"""
    kind, source = event["message"]["type"], event["source"]
    daemon = source.get("type") == "daemon"
    if kind not in sessions.COUNTS or (daemon and source.get("identifier") in _UNHEARD):
        return False
    issue = event["message"]["content"]["context"].get("issue_type")
    if kind in _OTHERS:
        return daemon and source.get("verified") is True and isinstance(issue, str) and issue in _ISSUES
    return not (daemon and issue == "status")  # how all are, in answer to a status_request


def whom(event: Event, agents: Sequence[Agent]) -> dict[str | None, list[str | None]]:
    """The agents that an event is about, by session; None stands for what it does not name."""
    context, source, kind = event["message"]["content"]["context"], event["source"], event["message"]["type"]
    named: list[Any] = [context.get("agent")]
    if kind in _OTHERS:
        several = context.get("agents") or context.get("subjects")
        named = [one for one in several if isinstance(one, str) and ":" in one] if isinstance(several, list) else named
        if named == [None]:
            return {}
    found: dict[str | None, list[str | None]] = {}
    for one in named:
        session, name = _place(one, context.get("session"), source, kind, agents)
        those = found.setdefault(cut(session, 2 * NAME), [])
        if cut(name, NAME) not in those and len(those) < sessions.MOST_AGENTS:
            those.append(cut(name, NAME))
    return found


def _place(
    named: Any, session: Any, source: Event, kind: str, agents: Sequence[Agent]
) -> tuple[str | None, str | None]:
    """(session, name) of one agent; the sender's own where it says nothing else."""
    session, own = cut(session, 2 * NAME), source.get("session")
    if not isinstance(named, str) or not named.strip():
        speaks = source.get("type") in ("agent", "pm", "hook") and kind in ("task_completed", "status_update")
        return session or own, source.get("identifier") if speaks else None
    where, _, name = named.rpartition(":")
    if where or session:
        return where or session, name
    try:
        agent = registry.resolve(list(agents), name, own)
    except UsageError:  # several are called so
        agent = None
    return agent.session if agent is not None else own, name


def time_of(event: Event, now: int) -> int | None:
    """When it happened, never later than now; None when that cannot be read."""
    try:
        return min(parse_stamp(event["timestamp"]), now)
    except (ValueError, OverflowError):
        return None


def is_applied(state: State, event: Event, at: int) -> bool:
    """Has this state taken the event in already?"""
    seq, applied = event["seq"], state["applied"]
    if 0 < seq < _MOST_SEQ:
        return seq <= applied["seq"] and at <= _ns(applied["timestamp"])
    return any(one["event"] == _id(event) for one in state["last_events"])


def apply(
    state: State, event: Event, names: Sequence[str | None], at: int, registered: Collection[str]
) -> list[Notice]:
    """Take the event in, for each of the agents of this session that it is about; what is to be told of it."""
    message, stamp = event["message"], clock.stamp(at)
    kind, content = message["type"], message["content"]
    told = []
    for name in names:
        agent = _agent(state, name, registered, stamp) if name else None
        notice = _KINDS[kind](state, agent, event, stamp)
        if notice is not None and _is_new(state, notice._replace(agent=name), at):
            full = len(state["sent_on"]) >= sessions.MOST_SENT
            told.append(notice._replace(agent=name, last=full))
    state["counts"][kind] += 1
    text = cut(content.get("subject")) or cut(content["body"])
    entry = {"time": stamp, "type": kind, "agent": names[0] if names else None, "text": text, "event": _id(event)}
    state["last_events"] = [*state["last_events"], entry][-sessions.LAST_EVENTS :]
    state["updated"] = stamp
    if 0 < event["seq"] < _MOST_SEQ:
        newest = max(at, _ns(state["applied"]["timestamp"]))
        state["applied"] = {"seq": event["seq"], "id": _id(event), "timestamp": clock.stamp(newest)}
    return told


def _agent(state: State, name: str, registered: Collection[str], stamp: str) -> dict[str, Any]:
    """The agent's part of the state. The one that was silent for the longest makes room, a registered one last."""
    agents = state["agents"]
    if name not in agents and len(agents) >= sessions.MOST_AGENTS:
        oldest = min(agents, key=lambda one: (one in registered, agents[one]["updated"] or ""))
        del agents[oldest]
        state["counts"]["forgotten_agents"] += 1
    found: dict[str, Any] = agents.setdefault(name, sessions.blank_agent())
    found["updated"] = stamp
    return found


def _is_new(state: State, notice: Notice, at: int) -> bool:
    """Is management to be told? Not of the same agent and rule within an hour, nor of too much; this is remembered."""
    sent = {key: when for key, when in state["sent_on"].items() if 0 <= at - _ns(when) < _HOUR_NS}
    state["sent_on"] = sent
    key = f"{notice.agent or ''} {notice.rule}"
    if key in sent or len(sent) >= sessions.MOST_SENT:
        state["counts"]["not_sent_on"] += 1
        return False
    sent[key] = clock.stamp(at)
    state["counts"]["sent_on"] += 1
    return True


# one kind of event each


def _violation(state: State, agent: dict[str, Any] | None, event: Event, stamp: str) -> Notice | None:
    content = event["message"]["content"]
    context = content["context"]
    severity = (cut(context.get("severity"), NAME) or event["message"]["priority"]).lower()
    rule, text = cut(context.get("rule"), NAME) or "unnamed", cut(content["body"])
    if agent is not None:
        agent["violations"] += 1
        agent["last_violation"] = {
            "time": stamp,
            "rule": rule,
            "severity": severity,
            "commit": cut(context.get("commit"), NAME),
            "text": text,
            "event": _id(event),
        }
    quoted = cut(content["body"], _QUOTED) or ""
    return Notice(None, "violation", rule, severity, quoted) if severity in _SEVERE else None


def _exhausted(state: State, agent: dict[str, Any] | None, event: Event, stamp: str) -> Notice | None:
    content = event["message"]["content"]
    credit = (state if agent is None else agent)["credit"]
    over = credit["until"] is not None and 0 < _ns(credit["until"]) <= _ns(stamp)
    edge = not credit["exhausted"] or over
    until = cut(content["context"].get("until"), NAME) or cut(content["context"].get("limited_until"), NAME)
    credit |= {"exhausted": True, "until": until} | ({"since": stamp} if edge else {})
    _use(credit, content["context"])
    if agent is not None:
        _enter(agent, "limited", stamp)
    severity = "critical" if event["message"]["priority"] == "critical" else "high"
    quoted = cut(content["body"], _QUOTED) or ""
    return Notice(None, "credit_exhausted", "credit_exhausted", severity, quoted) if edge else None


def _completed(state: State, agent: dict[str, Any] | None, event: Event, stamp: str) -> None:
    content = event["message"]["content"]
    if agent is None:
        return
    given = (cut(content["context"].get(field)) for field in ("task", "current_task", "task_id"))
    task = next((one for one in given if one), agent["current_task"])
    agent["completed"] += 1
    agent["last_completed"] = {"time": stamp, "task": task, "text": cut(content["body"]), "event": _id(event)}
    agent["current_task"] = None


def _status(state: State, agent: dict[str, Any] | None, event: Event, stamp: str) -> None:
    context = event["message"]["content"]["context"]
    credit = (state if agent is None else agent)["credit"]
    if context.get("credit_exhausted") is False and credit["exhausted"]:
        credit |= {"exhausted": False, "since": stamp, "until": None}
    _use(credit, context)
    if agent is None:
        return
    status = cut(context.get("status"), NAME) or cut(context.get("state"), NAME)
    if status:
        _enter(agent, status, stamp)
    for field in ("current_task", "task"):
        if field in context:
            agent["current_task"] = cut(context[field])
            break


def _told(state: State, agent: dict[str, Any] | None, event: Event, stamp: str) -> None:
    """An alert or a notice of the monitoring: its issue is a state; or that one is over, if nothing else is known."""
    context = event["message"]["content"]["context"]
    if agent is None:
        return
    issue, was = context["issue_type"], context.get("was")
    if issue != "recovered" or (isinstance(was, str) and agent["status"] == _ISSUES.get(was)):
        _enter(agent, _ISSUES[issue], stamp)


def _recovery(state: State, agent: dict[str, Any] | None, event: Event, stamp: str) -> None:
    if agent is None:
        return
    action = event["message"]["content"]["context"].get("action")
    if action == "respawned":
        agent["recoveries"] += 1
        _enter(agent, "starting", stamp)
    elif action == "failed":
        _enter(agent, "dead", stamp)


_KINDS = {
    "violation": _violation,
    "credit_exhausted": _exhausted,
    "task_completed": _completed,
    "status_update": _status,
    "alert": _told,
    "notification": _told,
    "recovery": _recovery,
}


def _id(event: Event) -> str | None:
    """The event's id; of what cannot be one, as a line that was written by hand may have it, as much as is kept."""
    found: str = event["id"]
    return found if is_id(found) else cut(found, NAME)


def _enter(agent: dict[str, Any], status: str, stamp: str) -> None:
    if status != agent["status"]:
        agent["status"], agent["since"] = status, stamp


def _use(credit: dict[str, Any], context: Event) -> None:
    used = context.get("used_percent")
    if isinstance(used, int | float) and not isinstance(used, bool) and 0 <= used <= 1000:
        credit["used_percent"] = round(used)


def _ns(stamp: str | None) -> int:
    """0 for what is no stamp."""
    try:
        return parse_stamp(stamp or "")
    except (ValueError, OverflowError):
        return 0
