"""What became of what was typed: the agent's hook or the screen shows that it was submitted, or time runs out.

A typed frame is in flight until then, and its lane types nothing else. What an earlier life of the broker typed,
or what tmux took without an answer, is unsettled: hook and screen are asked before it is typed again, with a mark
that it is a repeat. Each message gets its end here, or awaits its acknowledgment.
"""

from __future__ import annotations

from typing import Any

from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.delivery.intake import Intake
from tmux_orchestrator.delivery.lane import MS, NORMAL, PULL, Flight, Lane
from tmux_orchestrator.delivery.ledger import Ledger, asked
from tmux_orchestrator.delivery.parcels import BACK, LOST, Parcels
from tmux_orchestrator.delivery.turns import DIGEST, LINE, MESSAGE, Typing
from tmux_orchestrator.delivery.typist import Typist, View
from tmux_orchestrator.delivery.waiting import Item
from tmux_orchestrator.eventlog.event import short
from tmux_orchestrator.ground import clock, proc

# When the submit key is pressed once more, while the input box still holds our text: a CLI that starts drops keys.
_PRESS_AGAIN_NS = (300 * MS, 1000 * MS, 2500 * MS)
_ANSWER_NS = 1000 * MS  # so long a prompt hook has to take its parcel
_SUBMIT_AGAIN_NS = 50 * MS


def _started_ns(agent: Agent) -> int:
    """When the agent's process started, wall clock."""
    return clock.now_ns() - proc.age_ns(agent.pid_start)


