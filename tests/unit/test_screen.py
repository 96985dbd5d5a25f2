"""What the profiles make of captured screens of the real CLIs, and of pictures that are damaged or made to mislead."""

from __future__ import annotations

import glob
import os
import re
import statistics
import time
from typing import NamedTuple

import pytest

from support_tmux import Server, wait_until
from tmux_orchestrator.agents import profiles, screen

SCREENS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "screens")
PROFILES = profiles.load()
RESET = "\x1b[0m"
RULE = "─" * 80
MULTILINE = "first line of a draft\n\nsecond paragraph\n  indented\nlast"


class Expected(NamedTuple):
    state: str
    composer: str = "none"
    draft: str = ""
    queued: bool = False
    choices: int = 0


EMPTY = Expected("idle", "empty")
WORKING = Expected("working", "empty")
LIMITED = Expected("limited", "empty")

# fmt: off
CAPTURES = {
    "aider-idle": EMPTY,
    "aider-answered": EMPTY,
    "aider-draft": Expected("idle", "draft", "half a draft"),
    "aider-multiline": Expected("unknown"),
    "aider-working": Expected("working"),
    "aider-question": Expected("waiting"),
    "aider-startup-question": Expected("waiting"),
    "claude-idle": EMPTY,
    "claude-idle-after": EMPTY,
    "claude-idle-nocolor": EMPTY,
    "claude-interrupted": EMPTY,
    "claude-draft": Expected("idle", "draft", "half typed draft"),
    "claude-multiline": Expected("idle", "draft", "first line of a draft\n  second\nthird"),
    "claude-pasted": Expected("idle", "draft", "[Pasted text #2 +40 lines]"),
    "claude-slash": Expected("idle", "draft", "/mod"),
    "claude-interrupted-early": Expected("idle", "draft", "[[slow:20]] long"),
    "claude-working": WORKING,
    "claude-queued": Expected("working", "empty", queued=True),
    "claude-queued-draft": Expected("working", "draft", "half a draft"),
    "claude-permission": Expected("waiting", choices=3),
    "claude-permission-second": Expected("waiting", choices=3),
    "claude-permission-narrow": Expected("waiting", choices=3),
    "claude-trust": Expected("waiting", choices=2),
    "claude-menu": Expected("waiting", choices=5),
    "claude-limit": LIMITED,
    "claude-limit-end": LIMITED,
    "claude-shell-mode": Expected("unknown"),
    "claude-transcript": Expected("unknown"),
    "codex-idle": EMPTY,
    "codex-idle-after": EMPTY,
    "codex-idle-nocolor": EMPTY,
    "codex-interrupted": EMPTY,
    "codex-draft": Expected("idle", "draft", "half typed draft"),
    "codex-multiline": Expected("idle", "draft", MULTILINE),
    "codex-pasted": Expected("idle", "draft", "[Pasted Content 3310 chars]"),
    "codex-starting": Expected("working", "draft", "hello"),
    "codex-working": WORKING,
    "codex-retrying": WORKING,
    "codex-queued": Expected("working", "empty", queued=True),
    "codex-queued-draft": Expected("working", "draft", "half a draft", queued=True),
    "codex-permission": Expected("waiting", choices=3),
    "codex-permission-second": Expected("waiting", choices=3),
    "codex-permission-narrow": Expected("waiting", choices=2),
    "codex-menu": Expected("waiting", choices=8),
    "codex-limit": LIMITED,
    "codex-usage-limit": LIMITED,
    "gemini-idle": EMPTY,
    "gemini-idle-nocolor": EMPTY,
    "gemini-idle-truecolor": EMPTY,
    "gemini-interrupted": EMPTY,
    "gemini-draft": Expected("idle", "draft", "half a draft"),
    "gemini-multiline": Expected("idle", "draft", MULTILINE),
    "gemini-pasted": Expected("idle", "draft", "[Pasted Text: 41 lines]"),
    "gemini-working": WORKING,
    "gemini-queued": Expected("working", "empty", queued=True),
    "gemini-permission": Expected("waiting", choices=3),
    "gemini-permission-narrow": Expected("waiting", choices=3),
    "gemini-trust": Expected("waiting", choices=3),
}
# fmt: on
CURSORS = {
    "aider-answered": (2, 36),
    "aider-draft": (14, 26),
    "aider-idle": (2, 18),
    "aider-multiline": (2, 33),
    "aider-question": (65, 39),
    "aider-startup-question": (88, 1),
    "aider-working": (1, 21),
    "codex-menu": (120, 39),
}


def capture(name: str) -> tuple[profiles.Profile, list[str]]:
    with open(f"{SCREENS}/{name}.ansi", encoding="utf-8") as file:
        return PROFILES[name.split("-")[0]], file.read().split("\n")


def test_every_capture_is_expected_to_show_something() -> None:
    assert {os.path.basename(path)[:-5] for path in glob.glob(SCREENS + "/*.ansi")} == set(CAPTURES)


