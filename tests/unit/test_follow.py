"""Following: each line once and in order, whatever happens to the file, the day or the clock."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from support_faults import Faults
from tmux_orchestrator.eventlog import daylog, days, event, follow, reader
from tmux_orchestrator.eventlog.daylog import Log
from tmux_orchestrator.eventlog.follow import Follower, Place
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.errors import DataError, SystemFailure
from tmux_orchestrator.ground.paths import Home

DAY = daylog.DAY_NS
SECOND = 1_000_000_000
SOURCE = {"type": "agent", "identifier": "backend", "session": "s", "host": "h", "verified": False}


class World:
    """A log whose clock the test moves, and a follower that remembers what it saw."""

    def __init__(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = home
        self.at("2026-11-20 10:00:00")
        monkeypatch.setattr(clock, "now_ns", lambda: self.ns)
        self.log = Log(home, durable=False, now=lambda: self.ns)
        self.follower = Follower(home, Place())
        self.seen: list[str] = []

    def at(self, text: str) -> None:
        self.ns = int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000_000

    def write(self, *bodies: str) -> None:
        self.log.append([event.build(body, dict(SOURCE)) for body in bodies])

    def look(self) -> list[str]:
        """The bodies of what is new; what the log itself writes (steps of the clock) left out."""
        new = []
        while lines := self.follower.read():
            decoded = [reader.decode(line) for line in lines]
            new += [
                one["message"]["content"]["body"] for one in decoded if one and one["message"]["type"] != "clock_step"
            ]
        self.seen += new
        return new

    def again(self) -> None:
        """A new process, which has what was stored."""
        stored = json.loads(json.dumps(self.follower.place.to_list()))
        self.follower.close()
        place = follow.place_from(stored)
        assert place is not None
        self.follower = Follower(self.home, place)

    @property
    def file(self) -> str:
        return daylog.day_file(self.home, days.days(self.home)[-1])


@pytest.fixture
def world(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    clock.use_zone("UTC")
    made = World(home, monkeypatch)
    yield made
    made.follower.close()
    made.log.close()


@pytest.fixture(params=[False, True], ids=["one life", "restarted"])
def between(request: pytest.FixtureRequest, world: World) -> Callable[[], None]:
    """What happens between two looks: nothing, or the follower is restarted."""
    return world.again if request.param else lambda: None


def test_from_the_beginning_and_on(world: World, between: Callable[[], None]) -> None:
    assert world.look() == []
    world.write("a", "b")
    assert world.look() == ["a", "b"]
    between()
    assert world.look() == []
    world.write("c")
    assert world.look() == ["c"] and not world.follower.jumps


def test_from_the_end(world: World) -> None:
    assert follow.end_of_log(world.home).to_list() == Place().to_list()
    world.write("a", "b")
    with open(world.file, "ab") as file:
        file.write(b'{"id": "torn')
    place = follow.end_of_log(world.home)
    world.follower = Follower(world.home, place)
    assert place.last_seq == 2 and world.look() == []
    world.write("c")
    assert world.look() == ["c"]


@pytest.mark.parametrize("limit", [1, 100, 700, 1 << 20])
def test_any_limit_gives_whole_lines(world: World, limit: int) -> None:
    world.write("a", "b" * 5000, "c")
    lines: list[bytes] = []
    while new := world.follower.read(limit):
        lines += new
    assert b"\n".join(lines) + b"\n" == Path(world.file).read_bytes()


def test_a_line_is_handed_out_when_it_has_its_newline(world: World) -> None:
    world.write("a", "b")
    data = Path(world.file).read_bytes()
    os.truncate(world.file, 0)
    seen: list[bytes] = []
    for at in range(len(data)):
        with open(world.file, "ab") as file:
            file.write(data[at : at + 1])
        seen += world.follower.read()
        assert len(seen) == data[: at + 1].count(b"\n")
    assert b"\n".join(seen) + b"\n" == data


def test_damage_and_blank_lines_are_handed_on(world: World, between: Callable[[], None]) -> None:
    world.write("a")
    with open(world.file, "ab") as file:
        file.write(b"junk\n\n\n")
    world.look()
    between()
    world.write("b")
    assert world.look() == ["b"] and not world.follower.jumps


def test_lines_that_somebody_else_wrote(world: World, between: Callable[[], None]) -> None:
    world.write("a")
    with open(world.file, "ab") as file:
        file.write(b'{"timestamp":"2026-11-20T10:00:00Z","id":"theirs","message":{"content":{"body":"b"}}}\n')
    assert world.look() == ["a", "b"]
    between()
    world.write("c")
    assert world.look() == ["c"] and not world.follower.jumps


def test_endless_garbage_is_handed_on_in_pieces(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "LONGEST", 1 << 16)
    world.write("a")
    with open(world.file, "ab") as file:
        file.write(b"\0" * 1_000_000)
    world.look()
    assert world.follower.place.offset > 900_000
    world.write("b")
    world.look()
    world.write("c")
    assert world.look() == ["c"]


# days


def test_over_midnight(world: World, between: Callable[[], None]) -> None:
    world.write("a")
    world.look()
    world.write("b")
    world.ns += DAY
    world.write("c")
    between()
    assert world.look() == ["b", "c"]
    world.ns += 3 * DAY
    world.write("d")
    between()
    assert world.look() == ["d"] and not world.follower.jumps


def test_what_was_written_just_before_the_new_day_began(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that comes between the last look and the first sight of the new file is not stepped over."""
    world.write("a")
    world.look()

    def late(home: Home) -> list[str]:
        monkeypatch.setattr(follow, "days", days.days)
        world.write("b")
        world.ns += DAY
        world.write("c")
        return days.days(home)

    monkeypatch.setattr(follow, "days", late)
    assert world.look() == ["b", "c"]


