"""orc-ack: say that a message has been taken care of."""

from __future__ import annotations

import os

from tmux_orchestrator.agents import registry, sender
from tmux_orchestrator.eventlog import ack, event, reader
from tmux_orchestrator.eventlog.daylog import Log
from tmux_orchestrator.ground import clock, config, errors, options, paths

USAGE = """\
usage: orc-ack [options] ID...

Acknowledges messages, by id or short id; prints the id of each acknowledgment.

  --note TEXT             what was done about it
  --from NAME             who says it; shown as unverified unless you are that agent

examples:
  orc-ack 7K2M9Q
  orc-ack 7K2M9Q --note "restarted the worker"
"""


def main(argv: list[str]) -> int:
    given = options.parse(USAGE, argv)
    if not given.args:
        raise errors.UsageError("no id is given: it stands in the message's header, behind #")
    home = paths.find_home()
    settings = config.load(home)
    clock.use_zone(settings.get("events.timezone"))
    source = sender.source(registry.load(home), getattr(given, "from"))
    try:
        note = os.fsencode(given.note or "").decode("utf-8")
    except UnicodeDecodeError:
        raise errors.DataError("the note is not UTF-8: convert it") from None
    acks = []
    for wanted in given.args:
        wanted = wanted.removeprefix("#")
        found = reader.find(home, wanted) if event.is_id(wanted) else None
        if found is None:
            raise errors.UsageError(f"no event is called {wanted!r}: see orc-read -n 20")
        acks.append(ack.build(found["id"], note, source))
    print("\n".join(Log(home, durable=settings.get("events.durability") == "disk").append(acks)))
    return errors.OK
