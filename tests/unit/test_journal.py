"""The broker's journal: what a replay says, over cuts, damage, refusals, and being written anew."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support_broker import SECOND, Desk
from support_faults import Faults
from tmux_orchestrator.delivery import journal as journals
from tmux_orchestrator.delivery.journal import Journal, Memory
from tmux_orchestrator.eventlog.event import short
from tmux_orchestrator.ground import files
from tmux_orchestrator.ground.paths import Home

BOOT = "this-boot"


def journal(home: Home) -> Journal:
    files.make_dir(home.run)
    return Journal(home)


def filled(home: Home) -> Journal:
    """One event that was typed and has ended, one that may have been typed, one that waits."""
    one = journal(home)
    one.note("place", ["2026-11-20", 7, 900, "C", 3])
    for offset, name in enumerate(("A", "B", "C")):
        one.note("add", name, "team:dev", "2026-11-20", offset * 300, 299)
    one.note("intent", "A", "team:dev", 1, "normal", BOOT, 100)
    one.note("landed", "A", "team:dev", BOOT, 100, 150)
    one.note("typed", "A", "team:dev", 0, 5000)
    one.note("end", "A", "team:dev")
    one.note("intent", "B", "team:dev", 1, "normal", BOOT, 200)
    one.note("told", "C", "team:dev", "draft", 5)
    one.sync()
    return one


def state(memory: Memory) -> Any:
    """All that a memory says, to be compared."""
    owed = {
        key: (one.day, one.offset, one.length, one.doubts, one.typed_ns, one.repeat, one.told)
        for key, one in memory.owed.items()
    }
    return memory.place, owed, {key: (intent.kind, intent.at) for key, intent in memory.intents.items()}


def test_a_replay_says_what_the_memory_said(home: Home) -> None:
    one = filled(home)
    again = Journal(home)
    assert state(again.memory) == state(one.memory)
    assert set(again.memory.owed) == {("B", "team:dev"), ("C", "team:dev")}
    assert again.memory.owed["B", "team:dev"].doubts == 1 and again.memory.owed["C", "team:dev"].told == {"draft": 5}
    assert again.damaged == 0


def test_an_intent_that_was_undone_leaves_no_doubt_but_an_earlier_one_does(home: Home) -> None:
    one = filled(home)
    owed = one.memory.owed["B", "team:dev"]
    one.note("intent", "B", "team:dev", 2, "normal", BOOT, 300)
    one.note("undone", "B", "team:dev", BOOT, 300)
    assert owed.doubts == 1 and owed.attempt == 2
    one.note("typed", "B", "team:dev", 0, 9000)
    assert owed.doubts == 0 and owed.typed_ns == 9000


@pytest.mark.parametrize("tail", [b'["end", "B", "te', b'["end"', b"\x00\x00\x00", b"["])
def test_a_torn_last_line_is_taken_off(home: Home, tail: bytes) -> None:
    one = filled(home)
    whole = os.path.getsize(one.path)
    files.append(one.path, tail)
    again = Journal(home)
    assert state(again.memory) == state(one.memory) and again.damaged == 0
    assert os.path.getsize(one.path) == whole
    again.note("end", "B", "team:dev")
    again.flush()
    assert ("B", "team:dev") not in Journal(home).memory.owed


def test_a_last_line_that_only_misses_its_end_counts_now_and_later(home: Home) -> None:
    one = filled(home)
    files.append(one.path, b'["end", "B", "team:dev"]')
    again = Journal(home)
    assert ("B", "team:dev") not in again.memory.owed
    again.flush()
    again.note("told", "C", "team:dev", "dialog", 5)
    again.flush()
    last = Journal(home)
    assert last.damaged == 0 and last.memory.owed["C", "team:dev"].told == {"draft": 5, "dialog": 5}


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"[]", b"7", b'["add"]', b'["typed", "C", "team:dev", 0, {}]', b"\xff\xfe"]
)
def test_damage_is_counted_once_and_written_out_of_the_file(home: Home, line: bytes) -> None:
    one = filled(home)
    with open(one.path, "rb") as file:
        lines = file.read().split(b"\n")
    files.replace(one.path, b"\n".join([*lines[:4], line, *lines[4:]]))
    again = Journal(home)
    assert again.damaged == 1 and state(again.memory) == state(one.memory)
    again.flush()
    assert Journal(home).damaged == 0


def refusing(monkeypatch: pytest.MonkeyPatch, name: str, times: int = 1) -> list[str]:
    """Have the system refuse a function of `os` so many times; what was refused."""
    real: Callable[..., Any] = getattr(os, name)
    refused: list[str] = []

    def call(*args: Any, **named: Any) -> Any:
        if len(refused) < times:
            refused.append(name)
            raise OSError(28, "No space left on device")
        return real(*args, **named)

    monkeypatch.setattr(os, name, call)
    return refused


def test_what_the_disk_refused_waits_for_the_next_flush(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    one = filled(home)
    one.note("end", "B", "team:dev")
    refusing(monkeypatch, "write")
    with pytest.raises(OSError):
        one.flush()
    one.flush()
    assert state(Journal(home).memory) == state(one.memory)


def test_half_a_write_that_cannot_be_taken_back_is_written_anew(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    one = filled(home)
    one.note("end", "B", "team:dev")
    real = os.write

    def half(fd: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", refuse)
        return real(fd, bytes(data)[: len(data) // 2])

    def refuse(fd: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", real)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", half)
    refusing(monkeypatch, "ftruncate")
    with pytest.raises(OSError):
        one.flush()
    one.flush()
    again = Journal(home)
    assert state(again.memory) == state(one.memory) and again.damaged == 0


def test_after_a_failed_sync_everything_is_written_to_a_new_file(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    one = filled(home)
    inode = os.stat(one.path).st_ino
    one.note("end", "B", "team:dev")
    refusing(monkeypatch, "fdatasync")
    with pytest.raises(OSError):
        one.sync()
    one.sync()
    assert os.stat(one.path).st_ino != inode
    assert state(Journal(home).memory) == state(one.memory)


def test_a_journal_that_is_deleted_under_the_broker_comes_back(home: Home) -> None:
    one = filled(home)
    os.unlink(one.path)
    one.compact(BOOT, 0)
    assert state(Journal(home).memory) == state(one.memory)


def test_a_grown_journal_shrinks_and_does_not_shrink_at_every_turn(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "_COMPACT_BYTES", 2000)
    one = journal(home)
    for number in range(100):
        one.note("add", f"E{number}", "team:dev", "2026-11-20", number, 1)
    one.flush()
    before = os.path.getsize(one.path)
    one.compact(BOOT, 0)
    inode = os.stat(one.path).st_ino
    one.note("told", "E5", "team:dev", "draft", 5)
    one.flush()
    one.compact(BOOT, 0)
    assert os.stat(one.path).st_ino == inode, "rewritten although hardly anything was added"
    for number in range(300):
        one.note("end", f"E{number}", "team:dev")
    one.flush()
    one.compact(BOOT, 0)
    assert os.path.getsize(one.path) < before / 10 and not Journal(home).memory.owed


def test_in_a_flood_it_shrinks_only_when_it_has_grown_very_much(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "_COMPACT_BYTES", 2000)
    one = journal(home)
    inode = os.stat(one.path).st_ino
    inodes, sizes = [inode], [0]
    while inodes[-1] == inode:
        one.note("told", "A", "team:dev", "draft" * 20)
        one.flush()
        sizes.append(os.path.getsize(one.path))
        one.compact(BOOT, 0, busy=True)
        inodes.append(os.stat(one.path).st_ino)
    assert 8000 <= sizes[-1] < 8200


def test_what_was_noted_before_it_is_written_anew_is_said_once(home: Home) -> None:
    one = filled(home)
    one.note("told", "C", "team:dev", "dialog", 8)
    one.note("intent", "C", "team:dev", 1, "normal", BOOT, 300)
    os.unlink(one.path)
    one.compact(BOOT, 0)
    one.flush()
    assert state(Journal(home).memory) == state(one.memory)


def test_a_new_file_that_cannot_be_opened_is_written_anew(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the next records would go to a file without a name."""
    one = filled(home)
    os.unlink(one.path)
    with monkeypatch.context() as patched:
        patched.setattr(Journal, "_open", lambda self: os.open(home.root + "/none/there", os.O_RDONLY))
        with pytest.raises(OSError):
            one.compact(BOOT, 0)
    one.note("told", "C", "team:dev", "dialog", 8)
    one.flush()
    assert state(Journal(home).memory) == state(one.memory)


