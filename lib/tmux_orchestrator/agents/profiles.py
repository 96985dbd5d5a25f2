"""What is known of each agent CLI: how to type into it, and what its screen says.

A profile is data: share/profiles/NAME.toml, changed by the configuration's `profiles:` mapping, which is merged over
it (tables key by key, lists and values replaced). A name that is new there starts from `plain`, or from the
profile that its `like` names. Everything is checked and compiled here, once; an unknown key, a wrong type or a
broken pattern is a ConfigError, so a profile that loads can be used without further checks.

Patterns are Python regular expressions. Those of `composer` and `dialog.option` see a line as it is shown. Those
of `dialog.cues` and `state` are matched with all spaces taken out, of the pattern and of the screen, because
agent CLIs wrap and repaint words; `^` and `$` are the ends of a line in `state`. `dialog.guard` is for tmux's
own search in a pane, which sees all of the visible screen: POSIX extended expressions.
"""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from typing import Any

from tmux_orchestrator.ground import options
from tmux_orchestrator.ground.errors import ConfigError, UsageError
from tmux_orchestrator.ground.paths import CODE
from tmux_orchestrator.ground.tmux import guard

FOLDER = CODE + "/share/profiles"
PLAIN = "plain"
TYPED, WAKE = "typed", "wake"
LONGEST_PAUSE_MS = 10_000
LEAST_HOOK_BYTES, MOST_HOOK_BYTES = 1000, 100_000

# The shape of a profile: a type, or a table; "*" stands for any key.
_SHAPE: dict[str, Any] = {
    "match": list,
    "when_busy": str,
    "deliver": str,
    "hook_bytes": int,
    "confirm": bool,
    "interrupt": list,
    "submit": {"key": str, "pause_ms": int, "settle_ms": int},
    "composer": {
        "prompt": str,
        "above": str,
        "within": int,
        "end": str,
        "footer": bool,
        "bright": bool,
        "cursor": bool,
        "placeholder": str,
    },
    "dialog": {"cues": list, "guard": list, "option": str, "top": str},
    "state": {"working": list, "queued": list, "limited": list, "limited_until": list},
    "answers": {"*": list},
    "resume": {"session": list, "last": list, "flags": list, "values": list},
}
_TYPES = {list: "a list", str: "a text", bool: "true or false", int: "a whole number"}
# Programs that run the agent CLI that their arguments name.
_WRAPPERS = {"env", "node", "bun", "deno", "npx", "bunx", "uvx", "uv", "python", "python3", "nice", "exec", "run", "x"}
_SUFFIXES = (".js", ".mjs", ".cjs", ".py", ".exe")


@dataclass(frozen=True, slots=True)
class Composer:
    """How the input box is found.

    `prompt` matches its first line and `above` one of the `within` lines over that. `end` matches the line after it.
    A box whose end is not drawn goes on to the end of the screen, less the last paragraph if there is a `footer`.
    `bright`: the prompt of the box is not dim, others are. `cursor`: the terminal's cursor stands in the box.
    `placeholder`: what an empty box shows, for a CLI that prints it like typed text when there are no colours.
    """

    prompt: re.Pattern[str]
    above: re.Pattern[str] | None
    within: int
    end: re.Pattern[str] | None
    footer: bool
    bright: bool
    cursor: bool
    placeholder: re.Pattern[str] | None


@dataclass(frozen=True, slots=True)
class Profile:
    """One agent CLI. `composer` is None for a program whose input cannot be seen: it ends at `typed`."""

    name: str
    match: tuple[str, ...]
    when_busy: str
    deliver: str  # TYPED or WAKE
    hook_bytes: int  # how much of what its hook prints the CLI hands to its model
    confirm: bool
    interrupt: tuple[str, ...]
    key: str
    pause_ms: int
    settle_ms: int  # how long a CLI that has just started shows its input box before it reads its input
    composer: Composer | None
    cues: tuple[tuple[re.Pattern[str], ...], ...]
    guard: tuple[str, ...]
    option: re.Pattern[str] | None
    top: re.Pattern[str] | None
    working: re.Pattern[str] | None
    queued: re.Pattern[str] | None
    limited: re.Pattern[str] | None
    limited_until: tuple[re.Pattern[str], ...]
    answers: dict[str, tuple[str, ...]]
    resume_session: tuple[str, ...]
    resume_last: tuple[str, ...]
    resume_flags: tuple[str, ...]  # words by which a command line chooses its conversation
    resume_values: tuple[str, ...]  # the same, where a value may follow

    def answer_keys(self, choice: str) -> list[str]:
        """The keys that answer a dialog. Raises UsageError when the profile does not know the choice."""
        keys = self.answers.get(choice)
        if keys is None:
            known = ", ".join(sorted(self.answers)) or "none"
            hint = options.near(choice, list(self.answers))
            raise UsageError(f"{choice!r} is no answer that profile {self.name} knows{hint}: one of {known}")
        return list(keys)

    def resume_argv(self, argv: list[str], session_id: str | None) -> list[str]:
        """The command line that takes the conversation up again: the one of `session_id`, else the last one.

        What `argv` itself says about that is replaced.
        """
        extra = self.resume_session if session_id else self.resume_last
        if not extra or not argv:
            return list(argv)
        argv, place = self.fresh_argv(argv), _program(argv) + 1
        return [*argv[:place], *(word.replace("{session}", session_id or "") for word in extra), *argv[place:]]

    def fresh_argv(self, argv: list[str]) -> list[str]:
        """The command line without what it says about the conversation to take up; what follows `--` is left."""
        place = _program(argv) + 1
        kept, words, at = argv[:place], argv[place:], 0
        while at < len(words) and words[at] != "--":
            word, at = words[at], at + 1
            if word in self.resume_values and at < len(words) and not words[at].startswith("-"):
                at += 1
            name = word.partition("=")[0]
            if word not in self.resume_flags and name not in self.resume_values:
                kept.append(word)
        return kept + words[at:]


