"""Being woken: inotify is a hint, and whoever waits looks for itself once a second at the latest."""

from __future__ import annotations

from pathlib import Path

import pytest

from tmux_orchestrator.ground import watch
from tmux_orchestrator.ground.watch import Watch


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it would have been waited, each time, in vain."""
    seconds: list[float] = []

    def readable(fds: list[int], limit: float) -> set[int]:
        seconds.append(limit)
        return set()

    monkeypatch.setattr(watch, "readable", readable)
    monkeypatch.setattr("time.sleep", seconds.append)
    return seconds


def test_nobody_waits_for_a_hint_for_longer_than_a_second(tmp_path: Path, waits: list[float]) -> None:
    one = Watch([str(tmp_path)])
    for seconds in (0.3, 1.0, 3600.0):
        one.wait(seconds)
    one.close()
    assert waits == [0.3, 1.0, 1.0]


def test_where_inotify_is_not_to_be_had_it_looks_again_soon(
    tmp_path: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(watch, "INotify", refuse)
    one = Watch([str(tmp_path)])
    one.wait(3600.0)
    one.drain()
    one.close()
    assert one.fileno() == -1 and waits == [0.1]


def test_a_change_wakes_and_is_told_once(tmp_path: Path) -> None:
    one = Watch([str(tmp_path)])
    (tmp_path / "new").touch()
    assert watch.readable([one.fileno()], 60) == {one.fileno()}
    one.wait(60)
    assert watch.readable([one.fileno()], 0) == set()
    one.close()
