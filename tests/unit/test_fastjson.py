"""JSON without the json package: the same text, the same values, and nothing but ValueError for what is not JSON."""

from __future__ import annotations

import gc
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmux_orchestrator.ground import fastjson

LIB = str(Path(__file__).resolve().parents[2] / "lib")
TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates too
NUMBERS = st.integers(-(1 << 64), 1 << 64) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)
BAD = {
    "nothing": b"",
    "blank": b" \n ",
    "a word": b"hello",
    "not a number": b"NaN",
    "infinity": b"[Infinity]",
    "a number beyond floats": b'{"x": 1e999}',
    "too many digits": b"9" * 5000,
    "two values": b"{} {}",
    "a comma at the end": b"[1,]",
    "single quotes": b"{'a': 1}",
    "a control character in a string": b'"a\nb"',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "bytes that are not UTF-8": b'"\xff"',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "NULs": b"\0\0\0\0",
    "half an escape": b'"\\u12"',
    "an open string": b'{"a": "b',
    "deep lists": b"[" * 101 + b"]" * 101,
    "very deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 101 + b"1" + b"}" * 101,
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD.keys())
def test_what_is_not_json_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError):
        fastjson.loads(text)


def test_the_same_without_the_json_package() -> None:
    """The C scanner takes its own error class from the json package, which is not there."""
    code = (
        f"import sys; sys.path.insert(0, {LIB!r}); from tmux_orchestrator.ground import fastjson\n"
        f"for text in {list(BAD.values())!r}:\n"
        "    try: fastjson.loads(text); print('taken', text[:20])\n"
        "    except ValueError: pass\n"
        "print('json' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@given(VALUES)
def test_writes_what_json_writes_and_reads_it_back(value: Any) -> None:
    text = fastjson.dumps(value)
    assert text == json.dumps(value)
    assert text.isascii() and "\n" not in text
    assert fastjson.loads(text) == fastjson.loads(text.encode()) == value


@given(st.binary())
def test_never_anything_but_a_value_or_a_value_error(data: bytes) -> None:
    try:
        value = fastjson.loads(data)
    except ValueError:
        return
    assert value == json.loads(data)


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": [-math.inf]}, {1, 2}, b"x", object(), {(1, 2): 3}])
def test_refuses_to_write_what_json_cannot_say(value: object) -> None:
    with pytest.raises(ValueError):
        fastjson.dumps(value)


def test_a_circle_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(ValueError):
        fastjson.dumps(circle)


def test_what_it_failed_on_is_let_go() -> None:
    class Marker(dict[str, object]):
        pass

    def held() -> int:
        gc.collect()
        return sum(isinstance(one, Marker) for one in gc.get_objects())

    for _ in range(3):
        with pytest.raises(ValueError):
            fastjson.dumps(Marker(a=math.nan))
    assert held() == 0


def test_blanks_around_and_depth_up_to_the_limit() -> None:
    assert fastjson.loads(b" \t\r\n[1]\n") == [1]
    deep = b"[" * 100 + b"]" * 100
    assert fastjson.dumps(fastjson.loads(deep)) == deep.decode()
    wide = b"[" + b"[],{}," * 5000 + b"[]]"
    assert len(fastjson.loads(wide)) == 10_001
