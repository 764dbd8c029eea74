"""The front-end's side of FastCGI and SCGI, without I/O: encodes one request, decodes its answer.

For `gateway request`, health checks and the embedded front.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.protocol import records
from gateway.protocol.events import ProtocolError, Role
from gateway.record import Record

_REQUEST_ID = 1


def encode_request(
    protocol: str, params: Mapping[str, str], *, role: Role = Role.RESPONDER, keep_conn: bool = False
) -> bytes:
    """The head of a request with native-string `params`; its body goes on with `encode_stdin`.

    For "scgi", CONTENT_LENGTH (default 0) is put first and SCGI is added, whatever `params` say. Raises ValueError for
    another protocol, and UnicodeEncodeError for what is not latin-1.
    """
    if protocol == "fastcgi":
        begin = records.encode_begin_request(_REQUEST_ID, role, records.KEEP_CONN if keep_conn else 0)
        return begin + _encode_params_stream(params.items())
    if protocol == "scgi":
        return _encode_headers(params)
    raise ValueError(f"{protocol!r} is neither fastcgi nor scgi")


def _encode_params_stream(pairs: Iterable[tuple[str, str]]) -> bytes:
    stream = records.encode_stream(records.PARAMS, _REQUEST_ID, records.encode_params(pairs))
    return b"".join(stream) + records.encode_record(records.PARAMS, _REQUEST_ID)


def _encode_headers(params: Mapping[str, str]) -> bytes:
    first = {"CONTENT_LENGTH": params.get("CONTENT_LENGTH") or "0", "SCGI": "1"}
    pairs = [*first.items(), *((name, value) for name, value in params.items() if name not in first)]
    block = "".join(f"{name}\0{value}\0" for name, value in pairs).encode("latin-1")
    return b"%d:%s," % (len(block), block)


def encode_stdin(protocol: str, data: bytes) -> bytes:
    """A piece of the request's body; b"" is its end."""
    if protocol == "scgi":
        return data
    if not data:
        return records.encode_record(records.STDIN, _REQUEST_ID)
    return b"".join(records.encode_stream(records.STDIN, _REQUEST_ID, data))


class Stdout(Record):
    """A piece of the answer, never empty: the head in CGI form, then the body."""

    data: bytes


class Stderr(Record):
    """A piece of what the application says to the error log, never empty."""

    data: bytes


class Ended(Record):
    """The answer is complete; with a `protocol_status` other than 0 the request was not served (FastCGI 1.0 §5.5)."""

    app_status: int
    protocol_status: int


class Truncated(Record):
    """The answer is not complete and no more of it will come; `reason` is one line."""

    reason: str


ResponseEvent = Stdout | Stderr | Ended | Truncated


class ResponseReader:
    """Decodes the answer to one request. `Ended` or `Truncated` is its last event; later bytes are ignored."""

    __slots__ = ("_ending", "_fastcgi", "_reader", "ended")

    def __init__(self, protocol: str) -> None:
        self._fastcgi = protocol == "fastcgi"
        self._reader = records.RecordReader()
        self._ending = b""  # content of END_REQUEST so far
        self.ended = False

    def receive_data(self, data: bytes) -> list[ResponseEvent]:
        """Take bytes read from the application; return the events they complete, in order. Never raises."""
        events: list[ResponseEvent] = []
        if self.ended or not data:
            return events
        if not self._fastcgi:
            return [Stdout(data)]
        try:
            for kind, request_id, length, piece in self._reader.feed(data):
                if request_id == _REQUEST_ID and not self.ended:
                    self._take(kind, length, piece, events)
        except ProtocolError:
            self._truncate("the application broke off its answer", events)
        return events

    def _take(self, kind: int, length: int, piece: bytes, events: list[ResponseEvent]) -> None:
        if kind == records.STDOUT and piece:
            events.append(Stdout(piece))
        elif kind == records.STDERR and piece:
            events.append(Stderr(piece))
        elif kind == records.END_REQUEST:
            self._ending += piece
            if len(piece) == length:
                self._end(events)

    def _end(self, events: list[ResponseEvent]) -> None:
        if len(self._ending) != records.END_REQUEST_BODY.size:
            self._truncate("END_REQUEST is not 8 bytes long", events)
            return
        self.ended = True
        events.append(Ended(*records.END_REQUEST_BODY.unpack(self._ending)))

    def _truncate(self, reason: str, events: list[ResponseEvent]) -> None:
        if not self.ended:
            self.ended = True
            events.append(Truncated(reason))

    def receive_eof(self) -> list[ResponseEvent]:
        """The application will send no more: that is the end of an SCGI answer, and truncates a FastCGI one."""
        events: list[ResponseEvent] = []
        if self._fastcgi:
            self._truncate("the connection ended before the answer did", events)
        elif not self.ended:
            self.ended = True
            events.append(Ended(0, records.REQUEST_COMPLETE))
        return events
