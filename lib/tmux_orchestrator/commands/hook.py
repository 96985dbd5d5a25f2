"""orc-hook: what the hooks of agent CLIs call.

As a hook it ends with 0 whatever happens, within BOUND seconds, and prints nothing but what the CLI is to read: what
went wrong is a line in logs/hook.out. Who calls is the registered agent in whose process tree this runs; for anybody
else nothing is done. A crash leaves the agent's sign as it was, or as it is.
"""

from __future__ import annotations

import _thread
import os
import time

from tmux_orchestrator.agents import hooks, registry, shells, signs
from tmux_orchestrator.ground import clock, errors, fastjson, files, handover, options, paths, proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tmux_orchestrator.agents import hook_setup

USAGE = """\
usage: orc-hook install|uninstall|status [options] [claude|codex|gemini]...
       orc-hook claude|codex|gemini|aider EVENT [--then COMMAND]

Lets an agent CLI's own hooks say what the agent does, and which messages it took. install merges our hooks into the
settings of the CLI, next to those that are there; with them the rule that lets agents run our commands without being
asked, and a section for its instructions that tells of the commands. What is there already stays, and a copy of the
settings beside it. uninstall takes out what install put in. status ends with 1 where something is not installed.

The second form is what the hooks call, with the CLI's payload on standard input. It always ends with 0, within two
seconds, and prints only what the CLI is to read.

  --user                  for all of the user's projects (default)
  --project DIR           for one project only
  --no-permissions        without the rule that allows our commands
  --no-text               without the section in CLAUDE.md, AGENTS.md or GEMINI.md
  --dry-run               only say what would be written
  -o FORMAT               status: jsonl, json, table or FIELD,FIELD...
  --then COMMAND          for Claude Code's status line: print what this command prints

examples:
  orc-hook install claude codex
  orc-hook status -o cli,installed,trusted
  aider --notifications --notifications-command "orc-hook aider notification"
"""

BOUND = 2.0  # seconds
MOST = 1 << 20  # bytes of standard input that are looked at
_LOG_SIZE = 1 << 20
_COLUMNS = ("cli", "scope", "installed", "version", "trusted", "permissions", "text", "problems")
# fmt: off
_FIELDS = (
    "cli", "scope", "installed", "events", "path", "version", "trusted", "permissions", "text", "problems",
)
# fmt: on
_DAY_NS = 86_400_000_000_000


def main(argv: list[str]) -> int:
    if not argv or argv[0] not in hooks.EVENTS:
        return _for_a_person(options.parse(USAGE, argv))
    _thread.start_new_thread(_watch, ())
    cli, event = argv[0], argv[1] if len(argv) > 1 else ""
    then = argv[3] if len(argv) > 3 and argv[2] == "--then" else ""
    data = b""
    try:
        if cli not in hooks.SILENT:
            data = _standard_input()
        _call(cli, event, data, not then)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 # a hook that fails must not disturb the agent
        _log("ERROR", f"{cli} {event}: {type(error).__name__}: {error}")
    if then:
        _become(then, data)
    return errors.OK


def _for_a_person(given: options.Options) -> int:
    from tmux_orchestrator.agents import hook_setup

    verb, names = (given.args or ["nothing"])[0], given.args[1:]
    if verb not in ("install", "uninstall", "status"):
        raise errors.UsageError(f"{verb!r} is neither install, uninstall, status nor an agent CLI: see --help")
    if given.user and given.project is not None:
        raise errors.UsageError("--user and --project are two places: give one")
    wrong = [name for name in names if name not in hook_setup.CLIS]
    if wrong or (verb != "status" and not names):
        known = ", ".join(hook_setup.CLIS)
        raise errors.UsageError(f"{wrong[0]!r} has no hooks" if wrong else f"which agent CLI? name one of {known}")
    places = [hook_setup.place(name, os.environ, given.project) for name in names or hook_setup.CLIS]
    if verb == "status":
        return _status(places, given.o)
    changes = []
    for where in places:
        if verb == "install":
            changes += hook_setup.install(where, not given.no_permissions, not given.no_text)
        else:
            changes += hook_setup.uninstall(where)
    for change in changes:
        print(f"{change.path}: {change.said}" if given.dry_run else hook_setup.carry_out(change))
    if verb == "install" and "codex" in names:
        print("codex: start it, and choose to trust the hooks (or run /hooks): until then it calls none of them")
    return errors.OK


