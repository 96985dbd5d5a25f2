"""What `orc-task list` and the views print."""

from __future__ import annotations

from tmux_orchestrator.ground import options, output
from tmux_orchestrator.ground.errors import UsageError
from tmux_orchestrator.work import reading
from tmux_orchestrator.work.message import STATUSES
from tmux_orchestrator.work.queue import MessageQueue

_MOST = 10**9
_SLOWEST = 10  # unless another number is asked for
_VIEWS = {
    "depth": ("queue_depth", ("agent", "queued_tasks", "high_priority", "normal_priority", "low_priority")),
    "slowest": (
        "bottlenecks",
        ("task_id", "agent", "type", "duration_ms", "created_at", "started_at", "completed_at"),
    ),
    "performance": (
        "agent_performance",
        (
            *("agent", "total_tasks", "completed_tasks", "failed_tasks"),
            *("avg_duration_ms", "max_duration_ms", "min_duration_ms"),
        ),
    ),
}


def tasks(queue: MessageQueue, given: options.Options) -> None:
    """Raises UsageError."""
    for status in given.status:
        if status not in STATUSES:
            raise UsageError(f"--status {status} is none of {', '.join(STATUSES)}: correct it")
    last = options.number(given.tail, "--tail", 0, _MOST)
    output.check(given.o, reading.FIELDS)
    queue.look()
    found = reading.tasks(
        queue.database,
        given.recipient,
        getattr(given, "from"),
        given.type,
        given.status,
        given.correlation_id,
        given.group,
        last,
    )
    output.show(found, given.o, reading.COLUMNS, reading.FIELDS)


def view(queue: MessageQueue, given: options.Options, action: str) -> None:
    """Raises UsageError."""
    name, columns = _VIEWS[action]
    most = options.number(given.tail, "--tail", 0, _MOST)
    if most is None:
        most = _SLOWEST if action == "slowest" else _MOST
    queue.look()
    records = reading.records(queue.database, f"SELECT * FROM {name} LIMIT ?", most)
    output.show(records, given.o, columns, columns)
