"""orc-team: the supervisor of agent processes, which starts them, watches them and starts them again."""

from __future__ import annotations

import ctypes
import sys

from tmux_orchestrator.ground import errors, fastjson, options, output, paths, pidfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tmux_orchestrator.work.team.daemon import TeamStatus

USAGE = """\
usage: orc-team [start] [--agents NAME,NAME...] [--debug]
       orc-team start|stop|restart NAME... [--force]
       orc-team status [--agent NAME] [--json]
       orc-team stop [--force]
       orc-team queue|bottlenecks|metrics|events [--json] [--agent NAME] [--since TIME] [--tail N]

Supervises the agents of the section team.agents of the configuration, in the foreground, until it is told to stop;
orchestrator_manager.sh start team does it in the background. An agent that crashes is started again at once, a few
times; then it has failed, which is one critical message to the group management. What they print goes into
logs/team.log. With names, start, stop and restart are about these agents, and asked of the supervisor that runs.
status ends with 1 when no supervisor runs. queue, bottlenecks, metrics and events say where the time of tasks goes,
supervised or not (docs/where-time-goes.md). Also called team-daemon.

  --agents NAMES          supervise these alone, separated by commas
  --agent NAME            status, metrics: of this one
  --force                 stop: by SIGKILL, at once; else SIGTERM and team.stop.timeout
  --debug                 say more of what is done
  --since TIME            metrics: of what ended since then (default: of all)
  --tail N                events: the last N (default 100)
  --json                  status and figures: as one document

examples:
  orc-team status --json | jq '.agents[] | select(.alive | not)'
  orc-team restart code_developer
  orc-team metrics --agent code_developer --since 7d
"""

_COLUMNS = ("name", "state", "pid", "uptime_s", "cpu_percent", "memory_mb", "restarts", "current_task")
_PR_SET_NAME = 15


def main(argv: list[str]) -> int:
    given = options.parse(USAGE, argv)
    word, *names = given.args or ["start"]
    if word not in _WORDS:
        raise errors.UsageError(f"unknown word {word!r}{options.near(word, list(_WORDS))}: see --help")
    return _WORDS[word](names, given)


def _start(names: list[str], given: options.Options) -> int:
    if names:
        return _ask("start", names, given)
    from tmux_orchestrator.work.team.supervisor import Supervisor

    home = paths.find_home()
    only = [name for name in (given.agents or "").split(",") if name]
    if given.agents is not None and not only:
        raise errors.UsageError("--agents names nobody: give names, separated by commas")
    if pidfile.claim(home, "team") is None:
        pid = pidfile.running(home, "team")
        print(f"orc-team: the team is supervised already (pid {pid}): orc-team status", file=sys.stderr)
        return errors.NO
    ctypes.CDLL(None).prctl(_PR_SET_NAME, b"team-daemon", 0, 0, 0)
    Supervisor(home, only, given.debug).run()
    return errors.OK


def _stop(names: list[str], given: options.Options) -> int:
    names += [name for name in (given.agents or "").split(",") if name]
    if names:
        return _ask("stop", names, given)
    from tmux_orchestrator.work.team.daemon import TeamDaemon

    daemon = TeamDaemon()
    if not daemon.stop(given.force):
        left = ", ".join(one.name for one in daemon.status().agents.values() if one.is_alive)
        print("the team's supervisor does not run" + (left and f"; {left} run on, and orc-team start takes them over"))
        return errors.NO
    print("the team has stopped")
    return errors.OK


def _restart(names: list[str], given: options.Options) -> int:
    if not names:
        raise errors.UsageError("whom to restart is missing: name agents, or orchestrator_manager.sh restart team")
    return _ask("restart", names, given)


def _ask(word: str, names: list[str], given: options.Options) -> int:
    """Of the supervisor that runs; 69 when one of them is not as it was wanted."""
    from tmux_orchestrator.work.team.daemon import TeamDaemon

    states = TeamDaemon().ask(word, names, given.force)
    for name, state in states.items():
        print(output.clean(f"{name}: {state}"))
    good = ("stopped",) if word == "stop" else ("running", "waiting", "exited")
    return errors.OK if all(state in good for state in states.values()) else errors.UNAVAILABLE


def _status(names: list[str], given: options.Options) -> int:
    from tmux_orchestrator.work.team.daemon import TeamDaemon

    told = TeamDaemon().status()
    for name in [*names, *([given.agent] if given.agent else [])]:
        if name not in told.agents:
            close = options.near(name, list(told.agents))
            raise errors.UsageError(f"no agent of the team is called {name!r}{close}: see orc-team status")
        names = list(dict.fromkeys([*names, name]))
    for name in set(told.agents) - set(names or told.agents):
        del told.agents[name]
    if given.json:
        print(fastjson.dumps(told.record()))
    else:
        _report(told)
    return errors.OK if told.pid is not None else errors.NO


def _report(told: TeamStatus) -> None:
    if told.pid is None:
        print("Team: no supervisor runs")
    else:
        count = "?" if told.message_queue_size is None else told.message_queue_size
        print(f"Team: supervised for {told.uptime:.0f} s (pid {told.pid}), {count} tasks wait")
    records = [one.record() for one in told.agents.values()]
    if records:
        print("\n".join(output.table(records, _COLUMNS)))
    for one in told.agents.values():
        if one.state == "failed":
            print(output.clean(f"{one.name} {one.reason}: orc-team start {one.name}"))


def _figures(word: str) -> Callable[[list[str], options.Options], int]:
    def show(names: list[str], given: options.Options) -> int:
        from tmux_orchestrator.insight import task_reports

        return task_reports.show(word, names, given)

    return show


# Each word's function takes the names behind it, and the options.
_WORDS: dict[str, Callable[[list[str], options.Options], int]] = {
    "start": _start,
    "stop": _stop,
    "restart": _restart,
    "status": _status,
    **{word: _figures(word) for word in ("queue", "bottlenecks", "metrics", "events")},
}
