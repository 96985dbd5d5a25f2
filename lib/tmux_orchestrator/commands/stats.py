"""orc-stats: how many messages, what became of them, and how fast."""

from __future__ import annotations

from tmux_orchestrator.ground import clock, config, errors, fastjson, options, output, paths, times

USAGE = """\
usage: orc-stats [--since TIME] [--json]
       orc-stats --measure N [--json]

Figures from the log: what waits, what was published and typed, and for each priority how many milliseconds passed
from the log into the agent's pane (P50, P95, P99), against its target. Messages that were held (somebody's draft, a
dialog, the limit) are counted apart. --measure sends N messages of each priority through a scratch system (a home,
a tmux server, a broker and a program in a pane of its own, all removed afterwards), first from a program that is
running already, then by an orc-publish each, and tells when that program has read them.

  --since TIME            from then on (default today)
  --measure N             measure this machine, with N messages of each priority
  --json                  one document

examples:
  orc-stats | grep P95
  orc-stats --since 1h --json | jq .latency_ms.critical
  orc-stats --measure 100
"""

_MOST = 10_000


def main(argv: list[str]) -> int:
    given = options.parse(USAGE, argv)
    if given.args:
        raise errors.UsageError(f"{given.args[0]!r} is no option: see --help")
    if given.measure is not None:
        return _measure(given)
    from tmux_orchestrator.insight import stats

    home = paths.find_home()
    clock.use_zone(config.load(home).get("events.timezone"))
    now = clock.now_ns()
    since = given.since or "today"
    found = stats.gather(home, times.parse_time(since, now), now)
    print(fastjson.dumps(found.document()) if given.json else "\n".join(stats.render(found, output.clean(since))))
    return errors.OK


def _measure(given: options.Options) -> int:
    if given.since is not None:
        raise errors.UsageError("--measure and --since exclude each other: leave one out")
    if not (given.measure.isascii() and given.measure.isdigit() and 0 < int(given.measure) <= _MOST):
        raise errors.UsageError(f"--measure {given.measure!r} is no number from 1 to {_MOST}: say how many messages")
    from tmux_orchestrator.insight import measure

    found = measure.measure(int(given.measure), paths.find_home().run)
    print(fastjson.dumps(found.document()) if given.json else "\n".join(measure.render(found)))
    return errors.OK
