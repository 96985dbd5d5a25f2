"""What the recipes of this folder share: ask our commands and git, publish an event once, look again and again."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

Fields = dict[str, Any]

HERE = os.path.dirname(os.path.realpath(__file__))
os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:{HERE}/../../bin"  # cron's has not got them
_NO_PROGRAM = ("core.fsmonitor=false", "core.hooksPath=/dev/null", "log.showSignature=false")
_GIT = ["timeout", "60", "git", "--no-pager", *(word for one in _NO_PROGRAM for word in ("-c", one))]
_MOST = 16 << 20  # bytes of one answer of git's
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(text: object) -> int:
    """Raises ValueError."""
    if not re.fullmatch(r"[0-9]{1,6}[smhd]", str(text)):
        raise ValueError(f"{text!r} is no duration such as 10m")
    return int(str(text)[:-1]) * _UNITS[str(text)[-1]]


def options(name: str, *more: tuple[str, str, str]) -> argparse.Namespace:
    """`more`: (option, default, what it is). Every recipe has --every and --dry-run."""
    parser = argparse.ArgumentParser(prog=name, exit_on_error=False)
    parser.add_argument("--every", type=seconds, default=0, help="look again after this time, such as 10m; else once")
    parser.add_argument("--dry-run", action="store_true", help="print what would be published")
    for option, default, text in more:
        parser.add_argument(option, default=default, help=text)
    try:
        given, rest = parser.parse_known_args()
    except argparse.ArgumentError as error:
        fail(64, f"{error}: see --help")
    if rest:
        fail(64, f"{rest[0]!r} is not known: see --help")
    return given


def fail(code: int, text: str) -> NoReturn:
    """One line, whatever is in the text, and the exit code."""
    name = os.path.basename(sys.argv[0])
    print(f"{name}: " + "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text), file=sys.stderr)
    sys.exit(code)


def ask(*argv: str) -> list[Fields]:
    """The records that one of our commands prints; none when it ends with 1. What it complains of goes on as it is."""
    done = subprocess.run([*argv, "-o", "jsonl"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    if done.returncode > 1:
        sys.exit(done.returncode)
    return [json.loads(line) for line in done.stdout.splitlines()]


def agents() -> list[Fields]:
    """All that is known of each agent that has a pane, and `key`, by which it is addressed."""
    listed = [one for one in ask("orc-agent", "list") if one["target"]]
    names = [one["name"] for one in listed]
    found = []
    for one in listed:
        session = one["target"].partition(":")[0]
        found += ask("orc-agent", "show", one["name"] if names.count(one["name"]) == 1 else f"{session}:{one['name']}")
    return [one | {"key": f"{one['session']}:{one['name']}"} for one in found]


def git(folder: str | None, *words: str) -> list[str]:
    """The lines that git prints, as many as is sensible; none when it fails."""
    if not folder:
        return []
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0"}
    null = subprocess.DEVNULL
    with subprocess.Popen(
        [*_GIT, "-C", folder, *words], stdin=null, stdout=subprocess.PIPE, stderr=null, env=env
    ) as child:
        assert child.stdout
        said = child.stdout.read(_MOST)
        child.terminate()
    return said.decode("utf-8", "replace").split("\n")[:-1]


def publish(once: list[str], kind: str, priority: str, context: Fields, body: str, dry_run: bool) -> None:
    """Publish an event of which there is one for these words, `once`, within seven days."""
    unique = f"{kind}.{hashlib.sha256(json.dumps(once).encode()).hexdigest()[:32]}"
    argv = ["orc-publish", "--type", kind, "--priority", priority, "--id", unique, "--context", json.dumps(context)]
    if dry_run:
        print(json.dumps({"type": kind, "priority": priority, "context": context, "body": body}), flush=True)
        return
    done = subprocess.run([*argv, "--", body.replace("\0", "")], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    if done.returncode:
        sys.exit(done.returncode)


def repeat(every: int, look: Callable[[], None]) -> None:
    look()
    while every:
        time.sleep(every)
        look()
