"""orc-status: the whole system at a glance."""

from __future__ import annotations

from tmux_orchestrator.ground import errors, options, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tmux_orchestrator.insight.status import Report

USAGE = """\
usage: orc-status [options]

Shows what runs, who works, who waits for whom, who died, what waits to be typed and why, how many tasks wait and
run, how fast messages are typed today, and everything that needs a person, with the command that helps.

  --json                  one document: components, agents, broker, latency_ms, problems, tasks
  --format FORMAT         json or text
  -w, --watch[=SECONDS]   draw it again every SECONDS (default 2) until Ctrl-C
  --tmux                  one short line, for tmux's status line; at most 5 seconds old

examples:
  orc-status --watch=5
  orc-status --json | jq -r '.agents[] | select(.state == "dead") | .name'
  tmux set -g status-right '#(orc-status --tmux)'
"""

_EVERY_S = 2.0


def main(argv: list[str]) -> int:
    given = options.parse(USAGE, argv)
    form = "json" if given.json else given.format or "text"
    if form not in ("json", "text"):
        raise errors.UsageError(f"--format {form!r} is neither json nor text: take one of them")
    every = given.args.pop() if given.watch == "" and len(given.args) == 1 else given.watch
    if given.args:
        raise errors.UsageError(f"{given.args[0]!r} is no option: see --help")
    if sum([form == "json", every is not None, given.tmux]) > 1:
        raise errors.UsageError("--json, --watch and --tmux exclude each other: take one")
    home = paths.find_home()
    if given.tmux:
        return _tmux(home)
    if every is not None:
        return _watch(home, every)
    report = _gather(home)
    if form == "json":
        from tmux_orchestrator.ground import fastjson

        print(fastjson.dumps(report.document()))
    else:
        print(_text(report))
    return errors.OK


def _gather(home: paths.Home) -> Report:
    from tmux_orchestrator.ground import clock, config
    from tmux_orchestrator.insight import status

    settings = config.load(home)
    clock.use_zone(settings.get("events.timezone"))
    return status.gather(home, settings)


def _text(report: Report) -> str:
    import os
    import sys

    from tmux_orchestrator.ground import clock
    from tmux_orchestrator.insight import status_text

    width = os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else 0
    return "\n".join(status_text.render(report, clock.now_ns(), width))


def _watch(home: paths.Home, every: str) -> int:
    import sys
    import time

    from tmux_orchestrator.ground import times

    seconds = times.parse_duration(every) if every else _EVERY_S
    if seconds < 0.1:
        raise errors.UsageError(f"--watch={every} is too often: give 0.1 or more")
    clear = "\x1b[H\x1b[2J" if sys.stdout.isatty() else ""
    while True:
        try:
            text = _text(_gather(home))
        except errors.OrcError as error:  # a file that somebody is just writing: the next look may find it whole
            text = f"orc-status: {error}"
        print(f"{clear}{text}", end="\n" if clear else "\n\n", flush=True)
        time.sleep(seconds)


def _tmux(home: paths.Home) -> int:
    """tmux asks often, and for each client: what is young enough is printed as it is."""
    import os

    from tmux_orchestrator.insight import glance

    line = glance.fresh(home)
    if line is None:
        line = _renew(home)
    os.write(1, line)
    return errors.OK


def _renew(home: paths.Home) -> bytes:
    from tmux_orchestrator.ground.locks import Lock
    from tmux_orchestrator.insight import glance, status_text

    try:
        with Lock(home.run + "/status.lock", timeout=0):
            return glance.keep(home, status_text.tmux_line(_gather(home)))
    except errors.TryLater:
        return glance.kept(home) or b"\n"
