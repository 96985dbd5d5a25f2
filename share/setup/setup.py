"""Makes what the commands run in: `.venv` from the locked packages, and the system's programs.

`.venv` is whole or not there: it is built as `.venv.new`, its stamp says from what, and a rename puts it in place;
a killed set-up leaves `.venv.new`, which the next one throws away. Packages for development are added in place,
with the stamp away meanwhile: if that is killed, the next set-up builds anew. Two at once: the second waits for
the lock and finds the work done.

usage: setup.py check | setup | dev        (`check` must run in .venv: does it fit the lock file? If so, bundles)
"""

from __future__ import annotations

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
VENV = ROOT + "/.venv"
NEW = ROOT + "/.venv.new"
PYTHON = VENV + "/bin/python"
LOCK, DEV_LOCK = ROOT + "/requirements.lock", ROOT + "/requirements-dev.lock"
STAMP, DEV_STAMP = "/setup.stamp", "/setup-dev.stamp"
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
PROMPT = "tmux-orchestrator"
UNAVAILABLE = 69
# Where somebody told pip where packages come from, pip is asked: uv does not read pip's settings.
PIP_SETTINGS = ("INDEX_URL", "EXTRA_INDEX_URL", "NO_INDEX", "FIND_LINKS", "CONFIG_FILE", "CERT", "CLIENT_CERT", "PROXY")
PIP_FILES = ("/etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf")


def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def fits(stamp: str, lock: str) -> bool:
    """Was the environment that runs this built from this very lock file, for this Python?"""
    return read(VENV + stamp) == f"{VERSION}\n{read(lock)}"


def say(text: str) -> None:
    print(f"set-up: {text}", file=sys.stderr, flush=True)


class Failed(Exception):
    """One line that says what is wrong and what to do."""


def run(what: str, *argv: str) -> None:
    """Run a program quietly; raises Failed with the end of its output above."""
    import subprocess

    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError as error:
        raise Failed(f"{what}: cannot run {argv[0]}: {error.strerror}") from None
    if done.returncode:
        text = (done.stdout + done.stderr).decode("utf-8", "replace")
        raise Failed("\n".join([*text.strip().splitlines()[-12:], f"set-up: {what} failed: see the lines above"]))


def which(name: str) -> str | None:
    import shutil

    return shutil.which(name)


def as_root() -> list[str] | None:
    """What to write before a command that needs root; None where that is not to be had without asking."""
    if os.geteuid() == 0:
        return []
    try:
        run("sudo", "sudo", "-n", "true")
    except Failed:
        return None
    return ["sudo", "-n"]


