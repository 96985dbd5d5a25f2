"""Putting our hooks into the settings of an agent CLI, taking them out, and telling how they stand.

What each CLI wants, and where, is a row in CLIS. Everything is read and worked out first, and only then written, file
by file, each as a whole and only if it still is what was read. Beside a file that somebody else had written stands
one copy of what it was, until our lines are gone again. A crash leaves some files written and some not: running it
again ends it. A file that is a link stays one, and what it leads to is written.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

from tmux_orchestrator.agents import hook_settings as settings
from tmux_orchestrator.agents import hooks
from tmux_orchestrator.ground import files
from tmux_orchestrator.ground.errors import OrcError, SystemFailure, TryLater, UsageError
from tmux_orchestrator.ground.paths import CODE

COPY = ".before-orc-hook"
TEXT = CODE + "/share/agents/commands.md"
_LIMIT = 4 << 20
# What an agent may run without being asked. None of these runs a command that it is given: orc-run, orc-ratelimit
# and the like would be a way round every other rule.
# fmt: off
ALLOWED = (
    "orc-publish", "orc-read", "orc-ack", "orc-status", "orc-stats",
    "orc-agent list", "orc-agent show", "orc-agent peek", "orc-agent wait",
)
# fmt: on
_EVENTS = {cli: [name for name in known if name != "statusLine"] for cli, known in hooks.EVENTS.items()}


class Cli(NamedTuple):
    """Where a CLI keeps things. Paths are below its folder, those of a project below the project's."""

    variable: str  # names the user's folder
    below: str  # what is appended to that
    home: str  # the user's folder without it, below HOME
    settings: str
    project_settings: str
    text: str
    rules: str  # a file of rules of its own; "" where they stand in the settings
    timeout: int  # for a hook, in the CLI's unit


CLIS = {
    "claude": Cli(
        variable="CLAUDE_CONFIG_DIR",
        below="",
        home=".claude",
        settings="settings.json",
        project_settings=".claude/settings.local.json",  # the other one is for everybody who has the project
        text="CLAUDE.md",
        rules="",
        timeout=5,
    ),
    "codex": Cli(
        variable="CODEX_HOME",
        below="",
        home=".codex",
        settings="hooks.json",
        project_settings=".codex/hooks.json",
        text="AGENTS.md",
        rules="rules/tmux-orchestrator.rules",
        timeout=3,  # the most that it lets some events have
    ),
    "gemini": Cli(
        variable="GEMINI_CLI_HOME",
        below="/.gemini",
        home=".gemini",
        settings="settings.json",
        project_settings=".gemini/settings.json",
        text="GEMINI.md",
        rules="policies/tmux-orchestrator.toml",
        timeout=5000,
    ),
}


class Place(NamedTuple):
    """The files of one CLI for one user or project. `rules` is "" where the CLI has none there."""

    cli: str
    project: bool
    settings: str
    text: str
    rules: str


class Change(NamedTuple):
    """A file to be written: `after` None takes it away. `copy`: keep (True), take back (False) the one beside it."""

    path: str
    before: bytes | None
    after: bytes | None
    said: str
    copy: bool | None = None


def place(cli: str, env: Mapping[str, str], project: str | None) -> Place:
    """Raises UsageError when it is not known where the user's settings are."""
    known = CLIS[cli]
    if project is not None:
        root = os.path.abspath(project)
        if not os.path.isdir(root):
            raise UsageError(f"{project} is no folder: name the project's")
        rules = f"{root}/.codex/{known.rules}" if cli == "codex" else ""
        return Place(cli, True, f"{root}/{known.project_settings}", f"{root}/{known.text}", rules)
    folder = env.get(known.variable, "")
    if folder:
        folder = os.path.abspath(folder) + known.below
    elif env.get("HOME", "").startswith("/"):
        folder = f"{env['HOME']}/{known.home}"
    else:
        raise UsageError(f"neither {known.variable} nor HOME is set: set one, or give --project DIR")
    rules = f"{folder}/{known.rules}" if known.rules else ""
    return Place(cli, False, f"{folder}/{known.settings}", f"{folder}/{known.text}", rules)


