"""The configuration: strict, compiled once, overridden by the environment, followed by daemons."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmux_orchestrator.ground import config, config_compile, config_kinds, config_schema, config_text, fastjson
from tmux_orchestrator.ground.errors import ConfigError
from tmux_orchestrator.ground.paths import Home

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "home/logs").mkdir(parents=True)
    return Home(str(tmp_path / "home"))


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as long unchanged the moment they are written, save where a test is about that."""
    monkeypatch.setattr(config_compile, "_SETTLED_NS", 0)


def write(home: Home, text: str) -> None:
    Path(home.config_file).write_text(text, encoding="utf-8")


def mistakes(text: str | bytes) -> list[str]:
    data = text.encode() if isinstance(text, str) else text
    return [f"{mistake.line}: {mistake}" for mistake in config_compile.parse(data)[1]]


# What is there without a file


def test_defaults_need_no_file_and_no_folder(tmp_path: Path) -> None:
    home = Home(str(tmp_path / "nowhere"))
    loaded = config.load(home)
    assert loaded.get("monitoring.max_messages_per_minute") == 10
    assert loaded.get("delivery.ttl") == 86_400.0
    assert loaded.get("recovery.backoff_s") == [30.0, 600.0]
    assert loaded.get("recovery.breaker") == [5, 900.0]
    assert loaded.groups == {"management": ["@pm"]}
    assert (loaded.rules, loaded.profiles) == ([], {})
    assert not os.path.exists(home.root), "asking a mistyped home for its configuration made it"


@pytest.mark.parametrize("name", ["monitoring.chek", "monitoring.enabled.more", "nothing", ""])
def test_an_unknown_key_is_a_key_error(home: Home, name: str) -> None:
    with pytest.raises(KeyError):
        config.load(home).get(name)


def test_every_default_is_a_possible_value() -> None:
    for path, key in config_schema.all_keys().items():
        assert config_kinds.default(key) is not None, path


def test_the_shipped_file_is_what_init_writes_and_reads_back_as_the_defaults() -> None:
    shipped = (ROOT / "orchestrator_config.yaml").read_text()
    assert shipped == config_text.default_file()
    assert config_compile.parse(shipped.encode()) == (config_schema.defaults(), [])
    assert max(map(len, shipped.splitlines())) <= 120


def test_every_key_is_documented_with_its_default() -> None:
    text = (ROOT / "docs/configuration.md").read_text()
    rows = set(re.findall(r"^\| `([\w.]+)` \| `(.*?)` \|", text, re.M))
    assert rows == {(path, config_text.written(key.default)) for path, key in config_schema.all_keys().items()}
    assert re.findall(r"^### (\w+)$", text, re.M) == [section.name for section in config_schema.SECTIONS]


def test_the_examples_in_the_shipped_file_are_right() -> None:
    for section in config_schema.SECTIONS:
        if section.example:
            text = f"{section.name}:\n" + "".join(f"  {line}\n" for line in section.example)
            assert mistakes(text) == []


def test_variables_do_not_collide() -> None:
    names = [config_schema.variable(path) for path in config_schema.all_keys()]
    assert len(set(names)) == len(names)
    assert config_schema.variable("tmux.socket") == "ORC_TMUX_SOCKET"
    assert "ORC_HOME" not in names


# What a file says


def test_a_file_overrides_what_it_names_and_nothing_else(home: Home) -> None:
    write(home, "delivery: {ttl: 1h30m, escalate_to: ['@pm', 'qa:1']}\ngroups: {crew: [anna]}\nmonitoring:\n")
    loaded = config.load(home)
    assert loaded.get("delivery.ttl") == 5400.0
    assert loaded.get("delivery.escalate_to") == ["@pm", "qa:1"]
    assert loaded.get("delivery.retries") == 5
    assert loaded.groups == {"management": ["@pm"], "crew": ["anna"]}
    assert loaded.get("groups.crew") == ["anna"]


