"""What a lane has typed next: nothing, one frame, or a batch where nothing has to be seen in between.

Choosing takes messages out of the outbox and counts them in the lane's window; the dispatcher types them, or gives
them back. Nothing is written down here but why a message waits.
"""

from __future__ import annotations

from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.delivery import frame
from tmux_orchestrator.delivery.bucket import SECOND
from tmux_orchestrator.delivery.holds import Holds
from tmux_orchestrator.delivery.intake import Intake
from tmux_orchestrator.delivery.lane import CRITICAL, LINE, MS, NORMAL, Flight, Lane, mark_of, tail_of
from tmux_orchestrator.delivery.ledger import Ledger
from tmux_orchestrator.delivery.turns import LINE as LINE_FRAME
from tmux_orchestrator.delivery.turns import MESSAGE, Typing
from tmux_orchestrator.delivery.typist import Typist, View
from tmux_orchestrator.ground import clock, proc

BATCH = 64  # frames of one lane in one go, where nothing has to be looked at between them
STEADY_MOVES = 20  # refusals because the screen moved, after which its cursor is no longer asked for
_YOUNG_NS = 10 * SECOND

Chosen = tuple[Lane, View, Flight]


class Choice:
    """Chooses from the lanes that the intake fills."""

    def __init__(self, intake: Intake, ledger: Ledger, typist: Typist, holds: Holds) -> None:
        self.intake = intake
        self.ledger = ledger
        self.typist = typist
        self.holds = holds

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
        chosen: list[Chosen] = []
        most = 1 if self.typist.profile(one.agent).composer else BATCH
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
            chosen.append((one, view, self._flight(one, typing, kind, now)))
            now += 1
        if not chosen:
            one.release()  # else it is what tmux answers that counts
        one.full = len(chosen) == most
        return chosen

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
        owed = [found for item in typing.all() if (found := self.ledger.owed(item.id, one.key)) is not None]
        attempt = 1 + max((found.attempt for found in owed), default=0)
        text = self._text(one, typing, max((found.doubts for found in owed), default=0))
        return Flight(typing, text, attempt, kind, now, one.agent.pid, mark_of(text), tail_of(text))

    def _text(self, one: Lane, typing: Typing, repeats: int) -> str:
        assert one.agent is not None
        name, session, limit = one.agent.name, one.agent.session, self.intake.settings.get("delivery.max_typed_bytes")
        if typing.kind == LINE_FRAME:
            return frame.digest_line(typing.count, clock.local_time(typing.since_ns)[:5], name)
        if typing.kind == MESSAGE:
            item = typing.items[0]
            repeat = max(item.repeat, repeats)
            return frame.frame(item.event, item.priority, session, repeat, typing.count, limit, clock.now_ns())
        text = frame.low_digest([item.event for item in typing.all()], name, session, limit, clock.now_ns())
        return text.replace("]", f" · repeat {repeats}]", 1) if repeats else text
