"""Frames go out: each lane that is due gets its turn, and every keystroke has its intent on disk first.

A turn looks at all panes that are due in one go, chooses what each may have, puts the intents on disk, types, and
tells the outcomes. Where very many wait, the next frames are made ready while tmux types the ones before; they are
typed only when all of those are in the pane, so nobody overtakes. Confirmation runs behind, in `evidence`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.delivery.bucket import SECOND
from tmux_orchestrator.delivery.choice import STEADY_MOVES, Choice, Chosen
from tmux_orchestrator.delivery.evidence import Evidence
from tmux_orchestrator.delivery.holds import Holds
from tmux_orchestrator.delivery.hooks import Hooks
from tmux_orchestrator.delivery.intake import Intake
from tmux_orchestrator.delivery.lane import MS, PULL, Flight, Lane
from tmux_orchestrator.delivery.ledger import Ledger
from tmux_orchestrator.delivery.parcels import BACK, Parcels
from tmux_orchestrator.delivery.turns import LINE as LINE_FRAME
from tmux_orchestrator.delivery.turns import MESSAGE
from tmux_orchestrator.delivery.typist import Typist, View
from tmux_orchestrator.ground import clock

_TURN = 256  # frames of one turn, if those of the first go are fewer: what is new in the log waits for these
_NO_ANSWER = "no_answer"  # tmux took the frame and did not say what became of it


class Dispatcher:
    """Empties the lanes that the intake fills."""

    def __init__(self, intake: Intake, ledger: Ledger, typist: Typist, boot_id: str) -> None:
        self.intake = intake
        self.ledger = ledger
        self.typist = typist
        self.holds = Holds(intake, ledger)
        self.hooks = Hooks(ledger.home)
        self.parcels = Parcels(ledger.home, self.hooks, ledger)
        self.choice = Choice(intake, ledger, typist, self.holds, self.parcels)
        self.evidence = Evidence(intake, ledger, typist, self.parcels, boot_id)
        self._boot_id = boot_id
        self.typed = 0  # how many frames in the last turn

    def _get(self, key: str) -> Any:
        return self.intake.settings.get(key)

    def _ns(self, key: str) -> int:
        return int(self._get(key) * 1e9)

    def wake_at(self) -> int:
        """When, on the boot clock, `step` should be called next; a second away at the latest."""
        boot, wall = clock.boot_ns(), clock.now_ns()
        times = [at for at in (one.wake_at(boot, wall) for one in self.intake.lanes.values()) if at is not None]
        if self.intake.acks.next_ns is not None:
            times.append(boot + max(0, self.intake.acks.next_ns - wall))
        return min([boot + SECOND, *times])

    def step(self) -> None:
        """Give every lane that is due its turn."""
        self.typed = 0
        self.intake.remind()
        now = clock.boot_ns()
        for one in self.intake.lanes.values():
            self.evidence.follow(one)
        looking = [one for one in self.intake.lanes.values() if one.busy() and self._wants_look(one, now)]
        closely = {one.key for one in looking if one.hold or one.unsettled}
        views = self.typist.look([one.agent for one in looking if one.agent is not None], closely)
        frames: list[Chosen] = []
        for one in looking:
            view = View("not_registered") if one.agent is None else self.hooks.judged(one.agent, views[one.key])
            if one.flight is not None:
                self.evidence.check(one, one.flight, view)
            if one.flight is None and one.unsettled:
                if view.screen is None and view.reason not in ("agent_gone", "not_registered"):
                    self.holds.hold(one, view.reason, now)
                else:
                    self.evidence.settle(one, view)
            if one.flight is None and not one.unsettled:
                if one.agent is not None and one.agent.paused:
                    self.holds.hold(one, "paused", now)
                else:
                    frames += self.choice.choose(one, view)
        if frames:
            self._type(frames)

    def _wants_look(self, one: Lane, now: int) -> bool:
        """Is it due, and is there anything to see the pane for?"""
        flight = one.flight
        if flight is not None and flight.submit_at:
            if flight.submit_at <= now:
                self.evidence.submit(one, flight, now)
            return False
        if one.rests(clock.now_ns()):
            one.release()
            return False
        if one.due_at > now:
            return False
        if flight is None and one.agent is not None and one.agent.paused:
            self.holds.hold(one, "paused", now)
            return False
        return True

    # typing

    def _type(self, frames: list[Chosen]) -> None:
        """Intents to disk, then the keystrokes, then what became of each; the next ones meanwhile."""
        told: list[tuple[Chosen, str]] = []
        frames = self._intend(frames)
        while frames:
            self.typed += len(frames)
            ahead: list[Chosen] = []
            meanwhile = partial(self._meanwhile, told, frames if self.typed < _TURN else [], ahead)
            texts = [(one.agent, view, flight.text) for one, view, flight in frames if one.agent]
            results = self.typist.type(texts, meanwhile)
            self._became(told)  # unless that was done meanwhile
            told += zip(frames, results, strict=True)
            refused = {one.key for (one, _, _), result in told if result != "typed"}
            for one, _, flight in ahead:
                if one.key in refused:  # these must not overtake
                    self.evidence.back(one, flight)
            frames = [chosen for chosen in ahead if chosen[0].key not in refused]
        self._became(told)

    def _meanwhile(self, told: list[tuple[Chosen, str]], frames: list[Chosen], ahead: list[Chosen]) -> None:
        """While tmux types `frames`: tell of what it typed before, and make ready what comes after."""
        self._became(told)
        ahead += self._intend(self._ahead(frames))

    def _intend(self, frames: list[Chosen]) -> list[Chosen]:
        """Put the intents on disk: the frames that may be typed now."""
        if not frames:
            return []
        for one, _, flight in frames:
            for number, event_id in enumerate(flight.ids):
                kind = "" if number else flight.kind
                told = event_id, one.key, flight.attempt, kind, self._boot_id, flight.intended_at
                self.ledger.journal.note("intent", *told)
        try:
            if not self.ledger.outcomes.flush():  # before the journal forgets what has ended
                raise OSError
            self.ledger.journal.sync()
        except OSError:
            for one, _, flight in frames:
                self._untyped(one, flight, "disk_full")
            return []
        return self._offered(self._open(frames))

    def _open(self, frames: list[Chosen]) -> list[Chosen]:
        """Those whose agents have not begun to ask somebody while the intents went to disk."""
        shut = {one.key for one, view, _ in frames if one.agent is not None and self.hooks.asks(one.agent, view)}
        for one, _, flight in frames if shut else ():
            if one.key in shut:
                self._untyped(one, flight, "dialog")
        return [chosen for chosen in frames if chosen[0].key not in shut]

    def _offered(self, frames: list[Chosen]) -> list[Chosen]:
        """Let the hooks have their parcels, now that the intents are on disk; the frames that are to be typed."""
        typed: list[Chosen] = []
        for chosen in frames:
            one, _, flight = chosen
            if flight.parcel and not self.parcels.offer(one, flight):
                self._untyped(one, flight, "disk_full")
            elif flight.way == PULL:
                one.flight = flight
                one.release()
                self.parcels.next_look(one, flight, clock.boot_ns())
            else:
                typed.append(chosen)
        return typed

    def _became(self, told: list[tuple[Chosen, str]]) -> None:
        """What became of each."""
        for (one, _, flight), result in told:
            if result == "typed":
                self._typed(one, flight)
            elif result == "unknown":
                self._doubt(one, flight)
            else:
                self._untyped(one, flight, result)
        told.clear()

    def _ahead(self, frames: list[Chosen]) -> list[Chosen]:
        """The next frames of the lanes that had as many as they may, and whose panes nobody has to look at again."""
        views = {one.key: (one, view) for one, view, _ in frames if one.full}
        ahead: list[Chosen] = []
        for one, view in views.values():
            profile = self.typist.profile(one.agent) if one.agent is not None else None
            if profile is not None and not (profile.composer or profile.confirm or profile.pause_ms):
                ahead += self.choice.choose(one, view)
        return ahead

    def _untyped(self, one: Lane, flight: Flight, reason: str) -> None:
        """Nothing reached the pane."""
        now = clock.boot_ns()
        if flight.parcel and self.parcels.recall(flight, now) != BACK:
            one.flight, flight.way, one.due_at = flight, PULL, now + 10 * MS  # a hook has it all the same
            return
        self.evidence.back(one, flight)
        if reason == "moved" and one.moves < STEADY_MOVES:
            one.moves += 1
            one.due_at = now + 10 * MS
        else:
            self.holds.hold(one, reason, now)

    def _doubt(self, one: Lane, flight: Flight) -> None:
        """tmux took it and did not answer: look before typing again, and give up after too many."""
        now = clock.boot_ns()
        one.landed(flight, now)
        self.evidence.resolve("landed", one, flight, now)
        one.hold_for(_NO_ANSWER, now)
        one.failed(now, self._get("delivery.breaker_failures"), self._ns("delivery.breaker_open"))
        if flight.typing.kind == LINE_FRAME:
            self.ledger.ended(one.key, one.outbox.back(flight.typing, clock.now_ns()))
        elif flight.attempt > self._get("delivery.retries"):
            if flight.agent is not None:
                self.parcels.left(flight.agent)
            self.ledger.ended(one.key, one.outbox.done(flight.typing, "dead", "tmux_does_not_answer"))
        else:
            self.holds.tell(one, flight.typing.all(), "held", _NO_ANSWER)
            one.outbox.done(flight.typing)
            one.unsettled += flight.typing.items

    def _typed(self, one: Lane, flight: Flight) -> None:
        now, agent = clock.boot_ns(), one.agent
        assert agent is not None
        profile = self.typist.profile(agent)
        flight.typed_at = now
        one.landed(flight, now)
        one.failures = one.moves = 0
        one.release()
        self.evidence.resolve("landed", one, flight, now)
        if not flight.parcel:
            self._note_typed(one, agent, flight, not (profile.confirm or profile.pause_ms))
        if profile.pause_ms:
            one.flight, flight.submit_at = flight, now + profile.pause_ms * MS
        elif profile.confirm:
            one.flight = flight
            one.next_evidence(now)
        else:
            self.evidence.accept(one, flight, "typed", "")

    def _note_typed(self, one: Lane, agent: Agent, flight: Flight, final: bool) -> None:
        """The messages themselves are in the pane. `final`: more will not be known of those that want no answer."""
        wall = clock.now_ns()
        self.ledger.outcomes.typed(one.key, agent.pane, [item.id for item in flight.typing.all()], flight.text)
        if flight.typing.kind == LINE_FRAME:
            self.ledger.ended(one.key, one.outbox.done(flight.typing))
            return
        for item in flight.typing.all():
            self.ledger.journal.note("typed", item.id, one.key, item.repeat, wall)
            if flight.typing.kind == MESSAGE:
                ends = final and not item.requires_ack
                self.evidence.tell(one, item, "typed", flight.way, flight, priority=item.priority, final=ends)
                if item.requires_ack:  # it may be acknowledged before the screen shows anything
                    self.intake.acks.typed(item, one.key, wall)
