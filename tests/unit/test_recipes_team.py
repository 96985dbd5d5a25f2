"""The source document's two examples, end to end: the team's daemon runs the four recipes, the broker makes tasks of
what they tell, and a stand-in for the agent CLI thinks for them. Nobody does anything after the first event."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support_recipes import ROOT, Desk, pull
from support_tmux import wait_until

LONG = 90.0  # seconds, for a machine that has other things to do
NAMES = ("code_developer", "project_manager", "architect", "assistant")
CONFIG = """\
monitoring: {{enabled: false}}
ratelimits: {{github: 100/s}}
team:
  message_queue: {{retry_backoff: [1, 2]}}
  agents:
    code_developer: {{folder: {repo}, sleep_interval: 3, needs_spec: true, tests: "[ -e README.md ]"}}
    project_manager: {{folder: {repo}, github_poll_interval: 1, tests: "[ -e README.md ]"}}
    architect: {{folder: {repo}, review_schedule: "0 9 * * 1"}}
    assistant: {{folder: {repo}}}
"""
BUG = """# Demo

```bug_report
{"title": "Notifications not playing sound", "severity": "critical", "reproduction_steps": "wait",
 "expected": "a sound", "actual": "silence"}
```
"""


class Team(Desk):
    """Its daemons, each the head of a group of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (self.home / "orchestrator_config.yaml").write_text(CONFIG.format(repo=f'"{self.repo}"'))
        self.children: dict[str, subprocess.Popen[bytes]] = {}

    def spawn(self, *argv: str) -> None:
        with open(self.home / "out", "ab") as out:
            self.children[argv[0]] = subprocess.Popen(
                [ROOT / "bin" / argv[0], *argv[1:]],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def start(self) -> None:
        self.spawn("orc-broker")
        self.spawn("orc-team")
        self.until(lambda: sorted(self.pids()) == sorted(NAMES), "the four agents")

    def pids(self) -> dict[str, int]:
        told = self.command("orc-team", "status", "--json")
        return {one["name"]: one["pid"] for one in (told[0]["agents"] if told else []) if one["alive"]}

    def until(self, is_so: Any, what: str) -> None:
        wait_until(is_so, LONG, what)

    def close(self) -> None:
        team = self.children.get("orc-team")
        if team is not None:
            team.terminate()
            team.wait()
        for child in self.children.values():
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()

    def story(self) -> str:
        tasks = self.command("orc-task", "list")
        lines = [f"{t['task_id']} {t['type']} {t['status']} {t['error_message']} {t['output']}" for t in tasks]
        for name in ("out", "logs/team.log"):
            if (self.home / name).exists():
                lines += [f"-- {name}", (self.home / name).read_text()[-4000:]]
        return "\n".join(lines)


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    made = Team(tmp_path)
    try:
        yield made
    except BaseException:
        raise
    finally:
        print(made.story())  # pytest shows it beside a failure
        made.close()


def types(team: Team, correlation_id: str) -> list[str]:
    """Of the tasks that belong together, in their order, once nobody does anything any more; all are completed."""
    told = ("--status", "queued", "--status", "running")
    team.until(
        lambda: {one["type"] for one in team.command("orc-task", "list", *told)} <= {"review"}, "the last task's end"
    )
    found = team.command("orc-task", "list", "--correlation-id", correlation_id)
    assert {one["status"] for one in found} == {"completed"}, found
    return [one["type"] for one in found]


@pytest.mark.timeout(300)
def test_a_planned_item_is_specified_implemented_verified_and_told(team: Team) -> None:
    team.start()
    team.command("orc-task", "send", "--recipient", "architect", "--type", "review", "{}")  # as on Monday at nine
    team.until(lambda: team.status("US-048") == "Complete, SPEC-048", "US-048's end")
    (spec,) = team.events("spec_created")
    (done,) = team.events("implementation_complete")
    assert spec["correlation_id"] == done["correlation_id"]
    assert (done["content"]["context"]["pr_number"], done["content"]["context"]["spec_id"]) == (1, "SPEC-048")
    told = f"US-048 is complete: Notifications have a sound (branch code_developer/US-048, commit {done_at(done)[:12]})"
    team.until(lambda: told in team.bodies("notification"), "what people are told")
    assert team.git("show", "code_developer/US-048:docs/specs/SPEC-048-notifications-have-a-sound.md")
    assert types(team, str(spec["correlation_id"])) == ["spec_created", "implementation_complete"]
    assert team.left() == []


def done_at(event: dict[str, Any]) -> str:
    return str(event["content"]["context"]["commit"])


@pytest.mark.timeout(300)
def test_a_bug_that_a_demo_shows_is_mended(team: Team) -> None:
    team.says("demo", BUG)
    team.start()
    team.command("orc-publish", "--type", "demo_request", "--context", '{"priority": "US-047"}', "show it")
    team.until(lambda: team.status("BUG-001") == "Complete, critical, SPEC-049", "the bug's end")
    (bug,) = team.events("bug_report")
    flow = ["bug_report", "spec_request", "spec_created", "implementation_complete"]
    assert types(team, bug["id"]) == flow
    tasks = team.command("orc-task", "list", "--correlation-id", bug["id"])
    assert {one["priority"] for one in tasks} == {1}
    assert (team.repo / "docs/demos/US-047.md").exists()
    assert (team.repo / "docs/specs/SPEC-049-notifications-not-playing-sound.md").exists()
    assert "code_developer/BUG-001" in team.branches()


@pytest.mark.timeout(300)
def test_whoever_is_killed_the_flow_comes_to_its_end(team: Team) -> None:
    team.start()
    (team.standin / "hang").touch()
    team.command("orc-task", "send", "--recipient", "architect", "--type", "review", "{}")
    team.until(lambda: (team.standin / "pids").exists(), "the architect's work")
    before = team.pids()
    (team.standin / "hang").unlink()
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    team.until(
        lambda: sorted(team.pids()) == sorted(NAMES) and not set(team.pids().values()) & set(before.values()), "others"
    )
    team.until(lambda: team.status("US-048") == "Complete, SPEC-048", "US-048's end")
    assert len(team.events("implementation_complete")) == 1


@pytest.mark.timeout(300)
def test_the_forge_is_watched_and_each_gives_signs_of_life(team: Team) -> None:
    team.forge(pr=[pull(1)])
    team.start()
    beats = [team.home / f"logs/run/team/{name}.beat" for name in NAMES]
    team.until(lambda: all(beat.exists() for beat in beats), "signs of life")
    remembered = team.home / "data/agents/project_manager/forge.json"
    team.until(remembered.exists, "the first look")
    team.forge(pr=[pull(1, "MERGED")])
    team.until(lambda: "pull request 1: merged (was open): pull 1" in team.bodies("notification"), "the merge")