def test_a_new_file_is_on_disk_before_it_has_the_name_and_so_is_the_name(home: Home) -> None:
    one = filled(home)
    os.unlink(one.path)
    with Faults("none", at=0) as faults:
        one.compact(BOOT, 0)
    assert faults.told == ["write", "fsync", "rename", "fsync"]


def test_a_frame_that_landed_late_is_kept_for_as_long_as_the_window_counts_it(home: Home) -> None:
    memory = filled(home).memory  # A was intended at 100, landed at 150, and is over
    wanted = ("team:dev", BOOT, 100, "A")
    assert [wanted in replayed(memory.records(BOOT, since)).intents for since in (100, 150, 151)] == [True, True, False]


NAMES = st.sampled_from(["A", "B"])
RECORDS = st.one_of(
    st.tuples(st.just("add"), NAMES, st.just("t"), st.just("2026-11-20"), st.integers(0, 9), st.just(5)),
    st.tuples(st.just("intent"), NAMES, st.just("t"), st.integers(1, 3), st.just("normal"), st.just(BOOT)),
    st.tuples(st.just("undone"), NAMES, st.just("t"), st.just(BOOT)),
    st.tuples(st.just("landed"), NAMES, st.just("t"), st.just(BOOT)),
    st.tuples(st.just("typed"), NAMES, st.just("t"), st.integers(0, 3), st.integers(1, 9)),
    st.tuples(st.just("lost"), NAMES, st.just("t")),
    st.tuples(st.just("told"), NAMES, st.just("t"), st.sampled_from(["draft", "dialog"]), st.integers(1, 9)),
    st.tuples(st.just("end"), NAMES, st.just("t")),
)


