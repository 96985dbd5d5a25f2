"""Set-up: what it installs, what it says where it cannot, and that half of it is never taken for the whole."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The set-up script of a tree in tmp_path that has only lock files, and an empty PATH."""
    spec = importlib.util.spec_from_file_location("setup_script", ROOT / "share/setup/setup.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("ROOT", "VENV", "NEW", "PYTHON", "LOCK", "DEV_LOCK"):
        monkeypatch.setattr(module, name, getattr(module, name).replace(str(ROOT), str(tmp_path)))
    (tmp_path / "bin").mkdir()
    (tmp_path / "requirements.lock").write_text("one==1\n")
    (tmp_path / "requirements-dev.lock").write_text("two==2\n")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(module, "PIP_FILES", ())
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    return module


def program(tmp_path: Path, name: str, text: str) -> None:
    """A program on PATH that notes its arguments in `called`."""
    file = tmp_path / "bin" / name
    file.write_text(f'#!/bin/sh\necho "{name} $*" >>"{tmp_path}/called"\n{text}\n')
    file.chmod(0o755)


def called(tmp_path: Path) -> list[str]:
    file = tmp_path / "called"
    return file.read_text().splitlines() if file.exists() else []


def user(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: number)


def test_root_installs_what_is_missing(setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user(monkeypatch, 0)
    program(tmp_path, "apt-get", "")
    (tmp_path / "bin/env").symlink_to("/usr/bin/env")
    setup.programs()
    assert [line.rpartition(" install ")[2] for line in called(tmp_path)] == ["-y -qq --no-install-recommends tmux jq"]


def test_package_lists_are_fetched_when_there_are_none(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user(monkeypatch, 0)
    program(
        tmp_path, "apt-get", f'case "$*" in *update*) : >"{tmp_path}/lists" ;; *) [ -e "{tmp_path}/lists" ] ;; esac'
    )
    (tmp_path / "bin/env").symlink_to("/usr/bin/env")
    setup.programs()
    assert ["install" in line for line in called(tmp_path)] == [True, False, True]


def test_others_use_sudo_only_where_it_does_not_ask(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user(monkeypatch, 1000)
    program(tmp_path, "apt-get", "")
    program(tmp_path, "sudo", "")
    setup.programs()
    assert called(tmp_path)[0] == "sudo -n true"
    assert called(tmp_path)[1].startswith("sudo -n env DEBIAN_FRONTEND=noninteractive apt-get ")


@pytest.mark.parametrize("sudo", [True, False])
def test_without_root_the_command_is_told(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sudo: bool
) -> None:
    user(monkeypatch, 1000)
    program(tmp_path, "apt-get", "")
    if sudo:
        program(tmp_path, "sudo", "exit 1")
    with pytest.raises(setup.Failed, match=r"tmux missing: sudo apt-get install -y tmux jq$"):
        setup.programs()
    assert not [line for line in called(tmp_path) if line.startswith("apt-get")]


def test_jq_alone_stops_nothing(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    user(monkeypatch, 1000)
    program(tmp_path, "tmux", "")
    setup.programs()
    assert "jq missing" in capsys.readouterr().err


def test_nothing_missing_installs_nothing(setup: ModuleType, tmp_path: Path) -> None:
    for name in ("tmux", "jq", "apt-get"):
        program(tmp_path, name, "")
    setup.programs()
    assert called(tmp_path) == []


def test_a_python_without_venv_asks_for_its_package(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user(monkeypatch, 1000)
    for name in ("tmux", "jq"):
        program(tmp_path, name, "")
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(setup.Failed, match=f"python{setup.VERSION}-venv missing"):
        setup.programs()
    program(tmp_path, "uv", "")
    setup.programs()  # uv makes environments itself


def test_uv_is_left_out_where_pip_was_told_something(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not setup.use_uv()
    program(tmp_path, "uv", "")
    assert setup.use_uv()
    with monkeypatch.context() as told:
        told.setenv("PIP_INDEX_URL", "somewhere")
        assert not setup.use_uv()
    (tmp_path / "pip.conf").touch()
    monkeypatch.setattr(setup, "PIP_FILES", (str(tmp_path / "pip.conf"),))
    assert not setup.use_uv()


def test_pip_is_asked_when_uv_fails(setup: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program(tmp_path, "uv", "echo no network >&2; exit 1")
    program(tmp_path, "python", "")
    setup.install(str(tmp_path), setup.LOCK)
    assert called(tmp_path)[-1].endswith(f"install -q --require-hashes -r {tmp_path}/requirements.lock")
    assert "no network" in capsys.readouterr().err


def test_the_stamp_names_lock_and_version(setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".venv").mkdir()
    assert setup.main(["check"]) == 1
    setup.write_stamp(setup.VENV + setup.STAMP, setup.LOCK)
    assert setup.main(["check"]) == 0
    monkeypatch.setattr(setup, "VERSION", "3.99")
    assert setup.main(["check"]) == 1


def test_a_changed_lock_means_set_up_again(setup: ModuleType, tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    setup.write_stamp(setup.VENV + setup.STAMP, setup.LOCK)
    (tmp_path / "requirements.lock").write_text("one==2\n")
    assert setup.main(["check"]) == 1


def test_killed_while_adding_packages_is_not_whole(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".venv").mkdir()
    setup.write_stamp(setup.VENV + setup.STAMP, setup.LOCK)

    def killed(venv: str, lock: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(setup, "install", killed)
    with pytest.raises(KeyboardInterrupt):
        setup.add_development()
    assert setup.main(["check"]) == 1


def test_a_build_that_fails_leaves_what_there_was(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/old").touch()

    def failing(venv: str, lock: str) -> None:
        raise setup.Failed("no network")

    monkeypatch.setattr(setup, "install", failing)
    with pytest.raises(setup.Failed):
        setup.build()
    assert (tmp_path / ".venv/old").exists()


def locked(name: str) -> dict[str, str]:
    """Package -> version, and that each is held by a hash."""
    found: dict[str, str] = {}
    text = (ROOT / name).read_text()
    for entry in re.split(r"\n(?=[a-z])", re.sub(r"(?m)^\s*#.*\n", "", text)):
        match = re.match(r"([a-z0-9._-]+)==([^ ;\\]+)", entry)
        assert match and "--hash=sha256:" in entry, entry
        found[match[1]] = match[2]
    return found


def test_lock_files_hold_hashes_and_no_place() -> None:
    runtime, development = locked("requirements.lock"), locked("requirements-dev.lock")
    assert runtime.items() <= development.items()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for wanted, have in ((project["dependencies"], runtime), (project["optional-dependencies"]["dev"], development)):
        for line in wanted:
            assert re.split(r"[<>=~]", line)[0].lower() in have
    for name in ("requirements.lock", "requirements-dev.lock"):
        assert "://" not in (ROOT / name).read_text()
