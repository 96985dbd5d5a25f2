"""Signs of life over real sockets: what is taken, answered and kept, who is missed, and how they are sent."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from support_tmux import wait_until
from tmux_orchestrator.agents import beats, registry, roster
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.ground import clock, config, proc
from tmux_orchestrator.ground.errors import NotPermitted
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.watch import datagram, pulse
from tmux_orchestrator.watch.datagram import ACK, LIMIT, NUDGE, REFUSED, SIGN, Signer
from tmux_orchestrator.watch.heartbeat import GAP_NS, Listener
from tmux_orchestrator.watch.pulse import Away, Pulse

S = 1_000_000_000


@pytest.fixture(autouse=True)
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    free = free_port()
    monkeypatch.setenv("ORC_HEARTBEAT_PORT", str(free))
    return free


@pytest.fixture
def own(home: Home) -> Agent:
    """This test's process, registered."""
    return registered(home, "dev", os.getpid())


@pytest.fixture
def stranger(home: Home) -> Iterator[Agent]:
    """An agent in whose process tree this process is not."""
    child = subprocess.Popen(["sleep", "1000"])
    yield registered(home, "other", child.pid)
    child.kill()
    child.wait()


class Clocks:
    """The wall clock and the boot clock, under control."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.boot = clock.now_ns(), clock.boot_ns()
        monkeypatch.setattr(clock, "now_ns", lambda: self.wall)
        monkeypatch.setattr(clock, "boot_ns", lambda: self.boot)

    def go(self, seconds: float) -> None:
        self.wall += int(seconds * S)
        self.boot += int(seconds * S)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def registered(home: Home, name: str, pid: int) -> Agent:
    fields = {"name": name, "session": "team", "role": name, "pid": pid, "pid_start": proc.start_time(pid)}
    roster.register(home, Agent(fields))
    return next(one for one in registry.load(home) if one.name == name)


def listener(home: Home) -> closing[Listener]:
    made = Listener(home, config.load(home))
    assert made.news() == "" and len(made.filenos()) == 2
    return closing(made)


def send_signed(home: Home, port: int, counter: int = 1, key: str = "team:dev", sender: int = 7) -> socket.socket:
    """A signed sign on its way; the socket on which its answer comes."""
    body = datagram.pack(SIGN, sender, counter, clock.now_ns(), key.encode())
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(10)
    sock.sendto(body + Signer(datagram.load_key(home), hashlib.sha256).tag(body), ("127.0.0.1", port))
    return sock


def send_local(home: Home, data: bytes) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.settimeout(10)
    sock.bind("")
    sock.sendto(data, datagram.socket_file(home))
    return sock


def local_sign(key: str = "team:dev", counter: int = 1) -> bytes:
    return datagram.pack(SIGN, 7, counter, clock.now_ns(), key.encode())


def counted(one: Listener) -> dict[str, int]:
    return {name: count for name, count in one.counters.items() if count}


@contextmanager
def running(home: Home) -> Iterator[Listener]:
    """One that answers meanwhile, as the monitor's loop does."""
    over, stop = os.pipe()
    with listener(home) as made:
        made.take(registry.load(home))

        def loop() -> None:
            while not made.wait([over], 0.2):
                pass

        thread = threading.Thread(target=loop)
        thread.start()
        try:
            yield made
        finally:
            os.write(stop, b"x")
            thread.join()
            os.close(over)
            os.close(stop)


# taking and answering


def test_a_signed_sign_and_its_answer(home: Home, port: int, own: Agent) -> None:
    with listener(home) as one, send_signed(home, port) as sock:
        assert one.take([own]) == {"team:dev"}
        signer = Signer(datagram.load_key(home), hashlib.sha256)
        assert datagram.unpack(signer.opened(sock.recv(LIMIT)))[:3] == (ACK, 7, 1)
        one.nudge("team:dev", "wake up")
        with send_signed(home, port, 2) as second:
            one.take([own])
            assert datagram.unpack(signer.opened(second.recv(LIMIT)))[::4] == (NUDGE, b"wake up")
        assert one.take([own]) == set() and counted(one) == {"accepted": 2}


def test_what_is_forged_replayed_or_too_long_gets_no_answer(home: Home, port: int, own: Agent) -> None:
    with listener(home) as one, send_signed(home, port) as sock:
        signer = Signer(datagram.load_key(home), hashlib.sha256)
        good = local_sign()
        for data in (
            good,
            good[:9],
            b"",
            b"x" * 5000,
            good + signer.tag(good),
            good + Signer(b"", hashlib.sha256).tag(good),
        ):
            sock.sendto(data, ("127.0.0.1", port))
        one.take([own])
        assert datagram.unpack(signer.opened(sock.recv(LIMIT)))[0] == ACK
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(LIMIT)
        assert counted(one) == {"accepted": 1, "replayed": 1, "forged": 4, "oversize": 1}