def test_flows_of_ones_own_take_the_place_of_the_usual_ones(home: Home) -> None:
    assert [rule["task"]["recipient"] for rule in config.load(home).get("flows.rules")][:2] == [
        "code_developer",
        "project_manager",
    ]
    write(home, "flows:\n  rules:\n  - {match: {type: a, addressed: no}, task: {recipient: b}}\n  - match: {type: c}\n")
    loaded = config.load(home)
    assert loaded.get("flows.rules") == [
        {"match": {"type": ["a"], "addressed": False}, "task": {"recipient": "b"}},
        {"match": {"type": ["c"]}},
    ]
    assert (loaded.get("flows.enabled"), loaded.get("flows.fallback")) == (True, "project_manager")


def test_conditions_come_as_lists(home: Home) -> None:
    write(
        home,
        "rules:\n- match: {type: a, priority: [high, low], text: 'x$'}\n  action: drop\n- {match: {}, route: [b]}\n",
    )
    assert config.load(home).rules == [
        {"match": {"type": ["a"], "priority": ["high", "low"], "text": "x$"}, "action": "drop"},
        {"match": {}, "route": ["b"]},
    ]


FOREIGN = """
team:
  agents:
    writer: {enabled: true, auto_approve: true, sleep_interval: 60}
    manager: {github_poll_interval: 300}
    planner:
      review_schedule: "0 9 * * 1"  # Mondays
  message_queue:
    backend: sqlite
    db_path: data/other.db
    cleanup_interval_days: 7
    wal_enabled: true
    synchronous_mode: NORMAL
  health_check: {interval: 30, timeout: 5}
  resource_limits: {max_memory_mb: 500}
  observability: {langfuse: {enabled: no}}
"""


def test_a_team_file_of_another_document_loads_as_it_stands(home: Home) -> None:
    write(home, FOREIGN)
    loaded = config.load(home)
    assert loaded.get("team.agents.planner.review_schedule") == "0 9 * * 1"
    assert loaded.get("team.message_queue.db_path") == "data/other.db"
    assert loaded.get("team.message_queue.cleanup_interval_days") == 7
    assert loaded.get("team.observability.langfuse.enabled") is False
    assert mistakes(FOREIGN.replace("cleanup_interval_days: 7", "cleanup_interval_days: soon")) == [
        "11: team.message_queue.cleanup_interval_days is 'soon': it must be a whole number from 1 to 36500"
    ]


def test_what_is_wrong_with_an_agent_of_the_team_is_told_with_its_line() -> None:
    text = """\
team:
  agents:
    Big: {}
    a: {command: "'open", enabled: maybe, triggers: x, interval: 0, mood: 010}
    b: {command: [], runner: thread}
    c: {command: ["", x]}
    d: 3
    e: {command: [a b, ""]}
  restart: {mx: 1}
"""
    form = "must be a program and its arguments: one text, in words as a shell takes them, or a list"
    assert mistakes(text) == [
        "3: 'team.agents.Big' is no name for an agent: a-z, 0-9, _ and -, at most 32",
        f'4: team.agents.a.command is "\'open": it {form}',
        "4: team.agents.a.enabled is 'maybe': it must be true or false",
        "4: team.agents.a.triggers must be a list of texts that are not empty",
        "4: team.agents.a.interval is '0': it must be a duration from 1 to 31536000 seconds, "
        "like 90, 2.5s, 15m or 1h30m",
        f"5: team.agents.b.command {form}",
        "5: team.agents.b.runner is 'thread': it must be process or pane",
        f"6: team.agents.c.command {form}",
        "7: team.agents.d must be a mapping of keys to values",
        "9: unknown key 'team.restart.mx' (did you mean max?): see docs/configuration.md",
    ]
    values, _ = config_compile.parse(b"team: {agents: {e: {command: 'a \"b c\"', mood: 010}, f: {command: [a b, '']}}}")
    assert values["team"]["agents"] == {
        "e": {"command": ["a", "b c"], "mood": "010"},
        "f": {"command": ["a b", ""]},
    }


