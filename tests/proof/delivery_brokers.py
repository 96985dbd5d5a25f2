"""One broker at a time and the next at once, what it remembers, what it takes up while it runs, what it costs."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from functools import partial

from proof.delivery_flood import clocked, frames
from proof.delivery_rows import NO_BOUND, Row, all_typed, an_event, outcomes, proved, publish_all, row, wait_over
from support_orc import System
from support_tmux import wait_until

_TICKS = os.sysconf("SC_CLK_TCK")
_IDLE_PERCENT = 0.5
_MEMORY_KB = 60_000
_TAKE_OVER = 2.0  # seconds, on a busy machine
_MESSAGES = 12  # in each stream


def check(quick: bool) -> list[Row]:
    return proved(
        second_broker,
        partial(take_over, 2 if quick else 10),
        lost_journal,
        log_replaced,
        reloaded,
        partial(stopped, 2000 if quick else 20_000),
        partial(idle, 4 if quick else 30),
    )


def second_broker() -> Row:
    """Started by mistake, some at the same time: they leave with exit 1, and everything is typed once."""
    with System(NO_BOUND) as system:
        first = system.broker()
        agent = system.recorder("dev")
        others = [system.broker("--once") for _ in range(5)]
        event = system.publish("-t", "dev", "only once.")
        codes = [other.wait(30) for other in others]
        wait_over(system, event)
        count = all_typed(system, agent).recorded().count(b"only once.")
        problem = "" if codes == [1] * 5 and count == 1 else f"exits {codes}, typed {count} times"
        os.unlink(system.root + "/logs/broker.pid")
        another = system.broker()
        ids = [system.publish("-t", "dev", f"with two brokers {n}.") for n in range(10)]
        wait_over(system, *ids)
        wait_until(lambda: (first.poll() is None) != (another.poll() is None), 20, "one of the two to leave")
        text = all_typed(system, agent).recorded()
        twice = [n for n in range(10) if text.count(f"with two brokers {n}.".encode()) != 1]
    problem = problem or (f"{len(twice)} messages typed twice with a deleted pid file" if twice else "")
    return row("brokers started by mistake, the last beside a deleted pid file", len(codes) + 1, problem)


def take_over(times: int) -> Row:
    """A standby goes on when the broker is killed in a stream of messages; how late the next one is."""
    gaps = []
    with System(NO_BOUND) as system:
        agent = clocked(system, "dev")
        broker = system.broker()
        ids: list[str] = []
        for round_ in range(times):
            standby = system.broker("--standby")
            _wait_for_lock(standby.pid)
            dead = threading.Event()
            stream = threading.Thread(target=_stream, args=(system, round_, ids, dead))
            stream.start()
            wait_until(lambda n=round_: len(ids) > n * _MESSAGES + 4, 20, "the stream")  # type: ignore[misc]
            killed = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            broker.send_signal(signal.SIGKILL)
            broker.wait()
            after = min(len(ids) - round_ * _MESSAGES + 1, _MESSAGES - 1)  # one more may be half published
            dead.set()
            stream.join()
            wait_over(system, *ids)
            later = f"round {round_} message {after}."
            at = next((one.at for one in frames(agent.settled()) if later in one.text), killed)
            gaps.append((at - killed) / 1e6)
            broker = standby
        typed = [frame.text for frame in frames(agent)]
    numbers = [f"round {n} message {m}." for n in range(times) for m in range(_MESSAGES)]
    lost = [number for number in numbers if not any(number in text for text in typed)]
    again = [number for number in numbers if sum(number in text and "repeat" not in text for text in typed) > 1]
    problem = f"lost {lost}, typed again without a word {again}" if lost or again else ""
    problem = problem or ("" if max(gaps) < _TAKE_OVER * 1000 else f"it took {max(gaps):.0f} ms")
    told = f"0 lost; the next published was typed {min(gaps):.0f} to {max(gaps):.0f} ms after the kill"
    return row("kill -9 with a standby, in a stream of messages", times, problem, told)


def _stream(system: System, round_: int, ids: list[str], dead: threading.Event) -> None:
    """Messages one by one; the last is published when the broker is dead, however slow the others were."""
    for number in range(_MESSAGES):
        if number == _MESSAGES - 1:
            dead.wait()
        ids.append(system.publish("-t", "dev", f"round {round_} message {number}."))


def _wait_for_lock(pid: int) -> None:
    """Until the process stands in the queue for a lock."""

    def waits() -> bool:
        with open("/proc/locks", encoding="ascii") as file:
            return any(f" {pid} " in line and "->" in line for line in file)

    wait_until(waits, 20, "the standby")


def lost_journal() -> Row:
    """The journal is deleted: nothing that the log says was delivered is typed again, what was not is."""
    with System(NO_BOUND) as system:
        broker = system.broker()
        agent, held = system.recorder("dev"), system.recorder("held")
        system.run("orc-agent", "pause", "held")
        ids = publish_all(system, [an_event("dev", f"number {n}.") for n in range(50)])
        waits = system.publish("-t", "held", "still owed.")
        wait_over(system, *ids)
        system.wait_outcome(waits, "held: paused")
        broker.kill()
        broker.wait()
        os.unlink(system.root + "/logs/run/broker.journal")
        system.broker()
        system.run("orc-agent", "resume", "held")
        wait_until(lambda: b"still owed." in held.recorded(), 20, "what was owed")
        last = system.publish("-t", "dev", "the last.")
        wait_over(system, last)
        text = agent.settled().recorded()
        twice = [n for n in range(50) if text.count(b"number %d." % n) != 1]
    return row("deliveries after the journal was deleted, typed again", 50, f"{twice} again" if twice else "", "0")


def log_replaced() -> Row:
    """An editor saves the day file, somebody cuts it, somebody deletes it, and the broker sees it when there is a new
    message in it: no delivery is lost, none is repeated."""
    with System(NO_BOUND) as system:
        broker = system.broker()
        agent = system.recorder("dev")
        problems = []

        def delivers(text: str, act: Callable[[], object] = lambda: None) -> None:
            broker.send_signal(signal.SIGSTOP)
            act()
            event = system.publish("-t", "dev", text)
            broker.send_signal(signal.SIGCONT)
            wait_over(system, event)

        def saved() -> None:
            shutil.copy(path, path + ".new")
            os.replace(path + ".new", path)

        delivers("before 1.")
        folder = system.root + "/logs/events"
        path = f"{folder}/{os.listdir(folder)[0]}"
        for number, act in enumerate((saved, lambda: os.truncate(path, 0), lambda: os.unlink(path), saved), 2):
            delivers(f"after {number}.", act)
        typed = all_typed(system, agent).recorded()
        for text in ("before 1.", *[f"after {number}." for number in range(2, 6)]):
            if typed.count(text.encode()) != 1:
                problems.append(f"{text} typed {typed.count(text.encode())} times")
        if broker.poll() is not None:
            problems.append("the broker died")
    return row("the day file replaced, cut and deleted under the broker", 4, "; ".join(problems))


def reloaded() -> Row:
    """A changed configuration holds at once; a bad one is refused and told, and the old one stays."""
    with System("monitoring: {max_messages_per_minute: 3}\n") as system:
        broker = system.broker()
        agent = system.recorder("dev")
        publish_all(system, [an_event("dev", f"first {n}.") for n in range(6)])
        wait_until(lambda: agent.recorded().count(b"first") == 3, 20, "three")
        system.configure("monitoring: {max_messages_per_minute: many}\n")
        wait_until(lambda: "max_messages_per_minute" in _output(system), 20, "the refusal")
        system.configure("monitoring: {max_messages_per_minute: 5}\n")
        wait_until(lambda: agent.recorded().count(b"first") == 5, 20, "two more")
        problem = "the broker died" if broker.poll() is not None else ""
    return row("the configuration changed while it runs: good, bad, good", 3, problem)


def _output(system: System) -> str:
    with open(system.root + "/broker.out", encoding="utf-8") as file:
        return file.read()


def stopped(count: int) -> Row:
    """So many events while the broker is stopped: more than inotify remembers."""
    with System(NO_BOUND) as system:
        broker = system.broker()
        agent = system.recorder("dev")
        first = system.publish("-t", "dev", "before.")
        wait_over(system, first)
        broker.send_signal(signal.SIGSTOP)
        ids = publish_all(system, [an_event("dev", f"event {n}.") for n in range(count)])
        broker.send_signal(signal.SIGCONT)
        began = time.monotonic()
        last = f"event {count - 1}.".encode()
        wait_until(lambda: last in agent.recorded(), 120, "the last event")
        took = time.monotonic() - began
        text = agent.recorded()
        lost = sum(f"event {n}.".encode() not in text for n in range(count))
        wait_until(lambda: len(outcomes(system)) > len(ids), 60, "the ends")
    return row(
        "events while the broker is stopped", count, f"{lost} lost" if lost else "", f"all typed in {took:.1f} s"
    )


# What it costs.


def cpu(pid: int) -> float:
    """Seconds that the process has used."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory_kb(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def percent(pid: int, seconds: float) -> float:
    """Of one core, while this time passes."""
    before, began = cpu(pid), time.monotonic()
    time.sleep(seconds)
    return 100 * (cpu(pid) - before) / (time.monotonic() - began)


