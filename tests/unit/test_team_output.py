"""What agents print: every line once, whatever they print and however much, in bounded space and fit for a terminal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support_tmux import wait_until
from tmux_orchestrator.ground import config, files
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work.team import holes as holes_module
from tmux_orchestrator.work.team import output
from tmux_orchestrator.work.team.holes import Holes
from tmux_orchestrator.work.team.output import Output
from tmux_orchestrator.work.team.stream import Stream, path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.out"


@pytest.fixture
def holes() -> Iterator[Holes]:
    one = Holes()
    yield one
    one.close(10)


@pytest.fixture
def follows(file: Path, holes: Holes) -> Iterator[Output]:
    one = Output(str(file), holes)
    yield one
    one.close()


def freed(one: Output) -> None:
    """All that was to be given back is."""
    wait_until(lambda: one._holes.is_done(one.path), what="the holes")


def append(file: Path, data: bytes) -> None:
    with file.open("ab") as out:
        out.write(data)


def everything(one: Output) -> list[str]:
    lines, more = one.read()
    while more:
        next_lines, more = one.read()
        lines += next_lines
    return lines


def test_lines_come_whole_and_once(file: Path, follows: Output) -> None:
    assert follows.read() == ([], False)
    append(file, b"one\ntw")
    assert everything(follows) == ["one"]
    append(file, b"o\n\nthree")
    assert everything(follows) == ["two", ""]
    assert follows.rest() == ["three"]
    append(file, b" and more\n")
    assert everything(follows) == [" and more"]


def test_nothing_reaches_a_terminal_but_text(file: Path, follows: Output) -> None:
    append(file, b"bell\x07 \xff \xe2\x80\xae x\tz\n")
    append(file, b"\x1b[31mred\x1b[0m \x1b]0;title\x07done\x1b[2J\n 10%\r 50%\r100%\r\n")
    assert everything(follows) == ["bell\\x07 \ufffd \\u202e x\tz", "red done", "100%"]


def test_a_long_line_is_cut_and_the_next_one_is_whole(file: Path, follows: Output) -> None:
    append(file, b"x" * 100_000)
    first = everything(follows)
    append(file, b"y" * 100_000 + b"\nshort\n")
    assert first == ["x" * output.LONGEST + "…"]
    assert everything(follows) == ["short"]


def test_what_was_read_takes_no_space(file: Path, follows: Output) -> None:
    line = b"z" * 99 + b"\n"
    for _ in range(50):
        append(file, line * 10_000)
        assert len(everything(follows)) == 10_000
    follows.rest()
    freed(follows)
    assert file.stat().st_blocks * 512 < 200_000


def test_the_next_one_begins_where_this_one_ended(file: Path, follows: Output, holes: Holes) -> None:
    append(file, b"a\nb\n" + b"c" * 10_000 + b"\nd\n")
    everything(follows)
    follows.close()
    freed(follows)
    append(file, b"e\nf\n")
    after = Output(str(file), holes)
    try:
        assert everything(after) == ["e", "f"]
    finally:
        after.close()


def test_a_flood_is_bounded_and_what_was_left_out_is_said(
    file: Path, follows: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "BACKLOG", 1 << 20)
    append(file, b"".join(b"%09d\n" % number for number in range(1_000_000)))
    lines = everything(follows)
    assert "bytes were left out" in lines[0]
    assert lines[-1] == "000999999" and lines[1:] == [f"{1_000_000 - n:09d}" for n in range(len(lines) - 1, 0, -1)]
    assert len(lines) < 110_000


def test_a_file_that_was_cut_or_begins_anew_is_read_from_its_start(file: Path, follows: Output) -> None:
    append(file, b"one\ntwo\n")
    everything(follows)
    follows.rest()
    freed(follows)
    follows.begin()
    assert file.stat().st_size == 0
    append(file, b"three\n")
    assert everything(follows) == ["three"]
    file.write_bytes(b"4\n")
    assert everything(follows) == ["4"]


def test_without_holes_the_file_is_cut(file: Path, follows: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holes_module, "_HOLE", 1 << 20)  # which no file system knows
    append(file, b"one\n" * 50_000)
    assert len(everything(follows)) == 50_000
    follows.rest()
    freed(follows)
    follows.rest()
    assert file.stat().st_size == 0
    append(file, b"two\n")
    assert everything(follows) == ["two"]


@given(st.lists(st.binary(max_size=40), max_size=12), st.data())
def test_however_it_is_written_and_read_each_line_comes_once(parts: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(parts)
    folder = os.environ["ORC_HOME"] + "-out"
    os.makedirs(folder, exist_ok=True)
    file = Path(folder, "x")
    file.unlink(missing_ok=True)
    holes = Holes()
    one, lines = Output(str(file), holes), []
    try:
        for part in parts:
            append(file, part)
            if data.draw(st.booleans()):
                lines += everything(one)
            if data.draw(st.booleans()) and one._fd >= 0:
                one._free()
        lines += everything(one)
        assert len(lines) == whole.count(b"\n")
        if whole.isalnum():
            assert lines == whole.decode().split("\n")[:-1]
    finally:
        one.close()
        holes.close(10)


def test_the_stream_rotates_by_size_and_keeps_so_many(home: Home) -> None:
    files.make_dir(home.logs)
    Path(home.config_file).write_text("team: {log: {max_mb: 1, keep: 2}}\n")
    settings, stream = config.load(home), Stream(home)
    try:
        for number in range(50):
            for _ in range(100):
                stream.add("a", f"{number} " + "x" * 990)
            stream.flush(settings)
        names = sorted(name for name in os.listdir(home.logs) if name.startswith("team.log"))
        assert names in (["team.log", "team.log.1", "team.log.2"], ["team.log.1", "team.log.2"])
        assert all(os.stat(f"{home.logs}/{name}").st_size < 1_300_000 for name in names)
        stamp, name, text = Path(path(home) + ".1").read_text().split("\n")[0].split(" ", 2)
        assert (len(stamp), stamp[-1], name, text[-1]) == (27, "Z", "a:", "x")
    finally:
        stream.close()


def test_the_stream_survives_its_files_removal_and_a_torn_line(home: Home) -> None:
    files.make_dir(home.logs)
    Path(path(home)).write_bytes(b"torn")
    settings, stream = config.load(home), Stream(home)
    try:
        stream.add("a", "one")
        stream.flush(settings)
        assert [line.partition(" ")[2] for line in Path(path(home)).read_text().split("\n")] == ["", "a: one", ""]
        os.unlink(path(home))
        stream.add("a", "two")
        stream.flush(settings)
        assert Path(path(home)).read_text().endswith(" a: two\n")
    finally:
        stream.close()


def test_who_follows_after_another_sees_nothing_that_is_just_being_given_back(
    file: Path, holes: Holes, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(file, b"old\n")
    before, after = Output(str(file), holes), Output(str(file), holes)
    assert everything(before) == ["old"]
    before.close()
    append(file, b"new\n")
    with monkeypatch.context() as patch:
        patch.setattr(holes, "is_done", lambda owner: owner != str(file))
        early = everything(after)
    freed(after)
    late = everything(after)
    after.close()
    assert (early, late) == ([], ["new"])
