"""Tasks from the command line: one of its options and payload, or a stream, where each line of the input is one.

Of a stream, all of a batch are queued in one transaction.
"""

from __future__ import annotations

import sys

from tmux_orchestrator.agents import drafting, registry, sender
from tmux_orchestrator.ground import clock, errors, fastjson, options, times
from tmux_orchestrator.work.message import FIRST, LARGEST, LAST, Message, moment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, BinaryIO

    from tmux_orchestrator.work.queue import MessageQueue

_BATCH = 256
LEVELS = {"critical": 1, "high": 3, "normal": 5, "low": 8}  # of an event, as priorities of tasks
_NAMES = {
    *("task_id", "sender", "recipient", "type", "priority", "payload", "group", "after", "not_before", "expires"),
    *("correlation_id", "max_attempts"),
}


def send(queue: MessageQueue, given: options.Options) -> int:
    """What `orc-task send` does: queue, and print ids. Raises UsageError, and what `MessageQueue.send` does."""
    draft = _draft(queue, given)
    if given.jsonl:
        return _stream(queue, given.file, given.args, draft)
    message = draft(_payload(drafting.body(given)))
    queue.send(message)
    print(message.task_id)
    return errors.OK


def _draft(queue: MessageQueue, given: options.Options) -> Callable[..., Message]:
    """A function that makes a task of a payload, and of what a line of a stream says otherwise."""
    source = sender.source(registry.load(queue.home), getattr(given, "from"))
    begins, ends = _times(given)
    usual: dict[str, Any] = {
        "sender": source["identifier"],
        "recipient": given.recipient,
        "type": given.type or "task_delegate",
        "priority": _priority(given.priority),
        "task_id": given.id or "",
        "group": given.group,
        "after": given.after,
        "not_before": begins,
        "expires": ends,
        "correlation_id": given.correlation_id,
        "max_attempts": options.number(given.attempts, "--attempts", 1, 100),
    }

    def draft(payload: dict[str, Any], **other: object) -> Message:
        said = usual | {name: value for name, value in other.items() if value is not None}
        if isinstance(said["priority"], str):
            said["priority"] = LEVELS.get(said["priority"])
        if said["recipient"] is None:
            raise errors.UsageError("say whose task it is: --recipient NAME")
        return Message(payload=payload, **said)

    return draft


def _payload(text: str) -> dict[str, Any]:
    """A JSON object as it is; anything else is text."""
    if text.lstrip()[:1] == "{":
        try:
            found = fastjson.loads(text)
        except ValueError as error:
            raise errors.DataError(f"the payload begins as a JSON object and is none ({error}): correct it") from None
        if isinstance(found, dict):
            return found
    return {"text": text}


def _priority(text: str | None) -> int:
    if text in LEVELS:
        return LEVELS[text]
    number = options.number(text, "--priority", FIRST, LAST)
    return LEVELS["normal"] if number is None else number


def _times(given: options.Options) -> tuple[str | None, str | None]:
    """(not_before, expires) as stamps."""
    within = getattr(given, "in")
    if given.at and within:
        raise errors.UsageError("--at and --in say the same thing: give one")
    now = start = clock.now_ns()
    if given.at:
        start = times.parse_time(given.at, now)
    elif within:
        start = now + int(times.parse_duration(within) * times.SECOND)
    ends = clock.stamp(start + int(times.parse_duration(given.ttl) * times.SECOND)) if given.ttl else None
    return clock.stamp(start) if start != now else None, ends


# a stream


def _stream(queue: MessageQueue, file: str | None, words: list[str], draft: Callable[..., Message]) -> int:
    """Queue them and print their ids, batch by batch. Raises DataError that names the line; the batches before it
    are queued, of its own none."""
    if words not in ([], ["-"]):
        raise errors.UsageError("a stream comes from standard input or --file: leave the payload out")
    if file is None:
        return _send(queue, sys.stdin.buffer, draft)
    try:
        with open(file, "rb") as source:
            return _send(queue, source, draft)
    except OSError as error:
        raise errors.UsageError(f"cannot read {file} ({error.strerror}): name a file that you may read") from None


def _send(queue: MessageQueue, source: BinaryIO, draft: Callable[..., Message]) -> int:
    batch: list[Message] = []
    number = 0
    while line := source.readline(2 * LARGEST):
        number += 1
        if line.strip():
            batch.append(_task(line, number, draft))
        if len(batch) == _BATCH:
            _store(queue, batch)
    _store(queue, batch)
    return errors.OK


def _task(line: bytes, number: int, draft: Callable[..., Message]) -> Message:
    try:
        said = fastjson.loads(line)
    except ValueError as error:
        raise errors.DataError(f"line {number} is not JSON ({error}): correct it") from None
    if not isinstance(said, dict):
        raise errors.DataError(f"line {number} is not a JSON object: correct it")
    unknown = said.keys() - _NAMES
    if unknown:
        raise errors.DataError(f"line {number} has {min(unknown)!r}, which no task has: see docs/tasks.md")
    payload = said.pop("payload", {})
    after = said.get("after")
    if after is not None and not (isinstance(after, list) and all(isinstance(one, str) for one in after)):
        raise errors.DataError(f"line {number}: after is no list of ids: correct it")
    try:
        message = draft(payload, **said)
        message.checked()
        for name in ("not_before", "expires"):
            if (value := getattr(message, name)) is not None:
                moment(value, name)
    except errors.DataError as error:
        raise errors.DataError(f"line {number}: {error}") from None
    return message


def _store(queue: MessageQueue, batch: list[Message]) -> None:
    if batch:
        queue.send_all(batch)
        print("\n".join(message.task_id for message in batch), flush=True)
        batch.clear()
