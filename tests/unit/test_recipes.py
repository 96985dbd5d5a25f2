"""The recipes of share/agents/, a task at a time: real git, and stand-ins for gh and the agent CLI that check words."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import pytest

from support_recipes import RECIPES, ROADMAP, Desk, pull, run
from support_tmux import wait_until

NULL = subprocess.DEVNULL
LONG = 90.0  # seconds, for a machine that has other things to do


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def implemented(desk: Desk, item: str = "US-048") -> dict[str, str]:
    """What the developer tells of an item that it has implemented."""
    desk.task("code_developer", "implement", {"priority": item}, pull_requests="false")
    (context,) = desk.contexts("implementation_complete")
    return context


# code_developer


def test_an_item_becomes_a_commit_a_pull_request_and_an_event(desk: Desk) -> None:
    before = (desk.git("status", "--porcelain"), desk.git("rev-parse", "HEAD"))
    desk.task("code_developer", "spec_created", {"priority": "US-048", "spec_id": "SPEC-048"}, priority=1)
    (event,) = desk.events("implementation_complete")
    context = event["content"]["context"]
    assert event["priority"] == "critical"
    assert event["correlation_id"] == "task-1"
    assert context["priority"] == "US-048" and context["spec_id"] == "SPEC-048" and context["pr_number"] == 1
    commit = desk.git("rev-parse", "code_developer/US-048")
    assert context["commit"] == commit
    assert desk.git("log", "-1", "--format=%an|%s|%P", commit) == (
        f"code_developer|US-048: Notifications have a sound|{before[1]}"
    )
    assert desk.git("ls-remote", "origin", "refs/heads/code_developer/US-048").startswith(commit)
    assert desk.status("US-048") == "Review"
    assert desk.left() == []
    desk.git("checkout", "-q", "ROADMAP.md")  # all that changed there
    assert (desk.git("status", "--porcelain"), desk.git("rev-parse", "HEAD")) == before


def test_the_cli_is_asked_with_the_spec_and_the_spec_is_in_the_commit(desk: Desk) -> None:
    desk.write("docs/specs/SPEC-048-sound.md", "# SPEC-048\n\nPlay it ```once```.\x1b[31m\n")
    desk.task("code_developer", "spec_created", {"priority": "US-048", "spec_id": "SPEC-048"})
    (prompt,) = desk.prompts()
    assert "## Spec\n\n    # SPEC-048\n    \n    Play it ```once```.[31m\n" in prompt
    assert "Loud, but not too loud." in prompt
    assert "args: ['-p']" in prompt
    assert desk.git("show", "code_developer/US-048:docs/specs/SPEC-048-sound.md").startswith("# SPEC-048")


def test_a_prompt_of_ones_own(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "code_developer.md").write_text("You are the developer, and quick.\n")
    desk.task("code_developer", "implement", {"priority": "US-048"}, prompts=str(tmp_path))
    assert "and quick" in desk.prompts()[0]


def test_tests_that_fail_are_shown_to_the_cli_which_mends_them(desk: Desk) -> None:
    desk.developer("echo work >>work; [ $(wc -l <work) = 2 ] && touch good || :")
    desk.task("code_developer", "implement", {"priority": "US-048"}, tests="echo it is red >&2; [ -e good ]")
    assert ["it is red" in prompt for prompt in desk.prompts()] == [False, True]
    (context,) = desk.contexts("implementation_complete")
    assert context["tests"] == "passed"
    assert desk.git("log", "--format=%s", "main..code_developer/US-048").count("\n") == 1


def test_what_does_not_pass_is_tried_again_on_its_branch(desk: Desk) -> None:
    desk.developer("echo work >>work")
    said = desk.task("code_developer", "implement", {"priority": "US-048"}, code=1, tests="[ -e good ]", rounds="2")
    assert "the tests fail after 2 rounds" in said
    assert (len(desk.prompts()), desk.events("implementation_complete"), desk.left()) == (2, [], [])
    assert desk.status("US-048") == "In progress"
    desk.developer("touch good")
    desk.task("code_developer", "implement", {"priority": "US-048"}, tests="[ -e good ]")
    assert desk.git("ls-tree", "--name-only", "code_developer/US-048").split() == [
        "README.md",
        "ROADMAP.md",
        "good",
        "work",
    ]
    assert desk.status("US-048") == "Review"


def test_a_cli_that_fails_or_changes_nothing_leaves_nothing(desk: Desk) -> None:
    (desk.standin / "fail").touch()
    assert "the model is not there" in desk.task("code_developer", "implement", {"priority": "US-048"}, code=1)
    (desk.standin / "fail").unlink()
    desk.developer(":")
    assert "changed nothing" in desk.task("code_developer", "implement", {"priority": "US-048"}, code=1)
    desk.says("developer", "")
    assert "no agent CLI nix" in desk.task("code_developer", "implement", {"priority": "US-048"}, code=69, cli="nix -p")
    assert (desk.left(), desk.events("implementation_complete")) == ([], [])


@pytest.mark.parametrize(
    ("said", "until"),
    [
        ("You've hit your limit · resets 7pm (Europe/Berlin)", "7pm (Europe/Berlin)"),
        ("Claude AI usage limit reached|1795726800", "1795726800"),
        ("ERROR: You’ve hit your usage limit. Buy more or try again at 9:19 PM.", "9:19 PM"),
        ("You've reached your weekly limit", None),
    ],
)
def test_at_a_usage_limit_the_task_waits_uncounted_and_it_is_told(desk: Desk, said: str, until: str | None) -> None:
    (desk.standin / "limit").write_text(said)
    desk.task("code_developer", "implement", {"priority": "US-048"}, code=75)
    (context,) = desk.contexts("credit_exhausted")
    assert (context["agent"], context.get("until")) == ("code_developer", until)
    assert desk.left() == []


def test_what_a_task_says_of_limits_is_none(desk: Desk) -> None:
    (desk.standin / "limit").write_text("it broke: You've hit your limit\n")
    desk.task("code_developer", "implement", {"priority": "US-048"}, code=1)
    assert desk.events("credit_exhausted") == []


def test_what_the_cli_committed_counts_and_where_it_went_does_not(desk: Desk) -> None:
    desk.developer("echo a >a; git add a; git commit -qm mine; echo b >b")
    desk.task("code_developer", "implement", {"priority": "US-048"})
    subjects = desk.git("log", "--format=%s", "main..code_developer/US-048")
    assert subjects == "US-048: Notifications have a sound\nmine"
    desk.write("ROADMAP.md", "- [ ] US-049: Next (Planned)\n")
    desk.developer("echo c >c; git checkout -q --detach")
    said = desk.task("code_developer", "implement", {"priority": "US-049"}, code=1, task_id="task-2")
    assert "left branch code_developer/US-049" in said


def test_what_was_done_and_told_before_a_crash_is_not_done_again(desk: Desk) -> None:
    desk.task("code_developer", "implement", {"priority": "US-048"})
    desk.call("roadmap.py", "set", "US-048", "In progress")
    desk.task("code_developer", "implement", {"priority": "US-048"})
    assert len(desk.prompts()) == len(desk.events("implementation_complete")) == 1
    assert desk.status("US-048") == "Review"


def test_the_cli_may_be_a_list(desk: Desk) -> None:
    cli = json.dumps(["claude", "-p", "--dangerously-skip-permissions"])
    desk.task("code_developer", "implement", {"priority": "US-048"}, cli=cli)
    assert "args: ['-p', '--dangerously-skip-permissions']" in desk.prompts()[0]


def test_auto_approve_is_the_clis_own_flag(desk: Desk) -> None:
    desk.task("code_developer", "implement", {"priority": "US-048"}, auto_approve="true")
    assert "args: ['-p', '--dangerously-skip-permissions']" in desk.prompts()[0]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"sleep_interval": "0"}, "sleep_interval is no number of seconds"),
        ({"auto_approve": "yes"}, "auto_approve is neither true nor false"),
        ({"timeout": "soon"}, "timeout is no number of seconds"),
        ({"repo": "/"}, "there is no git repository"),
        ({"base": "--all"}, ""),
    ],
)
def test_settings_that_are_wrong_are_told(desk: Desk, settings: dict[str, Any], text: str) -> None:
    code = 78 if text else 0
    assert text in desk.task("code_developer", "implement", {"priority": "US-048"}, code=code, **settings)


def test_hostile_tasks_name_no_branch_no_option_no_path_and_run_nothing(desk: Desk, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    evil = f"--upload-pack=touch {canary};$(touch {canary})`touch {canary}`\n../../x\x1b[31m"
    payload = dict.fromkeys(("priority", "spec_id", "branch", "commit", "text", "title", "context", "event"), evil)
    desk.write("docs/specs/x.md", "")
    desk.task("code_developer", "implement", payload, task_id="../..:-x.lock")
    (branch,) = [name for name in desk.branches() if name != "main"]
    assert branch == "code_developer/task--------x-lock"
    assert desk.git("log", "-1", "--format=%B", branch).count("\n") == 0
    for recipe, kind in (
        ("project_manager", "implementation_complete"),
        ("project_manager", "bug_report"),
        ("project_manager", "question"),
        ("assistant", "demo_request"),
        ("assistant", "question"),
    ):
        desk.task(recipe, kind, payload, task_id="task-" + recipe + kind)
    desk.task("architect", "spec_request", payload, code=65)
    assert not canary.exists()
    assert [name for name in desk.branches() if name != branch] == ["main"]
    assert sorted(os.listdir(desk.repo / "docs/specs")) == ["x.md"]
    assert desk.left() == []


def test_what_is_no_object_or_says_nothing_fails_for_good(desk: Desk) -> None:
    desk.task("code_developer", "implement", {}, code=65)
    for text in ("", "[]", "{", "7"):
        assert desk.call("code_developer", "--task", stdin=text).returncode == 65
    assert desk.left() == []


def test_an_item_is_done_once(desk: Desk) -> None:
    first = desk.command("orc-task", "send", "--recipient", "nobody", "--id", "task-1", "{}")
    assert first == []
    desk.developer("exit 1")
    desk.task("code_developer", "implement", {"priority": "US-048"}, code=1, task_id="task-1")
    (desk.standin / "developer.sh").unlink()
    said = desk.task("code_developer", "spec_created", {"priority": "US-048"}, task_id="task-2")
    assert "US-048 is being done by task task-1" in said
    assert desk.events("implementation_complete") == []
    desk.command("orc-task", "cancel", "task-1")
    desk.task("code_developer", "spec_created", {"priority": "US-048"}, task_id="task-2")
    said = desk.task("code_developer", "implement", {"priority": "US-048"}, task_id="task-3")
    assert "waits to be verified" in said
    assert len(desk.events("implementation_complete")) == 1


def test_the_next_item_becomes_a_task_when_there_is_no_other(desk: Desk) -> None:
    def tasks() -> list[tuple[str, str]]:
        found = desk.command("orc-task", "list", "--recipient", "code_developer")
        return [(one["type"], one["payload"]["priority"]) for one in found]

    for _ in range(2):
        assert desk.call("code_developer", "--look").returncode == 0
        assert tasks() == [("implement", "US-048")]
    desk.command("orc-task", "cancel", desk.command("orc-task", "list")[0]["task_id"])
    desk.write("ROADMAP.md", "- [ ] US-049: Next (Planned, needs spec)\n- [ ] US-050: Later (Planned)\n")
    assert desk.call("code_developer", "--look", ORC_TEAM_NEEDS_SPEC="true").returncode == 0
    assert len(tasks()) == 1
    assert desk.call("code_developer", "--look").returncode == 0
    assert tasks()[1:] == [("implement", "US-050")]


def test_a_new_spec_is_left_to_its_event_at_first(desk: Desk) -> None:
    desk.write("ROADMAP.md", "- [ ] US-048: Sound (Planned, SPEC-048)\n")
    desk.call("code_developer", "--look")
    assert desk.command("orc-task", "list") == []
    desk.call("code_developer", "--look")
    (task,) = desk.command("orc-task", "list")
    assert task["payload"] == {"priority": "US-048", "spec_id": "SPEC-048", "title": "Sound"}


def test_an_item_whose_task_came_to_nothing_is_blocked_and_told_once(desk: Desk) -> None:
    desk.command("orc-task", "send", "--recipient", "code_developer", "--id", "task-1", '{"priority": "US-048"}')
    desk.developer("exit 1")
    desk.task("code_developer", "implement", {"priority": "US-048"}, code=1)
    desk.call("code_developer", "--look")
    assert desk.status("US-048") == "In progress"
    desk.command("orc-task", "cancel", "task-1")
    for _ in range(2):
        desk.call("code_developer", "--look")
    assert desk.status("US-048") == "Blocked"
    assert desk.bodies("notification") == ["US-048 is blocked: task task-1 is cancelled; see orc-task show task-1"]


def test_an_item_that_is_just_begun_anew_is_not_given_up(desk: Desk) -> None:
    """Its last task came to nothing, somebody planned it again, and the next one is between two of its steps."""
    for task in ("task-1", "task-2"):
        desk.command("orc-task", "send", "--recipient", "code_developer", "--id", task, "{}")
    desk.command("orc-task", "cancel", "task-1")
    desk.write("ROADMAP.md", ROADMAP.replace("Planned", "In progress"))
    claims = desk.home / "data/agents/claims"
    claims.mkdir(parents=True)
    (claims / "US-048").write_text("task-1\n")
    with (claims.parent / "claims.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen([RECIPES / "code_developer", "--look"], cwd=desk.repo, env=desk.env) as child:
            wait_until(lambda: child.poll() is not None or _has_open(child.pid, lock), 30, "its look")
            (claims / "US-048").write_text("task-2\n")
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert child.wait(30) == 0
    assert desk.status("US-048") == "In progress"


def _has_open(pid: int, file: IO[str]) -> bool:
    folder = f"/proc/{pid}/fd/"
    with suppress(FileNotFoundError):
        return any(os.path.samestat(os.stat(folder + name), os.fstat(file.fileno())) for name in os.listdir(folder))
    return False


def test_a_stopped_developer_ends_what_it_started_and_leaves_nothing(desk: Desk) -> None:
    (desk.standin / "hang").touch()
    child = subprocess.Popen(
        [RECIPES / "code_developer", "--task"],
        cwd=desk.repo,
        env=desk.env,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
    )
    assert child.stdin
    child.stdin.write(b'{"priority": "US-048"}')
    child.stdin.close()
    wait_until(lambda: _read(desk.standin / "pids").endswith("\n"), LONG, "the CLI's start")
    pids = [int(pid) for pid in _read(desk.standin / "pids").split()]
    os.killpg(child.pid, signal.SIGTERM)  # as the worker does
    assert child.wait(LONG) == 75
    wait_until(lambda: not any(_runs(pid) for pid in pids), LONG, "the end of the CLI")
    assert desk.left() == []
    assert child.stderr
    child.stderr.close()


@pytest.mark.parametrize("step", ["push", "forge"])
def test_a_stop_reaches_what_talks_to_the_forge(desk: Desk, step: str) -> None:
    hang = f"#!/bin/sh\necho $$ >'{desk.standin}/pids'\nexec sleep 1000\n"
    program = desk.repo / ".git/hooks/pre-push" if step == "push" else desk.repo.parent / "programs/gh"
    program.unlink(missing_ok=True)
    program.write_text(hang)
    program.chmod(0o755)
    argv = [str(RECIPES / "code_developer"), "--task"]
    child = subprocess.Popen(argv, cwd=desk.repo, env=desk.env, stdin=-1, stdout=-3, stderr=-3, process_group=0)
    assert child.stdin
    child.stdin.write(b'{"priority": "US-048"}')
    child.stdin.close()
    try:
        wait_until(lambda: _read(desk.standin / "pids").endswith("\n"), 30, "the call")
        os.killpg(child.pid, signal.SIGTERM)
        assert child.wait(30) == 75
        wait_until(lambda: not _runs(int(_read(desk.standin / "pids"))), what="the end of the call")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        with suppress(ProcessLookupError):
            os.kill(int(_read(desk.standin / "pids")), signal.SIGKILL)


@pytest.mark.parametrize("half", [False, True])
def test_what_a_killed_developer_left_is_removed_by_the_next(desk: Desk, half: bool) -> None:
    (desk.standin / "hang").touch()
    child = subprocess.Popen(
        [RECIPES / "code_developer", "--task"], cwd=desk.repo, env=desk.env, stdin=subprocess.PIPE, process_group=0
    )
    assert child.stdin
    child.stdin.write(b'{"priority": "US-048"}')
    child.stdin.close()
    wait_until(lambda: _read(desk.standin / "pids").endswith("\n"), LONG, "the CLI's start")
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert len(desk.left()) == 3
    if half:
        (tree,) = desk.home.glob("data/agents/*/runs/*/tree")
        (tree / ".git").unlink()
    mine = desk.repo.parent / "mine"  # of somebody, on a disk that is not there just now
    desk.git("worktree", "add", "-q", "--detach", str(mine))
    mine.rename(desk.repo.parent / "away")
    (desk.standin / "hang").unlink()
    desk.task("code_developer", "implement", {"priority": "US-048"})
    assert desk.left() == [str(mine)]
    assert desk.status("US-048") == "Review"


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_it_works_until_it_is_stopped_and_nothing_of_it_stays(desk: Desk) -> None:
    env = desk.env | {"ORC_TEAM_SLEEP_INTERVAL": "1"}
    child = subprocess.Popen([RECIPES / "code_developer"], cwd=desk.repo, env=env, stdin=NULL, stdout=NULL, stderr=NULL)
    try:
        wait_until(lambda: desk.status("US-048") == "Review", LONG, "the first item")
        desk.write("ROADMAP.md", desk.read("ROADMAP.md") + "- [ ] US-049: The next (Planned)\n")
        wait_until(lambda: desk.status("US-049") == "Review", LONG, "the second item")
        wait_until(lambda: desk.command("orc-task", "list", "--status", "running") == [], LONG, "its end")
        assert len(_those_of(desk)) > 1
        child.terminate()
        assert child.wait(LONG) == 0
        wait_until(lambda: _those_of(desk) == [], LONG, "the end of all that it started")
    finally:
        for pid in [child.pid, *_those_of(desk)] if child.poll() is None else _those_of(desk):
            os.kill(pid, signal.SIGKILL)
        child.wait()
    assert desk.left() == []


def _those_of(desk: Desk) -> list[int]:
    """Processes that this test's recipe has started, known by the folder of their stand-ins."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"STANDIN={desk.standin}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def test_what_another_developer_left_is_removed_and_what_it_works_in_is_not(desk: Desk) -> None:
    """Two developers of one queue: the task of the one that was killed comes to the other."""
    (desk.standin / "hang").touch()
    children = []
    for item, name in (("US-048", "first"), ("US-049", "third")):
        env = desk.env | {"ORC_TEAM_AGENT": name, "ORC_TASK_ID": f"task-{name}"}
        argv = [str(RECIPES / "code_developer"), "--task"]
        child = subprocess.Popen(argv, cwd=desk.repo, env=env, stdin=-1, stderr=-3, process_group=0)
        assert child.stdin
        child.stdin.write(json.dumps({"priority": item, "title": "x"}).encode())
        child.stdin.close()
        children.append(child)
        wait_until(lambda: _read(desk.standin / "pids").endswith("\n"), what="the CLI's start")
        (desk.standin / "pids").unlink()
    try:
        os.killpg(children[0].pid, signal.SIGKILL)
        children[0].wait()
        (desk.standin / "hang").unlink()
        desk.task("code_developer", "implement", {"priority": "US-048"}, task_id="task-first", agent="second")
        assert desk.status("US-048") == "Review"
        assert len(desk.left()) == 3 and all("/third/" in path for path in desk.left())
    finally:
        for child in children[1:]:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def test_a_spec_without_an_item_has_a_subject_that_can_be_read(desk: Desk) -> None:
    desk.task("code_developer", "spec_created", {"spec_id": "SPEC-009", "title": "Sound"})
    assert desk.git("log", "-1", "--format=%s", "code_developer/task-task-1") == "SPEC-009: Sound"
    desk.task("code_developer", "spec_created", {"spec_id": "SPEC-010"}, task_id="task-2")
    assert desk.git("log", "-1", "--format=%s", "code_developer/task-task-2") == "SPEC-010"


