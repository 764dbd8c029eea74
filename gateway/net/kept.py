"""The pool's kept connections: a leaving worker hands its idle ones to the workers that stay, over one socket pair.

Closing them would lose requests: a front-end may be writing the next one at that very moment, and will not repeat a
POST.
"""

from __future__ import annotations

import os
import socket

_NO_DATA = b"\0"  # a message needs a byte; all that matters is the descriptor beside it (unix(7), SCM_RIGHTS)


class KeptQueue:
    """The queue's two ends, inherited by every worker of the pool."""

    def __init__(self, giving: socket.socket, taking: socket.socket) -> None:
        self.giving = giving
        self.taking = taking
        giving.setblocking(False)
        taking.setblocking(False)

    @classmethod
    def create(cls) -> KeptQueue:
        """Make the queue of a new pool. Raises OSError."""
        return cls(*socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))

    def fileno(self) -> int:
        """The descriptor that is readable while a connection waits to be taken."""
        return self.taking.fileno()

    def give(self, sock: socket.socket) -> bool:
        """Put a connection into the queue; False when it is full. The caller closes its own copy."""
        try:
            socket.send_fds(self.giving, [_NO_DATA], [sock.fileno()])
        except OSError:
            return False
        return True

    def take(self) -> socket.socket | None:
        """Take one connection, or None when another worker was faster."""
        try:
            _, fds, _, _ = socket.recv_fds(self.taking, len(_NO_DATA), 1)
        except BlockingIOError:
            return None
        if not fds:
            return None
        os.set_inheritable(fds[0], False)
        return socket.socket(fileno=fds[0])

    def close(self) -> None:
        """Close both ends, and with the last copy of them every connection still queued."""
        self.giving.close()
        self.taking.close()