def test_what_is_not_checked_keeps_only_plain_numbers() -> None:
    values, wrong = config_compile.parse(
        b"team: {a: 010, b: 0x1f, c: 1:30, d: .inf, e: 2001-01-01, f: -1.5, g: ~, h: 1_0}"
    )
    assert wrong == []
    assert {name: value for name, value in values["team"].items() if len(name) == 1} == {
        "a": "010", "b": "0x1f", "c": "1:30", "d": ".inf", "e": "2001-01-01", "f": -1.5, "g": None, "h": "1_0"
    }  # fmt: skip
    fastjson.dumps(values)


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "~\n", "---\n", "\ufeff# with a mark\n"])
def test_an_empty_file_means_the_defaults(text: str) -> None:
    assert config_compile.parse(text.encode()) == (config_schema.defaults(), [])


WRONG = [
    ("monitoring:\n  chek_interval: 5\n", "2: unknown key 'monitoring.chek_interval' (did you mean check_interval"),
    ("\nmonitorin:\n  enabled: true\n", "2: unknown key 'monitorin' (did you mean monitoring"),
    ("idle_after: 5\n", "1: unknown key 'idle_after' (did you mean monitoring.idle_after?)"),
    ("delivery:\n  check_interval: 1\n", "2: unknown key 'delivery.check_interval' (did you mean monitoring.check_i"),
    ("alerts:\n  x: 1\n", "2: unknown key 'alerts.x': see docs/configuration.md"),
    ("delivery:\n  retries: 5\n  ttl: 1h\n  retries: 6\n", "4: 'delivery.retries' is there twice, first on line 2"),
    ("tmux: {}\ntmux: {}\n", "2: 'tmux' is there twice, first on line 1"),
    ("team:\n  x:\n    y: 1\n    y: 2\n", "4: 'team.x.y' is there twice, first on line 3"),
    ("monitoring:\n  enabled: maybe\n", "2: monitoring.enabled is 'maybe': it must be true or false"),
    ("monitoring:\n  enabled: 'true'\n", "2: monitoring.enabled is 'true': it must be true or false, without quotes"),
    ("monitoring:\n  enabled: 1\n", "2: monitoring.enabled is '1': it must be true or false"),
    ("monitoring:\n  enabled: [true]\n", "2: monitoring.enabled must be true or false"),
    ("delivery:\n  retries: '5'\n", "2: delivery.retries is '5': it must be a whole number from 0 to 100, without"),
    ("delivery:\n  retries: 1.5\n", "2: delivery.retries is '1.5': it must be a whole number from 0 to 100"),
    ("delivery:\n  retries: 101\n", "2: delivery.retries is '101': it must be a whole number from 0 to 100"),
    ("delivery:\n  retries: 010\n", "2: delivery.retries is '010': it must be a whole number"),
    ("delivery:\n  retries: 0x5\n", "2: delivery.retries is '0x5': it must be a whole number"),
    ("delivery:\n  retries: 1_0\n", "2: delivery.retries is '1_0': it must be a whole number"),
    ("delivery:\n  retries: true\n", "2: delivery.retries is 'true': it must be a whole number"),
    ("delivery:\n  retries:\n", "2: delivery.retries has no value: it must be a whole number"),
    ("delivery:\n  ttl: 1:30\n", "2: delivery.ttl is '1:30': it must be a duration from 0.1 to 31536000 seconds"),
    ("delivery:\n  ttl: 010\n", "2: delivery.ttl is '010': it must be a duration"),
    ("delivery:\n  ttl: 24 h\n", "2: delivery.ttl is '24 h': it must be a duration"),
    ("delivery:\n  ttl: -5\n", "2: delivery.ttl is '-5': it must be a duration"),
    ("delivery:\n  ttl: .inf\n", "2: delivery.ttl is '.inf': it must be a duration"),
    ("delivery:\n  ttl: 1e3\n", "2: delivery.ttl is '1e3': it must be a duration"),
    ("heartbeat:\n  port: 70000\n", "2: heartbeat.port is '70000': it must be a whole number from 1 to 65535"),
    ("heartbeat:\n  host: ''\n", "2: heartbeat.host is '': it must be text on one line that is not empty"),
    ("tmux:\n  socket: no\n", "2: tmux.socket is 'no', which YAML takes for a boolean: put it in quotes"),
    ("tmux:\n  socket: 5\n", "2: tmux.socket is '5', which YAML takes for a number: put it in quotes"),
    ("tmux:\n  socket: 2026-11-20\n", "2: tmux.socket is '2026-11-20', which YAML takes for a date: put it in quotes"),
    ('tmux:\n  socket: "a\\nb"\n', "2: tmux.socket is 'a\\nb': it must be text on one line"),
    ('tmux:\n  socket: "a\\e[m"\n', "2: tmux.socket is 'a\\x1b[m': it must be text on one line"),
    ("events:\n  durability: dsk\n", "2: events.durability is 'dsk': it must be disk or os"),
    ("events:\n  timezone: Mars/Base\n", "2: events.timezone is 'Mars/Base': it must be a time zone"),
    ("events:\n  timezone: ../../etc/passwd\n", "2: events.timezone is '../../etc/passwd': it must be a time zone"),
    ("delivery:\n  escalate_to: '@pm'\n", "2: delivery.escalate_to must be a list of targets"),
    ("delivery:\n  escalate_to:\n  - ok\n  - a b\n", "4: delivery.escalate_to is 'a b': it must be a list of targets"),
    ("groups:\n  Big: []\n", "2: 'groups.Big' is no name for a group"),
    ("groups:\n  crew: [@pm]\n", "2: is no YAML: found character '@' that cannot start any token: put the text in qu"),
    ("groups: [crew]\n", "1: groups must be a mapping of keys to values"),
    ("recovery:\n  backoff_s: [30]\n", "2: recovery.backoff_s must be two durations"),
    ("recovery:\n  backoff_s: [600, 30]\n", "2: recovery.backoff_s must be two durations"),
    ("recovery:\n  breaker: 5 of 900\n", "2: recovery.breaker is '5 of 900': it must be a count and a time"),
    ("rules: {}\n", "1: rules must be a list of rules: begin each with -"),
    ("rules:\n- match: {typ: a}\n", "2: unknown key 'rules[0].match.typ' (did you mean type?)"),
    ("rules:\n- match: {type: a}\n  acton: drop\n", "3: unknown key 'rules[0].acton' (did you mean action?)"),
    (
        "rules:\n- match: {}\n  action: dorp\n",
        "3: rules[0].action is 'dorp': it must be type or digest or hold or drop",
    ),
    ("rules:\n- match: {priority: hgh}\n  action: drop\n", "2: rules[0].match.priority is 'hgh': it must be one or a"),
    (
        "rules:\n- match: {text: '('}\n  action: drop\n",
        "2: rules[0].match.text is '(': it must be a regular expression",
    ),
    ("rules:\n- route: [a]\n", "2: rules[0] has no match: say which messages it is for"),
    ("rules:\n- match: {type: a}\n", "2: rules[0] does nothing: give it a route, a priority or an action"),
    ("flows: []\n", "1: flows must be a mapping of keys to values"),
    ("flows:\n  rules: {}\n", "2: flows.rules must be a list of rules: begin each with -"),
    ("flows:\n  rules:\n  - match: {tags: a}\n", "3: flows.rules[0] matches no type: say which events it is for"),
    ("flows:\n  rules:\n  - {match: {type: a}, task: {type: b}}\n", "3: flows.rules[0] names nobody: give its task"),
    ("flows: {fallback: 'a b'}\n", "1: flows.fallback is 'a b': it must be a name of at most 64 letters, digits and"),
    ("profiles:\n  codex: hold\n", "2: profiles.codex must be a mapping of keys to values"),
    ("- 1\n", "1: the file must be a mapping of keys to values"),
    ("some words\n", "1: the file must be a mapping of keys to values"),
    ("tmux:\n\tsocket: a\n", "2: is no YAML: found character '\\t' that cannot start any token: indent with spaces"),
    ("tmux: {\n", "2: is no YAML: expected the node content, but found '<stream end>': see the lines around it"),
    ("a: 1\n---\nb: 2\n", "2: is no YAML: expected a single document in the stream, but found another document"),
    ("? [a]\n: b\n", "1: a key of the file is not a plain word: write one"),
    ("<<: {tmux: {}}\n", "1: unknown key '<<': see docs/configuration.md"),
]


