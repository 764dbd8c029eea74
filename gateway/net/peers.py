"""The connections of a driver between its looks at them: which there are, when their time is over, and whom they are
handed on to.
"""

from __future__ import annotations

import select
from collections.abc import Sequence

from gateway.net.conversation import Board
from gateway.net.kept import KeptQueue
from gateway.net.quick import QuickWay
from gateway.net.stream import Stream, StreamClosed, unix_stream
from gateway.protocol.events import Connection

NEVER = float("inf")


class Peer:
    """One connection; `deadline` is on the monotonic clock.

    `kept`: it has had a request and may be closed between two, if it must be. `stale`: its first request is known to
    have waited for too long.
    """

    __slots__ = (
        "connection", "deadline", "discarding", "kept", "lingering", "quick", "registered", "stale", "stream",
    )  # fmt: skip

    def __init__(self, stream: Stream, connection: Connection, deadline: float, *, kept: bool, stale: bool) -> None:
        self.stream = stream
        self.connection = connection
        self.deadline = deadline
        self.kept = kept
        self.stale = stale
        self.quick = False  # nothing but whole requests has come, so that the next one may go the quick way
        self.registered = False
        self.lingering = False  # answered and shut down for writing: read to the end of the body, then closed
        self.discarding = False  # answered and to be kept: read to the end of the body first

    @property
    def is_between_requests(self) -> bool:
        """Nothing of a request has been read, and nothing of one is still to come: others can serve it as well."""
        return self.connection.idle and self.connection.between_requests


class Peers(dict[int, Peer]):
    """Peers by descriptor, those of them in the epoll set that are waited for."""

    def __init__(self, kept: KeptQueue | None) -> None:
        super().__init__()
        self.epoll: select.epoll  # to be set before there are any
        self.fresh: dict[int, Peer] = {}  # those that have sent nothing yet
        self.kept = kept  # to the workers that stay
        self.quick: QuickWay | None = None
        self.expiry = NEVER  # no deadline is earlier

    def add(self, peer: Peer) -> Peer:
        """Have one more; return it."""
        self[peer.stream.fd] = peer
        if not peer.kept:
            self.fresh[peer.stream.fd] = peer
        return peer

    def wait_for(self, peer: Peer) -> None:
        """Look at the connection again when bytes come, or at its deadline."""
        if not peer.registered:
            self.epoll.register(peer.stream.fd, select.EPOLLIN)
            peer.registered = True
        self.expiry = min(self.expiry, peer.deadline)

    def send_own(self, peer: Peer) -> bool:
        """Send what the protocol itself owes a peer; False when it is gone."""
        own = peer.connection.data_to_send()
        if own:
            try:
                peer.stream.send([own], 0)  # nobody's turn may depend on whether this peer reads
            except StreamClosed:
                self.close(peer)
                return False
        return True

    def send_rest(self, fd: int, data: bytes, seconds: float) -> bool:
        """Send what a connection, a peer's or one just accepted, did not take at once; False when nobody takes it."""
        peer = self.get(fd)
        stream = peer.stream if peer is not None else unix_stream(fd)
        try:
            stream.send([data], seconds)
        except StreamClosed:
            return False
        finally:
            if peer is None:
                stream.socket.detach()  # it goes on without this object
        return True

    def allow_quick_way(self, peer: Peer) -> None:
        """Let its next request go the quick way, from the first byte on where it comes by a Unix socket."""
        self.fresh.pop(peer.stream.fd, None)  # the first one may have gone so, too
        if self.quick is not None and peer.quick and not peer.stream.is_tcp:
            self.quick.mark(peer.stream.fd, peer.stream.socket)

    def leave_quick_way(self, peer: Peer) -> None:
        """Let the driver itself read what comes next."""
        if self.quick is not None:
            self.quick.mark(peer.stream.fd, None)
            peer.quick = False

    def close(self, peer: Peer) -> None:
        """Have it no longer."""
        if peer.quick:
            self.leave_quick_way(peer)
        # By hand: a descriptor that was passed to another process stays in the epoll set when this one closes it.
        if peer.registered:
            self.epoll.unregister(peer.stream.fd)
        del self[peer.stream.fd]
        self.fresh.pop(peer.stream.fd, None)
        peer.stream.close()

    def overdue(self, now: float, keepalive: float) -> list[Peer]:
        """Those whose time is over; answers that were given on the quick way count."""
        for peer in self.values():
            if self.quick is not None and now >= peer.deadline and (served := self.quick.served(peer.stream.fd)):
                peer.deadline = max(peer.deadline, served + keepalive)
        return [peer for peer in self.values() if now >= peer.deadline]

    def hand_on(self, peer: Peer) -> bool:
        """Give an idle connection to the workers that stay; False where there are none, or their queue is full."""
        if self.kept is None or not self.kept.give(peer.stream.socket, kept=peer.kept):
            return False
        self.close(peer)
        return True

    def share(self, events: Sequence[tuple[int, int]], board: Board) -> None:
        """Let an idle worker have one of several connections with requests, unless one waits for a taker already."""
        peers = [peer for fd, _ in events if (peer := self.get(fd)) is not None and peer.is_between_requests]
        if len(peers) > 1 and self.kept is not None and board.should_share() and not self.kept.waiting():
            self.hand_on(peers[-1])

    def hand_on_fresh(self, but: Peer | None = None) -> None:
        """Let others have what has sent nothing yet: its request would wait behind the one that comes now."""
        for fresh in list(self.fresh.values()):
            if fresh is not but:
                self.hand_on(fresh)

    def hand_on_idle(self, but: Peer | None) -> None:
        """Let others have what waits for its next request."""
        for peer in list(self.values()):
            if peer is not but and peer.is_between_requests and not self.hand_on(peer):
                return
