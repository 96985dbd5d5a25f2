"""Starting agents again that ended, each time by the same rules, whoever asks: a person, cron or a monitor.

The kernel decides what has ended; a live agent is touched by force only, an adopted one never, and one that was
stopped on purpose stays so. One recovery of a home runs at a time, so two never start one agent twice. What was
done stands in `logs/run/recovery.json`, noted before the start, and in the log as `recovery` events: a crash in
between counts an attempt that did not happen, and never forgets one that did.
Project managers come before their teams. Whoever is back is told at once who it is and what it missed (see
`briefing`); its project manager hears of all together, in the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tmux_orchestrator.agents import inbox, managers, policy, registry, runner
from tmux_orchestrator.agents.control import Control
from tmux_orchestrator.agents.policy import Past
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.agents.state import Seen
from tmux_orchestrator.eventlog.daylog import Log, daemon_source
from tmux_orchestrator.ground import clock, fastjson, files, options
from tmux_orchestrator.ground.errors import OrcError, TryLater, UsageError
from tmux_orchestrator.ground.locks import Lock
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.watch import briefing, incidents, reports, succession
from tmux_orchestrator.watch.incidents import LostServer
from tmux_orchestrator.watch.reports import FAILED as FAILED
from tmux_orchestrator.watch.reports import FIELDS as FIELDS
from tmux_orchestrator.watch.reports import REFUSED as REFUSED
from tmux_orchestrator.watch.reports import RESPAWNED as RESPAWNED
from tmux_orchestrator.watch.reports import Outcome as Outcome

RUNNING, ADOPTED = "running", "adopted"
_PATIENCE = 60.0  # seconds in which another recovery should be over


class Busy(TryLater):
    """Another recovery of this home runs."""


@dataclass(frozen=True, slots=True)
class How:
    """`free`: the rules of time do not hold. `force`: nor does it matter that an agent runs: it is ended first."""

    why: str = ""
    free: bool = False
    force: bool = False
    dry_run: bool = False
    fresh: bool = False
    tell_refused: bool = False


class Recovery:
    """Restarts agents of one home, of its own accord only those whose supervisor is `who`.

    `sleep` passes the time between two of them, and may raise to end it there. `patience`: seconds in which another
    recovery is waited for.
    """

    def __init__(
        self,
        control: Control,
        sleep: Callable[[float], None] = time.sleep,
        who: str = runner.MONITOR,
        patience: float = _PATIENCE,
    ) -> None:
        self.control = control
        self.home = control.home
        self._rules = policy.Rules.of(control.settings)
        self._sleep = sleep
        self._who = who
        self._patience = patience
        self._source = daemon_source("recovery")
        self._lost: list[LostServer] = []
        self._missed: set[str] = set()  # project managers for whom another may be started

    def candidates(self) -> list[Seen]:
        """The agents that ended, and are ours to start again."""
        seen = self.control.look(self.control.registered)
        self._missed = {one.agent.key for one in succession.leaderless(seen, _stays)}
        return wanted(seen, self._who)

    def run(
        self,
        targets: Sequence[str] | None,
        why: str = "",
        force: bool = False,
        dry_run: bool = False,
        fresh: bool = False,
        hung: bool = False,
    ) -> list[Outcome]:
        """Start them again (None: the `candidates`), as far as the rules allow, and tell everybody whom it concerns.

        `why`: what whoever asked gives as the reason. `fresh`: with new conversations. `hung`: they are ended first, if
        they run, and the rules of time hold all the same.
        Raises UsageError for an unknown target, TryLater while another recovery runs.
        """
        how = How(why, force, force or hung, dry_run, fresh, tell_refused=targets is not None and not hung)
        with self._alone():
            return self._all(self.candidates() if targets is None else self._named(targets), how)

    def restore(self, sessions: Sequence[str], everybody: bool = False, dry_run: bool = False) -> list[Outcome]:
        """Bring back the agents of these sessions ([]: of all) that ended, whoever supervises them and whatever the
        rules of time say; with `everybody` also those that left or were stopped on purpose.

        Raises UsageError for an unknown session, TryLater while another recovery runs.
        """
        with self._alone():
            known = sorted({agent.session for agent in self.control.registered})
            for session in sessions:
                if session not in known:
                    near = options.near(session, known)
                    raise UsageError(f"no agent of a session {session!r} is registered{near}: see orc-agent list")
            those = [agent for agent in self.control.registered if not sessions or agent.session in sessions]
            ended = ("dead", "gone") if everybody else ("dead",)
            seen = [one for one in self.control.look(those) if one.state in ended]
            self._missed = {one.agent.key for one in seen if one.agent.role == managers.ROLE}
            return self._all(seen, How(free=True, dry_run=dry_run, tell_refused=True))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        lock = Lock(self.home.run + "/recovery.lock", self._patience)
        try:
            lock.acquire()
        except TryLater as error:
            raise Busy(str(error)) from None
        try:
            self.control.look_anew()  # another recovery may just have ended
            yield
        finally:
            lock.close()

    def _named(self, targets: Sequence[str]) -> list[Seen]:
        agents = {agent.key: agent for agent in map(self.control.find, targets)}
        return self.control.look(list(agents.values()))

    # one after the other

    def _all(self, seen: Iterable[Seen], how: How) -> list[Outcome]:
        """Project managers first, so that each team finds its own when it is back."""
        seen = sorted(seen, key=lambda one: one.agent.role != managers.ROLE)
        self._lost = incidents.lost_servers(one.agent for one in seen if one.state == "dead")
        done: list[Outcome] = []
        try:
            for one in seen:
                spaced = any(other.action == RESPAWNED for other in done)
                outcome = self._one(one, how, spaced)
                done.append(outcome)
                if not how.dry_run:
                    self._tell(one, outcome, how)
        finally:
            if not how.dry_run:
                self._append(reports.to_managers(done, self.control.registered, self._lost, self._source))
        return done

    def _one(self, seen: Seen, how: How, spaced: bool) -> Outcome:
        past = load(self.home).get(seen.agent.key, Past())
        outcome = self._judge(seen, past, how)
        if outcome.action == RESPAWNED and not how.dry_run:
            if spaced:
                self._sleep(self.control.settings.get("recovery.spacing_s"))
            if not how.force and self._runs_by_now(seen.agent):
                return Outcome(seen.agent.key, REFUSED, RUNNING, len(past.starts), session=seen.agent.session)
            self._start(seen, past, outcome, how)
        if seen.agent.key in self._missed and _is_over_with(outcome) and not how.dry_run:
            self._succeed(seen, outcome, past)
        outcome.attempt = len(past.starts)
        if how.why and outcome.action == RESPAWNED:
            outcome.reason += f" ({how.why})"
        return outcome

    def _judge(self, seen: Seen, past: Past, how: How) -> Outcome:
        """What is to be done: RESPAWNED, or REFUSED."""
        key, now = seen.agent.key, clock.now_ns()
        refused, ended = _refusal(seen, how.force), _ended_ns(seen, now)
        free = how.free or refused
        verdict = policy.Verdict() if free else policy.judge(past, _ran_ns(seen, ended), now, self._rules)
        if refused or not verdict.allowed:
            wait_s = -(-verdict.wait_ns // 10**8) / 10
            return Outcome(key, REFUSED, refused or verdict.reason, wait_s=wait_s, session=seen.agent.session)
        lost = next((server for server in self._lost if key in server.agents), None)
        reason = f"its {lost.name()} ended" if lost else seen.why or "by force"
        return Outcome(key, RESPAWNED, reason, session=seen.agent.session)

    def _start(self, seen: Seen, past: Past, outcome: Outcome, how: How) -> None:
        now = clock.now_ns()
        ended = _ended_ns(seen, now)
        outcome.downtime_ms = max(0, now - ended) // 1_000_000
        if how.free:
            past.starts.clear()
        policy.started(past, _ran_ns(seen, ended), now, self._rules)
        note(self.home, seen.agent.key, past)
        try:
            outcome.session_id = self.control.restart(seen, how.force, how.fresh).resumed or None
        except (OrcError, OSError) as error:
            if not how.force and self._runs_by_now(seen.agent):
                outcome.action, outcome.reason = REFUSED, RUNNING
                return
            outcome.action, outcome.reason = FAILED, str(error)
            outcome.new = past.tells(f"{_death(seen.agent)} {error}")
            note(self.home, seen.agent.key, past)

    def _succeed(self, seen: Seen, outcome: Outcome, past: Past) -> None:
        """Its own command brings no project manager back: another one does, or everybody hears that there is none."""
        try:
            argv = succession.command(self.control, seen.agent)
            if argv:
                past.starts, past.short_runs = [clock.now_ns()], 0
                note(self.home, seen.agent.key, past)
                succession.start(self.control, seen.agent, argv)
                outcome.action, outcome.reason = RESPAWNED, f"by agents.pm_command, after: {outcome.reason}"
                return
        except (OrcError, OSError) as error:
            outcome.action, outcome.reason = FAILED, str(error)
        outcome.alerted = True
        if past.tells(f"{_death(seen.agent)} no project manager"):
            note(self.home, seen.agent.key, past)
            to = self.control.settings.get("delivery.escalate_to")
            self._append([reports.no_manager(outcome, to, self._source)])

    def _runs_by_now(self, agent: Agent) -> bool:
        """Somebody may have started it while we waited for its turn."""
        now = registry.resolve(registry.load(self.home), agent.key)
        return now is not None and now.alive()

    # telling

    def _tell(self, seen: Seen, one: Outcome, how: How) -> None:
        """The log; one that is back, of itself; a team, of its project manager."""
        if one.action == REFUSED and not how.tell_refused:
            return  # nobody asked for it by name
        told = [reports.recorded(one, self._source)] if one.new else []
        if one.action == RESPAWNED:
            told.append(self._briefing(seen, one))
            if seen.agent.role == managers.ROLE:
                told += reports.manager_is_back(one, self.control.registered, self._source)
        self._append(told)

    def _briefing(self, seen: Seen, one: Outcome) -> dict[str, object]:
        agent = seen.agent
        interest = inbox.of_agent(self.control.registered, self.control.settings.groups, agent.key)
        ended = _ended_ns(seen, 0) if seen.state in ("dead", "gone") else clock.now_ns()
        text = briefing.text(agent, briefing.recall(self.home, agent, interest, ended), one.reason)
        return reports.notice(text, [agent.key], one, self._source, "high")

    def _append(self, events: list[dict[str, object]]) -> None:
        if events:
            Log(self.home).append(events)


def by_hand(control: Control, agent: Agent, force: bool, fresh: bool = False) -> None:
    """Somebody starts it again and knows what they do: what was tried before no longer counts.

    Raises UsageError when it runs and not `force`.
    """
    again = control.restart(control.look([agent])[0], force, fresh)
    note(control.home, agent.key, Past())
    done = Outcome(agent.key, RESPAWNED, "by hand", session_id=again.resumed or None, session=agent.session)
    told = [reports.recorded(done, control.source)]
    if agent.role == managers.ROLE:
        told += reports.manager_is_back(done, control.registered, daemon_source("recovery"))
    Log(control.home).append(told)


def load(home: Home) -> dict[str, Past]:
    """What was done, by the agent's key. A damaged file counts as empty: too early beats never."""
    try:
        stored = fastjson.loads(files.read(home.run + "/recovery.json") or b"{}")
    except ValueError:
        return {}
    return {key: Past.from_dict(one) for key, one in stored.items()} if isinstance(stored, dict) else {}


