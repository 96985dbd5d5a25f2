"""What is typed arrives byte for byte, through both ways to tmux, and none of it is executed."""

from __future__ import annotations

import os
from functools import partial

from proof.delivery_rows import Row, proved, row
from support_bodies import CANARY, NASTY, SEED, frame, fuzzed
from support_tmux import Recorder, Server
from tmux_orchestrator.ground.tmux import Guard, Tmux

_AT_ONCE = 200


def check(quick: bool) -> list[Row]:
    count = 500 if quick else 10_000
    return proved(partial(byte_for_byte, count, True), partial(byte_for_byte, count // 10, False))


def byte_for_byte(count: int, keep: bool) -> Row:
    """Typed in groups as the broker does; the recorder must have read exactly the frames."""
    bodies = [*NASTY, *fuzzed(count - len(NASTY))]
    way = "kept connection" if keep else "a process each"
    with Server() as server, Tmux(server.socket, keep=keep, run=server.folder + "/run") as tmux:
        recorder = Recorder(server)
        guard, expected, problem = Guard(recorder.pid, recorder.nonce), b"", ""
        for at in range(0, len(bodies), _AT_ONCE):
            some = bodies[at : at + _AT_ONCE]
            said = tmux.type_many([(recorder.pane, guard, body.encode(), "Enter") for body in some])
            expected += b"".join(map(frame, some))
            if set(said) != {"typed"} or recorder.settled() != expected:
                problem = problem or f"other bytes, or {set(said) - {'typed'}}, among {at} to {at + _AT_ONCE}"
                break
        server.tmux("run-shell", "true")  # what tmux may have started before has had its turn
        if os.path.exists(CANARY):
            problem = "a body was executed"
    return row(f"fuzzed bodies, byte for byte ({way})", len(bodies), problem, f"seed {SEED}, 0 canaries")
