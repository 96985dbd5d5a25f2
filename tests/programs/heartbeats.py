"""heartbeats.py listener HOME PORT | asyncio HOME PORT: answers signed heartbeats until its standard input ends.

`listener` is what the monitor has. `asyncio` is what is usually written: a datagram protocol that checks the tag and
signs its answer, and does nothing else.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import sys
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT + "/lib")

from tmux_orchestrator.agents import registry  # noqa: E402
from tmux_orchestrator.ground import config, paths  # noqa: E402
from tmux_orchestrator.watch import datagram  # noqa: E402


def listen(home: paths.Home) -> None:
    from tmux_orchestrator.watch.heartbeat import Listener

    listener = Listener(home, config.load(home))
    listener.take(registry.load(home))
    print("ready", flush=True)
    while not listener.wait([0], 1.0):
        pass
    listener.close()


class _Echo(asyncio.DatagramProtocol):
    def __init__(self, key: bytes) -> None:
        self.key = key

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        body, tag = data[: -datagram.TAG], data[-datagram.TAG :]
        if hmac.compare_digest(hmac.digest(self.key, body, "sha256"), tag):
            self.transport.sendto(body + hmac.digest(self.key, body, "sha256"), addr)


async def echo(home: paths.Home, port: int) -> None:
    loop = asyncio.get_running_loop()
    key, over = datagram.load_key(home), asyncio.Event()
    await loop.create_datagram_endpoint(lambda: _Echo(key), ("127.0.0.1", port))
    loop.add_reader(0, over.set)
    print("ready", flush=True)
    await over.wait()


if __name__ == "__main__":
    its_home = paths.Home(sys.argv[2])
    if sys.argv[1] == "listener":
        listen(its_home)
    else:
        asyncio.run(echo(its_home, int(sys.argv[3])))