def test_a_cli_that_takes_too_long_is_ended(desk: Desk) -> None:
    (desk.standin / "hang").touch()
    assert "failed (124)" in desk.task("code_developer", "implement", {"priority": "US-048"}, code=1, timeout="1")
    assert desk.left() == []


def test_without_a_forge_there_is_a_commit_all_the_same(desk: Desk) -> None:
    desk.forge(down=True)
    desk.task("code_developer", "implement", {"priority": "US-048"})
    assert desk.contexts("implementation_complete")[0]["pr_number"] is None
    desk.git("remote", "set-url", "origin", "/nowhere")
    desk.write("ROADMAP.md", "- [ ] US-049: Next (Planned)\n")
    desk.task("code_developer", "implement", {"priority": "US-049"}, task_id="task-2")
    assert desk.contexts("implementation_complete")[1]["pr_number"] is None


# project_manager


def test_what_is_done_is_complete_and_told(desk: Desk) -> None:
    context = implemented(desk)
    desk.task("project_manager", "implementation_complete", context, tests="[ -e change-1.txt ]")
    assert desk.status("US-048") == "Complete"
    assert "- [x] US-048" in desk.read("ROADMAP.md")
    (event,) = desk.events("notification")
    assert event["content"]["body"].startswith("US-048 is complete: Notifications have a sound")
    assert event["content"]["context"]["done"] is True
    assert desk.left() == []


