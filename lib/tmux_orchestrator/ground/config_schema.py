"""Every key of the configuration: its kind, default, bounds and meaning.

This table is the only place that knows them: the reader's checks, the overriding variables, the commented file
that `orc-config init` writes and the list in docs/configuration.md all come from it or are held to it by a test.
A default is written as a person writes it in YAML.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from tmux_orchestrator.ground import config_team
from tmux_orchestrator.ground.config_kinds import DAY, LISTS, Key, default, item, whole
from tmux_orchestrator.ground.config_kinds import count as _count
from tmux_orchestrator.ground.config_kinds import seconds as _seconds
from tmux_orchestrator.ground.config_kinds import switch as _switch
from tmux_orchestrator.ground.config_rules import FLOWS
from tmux_orchestrator.ground.errors import ConfigError
from tmux_orchestrator.ground.options import near


@dataclass(frozen=True)
class Section:
    """A top-level key. `rest` is what undeclared keys below it may be: "" none, "targets", "rate", "recipients",
    "table", "tree"; a list `rules`, for "flows"; "rules" makes the section a list. `example` is shown in the file."""

    name: str
    about: str
    keys: tuple[Key, ...] = ()
    rest: str = ""
    example: tuple[str, ...] = ()


SECTIONS = (
    Section(
        "monitoring",
        "What watches the agents, and how many messages may be typed.",
        (
            _switch("enabled", True, "false: no monitor is started"),
            _seconds("check_interval", 300, "between two full sweeps over all agents", 1, DAY),
            _seconds("look_interval", 5, "between two looks at agents that have no hooks", 0.1, DAY),
            _count("max_messages_per_minute", 10, "typed into one target in any 60 s; 0: no limit", 0, 10_000),
            _switch("disable_tmux_messages", True, "monitoring's own messages below critical are logged, not typed"),
            _switch("use_file_logging", True, "false: monitoring's own normal and low notices are not written"),
            Key(
                "strategy",
                "choice",
                "concurrent",
                "how agents are looked at",
                choices=("concurrent", "polling", "custom"),
            ),
            Key("custom", "text", "", "the executable of strategy custom: agents in, findings out, as JSON lines"),
            _seconds("custom_timeout", 10, "then it is killed", 0.1, 600),
            _seconds("idle_after", 900, "without work until an agent is reported as idle", 1),
            _seconds("unresponsive_after", 600, "of work without a hook or a change on the screen", 1),
            _seconds("remind_after", 900, "until what stays is told again, twice at most", 1),
            _seconds("cooldown", 300, "between two notices of one thing that comes and goes", 0),
            _seconds("check_in", 1800, "until who has to check in is reminded, then reported", 1, 43_200),
            _seconds("healthy_report", 3600, "between two reports that all is well; 0: none", 0),
        ),
    ),
    Section(
        "tmux",
        "Which tmux server the agents live in.",
        (Key("socket", "text", "", "a name as for tmux -L, a path as for -S; else $TMUX, else the default"),),
    ),
    Section(
        "events",
        "The event log.",
        (
            Key("timezone", "zone", "", "whose midnight begins a day file, as Europe/Berlin; empty: the system's"),
            Key(
                "durability", "choice", "disk", "exit 0 means: on the disk, or handed to the os", choices=("disk", "os")
            ),
            _count("retention_days", 30, "day files older than this are removed", 1, 36_500),
        ),
    ),
    Section(
        "delivery",
        "How messages reach the agents' panes.",
        (
            _count("max_typed_bytes", 2048, "longer bodies are typed as head and pointer", 256, 65_536),
            _count("queue_size", 100, "messages waiting per target; more stay in the log and the digest", 1, 100_000),
            _seconds("ttl", "24h", "until a message that was not typed expires", 0.1, 365 * DAY),
            _seconds("notification_ttl", "15m", "the same for type notification", 0.1, 365 * DAY),
            _count("retries", 5, "attempts after a failed one, then it is a dead letter", 0, 100),
            _count("critical_per_minute", 3, "critical messages per target in any 60 s; 0: no limit", 0, 10_000),
            _count("pair_per_minute", 10, "messages from one sender to one target; 0: no limit", 0, 10_000),
            _count("max_hops", 8, "a message that answers a longer chain of answers is not typed", 1, 64),
            _count("digest_ms", 500, "low messages are gathered this long into one", 0, 60_000),
            _seconds("confirm_timeout", 5, "until a typed message without evidence is tried again", 0.1, 600),
            _seconds("ack_timeout", 300, "until a message that asks for an ack is repeated"),
            _count("ack_repeats", 3, "repeats before it is escalated", 0, 3),
            Key("escalate_to", "targets", ["@orchestrator"], "who is told when nobody acknowledges"),
            _seconds("hold_notice", 600, "a hold lasts until its sender is told"),
            _count("breaker_failures", 3, "failures in a row that close a pane for a while", 1, 100),
            _seconds("breaker_open", 30, "how long that is", 0.1, DAY),
        ),
    ),
    Section(
        "groups",
        "Whom a message to a group reaches, besides the agents started with orc-run --group.",
        (Key("management", "targets", ["@pm"], "agents of role pm"),),
        rest="targets",
        example=('reviewers: [reviewer, "@qa", "backend:1"]',),
    ),
    Section(
        "rules",
        "What to do with messages that match; the first rule that matches is applied.",
        rest="rules",
        example=(
            "- match: {type: bug_report, priority: [critical, high]}   # all conditions, any of a list",
            '  route: ["@pm", architect]       # further targets',
            "  priority: critical              # instead of the message's own",
            "- match: {source: lint, text: '\\b0 problems'}",
            "  action: drop                    # type (default), digest, hold or drop (not typed, still in the log)",
        ),
    ),
    Section(
        "profiles",
        "Changes to the shipped profiles of agent CLIs, by name; their keys are those of share/profiles/.",
        rest="table",
        example=("codex: {when_busy: hold}",),
    ),
    Section(
        "agents",
        "Agents that orc-run did not start.",
        (
            Key("adopt", "texts", [], "session:window patterns of panes that may be typed into"),
            Key("pm_command", "text", "", "the command that starts a project manager"),
        ),
    ),
    Section(
        "heartbeat",
        "Signs of life over UDP.",
        (
            Key("host", "word", "127.0.0.1", "address that the monitor listens on"),
            _count("port", 8931, "its UDP port", 1, 65_535),
            _seconds("missed_after", 120, "silence of an agent that once sent one, until it is nudged", 1, DAY),
        ),
    ),
    Section(
        "recovery",
        "Restarting what is dead.",
        (
            _switch("enabled", True, "false: dead agents are reported only"),
            _seconds("grace_s", 180, "after a start, when nothing is judged", 0, DAY),
            _seconds("cooldown_s", 300, "between two recoveries of one agent", 0, DAY),
            Key("backoff_s", "durations", [30, 600], "first and longest pause between attempts", 0, DAY),
            Key(
                "breaker",
                "breaker",
                "5 in 900",
                "this many attempts in so many seconds, then a person is asked",
                1,
                DAY,
            ),
            _seconds("spacing_s", 2, "between two agents that are restarted", 0, 3600),
        ),
    ),
    Section(
        "team",
        "The supervisor of agent processes (docs/team.md); any further keys are its own.",
        (
            *config_team.KEYS,
            Key("message_queue.db_path", "word", "data/orchestrator.db", "the task database, below ORC_HOME"),
            _count("message_queue.cleanup_interval_days", 30, "ended tasks older than this are removed", 1, 36_500),
            Key("message_queue.backend", "choice", "sqlite", "there is no other", choices=("sqlite",)),
            _switch("message_queue.wal_enabled", True, "always so: true is accepted, false is not"),
            Key(
                "message_queue.synchronous_mode",
                "choice",
                "NORMAL",
                "what survives kill -9 (NORMAL), or a power cut too (FULL)",
                choices=("NORMAL", "FULL"),
            ),
            _count("message_queue.max_size", 1000, "waiting tasks, from which on low ones are refused", 1, 10_000_000),
            _seconds("message_queue.lease", 300, "until a claimed task that nobody extends is given to another", 0.1),
            _count("message_queue.attempts", 3, "until a task that fails is dead", 1, 100),
            Key(
                "message_queue.retry_backoff",
                "durations",
                [5, 600],
                "first and longest rest between two attempts",
                0,
                DAY,
            ),
        ),
        rest="tree",
        example=config_team.EXAMPLE,
    ),
    Section(
        "flows",
        "Events that become tasks, as the first rule that matches says (docs/flows.md).",
        (
            _switch("enabled", True, "false: no event becomes a task"),
            Key("fallback", "name", "project_manager", "whose task it is when no rule matches; empty: nobody's"),
        ),
        rest="flows",
    ),
    Section(
        "ratelimits",
        "Limits of outside services that all agents share: orc-ratelimit NAME (docs/limits.md).",
        rest="rate",
        example=("github: 5000/hour", "search: 60/min burst 10"),
    ),
    Section(
        "accounts",
        "Which recipients of tasks use one account of a model's provider; one that stands nowhere has its own.",
        rest="recipients",
        example=("anthropic: [code_developer, architect]",),
    ),
    Section(
        "usage_limits",
        "While an account has reached its usage limit its tasks wait (docs/limits.md).",
        (
            _switch("enabled", True, "false: they do not wait"),
            _seconds("unknown", "30m", "how long they wait when nobody says until when", 1),
            _count("one_by_one", 3, "tasks that have to be done one by one after it, before all may run", 1, 1000),
        ),
    ),
    Section(
        "components",
        "What orchestrator_manager.sh starts.",
        (
            _switch("broker", True, "types messages into panes"),
            _switch("state_updater", True, "keeps registry/sessions/"),
            _switch("monitor", True, "watches the agents (see monitoring.enabled)"),
            _switch("team", False, "supervises agent processes"),
            _switch("dashboard", False, "web page"),
            _switch("metrics", False, "Prometheus exporter"),
            _switch("bridge", False, "ships the log between machines"),
        ),
    ),
    Section(
        "features",
        "A new strategy is let in by stages: for none, for canaries, for all; when it fails it is out again by itself.",
        (
            Key("strategy", "choice", "", "the new one; empty: none", choices=("", "concurrent", "polling", "custom")),
            Key("stage", "choice", "all", "how far it may go", choices=("none", "canary", "all")),
            _count("canary_percent", 10, "of the agents, that it begins with", 1, 100),
            _count("healthy_cycles", 20, "looks in a row that go well, until it has them all", 1, 100_000),
        ),
    ),
    Section("alerts", "Alert rules; no keys yet."),
    Section("git", "Locks and sync around git; no keys yet."),
    Section("redis", "The log between machines; no keys yet."),
    Section("dashboard", "The web page; no keys yet."),
    Section("metrics", "The exporter; no keys yet."),
)

# Names from before there was a section for them.
OLD_VARIABLES = {
    "ORCHESTRATOR_DB_PATH": "team.message_queue.db_path",
    "ORCHESTRATOR_CLEANUP_DAYS": "team.message_queue.cleanup_interval_days",
}


def all_keys() -> dict[str, Key]:
    """Every declared key by its full name."""
    return {f"{section.name}.{key.name}": key for section in SECTIONS for key in section.keys}


def variable(path: str) -> str:
    """The environment variable that overrides a key."""
    return "ORC_" + path.upper().replace(".", "_")


def variables() -> dict[str, tuple[str, str]]:
    """Each overriding variable: its key and the key's kind."""
    known = all_keys()
    named = {variable(path): (path, key.kind) for path, key in known.items()}
    return named | {name: (path, known[path].kind) for name, path in OLD_VARIABLES.items()}


