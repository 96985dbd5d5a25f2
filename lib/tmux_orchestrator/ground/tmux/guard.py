"""What must be true of a pane in the very moment in which something is typed into it.

The check and the paste are one command list (`if-shell -F` with the paste inside): tmux runs it without looking at
a terminal or a client in between, so nothing can change after the check. The pane's state is one string that tmux
writes and compares with the one that is expected; when they differ, the same list prints it, and `reason` reads
from it why nothing was typed. TYPED is what tmux says as its last act, never inferred from silence. Only what was
checked here gets into a format, and never a caller's text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from tmux_orchestrator.ground.tmux.words import Line, Reply, checked, join, text

TYPED = "typed"
GONE = "gone"
REPLACED = "replaced"
DEAD = "dead"
COPY_MODE = "copy_mode"
INPUT_OFF = "input_off"
SYNCHRONIZED = "synchronized"
NOT_FOREGROUND = "not_foreground"
MOVED = "moved"
DIALOG = "dialog"
BAD_CUE = "bad_cue"
UNKNOWN = "unknown"
NO_SERVER = "no_server"

# A command that does nothing and gives one reply. tmux takes its time over each character, those of a branch twice:
# what stands in every branch has its short name.
_NOTHING = ["start"]
_PANE = re.compile(r"%[0-9]{1,9}")
_NONCE = re.compile(r"[0-9A-Za-z]{1,64}")
_KEY = re.compile(
    r"(?:[CMS]-){0,3}(?:[!-~]|Enter|Escape|Space|Tab|BTab|BSpace|Up|Down|Left|Right|Home|End|PageUp|PageDown"
    r"|PPage|NPage|Insert|IC|Delete|DC|F[1-9]|F1[0-2])"
)


@dataclass(frozen=True, slots=True)
class Guard:
    """Who must sit in the pane, and what must not be on its screen.

    `command` is the foreground process's name (adopted panes), `cursor` its place (column, row) when the screen was
    looked at, `absent` are POSIX extended regular expressions of which none may match a line of the visible screen.
    """

    pid: int
    nonce: str
    command: str | None = None
    cursor: tuple[int, int] | None = None
    absent: tuple[str, ...] = ()


def pane_target(pane: str) -> str:
    """The pane's id, which names one pane of one server or none. Raises ValueError for any other target."""
    if not _PANE.fullmatch(pane):
        raise ValueError(f"{pane!r} is not a pane id: give it as %5")
    return pane


def key_names(keys: list[str]) -> list[str]:
    """The keys, each a name that tmux has (it types an unknown name as text). Raises ValueError."""
    for key in keys:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is not a key: give one such as Enter, C-c or y")
    if not keys:
        raise ValueError("no key to press: give one such as Enter")
    return keys


def literal(value: str) -> str:
    """A value as it stands in a format. Raises ValueError."""
    return checked(value).replace("#", "##").replace(",", "#,").replace("}", "#}")


def search(cues: tuple[str, ...]) -> str:
    """A format that is 0 unless one of the cues is on the visible screen. Raises ValueError."""
    either = "|".join([f"({checked(cue)})" for cue in cues])
    if "#[" in either:
        raise ValueError("a cue cannot hold '#[', which tmux reads as a style: write it another way")
    return either.replace("#", "##").replace("}", "#}")


@lru_cache(maxsize=4096)
def states(pane: str, guard: Guard) -> tuple[str, str]:
    """The format that tells the pane's state, and what it must come to."""
    if not _NONCE.fullmatch(guard.nonce):
        raise ValueError(f"{guard.nonce!r} is not a nonce: only letters and digits")
    now = "#{pane_id} #{pane_pid} #{pane_dead} #{pane_in_mode} #{pane_input_off} #{pane_synchronized}"
    due = f"{pane_target(pane)} {guard.pid:d} 0 0 0 0"
    if guard.cursor is not None:
        now += " #{cursor_x} #{cursor_y}"
        due += f" {guard.cursor[0]:d} {guard.cursor[1]:d}"
    if guard.absent:
        cues = search(guard.absent)
        # A cue that does not compile would match nothing, and let everything pass: the first search, which any
        # line satisfies, tells the two apart.
        now += f" #{{?#{{C/r:^|{cues}}},1,0}} #{{?#{{C/r:{cues}}},1,0}}"
        due += " 1 0"
    now += " #{@orc_nonce}"
    due += f" {guard.nonce}"
    if guard.command is not None:
        now += " #{pane_current_command}"
        due += " " + literal(guard.command)
    return now, due


