"""The words that tmux is told: one command line each, quoted so that nothing in an argument has a meaning.

Both ways to tmux (the kept connection and the plain process) take the same `Line`s and give the same `Reply`s.
Text that people publish is never in a command: it travels beside the line, in a file of ours or on standard input,
into a buffer that has a name of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tmux_orchestrator.ground.errors import UnavailableError

# Words that need no quotes; tmux takes its time over each character.
_BARE = re.compile(r"-?[A-Za-z][A-Za-z0-9_.-]*|%[0-9]+").fullmatch


class TmuxError(UnavailableError):
    """tmux refused one command; the message is tmux's own."""


@dataclass(slots=True)
class Line:
    """Commands that tmux runs in one go; an error skips those that follow it.

    `replies` is how many replies come when nothing fails: one per command, those of a taken branch included.
    `texts` are put into buffers before: pairs of a buffer's name and what it is to hold.
    """

    commands: list[list[str]]
    replies: int
    texts: list[tuple[str, bytes]] = field(default_factory=list)


@dataclass(slots=True)
class Reply:
    """What a line printed, all its commands together, and tmux's words if one of them failed."""

    lines: list[bytes] = field(default_factory=list)
    error: str | None = None


def checked(argument: str) -> str:
    """The argument, if a command line can carry it. Raises ValueError."""
    if "\n" in argument or "\0" in argument:
        raise ValueError("a tmux argument cannot hold a newline or a NUL: remove it")
    return argument


def quote(argument: str) -> str:
    """One word of tmux's command language. Within single quotes only the single quote itself is special."""
    if _BARE(argument):
        return argument
    return "'" + checked(argument).replace("'", "'\\''") + "'"


def join(commands: list[list[str]]) -> str:
    """Commands as text in tmux's command language, on one line."""
    return " ; ".join([" ".join([quote(word) for word in words]) for words in commands])


def argument(word: str) -> str:
    """One word for tmux's own command line, where a `;` that ends a word would end the command."""
    return checked(word)[:-1] + "\\;" if word.endswith(";") else checked(word)


def text(line: bytes) -> str:
    """Bytes of a terminal as text; what is not UTF-8 shows as a replacement character."""
    return line.decode("utf-8", "replace")
