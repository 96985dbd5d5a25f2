"""Waiting until a message has reached its targets: the log tells it, record by record.

Exit codes as in docs/format.md: reached 0; failed 69; still on its way at the timeout 124; expired, superseded,
digested or dead 1; of several targets the worst.
"""

from __future__ import annotations

import sys
import time

from tmux_orchestrator.eventlog import follow, reader
from tmux_orchestrator.eventlog.ack import acknowledged_id
from tmux_orchestrator.eventlog.event import short
from tmux_orchestrator.ground import errors, watch
from tmux_orchestrator.ground.paths import Home

_REACHED = {
    "typed": ("typed", "confirmed", "acked"),
    "confirmed": ("confirmed", "acked"),
    "acked": ("acked",),
}
_SAID = ("target", "outcome", "reason", "advice")
_WORST = (errors.UNAVAILABLE, errors.TIMEOUT, errors.NO, errors.OK)


class Receipt:
    """What is known of one event, target by target."""

    def __init__(self, event_id: str, stage: str) -> None:
        self.event_id = event_id
        self.stage = stage
        self.expected = 1
        self.codes: dict[str, int] = {}
        self.last: dict[str, str] = {}  # what each target was last said to be
        self._needle = short(event_id).encode("ascii")

    def take(self, line: bytes) -> None:
        """One line of the log."""
        if self._needle not in line or (event := reader.decode(line)) is None:
            return
        if acknowledged_id(event) in (self.event_id, short(self.event_id)):
            self.codes.update(dict.fromkeys(self.last, errors.OK))
            return
        context = event["message"]["content"]["context"]
        if event["message"]["type"] not in ("delivery", "rate_limited") or context.get("event") != self.event_id:
            return
        target, outcome, reason, advice = (str(context.get(name) or "") for name in _SAID)
        targets = context.get("targets")
        self.expected = max(self.expected, targets if isinstance(targets, int) else 1)
        self.last[target] = (
            f"{outcome} {target}" + (f": {reason}" if reason else "") + (f" ({advice})" if advice else "")
        )
        code = self._code(outcome, reason, bool(context.get("final")))
        if code is not None:
            self.codes[target] = code

    def _code(self, outcome: str, reason: str, final: bool) -> int | None:
        """The exit code that an outcome means for this stage; None while there is more to come."""
        if outcome in _REACHED[self.stage]:
            return errors.OK
        if outcome == "failed":
            return errors.UNAVAILABLE
        if not final:
            return None
        if outcome == "typed" and not reason and self.stage == "confirmed":
            return errors.OK  # a program whose input box nobody can see: more is not to be known
        return errors.UNAVAILABLE if outcome == "typed" else errors.NO

    def done(self) -> bool:
        return len(self.codes) >= self.expected

    def code(self) -> int:
        """The worst of all targets."""
        codes = set(self.codes.values()) | (set() if self.done() else {errors.TIMEOUT})
        return next(code for code in _WORST if code in codes)


def wait(home: Home, place: follow.Place, event_id: str, stage: str, seconds: float) -> int:
    """Follow the log from `place`, which is before the event, until it has reached `stage`; the exit code."""
    watcher = watch.Watch([home.events])
    receipt = Receipt(event_id, stage)
    follower = follow.Follower(home, place)
    end = time.monotonic() + seconds
    try:
        while not receipt.done() and (left := end - time.monotonic()) > 0:
            lines = follower.read()
            for line in lines:
                receipt.take(line)
            if not lines:
                watcher.wait(left)
    finally:
        follower.close()
        watcher.close()
    code = receipt.code()
    if code != errors.OK:
        _explain(receipt, code)
    return code


def _explain(receipt: Receipt, code: int) -> None:
    said = "; ".join(receipt.last.values()) or "nobody has taken it: is the broker running? orc-status"
    head = "gave up waiting" if code == errors.TIMEOUT else "not reached"
    print(f"orc-publish: {head}: {said}", file=sys.stderr)
