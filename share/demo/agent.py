#!/usr/bin/env python3
"""A small agent that lives in a terminal, for demonstrations and tests: no model, no network, nothing is executed.

It behaves as the real agent CLIs do: an input box with bracketed paste, a busy time in which messages are queued, a
permission dialog whose first option is Yes, Esc to interrupt. What a prompt holds steers it:

  [[slow:N]]     work for N seconds          [[limit]]   answer with a usage limit
  [[tool:CMD]]   ask for permission to run   [[exit]]    leave, exit 0
                 CMD (and never run it)      [[crash]]   die by SIGKILL

usage: agent.py [--name NAME] [--work SECONDS] [--log FILE]

The log gets one JSON line per event: {"time", "prompt", "queued"}, {"time", "answer", "command"}, {"time", "keys"}.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import select
import signal
import struct
import sys
import termios
import time
import tty
import unicodedata
from dataclasses import dataclass, field

PASTE_BEGIN, PASTE_END = b"\x1b[200~", b"\x1b[201~"
ENTER_VIEW = "\x1b[?1049h\x1b[?2004h"
LEAVE_VIEW = "\x1b[?2004l\x1b[?25h\x1b[?1049l"
RESET, BOLD, DIM = "\x1b[0m", "\x1b[1m", "\x1b[2m"
BLUE, GREEN, RED, YELLOW = "\x1b[38;5;75m", "\x1b[38;5;114m", "\x1b[38;5;203m", "\x1b[38;5;179m"
CHOICES = ["Yes", "Yes, and do not ask again", "No"]
KEYS = {b"\r": "enter", b"\n": "newline", b"\x7f": "erase", b"\x08": "erase", b"\x15": "clear", b"\x03": "clear"}
KEYS |= {b"\x1b[A": "up", b"\x1bOA": "up", b"\x1b[B": "down", b"\x1bOB": "down", b"\x04": "leave"}
BOX_ROWS = 8
SPIN = "◐◓◑◒"


def width(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def wrap(text: str, columns: int) -> list[str]:
    """The text in rows of at most `columns` cells; what is not printable is shown as `·`."""
    rows: list[str] = []
    for line in text.expandtabs(4).split("\n"):
        row, used = "", 0
        for char in line:
            char = char if char.isprintable() else "·"
            if used + width(char) > columns:
                rows.append(row)
                row, used = "", 0
            row, used = row + char, used + width(char)
        rows.append(row)
    return rows


def fit(text: str, columns: int) -> str:
    return wrap(" ".join(text.split()), columns)[0] if columns > 0 else ""


class Keyboard:
    """Turns bytes into ("key", name), ("text", characters) and ("paste", text); keeps what is incomplete."""

    def __init__(self) -> None:
        self.waiting = b""

    def feed(self, chunk: bytes) -> list[tuple[str, str]]:
        self.waiting += chunk
        events: list[tuple[str, str]] = []
        while self.waiting:
            event, used = self._next(self.waiting)
            if used == 0:
                break
            self.waiting = self.waiting[used:]
            if event:
                events.append(event)
        return events

    def lone_escape(self) -> list[tuple[str, str]]:
        """Called when nothing followed for a moment: an ESC that still waits was the key."""
        if not self.waiting.startswith(b"\x1b") or self.waiting.startswith(PASTE_BEGIN):
            return []
        rest, self.waiting = self.waiting[1:], b""
        return [("key", "escape"), *self.feed(rest)]

    def _next(self, data: bytes) -> tuple[tuple[str, str] | None, int]:
        if data.startswith(PASTE_BEGIN):
            end = data.find(PASTE_END)
            if end < 0:
                return None, 0
            pasted = data[len(PASTE_BEGIN) : end].decode("utf-8", "replace").replace("\r", "\n")
            return ("paste", pasted), end + len(PASTE_END)
        for sequence, name in KEYS.items():
            if data.startswith(sequence):
                return ("key", name), len(sequence)
        if data[0] == 0x1B:
            found = re.match(rb"\x1b(\[[0-9;?]*[ -/]*[@-~]|O.|[^\[O])", data)
            return None, found.end() if found else 0
        if data[0] < 0x20:
            return None, 1
        size = 1 if data[0] < 0x80 else 2 if data[0] < 0xE0 else 3 if data[0] < 0xF0 else 4
        if len(data) < size:
            return None, 0
        return ("text", data[:size].decode("utf-8", "replace")), size


@dataclass
class Job:
    prompt: str
    started: float
    until: float


@dataclass
class Agent:
    """The whole state; `now` is handed in, nothing here touches the terminal."""

    name: str
    work: float
    log_path: str | None = None
    shown: list[tuple[str, str]] = field(default_factory=list)
    draft: str = ""
    queue: list[str] = field(default_factory=list)
    job: Job | None = None
    asking: str | None = None
    choice: int = 0
    done: int = 0
    leaving: bool = False

    def log(self, **fields: object) -> None:
        if self.log_path:
            line = json.dumps({"time": time.time(), **fields}) + "\n"
            with open(self.log_path, "a", encoding="utf-8") as file:
                file.write(line)

    def handle(self, kind: str, value: str, now: float) -> None:
        if self.asking is not None:
            self._in_dialog(kind, value)
        elif kind in ("text", "paste"):
            self.draft += value
        elif value == "newline":
            self.draft += "\n"
        elif value == "erase":
            self.draft = self.draft[:-1]
        elif value == "clear":
            self.draft = ""
        elif value == "enter" and self.draft.strip():
            self._submit(now)
        elif value == "escape" and self.job:
            self.job = None
            self.shown.append(("alert", "Interrupted"))
        elif value == "leave" and not self.draft:
            self.leaving = True

    def tick(self, now: float) -> None:
        """Finish what is due, and take up what waits."""
        if self.job and now >= self.job.until:
            prompt, self.job = self.job.prompt, None
            self._finish(prompt)
        if not self.job and self.asking is None and self.queue:
            self._begin(self.queue.pop(0), now)

    def _submit(self, now: float) -> None:
        prompt, self.draft = self.draft, ""
        busy = self.job is not None
        self.log(prompt=prompt, queued=busy)
        if busy:
            self.queue.append(prompt)
        else:
            self._begin(prompt, now)

    def _begin(self, prompt: str, now: float) -> None:
        self.shown.append(("prompt", prompt))
        slow = re.findall(r"\[\[slow:([\d.]+)\]\]", prompt)
        self.job = Job(prompt, now, now + (float(slow[-1]) if slow else self.work))

    def _finish(self, prompt: str) -> None:
        tool = re.search(r"\[\[tool:(.+?)\]\]", prompt, re.DOTALL)
        if "[[crash]]" in prompt:
            os.kill(os.getpid(), signal.SIGKILL)
        if "[[exit]]" in prompt:
            self.leaving = True
        elif "[[limit]]" in prompt:
            resets = time.strftime("%H:%M", time.localtime(time.time() + 3600))
            self.shown.append(("alert", f"Usage limit reached · resets at {resets}"))
        elif tool:
            self.asking, self.choice = tool.group(1), 0
        else:
            self.done += 1
            self.shown.append(("answer", f"Done: {fit(prompt, 200)}"))

    def _in_dialog(self, kind: str, value: str) -> None:
        if (kind, value) == ("key", "up"):
            self.choice = max(0, self.choice - 1)
        elif (kind, value) == ("key", "down"):
            self.choice = min(len(CHOICES) - 1, self.choice + 1)
        elif (kind, value) == ("key", "enter"):
            self._answer(self.choice)
        elif (kind, value) == ("key", "escape"):
            self._answer(len(CHOICES) - 1)
        elif kind == "text" and value in ("1", "2", "3"):
            self._answer(int(value) - 1)

    def _answer(self, choice: int) -> None:
        command, self.asking = self.asking or "", None
        self.log(answer=CHOICES[choice], command=command)
        self.done += 1
        said = "Allowed (this agent only pretends)" if choice < 2 else "Not allowed"
        self.shown.append(("answer" if choice < 2 else "alert", f"{said}: {fit(command, 200)}"))


def draw(agent: Agent, columns: int, rows: int, now: float) -> str:
    """One whole picture, and where the cursor stands."""
    bottom, cursor = _dialog(agent, columns) if agent.asking is not None else _box(agent, columns)
    status = _status(agent, columns, now)
    room = max(0, rows - 2 - len(status) - len(bottom))
    lines = [_title(agent, columns), "", *_talk(agent, columns, room), *status, *bottom][-rows:]
    out = "\x1b[?25l\x1b[H" + "\r\n".join(f"{line}{RESET}\x1b[K" for line in lines) + "\x1b[J"
    if cursor is None:
        return out
    return out + f"\x1b[{len(lines) - len(bottom) + cursor[1] + 1};{min(cursor[0], columns - 1) + 1}H\x1b[?25h"


def _title(agent: Agent, columns: int) -> str:
    state = "asks you" if agent.asking is not None else "working" if agent.job else "idle"
    colour = YELLOW if agent.asking is not None else BLUE if agent.job else GREEN
    left, right = f"  ◆ {agent.name}", f"{state} · {agent.done} done  "
    gap = " " * max(1, columns - len(left) - len(right))
    return f"{BLUE}{BOLD}{left}{RESET}{gap}{colour}{right}"


def _talk(agent: Agent, columns: int, room: int) -> list[str]:
    marks = {"prompt": (f"{DIM}▹ {RESET}{BOLD}", 2), "answer": (f"{GREEN}● {RESET}", 2), "alert": (f"{RED}■ ", 2)}
    lines: list[str] = []
    for kind, text in agent.shown[-60:]:
        mark, indent = marks[kind]
        for number, row in enumerate(wrap(text, columns - indent - 1)):
            lines.append((mark if number == 0 else " " * indent + (BOLD if kind == "prompt" else "")) + row)
        lines.append("")
    if not lines:
        lines = [f"{DIM}  An agent for trying things out: it never runs a command.", ""]
    return (lines + [""] * room)[:room] if len(lines) < room else lines[len(lines) - room :]


def _status(agent: Agent, columns: int, now: float) -> list[str]:
    lines = []
    if agent.job:
        seconds = now - agent.job.started
        lines += [f"{BLUE}{SPIN[int(seconds * 8) % 4]} Working … {int(seconds)}s {DIM}· esc interrupts", ""]
    if agent.queue:
        lines += [f"{DIM}  ↳ {fit(text, columns - 6)}" for text in agent.queue[-4:]]
    return lines


def _box(agent: Agent, columns: int) -> tuple[list[str], tuple[int, int]]:
    rows = wrap(agent.draft, columns - 3)
    hidden, rows = max(0, len(rows) - BOX_ROWS), rows[-BOX_ROWS:]
    shown = [(f"{BLUE}▸ {RESET}" if number == 0 else "  ") + row for number, row in enumerate(rows)]
    if not agent.draft:
        shown = [f"{BLUE}▸ {RESET}{DIM}Say what to do"]
    above = f" {hidden} more lines " if hidden else ""
    cursor = (2 + sum(width(char) for char in rows[-1]), len(rows))
    hint = fit("enter sends · esc interrupts · ctrl-d leaves", columns - 2)
    return [
        f"{DIM}{'▁' * (columns - len(above))}{above}",
        *shown,
        f"{DIM}{'▔' * columns}",
        f"{DIM}  {hint}",
    ], cursor


def _dialog(agent: Agent, columns: int) -> tuple[list[str], None]:
    command = wrap(agent.asking or "", columns - 8)[:6]
    options = [
        f"  {BLUE + BOLD + '▸' if number == agent.choice else ' '} {number + 1}. {text}"
        for number, text in enumerate(CHOICES)
    ]
    return [
        YELLOW + "━" * columns,
        f"  {BOLD}Permission",
        *[f"    {YELLOW}$ {row}" for row in command],
        "  Run this command?",
        *options,
        f"{DIM}  Enter chooses · Esc says no",
    ], None


def size_of(descriptor: int) -> tuple[int, int]:
    rows, columns = struct.unpack("HHHH", fcntl.ioctl(descriptor, termios.TIOCGWINSZ, b"\0" * 8))[:2]
    return max(20, columns), max(10, rows)


def write(text: str) -> None:
    data = text.encode("utf-8", "replace")
    while data:
        data = data[os.write(1, data) :]


def loop(agent: Agent, wake: int) -> None:
    keyboard = Keyboard()
    while not agent.leaving:
        write(draw(agent, *size_of(1), time.monotonic()))
        escape = keyboard.waiting.startswith(b"\x1b") and not keyboard.waiting.startswith(PASTE_BEGIN)
        wait = 0.03 if escape else 0.125 if agent.job else None
        ready = select.select([0, wake], [], [], wait)[0]
        if wake in ready:
            os.read(wake, 4096)
        events: list[tuple[str, str]] = []
        if 0 in ready:
            chunk = os.read(0, 65536)
            if not chunk:
                return
            agent.log(keys=chunk.decode("utf-8", "backslashreplace"))
            events = keyboard.feed(chunk)
        elif escape:
            events = keyboard.lone_escape()
        for kind, value in events:
            agent.handle(kind, value, time.monotonic())
        agent.tick(time.monotonic())


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--name", default="demo agent")
    parser.add_argument("--work", type=float, default=0.6, metavar="SECONDS")
    parser.add_argument("--log", metavar="FILE")
    options = parser.parse_args()
    if not (os.isatty(0) and os.isatty(1)):
        print("agent.py: standard input is no terminal: start it in a pane", file=sys.stderr)
        return 69
    before = termios.tcgetattr(0)
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGWINCH, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        tty.setraw(0)
        write(ENTER_VIEW)
        loop(Agent(options.name, options.work, options.log), wake)
    finally:
        write(LEAVE_VIEW)
        termios.tcsetattr(0, termios.TCSADRAIN, before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
