"""Events come in: who gets them, which are acknowledged, what an earlier life of the broker still owed.

Each line of the log is taken once, in order. What it asks for is noted in the journal before the place in the log
moves on, so a crash takes it again or not, but never loses it.
"""

from __future__ import annotations

from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.delivery import routing
from tmux_orchestrator.delivery.acks import Acks, cancelled_id
from tmux_orchestrator.delivery.bucket import WINDOW_NS
from tmux_orchestrator.delivery.journal import Owed
from tmux_orchestrator.delivery.lane import Lane
from tmux_orchestrator.delivery.ledger import Event, Ledger, Place
from tmux_orchestrator.delivery.routing import Delivery, Directory, Routing
from tmux_orchestrator.delivery.stored import checked, read_again
from tmux_orchestrator.delivery.typist import Typist
from tmux_orchestrator.delivery.waiting import Item
from tmux_orchestrator.eventlog.ack import acknowledged_id
from tmux_orchestrator.eventlog.daylog import parse_stamp
from tmux_orchestrator.eventlog.event import RECORDS, short
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.ground.errors import OrcError

Key = tuple[str, str]

_NOT_TYPED = {routing.DROP: "dropped by a rule", routing.LOG: "monitoring is not typed"}


class Intake:
    """Owns the lanes; the dispatcher empties them."""

    def __init__(self, settings: Config, ledger: Ledger, typist: Typist) -> None:
        self.ledger = ledger
        self.typist = typist
        self.lanes: dict[str, Lane] = {}
        self.acks = Acks(1.0)
        self.directory = Directory([], {})
        self.damaged = 0
        self.delivered: set[Key] = set()  # by an earlier life, as the log says and the journal does not
        self.unended: set[Key] = set()  # of these, what nobody remembers but the log, which tells no end
        self.lately: list[Key] = []  # of these, what the last minute saw: target and kind of frame
        self.cancelled: dict[str, str] = {}  # id -> why: what stands in the log beyond what an earlier life took in
        self._parked: dict[Key, Event] = {}  # --queue: by id and name, for names that nobody has yet
        self.configure(settings)

    def configure(self, settings: Config) -> None:
        """Take the configuration, or a new one, into use."""
        self.settings = settings
        self._rules = [routing.Rule(rule) for rule in settings.rules]
        self.directory = Directory(self.directory.agents, settings.groups)
        self.acks.timeout_ns = int(settings.get("delivery.ack_timeout") * 1e9)
        for one in self.lanes.values():
            one.configure(settings.get)
            self._release(one)

    def _release(self, one: Lane) -> None:
        """What a rule held, and no rule holds any more, goes on."""
        for item in [item for item in one.outbox.waiting() if item.action == routing.HOLD]:
            priority, action = self._judged(self._routed(item.event), item.event, one.key)
            if action != routing.HOLD:
                one.outbox.end(item.id, "")
                self._admit(item.event, one.key, priority, action)

    def register(self, agents: list[Agent]) -> None:
        """The registry changed: who is there now."""
        self.directory = Directory(agents, self.settings.groups)
        self.ledger.agents = set(self.directory.by_key)
        for one in self.lanes.values():
            one.agent = self.directory.by_key.get(one.key)
            one.due_at = min(one.due_at, clock.boot_ns()) if one.flight is None else one.due_at
        self._unpark()

    def _unpark(self) -> None:
        """Somebody of that name may have come: what was owed to the name is owed to the agent from now on."""
        for (event_id, name), event in list(self._parked.items()):
            owed = self.ledger.owed(event_id, name)
            routed = self._routed({**event, "to": {"targets": [name]}})
            problem = next(iter(routed.problems), None)
            if owed is None or (problem is not None and problem.reason == routing.ABSENT):
                continue
            del self._parked[event_id, name]
            others = {one.target.key for one in self._routed({**event, "to": {}}).deliveries}  # by a rule, before
            deliveries = [one for one in routed.deliveries if one.target.key not in others]
            self._hand_out(event, deliveries, (owed.day, owed.offset, owed.length))
            if problem is not None:
                self._refuse(event, name, problem.reason, problem.advice)
            else:
                self.ledger.close(event_id, name)

    def lane(self, key: str) -> Lane:
        """The lane of a target; a new one the first time."""
        one = self.lanes.get(key)
        if one is None:
            one = self.lanes[key] = Lane(key, self.settings.get)
            one.agent = self.directory.by_key.get(key)
        return one

    # lines of the log

    def forget_panes(self) -> None:
        """Lines have come that are newer than the last look at the panes. One look serves all of them."""
        if self.directory.has_looked:
            self.directory = Directory(self.directory.agents, self.settings.groups)

    def take(self, line: bytes, place: Place) -> None:
        """One line of the log, and where it stands."""
        if self.ledger.outcomes.wrote(line):
            return
        event = checked(line)
        if event is None:
            self.damaged += bool(line.strip())
            return
        try:
            self._take(event, place)
        except (OrcError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            self.damaged += 1  # no line that somebody wrote by hand may stop the others

    def _take(self, event: Event, place: Place) -> None:
        wanted = acknowledged_id(event)
        if wanted is not None:
            self._acknowledged(wanted, event)
        kind = event["message"]["type"]
        if kind == "clear_queues":
            self._clear(event)
        if kind == "cancel":
            self._cancel(cancelled_id(event), f"cancelled by {event['source'].get('identifier')}")
        if kind not in RECORDS:
            self._route(event, place)

    def _routed(self, event: Event) -> Routing:
        if routing.needs_panes(event, self.directory, self._rules):
            self.directory = Directory(self.directory.agents, self.settings.groups, self.typist.panes())
        get = self.settings.get
        quiet = get("monitoring.disable_tmux_messages")
        return routing.route(event, self.directory, self._rules, get("delivery.max_hops"), quiet)

    def _route(self, event: Event, place: Place) -> None:
        """Owe it to everybody it is for, and refuse what names nobody."""
        routed = self._routed(event)
        self.ledger.expect(event["id"], len(routed.deliveries) + len(routed.problems))
        self._hand_out(event, routed.deliveries, place)
        if not routed.deliveries and not routed.problems:
            self._tell_nobody(event)
        for text, reason, advice in routed.problems:
            if reason == routing.ABSENT and event["metadata"].get("queue"):
                self._park(event, text, place)
            else:
                self._refuse(event, text, routing.UNKNOWN if reason == routing.ABSENT else reason, advice)

    def _tell_nobody(self, event: Event) -> None:
        """It was addressed, to empty groups or to nobody but its sender: that is its end, and no failure."""
        addressed = [*(event["to"].get("targets") or ()), *(event["to"].get("groups") or ())]
        if addressed:
            self.ledger.record(event["id"], ",".join(addressed)[:128], "digested", "nobody is there", final=True)

    def _hand_out(self, event: Event, deliveries: list[Delivery], place: Place) -> None:
        for target, priority, action in deliveries:
            self._owe(event, target.key, priority, action, place)

    def _owe(self, event: Event, target: str, priority: str, action: str, place: Place) -> None:
        event_id = event["id"]
        if (event_id, target) in self.delivered or self.ledger.owed(event_id, target) is not None:
            return
        if action not in _NOT_TYPED:
            self.ledger.owe(event_id, target, place)
        self._admit(event, target, priority, action)

    def _admit(self, event: Event, target: str, priority: str, action: str) -> None:
        """Let it wait for its turn, or end it where a rule, or a cancel further on in the log, says so."""
        event_id = event["id"]
        if action in _NOT_TYPED or event_id in self.cancelled:
            ended = ("digested", _NOT_TYPED[action]) if action in _NOT_TYPED else ("expired", self.cancelled[event_id])
            self.ledger.record(event_id, target, *ended, final=True)
            self.ledger.close(event_id, target)
            return
        one = self.lane(target)
        self.ledger.ended(target, one.outbox.add(self._item(event, priority, action), clock.now_ns()))
        if action == routing.HOLD and self.ledger.once(event["id"], target, routing.BY_RULE):
            self.ledger.record(event["id"], target, "held", routing.BY_RULE)
        if (one.flight is None or one.pulls()) and not one.failures and (not one.hold or one.hold == "agent_gone"):
            one.due_at = 0

    def _item(self, event: Event, priority: str, action: str) -> Item:
        message, metadata = event["message"], event["metadata"]
        created = parse_stamp(event["timestamp"])
        expires, not_before = routing.times(event)
        if expires is None:
            ttl = "delivery.notification_ttl" if message["type"] == "notification" else "delivery.ttl"
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

    def _park(self, event: Event, target: str, place: Place) -> None:
        """Keep it for a name that will come."""
        if self.ledger.owed(event["id"], target) is None:
            self.ledger.owe(event["id"], target, place)
            self.ledger.record(event["id"], target, "held", routing.ABSENT)
        self._parked[event["id"], target] = event

    def _refuse(self, event: Event, target: str, reason: str, advice: str) -> None:
        self.ledger.record(event["id"], target, "failed", reason, advice=advice, final=True)
        self.ledger.close(event["id"], target)
        self.ledger.hear(event, f"{short(event['id'])} to {target}: {reason}" + (f" ({advice})" if advice else ""))

    def expire_parked(self) -> None:
        """End what waited too long for somebody who did not come."""
        now = clock.now_ns()
        for (event_id, name), event in list(self._parked.items()):
            item = self._item(event, event["message"]["priority"], routing.TYPE)
            if item.is_expired(now):
                del self._parked[event_id, name]
                self.ledger.end(name, item, "expired", "nobody of that name came")

    # acknowledging and clearing

    def _acknowledged(self, wanted: str, event: Event) -> None:
        source = event["source"]
        by = f"{source.get('session')}:{source.get('identifier')}"
        owed = list(self.ledger.journal.memory.owed)
        for event_id in {key[0] for key in owed if key[0] == wanted or (len(wanted) >= 6 and key[0].endswith(wanted))}:
            targets = {target for its_id, target in owed if its_id == event_id}
            items = {one.target: one.item for one in self.acks.acknowledged(event_id, by)}
            for target in {by} if by in targets else targets:
                one = self.lane(target)
                for end in one.outbox.end(event_id, "acked"):  # it had not been typed yet
                    items[target] = end.item
                items.update((target, item) for item in one.uncertain() if item.id == event_id)
            for target, item in items.items():
                self.ledger.end(target, item, "acked", f"by {by}" if source.get("session") else "")

    def _clear(self, event: Event) -> None:
        """End everything that waits; the log keeps it."""
        reason = f"cleared by {event['source'].get('identifier')}"
        for one in self.lanes.values():
            self.ledger.ended(one.key, one.clear(reason))
        self._end_parked(list(self._parked), reason)

    def _end_parked(self, keys: list[Key], reason: str) -> None:
        for event_id, name in keys:
            del self._parked[event_id, name]
            self.ledger.record(event_id, name, "expired", reason, final=True)
            self.ledger.close(event_id, name)

    def _cancel(self, wanted: str | None, reason: str) -> None:
        """End what waits of one event, its repeats too; what is on its way into a pane is not called back."""
        for one in self.lanes.values():
            ends = one.clear(reason, wanted) if wanted else []
            for end in ends:
                self.acks.forget(end.item.id, one.key)
            self.ledger.ended(one.key, ends)
        self._end_parked([key for key in self._parked if key[0] == wanted], reason)

    def remind(self) -> None:
        """Repeat what nobody acknowledged; after the last repeat, escalate it."""
        for awaited in self.acks.due(clock.now_ns()):
            item, one = awaited.item, self.lane(awaited.target)
            if item.id in one.outbox:
                continue
            if awaited.repeats >= self.settings.get("delivery.ack_repeats"):
                self._escalate(item, awaited.target)
                continue
            self.ledger.ended(one.key, one.outbox.add(item.again(awaited.repeats + 1), clock.now_ns()))

    def _escalate(self, item: Item, target: str) -> None:
        self.acks.forget(item.id, target)
        repeats = self.settings.get("delivery.ack_repeats")
        text = f"Nobody acknowledged {short(item.id)} to {target} after {repeats} repeats: {item.subject or item.text}"
        to = tuple(self.settings.get("delivery.escalate_to"))
        self.ledger.outcomes.say(text[:500], "escalation", {"event": item.id, "target": target}, "high", to)
        self.ledger.end(target, item, "dead", "not_acknowledged")

    # after a restart

    def restore(self, boot_id: str) -> None:
        """Take over what the journal says an earlier life owed, and what it typed in the last minute."""
        memory = self.ledger.journal.memory
        self._remember(boot_id)
        for event_id, target in sorted(self.unended):
            self.ledger.record(event_id, target, "typed", "unconfirmed", final=True)
        for (event_id, target), owed in list(memory.owed.items()):
            event = read_again(self.ledger.home, event_id, owed)
            if (event_id, target) in self.delivered:
                self.ledger.close(event_id, target)
            elif event is None:
                self.ledger.record(event_id, target, "dead", "no longer in the log", final=True)
                self.ledger.close(event_id, target)
            else:
                self._restore(event, target, owed)
        self._unpark()
        for event_id, reason in self.cancelled.items():
            self._cancel(event_id, reason)

    def _remember(self, boot_id: str) -> None:
        """Fill the windows. What may have been typed until the very end of that life counts as typed now."""
        now = clock.boot_ns()
        typed = [(now, target, kind) for target, kind in self.lately]
        for (target, boot, ns, event_id), intent in list(self.ledger.journal.memory.intents.items()):
            if boot == boot_id and not intent.at:
                self.ledger.journal.note("landed", event_id, target, boot, ns, now)
            # Of an earlier boot: it is older than this one.
            typed.append((intent.at if boot == boot_id else 0, target, intent.kind))
        for at, target, kind in sorted(typed):
            if now - at <= WINDOW_NS:
                self.lane(target).remember(kind, at)

    def _restore(self, event: Event, target: str, owed: Owed) -> None:
        routed = self._routed(event)
        self.ledger.expect(event["id"], len(routed.deliveries) + len(routed.problems))
        if ":" not in target:  # a name that nobody had
            self._parked[event["id"], target] = event
            return
        item = self._item(event, *self._judged(routed, event, target))
        item.repeat = owed.repeat
        one = self.lane(target)
        one.was_held({reason: clock.boot_ns() - (clock.now_ns() - since) for reason, since in owed.told.items()})
        if owed.typed_ns or owed.doubts:
            one.unsettled.append(item)
        else:
            self.ledger.ended(target, one.outbox.add(item, clock.now_ns()))

    @staticmethod
    def _judged(routed: Routing, event: Event, target: str) -> tuple[str, str]:
        """(priority, action) of one target; as published where a rule sent it there that is gone."""
        found = next((one for one in routed.deliveries if one.target.key == target), None)
        return (found.priority, found.action) if found else (event["message"]["priority"], routing.TYPE)
