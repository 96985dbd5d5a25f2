"""How an agent CLI becomes its pane's own process, with the environment of whoever asked for it.

tmux starts `orc-run --launch FILE` in the pane, as argument words and without a shell. That process waits for the
start lock, which `runner` holds until the agent is registered, finds itself in the registry by pid and start
time, takes folder, umask and environment from the launch file (0600, so that no secret stands on a command line)
and becomes the agent by exec: same pid, and nothing beneath it.

A crash of `orc-run` frees the lock; the launcher then finds itself unregistered, says so in the pane and ends:
no live agent is ever unregistered. The launch file stays for `orc-agent restart`.
"""

from __future__ import annotations

import os
import sys

from tmux_orchestrator.agents import registry
from tmux_orchestrator.ground import fastjson, files, handover, output, proc
from tmux_orchestrator.ground.errors import NOT_FOUND, DataError
from tmux_orchestrator.ground.locks import Lock
from tmux_orchestrator.ground.paths import CODE, Home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PATIENCE = 30.0  # seconds for the start lock
_OF_THE_PANE = ("TMUX", "TMUX_PANE", "TERM", "TERM_PROGRAM", "TERM_PROGRAM_VERSION")
# LINES and COLUMNS are another terminal's size. The rest tell an agent CLI that it runs inside another one,
# which then refuses to start; an agent that starts an agent is not its host. Nor is it a process of an agent of the
# team that started it, to be ended with that one.
_OF_A_HOST = ("LINES", "COLUMNS", "CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_CODE_SSE_PORT")
_NOT_HANDED_ON = (*_OF_A_HOST, "ORC_TEAM_AGENT", "ORC_TEAM_RUN", "ORC_TEAM_BEAT")


def file(home: Home, session: str, name: str) -> str:
    """registry/launch/SESSION@NAME.json, the session percent-encoded."""
    return f"{home.registry}/launch/{files.encoded(session)}@{name}.json"


def start_lock(home: Home, session: str, name: str) -> Lock:
    """Held by whoever starts, renames or forgets this agent. Its file is never unlinked."""
    return Lock(_lock_file(file(home, session, name)), _PATIENCE)


def write(path: str, argv: list[str], cwd: str, env: dict[str, str], umask: int) -> None:
    plan = {"argv": argv, "cwd": cwd, "umask": umask, "env": env}
    files.replace(path, fastjson.dumps(plan).encode("ascii"))


def read(path: str) -> dict[str, Any]:
    """Raises DataError when the launch file is lost or damaged."""
    data = files.read(path)
    try:
        plan = fastjson.loads(data or b"")
        if type(plan["cwd"]) is str and type(plan["umask"]) is int and all(type(word) is str for word in plan["argv"]):
            run = plan.get("run") or []
            if all(type(word) is str for word in run):
                return {**plan, "argv": [*plan["argv"]], "env": {**plan["env"]}, "run": [*run]}
    except (ValueError, KeyError, TypeError):
        pass
    raise DataError(f"{path} is lost or damaged: start the agent with orc-run again")


def choose(path: str, run: list[str]) -> dict[str, Any]:
    """Note what the next start runs instead of the registered command ([]: that one); the plan.

    Raises DataError when the launch file is lost or damaged.
    """
    plan = read(path)
    if run != plan["run"]:
        plan["run"] = run
        files.replace(path, fastjson.dumps(plan).encode("ascii"))
    return plan


def command(path: str) -> list[str]:
    """What tmux is told to run in the pane."""
    return [CODE + "/bin/orc-run", "--launch", path]


def run(path: str) -> int:
    """Become the agent. Returns only when that fails, after saying why in the pane."""
    home = Home(path.rpartition("/registry/launch/")[0])
    with Lock(_lock_file(path), _PATIENCE):
        pass
    agent = _myself(home)
    if agent is None:
        return _say("orc-run was ended before this agent was registered: run it again")
    plan = read(path)
    env = _environment(plan["env"], home, agent)
    try:
        os.chdir(plan["cwd"])
    except OSError as error:
        return _say(f"cannot work in {plan['cwd']!r}: {error.strerror}: make that folder, or start in another")
    try:
        handover.become(plan["run"] or plan["argv"], env, plan["umask"])
    except (OSError, ValueError, IndexError) as error:
        reason = getattr(error, "strerror", None) or error
        return _say(f"cannot start {plan['argv'][:1]}: {reason}: install it, or correct the command")


def _lock_file(path: str) -> str:
    return path.removesuffix(".json") + ".lock"


def _myself(home: Home) -> registry.Agent | None:
    pid = os.getpid()
    start = proc.start_time(pid)
    return next((a for a in registry.load(home) if a.pid == pid and a.pid_start == start), None)


def _environment(given: dict[str, str], home: Home, agent: registry.Agent) -> dict[str, str]:
    """The caller's environment, with what belongs to this pane and this agent in it."""
    env = {key: value for key, value in given.items() if key not in _NOT_HANDED_ON}
    for key in _OF_THE_PANE:
        env.pop(key, None)
        if key in os.environ:
            env[key] = os.environ[key]
    path = [part for part in env.get("PATH", os.defpath).split(":") if part != CODE + "/bin"]
    env["PATH"] = ":".join([CODE + "/bin", *path])
    env |= {"ORC_HOME": home.root, "ORC_AGENT": agent.name, "ORC_SESSION": agent.session}
    return env


def _say(text: str) -> int:
    sys.stderr.write(
        f"\norc-run: {output.clean(text)}\n"
    )  # tmux's own line about the end will push the first one off the screen
    sys.stderr.flush()
    return NOT_FOUND
