"""The driver for asynchronous applications: one thread, an event loop, any number of requests at once.

    accept → recv → connection.receive_data → dispatcher.handle(head, exchange) → a task → one send

It is at the place of `blocking` in a worker, and differs in that nothing waits for an application. Sockets are read and
written by the loop's callbacks; there are no transports, because connections are handed on to other workers.
"""

from __future__ import annotations

import asyncio
import importlib
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from gateway.app.asgi import Call, refuse
from gateway.app.asyncdispatch import Usual, Whole
from gateway.app.exchange import Result
from gateway.net.acceptor import Acceptor, IpAddress
from gateway.net.accesslog import AccessLog
from gateway.net.asyncexchange import LinkExchange
from gateway.net.conversation import Timeouts
from gateway.net.eager import starter
from gateway.net.gate import Gate
from gateway.net.kept import KeptQueue
from gateway.net.link import Link
from gateway.net.orders import GO_ON, LEAVE, Control
from gateway.net.overdue import Overdue
from gateway.net.sharedboard import SharedBoard, SharedRow
from gateway.net.stream import Stream
from gateway.protocol.events import Connection, RequestHead, RequestRefused

_LAST_ACCEPTS = 1_000  # of connections that are queued when the whole pool stops
_CLIENT_LEFT = 499  # nginx's status for a request that nobody waits for; it is sent to nobody
_RETRY_AFTER = 1  # seconds, in the answer to a request that was not worth running any more
_GRACE = 1.0  # seconds that a request may go on after its client has left, before its task is cancelled
_SHORTEST = 0.02  # seconds between two looks at the clock
_STAMP = "REQUEST_TIME_FLOAT"  # see `gate`
_NEVER = float("inf")


def _never(data: bytes) -> None:
    """SCGI has a request a connection: nothing is to be gained there."""


class Handler(Protocol):
    """What answers requests (`app.asyncdispatch.AsyncDispatcher`)."""

    max_body: int  # bytes of the largest request body
    whole: Callable[[bytes], Whole | None]  # makes something of a usual FastCGI request that has come whole

    def handle(self, head: RequestHead, exchange: LinkExchange, /) -> Call | None:
        """What is to be run for a request; None where it has been answered."""

    def handle_usual(self, usual: Usual, params: dict[str, Any], exchange: LinkExchange, /) -> Call:
        """The same for one of which `whole` has made that."""

    def refuse(self, status: int, reason: str, exchange: LinkExchange, /) -> None:
        """Answer without any application."""


def new_loop() -> asyncio.AbstractEventLoop:
    """An event loop: uvloop's where the application's interpreter has it, else asyncio's."""
    try:
        make = importlib.import_module("uvloop").new_event_loop
    except ImportError:
        make = asyncio.new_event_loop
    loop: asyncio.AbstractEventLoop = make()
    return loop


