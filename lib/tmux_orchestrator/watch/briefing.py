"""What an agent that is back is told: who it is, what it was doing, and a digest of what it missed; not the backlog.

Read from the log, backwards and only so far: a day, and no more than `DEPTH` events. The text is bounded whatever the
log holds; each quotation is one line, so that none can pass for a line of ours. Nothing is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tmux_orchestrator.agents import inbox
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.eventlog import event, reader
from tmux_orchestrator.eventlog.daylog import DAY_NS
from tmux_orchestrator.eventlog.event import short
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.paths import Home

DEPTH = 20_000  # events that are looked through
URGENT = 5  # messages that are named
_TOLD, _DID, _SUBJECT, _WHY = 300, 200, 80, 200  # characters that are quoted
# What an agent publishes of its work.
_WORK = frozenset({"status_update", "task_completed", "implementation_complete", "spec_created", "bug_report"})


@dataclass(slots=True)
class Memory:
    """What the log knows of an agent: events, newest first in `missed`."""

    told: dict[str, Any] | None = None  # what was last typed to it
    did: dict[str, Any] | None = None  # what it last said of its work
    missed: list[dict[str, Any]] = field(default_factory=list)
    away: str = ""  # since when it was away, as a stamp; "": not known
    whole: bool = True  # `missed` has them all


def recall(home: Home, agent: Agent, interest: inbox.Interest, ended_ns: int) -> Memory:
    """`interest`: what is addressed to the agent; `ended_ns`: when it ended. 0: not known, so that it was away since
    the last that it published or was told."""
    memory, told = Memory(away=clock.stamp(ended_ns) if ended_ns else ""), ""
    query = reader.Query()
    query.since = clock.now_ns() - DAY_NS
    for count, (_, one) in enumerate(reader.search(home, query, backward=True)):
        during = one["timestamp"] >= memory.away
        if not during and told and memory.did:
            break
        if count >= DEPTH:
            memory.whole = not during
            break
        source, kind = one["source"], one["message"]["type"]
        mine = (source.get("session"), source.get("identifier")) == (agent.session, agent.name)
        if kind == "delivery":
            found = _typed(one["message"]["content"]["context"], agent.key)
            told = told or found
            mine = bool(found)
        elif mine and kind in _WORK:
            memory.did = memory.did or one
        elif during and not mine and _counts(one) and interest.is_addressed(one):
            memory.missed.append(one)
        if mine and not memory.away:
            memory.away = one["timestamp"]
    memory.told = reader.find(home, told) if told else None
    return memory


def text(agent: Agent, memory: Memory, why: str) -> str:
    """`why`: why it was started again."""
    role = f", in the role {agent.role}" if agent.role != agent.name else ""
    why = _line(why, _WHY)
    lines = [f"You are {agent.name}{role}, in session {agent.session}, and were started again: {why}."]
    if memory.did is not None:
        lines.append(f"You last said of your work: {_quoted(memory.did, _DID)}")
    if memory.told is not None:
        lines.append(f"Before that you were last told: {_quoted(memory.told, _TOLD)}")
    if memory.missed:
        lines += _digest(memory)
    lines.append(f"What else is for you: orc-read --unread {agent.name}")
    return "\n".join(lines)


def _digest(memory: Memory) -> list[str]:
    by_priority = {priority: [] for priority in event.PRIORITIES}  # type: dict[str, list[dict[str, Any]]]
    for one in reversed(memory.missed):
        by_priority.setdefault(one["message"]["priority"], []).append(one)
    counts = ", ".join(f"{len(those)} {priority}" for priority, those in by_priority.items() if those)
    total = len(memory.missed)
    count = f"{'' if memory.whole else 'at least '}{total} message{'s' if total > 1 else ''}"
    lines = [f"While you were away ({_since(memory.away)}) {count} came for you: {counts}. The most urgent:"]
    urgent = [one for those in by_priority.values() for one in those][:URGENT]
    return lines + [f"- {_quoted(one, _SUBJECT)} ({one['message']['priority']})" for one in urgent]


def _typed(context: dict[str, Any], key: str) -> str:
    """The id of the event that reached the agent, if this record says that one did."""
    reached = context.get("target") == key and context.get("outcome") in ("typed", "confirmed")
    return str(context.get("event") or "") if reached else ""


def _counts(one: dict[str, Any]) -> bool:
    """Is it a message, and not what recovery itself says?"""
    source = one["source"]
    ours = source.get("type") == "daemon" and source.get("identifier") == "recovery"
    return one["message"]["type"] not in event.RECORDS and not ours


def _quoted(one: dict[str, Any], limit: int) -> str:
    content = one["message"]["content"]
    said = content.get("subject") or content["body"]
    cut = _line(said, limit)
    more = f" (orc-read --id {short(one['id'])} -o body)" if cut.endswith("…") else ""
    return f"#{short(one['id'])} {cut}{more}"


def _line(said: str, limit: int) -> str:
    """On one line, and no longer than this."""
    line = " ".join(said[: 4 * limit].split())
    return line if len(line) <= limit and len(said) <= 4 * limit else line[:limit] + "…"


def _since(stamp: str) -> str:
    """How long ago that was."""
    try:
        seconds = max(0, clock.now_ns() - clock.parse_stamp(stamp)) // 1_000_000_000
    except ValueError:
        return "for a time not known"
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
