"""Which signs of life count: signed, fresh, new, of a registered agent. Everything else is dropped and counted."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmux_orchestrator.agents.beats import LEFT, PROCESS, SIGNED, Beat
from tmux_orchestrator.agents.registry import Agent
from tmux_orchestrator.ground import clock, proc
from tmux_orchestrator.ground.errors import DataError, NotPermitted
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.watch import datagram
from tmux_orchestrator.watch.datagram import ACK, LIMIT, MOST_TEXT, NUDGE, REFUSED, SIGN, TAG, Signer
from tmux_orchestrator.watch.judge import COUNTERS, WINDOW_NS, Judge

S = 1_000_000_000
KEY = bytes(range(32))
SIGNER = Signer(KEY, hashlib.sha256)
WALL = 1_800_000_000 * S
U64 = st.integers(0, 2**64 - 1)


def agent(name: str = "dev", session: str = "team", pid: int = 0) -> Agent:
    pid = pid or os.getpid()
    return Agent({"name": name, "session": session, "pid": pid, "pid_start": proc.start_time(pid)})


def judge(*agents: Agent, last: dict[str, Beat] | None = None, later: list[Agent] | None = None) -> Judge:
    """One that knows these agents, at WALL."""
    made = Judge(SIGNER, {} if last is None else last, {}, lambda: list(agents) if later is None else later)
    made.know(list(agents))
    made.begin(WALL, clock.boot_ns())
    return made


def sign(counter: int = 1, sender: int = 7, sent: int = WALL, key: str = "team:dev", kind: int = SIGN) -> bytes:
    body = datagram.pack(kind, sender, counter, sent, key.encode())
    return body + SIGNER.tag(body)


def unsigned(key: str = "team:dev") -> bytes:
    return datagram.pack(SIGN, 7, 1, WALL, key.encode())


def opened(answer: bytes) -> tuple[int, int, int, str]:
    """Kind, sender, counter and text of a signed answer."""
    kind, sender, counter, _, text = datagram.unpack(SIGNER.opened(answer))
    return kind, sender, counter, text.decode()


def counted(one: Judge) -> dict[str, int]:
    return {name: count for name, count in one.counters.items() if count}


@pytest.fixture
def stranger() -> Iterator[int]:
    """A process that this one is not inside of."""
    child = subprocess.Popen(["sleep", "1000"])
    yield child.pid
    child.kill()
    child.wait()


# the format


@given(st.integers(1, 4), U64, U64, st.integers(-(2**63), 2**63 - 1), st.text(max_size=100))
def test_what_is_packed_is_unpacked(kind: int, sender: int, counter: int, ns: int, text: str) -> None:
    assert datagram.unpack(datagram.pack(kind, sender, counter, ns, text.encode())) == (
        kind, sender, counter, ns, text.encode(),
    )  # fmt: skip


@given(st.text(min_size=100))
def test_a_text_that_is_too_long_is_cut_between_two_characters(text: str) -> None:
    data = datagram.pack(NUDGE, 1, 1, 1, (text * 5).encode())
    assert len(data) <= LIMIT - TAG
    shown = datagram.unpack(data)[4].decode()
    assert (text * 5).startswith(shown) and len(shown.encode()) > MOST_TEXT - 4


@given(st.binary(max_size=600))
def test_the_tag_is_hmac_sha256(data: bytes) -> None:
    assert SIGNER.tag(data) == hmac.digest(KEY, data, "sha256")


@given(st.binary(max_size=700))
def test_garbage_is_dropped_and_counted_and_never_answered(data: bytes) -> None:
    one = judge(agent())
    assert one.signed(data) == b"" and one.peer(data, os.getpid()) == b""
    one.left(data)
    assert sum(one.counters.values()) == 3 and one.last == {} and set(counted(one)) <= {"forged", "oversize"}


@given(st.binary(max_size=400), st.integers(0, 255), U64, U64, st.integers(-(2**63), 2**63 - 1))
def test_garbage_that_is_signed_harms_nothing(text: bytes, kind: int, sender: int, counter: int, ns: int) -> None:
    one = judge(agent())
    body = datagram.pack(kind, sender, counter, ns, text)
    for answer in (one.signed(body + SIGNER.tag(body)), one.signed(text + SIGNER.tag(text))):
        assert answer == b"" or opened(answer)[0] == REFUSED
    one.left(body + SIGNER.tag(body))
    assert sum(one.counters.values()) == 3 and not one.counters["accepted"]


# over UDP


def test_a_signed_sign_is_acknowledged_and_a_nudge_is_handed_over_once() -> None:
    one = judge(agent())
    assert opened(one.signed(sign(1))) == (ACK, 7, 1, "")
    one.nudges["team:dev"] = b"wake up"
    assert opened(one.signed(sign(2))) == (NUDGE, 7, 2, "wake up")
    assert opened(one.signed(sign(3))) == (ACK, 7, 3, "")
    assert one.heard == {"team:dev"} and counted(one) == {"accepted": 3}
    beat = one.last["team:dev"]
    assert (beat.via, beat.wall_ns, beat.boot_ns, beat.pid) == (SIGNED, WALL, one.boot, os.getpid())


def test_every_changed_byte_and_every_missing_one_is_noticed() -> None:
    one, good = judge(agent()), sign()
    for place in range(len(good)):
        assert one.signed(good[:place]) == b""
        assert one.signed(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]) == b""
    other = Signer(b"x" * 32, hashlib.sha256)
    assert one.signed(unsigned() + other.tag(unsigned())) == b""
    assert counted(one) == {"forged": 2 * len(good) + 1}


def test_what_is_too_long_is_not_even_looked_at() -> None:
    one = judge(agent())
    body = datagram.pack(SIGN, 7, 1, WALL, b"team:dev") + b"x" * LIMIT
    assert one.signed(body + SIGNER.tag(body)) == one.peer(body, os.getpid()) == b""
    assert counted(one) == {"oversize": 2}
    with pytest.raises(ValueError, match="not signed"):
        SIGNER.opened(body + SIGNER.tag(body))


def test_a_replayed_one_is_dropped_and_so_is_an_older_one_of_that_sender() -> None:
    one = judge(agent())
    assert one.signed(sign(5)) and not one.signed(sign(5)) and not one.signed(sign(4))
    assert one.signed(sign(4, sender=8)) and one.signed(sign(6))
    assert counted(one) == {"accepted": 3, "replayed": 3 - 1}


def test_it_is_remembered_for_as_long_as_its_time_is_near_ours() -> None:
    one = judge(agent())
    ahead = sign(sent=WALL + WINDOW_NS - 1)
    assert one.signed(ahead)
    for second in range(1, 60):
        one.begin(WALL + second * S, one.boot + S)
        assert one.signed(ahead) == b"", second
    one.begin(WALL + 61 * S, one.boot + 2 * S)
    assert opened(one.signed(ahead))[0] == REFUSED
    assert counted(one) == {"accepted": 1, "replayed": 59, "late": 1}


def test_one_half_of_the_memory_is_kept_when_the_other_begins() -> None:
    one = judge(agent())
    one.begin(WALL + 50 * S, one.boot + 50 * S)
    late_in_its_half = sign(sent=WALL + 50 * S)
    assert one.signed(late_in_its_half)
    one.begin(WALL + 70 * S, one.boot + 20 * S)
    assert one.signed(sign(sender=9, sent=WALL + 70 * S)) and one.signed(late_in_its_half) == b""
    assert counted(one) == {"accepted": 2, "replayed": 1}


def test_memory_is_given_back() -> None:
    one = judge(agent())
    for minute in range(10):
        one.begin(WALL + minute * 61 * S, one.boot + 61 * S)
        for sender in range(100):
            assert one.signed(sign(sender=minute * 1000 + sender, sent=one.wall))
    assert len(one._seen) + len(one._seen_before) <= 200


@pytest.mark.parametrize("off", [WINDOW_NS, -WINDOW_NS, 3600 * S, -3600 * S])
def test_one_whose_clock_differs_too_much_is_late_and_told_so(off: int) -> None:
    one = judge(agent())
    assert opened(one.signed(sign(sent=WALL + off))) == (REFUSED, 7, 1, "late")
    assert counted(one) == {"late": 1} and one.heard == set()


def test_a_clock_step_costs_no_sign() -> None:
    one = judge(agent())
    for counter, now in enumerate((WALL, WALL + 7200 * S, WALL - 86_400 * S), 1):
        one.begin(now, one.boot + S)
        assert opened(one.signed(sign(counter, sent=now)))[0] == ACK
    assert one.last["team:dev"].boot_ns == one.boot


def test_an_answer_sent_back_is_no_sign() -> None:
    one = judge(agent())
    assert one.signed(one.signed(sign())) == b""
    assert counted(one) == {"accepted": 1, "forged": 1}


def test_unknown_names_are_told_so_and_bare_ones_are_found_where_there_is_one() -> None:
    one = judge(agent(), agent("qa", "one"), agent("qa", "two"))
    assert opened(one.signed(sign(1, key="team:nobody"))) == (REFUSED, 7, 1, "unknown")
    assert opened(one.signed(sign(2, key="qa")))[0] == REFUSED, "two are called so"
    assert opened(one.signed(sign(3, key="dev")))[0] == ACK and one.heard == {"team:dev"}
    assert counted(one) == {"accepted": 1, "unknown": 2}


def test_an_agent_that_is_newer_than_the_last_look_at_the_registry_is_known() -> None:
    one = judge(later=[agent()])
    assert opened(one.signed(sign()))[0] == ACK
    assert opened(one.signed(sign(2, key="team:nobody")))[0] == REFUSED


# after a restart of the monitor


def test_what_counted_before_a_restart_is_not_taken_again() -> None:
    first = judge(agent())
    assert first.signed(sign(1)) and first.signed(sign(2, sent=WALL + S))
    second = judge(agent(), last=first.last)
    second.begin(WALL + 2 * S, second.boot)
    assert second.signed(sign(1)) == second.signed(sign(2, sent=WALL + S)) == b""
    assert opened(second.signed(sign(1, sender=9, sent=WALL + S + 1)))[0] == ACK
    assert counted(second) == {"accepted": 1, "replayed": 2}


def test_a_clock_set_back_meanwhile_shuts_nobody_out() -> None:
    first = judge(agent())
    assert first.signed(sign(1))
    second = judge(agent(), last=first.last)
    second.begin(WALL - 10 * S, second.boot)
    assert opened(second.signed(sign(3, sent=WALL - 10 * S)))[0] == ACK


# over the Unix socket


def test_a_process_of_the_agent_is_believed_and_a_stranger_is_not(stranger: int) -> None:
    own, other = agent(), agent("other", pid=stranger)
    one = judge(own, other)
    assert datagram.unpack(one.peer(unsigned(), os.getpid()))[0] == ACK
    assert datagram.unpack(one.peer(unsigned("team:other"), os.getpid()))[::4] == (REFUSED, b"foreign")
    assert datagram.unpack(one.peer(unsigned(), stranger))[0] == REFUSED, "beneath us, but another agent's own"
    assert datagram.unpack(one.peer(unsigned("team:other"), stranger))[0] == ACK
    for nobody in (0, -1, 1):
        assert datagram.unpack(one.peer(unsigned(), nobody))[0] == REFUSED
    assert datagram.unpack(one.peer(unsigned("team:x"), os.getpid()))[::4] == (REFUSED, b"unknown")
    assert counted(one) == {"accepted": 2, "foreign": 5, "unknown": 1}
    assert one.last["team:dev"].via == PROCESS


def test_a_process_that_has_ended_speaks_for_nobody() -> None:
    child = subprocess.Popen(["sleep", "1000"])
    ended = agent("ended", pid=child.pid)
    child.kill()
    child.wait()
    one = judge(ended)
    assert datagram.unpack(one.peer(unsigned("team:ended"), child.pid))[0] == REFUSED
    assert counted(one) == {"foreign": 1}


# in files


def test_one_that_was_left_counts_by_its_time_for_the_process_that_gave_it(stranger: int) -> None:
    one = judge(agent())
    one.left(sign(sent=WALL - S // 100))
    assert one.last["team:dev"].wall_ns == WALL - S // 100 and one.last["team:dev"].via == LEFT
    assert one.last["team:dev"].boot_ns == one.boot - S // 100
    one.left(sign(sent=WALL - S // 50))  # older than what is known
    one.left(sign(sent=WALL + WINDOW_NS + 1))
    one.left(sign(sent=WALL - 86_400 * 365 * S))  # by an earlier process of that name
    one.left(sign(key="team:gone"))
    one.left(sign()[:-1])
    one.left(b"")
    assert counted(one) == {"accepted": 1, "replayed": 1, "late": 2, "unknown": 1, "forged": 2}


def test_whoever_is_registered_no_more_is_forgotten() -> None:
    one = judge(agent(), agent("qa"))
    assert one.signed(sign(1)) and one.signed(sign(2, key="team:qa"))
    one.nudges["team:dev"] = b"x"
    one.know([agent("qa")])
    one.forget_others()
    assert set(one.last) == {"team:qa"} and one.nudges == {}


def test_a_new_process_of_the_name_has_a_beat_of_its_own(stranger: int) -> None:
    one = judge(agent())
    assert one.signed(sign(1))
    one.know([agent(pid=stranger)])
    assert not one.last["team:dev"].is_of(agent(pid=stranger))
    assert one.signed(sign(2)) and one.last["team:dev"].pid == stranger


# the key


def test_everybody_who_comes_first_has_the_same_key(home: Home) -> None:
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(datagram.load_key(home))) for _ in range(8)]
    code = f"""import sys; sys.path.insert(0, {sys.path[0]!r}); sys.path[:] += {sys.path!r}
from tmux_orchestrator.ground.paths import Home
from tmux_orchestrator.watch import datagram
print(datagram.load_key(Home({home.root!r})).hex())"""
    children = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = {child.communicate(timeout=30)[0].strip() for child in children}
    assert {key.hex() for key in found} == told and len(told) == 1 and len(found[0]) == 32
    path = datagram.key_file(home)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert [name for name in os.listdir(home.run) if name.startswith("heartbeat")] == ["heartbeat.key"]


@pytest.mark.parametrize("content", [b"", b"zz", b"00" * 31, b"00" * 33, b"\xff" * 64])
def test_a_damaged_key_is_refused(home: Home, content: bytes) -> None:
    datagram.load_key(home)
    with open(datagram.key_file(home), "wb") as file:
        file.write(content)
    with pytest.raises(DataError, match="damaged"):
        datagram.load_key(home)


def test_a_key_that_others_can_read_is_refused(home: Home) -> None:
    datagram.load_key(home)
    os.chmod(datagram.key_file(home), 0o640)
    with pytest.raises(NotPermitted, match="read by others"):
        datagram.load_key(home)


def test_all_counters_are_there_from_the_beginning() -> None:
    assert set(judge().counters) == set(COUNTERS)
