"""What orc-doctor checks of the home: where it is, who may read it, the configuration, the log and the daemons."""

from __future__ import annotations

import os
import shlex
import stat
import time
from collections.abc import Callable, Iterator

from tmux_orchestrator.agents import profiles
from tmux_orchestrator.eventlog.days import DAY_NS, day_file, is_day
from tmux_orchestrator.ground import clock, components, config_compile, config_file, config_schema, files, pidfile, proc
from tmux_orchestrator.ground.errors import ConfigError, NotPermitted, TryLater
from tmux_orchestrator.ground.locks import Lock
from tmux_orchestrator.insight import daycheck, words
from tmux_orchestrator.insight.findings import Case, Finding, of_error

_OTHERS = 0o077
_MOST_FILES = 20_000
_LONGEST = 80  # bytes of the path of the state: a socket's path may have 107
_LOG_BYTES = 32 << 20
_MOST_LINES = 200
_LAG_S = 10.0
_DEFECTS_S = 7 * 86_400
_LEFT_S = 3600


def place(case: Case) -> Iterator[Finding]:
    given, root = os.environ.get("ORC_HOME", ""), case.home.root
    if given and not given.startswith("/"):
        text = f"ORC_HOME is {given!r}, which is another folder for each process"
        yield Finding(text, f"export ORC_HOME={shlex.quote(root)}")
    if given != given.strip():
        yield Finding(
            f"ORC_HOME {given!r} begins or ends with a space", f"export ORC_HOME={shlex.quote(given.strip())}"
        )
    if len(os.fsencode(case.home.run)) > _LONGEST:
        text = f"the path of {case.home.run} is so long that sockets in it may not work"
        yield Finding(text, "export ORC_HOME to a shorter path, and start again", note=True)
    if os.path.lexists(root) and not os.path.isdir(root):
        yield Finding(f"{root} is no folder", f"mv {shlex.quote(root)} {shlex.quote(root + '.old')}")


def modes(case: Case) -> Iterator[Finding]:
    """State is private: whoever could write it could type into every agent."""
    if os.path.isdir(case.home.root):
        try:
            files.check_private(case.home.root)
        except NotPermitted as error:
            yield of_error(error)
    for folder in (case.home.logs, case.home.registry, case.home.data):
        loose: list[str] = []
        foreign: list[str] = []
        for path, found in _below(folder):
            if found.st_uid != os.geteuid():
                foreign.append(path)
            elif stat.S_IMODE(found.st_mode) & _OTHERS:
                loose.append(path)
        here = shlex.quote(folder)
        if loose:
            text = f"others may get at {words.count(len(loose), 'file')} in {folder} (the first: {loose[0]})"
            yield Finding(text, f"chmod -R go-rwx {here}", fix=_tighten(loose))
        if foreign:
            text = f"{words.count(len(foreign), 'file')} in {folder} belong to another user (the first: {foreign[0]})"
            sudo = "" if os.geteuid() == 0 else "sudo "
            yield Finding(text, f"{sudo}chown -R {os.geteuid()} {here}")


