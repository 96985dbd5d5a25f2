"""What ended long ago goes by itself, in parts, and only then."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from support_tasks import Clock, open_queue, task
from tmux_orchestrator.eventlog.voice import Voice
from tmux_orchestrator.ground import clock, config
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work import ending
from tmux_orchestrator.work.queue import MessageQueue
from tmux_orchestrator.work.retention import Retention

DAY = 86_400


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(str(tmp_path))


def retention(home: Home) -> Retention:
    return Retention(home, config.load(home), Voice(home, "state_updater"))


def ended(queue: MessageQueue, count: int) -> None:
    for _ in range(count):
        one = task()
        queue.send(one)
        assert queue.take(one.task_id) is not None
        queue.mark_completed(one.task_id)
    queue.database.change("DELETE FROM outbox")  # the log has heard of it


def left(queue: MessageQueue, table: str = "tasks") -> int:
    return int(queue.database.rows(f"SELECT count(*) FROM {table}")[0][0])


def test_what_is_old_goes_in_parts_and_the_rest_stays(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "_PART", 4)
    with Clock() as time, closing(open_queue(home)) as queue:
        ended(queue, 10)
        queue.record_metric("dev", "memory_mb", 1.0)
        waiting = task()
        queue.send(waiting)
        time.passes(31 * DAY)
        ended(queue, 1)
        guest = retention(home)
        rounds = 0
        while guest.turn(False) - clock.boot_ns() < 60 * 10**9:
            rounds += 1
            time.passes(1)
        assert rounds == 2, "4, 4 and 2"
        assert left(queue) == 2 and left(queue, "agent_metrics") == 0
        assert queue.size() == 1, "what waits is never old"


def test_it_looks_once_an_hour_and_makes_no_database(home: Home) -> None:
    with Clock() as time:
        guest = retention(home)
        assert guest.turn(False) > clock.boot_ns() + 3000 * 10**9
        assert not Path(home.data).exists()
        with closing(open_queue(home)) as queue:
            ended(queue, 1)
            time.steps(31 * DAY)
            guest.turn(False)
            assert left(queue) == 1
            time.passes(3601)
            guest.turn(False)
            assert left(queue) == 0


def test_a_database_that_cannot_be_read_is_told_once(home: Home, capfd: pytest.CaptureFixture[str]) -> None:
    with Clock() as time, closing(open_queue(home)) as queue:
        ended(queue, 1)
        queue.close()
        path = Path(queue.db_path)
        path.unlink()
        path.mkdir()
        guest = retention(home)
        for _ in range(3):
            guest.turn(False)
            time.passes(3601)
        assert capfd.readouterr().err.count("old tasks stay") == 1
