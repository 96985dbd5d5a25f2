"""Work that is handed over, and who does it.

- tasks: `queue` sends and claims, `ending` and `leases` see that each is done once; `message` is a task, `reading`
  what can be asked, `waiting` who is woken; `store` keeps the file
- from the shell: `sending`, `listing`, `holding`, `upkeep`; `worker` runs a command for each task, as an `errand`,
  under a `guard`
- guests of long-lived processes: `flows` makes tasks of events, `outbox` tells what becomes of tasks, `accounts` has
  them wait for `usage` limits until their `resets`, `retention` lets go of what is old; what
  the first and the third read of the log is `heard`
- `team`: the supervisor of agent processes
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tmux_orchestrator.work.message import Message
    from tmux_orchestrator.work.queue import MessageQueue
    from tmux_orchestrator.work.team.daemon import TeamDaemon

__all__ = ["Message", "MessageQueue", "TeamDaemon"]

_HOMES = {"Message": "message", "MessageQueue": "queue", "TeamDaemon": "team.daemon"}


def __getattr__(name: str) -> object:
    """Handed on when asked for: a hot command that imports a module of this room pays for that one alone."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tmux_orchestrator.work' has no attribute {name!r}")
    module = __import__(f"tmux_orchestrator.work.{_HOMES[name]}", fromlist=(name,))
    return getattr(module, name)
