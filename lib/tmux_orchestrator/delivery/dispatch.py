"""The heart of the broker: events come in, frames go out, and what became of each is told.

`take` turns a line of the log into owed deliveries; `step` gives every lane that is due its turn: look at all their
panes in one go, choose what each may have, put the intents on disk, type, tell the outcomes. Both are called by the
broker's loop, which alone waits. A crash between any two lines is mended by `restore` from the journal: what was
owed is owed still, and an intent without an end is looked for on the screen before anything is typed again.
"""

from __future__ import annotations

import os

from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.delivery import frame, lane, routing
from tmux_orchestrator.delivery.acks import REPEATS, Acks, acknowledged_id
from tmux_orchestrator.delivery.bucket import MINUTE
from tmux_orchestrator.delivery.journal import Journal, Owed
from tmux_orchestrator.delivery.lane import CRITICAL, LINE, NORMAL, Flight, Lane
from tmux_orchestrator.delivery.outbox import LINE as LINE_FRAME
from tmux_orchestrator.delivery.outbox import MESSAGE, End, Item, Outbox, Typing
from tmux_orchestrator.delivery.outcomes import Outcomes
from tmux_orchestrator.delivery.typist import Typist, View
from tmux_orchestrator.eventlog import reader
from tmux_orchestrator.eventlog.daylog import day_file, parse_stamp
from tmux_orchestrator.eventlog.event import RECORDS, short
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.ground.paths import Home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Event = dict[str, Any]

_BATCH = 64  # frames of one lane in one turn, where nothing has to be looked at between them
_EMPTY_LOOKS = 3  # an input box that stays empty has let our text go, even if it is nowhere to be seen
_NOT_TYPED = {routing.DROP: "dropped by a rule", routing.LOG: "monitoring is not typed"}