def commands(cli: str) -> dict[str, str]:
    """Event -> what the CLI is to run. It stays the same from release to release: Codex trusts the very words."""
    program = shlex.quote(f"{CODE}/bin/{settings.PROGRAM}")
    return {event: f"{program} {cli} {event}" for event in _EVENTS[cli]}


def install(where: Place, permissions: bool, text: bool) -> list[Change]:
    """What there is to write so that the hooks are there; nothing, when they are. Raises DataError, SystemFailure."""
    before = read(where.settings)
    old = settings.parse(where.settings, before)
    new = settings.add_hooks(where.settings, old, commands(where.cli), CLIS[where.cli].timeout)
    if where.cli == "claude":
        if not where.project:
            line = f"{shlex.quote(f'{CODE}/bin/{settings.PROGRAM}')} claude statusLine"
            new = settings.add_status_line(where.settings, new, line)
        if permissions:
            new = settings.add_rules(where.settings, new, claude_rules())
    made = []
    if new != old:
        copy = True if before is not None and not is_ours(old) else None
        made.append(
            Change(
                where.settings,
                before,
                settings.render(new, before),
                f"hooks for {len(commands(where.cli))} events",
                copy,
            )
        )
    if permissions and where.rules:
        made += _whole(where.rules, rules_text(where.cli), "the rule that allows our commands")
    if text:
        made += _section(where.text, os.fsdecode(files.read(TEXT) or b"").replace("{bin}", f"{CODE}/bin"))
    return made


def uninstall(where: Place) -> list[Change]:
    """What there is to write so that nothing of ours is left."""
    before = read(where.settings)
    old = settings.parse(where.settings, before)
    beside = os.path.realpath(where.settings) + COPY
    copy = read(beside)
    first = settings.parse(beside, copy)
    new = settings.drop_hooks(where.settings, settings.drop_status_line(old))
    theirs = settings.allowed(first)
    new = settings.drop_rules(new, [rule for rule in settings.allowed(new) if _is_ours(rule) and rule not in theirs])
    made = []
    if new != old:
        same = copy is not None and settings.bare(new) == settings.bare(first)
        after = copy if same else settings.render(new, before)
        gone = not new and copy is None
        made.append(Change(where.settings, before, None if gone else after, "without our hooks", False))
    if where.rules and read(where.rules) is not None:
        made.append(Change(where.rules, read(where.rules), None, "taken away"))
    said = read(where.text)
    if said is not None and settings.has_section(said.decode("utf-8", "surrogateescape")):
        rest = settings.drop_section(where.text, said.decode("utf-8", "surrogateescape"))
        gone = not rest and said.startswith(settings.BEGIN.encode("ascii"))
        after = None if gone else rest.encode("utf-8", "surrogateescape")
        made.append(Change(where.text, said, after, "without our section"))
    return made


def is_ours(document: settings.Document, path: str = "") -> bool:
    """Is anything of ours in the settings? With `path`, raises DataError for hooks of a form that is not known."""
    return settings.drop_hooks(path, settings.drop_status_line(document)) != document


def allowed() -> list[list[str]]:
    """The words that a command which is allowed begins with: by its name, and by its path where that is not found."""
    found = [command.split() for command in ALLOWED]
    return found + [[f"{CODE}/bin/{words[0]}", *words[1:]] for words in found]


def claude_rules() -> list[str]:
    return [f"Bash({shlex.join(words)}:*)" for words in allowed()]


def _is_ours(rule: object) -> bool:
    """Does it allow one of our commands, of this copy or of one that stood elsewhere?"""
    if not isinstance(rule, str) or not (rule.startswith("Bash(") and rule.endswith(":*)")):
        return False
    try:
        words = shlex.split(rule[len("Bash(") : -len(":*)")])
    except ValueError:
        return False
    folder, _, name = words[0].rpartition("/") if words else ("", "", "")
    return (not folder or folder.endswith("/bin")) and " ".join([name, *words[1:]]) in ALLOWED


