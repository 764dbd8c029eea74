"""What is to be written on a link: at once where the front-end takes it, else kept, while those who write wait.

They write in turns, a slice each, so that a large answer does not hold back the small ones beside it.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.net.asyncexchange import LinkExchange
    from gateway.net.link import Link

LOOK_AGAIN = 0.002  # seconds, at whether the front-end has read
_SEND = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
_INT = struct.Struct("i")
_NEVER = float("inf")
_SLICE = 65_536  # bytes of an answer that are sent at once
_SMALL_SLICE = 8_192  # the same, on a connection with several requests
_AHEAD = 65_536  # bytes of an answer on such a connection after which it is a large one
_STALL = 0.01  # seconds that a small slice should not take to be read
_LONGEST_PAUSE = 1.0

_Turn = tuple["LinkExchange", "asyncio.Future[None]"]


class Outbox:
    """Holds about a slice for each request, whatever the front-end reads."""

    __slots__ = ("_data", "_is_shared", "_link", "_send", "_turns", "deadline", "is_quiet", "slice")

    def __init__(self, link: Link) -> None:
        self.slice = _SLICE
        self.deadline = _NEVER  # when the front-end has to have taken something
        self._link = link
        self._send = link.stream.socket.send
        self.is_quiet = True  # nobody waits, and nobody may have to
        self._data = bytearray()
        self._turns: deque[_Turn] | None = None  # once somebody has to wait
        self._is_shared = False

    @property
    def is_empty(self) -> bool:
        """Nothing waits to be written."""
        return not self._data

    def share(self) -> None:
        """The front-end may have several requests on this connection at once: no answer is to be far ahead of others.

        HAProxy 2.6 reads nothing more while one client has not taken what was read for it.
        """
        self._is_shared = True
        self.is_quiet = False
        self.slice = _SMALL_SLICE
        self._link.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SMALL_SLICE)

    def is_free(self, exchange: LinkExchange) -> bool:
        """Say whether a request may write now."""
        return not (self._data or self._turns or (self._is_shared and self._is_large(exchange)))

    def _is_large(self, exchange: LinkExchange) -> bool:
        return exchange.sent > _AHEAD and len(self._link.exchanges) > 1

    def write(self, data: bytes) -> None:
        """Send now what the front-end takes, and the rest when it takes that."""
        link = self._link
        if link.closed:
            return
        if self._data:
            self._data += data
            return
        try:
            sent = self._send(data, _SEND)
        except OSError as error:
            sent = self._not_sent(error)
        if sent < len(data):
            if not link.closed:
                self._data += memoryview(data)[sent:]
                self.is_quiet = False
                link.driver.loop.add_writer(link.stream.fd, self._flush)
                self._wait_for_reader()
        elif self._turns:
            self._give_turn()

    def _not_sent(self, error: OSError) -> int:
        if not isinstance(error, BlockingIOError):
            self._link.close(f"the front-end is gone: {error.strerror}")
        return 0

    def _flush(self) -> None:
        try:
            sent = self._send(self._data, _SEND)
        except OSError as error:
            sent = self._not_sent(error)
        if self._link.closed:
            return
        if sent:
            del self._data[:sent]
            self._wait_for_reader()
        if not self._data:
            self.deadline = _NEVER
            self._link.driver.loop.remove_writer(self._link.stream.fd)
            self._give_turn()
            self.is_quiet = not (self._turns or self._is_shared)
            self._link.flushed()

    def _wait_for_reader(self) -> None:
        driver = self._link.driver
        self.deadline = time.monotonic() + driver.timeouts.response
        driver.due(self.deadline)

    def clear(self) -> None:
        """Write nothing of what is kept."""
        if self._data:
            self._data.clear()
            self._link.driver.loop.remove_writer(self._link.stream.fd)

    def unread(self) -> bool:
        """Say whether the front-end has not read all that was written."""
        if self._data:
            return True
        if self._link.closed:
            return False
        [unread] = _INT.unpack(fcntl.ioctl(self._link.stream.fd, termios.TIOCOUTQ, bytes(_INT.size)))
        return bool(unread)

    # -- turns ---------------------------------------------------------------------------------------------------------

    async def drain(self, exchange: LinkExchange) -> None:
        """Wait for one's turn to write, or until `exchange` has ended."""
        if self._is_shared and self._is_large(exchange):
            await self._pace(exchange)
        turns = self._turns = self._turns if self._turns is not None else deque()
        entry: _Turn | None = None
        passes_on = True
        try:
            # Who comes new waits behind those who wait already; who finds that somebody was faster is the next.
            while not exchange.ended and (self._data or (entry is None and turns)):
                queue = turns.append if entry is None else turns.appendleft
                entry = exchange, self._link.driver.loop.create_future()
                queue(entry)
                await entry[1]
            passes_on = bool(exchange.ended)
        finally:
            if entry is not None and entry in turns:  # it was not given the turn: it has ended
                turns.remove(entry)
            if passes_on and not self._data:
                self._give_turn()

    async def _pace(self, exchange: LinkExchange) -> None:
        """Send more of a large answer only when what came before has been read, and, where that took long, some time
        after.
        """
        begun = time.monotonic()
        stalled = 0.0
        while not exchange.ended and self.unread():
            await asyncio.sleep(LOOK_AGAIN + stalled / 10)
            stalled = time.monotonic() - begun
            if stalled > self._link.driver.timeouts.response:
                self._link.took_nothing()
        if stalled > _STALL:
            exchange.pause = min(max(2 * exchange.pause, 4 * stalled), _LONGEST_PAUSE)
        else:
            exchange.pause *= 0.75
        if exchange.pause > LOOK_AGAIN and not exchange.ended:
            await asyncio.sleep(exchange.pause)

    def end_turns(self, exchange: LinkExchange) -> None:
        """Let a request that has ended wait no longer."""
        for waiting, turn in self._turns or ():
            if waiting is exchange and not turn.done():
                turn.set_result(None)

    def _give_turn(self) -> None:
        while self._turns:
            _, turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.is_quiet = not (self._data or self._is_shared)
