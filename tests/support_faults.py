"""Faults where a program meets the system: the n-th call that changes a file fails, falls short, or is the last one.

    with Faults("ENOSPC", at=3) as faults:
        ...                       # the third call raises
    assert faults.calls >= 3      # else there was no third call: the sweep is over

"killed": the process dies before the call. "torn": it dies within the call, half of a write done. "short": half is
written, as on a full disk, and said so. Anything else is the name of an error. `only` says which calls count; what a
test does by itself under `faults.off()` does not.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

WRITING = ("write", "pwrite", "fdatasync", "fsync", "ftruncate", "rename", "unlink", "mkdir", "symlink")


class Killed(BaseException):
    """The process dies here."""


class Faults:
    """Patches the functions of `os` that change files."""

    def __init__(self, how: str, at: int, only: tuple[str, ...] = WRITING, times: int = 1) -> None:
        """`times`: how many calls in a row are refused, from the `at`-th on (a disk stays full for a while)."""
        self.how, self.at, self.only, self.times = how, at, only, times
        self.calls = 0
        self.told: list[str] = []
        self._on = True
        self._real: dict[str, Callable[..., Any]] = {}

    def __enter__(self) -> Faults:
        for name in self.only:
            self._real[name] = getattr(os, name)
            setattr(os, name, self._patched(name, self._real[name]))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for name, real in self._real.items():
            setattr(os, name, real)

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        self._on = False
        try:
            yield
        finally:
            self._on = True

    def _patched(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            if not self._on:
                return real(*args, **named)
            self.calls += 1
            self.told.append(name)
            if not self.at <= self.calls < self.at + self.times:
                return real(*args, **named)
            return self._fault(name, real, args)

        return call

    def _fault(self, name: str, real: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        if self.how in ("torn", "short") and name == "write":
            done = real(args[0], bytes(args[1])[: len(args[1]) // 2])
            if self.how == "short":
                return done
        if self.how in ("killed", "torn"):
            self._on = False  # the dead do nothing more
            raise Killed(f"{name} {self.calls}")
        number = errno.ENOSPC if self.how == "short" else getattr(errno, self.how)
        raise OSError(number, os.strerror(number))
