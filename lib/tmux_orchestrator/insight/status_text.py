"""orc-status for people: what needs somebody first, then who does what; and one line for tmux's status line.

Pure: a report comes in, lines go out. Agents that need nobody are named in one row per state, so that thirty of them
fit on a screen.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from tmux_orchestrator.agents.profiles import PLAIN
from tmux_orchestrator.agents.state import Seen
from tmux_orchestrator.eventlog.event import PRIORITIES
from tmux_orchestrator.ground.output import clean, cut, paint, width
from tmux_orchestrator.insight import words
from tmux_orchestrator.insight.backlog import Waiting
from tmux_orchestrator.insight.latency import TARGETS_MS
from tmux_orchestrator.insight.status import Report

# The order in which they are shown, and how.
_STATES = {
    "dead": "red",
    "unresponsive": "red",
    "waiting": "yellow",
    "limited": "yellow",
    "unknown": "",
    "starting": "",
    "working": "green",
    "idle": "dim",
    "gone": "dim",
}
_NARROW = 80
_TMUX_NAMES = 3
_LEAST = 48  # columns of a line before its command is put below
_TOLD_THERE = ("dead", "waiting", "limited")  # problems that stand with their agent

Namer = Callable[[Seen], str]


def render(report: Report, now_ns: int, columns: int = 0) -> list[str]:
    """The whole report; lines are cut at so many columns where that is not 0, commands never."""
    room = columns or 10_000
    lines = [*_components(report, now_ns), *_broker(report, now_ns, room), *_tasks(report), ""]
    lines += [*_agents(report, now_ns, room, columns or _NARROW), "", *_latency(report)]
    return [*lines, *_problems(report, room)]


def _components(report: Report, now_ns: int) -> list[str]:
    parts = []
    for one in report.components:
        if one["running"]:
            text = f"{one['name']} {paint('up', 'green')} {words.span(words.age_s(one['since'], now_ns))}"
            text += f" (pid {one['pid']}"
            text += f", {words.count(one['restarts'], 'restart')})" if one["restarts"] else ")"
        else:
            needed = any(problem.subject == one["name"] for problem in report.problems)
            text = f"{one['name']} {paint('not running', 'red') if needed else paint('off', 'dim')}"
        parts.append(text)
    return ["   ".join(parts)]


def _broker(report: Report, now_ns: int, room: int) -> list[str]:
    waits = report.backlog
    parts = [f"{words.count(waits.queued, 'message')} waiting" if waits.queued else "nothing waits"]
    told = ((waits.held, "held"), (waits.rate_limited, "over the limit"), (waits.awaiting_ack, "to be acknowledged"))
    parts += [f"{number} {what}" for number, what in told if number]
    if waits.lag_events:
        parts.append(f"{words.count(waits.lag_events, 'event')} not taken in yet")
    known = {seen.agent.key for seen in report.agents}
    others = [f"  for {one.target}: {_held(one, now_ns)}" for one in waits.waiting if one.target not in known]
    return [", ".join(parts), *(cut(clean(line), room) for line in others)]


def _tasks(report: Report) -> list[str]:
    """Nothing where nobody uses the task queue."""
    tasks = report.tasks or {}
    told = [f"{tasks[what]} {what}" for what in ("queued", "running") if tasks.get(what)]
    return [f"tasks: {', '.join(told) or 'none waits'}"] if report.tasks else []


def _agents(report: Report, now_ns: int, room: int, wrap: int) -> list[str]:
    if not report.agents:
        return ["no agents yet: orc-run NAME -- claude"]
    named = _namer(report.agents)
    states = Counter(seen.state for seen in report.agents)
    order = [*_STATES, *sorted(set(states) - set(_STATES))]
    counts = ", ".join(f"{states[state]} {state}" for state in order if states[state])
    lines = [paint(words.count(len(report.agents), "agent"), "bold") + f": {counts}"]
    details = {id(seen): text for seen in report.agents if (text := _detail(seen, report, now_ns))}
    wide = max((len(named(seen)) for seen in report.agents if id(seen) in details), default=0)
    for state in order:
        those = [seen for seen in report.agents if seen.state == state]
        for seen in those:
            if id(seen) in details:
                line = clean(f"  {state:<12}  {named(seen):<{wide}}  {details[id(seen)]}")
                lines += [_coloured(part, state) for part in _with_command(line, _mend(report, seen), room)]
        plain = " ".join(named(seen) for seen in those if id(seen) not in details)
        if plain:
            rows = textwrap.wrap(plain, max(20, wrap - 16), break_long_words=False, break_on_hyphens=False)
            lines += [_coloured(f"  {state:<12}  {rows[0]}", state), *(f"{'':16}{row}" for row in rows[1:])]
    return lines


def _mend(report: Report, seen: Seen) -> str:
    """The command that helps an agent in this state."""
    mends = (p.mend for p in report.problems if p.kind in _TOLD_THERE and p.subject == seen.agent.key)
    return next(mends, "")


def _with_command(line: str, command: str, room: int) -> list[str]:
    """The line, then the command whole: behind it where there is room."""
    if not command:
        return [cut(line, room)]
    arrow = f"  → {command}"
    if room - width(arrow) >= _LEAST:
        return [cut(line, room - width(arrow)) + arrow]
    return [cut(line, room), f"{'':14}{arrow}"]


def _coloured(line: str, state: str) -> str:
    """The state's name in its colour."""
    style = _STATES.get(state, "")
    return "  " + paint(state, style) + line[2 + len(state) :] if style and line[2:].startswith(state) else line


