"""The only room that talks to tmux."""

from tmux_orchestrator.ground.tmux.frames import SESSION
from tmux_orchestrator.ground.tmux.guard import (
    BAD_CUE,
    COPY_MODE,
    DEAD,
    DIALOG,
    GONE,
    INPUT_OFF,
    MOVED,
    NO_SERVER,
    NOT_FOREGROUND,
    REPLACED,
    SYNCHRONIZED,
    TYPED,
    UNKNOWN,
    Guard,
)
from tmux_orchestrator.ground.tmux.jobs import Frame
from tmux_orchestrator.ground.tmux.panes import Pane, Screenshot
from tmux_orchestrator.ground.tmux.server import Tmux, find_socket, showing, socket_args
from tmux_orchestrator.ground.tmux.words import TmuxError

__all__ = [
    "BAD_CUE",
    "COPY_MODE",
    "DEAD",
    "DIALOG",
    "GONE",
    "INPUT_OFF",
    "MOVED",
    "NOT_FOREGROUND",
    "NO_SERVER",
    "REPLACED",
    "SESSION",
    "SYNCHRONIZED",
    "TYPED",
    "UNKNOWN",
    "Frame",
    "Guard",
    "Pane",
    "Screenshot",
    "Tmux",
    "TmuxError",
    "find_socket",
    "showing",
    "socket_args",
]
