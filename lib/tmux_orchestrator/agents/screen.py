"""What an agent's screen says: is it free, working, asking, limited; is somebody's draft in its input box?

Only the bottom of the screen counts: the last input box that is whole, what stands next to it, and the lowest
lines for a dialog. Where the picture does not fit (half drawn, another view, a new release of the CLI) the state
is `unknown` and the composer `none`: nobody types on a guess. A dialog is believed on the word of two cues, one
of them at or below the input box, so that prose about dialogs is none; where there is no box, a cue or an option
stands at the very end.

Lines come as `tmux capture-pane -e` prints them: with SGR sequences, whose state runs on from line to line.
Pure functions; nothing is kept.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field

from tmux_orchestrator.agents.profiles import Composer, Profile

DIALOG_LINES = 15  # non-empty lines from the bottom in which a dialog is looked for
END_LINES = 3  # of these the lowest, in which a dialog ends
STATE_LINES = 12  # non-empty lines above the composer in which the CLI says what it does
LIMIT_LINES = 6
QUESTION_LINES = 10
QUESTION_SIZE = 500  # characters

_ATTRIBUTES = re.compile(r"\x1b\[[0-9;:]*m|\x1b\].*?(?:\x1b\\|\x07)|[\x0e\x0f]")
_SGR = re.compile(r"\x1b\[([0-9;:]*)m")
_SPACES = re.compile(r"[\s│┃║|]+")
_FRAME = " \t│┃║╭╮╰╯─━╌"


@dataclass(slots=True)
class Screen:
    """`state`: idle working waiting limited unknown. `composer`: empty draft none. `text`: lines, no attributes.

    `limited_until` is what the CLI prints, not yet a time. `choices` are a dialog's options, in order.
    """

    state: str
    composer: str = "none"
    draft: str = ""
    queued: bool = False
    question: str = ""
    choices: list[str] = field(default_factory=list)
    limited_until: str | None = None
    text: list[str] = field(default_factory=list)


def question_id(question: str) -> str:
    """A short name of a question, by which an answer can say which one it is for; "" where nothing is asked."""
    squeezed = "".join(question.split())
    return f"{zlib.crc32(squeezed.encode('utf-8', 'replace')):08x}" if squeezed else ""


def classify(profile: Profile, lines: list[str], cursor: tuple[int, int] | None = None) -> Screen:
    """Read the visible screen. `cursor` is (x, y) from the upper left; None where it is not known."""
    text = plain(lines)
    last = len(text)
    while last and not text[last - 1]:
        last -= 1
    box = _find_box(profile.composer, lines, text, last, cursor) if profile.composer else None
    if _dialog(profile, text, last, box):
        question, choices = _question(profile, text, last)
        return Screen("waiting", question=question, choices=choices, text=text)
    turn = _turn(profile.composer, text, box[0] if box else last)
    near = _squeeze(turn[-STATE_LINES:] + (text[box[1] : last] if box else []))
    screen = Screen("idle" if box else "unknown", text=text)
    if profile.working and profile.working.search(near):
        screen.state = "working"
    if profile.limited and profile.limited.search(_squeeze(turn[-LIMIT_LINES:])):
        screen.state = "limited"
        screen.limited_until = _until(profile, turn[-LIMIT_LINES:])
    inside = _squeeze(text[box[0] : box[1]]) if box else ""
    screen.queued = bool(profile.queued and (profile.queued.search(near) or profile.queued.search(inside)))
    if box and profile.composer:
        screen.draft = _draft(profile.composer, lines, text, box)
        screen.composer = "draft" if screen.draft else "empty"
    return screen


def plain(lines: list[str]) -> list[str]:
    """The lines without attributes and trailing blanks; a no-break space counts as a space."""
    whole = _ATTRIBUTES.sub("", "\n".join(lines)).replace("\xa0", " ")
    return [line.rstrip() for line in whole.split("\n")]


def _find_box(
    composer: Composer, lines: list[str], text: list[str], last: int, cursor: tuple[int, int] | None
) -> tuple[int, int] | None:
    """The first line of the last whole input box, and the line after it."""
    for start in range(last - 1, -1, -1):
        if not composer.prompt.match(text[start]):
            continue
        end = _box_end(composer, text, start, last)
        if end is None or not _framed(composer, text, start):
            continue
        if composer.cursor and cursor is not None and not start <= cursor[1] < end:
            return None
        if composer.bright and _state_at(lines, start).after(_prompt_head(lines[start])).dim:
            return None
        return start, end
    return None


def _box_end(composer: Composer, text: list[str], start: int, last: int) -> int | None:
    """The line after the box: its closing line, or the footer (the last paragraph), or the end of what is shown."""
    if composer.end is not None:
        for at in range(start + 1, last):
            if composer.end.match(text[at]):
                return at
        if not composer.footer:
            return None
    end = last
    while composer.footer and end > start + 1 and text[end - 1]:
        end -= 1
    return end


def _framed(composer: Composer, text: list[str], start: int) -> bool:
    above = composer.above
    return above is None or any(above.match(line) for line in text[max(0, start - composer.within) : start])


def _turn(composer: Composer | None, text: list[str], end: int) -> list[str]:
    """The non-empty lines above the box since the last prompt that was submitted: what the CLI says now."""
    turn: list[str] = []
    for at in range(end - 1, -1, -1):
        if composer and composer.prompt.match(text[at]):
            break
        if text[at]:
            turn.append(text[at])
            if len(turn) >= STATE_LINES:
                break
    turn.reverse()
    return turn


def _squeeze(lines: list[str]) -> str:
    return "\n".join("".join(line.split()) for line in lines)


def _bottom(text: list[str], last: int) -> int:
    """The first of the lowest non-empty lines."""
    at, count = last, 0
    while at and count < DIALOG_LINES:
        at -= 1
        count += bool(text[at])
    return at


def _dialog(profile: Profile, text: list[str], last: int, box: tuple[int, int] | None) -> bool:
    if not profile.cues:
        return False
    first = _bottom(text, last)
    lowest = [line for line in text[first:last] if line.strip(_FRAME)][-END_LINES:]
    end = text[max(first, box[0]) : last] if box else lowest
    whole, below = (_SPACES.sub("", "".join(lines)) for lines in (text[first:last], end))
    offered = not box and profile.option is not None and any(map(profile.option.match, lowest))
    return any(
        all(cue.search(whole) for cue in group) and (offered or any(cue.search(below) for cue in group))
        for group in profile.cues
    )


def _question(profile: Profile, text: list[str], last: int) -> tuple[str, list[str]]:
    """What a dialog asks, and its options."""
    first = _bottom(text, last)
    options: list[tuple[int, str]] = []
    if profile.option:
        for at in range(first, last):
            found = profile.option.match(text[at])
            if found:
                label = " ".join(found.group(1).strip(_FRAME).split())
                if label.startswith("1."):
                    options.clear()
                options.append((at, label))
    asked: list[str] = []
    for at in range((options[0][0] if options else last) - 1, max(first - QUESTION_LINES, -1), -1):
        line = " ".join(text[at].strip(_FRAME).split())
        if line:
            asked.append(line)
        if (profile.top and profile.top.match(text[at])) or len(asked) >= QUESTION_LINES:
            break
    return " · ".join(reversed(asked))[-QUESTION_SIZE:], [label for _, label in options]


def _until(profile: Profile, lines: list[str]) -> str | None:
    for line in reversed(lines):
        for pattern in profile.limited_until:
            found = pattern.search(line)
            if found:
                return found.group(1).strip()
    return None


@dataclass(slots=True)
class _Look:
    """The attributes that tell a suggestion from typed text."""

    dim: bool = False
    reverse: bool = False
    grey: bool = False

    def after(self, sequences: str) -> _Look:
        """This look after the SGR sequences in a text."""
        look = _Look(self.dim, self.reverse, self.grey)
        for found in _SGR.finditer(sequences):
            look.apply(found.group(1))
        return look

    def apply(self, parameters: str) -> None:
        codes = [int(code) if code else 0 for code in parameters.replace(":", ";").split(";")]
        at = 0
        while at < len(codes):
            code = codes[at]
            if code == 0:
                self.dim = self.reverse = self.grey = False
            elif code == 2:
                self.dim = True
            elif code == 22:
                self.dim = False
            elif code in (7, 27):
                self.reverse = code == 7
            elif code == 38:
                self.grey = _grey(codes[at + 1 : at + 5])
            elif 30 <= code <= 39 or 90 <= code <= 97:
                self.grey = code == 90
            if code in (38, 48, 58):
                at += 2 if codes[at + 1 : at + 2] == [5] else 4
            at += 1

    @property
    def ghost(self) -> bool:
        return self.dim or self.grey


def _grey(colour: list[int]) -> bool:
    """True for the middle greys in which CLIs print suggestions; near white and near black are text."""
    if colour[:1] == [5] and len(colour) > 1:
        index = colour[1]
        return index in (8, 59, 102, 145) or 238 <= index <= 251
    if colour[:1] == [2] and len(colour) > 3:
        red, green, blue = colour[1:4]
        return max(red, green, blue) - min(red, green, blue) <= 16 and 60 < red < 200
    return False


def _state_at(lines: list[str], start: int) -> _Look:
    """The attributes in force where a line starts: replayed from the last full reset above it."""
    above = "\n".join(lines[:start])
    return _Look().after(above[max(0, above.rfind("\x1b[0")) :])


def _prompt_head(line: str) -> str:
    """The sequences before the first visible character."""
    at = 0
    while True:
        found = _ATTRIBUTES.match(line, at)
        if not found:
            return line[:at]
        at = found.end()


def _draft(composer: Composer, lines: list[str], text: list[str], box: tuple[int, int]) -> str:
    """What somebody typed, without suggestions; empty when there is nothing but those."""
    start, end = box
    found = composer.prompt.match(text[start])
    width = found.end() if found else 0
    if not any(text[at][width if at == start else 0 :].strip() for at in range(start, end)):
        return ""
    look = _state_at(lines, start)
    rows: list[str] = []
    for at in range(start, end):
        row, look = _typed(lines[at], width if at == start else 0, look)
        rows.append(row)
    typed = "\n".join(row[width:].rstrip() if not row[:width].strip() else row.rstrip() for row in rows).strip()
    return "" if composer.placeholder and composer.placeholder.fullmatch(typed) else typed


def _typed(line: str, skip: int, look: _Look) -> tuple[str, _Look]:
    """One line with its suggestions blanked, and the attributes after it. The first `skip` characters are blanked.

    A reversed character is the cursor that a CLI draws itself: it belongs to what follows it.
    """
    out: list[str] = []
    pending, seen, at = "", 0, 0
    look = look.after("")
    for found in [*_ATTRIBUTES.finditer(line), None]:
        piece = line[at : found.start() if found else len(line)].replace("\xa0", " ")
        for char in piece:
            seen += 1
            if seen <= skip:
                out.append(" ")
            elif look.reverse or (pending and char == " "):
                pending += char
            else:
                out.append(" " * len(pending) if look.ghost else pending)
                pending = ""
                out.append(" " if look.ghost else char)
        if found is None:
            break
        at = found.end()
        sequence = _SGR.match(found.group())
        if sequence:
            look.apply(sequence.group(1))
    return "".join(out) + pending, look
