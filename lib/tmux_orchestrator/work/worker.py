"""A worker from the shell: claims tasks, has a command do each, and says how it ended.

One loop waits for all of it: new tasks, what the commands print, their ends, signals, leases. A lease is extended
each third of it; one that is lost, or a task that was cancelled, ends the command, whose result then counts for
nothing. The claims name this process: killed, it frees its tasks at once, and its commands die with it.

Exit codes of the command: 0 completes the task, 65 fails it for good, 75 gives it back to be tried again after a
rest, without counting; any other fails the attempt. Between the command's end and the task's a crash may come, and
then the command runs again.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from types import FrameType

from tmux_orchestrator.ground import clock, errors, watch
from tmux_orchestrator.ground.errors import DataError, OrcError, SystemFailure, TryLater
from tmux_orchestrator.ground.output import clean
from tmux_orchestrator.work import reading
from tmux_orchestrator.work.errand import Errand, Guard
from tmux_orchestrator.work.message import Message
from tmux_orchestrator.work.queue import MessageQueue

GRACE_S = 10.0  # between SIGTERM and SIGKILL
_SECOND = 1_000_000_000
_LOOK = _SECOND // 4  # between two looks whether the claims still hold, when somebody wrote
_MOMENT = 0.001  # seconds
_SOON = (TryLater, SystemFailure)  # locked, full: it may be otherwise in a moment


class _CannotRun(OrcError):
    code = errors.CANNOT_RUN


class _NoCommand(OrcError):
    code = errors.NOT_FOUND


class Worker:
    """`run` returns the exit code. Raises what the queue does, and OrcError when the command cannot be run."""

    def __init__(self, queue: MessageQueue, recipient: str, argv: list[str], jobs: int, lease: float | None) -> None:
        self._queue, self._recipient, self._argv, self._jobs = queue, recipient, argv, jobs
        self._lease = queue.rules.lease if lease is None else lease
        self._errands: list[Errand] = []
        self._guard = Guard()
        self._stops = 0  # signals to stop so far
        self._stopped = 0  # … that were acted upon
        self._claim_at = self._rests_until = self._look_at = 0  # boot clock
        self._is_changed = True  # somebody wrote the database since the claims were looked at
        self._said = ""
        self._outcome: int | None = None  # of the last task

    def run(self, once: bool) -> int:
        self._check_command()
        self._wakeup = watch.on_stop(self._on_stop)
        self._changes = watch.Watch([os.path.dirname(self._queue.db_path)])
        try:
            if not once:
                return self._forever()
            self._claim()
            while self._errands:
                self._wait()
                self._turn()
            return errors.NO if self._outcome is None else self._outcome
        finally:
            self._close()

    def _check_command(self) -> None:
        """Before anything is claimed."""
        if shutil.which(self._argv[0]) is None:
            if "/" in self._argv[0] and os.path.exists(self._argv[0]):
                raise _CannotRun(f"{self._argv[0]!r} cannot be run: see its permissions")
            raise _NoCommand(f"{self._argv[0]!r} is no command: correct it")

    def _forever(self) -> int:
        while True:
            if not self._stops:
                self._claim()
            elif not self._errands:
                return errors.OK
            self._wait()
            self._turn()

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self._stops += 1

    def _close(self) -> None:
        """Whatever still runs has to end: only a fault leads here with something that does."""
        self._guard.close()
        for errand in self._errands:
            errand.kill()
            errand.close()
        self._changes.close()

    # claiming

    def _claim(self) -> None:
        """Take as many tasks as there is room for."""
        while len(self._errands) < self._jobs and clock.boot_ns() >= max(self._claim_at, self._rests_until):
            try:
                is_ready = self._queue.is_ready(self._recipient)
                message = self._queue.get(self._recipient, lease=self._lease) if is_ready else None
            except _SOON as error:
                self._rest(str(error))
                return
            if message is None:
                self._claim_at = clock.boot_ns() + _SECOND
                return
            self._said = ""
            self._errands += self._begin(message)

    def _rest(self, why: str) -> None:
        self._say(why)
        self._rests_until = clock.boot_ns() + _SECOND

    def _begin(self, message: Message) -> list[Errand]:
        try:
            errand = Errand(message, self._argv, self._guard)
        except OSError as error:
            self._queue.release(message.task_id, message.token, self._queue.rules.first_rest)
            if isinstance(error, FileNotFoundError):
                raise _NoCommand(f"{self._argv[0]!r} is no command: correct it") from None
            if isinstance(error, PermissionError):
                raise _CannotRun(f"cannot run {self._argv[0]!r}: {error.strerror}: correct it") from None
            self._rest(f"cannot run {self._argv[0]!r}: {error.strerror}: trying again")
            return []
        self._hold(errand)
        return [errand]

    # waiting

    def _wait(self) -> None:
        changes = self._changes.fileno()
        fds = [self._wakeup, changes, self._guard.pidfd]
        for errand in self._errands:
            fds += errand.fds()
        ready = watch.readable(fds, max(0, self._next() - clock.boot_ns()) / _SECOND)
        if self._wakeup in ready:
            os.read(self._wakeup, 512)
        if changes in ready:
            time.sleep(_MOMENT)  # a busy queue is looked at a thousand times a second, not more
            self._changes.drain()
        if changes in ready or changes < 0:
            self._is_changed, self._claim_at = True, 0

    def _next(self) -> int:
        """When there is something to do, whatever happens: by the boot clock, within a second."""
        now = clock.boot_ns()
        until = [now + _SECOND]
        for errand in self._errands:
            if errand.code is not None and not errand.is_held_up() and errand.settle_at <= now:
                return now
            if errand.is_held_up() or self._changes.fileno() < 0:
                until.append(now + _SECOND // 20)
            until += [at for at in (errand.insist(), errand.settle_at) if at and at > now]
            until += [errand.extend_at] if errand.extend_at else []
        if self._is_changed and self._errands:
            until.append(self._look_at)
        return min(until)

    def _turn(self) -> None:
        """Look after each command that runs."""
        self._guard.renew()
        if self._stops > self._stopped:
            self._stop()
        is_time = self._is_changed and clock.boot_ns() >= self._look_at
        if is_time:
            self._is_changed, self._look_at = False, clock.boot_ns() + _LOOK
        for errand in list(self._errands):
            if errand.work() and clock.boot_ns() >= errand.settle_at and self._settle(errand):
                errand.close()
                self._errands.remove(errand)
                self._claim_at = 0
            elif errand.extend_at:
                self._keep(errand, is_time)

    def _stop(self) -> None:
        for errand in self._errands:
            if self._stops > 1:
                errand.kill()
            else:
                errand.end(GRACE_S)
        self._stopped = self._stops

    # the claims

    def _keep(self, errand: Errand, look: bool) -> None:
        """Extend the lease when it is time, or when the task is no longer ours: that is refused with the reason."""
        now, task_id, token = clock.boot_ns(), errand.message.task_id, errand.message.token
        try:
            if now >= errand.extend_at or (look and self._status(task_id, token) != "running"):
                self._extend(errand, task_id, token)
        except _SOON as error:
            self._say(str(error))
            errand.extend_at = now + _SECOND
            if now >= errand.ends_at:
                self._lose(errand, f"task {task_id}: its lease ended: leaving what was done for it")

    def _extend(self, errand: Errand, task_id: str, token: str) -> None:
        try:
            self._queue.extend(task_id, self._lease, token)
            self._hold(errand)
        except DataError as error:
            if self._status(task_id, token) == "completed":
                errand.extend_at = 0  # the command has said so itself, and tidies up
            else:
                self._lose(errand, str(error))

    def _status(self, task_id: str, token: str) -> str | None:
        return reading.status(self._queue.database, task_id, token)

    def _hold(self, errand: Errand) -> None:
        now, span = clock.boot_ns(), int(self._lease * _SECOND)
        errand.extend_at, errand.ends_at = now + span // 3, now + span

    def _lose(self, errand: Errand, why: str) -> None:
        self._say(why)
        errand.lost, errand.extend_at = True, 0
        self._outcome = errors.DATA
        errand.end(GRACE_S)

    # the end

    def _settle(self, errand: Errand) -> bool:
        """Say how the task ended; False: it could not be said, and will be tried again."""
        if errand.lost:
            return True
        try:
            self._report(errand)
            self._outcome = errand.code
        except DataError as error:
            self._lose(errand, str(error))
        except _SOON as error:
            self._say(str(error))
            errand.settle_at = clock.boot_ns() + _SECOND
            return clock.boot_ns() >= errand.ends_at
        return True

    def _report(self, errand: Errand) -> None:
        queue, code, output = self._queue, errand.code, errand.output()
        assert code is not None
        task_id, token = errand.message.task_id, errand.message.token
        if code == errors.OK:
            queue.mark_completed(task_id, token=token, exit_code=code, output=output)
        elif code == errors.LATER:
            queue.release(task_id, token, queue.rules.first_rest)
        elif self._stopped and code != errors.DATA:
            queue.release(task_id, token)
        else:
            why = f"{os.path.basename(self._argv[0])} ended with {code}" + _last_line(output)
            queue.mark_failed(task_id, why, token, code != errors.DATA, code, output)

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            print(f"orc-task: {clean(text)}", file=sys.stderr, flush=True)


def _last_line(output: str) -> str:
    said = output.rstrip().rpartition("\n")[2].strip()
    return f": {said[:200]}" if said else ""
