"""The source document's two flows, with real processes, to their last step; also when all of them are killed at each
step, behind what was written and said, before the task is done. And tasks while brokers are killed: one each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support_tmux import wait_until
from tmux_orchestrator.eventlog import reader
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work import flows, reading
from tmux_orchestrator.work.store.database import Database

ROOT = Path(__file__).resolve().parents[2]
BIN, WORKER = ROOT / "bin", ROOT / "tests/programs/team_worker.sh"
ROLES = ("architect", "code_developer", "project_manager")
ROADMAP = "US-047: Complete\nUS-048: Planned\nBUG-001: Complete\nBUG-002: Complete\n"
LONG = 90.0  # seconds, for a machine that has other things to do


class Team:
    """A home with its processes, each the head of a group of its own."""

    def __init__(self, home: Home) -> None:
        self.home, self.root = home, Path(home.root)
        (self.root / "specs").mkdir(parents=True, mode=0o700)
        self.root.chmod(0o700)
        (self.root / "specs/SPEC-072").write_text("the team's daemon\n")
        (self.root / "ROADMAP.md").write_text(ROADMAP)
        (self.root / "orchestrator_config.yaml").write_text("team: {message_queue: {attempts: 50}}\n")
        self.env = os.environ | {"ORC_TMUX_SOCKET": str(self.root / "tmux")}
        self.children: list[subprocess.Popen[bytes]] = []

    def run(self, *argv: str) -> str:
        done = subprocess.run([BIN / argv[0], *argv[1:]], env=self.env, capture_output=True, timeout=LONG, check=True)
        return done.stdout.decode().strip()

    def spawn(self, *argv: str | Path) -> subprocess.Popen[bytes]:
        with open(self.root / "out", "ab") as out:
            child = subprocess.Popen(
                argv, env=self.env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        self.children.append(child)
        return child

    def start(self) -> None:
        self.spawn(BIN / "orc-broker")
        self.spawn(BIN / "orc-state", "--follow")
        for role in ROLES:
            self.spawn(WORKER, role)

    def kill(self) -> None:
        """kill -9 of everything, at once."""
        for child in self.children:
            os.killpg(child.pid, signal.SIGKILL)
        for child in self.children:
            child.wait()
        self.children.clear()

    # what there is

    def tasks(self) -> list[dict[str, Any]]:
        path = self.root / "data/orchestrator.db"
        if not path.exists():
            return []
        database = Database(str(path), version=None)
        try:
            return list(reading.tasks(database)) if database.version() == 2 else []
        finally:
            database.close()

    def events(self) -> list[dict[str, Any]]:
        return [one for _, one in reader.search(self.home, reader.Query())]

    def told(self) -> Counter[tuple[str, str]]:
        """How often each change of a task stands in the log."""
        return Counter(
            (one["message"]["type"], one["message"]["content"]["context"]["task_id"])
            for one in self.events()
            if one["source"]["identifier"] == "tasks"
        )

    def goes_through(self, types: list[str], is_killed: bool) -> None:
        """Until a task of each of these types is completed and told so."""
        if is_killed:
            for kind in types:
                (self.root / f"hold.{kind}").touch()
        self.start()
        for kind in types if is_killed else ():
            wait_until((self.root / f"held.{kind}").exists, LONG, f"{kind} in work\n{self.story()}")
            self.kill()
            (self.root / f"hold.{kind}").unlink()
            for held in self.root.glob("held.*"):
                held.unlink()
            self.start()
        wait_until(lambda: self.completed() == len(types), LONG, "the last task's end")

    def completed(self) -> int:
        return [kind for kind, _ in self.told()].count("task_completed")

    def story(self) -> str:
        lines = [(one["message"]["type"], one["message"]["content"]["body"]) for one in self.events()]
        out = self.root / "out"
        return "\n".join(map(str, lines)) + (out.read_text(errors="replace")[-3000:] if out.exists() else "")


@pytest.fixture
def team(home: Home) -> Iterator[Team]:
    team = Team(home)
    yield team
    team.kill()


def check(team: Team, steps: list[tuple[str, str]], is_killed: bool) -> None:
    """One task each, in this order, all of one correlation id; each done, and told once."""
    tasks = team.tasks()
    assert [(one["recipient"], one["type"]) for one in tasks] == steps, team.story()
    assert {one["status"] for one in tasks} == {"completed"}
    assert all((one["attempt"] > 1) == is_killed for one in tasks)
    assert len({one["correlation_id"] for one in tasks}) == 1
    told = team.told()
    for one in tasks:
        assert told["task_queued", one["task_id"]] == told["task_completed", one["task_id"]] == 1
        assert told["task_failed", one["task_id"]] + 1 == told["task_started", one["task_id"]] == one["attempt"]
    database = Database(str(team.root / "data/orchestrator.db"), version=None)
    assert flows.routed_share(database) == (len(steps), len(steps))
    database.close()


def notices(team: Team) -> list[str]:
    """What the user was told by the project manager."""
    return [
        one["message"]["content"]["body"]
        for one in team.events()
        if one["message"]["type"] == "notification" and one["source"]["identifier"] == "project_manager"
    ]


@pytest.mark.parametrize("is_killed", [False, True], ids=["undisturbed", "killed at each step"])
def test_from_a_spec_to_what_is_complete(team: Team, is_killed: bool) -> None:
    context = {"spec_id": "SPEC-048", "priority": "US-048"}
    team.run("orc-publish", "--from", "architect", "--type", "spec_created", "--context", json.dumps(context), "ready")
    team.goes_through(["spec_created", "implementation_complete"], is_killed)
    steps = [("code_developer", "spec_created"), ("project_manager", "implementation_complete")]
    check(team, steps, is_killed)
    spec, verified = (one["payload"] for one in team.tasks())
    assert (spec["spec_id"], spec["priority"]) == ("SPEC-048", "US-048")
    assert (verified["priority"], verified["pr_number"]) == ("US-048", 123)
    assert (team.root / "ROADMAP.md").read_text() == ROADMAP.replace("US-048: Planned", "US-048: Complete")
    assert notices(team) == ["US-048 is complete"]


@pytest.mark.parametrize("is_killed", [False, True], ids=["undisturbed", "killed at each step"])
def test_from_a_bug_to_its_mending(team: Team, is_killed: bool) -> None:
    context = {"title": "Notifications not playing sound", "severity": "critical", "expected": "a sound"}
    team.run("orc-publish", "--from", "assistant", "--type", "bug_report", "--context", json.dumps(context), "silence")
    team.goes_through(["bug_report", "spec_request", "spec_created", "implementation_complete"], is_killed)
    steps = [
        ("project_manager", "bug_report"),
        ("architect", "spec_request"),
        ("code_developer", "spec_created"),
        ("project_manager", "implementation_complete"),
    ]
    check(team, steps, is_killed)
    bug, request, spec, _ = team.tasks()
    assert (bug["priority"], request["priority"]) == (1, 3), "by severity, by the event's priority"
    assert (spec["payload"]["spec_id"], spec["payload"]["priority"]) == ("SPEC-073", "BUG-003")
    first, *others = (team.root / "ROADMAP.md").read_text().splitlines()
    assert first.startswith("BUG-003: Complete Notifications not playing sound (priority 1, ")
    assert others == ROADMAP.splitlines()
    assert sorted(os.listdir(team.root / "specs")) == ["SPEC-072", "SPEC-073"]
    assert notices(team) == ["BUG-003 is in the roadmap", "BUG-003 is complete"]


def test_one_task_each_while_brokers_are_killed(team: Team) -> None:
    team.spawn(BIN / "orc-broker", "--standby")
    said: list[str] = []
    for number in range(8):
        team.spawn(BIN / "orc-broker", "--standby")
        for _ in range(4):
            said.append(team.run("orc-publish", "--from", "architect", "--type", "spec_created", f"{number}"))
        wait_until(lambda: len(team.tasks()) > len(said) // 2, LONG, "the next broker's tasks")
        runs = team.children.pop(0)
        os.killpg(runs.pid, signal.SIGKILL)
        runs.wait()
    wait_until(lambda: len(team.tasks()) >= len(said), LONG, "the last tasks")
    assert sorted(one["payload"]["event"] for one in team.tasks()) == sorted(said)