@pytest.mark.parametrize(("text", "told"), WRONG)
def test_a_mistake_has_its_line_and_its_remedy(text: str, told: str) -> None:
    (found,) = mistakes(text)
    assert found.startswith(told)
    assert "\n" not in found


def test_all_mistakes_are_found_in_the_order_of_their_lines(home: Home) -> None:
    text = "tmux:\n  sock: a\nevents:\n  durability: x\ntmux: {}\n"
    assert [line.partition(":")[0] for line in mistakes(text)] == ["2", "4", "5"]
    write(home, text)
    with pytest.raises(ConfigError, match=r"^orchestrator_config.yaml:2: .*\(2 more: orc-config check\)$"):
        config.load(home)
    assert ConfigError.code == 78


# A hostile file

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(20)
)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (BOMB, "2: *a is an alias: write the value out"),
        ("a: &a [*a]\n", "1: *a is an alias: write the value out"),
        ("\nx: !!python/object/apply:os.system ['touch CANARY']\n", "2: 'tag:yaml.org,2002:python/object/apply:os.sy"),
        ("x: !!binary aGk=\n", "1: 'tag:yaml.org,2002:binary' is a tag: leave it out"),
        ("tmux:\n  socket: !x a\n", "2: '!x' is a tag: leave it out"),
        ("%TAG ! tag:x,2000:\n---\ntmux: !y {}\n", "3: 'tag:x,2000:y' is a tag: leave it out"),
        ("tmux:\n  socket: a\0b\n", "2: holds the character U+0000: remove it"),
        ("tmux:\n  socket: a\x1bb\n", "2: holds the character U+001B: remove it"),
        (b"tmux:\n  socket: \xff\n", "2: is not UTF-8: save it as UTF-8"),
        ("tmux: {}\n".encode("utf-16"), "1: is not UTF-8: save it as UTF-8"),
        ("[" * 100_000, "1: nested more than 16 deep: flatten it"),
        ("{a: " * 50_000, "1: nested more than 16 deep: flatten it"),
        ("team:\n" + "".join(" " * i + f"k{i}:\n" for i in range(1, 400)), "16: nested more than 16 deep: flatten it"),
        ("#" * 300_000, "1: larger than 256 KiB: shorten it"),
    ],
)
def test_a_hostile_file_is_refused_quickly(text: str | bytes, told: str) -> None:
    began = time.monotonic()
    (found,) = mistakes(text)
    assert found.startswith(told)
    assert time.monotonic() - began < 5


