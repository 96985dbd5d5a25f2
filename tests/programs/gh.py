#!/usr/bin/env python3
"""A stand-in for gh, the forge's command: it takes the words that the recipes use, as gh 2.23 and later take them.

Anything else (an option or a field that gh does not know, a branch that was not pushed, a folder without a remote) is
refused. The forge is $STANDIN/forge.json: {"pr": [...], "issue": [...], "run": [...], "down": bool}, each entry with
gh's own fields; `calls` in $STANDIN has the words of each call.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import Any, NoReturn

# As gh 2.23 lists them when it is asked for one that it does not have.
FIELDS = {
    "pr": """additions assignees author baseRefName body changedFiles closed closedAt comments commits createdAt
        deletions files headRefName headRefOid headRepository headRepositoryOwner id isCrossRepository isDraft labels
        latestReviews maintainerCanModify mergeCommit mergeStateStatus mergeable mergedAt mergedBy milestone number
        potentialMergeCommit projectCards reactionGroups reviewDecision reviewRequests reviews state
        statusCheckRollup title updatedAt url""",
    "issue": """assignees author body closed closedAt comments createdAt id labels milestone number projectCards
        reactionGroups state title updatedAt url""",
    "run": """conclusion createdAt databaseId displayTitle event headBranch headSha name number startedAt status
        updatedAt url workflowDatabaseId workflowName""",
}
STATES = {"pr": ["open", "closed", "merged", "all"], "issue": ["open", "closed", "all"]}


class Words(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        refuse(message)


def refuse(text: str) -> NoReturn:
    print(text, file=sys.stderr)
    sys.exit(1)


def words(kind: str, action: str, argv: list[str]) -> argparse.Namespace:
    parser = Words(prog="gh", add_help=False, allow_abbrev=False)
    if action == "list":
        parser.add_argument("--json", required=True)  # what is for programs
        parser.add_argument("--jq")
        parser.add_argument("--limit", type=int, default=30)
        if kind != "run":
            parser.add_argument("--state", choices=STATES[kind], default="open")
            parser.add_argument("--search")
        if kind == "pr":
            parser.add_argument("--head")
    else:
        for name in ("--head", "--title", "--body-file"):
            parser.add_argument(name, required=True)
        parser.add_argument("--base")
    return parser.parse_args(argv)


def git(*argv: str) -> str:
    return subprocess.run(["git", *argv], stdout=subprocess.PIPE, text=True, check=False).stdout.strip()


def listed(kind: str, given: argparse.Namespace, forge: dict[str, Any]) -> int:
    fields = given.json.split(",")
    for field in fields:
        if field not in FIELDS[kind].split():
            refuse(f'Unknown JSON field: "{field}"')
    found = forge.get(kind, [])
    if kind != "run" and given.state != "all":
        found = [one for one in found if one["state"] == given.state.upper()]
    if getattr(given, "head", None):
        found = [one for one in found if one["headRefName"] == given.head]
    text = json.dumps([{field: one.get(field) for field in fields} for one in found[: given.limit]])
    if given.jq:
        return subprocess.run(["jq", "-r", given.jq], input=text, text=True, check=False).returncode
    print(text)
    return 0


def create(given: argparse.Namespace, forge: dict[str, Any], file: str) -> int:
    if not git("ls-remote", "origin", "refs/heads/" + given.head):
        refuse(f"pull request create failed: Head ref must be a branch ({given.head})")
    if any(one["headRefName"] == given.head and one["state"] == "OPEN" for one in forge.get("pr", [])):
        refuse("a pull request for this branch already exists")
    with open(given.body_file, encoding="utf-8") as body:
        pull = {"title": given.title, "body": body.read(), "headRefName": given.head, "state": "OPEN"}
    number = 1 + max([one["number"] for kind in ("pr", "issue") for one in forge.get(kind, [])], default=0)
    pull |= {"number": number, "url": f"https://forge.example/team/project/pull/{number}", "isDraft": False}
    pull |= {"reviewDecision": "", "updatedAt": f"2026-11-26T10:00:{number % 60:02}Z"}
    forge.setdefault("pr", []).append(pull)
    with open(file, "w", encoding="utf-8") as out:
        json.dump(forge, out)
    print(pull["url"])
    return 0


def main() -> int:
    folder = os.environ["STANDIN"]
    with open(folder + "/calls", "a", encoding="utf-8") as log:
        log.write(json.dumps(sys.argv[1:]) + "\n")
    kind, action = (*sys.argv[1:3], "", "")[:2]
    if (kind, action) not in {*((kind, "list") for kind in FIELDS), ("pr", "create")}:
        refuse(f'unknown command "{kind} {action}" for "gh"')
    given = words(kind, action, sys.argv[3:])
    if not git("remote"):
        refuse("no git remotes found")
    file = folder + "/forge.json"
    forge: dict[str, Any] = {}
    if os.path.exists(file):
        with open(file, encoding="utf-8") as source:
            forge = json.load(source)
    if forge.get("down"):
        refuse("error connecting to forge.example")
    return listed(kind, given, forge) if action == "list" else create(given, forge, file)


if __name__ == "__main__":
    sys.exit(main())
