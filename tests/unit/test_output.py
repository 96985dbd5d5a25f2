"""What reaches a terminal or a pipe."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmux_orchestrator.ground import fastjson, output
from tmux_orchestrator.ground.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
BIDI = [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
RECORDS: list[dict[str, Any]] = [
    {"name": "anna", "state": "idle", "groups": ["a", "b"], "source": {"type": "pm"}, "paused": False},
    {"name": "b\x1b[31mob", "state": None, "groups": [], "source": {"type": "x\ty"}, "paused": True},
]
KNOWN = ("name", "state", "groups", "source", "paused")


@pytest.mark.parametrize(
    "code", [*range(0x300), *BIDI, 0x2028, 0x2029, 0xFEFF, 0xD800, 0xDFFF, 0xE0041, 0x2060, 0x200B]
)
def test_no_control_character_is_sent(code: int) -> None:
    char = chr(code)
    shown = output.clean(f"a{char}b")
    if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        assert char not in shown and shown.isprintable() and shown.startswith("a\\")
    else:
        assert shown == f"a{char}b"


@given(st.text())
def test_any_text_is_safe_afterwards(text: str) -> None:
    shown = output.clean(text)
    bad = {"Cc", "Cs", "Zl", "Zp", "Cf"}
    assert not [c for c in shown if unicodedata.category(c) in bad and c not in "\u200c\u200d"]
    assert output.clean(shown) == shown


def test_what_languages_need_is_kept() -> None:
    for text in ("naïve\xa0!", "日本\u3000語", "👩\u200d💻 ⚠️", "می\u200cخواهم", "שלום", "10\u202f000"):
        assert output.clean(text) == text
    assert output.clean("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"


def test_fields() -> None:
    record = {"a": {"b": "x\ty\nz"}, "n": 0, "t": True, "l": ["p", "q\n"], "d": [{"k": 1}], "e": "", "z": None}
    assert output.fields(record, ["a.b", "n", "t", "l", "d", "e", "z", "no", "a.b.c", "a"]) == (
        'x\\ty\\nz\t0\ttrue\tp,q\\n\t[{"k": 1}]\t-\t-\t-\t-\t{"b": "x\\ty\\nz"}'
    )


@given(st.dictionaries(st.text(max_size=3), st.text() | st.lists(st.text()) | st.none() | st.integers(), max_size=4))
def test_fields_are_one_line_of_as_many_columns(record: dict[str, Any]) -> None:
    names = list(record) or ["x"]
    line = output.fields(record, names)
    assert len(line.split("\t")) == len(names)
    assert len(line.splitlines()) == 1 and "" not in line.split("\t")


@pytest.mark.parametrize(
    ("text", "columns"),
    [("abc", 3), ("日本", 4), ("é", 1), ("e\u0301", 1), ("👩", 2), ("⚠\ufe0f", 2), ("⚠", 1), ("", 0), ("a\u200db", 2)],
)
def test_width(text: str, columns: int) -> None:
    assert output.width(text) == columns


@given(st.text(), st.integers(0, 20))
def test_a_cut_text_fits(text: str, columns: int) -> None:
    assert output.width(output.cut(output.clean(text), columns)) <= columns


def printed(capsys: pytest.CaptureFixture[str], wanted: str | None, **more: Any) -> str:
    assert output.show(RECORDS, wanted, ("name", "state", "source.type"), KNOWN, **more) == 2
    return capsys.readouterr().out


def test_a_pipe_gets_jsonl(capsys: pytest.CaptureFixture[str]) -> None:
    assert [fastjson.loads(line) for line in printed(capsys, None).splitlines()] == RECORDS
    assert printed(capsys, "jsonl") == printed(capsys, None)


def test_the_other_forms(capsys: pytest.CaptureFixture[str]) -> None:
    assert fastjson.loads(printed(capsys, "json")) == RECORDS
    assert printed(capsys, "table") == (
        "NAME         STATE  TYPE\n"
        "anna         idle   pm\n"
        "b\\x1b[31mob  -      x\\ty\n"
    )  # fmt: skip
    assert printed(capsys, "text") == printed(capsys, "table")
    assert printed(capsys, "text", text=lambda one: one["name"] + "!") == "anna!\nb\\x1b[31mob!\n"
    assert printed(capsys, "name,source.type,paused") == "anna\tpm\tfalse\nb\\x1b[31mob\tx\\ty\ttrue\n"
    assert printed(capsys, "state") == "idle\n-\n"


def test_nothing_to_show(capsys: pytest.CaptureFixture[str]) -> None:
    for wanted, expected in (("table", ""), ("jsonl", ""), ("json", "[]\n"), ("name", "")):
        assert output.show([], wanted, ("name",), KNOWN) == 0
        assert capsys.readouterr().out == expected


@pytest.mark.parametrize(
    ("wanted", "near"), [("nmae", "name"), ("name,stat", "state"), ("jsonn", "json"), ("name,", "")]
)
def test_a_field_that_is_none_is_a_slip(wanted: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"there is no field .*{near}.*take of name, state"):
        output.show(RECORDS, wanted, ("name",), KNOWN)


def on_a_terminal(script: str, environment: dict[str, str] | None = None) -> str:
    """What a script prints on a terminal of its own."""
    ours, theirs = pty.openpty()
    env = {"TERM": "xterm", "PYTHONPATH": str(ROOT / "lib"), "PATH": os.environ["PATH"], **(environment or {})}
    lead = "import fcntl, struct, termios; fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack('4H', 9, 30, 0, 0))\n"
    program = [sys.executable, "-X", "utf8", "-c", lead + script]
    with subprocess.Popen(program, stdout=theirs, stderr=subprocess.PIPE, env=env) as process:
        os.close(theirs)
        got = b""
        while True:
            try:
                part = os.read(ours, 65_536)
            except OSError:  # Linux says EIO when the other side is closed
                break
            if not part:
                break
            got += part
        assert process.stderr is not None and process.stderr.read() == b""
    os.close(ours)
    return got.decode()


TABLE = (
    "from tmux_orchestrator.ground import output\n"
    "records = [{'n': 'anna', 'body': 'x' * 80}, {'n': 'b\\x1b[2J\\u202e', 'body': '日' * 80}]\n"
    "output.show(records, None, ('n', 'body'), ('n',))"
)


def test_a_terminal_gets_a_table_that_fits() -> None:
    text = on_a_terminal(TABLE)
    head, first, second = text.splitlines()
    assert head == "\x1b[1mN               BODY\x1b[0m"
    assert first == "anna            " + "x" * 13 + "…"
    assert second.startswith("b\\x1b[2J\\u202e  日日") and output.width(second) <= 30


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_it_is_not_wanted(environment: dict[str, str]) -> None:
    assert "\x1b" not in on_a_terminal(TABLE, environment)


def test_paint_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert output.paint("x", "red") == "x"


def test_starting_with_it_imports_little() -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'lib')!r})\nfrom tmux_orchestrator.ground import output, times\n"
    )
    script += "output.fields({'a': 'x\\x07'}, ['a']); times.parse_time('5m', 10**18); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    heavy = {"re", "json", "typing", "dataclasses", "enum", "functools", "collections", "unicodedata", "datetime"}
    assert heavy.isdisjoint(done.stdout.split())
