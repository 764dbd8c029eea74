"""The quick way of a driver's requests in Python: the twin of `_quick.c`, where that was not built, with its interface.

The loop of a worker whose requests go the quick way, as long as nothing else comes: epoll_wait → accept, or one of the
connections that the driver has marked → `pureserve`.
"""

from __future__ import annotations

import select
import socket
import time
from typing import Any

from gateway.net.pureserve import Requests
from gateway.net.wiring import Wiring

_READABLE = select.EPOLLIN
_MOST_EVENTS = 64
_FIRST_BYTES = 1  # ms that the first bytes of a connection are waited for, where there is no other

Events = list[tuple[int, int]]
ENDED, STALE = ..., NotImplemented  # see `quick.Outcome`
_BACK: Events = []  # after a request that the driver has ended: nothing for it to do, but it may have to leave


class Quick:
    """Serves connections of one driver that runs in the main thread."""

    def __init__(self, wiring: Wiring, /) -> None:
        self._accepted = wiring.accepted
        self._should_share = wiring.should_share
        self._mover = wiring.mover
        self._listeners = {listener.fileno(): listener for listener in wiring.listeners}
        self._marked: dict[int, socket.SocketType] = {}  # connections that are served from here, by descriptor
        self._served: dict[int, float] = {}  # when they had their last answer
        self._busy = -1
        requests = Requests(wiring)
        self.serve = requests.serve
        self.stderr = requests.stderr

    # -- which connections are served from here ------------------------------------------------------------------------

    def mark(self, fd: int, sock: socket.SocketType | None, /) -> None:
        """Let a connection be served from here: one on a Unix socket that has had requests and is between two. None
        takes that back.
        """
        self._served.pop(fd, None)
        if sock is not None:
            self._marked[fd] = sock
        else:
            self._marked.pop(fd, None)

    def served(self, fd: int, /) -> float:
        """When a marked connection had its last answer from here, in seconds of the monotonic clock; 0 for none."""
        return self._served.get(fd, 0.0)

    def busy(self) -> int:
        """The descriptor of the connection whose request runs from here, or -1."""
        return self._busy

    # -- events --------------------------------------------------------------------------------------------------------

    def wait(self, epoll: select.epoll, timeout: int, connections: int, /) -> Events | tuple[int, Any]:
        """Wait for events of an epoll set, up to `timeout` ms from the last one, and serve what is served from here.

        Returns the list of all others, or one outcome with its descriptor: what else has come then comes again. There
        are so many `connections` in all.
        """
        marked, listeners, patience = self._marked, self._listeners, timeout / 1000 if timeout >= 0 else -1
        while True:
            found = epoll.poll(patience, _MOST_EVENTS)
            if (len(found) != 1 or found[0][1] != _READABLE) and self._are_for_driver(found):
                return found
            for fd, _ in found:
                if (sock := marked.get(fd)) is not None:
                    outcome = self.serve(sock, True, -1) if connections == 1 else self._serve_watched(sock, fd)
                    if outcome is True and fd in marked:  # else it was handed on meanwhile
                        self._served[fd] = time.monotonic()
                    elif outcome is ENDED:
                        return _BACK
                    elif outcome is not None and outcome is not True:
                        return fd, outcome
                elif fd not in listeners:  # nobody's of here, or the mover was faster
                    return found
                elif (left := self._accept_and_serve(listeners[fd], connections > 0)) is not None:
                    return left

    def _are_for_driver(self, events: Events) -> bool:
        """Say whether the driver is to see these events: what is nobody's of here, and more than one connection where
        others are idle.
        """
        connections = 0
        for fd, what in events:
            if what != _READABLE or not (fd in self._marked or fd in self._listeners):
                return True
            connections += fd in self._marked
        return not events or (connections > 1 and self._should_share())

    def _serve_watched(self, sock: socket.SocketType, fd: int) -> Any:
        """Serve a connection, and let none but that wait for it."""
        mover = self._mover
        if mover is None:
            return self.serve(sock, True, -1)
        self._busy = fd
        mover.begin(object())
        try:
            return self.serve(sock, True, -1)
        finally:
            mover.end()
            self._busy = -1

    def _accept_and_serve(self, listener: socket.socket, crowded: bool) -> Events | tuple[int, Any] | None:
        """Accept a connection and serve it: None where that is all, else its descriptor, for the driver to have, and
        what `serve` says of it, or STALE where it has waited for too long and nothing was read. Where it cannot, for
        want of descriptors for one, the events that make the driver try itself.
        """
        try:
            fd, _ = listener._accept()  # type: ignore[attr-defined] # as `Acceptor.accept`
        except (BlockingIOError, ConnectionAbortedError):
            return None
        except OSError:
            return [(listener.fileno(), _READABLE)]
        sock = socket.SocketType(socket.AF_UNIX, socket.SOCK_STREAM, 0, fd)
        if sock.gettimeout() is not None:  # as `Stream`
            sock.setblocking(True)
        outcome = None
        if self._accepted():
            outcome = STALE
        elif _has_come(fd, 0 if crowded else _FIRST_BYTES):
            outcome = self._serve_watched(sock, fd) if crowded else self.serve(sock, True, -1)
        if outcome is False:
            sock.close()
            return None
        sock.detach()
        return _BACK if outcome is ENDED else (fd, outcome)


def _has_come(fd: int, patience: int) -> bool:
    """Say whether a request has come within `patience` ms, and nobody has left."""
    waiter = select.poll()
    waiter.register(fd, select.POLLIN)
    return waiter.poll(patience) == [(fd, select.POLLIN)]
