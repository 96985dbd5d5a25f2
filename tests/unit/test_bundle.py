"""The bundles of the hot commands: used when they are what is there, and never otherwise."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tmux_orchestrator import bundle
from tmux_orchestrator.run import HOT

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the product with fresh bundles, and with nothing else that is compiled."""
    copy = tmp_path / "a tree"
    for name in ("bin", "lib"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / ".venv").symlink_to(ROOT / ".venv")
    (copy / "orchestrator_manager.sh").touch()  # makes it the home, too
    bundle.refresh(str(copy / "lib"), HOT)
    return copy


def call(tree: Path, command: str, *argv: str) -> tuple[str, bool]:
    """What the command prints, and whether all of its modules came from the bundle."""
    python = [str(tree / ".venv/bin/python"), "-I", "-S", "-B", "-X", "importtime"]
    env = {"PATH": os.environ["PATH"], "HOME": str(tree)}
    done = subprocess.run(
        [*python, str(tree / "bin" / f"orc-{command}"), *argv],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=30,
        check=False,
        env=env,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.rstrip("\n"), "tmux_orchestrator" not in done.stderr


def rewrite(file: Path, old: str, new: str, keep_time: bool = False) -> None:
    before = file.stat()
    file.write_text(file.read_text().replace(old, new))
    if keep_time:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("command", sorted(HOT))
def test_a_fresh_bundle_is_used(tree: Path, command: str) -> None:
    assert call(tree, command, "--version") == (f"orc-{command} 0.1.0", True)


def test_a_bundle_holds_all_that_its_command_needs(tree: Path) -> None:
    call(tree, "publish", "the first makes the home")
    call(tree, "publish", "the second compiles the configuration")
    assert call(tree, "publish", "-t", "a:1", "hello")[1]
    shown, bundled = call(tree, "read", "-n", "1", "--since", "5m")
    assert '"hello"' in shown and bundled
    assert not call(tree, "read", "-o", "text")[1]  # what few need is found as usual


@pytest.mark.parametrize("keep_time", [True, False])
def test_a_changed_source_is_what_counts(tree: Path, keep_time: bool) -> None:
    """Without set-up after it, as after a pull; be it that only the time tells, or only the size."""
    package = tree / "lib/tmux_orchestrator/__init__.py"
    new = "0.1.10" if keep_time else "0.1.1"
    rewrite(package, "0.1.0", new, keep_time)
    assert call(tree, "publish", "--version") == (f"orc-publish {new}", False)


def test_a_change_anywhere_in_what_is_needed_counts(tree: Path) -> None:
    for file in ("commands/publish.py", "eventlog/event.py", "ground/locks.py", "bundle.py"):
        (tree / "lib/tmux_orchestrator" / file).touch()
        assert call(tree, "publish", "--version") == ("orc-publish 0.1.0", False), file
        bundle.refresh(str(tree / "lib"), HOT)
        assert call(tree, "publish", "--version") == ("orc-publish 0.1.0", True), file


def test_refresh_makes_only_what_is_not_fresh(tree: Path) -> None:
    lib = str(tree / "lib")
    made = {command: os.stat(bundle.path(lib, command)).st_ino for command in HOT}
    (tree / "lib/tmux_orchestrator/delivery/ratelimit.py").touch()
    assert [command for command in HOT if not bundle.is_fresh(lib, command)] == ["ratelimit"]
    bundle.refresh(lib, HOT)
    changed = {command for command in HOT if os.stat(bundle.path(lib, command)).st_ino != made[command]}
    assert changed == {"ratelimit"} and bundle.is_fresh(lib, "ratelimit")


@pytest.mark.parametrize("share", [0.0, 0.00001, 0.5, 0.99999])
def test_a_damaged_bundle_is_done_without(tree: Path, share: float) -> None:
    file = Path(bundle.path(str(tree / "lib"), "publish"))
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    assert call(tree, "publish", "--version") == ("orc-publish 0.1.0", False)


def test_no_bundle_is_needed(tree: Path) -> None:
    shutil.rmtree(tree / "lib/__pycache__")
    assert call(tree, "publish", "--version") == ("orc-publish 0.1.0", False)


def test_a_module_that_cannot_be_run_is_left_to_the_usual_import(tree: Path) -> None:
    """It says what is wrong; nothing half made stands in its way."""
    errors = tree / "lib/tmux_orchestrator/ground/errors.py"
    good = errors.stat()
    rewrite(errors, "OK = 0\n", "1/ 0 \n")
    os.utime(errors, ns=(good.st_atime_ns, good.st_mtime_ns))
    bundle._read.cache_clear()
    bundle.make(str(tree / "lib"), "publish")
    rewrite(errors, "1/ 0 \n", "OK = 0\n")
    os.utime(errors, ns=(good.st_atime_ns, good.st_mtime_ns))
    assert call(tree, "publish", "--version") == ("orc-publish 0.1.0", False)


def test_a_moved_tree_keeps_its_bundles_and_knows_where_it_is(tree: Path) -> None:
    moved = tree.rename(tree.parent / "elsewhere")
    call(moved, "publish", "hello")
    assert (moved / "logs/events").is_dir() and not tree.exists()
    assert call(moved, "publish", "--version")[1]