@pytest.mark.parametrize(
    ("change", "settings", "why"),
    [
        ({"commit": "0" * 40}, {}, "there is no commit 000000000000"),
        ({"commit": "main"}, {}, "there is no commit"),
        ({"branch": "main"}, {}, "the commit is not on branch main"),
        ({"branch": "--all"}, {}, "the commit is not on branch --all"),
        ({"priority": "US-999"}, {}, "US-999 is not in the roadmap"),
        ({}, {"tests": "echo red; false"}, "the tests fail: red"),
        ({}, {"browser_check": "echo blank page; false"}, "the browser check fails: blank page"),
    ],
)
def test_what_is_not_done_is_blocked_and_told(
    desk: Desk, change: dict[str, str], settings: dict[str, Any], why: str
) -> None:
    context = implemented(desk) | change
    desk.task("project_manager", "implementation_complete", context, **settings)
    assert desk.status("US-048") == ("Blocked" if context["priority"] == "US-048" else "Review")
    (event,) = desk.events("notification")
    assert event["priority"] == "high"
    assert why in event["content"]["body"]


BUG = {
    "title": "Notifications not playing sound",
    "severity": "critical",
    "reproduction_steps": "1. wait\n2. listen",
    "expected": "a sound",
    "actual": "silence",
}


def test_a_bug_is_the_next_of_the_roadmap_and_asks_for_a_spec(desk: Desk) -> None:
    desk.write("ROADMAP.md", "- [x] BUG-002: Old (Complete)\n- [ ] US-048: Sound (Planned)\n")
    for _ in range(2):  # as after a crash
        desk.task("project_manager", "bug_report", BUG, priority=1)
    lines = desk.read("ROADMAP.md").split("\n")
    assert lines[1] == "- [ ] BUG-003: Notifications not playing sound (Planned, critical, needs spec)"
    assert lines[2:5] == ["  reproduction steps: 1. wait 2. listen", "  expected: a sound", "  actual: silence"]
    assert lines[6] == "- [ ] US-048: Sound (Planned)"
    (event,) = desk.events("spec_request")
    assert (event["priority"], event["content"]["context"]["priority"]) == ("critical", "BUG-003")
    assert event["correlation_id"] == "task-1"
    assert desk.bodies("notification") == ["BUG-003 is in the roadmap (critical): Notifications not playing sound"]