class EventDriver:
    """Serves connections of `listeners` until `control` becomes readable, then finishes what it has and returns."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listeners: Sequence[socket.socket],
        control: Control,
        new_connection: Callable[[], Connection],
        handler: Handler,
        *,
        timeouts: Timeouts,
        row: SharedRow,
        gate: Gate,
        protocol: str,
        queue_timeout: float,
        overdue: Overdue,
        most: int,
        patience: float,
        kept: KeptQueue | None = None,
        access: AccessLog | None = None,
        allowed: Sequence[IpAddress] = (),
    ) -> None:
        """`most` requests run at once. When it leaves, they have `patience` seconds."""
        self.loop = loop
        self.timeouts = timeouts
        self.board = SharedBoard(row)
        self.max_body = handler.max_body
        self.whole = handler.whole if protocol == "fastcgi" else _never
        self.is_full = False
        self._acceptor = Acceptor(listeners, allowed)
        self._epoll = self._acceptor.epoll = select.epoll()  # also for the kept queue; the loop watches it
        self._control = control
        self.new_connection = new_connection
        self._handler = handler
        self._gate = gate
        self._may_turn_away = queue_timeout > 0
        self._is_watched = access is not None or self._may_turn_away or bool(overdue.earliest)
        self._overdue = overdue
        self._most = most
        self._patience = patience
        self._kept = kept
        self._access = access
        self.is_logged = access is not None
        self._start = starter(loop)
        self._links: dict[int, Link] = {}
        self._running: set[LinkExchange] = set()
        self._waiting: deque[LinkExchange] = deque()  # requests on links that had others already, while it is full
        self._parked: set[Link] = set()  # links that wait for this worker to have room
        self.is_leaving = False
        self._cut_off = _NEVER  # when what runs is ended, on leaving
        self._cut = False  # that was done
        self.next_look = _NEVER
        self._timer: asyncio.TimerHandle | None = None

    # -- from its start to its end -------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Begin to be woken for what comes: from here on the worker counts as ready."""
        self.loop.add_reader(self._control.fileno(), self._obey)
        self.loop.add_reader(self._epoll.fileno(), self._take)
        self._take_on()

    def run(self) -> None:
        """Serve until told to leave and every connection is finished, handed on, or out of time; after `watch`."""
        self.loop.run_forever()
        if self._timer is not None:
            self._timer.cancel()
        self._epoll.close()

    def _end_if_done(self) -> None:
        if self.is_leaving and not self._links and not self._running:
            self.loop.stop()

    # -- sources: listeners, the kept queue, the control channel ------------------------------------------------------

    def _take_on(self) -> None:
        """Be woken for connections."""
        self._acceptor.watch()
        if self._kept is not None:
            self._epoll.register(self._kept.fileno(), select.EPOLLIN | select.EPOLLEXCLUSIVE)

    def _take_off(self) -> None:
        """Be woken for them no longer."""
        self._acceptor.forget()
        if self._kept is not None:
            self._epoll.unregister(self._kept.fileno())

    def _take(self) -> None:
        for fd, _ in self._epoll.poll(0):
            if self.is_leaving or self.is_full:
                return
            if fd in self._acceptor:
                self._accept(fd)
            elif self._kept is not None:
                self._adopt(self._kept)

    def _accept(self, listener: int) -> bool:
        """Take one connection; False when there was none for this worker."""
        try:
            accepted = self._acceptor.accept(listener)
        except OSError as error:
            self._acceptor.rest(error)
            self.due(self._acceptor.resumes or _NEVER)
            return False
        stale = self.board.accepted()
        stream = self._acceptor.admit(*accepted)
        if stream is not None:
            self._welcome(stream, self.timeouts.head, stale=stale)
        return True

    def _adopt(self, kept: KeptQueue) -> None:
        """Take over a connection that another worker has handed on."""
        handed = kept.take()
        if handed is not None:
            stream, had_request = handed
            patience = self.timeouts.keepalive if had_request else self.timeouts.head
            self._welcome(stream, patience, kept=had_request)

    def _welcome(self, stream: Stream, patience: float, *, kept: bool = False, stale: bool = False) -> None:
        link = Link(stream, self, kept=kept, stale=stale)
        self._links[stream.fd] = link
        link.deadline = time.monotonic() + patience
        self.due(link.deadline)
        link.read()  # most have come with a request, and end with its answer
        if link not in self._parked:
            link.start()

    def forget(self, link: Link) -> None:
        """See `link.Driver`."""
        del self._links[link.stream.fd]
        self._parked.discard(link)
        self._end_if_done()

    # -- requests ------------------------------------------------------------------------------------------------------

    def begin(self, exchange: LinkExchange) -> None:
        """See `link.Driver`."""
        if self.is_full:
            self._waiting.append(exchange)
            return
        running = self._running
        running.add(exchange)
        if len(running) >= self._most:
            self._fill()
        link, params, usual = exchange.link, exchange.params, exchange.usual
        if _STAMP in params or link.stream.is_tcp:
            exchange.waited = self._gate.waited(link.stream, params)
        if usual is None or self._is_watched or not link.kept:
            call = self._look_and_handle(exchange)
            if call is None:
                self.returned(exchange)
                return
        else:
            call = self._handler.handle_usual(usual, params, exchange)
        exchange.call = call
        task = self._start(call.run())
        if exchange in running:
            exchange.task = task

    def _look_and_handle(self, exchange: LinkExchange) -> Call | None:
        """What is to be run for a request, after a closer look; None for one that is answered without."""
        if self._access is not None:
            exchange.began = self._access.begin()
        head, link = exchange.head, exchange.link
        if type(head) is RequestRefused:
            self._handler.refuse(head.status, head.reason, exchange)
            return None
        if (self._may_turn_away or exchange.ended or link.stale or not link.kept) and self._turn_away(exchange):
            return None
        if self._overdue.earliest:
            exchange.since = time.monotonic()
            self.due(exchange.since + self._overdue.earliest)
        if exchange.usual is not None:
            return self._handler.handle_usual(exchange.usual, exchange.params, exchange)
        assert type(head) is RequestHead
        return self._handler.handle(head, exchange)

    def _turn_away(self, exchange: LinkExchange) -> bool:
        """Do without the application what is not worth running any more."""
        link = exchange.link
        if exchange.ended or (not link.kept and self.has_left(link)):
            self.board.gone()
            exchange.fail(Result(_CLIENT_LEFT, complete=False))
            return True
        stale, link.stale = link.stale, False
        if stale or self._gate.is_too_old(exchange.waited):
            self.board.shed()
            refuse(exchange, 503, head_only=exchange.params.get("REQUEST_METHOD") == "HEAD", retry_after=_RETRY_AFTER)
            return True
        return False

    def over(self, exchange: LinkExchange, result: Result, *, complete: bool) -> None:
        """See `link.Driver`."""
        self.board.end(exchange, exchange.label, result.status, exchange.waited)
        if self._access is not None and exchange.began is not None:
            self._access.write(exchange.began, exchange.params, result, complete=complete)

    def returned(self, exchange: LinkExchange) -> None:
        """See `link.Driver`."""
        running = self._running
        running.discard(exchange)
        exchange.call = exchange.task = None  # which know of it: the collector need not come for that
        if self.is_full and len(running) == self._most - 1:
            self.loop.call_soon(self._make_room)  # not now: one task cannot start another eagerly
        if self.is_leaving:
            self._end_if_done()

    def _fill(self) -> None:
        """As much runs as may: take nothing more."""
        self.is_full = True
        if not self.is_leaving:
            self._take_off()

    def _make_room(self) -> None:
        self.is_full = len(self._running) >= self._most
        while self._waiting and not self.is_full:
            self.begin(self._waiting.popleft())
        if self.is_full:
            return
        if not self.is_leaving:
            self._take_on()
        parked, self._parked = self._parked, set()
        for link in parked:
            link.start()

    def park(self, link: Link) -> None:
        """See `link.Driver`: another worker may have room for it."""
        if not self._hand_on(link):
            link.stop()
            self._parked.add(link)

    def keep(self, link: Link) -> bool:
        """See `link.Driver`."""
        if not self._hand_on(link):
            link.close()
        return False

    def _hand_on(self, link: Link) -> bool:
        """Give an idle connection to the workers of the pool; False where there are none, or their queue is full."""
        if self._kept is None or not self._kept.give(link.stream.socket, kept=link.kept):
            return False
        link.close()
        return True

    # -- deadlines and leaving -----------------------------------------------------------------------------------------

    def due(self, when: float) -> None:
        """See `link.Driver`."""
        if when < self.next_look:
            self.next_look = when
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_later(max(_SHORTEST, when - time.monotonic()), self._look)

    def cancel_later(self) -> float:
        """See `link.Driver`."""
        when = time.monotonic() + _GRACE
        self.due(when)
        return when

    def has_left(self, link: Link) -> bool:
        """See `link.Driver`."""
        ended = all(exchange.body_ended for exchange in link.exchanges.values())
        return self._gate.has_left(link.stream, body_ended=ended)

    def _look(self) -> None:
        """Do what is due."""
        self._timer = None
        self.next_look = _NEVER
        now = time.monotonic()
        if self._acceptor.resumes and now >= self._acceptor.resumes:
            self._acceptor.resumes = 0.0
            self._acceptor.watch()
        due = self._acceptor.resumes or _NEVER
        for link in list(self._links.values()):
            due = min(due, link.look(now))
        for exchange in list(self._running):
            due = min(due, self._overdue.look(exchange, now))
        if now >= self._cut_off:
            self._end_all(now)
        self.due(min(due, self._cut_off))

    def _obey(self) -> None:
        message = self._control.recv(64)
        if message != GO_ON:
            self._leave(handing_on=message == LEAVE)

    def _leave(self, *, handing_on: bool) -> None:
        """Take no new connections; hand on, or close, those that are between two requests."""
        self.loop.remove_reader(self._control.fileno())
        self.loop.remove_reader(self._epoll.fileno())
        if not self.is_full:
            self._take_off()
        if not handing_on:
            self._kept = None
        self.is_leaving = True
        # See `blocking`: what this worker alone may have been woken for, and what nobody else will come for.
        if self._kept is not None:
            self._adopt(self._kept)
        for listener in self._acceptor.descriptors:
            for _ in range(1 if handing_on else _LAST_ACCEPTS):
                if not self._accept(listener):
                    break
        for link in list(self._links.values()):
            if link.is_between_requests and not link.closed and not self._hand_on(link) and link.kept:
                link.close()
        self._cut_off = time.monotonic() + self._patience
        self.due(self._cut_off)
        self._end_if_done()

    def _end_all(self, now: float) -> None:
        """End what runs still, and a second later go without."""
        if self._cut:
            self.loop.stop()
        self._cut = True
        for exchange in list(self._running):
            self._overdue.end(exchange, 503)
        for link in list(self._links.values()):
            if not link.exchanges:
                link.close()
        self._cut_off = now + _GRACE
