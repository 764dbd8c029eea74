"""A worker's end of its channel to the master: what the driver listens to, log files that were opened anew, and what
the worker has to say itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket

from gateway.net.accesslog import AccessLog
from gateway.net.orders import GO_ON

ACCESS_LOG = b"access log"  # the message that a new descriptor of the access log comes with
_LONGEST_STACK = 8_000  # characters


class Channel:
    """The driver's control (`net.blocking.Control`): new log files are taken here, anything else is the driver's."""

    def __init__(self, access: AccessLog | None) -> None:
        self._socket: socket.socket  # from `open` on
        self._access = access

    def open(self, fd: int) -> None:
        """Take the worker's end."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fd)

    def fileno(self) -> int:
        """See `net.blocking.Control`."""
        return self._socket.fileno()

    def recv(self, size: int, /) -> bytes:
        """See `net.blocking.Control`."""
        message, fds, _, _ = socket.recv_fds(self._socket, size, 1)
        if message == ACCESS_LOG and self._access is not None and fds:
            self._access.reopen(fds.pop())
        for fd in fds:
            os.close(fd)
        return GO_ON if message == ACCESS_LOG else message

    def say(self, message: bytes) -> None:
        """Tell the master something, JSON. Raises OSError."""
        self._socket.send(message)

    def say_leaving(self) -> None:
        """The worker leaves by itself."""
        self._try_to_say(b'{"leaving": true}')

    def say_slow(self, text: str) -> None:
        """Something for the slow log."""
        self._try_to_say(json.dumps({"slow": text[:_LONGEST_STACK]}).encode())

    def _try_to_say(self, message: bytes) -> None:
        with contextlib.suppress(OSError):  # a master that does not listen finds out by itself
            self._socket.send(message, socket.MSG_DONTWAIT)
