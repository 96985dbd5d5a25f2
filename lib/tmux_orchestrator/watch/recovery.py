"""Starting agents again that ended, each time by the same rules, whoever asks: a person, cron or a monitor.

The kernel decides what has ended; a live agent is touched by force only, an adopted one never, and one that was
stopped on purpose stays so. One recovery of a home runs at a time, so two never start one agent twice. What was
done stands in `logs/run/recovery.json`, noted before the start, and in the log as `recovery` events: a crash in
between counts an attempt that did not happen, and never forgets one that did.
Whoever is back is told who it is and what it was last told; its project manager hears of all at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tmux_orchestrator.agents import runner
from tmux_orchestrator.agents.control import Control
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.agents.state import Seen
from tmux_orchestrator.eventlog import event, reader
from tmux_orchestrator.eventlog.daylog import DAY_NS, Log, daemon_source
from tmux_orchestrator.eventlog.event import short
from tmux_orchestrator.ground import clock, fastjson, files
from tmux_orchestrator.ground.errors import OrcError
from tmux_orchestrator.ground.locks import Lock
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.watch import policy
from tmux_orchestrator.watch.policy import Past

RESPAWNED, REFUSED, FAILED = "respawned", "refused", "failed"
_PATIENCE = 60.0  # seconds in which another recovery should be over
_QUOTED = 300  # characters of what an agent was last told


@dataclass(slots=True)
class Outcome:
    """What was done for one agent. `wait_s`: when it may be tried again, in tenths rounded up; 0 if only by hand."""

    agent: str
    action: str
    reason: str
    attempt: int = 0
    downtime_ms: int = 0
    wait_s: float = 0.0
    session_id: str | None = None  # the conversation that it took up again
    session: str = field(default="", repr=False)

    def record(self) -> dict[str, Any]:
        told = ("agent", "action", "reason", "attempt", "downtime_ms", "wait_s", "session_id")
        return {name: getattr(self, name) for name in told}


class Recovery:
    """Restarts agents of one home, of its own accord only those whose supervisor is `who`.

    `sleep` passes the time between two of them, and may raise to end it there.
    """

    def __init__(
        self, control: Control, sleep: Callable[[float], None] = time.sleep, who: str = runner.MONITOR
    ) -> None:
        self.control = control
        self.home = control.home
        self._rules = policy.Rules.of(control.settings)
        self._sleep = sleep
        self._who = who
        self._source = daemon_source("recovery")

    def candidates(self) -> list[Seen]:
        """The agents that ended, that are ours to supervise, and whose `--restart` says that they come back."""
        mine = [agent for agent in self.control.registered if agent.supervisor == self._who]
        return [seen for seen in self.control.look(mine) if comes_back(seen)]

    def run(
        self,
        targets: Sequence[str] | None,
        why: str = "",
        force: bool = False,
        dry_run: bool = False,
        fresh: bool = False,
    ) -> list[Outcome]:
        """Start them again (None: the `candidates`), as far as the rules allow, and tell everybody whom it concerns.

        `why`: what whoever asked gives as the reason. `fresh`: with new conversations.
        Raises UsageError for an unknown target, TryLater while another recovery runs.
        """
        done: list[Outcome] = []
        with Lock(self.home.run + "/recovery.lock", _PATIENCE):
            self.control.look_anew()  # another recovery may just have ended
            pasts = load(self.home)
            try:
                for seen in self.candidates() if targets is None else self._named(targets):
                    if any(one.action == RESPAWNED for one in done) and not dry_run:
                        self._sleep(self.control.settings.get("recovery.spacing_s"))
                    done.append(self._one(seen, pasts.setdefault(seen.agent.key, Past()), pasts, force, dry_run, fresh))
                    if why and done[-1].action == RESPAWNED:
                        done[-1].reason += f" ({why})"
            finally:
                if not dry_run:  # of whom nobody asked for by name, only what was done is told
                    self._tell([one for one in done if targets is not None or one.action != REFUSED])
        return done

    def _named(self, targets: Sequence[str]) -> list[Seen]:
        agents = {agent.key: agent for agent in map(self.control.find, targets)}
        return self.control.look(list(agents.values()))

    def _one(self, seen: Seen, past: Past, pasts: dict[str, Past], force: bool, dry_run: bool, fresh: bool) -> Outcome:
        key, now = seen.agent.key, clock.now_ns()
        over = seen.state in ("dead", "gone")
        refused = _refusal(seen, force)
        ended = _ns(seen.since, now) if over else now
        ran = ended - _ns(seen.agent.registered, ended)
        verdict = policy.Verdict() if force or refused else policy.judge(past, ran, now, self._rules)
        if refused or not verdict.allowed:
            reason = refused or verdict.reason
            return Outcome(key, REFUSED, reason, len(past.starts), wait_s=-(-verdict.wait_ns // 10**8) / 10)
        outcome = Outcome(key, RESPAWNED, seen.why or "by force", session=seen.agent.session)
        outcome.downtime_ms = max(0, now - ended) // 1_000_000
        if not dry_run:
            if force:
                past.starts.clear()
            policy.started(past, ran, now, self._rules)
            save(self.home, pasts)
            try:
                outcome.session_id = self.control.restart(seen, force, fresh).resumed or None
            except OrcError as error:
                outcome.action, outcome.reason = FAILED, str(error)
        outcome.attempt = len(past.starts)
        return outcome

    # telling

    def _tell(self, done: list[Outcome]) -> None:
        """The log of each; those who are back, of themselves; project managers, of all at once."""
        told = [_recorded(one, self._source) for one in done]
        back = [one for one in done if one.action == RESPAWNED]
        told += [self._briefing(one) for one in back]
        told += self._reports(back)
        if told:
            Log(self.home).append(told)

    def _briefing(self, one: Outcome) -> dict[str, Any]:
        session, _, name = one.agent.rpartition(":")
        agent = next(agent for agent in self.control.registered if agent.key == one.agent)
        role = f", in the role {agent.role}" if agent.role != name else ""
        lines = [f"You are {name}{role}, in session {session}, and were started again: {one.reason}."]
        last = _last_told(self.home, one.agent)
        if last:
            lines.append(f"Before that you were last told: {last}")
        lines.append(f"What else is for you: orc-read --unread {name}")
        return self._notice("\n".join(lines), [one.agent], one)

    def _reports(self, back: list[Outcome]) -> list[dict[str, Any]]:
        by_manager: dict[str, list[Outcome]] = {}
        for one in back:
            manager = self._manager(one)
            if manager is not None:
                by_manager.setdefault(manager.key, []).append(one)
        return [
            self._notice("\n".join(f"{one.agent} was started again: {one.reason}" for one in those), [key], those[0])
            for key, those in by_manager.items()
        ]

    def _manager(self, one: Outcome) -> Agent | None:
        """The project manager of the agent's session; else the only one there is; nobody hears of itself."""
        managers = [agent for agent in self.control.registered if agent.role == "pm" and not agent.ended]
        here = [agent for agent in managers if agent.session == one.session] or managers
        return here[0] if len(here) == 1 and here[0].key != one.agent else None

    def _notice(self, text: str, targets: list[str], one: Outcome) -> dict[str, Any]:
        context = {"agent": one.agent, "session": one.session, "issue_type": "recovery"}
        return event.build(
            text,
            self._source,
            type="notification",
            category="recovery",
            priority="high",
            targets=targets,
            context=context,
            tags=["recovery"],
        )


