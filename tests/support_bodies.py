"""Bodies that something could go wrong with: each must reach a pane byte for byte, and none may be executed."""

from __future__ import annotations

import os
import random
import tempfile

from support_tmux import END, START

SEED = int(os.environ.get("PROOF_SEED", "20261120"))
# What must never come into being: it is named wherever a command could hide.
CANARY = f"{tempfile.gettempdir()}/orc-canary-{os.getppid()}"
NASTY = [
    "hello;", ";", "a;;", "-R oops", "--", "#{pane_id}", f"#(touch {CANARY})", f"$(touch {CANARY})",
    f"`touch {CANARY}`",
    "it's", '"double"', "'", "'\\''", "\\", "a\\", "~root", "$HOME", "{ }", "} ; kill-server", "%end 1 2 1",
    "%exit", "line\nline", "line\n\n\nline", "\nfirst", "\ttab", "trailing \n", "naïve 🚨 ⚠️ 日本", "é\u0301\u200d",
    "x" * 20_000, "# comment", "!ls", "/clear", "@file", "C-c", "Enter", " ", "\n", "%0", f"run-shell 'touch {CANARY}'",
]  # fmt: skip


def frame(body: str) -> bytes:
    return START + body.encode() + END + b"\r"


def fuzzed(count: int) -> list[str]:
    """Bodies of what may be in a message once control characters are gone, the dangerous characters often."""
    rng = random.Random(SEED)
    alphabet = "abc '\"\\;#{}()$`~%!-\n\t,:&|<>*?[]^é日🚨\u200d" + "".join(map(chr, range(33, 127)))
    return ["".join(rng.choices(alphabet, k=rng.choice((1, 2, 3, 8, 40, 300)))) for _ in range(count)]