def test_a_file_of_nothing_but_mistakes_ends() -> None:
    found = mistakes("".join(f"key{i}: 1\n" for i in range(20_000)))
    assert len(found) == config_compile.MOST
    (long,) = mistakes("x" * 1000 + ": 1\n")
    assert len(long) < 500


def test_no_file_but_a_folder_or_a_pipe(home: Home) -> None:
    os.mkfifo(home.config_file)
    with pytest.raises(ConfigError, match="is no file"):
        config.load(home)
    os.unlink(home.config_file)
    os.mkdir(home.config_file)
    with pytest.raises(ConfigError, match="is no file"):
        config.load(home)


@given(st.text(max_size=200))
def test_any_text_is_values_or_mistakes(text: str) -> None:
    values, wrong = config_compile.parse(text.encode("utf-8", "replace"))
    assert wrong or fastjson.loads(fastjson.dumps(values)) == values


YAML_BITS = st.sampled_from(
    [
        "tmux:",
        "  socket:",
        " - ",
        "[",
        "]",
        "{",
        "}",
        "\n",
        ": ",
        "&a",
        "*a",
        "!!x",
        "'",
        '"',
        "no",
        "5",
        "rules:",
        "|",
        ">",
    ]
)


@given(st.lists(YAML_BITS, max_size=40).map("".join))
def test_any_scramble_of_yaml_is_values_or_mistakes(text: str) -> None:
    values, wrong = config_compile.parse(text.encode())
    assert wrong or fastjson.loads(fastjson.dumps(values)) == values


# The environment


