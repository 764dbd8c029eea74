"""One request on a link: what the event loop's driver offers the application side (`app.asgi.AsyncExchange`)."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from gateway import log
from gateway.app.exchange import Result
from gateway.net.bodybuffer import BodyBuffer
from gateway.protocol.events import RequestHead, RequestRefused

try:
    from gateway.protocol.twin import encode_answer
except ImportError:  # not built for this interpreter, or not wanted
    from gateway.protocol.records import encode_answer

if TYPE_CHECKING:
    from gateway.app.asgi import Call
    from gateway.app.asyncdispatch import Usual
    from gateway.net.accesslog import Began
    from gateway.net.link import Link

_COMPLETE = "the answer is complete"
_NEVER = float("inf")


class LinkExchange:
    """Body pieces in, framed answer out, with limits on both."""

    # What most requests leave as it is costs them nothing by standing here.
    ended = ""
    cancelled = False
    aborted = False  # by the front-end, which wants no answer (FastCGI 1.0 §5.4)
    over = False  # the answer has been ended
    body_ended = False  # the end of the body has come
    reported = False  # as slow
    label = 0  # of the request's host, once that is known
    since = 0.0  # time.monotonic() when it began to run
    sent = 0  # bytes of the answer
    pause = 0.0  # seconds before more of it is sent
    cancel_at = body_deadline = _NEVER
    waited: float | None = None  # seconds that it has waited before
    began: Began | None = None  # for the access log
    call: Call | None = None
    task: asyncio.Task[None] | None = None
    head: RequestHead | RequestRefused | None = None
    usual: Usual | None = None  # in its place, of a request that came whole, and
    unread = b""  # its bytes, of which the connection does not know
    _body: BodyBuffer | None = None  # once there is one
    _came = 0  # bytes of the body
    _waiters: list[asyncio.Future[None]] | None = None

    def __init__(self, link: Link, request_id: int, params: dict[str, Any], keep_conn: bool) -> None:
        self.id = request_id
        self.params = params
        self.keep_conn = keep_conn
        self.link = link

    # -- for the application's side ------------------------------------------------------------------------------------

    def begin(self, environ: dict[str, Any], host: str, label: int) -> None:
        """See `AsyncExchange.begin`."""
        self.label = label
        self.link.driver.board.begin(self, environ, host)

    def take(self) -> bytes | None:
        """See `AsyncExchange.take`."""
        piece = self._body.take() if self._body is not None else None
        if piece is None:
            return b"" if self.body_ended else None
        self.link.go_on_reading()
        return piece

    @property
    def is_read(self) -> bool:
        """See `AsyncExchange.is_read`."""
        return self.body_ended and (self._body is None or not self._body.size)

    async def wait(self) -> None:
        """See `AsyncExchange.wait`."""
        driver = self.link.driver
        waiter = driver.loop.create_future()
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(waiter)
        if not self.body_ended:
            self.body_deadline = time.monotonic() + driver.timeouts.body
            driver.due(self.body_deadline)
        try:
            await waiter
        finally:
            if self._waiters and waiter in self._waiters:  # it was cancelled
                self._waiters.remove(waiter)

    @property
    def slice(self) -> int:
        """See `AsyncExchange.slice`."""
        return self.link.out.slice

    @property
    def is_open(self) -> bool:
        """See `AsyncExchange.is_open`."""
        return not self.ended and (self.link.out.is_quiet or self.is_free)

    @property
    def is_free(self) -> bool:
        """See `AsyncExchange.is_free`."""
        out = self.link.out
        return out.is_quiet or out.is_free(self)

    async def drain(self) -> None:
        """See `AsyncExchange.drain`."""
        await self.link.out.drain(self)

    def send(self, data: bytes) -> None:
        """See `AsyncExchange.send`."""
        link = self.link
        self.sent += len(data)
        link.out.write(b"".join(link.connection.stdout(self.id, data)))

    def end(self, data: bytes, result: Result) -> None:
        """See `AsyncExchange.end`."""
        if self.ended:
            self.fail(result)
            return
        link = self.link
        if self._body is not None or self._waiters is not None:
            self._finish(_COMPLETE)
        else:
            self.over, self.ended = True, _COMPLETE
        if self.unread:
            link.out.write(encode_answer(1, data))
        else:
            link.out.write(link.connection.end(self.id, 0, data))
        driver = link.driver
        if driver.is_logged:
            driver.over(self, result, complete=result.complete)
        else:
            driver.board.end(self, self.label, result.status, self.waited)
        link.finish(self)

    def fail(self, result: Result) -> None:
        """See `AsyncExchange.fail`."""
        if not self.over:
            self._finish(self.ended or _COMPLETE)
            self.link.driver.over(self, result, complete=False)
            self.link.fail(self)

    def returned(self) -> None:
        """See `AsyncExchange.returned`."""
        self.link.driver.returned(self)

    def _finish(self, ended: str) -> None:
        self.over = True
        self.ended = ended
        self.cancel_at = self.body_deadline = _NEVER
        if self._body is not None:
            self._body.clear()
        if self._waiters:
            self._wake()

    # -- for the link --------------------------------------------------------------------------------------------------

    def put(self, data: bytes) -> None:
        """A piece of the body has come."""
        if self.over or self._came > self.link.driver.max_body:
            return  # nobody wants it; of what is over max_body as much is kept as shows that
        self._came += len(data)
        try:
            if self._body is None:
                self._body = BodyBuffer()
            self._body.put(data, spool=self.link.multiplexes)
        except OSError as error:
            log.line(f"a request's body cannot be kept: {error.strerror}", log.Level.ERROR)
            self.leave("its body could not be kept")
            return
        self.body_deadline = _NEVER
        self._wake()

    @property
    def is_full(self) -> bool:
        """So much of the body has come, and was not taken, that no more should be read."""
        return self._body is not None and self._body.is_full

    def end_body(self) -> None:
        """The body has come to its end."""
        self.body_ended = True
        self.body_deadline = _NEVER
        if self._waiters:
            self._wake()

    def time_out_body(self) -> None:
        """Somebody waits for more of the body, and nothing comes."""
        self.body_deadline = _NEVER
        if self._waiters and not self.body_ended:
            self.leave(f"nothing came for {self.link.driver.timeouts.body:g} seconds")

    def leave(self, reason: str) -> None:
        """Nobody waits for the answer any more: the application is told, and its task cancelled if it goes on."""
        if not self.ended:
            self.ended = reason
            self.cancel_at = self.link.driver.cancel_later()
            self._wake()
            self.link.out.end_turns(self)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)
