"""Work that is handed over, and who does it.

- tasks: `queue` sends and claims, `ending` and `leases` see that each is done once; `message` is a task, `reading`
  what can be asked; `database` and `schema` keep the file
- events and tasks: `flows` makes tasks of events, as a guest of the broker; `outbox` brings what becomes of tasks into
  the log, as a guest of the state updater
- the team of agent processes and its supervisor, beginning with `team`, then `supervisor`: `roster` says who there
  is, by the configuration; `member` is one of them, `state` what is kept of all on disk
- its running: `processes`, `panes`; `kin` finds all processes of an agent; `measures` what they take
- what is due: `restarts`, `occasions` (clock and events); `requests` from other processes
- its telling: `output` follows what agents print into `stream`, `holes` gives the space back; `tidings` are the
  events, which `teller` publishes; `tasks` is what it asks of the queue
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tmux_orchestrator.work.message import Message
    from tmux_orchestrator.work.queue import MessageQueue
    from tmux_orchestrator.work.team import TeamDaemon

__all__ = ["Message", "MessageQueue", "TeamDaemon"]

_HOMES = {"Message": "message", "MessageQueue": "queue", "TeamDaemon": "team"}


def __getattr__(name: str) -> object:
    """Handed on when asked for: a hot command that imports a module of this room pays for that one alone."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tmux_orchestrator.work' has no attribute {name!r}")
    module = __import__(f"tmux_orchestrator.work.{_HOMES[name]}", fromlist=(name,))
    return getattr(module, name)
