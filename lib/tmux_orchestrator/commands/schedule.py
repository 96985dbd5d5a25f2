"""orc-schedule: messages that come again and again, or later; see and cancel what is to come."""

from __future__ import annotations

import sys
from typing import Any

from tmux_orchestrator.agents import address, drafting, registry, sender
from tmux_orchestrator.eventlog import event
from tmux_orchestrator.eventlog.daylog import Log
from tmux_orchestrator.ground import clock, config, errors, options, output, paths, pidfile, times, timetable
from tmux_orchestrator.insight import ahead
from tmux_orchestrator.watch import schedule

USAGE = """\
usage: orc-schedule add --cron EXPR|--every DURATION|--at TIME|--in DURATION [options] -t TARGET MESSAGE...
       orc-schedule list [-o FORMAT]
       orc-schedule remove NAME|ID...

add keeps a message that comes again and again, or later, and prints the name of its schedule. The next occurrence is
in the log at once and is typed within a second of its time; the monitor publishes the one after it. What was missed
while nothing ran is sent once, marked late. list shows the schedules, and the messages that orc-publish --at and --in
left for later. remove ends them, and cancels what waits of them. A message of `-`, or none, is standard input.

  --cron EXPR             minute hour day month weekday, or @hourly, @daily ..., in the home's time zone
  --every DURATION        again and again, so much time apart
  --at TIME               once, at this time
  --in DURATION           once, when so much time has passed
  --name NAME             what to call the schedule (default cron-1, every-1, at-1 ...)
  -t, --to TARGET...      an agent (also yourself), session:name, session:window[.pane], %pane, @role or @all
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
  --ttl DURATION          typed within this time after it is due, or not at all
  --from NAME             who says it; shown as unverified unless you are that agent
  --queue                 the target may register later
  --file FILE             the message is in a file
  -o FORMAT               list: jsonl, json, table or FIELD,FIELD...

examples:
  orc-schedule add --cron '0 9 * * 1-5' -t pm "stand-up: who is blocked?"
  orc-schedule add --every 30m --name look -t pm "look after your team" && orc-schedule list
"""

FIELDS = ("name", "kind", "when", "next", "to", "priority", "message", "id", "event")
COLUMNS = ("name", "kind", "when", "next", "to", "message")
_LEAST_S, _LONGEST_S = 1, 366 * 86_400


def main(argv: list[str]) -> int:
    given = options.parse(USAGE, argv)
    action = given.args.pop(0) if given.args else ""
    act = _ACTIONS.get(action)
    if act is None:
        wrong = f"{action!r} is no action{options.near(action, list(_ACTIONS))}" if action else "what to do is missing"
        raise errors.UsageError(f"{wrong}: give add, list or remove")
    _check(action, given)
    home = paths.find_home()
    settings = config.load(home)
    clock.use_zone(settings.get("events.timezone"))
    return act(home, settings, given)


def _check(action: str, given: options.Options) -> None:
    """Only `add` takes nearly all of the options."""
    for option, (attribute, _) in options.declared(USAGE).items():
        mine = attribute == "o" if action == "list" else attribute == "from" or (action == "add" and attribute != "o")
        if not mine and getattr(given, attribute) not in (None, False, []):
            raise errors.UsageError(f"{action} takes no {option}: see --help")
    if action == "list" and given.args:
        raise errors.UsageError("list takes no words: see --help")
    if action == "remove" and not given.args:
        raise errors.UsageError("name what to remove: orc-schedule list shows the names and ids")


# add


