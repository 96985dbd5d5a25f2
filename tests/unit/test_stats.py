"""orc-stats: figures from a real log, and the measurement of a real scratch system, which leaves nothing."""

from __future__ import annotations

import glob
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import pytest

from support_tmux import wait_until
from tmux_orchestrator.eventlog import event
from tmux_orchestrator.eventlog.daylog import Log
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.insight import latency, measure, stats

SOURCE = {"type": "human", "identifier": "ann", "session": None, "host": "h", "verified": False}
SECOND = 1_000_000_000


class Story:
    """Writes messages and what became of them, at times of its own, into a real log."""

    def __init__(self, home: Home) -> None:
        self.now = clock.now_ns() - 3600 * SECOND
        self.log = Log(home, durable=False, now=lambda: self.now)

    def publish(self, priority: str = "normal", target: str = "dev", **more: Any) -> str:
        targets = [target] if target else []
        return self.log.append([event.build("text", dict(SOURCE), targets=targets, priority=priority, **more)])[0]

    def record(self, event_id: str, outcome: str, reason: str = "", target: str = "dev", **more: Any) -> None:
        kind = "rate_limited" if outcome == "rate_limited" else "delivery"
        context = {"event": event_id, "target": target, "outcome": outcome, "reason": reason, **more}
        self.log.append([event.build(outcome, dict(SOURCE), type=kind, priority="low", context=context)])

    def typed(self, priority: str, took_ms: float, **more: Any) -> str:
        event_id = self.publish(priority)
        self.now += int(took_ms * 1e6)
        self.record(event_id, "typed", latency_ms=took_ms, priority=priority, **more)
        return event_id


@pytest.fixture
def story(home: Home) -> Iterator[Story]:
    made = Story(home)
    yield made
    made.log.close()


def figures(home: Home, since: int = 0) -> dict[str, Any]:
    return stats.gather(home, since, clock.now_ns()).document()


def test_percentiles_are_nearest_ranks() -> None:
    hundred = [float(n) for n in range(1, 101)]
    assert [latency.percentile(hundred, rank) for rank in (50, 95, 99)] == [50, 95, 99]
    assert [latency.percentile([7.0], rank) for rank in (50, 99)] == [7, 7]
    assert latency.percentile([], 50) is None
    assert latency.percentile([1.0, 2.0, 3.0], 50) == 2


def test_latencies_by_priority_against_their_targets(home: Home, story: Story) -> None:
    for took in (10, 20, 60, 30):
        story.typed("critical", took)
    story.typed("low", 499)
    told = figures(home)["latency_ms"]
    assert told["critical"] == {"p50": 20, "p95": 60, "p99": 60, "count": 4, "within_target": 0.75}
    assert told["low"]["within_target"] == 1.0
    assert told["high"] == {"p50": None, "p95": None, "p99": None, "count": 0, "within_target": None}


def test_a_message_counts_once_however_often_it_was_typed(home: Home, story: Story) -> None:
    event_id = story.typed("high", 5)
    story.record(event_id, "confirmed", latency_ms=80)
    story.record(event_id, "typed", latency_ms=300_000, priority="high")  # repeated: nobody acknowledged it
    told = figures(home)
    assert told["latency_ms"]["high"]["count"] == 1 and told["latency_ms"]["high"]["p99"] == 5
    assert (told["outcomes"]["typed"], told["outcomes"]["confirmed"]) == (1, 1)


@pytest.mark.parametrize("first", ["held", "rate_limited", "failed"])
def test_what_had_to_wait_is_counted_apart(home: Home, story: Story, first: str) -> None:
    event_id = story.publish()
    story.record(event_id, first, "draft")
    story.record(event_id, first, "draft")
    story.record(event_id, "typed", latency_ms=90_000, priority="normal")
    story.typed("normal", 3)
    told = figures(home)
    assert told["latency_ms"]["normal"]["count"] == 1 and told["latency_ms"]["normal"]["p99"] == 3
    assert told["delayed_ms"]["normal"]["count"] == 1 and told["delayed_ms"]["normal"]["p50"] == 90_000
    assert told["outcomes"]["rate_limited" if first == "rate_limited" else "held"] == 1
    assert told["outcomes"]["failed"] == 0, "it is not over"


def test_a_failure_for_good_is_one(home: Home, story: Story) -> None:
    story.record(story.publish(), "failed", "unknown_target", final=True)
    assert figures(home)["outcomes"]["failed"] == 1


def test_a_digest_says_how_long_its_messages_took(home: Home, story: Story) -> None:
    first = story.publish("low")
    story.now += 300_000_000
    second = story.publish("low")
    chosen = story.publish("low", target="dev")
    story.now += 100_000_000
    for event_id in (first, second):
        story.record(event_id, "digested", "gathered")
    story.record("chosen-by-somebody", "digested", "gathered")
    story.record(chosen, "digested", "queue_full")
    told = figures(home)
    assert told["outcomes"]["digested"] == 4
    assert told["latency_ms"]["low"]["count"] == 2
    assert 99 <= told["latency_ms"]["low"]["p50"] <= 102 and 399 <= told["latency_ms"]["low"]["p99"] <= 402


