"""orc-recover: start agents again that ended."""

from __future__ import annotations

from tmux_orchestrator.agents import policy
from tmux_orchestrator.agents.control import Control
from tmux_orchestrator.ground import clock, config, errors, options, output, paths
from tmux_orchestrator.watch import recovery

USAGE = """\
usage: orc-recover TARGET...
       orc-recover --all

Starts agents again that ended, as their panes' own process, with the command, folder and environment they had,
and with their conversation where the agent CLI told its id.
--all means those whose supervisor is the monitor, and that were started with --restart crash (and died) or always
(and ended). Each is told who it is and what it was last told, and the project manager of its session hears of it.
The section recovery of the configuration says how often: at once after a stable run, then later and later, and after
too many only with --force.
Prints what was done for each; ends with 0 when all are back, 1 when there was none to start, 75 when the rules say
later, 69 when a start failed or a target still runs.

  -a, --all               every agent of the monitor that its own --restart wants back
  --reason TEXT           why, for the log and the briefing
  --force                 whatever the rules say; one that runs is ended first
  --fresh                 with a new conversation, not the one that it had
  --dry-run               only say what would be done
  -o FORMAT               jsonl, json, table or FIELD,FIELD...

examples:
  orc-recover backend --reason "it hung"
  * * * * *  orc-recover --all        (a line for cron)
"""

_LATER = (policy.COOLDOWN, policy.BACKOFF, policy.BREAKER)


def main(argv: list[str]) -> int:
    given = options.parse(USAGE, argv)
    if bool(given.args) == given.all:
        raise errors.UsageError("whom to start is missing, or said twice: name agents, or give --all")
    output.check(given.o, recovery.FIELDS)
    home = paths.find_home()
    settings = config.load(home)
    clock.use_zone(settings.get("events.timezone"))
    engine = recovery.Recovery(Control(home, settings))
    done = engine.run(None if given.all else given.args, given.reason or "", given.force, given.dry_run, given.fresh)
    output.show([one.record() for one in done], given.o, recovery.FIELDS, recovery.FIELDS)
    return _code(done)


def _code(done: list[recovery.Outcome]) -> int:
    """The worst of all."""
    if any(one.action == recovery.FAILED for one in done):
        return errors.UNAVAILABLE
    refused = [one.reason for one in done if one.action == recovery.REFUSED]
    if any(reason not in _LATER for reason in refused):
        return errors.UNAVAILABLE
    if refused:
        return errors.LATER
    return errors.OK if done else errors.NO