class Dispatcher:
    """Everything that the broker knows. Not thread-safe."""

    def __init__(self, home: Home, settings: Config, journal: Journal, outcomes: Outcomes, typist: Typist) -> None:
        self.home = home
        self.journal = journal
        self.outcomes = outcomes
        self.typist = typist
        self.lanes: dict[str, Lane] = {}
        self.directory = routing.Directory([], {})
        self.damaged = 0
        self._boot = clock.boot_id()
        self._parked: dict[str, Event] = {}  # --queue: by id, for names that nobody has yet
        self._delivered: set[tuple[str, str]] = set()
        self._targets: dict[str, int] = {}  # event id -> how many targets it has, while one is owed
        self.acks = Acks(1.0)
        self.configure(settings)

    def configure(self, settings: Config) -> None:
        """Take the configuration, or a new one, into use."""
        self.settings = settings
        self._rules = [routing.Rule(rule) for rule in settings.rules]
        self.directory = routing.Directory(self.directory.agents, settings.groups)
        self.acks.timeout_ns = int(settings.get("delivery.ack_timeout") * 1e9)
        self._confirm_ns = int(settings.get("delivery.confirm_timeout") * 1e9)
        for one in self.lanes.values():
            if one.per_minute != settings.get("monitoring.max_messages_per_minute"):
                self.lanes[one.key] = self._rebuilt(one)

    def register(self, agents: list[Agent]) -> None:
        """The registry changed: who is there now."""
        self.directory = routing.Directory(agents, self.settings.groups)
        for one in self.lanes.values():
            before, one.agent = one.agent, self.directory.by_key.get(one.key)
            if before is None or one.agent is None or before.pid != one.agent.pid or one.hold == "paused":
                one.due_at = 0
        for event in [self._parked.pop(event_id) for event_id in list(self._parked)]:
            for target in event["to"]["targets"]:  # owed to the name until now, to the agent from now on
                if (event["id"], target) in self.journal.memory.owed:
                    owed = self.journal.memory.owed[event["id"], target]
                    place = (owed.day, owed.offset, owed.length)
                    self.journal.note("end", event["id"], target)
                    self._route(event, place)

    # taking in

    def take(self, line: bytes, place: tuple[str, int, int]) -> None:
        """One line of the log, and where it stands: (day, offset, length)."""
        event = reader.decode(line)
        if event is None:
            self.damaged += bool(line.strip())
            return
        try:
            self._take(event, place)
        except (KeyError, TypeError, AttributeError, ValueError):
            self.damaged += 1  # JSON, but no event: somebody wrote it by hand

    def _take(self, event: Event, place: tuple[str, int, int]) -> None:
        acknowledged = acknowledged_id(event)
        if acknowledged is not None:
            self._acknowledged(acknowledged, event)
        kind = event["message"]["type"]
        if kind == "clear_queues":
            self._clear(event)
        if kind not in RECORDS:
            self._route(event, place)

    def _routed(self, event: Event) -> routing.Routing:
        if routing.needs_panes(event, self.directory, self._rules):
            self.directory = routing.Directory(self.directory.agents, self.settings.groups, self.typist.panes())
        get = self.settings.get
        quiet = get("monitoring.disable_tmux_messages")
        return routing.route(event, self.directory, self._rules, get("delivery.max_hops"), quiet)

    def _route(self, event: Event, place: tuple[str, int, int]) -> None:
        """Owe it to everybody it is for, and refuse what names nobody."""
        routed = self._routed(event)
        self._targets[event["id"]] = len(routed.deliveries) + len(routed.problems)
        for delivery in routed.deliveries:
            self._owe(event, delivery, place)
        for target, reason, advice in routed.problems:
            if reason == routing.ABSENT and (event.get("metadata") or {}).get("queue"):
                self._park(event, target, place)
            else:
                self._refuse(event, target, routing.UNKNOWN if reason == routing.ABSENT else reason, advice)

    def _owe(self, event: Event, delivery: routing.Delivery, place: tuple[str, int, int]) -> None:
        key = (event["id"], delivery.target.key)
        if key in self._delivered:
            return
        if delivery.action in (routing.DROP, routing.LOG):
            self.outcomes.record(
                *key, "digested", _NOT_TYPED[delivery.action], targets=self._targets[key[0]], final=True
            )
            return
        if key in self.journal.memory.owed:
            return
        self.journal.note("add", *key, *place)
        one = self._lane(delivery.target.key)
        item = self._item(event, delivery.priority, delivery.action)
        self._ended(one, one.outbox.add(item, clock.now_ns()))
        if one.hold in ("", "agent_gone") and one.flight is None:
            one.due_at = min(one.due_at, clock.boot_ns())
        if one.hold:
            self._tell_hold(one)

    def _item(self, event: Event, priority: str, action: str) -> Item:
        message, metadata = event["message"], event.get("metadata") or {}
        created = parse_stamp(event["timestamp"])
        ttl = "delivery.notification_ttl" if message["type"] == "notification" else "delivery.ttl"
        expires, not_before = routing.times(event)
        if expires is None:
            expires = (not_before or created) + int(self.settings.get(ttl) * 1e9)
        return Item(
            id=event["id"],
            seq=event["seq"],
            sender=routing.sender_key(event),
            priority=priority,
            text=message["content"]["body"],
            subject=message["content"].get("subject") or "",
            tags=tuple(metadata.get("tags") or ()),
            created_ns=created,
            expires_ns=expires,
            not_before_ns=not_before,
            supersede=metadata.get("supersedes"),
            requires_ack=bool(metadata.get("requires_ack")),
            action=action,
            event=event,
        )

    def _park(self, event: Event, target: str, place: tuple[str, int, int]) -> None:
        if (event["id"], target) not in self.journal.memory.owed:
            self.journal.note("add", event["id"], target, *place)
            self.outcomes.record(event["id"], target, "held", "not_registered")
        self._parked[event["id"]] = event

    def _refuse(self, event: Event, target: str, reason: str, advice: str) -> None:
        self.outcomes.record(
            event["id"], target, "failed", reason, targets=self._targets.get(event["id"], 1), final=True
        )
        self._hear(event, f"{short(event['id'])} to {target}: {reason}" + (f" ({advice})" if advice else ""))
        if (event["id"], target) in self.journal.memory.owed:
            self.journal.note("end", event["id"], target)

    def _hear(self, event: Event, line: str) -> None:
        """Let the sender know, if it is an agent: everybody else reads the log."""
        source = event["source"]
        sender = f"{source.get('session')}:{source.get('identifier')}"
        if sender in self.directory.by_key:
            self.outcomes.failed(sender, line)

    def _lane(self, key: str) -> Lane:
        one = self.lanes.get(key)
        if one is None:
            one = self.lanes[key] = self._new_lane(key)
            one.agent = self.directory.by_key.get(key)
        return one

    def _new_lane(self, key: str) -> Lane:
        get = self.settings.get
        limit = get("monitoring.max_messages_per_minute")
        box = Outbox(limit=limit, queue_size=get("delivery.queue_size"), digest_ms=get("delivery.digest_ms"))
        return Lane(key, limit, get("delivery.critical_per_minute"), box)

    def _rebuilt(self, old: Lane) -> Lane:
        """The same lane under another bound; what waits and what was typed come along."""
        new = self._new_lane(old.key)
        new.agent, new.flight, new.hold = old.agent, old.flight, old.hold
        for kind, window in old.windows.items():
            new.windows[kind].times = window.times
        now = clock.now_ns()
        for item in old.outbox.waiting():
            for one in item.all():
                one.same = [] if one is not item else one.same
            for one in [item, *item.same]:
                item.same = []
                new.outbox.add(one, now)
        return new

    # acknowledgments and clearing

    def _acknowledged(self, wanted: str, event: Event) -> None:
        source = event["source"]
        by = f"{source.get('session')}:{source.get('identifier')}"
        for event_id in {key[0] for key in self.journal.memory.owed if key[0] == wanted or key[0].endswith(wanted)}:
            closed = {one.target: one.item for one in self.acks.acknowledged(event_id, by)}
            for one in self.lanes.values():
                ends = one.outbox.end(event_id, "acked") if not closed or one.key in closed else []
                for end in ends:
                    closed[one.key] = end.item
            for target, item in closed.items():
                self._end(target, item, "acked", f"by {by}" if source.get("session") else "")

    def _clear(self, event: Event) -> None:
        who = str(event["source"].get("identifier"))
        for one in self.lanes.values():
            self._ended(one, one.outbox.clear("expired", f"cleared by {who}"))
        for event_id, parked in self._parked.items():
            for target in parked["to"].get("targets") or ():
                self.outcomes.record(event_id, target, "expired", f"cleared by {who}", final=True)
                self.journal.note("end", event_id, target)
        self._parked.clear()

    def _remind(self) -> None:
        """Repeat what nobody acknowledged; after the last repeat, escalate it."""
        for awaited in self.acks.due(clock.now_ns()):
            item, one = awaited.item, self._lane(awaited.target)
            if item.id in one.outbox or one.flight is not None:
                continue
            if awaited.repeats >= REPEATS:
                self._escalate(item, awaited.target)
                continue
            again = Item(**{name: getattr(item, name) for name in _COPIED}, repeat=awaited.repeats + 1)
            self._ended(one, one.outbox.add(again, clock.now_ns()))

    def _escalate(self, item: Item, target: str) -> None:
        self.acks.forget(item.id, target)
        text = f"Nobody acknowledged {short(item.id)} to {target} after {REPEATS} repeats: {item.subject or item.text}"
        context = {"event": item.id, "target": target}
        to = tuple(self.settings.get("delivery.escalate_to"))
        self.outcomes.say(text[:500], "escalation", context, "high", to)
        self._end(target, item, "dead", "not_acknowledged")

    # ends

    def _ended(self, one: Lane, ends: list[End]) -> None:
        for item, outcome, reason in ends:
            self._end(one.key, item, outcome, reason)

    def _end(self, target: str, item: Item, outcome: str, reason: str = "", **more: Any) -> None:
        """Nothing more is owed: tell it, and forget it."""
        self.outcomes.record(
            item.id, target, outcome, reason, **more, targets=self._targets.get(item.id, 1), final=True
        )
        self.acks.forget(item.id, target)
        self.journal.note("end", item.id, target)
        if (
            not any(key[0] == item.id for key in self.journal.memory.owed)
            if self._targets.get(item.id, 1) > 1
            else True
        ):
            self._targets.pop(item.id, None)
        if outcome in ("expired", "dead"):
            self._hear(item.event, f"{short(item.id)} to {target}: {outcome} {reason}".strip())

    # the turn of the lanes

    def step(self) -> None:
        """Give every lane that is due its turn."""
        self._remind()
        now = clock.boot_ns()
        due = [one for one in self.lanes.values() if one.due_at <= now and (one.flight is not None or len(one.outbox))]
        looking = [one for one in due if self._wants_look(one, now)]
        views = self.typist.look([one.agent for one in looking if one.agent is not None])
        frames: list[tuple[Lane, View, Flight, str, int]] = []
        for one in looking:
            view = views[one.key] if one.agent is not None else View("not_registered")
            if one.flight is not None:
                self._check(one, view)
            if one.flight is None:
                frames += self._choose(one, view)
        if frames:
            self._type(frames)

    def _wants_look(self, one: Lane, now: int) -> bool:
        """Is there anything to see the pane for? What the bound forbids needs no look."""
        flight = one.flight
        if flight is not None:
            if flight.submit_at:
                if flight.submit_at <= now:
                    self._submit(one, flight)
                return False
            return True
        if one.agent is not None and one.agent.paused:
            if one.hold_for("paused", now):
                self._tell_hold(one)
            return False
        return True

    def _choose(self, one: Lane, view: View) -> list[tuple[Lane, View, Flight, str, int]]:
        """What this lane types now: nothing, one frame, or a batch where nothing has to be seen in between."""
        now = clock.boot_ns()
        if view.reason:
            self._hold(one, view.reason, now)
            return []
        if one.hold:
            one.release()
        chosen: list[tuple[Lane, View, Flight, str, int]] = []
        assert one.agent is not None
        plain = view.screen is None
        while len(chosen) < (_BATCH if plain else 1):
            room = one.room(now)
            typing, ends = one.outbox.next(clock.now_ns(), room)
            self._ended(one, ends)
            if typing is None:
                for item, reason in one.outbox.held(room):
                    self.outcomes.record(item.id, one.key, "rate_limited", reason)
                if not chosen:
                    one.due_at = 0
                break
            made = self._flight(one, typing, view)
            if made is None:
                return chosen
            kind = LINE if typing.kind == LINE_FRAME else CRITICAL if typing.critical else NORMAL
            one.intend(kind, now)
            chosen.append((one, view, made, kind, now))
            now += 1
        return chosen

    def _flight(self, one: Lane, typing: Typing, view: View) -> Flight | None:
        """The frame to type; None if the screen shows that an earlier life of the broker has typed it."""
        first = typing.items[0] if typing.items else None
        owed = self._owed(one, first)
        attempt = 1 + (owed.attempt if owed is not None else 0)
        doubtful = owed is not None and owed.doubtful and typing.kind == MESSAGE
        if doubtful and first is not None and one.agent is not None:
            if self.typist.seen(one.agent, "#" + short(first.id)):
                self._accept(
                    one, Flight(typing, "", "", attempt - 1, clock.boot_ns()), "confirmed", "seen_after_restart"
                )
                return None
        text = self._text(one, typing, attempt if owed is not None and owed.doubtful else 1)
        return Flight(typing, lane.mark_of(text), text, attempt, 0)

    def _owed(self, one: Lane, item: Item | None) -> Owed | None:
        return None if item is None else self.journal.memory.owed.get((item.id, one.key))

    def _text(self, one: Lane, typing: Typing, attempt: int) -> str:
        limit = self.settings.get("delivery.max_typed_bytes")
        assert one.agent is not None
        if typing.kind == LINE_FRAME:
            return frame.digest_line(typing.count, clock.stamp(typing.since_ns)[11:16], one.agent.name)
        session = one.agent.session
        if typing.kind == MESSAGE:
            item = typing.items[0]
            repeat = max(item.repeat, attempt - 1)
            return frame.frame(item.event, item.priority, session, repeat, typing.count, limit)
        return frame.low_digest([item.event for item in typing.items], one.agent.name, session, limit)

    def _type(self, frames: list[tuple[Lane, View, Flight, str, int]]) -> None:
        for one, _, flight, kind, now in frames:
            first = flight.typing.items[0].id if flight.typing.items else ""
            self.journal.note("intent", first, one.key, flight.attempt, kind, self._boot, now)
        try:
            self.outcomes.flush()
            self.journal.sync()
        except OSError:
            for one, _, flight, kind, now in frames:
                self._untyped(one, flight, kind, now, "disk_full")
            return
        results = self.typist.type([(one.agent, view, flight.text) for one, view, flight, _, _ in frames])  # type: ignore[misc]
        for (one, _, flight, kind, now), result in zip(frames, results, strict=True):
            if result == "typed":
                self._typed(one, flight, kind, now)
            elif result == "unknown":
                self._doubt(one, flight)
            else:
                self._untyped(one, flight, kind, now, result)

    def _untyped(self, one: Lane, flight: Flight, kind: str, intended: int, reason: str) -> None:
        """The guard refused: nothing reached the pane."""
        now = clock.boot_ns()
        first = flight.typing.items[0].id if flight.typing.items else ""
        one.undo(kind, intended)
        self.journal.note("undone", first, one.key, self._boot, intended)
        self._ended(one, one.outbox.back(flight.typing, clock.now_ns()))
        if reason == "moved":
            one.moves += 1
            one.due_at = now + 10 * lane.MS
        else:
            self._hold(one, reason, now)

    def _doubt(self, one: Lane, flight: Flight) -> None:
        """tmux took it and did not answer: look before typing again, and give up after too many."""
        now = clock.boot_ns()
        get = self.settings.get
        tries = one.failed(now, get("delivery.breaker_failures"), int(get("delivery.breaker_open") * 1e9))
        if flight.attempt >= get("delivery.retries") or tries > get("delivery.retries"):
            self._ended(one, one.outbox.done(flight.typing, "dead", "tmux_does_not_answer"))
        else:
            self._ended(one, one.outbox.back(flight.typing, clock.now_ns()))

    def _typed(self, one: Lane, flight: Flight, kind: str, intended: int) -> None:
        now, wall = clock.boot_ns(), clock.now_ns()
        agent = one.agent
        assert agent is not None
        profile = self.typist.profile(agent)
        one.typed(kind, intended, now)
        flight.typed_ns = now
        ids = [item.id for whole in flight.typing.items for item in whole.all()]
        self.outcomes.typed(one.key, agent.pane, ids, flight.text)
        if flight.typing.kind != MESSAGE:
            self._ended(one, one.outbox.done(flight.typing))
        else:
            for item in flight.typing.items[0].all():
                self.journal.note("typed", item.id, one.key, wall)
                if profile.confirm or item.requires_ack:
                    self._say_typed(one, item, flight, wall, final=False)
        if profile.pause_ms:
            flight.submit_at = now + profile.pause_ms * lane.MS
            one.flight = flight
        elif profile.confirm:
            one.flight = flight
            one.next_evidence(now)
        else:
            self._accept(one, flight, "typed", "")

    def _say_typed(self, one: Lane, item: Item, flight: Flight, wall: int, final: bool) -> None:
        self.outcomes.record(
            item.id,
            one.key,
            "typed",
            attempt=flight.attempt,
            latency_ms=round((wall - max(item.created_ns, item.not_before_ns or 0)) / 1e6, 2),
            priority=item.priority,
            targets=self._targets.get(item.id, 1),
            final=final,
        )

    def _submit(self, one: Lane, flight: Flight) -> None:
        """The profile's pause is over: press the key."""
        assert one.agent is not None
        now = clock.boot_ns()
        result = self.typist.submit(one.agent)
        if result == "typed":
            flight.submit_at = 0
            flight.typed_ns = now
            one.next_evidence(now)
        elif result == "agent_gone" or now - flight.typed_ns > self._confirm_ns:
            flight.submit_at = 0
            self._accept(one, flight, "typed", f"not_submitted: {result}")
        else:
            flight.submit_at = now + 50 * lane.MS

    # evidence

    def _check(self, one: Lane, view: View) -> None:
        """Was it submitted? The text beyond the input box says so, or a box that stays empty."""
        flight = one.flight
        assert flight is not None and one.agent is not None
        now = clock.boot_ns()
        age = now - flight.typed_ns
        if view.reason == "agent_gone":
            return self._accept(one, flight, "typed", "agent_gone")
        ours = view.in_composer(flight.mark)
        if view.screen is not None and not ours:
            if view.shows(flight.mark):
                return self._accept(one, flight, "confirmed", "")
            flight.empty_looks = flight.empty_looks + 1 if view.screen.composer == "empty" else 0
            if flight.empty_looks >= _EMPTY_LOOKS and age > 500 * lane.MS:
                return self._accept(one, flight, "confirmed", "composer_empty")
        if age > self._confirm_ns:
            return self._accept(one, flight, "typed", "not_submitted" if ours else "unconfirmed")
        if ours and age > 300 * lane.MS and not flight.pressed_again and view.reason == "draft":
            flight.pressed_again = True
            self.typist.submit(one.agent)
        one.next_evidence(now)
        return None

    def _accept(self, one: Lane, flight: Flight, outcome: str, reason: str) -> None:
        """The frame has had its end, except for those that must be acknowledged."""
        one.flight, one.due_at = None, 0
        if flight.typing.kind != MESSAGE:
            return
        wall = clock.now_ns()
        items = [end.item for end in one.outbox.done(flight.typing)]
        for item in items:
            more: dict[str, Any] = {"attempt": flight.attempt}
            if outcome == "typed" and not reason and not item.requires_ack:
                self._say_typed(one, item, flight, wall, final=True)
                self._forget(item, one.key)
            elif item.requires_ack:
                if outcome == "confirmed":
                    self.outcomes.record(
                        item.id, one.key, outcome, reason, **more, targets=self._targets.get(item.id, 1)
                    )
                self.acks.typed(item, one.key, wall)
            else:
                if outcome == "confirmed":
                    more["latency_ms"] = round((wall - max(item.created_ns, item.not_before_ns or 0)) / 1e6, 2)
                self._end(one.key, item, outcome, reason, **more)
        if reason.startswith("not_submitted"):
            for item in items:
                self._hear(item.event, f"{short(item.id)} to {one.key}: typed, but not submitted")

    def _forget(self, item: Item, target: str) -> None:
        self.journal.note("end", item.id, target)
        self._targets.pop(item.id, None)

    # holds

    def _hold(self, one: Lane, reason: str, now: int) -> None:
        one.hold_for(reason, now)
        self._tell_hold(one)

    def _tell_hold(self, one: Lane) -> None:
        """Say once per message and reason that it is held; a dead agent's messages have failed until it is back."""
        reason = one.hold
        outcome = "failed" if reason == "agent_gone" else "held"
        late = clock.boot_ns() - one.held_since > self.settings.get("delivery.hold_notice") * 1e9
        for whole in one.outbox.waiting():
            for item in whole.all():
                owed = self._owed(one, item)
                if owed is None:
                    continue
                if reason not in owed.told:
                    self.journal.note("told", item.id, one.key, reason)
                    self.outcomes.record(item.id, one.key, outcome, reason, targets=self._targets.get(item.id, 1))
                    if outcome == "failed":
                        self._hear(
                            item.event, f"{short(item.id)} to {one.key}: the agent is gone; it waits until it is back"
                        )
                elif late and "late" not in owed.told:
                    self.journal.note("told", item.id, one.key, "late")
                    self._hear(item.event, f"{short(item.id)} to {one.key}: held, {reason}")

    # times and restarts

    def wake_at(self) -> int:
        """When, on the boot clock, `step` should be called next; a second away at the latest."""
        boot, wall = clock.boot_ns(), clock.now_ns()
        latest = boot + lane.SECOND
        times = [at for at in (one.wake_at(boot, wall) for one in self.lanes.values()) if at is not None]
        if self.acks.next_ns is not None:
            times.append(boot + max(0, self.acks.next_ns - wall))
        return min([latest, *times])

    def restore(self) -> None:
        """Take over what the journal says an earlier life owed."""
        boot = clock.boot_ns()
        for (target, its_boot, ns, _), kind in self.journal.memory.intents.items():
            since = ns if its_boot == self._boot else 0  # of an earlier boot: it is as old as this one at least
            if boot - since < MINUTE + 6 * lane.SECOND:
                self._lane(target).remember(kind, since, boot)
        for (event_id, target), owed in list(self.journal.memory.owed.items()):
            event = self._read_again(event_id, owed)
            if event is None:
                self.outcomes.record(event_id, target, "dead", "no longer in the log", final=True)
                self.journal.note("end", event_id, target)
            else:
                self._restore(event, target, owed)

    def _restore(self, event: Event, target: str, owed: Owed) -> None:
        routed = self._routed(event)
        self._targets[event["id"]] = max(1, len(routed.deliveries) + len(routed.problems))
        delivery = next((one for one in routed.deliveries if one.target.key == target), None)
        if delivery is not None:
            item = self._item(event, delivery.priority, delivery.action)
        elif any(problem.target == target for problem in routed.problems):
            self._parked[event["id"]] = event
            return
        else:
            item = self._item(event, event["message"]["priority"], routing.TYPE)
        one = self._lane(target)
        if owed.typed_ns and item.requires_ack:
            self.acks.typed(item, target, owed.typed_ns)
        elif owed.typed_ns:
            self._end(target, item, "typed", "unconfirmed")
        else:
            self._ended(one, one.outbox.add(item, clock.now_ns()))

    def _read_again(self, event_id: str, owed: Owed) -> Event | None:
        try:
            with open(day_file(self.home, owed.day), "rb") as file:
                event = reader.decode(os.pread(file.fileno(), owed.length, owed.offset))
        except OSError:
            event = None
        if event is not None and event.get("id") == event_id:
            return event
        return reader.find(self.home, event_id)

    def skip(self, delivered: set[tuple[str, str]]) -> None:
        """What the log says has been delivered already: without a journal, the log is read again."""
        self._delivered = delivered


_COPIED = ("id", "seq", "sender", "priority", "text", "subject", "tags", "created_ns", "requires_ack", "event")
