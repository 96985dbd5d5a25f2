"""From orc-publish to an agent's pane, with real parts: tmux, the broker's process, a program with an input box."""

from __future__ import annotations

import json
import os
import signal

import pytest

from support_orc import System
from support_tmux import wait_until

NO_BOUND = "monitoring: {max_messages_per_minute: 0}\ndelivery: {queue_size: 20000}\n"


def test_a_message_arrives_once_whole_and_is_confirmed() -> None:
    with System() as system:
        system.broker()
        dev = system.demo("dev")
        system.run("orc-publish", "-t", "dev", "-p", "high", "--wait", "hello\nsecond line")
        (prompt,) = dev.settled().prompts()
        assert prompt.split("] ", 1)[1] == "hello\nsecond line"
        assert prompt.startswith("[⚠️ HIGH PRIORITY from")


def test_what_was_published_before_the_broker_ran_is_delivered() -> None:
    with System() as system:
        dev = system.demo("dev")
        event = system.publish("-t", "dev", "early")
        system.broker()
        system.wait_outcome(event, "confirmed")
        assert dev.settled().bodies() == ["early"]


def test_exit_69_when_no_broker_runs() -> None:
    with System() as system:
        system.demo("dev")
        system.run("orc-publish", "-t", "dev", "--wait", "x", code=69)


def test_a_dialog_is_never_answered_and_the_message_comes_after_it() -> None:
    with System() as system:
        system.broker()
        dev = system.demo("dev")
        dev.keys("[[tool:rm -rf build]] clean", "Enter")
        wait_until(lambda: "build" in dev.screen() and "Yes" in dev.screen(), what="the dialog")
        event = system.publish("-t", "dev", "-p", "critical", "stop")
        system.wait_outcome(event, "held: dialog")
        assert not any("answer" in entry or "dialog" in entry for entry in dev.settled().entries())
        dev.keys("Escape")
        system.wait_outcome(event, "confirmed")
        assert dev.settled().bodies()[-1] == "stop"


def test_a_persons_draft_is_left_alone_and_the_message_comes_after_it() -> None:
    with System() as system:
        system.broker()
        dev = system.demo("dev")
        dev.draft("half a thought")
        event = system.publish("-t", "dev", "news")
        system.wait_outcome(event, "held: draft")
        assert "half a thought" in dev.screen() and dev.settled().prompts() == []
        dev.keys("Enter")
        system.wait_outcome(event, "confirmed")
        assert dev.settled().bodies() == ["half a thought", "news"]


def test_a_dead_agent_gets_nothing_and_hears_it_when_it_is_back() -> None:
    with System() as system:
        system.broker()
        dev = system.demo("dev")
        dev.kill()
        event = system.publish("-t", "dev", "--wait", "$(touch CANARY)", code=69)
        assert system.said(event) == ["failed: agent_gone"]
        system.run("orc-agent", "restart", "dev")
        system.wait_outcome(event, "confirmed")
        assert dev.settled().bodies() == ["$(touch CANARY)"]
        assert not os.path.exists("CANARY")


def test_a_flood_is_bounded_and_all_of_it_readable() -> None:
    with System() as system:
        system.broker()
        dev = system.recorder("dev")
        lines = b"".join(b"message %d\n" % number for number in range(200))
        system.run("orc-publish", "-t", "dev", "--lines", stdin=lines)
        wait_until(lambda: b"more since" in dev.recorded(), 40, "the digest line")
        wait_until(lambda: b"message 9\x1b" in dev.recorded(), 10, "the tenth")
        wait_until(lambda: [o["outcome"] for o in system.outcomes()].count("typed") == 10, 10, "its record")
        frames = dev.settled().recorded().split(b"\x1b[200~")[1:]
        assert len(frames) == 11
        assert b"more since" in frames[9]  # the tenth leaves the bucket later, for whoever comes after the flood
        read = system.run("orc-read", "--unread", "dev", "-o", "body").split("\n")
        assert read == [f"message {number}" for number in range(10, 200)]


def test_two_brokers_cannot_run_and_a_standby_takes_over() -> None:
    with System() as system:
        first = system.broker()
        dev = system.demo("dev")
        assert system.broker("--once").wait(20) == 1
        system.broker("--standby")
        first.send_signal(signal.SIGKILL)
        first.wait()
        system.run("orc-publish", "-t", "dev", "before")
        wait_until(lambda: dev.bodies() == ["before"], what="the standby's delivery")
        assert dev.settled().bodies() == ["before"]


