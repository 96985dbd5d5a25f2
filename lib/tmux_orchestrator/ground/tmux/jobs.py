"""Texts for panes, as the lines that type them.

Several texts for one pane go behind one guard: tmux does not look at anything while it runs the line, so a guard
in between could not see what the first text brought about; and half the work is the guard's. A guard that wants
the cursor where it was is for one text only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from tmux_orchestrator.ground.tmux.guard import Guard, done, guarded, pane_target, press
from tmux_orchestrator.ground.tmux.words import Line

# pane id, guard, text, and the key to press after it
Frame = tuple[str, Guard, bytes, str | None]
# Texts behind one guard: more would hold up tmux without being faster.
GROUP = 8


@dataclass(slots=True)
class Job:
    """A line and the frames that it types: all of one pane, and one guard."""

    frames: list[Frame]
    line: Line

    @property
    def guard(self) -> Guard:
        return self.frames[0][1]


def job(frames: list[Frame], buffers: Callable[[], str], word: str) -> Job:
    """Put each text into a buffer of its own, then paste it and press its key; or else drop them all."""
    pane, guard, _, _ = frames[0]
    texts = [(buffers(), body) for _, _, body, _ in frames]
    submit = {key: press(pane, [key]) for _, _, _, key in frames if key is not None}
    target, typed = pane_target(pane), done(word)
    then: list[str] = []
    for (buffer, body), (_, _, _, key) in zip(texts, frames, strict=True):
        if not body:
            raise ValueError("nothing to type: the text is empty")
        then.append(f"pasteb -prdb {buffer} -t {target}")
        if key is not None:
            then.append(submit[key])
        then.append(typed)
    line = guarded(pane, guard, then, [f"deleteb -b {buffer}" for buffer, _ in texts], word)
    line.texts = texts
    return Job(frames, line)


def grouped(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Frames in their order, those together that may go behind one guard."""
    groups: list[list[Frame]] = []
    for (_, guard), alike in groupby(frames, key=lambda frame: (frame[0], frame[1])):
        run = list(alike)
        size = 1 if guard.cursor is not None else GROUP
        groups += [run[start : start + size] for start in range(0, len(run), size)]
    return groups
