"""Frames go out: each lane that is due gets its turn, and every keystroke has its intent on disk first.

A turn looks at all panes that are due in one go, chooses what each may have, puts the intents on disk, types, and
tells the outcomes. Confirmation runs behind: a typed frame is in flight until the screen shows that it was
submitted. After a crash, an intent without an end is looked for on the screen before it is typed again.
"""

from __future__ import annotations

from typing import Any

from tmux_orchestrator.delivery import frame
from tmux_orchestrator.delivery.bucket import SECOND
from tmux_orchestrator.delivery.intake import Intake
from tmux_orchestrator.delivery.lane import CRITICAL, LINE, MS, NORMAL, Flight, Lane, mark_of, tail_of
from tmux_orchestrator.delivery.ledger import Ledger
from tmux_orchestrator.delivery.outbox import LINE as LINE_FRAME
from tmux_orchestrator.delivery.outbox import MESSAGE, NO_ROOM, Item, Typing
from tmux_orchestrator.delivery.typist import Typist, View
from tmux_orchestrator.eventlog.event import short
from tmux_orchestrator.ground import clock, files

_BATCH = 64  # frames of one lane in one turn, where nothing has to be looked at between them
_STEADY_MOVES = 20  # refusals because the screen moved, after which its cursor is no longer asked for
# When the submit key is pressed once more, while the input box still holds our text: a CLI that starts drops keys.
_PRESS_AGAIN_NS = (300 * MS, 1000 * MS, 2500 * MS)
_EVIDENCE_AFTER_NS = 60 * SECOND  # a screen that nobody understands for so long is kept for whoever mends the profile

Chosen = tuple[Lane, View, Flight]


