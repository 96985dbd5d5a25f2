"""orc-read: filter, tail and follow the log."""

from __future__ import annotations

import os
import sys

from tmux_orchestrator.agents import inbox, registry
from tmux_orchestrator.eventlog import event, follow, printing, reader
from tmux_orchestrator.ground import clock, config, errors, fastjson, options, paths
from tmux_orchestrator.ground.locks import Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    Pair = tuple[bytes, dict[str, Any]]
    Show = Callable[[bytes, dict[str, Any]], None]

USAGE = """\
usage: orc-read [options]

Prints events: a table on a terminal, one JSON object a line in a pipe. Exit 1 when nothing
matches.

  -n, --tail N            the last N that match
  -f, --follow            go on with what comes; the last 10 first, unless -n says otherwise;
                          with -q, until something matches
  -r, --reverse           newest first
  --session S             to, from or about a session, or session:window
  --group GROUP...        to this group
  --from NAME...          from this sender, name or session:name
  --type TYPE...          of this type
  --priority LEVEL...     of this priority
  --tag TAG...            with this tag; all of them, if there are several
  --id ID...              with this id or short id
  --filter REGEX          whose line of text matches; Python's syntax, and \\| alternates too
  --since TIME            2026-11-20, "2026-11-20 10:30", 10:30, 5m, 2h, yesterday, @epoch
  --until TIME            before this time
  --unread NAME           each event once for this reader; for an agent: what is for it and was not typed to it
  --cursor-file FILE      each event once, remembered in a file of yours; with -q it stays where it is
  -o, --output FORM       jsonl, json, table, text, body or FIELD,FIELD...
  --json                  one document: {"stored_messages": [...], "count": N}; always exit 0
  -q, --quiet             print nothing: the exit code says whether something matched

examples:
  orc-read -f --priority critical --priority high -o text
  orc-read --since 1h --type delivery -o timestamp,message.content.context.outcome
"""


def main(argv: list[str]) -> int:
    given = options.parse(USAGE, argv)
    if given.args:
        raise errors.UsageError(f"{given.args[0]!r} is no option: to search for words, use --filter")
    home = paths.find_home()
    settings = config.load(home)
    clock.use_zone(settings.get("events.timezone"))
    query, count, show = _query(given, home, settings), _count(given), printing.form(given.output)
    if given.follow and (_is_document(given) or given.reverse):
        raise errors.UsageError("--follow has no end: leave --json and -r out")
    if given.unread is not None or given.cursor_file is not None:
        return _read_on(given, home, settings, query, count, show)
    if given.follow:
        return _follow(given, home, query, 10 if count is None else count, show)
    if count is not None:
        found: Iterable[Pair] = reader.last(home, query, count)
        if given.reverse:
            found = reversed(list(found))
    elif query.is_plain() and show is printing.line and not _is_document(given) and not (given.reverse or given.quiet):
        return _finish(given, query, _print_whole(home, query))
    else:
        found = reader.search(home, query, backward=given.reverse)
    return _finish(given, query, _print(given, found, show))


def _is_document(given: options.Options) -> bool:
    return given.json or given.output == "json"  # type: ignore[no-any-return]


def _count(given: options.Options) -> int | None:
    if given.tail is None:
        return None
    if not (given.tail.isascii() and given.tail.isdigit()):
        raise errors.UsageError(f"-n {given.tail!r} is no whole number: say how many events")
    return int(given.tail)


def _query(given: options.Options, home: paths.Home, settings: config.Config) -> reader.Query:
    query = reader.Query()
    query.ids = [wanted.removeprefix("#") for wanted in given.id]
    query.types, query.priorities, query.tags = given.type, given.priority, given.tag
    query.groups, query.senders = given.group, getattr(given, "from")
    for priority in query.priorities:
        if priority not in event.PRIORITIES:
            raise errors.UsageError(f"--priority {priority!r} is none of {', '.join(event.PRIORITIES)}: correct it")
    if given.since or given.until:
        from tmux_orchestrator.ground import times

        now = clock.now_ns()
        query.since = times.parse_time(given.since, now) if given.since else None
        query.until = times.parse_time(given.until, now) if given.until else None
    if given.filter is not None:
        query.pattern = _pattern(given.filter)
    if given.session is not None:
        query.match = _interest(given.session, home, settings).concerns
    return query


def _pattern(text: str) -> Callable[[str], Any]:
    """grep users write alternatives as \\|, which in Python means the bar itself."""
    import re

    try:
        return re.compile(re.sub(r"\\(.)", lambda found: "|" if found[1] == "|" else found[0], text, flags=re.S)).search
    except (re.error, RecursionError, OverflowError) as error:
        raise errors.UsageError(f"--filter {text!r} is no regular expression ({error}): correct it") from None