def test_over_the_unix_socket_the_kernel_says_whose_process_it_is(home: Home, own: Agent, stranger: Agent) -> None:
    with listener(home) as one:
        assert stat.S_IMODE(os.stat(datagram.socket_file(home)).st_mode) == 0o600
        answers = []
        for data in (local_sign(), local_sign("team:other"), local_sign("team:nobody")):
            with send_local(home, data) as sock:
                one.take([own, stranger])
                kind, _, _, _, text = datagram.unpack(sock.recv(LIMIT))
                answers.append((kind, text))
        assert answers == [(ACK, b""), (REFUSED, b"foreign"), (REFUSED, b"unknown")]
        for data in (b"", b"x" * 2000, local_sign()[:20]):
            with send_local(home, data):
                one.take([own, stranger])
        assert counted(one) == {"accepted": 1, "foreign": 1, "unknown": 1, "forged": 2, "oversize": 1}


def test_who_does_not_listen_for_the_answer_harms_nobody(home: Home, port: int, own: Agent) -> None:
    with listener(home) as one:
        for counter in range(1, 60):
            send_local(home, local_sign()).close()
            send_signed(home, port, counter).close()
            one.take([own])
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nameless:
            nameless.connect(datagram.socket_file(home))
            nameless.send(local_sign())
            assert one.take([own]) == {"team:dev"}
        with send_local(home, local_sign()) as full:
            for _ in range(100):
                full.sendto(local_sign(), datagram.socket_file(home))
                one.take([own])
        assert counted(one) == {"accepted": 59 + 59 + 1 + 101}


def test_signs_are_answered_while_it_waits_for_others(home: Home, own: Agent) -> None:
    with running(home):
        pulse_ = Pulse(home)
        assert [pulse_.inside("team:dev")[0] for _ in range(20)] == [ACK] * 20


def test_it_waits_for_others_and_no_longer_than_it_may(home: Home) -> None:
    read, write = os.pipe()
    with listener(home) as one:
        assert one.wait([-1, read], 0.01) == set()
        os.write(write, b"x")
        assert one.wait([-1, read], 60) == {read}
    os.close(read)
    os.close(write)


# whom it misses


def test_a_silent_one_is_missed_at_its_limit_and_a_sign_ends_that(home: Home, own: Agent, clocks: Clocks) -> None:
    with listener(home) as one:
        one.take([own])
        assert one.missed(clocks.boot) == [] and one.next_due() == 1 << 63, "it never gave a sign"
        with send_local(home, local_sign()):
            one.take([own])
        given = clocks.boot
        for _ in range(119):
            clocks.go(1)
            one.take([own])
            assert one.missed(clocks.boot) == [] and one.next_due() == given + 120 * S
        clocks.go(1)
        one.take([own])
        assert one.missed(clocks.boot) == ["team:dev"] and one.silences([own]) == {"team:dev": given}
        with send_local(home, local_sign()):
            one.take([own])
        assert one.missed(clocks.boot) == []


def test_a_clock_that_is_set_makes_nobody_silent(home: Home, own: Agent, clocks: Clocks) -> None:
    with listener(home) as one:
        with send_local(home, local_sign()):
            one.take([own])
        for step in (86_400, -3 * 86_400):
            clocks.wall += step * S
            clocks.go(1)
            one.take([own])
            assert one.missed(clocks.boot) == []


def test_a_new_process_owes_no_sign(home: Home, own: Agent, stranger: Agent, clocks: Clocks) -> None:
    with listener(home) as one:
        with send_local(home, local_sign()):
            one.take([own])
        newer = Agent(own.to_dict() | {"pid": stranger.pid, "pid_start": stranger.pid_start})
        for _ in range(200):
            clocks.go(1)
            one.take([newer])
        assert one.missed(clocks.boot) == [] and beats.when(newer, one.judge.last) is None


def test_when_nobody_listened_nobody_was_silent(home: Home, own: Agent, clocks: Clocks) -> None:
    with listener(home) as one:
        with send_local(home, local_sign()):
            one.take([own])
        clocks.go(3600)  # asleep, or stopped
        one.take([own])
        assert one.missed(clocks.boot) == [] and one.next_due() == clocks.boot + 120 * S
        for _ in range(12):
            clocks.go(GAP_NS / S)
            one.take([own])
        assert one.missed(clocks.boot) == ["team:dev"]


# what it keeps


def test_what_was_known_is_known_after_a_restart(home: Home, own: Agent, clocks: Clocks) -> None:
    with listener(home) as one, send_local(home, local_sign()):
        one.take([own])
        given, wall = clocks.boot, clocks.wall
    clocks.go(130)
    assert beats.when(own, beats.load(home)[0]) == clock.stamp(wall)
    assert stat.S_IMODE(os.stat(beats.file(home)).st_mode) == 0o600
    with listener(home) as two:
        two.take([own])
        assert two.silences([own]) == {"team:dev": given} and two.missed(clocks.boot) == ["team:dev"]
        assert counted(two) == {"accepted": 1}


