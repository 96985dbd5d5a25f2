"""How records and reports are printed: a table on a terminal, JSONL in a pipe, or what `-o` asks for.

No control character that somebody wrote into a message, a name or a title ever reaches a terminal: it is shown as
its escape. That holds for C0, DEL, C1, line separators, lone surrogates and every invisible character that could
turn or hide text; only the spaces and joiners that human languages need pass. JSON needs none of this, it is ASCII.
`orc-read` starts with this module, so the heavier parts import what they need when they are called.
"""

from __future__ import annotations

import os
import sys

from tmux_orchestrator.ground import fastjson
from tmux_orchestrator.ground.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

NONE = "-"  # a field without a value: `read` in a shell would take two tabs for one
_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}
# Not printable by Python's tables and harmless all the same: no-break and wide spaces, and the two joiners.
_HARMLESS = frozenset("\xa0\u1680\u202f\u205f\u3000\u200c\u200d" + "".join(map(chr, range(0x2000, 0x200B))))


def clean(text: str, keep: str = "") -> str:
    """The text with every character that is not plainly visible as its escape, save those in `keep`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _HARMLESS or c in keep else ascii(c)[1:-1] for c in text)


def tidy(value: Any) -> Any:
    """Whole floats as integers, which is how people write them."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: tidy(part) for name, part in value.items()}
    if isinstance(value, list):
        return [tidy(part) for part in value]
    return value


def value(record: dict[str, Any], path: str) -> Any:
    """What stands at a dotted path; None where there is nothing."""
    found: Any = record
    for part in path.split("."):
        if not isinstance(found, dict):
            return None
        found = found.get(part)
    return found


def cell(content: Any) -> str:
    """One value as one word or phrase: lists joined by commas, mappings as JSON, `-` for nothing."""
    if content is None or content in ("", [], {}):
        return NONE
    if isinstance(content, bool):
        return "true" if content else "false"
    if isinstance(content, list) and not any(isinstance(part, dict | list) for part in content):
        return ",".join(cell(part) for part in content)
    if isinstance(content, dict | list):
        return fastjson.dumps(content)
    return clean(str(content))


def fields(record: dict[str, Any], names: Sequence[str]) -> str:
    """The named fields of a record on one line, between tabs."""
    return "\t".join(cell(value(record, name)) for name in names)


def on_terminal() -> bool:
    return sys.stdout.isatty()


def paint(text: str, style: str) -> str:
    """Coloured where that is wanted: on a terminal that can, without NO_COLOR."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb" or not on_terminal():
        return text
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"


def width(text: str) -> int:
    """Columns that a clean text takes on a terminal."""
    if text.isascii():
        return len(text)
    import unicodedata

    columns = 0
    for char in text:
        if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
            columns += char == "\ufe0f"  # makes the sign before it an emoji, two columns wide
        else:
            columns += 2 if unicodedata.east_asian_width(char) in "WF" else 1
    return columns


def cut(text: str, columns: int) -> str:
    """The text in at most so many columns."""
    if width(text) <= columns:
        return text
    while text and width(text) >= columns:
        text = text[:-1]
    return text + "…" if columns > 0 else ""


def _room() -> int:
    """Columns of the terminal; 0 when the output goes elsewhere, where nothing is cut."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns if on_terminal() else 0
    except (OSError, ValueError):
        return 0


def table(records: Sequence[dict[str, Any]], columns: Sequence[str]) -> list[str]:
    """Lines with a heading; the last column is cut at the terminal's edge."""
    heads = [name.rpartition(".")[2].upper().replace("_", " ") for name in columns]
    rows = [heads, *([cell(value(record, name)) for name in columns] for record in records)]
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    room, lines = _room(), []
    for row in rows:
        padded = (text + " " * (wide - width(text)) for text, wide in zip(row, widths, strict=True))
        line = "  ".join(padded).rstrip()
        lines.append(cut(line, room) if room else line)
    return [paint(lines[0], "bold"), *lines[1:]]


def _names(wanted: str, known: Sequence[str]) -> list[str]:
    """The fields that `-o` asks for; a name that no record has is a slip, not an empty column."""
    from tmux_orchestrator.ground.options import near

    names = wanted.split(",")
    for name in names:
        if name.partition(".")[0] not in known:
            close = near(name, [*known, "json", "jsonl", "table", "text"])
            raise UsageError(f"-o {wanted!r}: there is no field {name!r}{close}: take of {', '.join(known)}")
    return names


def check(wanted: str | None, known: Sequence[str]) -> None:
    """Raises UsageError for a `-o` that `show` would refuse: asked before anything is done."""
    if wanted and wanted not in ("jsonl", "json", "table", "text"):
        _names(wanted, known)


def show(
    records: Iterable[dict[str, Any]],
    wanted: str | None,
    columns: Sequence[str],
    known: Sequence[str],
    text: Callable[[dict[str, Any]], str] | None = None,
) -> int:
    """Print records as `-o` (`wanted`) says; how many there were. Raises UsageError.

    `columns` are those of the table, `known` all fields that a record may have, `text` makes the line for
    `-o text` (without it, the table).
    """
    form = wanted or ("table" if on_terminal() else "jsonl")
    if form == "table" or (form == "text" and text is None):
        shown = list(records)
        if shown:
            sys.stdout.write("\n".join(table(shown, columns)) + "\n")
        return len(shown)
    if form == "json":
        shown = list(records)
        sys.stdout.write(fastjson.dumps(shown) + "\n")
        return len(shown)
    names = _names(form, known) if form not in ("jsonl", "text") else []
    count = 0
    for record in records:
        if form == "text" and text is not None:
            line = clean(text(record))
        else:
            line = fields(record, names) if names else fastjson.dumps(record)
        sys.stdout.write(line + "\n")
        count += 1
    return count
