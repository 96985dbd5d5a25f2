"""The checklist of a project manager: is everything there that its work with the daemons needs?

Each line says `ok`, or what to do about it. It is walked in order, and one that cannot be checked keeps none of the
others from it. The test message and its acknowledgment are written to the log, for readers: nothing is typed.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from tmux_orchestrator.agents import adoption, managers
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.agents.state import Seen
from tmux_orchestrator.delivery import routing
from tmux_orchestrator.eventlog import event, reader
from tmux_orchestrator.eventlog.daylog import Log
from tmux_orchestrator.ground import clock, pidfile, times
from tmux_orchestrator.ground.errors import OrcError
from tmux_orchestrator.ground.output import clean, paint
from tmux_orchestrator.ground.paths import CODE
from tmux_orchestrator.insight import latency, words
from tmux_orchestrator.insight.findings import Case
from tmux_orchestrator.watch import escalation, pm
from tmux_orchestrator.watch.notifications import GROUP

_LOOP_S = 20 * 60  # the script's loop runs every ten minutes
_LAG_S = 5.0
_RECORDS = 5000


@dataclass(slots=True)
class Step:
    """One line of the list. `mend`: what to do where it is not ok."""

    check: str
    ok: bool
    text: str
    mend: str = ""


class Walk:
    """One session of one home. `session` None: the pane this runs in. Raises UsageError for what cannot be one."""

    def __init__(self, case: Case, session: str | None) -> None:
        self.case = case
        self.interface = pm.PMPubsubIntegration(session)
        self.where = self.interface.session
        self.session = self.where.partition(":")[0] if self.where else None

    @cached_property
    def seen(self) -> Seen | None:
        """The session's project manager, as it is now; None where there is none, or not one alone."""
        here = [agent for agent in managers.present(self.case.agents) if agent.session == self.session]
        named = [agent for agent in here if agent.key == self.where]
        one: Agent | None = (named or here)[0] if len(here) == 1 or named else None
        return next((seen for seen in self.case.seen if one and seen.agent.key == one.key), None)

    def steps(self) -> list[Step]:
        found: list[Step] = []
        for name, check in CHECKS.items():
            try:
                found += check(self)
            except (OrcError, OSError) as error:
                found.append(Step(name, False, f"{name} cannot be checked ({error})", "orc-doctor"))
        return found


def session(walk: Walk) -> Iterator[Step]:
    if walk.session is None:
        text = "this is no pane of an agent or of tmux, so it is not known which session is meant"
        yield Step("session", False, text, "orc-doctor --pm=SESSION, or run it in the project manager's pane")
    else:
        yield Step("session", True, f"the session is {walk.session} ({walk.where})")


def daemons(walk: Walk) -> Iterator[Step]:
    for name in ("broker", "monitor"):
        pid = pidfile.running(walk.case.home, name)
        mend = words.manager("start", name)
        yield Step(name, pid is not None, f"the {name} " + (f"runs (pid {pid})" if pid else "does not run"), mend)
    waits = walk.case.backlog
    behind = words.age_s(waits.lag_since, clock.now_ns())
    if waits.pid and behind > _LAG_S:
        text = f"the broker is {words.count(waits.lag_events, 'event')} behind, for {words.span(behind)}"
        yield Step("broker", False, text, words.manager("restart", "broker"))


def manager(walk: Walk) -> Iterator[Step]:
    if walk.session is None:
        return
    if walk.seen is None:
        here = [one.key for one in managers.present(walk.case.agents) if one.session == walk.session]
        if here:
            text = f"{words.some(here)} are project managers of one session: nobody knows who is asked"
            yield Step("manager", False, text, f"orc-agent stop {shlex.quote(here[-1])}, then orc-agent forget")
        else:
            text = f"no project manager is registered in session {walk.session}"
            yield Step("manager", False, text, f"orc-run pm --session {shlex.quote(walk.session)} -- COMMAND")
        return
    agent = walk.seen.agent
    lives = walk.seen.state not in ("dead", "gone")
    text = f"{agent.key} is registered in the role {managers.ROLE}, and {walk.seen.state}"
    yield Step("manager", lives, text, adoption.restart(agent))


def group(walk: Walk) -> Iterator[Step]:
    """Would the broker type into its pane what the daemons say to management?"""
    if walk.seen is None:
        return
    agent, settings = walk.seen.agent, walk.case.settings
    made = event.build("-", {"type": "daemon", "identifier": "doctor", "session": None}, groups=[GROUP])
    reached = routing.route(made, routing.Directory(walk.case.agents, settings.groups)).deliveries
    ok = any(one.target.key == agent.key for one in reached)
    text = f"the group {GROUP} {'reaches' if ok else 'does not reach'} {agent.key}"
    yield Step("group", ok, text, f'add "@{managers.ROLE}" to groups.{GROUP} in {walk.case.home.config_file}')
    if agent.paused:
        yield Step("paused", False, f"{agent.key} is paused: nothing is typed", f"orc-agent resume {agent.key}")


