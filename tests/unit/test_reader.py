"""Reading: what is found is what a plain scan finds, by whatever shorter way; damage is counted and stepped over."""

from __future__ import annotations

import json
import os
import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmux_orchestrator.eventlog import daylog, days, event, printing, reader
from tmux_orchestrator.eventlog.daylog import Log
from tmux_orchestrator.eventlog.reader import DayFile, Query
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.paths import Home

SECOND = 1_000_000_000
START = 1_800_000_000 * SECOND
DAMAGE = [b"torn", b'{"id": "torn', b"[1]", b"{}", b'{"id": 5, "timestamp": "x"}', b"\xff", b"[" * 3000, b'{"id": "x"}']


def made(body: str = "text", **given: Any) -> dict[str, Any]:
    source = {"type": "agent", "identifier": given.pop("who", "backend"), "session": given.pop("session", "s")}
    return event.build(body, source | {"host": "h", "verified": True}, **given)


def found(home: Home, query: Query, backward: bool = False) -> list[str]:
    return [one["message"]["content"]["body"] for _, one in reader.search(home, query, backward)]


@pytest.fixture
def log(home: Home, monkeypatch: pytest.MonkeyPatch) -> Log:
    """Three days, 30 events each, one every minute from START on, with damage in between."""
    ns = [START]
    monkeypatch.setattr(clock, "now_ns", lambda: ns[0])
    clock.use_zone("UTC")
    log = Log(home, durable=False, now=lambda: ns[0])
    rng = random.Random(7)
    for number in range(90):
        tags = [tag for tag in ("a", "b", "rare") if rng.random() < (0.05 if tag == "rare" else 0.5)]
        log.append(
            [
                made(
                    f"event {number}",
                    who=rng.choice(["anna", "bob", "eve"]),
                    session=rng.choice(["s", "t"]),
                    type=rng.choice(["task", "bug_report"]),
                    priority=rng.choice(event.PRIORITIES),
                    groups=rng.sample(["management", "dev"], rng.randint(0, 2)),
                    tags=tags,
                )
            ]
        )
        ns[0] += 60 * SECOND if number % 30 < 29 else daylog.DAY_NS
        if number % 7 == 0:
            with open(daylog.day_file(home, days.days(home)[-1]), "ab") as file:
                file.write(rng.choice(DAMAGE) + b"\n")
    return log


def scanned(home: Home, wanted: Any) -> list[str]:
    """The plain way: decode every line of every file, ask."""
    events = []
    for day in days.days(home):
        for line in Path(daylog.day_file(home, day)).read_bytes().split(b"\n"):
            try:
                one = json.loads(line)
                if isinstance(one["id"], str) and wanted(one):
                    events.append(one["message"]["content"]["body"])
            except (ValueError, TypeError, KeyError, RecursionError):
                continue
    return events


QUERIES: dict[str, tuple[dict[str, Any], Any]] = {
    "everything": ({}, lambda e: True),
    "tag": ({"tags": ["rare"]}, lambda e: "rare" in e["metadata"]["tags"]),
    "tags": ({"tags": ["a", "b"]}, lambda e: {"a", "b"} <= set(e["metadata"]["tags"])),
    "type": ({"types": ["task"]}, lambda e: e["message"]["type"] == "task"),
    "types": ({"types": ["task", "none"]}, lambda e: e["message"]["type"] == "task"),
    "priorities": (
        {"priorities": ["high", "critical"]},
        lambda e: e["message"]["priority"] in ("high", "critical"),
    ),
    "group": ({"groups": ["dev"]}, lambda e: "dev" in e["to"]["groups"]),
    "sender": ({"senders": ["anna"]}, lambda e: e["source"]["identifier"] == "anna"),
    "sender of a session": (
        {"senders": ["s:anna"]},
        lambda e: (e["source"]["session"], e["source"]["identifier"]) == ("s", "anna"),
    ),
    "several": (
        {"senders": ["anna", "t:bob"], "tags": ["a"], "types": ["task"]},
        lambda e: (
            e["source"]["identifier"] in ("anna", "bob")
            and (e["source"]["identifier"] == "anna" or e["source"]["session"] == "t")
            and "a" in e["metadata"]["tags"]
            and e["message"]["type"] == "task"
        ),
    ),
    "text": (
        {"pattern": re.compile("event [12]5").search},
        lambda e: re.search("[12]5", e["message"]["content"]["body"]),
    ),
    "nothing": ({"tags": ["none"]}, lambda e: False),
    "a tag that JSON writes otherwise": ({"tags": ["ä"]}, lambda e: False),
}