class Evidence:
    """Looks after the flights and the unsettled messages of the lanes."""

    def __init__(self, intake: Intake, ledger: Ledger, typist: Typist, parcels: Parcels, boot_id: str) -> None:
        self.intake = intake
        self.ledger = ledger
        self.typist = typist
        self.parcels = parcels
        self.hooks = parcels.hooks
        self._boot_id = boot_id

    def _patience_ns(self) -> int:
        return int(self.intake.settings.get("delivery.confirm_timeout") * 1e9)

    def follow(self, one: Lane) -> None:
        """What the agent's hook says of it; nobody else will confirm what a process had that is not registered now."""
        flight = one.flight
        if flight is None:
            return
        agent = one.agent if flight.agent is None else flight.agent
        ours = agent is not None and agent.pid == flight.pid and not flight.submit_at  # else it stays in the input box
        if agent is not None and ours and self.hooks.took(agent, flight.ids, flight.intended_at):
            self._took(one, flight, agent)
        elif one.agent is not None and one.agent.pid == flight.pid:
            if one.pulls() and self.parcels.has_spoken(flight):
                one.due_at = 0
        elif one.agent is None and not flight.parcel:  # forgotten on purpose
            self.accept(one, flight, "typed", "agent_gone")
        else:
            self.lose(one, flight)

    def _took(self, one: Lane, flight: Flight, agent: Agent) -> None:
        """A prompt held it, or a hook handed it over: so it has been typed too, in a way."""
        now, wall, items = clock.boot_ns(), clock.now_ns(), flight.typing.all()
        if flight.parcel and short(flight.ids[0]) in self.parcels.left(agent):
            self._was_earlier(one, flight)
            return
        if flight.parcel:
            one.landed(flight, now)
            one.failures, one.silence = 0, (0, 0, 0)
            one.recalls.clear()  # too late
            one.release()
            self.resolve("landed", one, flight, now)
            self.ledger.outcomes.typed(one.key, agent.pane, flight.ids, flight.parcel)
            for item in items:
                self.ledger.journal.note("typed", item.id, one.key, item.repeat, wall)
                if flight.typing.kind == MESSAGE and self.ledger.owed(item.id, one.key) is not None:
                    self.tell(one, item, "typed", flight.way, flight, priority=item.priority, final=False)
        self.accept(one, flight, "confirmed", "hook")

    def _was_earlier(self, one: Lane, flight: Flight) -> None:
        """The parcel was there still: a hook that an earlier life had offered one to says only now what was in that."""
        one.flight, one.due_at = None, 0
        one.undo(flight)
        self.resolve("undone", one, flight)
        one.outbox.done(flight.typing)
        one.unsettled += flight.typing.items

    def back(self, one: Lane, flight: Flight) -> None:
        """Nothing reached the agent after all: it waits again, and what was acknowledged meanwhile does not."""
        if one.flight is flight:
            one.flight, one.due_at = None, 0
        one.undo(flight)
        self.resolve("undone", one, flight)
        self._wait_again(one, flight)

    def _wait_again(self, one: Lane, flight: Flight) -> None:
        self.ledger.ended(one.key, one.outbox.back(flight.typing, clock.now_ns()))
        recalls, one.recalls = one.recalls, {}
        for item in flight.typing.all():
            reason = recalls.get(item.id) or recalls.get("")
            if self.ledger.owed(item.id, one.key) is None:
                one.outbox.end(item.id, "")
            elif reason:
                self.intake.acks.forget(item.id, one.key)
                self.ledger.ended(one.key, one.outbox.end(item.id, "expired", reason))

    def resolve(self, how: str, one: Lane, flight: Flight, *at: int) -> None:
        """Note in the journal what became of the intent."""
        for event_id in flight.ids:
            self.ledger.journal.note(how, event_id, one.key, self._boot_id, flight.intended_at, *at)

    def submit(self, one: Lane, flight: Flight, now: int) -> None:
        """The profile's pause is over: press the key."""
        assert one.agent is not None
        result = "dialog" if self.hooks.asked(one.agent, flight.typed_at) else self.typist.submit(one.agent)
        if result == "typed":
            flight.submit_at, flight.typed_at = 0, now
            one.next_evidence(now)
        elif result == "agent_gone":
            self.lose(one, flight)
        elif now - flight.typed_at > self._patience_ns():
            flight.submit_at = 0
            if flight.parcel:  # the wake stays in the input box, and what it is for is offered as long as it does
                one.flight, one.due_at = None, 0
                one.outbox.done(flight.typing)
                one.unsettled += flight.typing.items
                return
            self.accept(one, flight, "typed", f"not_submitted: {result}")
        else:
            flight.submit_at = now + _SUBMIT_AGAIN_NS

    def check(self, one: Lane, flight: Flight, view: View) -> None:
        """Was it submitted? The agent's hook says so, the text beyond the input box, or an empty box that had held it.

        A box that is merely empty says nothing: a CLI that is starting shows one before it reads its input.
        """
        assert one.agent is not None
        if flight.parcel:
            self._check_parcel(one, flight, view)
            return
        now = clock.boot_ns()
        age = now - flight.typed_at
        if view.reason == "agent_gone":
            self.lose(one, flight)
            return
        ours = view.in_composer(flight.mark)
        flight.was_in_box |= ours
        if view.screen is not None and not ours:
            if view.shows(flight.mark) or (flight.tail and view.shows(flight.tail)):
                self.accept(one, flight, "confirmed", "")
                return
            if flight.was_in_box and view.screen.composer == "empty":
                self.accept(one, flight, "confirmed", "composer_empty")
                return
        if age > self._patience_ns():
            self.accept(one, flight, "typed", "not_submitted" if ours else "unconfirmed")
            return
        if ours and view.reason == "draft":
            self._press_again(one.agent, flight, age)
        one.next_evidence(now)

    def _press_again(self, agent: Agent, flight: Flight, age: int) -> None:
        presses = flight.presses
        if presses < len(_PRESS_AGAIN_NS) and age > _PRESS_AGAIN_NS[presses]:
            flight.presses += 1
            self.typist.submit(agent)

    def _check_parcel(self, one: Lane, flight: Flight, view: View) -> None:
        """A hook has not handed it over yet: does it go on waiting?"""
        assert one.agent is not None
        now = clock.boot_ns()
        verdict = self.parcels.verdict(one, flight, view, self._patience_ns())
        if verdict == BACK:
            self.back(one, flight)
        elif verdict == LOST:
            self.lose(one, flight)
        elif flight.way == PULL:
            self.parcels.next_look(one, flight, now)
        else:
            if view.reason == "draft" and view.in_composer(flight.mark):
                self._press_again(one.agent, flight, now - flight.typed_at)
            one.next_evidence(now)

    def settle(self, one: Lane, view: View) -> None:
        """Confirm what hook or screen shows, submit what stands in the input box, and type anew what was in doubt."""
        if one.agent is not None and one.presses < len(_PRESS_AGAIN_NS) and self.parcels.stands(one.agent, view):
            one.presses, one.due_at = one.presses + 1, clock.boot_ns() + _ANSWER_NS
            self.typist.submit(one.agent)
            return
        waiting, one.unsettled, one.presses = one.unsettled, [], 0
        left = self.parcels.left(one.agent) if one.agent is not None else set()
        for item in waiting:
            owed = self.ledger.owed(item.id, one.key)
            if owed is None:
                continue  # acknowledged meanwhile
            now = clock.boot_ns()
            pid = one.agent.pid if one.agent is not None else 0
            typing = Typing(MESSAGE, [item], len(item.all()), item.created_ns)
            flight = Flight(typing, "", owed.attempt, NORMAL, now, pid, f"#{short(item.id)}")
            if self._hook_took(one, item):
                self.accept(one, flight, "confirmed", "hook")
            elif short(item.id) in left:
                self._offered_only(one, item)
            elif view.drafts(flight.mark):
                if one.flight is None:
                    flight.typed_at, one.flight = now, flight
                    one.next_evidence(now)
                else:
                    one.unsettled.append(item)
            elif view.shows(flight.mark):
                self.accept(one, flight, "confirmed", "seen_later")
            elif not owed.typed_ns:
                self.ledger.ended(one.key, one.outbox.add(item, clock.now_ns()))
            elif view.reason == "agent_gone" or (one.agent is not None and owed.typed_ns < _started_ns(one.agent)):
                self.lose(one, flight)
            elif item.requires_ack:
                self.intake.acks.typed(item, one.key, owed.typed_ns)
            else:
                self.accept(one, flight, "typed", "unconfirmed")

    def _hook_took(self, one: Lane, item: Item) -> bool:
        """Did a prompt hold it since it was last typed? Of an earlier time that is no evidence."""
        if one.agent is None or not self.hooks.took(one.agent, [item.id], 0):
            return False
        return self.hooks.took(one.agent, [item.id], self.ledger.journal.memory.last_intent(item.id, one.key)[0])

    def _offered_only(self, one: Lane, item: Item) -> None:
        """Its parcel was still there: whatever became of the wake, nobody has had the message."""
        ns, boot = self.ledger.journal.memory.last_intent(item.id, one.key)
        self.ledger.journal.note("undone", item.id, one.key, boot, ns)
        self.ledger.ended(one.key, one.outbox.add(item, clock.now_ns()))

    def lose(self, one: Lane, flight: Flight) -> None:
        """The process ended before it showed that it took the frame: whoever comes back gets it again, as a repeat.

        Not for ever, for it may be the message that ends it. Of a digest each message stays readable, and of a
        program whose input box nobody can see more than `typed` is never known.
        """
        if flight.parcel and self.parcels.recall(flight, clock.boot_ns()) == BACK:
            self.back(one, flight)
            return
        if one.flight is flight:
            one.flight, one.due_at = None, 0
        known = one.agent is not None and self.typist.profile(one.agent).confirm
        if flight.typing.kind != MESSAGE or not known or flight.attempt > self.intake.settings.get("delivery.retries"):
            self.accept(one, flight, "typed", "agent_gone")
            return
        for item in flight.typing.all():
            self.ledger.journal.note("lost", item.id, one.key)
        self._wait_again(one, flight)

    def accept(self, one: Lane, flight: Flight, outcome: str, reason: str) -> None:
        """The flight is over: each message has its end, or awaits its acknowledgment."""
        if one.flight is flight or one.flight is None:
            one.flight, one.due_at = None, 0
        if flight.typing.kind == LINE:
            return
        ends, wall = one.outbox.done(flight.typing), clock.now_ns()
        if flight.typing.kind == DIGEST:
            self.ledger.ended(one.key, ends)
            return
        for item in [end.item for end in ends]:
            if self.ledger.owed(item.id, one.key) is None:
                continue  # acknowledged meanwhile
            if outcome == "confirmed" or reason:
                self.tell(one, item, outcome, reason, flight, final=not item.requires_ack)
            if item.requires_ack:
                self.intake.acks.typed(item, one.key, wall)
            else:
                self.ledger.close(item.id, one.key)
            if reason.startswith("not_submitted"):
                self.ledger.hear(item.event, f"{short(item.id)} to {one.key}: typed, but not submitted")

    def tell(self, one: Lane, item: Item, outcome: str, reason: str, flight: Flight, **more: Any) -> None:
        """Record a stage that was reached, with the milliseconds since the message was published or due."""
        since = max(item.created_ns, item.not_before_ns or 0)
        latency = round((clock.now_ns() - since) / 1e6, 2)
        more |= {"attempt": flight.attempt, "latency_ms": latency, **asked(item.event)}
        self.ledger.record(item.id, one.key, outcome, reason, **more)
