"""orc-read from the inside: filters, forms, cursors and following. What a user types is in tests/cmd."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support_faults import Faults
from support_tmux import wait_until
from tmux_orchestrator.agents import roster
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.commands import read
from tmux_orchestrator.eventlog import daylog, days, event, printing
from tmux_orchestrator.eventlog.daylog import Log
from tmux_orchestrator.ground import errors
from tmux_orchestrator.ground.errors import DataError, SystemFailure, TryLater, UsageError
from tmux_orchestrator.ground.locks import Lock
from tmux_orchestrator.ground.paths import Home

Read = Callable[..., list[str]]


def made(body: str, who: str = "s:anna", **given: Any) -> dict[str, Any]:
    session, _, name = who.rpartition(":")
    source = {"type": "agent", "identifier": name, "session": session or None, "host": "h", "verified": True}
    return event.build(body, source, **given)


def delivered(event_id: str, target: str, outcome: str) -> dict[str, Any]:
    context = {"event": event_id, "target": target, "outcome": outcome}
    return event.build(outcome, daylog.daemon_source("broker"), type="delivery", context=context)


@pytest.fixture
def read_(capsys: pytest.CaptureFixture[str]) -> Read:
    """Run orc-read; the bodies that it printed. `code` is checked."""

    def run(*argv: str, code: int = 0) -> list[str]:
        capsys.readouterr()
        assert read.main(list(argv)) == code
        said = capsys.readouterr()
        return [json.loads(line)["message"]["content"]["body"] for line in said.out.splitlines()]

    return run


@pytest.fixture
def team(home: Home) -> Log:
    """A pm and a dev in session s, another dev in t; the log is empty."""
    for session, name, role, groups in (
        ("s", "pm", "pm", []),
        ("s", "dev", "coder", ["build"]),
        ("t", "dev", "coder", []),
    ):
        roster.register(home, Agent({"name": name, "session": session, "role": role, "groups": groups}))
    return Log(home, durable=False)


# filters


def test_the_last_n_that_match(home: Home, read_: Read) -> None:
    Log(home).append([made(str(n), tags=["odd" if n % 2 else "even"]) for n in range(30)])
    assert read_("-n", "3", "--tag", "odd") == ["25", "27", "29"]
    assert read_("-n", "3", "--tag", "odd", "-r") == ["29", "27", "25"]
    assert read_("-r", "--tag", "odd")[:2] == ["29", "27"]
    assert read_("-n", "0", code=errors.NO) == []
    assert len(read_()) == len(read_("-n", "99")) == len(read_("-r")) == 30


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("red|green", ["red", "green"]), (r"red\|green", ["red", "green"]), ("^📨 red", ["red"]), (r"a\\|zz", ["a\\c"]),
        (r"a[|]b", ["a|b"]), (r"a[\|]b", ["a|b"]), ("Tags: .*late", ["green"]), ("CRITICAL", ["blue"]),
        (r"\bred\b", ["red"]),
    ],
)  # fmt: skip
def test_filter_is_python_and_grep(home: Home, read_: Read, pattern: str, wanted: list[str]) -> None:
    events = [made("red"), made("green", tags=["late"]), made("blue", priority="critical"), made("a\\c"), made("a|b")]
    Log(home).append(events)
    assert read_("--filter", pattern) == wanted


def test_session(home: Home, team: Log, read_: Read) -> None:
    team.append(
        [
            made("to dev", "x", targets=["s:dev"]), made("to the other", "x", targets=["t:dev"]), made("by pm", "s:pm"),
            made("to a window", "x", targets=["s:2.1"]), made("about", "x", context={"session": "s"}),
            made("to its group", "x", groups=["build"]), made("to pms", "x", groups=["management"]),
            made("to all", "x", targets=["@all"]), made("to coders", "x", targets=["@coder"]), made("else", "x"),
            made("by somebody there", "s:nobody"), made("of a like name", "ss:pm", targets=["ss:dev"]),
        ]
    )  # fmt: skip
    of_s = [
        "to dev",
        "by pm",
        "to a window",
        "about",
        "to its group",
        "to pms",
        "to all",
        "to coders",
        "by somebody there",
    ]
    assert read_("--session", "s") == of_s
    assert read_("--session", "t") == ["to the other", "to all", "to coders"]
    assert read_("--session", "s:2.1") == ["to a window", "to all"]


@pytest.mark.parametrize(
    "argv",
    [
        ["word"], ["-n", "x"], ["-n", "-1"], ["-n", "１"], ["--priority", "urgent"], ["--filter", "("],
        ["--filter", "(" * 5000], ["--since", "soon"], ["--until", "soon"], ["-o", "tabel"], ["-o", "id,nothing"],
        ["-o", ","], ["-f", "--json"], ["-f", "-o", "json"], ["-f", "-r"], ["--unread", "a/b"], ["--unread", ""],
        ["--unread", "../x"],
    ],
)  # fmt: skip
def test_usage_errors(home: Home, argv: list[str]) -> None:
    with pytest.raises(UsageError) as told:
        read.main(argv)
    assert ": " in str(told.value)


# forms


def test_json_is_one_document_always(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["--json"], ["-o", "json"]):
        assert read.main(argv) == (0 if argv == ["--json"] else errors.NO)
        assert json.loads(capsys.readouterr().out) == {"stored_messages": [], "count": 0}
    Log(home).append([made("a", priority="high", tags=["t"], subject="S"), made("b")])
    assert read.main(["--json", "-n", "1", "--tag", "t"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["count"] == 1
    assert document["stored_messages"][0]["raw_message"] == "⚠️ HIGH PRIORITY S: a Tags: [t]"
    assert document["stored_messages"][0]["message"]["content"]["body"] == "a"


def test_text_body_fields_and_table(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    Log(home).append([made("two\n\tlines \x1b[31m\x07", targets=["s:dev"], groups=["g"], context={"k": {"x": "a\tb"}})])

    def shown(form: str) -> str:
        assert read.main(["-o", form]) == 0
        return capsys.readouterr().out

    assert shown("text") == "📨 two \\tlines \\x1b[31m\\x07\n"
    assert shown("body") == "two\n\tlines \\x1b[31m\\x07\n"
    assert shown("message.content.context.k.x,seq,to.groups,metadata.reply_to") == "a\\tb\t1\tg\t-\n"
    row = shown("table")
    assert "anna → s:dev,+g" in row and "\\x1b" in row and row.count("\n") == 1 and "\x1b" not in row


def test_quiet_says_it_with_its_code(home: Home, read_: Read) -> None:
    Log(home).append([made("a", tags=["t"])])
    assert read_("-q", "--tag", "t") == read_("-q") == []
    assert read_("-q", "--tag", "x", code=errors.NO) == []


def test_damage_is_told_and_stepped_over(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    Log(home).append([made("a")])
    with open(daylog.day_file(home, days.days(home)[0]), "ab") as file:
        file.write(b'junk\n{"id": "x", "timestamp": "y", "to": 5}\n\n')
    for argv in ([], ["-r"], ["-n", "9"], ["--json"], ["--cursor-file", f"{home.root}/c{time.monotonic_ns()}"]):
        assert read.main(argv) == 0
        said = capsys.readouterr()
        assert said.out.count("anna") == 1
        assert said.err == "orc-read: 2 damaged lines stepped over: see orc-log check\n"


# each event once


def test_unread_by_a_reader(home: Home, read_: Read) -> None:
    log = Log(home)
    log.append([made("a"), made("b")])
    assert read_("--unread", "me") == ["a", "b"]
    assert read_("--unread", "me", code=errors.NO) == []
    assert read_("--unread", "you", "-r") == ["b", "a"]
    log.append([made(str(n)) for n in range(5)])
    assert read_("--unread", "me", "-n", "2") == ["3", "4"]
    assert read_("--unread", "me", code=errors.NO) == []


def test_quiet_takes_nothing(home: Home, read_: Read) -> None:
    Log(home).append([made("a")])
    for _ in range(2):
        read_("-q", "--unread", "me")
    assert read_("--unread", "me") == ["a"]


def test_what_could_not_be_printed_is_unread(home: Home, read_: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    Log(home).append([made("a")])

    def full(line: bytes, one: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError):
        patched.setattr(printing, "line", full)
        read_("--unread", "me")
    assert read_("--unread", "me") == ["a"]


@pytest.mark.parametrize("extra", [[], ["--priority", "normal"], ["--type", "notification"], ["--filter", "."]])
def test_unread_of_an_agent_is_what_was_not_typed_to_it(home: Home, team: Log, read_: Read, extra: list[str]) -> None:
    ids = team.append(
        [
            made("typed", "x", targets=["s:dev"]),
            made("held", "x", targets=["s:dev"]),
            made("to another", "x", targets=["t:dev"]),
            made("to the group", "x", groups=["build"]),
            made("to all", "x", targets=["@all"]),
            made("its own", "s:dev", targets=["@all"]),
            made("to nobody", "x"),
            made("typed to the other", "x", targets=["@coder"]),
            made("ack", "x", type="ack", targets=["s:dev"]),
        ]
    )
    told = [(ids[0], "s:dev", "confirmed"), (ids[1], "s:dev", "held")]
    told += [(ids[3], "t:dev", "typed"), (ids[7], "t:dev", "typed")]
    team.append([delivered(*one) for one in told])
    unread = ["held", "to the group", "to all", "typed to the other"]
    assert read_("--unread", "s:dev", *extra) == unread
    assert read_("--unread", "s:dev", *extra, code=errors.NO) == []
    team.append([delivered(ids[4], "s:dev", "typed"), made("new", "x", targets=["s:dev"])])
    assert read_("--unread", "s:dev", *extra) == ["new"]


def test_a_cursor_file(home: Home, read_: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log = Log(home)
    log.append([made("a")])
    (tmp_path / "made-by-mktemp").touch()
    for name in ("cursor", f"{tmp_path}/other", "made-by-mktemp"):
        assert read_("--cursor-file", name) == ["a"]
    log.append([made("b")])
    assert read_("--cursor-file", "cursor") == ["b"]
    precious = tmp_path / "precious"
    precious.write_text("not a cursor")
    with pytest.raises(DataError):
        read.main(["--cursor-file", str(precious)])
    assert precious.read_text() == "not a cursor"
    with pytest.raises(UsageError, match="no folder"):
        read.main(["--cursor-file", str(tmp_path / "nowhere/cursor")])
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("how", ["ENOSPC", "EIO"])
def test_a_cursor_that_cannot_be_stored_stays_where_it_was(home: Home, read_: Read, how: str) -> None:
    Log(home).append([made("a")])
    read_()
    path, at = f"{home.root}/cursor", 1
    while True:
        with Faults(how, at) as faults:
            try:
                assert read_("--cursor-file", path) == ["a"]
                stored = True
            except SystemFailure:
                stored = "rename" in faults.told[: at - 1]  # only its survival of a power cut is in doubt
        assert read_("--cursor-file", path, code=errors.NO if stored else errors.OK) == ([] if stored else ["a"])
        os.unlink(path)
        if faults.calls < at:
            break
        at += 1
    assert at > 3


def test_two_readers_of_one_name_take_turns(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    Log(home).append([made("a")])
    monkeypatch.setattr(Lock.__init__, "__defaults__", (0.01,))
    with Lock(home.run + "/cursors/me.lock"), pytest.raises(TryLater):
        read.main(["--unread", "me"])


# following


class Tail:
    """orc-read as a process, and what it has printed."""

    def __init__(self, home: Home, *argv: str) -> None:
        self._out = f"{home.root}.{time.monotonic_ns()}.out"
        self._errors = self._out + ".err"
        with open(self._out, "wb") as out, open(self._errors, "wb") as err:
            self.child = subprocess.Popen(["orc-read", *argv], stdout=out, stderr=err, stdin=subprocess.DEVNULL)

    def wait_ready(self) -> Tail:
        """Until it watches: what is appended from now on is new to it."""
        wait_until(lambda: "anon_inode:inotify" in self._open_files(), what="the start")
        return self

    def _open_files(self) -> list[str]:
        folder = f"/proc/{self.child.pid}/fd"
        found = []
        for fd in os.listdir(folder):
            try:
                found.append(os.readlink(f"{folder}/{fd}"))
            except FileNotFoundError:
                continue
        return found

    def bodies(self) -> list[str]:
        lines = Path(self._out).read_bytes().split(b"\n")[:-1]
        return [json.loads(line)["message"]["content"]["body"] for line in lines]

    def wait(self, *wanted: str) -> None:
        wait_until(lambda: self.bodies() == list(wanted), what=f"{wanted}, seen {self.bodies()}")

    def errors(self) -> str:
        return Path(self._errors).read_text()

    def end(self) -> None:
        self.child.kill()
        self.child.wait()


@pytest.fixture
def tail(home: Home) -> Iterator[Callable[..., Tail]]:
    started: list[Tail] = []

    def start(*argv: str) -> Tail:
        os.makedirs(home.root, exist_ok=True)
        started.append(Tail(home, *argv))
        return started[-1]

    yield start
    for one in started:
        one.end()


def test_follow_shows_the_last_and_goes_on(home: Home, tail: Callable[..., Tail]) -> None:
    log = Log(home, durable=False)
    log.append([made(str(n), tags=["t"]) for n in range(12)])
    last, none, tagged = [tail("-f", *more).wait_ready() for more in ([], ["-n", "0"], ["-n", "1", "--tag", "x"])]
    log.append([made("new", tags=["x"])])
    log.append([made("more")])
    last.wait(*map(str, range(2, 12)), "new", "more")
    none.wait("new", "more")
    tagged.wait("new")
    assert last.errors() == ""


def test_follow_begins_with_no_log_at_all(home: Home, tail: Callable[..., Tail]) -> None:
    one = tail("-f")
    wait_until(lambda: os.path.isdir(home.events), what="the folder that it watches")
    log = Log(home)
    log.append([made("first")])
    one.wait("first")


def test_follow_misses_nothing_and_shows_nothing_twice_while_it_starts(home: Home, tail: Callable[..., Tail]) -> None:
    log = Log(home, durable=False)
    for start in range(3):
        child = tail("-f", "-n", "100000").child
        del child
        for number in range(300):
            log.append([made(f"{start}.{number}")])
    log.append([made("end")])
    wanted = [f"{start}.{number}" for start in range(3) for number in range(300)] + ["end"]
    one = tail("-f", "-n", "100000")
    one.wait(*wanted)


def test_follow_over_a_replaced_and_a_cut_file(home: Home, tail: Callable[..., Tail]) -> None:
    log = Log(home, durable=False)
    log.append([made("a"), made("b")])
    one = tail("-f")
    one.wait("a", "b")
    path = daylog.day_file(home, days.days(home)[0])
    Path(path + ".new").write_bytes(Path(path).read_bytes())
    os.rename(path + ".new", path)
    log.append([made("c")])
    one.wait("a", "b", "c")
    os.truncate(path, 0)
    log.append([made("d")])
    one.wait("a", "b", "c", "d")
    wait_until(lambda: one.errors().count("was replaced or cut") == 2, what="both told")


def test_follow_survives_an_overflow(home: Home, tail: Callable[..., Tail]) -> None:
    """More changes than inotify keeps, while the reader is stopped (tests/proof has the full number)."""
    log = Log(home, durable=False)
    one = tail("-f", "-n", "0").wait_ready()
    log.append([made("first")])
    one.wait("first")
    os.kill(one.child.pid, signal.SIGSTOP)
    other = home.events + "/noise"
    for number in range(9000):  # two files by turns: changes of one are told once
        with open(other, "ab"):
            os.utime(other)
        log.append([made(str(number))])
    os.kill(one.child.pid, signal.SIGCONT)
    wait_until(lambda: len(one.bodies()) == 9001, 30, "everything")
    assert one.bodies() == ["first", *map(str, range(9000))]


def test_follow_ends_when_nobody_listens(home: Home) -> None:
    Log(home).append([made("a")])
    child = subprocess.Popen(["orc-read", "-f"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline()
    child.stdout.close()
    _, said = child.communicate(timeout=30)
    assert (child.returncode, said) == (141, b"")


def test_follow_quietly_waits_for_one(home: Home, tail: Callable[..., Tail]) -> None:
    log = Log(home)
    log.append([made("a", tags=["old"])])
    assert tail("-f", "-q", "--tag", "old").child.wait(30) == 0
    one = tail("-f", "-q", "-n", "0", "--tag", "new").wait_ready()
    log.append([made("b", tags=["old"])])
    log.append([made("c", tags=["new"])])
    assert one.child.wait(30) == 0 and one.bodies() == []


@pytest.mark.parametrize("argv", [["--unread", "me"], ["--cursor-file", "{home}/c"]])
def test_follow_each_event_once(home: Home, tail: Callable[..., Tail], read_: Read, argv: list[str]) -> None:
    argv = [word.format(home=home.root) for word in argv]
    log = Log(home)
    log.append([made("a")])
    one = tail("-f", *argv)
    one.wait("a")
    log.append([made("b")])
    one.wait("a", "b")
    cursor = argv[1] if argv[0] == "--cursor-file" else home.run + "/cursors/me"
    wait_until(lambda: "," in Path(cursor).read_text())
    place = json.loads(Path(cursor).read_text())
    wait_until(lambda: json.loads(Path(cursor).read_text())[4] == 2, what=f"the cursor behind b, not {place}")
    one.end()
    assert read_(*argv, code=errors.NO) == []