def _add(home: paths.Home, settings: config.Config, given: options.Options) -> int:
    now = clock.now_ns()
    kind, when = _when(given, now, settings)
    if given.name is not None:
        registry.check_names(given.name)
    made = _event(home, settings, given)
    notice = made["message"]["type"] == "notification"
    ttl = times.parse_duration(given.ttl) if given.ttl else settings.get(f"delivery.{'notification_' * notice}ttl")
    if ttl < _LEAST_S:
        raise errors.UsageError(f"--ttl {given.ttl} is less than a second: correct it")
    since = clock.stamp(-(-now // times.SECOND) * times.SECOND)
    one = schedule.Schedule(given.name or "", kind, when, since, "", ttl, made)
    print(schedule.Schedules(home, settings.get).add(one, now), flush=True)
    if kind != schedule.AT and pidfile.running(home, "monitor") is None:
        print("orc-schedule: no monitor runs that publishes what follows: orc-monitor start", file=sys.stderr)
    return errors.OK


def _when(given: options.Options, now: int, settings: config.Config) -> tuple[str, str]:
    """(kind, when) as a schedule keeps them."""
    within = getattr(given, "in")
    if sum(value is not None for value in (given.cron, given.every, given.at, within)) != 1:
        raise errors.UsageError("say when: one of --cron, --every, --at and --in")
    if given.cron is not None:
        timetable.Cron(given.cron, timetable.zone(settings.get("events.timezone")))
        return schedule.CRON, given.cron
    if given.every is not None:
        seconds = times.parse_duration(given.every)
        if seconds != int(seconds) or not _LEAST_S <= seconds <= _LONGEST_S:
            raise errors.UsageError(f"--every {given.every} is no number of seconds from 1s to 366d: correct it")
        return schedule.EVERY, str(int(seconds))
    at = times.parse_time(given.at, now) if within is None else now + int(times.parse_duration(within) * times.SECOND)
    if at < now:
        raise errors.UsageError(f"--at {given.at} is past ({clock.stamp(at)}): say a time that comes, or --in DURATION")
    return schedule.AT, clock.stamp(at)


def _event(home: paths.Home, settings: config.Config, given: options.Options) -> dict[str, Any]:
    """What each occurrence says. It comes from the schedule, so whoever made it may be among its targets."""
    if not (given.to or given.group):
        raise errors.UsageError("say to whom: -t TARGET, or -g GROUP")
    agents = registry.load(home)
    source = sender.source(agents, getattr(given, "from"))
    targets = [address.canonical(agents, target, source["session"], given.queue) for target in given.to]
    asked_by = f"{source['session']}:{source['identifier']}" if source["session"] else source["identifier"]
    made = event.build(
        drafting.body(given),
        source | {"type": "cron", "session": None},
        targets=targets,
        groups=given.group,
        type=given.type or "message",
        category=given.category,
        priority=given.priority,
        subject=given.subject,
        context=drafting.context(given.context) | drafting.check_in(given, settings) | {"scheduled_by": asked_by},
        requires_ack=given.requires_ack,
        tags=given.tag,
        correlation_id=given.correlation_id,
        queue=given.queue,
    )
    try:
        return event.check(made)
    except errors.DataError as error:
        raise errors.UsageError(str(error)) from None


# list and remove


def _list(home: paths.Home, settings: config.Config, given: options.Options) -> int:
    output.check(given.o, FIELDS)
    known = schedule.load(home)
    records = [_record(one.event, one.name, one.kind, one.when, one.next, _held(one)) for one in known]
    held = {_held(one) for one in known}
    for one in ahead.waiting(home, clock.now_ns()):
        if one["id"] not in held:
            at = clock.stamp(ahead.due_ns(one))
            records.append(_record(one, None, schedule.AT, at, at, one["id"]))
    records.sort(key=lambda record: record["next"] or "")
    output.show(records, given.o, COLUMNS, FIELDS)
    return errors.OK


def _held(one: schedule.Schedule) -> str | None:
    """The id of the occurrence that the log holds."""
    return one.id_at(clock.parse_stamp(one.next)) if one.next else None


def _record(said: dict[str, Any], name: str | None, kind: str, when: str, at: str, held: str | None) -> dict[str, Any]:
    message, to = said["message"], said["to"]
    every = f"{when}s" if kind == schedule.EVERY else when
    text = message["content"]["subject"] or message["content"]["body"].partition("\n")[0]
    return {
        "name": name,
        "kind": kind,
        "when": every,
        "next": at or None,
        "to": [*to["targets"], *to["groups"]],
        "priority": message["priority"],
        "message": text,
        "id": held,
        "event": said,
    }


def _remove(home: paths.Home, settings: config.Config, given: options.Options) -> int:
    """All of them, or none when one is not known."""
    source = sender.source(registry.load(home), getattr(given, "from"))
    known = {one.name: _held(one) for one in schedule.load(home)}
    later = [one["id"] for one in ahead.waiting(home, clock.now_ns())]
    names, ids = [], []
    for wanted in given.args:
        wanted = wanted.removeprefix("#")
        name = wanted if wanted in known else next((n for n, held in known.items() if held and _is(held, wanted)), None)
        found = [event_id for event_id in later if _is(event_id, wanted)]
        if name is not None:
            names.append(name)
        elif found:
            ids += found
        else:
            raise errors.UsageError(f"no schedule or waiting message is called {wanted!r}: see orc-schedule list")
    if names:
        schedule.Schedules(home, settings.get).remove(names, source)
    if ids:
        log = Log(home, durable=settings.get("events.durability") == "disk")
        log.append([schedule.cancel(event_id, source) for event_id in ids])
    return errors.OK


def _is(event_id: str, wanted: str) -> bool:
    """By its id, or by its short id."""
    return wanted == event_id or (len(wanted) == 6 and event.short(event_id) == wanted.upper())


_ACTIONS = {"add": _add, "list": _list, "remove": _remove}
