"""What the agents' own hooks say, with the hooks installed by `orc-hook install` into the scratch home.

Each trial returns its figures as text and whether they hold, and leaves the agent idle; one kills it, and the next
brings it back.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from agents.bed import Bed
from agents.trials import Outcome
from support_orc import BIN, Agent
from support_tmux import wait_until
from tmux_orchestrator.eventlog import event
from tmux_orchestrator.eventlog.daylog import Log, daemon_source
from tmux_orchestrator.ground.paths import Home

TRUST = "Hooks need review"  # what Codex asks when it starts and finds new ones


class HookBed(Bed):
    """A bed whose agent CLI calls our hooks."""

    def _start(self) -> Agent:
        self.env["PATH"] += f":{self.folder}/node_modules/.bin"
        with open(f"{self.home}/.profile", "w", encoding="utf-8") as file:  # Codex runs commands in a login shell
            file.write(f'PATH="{BIN}:$PATH"\n')
        self.env["CLAUDE_CODE_MAX_RETRIES"] = "0"  # or a limit is told after minutes
        self.before = self.files()
        self.run("orc-hook", "install", self.name)
        agent = super()._start()
        if self.name == "codex":
            self._trust(agent)
        return agent

    def _trust(self, agent: Agent) -> None:
        """Answer Codex's question; it may not read its input yet when it shows it."""
        wait_until(lambda: TRUST in self.server.screen(agent.pane), 30, "the question whether to trust the hooks")

        def chosen() -> bool:
            if "› 2." not in self.server.screen(agent.pane):
                self.server.tmux("send-keys", "-t", agent.pane, "Down")
                time.sleep(0.5)
            return "› 2." in self.server.screen(agent.pane)

        wait_until(chosen, what="the choice to trust all")
        self.server.tmux("send-keys", "-t", agent.pane, "Enter")

    def files(self) -> dict[str, bytes]:
        """What of the CLI's own in the scratch home our set-up writes."""
        names = ("settings.json", "hooks.json", "CLAUDE.md", "AGENTS.md", "GEMINI.md")
        found = {}
        for name in names:
            path = f"{self.home}/.{self.name}/{name}"
            if os.path.exists(path):
                with open(path, "rb") as file:
                    found[name] = file.read()
        return found

    def shown(self) -> dict[str, Any]:
        """What orc-agent says of the agent."""
        return dict(json.loads(self.run("orc-agent", "show", self.name)))

    def sign(self) -> dict[str, Any]:
        """What the hooks left on file."""
        try:
            with open(f"{self.root}/logs/run/signs/team@{self.name}.json", encoding="ascii") as file:
                return dict(json.load(file))
        except FileNotFoundError:
            return {}

    def see(self, state: str, source: str = "", seconds: float = 20.0) -> float:
        """Milliseconds until the agent is in this state; `source`: by whose word."""
        begin = time.monotonic()

        def there() -> bool:
            found = self.shown()
            return found["state"] == state and source in ("", found["source"])

        wait_until(there, seconds, f"{state} by {source or 'anybody'}")
        return (time.monotonic() - begin) * 1000

    def hooks_say(self, state: str, seconds: float = 20.0) -> float:
        """Milliseconds until the hooks have said so."""
        begin = time.monotonic()
        wait_until(lambda: self.sign().get("state") == state, seconds, f"{state} from the hooks")
        return (time.monotonic() - begin) * 1000


def turn(bed: HookBed) -> Outcome:
    """Working with the message's id, and idle; the conversation's id; since when."""
    sent = bed.publish("-t", bed.name, "[[slow:3]] one turn")
    begun = bed.hooks_say("working")
    bed.see("working", "hook")
    took = any(one[0] == sent[-6:] for one in bed.sign()["taken"])
    bed.hooks_say("idle")
    idle = bed.shown()
    certain = (idle["state"], idle["source"], idle["confidence"]) == ("idle", "hook", "certain")
    known = bool(idle["session_id"]) and idle["since"] is not None
    figures = f"working {begun:.0f} ms after the command, with the message's id: {took}, then idle: {certain}"
    return Outcome(took and certain and known, figures + f", session's id: {known}")


