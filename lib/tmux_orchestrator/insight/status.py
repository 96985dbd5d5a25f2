"""The whole system at one moment: components, agents, what waits, how fast it is, and what needs a person.

Everything is asked for when it is wanted, from the pid files, the kernel, tmux, the broker's own word and the log;
nothing is kept but the screens that a profile does not understand (see `evidence`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tmux_orchestrator.agents import adoption
from tmux_orchestrator.agents.control import Control
from tmux_orchestrator.agents.state import Seen
from tmux_orchestrator.ground import clock, components, pidfile, times
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.insight import backlog, evidence, latency, task_glance, words
from tmux_orchestrator.insight.backlog import Backlog, Waiting

_RECORDS = 5000  # the newest of the day, from which latencies are told
_PUZZLED_S = 60.0  # so long may a screen be strange before its profile is doubted
_LAG_S = 5.0
_OUTPUT = 256 * 1024


@dataclass(slots=True)
class Problem:
    """Something that needs a person. `mend`: the command that helps, or looks closer."""

    kind: str
    subject: str
    text: str
    mend: str


@dataclass(slots=True)
class Report:
    """What orc-status tells."""

    components: list[dict[str, Any]]
    agents: list[Seen]
    backlog: Backlog
    latency_ms: dict[str, dict[str, Any]]
    problems: list[Problem]
    tasks: dict[str, int] | None = None  # `queued`, `running`; None without a task database

    def document(self) -> dict[str, Any]:
        """The fields that scripts read."""
        waits = self.backlog
        return {
            "components": self.components,
            "agents": [seen.record() for seen in self.agents],
            "broker": {
                "queued": waits.queued,
                "held": waits.held,
                "rate_limited": waits.rate_limited,
                "lag_events": waits.lag_events,
            },
            "latency_ms": self.latency_ms,
            "problems": [{"kind": p.kind, "subject": p.subject, "text": p.text, "mend": p.mend} for p in self.problems],
            "tasks": self.tasks,
        }


def gather(home: Home, settings: Config) -> Report:
    """Look at everything once. Raises DataError, SystemFailure."""
    control = Control(home, settings)
    agents = control.show(control.everybody())
    found = Report(
        components=_components(home),
        agents=agents,
        backlog=backlog.read(home),
        latency_ms=latency.recent(home, times.parse_time("today", clock.now_ns()), _RECORDS).latency_ms(),
        problems=[],
    )
    found.problems = [
        *_of_components(home, settings, found),
        *_of_broker(found.backlog),
        *(problem for seen in agents for problem in _of_agent(seen)),
        *_of_holds(control, found),
    ]
    found.tasks, troubles = task_glance.look(home, settings)
    found.problems += [Problem(*one) for one in troubles]
    return found


def _components(home: Home) -> list[dict[str, Any]]:
    """Those that this installation has."""
    found = []
    for name in components.COMMANDS:
        if not components.exists(name):
            continue
        pid = pidfile.running(home, name)
        since = components.since(home, name) if pid else None
        running = {"name": name, "running": pid is not None, "pid": pid, "since": since}
        found.append(running | {"restarts": restarts(home, name)})
    return found


def restarts(home: Home, name: str) -> int:
    """How often it was started again since it was last stopped on purpose, as its output tells."""
    try:
        with open(home.out_file(name), "rb") as file:
            file.seek(max(0, file.seek(0, 2) - _OUTPUT))
            lines = file.read().split(b"\n")
    except OSError:
        return 0
    count = 0
    for line in lines:
        said = line.partition(f" INFO {name}: ".encode())[2]
        if said.startswith(b"stopped on request"):
            count = 0
        elif said.startswith(b"started"):
            count += 1
    return max(0, count - 1)


# what needs a person


def _of_components(home: Home, settings: Config, report: Report) -> list[Problem]:
    wanted, found = components.wanted(settings), []
    for one in report.components:
        name = one["name"]
        if one["running"] or name not in wanted:
            continue
        text = f"{name} is not running"
        crash = components.crash(home, name)
        if crash:
            text += f": it ended by itself: {crash[-1]}"
        waits = report.backlog
        waiting = waits.queued + waits.lag_addressed
        if name == "broker" and waiting:
            text += f", and {words.count(waiting, 'message')} wait{'s' * (waiting == 1)} for it"
        found.append(Problem("not_running", name, text, words.manager("start", name)))
    return found


def _of_broker(waits: Backlog) -> list[Problem]:
    found, now = [], clock.now_ns()
    behind = words.age_s(waits.lag_since, now)
    if waits.pid and behind > _LAG_S:
        text = f"the broker is {words.count(waits.lag_events, 'event')} behind, for {words.span(behind)}"
        found.append(Problem("lag", "broker", text, words.manager("restart", "broker")))
    if waits.damaged:
        text = f"{words.count(waits.damaged, 'damaged line')} in the log stepped over"
        found.append(Problem("damaged", "log", text, "orc-log check"))
    return found


def _of_agent(seen: Seen) -> list[Problem]:
    key, shown = seen.agent.key, seen.screen
    if seen.state == "dead":
        return [Problem("dead", key, f"{key} died: {seen.why}", adoption.restart(seen.agent))]
    if seen.state == "waiting" and shown:
        text = f"{key} waits for a person: {shown.question or 'a dialog is open'}"
        return [Problem("waiting", key, text, f"orc-agent answer {key} yes, or orc-agent attach {key}")]
    if seen.state == "limited" and shown:
        until = f" until {shown.limited_until}" if shown.limited_until else ""
        return [Problem("limited", key, f"{key} has reached a limit{until}", f"orc-agent peek {key}")]
    return []


def _of_holds(control: Control, report: Report) -> list[Problem]:
    """Messages that wait for longer than their sender should accept."""
    patience = control.settings.get("delivery.hold_notice")
    by_key = {seen.agent.key: seen for seen in report.agents}
    found, now = [], clock.now_ns()
    for waiting in report.backlog.waiting:
        seen, age = by_key.get(waiting.target), words.age_s(waiting.since, now)
        if waiting.hold == "no_composer" and seen is not None and age > _PUZZLED_S:
            found += _puzzled(control, seen, age)
        elif waiting.hold == backlog.NOBODY:
            found.append(_unclaimed(waiting))
        elif age > patience and (seen is None or seen.state not in ("dead", "waiting", "limited")):
            found.append(_old(waiting, seen, age))
    return found


def _puzzled(control: Control, seen: Seen, age: float) -> list[Problem]:
    """The profile finds no input box: say which pattern, and keep the screen."""
    profile, key = control.profile(seen.agent), seen.agent.key
    if seen.pane is None:
        return []
    shot = control.server(seen.agent.socket).look([seen.pane.id]).get(seen.pane.id)
    if shot is None:
        return []
    failed, file = evidence.keep(control.home, seen.agent, profile, shot)
    if not failed:
        return []
    text = (
        f"profile {profile.name} has found no input box on {key}'s screen for {words.span(age)}: "
        f"{failed} does not fit (the screen is kept in {file})"
    )
    return [Problem("profile", key, text, f"orc-agent peek {key}, then correct profiles.{profile.name}.{failed}")]


def _old(waiting: Waiting, seen: Seen | None, age: float) -> Problem:
    key = waiting.target
    text = f"{words.count(waiting.queued, 'message')} for {key} held for {words.span(age)}: {waiting.hold}"
    if waiting.hold == "agent_gone" and seen is not None:
        return Problem("held", key, text, adoption.restart(seen.agent))
    return Problem("held", key, text, _MENDS.get(waiting.hold, f"orc-agent peek {key}").format(key=key))


def _unclaimed(waiting: Waiting) -> Problem:
    name = waiting.target
    text = f"{words.count(waiting.queued, 'message')} for {name}, and no agent is called so"
    return Problem("not_registered", name, text, f"orc-run {name.rpartition(':')[2]} -- COMMAND")


_MENDS = {
    "paused": "orc-agent resume {key}",
    "draft": "orc-agent attach {key}, and send or clear what stands in the input box",
    "copy_mode": "orc-agent attach {key}, and leave copy mode with q",
}
