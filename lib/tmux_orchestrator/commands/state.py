"""orc-state: the state of each session, and the state updater that keeps it."""

from __future__ import annotations

import os
import sys
from typing import Any

from tmux_orchestrator.ground import errors, options, output, paths, pidfile
from tmux_orchestrator.watch import sessions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tmux_orchestrator.ground.config import Config
    from tmux_orchestrator.ground.guest import Guest

USAGE = """\
usage: orc-state [show [SESSION...]] [-o FORMAT]
       orc-state --follow
       orc-state start|stop|restart|status

Shows what the state updater keeps in registry/sessions/: who does what, what was completed, which rules were broken,
whose credit is exhausted. A table of the agents on a terminal, one session a line as JSON in a pipe. Ends with 1
when there is no such state. --follow is the state updater itself, in the foreground, until it is told to stop;
orchestrator_manager.sh starts it in the background.

  -o, --output FORMAT     jsonl, json, table or FIELD,FIELD...
  --json                  everything as one document, as -o json
  -f, --follow            take violations, limits, completed tasks and states from the log, and keep them

examples:
  orc-state show
  orc-state show web | jq '.agents[] | select(.violations > 0)'
  orc-state restart
"""

_MANAGED = ("start", "stop", "restart", "status")
_COLUMNS = ("session", "agent", "status", "since", "violations", "completed", "limited_until", "current_task")


def main(argv: list[str]) -> int:
    given = options.parse(USAGE, argv)
    asked = given.output is not None or given.json
    if given.follow:
        if given.args or asked:
            raise errors.UsageError("--follow stands alone: leave the rest out")
        return _follow(paths.find_home())
    if len(given.args) == 1 and given.args[0] in _MANAGED and not asked:
        command = paths.CODE + "/bin/orc-component"
        os.execv(command, [command, given.args[0], "state_updater"])
    if given.args and given.args[0] != "show":
        close = options.near(given.args[0], ["show", *_MANAGED])
        raise errors.UsageError(f"unknown word {given.args[0]!r}{close}: give show SESSION, or see --help")
    form = "json" if given.json and given.output is None else given.output
    output.check(form, sessions.FIELDS)
    return _show(paths.find_home(), given.args[1:], form)


def _follow(home: paths.Home) -> int:
    from tmux_orchestrator.watch.updater import Updater

    if pidfile.claim(home, "state_updater") is None:
        pid = pidfile.running(home, "state_updater")
        print(f"orc-state: a state updater runs already (pid {pid}): orc-state status", file=sys.stderr)
        return errors.NO
    Updater(home, _guests).run()
    return errors.OK


def _guests(home: paths.Home, settings: Config) -> Guest:
    """What needs a process that always runs: the task queue, told, watched and kept small; and the other components."""
    from tmux_orchestrator.eventlog.voice import Voice
    from tmux_orchestrator.ground import components
    from tmux_orchestrator.ground.guest import Several
    from tmux_orchestrator.insight.task_alerts import Alerts
    from tmux_orchestrator.watch.revival import Revival
    from tmux_orchestrator.work.accounts import Accounts
    from tmux_orchestrator.work.outbox import Pump
    from tmux_orchestrator.work.retention import Retention

    kinds = (Pump, Alerts, Accounts, Retention)
    others = tuple(name for name in components.COMMANDS if name != "state_updater")
    return Several(
        *(kind(home, settings, Voice(home, "state_updater")) for kind in kinds),
        Revival(home, settings, Voice(home, "state_updater"), others),
    )


def _show(home: paths.Home, wanted: list[str], form: str | None) -> int:
    found: list[dict[str, Any]] = []
    code = errors.OK
    for one in sessions.every(home):
        if isinstance(one, str):
            print(f"orc-state: {one}", file=sys.stderr)
            code = errors.DATA
        elif not wanted or one["session"] in wanted:
            found.append(one)
    if form in ("table", "text") or (form is None and output.on_terminal()):
        output.show([row for one in found for row in _rows(one)], "table", _COLUMNS, _COLUMNS)
    else:
        output.show(found, form, _COLUMNS, sessions.FIELDS)
    for session in wanted:
        if all(one["session"] != session for one in found):
            print(f"orc-state: nothing is known of session {session!r}: see orc-state show", file=sys.stderr)
            code = code or errors.NO
    return code or (errors.OK if found else errors.NO)


def _rows(state: dict[str, Any]) -> list[dict[str, Any]]:
    """A line for each agent; one for the session where it has none, or something happened to it as a whole."""
    rows = [
        agent | {"session": state["session"], "agent": name, "limited_until": _limit(agent["credit"])}
        for name, agent in sorted(state["agents"].items())
    ]
    if not rows or state["credit"]["exhausted"]:
        counts = state["counts"]
        whole = {"session": state["session"], "since": state["updated"], "limited_until": _limit(state["credit"])}
        rows.append(whole | {"violations": counts["violation"], "completed": counts["task_completed"]})
    return rows


def _limit(credit: dict[str, Any]) -> str | None:
    return (credit["until"] or "unknown") if credit["exhausted"] else None