@pytest.mark.parametrize(
    ("name", "text", "key", "value"),
    [
        ("ORC_TMUX_SOCKET", "mine", "tmux.socket", "mine"),
        ("ORC_MONITORING_ENABLED", "false", "monitoring.enabled", False),
        ("ORC_COMPONENTS_TEAM", "1", "components.team", True),
        ("ORC_MONITORING_MAX_MESSAGES_PER_MINUTE", "0", "monitoring.max_messages_per_minute", 0),
        ("ORC_DELIVERY_TTL", "15m", "delivery.ttl", 900.0),
        ("ORC_DELIVERY_ESCALATE_TO", "@pm, qa:1", "delivery.escalate_to", ["@pm", "qa:1"]),
        ("ORC_GROUPS_MANAGEMENT", "anna", "groups.management", ["anna"]),
        ("ORC_RECOVERY_BACKOFF_S", "1,2m", "recovery.backoff_s", [1.0, 120.0]),
        ("ORC_RECOVERY_BREAKER", "3 in 10m", "recovery.breaker", [3, 600.0]),
        ("ORCHESTRATOR_DB_PATH", "/srv/x.db", "team.message_queue.db_path", "/srv/x.db"),
        ("ORCHESTRATOR_CLEANUP_DAYS", "3", "team.message_queue.cleanup_interval_days", 3),
    ],
)
def test_the_environment_overrides(
    home: Home, monkeypatch: pytest.MonkeyPatch, name: str, text: str, key: str, value: Any
) -> None:
    write(home, "tmux: {socket: theirs}\nteam: {message_queue: {db_path: a.db}}\n")
    before = config.load(home).get(key)
    monkeypatch.setenv(name, text)
    loaded = config.load(home)
    assert (before != value, loaded.get(key), loaded.from_env) == (True, value, {key: name})
    monkeypatch.setenv(name, "")
    assert config.load(home).get(key) == before, "an empty variable counts as not set"


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("ORC_DELIVERY_RETRIES", "many", "ORC_DELIVERY_RETRIES='many' in the environment: delivery.retries must be a"),
        ("ORC_DELIVERY_TTL", "0", "ORC_DELIVERY_TTL='0' in the environment: delivery.ttl must be a duration"),
        ("ORC_EVENTS_DURABILITY", "x", "ORC_EVENTS_DURABILITY='x' in the environment: events.durability must be disk"),
        (
            "ORC_RECOVERY_BACKOFF_S",
            "5",
            "ORC_RECOVERY_BACKOFF_S='5' in the environment: recovery.backoff_s must be two",
        ),
        ("ORC_TMUX_SOCKET", "a\x1b", "ORC_TMUX_SOCKET='a\\x1b' in the environment: tmux.socket must be text"),
        (
            "ORC_DELIVERY_RETRYS",
            "1",
            "ORC_DELIVERY_RETRYS in the environment overrides no key (did you mean RETRIES?): ",
        ),
    ],
)
def test_a_bad_variable_is_named(home: Home, monkeypatch: pytest.MonkeyPatch, name: str, text: str, told: str) -> None:
    monkeypatch.setenv(name, text)
    (found,) = config_schema.check_environment(dict(os.environ))
    assert found.startswith(told)
    if "overrides no key" not in told:
        with pytest.raises(ConfigError, match=re.escape(told)):
            config.load(home)


# The compiled copy


def compiled(home: Home) -> Path:
    return Path(config.compiled_file(home))


def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: object) -> dict[str, Any]:
        raise AssertionError("compiled again")

    monkeypatch.setattr(config_compile, "compile_home", fail)


def test_it_is_compiled_once(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home, "delivery: {retries: 7}\n")
    first = config.load(home)
    assert compiled(home).stat().st_mode & 0o777 == 0o600
    no_compiler(monkeypatch)
    again = config.load(home)
    assert (again.values, again.digest, again.stamp) == (first.values, first.digest, first.stamp)


