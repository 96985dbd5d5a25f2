"""Finds and makes the session and window that an agent starts in; the home of libtmux.

Names are compared here, never by tmux, whose targets match prefixes and patterns; tmux is given ids. What is made
runs its argument words without a shell, in libtmux's own process for a command, since its `new_session` and
`new_window` take one line for the shell (docs/decisions/libtmux.md). Nothing is kept.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tmux_orchestrator.agents import crew
from tmux_orchestrator.ground.errors import UnavailableError, UsageError

if TYPE_CHECKING:
    from libtmux import Server, Session, Window

_EXTRA = frozenset(" _-+@/")
_MAX = 64


def allowed(text: str) -> bool:
    """May a session or window that we make be called so? Anything that tmux could read as more than a name may not."""
    return (
        0 < len(text) <= _MAX
        and all(c.isalnum() or c in _EXTRA for c in text)
        and (text[0].isalnum() or text[0] == "_")
        and not text.endswith(" ")
    )


def check(what: str, text: str) -> None:
    """Raises UsageError unless `text` is allowed."""
    if not allowed(text):
        raise UsageError(f"{text!r} cannot name a {what}: use letters, digits, spaces, _ - + @ /, {_MAX} at most")


def folder_name(path: str) -> str:
    """What a session for this folder is called: its name, with - for what no session may be called."""
    kept = "".join(c if c.isalnum() or c == "_" else "-" for c in os.path.basename(path))[:_MAX]
    return kept.strip("-") or "orc"


def make(socket: str, session: str, window: str, fresh: bool, argv: list[str]) -> str:
    """Start `argv` in a new pane, and return its %id: of the window if the session has it, else of a new window; and
    of the session if there is one, else of a new one. `fresh`: always a new window.

    Starts a tmux server where none runs. Raises UsageError, UnavailableError.
    """
    if not any("utf-8" in os.environ.get(name, "").lower() for name in ("LC_ALL", "LC_CTYPE", "LANG")):
        os.environ["LC_ALL"] = "C.UTF-8"  # tmux would list names with _ for each letter beyond ASCII
    os.environ.pop(crew.RUN, None)  # the server that is started here is no process of whoever asks for it
    from libtmux import Server  # 77 ms: only who makes a window pays for it
    from libtmux.exc import LibTmuxException

    if "/" in socket:
        _make_folder(os.path.dirname(socket))
    server = Server(socket_path=socket) if "/" in socket else Server(socket_name=socket or None)
    for _ in range(3):
        try:
            made = _try(server, session, window, fresh, argv)
        except ValueError:  # libtmux met a list that changed while it read it
            continue
        except LibTmuxException as error:
            raise UnavailableError(f"tmux cannot make a window for it ({error}): see tmux list-sessions") from None
        if made:
            return made
    raise UnavailableError(f"tmux has a session {session!r} and does not list it: see tmux list-sessions")


def _make_folder(path: str) -> None:
    """tmux makes the folder of a named socket, and not that of a path; a reboot may have emptied /tmp."""
    try:
        os.makedirs(path, 0o700, exist_ok=True)
    except OSError as error:
        raise UnavailableError(f"cannot make {path} for tmux's socket: {error.strerror}") from None


def _try(server: Server, session: str, window: str, fresh: bool, argv: list[str]) -> str:
    """ "" when somebody made the same session between our look and our making."""
    found = next((s for s in server.sessions if s.session_name == session), None)
    if found is None:
        check("session", session)
        _check_new(window)
        return _run(server, "new-session", ["-s", session, "-n", window], argv)
    existing = None if fresh else _window(found, session, window)
    if existing is not None:
        last = str(existing.panes[-1].pane_id)  # behind the others, whose indexes stay as they are
        return _run(server, "split-window", ["-t", last], argv)
    _check_new(window)
    return _run(server, "new-window", ["-t", f"{found.session_id}:", "-n", window], argv)


def _check_new(window: str) -> None:
    if window.isdigit():
        raise UsageError(f"no window {window} is there: name a window, or leave --window out")
    check("window", window)


def _window(session: Session, name: str, window: str) -> Window | None:
    same = [w for w in session.windows if window in (w.window_name, w.window_index)]
    if len(same) > 1:
        raise UsageError(f"{name!r} has several windows {window!r}: give the window's index")
    return same[0] if same else None


def _run(server: Server, what: str, options: list[str], argv: list[str]) -> str:
    done = server.cmd(what, "-d", "-P", "-F", "#{pane_id}", *options, "--", *argv)
    if done.returncode == 0 and done.stdout:
        return done.stdout[0]
    reason = " ".join(done.stderr)
    if what == "new-session" and "duplicate session" in reason:
        return ""
    raise UnavailableError(f"tmux refused {what} ({reason or done.returncode}): see tmux list-windows -a")
