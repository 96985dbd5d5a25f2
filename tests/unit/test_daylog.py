"""Appending: every rule of the log, one by one. What processes do to each other is proven in tests/proof."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from support_faults import Faults, Killed
from tmux_orchestrator.eventlog import chosen, daylog, days, event, reader
from tmux_orchestrator.eventlog.daylog import Log
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.errors import DataError, OrcError, SystemFailure, TryLater
from tmux_orchestrator.ground.locks import Lock
from tmux_orchestrator.ground.paths import Home

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
SOURCE = {"type": "agent", "identifier": "backend", "session": "s", "host": "h", "verified": False}


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


class Clock:
    """A wall clock that tests move; the system's is moved with it, for readers ask it what is in the future."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
        self.ns = at(text)
        monkeypatch.setattr(clock, "now_ns", lambda: self.ns)

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock.use_zone("UTC")
    yield Clock(monkeypatch, "2026-11-20 10:30:45")
    clock.use_zone("")


def made(body: str = "text", **fields: Any) -> dict[str, Any]:
    return event.build(body, dict(SOURCE)) | fields


def stored(home: Home, day: str = "") -> list[dict[str, Any]]:
    """The events of a day, or of all days."""
    found = []
    for one in [day] if day else days.days(home, clock.now_ns() + 400 * daylog.DAY_NS):
        data = Path(daylog.day_file(home, one)).read_bytes()
        found += [told for line in data.split(b"\n") if (told := reader.decode(line))]
    return found


def bodies(home: Home, day: str = "") -> list[str]:
    return [one["message"]["content"]["body"] for one in stored(home, day)]


def test_a_line_as_it_stands(home: Home, now: Clock) -> None:
    log = Log(home, now=now)
    ids = log.append([made("naïve 🚨\n\x1b", mine=1)])
    line = Path(home.events + "/2026-11-20.jsonl").read_bytes()
    head = f'{{"id": "{ids[0]}", "seq": 1, "timestamp": "2026-11-20T10:30:45.000000Z", "source": {{"type": "agent"'
    assert line.startswith(head.encode()) and line.endswith(b"}\n") and line.isascii() and line.count(b"\n") == 1
    assert json.loads(line)["mine"] == 1 and bodies(home) == ["naïve 🚨\n\x1b"]


def test_what_the_log_stamps_is_the_logs(home: Home, now: Clock) -> None:
    Log(home, now=now).append([made(id="my-own-id", seq=99, timestamp="1999-01-01T00:00:00Z")])
    told = stored(home)[0]
    assert (told["id"], told["seq"], told["timestamp"]) == ("my-own-id", 1, "2026-11-20T10:30:45.000000Z")


def test_sequence_goes_on_between_writers_and_after_a_new_start(home: Home, now: Clock) -> None:
    first, second = Log(home, now=now), Log(home, now=now)
    for number in range(6):
        (first, second)[number % 2].append([made(str(number)), made(str(number))])
    Log(home, now=now).append([made("6")])
    assert [one["seq"] for one in stored(home)] == list(range(1, 14))
    assert bodies(home) == [str(n // 2) for n in range(13)]


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777], ids=oct)
def test_modes(home: Home, umask: int) -> None:
    before = os.umask(umask)
    try:
        Log(home).append([made(id="my-own-id")])
    finally:
        os.umask(before)
    for folder, names, files in os.walk(home.root):
        for name in names:
            assert stat.S_IMODE(os.stat(f"{folder}/{name}").st_mode) == 0o700, name
        for name in files:
            path = f"{folder}/{name}"
            assert os.path.islink(path) or stat.S_IMODE(os.stat(path).st_mode) & ~0o600 == 0, name


def test_today_is_linked(home: Home, now: Clock) -> None:
    log = Log(home, now=now)
    log.append([made("a")])
    assert os.readlink(home.logs + "/today.jsonl") == "events/2026-11-20.jsonl"
    now.ns = at("2026-11-21 00:00:00")
    log.append([made("b")])
    assert Path(home.logs + "/today.jsonl").read_bytes() == Path(home.events + "/2026-11-21.jsonl").read_bytes()
    os.unlink(home.logs + "/today.jsonl")  # whoever made the file died before the link
    Log(home, now=now).append([made("c")])
    assert os.readlink(home.logs + "/today.jsonl") == "events/2026-11-21.jsonl"
    os.unlink(home.logs + "/today.jsonl")
    Path(home.logs + "/today.jsonl").write_text("somebody's own")
    Log(home, now=now).append([made("d")])
    assert Path(home.logs + "/today.jsonl").read_text() == "somebody's own"


