"""The blocking driver: one thread, one request at a time, any number of connections that wait for their next bytes.

    accept → recv → connection.receive_data → dispatcher.handle(head, conversation) → one send

A connection occupies the worker only from the complete head of a request to the end of its answer. Before that, between
requests, and while the rest of an early-answered body is discarded, it waits in the same epoll set as the listeners.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway import log
from gateway.app.interruption import Interruption
from gateway.app.wsgi import Result, refuse
from gateway.net.acceptor import Acceptor, IpAddress
from gateway.net.accesslog import AccessLog, Began
from gateway.net.conversation import Board, Conversation, Handler, Timeouts
from gateway.net.gate import Gate
from gateway.net.kept import KeptQueue
from gateway.net.mover import Mover
from gateway.net.orders import GO_ON, LEAVE, Control
from gateway.net.stream import Stream, StreamClosed
from gateway.protocol.events import Connection, Event, RequestHead, RequestRefused, Violation

_LINGER_SECONDS = 2.0  # how long the unread rest of a body is discarded after an early answer
_LAST_ACCEPTS = 1_000  # of connections that are queued when the whole pool stops
_RESTED = 0.0001  # seconds: who has waited for an event that long has left none waiting
_CLIENT_LEFT = 499  # nginx's status for a request that nobody waits for; it is sent to nobody
_RETRY_AFTER = 1  # seconds, in the answer to a request that was not worth running any more


@dataclass(slots=True)
class _Peer:
    """A connection between the driver's looks at it."""

    stream: Stream
    connection: Connection
    deadline: float
    registered: bool = False
    stale: bool = False  # its first request is known to have waited for too long
    kept: bool = False  # has had a request and may be closed between two, if it must be
    lingering: bool = False  # answered and shut down for writing: read to the end of the body, then closed
    discarding: bool = False  # answered and to be kept: read to the end of the body first

    @property
    def is_between_requests(self) -> bool:
        """Nothing of a request has been read, and nothing of one is still to come: others can serve it as well."""
        return self.connection.idle and self.connection.between_requests


_Request = tuple[_Peer, RequestHead | RequestRefused, Conversation, Began | None, float | None]


