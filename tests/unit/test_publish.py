"""orc-publish from the inside: what becomes of options, streams and the wait. What a user types is in tests/cmd."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support_faults import Faults
from support_tmux import wait_until
from tmux_orchestrator.agents import roster, sender, stream
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.commands import ack, publish
from tmux_orchestrator.delivery import receipt
from tmux_orchestrator.eventlog import daylog, days, event, follow, reader
from tmux_orchestrator.eventlog.daylog import Log
from tmux_orchestrator.ground import errors, pidfile, proc
from tmux_orchestrator.ground.errors import DataError, SystemFailure, TryLater, UnavailableError, UsageError
from tmux_orchestrator.ground.locks import Lock
from tmux_orchestrator.ground.paths import Home


def stored(home: Home) -> list[dict[str, Any]]:
    return [one for _, one in reader.search(home, reader.Query())]


def bodies(home: Home) -> list[str]:
    return [one["message"]["content"]["body"] for one in stored(home)]


@pytest.fixture
def agents(home: Home) -> list[Agent]:
    """Two sessions, each with a pm; dev is only in the first."""
    made = []
    for session, name, role in (("s", "pm", "pm"), ("s", "dev", "coder"), ("t", "pm", "pm")):
        agent = Agent({"name": name, "session": session, "role": role, "pid": 1, "pid_start": 1})
        roster.register(home, agent)
        made.append(agent)
    return made


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], None]]:
    """Gives the command its standard input."""
    kept = os.dup(0)

    def give(data: bytes) -> None:
        path = f"{os.environ['ORC_HOME']}.stdin"
        Path(path).write_bytes(data)
        fd = os.open(path, os.O_RDONLY)
        os.dup2(fd, 0)
        os.close(fd)

    yield give
    os.dup2(kept, 0)
    os.close(kept)


# one message


def test_every_option_has_its_place(home: Home, agents: list[Agent], capsys: pytest.CaptureFixture[str]) -> None:
    asked = Log(home).append([event.build("question", {"type": "human"}, correlation_id="c-1", hops=2)])[0]
    argv = [
        "-t",
        "dev",
        "-t",
        "t:pm",
        "-t",
        "%7",
        "-t",
        "x:y.1",
        "-t",
        "@pm",
        "-g",
        "management",
        "-p",
        "high",
        "--type",
        "task",
    ]
    argv += [
        "--category",
        "build",
        "--tag",
        "a",
        "--tag",
        "b",
        "--subject",
        "S",
        "--context",
        '{"k": [1]}',
        "--requires-ack",
    ]
    argv += [
        "--reply-to",
        asked,
        "--supersede",
        "key",
        "--ttl",
        "5m",
        "--at",
        "2030-01-01T00:00:00Z",
        "--id",
        "build-1",
    ]
    argv += ["--from", "s:someone", "two", "words"]
    assert publish.main(argv) == 0
    assert capsys.readouterr().out == "build-1\n"
    one = stored(home)[-1]
    assert one["to"] == {"groups": ["management"], "targets": ["s:dev", "t:pm", "%7", "x:y.1", "@pm"]}
    assert one["source"] == {
        "type": "agent", "identifier": "someone", "session": "s", "host": os.uname().nodename, "verified": False
    }  # fmt: skip
    assert one["message"] == {
        "type": "task", "category": "build", "priority": "high",
        "content": {"subject": "S", "body": "two words", "context": {"k": [1]}},
    }  # fmt: skip
    assert one["metadata"] == {
        "requires_ack": True, "tags": ["a", "b"], "correlation_id": "c-1", "reply_to": asked, "supersedes": "key",
        "not_before": "2030-01-01T00:00:00.000000Z", "expires": "2030-01-01T00:05:00.000000Z", "hops": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    "body", ["\\n $HOME `x` %s", "two\nlines\n", "\ttab\x00\x1b[201~", "🚨 ünï", "-dash;", "  spaces  "]
)
def test_what_is_given_is_what_arrives(home: Home, stdin: Callable[[bytes], None], body: str) -> None:
    publish.main(["--", body])
    stdin(body.encode() + b"\n")
    publish.main([])
    assert bodies(home) == [body, body]


TO_DEV = ["-t", "dev"]
MISUSED = [
    ["-p", "urgent", "x"], ["--type", "Bad", "x"], ["--tag", "", "x"], ["--tag", "a\nb", "x"],
    ["--category", "\x1b", "x"], ["--subject", "a\nb", "x"], ["--oops", "x"], ["--from", "", "x"],
    ["--from", "s:", "x"], ["--from", "a\nb", "x"], ["--reply-to", "nothing", "x"], ["--supersede", "x" * 129, "x"],
    ["-g", "", "x"], ["--correlation-id", "a\tb", "x"], ["--ttl", "soon", "x"], ["--at", "soon", "x"],
    ["--in", "soon", "x"], ["--at", "2030-01-01", "--in", "5m", "x"], ["-t", "", "x"], ["-t", "nobody", "x"],
    ["-t", "pm", "x"], ["-t", "@none", "x"], ["-t", "@No", "x"], ["-t", "%x", "x"], ["-t", "a\nb", "x"],
    ["--file", "/no/file"], ["--file", "f", "x"], ["--wait", "x"], ["--wait=soon", *TO_DEV, "x"],
    ["--wait", "acked", *TO_DEV, "x"],
    ["--wait", *TO_DEV, "--timeout", "x", "y"], ["--lines", "x"], ["--jsonl", "x"], ["--lines", "--jsonl"],
    ["--lines", "--id", "build-1"], ["--lines", "--wait", *TO_DEV],
]  # fmt: skip


@pytest.mark.parametrize("argv", MISUSED)
def test_usage_errors_store_nothing(home: Home, agents: list[Agent], argv: list[str]) -> None:
    with pytest.raises(UsageError) as told:
        publish.main(argv)
    assert ": " in str(told.value)
    assert not os.path.exists(home.events)


@pytest.mark.parametrize(
    "argv",
    [
        [""], [" \n "], ["\udcff"], ["--context", "{", "x"], ["--context", "[1]", "x"],
        ["--context", '{"a": "\udcff"}', "x"],
        ["--context", '{"a": 1e999}', "x"], ["--id", "a/bcdef", "x"], ["--id", "short", "x"], ["x" * 300_000],
        ["--context", "[" * 200 + "]" * 200, "x"], ["--context", '{"a":' * 101 + "1" + "}" * 101, "x"],
    ],
)  # fmt: skip
def test_bad_data_stores_nothing(home: Home, argv: list[str]) -> None:
    with pytest.raises(DataError):
        publish.main(argv)
    assert not os.path.exists(home.events)


@pytest.mark.parametrize("data", [b"", b"\n", b"\xff", b"\xc3", b"x" * 300_000])
def test_bad_standard_input_stores_nothing(home: Home, stdin: Callable[[bytes], None], data: bytes) -> None:
    stdin(data)
    with pytest.raises(DataError):
        publish.main([])
    assert not os.path.exists(home.events)


def test_a_name_that_will_come(home: Home, agents: list[Agent]) -> None:
    assert publish.main(["-t", "later", "--queue", "x"]) == 0
    one = stored(home)[-1]
    assert one["to"]["targets"] == ["later"] and one["metadata"]["queue"] is True
    with pytest.raises(UsageError, match="did you mean dev"):
        publish.main(["-t", "devv", "x"])


def test_a_bare_name_means_the_callers_session(
    home: Home, agents: list[Agent], monkeypatch: pytest.MonkeyPatch
) -> None:
    me = Agent(
        {"name": "me", "session": "t", "role": "coder", "pid": os.getpid(), "pid_start": proc.start_time(os.getpid())}
    )
    roster.register(home, me)
    publish.main(["-t", "pm", "x"])
    one = stored(home)[-1]
    assert one["to"]["targets"] == ["t:pm"]
    assert (
        one["source"]["verified"] is True and one["source"]["identifier"] == "me" and one["source"]["type"] == "agent"
    )
    publish.main(["-t", "pm", "--from", "s:dev", "x"])
    claimed = stored(home)[-1]["source"]
    assert (claimed["verified"], claimed["identifier"], claimed["session"]) == (False, "dev", "s")
    for name in ("me", "t:me"):
        assert sender.source([me], name)["verified"] is True


# streams


def test_lines(home: Home, stdin: Callable[[bytes], None], capsys: pytest.CaptureFixture[str]) -> None:
    stdin(b"one\n\n  \ntwo\n\xff\nthree\n" + b"y" * 300_000 + b"\n" + b"z" * 900_000 + b"\nlast without a newline")
    assert publish.main(["--lines", "--tag", "t"]) == errors.DATA
    said = capsys.readouterr()
    assert bodies(home) == ["one", "two", "three", "last without a newline"]
    assert said.out.split() == [one["id"] for one in stored(home)]
    told = said.err.strip().split("\n")
    assert [line.split(":")[1].strip() for line in told] == ["line 5", "line 7", "line 8"]
    assert all(one["metadata"]["tags"] == ["t"] for one in stored(home))


LOG = {"type": "daemon", "identifier": "log", "verified": True}


def test_events(
    home: Home, agents: list[Agent], stdin: Callable[[bytes], None], capsys: pytest.CaptureFixture[str]
) -> None:
    good = {"message": {"type": "task", "content": {"body": "a"}}, "mine": 1, "id": "build-1"}
    lines = [
        json.dumps(good), json.dumps(good), "{", "[]", "5", '{"message": {"content": {"body": ""}}}',
        json.dumps({"to": {"targets": ["dev"]}, "message": {"content": {"body": "b"}}}),
        json.dumps({"to": {"targets": ["nobody"]}, "message": {"content": {"body": "c"}}}),
        json.dumps({"id": "x", "message": {"content": {"body": "d"}}}),
        json.dumps({"source": LOG, "message": {"content": {"body": "e"}}}),
        json.dumps({"message": {"content": {"body": "f" * 300_000}}}),
        '{"message": {"content": {"body": "g", "context": {"x": 1e999}}}}',
        json.dumps({"seq": 99, "timestamp": "x", "metadata": {"tags": ["own"]}, "message": {"content": {"body": "h"}}}),
    ]  # fmt: skip
    stdin("\n".join(lines).encode())
    assert publish.main(["--jsonl", "-t", "t:pm", "-p", "high", "--tag", "given"]) == errors.DATA
    said = capsys.readouterr()
    assert [line.split(":")[1].strip() for line in said.err.strip().split("\n")] == [
        f"line {n}" for n in (3, 4, 5, 6, 8, 9, 11, 12)
    ]
    told = {one["message"]["content"]["body"]: one for one in stored(home)}
    assert list(told) == ["a", "b", "e", "h"]
    assert said.out.split() == ["build-1", "build-1", *(told[body]["id"] for body in "beh")]
    assert told["a"]["mine"] == 1 and told["a"]["message"]["type"] == "task"
    assert told["a"]["to"]["targets"] == ["t:pm"] and told["b"]["to"]["targets"] == ["s:dev"]
    assert told["a"]["message"]["priority"] == "high" and told["a"]["metadata"]["tags"] == ["given"]
    assert told["e"]["source"]["verified"] is False and told["e"]["source"]["identifier"] == "log"
    assert told["h"]["metadata"]["tags"] == ["own"] and [one["seq"] for one in stored(home)] == [1, 2, 3, 4]


def test_a_slow_pipe_does_not_wait(home: Home) -> None:
    """Each line is on disk, and its id printed, before the next one comes."""
    child = subprocess.Popen(["orc-publish", "--lines"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert child.stdin is not None and child.stdout is not None
    with child:
        for text in ("one", "two", "three"):
            child.stdin.write(text.encode()[:2])
            child.stdin.write(text.encode()[2:] + b"\n")
            said = child.stdout.readline().decode().strip()
            assert stored(home)[-1]["id"] == said and bodies(home)[-1] == text
        child.stdin.close()
        assert child.wait() == 0


def test_a_stream_that_cannot_go_on_says_where_it_stopped(
    home: Home, stdin: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stream, "groups", lambda fd: iter([[b"a", b"b"], [b"c", b"", b"d"], [b"e"]]))
    with (
        Faults("ENOSPC", at=2, only=("write",), times=1),
        pytest.raises(SystemFailure, match=r"^line 3 and what follows"),
    ):
        publish.main(["--lines"])
    assert bodies(home) == ["a", "b"] and len(capsys.readouterr().out.split()) == 2
    with Lock(home.run + "/log.lock"):
        monkeypatch.setattr(Log.__init__, "__defaults__", (True, lambda: time.time_ns(), 0.01))
        with pytest.raises(TryLater, match=r"^line 1 and"):
            publish.main(["--lines"])


def test_groups_of_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = iter([b"a\nb", b"b\n", b"c", b"\n\n", b"d", b""])
    monkeypatch.setattr(stream, "read", lambda fd: next(blocks))
    assert list(stream.groups(0)) == [[b"a"], [b"bb"], [b"c", b""], [b"d"]]


# waiting


class Told:
    """A log in which a test says what a broker would."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.log = Log(home, durable=False)
        self.place = follow.Place()
        self.id = self.log.append([event.build("x", {"type": "human"}, targets=["s:dev", "s:pm"])])[0]

    def say(self, outcome: str, reason: str = "", target: str = "s:dev", final: bool = False, **more: Any) -> None:
        context = {"event": self.id, "target": target, "outcome": outcome, "reason": reason, "final": final, **more}
        kind = "rate_limited" if outcome == "rate_limited" else "delivery"
        self.log.append([event.build(outcome, daylog.daemon_source("broker"), type=kind, context=context)])

    def wait(self, stage: str = "confirmed", seconds: float = 0.05) -> int:
        return receipt.wait(self.home, self.place, self.id, stage, seconds)