def queued(bed: HookBed) -> Outcome:
    """Messages that came while it worked: their ids, too."""
    events = [bed.publish("-t", bed.name, "[[slow:4]] at work")]
    bed.hooks_say("working")
    for number in range(3):
        events.append(bed.publish("-t", bed.name, f"queued {number}\nsecond line"))
        time.sleep(0.3)
    wanted = {sent[-6:] for sent in events}
    there = comes_true(lambda: wanted <= {one[0] for one in bed.sign()["taken"]})
    bed.hooks_say("idle")
    taken = [one[0] for one in bed.sign()["taken"]]
    return Outcome(there, f"{sum(taken.count(one) == 1 for one in wanted)} of 4 ids, each once")


def permission(bed: HookBed) -> Outcome:
    """A dialog: waiting, with the question; granted: it works on; the next one denied by Esc: over by itself."""
    bed.publish("-t", bed.name, f"[[tool:touch {bed.home}/granted && sleep 1]]")
    bed.hooks_say("waiting")
    bed.see("waiting", "hook")
    asked = "granted" in bed.sign()["question"] and bool(bed.shown()["question"])
    bed.run("orc-agent", "answer", bed.name, "yes")
    bed.hooks_say("idle")
    granted = os.path.exists(f"{bed.home}/granted")
    bed.publish("-t", bed.name, f"[[tool:rm {bed.home}/granted]]")
    bed.hooks_say("waiting")
    bed.see("waiting")
    begin = time.monotonic()
    bed.run("orc-agent", "answer", bed.name, "no")
    bed.see("idle")
    over = time.monotonic() - begin
    kept = os.path.exists(f"{bed.home}/granted")
    return Outcome(asked and granted and kept, f"asked: {asked}, granted, denied: idle {over:.1f} s later")


def escape(bed: HookBed) -> Outcome:
    """Esc in a turn: no CLI stays `working` for ever."""
    bed.publish("-t", bed.name, "[[slow:90]] long work")
    bed.hooks_say("working")
    bed.see("working", "hook")
    time.sleep(2)
    begin = time.monotonic()
    bed.run("orc-agent", "interrupt", bed.name)
    bed.see("idle", seconds=45)
    took, source = time.monotonic() - begin, bed.shown()["source"]
    bed.keys("C-u")  # some put the prompt back into the input box
    return Outcome(took < 40, f"idle {took:.1f} s later, by the {source}")


def limit(bed: HookBed) -> Outcome:
    """A usage limit, then a turn that goes through."""
    bed.publish("-t", bed.name, "[[limit]] once")
    took = bed.see("limited")
    source = bed.shown()["source"]
    bed.keys("C-u")
    enter(bed, "a person goes on")
    after = comes_true(lambda: bed.shown()["state"] == "idle")
    return Outcome(after, f"limited {took:.0f} ms after the command, by the {source}; afterwards idle: {after}")


def answers(bed: HookBed) -> Outcome:
    """The agent answers by running orc-publish itself, and nobody is asked."""
    before = bed.sign()["at"]
    bed.publish("-t", bed.name, "[[tool:orc-publish -t pm --queue 'all done; \"really\"']]")
    wait_until(lambda: bed.sign()["at"] > before, what="the prompt")
    asked = False

    def answered() -> bool:
        nonlocal asked
        asked = asked or bed.sign()["state"] == "waiting"
        return bool(found())

    def found() -> list[dict[str, Any]]:
        return [one for one in bed.events() if one["message"]["content"]["body"] == 'all done; "really"']

    there = comes_true(answered)
    if bed.sign()["state"] == "waiting":
        asked = True
        bed.run("orc-agent", "answer", bed.name, "no")
    bed.see("idle", seconds=45)
    source = found()[0]["source"] if there else {}
    verified = source.get("verified") is True and source.get("identifier") == bed.name
    figures = f"published: {there}, asked for permission: {asked}, verified: {verified}"
    return Outcome(there and not asked and verified, figures)