def test_counts_and_rates(home: Home, story: Story) -> None:
    start = story.now
    for priority in ("normal", "normal", "high"):
        story.publish(priority)
    story.publish("critical", target="")  # for readers only
    story.publish("high", target="", groups=["management"])
    story.typed("normal", 2)
    story.log.append([event.build("ok", dict(SOURCE), type="ack", targets=["dev"])])
    story.publish("normal", context={"priority": "low", "type": "delivery"})
    told = stats.gather(home, start, start + 120 * SECOND).document()
    assert told["published_by_priority"] == {"critical": 0, "high": 2, "normal": 4, "low": 0}
    assert (told["published"], told["events"]) == (6, 9)
    assert told["per_minute"] == {"events": 4.5, "published": 3.0, "typed": 0.5}


def test_since_leaves_older_ones_out(home: Home, story: Story) -> None:
    story.typed("normal", 700)
    story.now += 1800 * SECOND
    story.typed("normal", 3)
    told = figures(home, clock.now_ns() - 2400 * SECOND)
    assert (told["published"], told["latency_ms"]["normal"]["p99"]) == (1, 3)
    assert figures(home)["latency_ms"]["normal"]["count"] == 2


def test_rates_count_from_the_first_event(home: Home, story: Story) -> None:
    for _ in range(60):
        story.publish()
    told = figures(home)
    assert 0.9 <= told["per_minute"]["published"] <= 1.1, "an hour ago, not since 1970"


def test_damage_and_foreign_records_are_stepped_over(home: Home, story: Story) -> None:
    story.typed("normal", 3)
    with open(glob.glob(home.events + "/*")[0], "a") as file:
        file.write('{"id": "torn", "type": "delivery"\n[]\n\n"priority": "\n')
    story.log.append([event.build("x", dict(SOURCE), type="delivery", context={"outcome": "typed", "target": 3})])
    told = figures(home)
    assert told["latency_ms"]["normal"]["count"] == 1 and told["outcomes"]["typed"] == 1


def test_each_figure_can_be_found_with_grep(home: Home, story: Story) -> None:
    story.typed("critical", 12.5)
    lines = stats.render(stats.gather(home, 0, clock.now_ns()), "today")
    assert lines[0].startswith("Queue Depth: ") and lines[0].removeprefix("Queue Depth: ").isdigit()
    for wanted in ("P50:", "P95:", "P99:", "Within Target:"):
        assert [line.split()[0] for line in lines if wanted in line] == ["critical", "high", "normal", "low"]
    assert "critical  P95: 12.5 ms" in lines


def test_the_newest_records_tell_the_status(home: Home, story: Story) -> None:
    for took in (1000, 2000, 3, 4):
        story.typed("normal", took)
    limited = story.publish("high")
    story.record(limited, "rate_limited")
    story.record(limited, "typed", latency_ms=60_000, priority="high")
    told = latency.recent(home, 0, 3).latency_ms()
    assert (told["normal"]["count"], told["normal"]["p99"], told["high"]["count"]) == (2, 4, 0)


# the measurement


def scratches() -> set[str]:
    return set(glob.glob(tempfile.gettempdir() + "/orc-measure-*"))


def leftovers(folder: str) -> list[str]:
    """The processes that have to do with a folder."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file, open(f"/proc/{pid}/cmdline", "rb") as line:
                if folder.encode() in file.read() + line.read():
                    found.append(pid)
        except OSError:
            continue
    return found


def test_measuring_tells_both_ways_and_leaves_nothing(
    home: Home, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("ORC_MONITORING_MAX_MESSAGES_PER_MINUTE", "1")  # the caller's settings do not count
    found = measure.measure(3, str(tmp_path))
    told = found.document()
    for way in ("appended_ms", "spawned_ms"):
        assert list(told[way]) == ["critical", "high", "normal", "low"]
        for priority, one in told[way].items():
            assert 0 < one["min"] <= one["median"] <= one["p95"] <= one["max"] < 20_000, priority
            assert one["target"] == latency.TARGETS_MS[priority] and 0 <= one["within_target"] <= 1
    assert os.listdir(tmp_path) == [] and not os.path.exists(home.root)
    assert leftovers(str(tmp_path) + "/orc-measure-") == []
    text = "\n".join(measure.render(found))
    assert text.count("Within Target") == 2 and "3 messages of each priority" in text


def test_measuring_that_is_ended_leaves_nothing(home: Home, tmp_path: Any) -> None:
    env = os.environ | {"TMPDIR": str(tmp_path)}
    child = subprocess.Popen(
        ["orc-stats", "--measure", "9999"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    wait_until(lambda: glob.glob(f"{tmp_path}/orc-measure-*/logs/events/*"), 20, "messages on their way")
    started = leftovers(str(tmp_path) + "/orc-measure-")
    assert len(started) >= 3, "a server, a recorder and a broker"
    child.send_signal(signal.SIGTERM)
    assert child.communicate(timeout=20)[1] == b"" and child.returncode == 130
    assert os.listdir(tmp_path) == []
    assert leftovers(str(tmp_path) + "/orc-measure-") == []


def test_measuring_without_tmux_says_so(home: Home, tmp_path: Any) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("sh", "readlink"):
        os.symlink(f"/bin/{name}" if os.path.exists(f"/bin/{name}") else f"/usr/bin/{name}", tmp_path / "bin" / name)
    bin_folder = os.environ["PATH"].split(":")[0]
    env = os.environ | {"PATH": f"{bin_folder}:{tmp_path}/bin", "TMPDIR": str(tmp_path)}
    began = time.monotonic()
    done = subprocess.run(["orc-stats", "--measure", "1"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 69 and done.stderr.count("\n") == 1 and "orc-doctor" in done.stderr
    assert time.monotonic() - began < 15
    assert json.dumps(sorted(os.listdir(tmp_path))) == '["bin"]'
