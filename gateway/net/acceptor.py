"""The listeners of a worker in its epoll set: accept(2), whom it lets in, and what it does when it can take no more."""

from __future__ import annotations

import errno
import ipaddress
import select
import socket
import time
from collections.abc import Sequence

from gateway import log
from gateway.net.stream import Peer, Stream

_PAUSE = 0.1  # seconds without accepting, after the process or the system ran out of descriptors or memory
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class Acceptor:
    """Takes connections from listeners that many processes watch."""

    def __init__(self, listeners: Sequence[socket.socket], allowed: Sequence[IpAddress]) -> None:
        """`allowed`: who may connect over TCP; empty for everyone."""
        self.epoll: select.epoll  # to be set before it watches
        # With family, type and protocol as numbers: `socket.socket` makes enumerations of them for each connection.
        self._listeners = {
            listener.fileno(): (listener, int(listener.family), int(listener.type), listener.proto)
            for listener in listeners
        }
        for listener in listeners:
            listener.setblocking(False)  # whatever socket.setdefaulttimeout the application has asked for
        self._allowed = frozenset(allowed)
        self._watching = False
        self.resumes = 0.0  # when to watch again after a pause, on the monotonic clock; 0 where there is none

    def __contains__(self, fd: int) -> bool:
        """Say whether `fd` is a listener's."""
        return fd in self._listeners

    @property
    def on_unix_sockets(self) -> tuple[socket.socket, ...]:
        """Those whose peers need no admission: the permissions of their file decide."""
        return tuple(listener for listener, family, _, _ in self._listeners.values() if family == socket.AF_UNIX)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Those of the listeners."""
        return tuple(self._listeners)

    def watch(self) -> None:
        """Be woken for connections."""
        for fd in self._listeners:
            # Exclusive: of the pool's idle workers one is woken for one connection, not all (epoll_ctl(2)).
            self.epoll.register(fd, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        self._watching = True

    def step_back(self) -> None:
        """Be woken after all others who wait (epoll(7): exclusive wake-ups go to the first who has begun to)."""
        if self._watching:
            self.forget()
            self.watch()

    def forget(self) -> None:
        """Be woken no longer."""
        self.resumes = 0.0
        if self._watching:
            for fd in self._listeners:
                self.epoll.unregister(fd)
        self._watching = False

    def accept(self, fd: int) -> tuple[socket.SocketType, Peer]:
        """Take one connection. Raises OSError where there is none for this worker, or none can be taken."""
        listener, family, kind, protocol = self._listeners[fd]
        connection, peer = listener._accept()  # type: ignore[attr-defined] # what accept() of any Python is made of
        return socket.SocketType(family, kind, protocol, connection), peer

    def rest(self, error: OSError) -> None:
        """Watch no more for a moment where accepting has failed for want of descriptors or memory."""
        if error.errno in _EXHAUSTED and self._watching:
            # The connection stays queued, and asking again at once would spin.
            log.line(f"cannot accept: {error.strerror}; trying again in {_PAUSE:g} s", log.Level.WARNING)
            self.forget()
            self.resumes = time.monotonic() + _PAUSE

    def admit(self, sock: socket.SocketType, peer: Peer) -> Stream | None:
        """Let a connection in, or close that of somebody who may not connect."""
        if self._allowed and isinstance(peer, tuple):  # of a Unix socket's peer its file's permissions have decided
            ip = ipaddress.ip_address(peer[0].partition("%")[0])
            if (getattr(ip, "ipv4_mapped", None) or ip) not in self._allowed:
                log.line(f"connection from {peer[0]} refused: not in listen_allowed_clients", log.Level.WARNING)
                sock.close()
                return None
        return Stream(sock, peer)