def daemons(bed: HookBed) -> Outcome:
    """A daemon's notice is acknowledged by the end of the turn; a message that somebody wants acknowledged is not."""
    person = bed.publish("-t", bed.name, "--requires-ack", "say that you have it")
    source = daemon_source("monitor")
    told = {"targets": [f"team:{bed.name}"], "priority": "critical", "requires_ack": True}
    notice = event.build("a notice", source, **told)
    (ours,) = Log(Home(bed.root)).append([notice])
    for body in ("say that you have it", "a notice"):
        bed.wait_arrival(body)

    def acked() -> set[str]:
        return {e["message"]["content"]["context"]["event"] for e in bed.events() if e["message"]["type"] == "ack"}

    there = comes_true(lambda: ours in acked())
    bed.hooks_say("idle")
    wrong = person in acked()
    return Outcome(there and not wrong, f"the daemon's: {there}, the person's: {wrong}")


def killed(bed: HookBed) -> Outcome:
    """kill -9 in a turn: dead at once, whatever the hooks said last."""
    enter(bed, "[[slow:60]] the last work")
    bed.hooks_say("working")
    conversation = bed.sign()["session_id"]
    os.kill(bed.cli.pid, signal.SIGKILL)
    took = bed.see("dead")
    kept = bed.sign()["session_id"] == conversation != ""
    return Outcome(kept, f"dead {took:.0f} ms later, the session's id kept: {kept}")


def resumed(bed: HookBed) -> Outcome:
    """Started again after its death: it takes its conversation up, by the id that its hooks told."""
    conversation = str(bed.sign()["session_id"])
    bed.run("orc-agent", "restart", bed.name)
    with open(f"/proc/{bed.shown()['pid']}/cmdline", "rb") as file:
        asked = conversation.encode() in file.read().split(b"\0")
    bed.publish("-t", bed.name, "after the return")
    arrived = bed.wait_arrival("after the return", 120)  # Codex's own server goes on with the turn of the killed one
    kept = arrived and "good morning" in bed.bodies()
    return Outcome(asked and kept, f"by its id: {asked}, the first message is still in it: {kept}")


def removed(bed: HookBed) -> Outcome:
    """Taking the hooks out leaves the settings that there were, but for what the CLI itself has written since."""
    installed = json.loads(bed.run("orc-hook", "status", bed.name))
    bed.run("orc-hook", "uninstall", bed.name)
    bed.run("orc-hook", "status", bed.name, code=1)
    after = bed.files()
    more = sorted(after.keys() - bed.before.keys())
    ours = sorted(name for name, data in after.items() if b"orc-hook" in data)
    try:
        with open(f"{bed.root}/logs/hook.out", encoding="utf-8") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        lines = []
    trusted = installed["trusted"]
    figures = f"trusted: {trusted}, problems: {installed['problems']}, left: {ours or more}, wrong calls: {len(lines)}"
    return Outcome(not (more or ours or lines or installed["problems"]) and trusted is not False, figures)


def enter(bed: HookBed, text: str) -> None:
    """As a person types it: what comes too fast is taken for a paste, and its Enter for a part of that."""
    bed.keys("-l", text)
    time.sleep(0.5)
    bed.keys("Enter")


def comes_true(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    try:
        wait_until(condition, seconds)
    except AssertionError:
        return False
    return True


TESTS: dict[int, tuple[str, Callable[[HookBed], Outcome]]] = {
    21: ("hooks: a turn", turn),
    22: ("hooks: three messages queued while it works", queued),
    23: ("hooks: permission granted, and denied", permission),
    24: ("hooks: Esc", escape),
    25: ("hooks: the agent runs orc-publish without being asked", answers),
    26: ("hooks: acknowledgments", daemons),
    28: ("hooks: kill -9", killed),
    30: ("hooks: the conversation goes on after a restart", resumed),
    27: ("hooks: a usage limit", limit),  # from here on the broker holds what is for it
    29: ("hooks: taken out again", removed),
}


def can(name: str, number: int) -> bool:
    """Gemini CLI opens a menu at a limit, and does not go on by itself."""
    return name != "gemini" or TESTS[number][1] is not limit