@pytest.mark.parametrize("name", sorted(CAPTURES))
def test_capture(name: str) -> None:
    seen = screen.classify(*capture(name), CURSORS.get(name))
    expected = CAPTURES[name]
    assert (seen.state, seen.composer, seen.draft, seen.queued) == expected[:4]
    assert len(seen.choices) == expected.choices
    assert bool(seen.question) == (seen.state == "waiting")


def test_what_a_dialog_asks() -> None:
    seen = screen.classify(*capture("claude-permission"))
    assert seen.question == "Bash command · rm -rf build · asked · Do you want to proceed?"
    assert seen.choices[0] == "1. Yes"
    seen = screen.classify(*capture("codex-permission"))
    assert seen.question.startswith("Would you like to run the following command?")
    assert seen.question.endswith("$ rm -rf build")
    assert seen.choices[2].startswith("3. No")


def test_when_a_limit_ends_is_what_the_screen_says() -> None:
    assert screen.classify(*capture("codex-usage-limit")).limited_until == "2:28 PM"
    assert screen.classify(*capture("codex-limit")).limited_until is None


@pytest.mark.parametrize("name", sorted(name for name, e in CAPTURES.items() if e.composer != "empty"))
def test_a_damaged_picture_never_looks_free(name: str) -> None:
    """Any one row lost, or the lower part not drawn yet: what is asked or typed must not turn into an empty box."""
    profile, lines = capture(name)
    for row, line in enumerate(lines):
        lost = "".join(re.findall(r"\x1b\[[0-9;]*m", line))
        for damaged in ([*lines[:row], lost, *lines[row + 1 :]], lines[: row + 1]):
            assert screen.classify(profile, damaged, CURSORS.get(name)).composer != "empty", f"row {row}"


def claude(*box: str, above: tuple[str, ...] = ()) -> screen.Screen:
    lines = [*above, RULE, *box, RULE, "  ? for shortcuts"]
    return screen.classify(PROFILES["claude"], lines)


def test_without_an_input_box_a_dialog_ends_at_the_end_of_the_screen() -> None:
    words = ["Would you like to proceed?", "❯ 1. Yes", "  2. No, keep planning", "  3. Type something"]
    for lines, state in (
        (words, "waiting"),
        ([*words, "", "ctrl-g to edit"], "waiting"),
        ([*words, "and so on.", "This is a page about dialogs.", "(END)"], "unknown"),
        (["Press Esc to cancel or Enter to confirm"], "waiting"),
        (["Press Esc to cancel or Enter to confirm", "is what", "the page", "says."], "unknown"),
    ):
        assert screen.classify(PROFILES["claude"], lines).state == state, lines


@pytest.mark.parametrize(
    ("box", "draft"),
    [
        ("❯ ", ""),
        ("❯", ""),
        ("❯\xa0", ""),
        ("❯ \x1b[7m \x1b[0m", ""),
        (f"❯ \x1b[2mTry this{RESET}", ""),
        (f"❯ \x1b[7mT\x1b[0;2mry this{RESET}", ""),
        (f"❯ \x1b[7mI\x1b[0m \x1b[2mneed this{RESET}", ""),
        (f"❯ \x1b[90mTry this{RESET}", ""),
        (f"❯ \x1b[38;5;244mTry this{RESET}", ""),
        (f"❯ \x1b[38;2;120;120;120mTry this{RESET}", ""),
        ("❯ x", "x"),
        ("❯ \x1b[7mx\x1b[0m", "x"),
        ("❯ \x1b[7mx\x1b[0myz", "xyz"),
        (f"❯ git\x1b[7m \x1b[0;2mstatus{RESET}", "git"),
        ("❯ \x1b[38;5;231mwhite text\x1b[0m", "white text"),
        ("❯ \x1b[1;38;2;200;60;60mred text\x1b[0m", "red text"),
        ("\x1b[38;5;246m❯ \x1b[39mtext after a grey prompt", "text after a grey prompt"),
        ("❯ \x1b]8;;http://h/\x1b\\link\x1b]8;;\x1b\\", "link"),
    ],
)
def test_suggestions_are_no_draft(box: str, draft: str) -> None:
    seen = claude(box)
    assert (seen.draft, seen.composer) == (draft, "draft" if draft else "empty")


def test_attributes_run_on_from_the_lines_above() -> None:
    """tmux prints only what changes, so a dim line may begin several lines before its text."""
    assert claude("❯ suggestion", above=("\x1b[2m",)).draft == ""
    assert claude("❯ typed", above=("\x1b[2mdim\x1b[0m",)).draft == "typed"