def _namer(agents: Sequence[Seen]) -> Namer:
    """The bare name where only one agent has it."""
    names = Counter(seen.agent.name for seen in agents)
    return lambda seen: seen.agent.name if names[seen.agent.name] == 1 else seen.agent.key


def _detail(seen: Seen, report: Report, now_ns: int) -> str:
    """What is to be said of this agent alone; "" when its state says it all."""
    parts = []
    since = f" {words.span(words.age_s(seen.since, now_ns))} ago" if seen.since and seen.state == "dead" else ""
    if seen.state == "dead":
        parts.append(seen.why + since)
    elif seen.state == "waiting":
        parts.append(f"for a person: {(seen.screen.question if seen.screen else '') or 'a dialog is open'}")
    elif seen.state == "limited":
        parts.append(f"until {(seen.screen.limited_until if seen.screen else '') or 'nobody knows when'}")
    elif seen.state == "unknown" and seen.agent.profile != PLAIN:
        parts.append(seen.why or f"profile {seen.agent.profile} does not know its screen")
    if seen.agent.paused:
        parts.append("paused")
    waiting = report.backlog.of(seen.agent.key)
    if waiting:
        parts.append(_held(waiting, now_ns))
    return " · ".join(parts)


def _held(waiting: Waiting, now_ns: int) -> str:
    text = words.count(waiting.queued, "message")
    if waiting.hold:
        since = f" {words.span(words.age_s(waiting.since, now_ns))}" if waiting.since else ""
        return f"{text} held: {waiting.hold}{since}"
    return text + (" over the limit" if waiting.rate_limited else " on the way")


def _latency(report: Report) -> list[str]:
    told = {priority: report.latency_ms[priority] for priority in PRIORITIES}
    if not any(one["count"] for one in told.values()):
        return ["no message was typed today"]
    head = f"{'typed today':<12}{'':>8}{'P50':>10}{'P95':>10}{'P99':>10}   within target"
    lines = [paint(head, "bold")]
    for priority, one in told.items():
        if one["count"]:
            times = "".join(f"{words.ms(one[rank]):>10}" for rank in ("p50", "p95", "p99"))
            within = f"{words.share(one['within_target']):>8} of {TARGETS_MS[priority]:g} ms"
            lines.append(f"  {priority:<10}{one['count']:>8}{times}{within}")
    return lines


def _problems(report: Report, room: int) -> list[str]:
    """What is not told with an agent."""
    if not report.problems:
        return ["", paint("nothing needs you", "green")]
    others = [problem for problem in report.problems if problem.kind not in _TOLD_THERE]
    if not others:
        return []
    lines = ["", paint(f"{words.count(len(others), 'thing')} to look at", "bold")]
    for problem in others:
        lines += [cut(clean(f"  {problem.text}"), room), clean(f"    → {problem.mend}")]
    return lines


def tmux_line(report: Report) -> str:
    """One short line: `3 working · 1 waiting (pm) · 1 dead (qa) · 5 queued`."""
    named = _namer(report.agents)
    parts = [f"{one['name']} down" for one in report.components if _is_missed(one, report)]
    for state in _STATES:
        those = [named(seen) for seen in report.agents if seen.state == state]
        if those:
            names = f" ({words.some(those, _TMUX_NAMES)})" if _STATES[state] in ("red", "yellow") else ""
            parts.append(f"{len(those)} {state}{names}")
    if report.backlog.queued:
        parts.append(f"{report.backlog.queued} queued")
    return clean(" · ".join(parts) or "no agents").replace("#", "")


def _is_missed(component: dict[str, Any], report: Report) -> bool:
    return any(p.kind == "not_running" and p.subject == component["name"] for p in report.problems)