@pytest.mark.parametrize("change", ["edit", "replace", "remove", "touch", "same_size_and_time"])
def test_a_stale_copy_is_not_believed(home: Home, change: str) -> None:
    write(home, "delivery: {retries: 7}\n")
    old = config.load(home)
    status = os.stat(home.config_file)
    if change == "edit":
        write(home, "delivery: {retries: 70}\n")
    elif change == "replace":
        Path(home.root, "new").write_text("delivery: {retries: 8}\n")
        os.utime(home.root + "/new", ns=(status.st_atime_ns, status.st_mtime_ns))
        os.replace(home.root + "/new", home.config_file)
    elif change == "remove":
        os.unlink(home.config_file)
    elif change == "touch":
        os.utime(home.config_file, ns=(0, status.st_mtime_ns + 1))
    else:
        end = time.monotonic() + 5
        while os.stat(home.config_file).st_ctime_ns == status.st_ctime_ns:  # until the file system's clock ticks
            assert time.monotonic() < end
            write(home, "delivery: {retries: 8}\n")
        os.utime(home.config_file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert config.changed(home, old)
    expected = {"edit": 70, "replace": 8, "remove": 5, "touch": 7, "same_size_and_time": 8}[change]
    assert config.load(home).get("delivery.retries") == expected
    assert (config.load(home).digest != old.digest) == (change != "touch")


def test_a_file_that_just_changed_is_read_but_not_kept(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two changes within one tick of the file system's clock look like one."""
    monkeypatch.setattr(config_compile, "_SETTLED_NS", 3600 * 1_000_000_000)
    write(home, "delivery: {retries: 7}\n")
    assert config.load(home).get("delivery.retries") == 7
    assert not compiled(home).exists()


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", "{}", '{"stamp": []}', "\0" * 99])
def test_a_damaged_copy_is_made_again(home: Home, damage: str) -> None:
    config.load(home)
    compiled(home).write_text(damage)
    assert config.load(home).get("delivery.retries") == 5
    assert fastjson.loads(compiled(home).read_bytes())["values"]["delivery"]["retries"] == 5


def test_a_copy_that_others_could_write_or_that_is_a_link_is_not_believed(home: Home, tmp_path: Path) -> None:
    config.load(home)
    forged = compiled(home).read_text().replace('"retries": 5', '"retries": 66')
    compiled(home).write_text(forged)
    assert config.load(home).get("delivery.retries") == 66, "the forgery is a good one"
    compiled(home).chmod(0o622)
    assert config.load(home).get("delivery.retries") == 5
    (tmp_path / "forged").write_text(forged)
    compiled(home).unlink()
    compiled(home).symlink_to(tmp_path / "forged")
    assert config.load(home).get("delivery.retries") == 5


@pytest.mark.needs_root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_copy_of_somebody_else_is_not_believed(home: Home) -> None:
    config.load(home)
    compiled(home).write_text(compiled(home).read_text().replace('"retries": 5', '"retries": 66'))
    os.chown(compiled(home), 12345, 12345)
    assert config.load(home).get("delivery.retries") == 5


def test_a_home_that_cannot_be_written_can_be_read(home: Home) -> None:
    write(home, "delivery: {retries: 7}\n")
    Path(home.run).write_text("a file where the folder should be")
    assert config.load(home).get("delivery.retries") == 7


def test_many_compile_at_once_and_each_reads_the_whole(home: Home) -> None:
    write(home, "delivery: {retries: 7}\n")
    values: list[object] = []
    stop = threading.Event()

    def reader() -> None:
        while not stop.is_set():
            values.append(config.load(home).get("delivery.retries"))

    threads = [threading.Thread(target=reader) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(8, 28):
        Path(home.root, "new").write_text(f"delivery: {{retries: {number}}}\n")
        os.replace(home.root + "/new", home.config_file)
        compiled(home).unlink(missing_ok=True)
    stop.set()
    for thread in threads:
        thread.join(30)
    assert values and set(values) <= set(range(7, 28))
    assert config.load(home).get("delivery.retries") == 27
    assert [name for name in os.listdir(home.run) if name != "config.json"] == []


def test_reading_a_compiled_copy_imports_little(home: Home) -> None:
    write(home, "delivery: {retries: 7}\n")
    config.load(home)
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'lib')!r})\n"
        "from tmux_orchestrator.ground import config, paths\n"
        f"assert config.load(paths.Home({home.root!r})).get('delivery.retries') == 7\n"
        "print(*sys.modules)"
    )
    environment = {"ORC_TMUX_SOCKET": "mine"}
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    heavy = {"re", "json", "typing", "dataclasses", "yaml", "enum", "functools", "collections", "pathlib"}
    assert heavy.isdisjoint(done.stdout.split())
    assert "tmux_orchestrator.ground.config_schema" not in done.stdout.split()