def rules_text(cli: str) -> bytes:
    """The file of rules that allows our commands."""
    head = "# Written by orc-hook install, taken away by orc-hook uninstall: what agents may run without being asked.\n"
    if cli == "codex":
        rows = [f'prefix_rule(pattern={json.dumps(words)}, decision="allow")' for words in allowed()]
        return (head + "\n".join(rows) + "\n").encode("ascii")
    prefixes = ", ".join(json.dumps(shlex.join(words)) for words in allowed())
    rule = (
        f'[[rule]]\ntoolName = "run_shell_command"\ncommandPrefix = [{prefixes}]\ndecision = "allow"\npriority = 100\n'
    )
    return (head + rule).encode("ascii")


def _whole(path: str, wanted: bytes, said: str) -> list[Change]:
    before = read(path)
    return [] if before == wanted else [Change(path, before, wanted, said)]


def _section(path: str, body: str) -> list[Change]:
    before = read(path)
    text = (before or b"").decode("utf-8", "surrogateescape")
    made = settings.add_section(path, text, body)
    if before == b"":
        made = "\n" + made  # a file that was empty is one afterwards
    after = made.encode("utf-8", "surrogateescape")
    return [] if after == before else [Change(path, before, after, "the section that tells of our commands")]


# Files


def read(path: str) -> bytes | None:
    """What the file, or the one that it is a link to, holds. Raises DataError, SystemFailure."""
    return files.read(os.path.realpath(path), _LIMIT)


def carry_out(change: Change) -> str:
    """Write it; what was done, for a person. Raises TryLater when somebody wrote the file meanwhile."""
    path = os.path.realpath(change.path)
    if read(path) != change.before:
        raise TryLater(f"{change.path} was written by somebody else just now: run it again")
    beside = path + COPY
    if change.copy and change.before is not None:
        _write(beside, change.before, path)
    if change.after is None:
        os.unlink(path)
    else:
        _write(path, change.after, path)
    if change.copy is False and os.path.exists(beside):
        os.unlink(beside)
    led = "" if path == os.path.abspath(change.path) else f", which leads to {path}"
    kept = f" (what it was: {beside})" if change.copy else ""
    return f"{change.path}{led}: {change.said}{kept}"


def _write(path: str, data: bytes, like: str) -> None:
    """Replace the file; it may be read by whom `like` may be read by."""
    try:
        mode = os.stat(like).st_mode & 0o777
    except FileNotFoundError:
        mode = 0o600
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    except OSError as error:
        raise SystemFailure(f"cannot make {os.path.dirname(path)} ({error.strerror}): see what is there") from None
    files.replace(path, data)
    if mode != 0o600:
        os.chmod(path, mode)


def problems(where: Place, document: settings.Document) -> list[str]:
    """What keeps the hooks that are installed from being called."""
    found = []
    missing = [event for event, command in commands(where.cli).items() if not settings.has(document, event, command)]
    if missing and is_ours(document, where.settings):
        found.append(f"no hook of this copy for {', '.join(missing)}: run orc-hook install {where.cli} again")
    if document.get("disableAllHooks") is True:
        found.append(f"{where.settings} sets disableAllHooks: take it out")
    switch = document.get("hooksConfig")
    if isinstance(switch, dict) and switch.get("enabled") is False:
        found.append(f"{where.settings} sets hooksConfig.enabled to false: take it out")
    return found


def status(where: Place) -> dict[str, Any]:
    """How it stands, as a record; `problems` holds what is wrong and what mends it."""
    record: dict[str, Any] = {
        "cli": where.cli,
        "scope": "project" if where.project else "user",
        "installed": False,
        "events": [],
        "path": where.settings,
        "permissions": None,
        "text": None,
        "problems": [],
    }
    try:
        document = settings.parse(where.settings, read(where.settings))
        said = (read(where.text) or b"").decode("utf-8", "replace")
        record["events"] = [event for event in commands(where.cli) if settings.has(document, event)]
        record["problems"] = problems(where, document)
        record["text"] = settings.has_section(said)
        record["permissions"] = _allows(where, document)
    except OrcError as error:
        record["problems"] = [str(error)]
    record["installed"] = bool(record["events"])
    return record


def _allows(where: Place, document: settings.Document) -> bool | None:
    if where.rules:
        return read(where.rules) == rules_text(where.cli)
    return settings.add_rules(where.settings, document, claude_rules()) == document if where.cli == "claude" else None
