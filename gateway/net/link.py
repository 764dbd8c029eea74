"""One connection in the event loop: what is read goes to its requests, and what these send is written in turns.

One request at a time writes while others wait, a slice each, so that a large answer does not hold back the small ones
beside it. What is not read by the front-end is kept up to about a slice a request, and the applications wait.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
import time
from collections import deque
from typing import Protocol

from gateway import log
from gateway.app.wsgi import Result
from gateway.net.asyncexchange import LinkExchange
from gateway.net.conversation import Timeouts
from gateway.net.sharedboard import SharedBoard
from gateway.net.stream import Stream
from gateway.protocol.events import Abort, Body, BodyEnd, Connection, Event, RequestHead, RequestRefused, Violation

_SLICE = 65_536  # bytes of an answer that are sent at once
_SMALL_SLICE = 8_192  # the same, on a connection with several requests
_AHEAD = 65_536  # bytes of an answer on such a connection after which it is a large one
_STALL = 0.01  # seconds that a small slice should not take to be read
_LONGEST_PAUSE = 1.0
_SEND = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
_INT = struct.Struct("i")
_NEVER = float("inf")
_LINGER_SECONDS = 2.0  # how long the unread rest of a body is discarded after an early answer
_ABORT_SECONDS = 0.1  # how long the front-end has to read what came before an abort
_LOOK_AGAIN = 0.002  # seconds, at whether it has
_ABORTED = "the front-end aborted the request"
_CLOSED = "the front-end closed the connection"

_Turn = tuple[LinkExchange, "asyncio.Future[None]"]


class Driver(Protocol):
    """What a link needs of the event loop's driver (`eventloop.EventDriver`)."""

    loop: asyncio.AbstractEventLoop
    timeouts: Timeouts
    board: SharedBoard
    max_body: int
    is_full: bool  # no further request may run now

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
        """Say whether an idle link is to stay; False where this worker leaves, and the link is another's by now."""

    def forget(self, link: Link) -> None:
        """A link is closed."""


