"""What may be stored, what readers may rely on, and how an event reads on one line."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmux_orchestrator.eventlog import event
from tmux_orchestrator.ground.errors import DataError

SOURCE = {"type": "agent", "identifier": "backend", "session": "s", "host": "h", "verified": True}
MS = 1_000_000


def made(**given: Any) -> dict[str, Any]:
    return event.build("text", dict(SOURCE), **given)


def changed(path: str, value: object) -> dict[str, Any]:
    """An event in which one field is something else."""
    holder = one = made(targets=["s:pm"], tags=["a"])
    *above, last = path.split(".")
    for name in above:
        holder = holder[name]
    holder[last] = value
    return one


# ids


def test_ids_sort_by_time_and_never_repeat() -> None:
    ids, other = event.Ids(), event.Ids()
    made_ids = [ids.make(1_800_000_000_000 * MS + n * 700) for n in range(20_000)]
    assert made_ids == sorted(set(made_ids))
    assert not set(made_ids) & {other.make(1_800_000_000_000 * MS + n) for n in range(20_000)}
    assert all(len(one) == 26 and event.is_id(one) for one in made_ids)


def test_ids_of_a_moment_stay_apart_when_the_counter_overflows() -> None:
    ids = event.Ids()
    ids._count = (1 << 30) - 500
    assert len({ids.make(MS) for _ in range(3000)}) == 3000


@pytest.mark.parametrize("good", ["abcdef", "A.b:c-d_1", "0" * 128, "build-2026:11:20"])
def test_ids_that_may_be_chosen(good: str) -> None:
    assert event.is_id(good)


@pytest.mark.parametrize(
    "bad", ["", "abcde", "0" * 129, "../../../x", ".hidden", "a/bcdef", "abc def", "äbcdef", "a\nbcdef"]
)
def test_ids_that_may_not(bad: str) -> None:
    assert not event.is_id(bad)


# checking


def test_what_build_makes_is_fine_and_untouched() -> None:
    one = made(targets=["s:pm"], groups=["g"], tags=["a"], subject="S", category="c", hops=3, queue=True)
    before = copy.deepcopy(one)
    assert event.check(one) is one and one == before


def test_unknown_fields_are_kept() -> None:
    one = made() | {"mine": {"x": [1]}}
    one["metadata"]["also"] = 1
    assert event.check(one)["mine"] == {"x": [1]} and one["metadata"]["also"] == 1


def test_absent_parts_are_filled_in() -> None:
    one = event.check({"message": {"content": {"body": "x"}}})
    assert one == {
        "source": {"type": "human"},
        "to": {"groups": [], "targets": []},
        "message": {"type": "notification", "priority": "normal", "content": {"body": "x", "context": {}}},
        "metadata": {"requires_ack": False, "tags": [], "hops": 0},
    }


NOT_STORED = [
    ("source", "x"), ("source.type", "robot"), ("source.type", 1), ("source.identifier", 7),
    ("source.identifier", "x" * 129), ("source.session", "a\nb"), ("source.host", ["h"]),
    ("to", []), ("to.targets", "pm"), ("to.targets", ["pm", 1]), ("to.targets", [""]), ("to.targets", ["x" * 129]),
    ("to.targets", ["p\x1bm"]), ("to.targets", ["t"] * 257), ("to.targets", {"pm": 1}), ("to.groups", [None]),
    ("message", None), ("message.type", "Bad"), ("message.type", ""), ("message.type", "9a"),
    ("message.type", "a" * 65),
    ("message.type", 1), ("message.priority", "urgent"), ("message.priority", ["high"]), ("message.category", 1),
    ("message.category", "a\tb"), ("message.content", "text"), ("message.content.body", None),
    ("message.content.body", ""), ("message.content.body", " \n\t "), ("message.content.body", ["a"]),
    ("message.content.subject", "two\nlines"), ("message.content.subject", "x" * 1025), ("message.content.subject", 5),
    ("message.content.context", []), ("message.content.context", "x"),
    ("metadata", 1), ("metadata.tags", ["a", ""]), ("metadata.tags", [["a"]]), ("metadata.requires_ack", "yes"),
    ("metadata.requires_ack", 1), ("metadata.hops", -1), ("metadata.hops", 1001), ("metadata.hops", True),
    ("metadata.hops", 1.5), ("metadata.hops", "3"), ("metadata.expires", 5), ("metadata.reply_to", "\u202ex"),
    ("metadata.supersedes", "x" * 129), ("metadata.correlation_id", {}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value"), NOT_STORED)
def test_what_may_not_be_stored(path: str, value: object) -> None:
    with pytest.raises(DataError) as told:
        event.check(changed(path, value))
    what, colon, advice = str(told.value).partition(": ")
    assert what and colon and advice and "\n" not in str(told.value)


@pytest.mark.parametrize("nothing", [None, 1, "x", [], [1]])
def test_only_objects_are_events(nothing: object) -> None:
    with pytest.raises(DataError):
        event.check(nothing)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=140),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
PATHS = sorted({path for path, _ in NOT_STORED})


@given(st.dictionaries(st.sampled_from(PATHS), JSON, max_size=3))
def test_the_quick_look_lets_nothing_through_that_the_close_one_refuses(fields: dict[str, object]) -> None:
    one = made(targets=["s:pm"], tags=["a"])
    for path, value in fields.items():
        holder = one
        *above, last = path.split(".")
        for name in above:
            if not isinstance(holder.get(name), dict):
                return
            holder = holder[name]
        holder[last] = value
    try:
        sound = event._is_sound(one)
    except (KeyError, TypeError, AttributeError):
        return
    if sound:
        before = copy.deepcopy(one)
        event._judge(event.shape(one))
        assert one == before


@given(JSON)
def test_whatever_has_a_shape_can_be_read(value: object) -> None:
    try:
        one = event.shape(value)
    except DataError:
        return
    event.render(one)
    assert [one["source"]["type"], one["message"]["priority"], one["to"]["targets"]]


# on one line


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"priority": "critical"}, "🚨 CRITICAL text"),
        ({"priority": "high", "subject": "Build"}, "⚠️ HIGH PRIORITY Build: text"),
        ({"tags": ["health", "idle"]}, "📨 text Tags: [health, idle]"),
        ({"priority": "low", "subject": "S", "tags": ["a"]}, "💤 S: text Tags: [a]"),
    ],
)
def test_rendered_on_one_line(given: dict[str, Any], line: str) -> None:
    assert event.render(made(**given)) == line


def test_lines_of_a_body_are_joined() -> None:
    assert event.render(event.build("a\nb\n\nc", SOURCE)) == "📨 a b  c"
    assert event.short("01M7WHJ0Q4K8P0ZG9X4DZ7K2M9Q") == "7K2M9Q"