def test_who_gives_signs_by_udp_is_given_time_after_a_restart(
    home: Home, own: Agent, port: int, clocks: Clocks
) -> None:
    with listener(home) as one, send_signed(home, port):
        one.take([own])
    clocks.go(1000)
    with listener(home) as two:
        two.take([own])
        assert two.missed(clocks.boot) == [] and two.next_due() == clocks.boot + 120 * S


def test_it_writes_once_a_second_at_most_and_only_what_changed(home: Home, own: Agent, clocks: Clocks) -> None:
    with listener(home) as one:
        written = set()
        for _ in range(40):
            clocks.go(0.1)
            with send_local(home, local_sign()):
                one.take([own])
            written.add(os.stat(beats.file(home)).st_mtime_ns if os.path.exists(beats.file(home)) else 0)
        assert len(written - {0}) <= 5
        clocks.go(2)
        one.take([own])
        before = os.stat(beats.file(home)).st_mtime_ns
        for _ in range(5):
            clocks.go(2)
            one.take([own])
        assert os.stat(beats.file(home)).st_mtime_ns == before


@pytest.mark.parametrize("content", [b"", b"[", b"[]", b'{"boot": 1}', b'{"beats": {"a": 1}, "counters": {}}'])
def test_a_damaged_memory_counts_as_none(home: Home, own: Agent, content: bytes) -> None:
    os.makedirs(home.run, exist_ok=True)
    with open(beats.file(home), "wb") as file:
        file.write(content)
    with listener(home) as one, send_local(home, local_sign()):
        assert one.silences([own]) == {} and one.take([own]) == {"team:dev"}


