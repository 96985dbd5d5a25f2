"""The recipe of the developer with a real agent CLI: it is asked once, acts in the worktree, and a commit comes of it.

Codex is left out: what the endpoint asks it to run needs an approval, which nobody gives there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from agents import clis
from agents.bed import ENDPOINT, end_rest
from agents.trials import Outcome
from support_recipes import Desk
from support_tmux import wait_until

NAMES = ("claude", "gemini")
COMMANDS = {"claude": "claude -p", "gemini": "gemini"}


class RecipeBed(Desk):
    """A project with a roadmap, and one real CLI on PATH, with the endpoint behind it."""

    def __init__(self, folder: str, name: str) -> None:
        self.name = name
        self.scratch = tempfile.mkdtemp(prefix="orc-recipe-")
        super().__init__(Path(self.scratch))
        self.requests_file = self.scratch + "/requests.jsonl"
        self.endpoint = subprocess.Popen(
            [sys.executable, ENDPOINT, "0", self.requests_file], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
        assert self.endpoint.stdout is not None
        port = int(self.endpoint.stdout.readline())
        clis.prepare(name, self.scratch, str(self.repo), port)
        path = f"{folder}/node_modules/.bin:{self.env['PATH']}"
        self.env |= clis.environment(name, self.scratch, port) | {"PATH": path}
        self.env |= {"ORC_TEAM_CLI": COMMANDS[name], "ORC_TEAM_AUTO_APPROVE": "true"}
        self.env["IS_SANDBOX"] = "1"  # Claude Code lets root approve everything only in one

    def __enter__(self) -> RecipeBed:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.endpoint.kill()
        self.endpoint.wait()
        if self.endpoint.stdout is not None:
            self.endpoint.stdout.close()
        end_rest(self.scratch)
        wait_until(self._removed, what="the end of the scratch folder")

    def _removed(self) -> bool:
        shutil.rmtree(self.scratch, ignore_errors=True)
        return not os.path.exists(self.scratch)

    def requests(self) -> list[dict[str, Any]]:
        with open(self.requests_file, encoding="utf-8") as file:
            return [one for one in map(json.loads, file.read().split("\n")[:-1]) if one["main"]]

    def story(self) -> str:
        return json.dumps(self.command("orc-task", "list"))


def develops(bed: RecipeBed) -> Outcome:
    bed.write("ROADMAP.md", "- [ ] US-048: Sound (Planned)\n  [[tool:echo made >made.txt]]\n")
    begin = time.monotonic()
    done = bed.call("code_developer", "--once")
    seconds = time.monotonic() - begin
    asked = sum("You are the developer" in text for one in bed.requests() for text in one["prompts"])
    shown = subprocess.run(
        ["git", "-C", bed.repo, "show", "code_developer/US-048:made.txt"], env=bed.env, capture_output=True, check=False
    )
    events = bed.contexts("implementation_complete")
    held = done.returncode == 0 and asked == 1 and shown.stdout == b"made\n" and bed.left() == []
    held = held and [one["commit"] for one in events] == [bed.git("rev-parse", "code_developer/US-048")]
    if not held:
        sys.stderr.write(done.stdout + done.stderr)
    return Outcome(
        held and bed.status("US-048") == "Review", f"asked once: {asked == 1}, a commit, an event, {seconds:.1f} s"
    )


TESTS: dict[int, tuple[str, Callable[[RecipeBed], Outcome]]] = {
    31: ("the developer's recipe: a commit and its event", develops),
}


def can(name: str, number: int) -> bool:
    return name in NAMES
