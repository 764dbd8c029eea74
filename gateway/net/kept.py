"""Connections on their way from one worker of a pool to another, over one socket pair.

A leaving worker hands on the kept ones that are between two requests: closing them would lose requests, for a front-end
may be writing the next one at that very moment, and will not repeat a POST. A worker that begins a request hands on
those that it has accepted and that have sent nothing yet: their requests would wait behind its own.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import termios
from collections.abc import Sequence

from gateway.net.handover import Keep
from gateway.net.stream import Stream

_INT = struct.Struct("i")
_FRESH, _KEPT = b"f", b"k"  # the byte beside the descriptor (unix(7), SCM_RIGHTS)


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

    def hand_over(self, keep: Keep) -> tuple[int, int]:
        """See `handover`."""
        return keep(self.giving.fileno()), keep(self.taking.fileno())

    @classmethod
    def take_over(cls, ends: Sequence[int]) -> KeptQueue:
        """See `handover`."""
        giving, taking = (socket.socket(fileno=fd) for fd in ends)
        return cls(giving, taking)

    def fileno(self) -> int:
        """The descriptor that is readable while a connection waits to be taken."""
        return self.taking.fileno()

    def has_room(self) -> bool:
        """Whether `give` will take one more: poll(2) says so while no more than a quarter is used (unix(7))."""
        poll = select.poll()
        poll.register(self.giving, select.POLLOUT)
        return bool(poll.poll(0))

    def give(self, sock: socket.SocketType, *, kept: bool) -> bool:
        """Put a connection into the queue; False when it is full. The caller closes its own copy.

        `kept` is whether it has had a request.
        """
        try:
            socket.send_fds(self.giving, [_KEPT if kept else _FRESH], [sock.fileno()])
        except OSError:
            return False
        return True

    def take(self) -> tuple[Stream, bool] | None:
        """Take one connection, and whether it has had a request; None when another worker was faster."""
        try:
            what, fds, _, _ = socket.recv_fds(self.taking, len(_KEPT), 1)
        except BlockingIOError:
            return None
        if not fds:
            return None
        os.set_inheritable(fds[0], False)
        sock = socket.socket(fileno=fds[0])
        try:
            peer = sock.getpeername()
        except OSError:  # it has left meanwhile
            peer = ""
        return Stream(sock, peer), what == _KEPT

    def waiting(self) -> int:
        """How many connections wait to be taken: as many as bytes can be read, one for each (unix(7), SIOCINQ)."""
        [count] = _INT.unpack(fcntl.ioctl(self.taking, termios.FIONREAD, bytes(_INT.size)))
        return int(count)

    def close(self) -> None:
        """Close both ends, and with the last copy of them every connection still queued."""
        self.giving.close()
        self.taking.close()