def test_a_bug_without_a_title_fails_for_good(desk: Desk) -> None:
    desk.task("project_manager", "bug_report", BUG | {"title": " \n"}, code=65)
    assert desk.events("spec_request") == []


def test_each_change_at_the_forge_is_told_once(desk: Desk) -> None:
    def told() -> list[str]:
        assert desk.call("project_manager", "--look").returncode == 0
        return desk.bodies("notification")

    desk.forge(pr=[pull(1)], run=[run(7, "in_progress")])
    assert told() == []  # what was there before is no news
    changed = [pull(1, reviewDecision="CHANGES_REQUESTED"), pull(2, isDraft=True)]
    issues = [{"number": 3, "title": "it\n\x1b[31mbreaks $(x)", "state": "OPEN", "url": "u", "updatedAt": "1"}]
    desk.forge(pr=changed, issue=issues, run=[run(7, "completed", "failure"), run(8, "queued")])
    first = [
        "ci 7: failure: tests",
        "issue 3: open: it [31mbreaks $(x)",
        "pull request 1: open, changes requested (was open): pull 1",
        "pull request 2: open, draft: pull 2",
    ]
    for _ in range(2):
        assert sorted(told()) == first
    priorities = {one["content"]["body"]: one["priority"] for one in desk.events("notification")}
    assert priorities[first[0]] == "high" and priorities[first[1]] == "normal"
    desk.forge(pr=[], run=[run(7, "completed", "success")])  # what is not shown any more has not changed
    assert sorted(told()) == sorted([*first, "ci 7: success (was failure): tests"])
    desk.forge(pr=[pull(1, "MERGED")])
    assert told()[-1] == "pull request 1: merged (was open, changes requested): pull 1"


