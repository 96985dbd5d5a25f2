"""The long-lived parts of the system: which there are, which are wanted, starting, stopping and judging them.

A component runs when it holds its pid file (see `pidfile`), whoever started it. What it prints is appended to
`logs/<component>.out`; whoever starts one, or stops one on purpose, appends that too, so an ended component whose
output does not end with its stop crashed, and its last lines say how. Nothing here lives on after a start: a crash
of the starter leaves the component running or not, as `status` tells.
"""

from __future__ import annotations

import os
import subprocess
import time

from tmux_orchestrator.ground import clock, files, pidfile
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.ground.errors import SystemFailure, UnavailableError
from tmux_orchestrator.ground.output import clean
from tmux_orchestrator.ground.paths import CODE, Home

# In the order of starting: what acts on messages is there before what writes them.
COMMANDS: dict[str, tuple[str, ...]] = {
    "broker": ("orc-broker",),
    "state_updater": ("orc-state", "--follow"),
    "monitor": ("orc-monitor",),
    "team": ("orc-team",),
    "dashboard": ("orc-dashboard",),
    "metrics": ("orc-metrics",),
    "bridge": ("orc-bridge",),
}
# From SIGTERM to SIGKILL: the team's supervisor stops its agents first, each within a bound of its own.
_GRACE = {"team": 660.0}
_PATIENCE = 20.0  # seconds from the start of a component until it holds its pid file
_STOPPED, _STOPPING = "stopped on request", "is to stop"
_SAID = 400  # lines that a component may print between being asked to stop and its end
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


def exists(name: str) -> bool:
    """Is the component's command part of this installation?"""
    return os.access(f"{CODE}/bin/{COMMANDS[name][0]}", os.X_OK)


def wanted(settings: Config) -> list[str]:
    """The components that the configuration asks for, in the order of starting."""
    names = [name for name in COMMANDS if settings.get("components." + name) and exists(name)]
    return names if settings.get("monitoring.enabled") else [name for name in names if name != "monitor"]


def start(home: Home, name: str) -> tuple[int, bool]:
    """Start the component in the background: its pid, and whether it was this call that started it.

    Raises UnavailableError when it ends at once, or does not come up.
    """
    pid = pidfile.running(home, name)
    if pid is not None:
        return pid, False
    child = _spawn(home, name)
    end = time.monotonic() + _PATIENCE
    while child.poll() is None and time.monotonic() < end:
        pid = pidfile.running(home, name)
        if pid == child.pid:
            _note(home, name, f"INFO {name}: started (pid {pid})")
        if pid is not None:
            return pid, pid == child.pid
        time.sleep(0.005)
    if child.poll() is None:
        child.kill()
        child.wait()
        raise UnavailableError(f"{name} did not come up in {_PATIENCE:.0f} s: see {home.out_file(name)}")
    pid = pidfile.running(home, name)
    if pid is not None:  # another start won
        return pid, False
    _note(home, name, f"ERROR {name}: ended at once with {child.returncode}")
    raise UnavailableError(f"{name} ended at once with {child.returncode}: see {home.out_file(name)}")


def _spawn(home: Home, name: str) -> subprocess.Popen[bytes]:
    """The component as the leader of a session of its own: no terminal's end or Ctrl-C reaches it."""
    command, *words = COMMANDS[name]
    out = _open_out(home, name)
    try:
        return subprocess.Popen(
            [f"{CODE}/bin/{command}", *words],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=home.root,
            # Whoever starts it, it is no process of theirs: the mark of the team's agents would have it ended with one.
            env={name: text for name, text in os.environ.items() if name != "ORC_TEAM_RUN"} | {"ORC_HOME": home.root},
            start_new_session=True,
        )
    except OSError as error:
        raise UnavailableError(f"cannot start {command}: {error.strerror}: run make setup") from None
    finally:
        os.close(out)


def _open_out(home: Home, name: str) -> int:
    files.make_dir(home.logs)
    try:
        if name == "broker":
            _link(home.logs + "/daemon.log", "broker.out")
        return os.open(home.out_file(name), _APPEND, 0o600)
    except OSError as error:
        raise SystemFailure(f"cannot write {home.out_file(name)}: {error.strerror}") from None


def _link(path: str, target: str) -> None:
    """Two that start at one time may both find it missing."""
    try:
        os.symlink(target, path)
    except FileExistsError:
        pass


def stop(home: Home, name: str) -> bool:
    """End the component: SIGTERM, SIGKILL when that did not end it in time. False when it did not run."""
    if not pidfile.stop(home, name, _GRACE.get(name, 10.0)):
        return False
    _note(home, name, f"INFO {name}: {_STOPPED}")
    return True


def _note(home: Home, name: str, text: str) -> None:
    """Add a line of ours to what the component prints; a full disk keeps nobody from starting or stopping it."""
    try:
        out = _open_out(home, name)
    except SystemFailure:
        return
    try:
        files.write_all(out, f"{clock.stamp(clock.now_ns())} {text}\n".encode())
    except OSError:
        pass
    finally:
        os.close(out)


def since(home: Home, name: str) -> str:
    """When the component that runs now took its pid file."""
    return clock.stamp(os.stat(home.pid_file(name)).st_mtime_ns)


def last_lines(home: Home, name: str, count: int = 10) -> list[str]:
    """The end of the component's output, fit for a terminal."""
    try:
        with open(home.out_file(name), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 16_384))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return []
    return [clean(line, keep="\t") for line in lines if line.strip()][-count:]


def crash(home: Home, name: str) -> list[str]:
    """The last lines of a component that was started, runs no more, and was not stopped; else none."""
    if pidfile.running(home, name) is not None:
        return []
    lines = last_lines(home, name)
    return [] if lines and lines[-1].endswith(f" {name}: {_STOPPED}") else lines


def fallen(home: Home, name: str) -> tuple[int, int] | None:
    """Of one that runs no more, although nobody asked it to stop since it was started last: the pid that it had, and
    when that start was (nanoseconds since the epoch)."""
    if pidfile.running(home, name) is not None:
        return None
    for line in reversed(last_lines(home, name, _SAID)):
        if line.endswith((f" {name}: {_STOPPED}", f" {name}: {_STOPPING}")):
            return None
        stamp, _, said = line.partition(" ")
        pid = said.removeprefix(f"INFO {name}: started (pid ").removesuffix(")")
        if pid.isdigit() and pid != said:
            try:
                return int(pid), clock.parse_stamp(stamp)
            except (ValueError, IndexError):
                return None
    return None


def is_in_background(home: Home, name: str, pid: int) -> bool:
    """Does this process of the component print into its file, as one that `start` has started does?"""
    try:
        return os.path.samefile(f"/proc/{pid}/fd/2", home.out_file(name))
    except OSError:
        return False