def test_what_another_boot_kept_counts_as_none(home: Home, own: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    with listener(home) as one, send_local(home, local_sign()):
        one.take([own])
    monkeypatch.setattr(clock, "boot_id", lambda: "another")
    assert beats.load(home) == ({}, {})


def test_a_disk_that_refuses_is_told_once_and_stops_nothing(home: Home, own: Agent, clocks: Clocks) -> None:
    with listener(home) as one:
        os.makedirs(beats.file(home))  # a folder in its place: rename fails, also for root
        for _ in range(3):
            clocks.go(2)
            with send_local(home, local_sign()):
                assert one.take([own]) == {"team:dev"}
        assert "beats.json" in one.news() and one.news() == ""
        os.rmdir(beats.file(home))
        clocks.go(2)
        one.take([own])
        assert one.news() == "" and beats.load(home)[1]["accepted"] == 3


# where it listens


def test_a_port_that_is_taken_is_told_once_and_taken_later(home: Home, own: Agent, port: int, clocks: Clocks) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", port))
        one = Listener(home, config.load(home))
        assert f"127.0.0.1 port {port}" in one.news() and one.news() == "" and len(one.filenos()) == 1
        with send_local(home, local_sign()):
            assert one.take([own]) == {"team:dev"}, "the Unix socket does its work meanwhile"
    with closing(one):
        clocks.go(6)
        one.take([own])
        assert len(one.filenos()) == 2
        with send_signed(home, port):
            assert one.take([own]) == {"team:dev"}


def test_another_port_is_taken_up(home: Home, own: Agent, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with listener(home) as one:
        other = free_port()
        monkeypatch.setenv("ORC_HEARTBEAT_PORT", str(other))
        one.heed(config.load(home))
        with send_signed(home, port), send_signed(home, other, sender=8):
            assert one.take([own]) == {"team:dev"}
        assert counted(one) == {"accepted": 1} and set(one.judge._seen) == {8}


def test_a_key_that_is_replaced_is_taken_up(home: Home, own: Agent, port: int, clocks: Clocks) -> None:
    with listener(home) as one:
        os.unlink(datagram.key_file(home))
        datagram.load_key(home)
        clocks.go(2)
        one.take([own])
        with send_signed(home, port):
            assert one.take([own]) == {"team:dev"}
        os.chmod(datagram.key_file(home), 0o644)
        os.utime(datagram.key_file(home))
        clocks.go(2)
        one.take([own])
        assert "read by others" in one.news()
        with send_local(home, local_sign()):
            assert one.take([own]) == {"team:dev"}, "which needs no key"


def test_a_long_path_and_what_a_crash_left_are_no_hindrance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "PATIENCE_S", 0.1)
    folder = tempfile.mkdtemp(prefix="orc-test-")
    try:
        long = Home(f"{folder}/{'x' * 120}")
        os.makedirs(long.run, 0o700)
        with open(long.run + "/monitor.sock.tmp", "w", encoding="ascii"):
            pass
        for _ in range(2):  # the first one is not closed as it should be
            one = Listener(long, config.load(long))
            agent = registered(long, "dev", os.getpid())
            assert one.news() == ""
            with pytest.raises(Away):
                Pulse(long).inside("team:dev")  # nobody answers: we are the one who would
            assert one.take([agent]) == {"team:dev"}
            one._udp.close()  # type: ignore[union-attr]
            one._unix.close()  # type: ignore[union-attr]
    finally:
        shutil.rmtree(folder)


# sending


def test_a_sign_from_inside_needs_no_key_and_one_from_elsewhere_is_signed(
    home: Home, own: Agent, port: int, stranger: Agent
) -> None:
    with running(home) as one:
        assert Pulse(home).inside("team:dev") == (ACK, "")
        assert Pulse(home).inside("team:other") == (REFUSED, "foreign")
        assert Pulse(home).signed("team:other", "127.0.0.1", port) == (ACK, "")
        assert Pulse(home).signed("team:nobody", "127.0.0.1", port) == (REFUSED, "unknown")
        one.nudge("team:dev", "so löst man das – 你好")
        assert Pulse(home).inside("team:dev") == (NUDGE, "so löst man das – 你好")


def test_without_a_monitor_it_is_away_at_once(home: Home, own: Agent, port: int) -> None:
    with pytest.raises(Away, match="No such file"):
        Pulse(home).inside("team:dev")
    with listener(home):
        pass
    with pytest.raises(Away):
        Pulse(home).inside("team:dev")
    with pytest.raises(Away, match="refused"):
        Pulse(home).signed("team:dev", "127.0.0.1", port)
    with pytest.raises(Away, match="cannot be reached"):
        Pulse(home).signed("team:dev", "no such host", port)


def test_an_answer_that_is_not_the_monitors_is_not_believed(
    home: Home, own: Agent, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "PATIENCE_S", 0.3)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as liar:
        liar.bind(("127.0.0.1", port))
        liar.settimeout(10)
        seen: list[bytes] = []

        def lie() -> None:
            signer, other = Signer(datagram.load_key(home), hashlib.sha256), Signer(b"x", hashlib.sha256)
            for _ in range(3):
                data, whence = liar.recvfrom(LIMIT)
                _, sender, counter, ns, _ = datagram.unpack(data[:-32])
                seen.append(data)
                ack = datagram.pack(ACK, sender, counter, ns, b"")
                stale = datagram.pack(ACK, sender, counter - 1, ns, b"")
                for answer in (ack + other.tag(ack), ack, b"", stale + signer.tag(stale), data, b"x" * 2000):
                    liar.sendto(answer, whence)

        thread = threading.Thread(target=lie)
        thread.start()
        with pytest.raises(Away, match="nobody who has our key"):
            Pulse(home).signed("team:dev", "127.0.0.1", port)
        thread.join()
        assert len(set(seen)) == 3, "each try is another sign"


def test_an_answer_that_is_lost_is_asked_for_again(home: Home, own: Agent, port: int) -> None:
    datagram.load_key(home)
    lossy = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    lossy.bind(("127.0.0.1", port))
    lossy.settimeout(10)
    made: list[Listener] = []

    def lose() -> None:
        lossy.recvfrom(LIMIT)
        lossy.close()
        made.append(Listener(home, config.load(home)))
        wait_until(lambda: made[0].take([own]), what="the second try")

    thread = threading.Thread(target=lose)
    thread.start()
    assert Pulse(home).signed("team:dev", "127.0.0.1", port) == (ACK, "")
    thread.join()
    made[0].close()


def test_what_was_left_is_found_by_the_monitor_that_comes_back(home: Home, own: Agent, clocks: Clocks) -> None:
    registered(home, "dev", os.getpid())
    clocks.go(60)
    Pulse(home).leave(own)
    path = beats.left_file(home, own)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600 and path.endswith("/signs/beats/team@dev.beat")
    given = clocks.boot
    clocks.go(30)
    with listener(home) as one:
        assert one.take([own]) == {"team:dev"}
        assert one.silences([own]) == {"team:dev": given} and not os.path.exists(path)
        clocks.go(30)
        Pulse(home).leave(own)
        assert one.take([own]) == {"team:dev"}, "also one that somebody left while we were only slow"
        with open(beats.left_dir(home) + "/x.beat", "wb") as file:
            file.write(b"x" * 5000)
        clocks.go(2)
        one.take([own])
        assert os.listdir(beats.left_dir(home)) == [] and counted(one) == {"accepted": 2, "forged": 1}


def test_without_a_private_key_nothing_is_left(home: Home, own: Agent) -> None:
    datagram.load_key(home)
    os.chmod(datagram.key_file(home), 0o644)
    with pytest.raises(NotPermitted):
        Pulse(home).leave(own)