def test_a_merge_completes_what_waits_for_review(desk: Desk) -> None:
    implemented(desk)
    branch = {"headRefName": "code_developer/US-048"}
    for state in ("OPEN", "MERGED"):
        desk.forge(pr=[pull(1, state, **branch)])
        desk.call("project_manager", "--look")
    assert desk.status("US-048") == "Complete"


def test_a_forge_that_does_not_answer_is_told_and_forgets_nothing(desk: Desk) -> None:
    desk.forge(pr=[pull(1)])
    assert desk.call("project_manager", "--look").returncode == 0
    desk.forge(pr=[pull(1)], down=True)
    done = desk.call("project_manager", "--look")
    assert (done.returncode, done.stderr) == (
        69,
        "project_manager: the forge cannot be asked: error connecting to forge.example\n",
    )
    desk.forge(pr=[pull(1, "CLOSED")])
    desk.call("project_manager", "--look")
    assert desk.bodies("notification") == ["pull request 1: closed (was open): pull 1"]
    desk.git("remote", "remove", "origin")
    asked = len(desk.asked())
    assert desk.call("project_manager", "--look").returncode == 0
    assert len(desk.asked()) == asked


def test_what_was_remembered_may_be_damaged(desk: Desk) -> None:
    desk.forge(pr=[pull(1)])
    desk.call("project_manager", "--look")
    file = desk.home / "data/agents/project_manager/forge.json"
    assert json.loads(file.read_text()) == {"pull_request": {"1": "open"}, "issue": {}, "ci": {}}
    for text in ("{", "[]", '{"ci": 3}', ""):
        file.write_text(text)
        assert desk.call("project_manager", "--look").returncode == 0
    assert desk.events("notification") == []


