"""Asks a pool for one answer over FastCGI or SCGI, as a front-end does: `gateway request` and the embedded front.

Request and answer stream at the same time: the body is sent as long as it is taken, the answer handed on as it comes.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType

from gateway.net.address import Address, InheritedAddress, UnixAddress
from gateway.protocol.client import (
    Ended,
    ResponseEvent,
    ResponseReader,
    Stderr,
    Stdout,
    Truncated,
    encode_request,
    encode_stdin,
)
from gateway.record import Record

HEAD_SIZE = 65_536  # the most that status and headers may take, in bytes
_READ_SIZE = 65_536
_BREAKS = (b"\r\n\r\n", b"\n\n")


class RequestFailed(ConnectionError):
    """There is no answer to show: `str()` is one line that says why."""


class NoAnswerInTime(RequestFailed):
    """The pool was silent for longer than the timeout."""


class AnswerCutShort(RequestFailed):
    """An answer that had begun ended before it was complete."""


class Response(Record, frozen=False):
    """An answer: its head, and its body, which is read from the connection while it is iterated."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: Iterator[bytes]  # raises AnswerCutShort
    _close: Callable[[], object]

    def close(self) -> None:
        """Close the connection, whether the body has been read or not."""
        self._close()

    def __enter__(self) -> Response:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def request(
    address: Address,
    params: Mapping[str, str],
    body: Iterable[bytes] = (),
    *,
    protocol: str = "fastcgi",
    timeout: float = 60.0,
    stderr: Callable[[bytes], object] | None = None,
) -> Response:
    """Send a request and return its answer as soon as its head is there.

    `timeout` is the longest silence, in seconds; `stderr` is given what the application says to the error log. For
    SCGI, `params` hold the CONTENT_LENGTH. Raises RequestFailed.
    """
    connection = _connect(address, timeout)
    try:
        upload = _Upload(_outgoing(protocol, params, body))
        answer = _stdout(_events(connection, upload, ResponseReader(protocol), timeout), stderr)
        head, rest = _read_head(answer)
        status, reason, headers = _parse_head(head)
    except BaseException:
        connection.close()
        raise
    return Response(status, reason, headers, _body(connection, rest, answer), connection.close)


def _connect(address: Address, timeout: float) -> socket.socket:
    if isinstance(address, InheritedAddress):
        raise RequestFailed(f"{address} is no address to connect to: name a path or IP:PORT")
    target: str | tuple[str, int]
    if isinstance(address, UnixAddress):
        family, target = socket.AF_UNIX, address.path
    else:
        family = socket.AF_INET6 if address.ip.version == 6 else socket.AF_INET
        target = (str(address.ip), address.port)
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        connection.connect(target)
        connection.setblocking(False)
    except OSError as error:
        connection.close()
        raise RequestFailed(f"{address}: {error.strerror or 'no answer'}") from error
    return connection


def _outgoing(protocol: str, params: Mapping[str, str], body: Iterable[bytes]) -> Iterator[bytes]:
    yield encode_request(protocol, params)
    for piece in body:
        if piece:
            yield encode_stdin(protocol, piece)
    yield encode_stdin(protocol, b"")


class _Upload:
    """The request on its way out."""

    __slots__ = ("_pieces", "_unsent")

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._unsent = memoryview(b"")

    def pending(self) -> bool:
        """Whether there is something to send; waits for the next piece of the body."""
        while not self._unsent:
            piece = next(self._pieces, None)
            if piece is None:
                return False
            self._unsent = memoryview(piece)
        return True

    def send(self, connection: socket.socket) -> None:
        """Send what is taken now. What is refused for good is dropped: an answer may be there all the same."""
        try:
            self._unsent = self._unsent[connection.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self._pieces, self._unsent = iter(()), memoryview(b"")


def _events(
    connection: socket.socket, upload: _Upload, reader: ResponseReader, timeout: float
) -> Iterator[ResponseEvent]:
    """Send and receive, whichever is possible, until the answer has ended."""
    poll = select.poll()
    while not reader.ended:
        poll.register(connection, select.POLLIN | (select.POLLOUT if upload.pending() else 0))
        ready = poll.poll(timeout * 1000)
        if not ready:
            raise NoAnswerInTime(f"no word for {timeout:g} s")
        if ready[0][1] & ~select.POLLOUT:
            yield from _receive(connection, reader)
        else:
            upload.send(connection)


def _receive(connection: socket.socket, reader: ResponseReader) -> list[ResponseEvent]:
    try:
        data = connection.recv(_READ_SIZE)
    except ConnectionError:
        data = b""
    return reader.receive_data(data) if data else reader.receive_eof()


def _stdout(events: Iterable[ResponseEvent], stderr: Callable[[bytes], object] | None) -> Iterator[bytes]:
    for event in events:
        if isinstance(event, Stdout):
            yield event.data
        elif isinstance(event, Truncated):
            raise AnswerCutShort(event.reason)
        elif isinstance(event, Ended) and event.protocol_status:
            raise RequestFailed(f"the application refused the request (protocol status {event.protocol_status})")
        elif isinstance(event, Stderr) and stderr:
            stderr(event.data)


def _read_head(answer: Iterator[bytes]) -> tuple[bytes, bytes]:
    """The head of the answer, and what of the body came along with it."""
    head = b""
    for piece in answer:
        head += piece
        found = [(at, line) for line in _BREAKS if (at := head.find(line)) >= 0]
        if found:
            at, line = min(found)
            return head[:at], head[at + len(line) :]
        if len(head) > HEAD_SIZE:
            raise RequestFailed(f"the head of the answer is longer than {HEAD_SIZE} bytes")
    raise RequestFailed("the answer has no head that ends in an empty line")


def _parse_head(head: bytes) -> tuple[int, str, list[tuple[str, str]]]:
    """Status, reason and headers of an answer in CGI form (RFC 3875 §6)."""
    status, reason = 200, "OK"
    headers = []
    for line in head.decode("latin-1").split("\n"):
        name, colon, value = line.rstrip("\r").partition(":")
        if not colon or not name.strip():
            raise RequestFailed(f"the answer begins with a line that is no header: {line[:80]!r}")
        if name.lower() == "status":
            status, reason = _parse_status(value.strip())
        else:
            headers.append((name, value.strip()))
    return status, reason, headers


def _parse_status(value: str) -> tuple[int, str]:
    code, _, reason = value.partition(" ")
    if len(code) != 3 or not code.isascii() or not code.isdigit():
        raise RequestFailed(f"the answer has no valid status: {value[:80]!r}")
    return int(code), reason


def _body(connection: socket.socket, rest: bytes, answer: Iterator[bytes]) -> Iterator[bytes]:
    with contextlib.closing(connection):
        if rest:
            yield rest
        yield from answer
