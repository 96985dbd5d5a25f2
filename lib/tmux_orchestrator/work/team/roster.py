"""Who is in the team, by the configuration: `team.agents.NAME`, checked, with what holds for all of them filled in.

The configuration's own checks know words and numbers; what only the system can tell (a cron expression that comes,
a recipe that is there, a variable's name) is checked here, when the supervisor starts or the file changes. All that
is wrong is a ConfigError that names the key. An agent's further keys are its own: they reach its processes as
`ORC_TEAM_<KEY>`, and must not be the name of a variable that overrides the configuration.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Any

from tmux_orchestrator.agents import crew
from tmux_orchestrator.eventlog import event
from tmux_orchestrator.ground import config_schema, config_team, fastjson, output
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.ground.errors import ConfigError, UsageError
from tmux_orchestrator.ground.paths import CODE, Home
from tmux_orchestrator.ground.timetable import Cron, zone

PROCESS, PANE = "process", "pane"
_OURS = (crew.AGENT, crew.RUN, crew.BEAT)
_NAME = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


@dataclass(frozen=True, slots=True)
class Spec:
    """One agent as it is wanted. Times in seconds; 0: none, or no limit."""

    name: str
    enabled: bool
    command: tuple[str, ...]
    folder: str
    env: tuple[tuple[str, str], ...]
    role: str
    groups: tuple[str, ...]
    runner: str
    session: str
    profile: str
    restart: str
    schedule: str
    interval: float
    triggers: frozenset[str]
    max_memory_mb: int
    max_cpu_percent: int
    on_limit: str
    on_unresponsive: str
    stop_timeout: float

    @property
    def is_occasional(self) -> bool:
        """Is it started by the clock or by events, and ends in between?"""
        return bool(self.schedule or self.triggers)

    @property
    def digest(self) -> str:
        """Of what a process is started with: where it is another one, the process of before will not do."""
        parts = (self.command, self.folder, self.env, self.role, self.groups, self.runner, self.session, self.profile)
        return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def load(home: Home, settings: Config) -> dict[str, Spec]:
    """The team, in the order of the file. Raises ConfigError."""
    named = settings.get("team").get("agents") or {}
    where = zone(settings.get("events.timezone"))
    found = {name: _spec(home, settings, name, dict(given)) for name, given in named.items()}
    for spec in found.values():
        if spec.schedule:
            try:
                Cron(spec.schedule, where)
            except UsageError as error:
                raise ConfigError(f"team.agents.{spec.name}.schedule: {error}") from None
    return found


def _spec(home: Home, settings: Config, name: str, given: dict[str, Any]) -> Spec:
    path = f"team.agents.{name}"
    env = _environment(path, given.pop("env", None))
    own = {key: given.pop(key) for key in list(given) if key not in config_team.AGENT}
    values: dict[str, Any] = {key.name: key.default for key in config_team.AGENT.values()} | given
    for key, plan in (("max_memory_mb", "resource_limits."), ("max_cpu_percent", "resource_limits.")):
        values[key] = given.get(key, settings.get(f"team.{plan}{key}"))
    values["stop_timeout"] = given.get("stop_timeout", settings.get("team.stop.timeout"))
    for kind in values["triggers"]:
        if not event.is_word(kind) or kind in event.RECORDS:
            raise ConfigError(f"{path}.triggers: {kind!r} is no type of events that can start it: see docs/format.md")
    passed = {"ORC_TEAM_ROLE": values["role"]} if values["role"] else {}
    for key, value in own.items():
        passed[_variable(path, key)] = _text(f"{path}.{key}", value)
    return Spec(
        name=name,
        **{key: values[key] for key in _PLAIN},
        command=tuple(values["command"] or _recipe(path, name, values["enabled"])),
        folder=os.path.join(home.root, values["folder"]),
        env=tuple(sorted((passed | env).items())),
        groups=tuple(values["groups"]),
        triggers=frozenset(values["triggers"]),
    )


def retired(name: str) -> Spec:
    """One that the configuration does not have any more, and that may still run."""
    plain = {key: config_team.AGENT[key].default for key in _PLAIN} | {"enabled": False}
    return Spec(name=name, **plain, command=(), folder="", env=(), groups=(), triggers=frozenset())


_PLAIN = (
    "enabled", "role", "runner", "session", "profile", "restart", "schedule", "interval", "max_memory_mb",
    "max_cpu_percent", "on_limit", "on_unresponsive", "stop_timeout",
)  # fmt: skip


def _recipe(path: str, name: str, enabled: bool) -> list[str]:
    """What comes with us under that name."""
    recipe = f"{CODE}/share/agents/{name}"
    if enabled and not (os.path.isfile(recipe) and os.access(recipe, os.X_OK)):
        raise ConfigError(f"{path} has no command, and there is no recipe share/agents/{name}: say what runs")
    return [recipe]


def _variable(path: str, key: str) -> str:
    """The variable that one of the agent's own keys becomes."""
    name = "ORC_TEAM_" + key.upper().replace("-", "_").replace(".", "_")
    if not _NAME.issuperset(name):
        raise ConfigError(f"{path}.{key!r} cannot be a variable's name: use letters, digits and _")
    if name in _OURS or name in config_schema.variables():
        raise ConfigError(f"{path}.{key} would be the variable {name}, which means something else: rename it")
    return name


def _environment(path: str, given: object) -> dict[str, str]:
    """Its `env`. A name is whatever the kernel takes."""
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise ConfigError(f"{path}.env must be a mapping of variables to values")
    for name in given:
        if not name or "=" in name or not name.isprintable() or name in _OURS:
            raise ConfigError(f"{path}.env: {name!r} cannot be set: name another variable")
    return {name: _text(f"{path}.env.{name}", value) for name, value in given.items()}


def _text(path: str, value: object) -> str:
    """A value as a script reads it: `true`, `60`, a text as it is, anything else as JSON."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        if "\0" in value:
            raise ConfigError(f"{path} holds a NUL: take it out")
        return value
    if isinstance(value, int | float):
        return str(output.tidy(value))
    return fastjson.dumps(value)
