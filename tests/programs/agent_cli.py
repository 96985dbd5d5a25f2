#!/usr/bin/env python3
"""A stand-in for an agent CLI that is asked once: `claude -p`, under that name. It refuses what that would not take.

The prompt comes on standard input. What it does depends on who is asked, and on files in $STANDIN:

    prompts/N        what it was asked, written by it, the oldest first
    developer.sh     what it does in its folder as the developer (else it writes change-N.txt)
    say-ROLE         what it prints as developer, architect, demo or question
    fail             it ends with 1, and says so
    limit            it ends with 1, and says what is in there
    hang             it never ends, and starts a child that does neither; their pids are in `pids`
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

ROLES = {"developer": "You are the developer", "architect": "You are the architect", "demo": "You show what"}
SAYS = {
    "developer": "Done as asked.",
    "architect": "# A title\n\n## Goal\n\nIt works.",
    "demo": "# A demo\n\nType it.",
    "question": "It is in file README.md.",
}


def main() -> int:
    folder = os.environ["STANDIN"]
    if sys.argv[1:] not in (["-p"], ["-p", "--dangerously-skip-permissions"]):
        print(f"error: unknown arguments {sys.argv[1:]}", file=sys.stderr)
        return 1
    if sys.stdin.isatty() or not (prompt := sys.stdin.read()).strip():
        print("error: no prompt on standard input", file=sys.stderr)
        return 1
    os.makedirs(folder + "/prompts", exist_ok=True)
    number = len(os.listdir(folder + "/prompts")) + 1
    with open(f"{folder}/prompts/{number:03}", "w", encoding="utf-8") as file:
        file.write(f"cwd: {os.getcwd()}\nargs: {sys.argv[1:]}\n{prompt}")
    role = next((role for role, begin in ROLES.items() if prompt.startswith(begin)), "question")
    if os.path.exists(folder + "/fail"):
        print("error: the model is not there", file=sys.stderr)
        return 1
    if os.path.exists(folder + "/limit"):
        with open(folder + "/limit", encoding="utf-8") as source:
            told = source.read()
        print(told, file=sys.stderr if told.startswith("ERROR") else sys.stdout)
        return 1
    if os.path.exists(folder + "/hang"):
        child = subprocess.Popen(["sleep", "1000"])
        with open(folder + "/pids", "w", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {child.pid}\n")
        time.sleep(1000)
    if role == "developer":
        act(folder, number)
    sys.stdout.buffer.write(said(folder, role) + b"\n")
    return 0


def act(folder: str, number: int) -> None:
    if os.path.exists(folder + "/developer.sh"):
        subprocess.run(["sh", folder + "/developer.sh"], check=True, stdout=subprocess.DEVNULL)
    else:
        with open(f"change-{number}.txt", "w", encoding="utf-8") as file:
            file.write("changed\n")


def said(folder: str, role: str) -> bytes:
    try:
        with open(f"{folder}/say-{role}", "rb") as file:
            return file.read().removesuffix(b"\n")
    except FileNotFoundError:
        return SAYS[role].encode()


if __name__ == "__main__":
    sys.exit(main())