def load(overrides: dict[str, Any] | None = None, folder: str = FOLDER) -> dict[str, Profile]:
    """Every profile by name: the shipped ones, with `overrides` (the configuration's `profiles:`) merged over."""
    shipped: dict[str, dict[str, Any]] = {}
    for entry in sorted(os.listdir(folder)):
        if entry.endswith(".toml"):
            shipped[entry[:-5]] = _read(f"{folder}/{entry}")
    data = dict(shipped)
    for name, changes in (overrides or {}).items():
        data[name] = _override(shipped, name, changes)
    return {name: _build(name, table) for name, table in data.items()}


def for_command(profiles: dict[str, Profile], argv: list[str]) -> Profile:
    """The profile whose `match` names the program that `argv` starts, through node, python, env and the like."""
    if argv:
        words = _names(argv[_program(argv)])
        for profile in profiles.values():
            if any(word in profile.match for word in words):
                return profile
    return profiles[PLAIN]


def _program(argv: list[str]) -> int:
    """The index of the word that names the agent CLI."""
    at = 0
    while at < len(argv) - 1 and _bare(argv[at]) in _WRAPPERS:
        following = at + 1
        while following < len(argv) - 1 and re.match(r"-|[^/]*=|\d+$", argv[following]):
            following += 1
        at = following
    return at


def _bare(word: str) -> str:
    name = os.path.basename(word)
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return re.sub(r"^python3\.\d+$", "python3", name)


def _names(word: str) -> list[str]:
    """What a program may be called: its base name, with its folder too, and the package that its script lies in."""
    names = [_bare(word), f"{os.path.basename(os.path.dirname(word))}/{_bare(word)}"]
    for root in ("/node_modules/", "/site-packages/"):
        if root in word:
            names += word.rpartition(root)[2].split("/")
    return names


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}: mend the file, or install again") from None


def _override(shipped: dict[str, dict[str, Any]], name: str, changes: Any) -> dict[str, Any]:
    if not isinstance(changes, dict):
        raise ConfigError(f"profiles.{name}: a table is expected: write the keys to change below it")
    changes = dict(changes)
    base = changes.pop("like", name if name in shipped else PLAIN)
    if base not in shipped:
        raise ConfigError(f"profiles.{name}.like: no profile {base!r}{options.near(str(base), list(shipped))}")
    return _merge(shipped[base], changes)


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _check(where: str, table: dict[str, Any], shape: dict[str, Any]) -> None:
    for key, value in table.items():
        kind = shape.get(key, shape.get("*"))
        if kind is None:
            raise ConfigError(f"{where}.{key}: unknown key{options.near(str(key), list(shape))}: remove or rename it")
        if isinstance(kind, dict):
            if not isinstance(value, dict):
                raise ConfigError(f"{where}.{key}: a table is expected")
            _check(f"{where}.{key}", value, kind)
        elif type(value) is not kind:
            raise ConfigError(f"{where}.{key}: {_TYPES[kind]} is expected")


