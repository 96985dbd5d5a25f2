"""A leaky bucket that all processes of a home share, one small locked file per key under logs/run/buckets/.

Time is the kernel's since boot, which no step of the wall clock moves. The state is written before the grant is
told, in place and in one write, so a kill -9 at any moment costs at most the grant that nobody heard of. After a
reboot nothing has leaked, for nobody knows how long it took; a damaged file is a full bucket. Both err on the side
that never grants too much, and are over after one burst's time.
"""

from __future__ import annotations

import os
import time

from tmux_orchestrator.delivery.bucket import Bucket
from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.errors import SystemFailure, UsageError
from tmux_orchestrator.ground.locks import Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tmux_orchestrator.ground.paths import Home

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_KEY = _LETTERS | frozenset("._:@+=,%-")
_SIZE = 128  # the one record of a file: boot id, level, interval and stamp, filled up with spaces


def check_key(key: str) -> str:
    """The key, which is also the file's name. Raises UsageError."""
    if not (0 < len(key) <= 64 and key[0] in _LETTERS and _KEY.issuperset(key)):
        raise UsageError(f"{key!r} is no key: 1 to 64 of letters, digits and . _ : @ + = , % -, the first no sign")
    return key


class SharedBucket:
    """The bucket of one key. Raises SystemFailure when its file cannot be read or written."""

    def __init__(self, home: Home, key: str, count: int, period_ns: int, burst: int) -> None:
        self.path = f"{home.run}/buckets/{check_key(key)}"
        self._shape = (count, period_ns, burst)
        self._boot = clock.boot_id()

    def peek(self, cost: int) -> int:
        """Nanoseconds until `cost` would be granted, 0 for now."""
        with Lock(self.path) as lock:
            return self._read(lock.fd).peek(clock.boot_ns(), cost)

    def take(self, cost: int) -> int:
        """As `peek`; 0 means granted."""
        with Lock(self.path) as lock:
            bucket = self._read(lock.fd)
            wait_ns = bucket.take(clock.boot_ns(), cost)
            self._write(lock.fd, bucket)  # a refusal too: it mends a damaged file, which would stay full for ever
            return wait_ns

    def wait(self, cost: int, limit_ns: int | None) -> int:
        """Take, waiting at most so long; 0 means granted, else the nanoseconds that it would still have taken."""
        end = None if limit_ns is None else time.monotonic_ns() + limit_ns
        while wait_ns := self.take(cost):
            if end is not None and time.monotonic_ns() + wait_ns > end:
                break
            time.sleep(wait_ns / 1e9)
        return wait_ns

    def _read(self, fd: int) -> Bucket:
        bucket = Bucket(*self._shape)
        now_ns = clock.boot_ns()
        try:
            data = os.pread(fd, _SIZE, 0)
        except OSError as error:
            raise SystemFailure(f"cannot read {self.path}: {error.strerror}") from None
        if not data:
            return bucket
        fields = data.split()
        if len(data) != _SIZE or len(fields) != 4 or not all(field.isdigit() for field in fields[1:]):
            bucket.fill(now_ns)
            return bucket
        level_ns, interval_ns, stamp_ns = (int(field) for field in fields[1:])
        # Another rate for the same key: as many events are in the bucket as before.
        bucket.level_ns = -(-level_ns * bucket.interval_ns // max(1, interval_ns))
        bucket.stamp_ns = stamp_ns if fields[0].decode("ascii", "replace") == self._boot else now_ns
        return bucket

    def _write(self, fd: int, bucket: Bucket) -> None:
        record = f"{self._boot} {bucket.level_ns} {bucket.interval_ns} {bucket.stamp_ns}"
        data = record.ljust(_SIZE - 1).encode("ascii") + b"\n"
        try:
            written = os.pwrite(fd, data, 0)
        except OSError as error:
            raise SystemFailure(f"cannot write {self.path}: {error.strerror}: nothing was granted") from None
        if written != _SIZE:
            raise SystemFailure(f"cannot write {self.path}: the disk is full: nothing was granted")