def replayed(records: list[list[Any]]) -> Memory:
    memory = Memory()
    for record in records:
        memory.apply(record)
    return memory


def told(steps: list[tuple[Any, ...]]) -> list[list[Any]]:
    """The steps with the moments that a broker would give them: an intent is undone or lands once, before the next.
    Only what was typed of what is owed is lost."""
    records, pending = [], {}
    owed: set[str] = set()
    flown: set[str] = set()
    for ns, step in enumerate(steps, 1):
        kind, name = step[:2]
        if kind in ("add", "end"):
            owed ^= {name} if (kind == "add") != (name in owed) else set()
            flown -= {name} if kind == "end" else set()
        if kind == "intent":
            pending[name] = ns
            flown |= {name} & owed
            records.append([*step, ns])
        elif kind == "lost":
            records += [list(step)] if name in flown else []
        elif kind in ("undone", "landed"):
            if name in pending:
                records.append([*step, pending[name], *([ns] if kind == "landed" else [])])
                if kind == "undone":
                    del pending[name]
                    flown.discard(name)
        else:
            if kind == "typed":  # for sure: from then on its intent cannot be undone
                pending.pop(name, None)
            records.append(list(step))
    return records


@settings(max_examples=300, deadline=None)
@given(st.lists(RECORDS, max_size=25))
def test_what_is_owed_and_doubted_is_the_same_after_any_history_is_written_anew(steps: list[tuple[Any, ...]]) -> None:
    memory = replayed(told(steps))
    assert state(replayed(memory.records())) == state(memory)
    late = replayed(memory.records(BOOT, 1 << 60))  # all windows are over: only what is owed is kept
    assert state(late)[:2] == state(memory)[:2]
    assert all((event_id, target) in memory.owed for target, _, _, event_id in late.intents)


def test_cut_at_every_byte_nothing_is_lost_and_a_repeat_says_so(tmp_path: Path) -> None:
    lost_nothing_when_cut(tmp_path, step=29)


def lost_nothing_when_cut(folder: Path, step: int) -> int:
    """Cut the journal of a busy broker at each `step`-th byte and start another one; how many cuts."""
    source, copy = str(folder / "source"), str(folder / "copy")
    sent: dict[str, list[str]] = {}
    with Desk(source) as desk:
        dev, two = desk.agent("dev"), desk.agent("two")
        desk.start()
        for body, priority in (("one", "normal"), ("now", "critical"), ("small", "low"), ("tiny", "low")):
            sent[desk.publish(body, "dev", priority=priority)] = [dev]
        sent[desk.publish("both", "dev", "two")] = [dev, two]
        sent[desk.publish("later", "late", queue=True)] = ["team:late"]
        desk.run(2)
        desk.panes.reasons[two] = "copy_mode"
        sent[desk.publish("held", "two")] = [two]
        desk.run(2)
        typed, agents, clocks = list(desk.panes.typed), desk.agents, desk.clocks
    with open(source + "/logs/run/broker.journal", "rb") as file:
        data = file.read()
    cuts = range(0, len(data) + 1, step)
    for cut in cuts:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(source, copy, symlinks=True)
        with open(copy + "/logs/run/broker.journal", "wb") as file:
            file.write(data[:cut])
        with Desk(copy) as desk:
            desk.clocks.boot, desk.clocks.wall = clocks.boot + SECOND, clocks.wall + SECOND
            desk.agents = agents
            desk.start()
            desk.agent("late")
            desk.run(130)
            for event_id, targets in sent.items():
                assert set(targets) <= set(desk.ends(event_id)), (cut, desk.said(event_id))
                for target in targets:
                    frames = [text for _, key, text in typed + desk.panes.typed if key == target]
                    frames = [text for text in frames if "#" + short(event_id) in text]
                    assert 1 <= len(frames) <= 2 and all("repeat" in text for text in frames[1:]), (cut, frames)
    return len(cuts)