def from_variable(name: str, path: str, text: str) -> Any:
    """The value that a variable gives to a key; lists are separated by commas. Raises ConfigError."""
    key = all_keys()[path]
    try:
        if key.kind in LISTS:
            return whole(key, [item(key, part.strip()) for part in text.split(",") if part.strip()])
        return item(key, text)
    except ValueError as error:
        raise ConfigError(f"{name}={text!r} in the environment: {path} {error}") from None


def check_environment(environment: dict[str, str]) -> list[str]:
    """What is wrong with the overriding variables: bad values, and names that override nothing."""
    known = variables()
    mistakes = []
    for name, text in sorted(environment.items()):
        if name in known and text:
            try:
                from_variable(name, known[name][0], text)
            except ConfigError as error:
                mistakes.append(str(error))
        for section in SECTIONS:
            prefix = variable(section.name) + "_"
            own = section.name == "team" and environment.get("ORC_TEAM_AGENT")  # such an agent's own keys
            if name not in known and name.startswith(prefix) and not own:
                siblings = [other.removeprefix(prefix) for other in known if other.startswith(prefix)]
                close = near(name.removeprefix(prefix), siblings)
                mistakes.append(f"{name} in the environment overrides no key{close}: unset it")
    return mistakes


def defaults() -> dict[str, Any]:
    """All values as if there were no file."""
    values: dict[str, Any] = {section.name: [] if section.rest == "rules" else {} for section in SECTIONS}
    for path, key in all_keys().items():
        *above, leaf = path.split(".")
        place = values
        for part in above:
            place = place.setdefault(part, {})
        place[leaf] = default(key)
    values["flows"]["rules"] = copy.deepcopy(list(FLOWS))
    return values


def nearest(path: str, siblings: list[str]) -> str:
    """` (did you mean …?)`: the same key of another section, or the sibling that is spelled alike."""
    name = path.rpartition(".")[2]
    elsewhere = [path for path in all_keys() if path.rpartition(".")[2] == name]
    if elsewhere:
        return f" (did you mean {' or '.join(elsewhere)}?)"
    return near(name, siblings) or near(path, list(all_keys()))
