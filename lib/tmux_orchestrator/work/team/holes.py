"""Gives parts of files back to the disk, by a thread: who frees gigabytes of a file that is being written waits long.

What is to be freed of one file is one range, which grows while it waits. Nothing is lost when the process ends: what
was not freed is read again by the next supervisor.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading

_HOLE = 0x02 | 0x01  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


class Holes:
    """`supported` turns False where a file system knows no holes."""

    def __init__(self) -> None:
        self.supported = True
        self._change = threading.Condition()
        self._waiting: dict[object, tuple[int, int, int]] = {}  # whose: descriptor of ours, begin, end
        self._busy: object = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def free(self, owner: object, fd: int, begin: int, end: int) -> None:
        """Have this range of the file freed; it does not wait."""
        if begin >= end:
            return
        with self._change:
            before = self._waiting.get(owner)
            own, first = (os.dup(fd), begin) if before is None else before[:2]
            self._waiting[owner] = own, min(first, begin), end
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="holes", daemon=True)
                self._thread.start()
            self._change.notify_all()

    def is_done(self, owner: object) -> bool:
        """Is nothing left to be freed of the owner's file?"""
        with self._change:
            return owner not in self._waiting and owner is not self._busy

    def close(self, seconds: float) -> None:
        """What waits is freed, if that takes no longer."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            with self._change:
                while not self._waiting:
                    if self._closed:
                        return
                    self._change.wait()
                self._busy = next(iter(self._waiting))
                fd, begin, end = self._waiting.pop(self._busy)
            if _libc.fallocate(fd, _HOLE, begin, end - begin) != 0 and ctypes.get_errno() in _UNSUPPORTED:
                self.supported = False
            os.close(fd)
            with self._change:
                self._busy = None
