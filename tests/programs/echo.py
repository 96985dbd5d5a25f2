"""An agent that answers every message it is sent: echo.py LOG WHOM. It publishes as the registered agent that it is."""

import os
import subprocess
import sys
import tty

START, END = b"\x1b[200~", b"\x1b[201~"


def main() -> None:
    tty.setraw(0)
    log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(1, b"\x1b[?2004hready\r\n")
    kept = b""
    while data := os.read(0, 1 << 16):
        os.write(log, data)
        kept += data
        while END in kept:
            frame, _, kept = kept.partition(END)
            text = frame.partition(START)[2].decode("utf-8", "replace")
            subprocess.run(["orc-publish", "-t", sys.argv[2], f"you said: {text[-40:]}"], stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
