"""Work that is handed over: tasks in SQLite, the supervisor of the agents that do them, flows from one to the next.

- tasks: `queue` sends and claims, `ending` and `leases` see that each is done once; `message` is a task, `reading`
  what can be asked; `database` and `schema` keep the file
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tmux_orchestrator.work.message import Message
    from tmux_orchestrator.work.queue import MessageQueue

__all__ = ["Message", "MessageQueue"]

_HOMES = {"Message": "message", "MessageQueue": "queue"}


def __getattr__(name: str) -> object:
    """Handed on when asked for: a hot command that imports a module of this room pays for that one alone."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tmux_orchestrator.work' has no attribute {name!r}")
    module = __import__(f"tmux_orchestrator.work.{_HOMES[name]}", fromlist=(name,))
    return getattr(module, name)
