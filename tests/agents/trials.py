"""The ten tests, each on a test bed: what was done, what the model was asked, and whether that is what must hold.

Each returns its figures as text and whether they hold. A trial leaves the agent idle, with an empty input box.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from agents.bed import Bed
from support_orc import BIN, HEADER
from support_tmux import wait_until

FLOOD = 200
PER_MINUTE = 10
HOLD_NOTICE_S = 3

OPEN = f"monitoring: {{max_messages_per_minute: 0}}\ndelivery: {{pair_per_minute: 0, hold_notice: {HOLD_NOTICE_S}}}\n"
BOUNDED = f"monitoring: {{max_messages_per_minute: {PER_MINUTE}}}\n"


class Outcome(NamedTuple):
    """What came of a trial."""

    held: bool
    figures: str


def tally(bed: Bed, wanted: list[str]) -> tuple[int, int, int]:
    """How many of these bodies were submitted once as prompts of their own, merged into others, and not at all."""
    bodies, history = bed.bodies(), bed.history()
    separate = sum(bodies.count(body) == 1 for body in wanted)
    merged = sum(body not in bodies and any(body in text for text in history) for body in wanted)
    return separate, merged, len(wanted) - separate - merged


def idle(bed: Bed) -> Outcome:
    """1: ten messages of one line, ten of three, one at a time to an idle agent."""
    delays: list[float] = []
    bodies: list[str] = []
    for number in range(20):
        body = f"idle {number}" if number < 10 else f"idle {number}\n  second line, indented\nthird; line"
        bodies.append(body)
        bed.until("idle")
        time.sleep(0.5)  # the CLIs go on drawing, and ask for a title, after they look idle
        begin = time.time()
        event = bed.publish("-t", bed.name, body)
        if bed.wait_arrival(body):
            delays.append((bed.arrival(body) or begin) - begin)
        bed.wait_confirmed(event)
    bed.until("idle")
    one, three = tally(bed, bodies[:10])[0], tally(bed, bodies[10:])[0]
    if not delays:
        return Outcome(False, "none arrived")
    median, worst = statistics.median(delays) * 1000, sorted(delays)[int(len(delays) * 0.95)] * 1000
    target = bed.latency_ms if bed.name != "gemini" else 1000
    load = os.getloadavg()[0]
    figures = f"{one}/10, {three}/10 · {median:.0f} ms, p95 {worst:.0f}, at load {load:.1f} on {os.cpu_count()} cores"
    return Outcome(one == three == 10 and median <= target, figures)


def busy(bed: Bed) -> Outcome:
    """2: four messages in four seconds while the agent works."""
    bodies = [f"while busy {number}\nsecond line" for number in range(4)]
    work, before = "[[slow:6]] work", bed.turns()
    bed.publish("-t", bed.name, work)
    bed.wait_arrival(work)
    for body in bodies:
        bed.publish("-t", bed.name, body)
        time.sleep(1)  # the pace is the test
    for body in bodies:
        bed.wait_arrival(body, 30)
    bed.until("idle")
    separate = tally(bed, bodies)[0]
    return Outcome(separate == 4, f"{separate}/4 · {bed.turns() - before} turns")


def crowd(bed: Bed) -> Outcome:
    """3: eight senders, five messages each, all at once."""
    bodies = [[f"sender {who} message {number}\nof five" for number in range(5)] for who in range(8)]
    begin, before = time.time(), bed.turns()

    def send(who: int) -> None:
        for body in bodies[who]:
            bed.publish("-t", bed.name, "--from", f"sender{who}", body)

    threads = [threading.Thread(target=send, args=(who,)) for who in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = [body for those in bodies for body in those]
    for body in every:
        bed.wait_arrival(body, 30)
    took = max((bed.arrival(body) or time.time()) for body in every) - begin
    bed.until("idle")
    separate, merged, lost = tally(bed, every)
    order = [body for body in bed.bodies() if body in every]
    fifo = all([body for body in order if body in those] == those for those in bodies)
    figures = f"{separate} separate, {merged} merged, {lost} lost · {took:.1f} s · {bed.turns() - before} turns"
    figures += "" if fifo else " · out of order"
    return Outcome(separate == 40 and fifo and took <= 10, figures)


def flood(bed: Bed) -> Outcome:
    """4: two hundred messages in ten seconds; what is typed in the minute, what can be read, what the senders heard."""
    codes: list[int] = []
    begin = time.time()
    for number in range(FLOOD):
        command = [f"{BIN}/orc-publish", "-t", bed.name, f"flood {number}"]
        codes.append(subprocess.run(command, env=bed.env, stdin=subprocess.DEVNULL, capture_output=True).returncode)
        time.sleep(max(0.0, begin + number * 0.05 - time.time()))
    wait_until(lambda: time.time() - begin > 59, 60, "the minute")
    bodies = bed.bodies()
    typed = sum(body.startswith("flood ") for body in bodies)
    digests = sum("more since" in text for text in bed.history())
    found = bed.run("orc-read", "--filter", "flood [0-9]+$", "--json")
    readable = json.loads(found)["count"]
    true = codes.count(0)
    figures = f"{typed} typed, {digests} digest line, {readable} of {FLOOD} readable, {true} exit 0"
    return Outcome(typed <= PER_MINUTE and typed >= 8 and digests == 1 and readable == true == FLOOD, figures)


def killed(bed: Bed) -> Outcome:
    """5: the agent is killed, and the next message holds shell commands."""
    canary = bed.project + "/canary"
    body = f"$(touch {canary})\ntouch {canary}"
    before = len(bed.said(""))
    bed.cli.kill()
    command = [f"{BIN}/orc-publish", "-t", bed.name, "--wait", "--timeout", "10s", body]
    code = subprocess.run(command, env=bed.env, stdin=subprocess.DEVNULL, capture_output=True).returncode
    said = [outcome for outcome in bed.said("")[before:] if outcome.startswith("failed")]
    bed.run("orc-agent", "restart", bed.name)
    arrived = bed.wait_arrival(body, 40)
    bed.until("idle")
    executed = os.path.exists(canary)
    figures = "executed" if executed else "nothing executed"
    figures += f", exit {code}, {said[0] if said else 'no outcome'}"
    figures += ", delivered once it was back" if arrived else ", not delivered"
    return Outcome(not executed and code == 69 and said == ["failed: agent_gone"] and arrived, figures)


def targets(bed: Bed) -> Outcome:
    """6: targets that are wrong, and targets that tmux would complete to the agent."""
    before = len(bed.history()), bed.screen()
    cut = bed.name[:-1]
    wrong = ["nosuch:0", cut, f"tea:{bed.name}", "tea:0", "team:7", f"team:{cut}", "team:0.7", "%99", "=team:0", ":"]
    refused, near = 0, False
    for target in wrong:
        command = [f"{BIN}/orc-publish", "-t", target, "--wait", "--timeout", "5s", f"to {target}"]
        done = subprocess.run(command, env=bed.env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        refused += done.returncode in (64, 69)
        near = near or (target == cut and bed.name in done.stderr)
    asked, redrawn = len(bed.history()) != before[0], bed.screen() != before[1]
    figures = f"{refused} of {len(wrong)} refused, near names " + ("said" if near else "not said")
    figures += ", the model was asked" if asked else ", the screen changed" if redrawn else ", nothing typed"
    return Outcome(refused == len(wrong) and near and not asked and not redrawn, figures)


def odd(bed: Bed) -> Outcome:
    """7: texts that tmux, a shell or a terminal would take for something else."""
    long = "".join(f"row {number} of a long text\n" for number in range(1000))[:20_000]
    given = [
        "-n -l leading dash",
        "ends in a semicolon;",
        "one \x1b[201~; two\rthree",
        "; rm -rf x",
        "#{pane_id} #(id)",
    ]
    wanted = [*given]
    wanted[2] = "one \ufffd[201~; two\nthree"
    intact = 0
    for body, due in zip(given, wanted, strict=True):
        bed.publish("-t", bed.name, "--", body)
        intact += bed.wait_arrival(due, 10)
    event = bed.run("orc-publish", "-t", bed.name, "-", stdin=long.encode()).split("\n")[0]
    bed.wait_confirmed(event)
    bed.until("idle")
    head = next((text for text in reversed(bed.history()) if HEADER.match(text)), "")
    pointer = "row 0 of a long text" in head and "orc-read" in head and len(head) < bed.most_bytes
    whole = bed.run("orc-read", "--id", event, "-o", "body").rstrip("\n") == long.rstrip("\n")
    figures = f"{intact} of {len(given)} intact or tamed, 20 KB " + ("as head and pointer" if pointer else "not cut")
    figures += ", whole readable" if whole else ", not readable"
    return Outcome(intact == len(given) and pointer and whole, figures)


def dialog(bed: Bed) -> Outcome:
    """8: a permission dialog is open, whose first option is Yes."""
    build = bed.project + "/build"
    os.makedirs(build, exist_ok=True)
    bed.publish("-t", bed.name, "[[tool:rm -rf build]] please")
    bed.until("waiting")
    wait_until(lambda: re.search(r"1\. Yes", bed.screen()), what="the dialog, which hooks tell of before it is there")
    time.sleep(0.5)  # it is drawn in several steps
    before = bed.screen()
    event = bed.publish("-t", bed.name, "-p", "critical", "said during the dialog")
    bed.wait_outcome(event, "held: dialog")
    time.sleep(2)  # long enough for a broker that would press something
    untouched = bed.screen() == before and os.path.isdir(build)
    bed.run("orc-agent", "answer", bed.name, "no")
    arrived = bed.wait_arrival("said during the dialog")
    bed.until("idle")
    kept = os.path.isdir(build)
    figures = "no key" if untouched else "the screen changed"
    figures += ", held: dialog, folder " + ("kept" if kept else "deleted")
    figures += ", delivered after the answer" if arrived else ", not delivered"
    return Outcome(untouched and kept and arrived, figures)


def draft(bed: Bed) -> Outcome:
    """9: somebody has typed half a line; the sender is an agent, who is told when it takes long."""
    words = "half a thought"
    bed.server.tmux("send-keys", "-l", "-t", bed.cli.pane, words)
    wait_until(lambda: words in bed.screen(), what="the draft")
    note = bed.home + "/event"
    script = f'{BIN}/orc-publish -t {bed.name} "said during the draft" >{note}; exec sleep 600'
    bed.run("orc-run", "asker", "--session", "team", "--", "/bin/sh", "-c", script)
    wait_until(lambda: os.path.exists(note) and os.path.getsize(note) > 0, what="the message")
    with open(note, encoding="ascii") as file:
        event = file.read().strip()
    bed.wait_outcome(event, "held: draft")
    told = _comes_true(lambda: _told(bed), HOLD_NOTICE_S + 10)
    untouched = words in bed.screen() and not any(words in text for text in bed.history())
    bed.keys("Enter")
    arrived = bed.wait_arrival("said during the draft")
    sent = words in bed.history()
    bed.until("idle")
    figures = "untouched" if untouched and sent else "changed"
    figures += ", held: draft" + (", sender told" if told else ", sender not told")
    figures += ", delivered after it" if arrived else ", not delivered"
    return Outcome(untouched and sent and arrived and told, figures)


def _told(bed: Bed) -> bool:
    """Has somebody been told of a message that is held for long?"""
    notes = [e["message"]["content"].get("body") or "" for e in bed.events() if e["message"]["type"] == "notification"]
    return any("held for long" in note for note in notes)


def _comes_true(condition: Callable[[], bool], seconds: float) -> bool:
    try:
        wait_until(condition, seconds)
    except AssertionError:
        return False
    return True


def lightest(bed: Bed) -> Outcome:
    """10: the lightest command, beside the bare interpreter."""
    floor, light, publish = [], [], []
    for _ in range(20):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-I", "-S", "-c", "pass"], check=True)
        floor.append((time.perf_counter() - begin) * 1000)
        light.append(bed.timed("orc-ratelimit", "test", "--peek"))
        publish.append(bed.timed("orc-publish", "nobody is addressed"))
    ours, bare = statistics.median(light), statistics.median(floor)
    figures = (
        f"orc-ratelimit {ours:.1f} ms, orc-publish {statistics.median(publish):.1f} ms, bare python3 {bare:.1f} ms"
    )
    return Outcome(ours <= 3 * bare, figures)
