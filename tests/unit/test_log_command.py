"""orc-log: whole files are called whole, each kind of damage is found where it is, and old days go, no others."""

from __future__ import annotations

import os
import random
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tmux_orchestrator.eventlog import event, reader, retention
from tmux_orchestrator.eventlog.daylog import Log
from tmux_orchestrator.eventlog.days import DAY_NS
from tmux_orchestrator.ground import clock, files
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.insight import daycheck

SOURCE = {"type": "human", "identifier": "ann", "session": None, "host": "h", "verified": False}


class Days:
    """A log whose clock the test moves."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.now = clock.now_ns()
        self.log = Log(home, durable=False, now=lambda: self.now)

    def add(self, count: int, **more: Any) -> None:
        for number in range(count):
            self.log.append([event.build(f"message {number} é ☃", dict(SOURCE), **more)])

    @property
    def day(self) -> str:
        return clock.local_day(self.now)

    @property
    def file(self) -> Path:
        return Path(self.home.events, f"{self.day}.jsonl")

    def append(self, data: bytes) -> None:
        with self.file.open("ab") as file:
            file.write(data)


@pytest.fixture
def log(home: Home) -> Iterator[Days]:
    made = Days(home)
    yield made
    made.log.close()


def found(home: Home, *days: str) -> list[tuple[str, int, int]]:
    return [(one.kind, one.offset, one.line) for one in daycheck.check(home, days or None).found]


def test_a_whole_log_is_whole(home: Home, log: Days) -> None:
    assert daycheck.check(home).found == []
    log.now -= 2 * DAY_NS
    for _ in range(3):
        log.add(5)
        log.now += DAY_NS
    told = daycheck.check(home)
    assert told.found == [] and (told.files, told.events) == (3, 15)
    assert told.size == sum(os.stat(f"{home.events}/{name}").st_size for name in os.listdir(home.events))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON"),
        (b"[1]", "an event is a JSON object"),
        (b"\xff\xfe", "not JSON"),
        (b"\0" * 40, "not JSON"),
        (b'{"id": "abcdefgh", "timestamp": "2026-11-20T10:00:00Z", "to": 3}', "to is not an object"),
        (b'{"seq": 1, "timestamp": "2026-11-20T10:00:00Z"}', "no id"),
        (b'{"id": "abcdefgh", "seq": 1}', "no timestamp"),
        (b'{"id": "abcdefgh", "seq": "1", "timestamp": "2026-11-20T10:00:00Z"}', "another type of seq"),
        (b'{"id": "abcdefgh", "seq": 2, "timestamp": "yesterday"}', "'yesterday' is no timestamp"),
    ],
)
def test_a_damaged_line_is_found_with_offset_and_reason(home: Home, log: Days, line: bytes, reason: str) -> None:
    log.add(2)
    offset = log.file.stat().st_size
    log.append(line + b"\n")
    log.add(2)
    (one,) = daycheck.check(home).found
    assert (one.kind, one.offset, one.line) == ("damaged", offset, 3)
    assert reason in one.reason, one.reason
    assert log.file.read_bytes()[one.offset :].startswith(line)
    assert f"{log.file}: byte {offset}, line 3: damaged:" in one.text()


def test_what_readers_step_over_is_what_is_called_damaged(home: Home, log: Days) -> None:
    """Cut a line at every byte, with more lines behind it: the check and the readers agree."""
    log.add(1)
    whole = log.file.read_bytes()
    line = whole.removesuffix(b"\n")
    for cut in range(len(line)):
        log.file.write_bytes(line[:cut] + b"\n")
        query = reader.Query()
        assert list(reader.search(home, query)) == []
        assert len(found(home)) == query.damaged == (cut > 0), cut


def test_blank_lines_and_lines_of_others_are_none(home: Home, log: Days) -> None:
    log.add(1)
    log.append(b'\n\n{"id": "by-hand-1", "timestamp": "2026-11-20T10:00:00Z"}\n')
    log.add(1)
    assert found(home) == []


def test_a_torn_end_is_told_until_the_next_append_closes_it(home: Home, log: Days) -> None:
    log.add(2)
    offset = log.file.stat().st_size
    log.append(b'{"id": "to')
    assert found(home) == [("torn", offset, 3)]
    log.add(1)
    assert found(home) == [("damaged", offset, 3)]


def test_a_line_that_is_just_being_written_is_not_torn(home: Home, log: Days) -> None:
    """An append holds the lock: what looks torn from outside is whole when it lets go."""
    log.add(1)
    line = log.file.read_bytes()
    rest = line.replace(b'"seq": 1', b'"seq": 2').replace(b'{"id": "0', b'{"id": "1')
    lock = log.home.run + "/log.lock"
    writer = 'exec 9>>"$1"; flock 9; printf %s "$2" >>"$3"; echo held; read go; printf "%s\\n" "$4" >>"$3"'
    child = subprocess.Popen(
        ["bash", "-c", writer, "-", lock, rest[:20].decode(), str(log.file), rest[20:-1].decode()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout and child.stdin
    assert child.stdout.readline() == b"held\n"
    results: list[Any] = []
    checking = threading.Thread(target=lambda: results.extend([found(home)]))
    checking.start()
    checking.join(0.2)
    assert not results, "it waits for the lock"
    child.communicate(b"go\n")
    checking.join(10)
    assert results == [[]]


def test_a_torn_end_of_a_closed_day_needs_no_lock(home: Home, log: Days) -> None:
    log.now -= DAY_NS
    log.add(1)
    offset = log.file.stat().st_size
    log.append(b"torn")
    old = log.day
    log.now += DAY_NS
    log.add(1)
    assert found(home, old) == [("torn", offset, 2)]


def lines(log: Days) -> list[bytes]:
    return log.file.read_bytes().splitlines(keepends=True)


def test_missing_lines_leave_a_gap(home: Home, log: Days) -> None:
    log.add(6)
    kept = lines(log)
    log.file.write_bytes(b"".join(kept[:2] + kept[4:]))
    (one,) = daycheck.check(home).found
    assert (one.kind, one.offset, one.line) == ("gap", len(kept[0] + kept[1]), 3)
    assert "2 missing between seq 2 and 5" in one.reason


def test_a_line_moved_up_falls_and_a_copied_one_is_a_duplicate(home: Home, log: Days) -> None:
    log.add(4)
    kept = lines(log)
    log.file.write_bytes(b"".join([kept[0], kept[2], kept[1], kept[3]]))
    assert [kind for kind, _, _ in found(home)] == ["gap", "fall"]
    log.file.write_bytes(b"".join([*kept, kept[3]]))
    assert [kind for kind, _, _ in found(home)] == ["duplicate", "fall"]


def test_a_gap_between_days_is_seen_and_a_day_left_out_is_none(home: Home, log: Days) -> None:
    log.now -= 3 * DAY_NS
    names = []
    for _ in range(3):
        log.add(3)
        names.append(log.day)
        log.now += DAY_NS
    assert found(home) == [] and found(home, names[0], names[2]) == []
    middle = Path(home.events, names[1] + ".jsonl")
    middle.write_bytes(b"".join(middle.read_bytes().splitlines(keepends=True)[1:]))
    assert [kind for kind, _, line in found(home)] == ["gap"]


def test_an_id_may_come_again_after_a_week(home: Home, log: Days) -> None:
    log.now -= 9 * DAY_NS
    log.add(1, queue=False)
    first = lines(log)[0]
    log.now += 9 * DAY_NS
    log.add(1)
    again = lines(log)[0]
    old_id, new_id = (line[8:34] for line in (first, again))
    log.file.write_bytes(again.replace(new_id, old_id))
    assert found(home) == []
    log.append(again.replace(new_id, old_id).replace(b'"seq": 2', b'"seq": 3'))
    assert [kind for kind, _, _ in found(home)] == ["duplicate"]


def test_the_damage_of_a_large_log_is_looked_for_at_its_end(home: Home, log: Days) -> None:
    log.add(40)
    random.seed(7)
    kept = lines(log)
    for _ in range(100):
        at = random.randrange(1, 40)
        cut = [*kept[:at], b"damage\n", *kept[at:]]
        log.file.write_bytes(b"".join(cut))
        size, offset = log.file.stat().st_size, len(b"".join(kept[:at]))
        most = random.randrange(1, size)
        seen = [(one.offset, one.line) for one in daycheck.damage(home, most)]
        assert seen == ([(offset, at + 1)] if offset >= size - most else []), (at, most)


def test_damage_that_stands_at_the_edge(home: Home, log: Days) -> None:
    log.add(1)
    log.append(b"x" * (3 << 20) + b"\n")
    log.append(b"damage\n")
    offset = log.file.stat().st_size - len(b"damage\n")
    assert [(one.offset, one.line) for one in daycheck.damage(home, 8)] == [(offset, 3)]
    assert [(one.offset, one.line) for one in daycheck.damage(home, 1 << 20)] == [(offset, 3)]


# old days


def make(home: Home, ages: dict[int, str]) -> None:
    """Day files that many days old."""
    for age, folder in ages.items():
        files.make_dir(folder)
        day = clock.local_day(clock.now_ns() - age * DAY_NS)
        Path(folder, day + ".jsonl").write_text("{}\n")


def old(home: Home, keep: int) -> list[int]:
    """How many days old the files are that may go."""
    ages = {clock.local_day(clock.now_ns() - age * DAY_NS): age for age in range(100)}
    return sorted(ages[os.path.basename(one.path)[:10]] for one in retention.old(home, keep, clock.now_ns()))


def test_days_beyond_retention_may_go(home: Home) -> None:
    make(home, dict.fromkeys((0, 1, 2, 29, 30, 31, 40), home.events))
    make(home, {35: home.registry + "/logs/communications"})
    assert old(home, 30) == [31, 35, 40]
    assert old(home, 1) == [29, 30, 31, 35, 40], "never yesterday's, nor the day before that midnight"


def test_the_newest_two_days_stay_whatever_the_clock_says(home: Home) -> None:
    make(home, dict.fromkeys((50, 60, 70), home.events))
    assert old(home, 30) == [70]


def test_nothing_else_goes(home: Home) -> None:
    files.make_dir(home.events)
    for name in ("2020-01-01.jsonl.damaged", "2020-01-01", "notes.jsonl", "2020-13-01.jsonl", ".jsonl"):
        Path(home.events, name).write_text("")
    make(home, {0: home.events, 1: home.events})
    assert retention.old(home, 1, clock.now_ns()) == []


def test_removing_is_whole_and_may_be_done_twice(home: Home) -> None:
    make(home, dict.fromkeys((0, 1, 40, 41), home.events))
    gone = retention.old(home, 30, clock.now_ns())
    retention.remove(gone)
    retention.remove(gone)
    assert old(home, 30) == [] and len(os.listdir(home.events)) == 2
