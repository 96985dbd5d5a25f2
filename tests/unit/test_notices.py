"""Telling once: edges, groups, cooldowns, a ladder that ends, and restarts in between."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as settings_
from hypothesis import strategies as some

from support_watch import MINUTE, SECOND, settings
from tmux_orchestrator.agents.since import UNRESPONSIVE
from tmux_orchestrator.ground import files
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.watch import matters
from tmux_orchestrator.watch.matters import Matter
from tmux_orchestrator.watch.notices import Notices


def matter(kind: str = "idle", subject: str = "web:dev", identity: str = "", **more: Any) -> Matter:
    context = {"agent": subject, "issue_type": kind}
    return Matter(kind, subject, f"{subject} is {kind}", identity, "web", context=context, **more)


class Desk:
    """Notices, and a clock that the test moves."""

    def __init__(self, root: Path, text: str = "") -> None:
        self.home = Home(str(root))
        files.make_dir(self.home.run)
        self.settings = settings(str(root), text)
        self.now = 1_000_000 * MINUTE
        self.restart()

    def restart(self) -> None:
        self.notices = Notices(self.home)

    def step(self, *standing: Matter, after: float = 5, quiet: frozenset[str] = frozenset()) -> list[dict[str, Any]]:
        self.now += int(after * SECOND)
        made = self.notices.step(standing, self.settings, self.now, quiet)
        self.notices.save()
        return made

    def words(self, *standing: Matter, after: float = 5) -> list[str]:
        return [one["message"]["content"]["body"] for one in self.step(*standing, after=after)]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_matter_is_told_when_it_begins_and_not_again(desk: Desk) -> None:
    assert desk.words(matter()) == ["web:dev is idle"]
    assert [desk.words(matter()) for _ in range(100)] == [[]] * 100
    desk.restart()
    assert desk.words(matter()) == [], "nor after a restart"


def test_what_begins_together_is_one_event(desk: Desk) -> None:
    those = [matter("dead", f"web:dev-{n}") for n in range(20)]
    (one,) = desk.step(*those)
    lines = one["message"]["content"]["body"].split("\n")
    assert lines[0] == "20 agents died:" and len(lines) == 12 and lines[-1] == "and 10 more: orc-status"
    assert one["message"]["content"]["context"]["subjects"] == [m.subject for m in those]


@pytest.mark.parametrize(
    ("kind", "priority"),
    [
        (matters.DEAD, "critical"),
        (matters.PM_DEAD, "critical"),
        (matters.COMPONENT, "critical"),
        (UNRESPONSIVE, "high"),
        (matters.SILENT, "high"),
        (matters.WAITING, "high"),
        (matters.STRATEGY, "high"),
        (matters.LIMITED, "normal"),
        (matters.FRESH, "normal"),
        (matters.TEAM_IDLE, "normal"),
        (matters.IDLE, "low"),
        ("custom-odd", "normal"),
    ],
)
def test_priorities_and_form(desk: Desk, kind: str, priority: str) -> None:
    (one,) = desk.step(matter(kind))
    assert one["message"]["priority"] == priority
    assert one["to"] == {"groups": ["management"], "targets": []}
    assert one["message"]["content"]["context"]["issue_type"] == kind
    assert one["metadata"]["tags"][0] == "monitoring"
    assert one["metadata"]["requires_ack"] is (kind in (matters.DEAD, matters.PM_DEAD))


def test_the_ladder_ends(desk: Desk) -> None:
    waits = matter("waiting")
    told = [one for _ in range(100) for one in desk.step(waits, after=300)]
    assert [one["message"]["type"] for one in told] == ["notification", "notification", "escalation"]
    assert told[2]["to"] == {"groups": [], "targets": ["@orchestrator"]}
    assert [one["message"]["content"]["context"].get("reminder") for one in told] == [None, 1, 2]
    assert {one["source"]["identifier"] for one in told} == {"questions"}, "which is typed, as it is for somebody"


def test_idle_is_low_first_and_then_high_as_the_guide_has_it(desk: Desk) -> None:
    told = [one for _ in range(100) for one in desk.step(matter(), after=300)]
    assert [one["message"]["priority"] for one in told] == ["low", "high"]


def test_what_comes_and_goes_is_told_again_only_after_the_cooldown(desk: Desk) -> None:
    limited = matter("limited")
    assert desk.words(limited) == ["web:dev is limited"]
    assert desk.words(after=1) == ["web:dev is no longer limited"]
    assert desk.words(limited, after=1) == []
    assert desk.words(limited, after=100) == []
    assert desk.words(limited, after=300) == ["web:dev is limited"]


def test_another_identity_is_another_matter(desk: Desk) -> None:
    assert desk.words(matter("waiting", identity="Run a?"))
    assert desk.words(matter("waiting", identity="Run a?")) == []
    assert desk.words(matter("waiting", identity="Run b?")), "another question"


def test_what_somebody_else_tells_is_not_told_here(desk: Desk) -> None:
    desk.step(matter("dead"), matter("dead", "web:qa"))
    (one,) = desk.step(quiet=frozenset({"web:dev"}))
    assert one["message"]["content"]["body"] == "web:qa is back"
    assert one["message"]["content"]["context"]["was"] == "dead"


def test_targets_of_their_own_are_events_of_their_own(desk: Desk) -> None:
    those = [matter("waiting", f"{s}:dev", targets=(f"{s}:pm",)) for s in ("a", "b")]
    assert [one["to"] for one in desk.step(*those)] == [{"groups": [], "targets": [f"{s}:pm"]} for s in ("a", "b")]


def test_without_file_logging_only_what_is_urgent_is_written(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "monitoring: {use_file_logging: false}\n")
    assert [one["message"]["priority"] for one in desk.step(matter(), matter("limited"), matter("dead"))] == [
        "critical"
    ]


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[[1]]", b'[["idle","web:dev","",1,0]]', b'{"a":1}', b'[["idle",1,"",1,0,0]]']
)
def test_a_damaged_memory_counts_as_none(tmp_path: Path, data: bytes) -> None:
    desk = Desk(tmp_path)
    files.replace(desk.home.run + "/told.json", data)
    desk.restart()
    assert desk.words(matter()) == ["web:dev is idle"]


def test_a_clock_that_steps(desk: Desk) -> None:
    desk.step(matter("waiting"))
    desk.now -= 100 * 60 * MINUTE
    assert desk.words(matter("waiting")) == []
    assert len([one for _ in range(20) for one in desk.step(matter("waiting"), after=300)]) == 2


@settings_(deadline=None)
@given(some.lists(some.tuples(some.sets(some.sampled_from("abcdef")), some.integers(0, 2000)), max_size=60))
def test_no_matter_is_told_more_often_than_its_ladder_and_cooldown_allow(looks: list[tuple[set[str], int]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        desk = Desk(Path(folder))
        told: dict[str, list[int]] = {}
        for names, after in looks:
            for one in desk.step(*(matter("waiting", name) for name in sorted(names)), after=after):
                context = one["message"]["content"]["context"]
                for name in context.get("subjects") or [context["agent"]]:
                    told.setdefault(name, []).append(desk.now)
        for times in told.values():
            assert all(later - earlier >= 300 * SECOND for earlier, later in itertools.pairwise(times))


def test_a_rung_that_no_ladder_has_is_none(desk: Desk) -> None:
    files.replace(desk.home.run + "/told.json", b'[["idle", "web:dev", "", 1, -7, 0]]')
    desk.restart()
    assert desk.words(matter()) == ["web:dev is idle"]


def test_however_many_stand_each_is_told_once(desk: Desk) -> None:
    those = [matter(subject=f"web:dev-{n}") for n in range(1500)]
    assert len(desk.words(*those)) == 1
    assert desk.words(*those) == desk.words(*those) == []


def test_a_death_that_was_told_just_before_a_crash_is_the_same_event(desk: Desk) -> None:
    those = [matter("dead", "web:dev", "41/7"), matter("dead", "web:qa", "42/7")]
    (first,) = desk.notices.step(those, desk.settings, desk.now)
    desk.restart()  # before it was noted
    (again,) = desk.step(*reversed(those))
    assert first["id"] == again["id"] and desk.step(*those) == []
    (other,) = desk.step(*those, matter("dead", "web:ops", "43/7"))
    assert other["id"] != first["id"]
