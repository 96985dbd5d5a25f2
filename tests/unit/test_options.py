"""The usage text is the parser."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmux_orchestrator.ground import options
from tmux_orchestrator.ground.errors import UsageError

USAGE = """\
usage: orc-x [options] WORD...

  -t, --to TARGET...      may come more than once
  -n, --tail N            a value
  -f, --follow            a flag
  -q, --quiet             another
  --wait[=STAGE]          a value that may be absent
  --dry-run               a name with a dash
  --in DURATION           a name that is a keyword
"""


def parsed(*argv: str, stop: bool = False) -> dict[str, object]:
    """What differs from nothing given."""
    nothing = vars(options.parse(USAGE, []))
    return {
        name: value for name, value in vars(options.parse(USAGE, list(argv), stop)).items() if value != nothing[name]
    }


def test_nothing_given() -> None:
    got = options.parse(USAGE, [])
    assert (got.args, got.to, got.tail, got.follow, got.wait, got.dry_run) == ([], [], None, False, None, False)


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        (["a", "b"], {"args": ["a", "b"]}),
        (["-t", "x", "--to", "y", "--to=z", "-tw"], {"to": ["x", "y", "z", "w"]}),
        (["-n5"], {"tail": "5"}),
        (["-n", "5", "-n", "6"], {"tail": "6"}),
        (["-fq"], {"follow": True, "quiet": True}),
        (["-fn5"], {"follow": True, "tail": "5"}),
        (["-fn", "5"], {"follow": True, "tail": "5"}),
        (["--tail=-5"], {"tail": "-5"}),
        (["--tail", "-5"], {"tail": "-5"}),
        (["--tail", "--follow"], {"tail": "--follow"}),
        (["--tail="], {"tail": ""}),
        (["--tail=a=b"], {"tail": "a=b"}),
        (["--wait"], {"wait": ""}),
        (["--wait=acked", "w"], {"wait": "acked", "args": ["w"]}),
        (["--wait", "acked"], {"wait": "", "args": ["acked"]}),
        (["--dry-run", "--in", "5m"], {"dry_run": True, "in": "5m"}),
        (["a", "-f", "b"], {"args": ["a", "b"], "follow": True}),
        (["-"], {"args": ["-"]}),
        ([""], {"args": [""]}),
        (["--", "-f", "--", "--no"], {"args": ["-f", "--", "--no"]}),
        (["a", "--", "-f"], {"args": ["a", "-f"]}),
    ],
)
def test_forms(argv: list[str], wanted: dict[str, object]) -> None:
    assert parsed(*argv) == wanted


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        (["-f", "cmd", "-q", "--no"], {"follow": True, "args": ["cmd", "-q", "--no"]}),
        (["-f", "--", "cmd", "--", "-q"], {"follow": True, "args": ["cmd", "--", "-q"]}),
        (["-"], {"args": ["-"]}),
        (["-n", "cmd", "x"], {"tail": "cmd", "args": ["x"]}),
    ],
)
def test_options_end_at_the_first_word(argv: list[str], wanted: dict[str, object]) -> None:
    assert parsed(*argv, stop=True) == wanted


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["--folow"], "did you mean --follow?"),
        (["--folow=1"], "'--folow'"),
        (["-x"], "'-x'"),
        (["-fx"], "'-x' in '-fx'"),
        (["--follow=yes"], "takes no value"),
        (["--tail"], "needs a value"),
        (["-n"], "needs a value"),
        (["-fn"], "needs a value"),
        (["--"[:1] + "\x1b"], "\\x1b"),
        (["---"], "unknown"),
    ],
)
def test_mistakes(argv: list[str], part: str) -> None:
    with pytest.raises(UsageError) as told:
        options.parse(USAGE, argv)
    assert part in str(told.value)
    assert ": " in str(told.value) and str(told.value).isprintable()


def test_help_and_version() -> None:
    for word in ("--help", "-h"):
        with pytest.raises(options.Help) as told:
            options.parse(USAGE, ["-f", word])
        assert str(told.value) == USAGE
    with pytest.raises(options.Help) as told:
        options.parse(USAGE, ["--version"])
    assert str(told.value) == "version"
    assert parsed("--", "--help") == {"args": ["--help"]}
    assert parsed("--tail", "--help") == {"tail": "--help"}


@given(
    st.lists(st.text(max_size=12) | st.sampled_from(["-", "--", "-t", "--to=", "--wait=", "-nf", "--tail"]), max_size=6)
)
def test_any_words_are_options_or_a_usage_error(argv: list[str]) -> None:
    try:
        got = options.parse(USAGE, argv)
    except (UsageError, options.Help):
        return
    assert set(got.args) <= set(argv)