def _interest(where: str, home: paths.Home, settings: config.Config) -> inbox.Interest:
    session, colon, window = where.partition(":")
    panes: set[str] = set()
    if colon:
        from tmux_orchestrator.ground import tmux

        try:
            server = tmux.Tmux(tmux.find_socket(settings.get("tmux.socket")), keep=False)
            panes = {
                pane.id
                for pane in server.panes()
                if pane.session == session and window in (str(pane.window_index), pane.window_name)
            }
        except errors.UnavailableError:
            pass  # without a server nobody is in that window; what names it still matches
    return inbox.of_session(registry.load(home), settings.groups, where, panes)


def _print(given: options.Options, found: Iterable[Pair], show: Show) -> int:
    """Print the events in the form asked for; how many they were."""
    if _is_document(given):
        return _document(given, found)
    count = 0
    for line, one in found:
        count += 1
        if given.quiet:
            return count
        show(line, one)
    sys.stdout.flush()
    return count


def _print_whole(home: paths.Home, query: reader.Query) -> int:
    """Print everything between two times as it stands in the files; how many events it was."""
    count = 0
    for group in reader.whole(home, query):
        count += len(group)
        sys.stdout.buffer.write(printing.lines(group))
    sys.stdout.flush()
    return count


def _document(given: options.Options, found: Iterable[Pair]) -> int:
    stored = [one | {"raw_message": event.render(one)} for _, one in found]
    if not given.quiet:
        print(fastjson.dumps({"stored_messages": stored, "count": len(stored)}), flush=True)
    return len(stored)


def _finish(given: options.Options, query: reader.Query, count: int) -> int:
    if query.damaged:
        print(f"orc-read: {query.damaged} damaged lines stepped over: see orc-log check", file=sys.stderr)
    return errors.OK if count or given.json else errors.NO


def _matching(lines: list[bytes], query: reader.Query, unread: _Unread | None) -> Iterator[Pair]:
    for line in lines:
        one = reader.decode(line)
        if one is None:
            query.damaged += bool(line)
            continue
        if unread is not None:
            unread.note(one)
        if query.wants(one):
            yield line, one


def _live(
    home: paths.Home, follower: follow.Follower, query: reader.Query, unread: _Unread | None = None
) -> Iterator[list[Pair]]:
    """What comes, for ever, in groups; the follower's place is behind the group when it is handed out."""
    from tmux_orchestrator.ground import files, watch

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


def _follow(given: options.Options, home: paths.Home, query: reader.Query, count: int, show: Show) -> int:
    place = follow.end_of_log(home)
    query.before = (place.day, place.offset)
    shown = _print(given, reader.last(home, query, count), show)
    query.before = None
    if given.quiet and shown:
        return errors.OK
    for group in _live(home, follow.Follower(home, place), query):
        if _print(given, group, show) and given.quiet:
            break
    return errors.OK


def _read_on(
    given: options.Options,
    home: paths.Home,
    settings: config.Config,
    query: reader.Query,
    count: int | None,
    show: Show,
) -> int:
    """Go on where this reader stopped. Its cursor moves after what it read is out, and not with --quiet."""
    path = _cursor_path(home, given.unread) if given.cursor_file is None else os.path.abspath(given.cursor_file)
    with Lock(path + ".lock"):
        follower = follow.Follower(home, follow.load_place(path) or follow.Place())
        unread = _Unread(home, settings, given.unread, query)
        found: list[Pair] = []
        while lines := follower.read():
            found = unread.untyped([*found, *_matching(lines, query, unread)])
        if count is not None:
            found = found[-count:] if count else []
        shown = _print(given, reversed(found) if given.reverse else found, show)
        _tell_jumps(follower)
        if not given.quiet:
            follow.save_place(path, follower.place)
        if given.follow and not (given.quiet and shown):
            for group in _live(home, follower, query, unread):
                shown = _print(given, unread.untyped(group), show)
                if shown and given.quiet:
                    break
                if shown:
                    follow.save_place(path, follower.place)
    return _finish(given, query, shown)


def _cursor_path(home: paths.Home, name: str) -> str:
    plain = name.replace(":", "@", 1)
    if not event.is_word(plain.replace("@", "-").lower()):
        raise errors.UsageError(f"{name!r} cannot be a reader: use letters, digits, _ and -")
    return f"{home.run}/cursors/{plain}"


class _Unread:
    """For an agent: what is addressed to it, without what was typed to it already. For anybody else: everything."""

    def __init__(self, home: paths.Home, settings: config.Config, name: str | None, query: reader.Query) -> None:
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
