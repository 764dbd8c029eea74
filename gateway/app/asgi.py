"""The server side of ASGI 3: calls an application for a request, and hands its answer to the exchange.

    asyncdispatch.handle → Call.run → application(scope, receive, send) → exchange.send … exchange.end

The head is kept back until the first part of the body, so that an error before it is still a whole 500.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import lru_cache
from typing import Any, Protocol

from gateway.app.answer import Head, WSGIError, error_answer
from gateway.app.environ import Rejected
from gateway.app.errors import ErrorStream
from gateway.app.exchange import Result
from gateway.app.scope import PHRASES
from gateway.app.tracebacks import from_application
from gateway.app.wsgi import request_line

Message = dict[str, Any]
Log = Callable[[str], None]

_SMALL = 65_536  # bytes of a body that goes in one piece with its head
# Headers of a connection that is none of the application's: of ASGI's, many send them, and other servers let them pass.
_DROPPED = frozenset((b"connection", b"keep-alive", b"transfer-encoding"))
_STATUS_LINES = {status: f"{status} {phrase}" for status, phrase in PHRASES.items()}


class ASGIError(Exception):
    """The application breaks the protocol; `str()` is one line for the log."""


class ClientGone(OSError):
    """Raised by `send` when nobody takes the answer any more (ASGI HTTP 2.4 "Disconnected Client - send exception")."""


class AsyncExchange(Protocol):
    """One request and its answer, as a driver offers it that runs many at once. What does not wait raises nothing."""

    ended: str  # why nobody takes any more of an answer, or ""
    cancelled: bool  # the task that runs the application is being cancelled for that

    def begin(self, environ: dict[str, Any], host: str, label: int) -> None:
        """See `Exchange.begin`."""

    def take(self) -> bytes | None:
        """The next piece of the body as it came; b"" at its end, and from then on; None while there is nothing."""

    @property
    def slice(self) -> int:
        """Bytes of the answer that are to be sent at once at most."""

    @property
    def is_read(self) -> bool:
        """All of the body has come, and been taken."""

    async def wait(self) -> None:
        """Return when there may be something to take, or `ended` has been set."""

    @property
    def is_open(self) -> bool:
        """`is_free`, and not ended."""

    @property
    def is_free(self) -> bool:
        """So much of what was sent has been taken that more may be sent now."""

    async def drain(self) -> None:
        """Return when it is this request's turn to send, or `ended` has been set."""

    def send(self, data: bytes) -> None:
        """Hand on a part of the answer at once: first the head in CGI form, then the body."""

    def end(self, data: bytes, result: Result) -> None:
        """Hand on the last part of the answer; `ended` is set by it."""

    def fail(self, result: Result) -> None:
        """End an answer that is not whole so that this is seen; `ended` is set by it."""

    def returned(self) -> None:
        """The application has returned."""


class Surroundings(Protocol):
    """What all requests of a worker have in common (`asyncdispatch.AsyncDispatcher`)."""

    errors: ErrorStream
    log: Log
    max_body: int  # bytes of the largest request body


def refuse(exchange: AsyncExchange, status: int, *, head_only: bool = False, retry_after: int = 0) -> None:
    """Answer with an error of the gateway's own; `retry_after` in seconds, 0 to say nothing of that."""
    head, body = error_answer(status, retry_after)
    if head_only:
        body = b""
    exchange.end(head + b"\r\n" + body, Result(status, True, head, len(body)))


class _Done(Coroutine[None, None, None]):
    """What `send` returns where it has done all at once: it can be awaited, or run as a task, as a coroutine that has
    nothing left to do, and costs less than one.
    """

    __slots__ = ()
    __await__ = ().__iter__  # type: ignore[assignment] # an iterator that is at its end, which is all that await asks

    def send(self, value: None) -> None:
        """See PEP 492."""
        raise StopIteration

    def throw(self, *error: Any) -> None:
        """See PEP 492."""
        raise error[0]

    def close(self) -> None:
        """See PEP 492."""


_DONE = _Done()