def test_a_broker_killed_at_any_time_loses_and_repeats_nothing_silently() -> None:
    with System(NO_BOUND) as system:
        broker = system.broker()
        dev = system.recorder("dev")
        for number in range(60):
            system.publish("-t", "dev", f"number {number:03}.")
            if number % 6 == 5:
                broker.send_signal(signal.SIGKILL)
                broker.wait()
                broker = system.broker()
        wait_until(lambda: dev.recorded().count(b"number 059.") >= 1, what="the last message")
        text = dev.settled().recorded()
        for number in range(60):
            frames = [f for f in text.split(b"\x1b[200~") if b"number %03d." % number in f]
            assert frames, number
            assert all(b"repeat" in frame for frame in frames[1:]), frames


def test_unknown_window_is_refused_and_an_agent_hears_of_it() -> None:
    with System() as system:
        system.broker()
        event = system.publish("-t", "nosuch:0", "x")
        system.wait_outcome(event, "failed: unknown_target")
        dev = system.demo("dev")
        system.server.tmux("new-window", "-d", "-t", "=team:7", "-n", "shell", "sh")
        event = system.publish("-t", "team:7", "x")
        system.wait_outcome(event, "failed: not_an_agent")
        event = system.publish("-t", "team:shel", "x")
        system.wait_outcome(event, "failed: unknown_target")
        event = system.publish("-t", dev.target.split(".")[0], "by window")
        system.wait_outcome(event, "confirmed")


def test_what_needs_an_acknowledgment_is_repeated_then_escalated() -> None:
    config = "delivery: {ack_timeout: 1s, escalate_to: ['@boss']}\n"
    with System(config) as system:
        system.broker()
        dev = system.demo("dev")
        boss = system.demo("chief", "--role", "boss")
        asked = system.publish("-t", "dev", "--requires-ack", "are you there?")
        system.wait_outcome(asked, "dead: not_acknowledged", 30)
        assert len([body for body in dev.settled().bodies() if body == "are you there?"]) == 4
        wait_until(lambda: any("Nobody acknowledged" in body for body in boss.bodies()), what="the escalation")


@pytest.mark.parametrize("form", ["orc-ack", "PM ACK"])
def test_an_acknowledgment_closes_the_message(form: str) -> None:
    with System("delivery: {ack_timeout: 2s}\n") as system:
        system.broker()
        dev = system.demo("dev")
        asked = system.publish("-t", "dev", "--requires-ack", "please confirm")
        system.wait_outcome(asked, "confirmed")
        if form == "orc-ack":
            system.run("orc-ack", asked[-6:])
        else:
            system.publish("-g", "management", "--tag", "acknowledgment", f"PM ACK: {asked} - done")
        wait_until(lambda: any(said.startswith("acked") for said in system.said(asked)), what="acked")
        assert len(dev.settled().prompts()) == 1


def test_low_ones_become_one_digest_and_critical_goes_first() -> None:
    with System() as system:
        dev = system.demo("dev")
        for number in range(5):
            system.publish("-t", "dev", "-p", "low", f"small {number}")
        system.publish("-t", "dev", "normal one")
        system.publish("-t", "dev", "-p", "critical", "fire")
        system.broker()
        wait_until(lambda: len(dev.prompts()) == 3, what="three prompts")
        first, second, third = dev.settled().prompts()
        assert "fire" in first and "normal one" in second
        assert all(f"small {number}" in third for number in range(5))


def test_paused_then_resumed() -> None:
    with System() as system:
        system.broker()
        dev = system.demo("dev")
        system.run("orc-agent", "pause", "dev")
        event = system.publish("-t", "dev", "later")
        system.wait_outcome(event, "held: paused")
        system.run("orc-agent", "resume", "dev")
        system.wait_outcome(event, "confirmed")
        assert dev.settled().bodies() == ["later"]


def test_a_name_that_will_come() -> None:
    with System() as system:
        system.broker()
        system.run("orc-publish", "-t", "late", "x", code=64)
        event = system.publish("-t", "late", "--queue", "welcome")
        system.wait_outcome(event, "held: not_registered")
        late = system.demo("late")
        wait_until(lambda: late.bodies() == ["welcome"], what="the queued message")


def test_clear_queues_ends_what_waits() -> None:
    with System() as system:
        system.broker()
        system.demo("dev")
        system.run("orc-agent", "pause", "dev")
        event = system.publish("-t", "dev", "later")
        system.wait_outcome(event, "held: paused")
        system.publish("--type", "clear_queues", "clear")
        wait_until(lambda: any(said.startswith("expired") for said in system.said(event)), what="the end")


def test_the_diary_says_what_was_typed() -> None:
    with System() as system:
        system.broker()
        system.demo("dev")
        event = system.publish("-t", "dev", "for the record")
        system.wait_outcome(event, "confirmed")
        folder = system.root + "/registry/logs/communications"
        (name,) = os.listdir(folder)
        with open(f"{folder}/{name}", encoding="ascii") as file:
            (entry,) = [json.loads(line) for line in file]
        assert entry["events"] == [event] and entry["text"].endswith("for the record")
