"""orc-heartbeat: an agent's sign of life to the monitor; prints `ack`, or what the monitor has to say."""

from __future__ import annotations

import os
import sys

from tmux_orchestrator.agents import registry
from tmux_orchestrator.ground import clock, config, errors, options, output, paths
from tmux_orchestrator.watch import datagram
from tmux_orchestrator.watch.pulse import Away, Pulse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

USAGE = """\
usage: orc-heartbeat [--every TIME] [--agent NAME] [--host HOST[:PORT]]
       orc-heartbeat --status|--counters [-o FORM]

Tells the monitor that the agent lives, and prints its answer: `ack`, or a nudge. An agent that once gave a sign, and
then none for heartbeat.missed_after, is nudged, then reported. Exit 69 when no monitor answers: the sign is left in a
file, which the monitor reads when it is back.

  --every TIME            one sign each 60, 30s, 2m; prints nudges only; ends with the agent, and with whoever
                          started it
  --agent NAME            of this agent; else of the one that this process belongs to, else of $ORC_AGENT. From
                          outside the agent's own processes it goes over UDP, signed with logs/run/heartbeat.key
  --host HOST             the monitor's machine, and perhaps :PORT; else heartbeat.host and heartbeat.port
  --status                when each agent gave its last sign; 1 when none ever did
  --counters              how many signs counted, and how many were dropped for what reason
  -o FORM                 of --status and --counters: jsonl, json, table or FIELD,FIELD...

examples:
  orc-heartbeat --every 60 &
  orc-heartbeat --agent web:builder --host 192.0.2.7
"""

FIELDS = ("name", "session", "last_heartbeat", "age_s", "via", "missed")
_REFUSALS = {
    "unknown": "the monitor knows no agent {key}: see orc-agent list there",
    "foreign": "this process is not one of {key}'s: start it from the agent, or say --host 127.0.0.1",
    "late": "the clocks of the two machines differ by more than 30 s, or the network is slow: set them",
}


def main(argv: list[str]) -> int:
    given = options.parse(USAGE, argv)
    if given.args:
        raise errors.UsageError(f"{given.args[0]!r} is no option: to name an agent, use --agent")
    asked = given.status or given.counters
    sends = given.every or given.agent or given.host
    if (given.status and given.counters) or (asked and sends) or (given.o and not asked):
        raise errors.UsageError("--status and --counters stand alone, and -o goes with them: see --help")
    home = paths.find_home()
    settings = config.load(home)
    if asked:
        return _tell(given, home, settings)
    if (member := _member(home, given)) is not None:
        return _beat(home, *member, _interval(given, settings) if given.every is not None else None)
    sender = Sender(home, settings, given)
    if given.every is None:
        return sender.once()
    return sender.keep_on(_interval(given, settings))


class Sender:
    """Whose signs are given, and how they go."""

    def __init__(self, home: paths.Home, settings: config.Config, given: options.Options) -> None:
        self.home = home
        self.named: str | None = given.agent
        self.elsewhere = given.host is not None
        self.pulse = Pulse(home)
        self.host, self.port = _address(given.host, settings)
        self.key = ""
        self.agent: registry.Agent | None = None  # None: another machine's
        self.is_inside = False
        self.find()

    def find(self) -> None:
        """The agent, as the registry has it now. Raises UsageError."""
        agents = registry.load(self.home)
        caller = registry.caller(agents)
        named, session = self.named, os.environ.get("ORC_SESSION", "")
        if named is None and caller is None:
            named = os.environ.get("ORC_AGENT")
            if not named:
                raise errors.UsageError("this process belongs to no registered agent: name one with --agent")
            named = f"{session}:{named}" if session and ":" not in named else named
        if named is None:
            self.agent = caller
        else:
            self.agent = registry.resolve(agents, named, caller.session if caller else session)
        if self.agent is None and named is not None and not self.elsewhere:
            raise errors.UsageError(f"no agent is called {named!r}{registry.near(agents, named)}: see orc-agent list")
        self.key = self.agent.key if self.agent is not None else str(named)
        if self.agent is not caller:
            self.named = self.key  # from now on this one, whoever else is called so later
        self.is_inside = self.agent is not None and self.agent is caller and not self.elsewhere

    def once(self) -> int:
        try:
            print(self.give())
        except Away as away:
            raise errors.UnavailableError(f"{away}: {self.left()}") from None
        return errors.OK

    def give(self) -> str:
        """`ack`, or the nudge. Raises Away, UsageError, NotPermitted, UnavailableError."""
        kind, text = self.ask()
        if kind == datagram.REFUSED:
            refusal = _REFUSALS.get(text, "the monitor refused the sign: see orc-heartbeat --counters")
            raise (errors.NotPermitted if text == "foreign" else errors.UnavailableError)(refusal.format(key=self.key))
        return output.clean(text) if kind == datagram.NUDGE else "ack"

    def ask(self) -> tuple[int, str]:
        if self.is_inside:
            try:
                return self.pulse.inside(self.key)
            except Away:
                if _is_local(self.host):
                    raise
        return self.pulse.signed(self.key, self.host, self.port)

    def left(self) -> str:
        """Leave the sign in a file, where that is of use; what is to be said of it."""
        if self.agent is None or self.elsewhere:
            return "see that orc-monitor runs there, with the same heartbeat.key, and no firewall between"
        self.pulse.leave(self.agent)
        return "the sign waits in a file: run orc-monitor start"

    def keep_on(self, seconds: float) -> int:
        """A sign each so many seconds, until the agent's process has ended, or the one that started this."""
        import select

        if self.agent is not None and not self.agent.alive():
            raise errors.UnavailableError(f"{self.key} has ended: run orc-agent restart {self.key}")
        parent, over = os.getppid(), select.poll()
        for pid in {parent, self.agent.pid if self.agent else parent}:
            try:
                over.register(os.pidfd_open(pid), select.POLLIN)
            except OSError:
                return errors.OK  # it has ended already
        said, inside = "", self.is_inside
        while os.getppid() == parent and (self.agent is None or self.agent.alive()):
            said = self.beat(said)
            if over.poll(seconds * 1000) or not self.is_still(inside):
                break
        return errors.OK

    def is_still(self, inside: bool) -> bool:
        """Is it the same agent's, by whatever name, and not outside of what it was inside of?"""
        try:
            self.find()
        except errors.UsageError:
            return False
        except errors.OrcError:
            pass  # a damaged registry is somebody else's affair
        return self.is_inside or not inside

    def beat(self, said: str) -> str:
        """One of many: a nudge is printed, and a trouble said once; what was said is handed back."""
        trouble = ""
        try:
            answer = self.give()
            if answer != "ack":
                print(answer, flush=True)
        except Away as away:
            trouble = f"{away}: {self.left()}"
        except errors.OrcError as error:
            trouble = str(error)
        if trouble and trouble != said:
            print(f"orc-heartbeat: {output.clean(trouble)}", file=sys.stderr, flush=True)
        return trouble


