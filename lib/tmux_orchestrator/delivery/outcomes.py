"""What became of a message, told in the day file; and what its sender must hear.

Records are gathered and written in groups: they survive a kill -9 of the broker, and after a power cut the journal
makes the broker say again what is missing. Nothing ever delivers a record, so no loop can feed itself. Senders that
are agents get one grouped notification about what did not reach its target; everybody else reads the log.
"""

from __future__ import annotations

from tmux_orchestrator.eventlog import event
from tmux_orchestrator.eventlog.daylog import Log, daemon_source, prepare
from tmux_orchestrator.ground import clock, fastjson, files
from tmux_orchestrator.ground.errors import DataError, OrcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tmux_orchestrator.eventlog.daylog import Prepared
    from tmux_orchestrator.ground.paths import Home

_GROUPED_NS = 1_000_000_000  # a sender hears of its failures at most so long after the first
_MOST_NAMED = 5
_KEPT = 10_000  # records that wait while the disk refuses; older ones are in the journal still


class Outcomes:
    """Gathers records, notifications and the diary of what was typed; `flush` writes them."""

    def __init__(self, home: Home, log: Log) -> None:
        self._home = home
        self._log = log
        self._source = daemon_source("broker")
        self._records: list[Prepared] = []
        self._forms = {kind: _form(self._source, kind) for kind in ("delivery", "rate_limited")}
        self._failed: dict[str, tuple[int, list[str]]] = {}  # sender's key -> (since, lines)
        self._diary: list[str] = []
        self.problem = ""  # why the last `flush` failed
        self._heads = tuple(_head(event.build("-", self._source, type=kind)) for kind in ("delivery", "rate_limited"))

    def wrote(self, line: bytes) -> bool:
        """Is this line of the log one of our own records? Said at a glance, as there are as many as messages."""
        return line.startswith(self._heads, line.find(b'"source": ', 0, 256))

    def record(self, event_id: str, target: str, outcome: str, reason: str = "", **more: Any) -> None:
        """One `delivery` event. `more`: attempt, latency_ms, targets (how many the event has)."""
        context = {"event": event_id, "target": target, "outcome": outcome, "reason": reason, **more}
        text = f"{outcome} {target}" + (f": {reason}" if reason else "")
        head, before_context, before_id, tail = self._forms["rate_limited" if outcome == "rate_limited" else "delivery"]
        said, told, name = fastjson.string(text), fastjson.dumps(context), fastjson.string(event_id)
        self._records.append((None, f"{head}{said}{before_context}{told}{before_id}{name}{tail}"))

    def say(
        self, text: str, kind: str, context: dict[str, Any], priority: str = "normal", to: tuple[str, ...] = ()
    ) -> None:
        """An event of the broker's own, for whoever reads the log or, with `to`, for these targets."""
        self._add(text, kind, context, None, priority, to)

    def failed(self, sender: str, line: str) -> None:
        """Tell a sender, with others of its failures, what did not reach its target."""
        self._failed.setdefault(sender, (clock.boot_ns(), []))[1].append(line)

    def typed(self, target: str, pane: str, event_ids: list[str], text: str) -> None:
        """Keep what was typed, to whom."""
        entry = {"time": clock.stamp(clock.now_ns()), "target": target, "pane": pane, "events": event_ids, "text": text}
        self._diary.append(fastjson.dumps(entry))

    def next_ns(self) -> int | None:
        """When a grouped notification is due, on the boot clock."""
        return min((since for since, _ in self._failed.values()), default=None)

    def flush(self) -> bool:
        """Write everything; False when the disk refuses: it is kept, and tried again with the next flush."""
        now = clock.boot_ns()
        for sender, (since, lines) in list(self._failed.items()):
            if now - since >= _GROUPED_NS:
                del self._failed[sender]
                self._tell(sender, lines)
        try:
            if self._records:
                self._log.store(self._records)
                self._records.clear()
            if self._diary:
                self._write_diary()
                self._diary.clear()
        except (OrcError, OSError) as error:
            self.problem = str(error)
            del self._records[:-_KEPT], self._diary[:-_KEPT]
            return False
        return True

    def _add(
        self,
        text: str,
        kind: str,
        context: dict[str, Any],
        reply_to: str | None,
        priority: str = "low",
        to: tuple[str, ...] = (),
    ) -> None:
        made = event.build(
            text, self._source, type=kind, priority=priority, context=context, reply_to=reply_to, targets=list(to)
        )
        try:
            self._records.append(prepare(made))
        except DataError:
            pass  # the name of a target or a session that no event can hold: the others must not wait for it

    def _tell(self, sender: str, lines: list[str]) -> None:
        more = len(lines) - _MOST_NAMED
        told = lines[:_MOST_NAMED] + ([f"and {more} more: orc-read --type delivery"] if more > 0 else [])
        head = "A message of yours" if len(lines) == 1 else f"{len(lines)} messages of yours"
        text = "\n".join([f"{head} did not reach the target:", *told])
        self._add(text, "notification", {"issue_type": "undelivered", "count": len(lines)}, None, "normal", (sender,))

    def _write_diary(self) -> None:
        folder = self._home.registry + "/logs/communications"
        files.make_dir(folder)
        path = f"{folder}/{clock.local_day(clock.now_ns())}.jsonl"
        files.append(path, ("\n".join(self._diary) + "\n").encode("ascii"))


def _head(made: dict[str, Any]) -> bytes:
    """How a line begins, behind what the log stamps, up to the type."""
    return fastjson.dumps(made)[1:].partition(', "category"')[0].encode("ascii")


def _form(source: dict[str, Any], kind: str) -> list[str]:
    """A record's line behind what the log stamps, cut where its text, its context and the id that it is about go:
    there are as many records as messages, and nothing else differs."""
    made = event.build("\0", source, type=kind, priority="low", context="\0", reply_to="\0")
    return fastjson.dumps(made)[1:].split(fastjson.string("\0"))