def by_hand(control: Control, agent: Agent, force: bool, fresh: bool = False) -> None:
    """Somebody starts it again and knows what they do: what was tried before no longer counts.

    Raises UsageError when it runs and not `force`.
    """
    again = control.restart(control.look([agent])[0], force, fresh)
    with Lock(control.home.run + "/recovery.lock", _PATIENCE):
        pasts = load(control.home)
        if pasts.pop(agent.key, None) is not None:
            save(control.home, pasts)
    Log(control.home).append(
        [_recorded(Outcome(agent.key, RESPAWNED, "by hand", session_id=again.resumed or None), control.source)]
    )


def load(home: Home) -> dict[str, Past]:
    """What was done, by the agent's key. A damaged file counts as empty: too early beats never."""
    try:
        stored = fastjson.loads(files.read(home.run + "/recovery.json") or b"{}")
    except ValueError:
        return {}
    return {key: Past.from_dict(one) for key, one in stored.items()} if isinstance(stored, dict) else {}


def save(home: Home, pasts: dict[str, Past]) -> None:
    """Raises OSError."""
    data = fastjson.dumps({key: past.to_dict() for key, past in pasts.items() if past.starts})
    files.replace(home.run + "/recovery.json", data.encode("ascii"))


def _recorded(one: Outcome, source: dict[str, Any]) -> dict[str, Any]:
    context = one.record()
    text = f"{one.agent} {one.action}: {one.reason}"
    return event.build(text, source, type="recovery", priority="low", context=context)


def comes_back(seen: Seen) -> bool:
    """Has it ended in a way after which its `--restart` wants it back?"""
    if seen.agent.adopted or seen.agent.ended:
        return False
    return seen.state in {"never": (), "crash": ("dead",), "always": ("dead", "gone")}[seen.agent.restart]


def _refusal(seen: Seen, force: bool) -> str:
    """Why this one is not to be started again whatever the rules of time say; "" if nothing stands against it."""
    if seen.agent.adopted:
        return "adopted"
    if seen.state in ("dead", "gone") or force:
        return ""
    return "running"


def _ns(stamp: str | None, otherwise: int) -> int:
    try:
        return clock.parse_stamp(stamp or "")
    except ValueError:
        return otherwise


def _last_told(home: Home, key: str) -> str:
    """What was last typed to the agent within a day, by its id and its first words; "" if nothing was."""
    query = reader.Query()
    query.since, query.types = clock.now_ns() - DAY_NS, ["delivery"]
    query.match = lambda one: _reached(one["message"]["content"]["context"], key)
    for _, one in reader.last(home, query, 1):
        found = reader.find(home, str(one["message"]["content"]["context"].get("event")))
        if found is not None:
            body = found["message"]["content"]["body"]
            cut = body if len(body) <= _QUOTED else f"{body[:_QUOTED]}… (orc-read --id {short(found['id'])} -o body)"
            return f"#{short(found['id'])} {cut}"
    return ""


def _reached(context: dict[str, Any], key: str) -> bool:
    return context.get("target") == key and context.get("outcome") in ("typed", "confirmed")
