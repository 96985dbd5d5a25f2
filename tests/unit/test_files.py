"""Private files and folders, replaced as a whole or not at all."""

from __future__ import annotations

import os
import stat
import string
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support_faults import Faults, Killed
from tmux_orchestrator.ground import files
from tmux_orchestrator.ground.errors import DataError, NotPermitted, SystemFailure


def mode(path: str | Path) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_modes_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    if umask == 0o777 and os.geteuid():
        pytest.skip("a user cannot write what it may not")
    folder = f"{tmp_path}/a/b/c"
    files.make_dir(folder)
    files.replace(folder + "/state", b"x")
    files.append(folder + "/lines", b"x")
    assert [mode(path) for path in (f"{tmp_path}/a", f"{tmp_path}/a/b", folder)] == [0o700] * 3
    assert mode(folder + "/state") & ~0o600 == mode(folder + "/lines") & ~0o600 == 0


def test_a_folder_is_made_once(tmp_path: Path) -> None:
    files.make_dir(f"{tmp_path}/a")
    files.make_dir(f"{tmp_path}/a")


@pytest.mark.parametrize("open_mode", [0o777, 0o770, 0o720])
def test_a_folder_that_others_can_write_is_refused(tmp_path: Path, open_mode: int) -> None:
    os.mkdir(f"{tmp_path}/a")
    os.chmod(f"{tmp_path}/a", open_mode)
    with pytest.raises(NotPermitted):
        files.make_dir(f"{tmp_path}/a")


@pytest.mark.needs_root
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    os.mkdir(f"{tmp_path}/a", 0o700)
    os.chown(f"{tmp_path}/a", 12345, 12345)
    with pytest.raises(NotPermitted):
        files.make_dir(f"{tmp_path}/a")


def test_a_dangling_link_or_a_file_is_no_folder(tmp_path: Path) -> None:
    os.symlink("nowhere", f"{tmp_path}/link")
    with pytest.raises(SystemFailure):
        files.make_dir(f"{tmp_path}/link")
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemFailure):
        files.make_dir(f"{tmp_path}/file/below")
    with pytest.raises(SystemFailure):
        files.make_dir("/proc/none/below")  # says that what is above does not exist, for ever


def test_links_are_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"untouched")
    link = f"{tmp_path}/link"
    os.symlink(other, link)
    with pytest.raises(SystemFailure):
        files.read(link)
    with pytest.raises(OSError):
        files.append(link, b"more")
    files.replace(link, b"mine")
    assert not os.path.islink(link) and files.read(link) == b"mine"
    assert other.read_bytes() == b"untouched"


def test_read(tmp_path: Path) -> None:
    path = f"{tmp_path}/f"
    assert files.read(path) is None
    assert files.read(path + "/below") is None
    files.replace(path, b"12345")
    assert files.read(path) == files.read(path, 5) == b"12345"
    assert files.read(path + "/below") is None
    with pytest.raises(DataError):
        files.read(path, 4)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_only_plain_files_are_read(tmp_path: Path, make: object) -> None:
    assert callable(make)
    make(f"{tmp_path}/f")
    with pytest.raises(DataError):
        files.read(f"{tmp_path}/f")


def test_a_name_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files.replace("state", b"x")
    assert files.read("state") == b"x"


@pytest.mark.parametrize("how", ["ENOSPC", "EIO", "short", "killed", "torn"])
def test_replacing_is_whole_or_nothing_at_every_call(tmp_path: Path, how: str) -> None:
    path, at = f"{tmp_path}/state", 1
    while True:
        files.replace(path, b"old")
        with Faults(how, at) as faults:
            try:
                files.replace(path, b"a new state")
                told = True
            except (SystemFailure, Killed):
                told = False
        content = files.read(path)
        assert content in (b"old", b"a new state")
        if how == "short" and told:
            assert content == b"a new state"  # the rest was written by a second call
        elif told:
            assert faults.calls < at
        if faults.calls < at:
            break
        at += 1
    assert at > 4  # write, fsync, rename, fsync of the folder
    if how not in ("killed", "torn"):
        assert os.listdir(tmp_path) == ["state"]


def test_the_folder_is_synced_after_the_rename(tmp_path: Path) -> None:
    with Faults("none", at=0) as faults:
        files.replace(f"{tmp_path}/state", b"x")
        assert faults.told == ["write", "fsync", "rename", "fsync"]
    with Faults("none", at=0) as faults:
        files.replace(f"{tmp_path}/state", b"x", sync=False)
        assert faults.told == ["write", "rename"]


@settings(deadline=None)
@given(st.text(st.characters(), max_size=300), st.text(st.characters(), max_size=300))
@example("a" * 300, "a" * 299 + "b")
@example("../x", "%2E%2E%2Fx")
def test_names_as_file_names(one: str, other: str) -> None:
    """Each may be a file's name beside others of its folder, and is nobody else's."""
    name = files.encoded(one)
    assert len(name) <= 180 and set(name) <= set(string.ascii_letters + string.digits + "_-%~")
    assert (name == files.encoded(other)) == (one == other)
    if len(one) <= 180 and set(one) <= set(string.ascii_letters + string.digits + "_-"):
        assert name == one
