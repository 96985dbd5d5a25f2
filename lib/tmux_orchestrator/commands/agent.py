"""orc-agent: see the agents and steer them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from tmux_orchestrator.agents import address, state
from tmux_orchestrator.agents.control import Control
from tmux_orchestrator.eventlog import event
from tmux_orchestrator.eventlog.daylog import Log
from tmux_orchestrator.ground import clock, config, errors, options, output, paths, times
from tmux_orchestrator.watch import escalation, recovery

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


USAGE = """\
usage: orc-agent list
       orc-agent show|peek|attach|interrupt TARGET
       orc-agent pause|resume|stop|restart|forget TARGET...
       orc-agent send TARGET MESSAGE...
       orc-agent broadcast [--all|--session SESSION] MESSAGE...
       orc-agent escalate MESSAGE...
       orc-agent answer TARGET CHOICE [--asked ID]
       orc-agent wait TARGET --until STATE
       orc-agent restore [SESSION...]
       orc-agent adopt PANE [--name NAME]
       orc-agent rename TARGET NAME

See the agents and steer them. TARGET is a name, session:name, session:window[.pane] or
%pane. A message of `-`, or none, is read from standard input. An agent's broadcast goes to
the others of its session, anybody else's to all; an escalation to `delivery.escalate_to`.

