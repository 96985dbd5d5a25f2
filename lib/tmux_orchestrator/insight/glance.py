"""The line for tmux's status line, kept in one small file, so that asking for it costs next to nothing.

`logs/run/status.tmux` holds the line and counts while it is younger than `FRESH_S`. One asker at a time renews it;
the others print what is there. Hot: imports as little as the other hot modules.
"""

from __future__ import annotations

import os
import time

from tmux_orchestrator.ground import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tmux_orchestrator.ground.paths import Home

FRESH_S = 5.0


def path(home: Home) -> str:
    return home.run + "/status.tmux"


def fresh(home: Home) -> bytes | None:
    """The line, while it is young enough."""
    try:
        age = time.time() - os.stat(path(home)).st_mtime
    except OSError:
        return None
    return kept(home) if -1.0 < age < FRESH_S else None


def kept(home: Home) -> bytes | None:
    """The line, however old; None where there is none."""
    return files.read(path(home), 4096)


def keep(home: Home, line: str) -> bytes:
    data = line.encode("utf-8", "backslashreplace") + b"\n"
    files.replace(path(home), data, sync=False)
    return data
