"""The shared bucket: many processes, killed ones, damaged files, other boots, clocks that step."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from support_tmux import wait_until
from tmux_orchestrator.delivery import ratelimit
from tmux_orchestrator.delivery.bucket import MINUTE, SECOND, Bucket
from tmux_orchestrator.delivery.ratelimit import SharedBucket
from tmux_orchestrator.ground import clock, paths
from tmux_orchestrator.ground.errors import SystemFailure, UsageError
from tmux_orchestrator.ground.paths import Home

LIB = os.path.dirname(os.path.dirname(os.path.dirname(ratelimit.__file__)))


class Time:
    """A boot clock that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ns = 10**15
        self.boot = "boot-1"
        monkeypatch.setattr(clock, "boot_ns", lambda: self.ns)
        monkeypatch.setattr(clock, "boot_id", lambda: self.boot)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


def bucket(home: Home, key: str = "k", burst: int = 0, rate: tuple[int, int] = (10, MINUTE)) -> SharedBucket:
    return SharedBucket(home, key, *rate, burst)


def test_the_burst_then_one_by_one(home: Home, at: Time) -> None:
    assert [bucket(home).take(1) for _ in range(11)] == [0] * 10 + [6 * SECOND]
    at.ns += 6 * SECOND
    assert bucket(home).take(1) == 0
    assert bucket(home).take(1) > 0


def test_peek_takes_nothing_and_keys_are_apart(home: Home, at: Time) -> None:
    assert [bucket(home).peek(10) for _ in range(5)] == [0] * 5
    assert bucket(home).take(10) == 0
    assert bucket(home, "other").take(10) == 0
    assert bucket(home).peek(1) == 6 * SECOND


def test_after_a_reboot_nothing_has_leaked_and_nothing_blocks_for_ever(home: Home, at: Time) -> None:
    assert bucket(home).take(10) == 0
    for at.boot, at.ns in (("boot-2", 5), ("boot-3", 10**17)):
        assert bucket(home).take(1) == 6 * SECOND
        at.ns += 6 * SECOND
        assert bucket(home).take(1) == 0


@pytest.mark.parametrize(
    "damage",
    [b"x", b"\0" * 128, b"boot-1 1 2 3\n", b"a b c d".ljust(127) + b"\n", os.urandom(128), b" " * 4096, b"\n"],
    ids=["short", "zeros", "unpadded", "words", "random", "long", "newline"],
)
def test_a_damaged_file_is_a_full_bucket_that_empties(home: Home, at: Time, damage: bytes) -> None:
    assert bucket(home).take(1) == 0
    with open(f"{home.run}/buckets/k", "wb") as file:
        file.write(damage)
    assert bucket(home).take(1) == 6 * SECOND
    at.ns += 6 * SECOND
    assert bucket(home).take(1) == 0, "a damaged file must mend"


def test_a_stamp_that_lies_ahead_does_not_block_for_ever(home: Home, at: Time) -> None:
    assert bucket(home).take(10) == 0
    at.ns -= 10**14
    assert bucket(home).take(1) == 6 * SECOND
    at.ns += 6 * SECOND
    assert bucket(home).take(1) == 0


def test_another_rate_finds_as_many_inside(home: Home, at: Time) -> None:
    assert bucket(home).take(10) == 0
    assert bucket(home, rate=(20, MINUTE)).take(10) == 0
    assert bucket(home, rate=(20, MINUTE)).take(1) == 3 * SECOND


@pytest.mark.parametrize("key", ["", ".", "..", "../x", "a/b", "-x", ".x", "a b", "a\n", "ä", "x" * 65, "a\0b"])
def test_what_is_no_key(home: Home, key: str) -> None:
    with pytest.raises(UsageError):
        bucket(home, key)
    assert not os.path.exists(home.root)


def test_files_are_private(home: Home, at: Time) -> None:
    umask = os.umask(0)
    try:
        bucket(home).take(1)
    finally:
        os.umask(umask)
    assert os.stat(f"{home.run}/buckets").st_mode & 0o777 == 0o700
    assert os.stat(f"{home.run}/buckets/k").st_mode & 0o777 == 0o600


