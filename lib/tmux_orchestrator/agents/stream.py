"""A stream of messages or events, one a line: published in order, in groups of what one read brought.

A bad line is told with its number and left out; everything else is published, and is on disk when its id is printed.
"""

from __future__ import annotations

import os
import sys

from tmux_orchestrator.agents import address
from tmux_orchestrator.eventlog import daylog, event
from tmux_orchestrator.ground import errors, fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from tmux_orchestrator.agents.registry import Agent

    Event = dict[str, Any]
    Draft = Callable[[str], Event]
    Parser = Callable[[bytes], Event]


def parser(jsonl: bool, draft: Draft, agents: list[Agent], queue: bool) -> Parser:
    """How a line becomes an event; `draft` makes the event of a body. Raises DataError, UsageError."""

    def from_line(line: bytes) -> Event:
        try:
            return draft(line.decode("utf-8"))
        except UnicodeDecodeError:
            raise errors.DataError("the line is not UTF-8: convert it, with iconv for example") from None

    def from_json(line: bytes) -> Event:
        try:
            found = fastjson.loads(line)
        except ValueError as error:
            raise errors.DataError(f"{error}: write one event a line") from None
        blank = draft("")
        claimed = found.pop("source", None) if isinstance(found, dict) else None
        event.check(_filled(found, blank))
        source = found["source"] = _claim(dict(blank["source"]), claimed)
        wanted = found["to"]["targets"]
        if wanted != blank["to"]["targets"]:
            found["to"]["targets"] = [address.canonical(agents, one, source.get("session"), queue) for one in wanted]
        return found  # type: ignore[no-any-return]

    return from_json if jsonl else from_line


def _filled(found: Any, blank: Event) -> Any:
    """What an event does not say itself is as the options say; a list of its own targets or groups stands alone."""
    if not isinstance(found, dict):
        return found  # `event.check` says what is wrong with it
    if "targets" in blank and (found.get("targets") or found.get("groups")):
        blank = {}
    for name, default in blank.items():
        if isinstance(default, dict):
            found[name] = _filled({} if found.get(name) is None else found[name], default)
        elif found.get(name) is None:
            found[name] = default
    return found


def _claim(source: Event, claimed: Any) -> Event:
    """Who publishes, when an event names somebody: ourselves, or somebody of whom nothing is established."""
    if not isinstance(claimed, dict | None):
        raise errors.DataError("source is not an object: see docs/format.md")
    if claimed is None or claimed.get("identifier") in (None, source["identifier"]):
        return source
    return source | claimed | {"verified": False}


def read(fd: int) -> bytes:
    """What there is to read. Raises UsageError."""
    try:
        return os.read(fd, 1 << 16)
    except OSError as error:
        raise errors.UsageError(f"cannot read the message ({error.strerror}): name a file, or pipe it in") from None


def groups(fd: int) -> Iterator[list[bytes]]:
    """The lines of a stream in groups: what one read brought, so that a live pipe does not wait."""
    kept = b""
    while block := read(fd):
        kept += block
        lines = kept.split(b"\n")
        kept = lines.pop()
        if len(kept) > 2 * event.MAX_LINE:  # a line that can only be refused is not collected for ever
            kept = kept[: event.MAX_LINE + 1]
        if lines:
            yield lines
    if kept:
        yield [kept]


def publish(log: daylog.Log, fd: int, parse: Parser) -> int:
    """Publish line after line, in order, and print the ids; the exit code."""
    code, number, first = errors.OK, 0, 1
    for group in groups(fd):
        prepared = []
        for line in group:
            number += 1
            if not line.strip():
                continue
            try:
                prepared.append(daylog.prepare(parse(line)))
            except (errors.DataError, errors.UsageError) as error:
                print(f"orc-publish: line {number}: {error}", file=sys.stderr)
                code = errors.DATA
        try:
            ids = log.store(prepared) if prepared else []
        except errors.OrcError as error:
            raise type(error)(f"line {first} and what follows is not published: {error}") from None
        if ids:
            print("\n".join(ids), flush=True)
        first = number + 1
    return code
