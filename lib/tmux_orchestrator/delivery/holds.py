"""A pane that must be left alone: for how long, and who is told why.

Each reason is said once for each message, over restarts too; of a long hold the sender hears, once.
"""

from __future__ import annotations

from tmux_orchestrator.delivery.bucket import SECOND
from tmux_orchestrator.delivery.intake import Intake
from tmux_orchestrator.delivery.lane import Lane
from tmux_orchestrator.delivery.ledger import Ledger
from tmux_orchestrator.delivery.turns import NO_ROOM
from tmux_orchestrator.delivery.typist import View
from tmux_orchestrator.delivery.waiting import Item
from tmux_orchestrator.eventlog.event import short
from tmux_orchestrator.ground import clock, files

_EVIDENCE_AFTER_NS = 60 * SECOND  # a screen that nobody understands for so long is kept for whoever mends the profile


class Holds:
    """Holds lanes, and tells of it."""

    def __init__(self, intake: Intake, ledger: Ledger) -> None:
        self.intake = intake
        self.ledger = ledger

    def hold(self, one: Lane, reason: str, now: int) -> None:
        """Leave the pane alone, and say once per message and reason that it is held.

        A dead agent's messages have failed until it is back; of a long hold the sender hears, once.
        """
        one.hold_for(reason, now)
        outcome = "failed" if reason == "agent_gone" else "held"
        wall = clock.now_ns()
        due = [whole for whole in one.outbox.waiting() if whole.is_due(wall)]
        waiting = [each for whole in [*one.unsettled, *due] for each in whole.all()]
        self.tell(one, waiting, outcome, reason)
        if outcome == "held" and now - one.held_since > int(self.intake.settings.get("delivery.hold_notice") * 1e9):
            for item in waiting:
                if self.ledger.once(item.id, one.key, "late"):
                    self.ledger.hear(item.event, f"{short(item.id)} to {one.key}: held for long, {reason}")
        ends = one.outbox.next(wall, NO_ROOM)[1]
        self.ledger.ended(one.key, ends)

    def tell(self, one: Lane, items: list[Item], outcome: str, reason: str) -> None:
        for item in items:
            if self.ledger.once(item.id, one.key, reason):
                self.ledger.record(item.id, one.key, outcome, reason)
                if outcome == "failed":
                    self.ledger.hear(item.event, f"{short(item.id)} to {one.key}: it is gone; waits until it is back")

    def keep_evidence(self, one: Lane, view: View, now: int) -> None:
        """Keep what a profile does not understand: a new release of the CLI may look different."""
        if view.screen is None or now - one.held_since < _EVIDENCE_AFTER_NS:
            return
        assert one.agent is not None
        path = f"{self.ledger.home.run}/evidence/{one.agent.profile}@{one.agent.name}.txt"
        files.replace(path, "\n".join(view.screen.text).encode("utf-8", "replace"), sync=False)
