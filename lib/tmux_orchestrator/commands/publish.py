"""orc-publish: append events to the log. Exit 0 means on disk."""

from __future__ import annotations

import sys

from tmux_orchestrator.agents import address, drafting, registry, sender
from tmux_orchestrator.eventlog import event
from tmux_orchestrator.eventlog.daylog import Log
from tmux_orchestrator.ground import clock, config, errors, options, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Event = dict[str, Any]

USAGE = """\
usage: orc-publish [options] MESSAGE...        the words are joined by spaces
       COMMAND | orc-publish [options] [-]     standard input is the message

Appends an event to the log and prints its id. The broker types it to its targets; without
a target or group it is kept for whoever reads the log.

  -t, --to TARGET...      an agent, session:name, session:window[.pane], %pane, @role or @all
  -g, --group GROUP...    everybody in a group
  -p, --priority LEVEL    critical, high, normal or low (default normal)
  --type TYPE             what kind of event (default message)
  --category WORD         what it is about
  --tag TAG...            a word to find it by
  --subject LINE          a headline before the body
  --context JSON          an object for programs
  --requires-ack          repeat, then escalate, until somebody acknowledges it
  --check-in[=DURATION]   its targets have to say something within this time (default 30m)
  --correlation-id ID     what belongs together
  --reply-to ID           the event that this answers
  --supersede KEY         replaces your waiting message with the same key
  --ttl DURATION          typed within this time or not at all
  --at TIME               not typed before this time
  --in DURATION           not typed before this much time has passed
  --from NAME             who says it; shown as unverified unless you are that agent
  --id ID                 an id of your own; the same id within 7 days is stored once
  --queue                 the target may register later
  --wait[=STAGE]          wait until it is typed, confirmed (default) or acked
  --timeout DURATION      how long to wait (default 60s)
  --lines                 each line of standard input is a message
  --jsonl                 each line of standard input is an event
  --file FILE             the message is in a file

examples:
  orc-publish -t pm -p high "the build is red"
  make 2>&1 | tail -n 20 | orc-publish -t backend --subject "make failed"
"""

STAGES = ("typed", "confirmed", "acked")
_UNTYPED = "published, but no broker runs that could type it: orchestrator_manager.sh start"


def main(argv: list[str]) -> int:
    given = options.parse(USAGE, argv)
    home = paths.find_home()
    settings = config.load(home)
    clock.use_zone(settings.get("events.timezone"))
    agents = registry.load(home)
    stage = _stage(given)
    draft = _draft(given, home, agents, drafting.check_in(given, settings))
    log = Log(home, durable=settings.get("events.durability") == "disk")
    if given.lines or given.jsonl:
        _refuse_single(given)
        from tmux_orchestrator.agents import stream

        return stream.publish(log, drafting.origin(given.file), stream.parser(given.jsonl, draft, agents, given.queue))
    made = draft(drafting.body(given))
    if stage is None:
        print(log.append([made])[0])
        if given.priority == "critical" and (given.to or given.group):
            _warn_unless_typed(home)
        return errors.OK
    return _publish_and_wait(home, log, made, stage, _seconds(given.timeout or "60s"))


def _warn_unless_typed(home: paths.Home) -> None:
    """It is on disk, and that is what 0 means; but who is in a hurry wants to know that nobody types it now."""
    from tmux_orchestrator.ground import pidfile

    if pidfile.running(home, "broker") is None:
        print(f"orc-publish: {_UNTYPED}", file=sys.stderr)


def _publish_and_wait(home: paths.Home, log: Log, made: Event, stage: str, seconds: float) -> int:
    from tmux_orchestrator.delivery import receipt
    from tmux_orchestrator.eventlog import follow
    from tmux_orchestrator.ground import pidfile

    place = follow.end_of_log(home)
    event_id = log.append([made])[0]
    print(event_id, flush=True)
    if pidfile.running(home, "broker") is None:
        raise errors.UnavailableError(_UNTYPED)
    return receipt.wait(home, place, event_id, stage, seconds)