def test_reading_a_compiled_copy_is_quick(home: Home) -> None:
    config.load(home)
    best = 1e9
    for _ in range(200):
        began = time.perf_counter()
        config.load(home)
        best = min(best, time.perf_counter() - began)
    assert best < 0.000_5, f"{best * 1000:.3f} ms"


# A daemon's view


def test_a_daemon_takes_a_change_up_and_refuses_a_bad_one(home: Home) -> None:
    live = config.Live(home)
    assert not live.poll()
    write(home, "delivery: {retries: 7}\n")
    assert live.poll()
    assert (live.config.get("delivery.retries"), live.problem) == (7, "")
    write(home, "delivery: {retries: lots}\n")
    assert live.poll()
    assert live.config.get("delivery.retries") == 7
    assert live.problem.startswith("orchestrator_config.yaml:1: delivery.retries is 'lots'")
    assert not live.poll(), "a problem is said once"
    write(home, "# only a comment\ndelivery: {retries: 7}\n")
    assert live.poll()
    assert live.problem == ""
    write(home, "# only another comment\ndelivery: {retries: 7}\n")
    assert not live.poll(), "nothing new"
    os.unlink(home.config_file)
    assert live.poll()
    assert live.config.get("delivery.retries") == 5


def test_a_daemon_that_polls_reads_nothing_while_nothing_changes(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home, "delivery: {retries: lots}\n")
    with pytest.raises(ConfigError):
        config.Live(home)
    write(home, "delivery: {retries: 7}\n")
    live = config.Live(home)
    write(home, "delivery: {retries: lots}\n")
    assert live.poll()

    def fail(home: Home) -> config.Config:
        raise AssertionError("read again")

    monkeypatch.setattr(config, "load", fail)
    assert not live.poll()


def test_an_old_process_does_not_sign_for_new_code(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    config.load(home)
    monkeypatch.setattr(config, "_code", ["0.0.0", 1, 1])
    no_compiler(monkeypatch)
    with pytest.raises(AssertionError, match="compiled again"):
        config.load(home)


# As text


def test_what_is_in_force_reads_back(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home, FOREIGN + "groups: {crew: ['@qa', 'a:1']}\nrules: [{match: {text: '\U0001f6a8 a: b'}, action: drop}]\n")
    monkeypatch.setenv("ORC_DELIVERY_TTL", "5m")
    loaded = config.load(home)
    text = config_text.in_force(loaded)
    assert "  ttl: 300  # from ORC_DELIVERY_TTL\n" in text
    values, wrong = config_compile.parse(text.encode())
    assert wrong == [] and values == loaded.values


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20))
def test_any_text_reads_back(text: str) -> None:
    values, _ = config_compile.parse(f"team: {{x: [{config_text.written(text)}]}}".encode())
    assert values["team"]["x"] == [text]


# Named limits, accounts


def test_limits_and_accounts_are_names_with_a_rate_and_recipients(home: Home) -> None:
    write(home, "ratelimits: {github: 5000/hour, search: 60/min burst 10}\naccounts: {anthropic: [dev, Other.1]}\n")
    loaded = config.load(home)
    assert loaded.get("ratelimits") == {"github": "5000/hour", "search": "60/min burst 10"}
    assert loaded.get("accounts") == {"anthropic": ["dev", "Other.1"]}


@pytest.mark.parametrize(
    "text",
    [
        *("ratelimits: {github: 5000}", "ratelimits: {github: 0/hour}", "ratelimits: {github: 5/fortnight}"),
        *("ratelimits: {github: [5/s]}", "ratelimits: {Git Hub: 5/s}", "ratelimits: {github: 5/s burst}"),
        *("ratelimits: {github: }", "ratelimits: [5/s]", "accounts: {anthropic: dev}", "accounts: {A: [dev]}"),
        *("accounts: {a: ['no name']}", "accounts: {a: [{dev: 1}]}", "accounts: {a: [-x]}"),
    ],
)
def test_what_is_no_limit_or_account_is_a_mistake_with_its_line(text: str) -> None:
    (mistake,) = mistakes("tmux: {}\n" + text + "\n")
    assert mistake.startswith("2: ")
