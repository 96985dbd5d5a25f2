"""orc-broker: the broker, in the foreground."""

from __future__ import annotations

import sys

from tmux_orchestrator.ground import config, errors, options, paths, pidfile

USAGE = """\
usage: orc-broker [options]

Follows the log and types messages into agents' panes, until SIGTERM. One at a time: a second
one ends with exit 1.

  --standby               wait for the running broker to end, then take over
  --once                  deliver what is due, and leave

examples:
  orc-broker --once
  orc-broker --standby &
"""


def main(argv: list[str]) -> int:
    given = options.parse(USAGE, argv)
    if given.args:
        raise errors.UsageError(f"{given.args[0]!r} is no option: see --help")
    home = paths.find_home()
    # Before the wait: whoever stands by takes over at once.
    from tmux_orchestrator.delivery.broker import Broker
    from tmux_orchestrator.eventlog.voice import Voice
    from tmux_orchestrator.ground.guest import Several
    from tmux_orchestrator.watch.revival import Revival
    from tmux_orchestrator.work.flows import Flows

    if pidfile.claim(home, "broker", wait=given.standby) is None:
        pid = pidfile.running(home, "broker")
        told = f"orc-broker: a broker runs already (pid {pid}): use --standby to take over when it ends"
        print(told, file=sys.stderr)
        return errors.NO

    def guests(home: paths.Home, settings: config.Config) -> Several:
        voice = Voice(home, "broker")
        return Several(Flows(home, settings, voice), Revival(home, settings, voice, ("state_updater",)))

    Broker(home, guests).run(once=given.once)
    return errors.OK
