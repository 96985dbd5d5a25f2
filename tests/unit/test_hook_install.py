"""Our lines in the files of others: what is there stays, merging twice is merging once, taking out leaves nothing."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmux_orchestrator.agents import hook_settings as settings
from tmux_orchestrator.agents import hook_setup
from tmux_orchestrator.agents.hook_setup import COPY, Place
from tmux_orchestrator.ground.errors import DataError, SystemFailure, TryLater, UsageError

THEIRS = {
    "model": "opus",
    "hooks": {
        "Stop": [{"matcher": "", "hooks": [{"type": "command", "command": "say done", "timeout": 9}]}],
        "Other": [{"hooks": [{"type": "prompt", "prompt": "orc-hook?"}]}],
    },
    "statusLine": {"type": "command", "command": "my status 'it is'", "padding": 0},
    "permissions": {"deny": ["Read(.env)"], "allow": ["Bash(ls:*)", "Bash(orc-read:*)"]},
    "zweifach": [1, 2.5, None, {"ü": "ß"}],
}


def where(root: Path, cli: str = "claude", project: str | None = None) -> Place:
    return hook_setup.place(cli, {"HOME": str(root)}, project)


def put(path: str, data: bytes | str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Path(path).write_bytes(data if isinstance(data, bytes) else data.encode())


def install(place: Place, permissions: bool = True, text: bool = True) -> list[str]:
    return [hook_setup.carry_out(change) for change in hook_setup.install(place, permissions, text)]


def uninstall(place: Place) -> list[str]:
    return [hook_setup.carry_out(change) for change in hook_setup.uninstall(place)]


def files_in(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}


@pytest.mark.parametrize("cli", sorted(hook_setup.CLIS))
@pytest.mark.parametrize("project", [False, True])
def test_where_nothing_was_nothing_is_left(tmp_path: Path, cli: str, project: bool) -> None:
    place = where(tmp_path, cli, str(tmp_path) if project else None)
    assert len(install(place)) == (3 if place.rules else 2)
    assert hook_setup.install(place, True, True) == []
    record = hook_setup.status(place)
    assert record["installed"] and record["text"] and record["problems"] == []
    assert record["permissions"] is (None if cli == "gemini" and project else True)
    assert record["events"] == list(hook_setup.commands(cli))
    assert len(uninstall(place)) == (3 if place.rules else 2)
    assert files_in(tmp_path) == {}
    assert uninstall(place) == []
    assert not hook_setup.status(place)["installed"]


def test_what_is_there_stays_and_comes_back_to_the_byte(tmp_path: Path) -> None:
    place = where(tmp_path)
    written = json.dumps(THEIRS, indent=3, ensure_ascii=False) + "\n\n"
    put(place.settings, written)
    put(place.text, "# Mine\n\nBe kind.\n")
    before = files_in(tmp_path)
    said = install(place)
    assert f"(what it was: {place.settings}{COPY})" in said[0]
    now = json.loads(Path(place.settings).read_text())
    assert now["hooks"]["Stop"][0] == THEIRS["hooks"]["Stop"][0], "theirs come first"  # type: ignore[index]
    assert now["hooks"]["Other"] == THEIRS["hooks"]["Other"]  # type: ignore[index]
    assert (now["model"], now["zweifach"]) == (THEIRS["model"], THEIRS["zweifach"])
    assert list(now) == list(THEIRS)
    assert now["permissions"]["deny"] == ["Read(.env)"] and now["permissions"]["allow"][:2] == [
        "Bash(ls:*)",
        "Bash(orc-read:*)",
    ]
    assert now["permissions"]["allow"].count("Bash(orc-read:*)") == 1
    assert now["statusLine"]["padding"] == 0
    assert settings.wrapped(now["statusLine"]["command"]) == "my status 'it is'"
    assert '\n   "model"' in Path(place.settings).read_text(), "indented as it was"
    assert Path(place.text).read_text().startswith("# Mine\n\nBe kind.\n\n" + settings.BEGIN)
    assert install(place) == []
    assert Path(place.settings + COPY).read_text() == written
    uninstall(place)
    assert files_in(tmp_path) == before


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "{}",
        '{"model": "\\ud800", "n": 1e3}\n',
        '{\r\n  "model": 1.10\r\n}\r\n',
        '{"hooks": {}}',
        '{"hooks": {"Stop": []}}',
        '{"permissions": {"allow": []}}',
        '{"permissions": {}}',
        '{"statusLine": null}',
        '{"statusLine": {"type": "command", "command": ""}}',
    ],
)
@pytest.mark.parametrize("said", ["", "no end", "an end\n", "blank\n\n", "CR\r\n", "\n"])
def test_whatever_stood_there_comes_back_to_the_byte(tmp_path: Path, text: str, said: str) -> None:
    place = where(tmp_path)
    put(place.settings, text)
    put(place.text, said)
    before = files_in(tmp_path)
    install(place)
    assert json.loads(Path(place.settings).read_text("utf-8"))["hooks"] and hook_setup.install(place, True, True) == []
    uninstall(place)
    assert files_in(tmp_path) == before


def test_what_a_copy_that_was_moved_put_in_goes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = where(tmp_path)
    rules = ["Bash(orc-run:*)", "Bash(/opt/bin/orc-read:*)", "Bash(ls 'x:*)", "Bash(:*)"]
    put(place.settings, json.dumps({"permissions": {"allow": rules}}))
    before = files_in(tmp_path)
    monkeypatch.setattr(hook_setup, "CODE", "/else where/it's")
    install(place)
    monkeypatch.undo()
    install(place)
    assert len(json.loads(Path(place.settings).read_text())["permissions"]["allow"]) == len(rules) + 27
    uninstall(place)
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("permissions", [["x"], "x", 5, None, {"allow": 5}, {"allow": [["x"]]}])
def test_permissions_of_another_form_are_nobodys_business_without_the_rule(tmp_path: Path, permissions: object) -> None:
    place = where(tmp_path)
    put(place.settings, json.dumps({"permissions": permissions}))
    before = files_in(tmp_path)
    install(place, permissions=False)
    assert hook_setup.status(place)["installed"]
    uninstall(place)
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("hooks", [5, None, [1], {"Stop": 5}, {"Stop": None}, {"Stop": {"a": 1}}, {"Stop": ["x"]}])
def test_of_hooks_of_another_form_the_status_says_so(tmp_path: Path, hooks: object) -> None:
    place = where(tmp_path)
    put(place.settings, json.dumps({"hooks": hooks}))
    record = hook_setup.status(place)
    assert not record["installed"] and [one[: len(place.settings) + 6] for one in record["problems"]] == [
        f"{place.settings}: its "
    ]


def test_what_was_added_since_stays(tmp_path: Path) -> None:
    place = where(tmp_path)
    put(place.settings, json.dumps(THEIRS))
    install(place)
    now = json.loads(Path(place.settings).read_text())
    now["theme"] = "dark"
    now["hooks"]["Stop"].append({"hooks": [{"type": "command", "command": "later"}]})
    put(place.settings, json.dumps(now))
    put(place.text, Path(place.text).read_text() + "\nafter it\n")
    assert hook_setup.install(place, True, True) == []
    uninstall(place)
    expected = json.loads(json.dumps(THEIRS)) | {"theme": "dark"}
    expected["hooks"]["Stop"].append({"hooks": [{"type": "command", "command": "later"}]})
    assert json.loads(Path(place.settings).read_text()) == expected
    assert Path(place.text).read_text() == "\nafter it\n"
    assert not os.path.exists(place.settings + COPY)


def test_another_copy_of_ours_is_replaced_in_its_place(tmp_path: Path) -> None:
    place = where(tmp_path, "codex")
    old = {"type": "command", "command": "'/opt/old copy/bin/orc-hook' codex Stop", "timeout": 60}
    gone = {"type": "command", "command": "/opt/orc-hook codex NoLonger"}
    theirs = {"type": "command", "command": "echo orc-hook"}
    hooks = {"Stop": [{"hooks": [old, theirs]}, {"hooks": [theirs]}], "NoLonger": [{"hooks": [gone]}]}
    put(place.settings, json.dumps({"hooks": hooks}))
    assert "no hook of this copy for SessionStart" in hook_setup.status(place)["problems"][0]
    install(place)
    now = json.loads(Path(place.settings).read_text())["hooks"]
    assert now["Stop"][0]["hooks"][0]["command"] == hook_setup.commands("codex")["Stop"]
    assert now["Stop"][0]["hooks"][1] == theirs and now["Stop"][1] == {"hooks": [theirs]}
    assert "NoLonger" not in now
    uninstall(place)
    assert json.loads(Path(place.settings).read_text()) == {
        "hooks": {"Stop": [{"hooks": [theirs]}, {"hooks": [theirs]}]}
    }


def test_ours_twice_for_an_event_is_once_afterwards() -> None:
    ours = {"hooks": [{"type": "command", "command": "/x/orc-hook claude Stop"}]}
    made = settings.add_hooks("f", {"hooks": {"Stop": [ours, ours]}}, {"Stop": "/y/orc-hook claude Stop"}, 5)
    assert [group["hooks"][0]["command"] for group in made["hooks"]["Stop"]] == ["/y/orc-hook claude Stop"]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "// mine\n{}",
        '{"a": 1, "a": 2}',
        '{"hooks": []}',
        '{"hooks": {"Stop": {}}}',
        '{"hooks": {"Stop": ["x"]}}',
        '{"hooks": {"Stop": [{"hooks": "x"}]}}',
        '{"hooks": {"Stop": [{"hooks": ["x"]}]}}',
        '{"permissions": {"allow": "all"}}',
        '{"permissions": []}',
        '{"statusLine": "mine"}',
        '{"statusLine": {"type": "command"}}',
        "[" * 100_000,
        b"\xff\xfe{}",
    ],
)
def test_a_damaged_file_is_refused_and_nothing_is_written(tmp_path: Path, text: str | bytes) -> None:
    place = where(tmp_path)
    put(place.settings, text)
    before = files_in(tmp_path)
    with pytest.raises(DataError, match=r"settings\.json.*(mend|move)"):
        hook_setup.install(place, True, True)
    assert files_in(tmp_path) == before


@pytest.mark.parametrize(
    "text",
    [
        settings.BEGIN,
        settings.END,
        f"{settings.END}\n{settings.BEGIN}",
        f"{settings.BEGIN}{settings.BEGIN}{settings.END}",
    ],
)
def test_marks_that_are_no_pair_are_refused(tmp_path: Path, text: str) -> None:
    place = where(tmp_path)
    put(place.text, text)
    with pytest.raises(DataError, match="no pair"):
        hook_setup.install(place, True, True)
    assert hook_setup.install(place, True, False), "without the text there is nothing wrong"


def test_a_link_stays_a_link_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    place = where(tmp_path)
    put(str(tmp_path / "dotfiles/claude.json"), "{}")
    os.makedirs(os.path.dirname(place.settings))
    os.symlink("../dotfiles/claude.json", place.settings)
    said = install(place, text=False)
    assert f"which leads to {tmp_path}/dotfiles/claude.json" in said[0]
    assert os.path.islink(place.settings)
    assert hook_setup.is_ours(json.loads((tmp_path / "dotfiles/claude.json").read_text()))
    uninstall(place)
    assert os.path.islink(place.settings) and (tmp_path / "dotfiles/claude.json").read_text() == "{}"


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    place = where(tmp_path)
    os.makedirs(place.settings)
    with pytest.raises((DataError, SystemFailure)):
        hook_setup.install(place, True, True)
    os.rmdir(place.settings)
    os.symlink("settings.json", place.settings)
    with pytest.raises((DataError, SystemFailure)):
        hook_setup.install(place, True, True)


def test_whoever_wrote_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    place = where(tmp_path)
    put(place.settings, "{}")
    changes = hook_setup.install(place, True, True)
    put(place.settings, '{"model": "other"}')
    with pytest.raises(TryLater, match="run it again"):
        hook_setup.carry_out(changes[0])
    assert Path(place.settings).read_text() == '{"model": "other"}'


def test_a_file_keeps_its_mode(tmp_path: Path) -> None:
    place = where(tmp_path)
    put(place.settings, "{}")
    os.chmod(place.settings, 0o644)
    install(place)
    assert os.stat(place.settings).st_mode & 0o777 == 0o644
    assert os.stat(place.text).st_mode & 0o777 == 0o600


def test_a_path_with_spaces_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook_setup, "CODE", "/my tools/it's")
    command = hook_setup.commands("codex")["Stop"]
    assert shlex.split(command) == ["/my tools/it's/bin/orc-hook", "codex", "Stop"]
    assert settings.words(command)


def test_the_places(tmp_path: Path) -> None:
    for cli, variable, folder in (
        ("claude", "CLAUDE_CONFIG_DIR", "/x"),
        ("codex", "CODEX_HOME", "/x"),
        ("gemini", "GEMINI_CLI_HOME", "/x/.gemini"),
    ):
        place = hook_setup.place(cli, {variable: "/x", "HOME": "/home/me"}, None)
        assert os.path.dirname(place.settings) == os.path.dirname(place.text) == folder
        with pytest.raises(UsageError, match=variable):
            hook_setup.place(cli, {"HOME": ""}, None)
        with pytest.raises(UsageError, match="no folder"):
            hook_setup.place(cli, {}, str(tmp_path / "none"))
    assert hook_setup.place("claude", {}, str(tmp_path)).settings == f"{tmp_path}/.claude/settings.local.json"


def test_a_project_gets_no_status_line(tmp_path: Path) -> None:
    place = where(tmp_path, "claude", str(tmp_path))
    install(place)
    assert "statusLine" not in json.loads(Path(place.settings).read_text())


def test_without_permissions_and_without_text(tmp_path: Path) -> None:
    for cli in sorted(hook_setup.CLIS):
        place = where(tmp_path, cli)
        assert len(install(place, permissions=False, text=False)) == 1
        record = hook_setup.status(place)
        assert (record["installed"], record["permissions"], record["text"]) == (True, False, False)


def test_what_keeps_hooks_from_being_called_is_told(tmp_path: Path) -> None:
    place = where(tmp_path)
    put(place.settings, '{"disableAllHooks": true}')
    install(place)
    assert "disableAllHooks" in hook_setup.status(place)["problems"][0]
    place = where(tmp_path, "gemini")
    put(place.settings, '{"hooksConfig": {"enabled": false}}')
    install(place)
    assert "hooksConfig.enabled" in hook_setup.status(place)["problems"][0]
    put(place.settings, "{")
    record = hook_setup.status(place)
    assert not record["installed"] and "not plain JSON" in record["problems"][0]


NAMES = st.sampled_from(["Stop", "SessionStart", "x", "hooks", "allow"])
LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
HANDLERS = st.fixed_dictionaries({"type": st.just("command"), "command": st.sampled_from(["ls", "orc-hooks x", "'"])})
GROUPS = st.fixed_dictionaries({"hooks": st.lists(HANDLERS, max_size=2)}, optional={"matcher": st.text(max_size=3)})
RULES = st.lists(st.text(max_size=4), min_size=1, max_size=2)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "hooks": st.dictionaries(NAMES, st.lists(GROUPS, min_size=1, max_size=2), max_size=2),
        "permissions": st.fixed_dictionaries({}, optional={"allow": RULES}),
        "statusLine": st.fixed_dictionaries({"type": st.just("command"), "command": st.text(min_size=1, max_size=8)}),
        "other": st.dictionaries(NAMES, LEAVES, max_size=2),
    },
)


@given(DOCUMENTS)
def test_taking_out_what_was_merged_gives_what_there_was(document: dict[str, Any]) -> None:
    rules, commands = hook_setup.claude_rules(), hook_setup.commands("claude")
    made = settings.add_hooks("f", document, commands, 5)
    made = settings.add_status_line("f", made, "/x/orc-hook claude statusLine")
    made = settings.add_rules("f", made, rules)
    again = settings.add_status_line("f", settings.add_hooks("f", made, commands, 5), "/x/orc-hook claude statusLine")
    assert settings.add_rules("f", again, rules) == made
    assert hook_setup.is_ours(made) and all(settings.has(made, event, command) for event, command in commands.items())
    parsed = settings.parse("f", settings.render(made, None))
    assert parsed == made
    back = settings.drop_rules(settings.drop_status_line(settings.drop_hooks("f", made)), rules)
    assert back == {key: value for key, value in document.items() if value != {} or key not in ("hooks", "permissions")}


@given(st.text(max_size=40), st.text(max_size=20))
def test_a_section_comes_and_goes(text: str, body: str) -> None:
    made = settings.add_section("f", text, body)
    assert settings.has_section(made) and settings.add_section("f", made, body) == made
    assert settings.drop_section("f", made) == text
