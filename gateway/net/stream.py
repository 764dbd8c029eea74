"""One accepted connection as a byte stream: reads and writes that wait no longer than a deadline."""

from __future__ import annotations

import contextlib
import fcntl
import select
import socket
import struct
import termios
import time
from collections.abc import Sequence
from typing import Any

_CHUNK = 65_536  # bytes read at once: the longest FastCGI record's content, and a pipe's worth
_LARGE = 16_384  # bytes of a part that costs more to be copied than to be named to the kernel
_INT = struct.Struct("i")


_RECEIVE = int(socket.MSG_DONTWAIT)
_PEEK = int(socket.MSG_DONTWAIT | socket.MSG_PEEK)
_SEND = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)  # numbers: an enumeration takes a microsecond to be joined
_LOOPBACK = ("127.", "::1", "::ffff:127.")
Peer = tuple[Any, ...] | str | bytes  # of TCP; of a Unix socket


class StreamClosed(OSError):
    """The peer is gone, or took nothing for the whole of its time."""


class Stream:
    """A connected, blocking socket that is only read and written without blocking, and waited for by poll(2)."""

    __slots__ = ("fd", "hang_up_events", "is_local", "is_tcp", "socket")

    def __init__(self, sock: socket.SocketType, peer: Peer = "") -> None:
        """`peer` is its address, as accept() returns it."""
        if sock.gettimeout() is not None:  # socket.setdefaulttimeout of an application: every read would wait for it
            sock.setblocking(True)
        self.socket = sock
        self.fd = sock.fileno()
        self.is_tcp = isinstance(peer, tuple)
        # A Unix socket tells unasked when both directions are closed. TCP tells of the peer's sending direction alone.
        self.hang_up_events = select.POLLRDHUP if self.is_tcp else 0
        self.is_local = not isinstance(peer, tuple) or peer[0].startswith(_LOOPBACK)

    def receive_now(self) -> bytes | None:
        """Read what is there: None if nothing yet, b"" at the end, and where the connection broke."""
        try:
            return self.socket.recv(_CHUNK, _RECEIVE)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def has_come(self) -> bool:
        """Say whether there is something to be read, be it the end."""
        try:
            self.socket.recv(1, _PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def receive(self, seconds: float) -> bytes:
        """Wait up to `seconds` for bytes; b"" at the end. Raises TimeoutError."""
        while (data := self.receive_now()) is None:
            if not self._wait(select.POLLIN, seconds):
                raise TimeoutError(f"nothing came for {seconds:g} seconds")
        return data

    def send(self, parts: Sequence[bytes | memoryview], seconds: float) -> None:
        """Write all of `parts`, pausing no longer than `seconds` at a time. Raises StreamClosed."""
        if len(parts) > 1 and len(parts[1]) < _LARGE:
            parts = (b"".join(parts),)
        while True:
            try:
                sent = self.socket.send(parts[0], _SEND) if len(parts) == 1 else self.socket.sendmsg(parts, (), _SEND)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                raise StreamClosed(f"the front-end is gone: {error.strerror}") from error
            if len(parts) == 1 and sent == len(parts[0]):
                return
            parts = _unsent(parts, sent)
            if not parts:
                return
            if not self._wait(select.POLLOUT, seconds):
                raise StreamClosed(f"the front-end took nothing for {seconds:g} seconds")

    def wait_until_read(self, seconds: float) -> None:
        """Wait until the peer has read all that was sent, or is gone, but no longer than `seconds`."""
        waiter = select.poll()
        waiter.register(self.fd, 0)  # only hang-up and error: there is no event for an emptied send queue
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not waiter.poll(1):
            [unread] = _INT.unpack(fcntl.ioctl(self.fd, termios.TIOCOUTQ, bytes(_INT.size)))
            if not unread:
                return

    def end_sending(self) -> None:
        """Tell the peer that no more will come, while still reading what it sends (shutdown(2), SHUT_WR)."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            return  # it is gone already, which the next read shows

    def hang_up(self) -> None:
        """End both directions, which wakes whoever waits for the peer in another thread (shutdown(2), SHUT_RDWR)."""
        with contextlib.suppress(OSError):  # it is gone already
            self.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def _wait(self, event: int, seconds: float) -> bool:
        waiter = select.poll()
        waiter.register(self.fd, event)
        return bool(waiter.poll(seconds * 1000))


def unix_stream(fd: int) -> Stream:
    """A connection that was accepted from a Unix socket."""
    return Stream(socket.SocketType(socket.AF_UNIX, socket.SOCK_STREAM, 0, fd))


def _unsent(parts: Sequence[bytes | memoryview], sent: int) -> Sequence[bytes | memoryview]:
    """What is left of `parts`, as views: nothing is copied, however little is taken at a time."""
    for index, part in enumerate(parts):
        if sent < len(part):
            return (memoryview(part)[sent:], *parts[index + 1 :])
        sent -= len(part)
    return ()
