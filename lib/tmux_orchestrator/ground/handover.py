"""Running another program in this process's place, as whoever called us would have run it.

Our own umask is narrowed at the start, before anything is written; the caller's is kept here for what is handed on.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_umask = [0o022]


def narrow() -> None:
    """From now on, what this process makes is private to the user."""
    _umask[0] = os.umask(0o077)


def callers_umask() -> int:
    return _umask[0]


def become(argv: list[str], env: dict[str, str], umask: int) -> NoReturn:
    """Exec the program, found on the PATH of `env`. Raises OSError or ValueError when it cannot be."""
    os.umask(umask)
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):  # Python ignores these, and exec would hand that on
        _signal.signal(number, _signal.SIG_DFL)
    os.execvpe(argv[0], argv, env)