class Dispatcher:
    """Empties the lanes that the intake fills."""

    def __init__(self, intake: Intake, ledger: Ledger, typist: Typist, boot_id: str) -> None:
        self.intake = intake
        self.ledger = ledger
        self.typist = typist
        self._boot_id = boot_id

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
        self.intake.remind()
        now = clock.boot_ns()
        looking = [one for one in self.intake.lanes.values() if one.busy() and self._wants_look(one, now)]
        views = self.typist.look([one.agent for one in looking if one.agent is not None])
        frames: list[Chosen] = []
        for one in looking:
            view = views[one.key] if one.agent is not None else View("not_registered")
            if one.flight is not None:
                self._check(one, one.flight, view)
            if one.flight is None:
                frames += self._choose(one, view)
        if frames:
            self._type(frames)

    def _wants_look(self, one: Lane, now: int) -> bool:
        """Is it due, and is there anything to see the pane for?"""
        flight = one.flight
        if flight is not None and flight.submit_at:
            if flight.submit_at <= now:
                self._submit(one, flight, now)
            return False
        if one.due_at > now:
            return False
        if flight is None and one.agent is not None and one.agent.paused:
            self._hold(one, "paused", now)
            return False
        return True

    # choosing

    def _choose(self, one: Lane, view: View) -> list[Chosen]:
        """What this lane types now: nothing, one frame, or a batch where nothing has to be seen in between."""
        now = clock.boot_ns()
        if view.reason or one.agent is None:
            self._hold(one, view.reason, now)
            if view.reason == "no_composer":
                self._keep_evidence(one, view, now)
            return []
        one.release()
        if one.moves >= _STEADY_MOVES:
            view.ignore_cursor()
        chosen: list[Chosen] = []
        most = _BATCH if view.screen is None else 1
        while len(chosen) < most:
            room = one.room(now)
            typing, ends = one.outbox.next(clock.now_ns(), room)
            self.ledger.ended(one.key, ends)
            if typing is None:
                for item, reason in one.outbox.held(room):
                    self.ledger.record(item.id, one.key, "rate_limited", reason)
                break
            if self._was_typed(one, typing):
                continue
            kind = LINE if typing.kind == LINE_FRAME else CRITICAL if typing.critical else NORMAL
            one.intend(kind, now)
            chosen.append((one, view, self._flight(one, typing, kind, now)))
            now += 1
        return chosen

    def _was_typed(self, one: Lane, typing: Typing) -> bool:
        """Did an earlier life of the broker type this, as the screen shows?"""
        first = typing.items[0] if typing.kind == MESSAGE else None
        owed = self.ledger.owed(first.id, one.key) if first is not None else None
        if first is None or owed is None or not owed.doubtful or one.agent is None:
            return False
        if not self.typist.seen(one.agent, "#" + short(first.id)):
            return False
        self._accept(one, Flight(typing, "", owed.attempt, NORMAL, 0), "confirmed", "seen_after_restart")
        return True

    def _flight(self, one: Lane, typing: Typing, kind: str, now: int) -> Flight:
        owed = self.ledger.owed(typing.items[0].id, one.key) if typing.items else None
        tried = owed.attempt if owed is not None else 0
        text = self._text(one, typing, tried if owed is not None and owed.doubtful else 0)
        return Flight(typing, text, tried + 1, kind, now, mark_of(text), tail_of(text))

    def _text(self, one: Lane, typing: Typing, repeats: int) -> str:
        assert one.agent is not None
        name, session, limit = one.agent.name, one.agent.session, self._get("delivery.max_typed_bytes")
        if typing.kind == LINE_FRAME:
            return frame.digest_line(typing.count, clock.stamp(typing.since_ns)[11:16], name)
        if typing.kind == MESSAGE:
            item = typing.items[0]
            return frame.frame(item.event, item.priority, session, max(item.repeat, repeats), typing.count, limit)
        return frame.low_digest([item.event for item in typing.all()], name, session, limit)

    # typing

    def _type(self, frames: list[Chosen]) -> None:
        """Intents to disk, then the keystrokes, then what became of each."""
        for one, _, flight in frames:
            self.ledger.journal.note(
                "intent", flight.first_id, one.key, flight.attempt, flight.kind, self._boot_id, flight.intended_at
            )
        try:
            if not self.ledger.outcomes.flush():  # before the journal forgets what has ended
                raise OSError
            self.ledger.journal.sync()
        except OSError:
            for one, _, flight in frames:
                self._untyped(one, flight, "disk_full")
            return
        results = self.typist.type([(one.agent, view, flight.text) for one, view, flight in frames if one.agent])
        for (one, _, flight), result in zip(frames, results, strict=True):
            if result == "typed":
                self._typed(one, flight)
            elif result == "unknown":
                self._doubt(one, flight)
            else:
                self._untyped(one, flight, result)

    def _untyped(self, one: Lane, flight: Flight, reason: str) -> None:
        """Nothing reached the pane."""
        now = clock.boot_ns()
        one.undo(flight)
        self.ledger.journal.note("undone", flight.first_id, one.key, self._boot_id, flight.intended_at)
        self.ledger.ended(one.key, one.outbox.back(flight.typing, clock.now_ns()))
        if reason == "moved":
            one.moves += 1
            one.due_at = now + 10 * MS
        else:
            self._hold(one, reason, now)

    def _doubt(self, one: Lane, flight: Flight) -> None:
        """tmux took it and did not answer: look before typing again, and give up after too many."""
        one.failed(clock.boot_ns(), self._get("delivery.breaker_failures"), self._ns("delivery.breaker_open"))
        if flight.attempt > self._get("delivery.retries"):
            self.ledger.ended(one.key, one.outbox.done(flight.typing, "dead", "tmux_does_not_answer"))
        else:
            self.ledger.ended(one.key, one.outbox.back(flight.typing, clock.now_ns()))

    def _typed(self, one: Lane, flight: Flight) -> None:
        now, wall, agent = clock.boot_ns(), clock.now_ns(), one.agent
        assert agent is not None
        profile = self.typist.profile(agent)
        one.typed(flight, now)
        self.ledger.outcomes.typed(one.key, agent.pane, [item.id for item in flight.typing.all()], flight.text)
        if flight.typing.kind != MESSAGE:
            self.ledger.ended(one.key, one.outbox.done(flight.typing))
        else:
            for item in flight.typing.all():
                self.ledger.journal.note("typed", item.id, one.key, wall)
                final = not (profile.confirm or profile.pause_ms or item.requires_ack)
                self._tell(one, item, "typed", "", flight, priority=item.priority, final=final)
        if profile.pause_ms:
            one.flight, flight.submit_at = flight, now + profile.pause_ms * MS
        elif profile.confirm:
            one.flight = flight
            one.next_evidence(now)
        else:
            self._accept(one, flight, "typed", "")

    def _tell(self, one: Lane, item: Item, outcome: str, reason: str, flight: Flight, **more: Any) -> None:
        """Record a stage that was reached, with the milliseconds since the message was published or due."""
        since = max(item.created_ns, item.not_before_ns or 0)
        latency = round((clock.now_ns() - since) / 1e6, 2)
        self.ledger.record(item.id, one.key, outcome, reason, attempt=flight.attempt, latency_ms=latency, **more)

    def _submit(self, one: Lane, flight: Flight, now: int) -> None:
        """The profile's pause is over: press the key."""
        assert one.agent is not None
        result = self.typist.submit(one.agent)
        if result == "typed":
            flight.submit_at, flight.typed_at = 0, now
            one.next_evidence(now)
        elif result == "agent_gone" or now - flight.typed_at > self._ns("delivery.confirm_timeout"):
            flight.submit_at = 0
            self._accept(one, flight, "typed", f"not_submitted: {result}")
        else:
            flight.submit_at = now + 50 * MS

    # evidence

    def _check(self, one: Lane, flight: Flight, view: View) -> None:
        """Was it submitted? The text beyond the input box says so, or a box that held it and is empty again.

        A box that is merely empty says nothing: a CLI that is starting shows one before it reads its input.
        """
        assert one.agent is not None
        now = clock.boot_ns()
        age = now - flight.typed_at
        if view.reason == "agent_gone":
            self._accept(one, flight, "typed", "agent_gone")
            return
        ours = view.in_composer(flight.mark)
        flight.was_in_box |= ours
        if view.screen is not None and not ours:
            if view.shows(flight.mark) or (flight.tail and view.shows(flight.tail)):
                self._accept(one, flight, "confirmed", "")
                return
            if flight.was_in_box and view.screen.composer == "empty":
                self._accept(one, flight, "confirmed", "composer_empty")
                return
        if age > self._ns("delivery.confirm_timeout"):
            self._accept(one, flight, "typed", "not_submitted" if ours else "unconfirmed")
            return
        presses = flight.presses
        if ours and view.reason == "draft" and presses < len(_PRESS_AGAIN_NS) and age > _PRESS_AGAIN_NS[presses]:
            flight.presses += 1
            self.typist.submit(one.agent)
        one.next_evidence(now)

    def _accept(self, one: Lane, flight: Flight, outcome: str, reason: str) -> None:
        """The flight is over: each message has its end, or awaits its acknowledgment."""
        one.flight, one.due_at = None, 0
        if flight.typing.kind != MESSAGE:
            return
        wall = clock.now_ns()
        for item in [end.item for end in one.outbox.done(flight.typing)]:
            if outcome == "confirmed" or reason:
                self._tell(one, item, outcome, reason, flight, final=not item.requires_ack)
            if item.requires_ack:
                self.intake.acks.typed(item, one.key, wall)
            else:
                self.ledger.close(item.id, one.key)
            if reason.startswith("not_submitted"):
                self.ledger.hear(item.event, f"{short(item.id)} to {one.key}: typed, but not submitted")

    # holds

    def _hold(self, one: Lane, reason: str, now: int) -> None:
        """Leave the pane alone, and say once per message and reason that it is held.

        A dead agent's messages have failed until it is back; of a long hold the sender hears, once.
        """
        one.hold_for(reason, now)
        outcome = "failed" if reason == "agent_gone" else "held"
        late = now - one.held_since > self._ns("delivery.hold_notice")
        for item in [each for whole in one.outbox.waiting() for each in whole.all()]:
            if self.ledger.once(item.id, one.key, reason):
                self.ledger.record(item.id, one.key, outcome, reason)
                if outcome == "failed":
                    self.ledger.hear(item.event, f"{short(item.id)} to {one.key}: it is gone; waits until it is back")
            elif late and outcome == "held" and self.ledger.once(item.id, one.key, "late"):
                self.ledger.hear(item.event, f"{short(item.id)} to {one.key}: held for long, {reason}")
        ends = one.outbox.next(clock.now_ns(), NO_ROOM)[1]
        self.ledger.ended(one.key, ends)

    def _keep_evidence(self, one: Lane, view: View, now: int) -> None:
        """Keep what a profile does not understand: a new release of the CLI may look different."""
        if view.screen is None or now - one.held_since < _EVIDENCE_AFTER_NS:
            return
        assert one.agent is not None
        path = f"{self.ledger.home.run}/evidence/{one.agent.profile}@{one.agent.name}.txt"
        files.replace(path, "\n".join(view.screen.text).encode("utf-8", "replace"), sync=False)
