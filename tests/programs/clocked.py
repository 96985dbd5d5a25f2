"""A recorder that also writes down when: clocked.py LOG. Each line of the log is `BOOTTIME_NS BASE64` of one read."""

import base64
import os
import sys
import time
import tty


def main() -> None:
    tty.setraw(0)
    log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(1, b"\x1b[?2004hready\r\n")
    while data := os.read(0, 1 << 16):
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        os.write(log, b"%d %s\n" % (now, base64.b64encode(data)))


if __name__ == "__main__":
    main()
