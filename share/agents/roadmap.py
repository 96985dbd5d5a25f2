#!/usr/bin/env -S sh -c 'exec "$(dirname "$(readlink -f "$0")")/../../.venv/bin/python" -EsBX utf8 "$0" "$@"'
"""Read and change a roadmap: a Markdown file in which some lines are items. docs/recipes.md tells their form.

    - [ ] US-048: Notifications have a sound (Planned)
    - [ ] BUG-003: Notifications play no sound (Planned, critical, SPEC-073)
      What is indented below an item belongs to it.

People, editors and several agents change it: every change is made under a lock on its folder, on what the file says
then, and replaces the file as a whole. A crash leaves the old file or the new one. All other lines stay as they are.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

STATUSES = ("Planned", "In progress", "Review", "Complete", "Blocked")
SEVERITIES = ("critical", "high", "normal", "low")
WANTED = "needs spec"
LARGEST = 4 << 20  # bytes of a roadmap
_ITEM = re.compile(r"- \[([ xX])\] ([A-Z][A-Z0-9]{0,9}-[0-9]{1,6}):?[ \t]+(.*)")
_STATE = re.compile(rf"({'|'.join(STATUSES)})((?:,[A-Za-z0-9 -]+)*)\)[ \t\r]*", re.IGNORECASE)
_ID = re.compile(r"[A-Z][A-Z0-9]{0,9}-[0-9]{1,6}")
_SPEC = re.compile(r"SPEC-[0-9]{1,6}")


@dataclass
class Item:
    id: str
    title: str
    status: str
    notes: list[str]  # what else stands between the parentheses
    first: int  # its lines are first to last - 1
    last: int
    ending: str  # "\r" in a file of such lines

    @property
    def severity(self) -> str:
        return next((note for note in self.notes if note in SEVERITIES), "normal")

    @property
    def spec(self) -> str | None:
        return next((note for note in self.notes if _SPEC.fullmatch(note)), None)

    def line(self) -> str:
        state = ", ".join([self.status, *self.notes])
        return f"- [{'x' if self.status == 'Complete' else ' '}] {self.id}: {self.title} ({state}){self.ending}"


class Roadmap:
    def __init__(self, text: str) -> None:
        self.lines = text.split("\n")

    def items(self) -> list[Item]:
        """In their order; of two with one id the first counts."""
        found: dict[str, Item] = {}
        for number, line in enumerate(self.lines):
            item = parse(line, number)
            if item is not None:
                while item.last < len(self.lines) and self.lines[item.last][:1] in (" ", "\t"):
                    item.last += 1
                found.setdefault(item.id, item)
        return list(found.values())

    def find(self, wanted: str) -> Item | None:
        return next((item for item in self.items() if item.id == wanted), None)

    def body(self, item: Item) -> str:
        return "\n".join(line.strip() for line in self.lines[item.first + 1 : item.last])

    def record(self, item: Item) -> str:
        known = {"id": item.id, "title": item.title, "status": item.status, "severity": item.severity}
        more = {"spec": item.spec, "needs_spec": WANTED in item.notes, "text": self.body(item)}
        return json.dumps({**known, **more}, ensure_ascii=False)

    def put(self, item: Item) -> None:
        self.lines[item.first] = item.line()

    def add(self, prefix: str, title: str, notes: list[str], details: list[str]) -> Item:
        """A new item with the next number, before what is open and matters less."""
        items = self.items()
        numbers = [int(item.id.rpartition("-")[2]) for item in items if item.id.rpartition("-")[0] == prefix]
        ending = items[0].ending if items else ""
        number = max(numbers, default=0) + 1
        new = Item(f"{prefix}-{number:03}", title, "Planned", notes, self._place(items, notes), 0, ending)
        block = [new.line(), *(f"  {line}{ending}" for line in details)]
        self.lines[new.first : new.first] = block
        new.last = new.first + len(block)
        return new

    def _place(self, items: list[Item], notes: list[str]) -> int:
        rank = SEVERITIES.index(next((note for note in notes if note in SEVERITIES), "normal"))
        for item in items:
            if item.status == "Planned" and SEVERITIES.index(item.severity) > rank:
                return item.first
        if items:
            return max(item.last for item in items)
        while len(self.lines) > 1 and not self.lines[-1].strip():
            self.lines.pop()
        self.lines += ["", ""]
        return len(self.lines) - 1


def parse(line: str, number: int) -> Item | None:
    found = _ITEM.fullmatch(line)
    if found is None:
        return None
    box, name, rest = found.groups()
    title, _, last = rest.rpartition("(")
    state = _STATE.fullmatch(last)
    ending = "\r" if line.endswith("\r") else ""
    if state is None:  # a person's line: the box says it
        return Item(name, rest.strip(), "Planned" if box == " " else "Complete", [], number, number + 1, ending)
    status, notes = state.groups()
    status = next(one for one in STATUSES if one.lower() == status.lower())
    return Item(
        name, title.rstrip(" \t"), status, [note.strip() for note in notes.split(",")[1:]], number, number + 1, ending
    )


def clean(text: str, most: int) -> str:
    """One line of what can be printed."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:most]


# the file


def read(path: str) -> str:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                fail(65, f"{path} is no file: name the roadmap")
            data = file.read(LARGEST + 1)
    except FileNotFoundError:
        return ""
    except IsADirectoryError:
        fail(65, f"{path} is a folder: name the roadmap")
    except OSError as error:
        fail(74, f"cannot read {path} ({error.strerror}): see who may")
    if len(data) > LARGEST:
        fail(65, f"{path} is larger than {LARGEST >> 20} MiB: name the roadmap")
    return data.decode("utf-8", "surrogateescape")


