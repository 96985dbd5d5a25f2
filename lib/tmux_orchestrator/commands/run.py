"""orc-run: start an agent CLI as a pane's own process, registered."""

from __future__ import annotations

import os

from tmux_orchestrator.ground import errors, handover, options, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tmux_orchestrator.agents.runner import Plan
    from tmux_orchestrator.ground.config import Config
    from tmux_orchestrator.ground.tmux import Tmux

USAGE = """\
usage: orc-run NAME [options] -- COMMAND [ARGUMENT...]

Starts COMMAND in a tmux window of its own, with this environment and in this folder, and
registers it as agent NAME, so that messages reach it. No shell is beneath it: when it ends,
its window stays, says how it ended and how to start it again. Prints what was registered.

  --role ROLE             what it is for; @ROLE addresses it (default NAME)
  --group GROUP...        a group that it belongs to
  --session SESSION       the tmux session, made if need be (default the one around you, else the folder's name)
  --window WINDOW         a window, by name or index, to share; made if there is none (default a new one called NAME)
  --profile PROFILE       how to type into it (default what knows COMMAND, else plain)
  --restart WHEN          never (default), crash or always
  --supervisor WHO        who starts it again: monitor, team or none (default monitor where --restart wants it back)
  -o FORMAT               jsonl, json, table or FIELD,FIELD...

examples:
  orc-run pm -- claude
  orc-run backend --session web --group devs --restart crash -- codex --full-auto
"""


def main(argv: list[str]) -> int:
    if argv[:1] == ["--launch"] and len(argv) == 2:  # in the pane: become the agent
        from tmux_orchestrator.agents import launch

        return launch.run(argv[1])
    given = options.parse(USAGE, argv)
    if len(given.args) < 2:
        raise errors.UsageError("say a name and a command: orc-run pm -- claude")
    return _start(given)


def _start(given: options.Options) -> int:
    from tmux_orchestrator.agents import runner, state
    from tmux_orchestrator.ground import clock, config, output, tmux

    output.check(given.o, state.FIELDS)
    home = paths.find_home()
    settings = config.load(home)
    clock.use_zone(settings.get("events.timezone"))
    socket = tmux.find_socket(settings.get("tmux.socket"))
    server = tmux.Tmux(socket)
    agent = runner.start(home, server, socket, _plan(given, settings, server))
    pane = next((p for p in server.panes() if p.id == agent.pane), None)
    seen = state.Seen(agent, "starting", "kernel", since=agent.registered, pane=pane)
    output.show([seen.record()], given.o, state.COLUMNS, state.FIELDS)
    return errors.OK


def _plan(given: options.Options, settings: Config, server: Tmux) -> Plan:
    from tmux_orchestrator.agents import profiles, runner

    name, *argv = given.args
    restart = given.restart or "never"
    known = profiles.load(settings.profiles)
    if given.profile is not None and given.profile not in known:
        near = options.near(given.profile, list(known))
        raise errors.UsageError(f"there is no profile {given.profile!r}{near}: take one of {', '.join(sorted(known))}")
    return runner.Plan(
        name=name,
        session=given.session or _session(server),
        window=given.window or "",
        role=given.role or name,
        groups=given.group,
        profile=given.profile or profiles.for_command(known, argv).name,
        restart=restart,
        supervisor=given.supervisor or (runner.NONE if restart == "never" else runner.MONITOR),
        argv=argv,
        cwd=os.getcwd(),
        env=dict(os.environ),
        umask=handover.callers_umask(),
    )


def _session(server: Tmux) -> str:
    """The tmux session around us, if it is on this server; else the folder's name."""
    from tmux_orchestrator.agents import places, windows

    around = os.environ.get("TMUX", "").split(",")
    try:
        if len(around) == 3 and around[1] == str(places.where(server).pid):
            pane = os.environ.get("TMUX_PANE", "")
            return next(p.session for p in server.panes() if p.id == pane)
    except (errors.UnavailableError, StopIteration):
        pass
    return windows.folder_name(os.getcwd())
