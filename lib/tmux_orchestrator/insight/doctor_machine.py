"""What orc-doctor checks of the machine: programs, disk, kernel limits, and who else types into panes."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator

from tmux_orchestrator.ground.paths import CODE
from tmux_orchestrator.insight import words
from tmux_orchestrator.insight.findings import Case, Finding

# remain-on-exit-format and pane_dead_time, with which a pane says how its agent ended, came with it.
TMUX = (3, 3)
_LITTLE, _ALMOST_FULL = 1 << 30, 100 << 20
_FEW_FILES = 1000
_NEARLY = 0.8  # of a kernel's limit
_FOREIGN = frozenset(("9p", "afs", "ceph", "cifs", "coda", "drvfs", "fuse.glusterfs", "fuse.rclone", "fuse.sshfs"))
_FOREIGN |= {"gfs2", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "smb3", "smbfs", "vboxsf", "virtiofs"}
_IN_MEMORY = ("tmpfs", "ramfs")
# Scripts of earlier set-ups that type into panes with no limit, and what others of their kind are called.
_OLD = frozenset(("event_bus", "compliance_monitor", "checkin_monitor", "credit_monitor", "monitor_modular"))
_OLD |= {"messaging_daemon", "pm_daemon_monitor", "state_updater"}
_KIND = re.compile(r"(^|[_-])(monitor|compliance|workflow|checkin|scheduler)([_-]|$)")
_TYPES = b"send-keys"


def python(case: Case) -> Iterator[Finding]:
    interpreter = CODE + "/.venv/bin/python"
    check = [interpreter, "-I", "-S", CODE + "/share/setup/setup.py", "check"]
    if not os.access(interpreter, os.X_OK):
        yield Finding("there is no Python environment in .venv", words.manager("setup"))
    elif subprocess.run(check, capture_output=True, check=False).returncode:
        yield Finding("the installed packages are not those of requirements.lock", words.manager("setup"))


def tmux(case: Case) -> Iterator[Finding]:
    program = shutil.which("tmux")
    if program is None:
        yield Finding("tmux is not installed", _install("tmux"))
        return
    said = subprocess.run([program, "-V"], capture_output=True, text=True, check=False).stdout.strip()
    found = re.search(r"(\d+)\.(\d+)", said)
    if found and (int(found[1]), int(found[2])) < TMUX:
        yield Finding(f"{said} is too old: 3.3 or newer is needed", _install("tmux"))


def jq(case: Case) -> Iterator[Finding]:
    if shutil.which("jq") is None:
        yield Finding("jq is not installed, which the examples use", _install("jq"), note=True)


def _install(name: str) -> str:
    return ("" if os.geteuid() == 0 else "sudo ") + f"apt-get install {name}"


def locale(case: Case) -> Iterator[Finding]:
    given = os.environ.get("LC_ALL") or os.environ.get("LC_CTYPE") or os.environ.get("LANG") or ""
    if "utf-8" not in given.lower() and "utf8" not in given.lower():
        text = f"the locale ({given or 'none is set'}) is not UTF-8: tmux shows _ for many characters"
        yield Finding(text, "export LANG=C.UTF-8", note=True)


def search_path(case: Case) -> Iterator[Finding]:
    found, ours = shutil.which("orc-publish"), os.path.realpath(CODE + "/bin/orc-publish")
    mend = f"export PATH={shlex.quote(CODE + '/bin')}:$PATH"
    if found is None:
        yield Finding("the commands are not on PATH", mend, note=True)
    elif os.path.realpath(found) != ours:
        yield Finding(f"PATH finds another copy of the commands first: {found}", mend)


def disk(case: Case) -> Iterator[Finding]:
    folder = case.folder(case.home.events)
    told = os.statvfs(folder)
    free = told.f_bavail * told.f_frsize
    mend = f"make room: orc-log rotate, or du -xh {shlex.quote(case.home.root)} | sort -h | tail"
    if free < _LITTLE:
        yield Finding(f"{words.size(free)} are free for {folder}", mend, note=free >= _ALMOST_FULL)
    if told.f_files and told.f_favail < _FEW_FILES:
        yield Finding(f"{told.f_favail} more files fit on the disk of {folder}", mend)


def file_system(case: Case) -> Iterator[Finding]:
    folder = os.path.realpath(case.folder(case.home.events))
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        kind = mounted(file.read(), folder)
    move = "export ORC_HOME=~/.tmux-orchestrator (a folder on a local disk), and start again"
    if kind in _FOREIGN:
        text = f"{folder} is on a network file system ({kind}): locks and notifications do not hold there"
        yield Finding(text, move)
    elif kind in _IN_MEMORY:
        yield Finding(f"{folder} is in memory ({kind}): the log is lost with the next boot", move, note=True)


def mounted(mountinfo: str, folder: str) -> str:
    """The type of the file system that a folder is on, as the kernel's list of mounts says; "" if none does."""
    best, kind = -1, ""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        point = before.split(" ")[4] if before.count(" ") >= 4 else ""
        point = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), point)
        inside = point == "/" or folder == point or folder.startswith(point + "/")
        if point and inside and len(point) >= best:
            best, kind = len(point), after.split(" ")[0]
    return kind