OK, NO, GONE, LATE = errors.OK, errors.NO, errors.UNAVAILABLE, errors.TIMEOUT
SAID: list[tuple[str, list[tuple[Any, ...]], int]] = [
    ("confirmed", [], LATE),
    ("typed", [("typed",)], OK),
    ("confirmed", [("typed",)], LATE),
    ("confirmed", [("typed",), ("confirmed",)], OK),
    ("confirmed", [("typed", "", "s:dev", True)], OK),
    ("confirmed", [("typed", "unconfirmed", "s:dev", True)], GONE),
    ("confirmed", [("typed", "not_submitted", "s:dev", True)], GONE),
    ("acked", [("typed",), ("confirmed",)], LATE),
    ("acked", [("typed",), ("acked", "by s:dev", "s:dev", True)], OK),
    ("typed", [("held", "draft")], LATE),
    ("typed", [("rate_limited", "window")], LATE),
    ("typed", [("held", "draft"), ("typed",)], OK),
    ("confirmed", [("failed", "agent_gone")], GONE),
    ("confirmed", [("failed", "unknown_target", "s:dev", True)], GONE),
    ("confirmed", [("expired", "", "s:dev", True)], NO),
    ("confirmed", [("superseded", "", "s:dev", True)], NO),
    ("confirmed", [("dead", "", "s:dev", True)], NO),
    ("confirmed", [("digested", "flood", "s:dev", True)], NO),
    ("typed", [("dead", "x", "other", True)], NO),
]


