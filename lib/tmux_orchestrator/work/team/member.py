"""One agent of the team, as the supervisor has it: what is wanted, what is kept of it, its process, its output.

It goes from one state to the next here, and nowhere else. A crash (any end but exit code 0) is followed by the next
start at once, as long as `restarts` allows it; then the agent has failed, which is told once. Nothing here waits.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from dataclasses import dataclass, field

from tmux_orchestrator.eventlog.voice import Voice
from tmux_orchestrator.ground import clock, config
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.work.team import kin, processes, restarts, state, tidings
from tmux_orchestrator.work.team.holes import Holes
from tmux_orchestrator.work.team.occasions import NEVER, Clock
from tmux_orchestrator.work.team.output import Output
from tmux_orchestrator.work.team.roster import Spec
from tmux_orchestrator.work.team.state import Kept
from tmux_orchestrator.work.team.stream import Stream

# What follows when one has stopped: nothing; a start; a start that counts as one after a crash; none, as of those
# there were too many.
STAY, START, RESTART, FAIL = "stay", "start", "restart", "fail"
# What the system lacks now and may have soon, and a program that is being replaced.
_PASSING = (
    errno.EAGAIN, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ETXTBSY,
)  # fmt: skip
_SOON_NS = 5_000_000_000
UNKNOWN_END = "ended while it had no supervisor, or one that cannot know how"


@dataclass
class Desk:
    """What all members share: where things are, what holds, and who is told."""

    home: Home
    live: config.Live
    team: state.Team
    stream: Stream
    voice: Voice
    holes: Holes
    debug: bool = False
    events: list[tidings.Event] = field(default_factory=list)
    failures: list[tidings.Failure] = field(default_factory=list)  # to be told together
    failed_ns: int = 0  # when the first of them did
    troubled: bool = False  # since the last look at how all fare

    def say(self, text: str) -> None:
        """What the supervisor does; `text` begins with its level."""
        level, _, rest = text.partition(" ")
        if level == "DEBUG" and not self.debug:
            return
        self.voice.say(text)
        self.stream.add("team-daemon", rest)

    def complain(self, trouble: object) -> None:
        """Of something that went wrong; again only after a time in which nothing did."""
        self.troubled = True
        self.voice.complain(trouble)


class Member:
    """`process` is None while none runs; `kept` is what goes to disk."""

    def __init__(self, desk: Desk, spec: Spec, kept: Kept) -> None:
        self.desk, self.spec, self.kept = desk, spec, kept
        self.process: processes.Process | None = None
        self.output = Output(processes.out_file(desk.home, spec.name), desk.holes)
        self.clock = Clock(spec, desk.live.config.get("events.timezone"))
        self.deadline_ns = NEVER  # when what still runs of it is killed
        self.then = STAY  # when it has stopped
        self.beat: tuple[int, int] | None = None  # its last sign of life: file time, and when we saw it
        self._counted_ns = clock.boot_ns()

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def is_occupied(self) -> bool:
        return self.kept.state in (state.STARTING, state.RUNNING, state.STOPPING)

    @property
    def is_pending(self) -> bool:
        """Is it being started, by a command that has not ended yet?"""
        return False

    def adopt(self, process: processes.Process) -> None:
        """It runs already: somebody else started it."""
        self.count()
        if self.kept.pid != process.pid:
            self.kept.began_ns = clock.boot_ns()
            self.kept.began_wall_ns = clock.now_ns()
        self._runs(process)
        self.desk.say(f"INFO {self.name} runs already (pid {process.pid}): taken over")

    def look(self) -> None:
        """Once a second: what nobody would tell."""

    def begin(self, why: str = "") -> None:
        """Start it. One that cannot be started has failed: trying again at once would not help."""
        kept = self.kept
        self.count()
        kept.run += 1
        kept.made = self.spec.digest
        kept.began_ns, kept.began_wall_ns = clock.boot_ns(), clock.now_ns()
        kept.late, kept.over, kept.cpu_percent, kept.memory_mb = False, [], 0.0, 0.0
        self.beat = None
        try:
            self.start()
        except (OSError, ValueError) as error:
            self.fail(f"cannot be started: {_told(error)}", passes=getattr(error, "errno", None) in _PASSING)
            return
        if self.process is not None:
            self.desk.say(f"INFO {self.name} started (pid {self.process.pid}){why and ': '}{why}")

    def start(self) -> None:
        """Raises OSError or ValueError."""
        self.output.begin()
        processes.forget_beat(self.desk.home, self.name)
        mark = kin.mark(self.desk.team.id, self.name, self.kept.run)
        extra = {}
        if self.kept.event:
            extra = {"ORC_TEAM_EVENT_ID": self.kept.event[0], "ORC_TEAM_EVENT_TYPE": self.kept.event[1]}
        self._runs(processes.start(self.desk.home, self.spec, mark, extra))

    def _runs(self, process: processes.Process) -> None:
        self.process = process
        self.kept.pid, self.kept.pid_start = process.pid, process.start
        self.kept.state, self.kept.retry_ns = state.RUNNING, 0

    def ended(self) -> None:
        """Its process has ended."""
        assert self.process is not None
        began = time.monotonic()
        # Those that are told to stop have their time, also when the first of them, as a shell, ended at once.
        code = self.process.ended(spare=self.kept.state == state.STOPPING)
        self.gone(_end(code), code == 0, began)

    def gone(self, reason: str, well: bool, noticed: float) -> None:
        """What follows from its end; `noticed` is when it was (monotonic seconds)."""
        kept, spec = self.kept, self.spec
        self.count()
        self.process, kept.pid, kept.pid_start, kept.reason = None, 0, 0, reason
        now = clock.boot_ns()
        if now - kept.began_ns >= restarts.rules(self.desk.live.config).within:
            kept.told = False
        if kept.state == state.STOPPING:
            if well:
                kept.event = []
            return
        if well and spec.restart != "always":
            kept.event = []
            self.rest(f"INFO {self.name} {reason}")
        elif spec.restart == "never":
            self.fail(reason)
        elif restarts.may(kept, now, self.desk.live.config):
            kept.restarts += 1
            self.begin(f"it {reason}")
            if self.is_occupied:
                downtime_ms = (time.monotonic() - noticed) * 1000
                self.desk.events.append(tidings.restarted(spec, reason, kept.restarts, downtime_ms))
        else:
            self.fail(reason)

    def rest(self, said: str) -> None:
        """It does nothing, and that is well."""
        occasional = self.spec.is_occasional or self.spec.interval
        self.kept.state = state.WAITING if occasional else state.EXITED
        self.desk.say(said)

    def fail(self, reason: str, passes: bool = False) -> None:
        """Nobody starts it again, until it is asked for or its time has come; soon, if what was in its way passes."""
        kept, settings = self.kept, self.desk.live.config
        kept.state, kept.reason, kept.pid, kept.pid_start = state.FAILED, reason, 0, 0
        kept.retry_ns = clock.boot_ns() + _SOON_NS if passes else restarts.again_ns(clock.boot_ns(), settings)
        self.desk.say(f"ERROR {self.name} {reason}, and is not started again")
        if not kept.told:
            kept.told = True
            attempts = len(restarts.recent(kept))
            again_s = _SOON_NS / 1e9 if passes else settings.get("team.restart.again_after")
            self.desk.failed_ns = self.desk.failed_ns or clock.boot_ns()
            self.desk.failures.append(tidings.Failure(self.spec, reason, attempts, again_s))

    def stopped(self, why: str = "") -> None:
        """All its processes have ended, as was wanted."""
        self.count()
        if self.then in (STAY, START):
            restarts.forgive(self.kept)
            self.kept.told = False
        self.kept.state = state.STOPPED  # an event whose run was cut off is there for the next one
        self.kept.cpu_percent = self.kept.memory_mb = 0.0
        self.deadline_ns = NEVER
        self.desk.say(f"INFO {self.name} stopped{why and ': '}{why}")

    def count(self) -> None:
        """How long it ran, and was meant to, up to now."""
        now, kept = clock.boot_ns(), self.kept
        passed, self._counted_ns = now - self._counted_ns, now
        if kept.state in (state.RUNNING, state.STARTING, state.FAILED):
            kept.meant_ns += passed
        if kept.state == state.RUNNING:
            kept.up_ns += passed

    def due(self) -> bool:
        """Begin, if its time has come, or an event for it. True when it did."""
        kept = self.kept
        if kept.state not in (state.WAITING, state.EXITED, state.FAILED) or not kept.wanted:
            return False
        now = clock.boot_ns()
        if kept.state == state.FAILED:
            if not kept.retry_ns or now < kept.retry_ns:
                return False
            restarts.forgive(kept)
            self.begin("it had failed, and is tried again")
        elif self.clock.take(kept, clock.now_ns()):
            self.begin("by its schedule")
        elif kept.waiting:
            kept.event = kept.waiting.pop(0)
            self.begin(f"by {kept.event[1]} {kept.event[0]}")
        elif self.spec.interval and now >= kept.began_ns + int(self.spec.interval * 1e9):
            self.begin("by its interval")
        else:
            return False
        return True

    def due_in_ns(self) -> int:
        """How long until `due` may say more."""
        kept, now = self.kept, clock.boot_ns()
        if kept.state == state.FAILED:
            return max(0, kept.retry_ns - now) if kept.retry_ns else NEVER
        if kept.state not in (state.WAITING, state.EXITED):
            return NEVER
        wall = clock.now_ns()
        left = self.clock.due_ns(kept, wall) - wall
        if self.spec.interval:
            left = min(left, kept.began_ns + int(self.spec.interval * 1e9) - now)
        return 0 if kept.waiting else max(0, left)

    def crashed_unseen(self) -> None:
        """It ended while nobody supervised it."""
        kin.send(kin.group_of(self.kept.pid), signal.SIGKILL)
        self.gone(UNKNOWN_END, False, time.monotonic())

    def change(self, spec: Spec) -> None:
        """It is to be like this; see `Spec.same_process`."""
        self.spec = spec
        self.clock = Clock(spec, self.desk.live.config.get("events.timezone"))

    def copy(self, stream: Stream, pause: bool) -> bool:
        """What it printed goes into the stream, in a pause also a line that has no end yet; is there more?"""
        lines, more = self.output.read()
        if pause and not lines:
            lines = self.output.rest()
        for line in lines:
            stream.add(self.name, line)
        return more

    def close(self) -> None:
        if self.process is not None:
            self.process.close()
        self.output.close()


def _end(code: int | None) -> str:
    if code is None:
        return UNKNOWN_END
    if code >= 0:
        return f"ended with {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"


def _told(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        what = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
        return f"{error.strerror or error}{what and ': '}{what}"
    return str(error)