def _refuse_single(given: options.Options) -> None:
    """A stream takes nothing that is for one message."""
    if given.lines and given.jsonl:
        raise errors.UsageError("--lines and --jsonl say two things of the same input: give one")
    if given.args not in ([], ["-"]):
        raise errors.UsageError("a stream comes from standard input or --file: leave the message out")
    for name in ("wait", "id"):
        if getattr(given, name) is not None:
            raise errors.UsageError(f"--{name} is for one message: leave it out, or publish one")


def _stage(given: options.Options) -> str | None:
    if given.wait is None:
        return None
    if given.wait not in ("", *STAGES):
        raise errors.UsageError(f"--wait={given.wait} is none of {', '.join(STAGES)}: correct it")
    if not (given.to or given.group):
        raise errors.UsageError("--wait needs somebody to wait for: say -t TARGET")
    if not given.wait and len(given.args) > 1 and given.args[0] in STAGES:
        raise errors.UsageError(f"--wait takes its stage behind an equals sign: write --wait={given.args[0]}")
    return given.wait or "confirmed"


def _seconds(text: str) -> float:
    from tmux_orchestrator.ground import times

    return times.parse_duration(text)


def _times(given: options.Options) -> tuple[str | None, str | None]:
    """(not_before, expires) as stamps."""
    if not (given.at or given.ttl or getattr(given, "in")):
        return None, None
    from tmux_orchestrator.ground import times

    now = start = clock.now_ns()
    if given.at and getattr(given, "in"):
        raise errors.UsageError("--at and --in say the same thing: give one")
    if given.at:
        start = times.parse_time(given.at, now)
    elif getattr(given, "in"):
        start = now + int(times.parse_duration(getattr(given, "in")) * 1e9)
    ends = clock.stamp(start + int(times.parse_duration(given.ttl) * 1e9)) if given.ttl else None
    return clock.stamp(start) if start != now else None, ends


def _answered(home: paths.Home, given: options.Options) -> tuple[str | None, str | None, int]:
    """(reply_to, correlation id, hops): an answer counts one hop more than what it answers."""
    if given.reply_to is None:
        return None, given.correlation_id, 0
    from tmux_orchestrator.eventlog import reader

    asked = reader.find(home, given.reply_to)
    if asked is None:
        raise errors.UsageError(f"no event is called {given.reply_to!r}: see orc-read -n 20")
    metadata = asked.get("metadata") or {}
    return asked["id"], given.correlation_id or metadata.get("correlation_id"), int(metadata.get("hops") or 0) + 1


def _targets(agents: list[registry.Agent], wanted: list[str], session: str | None, queue: bool) -> list[str]:
    return [address.canonical(agents, target, session, queue) for target in wanted]


def _draft(
    given: options.Options, home: paths.Home, agents: list[registry.Agent], more: dict[str, Any]
) -> Callable[[str], Event]:
    """A function that makes the event of one body; everything else is checked once, here."""
    source = sender.source(agents, getattr(given, "from"))
    targets = _targets(agents, given.to, source["session"], given.queue)
    not_before, expires = _times(given)
    reply_to, correlation_id, hops = _answered(home, given)
    context = drafting.context(given.context) | more

    def draft(body: str) -> Event:
        made = event.build(
            body,
            source,
            targets=targets,
            groups=given.group,
            type=given.type or "message",
            category=given.category,
            priority=given.priority,
            subject=given.subject,
            context=context,
            requires_ack=given.requires_ack,
            tags=given.tag,
            correlation_id=correlation_id,
            reply_to=reply_to,
            supersedes=given.supersede,
            not_before=not_before,
            expires=expires,
            hops=hops,
            queue=given.queue,
        )
        if given.id is not None:
            made["id"] = given.id
        return made

    try:
        event.check(draft("-"))
    except errors.DataError as error:  # it can only be the options
        raise errors.UsageError(str(error)) from None
    return draft