class Call:
    """One request while its application runs, and its answer."""

    # What most requests leave as it is costs them nothing by standing here.
    _requested = False  # the application has got the last of the body
    _cut = False  # that ended before it was whole
    _rejected: Rejected | None = None  # for a body that is too large
    _head: Head | None = None  # shared with other answers that have the same
    _lines = b""  # of it, with what the gateway adds
    _started = False  # the head has been sent
    _in_steps = False  # what is sent takes more than one step
    _finished = False  # the application has sent the last part
    _over = False  # the answer is over, well or badly
    _excess = False  # it was more than its Content-Length
    _sent = 0  # bytes of its body

    def __init__(
        self,
        application: Any,
        scope: dict[str, Any],
        size: int | None,
        dispatcher: Surroundings,
        exchange: AsyncExchange,
    ) -> None:
        self.scope = scope
        self.head_only = scope["method"] == "HEAD"  # no byte of a body is wanted
        self._application = application
        self._dispatcher = dispatcher
        self._exchange = exchange
        self._left = size  # bytes of the request's body; None where nobody has said how many
        self._limit = dispatcher.max_body

    async def run(self) -> None:
        """Answer. Raises nothing but GeneratorExit: what the application does wrong is logged and answered."""
        try:
            await self._application(self.scope, self.receive, self.send)
            if not self._over:
                self._returned_early()
        except GeneratorExit:  # the loop was closed
            raise
        except BaseException as error:  # SystemExit too: the worker is not the application's to end
            self._raised(error)
        finally:
            self._exchange.returned()

    # -- the request ---------------------------------------------------------------------------------------------------

    async def receive(self) -> Message:
        """ASGI HTTP "Request - receive event"; when the client has left, or the answer is over, "Disconnect"."""
        exchange = self._exchange
        while not exchange.ended:
            if not self._requested and not self._cut:
                if self._left == 0:
                    return self._request(b"", more=False)
                if (piece := exchange.take()) is not None:
                    return self._received(piece)
            await exchange.wait()
        return {"type": "http.disconnect"}

    def _received(self, piece: bytes) -> Message:
        if self._left is None:
            self._limit -= len(piece)
            if self._limit < 0:
                self._in_steps = True
                self._rejected = Rejected(413, "the request's body is larger than max_body")
                raise self._rejected
            return self._request(piece, more=bool(piece) and not self._exchange.is_read)
        if not piece:
            self._cut = True
            self._log(f"the request's body ended {self._left} bytes before its CONTENT_LENGTH")
            return {"type": "http.disconnect"}
        piece = piece[: self._left]
        self._left -= len(piece)
        return self._request(piece, more=self._left > 0)

    def _request(self, body: bytes, *, more: bool) -> Message:
        self._requested = not more
        return {"type": "http.request", "body": body, "more_body": more}

    # -- the answer ----------------------------------------------------------------------------------------------------

    def send(self, message: Message) -> Awaitable[None]:
        """ASGI HTTP "Response Start" and "Response Body". Raises ASGIError, WSGIError, Rejected and ClientGone."""
        kind = message["type"]
        if not self._in_steps:
            if kind == "http.response.start" and self._head is None:
                self._head = head = _head_of(message)
                self._lines = head.lines
                return _DONE
            is_whole = kind == "http.response.body" and not message.get("more_body")
            if is_whole and self._send_whole(message.get("body", b"")):
                return _DONE
            self._in_steps = True  # what comes next must not overtake this
        return self._send(kind, message)

    async def _send(self, kind: str, message: Message) -> None:
        """Send what takes more than one step, or is wrong."""
        if self._rejected is not None:
            raise self._rejected  # the application has caught it
        if self._finished:
            raise ASGIError(f"the application sent {kind} after the last part of its answer")
        if kind == "http.response.body":
            await self._send_body(message.get("body", b""), more=message.get("more_body", False))
        elif kind == "http.response.start":
            raise ASGIError("the application sent http.response.start twice")
        else:
            raise ASGIError(f"the application sent {kind}, which a request has not")

    def _send_whole(self, data: Any) -> bool:
        """Send a small answer, of which this is all, if that can be done at once and nothing is wrong with it."""
        head, exchange = self._head, self._exchange
        if (
            head is None
            or type(data) is not bytes
            or (size := len(data)) > _SMALL
            or not head.has_body
            or self.head_only
            or not exchange.is_open
        ):
            return False
        lines = head.lines
        if head.length != size:
            if head.length is not None:
                return False
            lines = _announcing(head, size)
        self._finished = self._started = self._over = True
        exchange.end(b"%b\r\n%b" % (lines, data), Result(head.status, True, lines, size))
        return True

    async def _send_body(self, data: Any, *, more: bool) -> None:
        head = self._head
        exchange = self._exchange
        if head is None:
            raise ASGIError("the application sent http.response.body before http.response.start")
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise ASGIError(f"the application sent a body of type {type(data).__name__}, not bytes")
        self._finished = not more
        if exchange.ended:
            self._refuse_more(more)
            return
        last = not more
        if last and not self._started and head.length is None and head.has_body and (data or not self.head_only):
            self._lines = _announcing(head, len(data))  # an empty body on HEAD may stand for any
        if not head.has_body or self.head_only:
            data, last = b"", True
        elif head.length is not None and self._sent + len(data) > head.length:
            data, last, self._excess = data[: head.length - self._sent], True, True
        while len(data) > (size := exchange.slice):
            await self._hand_on(bytes(data[:size]))
            data = memoryview(data)[size:]
        await self._hand_on(bytes(data), last=last)

    def _refuse_more(self, more: bool) -> None:
        """Take no more of an answer that is over, or that nobody takes; where it was ended early, its end is let pass.

        Raises ClientGone.
        """
        if more or not self._over:
            raise ClientGone(self._exchange.ended)

    async def _hand_on(self, data: bytes, *, last: bool = False) -> None:
        exchange = self._exchange
        if not exchange.is_free:
            await exchange.drain()
            if exchange.ended:
                raise ClientGone(exchange.ended)
        self._sent += len(data)
        if not self._started:
            self._started = True
            data = self._lines + b"\r\n" + data
        if last:
            self._end(data)
        elif data:
            exchange.send(data)

    def _end(self, data: bytes) -> None:
        missing = self._missing()
        self._over = True
        if missing:
            self._exchange.send(data)
            self._log(f"the body ended {missing} bytes before its Content-Length")
            self._exchange.fail(self._result(complete=False))
        else:
            if self._excess:
                self._log("the body is longer than its Content-Length, and was cut there")
            self._exchange.end(data, self._result(complete=True))

    def _missing(self) -> int:
        """How many bytes of its Content-Length the answer lacks."""
        head = self._head
        if head is None or head.length is None or self.head_only or not head.has_body:
            return 0
        return head.length - self._sent

    def _result(self, *, complete: bool) -> Result:
        head = self._head
        return Result(head.status if head else 500, complete, self._lines, self._sent)

    # -- its end -------------------------------------------------------------------------------------------------------

    def end_early(self, status: int) -> None:
        """Answer with an error, or cut what was sent: the application, which is then cancelled, runs for too long."""
        if not self._over:
            self._give_up(status)

    def _returned_early(self) -> None:
        if not (self._exchange.ended or self._cut):
            what = "before the last part of its answer" if self._started else "without an answer"
            self._log(f"the application returned {what}")
        self._give_up(500)

    def _raised(self, error: BaseException) -> None:
        if isinstance(error, (ASGIError, WSGIError, Rejected)):
            self._log(str(error))
        elif not self._is_of_leaving(error):
            when = " after its answer" if self._over else ""
            self._dispatcher.errors.write(f"{self.line}: unhandled exception{when}\n{from_application(error)}")
            self._dispatcher.errors.flush()
        if not self._over:
            self._give_up(error.status if isinstance(error, Rejected) else 500)

    def _is_of_leaving(self, error: BaseException) -> bool:
        """Say whether it was raised only because the client has left: what `send` raises, what came of that, and the
        end of a task that was cancelled.
        """
        if self._cut or (self._exchange.cancelled and not isinstance(error, Exception)):
            return True
        seen: BaseException | None = error
        while seen is not None:
            if isinstance(seen, ClientGone):
                return True
            seen = seen.__cause__ or seen.__context__
        return False

    def _give_up(self, status: int) -> None:
        """Answer with an error, if nothing was sent and somebody is there; a cut body is nobody's to answer."""
        self._over = True
        if self._started or self._cut or self._exchange.ended:
            self._exchange.fail(self._result(complete=False))
        else:
            refuse(self._exchange, status, head_only=self.head_only)

    @property
    def line(self) -> str:
        """What names the request in the log."""
        return request_line(self.scope["extensions"]["gateway"]["params"])

    def _log(self, text: str) -> None:
        self._dispatcher.log(f"{self.line}: {text}")


def _announcing(head: Head, length: int) -> bytes:
    """The lines of a head, and the Content-Length that the application left out."""
    return head.lines + b"Content-Length: %d\r\n" % length


def _head_of(message: Message) -> Head:
    """Check ASGI's head by the rules for WSGI's. Raises ASGIError and WSGIError."""
    status, headers = message["status"], message.get("headers", ())
    try:
        try:
            return _checked(status, tuple(headers))
        except TypeError:  # lists, which cannot be looked up
            return _checked(status, tuple([(bytes(name), bytes(value)) for name, value in headers]))
    except (AttributeError, TypeError, ValueError):
        raise ASGIError(f"the headers are {headers!r:.100}, not a list of (name, value) in bytes") from None


@lru_cache(maxsize=256)  # many answers have the same head, and checking costs as much as the rest of a small one
def _checked(status: int, headers: tuple[tuple[bytes, bytes], ...]) -> Head:
    if not isinstance(status, int):
        raise ASGIError(f"the status is {status!r:.100}, not a number such as 200")
    return Head(
        _STATUS_LINES.get(status) or str(status),
        [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers if name not in _DROPPED],
    )
