"""orc-read: filter, tail and follow the log."""

from __future__ import annotations

import os
import sys

from tmux_orchestrator.eventlog import event, printing, reader
from tmux_orchestrator.ground import clock, config, errors, fastjson, options, paths, times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Event = dict[str, Any]
    Pair = tuple[bytes, Event]
    Show = Callable[[bytes, Event], None]

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
    if given.follow or given.unread is not None or given.cursor_file is not None:
        return _read_on(given, home, settings, query, count, show)
    if count is not None:
        found: Iterable[Pair] = reader.last(home, query, count)
        if given.reverse:
            found = reversed(list(found))
    elif query.is_plain() and show is printing.line and not _is_document(given) and not (given.reverse or given.quiet):
        return _finish(given, query, _print_whole(home, query))
    else:
        found = reader.search(home, query, backward=given.reverse)
    return _finish(given, query, _print(given, found, show))


def _read_on(
    given: options.Options,
    home: paths.Home,
    settings: config.Config,
    query: reader.Query,
    count: int | None,
    show: Show,
) -> int:
    """What comes, or what was not read yet. What it needs is loaded here: the last few events come sooner without."""
    from tmux_orchestrator.agents import reading

    if given.follow and (_is_document(given) or given.reverse):
        raise errors.UsageError("--follow has no end: leave --json and -r out")

    def show_all(found: Iterable[Pair]) -> int:
        return _print(given, reversed(list(found)) if given.reverse else found, show)

    if given.unread is None and given.cursor_file is None:
        return reading.follow_on(home, query, 10 if count is None else count, show_all, given.quiet)
    path = _cursor(given.cursor_file) if given.cursor_file is not None else reading.cursor_path(home, given.unread)
    unread = reading.Unread(home, settings, given.unread, query)
    shown = reading.read_on(home, query, path, unread, count, show_all, given.quiet, given.follow)
    return _finish(given, query, shown)


def _cursor(path: str) -> str:
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise errors.UsageError(f"--cursor-file: there is no folder {folder!r}: make it, or name another file")
    return os.path.abspath(path)


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
        now = clock.now_ns()
        query.since = times.parse_time(given.since, now) if given.since else None
        query.until = times.parse_time(given.until, now) if given.until else None
    if given.filter is not None:
        query.pattern = _pattern(given.filter)
    if given.session is not None:
        query.match = _interest(given.session, home, settings)
    return query


def _pattern(text: str) -> Callable[[str], Any]:
    """grep users write alternatives as \\|, which in Python means the bar itself."""
    import re

    try:
        return re.compile(re.sub(r"\\(.)", lambda found: "|" if found[1] == "|" else found[0], text, flags=re.S)).search
    except (re.error, RecursionError, OverflowError) as error:
        raise errors.UsageError(f"--filter {text!r} is no regular expression ({error}): correct it") from None


def _interest(where: str, home: paths.Home, settings: config.Config) -> Callable[[Event], bool]:
    from tmux_orchestrator.agents import inbox, registry

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
    return inbox.of_session(registry.load(home), settings.groups, where, panes).concerns


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
    found, write = 0, sys.stdout.buffer.write
    for block, count in reader.whole(home, query):
        found += count
        write(printing.plain(block))
    sys.stdout.flush()
    return found


def _document(given: options.Options, found: Iterable[Pair]) -> int:
    stored = [one | {"raw_message": event.render(one)} for _, one in found]
    if not given.quiet:
        print(fastjson.dumps({"stored_messages": stored, "count": len(stored)}), flush=True)
    return len(stored)


def _finish(given: options.Options, query: reader.Query, count: int) -> int:
    if query.damaged:
        print(f"orc-read: {query.damaged} damaged lines stepped over: see orc-log check", file=sys.stderr)
    return errors.OK if count or given.json else errors.NO