class Link:
    """A connection, and its requests by their ID."""

    __slots__ = (
        "_eof", "_in_head", "_last", "_out", "_reading", "_settling", "_turns", "closed", "connection", "deadline",
        "discarding", "driver", "exchanges", "kept", "lingering", "multiplexes", "slice", "stale", "stream",
        "write_deadline",
    )  # fmt: skip

    def __init__(self, stream: Stream, connection: Connection, driver: Driver, *, kept: bool, stale: bool) -> None:
        self.stream = stream
        self.connection = connection
        self.driver = driver
        self.exchanges: dict[int, LinkExchange] = {}
        self.kept = kept  # has had a request and may be closed between two, if it must be
        self.stale = stale  # its first request is known to have waited for too long
        self.slice = _SLICE
        self.multiplexes = False  # the front-end may have several requests on it at once
        self.lingering = False  # answered and shut down for writing: read to the end of the body, then closed
        self.discarding = False  # answered and to be kept: read to the end of the body first
        self.closed = False
        self.deadline = self.write_deadline = _NEVER
        self._in_head = False  # a part of a head has been read
        self._last = False  # to be closed when its requests are over
        self._eof = False
        self._reading = False
        self._settling = False  # all requests are over, and something is still to be written
        self._out = bytearray()
        self._turns: deque[_Turn] = deque()

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
        return not self._out and self.connection.idle and self.connection.between_requests

    def read(self) -> None:
        """Read what has come, and do what it asks."""
        if self.driver.is_full and self.is_between_requests:
            self.driver.park(self)
            return
        data = self.stream.receive_now()
        if data:
            events = self.connection.receive_data(data)
            if own := self.connection.data_to_send():
                self._multiplex()  # who asks whether that may be
                self.write(own)
            if not self.lingering:
                self._handle(events)
            elif self.connection.idle:
                self.close()
        elif data is not None:
            self._end()

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
        exchange = self.exchanges[head.id] = LinkExchange(self, head)
        if head.id > 1 and not self.multiplexes:
            self._multiplex()
        return exchange

    def _multiplex(self) -> None:
        """The front-end may have several requests on this connection at once: no answer is to be far ahead of others.

        It cannot read beyond what a slow client has not taken yet (HAProxy 2.6), so little of that is sent at once.
        """
        if not self.multiplexes:
            self.multiplexes = True
            self.slice = _SMALL_SLICE
            self.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SMALL_SLICE)

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

    # -- writing -------------------------------------------------------------------------------------------------------

    def is_free(self, exchange: LinkExchange) -> bool:
        """Nothing waits to be written, and nobody to write."""
        return not (self._out or self._turns or (self.multiplexes and self._is_large(exchange)))

    def _is_large(self, exchange: LinkExchange) -> bool:
        """Say whether an answer has become one that might hold others up."""
        return exchange.sent > _AHEAD and len(self.exchanges) > 1

    def write(self, data: bytes) -> None:
        """Send now what the front-end takes, and the rest when it takes that."""
        if self.closed:
            return
        if self._out:
            self._out += data
            return
        sent = self._send(data)
        if sent < len(data):
            self._out += memoryview(data)[sent:]
            if not self.closed:
                self.driver.loop.add_writer(self.stream.fd, self._flush)
                self._wait_for_reader()
        elif self._turns:
            self._give_turn()

    async def drain(self, exchange: LinkExchange) -> None:
        """Wait for one's turn to write, or until `exchange` has ended."""
        if self.multiplexes and self._is_large(exchange):
            await self._pace(exchange)
        entry: _Turn | None = None
        passes_on = True
        try:
            # Who comes new waits behind those who wait already; who finds that somebody was faster is the next.
            while not exchange.ended and (self._out or (entry is None and self._turns)):
                queue = self._turns.append if entry is None else self._turns.appendleft
                entry = exchange, self.driver.loop.create_future()
                queue(entry)
                await entry[1]
            passes_on = bool(exchange.ended)
        finally:
            if entry is not None and entry in self._turns:  # it was not given the turn: it has ended
                self._turns.remove(entry)
            if passes_on and not self._out:
                self._give_turn()

    async def _pace(self, exchange: LinkExchange) -> None:
        """Send more of a large answer only when what came before has been read, and, where that took long, some time
        after: HAProxy 2.6 does not read on while a client has not taken what it has read for it.
        """
        begun = time.monotonic()
        stalled = 0.0
        while not exchange.ended and self._unread():
            await asyncio.sleep(_LOOK_AGAIN + stalled / 10)
            stalled = time.monotonic() - begun
            if stalled > self.driver.timeouts.response:
                self._took_nothing()
        if stalled > _STALL:
            exchange.pause = min(max(2 * exchange.pause, 4 * stalled), _LONGEST_PAUSE)
        else:
            exchange.pause *= 0.75
        if exchange.pause > _LOOK_AGAIN and not exchange.ended:
            await asyncio.sleep(exchange.pause)

    def end_turns(self, exchange: LinkExchange) -> None:
        """Let a request that has ended wait no longer."""
        for waiting, turn in self._turns:
            if waiting is exchange and not turn.done():
                turn.set_result(None)

    def _give_turn(self) -> None:
        while self._turns:
            _, turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _send(self, data: bytes | bytearray) -> int:
        try:
            return self.stream.socket.send(data, _SEND)
        except BlockingIOError:
            return 0
        except OSError as error:
            self.close(f"the front-end is gone: {error.strerror}")
            return 0

    def _flush(self) -> None:
        sent = self._send(self._out)
        if self.closed:
            return
        if sent:
            del self._out[:sent]
            self._wait_for_reader()
        if not self._out:
            self.write_deadline = _NEVER
            self.driver.loop.remove_writer(self.stream.fd)
            self._give_turn()
            if self._settling:
                self.settle()

    def _wait_for_reader(self) -> None:
        self.write_deadline = time.monotonic() + self.driver.timeouts.response
        self.driver.due(self.write_deadline)

    # -- the end of requests, and of the connection --------------------------------------------------------------------

    def finish(self, exchange: LinkExchange) -> None:
        """The answer to a request is over."""
        if self.closed:
            return
        del self.exchanges[exchange.id]
        if type(exchange.head) is not RequestHead or not exchange.head.keep_conn:
            self._last = True
        if not self.exchanges:
            self.settle()
        self.go_on_reading()

    def fail(self, exchange: LinkExchange) -> None:
        """The answer to a request is over, and not whole: end it so that the front-end sees it.

        Beside other requests on the connection there is no way but the end of this one alone (END_REQUEST).
        """
        if self.closed:
            return
        if exchange.aborted or len(self.exchanges) > 1:
            self.write(self.connection.end(exchange.id, 0 if exchange.aborted else 1))
            self.finish(exchange)
        else:
            self._abort(time.monotonic() + _ABORT_SECONDS)

    def _abort(self, until: float) -> None:
        """Cut the answer when the front-end has read what came before: lighttpd 1.4.69 takes what it reads in one go,
        abort included, for a whole answer.
        """
        if self.closed:
            return
        if self._unread() and time.monotonic() < until:
            self.driver.loop.call_later(_LOOK_AGAIN, self._abort, until)
            return
        self._out.clear()
        self.write(self.connection.abort())
        self.close()

    def _unread(self) -> bool:
        """Say whether the front-end has not read all that was sent."""
        if self._out:
            return True
        [unread] = _INT.unpack(fcntl.ioctl(self.stream.fd, termios.TIOCOUTQ, bytes(_INT.size)))
        return bool(unread)

    def settle(self) -> None:
        """All requests are over: wait for the next, close, or first discard the rest of a body that nobody read.

        A plain close with unread bytes resets the connection, and the front-end loses the answer (nginx 1.22: 502).
        """
        self._settling = bool(self._out)
        if self._settling or self.closed:
            return
        keep = not (self._last or self.connection.closing)
        if not self.connection.idle:
            self.lingering, self.discarding = not keep, keep
            if not keep:
                self.stream.end_sending()
            if self._eof:
                self.close()
            else:
                self._wait(_LINGER_SECONDS)
        elif keep:
            self.discarding = False
            if self.driver.keep(self):
                self.kept = True
                self._wait(self.driver.timeouts.keepalive)
        else:
            self.close()

    def _wait(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds
        self.driver.due(self.deadline)

    def close(self, reason: str = _CLOSED) -> None:
        """Close it; to requests that are under way the front-end is gone."""
        if not self.closed:
            self.stop()
            if self._out:
                self.driver.loop.remove_writer(self.stream.fd)
            self.closed = True
            exchanges, self.exchanges = self.exchanges, {}
            for exchange in exchanges.values():
                exchange.leave(reason)
            self.stream.close()
            self.driver.forget(self)

    def _took_nothing(self) -> None:
        self.close(f"the front-end took nothing for {self.driver.timeouts.response:g} seconds")

    def look(self, now: float) -> float:
        """Do what is due; return when something will be, on the same clock."""
        if now >= self.write_deadline:
            self._took_nothing()
        elif now >= self.deadline:
            self.close()
        elif self.exchanges and not self._reading and not self._eof:
            # Of a connection that is not read nobody tells whether it was closed.
            if self.driver.has_left(self):
                self.close(_CLOSED)
            return now + 1.0
        return _NEVER if self.closed else min(self.deadline, self.write_deadline)
