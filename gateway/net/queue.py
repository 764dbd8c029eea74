"""The listen queues of a pool: how many connections wait (sock_diag(7), tcp(7) TCP_INFO), and for how long at least."""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_LISTEN = 10  # TCP_LISTEN of <linux/tcp_states.h>, a Unix socket's state too

_TCP_INFO = struct.Struct("=B23xII")  # of struct tcp_info: state, unacked (waiting), sacked (limit)

_NETLINK_SOCK_DIAG = 4  # <linux/netlink.h>
_NLM_F_REQUEST = 1
_SOCK_DIAG_BY_FAMILY = 20  # <linux/sock_diag.h>
_UDIAG_SHOW_RQLEN = 0x10  # <linux/unix_diag.h>
_UNIX_DIAG_RQLEN = 4
_EVERY_STATE = 0xFFFFFFFF
_SO_COOKIE = 57  # <asm-generic/socket.h>, since Linux 4.12
_ANY_COOKIE = (1 << 64) - 1  # INET_DIAG_NOCOOKIE, twice

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence number, port
_REQUEST = struct.Struct("=BBHIIIII")  # unix_diag_req: family, protocol, padding, states, inode, show, cookie
_SOCKET = struct.Struct("=BBBBIII")  # unix_diag_msg: family, type, state, padding, inode, cookie
_ATTRIBUTE = struct.Struct("=HH")  # nlattr: length with this head, type
_RQLEN = struct.Struct("=II")  # unix_diag_rqlen: of a listening socket, connections waiting and the limit

_LONGEST_ANSWER = 512  # bytes; 52 are usual
_MOST_STALE_ANSWERS = 8


class QueueDepth(NamedTuple):
    """The connections that wait in some listen queues, and the limit that listen(2) set, both summed.

    Linux lets one connection more than its limit wait in a queue. Where the kernel does not tell a queue's depth,
    `exact` is false, that queue counts as 1 when a connection waits and as 0 when none does, and adds 0 to `limit`.
    """

    waiting: int
    limit: int
    exact: bool = True

    def plus(self, accepted: int) -> QueueDepth:
        """The same with connections that have been accepted, and wait for a worker nevertheless."""
        return QueueDepth(self.waiting + accepted, self.limit, self.exact)


class QueueGauge:
    """Reads the depth of some listeners' queues, TCP or Unix, whoever made them; needs no privilege.

    For Unix sockets it keeps a netlink socket open. It is not exact where there is none (other systems than Linux,
    seccomp or `RestrictAddressFamilies` without AF_NETLINK, a kernel without unix_diag) and for a Unix socket that was
    made in another network namespace. A process that forks must not go on using it on both sides.
    """

    def __init__(self, listeners: Iterable[socket.socket]) -> None:
        self._listeners = [(sock, _key(sock)) for sock in listeners]
        self._diagnosis = UnixDiagnosis.open() if any(key for _, key in self._listeners) else None

    def read(self) -> QueueDepth:
        """Read the depth now. Never blocks and never raises OSError."""
        waiting = limit = 0
        exact = True
        for sock, key in self._listeners:
            depth = self._depth(sock, key)
            if depth is None:
                exact = False
                depth = _is_readable(sock), 0
            waiting += depth[0]
            limit += depth[1]
        return QueueDepth(waiting, limit, exact)

    def close(self) -> None:
        """Close the netlink socket; the listeners stay open."""
        if self._diagnosis is not None:
            self._diagnosis.close()
            self._diagnosis = None

    def _depth(self, sock: socket.socket, key: SocketKey | None) -> tuple[int, int] | None:
        if key is not None:
            return self._diagnosis.depth(key) if self._diagnosis is not None else None
        return _tcp_depth(sock) if sock.family in (socket.AF_INET, socket.AF_INET6) else None


class SocketKey(NamedTuple):
    """What names a Unix socket to the kernel: its inode, and its cookie, which is never given out again."""

    inode: int
    cookie: int = _ANY_COOKIE


class UnixDiagnosis:
    """Asks the kernel about Unix sockets over one non-blocking netlink socket (sock_diag(7))."""

    def __init__(self, netlink: socket.socket) -> None:
        self._netlink = netlink
        self._sequence = 0

    @classmethod
    def open(cls) -> UnixDiagnosis | None:
        """Open the netlink socket; None where there is none, or this process may not have it."""
        if sys.platform != "linux":
            return None
        try:
            netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _NETLINK_SOCK_DIAG)
        except OSError:
            return None
        try:
            netlink.connect((0, 0))  # from here on nobody but the kernel can send to it
        except OSError:
            netlink.close()
            return None
        return cls(netlink)

    def depth(self, key: SocketKey) -> tuple[int, int] | None:
        """How many connections wait for a listening socket, and the limit; None where the kernel does not say."""
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        try:
            self._netlink.send(_request(key, self._sequence))
            # The kernel answers before send() returns: where nothing can be read now, nothing will come. What an
            # earlier question left behind is read away.
            for _ in range(_MOST_STALE_ANSWERS):
                answer = self._netlink.recv(_LONGEST_ANSWER)
                if len(answer) >= _HEADER.size and _HEADER.unpack_from(answer)[3] == self._sequence:
                    return _unix_depth(answer, key)
        except OSError:
            return None
        return None

    def close(self) -> None:
        """Close the netlink socket."""
        self._netlink.close()


