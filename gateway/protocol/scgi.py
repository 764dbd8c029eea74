"""The application side of an SCGI connection (the SCGI specification: a netstring of headers, then the body)."""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from typing import Any

from gateway.protocol.events import (
    Body,
    BodyEnd,
    Event,
    Limits,
    ProtocolError,
    RequestHead,
    RequestRefused,
    Role,
    Violation,
)
from gateway.protocol.records import LimitExceeded, over_size

try:
    from gateway.protocol.twin import decode_headers
except ImportError:  # not built for this interpreter, or not wanted
    from gateway.protocol.headers import decode_headers

_LIMITS = Limits()
_REQUEST_ID = 1  # an SCGI connection carries one request

_LENGTH = re.compile(rb"([1-9][0-9]{0,6}):")
_LENGTH_BEGUN = re.compile(rb"[1-9][0-9]{0,6}\Z")


class _Phase(enum.Enum):
    """What the next byte belongs to."""

    LENGTH = enum.auto()
    HEADERS = enum.auto()
    BODY = enum.auto()
    NOTHING = enum.auto()  # bytes beyond the body, or of a refused request, are dropped


class SCGIConnection:
    """See `events.Connection`. The request's id is 1; the connection is never kept, its end is the answer's."""

    __slots__ = ("_answered", "_base", "_buffer", "_closed", "_left", "_limits", "_phase", "_refused", "_size")

    def __init__(self, base: dict[str, Any], limits: Limits = _LIMITS) -> None:
        self._base = base
        self._limits = limits
        self._phase = _Phase.LENGTH
        self._buffer = bytearray()  # of the head
        self._size = 0  # of the headers, once it is known
        self._left = 0  # bytes of the body still to come
        self._refused = False
        self._answered = False
        self._closed = False

    @property
    def idle(self) -> bool:
        """See `events.Connection`; not after a refused request, whose end cannot be told."""
        if self._phase is _Phase.LENGTH:
            return not self._buffer
        return self._answered and not self.discarding

    @property
    def between_requests(self) -> bool:
        """See `events.Connection`."""
        return self._phase is not _Phase.HEADERS and not self._buffer

    @property
    def discarding(self) -> bool:
        """The request has been answered, and its body has not ended."""
        return self._answered and (self._refused or self._phase is _Phase.BODY)

    @property
    def closing(self) -> bool:
        """See `FastCGIConnection.closing`; SCGI ends no request by itself."""
        return False

    def receive_data(self, data: bytes) -> list[Event]:
        """See `events.Connection`."""
        if self._closed:
            return []
        events: list[Event] = []
        try:
            if self._phase is _Phase.LENGTH:
                self._buffer += data
                self._read_length()
                data = b""
            if self._phase is _Phase.HEADERS:
                self._buffer += data
                data = self._read_headers(events)
        except LimitExceeded as limit:
            self._refused = True
            self._phase = _Phase.NOTHING
            self._buffer.clear()
            return [RequestRefused(_REQUEST_ID, 431, str(limit))]
        except ProtocolError as error:
            self._closed = True
            return [Violation(str(error))]
        if self._phase is _Phase.BODY:
            self._read_body(data, events)
        return events

    def _read_length(self) -> None:
        match = _LENGTH.match(self._buffer)
        if match is None:
            if self._buffer and not _LENGTH_BEGUN.match(self._buffer):
                raise ProtocolError("not SCGI: a request begins with a length of one to seven digits, and a colon")
            return
        self._size = int(match[1])
        if self._size > self._limits.params_size:
            raise over_size(self._limits)
        del self._buffer[: match.end()]
        self._phase = _Phase.HEADERS

    def _read_headers(self, events: list[Event]) -> bytes:
        """Yield the head when it is complete; return what was read beyond it."""
        size = self._size
        if len(self._buffer) <= size:
            return b""
        if self._buffer[size] != ord(","):
            raise ProtocolError("no comma after the headers")
        params, repeats, plain, self._left = decode_headers(bytes(self._buffer[:size]), self._base, self._limits)
        rest = bytes(self._buffer[size + 1 :])
        self._buffer.clear()
        self._phase = _Phase.BODY
        events.append(RequestHead(_REQUEST_ID, Role.RESPONDER, False, params, repeats, plain))
        return rest

    def _read_body(self, data: bytes, events: list[Event]) -> None:
        piece = data[: self._left]
        self._left -= len(piece)
        if piece and not self._answered:
            events.append(Body(_REQUEST_ID, piece))
        if not self._left:
            self._phase = _Phase.NOTHING
            if not self._answered:
                events.append(BodyEnd(_REQUEST_ID))

    def receive_eof(self) -> list[Event]:
        """See `events.Connection`."""
        if self._closed:
            return []
        self._closed = True
        if not self.between_requests:
            return [Violation("the connection ended within a request's head")]
        if self._phase is _Phase.BODY and not self._answered:
            return [Violation("the connection ended before the end of the body")]
        return []

    def data_to_send(self) -> bytes:
        """See `events.Connection`: nothing."""
        return b""

    def stdout(self, request_id: int, data: bytes) -> Sequence[bytes | memoryview]:
        """See `events.Connection`: the bytes as they are."""
        return (data,)

    def stderr(self, request_id: int, data: bytes) -> Sequence[bytes | memoryview]:
        """See `events.Connection`: nothing, SCGI has no way to the front-end's log."""
        return ()

    def end(self, request_id: int, app_status: int = 0, data: bytes = b"") -> bytes:
        """See `events.Connection`: the bytes as they are, the connection's end is the answer's."""
        self._answered = True
        return data

    def abort(self) -> bytes:
        """See `events.Connection`: nothing.

        Only its Content-Length can show that an SCGI answer was cut; a driver that is able to resets the connection.
        """
        self._closed = True
        return b""
