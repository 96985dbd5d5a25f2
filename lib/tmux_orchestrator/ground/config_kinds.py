"""What a configured value may be: the kinds of keys, and how a text becomes a value of one.

Converting raises ValueError whose text says what is needed, as the end of a sentence that begins with the key.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tmux_orchestrator.ground.errors import UsageError
from tmux_orchestrator.ground.output import clean
from tmux_orchestrator.ground.rates import parse_limit
from tmux_orchestrator.ground.times import parse_duration


@dataclass(frozen=True)
class Key:
    """One setting. `low` and `high` are bounds of a number or of seconds; `choices` those of a word."""

    name: str
    kind: str
    default: Any
    about: str
    low: float = 0
    high: float = 0
    choices: tuple[str, ...] = ()


def seconds(name: str, default: float | str, about: str, low: float = 0.1, high: float = 7 * 86_400) -> Key:
    return Key(name, "duration", default, about, low, high)


def count(name: str, default: int, about: str, low: int, high: int) -> Key:
    return Key(name, "int", default, about, low, high)


def switch(name: str, default: bool, about: str) -> Key:
    return Key(name, "bool", default, about)


DAY = 86_400
LISTS = frozenset({"texts", "words", "targets", "durations", "choices", "texts_or_one", "recipients"})
NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_TARGET = re.compile(r"@?[a-z][a-z0-9_-]{0,31}|%\d{1,9}|[^:@%]{1,128}:[^:]{1,128}")
_TASK_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9._:@-]{0,63})?")
_EVENT_TYPE = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_RECIPIENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}")
_WHOLE = re.compile(r"-?(0|[1-9]\d{0,14})", re.ASCII)
_NUMBER = re.compile(r"(0|[1-9]\d{0,14})(\.\d{1,9})?", re.ASCII)
_BREAKER = re.compile(r"([1-9]\d{0,3}) in (\S+)", re.ASCII)
_TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def is_decimal(text: str) -> bool:
    """A number as a person writes it: not octal, hexadecimal, sexagesimal, infinite or endless."""
    return bool(_NUMBER.fullmatch(text.removeprefix("-")))


_NEEDS = {
    "bool": "true or false",
    "int": "a whole number from {low:g} to {high:.15g}",
    "share": "a number from {low:g} to {high:g}, like 0.2",
    "duration": "a duration from {low:g} to {high:.15g} seconds, like 90, 2.5s, 15m or 1h30m",
    "durations": "two durations from {low:g} to {high:.15g} seconds, the shorter one first, like [30, 10m]",
    "breaker": "a count and a time, like 5 in 900 or 5 in 15m",
    "choice": "{choices}",
    "choices": "one or a list of {choices}",
    "texts_or_one": "a text, or a list of texts, that are not empty",
    "texts": "a list of texts that are not empty",
    "words": "a program and its arguments: one text, in words as a shell takes them, or a list",
    "command": "a program and its arguments: one text, in words as a shell takes them, or a list",
    "text": "text on one line",
    "word": "text on one line that is not empty",
    "name": "a name of at most 64 letters, digits and ._:@-",
    "kind": "a lower-case word of a-z, 0-9, _ and -",
    "zone": "a time zone that this system knows, like Europe/Berlin, or empty",
    "rate": "a rate like 5000/hour or 10/min, or a rate and a burst like 60/min burst 10",
    "recipients": "a list of recipients of tasks, like [code_developer, architect]",
    "targets": 'a list of targets, like ["@pm", "reviewer", "backend:1"]',
    "regex": "a regular expression in Python's syntax",
}


def needs(key: Key) -> str:
    """What a value has to be, as the end of a sentence."""
    return "must be " + _NEEDS[key.kind].format(low=key.low, high=key.high, choices=" or ".join(key.choices))


def _number(key: Key, value: float) -> float:
    if not key.low <= value <= key.high:
        raise ValueError
    return value


def _int(key: Key, text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise ValueError
    return int(_number(key, int(text)))


def _share(key: Key, text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise ValueError
    return _number(key, float(text))


def _duration(key: Key, text: str) -> float:
    if text[-1:].isdigit() and not _NUMBER.fullmatch(text):
        raise ValueError
    return _number(key, parse_duration(text))


def _breaker(key: Key, text: str) -> list[float]:
    match = _BREAKER.fullmatch(text)
    if not match:
        raise ValueError
    return [int(match[1]), _number(key, parse_duration(match[2]))]


def _zone(key: Key, text: str) -> str:
    from zoneinfo import ZoneInfo

    if text:
        try:
            ZoneInfo(text)
        except (OSError, ValueError, KeyError):
            raise ValueError from None
    return text


def _word(key: Key, text: str) -> str:
    if not text.strip():
        raise ValueError
    return text


def _argument(key: Key, text: str) -> str:
    if "\0" in text:
        raise ValueError
    return text


def _command(key: Key, text: str) -> list[str]:
    import shlex

    words = shlex.split(text)
    if not words or not words[0]:
        raise ValueError
    return words


def _choice(key: Key, text: str) -> str:
    if text not in key.choices:
        raise ValueError
    return text


def _matching(pattern: re.Pattern[str]) -> Callable[[Key, str], str]:
    def convert(key: Key, text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError
        return text

    return convert


def _rate(key: Key, text: str) -> str:
    parse_limit(text)
    return text


def _regex(key: Key, text: str) -> str:
    re.compile(text)
    return text


_CONVERT: dict[str, Callable[[Key, str], Any]] = {
    "bool": lambda key, text: _TRUTH[text.lower()],
    "int": _int,
    "share": _share,
    "duration": _duration,
    "durations": _duration,
    "choice": _choice,
    "choices": _choice,
    "text": lambda key, text: text,
    "word": _word,
    "texts": _word,
    "words": _argument,
    "command": _command,
    "texts_or_one": _word,
    "name": _matching(_TASK_NAME),
    "kind": _matching(_EVENT_TYPE),
    "zone": _zone,
    "rate": _rate,
    "recipients": _matching(_RECIPIENT),
    "targets": _matching(_TARGET),
    "breaker": _breaker,
    "regex": _regex,
}


def item(key: Key, text: str) -> Any:
    """Convert one text: the value, or one entry of a list. Raises ValueError."""
    try:
        if clean(text) != text:
            raise ValueError
        return _CONVERT[key.kind](key, text)
    except (ValueError, KeyError, UsageError, re.error, RecursionError, OverflowError):
        raise ValueError(needs(key)) from None


def whole(key: Key, values: list[Any]) -> list[Any]:
    """Check a converted list as a whole. Raises ValueError."""
    if key.kind == "durations" and not (len(values) == 2 and values[0] <= values[1]):
        raise ValueError(needs(key))
    if key.kind == "words" and not (values and values[0]):
        raise ValueError(needs(key))
    return values


def default(key: Key) -> Any:
    """The converted default."""
    if key.kind in LISTS:
        return [item(key, str(part)) for part in key.default]
    return item(key, str(key.default))
