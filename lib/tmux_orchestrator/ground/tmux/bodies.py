"""The texts on their way to the kept connection's tmux, each in a private file that only we name.

tmux reads them with load-buffer, so no text is ever parsed. A file is written anew for every batch, and only after
tmux has answered for what was in it before. Giving up a connection removes its files: a tmux that was stuck and
comes back finds no text, and types nothing. No name is ever used twice, so it cannot find another text either.
A crash leaves at most a batch of files, which the next one to come removes.
"""

from __future__ import annotations

import os

from tmux_orchestrator.ground import files, proc

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Bodies:
    """Files in a folder of ours, made when they are first needed. `put` raises OSError and OrcError."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._name = ""
        self._files: list[int] = []

    def put(self, index: int, body: bytes) -> str:
        """Keep the body in the file with this index; the path of the file."""
        if not self._name:
            self._prepare()
        path = f"{self._name}-{index}"
        while len(self._files) <= index:
            self._files.append(os.open(f"{self._name}-{len(self._files)}", _FLAGS, 0o600))
        fd = self._files[index]
        # Cutting to nothing first would make the file system free and find its blocks every time.
        os.lseek(fd, 0, os.SEEK_SET)
        files.write_all(fd, body)
        os.ftruncate(fd, len(body))
        return path

    def drop(self) -> None:
        """Remove them all: what has not been read yet cannot be typed any more."""
        for index, fd in enumerate(self._files):
            os.ftruncate(fd, 0)
            os.close(fd)
            try:
                os.unlink(f"{self._name}-{index}")
            except OSError:
                pass
        self._files = []
        self._name = ""

    def _prepare(self) -> None:
        """Choose a name, and remove what crashed processes left."""
        files.make_dir(self._folder)
        for entry in os.listdir(self._folder):
            try:
                pid, start, _ = entry.split(".", 2)
                if not proc.alive(int(pid), int(start)):
                    os.unlink(f"{self._folder}/{entry}")
            except (ValueError, OSError):
                continue
        self._name = f"{self._folder}/{os.getpid()}.{proc.start_time(os.getpid())}.{os.urandom(8).hex()}"


def path_word(path: str) -> str:
    """The path as load-buffer takes it: tmux expands formats in paths."""
    return path.replace("#", "##")
