"""A full-screen program that writes down every byte that is typed into it: recorder.py LOG [WORDS ON THE SCREEN].

The terminal is raw and bracketed paste is on, as in agent CLIs; `RECORDER_PASTE=off` leaves it off.
"""

import os
import sys
import tty


def main() -> None:
    tty.setraw(0)
    words = " ".join(sys.argv[2:]).replace("\\n", "\r\n")
    paste = b"" if os.environ.get("RECORDER_PASTE") == "off" else b"\x1b[?2004h"
    log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(1, paste + words.encode() + b"ready\r\n")
    while data := os.read(0, 1 << 16):
        os.write(log, data)


if __name__ == "__main__":
    main()