class QueueAge:
    """How long at least the oldest waiting connection has waited, from samples of what was accepted and what waits.

    At each sample, `accepted + depth` connections had arrived. While fewer than that have been accepted, one of them
    still waits, in whatever order and from whichever of several queues they are taken. Times are milliseconds of any
    clock that never goes back.
    """

    def __init__(self) -> None:
        self._arrivals: deque[tuple[int, int]] = deque()  # (when, arrived by then), both rising; no more than wait now
        self._accepted = 0

    def sample(self, now: int, accepted: int, depth: int) -> int:
        """Take a sample and return the age in milliseconds, 0 where nothing is known to wait.

        `accepted` counts every connection taken from the queues since the start, also by workers that are gone, and is
        read before `depth`: in the other order, a connection accepted in between would count twice. A count that comes
        too late makes the age that of a connection just accepted; one that never comes is made up for as soon as a
        sample shows that fewer have arrived than before.
        """
        if accepted < self._accepted:  # counted from a new start, so older samples say nothing
            self._arrivals.clear()
        self._accepted = accepted
        self._add(now, accepted + depth)
        while self._arrivals and self._arrivals[0][1] <= accepted:
            self._arrivals.popleft()
        return now - self._arrivals[0][0] if self._arrivals else 0

    def arrived_before(self, moment: int) -> int:
        """How many connections had arrived by then, of which one still waits; 0 where none does."""
        return max((arrived for when, arrived in self._arrivals if when <= moment), default=0)

    def _add(self, now: int, arrived: int) -> None:
        """Add a sample; earlier ones that say more have arrived were wrong, for no arrival is ever undone."""
        since = now
        while self._arrivals and self._arrivals[-1][1] >= arrived:
            since, _ = self._arrivals.pop()
        self._arrivals.append((since, arrived))


def _key(sock: socket.socket) -> SocketKey | None:
    """The key of a Unix socket; None for any other."""
    if sock.family != socket.AF_UNIX:
        return None
    inode = os.fstat(sock.fileno()).st_ino & 0xFFFFFFFF
    try:
        cookie = sock.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8)
    except OSError:
        return SocketKey(inode)
    return SocketKey(inode, int.from_bytes(cookie, sys.byteorder))


def _request(key: SocketKey, sequence: int) -> bytes:
    cookie = key.cookie & 0xFFFFFFFF, key.cookie >> 32
    body = _REQUEST.pack(socket.AF_UNIX, 0, 0, _EVERY_STATE, key.inode, _UDIAG_SHOW_RQLEN, *cookie)
    return _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, sequence, 0) + body


def _unix_depth(answer: bytes, key: SocketKey) -> tuple[int, int] | None:
    """Read the answer, which is at least a header; None for an error, and for anything but this listening socket."""
    length, kind, _, _, _ = _HEADER.unpack_from(answer)
    start = _HEADER.size + _SOCKET.size
    if kind != _SOCK_DIAG_BY_FAMILY or length != len(answer) or length < start:
        return None
    family, _, state, _, inode, low, high = _SOCKET.unpack_from(answer, _HEADER.size)
    if (family, state, inode) != (socket.AF_UNIX, _LISTEN, key.inode):
        return None
    if key.cookie not in (_ANY_COOKIE, low | high << 32):
        return None
    for kind, value in _attributes(answer, start):
        if kind == _UNIX_DIAG_RQLEN and len(value) == _RQLEN.size:
            waiting, limit = _RQLEN.unpack(value)
            return waiting, limit
    return None


def _attributes(answer: bytes, start: int) -> Iterator[tuple[int, bytes]]:
    """The attributes of a netlink message, each aligned to four bytes (netlink(7)), up to the first broken one."""
    while start + _ATTRIBUTE.size <= len(answer):
        size, kind = _ATTRIBUTE.unpack_from(answer, start)
        if size < _ATTRIBUTE.size or start + size > len(answer):
            return
        yield kind, answer[start + _ATTRIBUTE.size : start + size]
        start += (size + 3) & ~3


def _tcp_depth(sock: socket.socket) -> tuple[int, int] | None:
    if sys.platform != "linux":  # others fill a tcp_info of their own
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    except OSError:
        return None
    if len(info) < _TCP_INFO.size:
        return None
    state, waiting, limit = _TCP_INFO.unpack(info)
    return (waiting, limit) if state == _LISTEN else None


def _is_readable(sock: socket.socket) -> bool:
    """Say whether a connection waits to be accepted; none does for a listener that has been closed."""
    if sock.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return any(events & select.POLLIN for _, events in poll.poll(0))
