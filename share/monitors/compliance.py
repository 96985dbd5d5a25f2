#!/usr/bin/env -S sh -c 'exec "$(dirname "$(readlink -f "$0")")/../../.venv/bin/python" -EsBX utf8 "$0" "$@"'
# compliance.py: looks at the agents' git repositories and at the log, and publishes a `violation` for each broken rule.
#
# usage: compliance.py [--rules FILE] [--every 10m] [--since 24h] [--dry-run]
#
# It looks once and leaves, or again and again with --every. By cron, every ten minutes:
#   */10 * * * * ORC_HOME=$HOME/orc /path/to/share/monitors/compliance.py
# The rules are in compliance.yaml beside it, which explains them. --dry-run prints what it would publish.
#
# Nothing is remembered: each violation is published by an id that follows from rule and commit, which the log stores
# once within 7 days, so --since must be less. The repositories are those in which agents run (orc-agent show: cwd).
# A commit is the agent's whose name is its author's, or of the only agent there. What is in a repository is only ever
# read: no hook, filter, pager or program that it names is run, nothing of it reaches a shell, no secret is published.
import re
import time
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import NamedTuple

import yaml
from recipe import HERE, Fields, agents, ask, fail, git, options, publish, repeat, seconds

TEXT = ("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "-p", "-U0")
PRIORITIES = ("critical", "high", "normal", "low")
FEW = 50  # violations of one rule in one repository at a time


class Found(NamedTuple):
    text: str
    mark: str  # the commit, or the event
    agent: Fields


def load(path: str) -> list[Fields]:
    with open(path, encoding="utf-8") as file:
        rules: list[Fields] = yaml.safe_load(file)["rules"]
    for rule in rules:
        if not re.fullmatch("[a-z0-9-]+", rule["rule"]):
            raise ValueError(f"{rule['rule']!r} is no name of a-z, 0-9 and -")
        if rule["check"] not in CHECKS or rule["severity"] not in PRIORITIES:
            raise ValueError(f"{rule['rule']}: check is one of {', '.join(CHECKS)}, severity {', '.join(PRIORITIES)}")
        rule["patterns"] = [re.compile(pattern) for pattern in rule.get("patterns", [])]
        rule["after"] = seconds(rule.get("after", "1h"))
    return rules


def matches(rule: Fields, text: str) -> bool:
    return any(pattern.search(text) for pattern in rule["patterns"])


def log(here: list[Fields], since: int, *words: str) -> list[str]:
    return git(here[0]["cwd"], "log", f"--since=@{since}", "--format=%x00%H%x00%an%x00%ae%x00%ce%x00%s", *words, "--")


def whose(here: list[Fields], author: str, mail: str) -> Fields:
    """The agent of a repository that made a commit, or only the session where that cannot be told."""
    named = [one for one in here if one["name"] in (author.lower(), mail.partition("@")[0].lower())]
    those = named or here
    shared = those[0]["session"] if len({one["session"] for one in those}) == 1 else None
    return those[0] if len(those) == 1 else {"key": None, "session": shared}


def commits(rule: Fields, here: list[Fields], since: int) -> Iterator[Found]:
    for branch in rule.get("branches", ["main"]):
        for line in log(here, since, "--first-parent", "--no-merges", f"refs/heads/{branch}"):
            _, commit, author, mail, committer, subject = line.split("\0", 5)
            if committer not in rule.get("ignore", []):
                text = f"commit {commit[:10]} straight to {branch}: {subject[:200]}"
                yield Found(text, commit, whose(here, author, mail))


def diff(rule: Fields, here: list[Fields], since: int) -> Iterator[Found]:
    commit = author = mail = file = told = ""
    inside = False  # of a hunk, where each line begins with a sign
    for line in log(here, since, "--all", *TEXT):
        if line.startswith("\0"):
            _, commit, author, mail, _, _ = line.split("\0", 5)
        elif line.startswith(("diff --git ", "@@ ")):
            inside = line.startswith("@@ ")
        elif not inside and line.startswith("+++ "):
            file = line[4:].rstrip("\t").removeprefix("b/")[:200]
        elif inside and line.startswith("+") and commit != told and matches(rule, line[1:4096]):
            told = commit
            text = f"what looks like a secret in {file}, commit {commit[:10]}"
            yield Found(text, commit, whose(here, author, mail))


def quiet(rule: Fields, here: list[Fields], since: int) -> Iterator[Found]:
    """Counted from the last commit, the agent's start, or the first message that it got since: whichever is later."""
    for agent in here:
        last, commit = [*git(agent["cwd"], "log", "--all", "-n1", "--format=%ct %H"), "0 -"][0].split()
        stamps = [agent[field] for field in ("registered", "since") if agent[field]]
        start = int(max([float(last), *(datetime.fromisoformat(stamp).timestamp() for stamp in stamps)]))
        if agent["state"] != "working" or time.time() - start < rule["after"]:
            continue
        for one in ask("orc-read", "--type", "delivery", "--since", f"@{start}"):
            context = one["message"]["content"]["context"]
            if context.get("target") == agent["key"] and context.get("outcome") in ("typed", "confirmed"):
                start = int(datetime.fromisoformat(one["timestamp"]).timestamp())
                break
        if time.time() - start >= rule["after"]:
            text = f"{agent['key']} works, and there was no commit for {rule['after'] // 60} minutes"
            yield Found(text, commit, agent)


def said(rule: Fields, here: list[Fields], since: int) -> Iterator[Found]:
    for pattern in rule["patterns"]:
        for one in ask("orc-read", f"--since=@{since}", f"--filter={pattern.pattern}"):
            source = one["source"]
            if source["type"] in ("agent", "pm", "hook") and one["message"]["type"] != "violation":
                text = f"said: {one['message']['content']['body'][:200]}"
                agent = {"key": f"{source['session']}:{source['identifier']}", "session": source["session"]}
                yield Found(text, one["id"], agent)


CHECKS = {"commits": commits, "diff": diff, "quiet": quiet, "log": said}


def look(rules: list[Fields], since: int, dry_run: bool) -> None:
    everybody, repositories = agents(), dict[str, list[Fields]]()
    for agent in everybody:
        for folder in git(agent["cwd"], "rev-parse", "--path-format=absolute", "--git-common-dir")[:1]:
            repositories.setdefault(folder, []).append(agent)
    for rule in rules:
        for here in [everybody] if rule["check"] == "log" else repositories.values():
            for text, mark, agent in islice(CHECKS[rule["check"]](rule, here, int(time.time()) - since), FEW):
                context = {"agent": agent["key"], "session": agent["session"], "rule": rule["rule"]}
                context |= {"severity": rule["severity"], "event" if rule["check"] == "log" else "commit": mark}
                once = [rule["rule"], mark, agent["key"] if rule["check"] == "quiet" else ""]
                publish(once, "violation", rule["severity"], context, text, dry_run)


def main() -> None:
    path, since = ("--rules", f"{HERE}/compliance.yaml", "the rules"), ("--since", "24h", "how far to look back")
    given = options("compliance.py", path, since)
    try:
        rules, back = load(given.rules), seconds(given.since)
    except (OSError, ValueError, LookupError, TypeError, re.error, yaml.YAMLError) as error:
        fail(78, f"{given.rules}: {error}: correct it")
    repeat(given.every, lambda: look(rules, back, given.dry_run))


main()