def note(home: Home, key: str, past: Past) -> None:
    """What was done for one agent. Under a lock of its own, since a recovery of many takes minutes. Raises TryLater."""
    with Lock(home.run + "/recovery.json.lock"):
        pasts = load(home) | {key: past}
        data = fastjson.dumps({key: one.to_dict() for key, one in pasts.items() if one.starts or one.told})
        files.replace(home.run + "/recovery.json", data.encode("ascii"))


def wanted(seen: Sequence[Seen], who: str = runner.MONITOR) -> list[Seen]:
    """Who of all agents is to be started again by this supervisor: its own that ended and whose `--restart` says that
    they come back; and, by the monitor, the project managers whom a team misses."""
    missed = succession.leaderless(seen, _stays) if who == runner.MONITOR else []
    return [one for one in seen if one in missed or (one.agent.supervisor == who and comes_back(one))]


def would_come_back(agent: Agent, who: str = runner.MONITOR) -> bool:
    """If it died, would this supervisor start it again?"""
    return agent.supervisor == who and agent.restart != "never" and not agent.adopted and not agent.ended


def comes_back(seen: Seen) -> bool:
    """Has it ended in a way after which its `--restart` wants it back?"""
    if seen.agent.adopted or seen.agent.ended:
        return False
    return seen.state in {"never": (), "crash": ("dead",), "always": ("dead", "gone")}[seen.agent.restart]


def _stays(seen: Seen) -> bool:
    """Does it run, or will somebody bring it back?"""
    return seen.state not in ("dead", "gone") or (comes_back(seen) and seen.agent.supervisor != runner.NONE)


def _refusal(seen: Seen, force: bool) -> str:
    """Why this one is not to be started again whatever the rules of time say; "" if nothing stands against it."""
    if seen.agent.adopted:
        return ADOPTED
    if seen.state in ("dead", "gone") or force:
        return ""
    return RUNNING


def _is_over_with(one: Outcome) -> bool:
    """Does its own command bring it back no more?"""
    return one.action == FAILED or (one.action == REFUSED and one.reason in (policy.BREAKER, ADOPTED))


def _death(agent: Agent) -> str:
    """Names the process that ended."""
    return f"{agent.pid}.{agent.pid_start}"


def _ended_ns(seen: Seen, now: int) -> int:
    return _ns(seen.since, now) if seen.state in ("dead", "gone") else now


def _ran_ns(seen: Seen, ended: int) -> int:
    return ended - _ns(seen.agent.registered, ended)


def _ns(stamp: str | None, otherwise: int) -> int:
    try:
        return clock.parse_stamp(stamp or "")
    except ValueError:
        return otherwise