def test_a_day_that_was_removed(world: World, between: Callable[[], None]) -> None:
    world.write("a")
    world.look()
    old = world.file
    world.ns += DAY
    world.write("b")
    os.unlink(old)
    between()
    assert world.look() == ["b"]


def test_the_newest_file_is_removed_and_an_older_one_is_not_read_again(
    world: World, between: Callable[[], None]
) -> None:
    world.write("a")
    world.ns += DAY
    world.write("b")
    assert world.look() == ["a", "b"]
    os.unlink(world.file)
    between()
    assert world.look() == [] and not world.follower.jumps
    world.write("c")
    assert world.look() == ["c"]


# the file is not the one that was read


def test_replaced_by_a_copy(world: World, between: Callable[[], None]) -> None:
    world.write("a", "b")
    world.look()
    Path(world.file + ".new").write_bytes(Path(world.file).read_bytes())
    os.rename(world.file + ".new", world.file)
    between()
    world.write("c")
    assert world.look() == ["c"]
    assert world.follower.jumps == ["the file of 2026-11-20 was replaced or cut: found the last id again"]


def test_replaced_by_something_else_is_read_again(world: World, between: Callable[[], None]) -> None:
    world.write("a", "b")
    world.look()
    os.rename(world.file, world.file + ".old")
    world.write("c")
    between()
    assert world.look() == ["c"]
    os.rename(world.file + ".old", world.file)
    assert world.look() == ["a", "b"], "twice rather than never"
    assert "from its start" in world.follower.jumps[-1]


@pytest.mark.parametrize("before", [False, True], ids=["from the first look on", "later"])
def test_a_link_in_its_place_is_not_followed(world: World, before: bool) -> None:
    world.write("a")
    if before:
        world.look()
    path = world.file
    os.rename(path, path + ".moved")
    os.symlink(path + ".moved", path)
    with pytest.raises(OSError):
        world.look()


def test_deleted_and_made_anew(world: World, between: Callable[[], None]) -> None:
    world.write("a", "b")
    world.look()
    os.unlink(world.file)
    assert world.look() == []
    world.write("c")
    between()
    assert world.look() == ["c"]


def test_cut_by_an_editor(world: World, between: Callable[[], None]) -> None:
    """Somebody takes the last lines out: what was before them was read, what comes is new."""
    world.write("a", "b", "c")
    world.look()
    os.truncate(world.file, len(Path(world.file).read_bytes().split(b"\n")[0]) + 1)
    between()
    assert world.look() == []
    world.write("d")
    assert world.look() == ["d"]
    assert world.follower.jumps == ["the file of 2026-11-20 was replaced or cut: going on behind what was read of it"]


def test_damage_that_was_read_is_taken_out(world: World, between: Callable[[], None]) -> None:
    """The last event stands where it stood; that the file is shorter is all that tells."""
    world.write("a")
    world.look()
    size = os.path.getsize(world.file)
    with open(world.file, "ab") as file:
        file.write(b"junk\n")
    world.look()
    os.truncate(world.file, size)
    between()
    assert world.look() == []
    world.write("b")
    assert world.look() == ["b"]


def test_emptied_and_filled_beyond_where_it_was(world: World, between: Callable[[], None]) -> None:
    world.write("a", "b", "c")
    world.look()
    os.truncate(world.file, 0)
    world.write("dddd" * 1000, "e")
    between()
    assert world.look() == ["dddd" * 1000, "e"] and len(world.follower.jumps) == 1