def test_what_nobody_else_is_there_for_is_answered(desk: Desk) -> None:
    desk.command("orc-publish", "--id", "question-1", "who does it?")
    desk.task("project_manager", "anything", {"body": "who does it?", "event": "question-1", "sender": "nobody"})
    (event,) = desk.events("answer")
    assert event["content"]["body"] == "It is in file README.md."
    (prompt,) = desk.prompts()
    assert "who does it?" in prompt and "## Roadmap\n\n    # Roadmap" in prompt
    assert desk.command("orc-read", "--type", "answer")[0]["metadata"]["reply_to"] == "question-1"


# architect


def test_a_spec_is_written_noted_and_told(desk: Desk) -> None:
    desk.task("architect", "spec_request", {"priority": "US-048"})
    text = desk.read("docs/specs/SPEC-048-notifications-have-a-sound.md")
    assert text == "# SPEC-048: Notifications have a sound\n\nFor US-048.\n\n\n## Goal\n\nIt works.\n"
    assert desk.status("US-048") == "Planned, SPEC-048"
    (context,) = desk.contexts("spec_created")
    assert (context["spec_id"], context["priority"]) == ("SPEC-048", "US-048")
    desk.task("architect", "spec_request", {"priority": "US-048"})  # as after a crash
    assert len(desk.prompts()) == len(desk.events("spec_created")) == 1
    assert desk.left() == []