class Driver:
    """Serves connections of `listeners` until `control` becomes readable, then finishes what it has and returns."""

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        control: Control,
        new_connection: Callable[[], Connection],
        handler: Handler,
        *,
        timeouts: Timeouts,
        board: Board,
        gate: Gate,
        kept: KeptQueue | None = None,
        access: AccessLog | None = None,
        allowed: Sequence[IpAddress] = (),
        interruption: Interruption | None = None,
    ) -> None:
        self._epoll = select.epoll()
        self._acceptor = Acceptor(listeners, self._epoll, allowed)
        self._control = control
        self._new_connection = new_connection
        self._handler = handler
        self._timeouts = timeouts
        self._board = board
        self._gate = gate
        self._interruption = interruption or Interruption()
        self._kept = kept
        self._access = access
        self._peers: dict[int, _Peer] = {}
        self._fresh: dict[int, _Peer] = {}  # those of them that have sent nothing yet
        self._leaving = False
        self._rested = False  # this worker was idle when the event came that it is about to handle
        self._running: _Request | None = None  # that the application has; when it began, for how long it had waited
        self._mover = Mover.create(self._hand_on_idle) if kept is not None else None
        self._expiry = float("inf")  # no peer's deadline is earlier

    def run(self) -> None:
        """Serve until told to leave and every connection is finished, handed on, or out of time; after `watch`."""
        while not self._leaving or self._peers:
            asked = time.monotonic()
            events = self._epoll.poll(self._patience(asked))
            now = time.monotonic()
            self._rested = now - asked > _RESTED
            if len(events) > 1:
                self._share([fd for fd, _ in events])
            for fd, _ in events:
                peer = self._peers.get(fd)
                if peer is not None:
                    self._serve(peer)
                elif fd in self._acceptor:
                    self._accept(fd)
                elif fd == self._control.fileno():
                    self._obey()
                elif self._kept is not None and fd == self._kept.fileno() and not self._leaving:
                    self._adopt(self._kept)
            self._look_at_the_clock(now)
        self._epoll.close()

    # -- sources: listeners, the kept queue, the control channel ------------------------------------------------------

    def watch(self) -> None:
        """Begin to be woken for what comes: from here on the worker counts as ready."""
        self._epoll.register(self._control.fileno(), select.EPOLLIN)
        self._acceptor.watch()
        if self._kept is not None:
            self._epoll.register(self._kept.fileno(), select.EPOLLIN | select.EPOLLEXCLUSIVE)

    def _accept(self, listener: int) -> bool:
        """Take one connection; False when there was none for this worker."""
        accepted = self._acceptor.accept(listener)
        if accepted is None:
            return False
        stale = self._board.accepted()
        stream = self._acceptor.admit(*accepted)
        if stream is not None:
            self._welcome(stream, self._timeouts.head, stale=stale)
        return True

    def _adopt(self, kept: KeptQueue) -> None:
        """Take over a connection that another worker has handed on."""
        handed = kept.take()
        if handed is not None:
            stream, had_request = handed
            patience = self._timeouts.keepalive if had_request else self._timeouts.head
            self._welcome(stream, patience, kept=had_request)

    def _welcome(self, stream: Stream, patience: float, *, kept: bool = False, stale: bool = False) -> None:
        peer = _Peer(stream, self._new_connection(), time.monotonic() + patience, kept=kept, stale=stale)
        self._peers[peer.stream.fd] = peer
        if not kept:
            self._fresh[peer.stream.fd] = peer
        self._serve(peer)

    def _share(self, ready: Sequence[int]) -> None:
        """Let another worker have one of several connections with requests, unless one waits for a taker already."""
        peers = [peer for fd in ready if (peer := self._peers.get(fd)) is not None and peer.is_between_requests]
        if len(peers) > 1 and self._kept is not None and not self._kept.waiting():
            self._hand_on(peers[-1])

    def _hand_on_idle(self) -> None:
        """Let others have what waits for its next request: this one takes long. Called in the thread of the mover."""
        busy = self._running[0] if self._running is not None else None
        for peer in list(self._peers.values()):
            if peer is not busy and peer.is_between_requests and not self._hand_on(peer):
                return

    # -- one connection -----------------------------------------------------------------------------------------------

    def _serve(self, peer: _Peer) -> None:
        """Read what has come on a connection and do what it asks."""
        data = peer.stream.receive_now()
        if data is None:
            self._wait_for(peer)
            return
        self._fresh.pop(peer.stream.fd, None)
        waited = peer.connection.between_requests
        events = peer.connection.receive_data(data) if data else peer.connection.receive_eof()
        if not self._send_own(peer):
            return
        if peer.lingering:
            events = []  # no answer can follow the one that was the last
        for index, event in enumerate(events):
            if type(event) is RequestHead or type(event) is RequestRefused:
                self._answer(peer, event, events[index + 1 :])
                return
            if type(event) is Violation:
                log.line(f"connection closed: {event.reason}")
                self._close(peer)
                return
        if not data or peer.connection.closing or (peer.lingering and peer.connection.idle):
            self._close(peer)
            return
        if waited and not peer.connection.between_requests:
            peer.deadline = time.monotonic() + self._timeouts.head
        elif peer.discarding and peer.connection.idle:
            self._keep(peer)
            return
        self._wait_for(peer)

    def _send_own(self, peer: _Peer) -> bool:
        """Send what the protocol itself owes the peer; False when the peer is gone."""
        own = peer.connection.data_to_send()
        if own:
            try:
                peer.stream.send([own], 0)  # nobody's turn may depend on whether this peer reads
            except StreamClosed:
                self._close(peer)
                return False
        return True

    def _answer(self, peer: _Peer, head: RequestHead | RequestRefused, rest: Sequence[Event]) -> None:
        """Run one request to the end of its answer."""
        for fresh in list(self._fresh.values()):
            self._hand_on(fresh)  # its request would wait behind this one
        began = self._access.begin() if self._access is not None else None
        conversation = Conversation(
            peer.stream,
            peer.connection,
            head.id,
            rest,
            timeouts=self._timeouts,
            board=self._board,
            interruption=self._interruption,
        )
        if isinstance(head, RequestHead):
            peer.discarding = False
            waited = self._gate.waited(peer.stream, head.params)
            self._running = request = peer, head, conversation, began, waited
            result = self._turn_away(peer, head, conversation, waited) or self._run(head, conversation)
            self._end(request, result, keep=head.keep_conn)
        else:
            result = self._handler.refuse(head.status, head.reason, conversation)
            self._end((peer, head, conversation, began, None), result, keep=False)

    def go_on(self) -> None:
        """Serve on in place of another thread, whose application does not return: its request gets 504, or is cut."""
        assert self._running is not None
        if self._mover is not None:
            self._mover.end()
        peer, head, conversation, began, waited = self._running
        assert isinstance(head, RequestHead)
        conversation = conversation.take_over()
        result = Result(504, complete=False)
        if not conversation.begun:
            result = refuse(conversation, 504, head_only=head.params.get("REQUEST_METHOD") == "HEAD")
        self._end((peer, head, conversation, began, waited), result, keep=False)
        self.run()

    def _end(self, request: _Request, result: Result, *, keep: bool) -> None:
        """End the answer, take note of it, and do with the connection what comes next."""
        peer, head, conversation, began, waited = request
        self._running = None
        alive = conversation.finish() if result.complete else conversation.fail()
        self._board.end(conversation.label, result.status, waited)
        if self._access is not None and began is not None:
            params = head.params if isinstance(head, RequestHead) else {}
            self._access.write(began, params, result, complete=result.complete and alive)
        if alive:
            self._after_answer(peer, keep and not peer.connection.closing)
        else:
            self._close(peer)
        if self._interruption.raised is not None and not self._leaving:
            self._leave(handing_on=True)  # what the application was in the middle of may have stayed half done

    def _run(self, head: RequestHead, conversation: Conversation) -> Result:
        """Let the application answer, and nobody wait for that."""
        if self._mover is None or len(self._peers) == 1:
            return self._handler.handle(head, conversation)
        self._mover.begin()
        try:
            return self._handler.handle(head, conversation)
        finally:
            self._mover.end()

    def _turn_away(
        self, peer: _Peer, head: RequestHead, conversation: Conversation, waited: float | None
    ) -> Result | None:
        """Do without the application what is not worth running any more; None for a request that is."""
        rested, self._rested = self._rested, False
        if conversation.is_aborted or (
            not rested and self._gate.has_left(peer.stream, body_ended=conversation.body_ended)
        ):
            self._board.gone()
            return Result(_CLIENT_LEFT, complete=False)
        stale, peer.stale = peer.stale, False
        if stale or self._gate.is_too_old(waited):
            self._board.shed()
            head_only = head.params.get("REQUEST_METHOD") == "HEAD"
            return refuse(conversation, 503, head_only=head_only, retry_after=_RETRY_AFTER)
        return None

    def _after_answer(self, peer: _Peer, keep: bool) -> None:
        """Keep the connection, close it, or first discard the rest of a body that nobody read.

        A plain close with unread bytes resets the connection, and the front-end loses the answer (nginx 1.22: 502).
        """
        if not peer.connection.idle:
            peer.lingering = not keep
            peer.discarding = keep
            if not keep:
                peer.stream.end_sending()
            peer.deadline = time.monotonic() + _LINGER_SECONDS
            self._wait_for(peer)
        elif keep:
            self._keep(peer)
        else:
            self._close(peer)

    def _keep(self, peer: _Peer) -> None:
        """Wait for the next request, or let others do so where this worker is about to leave."""
        peer.discarding = False
        if not self._leaving:
            peer.kept = True
            peer.deadline = time.monotonic() + self._timeouts.keepalive
            self._wait_for(peer)
        elif not self._hand_on(peer):
            self._close(peer)

    def _wait_for(self, peer: _Peer) -> None:
        """Look at the connection again when bytes come, or at its deadline."""
        if not peer.registered:
            self._epoll.register(peer.stream.fd, select.EPOLLIN)
            peer.registered = True
        self._expiry = min(self._expiry, peer.deadline)

    def _close(self, peer: _Peer) -> None:
        self._forget(peer)
        peer.stream.close()

    def _forget(self, peer: _Peer) -> None:
        # By hand: a descriptor that was passed to another process stays in the epoll set when this one closes it.
        if peer.registered:
            self._epoll.unregister(peer.stream.fd)
        del self._peers[peer.stream.fd]
        self._fresh.pop(peer.stream.fd, None)

    # -- deadlines and leaving ----------------------------------------------------------------------------------------

    def _patience(self, now: float) -> float:
        """Seconds until the next deadline; -1 for none."""
        next_look = min(self._expiry, self._acceptor.resumes or self._expiry)
        return -1 if next_look == float("inf") else max(0.0, next_look - now)

    def _look_at_the_clock(self, now: float) -> None:
        """Do what was due when this round began."""
        resumes = self._acceptor.resumes
        if resumes and now >= resumes:
            self._acceptor.resumes = 0.0
            self._acceptor.watch()
        if now >= self._expiry:
            for peer in [peer for peer in self._peers.values() if now >= peer.deadline]:
                self._expire(peer, now)
            self._expiry = min((peer.deadline for peer in self._peers.values()), default=float("inf"))

    def _expire(self, peer: _Peer, now: float) -> None:
        """Close a connection whose time is over, unless its bytes came while another request kept the worker busy."""
        self._serve(peer)
        if self._peers.get(peer.stream.fd) is peer and now >= peer.deadline:
            self._close(peer)

    def _obey(self) -> None:
        message = self._control.recv(64)
        if message != GO_ON:
            self._leave(handing_on=message == LEAVE)

    def _leave(self, *, handing_on: bool) -> None:
        """Take no new connections; hand on, or close, those that are between two requests."""
        self._epoll.unregister(self._control.fileno())
        self._acceptor.forget()
        if self._kept is not None:
            self._epoll.unregister(self._kept.fileno())
        if not handing_on:
            self._kept = None
        self._leaving = True
        # A wake-up may have come to this worker alone, for a connection that nobody else would then look for; when all
        # the workers leave, nobody else will come for any that is queued.
        if self._kept is not None:
            self._adopt(self._kept)
        for listener in self._acceptor.descriptors:
            for _ in range(1 if handing_on else _LAST_ACCEPTS):
                if not self._accept(listener):
                    break
        for peer in list(self._peers.values()):
            if peer.is_between_requests and not self._hand_on(peer) and peer.kept:
                self._close(peer)

    def _hand_on(self, peer: _Peer) -> bool:
        """Give an idle connection to the workers that stay; False where there are none, or their queue is full."""
        if self._kept is None or not self._kept.give(peer.stream.socket, kept=peer.kept):
            return False
        self._close(peer)
        return True
