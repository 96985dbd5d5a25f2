"""Who is registered: registry/agents.json, read only.

An agent is known by its session and its name, and its process by pid and start time together: a pid or a pane
id alone may be somebody else's by now, after a crash or a restart of the tmux server. `roster` is the only
writer and replaces the file as a whole, so a reader sees the old list or the new one and needs no lock.
"""

from __future__ import annotations

import os

from tmux_orchestrator.ground import clock, fastjson, files, options, proc
from tmux_orchestrator.ground.errors import DataError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tmux_orchestrator.ground.paths import Home

# Field -> default, whose type is the field's type. Times are RFC 3339, pid_start and server_start clock ticks.
FIELDS: dict[str, Any] = {
    "name": "",
    "session": "",  # the tmux session it was started in; with the name it is the key
    "role": "",
    "groups": [],
    "profile": "plain",
    "socket": "",  # as ground.tmux takes it
    "server_pid": 0,
    "server_start": 0,
    "boot": "",  # which boot of the machine these processes belong to; "": not known
    "window": "",  # the window that it shares by name; "": one of its own
    "pane": "",  # %id, good only for this server
    "pid": 0,  # the pane's own process; for an adopted pane the shell beneath the agent
    "pid_start": 0,
    "nonce": "",  # also in the pane's option @orc_nonce
    "adopted": False,
    "paused": False,
    "supervisor": "none",  # who alone starts it again when it ended: monitor, team, none
    "restart": "never",  # never, crash, always
    "cwd": "",
    "argv": [],
    "launch": "",  # path of the launch file; "" for an adopted pane
    "registered": "",
    "command": "",  # adopted: what must be in the foreground; "" where the agent is the pane's own process
    "resumed": "",  # the conversation that its process took up, as its CLI calls it
    "lost": "",  # one that its CLI did not know
    "ended": "",  # "stopped" when somebody ended it on purpose
}

_RESTARTS = ("never", "crash", "always")
_PIDS, _TICKS = 1 << 31, 1 << 63  # the kernel counts no further
_FIRST = "abcdefghijklmnopqrstuvwxyz"
_LATER = frozenset(_FIRST + "0123456789_-")


class Agent:
    """One registered agent. Raises DataError for a field that is not what it can be; unknown fields are left out."""

    __slots__ = tuple(FIELDS)

    if TYPE_CHECKING:
        name: str
        session: str
        role: str
        groups: list[str]
        profile: str
        socket: str
        server_pid: int
        server_start: int
        boot: str
        window: str
        pane: str
        pid: int
        pid_start: int
        nonce: str
        adopted: bool
        paused: bool
        supervisor: str
        restart: str
        cwd: str
        argv: list[str]
        launch: str
        registered: str
        command: str
        resumed: str
        lost: str
        ended: str

    def __init__(self, fields: dict[str, Any]) -> None:
        for field, default in FIELDS.items():
            value = fields.get(field, default)
            if type(value) is not type(default):
                raise DataError(f"field {field!r} of agent {fields.get('name')!r} has the wrong type")
            setattr(self, field, value[:] if type(value) is list else value)
        if not self._can_be():
            raise DataError(f"agent {fields.get('name')!r} has a field that nothing can be: a number, a path, a word")

    @property
    def key(self) -> str:
        """session:name, which always addresses this agent."""
        return f"{self.session}:{self.name}"

    def _can_be(self) -> bool:
        """Its numbers, paths and words go to the kernel and to tmux, which know of no others."""
        text = "".join([self.session, self.name, self.socket, self.pane, self.launch, self.cwd])
        return (
            0 <= self.pid < _PIDS
            and 0 <= self.server_pid < _PIDS
            and 0 <= self.pid_start < _TICKS
            and 0 <= self.server_start < _TICKS
            and self.restart in _RESTARTS
            and "\0" not in text
            and (text.isascii() or _is_of_bytes(text))
            and all(type(word) is str for word in self.groups + self.argv)
        )

    def alive(self) -> bool:
        """Does the registered process (not a later one with its number) run?"""
        return self.pid > 0 and proc.alive(self.pid, self.pid_start) and self._of_this_boot()

    def server_alive(self) -> bool:
        """Does the tmux server that it was started in run?"""
        return proc.alive(self.server_pid, self.server_start) and self._of_this_boot()

    def _of_this_boot(self) -> bool:
        """After a reboot pids and start times begin anew, and may meet by chance."""
        return self.boot in ("", clock.boot_id())

    def to_dict(self) -> dict[str, Any]:
        return {field: getattr(self, field) for field in FIELDS}


def _is_of_bytes(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def path(home: Home) -> str:
    return home.registry + "/agents.json"


def load(home: Home) -> list[Agent]:
    """Every registered agent, in the order of registration. Raises DataError when the file is damaged."""
    data = files.read(path(home))
    if data is None:
        return []
    try:
        entries = fastjson.loads(data)["agents"]
        return [Agent(entry) for entry in entries]
    except (ValueError, KeyError, TypeError, AttributeError, DataError) as error:
        raise DataError(f"{path(home)} is damaged ({error}): mend it, or move it away") from None


def valid_name(text: str) -> bool:
    """^[a-z][a-z0-9_-]{0,31}$, for names, roles and groups."""
    return 0 < len(text) <= 32 and text[0] in _FIRST and _LATER.issuperset(text)


def check_names(*words: str) -> None:
    """Raises UsageError unless each can name an agent, a role or a group."""
    for word in words:
        if not valid_name(word):
            raise UsageError(f"{word!r} is no name: use a-z, 0-9, - and _, a letter first, 32 at most")


def resolve(agents: list[Agent], target: str, session: str | None = None) -> Agent | None:
    """The agent that `name` or `session:name` means to a caller in `session`; None if there is no such one.

    A bare name is first the caller's session's, then the only one that has it. Raises UsageError when
    several have it.
    """
    where, colon, name = target.rpartition(":")
    if colon:
        return next((a for a in agents if a.name == name and a.session == where), None)
    named = [a for a in agents if a.name == target]
    for agent in named:
        if agent.session == session:
            return agent
    if len(named) > 1:
        raise UsageError(f"{target!r} is the name of {len(named)} agents: say {' or '.join(a.key for a in named)}")
    return named[0] if named else None


def near(agents: list[Agent], target: str) -> str:
    """` (did you mean …?)` with the registered names that look like `target`, or nothing."""
    return options.near(target, sorted({a.key if ":" in target else a.name for a in agents}))


def caller(agents: list[Agent], pid: int = 0) -> Agent | None:
    """The registered agent in whose process tree `pid` (this process, unless given) is; the innermost one.

    In an adopted pane the registered process may be a shell that its owner types into too: there only what
    runs beneath the agent's own program counts.
    """
    if not agents:
        return None
    registered = {agent.pid: agent for agent in agents}
    below = 0
    for ancestor in proc.ancestors(pid or os.getpid()):
        agent = registered.get(ancestor)
        if agent is not None and agent.alive() and _inside(agent, ancestor, below):
            return agent
        below = ancestor
    return None


def program(pid: int) -> str:
    """What the process calls itself, as tmux's pane_current_command shows it; "" when it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            word = os.fsdecode(file.read(4096).split(b"\0", 1)[0]).split(" ", 1)[0]
    except OSError:
        return ""
    return word.rpartition("/")[2] if word.startswith("/") else word


def _inside(agent: Agent, pid: int, below: int) -> bool:
    return not agent.adopted or (agent.command != "" and agent.command in (program(below), program(pid)))
