"""What a lane has typed next: nothing, one frame, or a batch where nothing has to be seen in between.

Choosing takes messages out of the outbox and counts them in the lane's window; the dispatcher types them, or gives
them back. Nothing is written down here but why a message waits.
"""

from __future__ import annotations

from tmux_orchestrator.agents import parcel
from tmux_orchestrator.agents.profiles import Profile
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.delivery import frame
from tmux_orchestrator.delivery.bucket import SECOND
from tmux_orchestrator.delivery.holds import Holds
from tmux_orchestrator.delivery.intake import Intake
from tmux_orchestrator.delivery.lane import (
    CRITICAL,
    LINE,
    MS,
    NORMAL,
    PULL,
    SILENT,
    WAKE,
    Flight,
    Lane,
    mark_of,
    tail_of,
)
from tmux_orchestrator.delivery.ledger import Ledger
from tmux_orchestrator.delivery.parcels import Parcels
from tmux_orchestrator.delivery.turns import LINE as LINE_FRAME
from tmux_orchestrator.delivery.turns import MESSAGE, Typing
from tmux_orchestrator.delivery.typist import Typist, View
from tmux_orchestrator.delivery.waiting import RANKS, Item, count_of
from tmux_orchestrator.ground import clock, proc

BATCH = 64  # frames of one lane in one go, where nothing has to be looked at between them
STEADY_MOVES = 20  # refusals because the screen moved, after which its cursor is no longer asked for
_YOUNG_NS = 10 * SECOND
_BETWEEN = "\n\n"  # two messages of a parcel
_HEADER_BYTES = 400  # that a header, and what a message that was cut ends with, have at most
_USUAL_BYTES = 256  # of a message in a parcel, with its header

Chosen = tuple[Lane, View, Flight]


class Choice:
    """Chooses from the lanes that the intake fills."""

    def __init__(self, intake: Intake, ledger: Ledger, typist: Typist, holds: Holds, parcels: Parcels) -> None:
        self.intake = intake
        self.ledger = ledger
        self.typist = typist
        self.holds = holds
        self.parcels = parcels

    def choose(self, one: Lane, view: View) -> list[Chosen]:
        """What this lane types now: nothing, one frame, or a batch where nothing has to be seen in between."""
        now = clock.boot_ns()
        if view.reason or one.agent is None:
            self.holds.hold(one, view.reason, now)
            if view.reason == "no_composer":
                self.holds.keep_evidence(one, view, now)
            return []
        if self._settles(one, one.agent, now):
            self.holds.hold(one, "starting", now)
            return []
        if one.moves >= STEADY_MOVES:
            view.ignore_cursor()
        profile = self.typist.profile(one.agent)
        way = self._way(one, one.agent, profile, view)
        chosen: list[Chosen] = []
        most = 1 if profile.composer else BATCH
        while len(chosen) < most:
            room = one.room(now)
            typing, ends = one.outbox.next(clock.now_ns(), room)
            self.ledger.ended(one.key, ends)
            if typing is None:
                for item, reason in one.outbox.held(room):
                    if self.ledger.once(item.id, one.key, reason):
                        self.ledger.record(item.id, one.key, "rate_limited", reason)
                break
            kind = LINE if typing.kind == LINE_FRAME else CRITICAL if typing.critical else NORMAL
            one.intend(kind, now)
            if way in (WAKE, PULL) and kind == NORMAL:
                flight = self._parcel(one, typing, way, profile.hook_bytes, now)
            else:
                flight = self._flight(one, typing, kind, now)
                flight.way = SILENT if way == SILENT and kind == NORMAL else ""
            chosen.append((one, view, flight))
            now += 1
        if not chosen:
            one.release()  # else it is what tmux answers that counts
        one.full = len(chosen) == most
        return chosen

    def _way(self, one: Lane, agent: Agent, profile: Profile, view: View) -> str:
        """How its messages get there; the bounds are laid out for that."""
        way = self.parcels.way(one, agent, profile, view)
        parcels = max(1, profile.hook_bytes // _USUAL_BYTES) if way in (WAKE, PULL) else 0
        if one.parcels != parcels:
            one.parcels = parcels
            one.configure(self.intake.settings.get)
        return way

    def _settles(self, one: Lane, agent: Agent, now: int) -> bool:
        """Has it just started? Some CLIs show their input box a while before they read what is typed."""
        settle_ns = self.typist.profile(agent).settle_ms * MS
        if not settle_ns or proc.age_ns(agent.pid_start) > _YOUNG_NS:
            return False
        if one.ready[0] != agent.pid:
            one.ready = (agent.pid, now)
        return now - one.ready[1] < settle_ns

    def _flight(self, one: Lane, typing: Typing, kind: str, now: int) -> Flight:
        assert one.agent is not None
        text = self._text(one, typing, self.intake.settings.get("delivery.max_typed_bytes"))
        attempt = self._attempt(one, typing)
        return Flight(typing, text, attempt, kind, now, one.agent.pid, mark_of(text), tail_of(text))

    def _parcel(self, one: Lane, typing: Typing, way: str, most: int, now: int) -> Flight:
        """A frame of the window that holds as many messages as the hook may hand over, each in a frame of its own."""
        agent = one.agent
        assert agent is not None
        parts = [self._text(one, typing, most - _HEADER_BYTES)]
        left = most - len(parts[0].encode("utf-8"))
        full = False

        def fits(item: Item) -> bool:
            nonlocal left, full
            part = self._message(one, item, most - _HEADER_BYTES)
            size = len(part.encode("utf-8")) + len(_BETWEEN)
            full = size > left or len(typing.all()) + len(item.all()) > parcel.MOST
            if not full:
                left -= size
                parts.append(part)
            return not full

        while typing.kind == MESSAGE and one.outbox.join(typing, fits):
            pass
        items = typing.all()
        priority = min((item.priority for item in items), key=RANKS.__getitem__)
        text = frame.wake([item.event for item in items], priority, agent.name, agent.session)
        flight = Flight(typing, text, self._attempt(one, typing), NORMAL, now, agent.pid, mark_of(text))
        flight.way, flight.parcel, flight.agent, flight.full = way, _BETWEEN.join(parts), agent, full
        return flight

    def _attempt(self, one: Lane, typing: Typing) -> int:
        owed = [self.ledger.owed(item.id, one.key) for item in typing.all()]
        return 1 + max((found.attempt for found in owed if found is not None), default=0)

    def _doubts(self, one: Lane, items: list[Item]) -> int:
        owed = [self.ledger.owed(item.id, one.key) for item in items]
        return max((found.doubts for found in owed if found is not None), default=0)

    def _text(self, one: Lane, typing: Typing, most: int) -> str:
        assert one.agent is not None
        name, session = one.agent.name, one.agent.session
        if typing.kind == LINE_FRAME:
            return frame.digest_line(typing.count, clock.local_time(typing.since_ns)[:5], name)
        if typing.kind == MESSAGE:
            return self._message(one, typing.items[0], most)
        repeats, events = self._doubts(one, typing.all()), [item.event for item in typing.all()]
        return frame.low_digest(events, name, session, most, clock.now_ns(), repeats)

    def _message(self, one: Lane, item: Item, most: int) -> str:
        assert one.agent is not None
        repeats = max(item.repeat, self._doubts(one, item.all()))
        count = count_of([item])
        return frame.frame(item.event, item.priority, one.agent.session, repeats, count, most, clock.now_ns())
