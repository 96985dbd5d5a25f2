"""The usage text of a command is its parser.

Each line that begins with two spaces and a dash declares an option:

      -t, --to TARGET...     text      an option with a value; `...` behind the value: may be repeated (a list)
      --wait[=STAGE]         text      the value is optional and must be joined by `=`; without one it is ""
      -q, --quiet            text      a flag

`--help` prints the text, `--version` the version. Short flags may be joined (`-rf`), short values may be
attached (`-n5`); `--` ends the options. What is wrong is a UsageError that names the nearest option.
argparse would cost the hot commands 6 ms, as much as starting Python.
"""

from __future__ import annotations

from tmux_orchestrator.ground.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FLAG, VALUE, LIST, OPTIONAL = "flag", "value", "list", "optional"


class Options:
    """What was given: `args`, and an attribute per option: bool, str or None, or list of str."""

    def __init__(self) -> None:
        self.args: list[str] = []

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


class Help(Exception):
    """Somebody asked for the usage text or the version."""


def declared(usage: str) -> dict[str, tuple[str, str]]:
    """Each spelling of each option: its attribute's name and its kind."""
    found: dict[str, tuple[str, str]] = {}
    for line in usage.split("\n"):
        if not line.startswith("  -"):
            continue
        spec = line.strip().split("  ")[0]
        spellings, kind = [], FLAG
        for part in spec.split(", "):
            name, _, value = part.partition(" ")
            if name.endswith("]") and "[=" in name:
                name, kind = name[: name.index("[")], OPTIONAL
            elif value:
                kind = LIST if value.endswith("...") else VALUE
            spellings.append(name)
        attribute = spellings[-1].lstrip("-").replace("-", "_")
        for name in spellings:
            found[name] = (attribute, kind)
    return found


def near(word: str, names: list[str]) -> str:
    """` (did you mean …?)` for a mistyped word, or nothing."""
    import difflib

    close = difflib.get_close_matches(word, names, n=3, cutoff=0.6)
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def _blank(known: dict[str, tuple[str, str]]) -> Options:
    got = Options()
    for attribute, kind in known.values():
        setattr(got, attribute, False if kind == FLAG else [] if kind == LIST else None)
    return got


def _store(got: Options, attribute: str, kind: str, value: str) -> None:
    if kind == LIST:
        getattr(got, attribute).append(value)
    else:
        setattr(got, attribute, value)


def parse(usage: str, argv: list[str], stop_at_word: bool = False) -> Options:
    """Read the arguments. `stop_at_word`: the first word that is no option ends the options, as `--` does.

    Raises UsageError, or Help when `--help` or `--version` is among the options.
    """
    known = declared(usage)
    got = _blank(known)
    rest = list(reversed(argv))
    while rest:
        word = rest.pop()
        if word == "--" or (stop_at_word and (word == "-" or not word.startswith("-"))):
            got.args += [] if word == "--" else [word]
            got.args += reversed(rest)
            break
        if word in ("--help", "-h") and "-h" not in known:
            raise Help(usage)
        if word == "--version":
            raise Help("version")
        if word == "-" or not word.startswith("-"):
            got.args.append(word)
        elif word.startswith("--"):
            _long(got, known, word, rest)
        else:
            _short(got, known, word, rest)
    return got


def _long(got: Options, known: dict[str, tuple[str, str]], word: str, rest: list[str]) -> None:
    name, joined, value = word.partition("=")
    if name not in known:
        raise UsageError(f"unknown option {name!r}{near(name, list(known))}: see --help")
    attribute, kind = known[name]
    if kind == FLAG:
        if joined:
            raise UsageError(f"{name} takes no value: leave {value!r} out")
        setattr(got, attribute, True)
    elif kind == OPTIONAL or joined:
        _store(got, attribute, kind, value)
    elif rest:
        _store(got, attribute, kind, rest.pop())
    else:
        raise UsageError(f"{name} needs a value: see --help")


def _short(got: Options, known: dict[str, tuple[str, str]], word: str, rest: list[str]) -> None:
    letters = word[1:]
    while letters:
        name, letters = "-" + letters[0], letters[1:]
        if name not in known:
            raise UsageError(f"unknown option {name!r} in {word!r}: see --help")
        attribute, kind = known[name]
        if kind == FLAG:
            setattr(got, attribute, True)
            continue
        if not letters and not rest:
            raise UsageError(f"{name} needs a value: see --help")
        _store(got, attribute, kind, letters or rest.pop())
        return


def number(text: str | None, option: str, least: int, most: int) -> int | None:
    """The value of an option as a number within these bounds; None as it is. Raises UsageError."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16 and least <= int(text) <= most):
        raise UsageError(f"{option} {text!r} is no number from {least} to {most}: correct it")
    return int(text)