def _status(places: list[hook_setup.Place], form: str | None) -> int:
    from tmux_orchestrator.agents import hook_setup, hook_trust
    from tmux_orchestrator.ground import output

    records = []
    for where in places:
        record = hook_setup.status(where) | {"version": hook_trust.version(where.cli, os.environ), "trusted": None}
        if where.cli == "codex" and record["installed"]:
            trust = hook_trust.codex(os.getcwd(), os.environ)
            if trust is not None:
                record["trusted"] = bool(trust) and all(said == "trusted" for said in trust.values())
            if record["trusted"] is False:
                record["problems"].append("it calls no hook that it was not told to trust: run /hooks in codex")
            if not hook_trust.login_shell_finds("orc-publish", os.environ):
                record["problems"].append(
                    "login shells do not find our commands: put PATH into ~/.profile, or make install"
                )
        records.append(record)
    output.show(records, form, _COLUMNS, _FIELDS)
    return errors.OK if all(record["installed"] for record in records) else errors.NO


def _call(cli: str, event: str, data: bytes, alone: bool) -> None:
    """Do what the call asks for, and print what is to be printed."""
    payload = _payload(cli, event, data)
    home = paths.find_home()
    agent = registry.caller(registry.load(home))
    report = hooks.read(cli, event, payload) if payload is not None else None
    if report is None or agent is None or (agent.profile in hooks.EVENTS and agent.profile != cli):
        return
    if report.kind == "status":
        _note(home, agent, report)
        if alone:
            _print(hooks.status_line(agent.name, report.usage) + "\n")
        return
    # Before it is noted that the turn has ended: the broker would take the parcel back, and wake the agent.
    if report.kind == "stop" and _hand_over(home, agent, report):
        return
    ended = _note(home, agent, report)
    if ended is None:
        return
    if ended:
        _acknowledge(home, agent, ended)
    if report.kind == "prompt" and _hand_over(home, agent, report):
        return
    if hooks.takes_text(report):
        from tmux_orchestrator.delivery import pull

        _print(hooks.say(report, pull.context_for(agent, report)))


def _hand_over(home: paths.Home, agent: registry.Agent, report: hooks.Report) -> bool:
    """Let the model have the messages that wait, if there are any and the agent's own conversation calls."""
    sign = signs.load(home, agent)
    if agent.paused or not hooks.takes_text(report):
        return False
    if sign is not None and not (sign.calls(*_caller(agent)) and hooks.concerns(report, sign)):
        return False
    from tmux_orchestrator.delivery import pull

    handed = pull.parcel_for(home, agent, report, sign)
    if handed is None:
        return False
    _print(hooks.say(report, handed.text))
    pull.delivered(home, agent, report, handed)
    return True


def _print(text: str) -> None:
    files.write_all(1, text.encode("utf-8"))


def _note(home: paths.Home, agent: registry.Agent, report: hooks.Report) -> list[str] | None:
    """Put it on file; the messages of the turn that it ended. None: the CLI that calls is not the agent's own."""
    now, (pid, start) = clock.now_ns(), _caller(agent)
    ended: list[str] = []
    known = True

    def change(sign: signs.Sign) -> None:
        nonlocal known
        known = sign.calls(pid, start)
        if not known:
            return
        sign.cli, sign.cli_start = pid, start
        before = sign.of_turn()
        hooks.apply(report, sign, now)
        if report.kind == "stop" and not sign.turn:
            ended.extend(before)

    if report.kind == "status":
        sign = signs.load(home, agent)
        if not report.usage or (sign is not None and sign.usage == report.usage):
            return ended
    signs.update(home, agent, change)
    return ended if known else None


