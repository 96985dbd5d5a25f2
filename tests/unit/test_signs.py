"""What the hooks of an agent said, on file."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmux_orchestrator.agents import signs
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.agents.signs import FIELDS, TAKEN, Sign
from tmux_orchestrator.ground import fastjson, proc
from tmux_orchestrator.ground.paths import Home


def agent(**fields: Any) -> Agent:
    return Agent({"name": "dev", "session": "web", "pid": 10, "pid_start": 20} | fields)


def entering(state: str, now: int = 1) -> Any:
    return lambda sign: sign.enter(state, now)


def test_nothing_was_said(home: Home) -> None:
    assert signs.load(home, agent()) is None
    assert signs.session_id(home, agent()) == ""


def test_what_was_said_is_read_again(home: Home) -> None:
    signs.update(home, agent(), entering("working", 7))
    sign = signs.load(home, agent())
    assert sign is not None
    assert (sign.state, sign.since, sign.pid, sign.pid_start) == ("working", 7, 10, 20)
    assert os.stat(signs.path(home, agent())).st_mode & 0o777 == 0o600


def test_another_process_of_that_name_said_nothing_but_keeps_the_session(home: Home) -> None:
    def change(sign: Sign) -> None:
        sign.enter("working", 1)
        sign.session_id = "abc"

    signs.update(home, agent(), change)
    later = agent(pid_start=21)
    assert signs.load(home, later) is None
    assert signs.session_id(home, later) == "abc"
    sign = signs.update(home, later, lambda sign: None)
    assert (sign.state, sign.session_id, sign.pid_start) == ("", "abc", 21)


def test_agents_of_two_sessions_are_two(home: Home) -> None:
    signs.update(home, agent(), entering("working"))
    signs.update(home, agent(session="a/b @x"), entering("idle"))
    assert [sign.state for sign in (signs.load(home, agent()), signs.load(home, agent(session="a/b @x"))) if sign] == [
        "working",
        "idle",
    ]


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"7", b"\xff", b'{"pid": "10"}', b'{"taken": [1]}', b'{"taken": [["a"]]}', b"{" + b" " * 70000],
)
def test_a_damaged_file_counts_as_none_and_is_written_anew(home: Home, text: bytes) -> None:
    signs.update(home, agent(), entering("working"))
    with open(signs.path(home, agent()), "wb") as file:
        file.write(text)
    assert signs.load(home, agent()) is None
    assert signs.session_id(home, agent()) == ""
    signs.update(home, agent(), entering("idle"))
    found = signs.load(home, agent())
    assert found is not None and found.state == "idle"


def test_a_link_is_not_followed(home: Home, tmp_path: Any) -> None:
    signs.update(home, agent(), entering("working"))
    where = signs.path(home, agent())
    os.rename(where, tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", where)
    assert signs.load(home, agent()) is None


def test_hooks_at_the_same_time_lose_nothing(home: Home) -> None:
    def call(number: int) -> None:
        for one in range(5):
            signs.update(home, agent(), lambda sign, one=one: sign.take([f"{number}-{one}"], 1))  # type: ignore[misc]

    threads = [threading.Thread(target=call, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sign = signs.load(home, agent())
    assert sign is not None
    assert {one[0] for one in sign.taken} == {f"{number}-{one}" for number in range(6) for one in range(5)}


def test_an_edge_keeps_its_time_while_the_state_stays() -> None:
    sign = Sign({"question": "may I?", "limited_until": "3am"})
    sign.enter("working", 5)
    sign.enter("working", 9)
    assert (sign.state, sign.since, sign.question, sign.limited_until) == ("working", 5, "", "")


def test_what_was_taken_is_bounded_and_the_newest_stays() -> None:
    sign = Sign({})
    for number in range(TAKEN + 10):
        sign.take([str(number)], number)
    assert len(sign.taken) == TAKEN
    assert sign.took(str(TAKEN + 9)) and not sign.took("9")


def test_the_messages_of_a_turn() -> None:
    sign = Sign({"taken": [["OLD", 3], ["NEW", 5], ["MORE", 6]]})
    assert sign.of_turn() == []
    sign.turn = 5
    assert sign.of_turn() == ["NEW", "MORE"]


def test_who_may_call() -> None:
    me, start = os.getpid(), proc.start_time(os.getpid()) or 0
    assert Sign({}).calls(77, 78), "the first may"
    sign = Sign({"cli": me, "cli_start": start})
    assert sign.calls(me, start)
    assert not sign.calls(77, 78), "another one, while the first lives"
    assert Sign({"cli": me, "cli_start": start - 1}).calls(77, 78), "the first has ended"


PLAIN = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
JSON = PLAIN | st.lists(PLAIN | st.lists(PLAIN, max_size=2), max_size=3) | st.dictionaries(st.text(max_size=5), PLAIN)


@given(st.dictionaries(st.sampled_from([*FIELDS, "other"]), JSON))
def test_any_fields_make_a_sign_or_a_value_error(fields: dict[str, Any]) -> None:
    try:
        sign = Sign(fields)
    except ValueError:
        return
    assert Sign(fastjson.loads(fastjson.dumps(sign.to_dict()))).to_dict() == sign.to_dict()
    sign.take(["x"], 1)
    assert sign.took("x") and isinstance(sign.of_turn(), list)
