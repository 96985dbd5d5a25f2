"""Programs that run what is typed into them, and are therefore never agents."""

from __future__ import annotations

import os

# A shell would run what is typed; the others may have one behind them, which cannot be seen from here.
SHELLS = frozenset(("sh", "bash", "dash", "zsh", "fish", "ksh", "mksh", "ash", "tcsh", "csh", "nu", "xonsh", "busybox"))
HIDE_SHELLS = frozenset(
    ("ssh", "mosh-client", "su", "sudo", "doas", "docker", "podman", "kubectl", "screen", "tmux", "script", "login")
)


def takes_commands(argv: list[str]) -> bool:
    """Would this command line start a shell that reads its commands from the keyboard?

    One with `-c` or with a script to run does something else with what is typed.
    """
    words = list(argv)
    while words and (os.path.basename(words[0]) == "env" or "=" in words[0]):
        words.pop(0)
    if not words or os.path.basename(words[0]).lstrip("-") not in SHELLS:
        return False
    options = [word for word in words[1:] if word.startswith("-")]
    return len(options) == len(words) - 1 or "-i" in options or "-s" in options