def test_a_spec_is_utf_8_whatever_the_cli_prints(desk: Desk) -> None:
    (desk.standin / "say-architect").write_bytes(b"caf\xe9 noir")
    desk.task("architect", "spec_request", {"priority": "US-048"})
    assert "\ncaf\ufffd" in desk.read("docs/specs/SPEC-048-notifications-have-a-sound.md")


def test_a_bugs_spec_gets_a_number_that_is_nobodys(desk: Desk) -> None:
    desk.write("docs/specs/SPEC-072-old.md", "# For US-072\n")
    desk.task("project_manager", "bug_report", BUG)
    desk.task("architect", "spec_request", desk.contexts("spec_request")[0])
    assert desk.status("BUG-001") == "Planned, critical, SPEC-073"
    assert (desk.repo / "docs/specs/SPEC-073-notifications-not-playing-sound.md").exists()
    (event,) = desk.events("spec_created")
    assert (event["priority"], event["content"]["context"]["spec_id"]) == ("critical", "SPEC-073")


def test_a_spec_that_a_person_wrote_is_found(desk: Desk) -> None:
    desk.write("docs/specs/SPEC-007-by-hand.md", "# For US-048\n")
    desk.task("architect", "spec_request", {"priority": "US-048"})
    assert (desk.status("US-048"), desk.prompts()) == ("Planned, SPEC-007", [])


def test_a_spec_that_only_mentions_an_item_is_not_its_spec(desk: Desk) -> None:
    lines = ["US-048: Sound (Planned)", "US-049: Light (Planned, SPEC-049)"]
    desk.write("ROADMAP.md", "".join(f"- [ ] {line}\n" for line in lines))
    desk.write("docs/specs/SPEC-049-light.md", "# SPEC-049: Light\n\nFor US-049.\n\n## Out of scope\n\nUS-048.\n")
    desk.write("docs/specs/SPEC-007-by-hand.md", "# Before US-048, and after US-0480\n\nFor US-0480, not US-048.\n")
    desk.write("docs/specs/SPEC-008-old.md", "# Something else\n\nIt waits for US-048.\n")
    desk.task("architect", "spec_request", {"priority": "US-048"})
    assert desk.status("US-048") == "Planned, SPEC-048"
    assert len(desk.prompts()) == 1


def test_a_spec_that_was_kept_before_a_crash_is_the_items(desk: Desk) -> None:
    desk.task("architect", "spec_request", {"priority": "US-048"})
    desk.write("ROADMAP.md", ROADMAP)
    desk.task("architect", "spec_request", {"priority": "US-048"}, task_id="task-2")
    assert (desk.status("US-048"), len(desk.prompts())) == ("Planned, SPEC-048", 1)


def test_a_review_asks_for_what_has_no_spec_bugs_first(desk: Desk) -> None:
    lines = [
        "US-049: a (Planned)",
        "US-050: b (Planned, SPEC-050)",
        "US-051: c (In progress)",
        "BUG-001: d (Planned, critical)",
    ]
    desk.write("ROADMAP.md", "".join(f"- [ ] {line}\n" for line in lines))
    desk.task("architect", "review", {})
    desk.task("architect", "review", {})  # as after a crash
    tasks = desk.command("orc-task", "list", "--recipient", "architect")
    assert [(one["type"], one["payload"]["priority"], one["priority"]) for one in tasks] == [
        ("spec_request", "US-049", 5),
        ("spec_request", "BUG-001", 1),
    ]


def test_the_next_review_waits_for_its_time(desk: Desk) -> None:
    def waiting(schedule: str) -> list[str]:
        assert desk.call("architect", "--look", ORC_TEAM_REVIEW_SCHEDULE=schedule).returncode == 0
        return [one["not_before"] for one in desk.command("orc-task", "list", "--type", "review", "--status", "queued")]

    for schedule in ("0 9 1 1 *", "0 9 1 1 *", "30 9 1 1 *", "0 9 1 1 *"):
        (time,) = waiting(schedule)
        assert "-01-01T" in time or "-12-31T" in time
        assert time[14:16] == schedule[:2].strip().zfill(2)
    done = desk.call("architect", "--look", ORC_TEAM_REVIEW_SCHEDULE="on mondays")
    assert done.returncode == 78 and "is no cron expression" in done.stderr


# assistant


