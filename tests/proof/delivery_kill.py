"""Nothing that anybody publishes is ever executed: agents die around a delivery, and other programs sit in panes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from functools import partial

from proof.delivery_rows import NO_BOUND, SEED, Row, an_event, outcomes, proved, publish_all, row, wait_screen
from support_orc import Agent, System
from support_tmux import wait_until

_SIDE_BY_SIDE = 8
_SPREAD = 0.4  # seconds around the publication in which an agent dies
_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGSEGV)
# Programs that nobody registered, and what their screen shows when they wait for input.
FOREIGN = {
    "bash": (["env", "PS1=ready ", "bash", "--norc", "--noprofile", "-i"], "ready"),
    "zsh": (["env", "PS1=ready ", "zsh", "-f", "-i"], "ready"),
    "dash": (["env", "PS1=ready ", "dash", "-i"], "ready"),
    "less": (["less", "/etc/services"], "services"),
    "python": (["python3", "-i", "-q"], ">>>"),
    "vim": (["vim", "-u", "NONE", "-n"], "~"),
    "cat": (["sh", "-c", "echo ready; exec cat"], "ready"),
    "password": (["bash", "-c", "read -s -p 'Password: ' word; echo; echo read; sleep 1000"], "Password:"),
}


def check(quick: bool) -> list[Row]:
    return proved(partial(killed_agents, 16 if quick else 200), shell_instead_of_the_agent, foreign_panes)


def body(canary: str) -> str:
    """What a shell would run: in a substitution, as a line of its own, after a separator."""
    return f"$(touch {canary}) `touch {canary}` ; touch {canary}\ntouch {canary}\n"


def killed_agents(count: int) -> Row:
    """Each agent gets a message and its death within the same moment, in either order, and a message after it; of
    some, a shell takes the pane at once."""
    chance = random.Random(SEED)
    kinds: dict[str, int] = {}
    with System(NO_BOUND) as system:
        canary = system.root + "/CANARY"
        system.broker()
        for first in range(0, count, _SIDE_BY_SIDE):
            names = [f"a{number}" for number in range(first, min(count, first + _SIDE_BY_SIDE))]
            agents = [chance.choice((system.demo, system.recorder))(name) for name in names]
            deaths = [threading.Thread(target=_death(agent, chance)) for agent in agents]
            for death in deaths:
                death.start()
            ids = publish_all(system, [an_event(name, body(canary)) for name in names])
            for death in deaths:
                death.join()
            ids += publish_all(system, [an_event(name, body(canary)) for name in names])
            for last in _wait_outcomes(system, ids):
                kinds[last] = kinds.get(last, 0) + 1
            for agent in agents:
                system.run("orc-agent", "forget", agent.name)
                system.server.tmux("kill-pane", "-t", agent.pane, check=False)
        problem = "a canary was executed" if os.path.exists(canary) else ""
    return row(
        "agents killed around a delivery, canaries executed", count, problem, f"0, outcomes {kinds}, seed {SEED}"
    )


def _wait_outcomes(system: System, ids: list[str]) -> list[str]:
    """Until something is recorded of each; what was recorded last."""
    wait_until(lambda: all(map(outcomes(system).get, ids)), 30, "an outcome of each")
    found = outcomes(system)
    return [found[event_id][-1]["outcome"] for event_id in ids]


def _death(agent: Agent, chance: random.Random) -> Callable[[], None]:
    """Ends the agent, one way or another, at a moment drawn by lot."""
    how, delay, shell = chance.choice(_SIGNALS), chance.random() * _SPREAD, chance.random() < 0.5
    handle = os.pidfd_open(agent.pid)
    server = agent.system.server

    def die() -> None:
        time.sleep(delay)
        try:
            signal.pidfd_send_signal(handle, how)
            wait_until(lambda: server.show(agent.pane, "#{pane_dead}") == "1", 3)
        except (AssertionError, ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)  # one that ignores what was asked politely
        finally:
            os.close(handle)
        if shell:
            server.tmux("respawn-pane", "-k", "-t", agent.pane, "bash --norc --noprofile -i")

    return die


def shell_instead_of_the_agent() -> Row:
    """Somebody starts a shell in the dead agent's own pane: same id, same nonce, another process."""
    with System() as system:
        canary = system.root + "/CANARY"
        system.broker()
        agents = [system.demo("demo"), system.recorder("plain")]
        screens = []
        for agent in agents:
            agent.kill()
            system.server.tmux("respawn-pane", "-k", "-t", agent.pane, "env PS1=ready bash --norc --noprofile -i")
            wait_screen(system, agent.pane, "ready")
            screens.append(agent.screen())
        ids = publish_all(system, [an_event(agent.name, body(canary)) for agent in agents])
        told = _wait_outcomes(system, ids)
        changed = [agent.name for agent, screen in zip(agents, screens, strict=True) if agent.screen() != screen]
        problem = _told(changed, canary) or ("" if told == ["failed"] * len(agents) else f"{told}")
    return row("a shell in the agent's pane, bytes typed", len(agents), problem, "0")


def _told(changed: list[str], canary: str) -> str:
    """What is wrong with panes that had to stay as they are."""
    ran = ", and a canary was executed" if os.path.exists(canary) else ""
    return f"typed into {', '.join(changed)}{ran}" if changed or ran else ""


def foreign_panes() -> Row:
    """Addressed by window and by pane id: refused, and the screen stays as it is."""
    there = {
        name: what
        for name, what in FOREIGN.items()
        if name == "password" or shutil.which(name.replace("python", "python3"))
    }
    with System() as system:
        canary = system.root + "/CANARY"
        system.broker()
        problems, count = [], 0
        for name, (argv, ready) in there.items():
            pane, _ = system.server.start(argv, session=name)
            wait_screen(system, pane, ready)
            before = system.server.screen(pane)
            ids = publish_all(system, [an_event(target, body(canary)) for target in (f"{name}:0", f"{name}:0.0", pane)])
            told = _wait_outcomes(system, ids)
            count += len(ids)
            changed = [name] if system.server.screen(pane) != before else []
            problems += [_told(changed, canary) or f"{name}: {told}"] if changed or told != ["failed"] * 3 else []
    return row(
        "messages to panes that orc-run did not start", count, ", ".join(problems), f"refused: {', '.join(there)}"
    )