def _member(home: paths.Home, given: options.Options) -> tuple[str, int] | None:
    """The agent without a pane that this process belongs to, and its process: the team's supervisor watches it."""
    if given.agent is not None or given.host is not None or not os.environ.get("ORC_TEAM_AGENT"):
        return None
    from tmux_orchestrator.agents import crew

    return crew.caller(home) if registry.caller(registry.load(home)) is None else None


def _beat(home: paths.Home, name: str, pid: int, seconds: float | None) -> int:
    """One sign, or one each so many seconds until that process has ended, or the one that started this."""
    import select

    from tmux_orchestrator.agents import crew

    crew.beat(home, name)
    if seconds is None:
        print("ack")
        return errors.OK
    over = select.poll()
    for above in {os.getppid(), pid}:
        try:
            over.register(os.pidfd_open(above), select.POLLIN)
        except OSError:
            return errors.OK  # it has ended already
    while not over.poll(seconds * 1000):
        crew.beat(home, name)
    return errors.OK


def _interval(given: options.Options, settings: config.Config) -> float:
    from tmux_orchestrator.ground import times

    seconds, limit = times.parse_duration(given.every), float(settings.get("heartbeat.missed_after"))
    if seconds < 0.1 or (given.host is None and seconds >= limit):
        raise errors.UsageError(f"--every {given.every}: from 0.1 s to less than heartbeat.missed_after ({limit:g} s)")
    return seconds


def _address(given: str | None, settings: config.Config) -> tuple[str, int]:
    """`host`, `host:port` or `[v6]:port`."""
    host, port = settings.get("heartbeat.host"), settings.get("heartbeat.port")
    if given is None:
        return host, port
    host, colon, number = given.rpartition(":")
    if not colon or ("[" in given and not given.startswith("[")) or (":" in host and not host.endswith("]")):
        host, number = given, ""
    if colon and host != given:
        if not (number.isascii() and number.isdigit() and 0 < int(number[:6]) < 65_536):
            raise errors.UsageError(f"--host {given!r}: {number!r} is no port: give 1 to 65535")
        port = int(number)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not host.isprintable():
        raise errors.UsageError(f"--host {given!r} names no machine: give a name or an address")
    return host, port


def _is_local(host: str) -> bool:
    return host.startswith("127.") or host in ("localhost", "::1", "0.0.0.0", "::")


def _tell(given: options.Options, home: paths.Home, settings: config.Config) -> int:
    from tmux_orchestrator.agents import beats

    last, counters = beats.load(home)
    if given.counters:
        output.show([{"counter": name, "count": count} for name, count in counters.items()], given.o, *_COUNTED)
        return errors.OK
    limit, now, records = settings.get("heartbeat.missed_after"), clock.boot_ns(), []
    for agent in registry.load(home):
        beat = last.get(agent.key)
        known = beat if beat is not None and beat.is_of(agent) else None
        age = None if known is None else round(max(0, now - known.boot_ns) / 1e9, 1)
        record: dict[str, Any] = {"name": agent.name, "session": agent.session}
        record |= {"last_heartbeat": beats.when(agent, last), "age_s": age, "via": known.via if known else None}
        records.append(record | {"missed": age is not None and age >= limit})
    output.show(records, given.o, FIELDS, FIELDS)
    return errors.OK if any(record["last_heartbeat"] for record in records) else errors.NO


_COUNTED = (("counter", "count"), ("counter", "count"))