@pytest.mark.parametrize("name", QUERIES)
@pytest.mark.parametrize("block", [64, 1000, reader.BLOCK])
def test_searching_finds_what_a_scan_finds(
    home: Home, log: Log, monkeypatch: pytest.MonkeyPatch, name: str, block: int
) -> None:
    monkeypatch.setattr(reader, "BLOCK", block)
    monkeypatch.setattr(reader, "_NEAR", block)
    fields, wanted = QUERIES[name]
    plain = scanned(home, wanted)
    assert (name in ("nothing", "a tag that JSON writes otherwise")) == (not plain)
    for backward in (False, True):
        query = Query()
        for field, value in fields.items():
            setattr(query, field, value)
        assert found(home, query, backward) == (plain[::-1] if backward else plain)
        for count in (0, 1, 3, 200):
            last = [one["message"]["content"]["body"] for _, one in reader.last(home, query, count)]
            assert last == (plain[-count:] if count else [])


@pytest.mark.parametrize("block", [64, reader.BLOCK])
def test_damage_is_counted_not_blank_lines(home: Home, log: Log, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(reader, "BLOCK", block)
    with open(daylog.day_file(home, days.days(home)[0]), "ab") as file:
        file.write(b"\n\n")
    for backward in (False, True):
        query = Query()
        assert len(found(home, query, backward)) == 90
        assert query.damaged == 13


def test_the_whole_as_it_stands(home: Home, log: Log) -> None:
    query = Query()
    assert query.is_plain()
    lines = b"".join(block for block, _ in reader.whole(home, query))
    assert lines == b"".join(line + b"\n" for line, _ in reader.search(home, Query())) and query.damaged == 13


def test_the_whole_of_a_log_that_was_torn_at_any_byte(home: Home) -> None:
    """A line that was torn, and closed by the next append, is never handed out for whole."""
    log = Log(home)
    log.append([made("a"), made("b}} {", context={"a": {"b": {"c": "}}"}}}, tags=["}}", "x"], hops=0)])
    path = daylog.day_file(home, days.days(home)[0])
    data = Path(path).read_bytes()
    first = data.index(b"\n") + 1
    for cut in range(first + 1, len(data) - 1):
        Path(path).write_bytes(data[:cut] + b"\n" + data[:first])
        query = Query()
        handed_out = b"".join(block for block, _ in reader.whole(home, query)).splitlines()
        assert all(json.loads(line) for line in handed_out)
        assert (len(handed_out), query.damaged) == (2, 1), data[:cut]


def test_a_line_that_was_glued_to_a_torn_one_is_damage(home: Home) -> None:
    """A shell script that joins in does not close a torn line."""
    log = Log(home)
    log.append([made("a"), made("b"), made("c")])
    path = daylog.day_file(home, days.days(home)[0])
    first, second, third, _ = Path(path).read_bytes().split(b"\n")
    Path(path).write_bytes(first + b"\n" + second[:-9] + third + b"\n" + third + b"\n")
    query = Query()
    assert (
        b"".join(block for block, _ in reader.whole(home, query)) == first + b"\n" + third + b"\n"
        and query.damaged == 1
    )


def test_a_torn_line_before_one_that_ends_as_ours_do_is_damage(home: Home) -> None:
    """Of the two, one has our beginning and the other our end: only their newline tells."""
    log = Log(home)
    log.append([made("a"), made("b"), made("c")])
    path = daylog.day_file(home, days.days(home)[0])
    first, second, third, _ = Path(path).read_bytes().split(b"\n")
    Path(path).write_bytes(b"\n".join([first, second[:-20], b'{"mine": {"hops": 0}}', third, b""]))
    query = Query()
    handed_out = list(reader.whole(home, query))
    assert handed_out == [(first + b"\n" + third + b"\n", 2)] and query.damaged == 2


def test_unusual_ends_are_looked_at_closely(home: Home) -> None:
    log = Log(home)
    log.append([made("a", hops=3), made("b", queue=True), made("c") | {"mine": [1]}])
    with open(daylog.day_file(home, days.days(home)[0]), "ab") as file:
        file.write(b'{"id": "xxxxxx", "timestamp": "y", "to": 5}\n')
    query = Query()
    assert b"".join(block for block, _ in reader.whole(home, query)).count(b"\n") == 3 and query.damaged == 1


@pytest.mark.parametrize("block", [64, reader.BLOCK])
def test_time(home: Home, log: Log, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(reader, "BLOCK", block)
    monkeypatch.setattr(reader, "_NEAR", max(block, 200))
    rng = random.Random(3)
    edges = [START, START + 1, START + 60 * SECOND, START - 1, 0, START + 30 * 60 * SECOND, START + 99 * daylog.DAY_NS]
    edges += [START + rng.randrange(0, 3 * daylog.DAY_NS) for _ in range(40)]
    for since in [None, *edges]:
        for until in [None, *edges[::3]]:
            query = Query()
            query.since, query.until = since, until

            def wanted(one: dict[str, Any], since: int | None = since, until: int | None = until) -> bool:
                ns = clock.parse_stamp(one["timestamp"])
                return (since is None or ns >= since) and (until is None or ns < until)

            assert found(home, query) == found(home, query, backward=True)[::-1] == scanned(home, wanted)


def test_time_where_the_clock_was_set_back(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    ns = [START]
    monkeypatch.setattr(clock, "now_ns", lambda: ns[0])
    log = Log(home, now=lambda: ns[0])
    for step in [0, *[60] * 13, -3600, 60, 60, 4000]:
        ns[0] += step * SECOND
        log.append([made(f"{ns[0] // SECOND}")])
    written = [int(body) for body in found(home, Query()) if body.isdigit()]
    assert written == [START // SECOND + after for after in (*range(0, 840, 60), -2820, -2760, -2700, 1300)]
    for since in written:
        for until in [at + 1 for at in written]:
            query = Query()
            query.since, query.until = since * SECOND, until * SECOND
            wanted = [str(at) for at in written if since <= at < until]
            assert [body for body in found(home, query) if body.isdigit()] == wanted


def test_time_where_the_zone_was_changed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written further west may stand in the file of the day before."""
    evening = clock.parse_stamp("2026-11-21T03:00:00Z")
    monkeypatch.setattr(clock, "now_ns", lambda: evening)
    try:
        clock.use_zone("America/Los_Angeles")
        Log(home, now=lambda: evening).append([made("a")])
        clock.use_zone("UTC")
        assert days.days(home) == ["2026-11-20"]
        query = Query()
        query.since = evening
        assert found(home, query) == ["a"]
    finally:
        clock.use_zone("")


@pytest.mark.parametrize("word", ['say "x"', "back\\slash", "naïve", "plain"])
def test_words_that_are_written_otherwise_in_the_file(home: Home, word: str) -> None:
    Log(home, durable=False).append([made("a", tags=[word], groups=[word], who=word), made("b")])
    for field in ("tags", "groups", "senders"):
        query = Query()
        setattr(query, field, [word])
        assert found(home, query) == ["a"], field


def test_before_a_place(home: Home, log: Log) -> None:
    day = days.days(home)[1]
    lines = Path(daylog.day_file(home, day)).read_bytes().split(b"\n")
    offset = sum(len(line) + 1 for line in lines[:10])
    query = Query()
    query.before = (day, offset)
    whole = [b for b in lines[:10] if reader.decode(b)]
    assert len(found(home, query)) == 30 + len(whole)
    assert len(reader.last(home, query, 1000)) == 30 + len(whole)
    query.before = ("", 0)
    assert found(home, query) == []


def test_what_has_no_newline_is_not_there_yet(home: Home) -> None:
    log = Log(home)
    log.append([made("a"), made("b")])
    path = daylog.day_file(home, days.days(home)[0])
    data = Path(path).read_bytes()
    for cut in range(len(data) + 1):
        Path(path).write_bytes(data[:cut])
        whole = data[:cut].count(b"\n")
        query = Query()
        assert found(home, query) == found(home, query, backward=True)[::-1] == ["a", "b"][:whole]
        assert query.damaged == 0 and DayFile(path).end == sum(map(len, data.splitlines(True)[:whole]))


def test_lines_longer_than_a_block(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "LONGEST", 4 * event.MAX_LINE)
    monkeypatch.setattr(reader, "BLOCK", 4096)
    log = Log(home)
    log.append([made("a"), made("b" * 200_000), made("c", tags=["t"]), made("d" * 200_000, tags=["t"]), made("e")])
    for backward in (False, True):
        bodies = [body[0] for body in found(home, Query(), backward)]
        assert bodies == list("edcba" if backward else "abcde")
        query = Query()
        query.tags = ["t"]
        assert [body[0] for body in found(home, query, backward)] == list("dc" if backward else "cd")


def test_endless_garbage_is_damage_and_costs_no_memory(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "BLOCK", 1 << 12)
    monkeypatch.setattr(reader, "LONGEST", 1 << 14)
    log = Log(home)
    log.append([made("a")])
    with open(daylog.day_file(home, days.days(home)[0]), "ab") as file:
        file.write(b"\0" * 100_000 + b"\n")
    log.append([made("b")])
    for backward in (False, True):
        query = Query()
        assert sorted(found(home, query, backward)) == ["a", "b"] and query.damaged >= 1


@pytest.mark.parametrize("backward", [False, True])
def test_a_file_that_is_cut_while_it_is_read(home: Home, monkeypatch: pytest.MonkeyPatch, backward: bool) -> None:
    """A mapped file would kill the reader here."""
    monkeypatch.setattr(reader, "BLOCK", 4096)
    log = Log(home)
    log.append([made(f"{n} " + "x" * 500) for n in range(100)])
    search = reader.search(home, Query(), backward)
    next(search)
    os.truncate(daylog.day_file(home, days.days(home)[0]), 700)
    assert len(list(search)) < 20


def test_a_file_that_is_removed_meanwhile_or_may_not_be_read(
    home: Home, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = days.days(home)[0]
    existing = days.days(home)
    os.unlink(daylog.day_file(home, first))
    monkeypatch.setattr(reader, "days", lambda home: existing)
    assert len(found(home, Query())) == 60
    os.symlink("nowhere", daylog.day_file(home, first))
    with pytest.raises(OSError):
        found(home, Query())


def test_no_log_at_all(home: Home) -> None:
    assert found(home, Query()) == [] and reader.last(home, Query(), 5) == [] and reader.find(home, "abcdef") is None


def test_finding_by_id(home: Home) -> None:
    ids = Log(home).append([made("a"), made("b") | {"id": "build-000001"}, made("c")])
    for wanted, body in ((ids[0], "a"), (event.short(ids[2]), "c"), ("build-000001", "b"), ("000001", "b")):
        one = reader.find(home, wanted)
        assert one is not None and one["message"]["content"]["body"] == body
    for wanted in (ids[0][:10], ids[0][-5:], "000002", "", '"', "\\"):
        assert reader.find(home, wanted) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PARTS = st.fixed_dictionaries(
    {"id": st.text(), "timestamp": st.text()},
    optional=dict.fromkeys(("seq", "source", "to", "message", "metadata"), JSON),
)
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "type": JSON,
        "priority": JSON,
        "category": JSON,
        "content": st.fixed_dictionaries({}, optional={"body": JSON, "subject": JSON, "context": JSON}) | JSON,
    },
)


@given(PARTS, MESSAGES, st.sampled_from(["text", "body", "table", "id,message,message.content.context,to.targets"]))
def test_whatever_decodes_can_be_asked_and_printed(parts: dict[str, Any], message: Any, form: str) -> None:
    """A line of a foreign writer is an event for everybody, or damage for everybody."""
    query = Query()
    query.ids, query.types, query.priorities, query.tags = ["abcdef"], ["x"], ["high"], ["t"]
    query.groups, query.senders, query.since = ["g"], ["s"], 5
    plain = Query()
    plain.pattern = re.compile("x").search
    line = json.dumps(parts | {"message": message}).encode()
    one = reader.decode(line)
    if one is None:
        return
    query.wants(one)
    plain.wants(one)
    printing.form(form)(line, one)
    printing.line(line)


@pytest.mark.parametrize(
    "line",
    [
        b'{"id": "a",\t"timestamp": "b"}',
        '{"id": "ä", "timestamp": "b"}'.encode(),
        b'{"id": "\x7f", "timestamp": "\xc2\x9b"}',
    ],
)
def test_foreign_lines_are_printed_in_ascii(line: bytes) -> None:
    shown = printing.plain(line + b"\n")
    assert shown.isascii() and shown[:-1].decode().isprintable() and json.loads(shown) == json.loads(line)