def test_the_wall_clock_is_never_asked(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise AssertionError("the wall clock steps")

    for name in ("time", "time_ns"):
        monkeypatch.setattr(time, name, refuse)
    one = bucket(home, rate=(1, MINUTE))
    assert (one.wait(1, 0), one.peek(1) > 0, one.wait(1, 0) > 0) == (0, True, True)


def test_a_link_in_its_place_is_not_followed(home: Home, at: Time) -> None:
    bucket(home).take(1)
    victim = home.root + "/victim"
    with open(victim, "w") as file:
        file.write("mine")
    os.symlink(victim, f"{home.run}/buckets/linked")
    with pytest.raises(SystemFailure):
        bucket(home, "linked").take(1)
    with open(victim) as file:
        assert file.read() == "mine"


def test_a_full_disk_grants_nothing(home: Home, at: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: 10)
    with pytest.raises(SystemFailure):
        bucket(home).take(1)


def test_wait_waits_for_room_or_says_at_once_that_it_cannot_come_in_time(home: Home) -> None:
    one = bucket(home, rate=(1, SECOND // 5))
    assert one.take(1) == 0
    before = time.monotonic_ns()
    assert 0 < one.wait(1, SECOND // 100) <= SECOND // 5
    assert time.monotonic_ns() - before < SECOND // 10
    assert one.wait(1, 10 * SECOND) == 0
    assert one.wait(1, None) == 0
    assert time.monotonic_ns() - before >= 3 * SECOND // 10


# Processes.

_TRY = """
import sys
from tmux_orchestrator.delivery.ratelimit import SharedBucket
from tmux_orchestrator.ground.paths import find_home
bucket = SharedBucket(find_home(), "shared", int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[3])):
    if not bucket.take(1):
        sys.stdout.write("granted\\n")
        sys.stdout.flush()
"""


def tries(*argv: int) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": LIB, "ORC_HOME": paths.find_home().root}
    words = [sys.executable, "-S", "-c", _TRY, *map(str, argv)]
    one = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
    assert one.stdout and one.stdout.readline() == "ready\n"
    return one


def go(processes: list[subprocess.Popen[str]]) -> None:
    for one in processes:
        assert one.stdin
        one.stdin.write("\n")
        one.stdin.flush()


def test_eight_processes_never_get_more_than_the_burst(home: Home) -> None:
    hour = 60 * MINUTE
    many = [tries(50, hour, 400) for _ in range(8)]
    go(many)
    granted = sum(one.communicate(timeout=60)[0].count("granted") for one in many)
    assert granted == 50


def test_nobody_reads_between_anothers_read_and_its_write(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last one is asked for twice at once: whoever comes second waits for the lock, and is refused."""
    other = tries(1, 60 * MINUTE, 1)
    read = SharedBucket._read

    def slow(one: SharedBucket, fd: int) -> Bucket:
        found = read(one, fd)
        go([other])
        wait_until(lambda: _waits_for_a_lock(other.pid) or other.poll() is not None, what="the other one's turn")
        return found

    monkeypatch.setattr(SharedBucket, "_read", slow)
    mine = bucket(home, "shared", 1, (1, 60 * MINUTE)).take(1)
    theirs = other.communicate(timeout=60)[0]
    assert mine == 0 and theirs == ""


def _waits_for_a_lock(pid: int) -> bool:
    with open("/proc/locks", encoding="ascii") as file:
        return any("->" in line and f" {pid} " in line for line in file)


def test_killed_ones_take_nothing_from_the_bound(home: Home) -> None:
    """Whoever is killed in the middle leaves a whole state: never more is granted, and the bucket lives on."""
    many = [tries(200, 60 * MINUTE, 100_000) for _ in range(8)]
    go(many)
    dice = random.Random(7)
    for one in many:
        time.sleep(dice.uniform(0.001, 0.01))  # where in its work it dies is the point
        one.send_signal(signal.SIGKILL)
    granted = sum(one.communicate(timeout=60)[0].count("granted") for one in many)
    last = tries(200, 60 * MINUTE, 1000)
    go([last])
    granted += last.communicate(timeout=60)[0].count("granted")
    assert 200 - len(many) <= granted <= 200, "each killed one may have had one grant that it did not tell"