def _below(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """The folder and what is in it, links left out; the first many."""
    count = 0
    for parent, folders, names in os.walk(folder):
        for path in [parent, *(f"{parent}/{name}" for name in names)]:
            count += 1
            try:
                found = os.lstat(path)
            except OSError:
                continue
            if not stat.S_ISLNK(found.st_mode):
                yield path, found
        folders[:] = sorted(folders) if count < _MOST_FILES else []


def _tighten(paths: list[str]) -> Callable[[], None]:
    def fix() -> None:
        for path in paths:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                os.fchmod(fd, stat.S_IMODE(os.fstat(fd).st_mode) & ~_OTHERS)
            finally:
                os.close(fd)

    return fix


def configuration(case: Case) -> Iterator[Finding]:
    file = case.home.config_file
    try:
        data, _ = config_file.read(file)
        mistakes = config_compile.check(data or b"", file)
    except ConfigError as error:
        yield of_error(error)
        return
    for mistake in mistakes:
        text = mistake.removesuffix(": see docs/configuration.md")
        yield Finding(text, f"correct that line of {file}, then orc-config check")
    for mistake in config_schema.check_environment(dict(os.environ)):
        yield of_error(ConfigError(mistake))


def agent_profiles(case: Case) -> Iterator[Finding]:
    try:
        profiles.load(case.settings.profiles)
    except ConfigError as error:
        yield Finding(str(error), f"correct profiles: in {case.home.config_file}, then orc-config check")


def log_damage(case: Case) -> Iterator[Finding]:
    """Readers step over it. The command keeps a copy and takes the lock, so it may be run at any time."""
    by_file: dict[str, list[daycheck.Finding]] = {}
    for one in daycheck.damage(case.home, _LOG_BYTES):
        if one.kind == "damaged":
            by_file.setdefault(one.file, []).append(one)
    for file, those in by_file.items():
        first = those[0]
        text = f"{words.count(len(those), 'damaged line')} in {file}, at byte {first.offset} ({first.reason})"
        lines = ";".join(f"{one.line}d" for one in those[:_MOST_LINES])
        lock = shlex.quote(case.home.run + "/log.lock")
        yield Finding(text, f"flock {lock} sed -i.damaged -e '{lines}' {shlex.quote(file)}")


def days_ahead(case: Case) -> Iterator[Finding]:
    """Written while the clock was wrong: such a file is left aside until its day comes."""
    latest = clock.local_day(clock.now_ns() + DAY_NS)
    try:
        names = sorted(os.listdir(case.home.events))
    except FileNotFoundError:
        return
    for name in names:
        day = name.removesuffix(".jsonl")
        if name != day and is_day(day) and day > latest:
            file = shlex.quote(day_file(case.home, day))
            yield Finding(f"{name} is dated ahead of the clock, so nobody reads it", f"mv {file} {file}.ahead")


def log_lock(case: Case) -> Iterator[Finding]:
    path = case.home.run + "/log.lock"
    if not os.path.exists(path):
        return
    try:
        with Lock(path, timeout=2.0):
            return
    except TryLater:
        pass
    holders = _holders(path)
    who = f"process {', '.join(map(str, holders))}" if holders else "a process"
    kill = f"kill -CONT {holders[0]}, or kill {holders[0]}" if holders else f"fuser -v {shlex.quote(path)}"
    yield Finding(f"{who} has held the log's lock for two seconds: nobody can publish", kill)


def _holders(path: str) -> list[int]:
    """The processes that hold a lock on the file: the kernel tells with the descriptor, whoever took it once."""
    mark, found = f":{os.stat(path).st_ino} ", []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            for fd in os.listdir(f"/proc/{pid}/fdinfo"):
                with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii", errors="replace") as file:
                    if any("FLOCK" in line and mark in line for line in file):
                        found.append(int(pid))
        except OSError:
            continue  # ended meanwhile, or another user's
    return sorted(set(found))


def pid_files(case: Case) -> Iterator[Finding]:
    """An old number is harmless, until the kernel gives it to somebody whom a script then kills."""
    for name in components.COMMANDS:
        path = case.home.pid_file(name)
        data = files.read(path, 4096)
        if not data or pidfile.running(case.home, name) is not None:
            continue
        number = data.strip()
        if number.isdigit() and len(number) < 10 and proc.start_time(int(number)) is not None:
            text = f"{path} holds {int(number)}, which is another program's process by now"
            yield Finding(text, f": > {shlex.quote(path)}", fix=_emptied(case, name))


def _emptied(case: Case, name: str) -> Callable[[], None]:
    def fix() -> None:
        fd = pidfile.claim(case.home, name)
        if fd is not None:
            os.ftruncate(fd, 0)
            os.close(fd)

    return fix


def daemons(case: Case) -> Iterator[Finding]:
    waiting = case.backlog.queued + case.backlog.lag_addressed
    for name in components.wanted(case.settings):
        if pidfile.running(case.home, name) is not None:
            continue
        crash = components.crash(case.home, name)
        text = f"{name} ended by itself: {crash[-1]}" if crash else f"{name} is not running"
        urgent = bool(crash) or (name == "broker" and waiting > 0)
        if name == "broker" and waiting:
            text += f"; {words.count(waiting, 'message')} wait{'s' * (waiting == 1)} for it"
        yield Finding(text, words.manager("start", name), note=not urgent)


def broker_lag(case: Case) -> Iterator[Finding]:
    waits = case.backlog
    behind = words.age_s(waits.lag_since, clock.now_ns())
    if waits.pid and behind > _LAG_S:
        text = f"the broker is {words.count(waits.lag_events, 'event')} behind the log, for {words.span(behind)}"
        yield Finding(text, words.manager("restart", "broker"))


def defects(case: Case) -> Iterator[Finding]:
    path = case.home.logs + "/defects.log"
    try:
        age = time.time() - os.stat(path).st_mtime
    except FileNotFoundError:
        return
    if age < _DEFECTS_S:
        text = f"a command met a defect of its own {words.span(age)} ago: {path}"
        yield Finding(text, f"report what it says, then rm {shlex.quote(path)}")


def leftovers(case: Case) -> Iterator[Finding]:
    """What a kill -9 in the middle of replacing a file leaves."""
    old = []
    for folder in (case.home.run, case.home.registry):
        for path, found in _below(folder):
            if path.endswith(".tmp") and stat.S_ISREG(found.st_mode) and time.time() - found.st_mtime > _LEFT_S:
                old.append(path)
    if old:
        text = f"{words.count(len(old), 'file')} that killed processes left half written (the first: {old[0]})"
        yield Finding(text, shlex.join(["rm", *old[:20]]), note=True, fix=_removed(old))


def _removed(paths: list[str]) -> Callable[[], None]:
    def fix() -> None:
        for path in paths:
            os.unlink(path)

    return fix
