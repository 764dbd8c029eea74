"""One connection in the event loop: what is read goes to its requests, and what these send to its outbox."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Protocol

from gateway import log
from gateway.app.asyncdispatch import Whole
from gateway.app.exchange import Result
from gateway.net.asyncexchange import LinkExchange
from gateway.net.conversation import Timeouts
from gateway.net.outbox import LOOK_AGAIN, Outbox
from gateway.net.sharedboard import SharedBoard
from gateway.net.stream import Stream
from gateway.protocol.events import Abort, Body, BodyEnd, Connection, Event, RequestHead, RequestRefused, Violation

_CHUNK = 65_536  # bytes that are read at once
_RECEIVE = int(socket.MSG_DONTWAIT)
_NEVER = float("inf")
_LINGER_SECONDS = 2.0  # how long the unread rest of a body is discarded after an early answer
_QUIET_SECONDS = 1.0  # how long an abort waits for other requests of its connection
_ABORT_SECONDS = 0.1  # how long the front-end has to read what came before an abort
_ABORTED = "the front-end aborted the request"
_CLOSED = "the front-end closed the connection"


class Driver(Protocol):
    """What a link needs of the event loop's driver (`eventloop.EventDriver`)."""

    loop: asyncio.AbstractEventLoop
    timeouts: Timeouts
    board: SharedBoard
    max_body: int
    is_full: bool  # no further request may run now
    is_leaving: bool
    is_logged: bool  # the access log has a line for each request
    next_look: float  # when it will look at all links (time.monotonic)

    def new_connection(self) -> Connection:
        """The states of a connection on which nothing has come."""

    def whole(self, data: bytes) -> Whole | None:
        """What is made of a whole and usual request; None where `data` is not that."""

    def due(self, when: float) -> None:
        """Look at all links at this time (time.monotonic) at the latest."""

    def cancel_later(self) -> float:
        """When the task of a request whose client has just left is to be cancelled."""

    def has_left(self, link: Link) -> bool:
        """Say whether the front-end has hung up."""

    def begin(self, exchange: LinkExchange) -> None:
        """A request is there."""

    def over(self, exchange: LinkExchange, result: Result, *, complete: bool) -> None:
        """The answer is over."""

    def returned(self, exchange: LinkExchange) -> None:
        """The application has returned."""

    def park(self, link: Link) -> None:
        """A link has a request that may not run now."""

    def keep(self, link: Link) -> bool:
        """Say whether an idle link is to stay, as this worker leaves; False where it is another's by now, or closed."""

    def forget(self, link: Link) -> None:
        """A link is closed."""


