"""Tasks through workers that a supervisor keeps: all of them, and the supervisor, killed and stopped at random."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time

from proof.log_rows import Row, Run, rows
from proof.work_tasks import LEASE, RUN, completed, each_by_command
from support_team import Team, alive
from support_tmux import wait_until
from tmux_orchestrator.work.message import Message
from tmux_orchestrator.work.queue import MessageQueue
from tmux_orchestrator.work.team import state

AGENTS = 4
FREELY = """\
restart: {max: 1000, within: 1}
stop: {timeout: 2}
message_queue: {max_size: 20000, attempts: 100}"""


def check(quick: bool) -> list[Row]:
    return rows(quick, [supervised])


def supervised(run: Run) -> tuple[int, str]:
    """Tasks through 4 of `orc-task run` that orc-team keeps, it too killed and stopped: each completed once."""
    count, home, out = run.pick(full=2000, quick=200), run.home(), f"{run.folder}/done"
    words = [*RUN, f'sleep 0.05; echo "$ORC_TASK_ID $ORC_TASK_TOKEN" >>{out}']
    agents = "\n".join(f"a{number}: {{command: {json.dumps(words)}}}" for number in range(AGENTS))
    before, os.environ["ORC_HOME"] = os.environ.get("ORC_HOME"), home.root
    try:
        with Team(home, agents, FREELY) as team:
            with contextlib.closing(MessageQueue(home=home)) as queue:
                queue.send_all([Message("test", "dev", "t", {}, task_id=f"job0-{number}") for number in range(count)])
            kills, ends = _disturb(run, team, count)
            wait_until(lambda: completed(home) == count, 120, "the last task")
            assert team.end() == 0
    finally:
        del os.environ["ORC_HOME"]
        if before is not None:
            os.environ["ORC_HOME"] = before
    begun = each_by_command(home, out, count)
    return count, f"{ends} kills of the supervisor, {kills} of workers, {begun} commands begun"


def _disturb(run: Run, team: Team, count: int) -> tuple[int, int]:
    """How many kills of workers, and of the supervisor, while the tasks are done."""
    kills = ends = 0
    end = time.monotonic() + 240
    while completed(team.home) < count and time.monotonic() < end:
        pids = [kept.pid for kept in state.load(team.home).agents.values() if kept.pid and alive(kept.pid)]
        with contextlib.suppress(ProcessLookupError, IndexError):
            pid = run.rng.choice(pids)
            if run.rng.random() < 0.5:
                os.kill(pid, signal.SIGKILL)
                kills += 1
            else:
                os.kill(pid, signal.SIGSTOP)
                team.child.send_signal(signal.SIGSTOP)
                time.sleep(run.rng.choice((0.1, LEASE * 1.3)))
                team.child.send_signal(signal.SIGCONT)
                os.kill(pid, signal.SIGCONT)
        if run.rng.random() < 0.3:
            team.again()
            ends += 1
        time.sleep(run.rng.uniform(0, 0.2))
    return kills, ends
