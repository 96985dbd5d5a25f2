"""orc-ratelimit: a leaky bucket for shell scripts, shared by all that use its key.

A key that the configuration names has one rate for all: whoever asks for another one is told so, because two rates of
one bucket would be neither.
"""

from __future__ import annotations

import os
import sys

from tmux_orchestrator.delivery.ratelimit import SharedBucket
from tmux_orchestrator.ground import config, errors, handover, options, paths
from tmux_orchestrator.ground.rates import parse_limit, parse_rate, parse_span

USAGE = """\
usage: orc-ratelimit [options] KEY
       orc-ratelimit [options] KEY -- COMMAND [ARGUMENT...]

Asks for room in the bucket of that name. Exit 0: granted; 75: not now; the seconds to wait
are on standard output. With a command, runs it when granted, ends with its exit code and
prints nothing (127: no such command, 126: cannot be run).

  --rate RATE             10/min, 5/s, 100/hour, 3/30s (default: as ratelimits.KEY in the configuration, else 10/min)
  --burst N               how many may come at once (default: as many as the rate counts)
  --cost N                how many this one counts for (default 1)
  --wait[=TIME]           wait for room, at most so long: 30s, 2m; exit 124, at once if that cannot be enough
  --peek                  only say how long it would take: nothing is granted

examples:
  orc-ratelimit build-mail --rate 10/min -- mail -s "build failed" team@example.org
  until pause=$(orc-ratelimit deploy --rate 1/min); do sleep "$pause"; done
"""


def main(argv: list[str]) -> int:
    cut = argv.index("--") if "--" in argv else len(argv)
    given, command = options.parse(USAGE, argv[:cut]), argv[cut + 1 :]
    if len(given.args) != 1:
        raise errors.UsageError("say one KEY, and a command only behind --: orc-ratelimit KEY -- COMMAND")
    if cut < len(argv) and not command:
        raise errors.UsageError("there is no command behind --: leave -- out, or name one")
    if given.peek and (command or given.wait is not None):
        raise errors.UsageError("--peek grants nothing: use it without --wait and without a command")
    home = paths.find_home()
    count, period_ns, burst = _limit(home, given)
    bucket = SharedBucket(home, given.args[0], count, period_ns, burst)
    cost = _number(given.cost, "--cost", 1)
    if cost > burst:
        raise errors.UsageError(f"a cost of {cost} never fits into the burst: give a larger --burst")
    if given.peek:
        wait_ns, code = bucket.peek(cost), errors.LATER
    elif given.wait is not None:
        wait_ns, code = bucket.wait(cost, _limit_ns(given.wait)), errors.TIMEOUT
    else:
        wait_ns, code = bucket.take(cost), errors.LATER
    if not command:
        print(_seconds(wait_ns))
    elif not wait_ns:
        return _become(command)
    return code if wait_ns else errors.OK


def _limit(home: paths.Home, given: options.Options) -> tuple[int, int, int]:
    """(count, period in nanoseconds, burst) as configured, else as asked for. Raises UsageError, ConfigError."""
    key = given.args[0]
    named = config.load(home).get("ratelimits").get(key)
    try:
        count, period_ns = parse_rate(given.rate or "10/min")
    except ValueError:
        raise errors.UsageError(f"{given.rate!r} is no rate: write 10/min, 5/s, 100/hour or 3/30s") from None
    burst = _number(given.burst, "--burst", 0)
    if named is None:
        return count, period_ns, burst or count
    fixed = parse_limit(named)
    if (given.rate and (count, period_ns) != fixed[:2]) or (burst and burst != fixed[2]):
        wrong = f"{key} is {named} for all who use it"
        raise errors.UsageError(f"{wrong}: leave --rate and --burst out, or change ratelimits.{key}")
    return fixed


def _number(text: str | None, name: str, default: int) -> int:
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 8 and int(text)):
        raise errors.UsageError(f"{name} {text!r} is no number from 1 on: correct it")
    return int(text)


def _limit_ns(text: str) -> int | None:
    if not text:
        return None
    try:
        return parse_span(text)
    except ValueError:
        raise errors.UsageError(f"--wait {text!r} is no time: write 30s, 2m or 1.5") from None


def _seconds(ns: int) -> str:
    """Decimal seconds that `sleep` takes, rounded up to a millisecond."""
    ms = -(-ns // 1_000_000)
    return f"{ms // 1000}.{ms % 1000:03d}".rstrip("0").rstrip(".")


def _become(command: list[str]) -> int:
    try:
        handover.become(command, dict(os.environ), handover.callers_umask())
    except (FileNotFoundError, NotADirectoryError):
        print(f"orc-ratelimit: {command[0]!r} is no command: correct it", file=sys.stderr)
        return errors.NOT_FOUND
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        print(f"orc-ratelimit: cannot run {command[0]!r}: {reason}", file=sys.stderr)
        return errors.CANNOT_RUN
