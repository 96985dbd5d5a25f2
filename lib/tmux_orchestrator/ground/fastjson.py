"""JSON through the interpreter's own C scanner and encoder, without importing the `json` package.

Importing `json` costs 6 ms, as much as starting Python; the C parts behind it cost 0.2 ms. Output is ASCII
with `json`'s default separators, so lines look the same whoever wrote them. Anything that is not one JSON
value is a ValueError: NaN, 1e999, trailing text, huge integers, bad UTF-8, nesting beyond DEPTH. So whatever was read
can be written again, wherever on the stack that is.
"""

from __future__ import annotations

import _json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _no_constant(name: str) -> object:
    raise ValueError("NaN and Infinity are not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value - value != 0.0:
        raise ValueError("a number is too large")
    return value


class _Context:
    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = staticmethod(_finite)
    parse_int = int
    parse_constant = staticmethod(_no_constant)


_scan = _json.make_scanner(_Context())  # type: ignore[arg-type]
DEPTH = 100
_BLANK = " \t\r\n"


def loads(text: str | bytes, most: int = DEPTH) -> Any:
    """The value of one JSON text, nested at most so deep. Raises ValueError."""
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
    if text.count("[") + text.count("{") > most and _is_deeper(value, most):
        raise ValueError("nested too deeply")
    return value


def _is_deeper(value: object, most: int) -> bool:
    level = [value]
    for _ in range(most + 1):
        held = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        if not held:
            return False
        level = [value for holder in held for value in holder]
    return True


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
