"""Gives signs of life, and hears the answer; the receiving end is `heartbeat`.

From inside the agent's process tree a sign goes to the monitor's Unix socket: a connected datagram socket takes answers
from nobody else, so it needs no key. From elsewhere it goes over UDP, signed, and only a signed answer to this very
sign is believed. When nobody answers, the sign is left in a file, signed, where the monitor finds it when it is back.
"""

from __future__ import annotations

import _socket
import os
import time

from tmux_orchestrator.ground import clock
from tmux_orchestrator.ground.errors import UnavailableError
from tmux_orchestrator.watch import datagram
from tmux_orchestrator.watch.datagram import LIMIT, REFUSED, SIGN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tmux_orchestrator.agents.registry import Agent
    from tmux_orchestrator.ground.paths import Home

PATIENCE_S = 2.0  # a monitor that types, looks or starts somebody answers a little later
_TRIES = 3  # a datagram may be lost on its way, either way


class Away(UnavailableError):
    """Nobody answered."""


class Pulse:
    """One sender; each sign has the next number."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._id = int.from_bytes(os.urandom(8), "big")
        self._count = 0

    def inside(self, key: str) -> tuple[int, str]:
        """Kind and text of the answer to a sign of the agent in whose process tree this process is. Raises Away."""
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
        try:
            sock.bind("")  # a name of the kernel's choice, to be answered at
            _connect(sock, datagram.socket_file(self.home))
            return self._ask(sock, self._sign(key), PATIENCE_S, _as_it_is)
        except OSError as error:
            raise Away(f"no monitor listens ({error.strerror or 'no answer'})") from None
        finally:
            sock.close()

    def signed(self, key: str, host: str, port: int) -> tuple[int, str]:
        """The same from anywhere, over UDP. Raises Away, and what `load_key` raises."""
        signer = self._signer()
        try:
            name = host.encode() if host.isascii() else host  # a str would load the codec of international names
            family, kind, proto, _, address = _socket.getaddrinfo(name, port, 0, _socket.SOCK_DGRAM)[0]
            sock = _socket.socket(family, kind, proto)
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", error)
            raise Away(f"{host} port {port} cannot be reached ({why})") from None
        try:
            sock.connect(address)
            for _ in range(_TRIES):
                body = self._sign(key)
                try:
                    return self._ask(sock, body + signer.tag(body), PATIENCE_S / _TRIES, signer.opened)
                except TimeoutError:
                    continue
            raise Away(f"nobody who has our key answers at {host} port {port}")
        except OSError as error:
            raise Away(f"no monitor listens at {host} port {port} ({error.strerror})") from None
        finally:
            sock.close()

    def leave(self, agent: Agent) -> None:
        """Leave a sign for the monitor that comes back. Raises SystemFailure, and what `load_key` raises."""
        from tmux_orchestrator.agents import beats
        from tmux_orchestrator.ground import files

        body = self._sign(agent.key)
        files.replace(beats.left_file(self.home, agent), body + self._signer().tag(body), sync=False)

    def _sign(self, key: str) -> bytes:
        self._count += 1
        return datagram.pack(SIGN, self._id, self._count, clock.now_ns(), key.encode("utf-8", "surrogateescape"))

    def _signer(self) -> datagram.Signer:
        return datagram.Signer(datagram.load_key(self.home), _sha256())

    def _ask(
        self, sock: _socket.socket, sign: bytes, seconds: float, opened: Callable[[bytes], bytes]
    ) -> tuple[int, str]:
        """Send the sign and wait for its answer; what is none is passed over. Raises OSError, TimeoutError."""
        end = time.monotonic() + seconds
        sock.settimeout(seconds)
        sock.send(sign)
        while True:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError
            sock.settimeout(left)
            try:
                kind, sender, counter, _, text = datagram.unpack(opened(sock.recv(LIMIT + 1)))
            except ValueError:
                continue
            if SIGN < kind <= REFUSED and sender == self._id and counter == self._count:
                return kind, text.decode("utf-8", "replace")


def _as_it_is(data: bytes) -> bytes:
    return data


def _connect(sock: _socket.socket, path: str) -> None:
    folder, _, name = path.rpartition("/")
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{fd}/{name}")  # the path itself may be longer than an address can be
    finally:
        os.close(fd)


def _sha256() -> Callable[[bytes], Any]:
    """The interpreter's own, where it is: hashlib loads OpenSSL, which takes as long as all the rest."""
    try:
        from _sha256 import sha256  # type: ignore[import-not-found]
    except ImportError:
        from hashlib import sha256
    return sha256  # type: ignore[no-any-return]