def test_prose_about_a_dialog_is_none() -> None:
    prose = ("● It asked: Do you want to proceed?", "  ❯ 1. Yes", "    2. No", "  Esc to cancel · Enter to confirm")
    assert claude("❯ ", above=prose).state == "idle"
    answer = ["• Would you like to go on? 1. Yes 2. No", "", "  Press enter to confirm or esc to cancel", ""]
    seen = screen.classify(PROFILES["codex"], [*answer, "\x1b[1m›\x1b[0m \x1b[2mAsk Codex", "", "  test · ~"])
    assert (seen.state, seen.composer) == ("idle", "empty")


def test_a_dialog_below_the_last_box_counts() -> None:
    lines = [RULE, "❯ ", RULE, " Do you want to proceed?", " ❯ 1. Yes", "   2. No", " Esc to cancel"]
    assert screen.classify(PROFILES["claude"], lines).state == "waiting"


def test_a_list_above_a_dialog_is_not_among_its_choices() -> None:
    lines = [
        "● 1. one thing",
        "  2. another",
        RULE,
        " Do you want to proceed?",
        " ❯ 1. Yes",
        "   2. No",
        " Esc to cancel",
    ]
    seen = screen.classify(PROFILES["claude"], lines)
    assert (seen.question, seen.choices) == ("Do you want to proceed?", ["1. Yes", "2. No"])


def test_a_prompt_that_was_sent_is_no_box() -> None:
    """Codex draws both alike, the one that was sent dim; without a box, somewhere else has the keys."""
    sent = ["\x1b[1;2m› \x1b[0msay hello", "", "  test · ~"]
    assert screen.classify(PROFILES["codex"], sent).composer == "none"


def test_a_limit_that_the_agent_worked_on_after_is_over() -> None:
    limit = "● You've hit your limit · resets 1am"
    assert claude("❯ ", above=(limit, *["● line"] * 4)).state == "limited"
    assert claude("❯ ", above=(limit, *["● line"] * 5)).state == "idle"


def test_only_the_present_turn_tells_of_a_limit() -> None:
    old = ("● You've hit your limit · resets 1am (Europe/Berlin)", "", "❯ go on", "", "● Of course.")
    assert claude("❯ ", above=old).state == "idle"
    seen = claude("❯ ", above=old[:1])
    assert (seen.state, seen.limited_until) == ("limited", "1am (Europe/Berlin)")


def test_a_cursor_elsewhere_hides_the_box_of_a_cli_that_shows_its_cursor() -> None:
    profile, lines = capture("codex-idle")
    row = max(number for number, line in enumerate(screen.plain(lines)) if line.startswith("›"))
    assert screen.classify(profile, lines, (2, row)).composer == "empty"
    assert screen.classify(profile, lines, (2, row - 3)).composer == "none"


def test_aider() -> None:
    aider = PROFILES["aider"]
    assert screen.classify(aider, [RULE, "ask> fix it", ""], (11, 1)).draft == "fix it"
    assert screen.classify(aider, [RULE, "> said before", "", "an answer"], (9, 3)).state == "unknown"
    asks = ["", "Run shell command? (Y)es/(N)o/(D)on't ask again [Yes]: ", ""]
    assert screen.classify(aider, asks, (55, 1)).state == "waiting"


def test_a_program_without_a_profile_is_unknown() -> None:
    seen = screen.classify(PROFILES["plain"], ["anything", "❯ "])
    assert (seen.state, seen.composer) == ("unknown", "none")


@pytest.mark.parametrize("lines", [[], [""], [""] * 40])
@pytest.mark.parametrize("name", sorted(PROFILES))
def test_an_empty_screen_is_unknown(name: str, lines: list[str]) -> None:
    assert screen.classify(PROFILES[name], lines).state == "unknown"


def test_it_is_fast_enough_for_500_agents() -> None:
    """A look at everybody may take a tenth of a second; a loaded machine gets five times that."""
    looks = [capture(name) for name in CAPTURES]
    took = []
    for profile, lines in looks * 5:
        begin = time.process_time_ns()
        screen.classify(profile, lines)
        took.append(time.process_time_ns() - begin)
    assert statistics.median(took) < 1_000_000


def test_guards_find_dialogs_in_a_pane_and_nothing_else() -> None:
    """tmux's own search, on the pictures as a pane holds them."""
    with Server(120, 42) as server:
        server.start(["sleep", "600"])
        for name, expected in CAPTURES.items():
            profile = PROFILES[name.split("-")[0]]
            pane, _ = server.start(["sh", "-c", 'cat "$1"; exec sleep 600', "sh", f"{SCREENS}/{name}.ansi"])
            last = screen.plain(capture(name)[1])
            mark = next(line for line in reversed(last) if line).strip()[-12:]
            wait_until(lambda pane=pane, mark=mark: mark in server.screen(pane), what=name)  # type: ignore[misc]
            found = any(server.show(pane, f"#{{C/r:{cue}}}") != "0" for cue in profile.guard)
            # a menu that its user opened, and a question that is asked before the first message only
            asks = expected.state == "waiting" and name not in ("codex-menu", "gemini-trust")
            assert found == asks, name
            server.tmux("kill-pane", "-t", pane)