def idle(seconds: float) -> list[Row]:
    rows = []
    with System() as system:
        broker = system.broker()
        agents = [system.recorder(f"plain{n}") for n in range(3)] + [system.demo(f"demo{n}") for n in range(3)]

        def measured(what: str) -> None:
            used = percent(broker.pid, seconds)
            problem = (
                "" if used < _IDLE_PERCENT + 100 / _TICKS / seconds else f"{used:.2f} %"
            )  # and one tick of the clock
            rows.append(row(f"broker's CPU in {seconds:.0f} s, {what}", 1, problem, f"{used:.2f} % of a core"))

        measured("six agents, nothing to do")
        for agent in agents[1:5]:
            system.server.tmux("copy-mode", "-t", agent.pane)
        held = publish_all(system, [an_event(agent.name, "wait.") for agent in agents[1:5]])
        for event in held:
            system.wait_outcome(event, "held: copy_mode")
        measured("four held lanes")
        publish_all(system, [an_event(agents[0].name, f"flood {n}.") for n in range(200)])
        wait_until(lambda: b"more since" in agents[0].recorded(), 40, "the digest line")
        system.publish("-t", "nobody", "--queue", "wait.")
        measured("four held, one rate limited, one that waits for its agent")
        _contend(system)
        measured("after a lock that was busy for long")
        kilobytes = memory_kb(broker.pid)
    problem = "" if kilobytes < _MEMORY_KB else "too much"
    return [*rows, row("broker's memory", 1, problem, f"{kilobytes // 1024} MB resident")]


def _contend(system: System) -> None:
    """Hold the log's lock for longer than the broker waits for it, while it has something to say."""
    with open(system.root + "/logs/run/log.lock", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        system.run("orc-agent", "pause", "plain1")
        wait_until(lambda: "locked by another process" in _output(system), 20, "the broker's complaint")
