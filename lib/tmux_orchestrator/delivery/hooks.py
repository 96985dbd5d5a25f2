"""What the agents' own hooks said, as the broker needs it: which messages a prompt held, and whether somebody is asked.

A sign is read again only when its file is another one, so to ask costs one `stat`. What an earlier process of that
name said never counts, and what a hook says is of wall clock time, which is compared with the boot clock by way of now.
"""

from __future__ import annotations

import os

from tmux_orchestrator.agents import signs, turns
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.agents.signs import Sign
from tmux_orchestrator.delivery.bucket import SECOND
from tmux_orchestrator.delivery.typist import View
from tmux_orchestrator.eventlog.event import short
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.paths import Home

_BELIEVED_NS = int(turns.ASKED_S * SECOND)  # so long a dialog is believed that the screen does not show (any more)
_SLACK_NS = SECOND // 10  # between the two clocks

_Seen = tuple[int, int, int]


class Hooks:
    """Asks the signs."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._memory = turns.Memory()
        self._known: dict[tuple[str, int, int], tuple[str, _Seen | None, Sign | None]] = {}

    def sign(self, agent: Agent) -> Sign | None:
        """What the hooks of this very process said; None if none has spoken."""
        key = (agent.key, agent.pid, agent.pid_start)
        path, seen, sign = self._known.get(key) or (signs.path(self._home, agent), None, None)
        try:
            found = os.stat(path, follow_symlinks=False)
            now = (found.st_ino, found.st_mtime_ns, found.st_size)
        except OSError:
            self._known.pop(key, None)
            return None
        if now != seen:
            if key not in self._known:  # a new process: the earlier ones of its name are over
                self._known = {known: what for known, what in self._known.items() if known[0] != agent.key}
            sign = signs.load(self._home, agent)
            self._known[key] = (path, now, sign)
        return sign

    def took(self, agent: Agent, ids: list[str], since: int) -> bool:
        """Did a prompt hold one of these events since then (boot clock)?"""
        sign = self.sign(agent)
        if sign is None or not sign.taken:
            return False
        names, wall = {short(event_id) for event_id in ids if event_id}, clock.now_ns() - clock.boot_ns()
        return any(name in names and at - wall >= since - _SLACK_NS for name, at in sign.taken)

    def asks(self, agent: Agent, view: View) -> bool:
        """Does it ask a person for something? The answer may cause no hook, so after a while a screen that shows an
        input box, which it does not beside a dialog, is believed instead."""
        sign = self.sign(agent)
        if sign is None or sign.state != "waiting":
            return False
        if view.screen is None or view.screen.composer == "none":
            return True
        return 0 <= clock.now_ns() - sign.at < _BELIEVED_NS

    def works(self, agent: Agent, view: View) -> bool:
        """Is it amid a turn, whose end its hook will tell? Of an interrupted one none may: see agents.turns."""
        sign, now = self.sign(agent), clock.now_ns()
        shown = "unknown" if view.screen is None else view.screen.state
        if sign is None or not sign.state:
            return False
        return turns.weigh(sign, shown, now, self._memory.again(agent, sign, shown, now)).state == "working"

    def asked(self, agent: Agent, since: int) -> bool:
        """Has it asked a person since then (boot clock), and does it still?"""
        sign = self.sign(agent)
        return sign is not None and sign.state == "waiting" and sign.since >= since + clock.now_ns() - clock.boot_ns()

    def judged(self, agent: Agent, view: View) -> View:
        """The view, closed at once when a hook says that there is a dialog: the screen shows it only later."""
        if view.reason == "agent_gone" or not self.asks(agent, view):
            return view
        return View("dialog", None, view.screen)
