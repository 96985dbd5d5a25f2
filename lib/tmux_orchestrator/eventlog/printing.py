"""How events are printed: as they stand in the log, or for people. No control character reaches a terminal."""

from __future__ import annotations

import os
import sys

from tmux_orchestrator.eventlog.event import render, short
from tmux_orchestrator.ground import clock, fastjson
from tmux_orchestrator.ground.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

FIELDS = ("id", "seq", "timestamp", "source", "to", "message", "metadata")


def form(wanted: str | None) -> Callable[[bytes, dict[str, Any]], None]:
    """A function that prints an event, given its line, as `-o` says. Raises UsageError."""
    wanted = wanted or ("table" if sys.stdout.isatty() else "jsonl")
    if wanted in ("jsonl", "json"):
        return line
    from tmux_orchestrator.ground import output

    if wanted == "text":
        return lambda _, event: print(output.clean(render(event)))
    if wanted == "body":
        return lambda _, event: print(output.clean(event["message"]["content"]["body"], keep="\n\t"))
    if wanted == "table":
        columns = _columns()
        return lambda _, event: print(output.cut(_row(event), columns) if columns else _row(event))
    names = wanted.split(",")
    for name in names:
        if name.partition(".")[0] not in FIELDS:
            from tmux_orchestrator.ground.options import near

            close = near(name, [*FIELDS, "jsonl", "json", "table", "text", "body"])
            raise UsageError(f"-o {wanted!r}: there is no field {name!r}{close}: take of {', '.join(FIELDS)}")
    return lambda _, event: print(output.fields(event, names))


def line(stored: bytes, _: object = None) -> None:
    """Print a line of the log as it stands there."""
    sys.stdout.write(plain(stored + b"\n").decode("ascii"))


def plain(stored: bytes) -> bytes:
    """Lines of the log as they stand there; those that somebody else wrote may hold more than ASCII."""
    if stored.isascii() and not any(control in stored for control in (b"\r", b"\t", b"\x7f")):
        return stored
    lines = stored.removesuffix(b"\n").split(b"\n")
    return "".join([fastjson.dumps(fastjson.loads(line)) + "\n" for line in lines]).encode("ascii")


def _columns() -> int:
    """Of the terminal; 0 where there is none, and nothing is cut."""
    try:
        return os.get_terminal_size(1).columns
    except OSError:
        return 0


def _row(event: dict[str, Any]) -> str:
    from tmux_orchestrator.ground import output

    source, to = event["source"], event["to"]
    sender = str(source.get("identifier")) + ("" if source.get("verified") is True else "?")
    receivers = ",".join([*to["targets"], *("+" + group for group in to["groups"])]) or "-"
    row = [
        _moment(event["timestamp"]),
        short(event["id"]),
        event["message"]["priority"].ljust(8),
        f"{sender} → {receivers}".ljust(28),
        event["message"]["type"].ljust(12),
        render(event),
    ]
    return output.clean("  ".join(row))


def _moment(stamp: str) -> str:
    """The time in the home's zone, as a person would write it for --since."""
    try:
        ns = clock.parse_stamp(stamp)
        return f"{clock.local_day(ns)} {clock.local_time(ns)}"
    except (ValueError, OverflowError, OSError):
        return stamp[:19].ljust(19)
