"""The broker: the one process that types. It follows the log and gives the dispatcher its turns.

One broker by lock (its pid file); a second one leaves, a standby waits for the lock. What is on disk says what has
to happen next, so it can be killed at any moment. It sleeps until the log, the registry, a pane's timer or a signal
wants it, a second at the longest. While it runs, `logs/run/broker.json` says how it fares.
"""

from __future__ import annotations

import gc
import os
import sys
from types import FrameType

from tmux_orchestrator.agents import adoption, profiles, registry
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.delivery.bucket import MINUTE, WINDOW_NS
from tmux_orchestrator.delivery.choice import BATCH
from tmux_orchestrator.delivery.dispatch import Dispatcher
from tmux_orchestrator.delivery.history import History
from tmux_orchestrator.delivery.intake import Intake
from tmux_orchestrator.delivery.journal import Journal
from tmux_orchestrator.delivery.ledger import Ledger
from tmux_orchestrator.delivery.outcomes import Outcomes
from tmux_orchestrator.delivery.typist import Typist
from tmux_orchestrator.eventlog import daylog, follow, retention
from tmux_orchestrator.eventlog.daylog import Log
from tmux_orchestrator.ground import clock, config, fastjson, files, pidfile, tmux, watch
from tmux_orchestrator.ground.errors import ConfigError, OrcError
from tmux_orchestrator.ground.guest import Maker
from tmux_orchestrator.ground.paths import Home

_STATUS_NS = 500_000_000
_SECOND_NS = 1_000_000_000
_MOMENT_NS = 100_000_000


