"""Receives signs of life and answers them; knows who has been silent for how long.

They come over UDP (`heartbeat.host`, `heartbeat.port`), over the Unix socket `logs/run/monitor.sock`, and in the files
that were left while nobody listened; `judge` says which count. The answer is `ack`, or the nudge that waits for the
agent, once. A flood is taken in portions, so that the loop around it goes on. Nothing is published: signs are state, in
`logs/run/beats.json`, of which a crash loses a second at most.

Silence counts only while somebody listened. Who gave signs over UDP before this listener began is given its time anew,
and so is everybody after a gap (the machine slept, the monitor was stopped); local signs meanwhile are in files.
"""

from __future__ import annotations

import hashlib
import os
import select
import struct
from _socket import AF_INET, AF_INET6, AF_UNIX, CMSG_SPACE, SO_PASSCRED, SO_RCVBUF, SOCK_DGRAM, SOL_SOCKET, socket
from collections.abc import Collection

from tmux_orchestrator.agents import beats, registry
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.ground import clock, files
from tmux_orchestrator.ground.config import Config
from tmux_orchestrator.ground.errors import OrcError
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.watch import datagram
from tmux_orchestrator.watch.datagram import LIMIT
from tmux_orchestrator.watch.judge import Judge

GAP_NS = 10_000_000_000  # when nobody took signs for so long, nobody is to blame for silence
_SECOND_NS = 1_000_000_000
_RETRY_NS = 5 * _SECOND_NS
_AT_ONCE = 1024  # datagrams that are taken from one socket before the loop goes on
_PEERS_AT_ONCE = 128  # these cost a look into /proc each
_BUFFER = 1 << 22
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class Listener:
    """Owns both sockets, the key and the last signs. What goes wrong is tried again, and told by `news`."""

    def __init__(self, home: Home, settings: Config) -> None:
        self.home = home
        self._problems = {"listen": "", "key": "", "keep": ""}
        self._told = ""
        self._key_stamp: tuple[int, int] | None = None
        nobodys = datagram.Signer(os.urandom(32), hashlib.sha256)
        self.judge = Judge(nobodys, *beats.load(home), lambda: registry.load(home))
        began = self.judge.boot
        self._excused = {key: began for key, beat in self.judge.last.items() if beat.via == beats.SIGNED}
        self._taken_ns, self._deaf_until, self._looked_ns, self._retry_ns = began, 0, 0, 0
        self._left_stamp = -1
        self._kept_ns = 0  # when the signs were last written down
        self._agents: list[Agent] = []
        self._unix: socket | None = None
        self._udp: socket | None = None
        self._address = ("", 0)
        self._limit_ns = 0
        self._renew_key()
        self.heed(settings)

    def heed(self, settings: Config) -> None:
        """Listen where the configuration says from now on."""
        self._limit_ns = int(settings.get("heartbeat.missed_after") * 1e9)
        address = (settings.get("heartbeat.host"), settings.get("heartbeat.port"))
        if address != self._address:
            if self._udp is not None:
                self._udp.close()
            self._udp, self._address, self._retry_ns = None, address, 0
            self._listen()

    def filenos(self) -> list[int]:
        return [one.fileno() for one in (self._unix, self._udp) if one is not None]

    def close(self) -> None:
        """Give the sockets up, and write down what is known."""
        if self._unix is not None:
            self._unix.close()
            _unlink(datagram.socket_file(self.home))
        if self._udp is not None:
            self._udp.close()
        self._unix = self._udp = None
        self._keep()

    @property
    def counters(self) -> dict[str, int]:
        return self.judge.counters

    def news(self) -> str:
        """What is wrong, if that is not what was told last; "" for nothing new."""
        wrong = "; ".join(filter(None, self._problems.values()))
        if wrong == self._told:
            return ""
        self._told = wrong
        return wrong

    # what the loop asks

    def take(self, agents: list[Agent]) -> set[str]:
        """Take in what has come, and answer it; the keys of those registered agents that gave a sign."""
        self._agents = agents
        self.judge.know(agents)
        return self._take(self.filenos())

    def wait(self, fds: list[int], seconds: float) -> set[int]:
        """Those that have something to read, as soon as one has or after `seconds`; signs are answered meanwhile.

        -1 stands for none, as for `watch.readable`.
        """
        signs, poll = self.filenos(), select.poll()
        for fd in [*signs, *fds]:
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        end = clock.boot_ns() + int(seconds * 1e9)
        while True:
            left = end - clock.boot_ns()
            ready = {fd for fd, _ in poll.poll(max(0, -(-left // 1_000_000)))}
            others = ready.difference(signs)
            if others or not ready:
                return others
            self._take(ready)
            if left <= 0 or self.filenos() != signs:
                return others

    def silences(self, agents: list[Agent]) -> dict[str, int]:
        """Since when (boot clock) each of these agents has been silent that once gave a sign, as the same process."""
        found = {}
        for agent in agents:
            beat = self.judge.last.get(agent.key)
            if beat is not None and beat.is_of(agent):
                found[agent.key] = max(beat.boot_ns, self._deaf_until, self._excused.get(agent.key, 0))
        return found

    def missed(self, now: int) -> list[str]:
        """Who has been silent at `now` (boot clock) for `heartbeat.missed_after` or longer."""
        return [key for key, since in self.silences(self._agents).items() if now - since >= self._limit_ns]

    def next_due(self) -> int:
        """When, on the boot clock, the next silence will have lasted too long; far off when none can."""
        due = (since + self._limit_ns for since in self.silences(self._agents).values())
        return min((at for at in due if at > self._taken_ns), default=1 << 63)

    def nudge(self, key: str, text: str) -> None:
        """The answer to this agent's next sign; a newer one takes its place."""
        self.judge.nudges[key] = text.encode("utf-8", "replace")

    # the sockets

    def _take(self, ready: Collection[int]) -> set[str]:
        boot = clock.boot_ns()
        self.judge.begin(clock.now_ns(), boot)
        if boot - self._taken_ns > GAP_NS:
            self._deaf_until = boot
        self._taken_ns = boot
        if self._udp is not None and self._udp.fileno() in ready:
            self._take_signed(self._udp)
        if self._unix is not None and self._unix.fileno() in ready:
            self._take_peers(self._unix)
        if boot >= self._looked_ns + _SECOND_NS:
            self._looked_ns = boot
            self._look_after()
        if self.judge.changed and boot >= self._kept_ns + _SECOND_NS:
            self._keep()  # who asks right after a single sign sees it
        return self.judge.heard

    def _take_signed(self, udp: socket) -> None:
        signed, receive, send = self.judge.signed, udp.recvfrom, udp.sendto
        for _ in range(_AT_ONCE):
            try:
                data, whence = receive(LIMIT + 1)
            except OSError:
                return  # that was all
            answer = signed(data)
            if answer:
                try:
                    send(answer, whence)
                except OSError:
                    pass  # who asked does not listen

    def _take_peers(self, unix: socket) -> None:
        for _ in range(_PEERS_AT_ONCE):
            try:
                data, told, _, whence = unix.recvmsg(LIMIT + 1, CMSG_SPACE(_CREDENTIALS.size))
            except OSError:
                return
            pid, uid, _ = _CREDENTIALS.unpack(told[0][2]) if told else (0, -1, -1)
            answer = self.judge.peer(data, pid if uid == os.geteuid() else 0)
            if answer and whence:
                try:
                    unix.sendto(answer, whence)
                except OSError:
                    pass

    def _listen(self) -> None:
        """Open what is not open; another try comes later."""
        if (self._unix is not None and self._udp is not None) or clock.boot_ns() < self._retry_ns:
            return
        wrong, where = "", datagram.socket_file(self.home)
        try:
            self._unix = self._unix or _open_unix(self.home)
            where = f"{self._address[0]} port {self._address[1]}"
            self._udp = self._udp or _open_udp(*self._address)
        except (OSError, OrcError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            wrong = f"cannot listen for heartbeats at {where} ({why}): see heartbeat.host and heartbeat.port"
            self._retry_ns = clock.boot_ns() + _RETRY_NS
        self._problems["listen"] = wrong

    # once a second

    def _look_after(self) -> None:
        self._listen()
        self._renew_key()
        self._take_left()
        self.judge.forget_others()

    def _take_left(self) -> None:
        folder = beats.left_dir(self.home)
        try:
            stamp = os.stat(folder).st_mtime_ns
            if stamp == self._left_stamp:
                return
            names = [name for name in os.listdir(folder) if name.endswith(".beat")]
        except OSError:
            return
        self._left_stamp = stamp
        for name in names:
            try:
                data = files.read(f"{folder}/{name}", LIMIT) or b""
            except OrcError:
                data = b""
            _unlink(f"{folder}/{name}")
            self.judge.left(data)

    def _renew_key(self) -> None:
        """The key of another machine may have been put in place of ours."""
        try:
            stamp = _stamp(self.home)
            if stamp is None or stamp != self._key_stamp:
                self.judge.signer = datagram.Signer(datagram.load_key(self.home), hashlib.sha256)
                self._key_stamp = _stamp(self.home)
            self._problems["key"] = ""
        except (OSError, OrcError) as error:
            self._problems["key"] = str(error)

    def _keep(self) -> None:
        if not self.judge.changed:
            return
        self._kept_ns = clock.boot_ns()
        try:
            beats.save(self.home, self.judge.last, self.judge.counters)
            self.judge.changed, self._problems["keep"] = False, ""
        except OrcError as error:
            self._problems["keep"] = str(error)


def _stamp(home: Home) -> tuple[int, int] | None:
    try:
        found = os.stat(datagram.key_file(home))
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def _open_unix(home: Home) -> socket:
    """Bound under another name, made private, and only then called what senders look for."""
    files.make_dir(home.run)
    folder = os.open(home.run, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    made, name = socket(AF_UNIX, SOCK_DGRAM), "monitor.sock.tmp"
    try:
        _unlink(f"{home.run}/{name}")
        made.setsockopt(SOL_SOCKET, SO_PASSCRED, 1)
        made.setblocking(False)
        made.bind(f"/proc/self/fd/{folder}/{name}")  # the folder's own path may be longer than an address can be
        os.chmod(f"{home.run}/{name}", 0o600)
        os.rename(f"{home.run}/{name}", datagram.socket_file(home))
        return made
    except BaseException:
        made.close()
        raise
    finally:
        os.close(folder)


def _open_udp(host: str, port: int) -> socket:
    made = socket(AF_INET6 if ":" in host else AF_INET, SOCK_DGRAM)
    try:
        made.setsockopt(SOL_SOCKET, SO_RCVBUF, _BUFFER)
        made.setblocking(False)
        made.bind((host, port))
        return made
    except BaseException:
        made.close()
        raise


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
