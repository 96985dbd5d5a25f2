"""Reading on: following the log as it grows, and reading each event once by a cursor that is remembered.

A cursor moves when what was read is out, so what nobody has seen is read again. One reader of a name at a time.
"""

from __future__ import annotations

import sys

from tmux_orchestrator.agents import inbox, registry
from tmux_orchestrator.eventlog import event, follow, reader
from tmux_orchestrator.ground import errors, files, watch
from tmux_orchestrator.ground.locks import Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from tmux_orchestrator.ground.config import Config
    from tmux_orchestrator.ground.paths import Home

    Pair = tuple[bytes, dict[str, Any]]
    Show = Callable[[Iterable[Pair]], int]  # prints events; how many they were


def follow_on(home: Home, query: reader.Query, count: int, show: Show, quiet: bool) -> int:
    """The last `count`, then what comes, for ever; with `quiet` until something matches. The exit code."""
    place = follow.end_of_log(home)
    query.before = (place.day, place.offset)
    shown = show(reader.last(home, query, count))
    query.before = None
    if not (quiet and shown):
        for group in _live(home, follow.Follower(home, place), query, None):
            if show(group) and quiet:
                break
    return errors.OK


def read_on(
    home: Home, query: reader.Query, path: str, unread: Unread, count: int | None, show: Show, quiet: bool, live: bool
) -> int:
    """What is behind the cursor in the file `path`, the last `count` of it; how many. With `quiet` it does not move.

    `live`: go on with what comes. Raises TryLater while another reads by this cursor, DataError for no cursor.
    """
    with Lock(path + ".lock"):
        follower = follow.Follower(home, follow.load_place(path) or follow.Place())
        found: list[Pair] = []
        while lines := follower.read():
            found = unread.untyped([*found, *_matching(lines, query, unread)])
        if count is not None:
            found = found[-count:] if count else []
        shown = show(found)
        _tell_jumps(follower)
        if not quiet:
            follow.save_place(path, follower.place)
        if live and not (quiet and shown):
            for group in _live(home, follower, query, unread):
                shown = show(unread.untyped(group))
                if shown and quiet:
                    break
                if shown:
                    follow.save_place(path, follower.place)
    return shown


def cursor_path(home: Home, name: str) -> str:
    """Where a reader's cursor is kept. Raises UsageError."""
    plain = name.replace(":", "@", 1)
    if not event.is_word(plain.replace("@", "-").lower()):
        raise errors.UsageError(f"{name!r} cannot be a reader: use letters, digits, _ and -")
    return f"{home.run}/cursors/{plain}"


class Unread:
    """For an agent: what is addressed to it, without what was typed to it already. For anybody else: everything."""

    def __init__(self, home: Home, settings: Config, name: str | None, query: reader.Query) -> None:
        agents = registry.load(home)
        mine = [agent for agent in agents if name in (agent.key, agent.name)] if name else []
        self.keys = {agent.key for agent in mine}
        self.typed: set[str] = set()
        if not mine:
            return
        interest = inbox.of_agent(agents, settings.groups, str(name))
        asked = query.match
        query.match = lambda one: _is_for(one, interest) and (asked is None or asked(one))

    def note(self, one: dict[str, Any]) -> None:
        """Remember what an event says of deliveries."""
        message = one["message"]
        if self.keys and message["type"] == "delivery":
            context = message["content"]["context"]
            if context.get("target") in self.keys and context.get("outcome") in ("typed", "confirmed", "acked"):
                self.typed.add(str(context.get("event")))

    def untyped(self, found: list[Pair]) -> list[Pair]:
        return [pair for pair in found if pair[1]["id"] not in self.typed] if self.typed else found


def _is_for(one: dict[str, Any], interest: inbox.Interest) -> bool:
    source = one["source"]
    if one["message"]["type"] in event.RECORDS or (source.get("session"), source.get("identifier")) in interest.senders:
        return False
    return interest.is_addressed(one)


def _matching(lines: list[bytes], query: reader.Query, unread: Unread | None) -> Iterator[Pair]:
    for line in lines:
        one = reader.decode(line)
        if one is None:
            query.damaged += bool(line)
            continue
        if unread is not None:
            unread.note(one)
        if query.wants(one):
            yield line, one


def _live(home: Home, follower: follow.Follower, query: reader.Query, unread: Unread | None) -> Iterator[list[Pair]]:
    """What comes, for ever, in groups; the follower's place is behind the group when it is handed out."""
    files.make_dir(home.events)
    watcher = watch.Watch([home.events])
    while True:
        lines = follower.read()
        yield list(_matching(lines, query, unread))
        _tell_jumps(follower)
        if not lines:
            if watch.is_closed(1):
                raise BrokenPipeError
            watcher.wait(1.0)


def _tell_jumps(follower: follow.Follower) -> None:
    for jump in follower.jumps:
        print(f"orc-read: {jump}", file=sys.stderr)
    follower.jumps.clear()
