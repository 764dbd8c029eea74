"""The server side of PEP 3333: calls an application and hands its answer to the exchange.

    run → application(environ, start_response) → the body's chunks → exchange.send → close()

The head is kept back until the first byte of the body, so that an error before it is still a whole 500; after it, a
failure makes the result incomplete, and the driver cuts the answer visibly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, NamedTuple, Protocol, TextIO

from gateway.app.answer import Head, WSGIError, error_answer
from gateway.app.environ import Rejected
from gateway.app.exchange import BodyCutShort, Disconnected, Exchange, Result
from gateway.app.files import Files
from gateway.app.interruption import RequestTimeout
from gateway.app.tracebacks import from_application

Application = Callable[..., Iterable[bytes]]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

_BLOCK = 2 * 65_528  # bytes of a file that are read at least: two full records of FastCGI
_WITH_HEAD = 65_536  # bytes: the largest body that goes in one piece with the head


class Raised(NamedTuple):
    """What an application has raised, where it stands for what one has returned."""

    error: BaseException


class RestOfBody:
    """A body whose iteration has begun: `taken` of it and the other `chunks`, or what was raised in their place. It is
    closed as `body` is.
    """

    def __init__(self, body: Any, taken: list[Any], chunks: Iterator[Any], error: BaseException | None) -> None:
        self._body = body
        self._taken = taken
        self._chunks = chunks
        self._error = error

    def __iter__(self) -> Iterator[Any]:
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            error = None  # its traceback refers to this frame
        return self

    def __next__(self) -> Any:
        return self._taken.pop() if self._taken else next(self._chunks)  # iter() would begin some of them anew

    @property
    def close(self) -> Any:
        """What the body has, when it is to be closed. Raises AttributeError without it."""
        return self._body.close


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class FileWrapper:
    """`wsgi.file_wrapper`: a file as an iterable of blocks, closed with it (PEP 3333 "Optional Platform-Specific File
    Handling"). Blocks have a least size, because each is handed on before the next is read.
    """

    def __init__(self, filelike: _Readable, block_size: int = _BLOCK, *, files: Files | None = None) -> None:
        """`files`: those that the front-end can send."""
        self._filelike = filelike
        self._files = files
        self._block_size = max(block_size, _BLOCK)
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def header(self) -> tuple[str, int] | None:
        """See `Files.header`."""
        return self._files.header(self._filelike) if self._files else None

    def __iter__(self) -> Iterator[bytes]:
        while block := self._filelike.read(self._block_size):
            yield block


class Response:
    """One answer, while the application makes it."""

    __slots__ = ("_sent", "excess", "exchange", "finished", "head", "head_only", "started")

    def __init__(self, exchange: Exchange, head_only: bool) -> None:
        self.head: Head | None = None
        self.started = False  # the head has been sent
        self.finished = False  # nothing more is to be sent, whatever else the application makes
        self.excess = False  # it made more than its Content-Length
        self.exchange = exchange
        self.head_only = head_only
        self._sent = 0  # bytes of the body

    @property
    def status(self) -> int:
        """The status so far; 500 where there is none yet."""
        return self.head.status if self.head else 500

    def result(self, *, complete: bool) -> Result:
        """What has become of the answer so far."""
        return Result(self.status, complete, self.head.lines if self.head else b"", self._sent)

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """PEP 3333 "The start_response() Callable". Raises WSGIError, or `exc_info`'s error when it is too late."""
        try:
            if exc_info and self.started:
                raise exc_info[1].with_traceback(exc_info[2])
            if self.head is not None and not exc_info:
                raise WSGIError("the application called start_response twice, the second time without exc_info")
            self.head = Head(status, headers)
        finally:
            exc_info = None  # its traceback refers to this frame
        return self.write

    def write(self, data: bytes) -> None:
        """PEP 3333 "The write() Callable": nothing is kept back. Raises WSGIError and Disconnected."""
        if self._send(data):
            self.exchange.flush()

    def send_body(self, body: Any) -> None:
        """Send what the application returned: a list or tuple at once, anything else as it comes. Raises WSGIError,
        Disconnected and whatever the application raises.
        """
        if isinstance(body, (list, tuple)):
            self._send_known(body)
        elif isinstance(body, FileWrapper) and self._leave_to_front_end(body):
            self.finished = True
        elif body is None or isinstance(body, (bytes, str)):
            raise WSGIError(f"the application returned {type(body).__name__}, not an iterable of bytes such as [body]")
        else:
            for chunk in body:
                if self._send(chunk):
                    self.exchange.flush()
                if self.finished:
                    break
        if not self.started:
            self._send_first(self._require_head(), b"")

    def _send_known(self, chunks: list[bytes] | tuple[bytes, ...]) -> None:
        """Send a body that is there as a whole, and announce its length if the application has not."""
        for chunk in chunks:
            if not isinstance(chunk, bytes):
                raise _wrong_chunk(chunk)
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        head = self._require_head()
        # An empty body on HEAD may stand for any: frameworks take it away themselves.
        if head.length is None and not self.started and head.has_body and (data or not self.head_only):
            head.announce(len(data))
        self._send(data)

    def _leave_to_front_end(self, body: FileWrapper) -> bool:
        """Let the front-end send a whole file, where it can; False where it is the worker's to send."""
        found = body.header()
        head = self._require_head()
        if found is None or self.started or head.status != 200 or head.length not in (None, found[1]):
            return False
        head.leave_to_front_end(found[0])
        self._send_first(head, b"")
        return True

    def _require_head(self) -> Head:
        if self.head is None:
            raise WSGIError("the application did not call start_response before the first chunk of its body")
        return self.head

    def _send(self, data: bytes) -> bool:
        """Send a chunk, the head before the first; False when it was empty."""
        if not isinstance(data, bytes):
            raise _wrong_chunk(data)
        if not data:
            return False
        head = self._require_head()
        if self.head_only or not head.has_body:
            self.finished = True
            data = b""
        elif head.length is not None and self._sent + len(data) > head.length:
            self.finished = self.excess = True
            data = data[: head.length - self._sent]
        self._sent += len(data)
        if not self.started:
            self._send_first(head, data)
        elif data:
            self.exchange.send(data)
        return True

    def _send_first(self, head: Head, data: bytes) -> None:
        if (raised := self.exchange.interruption.raised) is not None:
            raise raised  # the application has caught it, as a framework's bare `except:` does
        self.started = True
        if len(data) <= _WITH_HEAD:
            self.exchange.send(head.lines + b"\r\n" + data)
        else:
            self.exchange.send(head.lines + b"\r\n")
            self.exchange.send(data)

    def note_sent(self, size: int) -> None:
        """The head, and so many bytes of the body, were sent by somebody else."""
        self.started = True
        self._sent = size

    def missing(self) -> int:
        """How many bytes of its Content-Length the answer lacks."""
        head = self._require_head()
        if head.length is None or self.head_only or not head.has_body:
            return 0
        return head.length - self._sent


def _wrong_chunk(chunk: object) -> WSGIError:
    return WSGIError(f"the application made a chunk of type {type(chunk).__name__}, not bytes")


def run(
    application: Application,
    environ: dict[str, Any],
    exchange: Exchange,
    errors: TextIO,
    log: Callable[[str], None],
) -> Result:
    """Answer one request with `application`. Raises nothing: what the application does wrong is logged and answered.

    `log` takes one line; tracebacks go to `errors`. The close() of the body is called once, always.
    """
    response = Response(exchange, environ["REQUEST_METHOD"] == "HEAD")
    exchange.interruption.raised = None
    return _answer(response, environ, application, errors, log)


def go_on(
    response: Response,
    environ: dict[str, Any],
    outcome: Any,
    errors: TextIO,
    log: Callable[[str], None],
) -> Result:
    """Go on where an application that was given `response.start_response` has returned `outcome`, or raised what
    that is: `Raised`. See `run`.
    """

    def returned(environ: dict[str, Any], start_response: Any) -> Any:
        if isinstance(outcome, Raised):
            raise outcome.error
        return outcome

    return _answer(response, environ, returned, errors, log)


def _answer(
    response: Response,
    environ: dict[str, Any],
    application: Application,
    errors: TextIO,
    log: Callable[[str], None],
) -> Result:
    current = response.exchange.interruption
    try:
        current.allowed = True
        body = application(environ, response.start_response)
        try:
            response.send_body(body)
        finally:
            if body.__class__ is not list and (close := getattr(body, "close", None)) is not None:
                close()
        current.allowed = False  # first of all in each of the ways out: from there on nobody would catch it
    except Disconnected:
        current.allowed = False
        return response.result(complete=False)
    except BaseException as error:  # SystemExit and KeyboardInterrupt too: the worker is not the application's to end
        current.allowed = False
        if isinstance(error, (WSGIError, Rejected, BodyCutShort)):
            log(f"{request_line(environ)}: {error}")
        else:
            what = "ended" if isinstance(error, RequestTimeout) else "unhandled exception"
            errors.write(f"{request_line(environ)}: {what}\n{from_application(error)}")
        return _answer_failure(error, response)
    missing = response.missing()
    if missing:
        log(f"{request_line(environ)}: the body ended {missing} bytes before its Content-Length")
    elif response.excess:
        log(f"{request_line(environ)}: the body is longer than its Content-Length, and was cut there")
    return response.result(complete=not missing)


def request_line(environ: dict[str, Any]) -> str:
    """What names a request in the log."""
    return f"{environ.get('REQUEST_METHOD')} {environ.get('HTTP_HOST', '')}{environ.get('REQUEST_URI')}"


def _answer_failure(error: BaseException, response: Response) -> Result:
    """Answer 500, or what the error asks for, when nothing was sent; a cut body is nobody's to answer."""
    if response.started or isinstance(error, BodyCutShort):
        return response.result(complete=False)
    status = error.status if isinstance(error, Rejected) else 504 if isinstance(error, RequestTimeout) else 500
    return refuse(response.exchange, status, head_only=response.head_only)


def refuse(exchange: Exchange, status: int, *, head_only: bool = False, retry_after: int = 0) -> Result:
    """Answer with an error of the gateway's own; `retry_after` in seconds, 0 to say nothing of that."""
    head, body = error_answer(status, retry_after)
    if head_only:
        body = b""
    try:
        exchange.send(head + b"\r\n" + body)
    except Disconnected:
        return Result(status, complete=False)
    return Result(status, True, head, len(body))