def install_programs(missing: list[str], needed: list[str]) -> None:
    """Install Debian packages; raises Failed when one of `needed` is not to be had."""
    before = as_root() if which("apt-get") else None
    if before is not None:
        say(f"installing {' '.join(missing)} (apt-get)")
        apt = [*before, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=120"]
        install = [*apt, "install", "-y", "-qq", "--no-install-recommends", *missing]
        try:
            run("apt-get install", *install)
        except Failed:
            run("apt-get update", *apt, "update", "-qq")
            run("apt-get install", *install)
        return
    sudo = "" if os.geteuid() == 0 else "sudo "
    how = f"{sudo}apt-get install -y {' '.join(missing)}" if which("apt-get") else "use the system's package manager"
    if needed:
        raise Failed(f"set-up: {' and '.join(needed)} missing: {how}")
    say(f"{' and '.join(missing)} missing, which the examples use: {how}")


def programs() -> None:
    """tmux is what all this is for; jq is what people read the log with, and no command needs it."""
    missing = [name for name in ("tmux", "jq") if not which(name)]
    needed = [name for name in missing if name == "tmux"]
    if not use_uv():
        try:
            import ensurepip  # noqa: F401
            import venv  # noqa: F401
        except ImportError:  # Debian ships them apart
            missing.append(f"python{VERSION}-venv")
            needed.append(missing[-1])
    if missing:
        install_programs(missing, needed)


def use_uv() -> bool:
    told = any(os.environ.get("PIP_" + name) for name in PIP_SETTINGS)
    told = told or any(os.path.exists(os.path.expanduser(path)) for path in PIP_FILES)
    return not told and which("uv") is not None


def install(venv: str, lock: str) -> None:
    python = venv + "/bin/python"
    if use_uv():
        say("installing packages (uv)")
        try:
            return run("uv", "uv", "pip", "install", "-q", "--python", python, "--require-hashes", "-r", lock)
        except Failed as error:
            say(f"uv could not, so pip is asked: {str(error).splitlines()[0]}")
    say("installing packages (pip)")
    try:
        run("pip", python, "-I", "-c", "import pip")
    except Failed:
        run("ensurepip", python, "-I", "-m", "ensurepip")
    pip = [python, "-I", "-m", "pip", "--disable-pip-version-check"]
    return run("pip", *pip, "install", "-q", "--require-hashes", "-r", lock)


def compile_all(venv: str) -> None:
    """Without compiled copies a start costs four times as much."""
    packages = f"{venv}/lib/python{VERSION}/site-packages"
    try:
        run("compiling", venv + "/bin/python", "-I", "-m", "compileall", "-q", ROOT + "/lib", packages)
    except Failed as error:  # slower, but it works: a read-only folder, a package for another Python
        say(str(error).splitlines()[-1])


def bundle_hot() -> None:
    """Bundle the hot commands anew where a source has changed, as after a pull. Runs in .venv: bundles are its own."""
    sys.path.insert(0, ROOT + "/lib")
    from tmux_orchestrator import bundle
    from tmux_orchestrator.run import HOT

    try:
        bundle.refresh(ROOT + "/lib", HOT)
    except (OSError, SyntaxError):  # slower, but it works: a read-only folder, a file that is being edited
        pass


def build() -> None:
    import shutil

    shutil.rmtree(NEW, ignore_errors=True)
    say(f"making .venv with Python {VERSION} ({sys.executable})")
    if use_uv():
        run("uv venv", "uv", "venv", "-q", "--no-project", "--prompt", PROMPT, "--python", sys.executable, NEW)
    else:
        run("venv", sys.executable, "-I", "-m", "venv", "--prompt", PROMPT, "--without-pip", NEW)
    install(NEW, LOCK)
    # Whoever runs this Python without our stubs finds the library too; relative, so the folder may be moved.
    with open(f"{NEW}/lib/python{VERSION}/site-packages/tmux_orchestrator.pth", "w", encoding="ascii") as file:
        file.write("../../../../lib\n")
    compile_all(NEW)
    settle_scripts()
    write_stamp(NEW + STAMP, LOCK)
    old = VENV + ".old"
    shutil.rmtree(old, ignore_errors=True)
    if os.path.lexists(VENV):
        os.rename(VENV, old)
    os.rename(NEW, VENV)
    shutil.rmtree(old, ignore_errors=True)


def settle_scripts() -> None:
    """The scripts that packages brought name the interpreter by the folder it was built in."""
    folder = NEW + "/bin/"
    for name in os.listdir(folder):
        if os.path.islink(folder + name):
            continue
        with open(folder + name, "r+b") as file:
            data = file.read()
            if NEW.encode() in data[:4096] and b"\0" not in data[:4096]:
                file.seek(0)
                file.write(data.replace(NEW.encode(), VENV.encode()))
                file.truncate()


def write_stamp(path: str, lock: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{VERSION}\n{read(lock)}")


def add_development() -> None:
    os.unlink(VENV + STAMP)
    install(VENV, DEV_LOCK)
    compile_all(VENV)
    write_stamp(VENV + DEV_STAMP, DEV_LOCK)
    write_stamp(VENV + STAMP, LOCK)


def find_bats() -> None:
    """bats runs the tests of the commands: from the system, or beside us through npm."""
    if which("bats") or os.path.exists(ROOT + "/.tools/node_modules/.bin/bats"):
        return
    try:
        install_programs(["bats"], ["bats"])
    except Failed:
        if not which("npm"):
            raise
        say("installing bats (npm)")
        run("npm", "npm", "install", "--silent", "--no-save", "--prefix", ROOT + "/.tools", "bats@1")


def find_test_programs() -> None:
    """What some tests need and the others do without: those are skipped where it is not to be had."""
    packages = {"strace": "strace", "groff": "groff", "man": "man-db"}
    missing = [package for name, package in packages.items() if not which(name)]
    try:
        if missing:
            install_programs(missing, missing)
    except Failed as error:
        say(f"some tests will be skipped: {str(error).splitlines()[0]}")


def whole() -> bool:
    """Is there a whole .venv? Asked of its own Python: it may be another version than ours, or gone."""
    try:
        run("check", PYTHON, "-I", "-S", __file__, "check")
    except Failed:
        return False
    return True


def set_up(development: bool) -> None:
    sys.path.insert(0, ROOT + "/lib")
    from tmux_orchestrator.ground.locks import Lock

    with Lock(ROOT + "/.setup.lock", timeout=900):
        programs()
        if not whole():
            build()
        if development:
            find_bats()
            if read(VENV + DEV_STAMP).partition("\n")[2] != read(DEV_LOCK):
                find_test_programs()
                add_development()


def main(argv: list[str]) -> int:
    if argv == ["check"]:
        if not fits(STAMP, LOCK):
            return 1
        bundle_hot()
        return 0
    try:
        set_up(development=argv == ["dev"])
        whole()  # and bundled
    except Failed as error:
        print(error, file=sys.stderr)
        return UNAVAILABLE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