def guarded(pane: str, guard: Guard, then: list[str], otherwise: list[str], word: str) -> Line:
    """`then` if the pane is as the guard wants it, else `otherwise` and a record, opened by the word, of its state.
    Both are commands as `join` writes them.

    Both branches are made equally long, so that the count of replies does not depend on which one tmux takes. The
    pane's id is part of the state because tmux evaluates the format for some other pane when this one is gone.
    """
    now, due = states(pane, guard)
    state = join([["lsp", "-t", pane, "-f", f"#{{==:#{{pane_id}},{pane}}}", "-F", f"{word} {now}"]])
    length = max(len(then), len(otherwise) + 1)
    # The state comes last: when the pane is gone it is an error, and an error skips what follows.
    branches = [
        [*then, *_NOTHING * (length - len(then))],
        [*otherwise, *_NOTHING * (length - len(otherwise) - 1), state],
    ]
    return Line([["if-shell", "-F", "-t", pane, f"#{{==:{now},{due}}}", *map(" ; ".join, branches)]], 1 + length)


def done(word: str) -> str:
    """A command that leaves a record: everything before it has been done."""
    return f'display -p "{word} {TYPED}"'  # what we made ourselves needs no more than that within single quotes


def records(reply: Reply, word: str) -> list[str]:
    """What the records of a reply say."""
    opening = word.encode() + b" "
    return [text(line[len(opening) :]) for line in reply.lines if line.startswith(opening)]


def press(pane: str, keys: list[str]) -> str:
    """The command that presses the keys in the pane."""
    return join([["send", "-t", pane_target(pane), "--", *key_names(keys)]])


def pressing(pane: str, guard: Guard, keys: list[str], word: str) -> Line:
    """Press the keys."""
    return guarded(pane, guard, [press(pane, keys), done(word)], [], word)


def outcomes(reply: Reply | None, guard: Guard, word: str, count: int) -> list[str]:
    """For each of the things to be done: TYPED, the reason why it was not, or UNKNOWN when tmux did not say."""
    if reply is None:
        return [UNKNOWN] * count
    said = records(reply, word)
    if said and said[0] != TYPED:
        return [reason(said[0], guard)] * count
    if not said and any(error.startswith("can't find pane") for error in (reply.error or "").split("\n")):
        return [GONE] * count
    return [TYPED] * len(said) + [UNKNOWN] * (count - len(said))


def reason(state: str, guard: Guard) -> str:
    """Why a pane in this state was refused; the most lasting reason first."""
    fields = state.split(" ")
    pid, dead, mode, off, synchronized = fields[1:6]
    rest = fields[6:]
    cursor = rest[:2] if guard.cursor is not None else []
    compiled, found = rest[len(cursor) : len(cursor) + 2] if guard.absent else ("1", "0")
    nonce, *command = rest[len(cursor) + (2 if guard.absent else 0) :]
    checks = [
        (pid != str(guard.pid) or nonce != guard.nonce, REPLACED),
        (dead != "0", DEAD),
        (mode != "0", COPY_MODE),
        (off != "0", INPUT_OFF),
        (synchronized != "0", SYNCHRONIZED),
        (guard.command is not None and " ".join(command) != guard.command, NOT_FOREGROUND),
        (compiled != "1", BAD_CUE),
        (found != "0", DIALOG),
        (guard.cursor is not None and cursor != list(map(str, guard.cursor)), MOVED),
    ]
    # What no check explains is a program whose name holds a newline, or a nonce that holds a space.
    return next((name for wrong, name in checks if wrong), REPLACED if guard.command is None else NOT_FOREGROUND)
