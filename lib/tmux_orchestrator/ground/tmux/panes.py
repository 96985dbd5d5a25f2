"""The panes of a server and what is on their screens, as tmux tells them.

A program can name itself, and with it its window, whatever it likes; a record is therefore opened by a word that
is new in every call, its numbers come first, the names, which tmux keeps free of tabs, next, and the name of the
program, which may hold anything, last.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from tmux_orchestrator.ground.tmux.frames import SESSION
from tmux_orchestrator.ground.tmux.guard import pane_target
from tmux_orchestrator.ground.tmux.words import Line, Reply, text

# Only what somebody asks for: tmux takes a microsecond for each of these, nine for the current command.
_NUMBERS = (
    "#{pane_id} #{window_index} #{pane_index} #{pane_pid} #{pane_dead} #{pane_in_mode} #{pane_input_off}"
    " #{pane_synchronized} #{pane_width} #{pane_height} #{cursor_x} #{cursor_y}"
    "\t#{pane_dead_status}\t#{pane_dead_signal}"
)
_NAMES = "#{session_name}\t#{window_name}\t#{@orc_nonce}\t#{@orc_agent}\t#{pane_current_command}"
_FORMAT = f"{_NUMBERS}\t{_NAMES}"
# So that typing is not held up, tmux captures this many screens at a time.
CHUNK = 25


@dataclass(slots=True)
class Pane:
    """One pane. `pid` is the process that the pane was started with, `command` the program in the foreground."""

    id: str
    window_index: int
    pane_index: int
    pid: int
    dead: bool
    in_mode: bool
    input_off: bool
    synchronized: bool
    width: int
    height: int
    cursor_x: int
    cursor_y: int
    dead_status: int | None
    dead_signal: int | None
    session: str
    window_name: str
    nonce: str
    agent: str
    command: str


@dataclass(slots=True)
class Screenshot:
    """The visible screen, a line per row, and the pane in the same moment."""

    pane: Pane
    lines: list[str]


def opening() -> str:
    """A new word that opens records: no screen and no name can hold it."""
    return os.urandom(8).hex()


def listing(word: str) -> Line:
    """The line that lists all panes, each record opened by the word."""
    return Line([["list-panes", "-a", "-F", f"{word} {_FORMAT}"]], 1)


def listed(reply: Reply, word: str) -> list[Pane]:
    """The panes of the reply, without those of our own session."""
    panes = [parse(record) for record in _records(reply, word)[1:]]
    return [pane for pane in panes if pane is not None and pane.session != SESSION]


def looking(pane: str, attributes: bool, word: str) -> Line:
    """The line that tells a pane's visible screen and its state, both of the same moment."""
    target = pane_target(pane)
    capture = ["capture-pane", "-p", *(["-e"] if attributes else []), "-t", target]
    state = ["list-panes", "-t", target, "-f", f"#{{==:#{{pane_id}},{target}}}", "-F", f"{word} {_FORMAT}"]
    return Line([capture, state], 2)


def looked(reply: Reply, word: str) -> Screenshot | None:
    """The screen that the reply holds; None when the pane is gone."""
    screen, *records = _records(reply, word)
    pane = parse(records[0]) if records else None
    if pane is None:
        return None
    # There are as many lines as rows; what follows them, hooks of the user have printed.
    return Screenshot(pane, [text(line) for line in screen.split(b"\n")[1 : pane.height + 1]])


def _records(reply: Reply, word: str) -> list[bytes]:
    """What comes before the first record, and the records."""
    return (b"\n" + b"\n".join(reply.lines)).split(b"\n" + word.encode() + b" ")


def parse(record: bytes) -> Pane | None:
    """The pane of one record; None for a damaged one."""
    parts = text(record).split("\t", 7)
    numbers = parts[0].split(" ")
    if len(parts) != 8 or len(numbers) != 12:
        return None
    try:
        window, index, pid, dead, mode, off, synchronized, width, height, x, y = map(int, numbers[1:])
        status, signal = [int(end) if end else None for end in parts[1:3]]
    except ValueError:
        return None
    return Pane(
        id=numbers[0],
        window_index=window,
        pane_index=index,
        pid=pid,
        dead=dead != 0,
        dead_status=status,
        dead_signal=signal,
        in_mode=mode != 0,
        input_off=off != 0,
        synchronized=synchronized != 0,
        width=width,
        height=height,
        cursor_x=x,
        cursor_y=y,
        session=parts[3],
        window_name=parts[4],
        nonce=parts[5],
        agent=parts[6],
        command=parts[7],
    )
