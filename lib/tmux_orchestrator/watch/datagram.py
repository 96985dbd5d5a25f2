"""The heartbeat's wire format, and the key that signs it.

A datagram is a head, a text, and over UDP an HMAC-SHA256 of both; at most LIMIT bytes in all:

    "orc1"  kind  sender  counter  time  text                      tag
    4       1     8       8        8     UTF-8, 443 bytes at most  32, or none over the Unix socket

`kind` is a sign, or one of its three answers. `sender` is drawn by chance for each process that sends, and `counter`
grows with each of its signs, so none counts twice; `time` (nanoseconds of the wall clock) bounds for how long that has
to be remembered. A sign's text is the agent's key, an answer's what there is to say; an answer has its sign's sender
and counter. The kind is under the tag, so no answer passes for a sign.

The key is `logs/run/heartbeat.key` (0600), made by whoever needs it first: linked into place when it is whole, so all
who come at one time have the same one, and a crash leaves a file of another name or the key.
"""

from __future__ import annotations

import os
import struct
from _operator import _compare_digest  # what hmac hands on; hmac itself loads OpenSSL

from tmux_orchestrator.ground import files
from tmux_orchestrator.ground.errors import DataError, NotPermitted, SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tmux_orchestrator.ground.paths import Home

SIGN, ACK, NUDGE, REFUSED = 1, 2, 3, 4
LIMIT = 512
TAG = 32
_HEAD = struct.Struct("!4sBQQq")
MOST_TEXT = LIMIT - TAG - _HEAD.size
_MAGIC = b"orc1"
_KEY_BYTES = 32
_BLOCK = 64  # of SHA-256


def pack(kind: int, sender: int, counter: int, ns: int, text: bytes) -> bytes:
    """A datagram without its tag; a text that is too long is cut between two characters."""
    if len(text) > MOST_TEXT:
        text = text[:MOST_TEXT].decode("utf-8", "ignore").encode()
    return _HEAD.pack(_MAGIC, kind, sender, counter, ns) + text


def unpack(data: bytes) -> tuple[int, int, int, int, bytes]:
    """(kind, sender, counter, ns, text) of a datagram without its tag. Raises ValueError."""
    if len(data) < _HEAD.size:
        raise ValueError("too short")
    magic, kind, sender, counter, ns = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise ValueError("of another kind")
    return kind, sender, counter, ns, data[_HEAD.size :]


class Signer:
    """HMAC-SHA256 with one key; both hashes of the padded key are made once. `sha256` is hashlib's, or alike."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes, sha256: Callable[[bytes], Any]) -> None:
        padded = key.ljust(_BLOCK, b"\0")
        self._inner = sha256(bytes(byte ^ 0x36 for byte in padded))
        self._outer = sha256(bytes(byte ^ 0x5C for byte in padded))

    def tag(self, data: bytes) -> bytes:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(data)
        outer.update(inner.digest())
        tag: bytes = outer.digest()
        return tag

    def opened(self, data: bytes) -> bytes:
        """What was signed, without its tag. Raises ValueError for a wrong tag, or a datagram that is too long."""
        if len(data) > LIMIT or not _compare_digest(self.tag(data[:-TAG]), data[-TAG:]):
            raise ValueError("not signed with our key")
        return data[:-TAG]


def key_file(home: Home) -> str:
    return home.run + "/heartbeat.key"


def socket_file(home: Home) -> str:
    return home.run + "/monitor.sock"


def load_key(home: Home) -> bytes:
    """The key, made if there is none yet. Raises NotPermitted when others may read it, DataError, SystemFailure."""
    path = key_file(home)
    data = files.read(path, 1 << 10)
    if data is None:
        _make(path)
        data = files.read(path, 1 << 10) or b""
    if os.stat(path).st_mode & 0o077:
        raise NotPermitted(f"{path} can be read by others: remove it, and copy the new one to where the old one was")
    try:
        key = bytes.fromhex(data.decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise DataError(f"{path} is damaged: remove it, and copy the new one to where the old one was")
    return key


def _make(path: str) -> None:
    temporary = f"{path}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
    files.replace(temporary, os.urandom(_KEY_BYTES).hex().encode() + b"\n")
    try:
        os.link(temporary, path)
        files.sync_dir(os.path.dirname(path))
    except FileExistsError:
        pass  # another was first: its key is the one
    except OSError as error:
        raise SystemFailure(f"cannot write {path} ({error.strerror}): see that the disk has room") from None
    finally:
        os.unlink(temporary)
