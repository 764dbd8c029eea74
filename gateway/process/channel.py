"""A worker's end of its channel to the master: what the driver listens to, and log files that were opened anew."""

from __future__ import annotations

import os
import socket

from gateway.net.accesslog import AccessLog
from gateway.net.orders import GO_ON

ACCESS_LOG = b"access log"  # the message that a new descriptor of the access log comes with


class Channel:
    """The driver's control (`net.blocking.Control`): new log files are taken here, anything else is the driver's."""

    def __init__(self, sock: socket.socket, access: AccessLog | None) -> None:
        self._socket = sock
        self._access = access

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