@pytest.mark.parametrize(("stage", "said", "code"), SAID)
def test_the_code_of_a_wait(home: Home, stage: str, said: list[tuple[Any, ...]], code: int) -> None:
    told = Told(home)
    for one in said:
        told.say(*one)
    assert told.wait(stage) == code


def test_of_several_targets_the_worst(home: Home) -> None:
    told = Told(home)
    told.say("typed", target="s:dev", targets=2)
    assert told.wait("typed") == LATE
    told.say("expired", target="s:pm", final=True, targets=2)
    assert told.wait("typed") == NO
    told.say("failed", "agent_gone", target="s:pm", targets=2)
    assert told.wait("typed") == GONE


@pytest.mark.parametrize("form", ["{}", "{short}"])
def test_an_acknowledgment_ends_the_wait(home: Home, form: str) -> None:
    told = Told(home)
    told.say("typed")
    name = form.format(told.id, short=event.short(told.id))
    told.log.append([event.build(f"PM ACK: {name} done", {"type": "pm"}, tags=["acknowledgment"])])
    assert told.wait("acked") == OK


@pytest.mark.parametrize("junk", [{"targets": "x"}, {"target": [1]}, {"outcome": 5}, {"final": "x", "outcome": "odd"}])
def test_junk_in_records_is_no_defect(home: Home, junk: dict[str, Any]) -> None:
    told = Told(home)
    context = {"event": told.id, "target": "s:dev", "outcome": "held"} | junk
    told.log.append([event.build("x", {"type": "daemon"}, type="delivery", context=context)])
    with open(daylog.day_file(home, days.days(home)[0]), "ab") as file:
        file.write(json.dumps({"id": told.id, "timestamp": "x", "message": {"type": "delivery"}}).encode() + b"\n")
    assert told.wait() in (LATE, NO)


