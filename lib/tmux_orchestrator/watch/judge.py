"""Which sign of life counts, and what is answered.

A signed one counts when its tag is right, its time near ours, its sender's counter new, and its agent registered; one
over the Unix socket when the process that the kernel names is inside that agent's process tree; one that was left in a
file when it is signed and of the process that runs now. Everything else is dropped and counted by reason, and nothing
that is not signed rightly is answered.

Counters are remembered for as long as a sign's time can be near ours. What an earlier monitor knew is told by the last
sign's time: what was sent no later, before we began, is not taken again. A clock that was set back lifts that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from tmux_orchestrator.agents import beats, registry
from tmux_orchestrator.agents.beats import Beat
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.ground import clock, proc
from tmux_orchestrator.ground.errors import OrcError
from tmux_orchestrator.watch import datagram
from tmux_orchestrator.watch.datagram import ACK, LIMIT, NUDGE, REFUSED, SIGN, Signer

COUNTERS = ("accepted", "forged", "replayed", "oversize", "late", "unknown", "foreign")
WINDOW_NS = 30_000_000_000  # a sign's clock and ours may differ by so much, and a sign be on its way for so long


class Judge:
    """`begin` comes before each portion of signs, `know` before the first. `heard` are the keys that gave one since.

    `renew` reads the registry: whoever gives a sign may be newer than what `know` was told.
    """

    def __init__(
        self, signer: Signer, last: dict[str, Beat], counted: dict[str, int], renew: Callable[[], list[Agent]]
    ) -> None:
        self.signer = signer
        self._renew: Callable[[], list[Agent]] | None = None
        self._reads = renew
        self.last = last
        self.counters = Counter({name: counted.get(name, 0) for name in COUNTERS})
        self.nudges: dict[str, bytes] = {}
        self.changed = False
        self.heard: set[str] = set()
        self.wall, self.boot = clock.now_ns(), clock.boot_ns()
        self._began = self._half_ns = self.boot
        self._agents: list[Agent] = []
        self._by_key: dict[str, Agent] = {}
        self._seen: dict[int, int] = {}  # sender -> the highest counter, in this half of the memory
        self._seen_before: dict[int, int] = {}

    def begin(self, wall: int, boot: int) -> None:
        self.heard, self._renew = set(), self._reads
        self.wall, self.boot = wall, boot
        if boot - self._half_ns > 2 * WINDOW_NS:
            self._seen, self._seen_before, self._half_ns = {}, self._seen, boot

    def know(self, agents: list[Agent]) -> None:
        self._agents, self._by_key = agents, {agent.key: agent for agent in agents}

    def forget_others(self) -> None:
        """Whoever is registered no more."""
        for key in self.last.keys() - self._by_key.keys():
            del self.last[key]
            self.nudges.pop(key, None)
            self.changed = True

    def signed(self, data: bytes) -> bytes:
        """The signed answer to a datagram, b"" for none."""
        if len(data) > LIMIT:
            return self._drop("oversize")
        try:
            kind, sender, counter, sent, text = datagram.unpack(self.signer.opened(data))
        except ValueError:
            return self._drop("forged")
        if kind != SIGN:
            return self._drop("forged")
        if not -WINDOW_NS < self.wall - sent < WINDOW_NS:
            return self._drop("late") or self._answer(REFUSED, sender, counter, b"late")
        if counter <= self._seen.get(sender, 0) or counter <= self._seen_before.get(sender, 0):
            return self._drop("replayed")
        agent = self._by_key.get(text.decode("utf-8", "replace")) or self._called(text)
        if agent is None:
            return self._drop("unknown") or self._answer(REFUSED, sender, counter, b"unknown")
        if sent <= self._floor(agent):
            return self._drop("replayed")
        self._seen[sender] = counter
        kind, said = self._accept(agent, beats.SIGNED, sent)
        return self._answer(kind, sender, counter, said)

    def peer(self, data: bytes, pid: int) -> bytes:
        """The answer to a datagram of this process (0: it is not to be trusted), b"" for none."""
        if len(data) > LIMIT:
            return self._drop("oversize")
        try:
            kind, sender, counter, sent, text = datagram.unpack(data)
        except ValueError:
            return self._drop("forged")
        if kind != SIGN:
            return self._drop("forged")
        agent, said = self._called(text), b"unknown"
        if agent is None:
            return self._drop("unknown") or datagram.pack(REFUSED, sender, counter, self.wall, said)
        if pid <= 0 or registry.caller(self._agents, pid) is not agent:
            return self._drop("foreign") or datagram.pack(REFUSED, sender, counter, self.wall, b"foreign")
        kind, said = self._accept(agent, beats.PROCESS, sent)
        return datagram.pack(kind, sender, counter, self.wall, said)

    def left(self, data: bytes) -> None:
        """A signed datagram that waited in a file; it counts by its time, and not for an earlier process."""
        try:
            kind, _, _, sent, text = datagram.unpack(self.signer.opened(data))
        except ValueError:
            kind, sent, text = 0, 0, b""
        if kind != SIGN:
            self._drop("forged")
            return
        agent = self._called(text)
        if agent is None:
            self._drop("unknown")
            return
        age, before = max(0, self.wall - sent), self.last.get(agent.key)
        if sent - self.wall > WINDOW_NS or age > proc.age_ns(agent.pid_start):
            self._drop("late")
        elif before is not None and before.is_of(agent) and before.boot_ns >= self.boot - age:
            self._drop("replayed")
        else:
            self._note(agent, beats.LEFT, sent, age)

    def _called(self, text: bytes) -> Agent | None:
        """The agent with this key, or the only one with this name; the registry is read once for each portion."""
        try:
            name = text.decode()
            agent = registry.resolve(self._agents, name)
            if agent is None and self._renew is not None:
                renew, self._renew = self._renew, None
                self.know(renew())
                agent = registry.resolve(self._agents, name)
            return agent
        except (UnicodeDecodeError, OrcError):
            return None

    def _floor(self, agent: Agent) -> int:
        if self.boot - self._began > 2 * WINDOW_NS:
            return 0
        beat = self.last.get(agent.key)
        if beat is None or beat.boot_ns >= self._began or beat.sent_ns > self.wall:
            return 0
        return beat.sent_ns

    def _accept(self, agent: Agent, via: str, sent: int) -> tuple[int, bytes]:
        """The kind and the text of the answer."""
        self._note(agent, via, sent, 0)
        said = self.nudges.pop(agent.key, None) if self.nudges else None
        return (ACK, b"") if said is None else (NUDGE, said)

    def _note(self, agent: Agent, via: str, sent: int, age: int) -> None:
        key = agent.key
        beat = self.last.get(key)
        if beat is None or not beat.is_of(agent):
            beat = self.last[key] = Beat({"pid": agent.pid, "pid_start": agent.pid_start})
        beat.via, beat.sent_ns, beat.wall_ns, beat.boot_ns = via, sent, self.wall - age, self.boot - age
        self.heard.add(key)
        self.counters["accepted"] += 1
        self.changed = True

    def _drop(self, why: str) -> bytes:
        self.counters[why] += 1
        self.changed = True
        return b""

    def _answer(self, kind: int, sender: int, counter: int, text: bytes) -> bytes:
        body = datagram.pack(kind, sender, counter, self.wall, text)
        return body + self.signer.tag(body)