class Broker:
    """Owns the loop, and has a guest if `host` makes one. `run` returns when a signal asks for it, or with `once` when
    nothing more is due."""

    def __init__(self, home: Home, host: Maker | None = None) -> None:
        self._folders = [home.events, home.registry, home.run + "/signs"]
        for folder in self._folders:
            files.make_dir(folder)
        self.home = home
        self.live = config.Live(home)
        get = self.live.config.get
        clock.use_zone(get("events.timezone"))
        self.journal = Journal(home)
        self.outcomes = Outcomes(home, Log(home, durable=False, lock_timeout=1.0))
        self.ledger = Ledger(home, self.journal, self.outcomes)
        self.socket = tmux.find_socket(get("tmux.socket"))
        self.typist = Typist(profiles.load(self.live.config.profiles), self.socket)
        self.intake = Intake(self.live.config, self.ledger, self.typist)
        self.dispatcher = Dispatcher(self.intake, self.ledger, self.typist, clock.boot_id())
        self.started = clock.now_ns()
        self._registry_seen: tuple[int, int] | None = None
        self._adopted: list[Agent] = []
        self._day = ""
        self._status = b""
        self._status_at = 0
        self._checked_at = 0
        self._compacted_at = 0
        self._boot_id = clock.boot_id()
        self._problems: dict[str, int] = {}  # what was said, and until when it is not said again
        self._stopping = False
        self._pid_inode = self._pid_file()
        self._watch = watch.Watch(self._folders)
        past = History(home, self.journal)
        self.intake.delivered, self.intake.unended, self.intake.lately = past.delivered, past.unended, past.lately
        self.intake.cancelled = past.cancelled
        self.follower = follow.Follower(home, past.place)
        self._guest = host and host(home, self.live.config)
        self._guest_at = 0

    def run(self, once: bool = False) -> None:
        """Follow the log until a signal asks to stop."""
        gc.set_threshold(50_000)  # what waits may be very many objects, and to look through them again stops the typing
        wakeup = watch.on_stop(self._stop)
        self._look_around()
        self.intake.restore(clock.boot_id())
        try:
            while not self._stopping:
                more = self._turn()
                more = self._visit(news=more) or more
                if once and not more and self._idle():
                    break
                self._sleep(wakeup, 0 if more else min(self.dispatcher.wake_at(), self._guest_at))
        finally:
            self._leave()

    # one turn

    def _turn(self) -> bool:
        """Take in what is new, type what is due; True when there is more to read at once.

        What the system refuses (a full disk, a file that cannot be read) is said once a minute and tried again.
        """
        problem, more = "", False
        if not self._is_alone():
            self._say("ERROR another broker has taken logs/broker.pid, which was deleted: this one leaves")
            self._stopping = True
            return False
        try:
            self._look_around()
            more = self._take_in()
        except (OrcError, OSError) as error:
            problem = str(error)
        self.dispatcher.step()
        problem = self._write() or problem
        if problem and clock.boot_ns() > self._problems.get(problem, 0):
            self._problems = {problem: clock.boot_ns() + MINUTE}
            self._say(f"ERROR {problem} (nothing is typed until it is on disk)")
        return more

    def _visit(self, news: bool) -> bool:
        """The guest's turn, after what is due in the panes; does it want another one at once?"""
        self._guest_at = self._guest.turn(news) if self._guest else clock.boot_ns() + _SECOND_NS
        return self._guest_at <= clock.boot_ns()

    def _write(self) -> str:
        """Outcomes before the journal: an end is told before it is forgotten. Why it cannot be done, or ""."""
        try:
            if not self.outcomes.flush():
                return self.outcomes.problem
            self.journal.flush()
            self._tell_status()
            self._keep_small()
        except (OrcError, OSError) as error:
            return str(error)
        return ""

    def _take_in(self) -> bool:
        lines = self.follower.read()
        place = self.follower.place
        for jump in self.follower.jumps:
            self._say(f"WARNING {jump}")
        self.follower.jumps.clear()
        if not lines:
            return False
        self.intake.forget_panes()
        offset = place.offset - sum(len(line) + 1 for line in lines)
        for line in lines:
            self.intake.take(line, (place.day, offset, len(line)))
            offset += len(line) + 1
        self.journal.note("place", place.to_list())
        return True

    def _look_around(self) -> None:
        """The registry at every turn; the day and the configuration once a second."""
        self._read_registry()
        now = clock.boot_ns()
        if now - self._checked_at < _SECOND_NS:
            return
        self._checked_at = now
        self._read_config()
        self._greet_day()
        self._adopt()
        self.intake.expire_parked()

    def _keep_small(self) -> None:
        """The journal forgets what is over, once in a while; in a flood, which that would hold up, if it must."""
        now = clock.boot_ns()
        if now - self._compacted_at >= _SECOND_NS:
            self._compacted_at = now
            self.journal.compact(self._boot_id, now - 2 * WINDOW_NS, self.dispatcher.typed >= BATCH)

    def _read_registry(self) -> None:
        try:
            found = os.stat(registry.path(self.home))
            seen = (found.st_mtime_ns, found.st_ino)
        except FileNotFoundError:
            seen = (0, 0)
        if seen != self._registry_seen:
            self._registry_seen = seen
            self._register()

    def _register(self) -> None:
        try:
            self.intake.register(registry.load(self.home) + self._adopted)
        except OrcError as error:
            self._say(f"ERROR {error}")

    def _adopt(self) -> None:
        """Take in the panes that the configuration adopts by pattern."""
        patterns = self.live.config.get("agents.adopt")
        if not patterns and not self._adopted:
            return
        try:
            registered = registry.load(self.home)
            server = tmux.Tmux(self.socket)
            found = adoption.adopted(server, self.typist.panes(), patterns, self.typist.profiles, registered)
        except OrcError:
            return
        if [agent.to_dict() for agent in found] != [agent.to_dict() for agent in self._adopted]:
            self._adopted = found
            self._register()

    def _read_config(self) -> None:
        """Take a changed configuration up; refuse a bad one, once, and keep the old."""
        if not self.live.poll():
            return
        settings = self.live.config
        try:
            if self.live.problem:
                raise ConfigError(self.live.problem)
            self.typist.profiles = profiles.load(settings.profiles)
        except ConfigError as error:
            self._say(f"ERROR {error} (the configuration in use stays)")
            return
        clock.use_zone(settings.get("events.timezone"))
        self.intake.configure(settings)
        self._register()
        if self._guest:
            self._guest.configure(settings)
        self._say("INFO the configuration was taken up")

    def _greet_day(self) -> None:
        """Begin each day's file, so that `tail -F` finds it, and let go of what is old: ids, and whole days."""
        day = clock.local_day(clock.now_ns())
        if day == self._day:
            return
        self._day = day
        if day not in daylog.days(self.home):
            self.outcomes.say(f"{day} begins", "day_start", {"day": day}, "low")
        daylog.forget_ids(self.home, clock.now_ns())
        needed = {owed.day for owed in self.journal.memory.owed.values()}  # of what is published for a far day
        old = retention.old(self.home, self.live.config.get("events.retention_days"), clock.now_ns(), needed)
        retention.remove(old)
        if old:
            self._say(f"INFO removed {len(old)} file{'s' * (len(old) > 1)} beyond events.retention_days")

    # beginning and end

    def _pid_file(self) -> int:
        """Its inode; 0 when there is none."""
        try:
            return os.stat(self.home.pid_file("broker")).st_ino
        except FileNotFoundError:
            return 0

    def _is_alone(self) -> bool:
        """Somebody may have deleted the pid file, and with it the lock that keeps a second broker away."""
        if self._pid_file() == self._pid_inode:
            return True
        alone = pidfile.claim(self.home, "broker") is not None
        self._pid_inode = self._pid_file()
        return alone

    def _stop(self, number: int, at: FrameType | None) -> None:
        self._stopping = True

    def _idle(self) -> bool:
        """Nothing is on its way into a pane, and nothing could be typed within the next moment."""
        soon = clock.boot_ns() + _MOMENT_NS
        return not any(
            (one.flight is not None and not one.pulls()) or (one.busy() and (one.full or one.is_due(soon)))
            for one in self.intake.lanes.values()
        )

    def _sleep(self, wakeup: int, until: int) -> None:
        seconds = max(0.0, (until - clock.boot_ns()) / 1e9) if until else 0.0
        changes, servers = self._watch.fileno(), [server.fileno() for server in self.typist.descriptors()]
        if changes < 0:
            seconds = min(seconds, 0.05)
        ready = watch.readable([wakeup, changes, *servers], seconds)
        if wakeup in ready:
            os.read(wakeup, 512)
        if changes in ready:
            self._watch.drain()
        if not ready.isdisjoint(servers):
            self.typist.drain()

    def _leave(self) -> None:
        self._write()
        if self._guest:
            self._guest.close()
        self.journal.close()
        self.typist.close()
        self.follower.close()
        self._watch.close()

    # how it fares

    def _tell_status(self) -> None:
        """Twice a second at most."""
        now = clock.boot_ns()
        if now - self._status_at < _STATUS_NS:
            return
        self._status_at = now
        data = fastjson.dumps(self.status()).encode("ascii") + b"\n"
        if data != self._status:
            self._status = data
            files.replace(self.home.run + "/broker.json", data, sync=False)

    def status(self) -> dict[str, object]:
        """What orc-status shows of the broker: who has how much waiting, and why."""
        lanes = {}
        for key, one in self.intake.lanes.items():
            waiting = one.waiting()
            if waiting:
                lanes[key] = {
                    "queued": waiting,
                    "hold": one.hold or None,
                    "since": clock.stamp(self._wall(one.held_since)) if one.hold else None,
                    "rate_limited": not one.hold and one.flight is None and not one.room(clock.boot_ns()).normal,
                }
        return {
            "pid": os.getpid(),
            "started": clock.stamp(self.started),
            "targets": lanes,
            "queued": sum(one["queued"] for one in lanes.values()),  # type: ignore[misc]
            "awaiting_ack": len(self.intake.acks),
            "damaged": self.intake.damaged,
            "place": self.follower.place.to_list(),
        }

    @staticmethod
    def _wall(boot: int) -> int:
        return clock.now_ns() - (clock.boot_ns() - boot)

    def _say(self, text: str) -> None:
        level, _, rest = text.partition(" ")
        print(f"{clock.stamp(clock.now_ns())} {level} broker: {rest}", file=sys.stderr, flush=True)
