"""orc-monitor: sees agents die, brings back who wants to come back, and tells of the others once."""

from __future__ import annotations

import os
import sys

from tmux_orchestrator.ground import errors, fastjson, options, output, paths, pidfile
from tmux_orchestrator.watch.monitor import Monitor

USAGE = """\
usage: orc-monitor [--once [--json]]
       orc-monitor start|stop|restart|status

Watches the registered agents, in the foreground, until it is told to stop; orchestrator_manager.sh starts it in the
background. The end of an agent's process is seen at once. Agents that were started with --restart crash or always
are started again by the rules of orc-recover; those that stay dead are one alert to the group management, however
many ended together, and each is told once.

  --once                  look once, act, and leave; 1 when an agent is dead
  --json                  with --once: what was found and done, and how long it took, as one document

examples:
  orc-monitor start
  orc-monitor --once --json | jq .findings
"""

_MANAGED = ("start", "stop", "restart", "status")


def main(argv: list[str]) -> int:
    given = options.parse(USAGE, argv)
    if len(given.args) == 1 and given.args[0] in _MANAGED and not given.once:
        command = paths.CODE + "/bin/orc-component"
        os.execv(command, [command, given.args[0], "monitor"])
    if given.args or (given.json and not given.once):
        raise errors.UsageError("give nothing, --once, or one of start, stop, restart and status: see --help")
    home = paths.find_home()
    if given.once:
        return _once(Monitor(home), given.json)
    if pidfile.claim(home, "monitor") is None:
        pid = pidfile.running(home, "monitor")
        print(f"orc-monitor: a monitor runs already (pid {pid}): orc-monitor status", file=sys.stderr)
        return errors.NO
    Monitor(home).run()
    return errors.OK


def _once(monitor: Monitor, json: bool) -> int:
    told = monitor.once()
    back = {one["agent"] for one in told["recovered"] if one["action"] == "respawned"}
    dead = [one for one in told["findings"] if one["agent"] not in back]
    if json:
        print(fastjson.dumps(told))
    else:
        for one in told["recovered"]:
            print(output.clean(f"{one['agent']} {one['action']}: {one['reason']}"))
        for one in dead:
            print(output.clean(f"{one['agent']} is dead: {one['why']}"))
        if not told["findings"]:
            print(f"{told['agents']} agents, none dead")
    return errors.NO if dead else errors.OK