@contextmanager
def locked(path: str) -> Iterator[None]:
    """The folder's own lock, which flock(1) takes too: there is no lock file to be left in a repository."""
    try:
        fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        fail(74, f"cannot lock {os.path.dirname(path)} ({error.strerror}): make the folder")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def change(path: str, edit: Callable[[Roadmap], str | None]) -> str | None:
    """Let `edit` change the roadmap, and replace the file; what `edit` returned, None for no change."""
    with locked(path):
        before = read(path)
        roadmap = Roadmap(before or "# Roadmap\n")
        told = edit(roadmap)
        after = "\n".join(roadmap.lines)
        if told is not None and after != before:
            try:
                replace(path, after.encode("utf-8", "surrogateescape"))
            except OSError as error:
                fail(74, f"cannot write {path} ({error.strerror}): see who may, and whether the disk is full")
    return told


def replace(path: str, data: bytes) -> None:
    fd, new = tempfile.mkstemp(prefix=".roadmap-", dir=os.path.dirname(path))
    try:
        with open(fd, "wb") as file:
            file.write(data)
            mask = os.umask(0o077)
            os.umask(mask)
            mode = stat.S_IMODE(os.stat(path).st_mode) if os.path.exists(path) else 0o666 & ~mask
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:
        os.unlink(new)
        raise


# what can be asked


def show(given: argparse.Namespace) -> list[str]:
    roadmap = Roadmap(read(given.file))
    items = roadmap.items()
    if given.action == "show":
        items = [item for item in items if item.id == given.id]
    elif given.action == "next":
        wanted = [item for item in items if item.status == "Planned" and WANTED not in item.notes]
        items = [item for item in wanted if item.spec or not given.with_spec][:1]
    elif given.status:
        items = [item for item in items if item.status in given.status]
    return [roadmap.record(item) for item in items]


def put(given: argparse.Namespace) -> list[str]:
    def edit(roadmap: Roadmap) -> str | None:
        item = roadmap.find(given.id)
        if item is None or (given.only_if and item.status not in given.only_if):
            return None
        item.status = given.status or item.status
        if given.spec:
            item.notes = [one for one in item.notes if one != WANTED and not _SPEC.fullmatch(one)] + [given.spec]
        roadmap.put(item)
        return roadmap.record(item)

    told = change(given.file, edit)
    return [] if told is None else [told]


def add(given: argparse.Namespace) -> list[str]:
    title = clean(" ".join(given.title), 200) or "without a title"
    said = "" if sys.stdin.isatty() else sys.stdin.read(1 << 16)
    details = [clean(re.sub("<!-*|-*>", "", line), 500) for line in said.split("\n")]  # what looks like no mark
    mark = f"<!-- {clean(given.mark, 100)} -->" if given.mark else ""

    def edit(roadmap: Roadmap) -> str:
        for item in roadmap.items():
            is_open = item.id.startswith(given.prefix + "-") and item.status != "Complete"
            if (mark and mark in roadmap.body(item)) or (is_open and item.title.lower() == title.lower()):
                return roadmap.record(item)  # it stands there already
        notes = [given.severity] if given.severity else []
        notes += [WANTED] if given.needs_spec else []
        new = roadmap.add(given.prefix, title, notes, [*(line for line in details if line), *([mark] if mark else [])])
        return roadmap.record(new)

    return [change(given.file, edit) or ""]


def fail(code: int, text: str) -> NoReturn:
    print("roadmap.py: " + "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text), file=sys.stderr)
    sys.exit(code)


class Words(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        fail(64, f"{message}: see --help")


def words() -> argparse.Namespace:
    parser = Words(prog="roadmap.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--file", default=os.environ.get("ORC_TEAM_ROADMAP") or "ROADMAP.md", help="default ROADMAP.md")
    actions = parser.add_subparsers(dest="action", required=True)
    all_ = actions.add_parser("list", help="all items, a JSON object each")
    all_.add_argument("--status", action="append", choices=STATUSES)
    next_ = actions.add_parser("next", help="the first that is planned and waits for no spec")
    next_.add_argument("--with-spec", action="store_true", help="only one that has a spec")
    actions.add_parser("show", help="one item").add_argument("id")
    put_ = actions.add_parser("set", help="change an item; 1 when it is not there, or not so")
    put_.add_argument("id")
    put_.add_argument("status", nargs="?", choices=STATUSES)
    put_.add_argument("--if", dest="only_if", action="append", choices=STATUSES, help="only when it is that now")
    put_.add_argument("--spec", help="SPEC-NNN, the spec that it has")
    add_ = actions.add_parser("add", help="a new item, unless it is there; details come on stdin")
    add_.add_argument("prefix")
    add_.add_argument("title", nargs="+")
    add_.add_argument("--severity", choices=SEVERITIES)
    add_.add_argument("--needs-spec", action="store_true", help="nobody begins before it has one")
    add_.add_argument("--mark", help="what makes it the same one when it is added again")
    given = parser.parse_args()
    if given.action == "add" and not _ID.fullmatch(given.prefix + "-1"):
        fail(64, "the prefix is no word of A-Z and 0-9: give one such as BUG")
    if given.action == "set" and given.spec and not _SPEC.fullmatch(given.spec):
        fail(64, "--spec is not like SPEC-048: correct it")
    given.file = os.path.realpath(given.file)
    return given


def main() -> int:
    given = words()
    found = {"set": put, "add": add}.get(given.action, show)(given)
    for line in found:
        print(line.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
