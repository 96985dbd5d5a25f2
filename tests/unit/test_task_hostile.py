"""What nobody should send to the task queue: refused in one line with the right code, or kept as what it is."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support_tasks import Clock, open_queue, states, task
from tmux_orchestrator.commands import task as command
from tmux_orchestrator.ground import errors
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.insight import task_figures
from tmux_orchestrator.work import reading
from tmux_orchestrator.work.message import LARGEST
from tmux_orchestrator.work.queue import MessageQueue
from tmux_orchestrator.work.store.database import Database

SQL = "x'; DROP TABLE tasks; --"
STRANGE = [
    "",
    " ",
    SQL,
    "../../etc/passwd",
    "a/b",
    "a\0b",
    "a\nb",
    "a\x1b[31m",
    "\udcff",
    "é" * 40,
    "a" * 65,
    "-r",
    "☃",
    "%s",
]
HUGE = ["9" * 30, "1e400", "-1", "nan", "0x10", "1.5", "", "９"]


@pytest.fixture
def queue(home: Home) -> Any:
    made = MessageQueue(home=home)
    made.send(task(task_id="task-one"))
    yield made
    assert states(made)["task-one"] == "queued"  # whatever was said
    made.close()


def refused(*argv: str, data: bytes = b"", codes: tuple[int, ...] = (errors.USAGE, errors.DATA)) -> str:
    """What it said; the code is one of these."""
    said = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", errors="surrogateescape")
    before, sys.stdin = sys.stdin, said
    try:
        command.main(list(argv))
    except errors.OrcError as error:
        assert error.code in codes, (argv, error.code, error)
        return str(error)
    finally:
        sys.stdin = before
    raise AssertionError(f"{argv} was taken")


@pytest.mark.parametrize("text", STRANGE)
def test_names_that_are_none(queue: MessageQueue, text: str) -> None:
    for option in ("--recipient", "--type", "--id", "--group", "--from", "--after"):
        if text or option not in ("--type", "--id"):  # without one, the usual
            refused("send", *(() if option == "--recipient" else ("-r", "dev")), f"{option}={text}", "x")
    for words in (
        ["get", f"--recipient={text}"],
        ["pause", f"--group={text}"],
        ["limit", "--jobs=1", f"--group={text}"],
    ):
        refused(*words)
    for action in ("cancel", "retry", "show", "start"):
        refused(action, "--", text)
    for action in ("done", "fail", "extend", "release"):
        refused(action, "--token=t", "--", text)
        refused(action, f"--token={text}", "task-one")
    try:
        assert command.main(["list", f"--recipient={text}", f"--type={text}", f"--from={text}"]) == 0
    except errors.DataError as error:
        assert "not Unicode" in str(error)


@pytest.mark.parametrize("text", HUGE)
def test_numbers_and_times_that_are_none(queue: MessageQueue, text: str) -> None:
    for option in ("--priority", "--attempts", "--at", "--in", "--ttl"):
        if option in ("--priority", "--attempts") or text not in ("", "-1", "1.5"):  # those are times
            refused("send", "-r", "dev", f"{option}={text}", "x")
    for words in (
        ["get", "-r", "dev", f"--lease={text}"],
        ["get", "-r", "dev", f"--pid={text}"],
        ["start", "task-one", f"--lease={text}"],
        ["done", "task-one", "--token=t", f"--duration={text}"],
        ["done", "task-one", "--token=t", f"--exit={text}"],
        ["list", f"--tail={text}"],
        ["slowest", f"--tail={text}"],
        ["limit", "dev", f"--jobs={text}"],
        ["prune", f"--older-than={text}"],
        ["migrate", f"--to={text}"],
    ):
        if text not in ("", "1.5") or not words[-1].startswith("--lease"):
            refused(*words)


@pytest.mark.parametrize(
    "text", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2026-02-30", "10000-01-01", "@" + "9" * 25, "in a while"]
)
def test_times_out_of_range_do_no_harm(queue: MessageQueue, text: str) -> None:
    for words in (["send", "-r", "ops", f"--at={text}", "x"], ["pause", "ops", f"--until={text}"]):
        try:
            command.main(words)
        except errors.OrcError as error:
            assert error.code in (errors.USAGE, errors.DATA), (words, error)
    assert command.main(["list"]) == 0
    queue.sweep(now=True)
    for span in ("999999999999d", "0s", "1e9d"):
        for words in (["send", "-r", "ops", f"--in={span}", "x"], ["send", "-r", "ops", f"--ttl={span}", "x"]):
            try:
                command.main(words)
            except errors.OrcError as error:
                assert error.code in (errors.USAGE, errors.DATA), (words, error)
    queue.sweep(now=True)
    queue.get("ops")


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": 1} trailing',
        b"{" + b'"a": {' * 200 + b"}" * 201,
        b'{"a": ' + b"[" * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": "' + b"x" * LARGEST + b'"}',
        b"y" * (LARGEST + 1),
        b'{"a": "\xff"}',
        b"\0",
    ],
)
def test_payloads_that_cannot_be(queue: MessageQueue, data: bytes) -> None:
    done = subprocess.run(["orc-task", "send", "-r", "ops", "-"], input=data, capture_output=True, check=False)
    found = list(reading.tasks(queue.database, "ops"))
    if data[:1] == b"\0":  # text that is no JSON is text
        assert done.returncode == 0 and found[0]["payload"] == {"text": "\0"}
    else:
        assert done.returncode == errors.DATA and done.stderr.count(b"\n") == 1 and not found, done


def test_payloads_that_are_strange_arrive_as_they_are(queue: MessageQueue) -> None:
    texts = [
        '{"a": "\\ud800"}',
        '{"n": 123456789012345678901234567890}',
        '{"a": "\\u0000"}',
        '{"' + SQL + '": "' + SQL + '"}',
    ]
    for text in texts:
        assert command.main(["send", "-r", "ops", text]) == 0
    got = [queue.get("ops") for _ in texts]
    assert [one.payload for one in got if one] == [json.loads(text) for text in texts]


LINES: list[Any] = [
    "{",
    "[]",
    "null",
    "1",
    '"text"',
    "\xff",
    {"payload": []},
    {"payload": "text"},
    {"payload": 1},
    {"recipient": 7},
    {"recipient": [SQL]},
    {"sender": {"a": 1}},
    {"type": True},
    {"type": SQL},
    {"priority": "urgent"},
    {"priority": True},
    {"priority": 1.0},
    {"priority": 10**30},
    {"priority": 0},
    {"priority": [1]},
    {"task_id": 123456789},
    {"task_id": SQL},
    {"task_id": ["task-x"]},
    {"group": 1},
    {"group": {}},
    {"after": "task-one"},
    {"after": [1]},
    {"after": ["no-such-task"]},
    {"after": {"task-one": 1}},
    {"not_before": 12},
    {"not_before": "soon"},
    {"not_before": ["2026-01-01T00:00:00Z"]},
    {"not_before": "9999-99-99T99:99:99Z"},
    {"expires": 10**30},
    {"expires": {}},
    {"correlation_id": 5},
    {"correlation_id": "a\nb"},
    {"correlation_id": []},
    {"max_attempts": 0},
    {"max_attempts": 10**30},
    {"max_attempts": "3"},
    {"max_attempts": True},
    {"token": "mine"},
    {"self": 1},
    {SQL: 1},
]


@pytest.mark.parametrize("line", LINES, ids=repr)
def test_a_bad_line_in_a_stream_is_named_and_the_batch_is_not_queued(queue: MessageQueue, line: Any) -> None:
    text = line if isinstance(line, str) else json.dumps(line)
    data = "{}\n\n{}\n" + text + "\n{}\n"
    said = refused("send", "-r", "ops", "--jsonl", data=data.encode("latin-1"))
    assert "\n" not in said and ("line 4" in said or "no-such-task" in said), said
    assert list(reading.tasks(queue.database, "ops")) == []


def test_a_line_without_an_end_is_refused_and_not_read_to_it(home: Home) -> None:
    child = subprocess.Popen(
        ["orc-task", "send", "-r", "dev", "--jsonl"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdin is not None and child.stderr is not None and child.stdout is not None
    sent = 0
    try:
        while sent < 1 << 30:
            sent += child.stdin.write(b'{"payload": {"a": "' if not sent else b"x" * (1 << 16))
    except BrokenPipeError:
        pass
    finally:
        try:
            child.stdin.close()
        except BrokenPipeError:
            pass
        said = child.stderr.read()
        child.stderr.close()
        child.stdout.close()
    assert child.wait(60) == errors.DATA and said.count(b"\n") == 1 and sent < 1 << 23, (sent, said)


def test_a_stream_keeps_what_came_before_the_bad_batch(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused("send", "-r", "dev", "--jsonl", data=b"{}\n" * 300 + b"no\n")
    assert "line 301" in said
    queue = MessageQueue(home=home)
    ids = capsys.readouterr().out.split()
    assert len(ids) == queue.size() == 256 and set(ids) == states(queue).keys()
    queue.close()


def test_rows_that_others_wrote_are_shown_and_end_nobody(home: Home) -> None:
    queue = MessageQueue(home=home)
    for number, payload in enumerate(("no json", "[1]", "7", '{"a": NaN}', "[" * 5000, "")):
        queue.database.change(
            "INSERT INTO tasks (task_id, sender, recipient, type, priority, payload, created_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            *(f"x\x1b[31m{number}", "a\nb", "dev", SQL, 99 - number * 1000, payload, "yesterday"),
        )
    assert command.main(["list"]) == command.main(["depth"]) == command.main(["list", "-o", "table"]) == 0
    queue.send(task(task_id="task-good"))
    got = [queue.get("dev") for _ in range(8)]
    assert "task-good" in [one.task_id for one in got if one]
    queue.close()


@pytest.mark.parametrize("column", ["wake_boot", "worker", "token", "priority", "started_boot"])
@pytest.mark.parametrize("value", [None, "soon", b"\xff", 1.5])
def test_columns_that_somebodys_own_sql_has_set_stop_nobody(home: Home, column: str, value: object) -> None:
    queue = MessageQueue(home=home)
    queue.send_all([task(task_id="task-held"), task(task_id="task-rests"), task(task_id="task-waits")])
    for state, live in (("held", 2), ("rests", 3), ("waits", 1)):
        set_to = f"status = 'running', live = {live}" if live == 2 else f"live = {live}"
        queue.database.change(f"UPDATE tasks SET {set_to}, wake_boot = 1 WHERE task_id = 'task-{state}'")
    if column != "priority" or value is not None:
        queue.database.change(f"UPDATE tasks SET {column} = ?", value)
    queue.sweep(now=True)
    given = {one.task_id for one in (queue.get("dev") for _ in range(3)) if one}
    assert given == {"task-held", "task-rests", "task-waits"}
    queue.database.change("UPDATE tasks SET status = 'queued', live = 1")
    assert task_figures.depths(queue.database)["dev"].queued == 3
    queue.close()


def test_a_row_that_is_no_text_is_damage_and_goes(home: Home) -> None:
    queue = MessageQueue(home=home)
    queue.send(task(task_id="task-good"))
    queue.database.change("UPDATE tasks SET error_message = CAST(x'ff' AS TEXT)")
    queue.send(task(task_id="task-more"))
    queue.close()
    done = subprocess.run(["orc-task", "list", "-o", "task_id"], capture_output=True, text=True, check=False)
    assert done.returncode in (0, errors.DATA) and "Traceback" not in done.stderr and done.stderr.count("\n") <= 1, done
    subprocess.run(["orc-task", "repair"], capture_output=True, check=True)
    done = subprocess.run(["orc-task", "list", "-o", "task_id"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "task-more" in done.stdout


def test_a_database_with_other_tables_is_told_in_one_line(home: Home) -> None:
    path = Path(home.root, "data", "orchestrator.db")
    path.parent.mkdir(0o700, parents=True)
    database = Database(str(path), version=None)
    database.change("CREATE TABLE tasks (a, b)")
    database.change("PRAGMA user_version = 2")
    database.close()
    for words in (["list"], ["send", "-r", "dev", "x"], ["get", "-r", "dev"]):
        done = subprocess.run(
            ["orc-task", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
        assert done.returncode == errors.DATA and done.stderr.count("\n") == 1, done


def test_the_commands_clock_may_step_and_nobody_loses_a_task(home: Home, tmp_path: Path) -> None:
    """The real command, an hour ahead and an hour back, beside a claim that holds for a minute."""
    skew = tmp_path / "skew"
    stepped = [sys.executable, "-I", os.path.dirname(os.path.dirname(__file__)) + "/programs/stepped.py", "orc-task"]

    def say(seconds: int, *words: str) -> str:
        skew.write_text(str(seconds))
        done = subprocess.run(
            [*stepped, str(skew), *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
        assert done.returncode in (0, 1) and not done.stderr, done
        return done.stdout

    queue = MessageQueue(home=home)
    queue.send(task(task_id="task-one"))
    queue.send(task(task_id="task-later", not_before="2100-01-01T00:00:00Z"))
    claim = queue.get("dev", lease=60)
    assert claim is not None
    for seconds in (3600, -3600, 86_400 * 365, 0):
        assert say(seconds, "get", "-r", "dev") == ""
        assert states(queue)["task-one"] == "running"
    queue.mark_completed("task-one", token=claim.token)
    say(0, "send", "-r", "dev", "--id", "task-hour", "--in", "1h", "x")
    assert say(-7200, "get", "-r", "dev") == say(0, "get", "-r", "dev") == ""
    assert "task-hour" in say(3700, "get", "-r", "dev", "-o", "task_id")
    say(0, "send", "-r", "dev", "--id", "task-short", "--ttl", "1h", "x")
    assert say(-7200, "show", "task-short", "-o", "status") == "queued\n"
    say(3700, "list")
    assert states(queue)["task-short"] == "cancelled"
    queue.close()


def test_a_worker_that_was_stopped_past_its_lease_is_refused(home: Home) -> None:
    with Clock() as clock:
        queue, other = open_queue(home), open_queue(home)
        queue.send(task(task_id="task-one"))
        late = queue.get("dev", lease=10)
        clock.passes(11)
        on_time = other.get("dev", lease=10)
        assert late is not None and on_time is not None and on_time.attempt == 2
        with pytest.raises(errors.DataError, match="another worker has it"):
            queue.mark_completed("task-one", token=late.token)
        other.mark_completed("task-one", token=on_time.token)
        with pytest.raises(errors.DataError, match="it is completed"):
            queue.mark_failed("task-one", "late", token=late.token)
        queue.close()
        other.close()