def inotify(case: Case) -> Iterator[Finding]:
    """Without an instance or a watch, followers only look once a second."""
    instances, watches = (sum(used) for used in zip(*map(inotify_of, _pids()), strict=True))
    for name, used, better in (("instances", instances, 1024), ("watches", watches, 524_288)):
        limit = _number(f"/proc/sys/fs/inotify/max_user_{name}")
        if limit and used >= limit * _NEARLY:
            sudo = "" if os.geteuid() == 0 else "sudo "
            text = f"{used} of {limit} inotify {name} are in use: more processes will be slow to see changes"
            yield Finding(text, f"{sudo}sysctl -w fs.inotify.max_user_{name}={max(better, 2 * limit)}")


def inotify_of(pid: int) -> tuple[int, int]:
    """How many instances and watches a process of this user has; none for another user's."""
    folder = f"/proc/{pid}/fd"
    try:
        if os.stat(folder).st_uid != os.geteuid():
            return 0, 0
        watches, mine = 0, [fd for fd in os.listdir(folder) if _leads_to_inotify(f"{folder}/{fd}")]
        for fd in mine:
            with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii") as file:
                watches += file.read().count("inotify wd:")
        return len(mine), watches
    except OSError:
        return 0, 0  # ended meanwhile


def _leads_to_inotify(link: str) -> bool:
    try:
        return "inotify" in os.readlink(link)
    except OSError:
        return False


def _number(path: str) -> int:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


def _pids() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def old_scripts(case: Case) -> Iterator[Finding]:
    """Only told: nobody's process is ended on a name alone."""
    for pid in _pids():
        script = _script(pid)
        if script and not script.startswith((CODE + "/", case.home.run + "/")) and is_flooding(script):
            text = f"{os.path.basename(script)} runs (pid {pid}) and may type into panes past every limit: {script}"
            yield Finding(text, f"kill {pid}")


def _script(pid: int) -> str:
    """The script that a process runs, as an absolute path; "" if it runs none."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            argv = [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]
        folder = os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""
    named = next((word for word in argv[:8] if word.endswith((".py", ".sh"))), "")
    return os.path.normpath(os.path.join(folder, named)) if named else ""


def is_flooding(script: str) -> bool:
    """Is it one of the known scripts, or one that is called like them and types into panes? A test of one is none."""
    name = os.path.basename(script).rpartition(".")[0]
    if name in _OLD:
        return True
    if not _KIND.search(name) or name.startswith("test_"):
        return False
    try:
        with open(os.open(script, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            return _TYPES in file.read(1 << 20)
    except OSError:
        return False
