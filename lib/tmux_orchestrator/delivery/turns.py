"""What an outbox says: what to type, and what there must be room for.

Values only; which they are is the outbox's to decide.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from tmux_orchestrator.delivery.waiting import Item

MESSAGE, DIGEST, LINE = "message", "digest", "line"
TYPED, DIGESTED, SUPERSEDED, EXPIRED = "typed", "digested", "superseded", "expired"
RATE_LIMITED, PAIR_CAP = "rate_limited", "pair_cap"
# Why digested: gathered into one frame, over the queue's bound, told by the digest line, one more of very many alike.
BY_DIGEST, BY_SIZE, BY_LINE, BY_SAME = "gathered", "queue_full", "flood", "same"


class Room(NamedTuple):
    """What the caller's bucket and windows allow right now."""

    normal: bool
    critical: bool
    line: bool  # the one digest line of this minute


NO_ROOM = Room(False, False, False)


@dataclass(slots=True, eq=False)
class Typing:
    """What to type now; `Outbox.done` or `Outbox.back` must follow.

    MESSAGE: items[0], and the identical ones behind it (`count`: how many); in a parcel others too, some of other
    senders (`joined`). DIGEST: one frame of several low ones.
    LINE: the digest line, `count` more since `since_ns`; `items` are those that end with it.
    """

    kind: str
    items: list[Item]
    count: int
    since_ns: int
    critical: bool = False
    sender: str = ""
    taken_ns: int = 0
    told: list[Item] = field(default_factory=list)
    owed: int = 0
    joined: list[str] = field(default_factory=list)

    def all(self) -> list[Item]:
        """Every event that it is about."""
        if len(self.items) == 1:
            return self.items[0].all()
        return [one for item in self.items for one in item.all()]