def test_a_batch_that_was_taken_back_after_it_was_read(world: World, between: Callable[[], None]) -> None:
    """The disk fills up in the middle of a batch, and a follower is quick."""
    world.write("a")
    world.look()
    real = os.ftruncate
    phantoms: list[str] = []

    def slow(fd: int, size: int) -> None:
        phantoms.extend(world.look())
        real(fd, size)

    os.ftruncate = slow
    try:
        with Faults("short", at=1, only=("write",)), pytest.raises(SystemFailure):
            world.write("b", "c", "d")
    finally:
        os.ftruncate = real
    assert phantoms == ["b"]
    between()
    world.write("e", "f" * 5000)
    assert world.look() == ["e", "f" * 5000] and "behind what was read" in world.follower.jumps[0]


@pytest.mark.parametrize("later", [SECOND, DAY])
def test_another_log_in_the_same_place(world: World, later: int) -> None:
    """A cursor that outlived its log must not hide what the new one has."""
    world.write("a", "b", "c")
    world.look()
    place = world.follower.place
    for folder in (world.home.events, world.home.run):
        for name in os.listdir(folder):
            os.unlink(f"{folder}/{name}")
    world.follower = Follower(world.home, place)
    world.log = Log(world.home, now=lambda: world.ns)
    for _ in range(2):
        world.ns += later
        world.write("d", "e")
    assert world.look() == ["d", "e", "d", "e"]


# clocks


def test_a_clock_that_was_far_ahead(world: World, between: Callable[[], None]) -> None:
    world.write("a")
    world.at("2030-01-01 00:00:00")
    world.write("b")
    assert world.look() == ["a", "b"]
    between()
    world.at("2026-11-20 12:00:00")
    world.write("c")
    assert world.look() == ["c"]
    assert world.follower.jumps == ["the clock was set back: going on in 2026-11-20"]
    between()
    world.at("2026-11-21 12:00:00")
    world.write("d")
    assert world.look() == ["d"]
    between()
    world.at("2029-12-31 12:00:00")
    world.write("e")
    assert world.look() == ["e"], "its day has come: what is in it was read before"
    assert world.seen == list("abcde")


def test_a_clock_that_was_far_behind(world: World, between: Callable[[], None]) -> None:
    for body in "ab":
        world.write(body)
        world.ns += DAY
    world.at("2026-11-21 12:00:00")
    world.look()
    between()
    world.at("1970-01-01 00:00:01")
    world.write("c")
    between()
    assert world.look() == ["c"]
    world.at("2026-11-21 13:00:00")
    world.write("d")
    between()
    assert world.look() == ["d"]
    assert world.seen == list("abcd")


def test_hours_back_over_midnight(world: World, between: Callable[[], None]) -> None:
    world.at("2026-11-21 01:00:00")
    world.write("a")
    world.look()
    world.at("2026-11-20 23:00:00")
    world.write("b")
    between()
    assert world.look() == ["b"]
    world.at("2026-11-21 00:00:01")
    world.write("c")
    assert world.look() == ["c"]


# cursor files


def test_a_cursor_file(tmp_path: Path, world: World) -> None:
    path = f"{tmp_path}/deep/cursor"
    assert follow.load_place(path) is None
    world.write("a")
    world.look()
    follow.save_place(path, world.follower.place)
    loaded = follow.load_place(path)
    assert loaded is not None and loaded.to_list() == world.follower.place.to_list() == loaded.copy().to_list()
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_a_cursor_of_four_parts_counts(tmp_path: Path, world: World) -> None:
    world.write("a")
    world.look()
    Path(tmp_path / "cursor").write_text(json.dumps(world.follower.place.to_list()[:4]))
    world.follower = Follower(world.home, follow.load_place(f"{tmp_path}/cursor") or Place())
    world.write("b")
    assert world.look() == ["b"]


def test_an_empty_file_is_a_new_cursor(tmp_path: Path) -> None:
    (tmp_path / "cursor").touch()
    assert follow.load_place(f"{tmp_path}/cursor") is None


@pytest.mark.parametrize(
    "junk", [b"x", b"[]", b"{}", b'["2026-11-20", 1, 2]', b'["2026-11-20", 1, 2, 3]', b"\xff", b"[" * 9999]
)
def test_what_is_no_cursor_is_not_overwritten(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "precious"
    path.write_bytes(junk)
    with pytest.raises(DataError):
        follow.load_place(str(path))


@pytest.mark.parametrize("value", [None, 1, "x", [], ["a", 1, 2, "b", "c"], ["a", True, 2, "b"], {"a": 1}])
def test_what_is_no_place(value: Any) -> None:
    assert follow.place_from(value) is None
