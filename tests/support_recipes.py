"""A project for the recipes of share/agents/: a repository with a remote, a roadmap, a home, and stand-ins on PATH.

    desk = Desk(tmp_path)
    desk.task("code_developer", "spec_created", {"priority": "US-048"})
    assert desk.status("US-048") == "Review"

`claude` and `gh` are tests/programs/agent_cli.py and gh.py, which refuse what the real ones would not take.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RECIPES = ROOT / "share/agents"
ROADMAP = """# Roadmap

- [x] US-047: Notifications (Complete)
- [ ] US-048: Notifications have a sound (Planned)
  Loud, but not too loud.
"""
PLAIN = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}


class Desk:
    """`env` is what the recipes get; `standin` steers the stand-ins (see there)."""

    def __init__(self, folder: Path, home: Path | None = None) -> None:
        self.home = home or folder / "home"
        self.repo, self.remote = folder / "a project", folder / "remote.git"
        self.home.mkdir(mode=0o700, exist_ok=True)
        (self.home / "orchestrator_config.yaml").write_text("ratelimits: {github: 100/s}\n")
        self.standin, programs = folder / "standin", folder / "programs"
        for made in (self.standin, programs):
            made.mkdir()
        for name, program in (("claude", "agent_cli.py"), ("gh", "gh.py")):
            (programs / name).symlink_to(ROOT / "tests/programs" / program)
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ORC_", "GIT_", "TMUX"))},
            **PLAIN,
            "PATH": f"{programs}{os.pathsep}{ROOT}/bin{os.pathsep}{os.environ['PATH']}",
            "ORC_HOME": str(self.home),
            "STANDIN": str(self.standin),
            "TMUX_TMPDIR": str(folder),
        }
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", self.remote], env=self.env, check=True)
        subprocess.run(["git", "init", "-q", "-b", "main", self.repo], env=self.env, check=True)
        self.git("config", "user.name", "somebody")
        self.git("config", "user.email", "somebody@example.org")
        self.git("remote", "add", "origin", str(self.remote))
        self.write("README.md", "A project.\n")
        self.write("ROADMAP.md", ROADMAP)
        self.git("add", "-A")
        self.git("commit", "-qm", "first")

    # the project

    def git(self, *argv: str) -> str:
        done = subprocess.run(["git", "-C", self.repo, *argv], env=self.env, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def write(self, name: str, text: str) -> None:
        (self.repo / name).parent.mkdir(parents=True, exist_ok=True)
        (self.repo / name).write_text(text)

    def read(self, name: str) -> str:
        return (self.repo / name).read_text()

    def status(self, item: str) -> str:
        """What the roadmap says between the parentheses."""
        found = re.search(rf"^- \[[ x]\] {item}: .* \((.*)\)$", self.read("ROADMAP.md"), re.MULTILINE)
        return found[1] if found else ""

    def branches(self) -> list[str]:
        return self.git("for-each-ref", "--format=%(refname:short)", "refs/heads").split("\n")

    def left(self) -> list[str]:
        """Worktrees and private folders that are still there."""
        trees = self.git("worktree", "list", "--porcelain").split("\n")
        found = [line.removeprefix("worktree ") for line in trees if line.startswith("worktree ")][1:]
        return found + [str(path) for path in self.home.glob("data/agents/*/runs/*")]

    # the recipes

    def call(self, recipe: str, *argv: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        """As its worker does: in a process group of its own, of which nothing is left afterwards."""
        with tempfile.TemporaryFile("w+") as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            given.write(stdin)
            given.seek(0)
            argv = (str(RECIPES / recipe), *argv)
            child = subprocess.Popen(
                argv, cwd=self.repo, env=self.env | env, stdin=given, stdout=out, stderr=err, process_group=0
            )
            try:
                os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            finally:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            said = []
            for file in (out, err):
                file.seek(0)
                said.append(file.read().decode())
        return subprocess.CompletedProcess(argv, child.returncode, *said)

    def task(
        self,
        recipe: str,
        kind: str,
        payload: dict[str, Any],
        code: int = 0,
        task_id: str = "task-1",
        priority: int = 5,
        **settings: str,
    ) -> str:
        """Have a recipe do one task, as its worker would; all that it prints."""
        env = {f"ORC_TEAM_{name.upper()}": value for name, value in settings.items()}
        env |= {"ORC_TASK_ID": task_id, "ORC_TASK_TYPE": kind, "ORC_TASK_PRIORITY": str(priority)}
        done = self.call(recipe, "--task", stdin=json.dumps(payload), **env)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def command(self, *argv: str) -> list[dict[str, Any]]:
        """What one of our commands prints, as records."""
        done = subprocess.run([*argv], env=self.env, capture_output=True, text=True, check=False)
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The messages of that type in the log; each with `id` and `correlation_id`."""
        found = self.command("orc-read", "--type", kind)
        about = [{"id": one["id"], "correlation_id": one["metadata"]["correlation_id"]} for one in found]
        return [one["message"] | more for one, more in zip(found, about, strict=True)]

    def contexts(self, kind: str) -> list[dict[str, Any]]:
        return [one["content"]["context"] for one in self.events(kind)]

    def bodies(self, kind: str) -> list[str]:
        return [one["content"]["body"] for one in self.events(kind)]

    # the stand-ins

    def says(self, role: str, text: str) -> None:
        (self.standin / f"say-{role}").write_text(text)

    def developer(self, script: str) -> None:
        """What the developer does in its folder."""
        (self.standin / "developer.sh").write_text(script)

    def prompts(self) -> list[str]:
        folder = self.standin / "prompts"
        return [file.read_text() for file in sorted(folder.iterdir())] if folder.exists() else []

    def forge(self, **kinds: Any) -> None:
        (self.standin / "forge.json").write_text(json.dumps(kinds))

    def asked(self) -> list[list[str]]:
        """The words of each call of gh."""
        file = self.standin / "calls"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def pull(number: int, state: str = "OPEN", **fields: Any) -> dict[str, Any]:
    """A pull request, as gh has it."""
    known = {"number": number, "title": f"pull {number}", "state": state, "isDraft": False, "reviewDecision": ""}
    more = {"headRefName": f"branch-{number}", "url": f"https://forge.example/pull/{number}", "updatedAt": state}
    return known | more | fields


def run(number: int, status: str, conclusion: str = "") -> dict[str, Any]:
    """A run of CI, as gh has it."""
    known = {"databaseId": number, "name": "tests", "status": status, "conclusion": conclusion, "headBranch": "main"}
    return known | {"url": f"https://forge.example/runs/{number}", "updatedAt": status + conclusion}
