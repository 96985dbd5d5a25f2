"""The configuration file as bytes, with the status that they were read under.

A file that is saved while it is read is read again; nothing larger than a configuration is taken in.
"""

from __future__ import annotations

import os
import stat

from tmux_orchestrator.ground.errors import ConfigError

LARGEST = 256 * 1024


def read(path: str) -> tuple[bytes | None, os.stat_result | None]:
    """A YAML file and its status when it was read, None twice where there is none. Raises ConfigError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None, None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}: see who may") from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ConfigError(f"{path} is no file: put a YAML file there")
        for _ in range(10):
            before = os.fstat(fd)
            data = os.pread(fd, LARGEST + 1, 0)
            if os.fstat(fd).st_mtime_ns == before.st_mtime_ns:
                break
        return data, before
    finally:
        os.close(fd)
