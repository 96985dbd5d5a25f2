"""The program in the pane that `measure` types into: it reads raw bytes and says, through a pipe, when it had them.

    python -I -S recorder.py PIPE

The terminal is raw and bracketed paste is on, as in agent CLIs. Each piece goes to the pipe as `NS LENGTH\\n` and the
bytes, NS being the wall clock just after they were read. It ends when nobody reads the pipe any more.
"""

from __future__ import annotations

import os
import sys
import time
import tty


def main(pipe: str) -> None:
    tty.setraw(0)
    out = os.open(pipe, os.O_WRONLY)
    os.write(1, b"\x1b[?2004hready\r\n")
    os.write(out, b"%d 0\n" % time.time_ns())
    while data := os.read(0, 1 << 16):
        now = time.time_ns()
        os.write(out, b"%d %d\n" % (now, len(data)) + data)


if __name__ == "__main__":
    main(sys.argv[1])
