"""Who is in the team, by the configuration: the document's file as it stands, and what is wrong with others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support_team import configure
from tmux_orchestrator.ground import config
from tmux_orchestrator.ground.errors import ConfigError
from tmux_orchestrator.ground.paths import CODE, Home
from tmux_orchestrator.work.team import roster
from tmux_orchestrator.work.team.roster import Spec

DOCUMENT = """\
team:
  agents:
    code_developer:
      enabled: true
      auto_approve: true
      sleep_interval: 60

    project_manager:
      enabled: true
      github_poll_interval: 300  # 5 minutes

    architect:
      enabled: true
      review_schedule: "0 9 * * 1"  # Every Monday 9am

    assistant:
      enabled: true

  message_queue:
    backend: sqlite  # SQLite (stdlib only, zero dependencies)
    db_path: data/orchestrator.db  # Database file location
    # Task retention (for observability)
    cleanup_interval_days: 30  # Delete completed tasks older than 30 days
    # WAL mode settings (for thread-safety)
    wal_enabled: true
    synchronous_mode: NORMAL  # Balance safety and performance

  health_check:
    interval: 30  # seconds
    timeout: 5    # seconds

  resource_limits:
    max_memory_mb: 500
    max_cpu_percent: 50

  observability:
    langfuse:
      enabled: true
      # Export completed tasks to Langfuse periodically
      export_interval: 60  # seconds
"""


def load(home: Home) -> dict[str, Spec]:
    return roster.load(home, config.load(home))


def test_the_documents_file_loads_as_it_stands(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["code_developer", "project_manager", "architect", "assistant"]
    recipes = tmp_path / "share" / "agents"
    recipes.mkdir(parents=True)
    for name in names:
        (recipes / name).write_text("#!/bin/sh\n")
        (recipes / name).chmod(0o755)
    monkeypatch.setattr(roster, "CODE", str(tmp_path))
    os.makedirs(home.root)
    Path(home.config_file).write_text(DOCUMENT)
    team = load(home)
    assert list(team) == names
    for name, spec in team.items():
        assert spec.command == (f"{recipes}/{name}",)
        assert (spec.enabled, spec.runner, spec.max_memory_mb, spec.max_cpu_percent) == (True, "process", 500, 50)
        assert (spec.schedule, spec.interval, spec.triggers, spec.on_limit) == ("", 0, frozenset(), "warn")
        assert spec.folder == home.root + "/"
    assert dict(team["code_developer"].env) == {"ORC_TEAM_AUTO_APPROVE": "true", "ORC_TEAM_SLEEP_INTERVAL": "60"}
    assert dict(team["project_manager"].env) == {"ORC_TEAM_GITHUB_POLL_INTERVAL": "300"}
    assert dict(team["architect"].env) == {"ORC_TEAM_REVIEW_SCHEDULE": "0 9 * * 1"}
    assert team["assistant"].env == ()


def test_its_own_keys_are_passed_on_as_a_script_reads_them(home: Home) -> None:
    configure(
        home, "a: {command: x, flag: no, n: 1.50, big-word: text, none: ~, list: [1, a], map: {b: 2}, env: {A: 1}}"
    )
    assert dict(load(home)["a"].env) == {
        "ORC_TEAM_FLAG": "false", "ORC_TEAM_N": "1.5", "ORC_TEAM_BIG_WORD": "text", "ORC_TEAM_NONE": "",
        "ORC_TEAM_LIST": '[1, "a"]', "ORC_TEAM_MAP": '{"b": 2}', "A": "1",
    }  # fmt: skip


def test_what_holds_for_all_holds_where_an_agent_says_nothing_else(home: Home) -> None:
    more = "resource_limits: {max_memory_mb: 7}\nstop: {timeout: 9}"
    configure(home, "a: {command: x}\nb: {command: x, max_memory_mb: 0, stop_timeout: 2, folder: sub}", more)
    a, b = load(home).values()
    assert (a.max_memory_mb, a.stop_timeout, b.max_memory_mb, b.stop_timeout) == (7, 9, 0, 2)
    assert b.folder == home.root + "/sub"


@pytest.mark.parametrize(
    ("agent", "told"),
    [
        ("a: {}", "team.agents.a has no command, and there is no recipe share/agents/a: say what runs"),
        ("a: {command: x, schedule: 0 9 * *}", "team.agents.a.schedule: '0 9 * *' is no cron expression"),
        ("a: {command: x, schedule: 0 0 30 2 *}", "'0 0 30 2 *' is no cron expression"),
        ("a: {command: x, triggers: [Go]}", "team.agents.a.triggers: 'Go' is no type of events"),
        ("a: {command: x, triggers: [delivery]}", "team.agents.a.triggers: 'delivery' is no type of events"),
        ("a: {command: x, restart_max: 3}", "team.agents.a.restart_max would be the variable ORC_TEAM_RESTART_MAX"),
        ("a: {command: x, run: 3}", "team.agents.a.run would be the variable ORC_TEAM_RUN"),
        ("a: {command: x, 'b c': 3}", "'b c' cannot be a variable's name"),
        ("a: {command: x, env: 3}", "team.agents.a.env must be a mapping"),
        ("a: {command: x, env: {A=B: 3}}", "team.agents.a.env: 'A=B' cannot be set"),
        ("a: {command: x, env: {ORC_TEAM_RUN: 3}}", "team.agents.a.env: 'ORC_TEAM_RUN' cannot be set"),
    ],
)
def test_what_only_the_system_can_tell_is_a_configuration_error(home: Home, agent: str, told: str) -> None:
    configure(home, agent)
    with pytest.raises(ConfigError, match=r"^team\.agents\.a\b") as wrong:
        load(home)
    assert told in str(wrong.value)


def test_a_disabled_agent_needs_no_recipe(home: Home) -> None:
    configure(home, "a: {enabled: false}")
    assert load(home)["a"].enabled is False
    assert not os.path.exists(CODE + "/share/agents/a")


def test_no_team_is_a_team(home: Home) -> None:
    assert load(home) == {}