def test_a_demo_is_a_page_and_its_defects_are_bug_reports(desk: Desk) -> None:
    bug = json.dumps(BUG | {"severity": "terrible", "actual": {"is": "silence"}})
    desk.says("demo", f"# Demo\n\n```sh\nls\n```\n\n```bug_report\n{bug}\n```\n\n```bug_report\n[]\n```\n\nEnd.\n")
    desk.task("assistant", "demo_request", {"priority": "US-047"})
    assert desk.read("docs/demos/US-047.md") == "# Demo\n\n```sh\nls\n```\n\n\n\nEnd.\n"
    assert desk.contexts("demo_created") == [{"priority": "US-047", "path": "docs/demos/US-047.md"}]
    (event,) = desk.events("bug_report")
    assert event["content"]["context"] == BUG | {"severity": "normal", "actual": '{"is":"silence"}'}
    assert event["correlation_id"] is None
    assert desk.left() == []


def test_a_page_replaces_nobodys(desk: Desk) -> None:
    desk.write("docs/demos/US-047.md", "by hand\n")
    for _ in range(2):
        desk.task("assistant", "demo_request", {"priority": "US-047"})
    assert desk.read("docs/demos/US-047.md") == "by hand\n"
    assert sorted(os.listdir(desk.repo / "docs/demos")) == ["US-047-2.md", "US-047.md"]


def test_a_browser_check_runs_when_it_is_configured_on_what_is_shown(desk: Desk) -> None:
    context = implemented(desk)
    desk.task("assistant", "browser_check", context, browser_check="[ -e change-1.txt ]")
    assert desk.events("bug_report") == []
    desk.task("assistant", "demo_request", {"priority": "US-047"}, browser_check="echo blank; [ -e change-1.txt ]")
    (context,) = desk.contexts("bug_report")
    assert context["title"] == "The browser check fails for US-047"
    assert (context["severity"], context["actual"]) == ("high", "blank\n")
    assert "## Browser check\n\n    blank" in desk.prompts()[-1]


def test_a_question_is_answered_where_it_was_asked(desk: Desk) -> None:
    desk.says("question", "-t @all; $(x)\nsecond line")
    desk.command("orc-publish", "--id", "question-1", "where?")
    for number, asked in enumerate(("question-1", "question-2", "--all")):
        payload = {"body": "where?", "event": asked, "sender": "-t"}
        desk.task("assistant", "question", payload, task_id=f"task-{number}")
    (desk.standin / "say-question").write_bytes(b"caf\xe9 \x00\x1b[31m")
    desk.task("assistant", "question", {"body": "where?"}, task_id="task-8")
    assert desk.bodies("answer").pop().startswith("caf\ufffd ")
    desk.says("question", "\U0001f41b" * 50_000)  # a line of the log has room for less
    desk.task("assistant", "question", {"body": "where?"}, task_id="task-7")
    body = desk.bodies("answer").pop()
    assert set(body) == {"\U0001f41b"} and len(body) > 10_000
    desk.says("question", " ")
    assert "said nothing" in desk.task("assistant", "question", {"body": "where?"}, code=1, task_id="task-9")
    events = desk.command("orc-read", "--type", "answer")[:-2]
    assert [event["metadata"]["reply_to"] for event in events] == ["question-1", None, None]
    assert {event["message"]["content"]["body"] for event in events} == {"-t @all; $(x)\nsecond line"}
    assert [event["to"]["targets"] for event in events] == [[], [], []]


# the stand-in


def test_the_stand_in_refuses_what_gh_would_not_take(desk: Desk) -> None:
    for words in (
        ["pr", "list"],
        ["pr", "list", "--json", "colour"],
        ["pr", "list", "--json", "number", "--colour"],
        ["pr", "merge", "1"],
        ["pr", "create", "--head", "main-line", "--title", "t", "--body-file", "README.md"],
    ):
        done = subprocess.run(["gh", *words], cwd=desk.repo, env=desk.env, capture_output=True, check=False)
        assert done.returncode == 1 and done.stderr, words


@pytest.mark.skipif(shutil.which("gh") is None, reason="there is no gh here")
@pytest.mark.parametrize("kind", ["pr", "issue", "run"])
def test_the_real_gh_has_the_fields_that_are_asked_for(desk: Desk, kind: str) -> None:
    desk.call("project_manager", "--look")
    asked = next(words for words in desk.asked() if words[:2] == [kind, "list"])
    fields = asked[asked.index("--json") + 1].split(",")
    words = [str(shutil.which("gh")), kind, "list", "--repo", "a/b", "--json", "no-such-field"]
    env = desk.env | {"GH_TOKEN": "x", "HOME": str(desk.home)}
    said = subprocess.run(words, env=env, capture_output=True, text=True, check=False).stderr
    assert "Unknown JSON field" in said
    assert set(fields) <= set(said.split())
