"""The front door of every command: find it, run it, end with the right code.

`bin/orc-foo-bar` runs `main(argv) -> int` of `commands/foo_bar.py`. Errors become one line on stderr and
their exit code; a closed pipe is quiet; a defect is told in one line and its traceback goes to logs/defects.log.
Leaving through `os._exit` saves the hot commands the interpreter's own tear-down.
"""

from __future__ import annotations

import os
import sys

from tmux_orchestrator import __version__
from tmux_orchestrator.ground import errors, handover, options, paths

# These load the standard library alone, and little of it: a start costs them 2 ms above bare Python.
HOT = frozenset({"publish", "read", "ack", "heartbeat", "ratelimit", "hook", "task"})

OTHER_NAMES = {"team-daemon": "orc-team"}


def _open_standard() -> None:
    """Closed standard descriptors lead nowhere: otherwise the next file takes their numbers, and what is said."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")


def _say(name: str, text: str) -> None:
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    try:
        os.write(2, f"{name}: {line}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        pass


def _defect(name: str, error: BaseException) -> int:
    import traceback

    try:
        logs = paths.find_home().logs
        os.makedirs(logs, mode=0o700, exist_ok=True)
        with open(os.open(logs + "/defects.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w") as file:
            file.write(f"{name} {sys.argv[1:]!r}\n{traceback.format_exc()}\n")
    except (OSError, errors.OrcError):
        pass
    _say(name, f"a defect in this program: {type(error).__name__}: {error}: see logs/defects.log")
    return errors.DEFECT


def _call(name: str, argv: list[str]) -> int:
    module = OTHER_NAMES.get(name, name).removeprefix("orc-").replace("-", "_")
    if module not in HOT:
        paths.add_packages()
    command = __import__("tmux_orchestrator.commands." + module, fromlist=("main",))
    code: int = command.main(argv)
    sys.stdout.flush()
    return code


def _ended(name: str, argv: list[str]) -> int:
    try:
        return _call(name, argv)
    except options.Help as wanted:
        text = str(wanted)
        sys.stdout.write(f"{name} {__version__}\n" if text == "version" else text)
        sys.stdout.flush()
        return errors.OK
    except errors.OrcError as error:
        sys.stdout.flush()
        _say(name, str(error))
        return error.code


def run(name: str, argv: list[str]) -> None:
    """Run the command and end the process."""
    handover.narrow()
    _open_standard()
    try:
        code = _ended(name, argv)
    except BrokenPipeError:
        code = 141
    except KeyboardInterrupt:
        code = 130
    except OSError as error:
        _say(name, f"{error.strerror or error}: see that the disk and its permissions allow it")
        code = errors.SYSTEM
    except Exception as error:  # noqa: BLE001
        code = _defect(name, error)
    os._exit(code)