def _build(name: str, table: dict[str, Any]) -> Profile:
    where = f"profiles.{name}"
    _check(where, table, _SHAPE)
    submit, dialog, state = table.get("submit", {}), table.get("dialog", {}), table.get("state", {})
    resume, when_busy = table.get("resume", {}), table.get("when_busy", "type")
    if when_busy not in ("type", "hold"):
        raise ConfigError(f"{where}.when_busy: {when_busy!r} is neither type nor hold")
    deliver, hook_bytes = table.get("deliver", TYPED), table.get("hook_bytes", LEAST_HOOK_BYTES)
    if deliver not in (TYPED, WAKE) or (deliver == WAKE and not table.get("confirm")):
        raise ConfigError(f"{where}.deliver: {deliver!r} is neither {TYPED} nor {WAKE}, which needs confirm: true")
    if not LEAST_HOOK_BYTES <= hook_bytes <= MOST_HOOK_BYTES:
        raise ConfigError(f"{where}.hook_bytes: {LEAST_HOOK_BYTES} to {MOST_HOOK_BYTES} is expected")
    for key in ("pause_ms", "settle_ms"):
        if not 0 <= submit.get(key, 0) <= LONGEST_PAUSE_MS:
            raise ConfigError(f"{where}.submit.{key}: 0 to {LONGEST_PAUSE_MS} is expected")
    return Profile(
        name=name,
        match=_texts(f"{where}.match", table.get("match", [])),
        when_busy=when_busy,
        deliver=deliver,
        hook_bytes=hook_bytes,
        confirm=table.get("confirm", False),
        interrupt=_texts(f"{where}.interrupt", table.get("interrupt", [])),
        key=submit.get("key", "Enter"),
        pause_ms=submit.get("pause_ms", 0),
        settle_ms=submit.get("settle_ms", 0),
        composer=_composer(f"{where}.composer", table.get("composer")),
        cues=tuple(_cues(f"{where}.dialog.cues", group) for group in dialog.get("cues", [])),
        guard=_guard(f"{where}.dialog.guard", dialog.get("guard", [])),
        option=_shown(f"{where}.dialog.option", dialog.get("option")),
        top=_shown(f"{where}.dialog.top", dialog.get("top")),
        working=_any_of(f"{where}.state.working", state.get("working", [])),
        queued=_any_of(f"{where}.state.queued", state.get("queued", [])),
        limited=_any_of(f"{where}.state.limited", state.get("limited", [])),
        limited_until=_until(f"{where}.state.limited_until", state.get("limited_until", [])),
        answers={
            choice: _texts(f"{where}.answers.{choice}", keys) for choice, keys in table.get("answers", {}).items()
        },
        resume_session=_texts(f"{where}.resume.session", resume.get("session", [])),
        resume_last=_texts(f"{where}.resume.last", resume.get("last", [])),
        resume_flags=_texts(f"{where}.resume.flags", resume.get("flags", [])),
        resume_values=_texts(f"{where}.resume.values", resume.get("values", [])),
    )


def _texts(where: str, value: list[Any]) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ConfigError(f"{where}: a list of texts is expected")
    return tuple(value)


def _compile(where: str, pattern: str, flags: int = 0) -> re.Pattern[str]:
    try:
        return re.compile(pattern, flags)
    except re.error as error:
        raise ConfigError(f"{where}: {pattern!r} is no regular expression: {error}") from None


def _shown(where: str, pattern: str | None) -> re.Pattern[str] | None:
    return _compile(where, pattern) if pattern else None


def _any_of(where: str, patterns: list[Any]) -> re.Pattern[str] | None:
    for pattern in _texts(where, patterns):
        _compile(where, pattern)
    whole = "|".join(f"(?:{pattern})" for pattern in patterns).replace(" ", "")
    return _compile(where, whole, re.MULTILINE) if whole else None


def _until(where: str, patterns: list[Any]) -> tuple[re.Pattern[str], ...]:
    compiled = tuple(_compile(where, pattern) for pattern in _texts(where, patterns))
    if any(pattern.groups != 1 for pattern in compiled):
        raise ConfigError(f"{where}: each pattern needs one group, round the time")
    return compiled


def _cues(where: str, group: Any) -> tuple[re.Pattern[str], ...]:
    cues = _texts(where, group)
    if len(cues) < 2:
        raise ConfigError(f"{where}: a group needs two cues or more, or ordinary text is taken for a dialog")
    return tuple(_compile(where, cue.replace(" ", "")) for cue in cues)


def _guard(where: str, patterns: list[Any]) -> tuple[str, ...]:
    cues = _texts(where, patterns)
    try:
        if not all(cues):
            raise ValueError("an empty cue finds everything: remove it")
        guard.search(cues)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
    return cues


def _composer(where: str, table: dict[str, Any] | None) -> Composer | None:
    if not table or not table.get("prompt"):
        return None
    return Composer(
        prompt=_compile(f"{where}.prompt", table["prompt"]),
        above=_shown(f"{where}.above", table.get("above")),
        within=table.get("within", 1),
        end=_shown(f"{where}.end", table.get("end")),
        footer=table.get("footer", False),
        bright=table.get("bright", False),
        cursor=table.get("cursor", False),
        placeholder=_shown(f"{where}.placeholder", table.get("placeholder")),
    )
