"""The words of orc-team that are about the tasks: queue, bottlenecks, metrics, events.

Each prints the lines of the source document, the same on a terminal and in a pipe, or one document with `--json`.
`metrics` goes on where the document ends: percentiles and where time goes by type, trends by day, uptime, and the
share of tasks that reached the right agent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tmux_orchestrator.agents import crew
from tmux_orchestrator.ground import clock, config, errors, fastjson, options, paths, times
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.ground.output import clean
from tmux_orchestrator.insight import task_figures, words
from tmux_orchestrator.insight.task_figures import Depth, Group
from tmux_orchestrator.insight.task_rules import ms
from tmux_orchestrator.work import flows
from tmux_orchestrator.work.queue import MessageQueue

_TAIL, _SHOWN = 100, 10
_MOST = 1_000_000
_TAKES = {"queue": (), "bottlenecks": (), "metrics": ("agent", "since"), "events": ("tail",)}


def show(word: str, names: list[str], given: options.Options) -> int:
    """One of the words; `names` are what stands behind it. Raises UsageError, and what the database raises."""
    if names:
        raise errors.UsageError(f"{word} takes no name: leave {names[0]!r} out")
    for option in ("agents", "agent", "force", "debug", "since", "tail"):
        if getattr(given, option) and option not in _TAKES[word]:
            raise errors.UsageError(f"{word} takes no --{option}: see --help")
    home = paths.find_home()
    settings = config.load(home)
    clock.use_zone(settings.get("events.timezone"))
    tasks = MessageQueue(None, home, settings)
    try:
        if word == "metrics":
            return metrics(tasks, settings, given)
        return WORDS[word](tasks, given)
    finally:
        tasks.close()


def queue(tasks: MessageQueue, given: options.Options) -> int:
    """What waits for whom, what runs, and what comes next."""
    tasks.sweep()
    depths = task_figures.depths(tasks.database)
    running, coming = task_figures.running(tasks.database), task_figures.coming(tasks.database, _SHOWN)
    waiting = sum(depth.queued for depth in depths.values())
    if given.json:
        document = {"queued_tasks": waiting, "running_tasks": len(running)}
        agents = [depth.record(agent) for agent, depth in depths.items()]
        return _document(document | {"agents": agents, "running": running, "next": coming})
    now = clock.now_ns()
    lines = [f"Message Queue: {waiting} queued, {len(running)} running"]
    for agent, depth in depths.items():
        oldest = f", the oldest for {words.span(words.age_s(depth.oldest, now))}" if depth.oldest else ""
        lines.append(f"- {agent}: {_depth(depth)}, {depth.running} running{oldest}")
    if running:
        lines += ["Running:", *_numbered(running[:_SHOWN]), *_more(len(running) - _SHOWN)]
    if coming:
        lines.append("Next:")
        for number, one in enumerate(coming, 1):
            waits = words.span(words.age_s(one["created_at"], now))
            told = f"priority {one['priority']}, waits for {waits} - {one['type']}"
            lines.append(f"{number}. {one['task_id']} ({one['agent']}): {told}")
    return _print(lines)


def bottlenecks(tasks: MessageQueue, given: options.Options) -> int:
    """The slowest tasks, and the percentiles of all."""
    slowest = task_figures.slowest(tasks.database, _SHOWN)
    ranks = task_figures.percentiles(tasks.database)
    if given.json:
        return _document({"slowest": slowest, "duration_ms": ranks})
    lines = [f"Top {_SHOWN} Slowest Tasks:", *(_numbered(slowest) or ["none completed yet"]), "Performance Metrics:"]
    return _print([*lines, *(f"- p{rank}: {_ms(ranks[f'p{rank}'])}" for rank in task_figures.RANKS)])


def metrics(tasks: MessageQueue, settings: Config, given: options.Options) -> int:
    """How each agent, or one, performed. Raises UsageError for an agent of whom nothing is known."""
    since = times.parse_time(given.since, clock.now_ns()) if given.since else 0
    history = task_figures.history(tasks.database, since, given.agent)
    depths, uptimes, groups = task_figures.depths(tasks.database), _uptimes(tasks), history.agents()
    names = sorted({*groups, *depths, *uptimes})
    if given.agent is not None:
        if given.agent not in names and not _is_known(tasks, settings, given.agent):
            close = options.near(given.agent, _everybody(tasks, names))
            raise errors.UsageError(f"no task was ever for {given.agent!r}{close}: see orc-team metrics")
        names = [given.agent]
    parts = []
    for name in names:
        types = {kind: group for (who, kind), group in sorted(history.kinds.items()) if who == name}
        parts.append(_Agent(name, groups.get(name, Group()), depths.get(name, Depth()), types, uptimes.get(name)))
    types = {
        kind: _sum([group for (_, one), group in history.kinds.items() if one == kind]) for _, kind in history.kinds
    }
    whole = _sum([part.whole for part in parts])
    team = _Agent("All Agents", whole, _all(depths), dict(sorted(types.items())), _mean(uptimes))
    right, every = flows.routed_share(tasks.database)
    if given.json:
        routes = {"routed_share": round(right / every, 4) if every else None, "routed_tasks": every}
        return _document(_metrics(parts, team, history.days, since, given.agent is None) | routes)
    lines: list[str] = []
    for part in parts:
        lines += [*part.lines(), *part.by_type(), ""]
    if given.agent is None:
        share = [f"- Routed to the right agent: {right / every:.0%} (of {every})"] if every else []
        lines += [*team.lines(), *share, *team.by_type(), ""]
    return _print([*lines, *_by_day(history.days)])


def events(tasks: MessageQueue, given: options.Options) -> int:
    """The last things that happened to tasks, the oldest first."""
    most = options.number(given.tail, "--tail", 0, _MOST)
    found = task_figures.events(tasks.database, _TAIL if most is None else most)
    if given.json:
        return _document({"events": found, "count": len(found)})
    return _print([_happened(one) for one in found])


WORDS = {"queue": queue, "bottlenecks": bottlenecks, "events": events}


# lines


def _print(lines: Sequence[str]) -> int:
    while lines and not lines[-1]:
        lines = lines[:-1]
    if lines:
        print("\n".join(clean(line) for line in lines))
    return errors.OK


def _document(document: dict[str, Any]) -> int:
    print(fastjson.dumps(document))
    return errors.OK


def _numbered(tasks: Sequence[dict[str, Any]]) -> list[str]:
    return [
        f"{number}. {one['task_id']} ({one['agent']}): {_ms(one['duration_ms'])} - {one['type']}"
        for number, one in enumerate(tasks, 1)
    ]


def _more(number: int) -> list[str]:
    return [f"and {number} more"] if number > 0 else []


def _ms(value: int | None) -> str:
    return "-" if value is None else ms(value)


def _depth(depth: Depth) -> str:
    return f"{depth.queued} (high: {depth.high}, normal: {depth.normal}, low: {depth.low})"


def _happened(one: dict[str, Any]) -> str:
    try:
        at = clock.local_time(clock.parse_stamp(one["time"]))
    except ValueError:  # the document's own code wrote it
        at = one["time"][11:19]
    line = f"[{at}] {one['event']}: {one['agent']}.{one['type']}"
    told = []
    if one["event"] == "task_queued":
        told.append(f"priority={one['priority']}")
    if one["duration_ms"] is not None:
        told.append(f"duration={ms(one['duration_ms'])}")
    if one["event"] not in ("task_queued", "task_started", "task_completed") and one["error_message"]:
        told.append("error=" + one["error_message"].partition("\n")[0][:120])
    return f"{line} ({', '.join(told)})" if told else line


# metrics


@dataclass(frozen=True, slots=True)
class _Uptime:
    up_ns: int
    meant_ns: int

    @property
    def percent(self) -> float:
        """Rounded down: 100 says that nothing was missing."""
        return min(100.0, self.up_ns * 1000 // self.meant_ns / 10)


@dataclass(slots=True)
class _Agent:
    """One agent's figures, or those of all."""

    name: str
    whole: Group
    depth: Depth
    types: dict[str, Group]
    uptime: _Uptime | None

    def lines(self) -> list[str]:
        """As the document prints them; the uptime where there is one."""
        whole = self.whole
        uptime = [] if self.uptime is None else [f"- Uptime: {self.uptime.percent:.1f}%"]
        return [
            f"{self.name} Performance:",
            f"- Tasks completed: {whole.completed}",
            f"- Tasks failed: {whole.failed}",
            f"- Average duration: {_ms(whole.average_ms)}",
            f"- p95 duration: {_ms(task_figures.of(whole.durations)['p95'])}",
            f"- Current queue depth: {_depth(self.depth)}",
            *uptime,
        ]

    def by_type(self) -> list[str]:
        lines = []
        all_types = {"all": self.whole} if len(self.types) > 1 else {}
        for kind, group in (self.types | all_types).items():
            ranks = ", ".join(f"{rank} {_ms(value)}" for rank, value in task_figures.of(group.durations).items())
            lines.append(f"- {kind}: {words.count(group.completed + group.failed, 'task')}, {ranks}; {_shares(group)}")
        return ["Where Time Goes:", *lines] if lines else []

    def record(self) -> dict[str, Any]:
        types = [{"type": kind, **group.record()} for kind, group in self.types.items()]
        return {
            "agent": self.name,
            **self.whole.record(),
            "queue": {name: value for name, value in self.depth.record("").items() if name != "agent"},
            "uptime_percent": None if self.uptime is None else self.uptime.percent,
            "types": types,
        }