def _caller(agent: registry.Agent) -> tuple[int, int]:
    """The process that calls: the nearest above us that is no shell, or the agent's own."""
    for pid in proc.ancestors(os.getppid()):
        if pid == agent.pid or registry.program(pid) not in shells.SHELLS:
            return pid, proc.start_time(pid) or 0
    return agent.pid, agent.pid_start


def _acknowledge(home: paths.Home, agent: registry.Agent, taken: list[str]) -> None:
    """The turn that held them is over: our own daemons' notices among them are taken care of.

    Whoever else asks for an acknowledgment asks the agent, and gets it from the agent alone.
    """
    from tmux_orchestrator.agents import sender
    from tmux_orchestrator.eventlog import ack, reader
    from tmux_orchestrator.eventlog.daylog import Log
    from tmux_orchestrator.ground import config

    query = reader.Query()
    query.ids, query.since = taken, clock.now_ns() - _DAY_NS
    acks = []
    for _, found in reader.last(home, query, len(taken)):
        source = found["source"]
        if source["type"] == "daemon" and source.get("verified") is True and found["metadata"]["requires_ack"]:
            acks.append(ack.build(found["id"], "its turn has ended", sender.of(agent)))
    if acks:
        settings = config.load(home)
        clock.use_zone(settings.get("events.timezone"))
        Log(home, durable=settings.get("events.durability") == "disk").append(acks)


# The payload.


def _standard_input() -> bytes:
    """What is there, one byte more than MOST where it is longer; the rest is read and let go."""
    if os.isatty(0):
        return b""
    kept = b""
    while block := os.read(0, 1 << 16):
        if len(kept) <= MOST:
            kept += block
    return kept[: MOST + 1]


def _payload(cli: str, event: str, data: bytes) -> dict[str, Any] | None:
    """The payload's fields; None, and a line in the log, where it is none.

    Of one that is too large the event alone counts: the edge of a turn is one, however much was pasted.
    """
    if cli in hooks.SILENT:
        return {}
    if len(data) > MOST:
        _log("WARNING", f"{cli} {event}: a payload of more than {MOST} bytes: only its event counts")
        return {}
    try:
        payload = fastjson.loads(data)
    except ValueError as error:
        _log("WARNING", f"{cli} {event}: a payload of {len(data)} bytes that is not JSON ({error})")
        return None
    if not isinstance(payload, dict):
        _log("WARNING", f"{cli} {event}: a payload that is no object")
        return None
    return payload


# The ends.


def _become(command: str, data: bytes) -> None:
    """Let the user's own status line command have the payload, and the output."""
    try:
        fd = os.memfd_create("payload")
        files.write_all(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        os.dup2(fd, 0)
        handover.become(["/bin/sh", "-c", command], dict(os.environ), handover.callers_umask())
    except (OSError, ValueError) as error:
        _log("ERROR", f"--then {command!r}: {error}")


def _watch() -> None:
    """Ends the process when it takes too long; a thread, since a lock that is waited for uses the alarm."""
    time.sleep(BOUND)
    _log("WARNING", "it took too long: ended")
    os._exit(errors.OK)


def _log(level: str, text: str) -> None:
    from tmux_orchestrator.ground import output

    try:
        home = paths.find_home()
        path = home.out_file("hook")
        line = f"{clock.stamp(clock.now_ns())} {level} hook: {output.clean(text)[:1000]}\n".encode("utf-8", "replace")
        files.make_dir(home.logs)
        files.append(path, line)
        if os.stat(path).st_size > _LOG_SIZE:
            os.rename(path, path + ".1")
    except (OSError, errors.OrcError):
        pass