def flow(walk: Walk) -> Iterator[Step]:
    """A test message is published, read back as the session's, and acknowledged."""
    home, begin = walk.case.home, time.monotonic()
    context = {"session": walk.session, "issue_type": "test"}
    source = walk.interface.source()
    made = event.build("PM connectivity test", source, type="test", priority="low", tags=["test"], context=context)
    log = Log(home, durable=walk.case.settings.get("events.durability") == "disk")
    stored = log.append([made])[0]
    log.close()
    found = reader.find(home, stored)
    ok = found is not None and found["message"]["content"]["context"] == context
    took = words.ms((time.monotonic() - begin) * 1000)
    text = f"a test message was published and read back in {took}" if ok else f"{stored} is not in the log"
    yield Step("flow", ok, text, "orc-log check")
    if not ok or walk.session is None:
        return
    walk.interface.acknowledge_notification(stored, "orc-doctor --pm")
    query = reader.Query()
    query.since, query.types = clock.now_ns() - 60_000_000_000, ["ack"]
    query.match = lambda one: one["metadata"].get("reply_to") == stored
    acks = [one for _, one in reader.last(home, query, 1)]
    carried = acks[0]["source"].get("session") if acks else None
    text = f"an acknowledgment carries {'the session ' + carried if carried else 'no session'}"
    yield Step("acknowledgment", carried == walk.session, text, "orc-doctor --pm in the project manager's own pane")


def escalations(walk: Walk) -> Iterator[Step]:
    wanted = walk.case.settings.get("delivery.escalate_to")
    asker = walk.seen.agent.key if walk.seen else ""
    reached = escalation.reached(walk.case.agents, wanted, asker)
    text = f"escalations go to {words.some(wanted) or 'nobody'}"
    if not reached:
        text += ", where no agent is"
    yield Step("escalation", bool(reached), text, "orc-run orchestrator --session main -- COMMAND")


def signs(walk: Walk) -> Iterator[Step]:
    """Only where this installation has the commands that give them."""
    hook, beat = (os.path.exists(f"{CODE}/bin/orc-{name}") for name in ("hook", "heartbeat"))
    if walk.seen is None or not (hook or beat):
        return
    last = walk.seen.record()["last_heartbeat"]
    if last:
        text = f"the last heartbeat came {words.span(words.age_s(last, clock.now_ns()))} ago"
    elif walk.seen.source == "hook":
        text = "its hooks tell what it does"
    else:
        profile = walk.seen.agent.profile
        ways = (["orc-heartbeat --every 60 & in its pane"] if beat else []) + (
            [f"orc-hook install {profile}"] if hook and profile in ("claude", "codex", "gemini") else []
        )
        yield Step("signs", False, "neither its hooks nor a heartbeat have been heard", ", or ".join(reversed(ways)))
        return
    yield Step("signs", True, text)


def script(walk: Walk) -> Iterator[Step]:
    if walk.where is None:
        return
    path = pm.create_pm_monitoring_script()
    loop = f"while :; do {shlex.quote(path)} {shlex.quote(walk.where)}; sleep 600; done & in its pane"
    try:
        age = time.time() - os.stat(walk.interface.cursor).st_mtime
    except FileNotFoundError:
        yield Step("script", False, f"the monitoring script {path} has not run for {walk.where}", loop)
        return
    text = f"the monitoring script {path} ran {words.span(age)} ago"
    yield Step("script", age < _LOOP_S, text, loop)


def speed(walk: Walk) -> Iterator[Step]:
    today = times.parse_time("today", clock.now_ns())
    measured = latency.recent(walk.case.home, today, _RECORDS).latency_ms()
    slow = [
        f"{priority} {words.ms(one['p95'])} (target {words.ms(latency.TARGETS_MS[priority])})"
        for priority, one in measured.items()
        if one["p95"] is not None and one["p95"] > latency.TARGETS_MS[priority]
    ]
    count = sum(one["count"] for one in measured.values())
    text = f"95 of 100 messages were in time ({words.count(count, 'message')} today)" if count else "no message today"
    if slow:
        text = f"slower than the target in 5 of 100: {', '.join(slow)}"
    yield Step("speed", not slow, text, "orc-stats --measure 100")


CHECKS: dict[str, Callable[[Walk], Iterator[Step]]] = {
    "session": session,
    "daemons": daemons,
    "manager": manager,
    "group": group,
    "flow": flow,
    "escalation": escalations,
    "signs": signs,
    "script": script,
    "speed": speed,
}


def is_ready(steps: list[Step]) -> bool:
    return all(step.ok for step in steps)


def document(walk: Walk, steps: list[Step]) -> dict[str, Any]:
    """The fields that scripts read."""
    listed = [asdict(step) | {"mend": "" if step.ok else step.mend} for step in steps]
    return {"ok": is_ready(steps), "session": walk.where, "steps": listed}


def render(steps: list[Step]) -> list[str]:
    lines = []
    for step in steps:
        mark = paint("ok", "green") if step.ok else paint("to do", "red")
        lines.append(f"{mark}: {clean(step.text)}" + ("" if step.ok else f" → {clean(step.mend)}"))
    left = sum(not step.ok for step in steps)
    return [*lines, f"{words.count(left, 'thing')} to do" if left else "ready"]