# what is refused


def test_a_batch_is_stored_whole_or_not_at_all(home: Home) -> None:
    log = Log(home)
    for bad in (made(""), made(id="no"), made(id=7), made(x=float("nan")), made("x" * event.MAX_LINE)):
        with pytest.raises(DataError):
            log.append([made("good"), bad])
    assert not os.path.exists(home.events)


def test_a_line_is_at_most_256_kib(home: Home) -> None:
    log = Log(home)
    low, high = 0, event.MAX_LINE
    while high - low > 1:
        middle = (low + high) // 2
        try:
            daylog.prepare(made("x" * middle, id="i" * 128))
            low = middle
        except DataError:
            high = middle
    log.append([made("x" * low, id="i" * 128)])
    longest = len(Path(daylog.day_file(home, days.days(home)[0])).read_bytes())
    assert event.MAX_LINE - 256 < longest <= event.MAX_LINE
    with pytest.raises(DataError, match="256 KiB"):
        log.append([made("\x01" * (event.MAX_LINE // 6))])  # it is the written form that counts


def test_a_busy_lock(home: Home) -> None:
    log = Log(home, lock_timeout=0.02)
    with Lock(home.run + "/log.lock"), pytest.raises(TryLater):
        log.append([made()])
    assert log.append([made()])


def test_links_in_place_of_files(home: Home, now: Clock, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.touch()
    os.makedirs(home.events)
    os.symlink(other, home.events + "/2026-11-20.jsonl")
    with pytest.raises(SystemFailure):
        Log(home, now=now).append([made()])
    os.unlink(home.events + "/2026-11-20.jsonl")
    log = Log(home, now=now)
    log.append([made()])
    os.rename(home.events + "/2026-11-20.jsonl", tmp_path / "moved")
    os.symlink(other, home.events + "/2026-11-20.jsonl")
    with pytest.raises(SystemFailure):
        log.append([made()])
    assert other.read_bytes() == b""


# ids that callers choose


def test_a_chosen_id_is_stored_once(home: Home, now: Clock) -> None:
    log = Log(home, now=now)
    assert log.append([made("a", id="build-1"), made("b"), made("c", id="build-1")])[::2] == ["build-1"] * 2
    assert Log(home, now=now).append([made("d", id="build-1")]) == ["build-1"]
    now.ns += 6 * daylog.DAY_NS
    assert log.append([made("e", id="build-1"), made("f")])[0] == "build-1"
    assert bodies(home) == ["a", "b", "f"]
    now.ns += 3 * daylog.DAY_NS
    log.append([made("g", id="build-1")])
    assert bodies(home)[-1] == "g"


def test_an_id_of_yesterday_is_on_disk_before_it_is_said_to_be_stored(
    home: Home, now: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever wrote it may have died before its sync, and a new day's file says nothing of the old one."""
    Log(home, durable=False, now=now).append([made("a", id="build-1")])
    now.ns += daylog.DAY_NS
    synced: list[str] = []
    monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    Log(home, now=now).append([made("b", id="build-1")])
    assert home.events + "/2026-11-20.jsonl" in synced and bodies(home) == ["a"]


def test_a_mark_without_its_event_counts_for_nothing(home: Home, now: Clock) -> None:
    log = Log(home, now=now)
    log.append([made("a")])
    with Faults("killed", at=1, only=("write",)), pytest.raises(Killed):
        log.append([made("b", id="build-1")])
    assert os.listdir(home.run + "/ids") == ["build-1"]
    Log(home, now=now).append(
        [event.build("no", SOURCE, context={"id": "build-1", "x": 1})]
    )  # stands where it points to
    Log(home, now=now).append([made("c", id="build-1")])
    Log(home, now=now).append([made("d", id="build-1")])
    assert bodies(home) == ["a", "no", "c"]
    os.unlink(home.events + "/2026-11-20.jsonl")
    Log(home, now=now).append([made("e", id="build-1")])
    assert bodies(home) == ["e"]


def test_a_torn_line_is_no_event(home: Home, now: Clock) -> None:
    """It begins with the id, and whoever comes next ends it."""
    log = Log(home, now=now)
    log.append([made("a", id="build-1")])
    path = home.events + "/2026-11-20.jsonl"
    os.truncate(path, os.path.getsize(path) - 40)
    Log(home, now=now).append([made("b")])
    Log(home, now=now).append([made("c", id="build-1")])
    assert bodies(home) == ["b", "c"]


def test_a_mark_that_leads_through_a_link_counts_for_nothing(home: Home, now: Clock) -> None:
    """No reader follows it either."""
    Log(home, now=now).append([made("a", id="build-1")])
    path = home.events + "/2026-11-20.jsonl"
    os.rename(path, path + ".moved")
    os.symlink(path + ".moved", path)
    now.ns += daylog.DAY_NS
    Log(home, now=now).append([made("b", id="build-1")])
    assert bodies(home, "2026-11-21") == ["b"]


def test_old_marks_are_forgotten(home: Home, now: Clock) -> None:
    log = Log(home, now=now)
    log.append([made("a", id="build-1"), made("b", id="build-2")])
    for name, age in (("build-1", 10), ("build-2", 6)):
        when = (now.ns - age * daylog.DAY_NS) // SECOND
        os.utime(f"{home.run}/ids/{name}", (when, when), follow_symlinks=False)
    assert chosen.forget(home, now.ns) == 1 and os.listdir(home.run + "/ids") == ["build-2"]
    assert daylog.forget_ids(Home(home.root + "/none"), now.ns) == 0


# torn lines and files that others changed


def test_a_torn_last_line_is_closed_before_the_next(home: Home, now: Clock) -> None:
    log = Log(home, now=now)
    log.append([made("a"), made("b")])
    path = home.events + "/2026-11-20.jsonl"
    os.truncate(path, os.path.getsize(path) - 5)
    log.append([made("c")])
    data = Path(path).read_bytes()
    assert data.count(b"\n") == 3 and bodies(home) == ["a", "c"]
    assert [one["seq"] for one in stored(home)] == [1, 3]  # the record had counted it


def test_a_line_that_only_lacks_its_newline_is_an_event(home: Home, now: Clock) -> None:
    log = Log(home, now=now)
    log.append([made("a"), made("b")])
    path = home.events + "/2026-11-20.jsonl"
    os.truncate(path, os.path.getsize(path) - 1)
    log.append([made("c")])
    assert bodies(home) == ["a", "b", "c"] and [one["seq"] for one in stored(home)] == [1, 2, 3]


FOREIGN = [
    b"garbage\n", b"\n", b"torn", b"\0" * 70_000, b'{"id": "x"}\n', b"\xff\xfe\n", b'{"seq": 5}\n',
    b'{"seq": 1e400, "timestamp": "2026-11-20T10:30:45.000000Z"}\n',
    b'{"seq": true, "timestamp": "2026-11-20T10:30:45.000000Z"}\n',
    b'{"seq": -7, "timestamp": "2026-11-20T10:30:45.000000Z"}\n',
    b'{"seq": 999999999999999999999, "timestamp": "2026-11-20T10:30:45.000000Z"}\n',
    b'{"seq": 9, "timestamp": "now"}\n', b'{"seq": 9, "timestamp": null}\n', b"[" * 5000 + b"\n", b'"x"\n',
    b'{"x": "' + b"y" * 300_000 + b'"}\n',
]  # fmt: skip


@pytest.mark.parametrize("junk", FOREIGN, ids=range(len(FOREIGN)))
@pytest.mark.parametrize("lost", [False, True], ids=["", "lock lost"])
def test_what_others_put_into_the_file_is_stepped_over(home: Home, now: Clock, junk: bytes, lost: bool) -> None:
    log = Log(home, now=now)
    log.append([made("a"), made("b")])
    with open(home.events + "/2026-11-20.jsonl", "ab") as file:
        file.write(junk)
    if lost:
        os.unlink(home.run + "/log.lock")
    log.append([made("c")])
    assert bodies(home) == ["a", "b", "c"] and [one["seq"] for one in stored(home)] == [1, 2, 3]


def test_an_event_that_somebody_else_wrote_counts(home: Home, now: Clock) -> None:
    log = Log(home, now=now)
    log.append([made("a")])
    theirs = made("b") | {"id": "abcdef", "seq": 7, "timestamp": "2026-11-20T10:30:46Z"}
    with open(home.events + "/2026-11-20.jsonl", "ab") as file:
        file.write(json.dumps(theirs).encode() + b"\n")
    now.ns += 5 * SECOND
    log.append([made("c")])
    assert [one["seq"] for one in stored(home)] == [1, 7, 8]


@pytest.mark.parametrize("how", ["deleted", "moved", "replaced", "emptied"])
def test_a_file_that_others_took_away(home: Home, now: Clock, how: str) -> None:
    log = Log(home, now=now)
    log.append([made("a")])
    path = home.events + "/2026-11-20.jsonl"
    if how == "deleted":
        os.unlink(path)
    elif how == "moved":
        os.rename(path, path + ".old")
    elif how == "replaced":
        Path(path + ".new").write_bytes(Path(path).read_bytes())
        os.rename(path + ".new", path)
    else:
        os.truncate(path, 0)
    log.append([made("b")])
    assert bodies(home) == (["a", "b"] if how == "replaced" else ["b"])
    assert stored(home)[-1]["seq"] == 2


def test_a_file_that_another_writer_has_seen_replaced(home: Home, now: Clock) -> None:
    first, second = Log(home, now=now), Log(home, now=now)
    first.append([made("a")])
    path = home.events + "/2026-11-20.jsonl"
    Path(path + ".new").write_bytes(Path(path).read_bytes())
    os.rename(path + ".new", path)
    second.append([made("b")])
    first.append([made("c")])
    assert bodies(home) == ["a", "b", "c"] and [one["seq"] for one in stored(home)] == [1, 2, 3]


def test_a_replaced_file_of_the_same_size_is_looked_at_until_an_append_has_ended(home: Home, now: Clock) -> None:
    log = Log(home, now=now)
    log.append([made("a")])
    path = home.events + "/2026-11-20.jsonl"
    size = os.path.getsize(path)
    Path(path + ".new").write_bytes(b"torn".rjust(size))
    os.rename(path + ".new", path)
    with Faults("ENOSPC", at=1, only=("write",)), pytest.raises(SystemFailure):
        log.append([made("b")])
    log.append([made("c")])
    assert bodies(home) == ["c"] and Path(path).read_bytes()[size : size + 1] == b"\n"


def test_a_folder_that_somebody_moves_takes_the_lock_along(home: Home, now: Clock) -> None:
    log = Log(home, now=now, lock_timeout=0)
    log.append([made("a")])
    os.rename(home.run, home.run + ".old")
    now.ns += SECOND
    with Lock(home.run + "/log.lock"), pytest.raises(TryLater):
        log.append([made("b")])
    log.append([made("c")])
    Log(home, now=now).append([made("d")])
    assert bodies(home) == ["a", "c", "d"] and [one["seq"] for one in stored(home)] == [1, 2, 3]


@pytest.mark.parametrize("junk", [b"", b"x", b"2026-11-20 1 2 3\n", b"2026-11-20 a b c d\n", b"\0" * 200, b"9" * 5000])
def test_the_lock_files_record_may_be_anything(home: Home, now: Clock, junk: bytes) -> None:
    Log(home, now=now).append([made("a")])
    Path(home.run + "/log.lock").write_bytes(junk)
    Log(home, now=now).append([made("b")])
    assert [one["seq"] for one in stored(home)] == [1, 2]


def test_a_record_of_which_only_a_part_was_written_matches_no_file(home: Home, now: Clock) -> None:
    log = Log(home, now=now)
    for number in range(12):  # numbers gain digits on the way
        before = Path(home.run + "/log.lock").read_bytes() if number else b""
        log.append([made(str(number))])
        after = Path(home.run + "/log.lock").read_bytes()
        for cut in range(len(after) - 1):
            mixed = after[:cut] + before[cut:]
            end = daylog._End(mixed)
            if end.day and end.size == daylog._End(after).size:
                assert (end.seq, end.inode) == (daylog._End(after).seq, daylog._End(after).inode)


def test_the_disk_may_refuse_the_record(home: Home, now: Clock) -> None:
    log = Log(home, now=now)
    with Faults("ENOSPC", at=1, only=("pwrite",)) as faults:
        log.append([made("a")])
        assert faults.calls == 1
    log.append([made("b")])
    Log(home, now=now).append([made("c")])
    assert [one["seq"] for one in stored(home)] == [1, 2, 3]


# faults


@pytest.mark.parametrize("how", ["ENOSPC", "EIO", "short", "killed", "torn"])
@pytest.mark.parametrize("first", [False, True], ids=["", "first of all"])
def test_a_fault_at_every_call(home: Home, now: Clock, how: str, first: bool) -> None:
    """Nothing acknowledged is lost, nothing refused is there as half, and the next append is whole."""
    at_call = 0
    while True:
        at_call += 1
        here = Home(f"{home.root}/{how}{at_call}")
        log, told = Log(here, now=now), ["a"]
        if first:
            told = []
        else:
            log.append([made("a")])
        with Faults(how, at_call) as faults:
            try:
                log.append([made("b", id="build-1"), made("c")])
                told += ["b", "c"]
            except (OrcError, Killed) as error:
                assert isinstance(error, SystemFailure | Killed), error
        again = Log(here, now=now) if how in ("killed", "torn") else log
        again.append([made("d")])
        told.append("d")
        found = bodies(here)
        assert [body for body in found if body in told] == told, f"at {at_call} of {faults.told}"
        numbers = [one["seq"] for one in stored(here)]
        assert numbers == sorted(set(numbers))
        if how not in ("killed", "torn"):
            assert all(
                reader.decode(line) for line in Path(daylog.day_file(here, "2026-11-20")).read_bytes().splitlines()
            )
        if faults.calls < at_call:
            break
    assert at_call > (10 if first else 6)


def test_a_short_write_leaves_nothing(home: Home, now: Clock) -> None:
    log = Log(home, now=now)
    log.append([made("a")])
    before = Path(home.events + "/2026-11-20.jsonl").read_bytes()
    with Faults("short", at=1, only=("write",)), pytest.raises(SystemFailure, match="No space left"):
        log.append([made("b" * 1000), made("c" * 100)])
    assert Path(home.events + "/2026-11-20.jsonl").read_bytes() == before
    log.append([made("d")])
    assert bodies(home) == ["a", "d"]


def test_numbers_that_were_there_to_be_read_are_spent(home: Home, now: Clock) -> None:
    """A follower may have read the events of a batch that was taken back: what comes then must be new to it."""
    log = Log(home, now=now)
    log.append([made("a")])
    with Faults("short", at=1, only=("write",)), pytest.raises(SystemFailure):
        log.append([made("b"), made("c"), made("d")])
    log.append([made("e")])
    Log(home, now=now).append([made("f")])
    assert [(one["seq"], one["message"]["content"]["body"]) for one in stored(home)] == [(1, "a"), (5, "e"), (6, "f")]


def test_a_refused_sync_is_a_failure_and_never_asked_twice(home: Home) -> None:
    log = Log(home)
    log.append([made("a")])
    with Faults("EIO", at=1, only=("fdatasync",)) as faults:
        with pytest.raises(SystemFailure, match="may be lost"):
            log.append([made("b")])
        assert faults.calls == 1


def test_a_short_write_is_not_taken_back_from_under_somebody_else(
    home: Home, now: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script that knows no lock wrote behind the half event: its line stays."""
    log, real = Log(home, now=now), os.write
    log.append([made("a")])
    path = home.events + "/2026-11-20.jsonl"

    def short(fd: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", real)
        done = real(fd, bytes(data)[: len(data) // 2])
        with open(path, "ab") as file:
            file.write(b"\ntheirs\n")
        return done

    monkeypatch.setattr(os, "write", short)
    with pytest.raises(SystemFailure):
        log.append([made("b")])
    log.append([made("c")])
    assert b"\ntheirs\n" in Path(path).read_bytes() and bodies(home) == ["a", "c"]


def test_the_folder_of_a_new_file_is_on_disk_before_its_first_line(
    home: Home, now: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, done = Log(home, now=now), list[str]()
    log.append([made("a")])
    sync, write = os.fsync, os.write

    def synced(fd: int) -> None:
        done.append("sync " + os.readlink(f"/proc/self/fd/{fd}"))
        sync(fd)

    def written(fd: int, data: bytes) -> int:
        done.append("write " + os.readlink(f"/proc/self/fd/{fd}"))
        return write(fd, data)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "write", written)
    now.ns += daylog.DAY_NS
    log.append([made("b")])
    assert done == ["sync " + home.events, f"write {home.events}/2026-11-21.jsonl"]


def test_what_is_synced_and_when(home: Home) -> None:
    log = Log(home)
    with Faults("none", at=0) as faults:
        log.append([made("a")])
        first = faults.told
        assert first[-3:] == ["write", "pwrite", "fdatasync"]
        assert "fsync" in first[first.index("symlink") - 2 :], "the folder of a new file, before its first line"
        faults.told.clear()
        log.append([made("b"), made("c")])
        assert faults.told == ["write", "pwrite", "fdatasync"]
        faults.told.clear()
        log.append([made("d", id="build-1")])
        assert faults.told[-5:] == ["symlink", "write", "pwrite", "fsync", "fdatasync"]
        faults.told.clear()
        log.append([made("d", id="build-1")])
        assert set(faults.told) == {"fdatasync"}
    with Faults("none", at=0) as faults:
        Log(home, durable=False).append([made("e")])
        assert faults.told == ["write", "pwrite"]


def test_the_lock_is_free_while_the_disk_syncs(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    log, free = Log(home), []

    def sync(fd: int) -> None:
        with Lock(home.run + "/log.lock", timeout=0):
            free.append(True)

    log.append([made("a")])
    monkeypatch.setattr(os, "fdatasync", sync)
    log.append([made("b")])
    assert free == [True]


# days and clocks


def test_a_new_day_is_a_new_file(home: Home, now: Clock) -> None:
    log = Log(home, now=now)
    now.ns = at("2026-11-20 23:59:59") + 999_999_000
    log.append([made("a")])
    now.ns += 1000
    log.append([made("b")])
    assert bodies(home, "2026-11-20") == ["a"] and bodies(home, "2026-11-21") == ["b"]
    assert [one["seq"] for one in stored(home)] == [1, 2]


def test_the_day_is_chosen_when_the_lock_is_had(home: Home, now: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    log, real = Log(home, now=now), Lock.acquire
    now.ns = at("2026-11-20 23:59:59")
    log.append([made("a")])

    def waited(lock: Lock) -> int:
        now.ns = at("2026-11-21 00:00:01")
        return real(lock)

    monkeypatch.setattr(Lock, "acquire", waited)
    log.append([made("b")])
    assert bodies(home, "2026-11-20") == ["a"] and bodies(home, "2026-11-21") == ["b"]
    assert stored(home)[-1]["timestamp"] == "2026-11-21T00:00:01.000000Z"


def test_the_day_is_that_of_the_homes_zone(home: Home, now: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/Los_Angeles")  # the caller's: counts for nothing
    clock.use_zone("Asia/Tokyo")
    now.ns = at("2026-11-20 15:00:00")
    Log(home, now=now).append([made()])
    assert days.days(home) == ["2026-11-21"] and os.environ["TZ"] == "America/Los_Angeles"
    assert stored(home)[0]["timestamp"] == "2026-11-20T15:00:00.000000Z"


def test_a_writer_that_died_on_the_last_event_of_a_day(home: Home, now: Clock) -> None:
    log = Log(home, now=now)
    log.append([made("a")])
    with Faults("killed", at=1, only=("pwrite",)), pytest.raises(Killed):
        log.append([made("b")])
    now.ns += daylog.DAY_NS
    Log(home, now=now).append([made("c")])
    assert [(one["seq"], one["message"]["content"]["body"]) for one in stored(home)] == [(1, "a"), (2, "b"), (3, "c")]


def test_a_small_step_back_is_absorbed(home: Home, now: Clock) -> None:
    log = Log(home, now=now)
    log.append([made("a")])
    now.ns -= 2 * SECOND
    log.append([made("b")])
    Log(home, now=now).append([made("c")])
    assert {one["timestamp"] for one in stored(home)} == {"2026-11-20T10:30:45.000000Z"}
    assert bodies(home) == ["a", "b", "c"] and not days.stepped(home)


def test_a_larger_step_back_is_told_once_and_noted(home: Home, now: Clock) -> None:
    log = Log(home, now=now)
    log.append([made("a")])
    now.ns -= 2 * HOUR
    log.append([made("b")])
    Log(home, now=now).append([made("c")])
    told = stored(home)
    assert [one["message"]["type"] for one in told] == ["notification", "clock_step", "notification", "notification"]
    assert [one["seq"] for one in told] == [1, 2, 3, 4]
    assert told[1]["message"]["content"]["context"] == {
        "from": "2026-11-20T10:30:45.000000Z",
        "to": "2026-11-20T08:30:45.000000Z",
    }
    assert told[2]["timestamp"] == "2026-11-20T08:30:45.000000Z" and days.stepped(home) == {"2026-11-20"}


def test_a_step_back_is_noted_before_a_reader_can_see_it(
    home: Home, now: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, real, noted = Log(home, now=now), os.write, list[set[str]]()
    log.append([made("a")])
    now.ns -= 2 * HOUR

    def write(fd: int, data: bytes) -> int:
        if b"clock_step" in bytes(data):
            noted.append(days.stepped(home))
        return real(fd, data)

    monkeypatch.setattr(os, "write", write)
    log.append([made("b")])
    assert noted == [{"2026-11-20"}]


def test_never_a_day_before_the_newest_file(home: Home, now: Clock) -> None:
    log = Log(home, now=now)
    now.ns = at("2026-11-21 00:30:00")
    log.append([made("a")])
    now.ns = at("2026-11-20 22:30:00")
    log.append([made("b")])
    os.unlink(home.run + "/log.lock")
    Log(home, now=now).append([made("c")])
    assert days.days(home) == ["2026-11-21"]
    assert [body for body in bodies(home) if len(body) == 1] == ["a", "b", "c"]


def test_a_file_far_ahead_is_left_aside_until_its_day_is_near(home: Home, now: Clock) -> None:
    log = Log(home, now=now)
    log.append([made("a")])
    now.ns = at("2026-11-30 12:00:00")  # the clock is wrong
    log.append([made("b")])
    now.ns = at("2026-11-20 12:00:00")
    log.append([made("c")])
    assert days.days(home) == ["2026-11-20"]
    assert [one for one in bodies(home, "2026-11-20") if len(one) == 1] == ["a", "c"]
    assert [one["seq"] for one in stored(home, "2026-11-20")] == [1, 3, 4]  # 2 is b, 3 tells the step
    now.ns = at("2026-11-28 23:59:59")
    log.append([made("d")])
    assert days.days(home)[-1] == "2026-11-28"
    now.ns = at("2026-11-29 00:00:00")  # now followers take the file of the 30th for the newest: so do writers
    log.append([made("e")])
    Log(home, now=now).append([made("f")])
    assert [one for one in bodies(home, "2026-11-30") if len(one) == 1] == ["b", "e", "f"]
    seqs = [one["seq"] for one in stored(home, "2026-11-30")]
    assert seqs == sorted(set(seqs))


def test_a_clock_far_behind(home: Home, now: Clock) -> None:
    log = Log(home, now=now)
    log.append([made("a")])
    now.ns = at("1970-01-01 00:00:05")
    log.append([made("b")])
    now.ns = at("2026-11-20 11:00:00")
    log.append([made("c")])
    assert days.days(home) == ["1970-01-01", "2026-11-20"]
    assert [one for one in bodies(home, "2026-11-20") if len(one) == 1] == ["a", "c"]
    assert sorted(one["seq"] for one in stored(home)) == [1, 2, 3, 4]


@pytest.mark.parametrize("name", ["2026-11-20", "0001-01-01", "9999-12-31"])
def test_names_of_days(name: str) -> None:
    assert days.is_day(name)


@pytest.mark.parametrize(
    "name", ["", "2026-11-2", "2026-13-01", "2026-00-01", "2026-01-32", "2026/01/01", "x026-01-01", "２026-01-01"]
)
def test_names_of_nothing(name: str, home: Home) -> None:
    assert not days.is_day(name)
    os.makedirs(home.events)
    Path(home.events + f"/{name.replace('/', '_')}.jsonl").touch()
    assert days.days(home) == []


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000001Z", 1000),
        ("2026-11-20T10:30:45.123456Z", at("2026-11-20 10:30:45") + 123_456_000),
        ("2024-02-29T23:59:59.5Z", at("2024-02-29 23:59:59") + SECOND // 2),
        ("2026-11-20T10:30:45.1234567891Z", at("2026-11-20 10:30:45") + 123_456_789),
    ],
)
def test_stamps(text: str, ns: int) -> None:
    assert clock.parse_stamp(text) == ns
    assert clock.parse_stamp(clock.stamp(ns)) == ns // 1000 * 1000


@pytest.mark.parametrize(
    "text", ["", "2026-11-20", "2026-11-20T10:30:45", "2026-11-20 10:30:45Z", "x" * 27, "2026-11-20T10:30:45,5Z"]
)
def test_no_stamps(text: str) -> None:
    with pytest.raises(ValueError):
        clock.parse_stamp(text)
