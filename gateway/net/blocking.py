"""The blocking driver: one thread, one request at a time, any number of connections that wait for their next bytes.

    accept → recv → connection.receive_data → dispatcher.handle(head, conversation) → one send

A connection occupies the worker only from the complete head of a request to the end of its answer. Before that, between
requests, and while the rest of an early-answered body is discarded, it waits in the same epoll set as the listeners.
"""

from __future__ import annotations

import functools
import math
import select
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from gateway import log
from gateway.app.exchange import Result
from gateway.app.interruption import Interruption
from gateway.app.wsgi import refuse
from gateway.net.acceptor import Acceptor, IpAddress
from gateway.net.accesslog import AccessLog, Began
from gateway.net.conversation import Board, Conversation, Handler, Timeouts
from gateway.net.gate import Gate
from gateway.net.kept import KeptQueue
from gateway.net.mover import Mover
from gateway.net.orders import GO_ON, LEAVE, Control
from gateway.net.peers import NEVER, Peer, Peers
from gateway.net.quick import ENDED, NO_LOOK, STALE, Outcome, QuickMaker
from gateway.net.stream import Stream, unix_stream
from gateway.protocol.events import BodyEnd, Connection, Event, RequestHead, RequestRefused, Violation
from gateway.protocol.fastcgi import FastCGIConnection

_LINGER_SECONDS = 2.0  # how long the unread rest of a body is discarded after an early answer
_LAST_ACCEPTS = 1_000  # of connections that are queued when the whole pool stops
_READABLE = select.EPOLLIN
_MOST_EVENTS = 64  # at once; others come first in the next round

