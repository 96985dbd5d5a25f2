"""orc-log: where the log is, whether it is whole, and removing old days."""

from __future__ import annotations

import os
from collections.abc import Callable

from tmux_orchestrator.eventlog import days as dayfiles
from tmux_orchestrator.ground import clock, config, errors, fastjson, options, output, paths, times

USAGE = """\
usage: orc-log path [DAY]
       orc-log check [--json] [DAY...]
       orc-log rotate [--dry-run] [--json]

path prints the file of a day (default today), and ends with 1 when there is none yet. check reads day files (default
all) and prints each line that is damaged, torn, there twice or out of order, with file, byte offset and reason; it
ends with 65 if there is one. rotate removes the days that are older than events.retention_days, never today's or
yesterday's, and prints each file. DAY is 2026-11-20, today, yesterday or, as 3d, so long ago.

  --json                  check, rotate: one document
  --dry-run               rotate: only print what would be removed

examples:
  tail -F "$(orc-log path)"
  orc-log check yesterday
  orc-log rotate --dry-run
"""


def main(argv: list[str]) -> int:
    given = options.parse(USAGE, argv)
    if not given.args:
        raise errors.UsageError(f"what to do is missing: give {', '.join(_ACTIONS)}")
    action, *words = given.args
    if action not in _ACTIONS:
        raise errors.UsageError(f"unknown action {action!r}{options.near(action, list(_ACTIONS))}: see --help")
    if given.dry_run and action != "rotate":
        raise errors.UsageError(f"{action} removes nothing: leave --dry-run out")
    if given.json and action == "path":
        raise errors.UsageError("path has no --json: leave it out")
    home = paths.find_home()
    settings = config.load(home)
    clock.use_zone(settings.get("events.timezone"))
    return _ACTIONS[action](home, settings, words, given)


def _day(text: str) -> str:
    return clock.local_day(times.parse_time(text, clock.now_ns()))


def _path(home: paths.Home, settings: config.Config, words: list[str], given: options.Options) -> int:
    if len(words) > 1:
        raise errors.UsageError("path takes one day: call it for each")
    day = _day(words[0]) if words else max([clock.local_day(clock.now_ns()), *dayfiles.days(home)])
    file = dayfiles.day_file(home, day)
    print(output.clean(file))
    return errors.OK if os.path.exists(file) else errors.NO


def _check(home: paths.Home, settings: config.Config, words: list[str], given: options.Options) -> int:
    from tmux_orchestrator.insight import daycheck
    from tmux_orchestrator.insight.words import count

    existing = dayfiles.days(home)
    wanted = [_day(word) for word in words]
    for day in wanted:
        if day not in existing:
            close = options.near(day, existing)
            raise errors.UsageError(f"there is no file of {day}{close}: see {home.events}")
    found = daycheck.check(home, wanted or None)
    whole = f"{count(found.events, 'event')} in {count(found.files, 'day')}"
    if given.json:
        told = {"ok": not found.found, "days": found.files, "events": found.events, "size_bytes": found.size}
        print(fastjson.dumps(told | {"findings": [one.record() for one in found.found]}))
    else:
        for one in found.found:
            print(output.clean(one.text()))
        if not found.found:
            print(f"whole: {whole}")
    if found.found:
        raise errors.DataError(f"{count(len(found.found), 'finding')} among {whole}: see docs/troubleshooting.md")
    return errors.OK


def _rotate(home: paths.Home, settings: config.Config, words: list[str], given: options.Options) -> int:
    from tmux_orchestrator.eventlog import retention
    from tmux_orchestrator.insight import backlog
    from tmux_orchestrator.insight.words import size

    if words:
        raise errors.UsageError("rotate takes no day: events.retention_days says which go")
    needed = {owed.day for owed in backlog.journal(home).owed.values()}
    old = retention.old(home, settings.get("events.retention_days"), clock.now_ns(), needed)
    if not given.dry_run:
        retention.remove(old)
    if given.json:
        files = [{"path": one.path, "size_bytes": one.size} for one in old]
        print(fastjson.dumps({"removed": not given.dry_run, "files": files}))
        return errors.OK
    for one in old:
        print(f"{'would remove' if given.dry_run else 'removed'} {output.clean(one.path)} ({size(one.size)})")
    if not old:
        print(f"nothing is older than {settings.get('events.retention_days')} days")
    return errors.OK


_ACTIONS: dict[str, Callable[[paths.Home, config.Config, list[str], options.Options], int]] = {
    "path": _path,
    "check": _check,
    "rotate": _rotate,
}
