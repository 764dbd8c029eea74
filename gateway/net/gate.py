"""Whether a request is still worth running: for how long it has waited, and whether its client is still there."""

from __future__ import annotations

import select
import socket
import struct
import sys
import time
from collections.abc import Mapping
from typing import Any

from gateway.app.exchange import Result
from gateway.app.wsgi import refuse
from gateway.net.conversation import Board, Conversation
from gateway.net.stream import Stream
from gateway.protocol.events import RequestHead

_STAMP = "REQUEST_TIME_FLOAT"  # the bundled nginx configuration sets it to $msec
_CLIENT_LEFT = 499  # nginx's status for a request that nobody waits for; it is sent to nobody
_RETRY_AFTER = 1  # seconds, in the answer to a request that was not worth running any more
_TCP_INFO = struct.Struct("=52xI")  # of struct tcp_info (tcp(7)): tcpi_last_data_recv, in milliseconds


class Gate:
    """Looks at requests between their head and their application."""

    def __init__(self, queue_timeout: float = 0.0, protocol: str = "fastcgi") -> None:
        """`queue_timeout` in seconds, 0 for none."""
        self.queue_timeout = queue_timeout
        # FastCGI needs no end of the stream to end a body; of SCGI it is a usual thing.
        self._half_close_is_leaving = protocol == "fastcgi"
        self._poll = select.poll()

    def waited(self, stream: Stream, params: Mapping[str, Any]) -> float | None:
        """For how many seconds a request has waited; None where nobody says.

        A front-end's own stamp counts if it has the same clock, that is on the same machine.
        """
        if stream.is_local and (stamp := params.get(_STAMP)):
            try:
                return max(0.0, time.time() - float(stamp))
            except ValueError:
                return None
        return _since_last_bytes(stream.socket) if self.queue_timeout and stream.is_tcp else None

    def turn_away(
        self,
        head: RequestHead,
        conversation: Conversation,
        stream: Stream,
        waited: float | None,
        board: Board,
        *,
        seen: bool,
        stale: bool,
    ) -> Result | None:
        """Do without the application what is not worth running any more; None for a request that is.

        `seen`: the front-end is known to be there; `stale`: its connection is known to have waited for too long.
        """
        if conversation.is_aborted or (not seen and self.has_left(stream, body_ended=conversation.body_ended)):
            board.gone()
            return Result(_CLIENT_LEFT, complete=False)
        if stale or self.is_too_old(waited):
            board.shed()
            head_only = head.params.get("REQUEST_METHOD") == "HEAD"
            return refuse(conversation, 503, head_only=head_only, retry_after=_RETRY_AFTER)
        return None

    def is_too_old(self, waited: float | None) -> bool:
        """Say whether that is longer than `queue_timeout`."""
        return waited is not None and 0 < self.queue_timeout < waited

    def has_left(self, stream: Stream, *, body_ended: bool) -> bool:
        """Say whether the front-end has closed the connection, as it does when its client leaves.

        A Unix socket tells that both directions are closed. TCP tells of the peer's sending direction alone.
        """
        events = select.POLLRDHUP if body_ended and stream.is_tcp and self._half_close_is_leaving else 0
        self._poll.register(stream.fd, events)  # hang-up and error are told without being asked for (poll(2))
        found = self._poll.poll(0)
        self._poll.unregister(stream.fd)
        return bool(found)


def _since_last_bytes(sock: socket.SocketType) -> float | None:
    if sys.platform != "linux":  # others fill a tcp_info of their own
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    except OSError:
        return None
    return _TCP_INFO.unpack(info)[0] / 1000 if len(info) == _TCP_INFO.size else None
