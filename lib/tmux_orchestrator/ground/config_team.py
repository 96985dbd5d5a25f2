"""The keys of the section `team`: the supervisor's own, and those of each agent that it runs."""

from __future__ import annotations

from typing import Any

from tmux_orchestrator.ground.config_kinds import DAY, Key, count, seconds, switch

KEYS = (
    count("restart.max", 3, "restarts of one agent that crashes, in any `within`; then it has failed", 0, 1000),
    seconds("restart.within", 600, "the time in which they are counted", 1),
    seconds("restart.again_after", 3600, "until one that has failed is tried again; 0: only by hand", 0),
    seconds("stop.timeout", 30, "from SIGTERM to SIGKILL, when an agent is stopped", 0.1, 600),
    seconds("health_check.interval", 30, "between two measurements of each agent", 0.5, DAY),
    seconds("health_check.timeout", 5, "how late an agent's sign of life may be", 0.1, DAY),
    count(
        "resource_limits.max_memory_mb",
        0,
        "memory of an agent's processes, then it is told; 0: none",
        0,
        1 << 30,
    ),
    count("resource_limits.max_cpu_percent", 0, "the same of one core's time; 0: none", 0, 1 << 20),
    count("log.max_mb", 10, "size of logs/team.log, then it is rotated", 1, 100_000),
    count("log.keep", 5, "older ones that stay", 1, 1000),
    count("bottleneck_alerts.slow_task_threshold", 60_000, "ms of a task until it is told; 0: never", 0, 10**9),
    count("bottleneck_alerts.p95_threshold", 30_000, "ms that 95 % of tasks are to take; 0: any", 0, 10**9),
    count("bottleneck_alerts.max_failed_tasks", 5, "of an agent within failure_window; 0: any", 0, 10**6),
    Key("bottleneck_alerts.max_failure_rate", "share", 0.2, "of an agent's ended tasks; 0: any", 0, 1),
    seconds("bottleneck_alerts.failure_window", 3600, "in which all of these are counted", 60, 30 * DAY),
    count("bottleneck_alerts.max_queue_depth", 100, "queued tasks of an agent; 0: any", 0, 10**7),
    seconds("bottleneck_alerts.check_interval", 60, "between two looks at these", 0.1, DAY),
)

# An agent of the team: further keys are its own, and reach its process as ORC_TEAM_<KEY>.
AGENT: dict[str, Key] = {
    key.name: key
    for key in (
        switch("enabled", True, "false: it is not started"),
        Key("command", "command", [], "what runs; without it the recipe of that name"),
        Key("folder", "word", "", "where it runs; below ORC_HOME, which is the default"),
        Key("role", "word", "", "what it is for"),
        Key("groups", "texts", [], "runner pane: the groups that it belongs to"),
        Key("runner", "choice", "process", "how it runs", choices=("process", "pane")),
        Key("session", "word", "team", "runner pane: its tmux session"),
        Key("profile", "word", "", "runner pane: how to type into it"),
        Key("restart", "choice", "crash", "when it is started again", choices=("never", "crash", "always")),
        Key("schedule", "word", "", "a cron expression: when it is started"),
        seconds("interval", 0, "between two starts of one that runs and ends", 1, 365 * DAY),
        Key("triggers", "texts", [], "types of events that start it"),
        count("max_memory_mb", 0, "instead of resource_limits", 0, 1 << 30),
        count("max_cpu_percent", 0, "instead of resource_limits", 0, 1 << 20),
        Key("on_limit", "choice", "warn", "what follows when it is over a limit", choices=("warn", "restart")),
        Key("on_unresponsive", "choice", "warn", "when its sign of life is late", choices=("warn", "restart")),
        seconds("stop_timeout", 30, "instead of team.stop.timeout", 0.1, 600),
    )
}
ENTRIES: dict[str, dict[str, Any]] = {"team.agents": AGENT}
STRICT = frozenset(
    f"team.{name}" for name in ("restart", "stop", "health_check", "resource_limits", "log", "bottleneck_alerts")
)

EXAMPLE = (
    "agents:",
    "  reviewer:",
    '    command: ["my-reviewer", "--watch"]   # or one text; without one, share/agents/reviewer',
    "    env: {LEVEL: high}",
    "    triggers: [implementation_complete]   # started by such events, and by",
    '    schedule: "0 9 * * 1"                 # the clock; without both it always runs',
)
