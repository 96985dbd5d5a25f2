"""The second way into an agent: its own hook hands the messages over, beside a prompt or when its turn ends.

Who is idle is typed a short line, the wake, whose prompt hook takes the parcel. Who works is typed nothing: its stop
hook takes it. A parcel is offered when its intents are on disk, and it is withdrawn before anything is done in its
stead; what nobody had taken then is no repeat, and what is gone without a word in the agent's sign is one.
"""

from __future__ import annotations

from tmux_orchestrator.agents import parcel, profiles
from tmux_orchestrator.agents.parcel import Parcel
from tmux_orchestrator.agents.profiles import Profile
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.delivery import frame
from tmux_orchestrator.delivery.bucket import SECOND
from tmux_orchestrator.delivery.hooks import Hooks
from tmux_orchestrator.delivery.lane import MS, PULL, SILENT, WAKE, Flight, Lane
from tmux_orchestrator.delivery.ledger import Ledger
from tmux_orchestrator.delivery.typist import View
from tmux_orchestrator.delivery.waiting import HIGH
from tmux_orchestrator.eventlog.event import short
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.errors import OrcError
from tmux_orchestrator.ground.paths import Home

WAIT, BACK, LOST = "wait", "back", "lost"
_HANDING_NS = 3 * SECOND  # so long at most after it took a parcel a hook says so: it ends before
_GATHER_NS = 200 * MS  # so long a parcel that waits stays as it is, before what has come since joins it
_LOOK_NS = SECOND
_MUTE = 3  # wakes in a row that no hook answers: the process is not woken any more


class Parcels:
    """Offers parcels, and says what becomes of them."""

    def __init__(self, home: Home, hooks: Hooks, ledger: Ledger) -> None:
        self._home = home
        self.hooks = hooks
        self.ledger = ledger

    def way(self, one: Lane, agent: Agent, profile: Profile, view: View) -> str:
        """How the lane's next messages get there: WAKE, PULL, SILENT (typed, for want of a hook) or "" (typed)."""
        if profile.deliver != profiles.WAKE:
            return ""
        sign = self.hooks.sign(agent)
        if sign is None or not sign.state:
            return SILENT
        pid, wakes, at = one.silence
        if pid == agent.pid and (wakes >= _MUTE or (wakes and sign.at <= at)):
            return SILENT
        return PULL if self.hooks.works(agent, view) else WAKE

    def offer(self, one: Lane, flight: Flight) -> bool:
        """Let the hook have it; False when the system refuses."""
        assert flight.agent is not None
        sign = self.hooks.sign(flight.agent)
        flight.sign_at, flight.beside = (0 if sign is None else sign.at), len(one.outbox)
        try:
            parcel.offer(self._home, flight.agent, Parcel([short(one) for one in flight.ids], flight.parcel))
        except OrcError:
            return False
        return True

    def has_spoken(self, flight: Flight) -> bool:
        """Has a hook of the agent spoken since this was last asked of the parcel?"""
        assert flight.agent is not None
        sign = self.hooks.sign(flight.agent)
        before, flight.sign_at = flight.sign_at, 0 if sign is None else sign.at
        return before != flight.sign_at

    def stands(self, agent: Agent, view: View) -> bool:
        """Is the wake for what is offered in the input box, and nobody has pressed its key?"""
        ids = parcel.offered(self._home, agent) if view.reason == "draft" else []
        return bool(ids) and view.drafts(frame.wake_mark(ids))

    def left(self, agent: Agent) -> set[str]:
        """Take back what an earlier life of the broker offered, or what is in doubt: the ids that nobody took."""
        try:
            return set(parcel.withdraw(self._home, agent))
        except OrcError:
            return set()

    def recall(self, flight: Flight, now: int) -> str:
        """Take it back: BACK if nobody has it, WAIT as long as the hook that has it may say so, LOST if it cannot."""
        assert flight.agent is not None
        try:
            ids = parcel.withdraw(self._home, flight.agent)
        except OrcError:
            return WAIT
        if short(flight.ids[0]) in ids:
            return BACK
        flight.gone_at = flight.gone_at or now
        return WAIT if flight.agent.alive() else LOST

    def verdict(self, one: Lane, flight: Flight, view: View, patience_ns: int) -> str:
        """What becomes of a parcel that no sign tells of: WAIT, BACK (it was not had) or LOST (it may have been)."""
        now, agent = clock.boot_ns(), flight.agent
        assert agent is not None
        if flight.gone_at:
            return LOST if now - flight.gone_at > _HANDING_NS else WAIT
        if view.reason == "agent_gone":
            return self.recall(flight, now)
        if flight.way == PULL:
            return self.recall(flight, now) if self._is_over(one, flight, view, now) else WAIT
        if now - flight.typed_at <= patience_ns:
            return WAIT
        if self.hooks.works(agent, view):
            flight.way = PULL  # the CLI keeps the wake until its turn has ended, and the stop hook is first
            return WAIT
        verdict = self.recall(flight, now)
        if verdict == BACK:
            pid, wakes, _ = one.silence
            one.silence = (agent.pid, 1 + (wakes if pid == agent.pid else 0), clock.now_ns())
        return verdict

    def _is_over(self, one: Lane, flight: Flight, view: View, now: int) -> bool:
        """Is a parcel that waits for the end of a turn better taken back? Whatever is still to come is chosen anew."""
        assert flight.agent is not None and one.agent is not None
        if one.recalls or one.agent.paused:
            return True
        wall = clock.now_ns()
        if any(self.ledger.owed(item.id, one.key) is None or item.is_expired(wall) for item in flight.typing.all()):
            return True
        if view.reason:
            return False  # nothing could be typed
        if not self.hooks.works(flight.agent, view) or (one.outbox.precedes(HIGH) and one.room(now).critical):
            return True
        return self._gathers(one, flight) and now - flight.intended_at > _GATHER_NS

    @staticmethod
    def _gathers(one: Lane, flight: Flight) -> bool:
        """Has something come that would be in it if it were made up now?"""
        last = max(item.rank for item in flight.typing.items)
        return len(one.outbox) > flight.beside and (not flight.full or one.outbox.precedes(last))

    def next_look(self, one: Lane, flight: Flight, now: int) -> None:
        """When a parcel that waits for the end of a turn is looked after again, unless something happens."""
        soon = max(now + 10 * MS, flight.intended_at + _GATHER_NS + MS)
        one.due_at = soon if self._gathers(one, flight) else now + _LOOK_NS