def _shares(group: Group) -> str:
    """Of all the time from when a task was sent until it ended."""
    parts = {"waiting": group.waiting_ms, "running": group.running_ms, "resting": group.resting_ms}
    whole = sum(parts.values())
    return ", ".join(f"{name} {value / whole:.0%}" if whole else f"{name} -" for name, value in parts.items())


def _by_day(days: dict[str, Group]) -> list[str]:
    lines = [
        f"- {day}: {group.completed} completed, {group.failed} failed, "
        f"p95 {_ms(task_figures.of(group.durations)['p95'])}"
        for day, group in days.items()
    ]
    return ["By Day:", *lines] if lines else []


def _metrics(parts: list[_Agent], team: _Agent, days: dict[str, Group], since: int, is_all: bool) -> dict[str, Any]:
    whole = team.record()
    del whole["agent"]
    trend = []
    for day, group in days.items():
        told = group.record()
        trend.append({"day": day, **{name: told[name] for name in ("completed_tasks", "failed_tasks", "duration_ms")}})
    return {
        "since": clock.stamp(since) if since else None,
        "agents": [part.record() for part in parts],
        "all": whole if is_all else None,
        "days": trend,
    }


def _sum(groups: Sequence[Group]) -> Group:
    whole = Group()
    for group in groups:
        whole.add(group)
    whole.durations.sort()
    return whole