def test_it_is_woken_not_polling(home: Home) -> None:
    told = Told(home)
    threading.Timer(0.1, lambda: told.say("typed")).start()
    assert told.wait("typed", 30) == OK


def test_no_broker_no_wait(home: Home, agents: list[Agent], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnavailableError, match="no broker runs"):
        publish.main(["-t", "dev", "--wait", "x"])
    assert capsys.readouterr().out.strip() == stored(home)[-1]["id"], "published all the same"


def test_waiting_from_the_command(home: Home, agents: list[Agent], capsys: pytest.CaptureFixture[str]) -> None:
    claim = pidfile.claim(home, "broker")
    assert claim is not None
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(publish.main(["-t", "dev", "--wait=typed", "x"])))
    thread.start()
    wait_until(lambda: os.path.isdir(home.events) and bool(stored(home)), what="the event")
    context = {"event": stored(home)[0]["id"], "target": "s:dev", "outcome": "typed"}
    Log(home).append([event.build("typed", daylog.daemon_source("broker"), type="delivery", context=context)])
    thread.join(30)
    assert codes == [0]
    assert publish.main(["-t", "dev", "--wait", "--timeout", "0.05", "y"]) == LATE
    assert "gave up waiting" in capsys.readouterr().err
    os.close(claim)


# acknowledging


