"""JSON through the interpreter's own C scanner and encoder, without importing the `json` package.

Importing `json` costs 6 ms, as much as starting Python; the C parts behind it cost 0.2 ms. Output is ASCII
with `json`'s default separators, so lines look the same whoever wrote them. Anything that is not one JSON
value is a ValueError: NaN, trailing text, nesting or integers beyond the interpreter's limits, bad UTF-8.
"""

from __future__ import annotations

import _json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _no_constant(name: str) -> object:
    raise ValueError("NaN and Infinity are not JSON")


class _Context:
    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_no_constant)


_scan = _json.make_scanner(_Context())  # type: ignore[arg-type]
_BLANK = " \t\r\n"


def loads(text: str | bytes) -> Any:
    """The value of one JSON text. Raises ValueError."""
    try:
        if not isinstance(text, str):
            text = str(text, "utf-8")
        start = 0
        while start < len(text) and text[start] in _BLANK:
            start += 1
        value, end = _scan(text, start)
    except (StopIteration, SystemError):  # SystemError: its own error class lives in the json package
        raise ValueError("not JSON") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if end != len(text) and text[end:].strip(_BLANK):
        raise ValueError("text after the JSON value")
    return value


def _refuse(value: object) -> object:
    raise ValueError(f"{type(value).__name__} is not JSON")


string = _json.encode_basestring_ascii
# Without a memory of what it is in (the first argument): it would keep whatever it fails on for ever, and the depth
# limit refuses a circle all the same.
_encode = _json.make_encoder(None, _refuse, string, None, ": ", ", ", False, False, False)


def dumps(value: object) -> str:
    """One line of ASCII JSON. Raises ValueError for what JSON cannot say."""
    if isinstance(value, str):
        return str(string(value))
    try:
        return "".join(_encode(value, 0))
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None