class Link:
    """A connection, and its requests by their ID."""

    __slots__ = (
        "_connection", "_eof", "_in_head", "_is_clean", "_last", "_reading", "_receive", "_settling", "closed",
        "deadline", "discarding", "driver", "exchanges", "kept", "lingering", "multiplexes", "out", "stale", "stream",
    )  # fmt: skip

    def __init__(self, stream: Stream, driver: Driver, *, kept: bool, stale: bool) -> None:
        self.stream = stream
        self._connection: Connection | None = None
        self.driver = driver
        self.exchanges: dict[int, LinkExchange] = {}
        self.kept = kept  # has had a request and may be closed between two, if it must be
        self.stale = stale  # its first request is known to have waited for too long
        self.multiplexes = False  # the front-end may have several requests on it at once
        self.lingering = False  # answered and shut down for writing: read to the end of the body, then closed
        self.discarding = False  # answered and to be kept: read to the end of the body first
        self.closed = False
        self.deadline = _NEVER
        self.out = Outbox(self)
        self._is_clean = True  # the connection has nothing under way
        self._in_head = False  # a part of a head has been read
        self._last = False  # to be closed when its requests are over
        self._eof = False
        self._reading = False
        self._settling = False  # all requests are over, and something is still to be written
        self._receive = stream.socket.recv

    @property
    def connection(self) -> Connection:
        """The protocol's states, once they are needed: of a request that comes whole, and ends it, they are not."""
        if self._connection is None:
            self._connection = self.driver.new_connection()
        return self._connection

    # -- reading -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Read when something comes."""
        if not (self._reading or self._eof or self.closed):
            self._reading = True
            self.driver.loop.add_reader(self.stream.fd, self.read)

    def stop(self) -> None:
        """Read no longer."""
        if self._reading:
            self._reading = False
            self.driver.loop.remove_reader(self.stream.fd)

    def go_on_reading(self) -> None:
        """Something was taken of a body."""
        if not self._reading and not any(exchange.is_full for exchange in self.exchanges.values()):
            self.start()

    @property
    def is_between_requests(self) -> bool:
        """Nothing of a request has been read, and nothing of one is still to come: others can serve it as well."""
        return not self.exchanges and self.out.is_empty and self.connection.idle and self.connection.between_requests

    def read(self) -> None:
        """Read what has come, and do what it asks."""
        if self.driver.is_full and self.is_between_requests:
            self.driver.park(self)
            return
        try:
            data = self._receive(_CHUNK, _RECEIVE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            if self._is_clean and not self.exchanges and (found := self.driver.whole(data)) is not None:
                self._begin_whole(data, found)
                return
            self._catch_up()
            events = self.connection.receive_data(data)
            if own := self.connection.data_to_send():
                self._multiplex()  # who asks whether that may be
                self.out.write(own)
            if len(events) == 2 and type(events[1]) is BodyEnd and not (self.exchanges or self.lingering):
                self._begin(events[0])
            elif not self.lingering:
                self._handle(events)
            elif self.connection.idle:
                self.close()
        else:
            self._end()

    def _begin_whole(self, data: bytes, found: Whole) -> None:
        """A usual request has come at once, on a connection that has no other, and needs none of its states."""
        self.deadline = _NEVER
        exchange = self.exchanges[1] = LinkExchange(self, 1, found[1], found[0])
        exchange.body_ended = True
        exchange.usual = found[2]
        exchange.unread = data
        self.driver.begin(exchange)

    def _catch_up(self) -> None:
        """Let the connection know of a request that came whole, for more is to be done with it than to answer it."""
        self._is_clean = False
        if (exchange := self.exchanges.get(1)) is not None and exchange.unread:
            self.connection.receive_data(exchange.unread)
            exchange.unread = b""

    def _begin(self, head: Event) -> None:
        """A whole request has come at once, on a connection that has no other."""
        assert type(head) is RequestHead or type(head) is RequestRefused
        self._in_head = self.discarding = False
        self.deadline = _NEVER
        exchange = self._admit(head)
        exchange.body_ended = True
        self.driver.begin(exchange)

    def _handle(self, events: list[Event]) -> None:
        begun: list[LinkExchange] = []
        for event in events:
            kind = type(event)
            if kind is RequestHead or kind is RequestRefused:
                begun.append(self._admit(event))  # type: ignore[arg-type] # it is one of the two
            elif kind is Violation:
                self._violated(event)  # type: ignore[arg-type]
                return
            elif (exchange := self.exchanges.get(event.id)) is not None:  # type: ignore[union-attr]
                self._tell(exchange, event)
        if begun:
            self._in_head = False
            self.discarding = False
            self.deadline = _NEVER
            for new in begun:  # not before the rest of what came: with it most have all that they ask for
                self.driver.begin(new)
        elif not self.exchanges:
            self._look_at_rest()

    def _admit(self, head: RequestHead | RequestRefused) -> LinkExchange:
        params, keep_conn = (head.params, head.keep_conn) if type(head) is RequestHead else ({}, False)
        exchange = self.exchanges[head.id] = LinkExchange(self, head.id, params, keep_conn)
        exchange.head = head
        if head.id > 1 and not self.multiplexes:
            self._multiplex()
        return exchange

    def _multiplex(self) -> None:
        """The front-end may have several requests on this connection at once."""
        if not self.multiplexes:
            self.multiplexes = True
            self.out.share()

    def _tell(self, exchange: LinkExchange, event: Event) -> None:
        if type(event) is Body:
            exchange.put(event.data)
            if exchange.is_full and not self.multiplexes:
                self.stop()
        elif type(event) is BodyEnd:
            exchange.end_body()
        elif type(event) is Abort:
            exchange.aborted = True
            exchange.leave(_ABORTED)

    def _violated(self, violation: Violation) -> None:
        log.line(f"connection closed: {violation.reason}")
        self.close(violation.reason)

    def _look_at_rest(self) -> None:
        """No request runs: wait for the rest of a head, or of what is discarded."""
        if self.discarding:
            if self.connection.idle:
                self.settle()
        elif self.connection.closing:
            self._last = True
            self.settle()
        elif not self._in_head and not self.connection.between_requests:
            self._in_head = True
            self._wait(self.driver.timeouts.head)

    def _end(self) -> None:
        """The front-end sends no more. One that half-closes after the body still reads its answer."""
        self.stop()
        self._catch_up()
        self._eof = self._last = True
        events = self.connection.receive_eof()
        if not self.exchanges:
            for event in events:
                if type(event) is Violation:
                    log.line(f"connection closed: {event.reason}")
            self.close()
        elif self.driver.has_left(self):
            self.close(_CLOSED)
        else:
            for exchange in list(self.exchanges.values()):
                if not exchange.body_ended:
                    exchange.leave(_CLOSED)

    # -- the end of requests, and of the connection --------------------------------------------------------------------

    def finish(self, exchange: LinkExchange) -> None:
        """The answer to a request is over."""
        if self.closed:
            return
        del self.exchanges[exchange.id]
        if not exchange.keep_conn:
            self._last = True
        driver = self.driver
        if self.exchanges:
            self.go_on_reading()
        elif not self._is_clean or not self.out.is_quiet or driver.is_leaving:
            self.settle()
            self.go_on_reading()
        elif self._last:  # from here on as `settle` would find after more looks
            self.close()
        else:
            self.kept = True
            self.deadline = deadline = time.monotonic() + driver.timeouts.keepalive
            if deadline < driver.next_look:
                driver.due(deadline)

    def fail(self, exchange: LinkExchange) -> None:
        """The answer to a request is over, and not whole: end it so that the front-end sees it.

        All requests of the connection end by an abort, so it waits for a moment in which there is no other. Where that
        does not come soon, END_REQUEST has to do, which HAProxy 2.6 shows only where there is a Content-Length.
        """
        self._catch_up()
        if exchange.aborted:
            self._end_alone(exchange, 0)
        else:
            self._fail_soon(exchange, time.monotonic() + _QUIET_SECONDS)

    def _fail_soon(self, exchange: LinkExchange, until: float) -> None:
        if self.closed:
            return
        if len(self.exchanges) == 1:
            self._abort(time.monotonic() + _ABORT_SECONDS)
        elif time.monotonic() < until:
            self.driver.loop.call_later(LOOK_AGAIN, self._fail_soon, exchange, until)
        else:
            self._end_alone(exchange, 1)

    def _end_alone(self, exchange: LinkExchange, app_status: int) -> None:
        if not self.closed:
            self.out.write(self.connection.end(exchange.id, app_status))
            self.finish(exchange)

    def _abort(self, until: float) -> None:
        """Cut the answer when the front-end has read what came before: lighttpd 1.4.69 takes what it reads in one go,
        abort included, for a whole answer.
        """
        if self.closed:
            return
        if self.out.unread() and time.monotonic() < until:
            self.driver.loop.call_later(LOOK_AGAIN, self._abort, until)
            return
        self.out.clear()
        self.out.write(self.connection.abort())
        self.close()

    def flushed(self) -> None:
        """All that was kept has been written."""
        if self._settling:
            self.settle()

    def settle(self) -> None:
        """All requests are over: wait for the next, close, or first discard the rest of a body that nobody read.

        A plain close with unread bytes resets the connection, and the front-end loses the answer (nginx 1.22: 502).
        """
        self._settling = not self.out.is_empty
        if self._settling or self.closed:
            return
        connection = self.connection
        keep = not (self._last or connection.closing)
        if not connection.idle:
            self.lingering, self.discarding = not keep, keep
            if not keep:
                self.stream.end_sending()
            if self._eof:
                self.close()
            else:
                self._wait(_LINGER_SECONDS)
        elif keep:
            self.discarding = self._in_head = False
            self._is_clean = self._is_clean or connection.between_requests
            driver = self.driver
            if not driver.is_leaving or driver.keep(self):
                self.kept = True
                self._wait(driver.timeouts.keepalive)
        else:
            self.close()

    def _wait(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds
        self.driver.due(self.deadline)

    def close(self, reason: str = _CLOSED) -> None:
        """Close it; to requests that are under way the front-end is gone."""
        if not self.closed:
            self.stop()
            self.out.clear()
            self.closed = True
            exchanges, self.exchanges = self.exchanges, {}
            for exchange in exchanges.values():
                exchange.leave(reason)
            self.stream.close()
            self.driver.forget(self)

    def took_nothing(self) -> None:
        """The front-end has read nothing for as long as it may."""
        self.close(f"the front-end took nothing for {self.driver.timeouts.response:g} seconds")

    def look(self, now: float) -> float:
        """Do what is due; return when something will be, on the same clock."""
        if now >= self.out.deadline:
            self.took_nothing()
        elif now >= self.deadline:
            self.close()
        elif self.exchanges and not self._reading and not self._eof:
            # Of a connection that is not read nobody tells whether it was closed.
            if self.driver.has_left(self):
                self.close(_CLOSED)
            return now + 1.0
        return _NEVER if self.closed else min(self.deadline, self.out.deadline)