def test_ack(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    ids = Log(home).append([event.build(text, {"type": "human"}) for text in ("a", "b")])
    assert ack.main([ids[0], "#" + event.short(ids[1]), "--note", "done\nreally", "--from", "s:pm"]) == 0
    first, second = stored(home)[2:]
    assert [one["message"]["content"]["context"]["event"] for one in (first, second)] == ids
    assert first["metadata"]["reply_to"] == ids[0] and first["source"]["identifier"] == "pm"
    assert first["message"]["content"]["body"] == f"ACK {ids[0]} - done\nreally" and first["message"]["type"] == "ack"
    assert capsys.readouterr().out.split() == [first["id"], second["id"]]


@pytest.mark.parametrize("argv", [[], ["nothing"], ["#"], ["../../x"], [""]])
def test_ack_of_nothing(home: Home, argv: list[str]) -> None:
    Log(home).append([event.build("a", {"type": "human"})])
    with pytest.raises(UsageError):
        ack.main(argv)
    assert len(stored(home)) == 1


def test_one_wrong_id_acknowledges_none(home: Home) -> None:
    ids = Log(home).append([event.build("a", {"type": "human"})])
    with pytest.raises(UsageError):
        ack.main([ids[0], "nothing"])
    with pytest.raises(DataError):
        ack.main([ids[0], "--note", "\udcff"])
    assert len(stored(home)) == 1