_Request = tuple[Peer, dict[str, Any], Conversation, Began | None, float | None]
T = TypeVar("T")


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
        quick: QuickMaker | None = None,
    ) -> None:
        """`quick` makes the quick way of requests (`quick.OrdinaryWay`), for a driver that runs in the main thread."""
        self.acceptor = Acceptor(listeners, allowed)
        self._control = control
        self._new_connection = new_connection
        self._handler = handler
        self._timeouts = timeouts
        self.board = board
        self.gate = gate
        self.interruption = interruption = interruption or Interruption()
        self._converse = functools.partial(Conversation, timeouts=timeouts, board=board, interruption=interruption)
        self.access = access
        self._peers = Peers(kept)
        self._leaving = False
        self._seen = False  # the event that is being handled has just come, and told of no hang-up
        self._busy: Peer | None = None  # whose request runs
        self._running: _Request | None = None  # that the application has; when it began, for how long it had waited
        self.mover = Mover.create(self._hand_on_idle) if kept is not None else None
        self._quick = quick(self) if quick is not None else None
        self._peers.quick = self._quick
        self._now = time.monotonic()  # when it was last asked for

    def run(self) -> None:
        """Serve until told to leave and every connection is finished, handed on, or out of time; after `watch`."""
        while not self._leaving or self._peers:
            self._seen = True
            for fd, what in self._wait():
                peer = self._peers.get(fd)
                if peer is not None:
                    self._seen &= what == _READABLE
                    self._serve(peer)
                elif fd in self.acceptor:
                    self._accept(fd)
                elif fd == self._control.fileno():
                    self._obey()
                elif self._peers.kept is not None and fd == self._peers.kept.fileno() and not self._leaving:
                    self._adopt(self._peers.kept)
                self._seen = False  # the others' events may be as old as what has been done meanwhile
            if self._now >= self._peers.expiry:
                self._look_at_the_clock()
        self._epoll.close()

    def _wait(self) -> Sequence[tuple[int, int]]:
        """The descriptors for which something has come, up to the next deadline, but for what goes the quick way."""
        patience = -1.0 if self._peers.expiry == NEVER else max(0.0, self._peers.expiry - self._now)
        if self._quick is None or self._leaving or self._peers.fresh:
            found: Sequence[Any] = self._epoll.poll(patience, _MOST_EVENTS)
        else:
            milliseconds = -1 if patience < 0 else math.ceil(patience * 1000)
            found = self._quick.wait(self._epoll, milliseconds, len(self._peers))
        self._now = time.monotonic()
        if not isinstance(found, list):
            self._go_on_with(*found)
            return ()
        if len(found) > 1:
            self._peers.share(found, self.board)
        return found

    def _go_on_with(self, fd: int, outcome: Outcome) -> None:
        """Do what the quick way has left to be done with a connection, one of the peers or just accepted."""
        peer = self._peers.get(fd) or self._welcome(unix_stream(fd), self._timeouts.head, stale=outcome is STALE)
        if outcome is STALE:
            self._look_at(peer)
        else:
            self._go_on(peer, outcome)

    # -- sources: listeners, the kept queue, the control channel ------------------------------------------------------

    def watch(self) -> None:
        """Begin to be woken for what comes, in this process: from here on the worker counts as ready."""
        self._epoll = self.acceptor.epoll = self._peers.epoll = select.epoll()
        self._epoll.register(self._control.fileno(), select.EPOLLIN)
        self.acceptor.watch()
        if self._peers.kept is not None:
            self._epoll.register(self._peers.kept.fileno(), select.EPOLLIN | select.EPOLLEXCLUSIVE)

    def _accept(self, listener: int) -> bool:
        """Take one connection; False when there was none for this worker."""
        self._seen = False
        try:
            accepted = self.acceptor.accept(listener)
        except OSError as error:
            self._rest(error)
            return False
        stale = self.board.accepted()
        stream = self.acceptor.admit(*accepted)
        if stream is not None:
            self._serve(self._welcome(stream, self._timeouts.head, stale=stale), new=True)
        return True

    def _rest(self, error: OSError) -> None:
        """Nothing was accepted; look again in a moment where it was for want of descriptors or memory."""
        self.acceptor.rest(error)
        if self.acceptor.resumes:
            self._peers.expiry = min(self._peers.expiry, self.acceptor.resumes)

    def _adopt(self, kept: KeptQueue) -> None:
        """Take over a connection that another worker has handed on."""
        handed, self._seen = kept.take(), False
        if handed is not None:
            stream, had_request = handed
            patience = self._timeouts.keepalive if had_request else self._timeouts.head
            self._serve(self._welcome(stream, patience, kept=had_request), new=True)

    def _welcome(self, stream: Stream, patience: float, *, kept: bool = False, stale: bool = False) -> Peer:
        peer = Peer(stream, self._new_connection(), time.monotonic() + patience, kept=kept, stale=stale)
        peer.quick = not stale and self._quick is not None and self._quick.suits(stream)
        return self._peers.add(peer)

    def _hand_on_idle(self) -> None:
        """Let others have what waits: a request takes long. Called in the thread of the mover."""
        busy = self._busy
        if self._quick is not None and (fd := self._quick.busy()) >= 0:
            busy = self._peers.get(fd)
        self._peers.hand_on_idle(busy)

    # -- one connection -----------------------------------------------------------------------------------------------

    def _look_at(self, peer: Peer) -> None:
        """Do what a connection asks, if anything has come on it."""
        self._take(peer, peer.stream.receive_now())

    def _serve(self, peer: Peer, *, new: bool = False) -> None:
        """Read what has come on a connection, of a `new` one if anything has, and do what it asks."""
        stream = peer.stream
        if self._quick is None or not peer.quick:
            self._look_at(peer)
            return
        if len(self._peers.fresh) > (stream.fd in self._peers.fresh) and (not new or stream.has_come()):
            self._peers.hand_on_fresh(peer)
        look = NO_LOOK if self._seen and not stream.is_tcp else stream.hang_up_events
        if self.mover is None or len(self._peers) == 1:
            outcome = self._quick.serve(stream.socket, stream.is_local, look)
        else:
            outcome = self._watched(peer, self._quick.serve, stream.socket, stream.is_local, look)
        self._go_on(peer, outcome)

    def _go_on(self, peer: Peer, outcome: Outcome) -> None:
        """Do with a connection what the quick way has left to be done."""
        if isinstance(outcome, bool):
            (self._keep if outcome else self._peers.close)(peer)
        elif outcome is not ENDED:
            self._take(peer, outcome)

    def _take(self, peer: Peer, data: bytes | None) -> None:
        """Go on with what was read, if anything was."""
        if data is None:
            self._peers.wait_for(peer)
            return
        if peer.quick:
            self._peers.leave_quick_way(peer)
        self._peers.fresh.pop(peer.stream.fd, None)
        waited = peer.connection.between_requests
        events = peer.connection.receive_data(data) if data else peer.connection.receive_eof()
        if not self._peers.send_own(peer):
            return
        if peer.lingering:
            events = []  # no answer can follow the one that was the last
        for index, event in enumerate(events):
            if type(event) is RequestHead or type(event) is RequestRefused:
                self._answer(peer, event, events[index + 1 :])
                return
            if type(event) is Violation:
                log.line(f"connection closed: {event.reason}")
                self._peers.close(peer)
                return
        if not data or peer.connection.closing or (peer.lingering and peer.connection.idle):
            self._peers.close(peer)
            return
        if waited and not peer.connection.between_requests:
            peer.deadline = time.monotonic() + self._timeouts.head
        elif peer.discarding and peer.connection.idle:
            self._keep(peer)
            return
        self._peers.wait_for(peer)

    def _answer(self, peer: Peer, head: RequestHead | RequestRefused, rest: Sequence[Event]) -> None:
        """Run one request to the end of its answer."""
        if self._peers.fresh:
            self._peers.hand_on_fresh()
        began = self.access.begin() if self.access is not None else None
        conversation = self._converse(peer.stream, peer.connection, head.id, rest)
        if isinstance(head, RequestHead):
            peer.discarding = False
            waited = self.gate.waited(peer.stream, head.params)
            self._running = request = peer, head.params, conversation, began, waited
            seen, self._seen = self._seen and not peer.stream.is_tcp, False
            stale, peer.stale = peer.stale, False
            result = self.gate.turn_away(head, conversation, peer.stream, waited, self.board, seen=seen, stale=stale)
            if result is None:
                result = self._watched(peer, self._handler.handle, head, conversation)
            self._end(request, result, keep=head.keep_conn)
        else:
            result = self._handler.refuse(head.status, head.reason, conversation)
            self._end((peer, {}, conversation, began, None), result, keep=False)

    def _watched(self, peer: Peer | None, call: Callable[..., T], *arguments: Any) -> T:
        """Let the application answer, and none but `peer` wait for that."""
        self._busy = peer
        if self.mover is None or len(self._peers) < 1 + (peer is not None):
            return call(*arguments)
        self.mover.begin(arguments)
        try:
            return call(*arguments)
        finally:
            self.mover.end()

    def go_on(self) -> None:
        """Serve on in place of another thread, whose application does not return: its request gets 504, or is cut."""
        assert self._running is not None
        if self.mover is not None:
            self.mover.end()
        peer, params, conversation, began, waited = self._running
        conversation = conversation.take_over()
        result = Result(504, complete=False)
        if not conversation.begun:
            result = refuse(conversation, 504, head_only=params.get("REQUEST_METHOD") == "HEAD")
        self._end((peer, params, conversation, began, waited), result, keep=False)
        self.run()

    def _end(self, request: _Request, result: Result, *, keep: bool) -> None:
        """End the answer, take note of it, and do with the connection what comes next."""
        peer, params, conversation, began, waited = request
        self._running = None
        alive = conversation.finish() if result.complete else conversation.fail()
        self.board.end(conversation.label, result.status, waited)
        if self.access is not None and began is not None:
            self.access.write(began, params, result, complete=result.complete and alive)
        if alive:
            self._after_answer(peer, keep and not peer.connection.closing)
        else:
            self._peers.close(peer)
        raised, self.interruption.raised = self.interruption.raised, None
        if raised is not None and not self._leaving:
            self._leave(handing_on=True)  # what the application was in the middle of may have stayed half done

    # -- what the quick way needs --------------------------------------------------------------------------------------

    def converse(self, fd: int, keep_conn: bool) -> Conversation:
        """See `quick.OrdinaryWay`."""
        peer = self._peers.get(fd) or self._welcome(unix_stream(fd), self._timeouts.head)
        self._peers.fresh.pop(fd, None)
        self._busy = peer
        self._peers.leave_quick_way(peer)
        assert isinstance(peer.connection, FastCGIConnection)  # nothing else goes the quick way
        peer.connection.adopt_whole(keep_conn)
        return self._converse(peer.stream, peer.connection, 1, (BodyEnd(1),))

    def end(self, conversation: Conversation, params: dict[str, Any], result: Result, **rest: Any) -> None:
        """See `quick.OrdinaryWay`."""
        if self.mover is not None:
            self.mover.end()
        assert self._busy is not None
        self._end((self._busy, params, conversation, rest["began"], rest["waited"]), result, keep=rest["keep"])

    def send_rest(self, fd: int, data: bytes) -> bool:
        """See `quick.OrdinaryWay`."""
        return self._peers.send_rest(fd, data, self._timeouts.response)

    def _after_answer(self, peer: Peer, keep: bool) -> None:
        """Keep the connection, close it, or first discard the rest of a body that nobody read.

        A plain close with unread bytes resets the connection, and the front-end loses the answer (nginx 1.22: 502).
        """
        if not peer.connection.idle:
            peer.lingering = not keep
            peer.discarding = keep
            if not keep:
                peer.stream.end_sending()
            peer.deadline = time.monotonic() + _LINGER_SECONDS
            self._peers.wait_for(peer)
        elif keep:
            peer.quick = self._quick is not None and self._quick.suits(peer.stream)
            self._keep(peer)
        else:
            self._peers.close(peer)

    def _keep(self, peer: Peer) -> None:
        """Wait for the next request, or let others do so where this worker is about to leave."""
        peer.discarding = False
        if not self._leaving:
            if not peer.kept:
                peer.kept = True
                self.acceptor.step_back()  # those without connections come first
            peer.deadline = time.monotonic() + self._timeouts.keepalive
            self._peers.wait_for(peer)
            if peer.quick:
                self._peers.allow_quick_way(peer)
        elif not self._peers.hand_on(peer):
            self._peers.close(peer)

    # -- deadlines and leaving ----------------------------------------------------------------------------------------

    def _look_at_the_clock(self) -> None:
        """Do what is due."""
        now, acceptor = self._now, self.acceptor
        if acceptor.resumes and now >= acceptor.resumes:
            acceptor.resumes = 0.0
            acceptor.watch()
        for peer in self._peers.overdue(now, self._timeouts.keepalive):
            self._expire(peer, now)
        self._peers.expiry = min((peer.deadline for peer in self._peers.values()), default=NEVER)
        if acceptor.resumes:
            self._peers.expiry = min(self._peers.expiry, acceptor.resumes)

    def _expire(self, peer: Peer, now: float) -> None:
        """Close a connection whose time is over, unless its bytes came while another request kept the worker busy."""
        self._look_at(peer)
        if self._peers.get(peer.stream.fd) is peer and now >= peer.deadline:
            self._peers.close(peer)

    def _obey(self) -> None:
        message = self._control.recv(64)
        if message != GO_ON:
            self._leave(handing_on=message == LEAVE)

    def _leave(self, *, handing_on: bool) -> None:
        """Take no new connections; hand on, or close, those that are between two requests."""
        self._epoll.unregister(self._control.fileno())
        self.acceptor.forget()
        if self._peers.kept is not None:
            self._epoll.unregister(self._peers.kept.fileno())
        self._leaving = True
        # A wake-up may have come to this worker alone, for a connection that nobody else would then look for; when all
        # the workers leave, nobody else will come for any that is queued.
        kept = self._peers.kept
        if not handing_on:
            self._peers.kept = None
        if kept is not None:
            for _ in range(1 if handing_on else kept.waiting()):
                self._adopt(kept)
        for listener in self.acceptor.descriptors:
            for _ in range(1 if handing_on else _LAST_ACCEPTS):
                if not self._accept(listener):
                    break
        for peer in list(self._peers.values()):
            if peer.is_between_requests and not self._peers.hand_on(peer) and peer.kept:
                self._peers.close(peer)
