"""What orc-publish and orc-schedule read alike from their options: the message, and what programs get with it."""

from __future__ import annotations

import os

from tmux_orchestrator.eventlog import event
from tmux_orchestrator.ground import errors, fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tmux_orchestrator.ground.config import Config
    from tmux_orchestrator.ground.options import Options

LEAST_CHECK_IN_S, LONGEST_CHECK_IN_S = 1, 12 * 3600


def context(text: str | None) -> dict[str, Any]:
    """The object of --context."""
    if text is None:
        return {}
    try:
        value = fastjson.loads(os.fsencode(text))
    except ValueError as error:
        raise errors.DataError(f"--context: {error}: give it an object") from None
    if not isinstance(value, dict):
        raise errors.DataError('--context is not an object: write it as {"key": "value"}')
    return value


def check_in(given: Options, settings: Config) -> dict[str, Any]:
    """What --check-in adds to the context: `check_in_s`, so many seconds after the message was typed at the latest."""
    if given.check_in is None:
        return {}
    from tmux_orchestrator.ground import times

    if not (given.to or given.group):
        raise errors.UsageError("--check-in needs somebody who checks in: say -t TARGET")
    if not given.check_in and len(given.args) > 1 and _is_duration(given.args[0]):
        raise errors.UsageError(f"--check-in takes its time behind an equals sign: write --check-in={given.args[0]}")
    seconds = times.parse_duration(given.check_in) if given.check_in else settings.get("monitoring.check_in")
    if not LEAST_CHECK_IN_S <= seconds <= LONGEST_CHECK_IN_S:
        raise errors.UsageError(f"--check-in={given.check_in} is not within 1s and 12h: correct it")
    return {"check_in_s": int(seconds) if seconds == int(seconds) else seconds}


def _is_duration(word: str) -> bool:
    from tmux_orchestrator.ground import times

    try:
        return times.parse_duration(word) > 0 and not word.isdigit()
    except errors.UsageError:
        return False


def _utf8(data: bytes, what: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise errors.DataError(f"{what} is not UTF-8: convert it, with iconv for example") from None


def origin(path: str | None) -> int:
    """The descriptor that a message, or a stream of them, is read from."""
    if path is None or path == "-":
        return 0
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise errors.UsageError(f"cannot read {path!r} ({error.strerror}): name a file that can be read") from None


def _read_all(fd: int) -> bytes:
    from tmux_orchestrator.agents.stream import read

    data = b""
    while block := read(fd):
        data += block
        if len(data) > event.MAX_LINE:
            raise errors.DataError(f"the message is larger than {event.MAX_LINE // 1024} KiB: name the file instead")
    return data


def body(given: Options) -> str:
    """The one message: the words, else the file, else standard input."""
    if given.args and given.args != ["-"]:
        if given.file:
            raise errors.UsageError("the message is given twice, as words and as --file: give one")
        return _utf8(os.fsencode(" ".join(given.args)), "the message")
    if not given.args and given.file is None and os.isatty(0):
        raise errors.UsageError("there is no message: give it as words, or pipe it in")
    return _utf8(_read_all(origin(given.file)), "the message").removesuffix("\n")
