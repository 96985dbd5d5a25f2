"""orc-component: what orchestrator_manager.sh does once the system is set up."""

from __future__ import annotations

import os
import subprocess
import sys

from tmux_orchestrator.eventlog import daylog, event
from tmux_orchestrator.ground import clock, components, config, errors, fastjson, options, output, paths, pidfile

USAGE = """\
usage: orc-component start|stop|restart|status [COMPONENT...]
       orc-component logs [-f] [COMPONENT...]
       orc-component clear-queues [--yes] [--dry-run]
       orc-component near WORD KNOWN...

The part of orchestrator_manager.sh that runs once the system is set up. Without COMPONENT, start means those that
the configuration asks for (section components), stop and status all. status ends with 0 when everything that is
wanted runs, with 1 otherwise. logs shows the end of what the components printed, and of the day's log.
clear-queues drops what waits to be typed; the log keeps it. near prints which known words a slip may mean.

  -f, --follow            logs: go on as more is written
  -y, --yes               clear-queues: do not ask
  --dry-run               clear-queues: only say what would be dropped

examples:
  orc-component restart broker
  orc-component status || orc-component logs
"""


def main(argv: list[str]) -> int:
    given = options.parse(USAGE, argv)
    if not given.args:
        raise errors.UsageError(f"what to do is missing: give {', '.join(_ACTIONS)}")
    action, *names = given.args
    if action == "near" and names:
        print(options.near(names[0], names[1:]))
        return errors.OK
    if action not in _ACTIONS:
        raise errors.UsageError(f"unknown action {action!r}{options.near(action, list(_ACTIONS))}: see --help")
    for name in names:
        if name not in components.COMMANDS:
            close = options.near(name, list(components.COMMANDS))
            raise errors.UsageError(f"unknown component {name!r}{close}: give {', '.join(components.COMMANDS)}")
    return _ACTIONS[action](paths.find_home(), names, given)


def _start(home: paths.Home, names: list[str], given: options.Options) -> int:
    settings = config.load(home)
    _begin_day(home, settings)
    code = errors.OK
    for name in names or components.wanted(settings):
        if not components.exists(name):
            raise errors.UnavailableError(f"{name} is not part of this installation: its command is not in bin/")
        try:
            pid, new = components.start(home, name)
        except errors.UnavailableError as error:
            _tell(components.last_lines(home, name), sys.stderr.fileno())
            print(f"orc-component: {error}", file=sys.stderr)
            code = error.code
        else:
            print(f"{name}: {'started' if new else 'already running'} (pid {pid})", flush=True)
    return code


def _begin_day(home: paths.Home, settings: config.Config) -> None:
    """Today's file is there when start returns, so that `tail -f` finds it; at midnight the broker makes the next."""
    clock.use_zone(settings.get("events.timezone"))
    day = clock.local_day(clock.now_ns())
    if day not in daylog.days(home):
        source = daylog.daemon_source("manager")
        begins = event.build(f"{day} begins", source, type="day_start", priority="low", context={"day": day})
        daylog.Log(home).append([begins])


def _stop(home: paths.Home, names: list[str], given: options.Options) -> int:
    ended = 0
    for name in reversed(names or list(components.COMMANDS)):
        if components.stop(home, name):
            print(f"{name}: stopped", flush=True)
            ended += 1
        elif names:
            print(f"{name}: not running", flush=True)
    if not ended and not names:
        print("nothing was running")
    return errors.OK


def _restart(home: paths.Home, names: list[str], given: options.Options) -> int:
    wanted = components.wanted(config.load(home))  # first: with a bad configuration, what runs goes on
    extra = [name for name in components.COMMANDS if name not in wanted and pidfile.running(home, name) is not None]
    _stop(home, names, given)
    return _start(home, names or wanted + extra, given)


def _status(home: paths.Home, names: list[str], given: options.Options) -> int:
    problem: errors.ConfigError | None = None
    try:
        wanted = components.wanted(config.load(home))
    except errors.ConfigError as error:
        problem, wanted = error, []
    code = errors.OK
    for name in names or components.COMMANDS:
        if not (components.exists(name) or names):
            continue
        if not _judge(home, name, name in wanted) and (names or name in wanted):
            code = errors.NO
    if problem:
        raise problem
    return code


def _judge(home: paths.Home, name: str, wanted: bool) -> bool:
    """Say how a component is. Does it run?"""
    pid = pidfile.running(home, name)
    if pid is not None:
        print(f"{name:<14} running      pid {pid}, since {components.since(home, name)}")
        return True
    crash = components.crash(home, name)
    if not components.exists(name):
        state = "not part of this installation"
    elif crash:
        state = "not running: it ended by itself; its last lines:"
    else:
        state = "not running" if wanted else "off"
    print(f"{name:<14} {state}", flush=True)
    _tell(crash, sys.stdout.fileno())
    return False


def _tell(lines: list[str], fd: int) -> None:
    os.write(fd, "".join(f"    {line}\n" for line in lines).encode("utf-8", "backslashreplace"))


def _logs(home: paths.Home, names: list[str], given: options.Options) -> int:
    """Lines go through us, because they may hold what a terminal must not see."""
    shown = [home.out_file(name) for name in names or components.COMMANDS]
    if not names:
        shown.append(home.logs + "/today.jsonl")
    if not given.follow:
        shown = [path for path in shown if os.path.exists(path)]
    if not shown:
        print("nothing was written yet")
        return errors.NO
    follow = ["-F", f"--pid={os.getpid()}"] if given.follow else []
    argv = ["tail", "-n", "20", *follow, "--", *shown]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as tail:
        assert tail.stdout
        try:
            for line in tail.stdout:
                text = line.decode("utf-8", "replace").rstrip("\n")
                print(output.clean(text.replace(home.logs + "/", ""), keep="\t"), flush=True)
        finally:
            tail.terminate()
    return errors.OK


def _clear_queues(home: paths.Home, names: list[str], given: options.Options) -> int:
    if names:
        raise errors.UsageError("clear-queues takes no component: it clears what waits for every agent")
    waiting = _waiting()
    what = "what waits to be typed" if waiting is None else f"{waiting} waiting message{'s' * (waiting != 1)}"
    if given.dry_run:
        print(f"would drop {what}; the log keeps it")
        return errors.OK
    if not given.yes and not _agrees(f"Drop {what}? The log keeps it. [y/N] "):
        print("nothing was dropped")
        return errors.NO
    text = f"clear-queues: drop {what}"
    command = [paths.CODE + "/bin/orc-publish", "--type", "clear_queues", "--", text]
    published = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if published.returncode == 0:
        later = "" if pidfile.running(home, "broker") is not None else " as soon as the broker runs"
        print(f"{what}: dropped{later}")
    return published.returncode


def _agrees(question: str) -> bool:
    if not sys.stdin.isatty():
        raise errors.UsageError("nobody can be asked here: give --yes")
    print(question, end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _waiting() -> int | None:
    """How many messages wait, if that can be known."""
    command = [paths.CODE + "/bin/orc-status", "--json"]
    try:
        asked = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False)
        queued = output.value(fastjson.loads(asked.stdout), "broker.queued")
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return queued if isinstance(queued, int) else None


_ACTIONS = {
    "start": _start,
    "stop": _stop,
    "restart": _restart,
    "status": _status,
    "logs": _logs,
    "clear-queues": _clear_queues,
}
