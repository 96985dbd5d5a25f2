"""What eight existing tools did in the same tests: figures measured on one machine, 2026-11-20, tmux 3.3a,
Codex 0.169.0 and Claude Code 2.1.197, one run per cell. n/m: submitted whole and as a prompt of its own, of m."""

from __future__ import annotations

NAMES = {
    "keys": "send-keys TEXT Enter",
    "keys -l": "send-keys -l, then Enter",
    "libtmux": "libtmux 0.62.0 send_keys",
    "script": "Jedward23 script (2025-07)",
    "torc": "torc 2.1.46 agent send",
    "omx": "omx 0.21.6 sendToWorker",
    "CAO": "CAO 2.5.4 inbox API",
    "hcom": "hcom 0.7.31 send",
}

_SHELL = "the shell runs both lines, success"
_LOST = "- and 20 KB lost, ; eaten"
_YES = "answered Yes, folder deleted"
_MERGED = "draft and message submitted as one"

# test -> peer -> (Codex, Claude Code)
FIGURES: dict[int, dict[str, tuple[str, str]]] = {
    1: {
        "keys": ("0/10, 0/10", "10/10, 0/10 · 34 ms"),
        "keys -l": ("0/10, 0/10", "10/10, 10/10 · 37 ms"),
        "libtmux": ("0/10, 0/10", "10/10, 10/10 · 52 ms"),
        "script": ("10/10, 10/10 · 545 ms", "10/10, 10/10 · 522 ms"),
        "torc": ("0/10, 0/10", "10/10, 10/10 · 1571 ms"),
        "omx": ("10/10, 10/10 · 339 ms", "10/10, 10/10 · 326 ms"),
        "CAO": ("1/10, 1/10 · 455 ms", "10/10, 10/10 · 2102 ms"),
        "hcom": ("10/10, 10/10 · 111 ms", "0/10, 0/10 (inject: 10/10, 10/10 · 70 ms)"),
    },
    2: {
        "keys": ("0/4", "4/4"),
        "keys -l": ("0/4", "4/4"),
        "libtmux": ("0/4", "4/4"),
        "script": ("4/4", "4/4"),
        "torc": ("0/4", "4/4"),
        "omx": ("4/4", "4/4"),
        "CAO": ("1/4, 3 held", "4/4"),
        "hcom": ("4/4, one digest", "4/4, one digest"),
    },
    3: {
        "keys": ("0 separate, 0 merged, 40 lost", "1 separate, 0 merged, 39 lost"),
        "keys -l": ("0 separate, 0 merged, 40 lost", "0 separate, 40 merged, 0 lost"),
        "libtmux": ("1 separate, 2 merged, 37 lost", "0 separate, 4 merged, 36 lost"),
        "script": ("0 separate, 40 merged, 0 lost", "3 separate, 37 merged, 0 lost"),
        "torc": ("11 separate, 21 merged, 8 lost · 80 s", "30 separate, 8 merged, 2 lost"),
        "omx": ("18 separate, 22 merged, 0 lost · 33 s", "7 separate, 33 merged, 0 lost"),
        "CAO": ("15 separate, 25 held", "9 separate, 31 held"),
        "hcom": ("0 separate, 40 in 2 digests · 0.5 s", "0 separate, 40 in 2 digests"),
    },
    4: {
        "keys": ("5 arrive, one merged prompt", "-"),
        "keys -l": ("0 arrive", "-"),
        "libtmux": ("0 arrive", "-"),
        "script": ("200 arrive, 37 merged, no limit", "-"),
        "torc": ("58 arrive, 82 lost, no limit", "-"),
        "omx": ("116 arrive, 2 lost, no limit", "-"),
        "CAO": ("44 arrive, 156 held, no limit", "-"),
        "hcom": ("200 arrive in 7 prompts", "-"),
    },
    5: dict.fromkeys(("keys", "keys -l", "libtmux", "script", "torc", "omx"), (_SHELL, _SHELL))
    | {
        "CAO": ("the shell runs both in 4 of 5, success", "the same"),
        "hcom": ("nothing runs, but success is said", "the same"),
    },
    6: {
        "keys": ("typed into the wrong agent, exit 0", "the same"),
        "keys -l": ("typed into the wrong agent, exit 0", "the same"),
        "libtmux": ("refused", "refused"),
        "script": ("typed into the wrong agent, exit 0", "the same"),
        "torc": ("typed into the wrong agent, exit 0", "the same"),
        "omx": ("refused", "refused"),
        "CAO": ("refused", "refused"),
        "hcom": ("refused, with the names there are", "the same"),
    },
    7: {
        "keys": ("-", "-, ; and 20 KB lost, exit 1"),
        "keys -l": ("-", "; eaten, 20 KB lost"),
        "libtmux": ("-", _LOST),
        "script": (_LOST, _LOST),
        "torc": ("-", _LOST),
        "omx": ("; eaten, 20 KB refused", "the same"),
        "CAO": ("intact", "intact; ESC[201~ lost"),
        "hcom": ("20 KB cut to 10 KB, exit 0", "20 KB cut to 2 KB, exit 0"),
    },
    8: dict.fromkeys(("keys", "keys -l", "libtmux", "script", "torc", "omx", "CAO"), (_YES, _YES))
    | {"hcom": ("held until the next human prompt", "the same")},
    9: {
        "keys": ("appended to the draft, left there", _MERGED),
        "keys -l": ("appended to the draft, left there", _MERGED),
        "libtmux": ("not submitted", _MERGED),
        "script": (_MERGED, _MERGED),
        "torc": ("lost", "draft destroyed"),
        "omx": (_MERGED, _MERGED),
        "CAO": (_MERGED, _MERGED),
        "hcom": ("untouched, arrives later", "untouched, arrives later"),
    },
    10: {
        "keys": ("2.8 ms", ""),
        "keys -l": ("2.8 ms", ""),
        "libtmux": ("78 ms", ""),
        "script": ("2.3 ms", ""),
        "torc": ("1434 ms", ""),
        "omx": ("295 ms", ""),
        "CAO": ("64 ms", ""),
        "hcom": ("3.8 ms", ""),
    },
}