def _all(depths: dict[str, Depth]) -> Depth:
    whole = Depth()
    for one in depths.values():
        whole.queued += one.queued
        whole.high += one.high
        whole.normal += one.normal
        whole.low += one.low
        whole.running += one.running
        whole.oldest = min(filter(None, (whole.oldest, one.oldest)), default="")
    return whole


# who there is


def _uptimes(tasks: MessageQueue) -> dict[str, _Uptime]:
    """Of each agent of the team, as its supervisor keeps it since it began."""
    found = {}
    agents = crew.load(tasks.home).get("agents")
    for name, kept in agents.items() if isinstance(agents, dict) else ():
        up, meant = (kept.get("up_ns"), kept.get("meant_ns")) if isinstance(kept, dict) else (0, 0)
        if type(up) is type(meant) is int and meant > 0 <= up:
            found[name] = _Uptime(up, meant)
    return found


def _mean(uptimes: dict[str, _Uptime]) -> _Uptime | None:
    meant = sum(one.meant_ns for one in uptimes.values())
    return _Uptime(sum(one.up_ns for one in uptimes.values()), meant) if meant else None


def _is_known(tasks: MessageQueue, settings: Config, agent: str) -> bool:
    """Is it configured, or was there ever a task for it?"""
    if agent in (settings.get("team").get("agents") or {}):
        return True
    return tasks.database.row("SELECT 1 FROM tasks WHERE recipient = ? LIMIT 1", agent) is not None


def _everybody(tasks: MessageQueue, names: list[str]) -> list[str]:
    return sorted({*names, *(row[0] for row in tasks.database.rows("SELECT DISTINCT recipient FROM tasks"))})