restore brings back every agent of these sessions, or of all, that ended but not on purpose: in its pane, or after a
reboot in sessions and windows made anew, project managers first. It ends with 0 when one or more are back, 1 when
there was none to bring back, 69 when a start failed. An adopted one is named and left.

  --name NAME             adopt: what to call it (default its window's name)
  --role ROLE             adopt: what it is for (default its name)
  --group GROUP...        adopt: a group that it belongs to
  --profile PROFILE       adopt: how to type into it (default what knows the program)
  --all                   broadcast: to everybody, from an agent too; restore: also who left or was stopped on purpose
  --session SESSION       broadcast: to the agents of this session only
  --asked ID              answer: this question only, by the id that the question came with
  --until STATE           wait: idle, waiting (for a person) or gone
  --timeout DURATION      wait: give up after this time, with exit code 124
  --force                 restart: end it first if it runs
  --fresh                 restart: with a new conversation, not the one that it had
  --dry-run               stop, restart, restore, forget: say what would be done
  -n, --lines N           peek: the last N lines only
  -o FORMAT               list, show, adopt, restore: jsonl, json, table or FIELD,FIELD...

examples:
  orc-agent send backend-dev:2 "STATUS REQUEST: please say what you are working on"
  orc-agent wait backend --until idle --timeout 10m && orc-agent peek backend -n 20
"""

UNTIL = ("idle", "waiting", "gone")
MESSAGES = ("send", "broadcast", "escalate")


def main(argv: list[str]) -> int:
    action = argv[0] if argv else ""
    if action.startswith("-"):
        options.parse(USAGE, argv)
    known = ACTIONS.get(action)
    if known is None:
        wrong = f"{action!r} is no action{options.near(action, list(ACTIONS))}" if argv else "what to do is missing"
        raise errors.UsageError(f"{wrong}: give {', '.join(ACTIONS)}")
    act, allowed, least, most = known
    given = options.parse(USAGE, argv[1:], stop_at_word=action in MESSAGES)
    _check(action, given, allowed, least, most)
    home = paths.find_home()
    settings = config.load(home)
    clock.use_zone(settings.get("events.timezone"))
    return act(Control(home, settings), given)


def _check(action: str, given: options.Options, allowed: str, least: int, most: int) -> None:
    for option, (attribute, _) in options.declared(USAGE).items():
        if getattr(given, attribute) not in (None, False, []) and attribute not in allowed.split():
            raise errors.UsageError(f"{action} takes no {option}: see --help")
    if not least <= len(given.args) <= most:
        raise errors.UsageError(f"too {'few' if len(given.args) < least else 'many'} words: {_form(action)}")


def _form(action: str) -> str:
    """How an action is written, by the synopsis."""
    for line in USAGE.split("\n\n", 1)[0].split("\n"):
        actions, _, rest = line.partition("orc-agent ")[2].partition(" ")
        if action in actions.split("|"):
            return f"orc-agent {action} {rest}".rstrip()
    raise LookupError(action)


def _list(control: Control, given: options.Options) -> int:
    records = [seen.record() for seen in control.show(control.everybody())]
    output.show(records, given.o, state.COLUMNS, state.FIELDS)
    return errors.OK


def _show(control: Control, given: options.Options) -> int:
    record = control.show([control.find(given.args[0])])[0].details()
    if given.o or not output.on_terminal():
        output.show([record], given.o, state.COLUMNS, list(record))
    else:
        for field, value in record.items():
            print(f"{output.paint(field.ljust(14), 'bold')}  {output.cell(value)}")
    return errors.OK


def _peek(control: Control, given: options.Options) -> int:
    seen, pane = control.there(given.args[0])
    shot = control.server(seen.agent.socket).look([pane.id], attributes=False).get(pane.id)
    lines = shot.lines if shot else []
    while lines and not lines[-1].strip():
        lines.pop()
    if given.lines is not None:
        lines = lines[-_count(given.lines) :]
    sys.stdout.write("".join(output.clean(line.rstrip()) + "\n" for line in lines))
    return errors.OK


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise errors.UsageError(f"-n {text!r} is no number of lines: say how many")
    return int(text)


def _attach(control: Control, given: options.Options) -> int:
    argv = control.attach(given.args[0])
    os.execvp(argv[0], argv)


def _interrupt(control: Control, given: options.Options) -> int:
    control.interrupt(given.args[0])
    return errors.OK


def _answer(control: Control, given: options.Options) -> int:
    target, choice = given.args
    if control.answer(target, choice, given.asked or ""):
        return errors.OK
    what = "another dialog or none" if given.asked else "no dialog"
    print(f"orc-agent: {what} is on the screen of {target}: nothing was typed", file=sys.stderr)
    return errors.NO


def _wait(control: Control, given: options.Options) -> int:
    if given.until not in UNTIL:
        raise errors.UsageError(f"wait needs --until with one of {', '.join(UNTIL)}")
    timeout = None if given.timeout is None else times.parse_duration(given.timeout)
    control.wait(given.args[0], given.until, timeout)
    return errors.OK


def _pause(control: Control, given: options.Options) -> int:
    for agent in [control.find(target) for target in given.args]:
        control.pause(agent, True)
    return errors.OK


def _resume(control: Control, given: options.Options) -> int:
    for agent in [control.find(target) for target in given.args]:
        control.pause(agent, False)
    return errors.OK


def _stop(control: Control, given: options.Options) -> int:
    code = errors.OK
    for agent in [control.find(target) for target in given.args]:
        if given.dry_run:
            print(f"would end {agent.key} (pid {agent.pid})" if agent.alive() else f"{agent.key} is not running")
        elif not control.stop(agent):
            code = errors.NO
    return code


def _restart(control: Control, given: options.Options) -> int:
    for agent in [control.find(target) for target in given.args]:
        if given.dry_run:
            print(f"would start {agent.key} again" + (f", ending pid {agent.pid} first" if agent.alive() else ""))
        else:
            recovery.by_hand(control, agent, given.force, given.fresh)
    return errors.OK


def _restore(control: Control, given: options.Options) -> int:
    output.check(given.o, recovery.FIELDS)
    done = recovery.Recovery(control).restore(given.args, given.all, given.dry_run)
    output.show([one.record() for one in done], given.o, recovery.FIELDS, recovery.FIELDS)
    if any(one.action == recovery.FAILED for one in done):
        return errors.UNAVAILABLE
    return errors.OK if any(one.action == recovery.RESPAWNED for one in done) else errors.NO


def _forget(control: Control, given: options.Options) -> int:
    for agent in [control.find(target) for target in given.args]:
        if given.dry_run:
            print(f"would forget {agent.key}")
        else:
            control.forget(agent)
    return errors.OK


def _adopt(control: Control, given: options.Options) -> int:
    output.check(given.o, state.FIELDS)
    agent = control.adopt(given.args[0], given.name, given.role, given.group, given.profile)
    output.show([seen.record() for seen in control.look([agent])], given.o, state.COLUMNS, state.FIELDS)
    return errors.OK


def _rename(control: Control, given: options.Options) -> int:
    control.rename(control.find(given.args[0]), given.args[1])
    return errors.OK


def _send(control: Control, given: options.Options) -> int:
    target, *words = given.args
    return _publish(control, [address.canonical(control.registered, target, control.source["session"], None)], words)


def _broadcast(control: Control, given: options.Options) -> int:
    """An agent speaks to its own team unless it says otherwise: other sessions' work is none of its business."""
    if given.all and given.session is not None:
        raise errors.UsageError("--all and --session say two things: give one")
    own = control.source["session"] if control.source["verified"] else None
    session = None if given.all else given.session or own
    if session is None:
        return _publish(control, ["@all"], given.args)
    there = [agent for agent in control.everybody() if agent.session == session and not agent.ended]
    targets = [agent.key for agent in there if (session, agent.name) != (own, control.source["identifier"])]
    if there and not targets:
        raise errors.UsageError(f"nobody else is in session {session!r}: --all reaches every session")
    if not targets:
        near = options.near(session, sorted({agent.session for agent in control.registered}))
        raise errors.UsageError(f"no agent is in a session {session!r}{near}: see orc-agent list")
    return _publish(control, targets, given.args)


def _escalate(control: Control, given: options.Options) -> int:
    """It is logged first; then whoever escalates hears if nobody is there to read it."""
    source, wanted = control.source, control.settings.get("delivery.escalate_to")
    asker = f"{source['session']}:{source['identifier']}"
    targets = [target for target in wanted if _reaches(control, target, asker)]
    body = _message(given.args)
    session = source["session"]
    team = control.look([agent for agent in control.registered if session in (None, agent.session)])
    made = escalation.build(body, source, targets or wanted, team, escalation.recent(control.home, session))
    made["metadata"] |= {} if targets else {"queue": True}
    _append(control, made)
    if targets:
        return errors.OK
    who = ", ".join(wanted) or "nobody"
    raise errors.UnavailableError(
        f"logged, but there is no agent in delivery.escalate_to ({who}): tell a person, or start one, as in"
        " orc-run orchestrator -- COMMAND"
    )


def _reaches(control: Control, target: str, asker: str) -> bool:
    """Is somebody there behind a target of the configuration?"""
    if not escalation.reached(control.everybody(), [target], asker):
        return False
    if target.startswith("@"):
        return True
    try:
        return control.find(target).key != asker
    except errors.OrcError:
        return False


def _publish(control: Control, targets: list[str], words: list[str]) -> int:
    """Append one message to the log, and print its id; the broker types it. Nobody receives their own."""
    return _append(control, event.build(_message(words), control.source, targets=targets, type="message"))


def _append(control: Control, made: dict[str, Any]) -> int:
    log = Log(control.home, durable=control.settings.get("events.durability") == "disk")
    print(log.append([made])[0], flush=True)
    return errors.OK


def _message(words: list[str]) -> str:
    """The words, else standard input."""
    if words and words != ["-"]:
        data = os.fsencode(" ".join(words))
    elif not words and sys.stdin.isatty():
        raise errors.UsageError("there is no message: give it as words, or pipe it in")
    else:
        data = sys.stdin.buffer.read(event.MAX_LINE + 1).removesuffix(b"\n")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise errors.DataError("the message is not UTF-8: convert it, with iconv for example") from None
    if not text.strip():
        raise errors.DataError("the message is empty: give it a body")
    return text


Action = tuple["Callable[[Control, options.Options], int]", str, int, int]

# What each action calls, the options that it takes, and how many words at least and at most.
ACTIONS: dict[str, Action] = {
    "list": (_list, "o", 0, 0),
    "show": (_show, "o", 1, 1),
    "peek": (_peek, "lines", 1, 1),
    "attach": (_attach, "", 1, 1),
    "send": (_send, "", 1, 1 << 20),
    "broadcast": (_broadcast, "all session", 0, 1 << 20),
    "escalate": (_escalate, "", 0, 1 << 20),
    "interrupt": (_interrupt, "", 1, 1),
    "answer": (_answer, "asked", 2, 2),
    "wait": (_wait, "until timeout", 1, 1),
    "pause": (_pause, "", 1, 1 << 20),
    "resume": (_resume, "", 1, 1 << 20),
    "stop": (_stop, "dry_run", 1, 1 << 20),
    "restart": (_restart, "force fresh dry_run", 1, 1 << 20),
    "restore": (_restore, "all dry_run o", 0, 1 << 20),
    "adopt": (_adopt, "name role group profile o", 1, 1),
    "forget": (_forget, "dry_run", 1, 1 << 20),
    "rename": (_rename, "", 2, 2),
}
