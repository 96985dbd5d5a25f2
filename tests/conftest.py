"""What every test gets: a home of its own, the commands of this tree, and nothing of the caller's system."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tmux_orchestrator.ground.paths import Home

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the caller's home, tmux or settings, or runs the commands of another tree."""
    for name in list(os.environ):
        if name.startswith(("ORC_", "ORCHESTRATOR_", "TMUX")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", f"{ROOT}/bin{os.pathsep}{os.environ.get('PATH', os.defpath)}")
    monkeypatch.setenv("ORC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMUX_TMPDIR", str(tmp_path))
    found = shutil.which("orc-publish")
    assert found == f"{ROOT}/bin/orc-publish", f"PATH finds {found}"


@pytest.fixture(autouse=True, scope="module")
def _no_open_files() -> Iterator[None]:
    """No module of tests leaves a file open: they add up, and the last tests would pay for it."""
    before = _open_files()
    yield
    gc.collect()
    left = [f"/proc/self/fd/{fd}" for fd in _open_files() - before]
    assert not left, [os.readlink(fd) for fd in left if os.path.lexists(fd)]


def _open_files() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A fresh, empty home, which ORC_HOME names too."""
    return Home(str(tmp_path / "home"))
