"""The application side of a FastCGI connection as a state machine (FastCGI 1.0 §3, §4, §5, §6).

Every request id is in one of eight states, and id 0 in one of its own. The table at the end of this file says what is
done in each with each type of record. A record's content is handed on as it comes, so an action is called
again for the rest of a record of which only a piece was there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gateway.protocol import records
from gateway.protocol.events import (
    Abort,
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

try:
    from gateway.protocol.twin import decode_params, decode_whole_head, encode_answer
except ImportError:  # not built for this interpreter, or not wanted
    from gateway.protocol.records import decode_params, decode_whole_head, encode_answer

_LIMITS = Limits()
_RESPONDER = Role.RESPONDER  # Python 3.11 takes long to find an enumeration's member


class _State:
    """One row of the table: what is done with each type of record, and how a message names the state."""

    __slots__ = ("actions", "text")

    def __init__(self, text: str, *actions: _Action) -> None:
        self.text = text
        self.actions = actions


class _Request:
    """An active request (FastCGI 1.0 §3.3: from BEGIN_REQUEST to END_REQUEST)."""

    __slots__ = ("block", "count", "keep_conn", "role", "scanned", "state", "stderr_open")

    def __init__(self, role: int, keep_conn: bool, state: _State) -> None:
        self.role = role
        self.keep_conn = keep_conn
        self.state = state
        self.stderr_open = False
        self.block = bytearray()  # PARAMS so far
        self.scanned = 0  # bytes of it that are whole pairs, and
        self.count = 0  # their number


class FastCGIConnection:
    """See `events.Connection`. `max_conns` and `max_reqs` are what GET_VALUES answers for the application as a whole.

    With `multiplex`, up to `max_reqs` requests may be active at once, further ones are OVERLOADED; without it a second
    one is CANT_MPX_CONN.
    """

    __slots__ = (
        "_base", "_close_due", "_closed", "_discarded", "_events", "_gathered", "_kind", "_limits", "_max_conns",
        "_max_reqs", "_multiplex", "_owed", "_reader", "_requests",
    )  # fmt: skip

    def __init__(
        self,
        base: dict[str, Any],
        limits: Limits = _LIMITS,
        multiplex: bool = False,
        *,
        max_conns: int = 1,
        max_reqs: int = 1,
    ) -> None:
        self._base = base
        self._limits = limits
        self._multiplex = multiplex
        self._max_conns = max_conns
        self._max_reqs = max_reqs
        self._reader = records.RecordReader()
        self._kind = 0  # type of the record that is being acted on
        self._gathered = bytearray()  # its content, where that is acted on only when whole
        self._requests: dict[int, _Request] = {}
        self._discarded: set[int] = set()  # ids of answered requests whose STDIN has not ended
        self._events: list[Event] = []
        self._owed = bytearray()
        self._close_due = False
        self._closed = False

    @property
    def idle(self) -> bool:
        """See `events.Connection`; such a connection may be passed to another process, its parser is empty."""
        return not self._requests and not self._discarded and self._reader.between_records

    @property
    def between_requests(self) -> bool:
        """See `events.Connection`."""
        reader = self._reader
        if reader.header:
            return False
        if reader.left and reader.request_id not in self._requests and reader.request_id not in self._discarded:
            return False
        return all(request.state is not _HEAD for request in self._requests.values())

    @property
    def discarding(self) -> bool:
        """An answered request's STDIN has not ended, and what comes of it is dropped."""
        return bool(self._discarded)

    @property
    def closing(self) -> bool:
        """A request without KEEP_CONN was ended by the protocol itself, and none is open: to be closed (§5.1)."""
        return self._close_due and not self._requests

    def receive_data(self, data: bytes) -> list[Event]:
        """See `events.Connection`."""
        if self._closed:
            return []
        events = self._events = []
        pos = 0
        reader = self._reader
        if not (self._requests or reader.left or reader.header or reader.padding):
            pos = self._read_whole_head(data)
            if pos == len(data):
                return events
        try:
            for kind, request_id, length, piece in reader.feed(data, pos):
                self._kind = kind
                request = self._requests.get(request_id)
                state = request.state if request is not None else _INACTIVE if request_id else _MANAGEMENT
                state.actions[kind if kind <= records.UNKNOWN_TYPE else 0](self, request_id, length, piece)
        except ProtocolError as error:
            self._closed = True
            events.append(Violation(str(error)))
        return events

    def adopt_whole(self, keep_conn: bool) -> None:
        """Have request 1 active, as after a read of all of it that somebody else has done."""
        self._discarded.discard(1)
        self._requests[1] = _Request(_RESPONDER, keep_conn, _COMPLETE)

    def receive_eof(self) -> list[Event]:
        """See `events.Connection`."""
        if self._closed:
            return []
        self._closed = True
        if not self.between_requests:
            return [Violation("the connection ended within a request's head")]
        if any(request.state in _STDIN_OPEN for request in self._requests.values()):
            return [Violation("the connection ended before the end of STDIN")]
        return []

    def data_to_send(self) -> bytes:
        """See `events.Connection`."""
        if not self._owed:
            return b""
        data = bytes(self._owed)
        self._owed.clear()
        return data

    def stdout(self, request_id: int, data: bytes) -> Sequence[bytes | memoryview]:
        """See `events.Connection`."""
        return records.encode_stream(records.STDOUT, request_id, data)

    def stderr(self, request_id: int, data: bytes) -> Sequence[bytes | memoryview]:
        """See `events.Connection`; nothing for a request that is no longer open."""
        request = self._requests.get(request_id)
        if request is None:
            return ()
        request.stderr_open = True
        return records.encode_stream(records.STDERR, request_id, data)

    def end(self, request_id: int, app_status: int = 0, data: bytes = b"") -> bytes:
        """See `events.Connection`. Raises KeyError for a request that is not open."""
        request = self._requests.pop(request_id)
        if request.state in _STDIN_OPEN:
            self._discarded.add(request_id)
        answer = encode_answer(request_id, data, app_status)
        return records.encode_record(records.STDERR, request_id) + answer if request.stderr_open else answer

    def abort(self) -> bytes:
        """See `events.Connection`: a record of version 0.

        nginx 1.22 then truncates its answer visibly; on a plain close it ends a chunked one as if it were complete.
        All requests of the connection end by it.
        """
        self._closed = True
        return bytes(records.HEADER_SIZE)

    def _read_whole_head(self, data: bytes) -> int:
        """Begin request 1 if its whole head came in one read; return where that ends, or 0 to leave it to the table."""
        head = decode_whole_head(data, self._base, self._limits)
        if head is None:
            return 0
        keep_conn, params, repeats, plain, end, complete = head
        self._discarded.discard(1)
        self._events.append(RequestHead(1, _RESPONDER, keep_conn, params, repeats, plain))
        if complete:
            self._events.append(BodyEnd(1))
        self._requests[1] = _Request(_RESPONDER, keep_conn, _COMPLETE if complete else _BODY)
        return end

    # -- actions: what a cell of the table does with (request id, length of the content, piece that is there) ---------

    def _ignore(self, request_id: int, length: int, piece: bytes) -> None:
        """What an inactive id receives (§3.3), and what needs no attention."""

    def _violate(self, request_id: int, length: int, piece: bytes) -> None:
        request = self._requests.get(request_id)
        state = _MANAGEMENT if request is None else request.state
        name = records.TYPE_NAMES[self._kind]
        raise ProtocolError(f"unexpected {name} record for request {request_id}, {state.text}")

    def _gather(self, length: int, piece: bytes) -> bytes | None:
        """Hold pieces until the content is whole, and return it then."""
        self._gathered += piece
        if len(piece) < length:
            return None
        content = bytes(self._gathered)
        self._gathered.clear()
        return content

    def _get_values(self, request_id: int, length: int, piece: bytes) -> None:
        content = self._gather(length, piece)
        if content is None:
            return
        values = {
            records.MAX_CONNS: str(self._max_conns),
            records.MAX_REQS: str(self._max_reqs),
            records.MPXS_CONNS: str(int(self._multiplex)),
        }
        self._owed += records.answer_get_values(content, values, self._limits)

    def _unknown_type(self, request_id: int, length: int, piece: bytes) -> None:
        if len(piece) == length:
            self._owed += records.encode_unknown_type(self._kind)

    def _begin(self, request_id: int, length: int, piece: bytes) -> None:
        if len(self._gathered) + length != records.BEGIN_REQUEST_BODY.size:
            raise ProtocolError("BEGIN_REQUEST is not 8 bytes long")
        content = self._gather(length, piece)
        if content is None:
            return
        role, flags = records.BEGIN_REQUEST_BODY.unpack(content)
        keep_conn = bool(flags & records.KEEP_CONN)
        self._discarded.discard(request_id)
        if self._requests and not self._multiplex:
            self._turn_away(request_id, records.CANT_MPX_CONN, keep_conn)
        elif len(self._requests) >= self._max_reqs:
            self._turn_away(request_id, records.OVERLOADED, keep_conn)
        elif role not in (Role.RESPONDER, Role.AUTHORIZER):
            self._turn_away(request_id, records.UNKNOWN_ROLE, keep_conn)
        else:
            self._requests[request_id] = _Request(role, keep_conn, _HEAD)

    def _turn_away(self, request_id: int, protocol_status: int, keep_conn: bool) -> None:
        """End a request that no driver knows of."""
        self._owed += records.encode_end_request(request_id, 0, protocol_status)
        self._close_due |= not keep_conn

    def _params(self, request_id: int, length: int, piece: bytes) -> None:
        request = self._requests[request_id]
        if not length:
            self._end_head(request_id, request)
            return
        try:
            if len(request.block) + length > self._limits.params_size:
                raise records.over_size(self._limits)
            request.block += piece
            request.scanned, request.count = records.skip_params(
                request.block, request.scanned, request.count, self._limits
            )
        except records.LimitExceeded as error:
            request.block.clear()
            request.state = _REFUSED_HEAD
            self._events.append(RequestRefused(request_id, 431, str(error)))

    def _end_head(self, request_id: int, request: _Request) -> None:
        params, repeats = decode_params(bytes(request.block), self._base, self._limits)
        request.block.clear()
        role = Role(request.role)
        self._events.append(RequestHead(request_id, role, request.keep_conn, params, repeats))
        if role is Role.RESPONDER:
            request.state = _BODY
        else:
            params["FCGI_ROLE"] = "AUTHORIZER"  # which such applications look for: libfcgi sets it
            request.state = _AUTHORIZING
            self._events.append(BodyEnd(request_id))

    def _discard_params(self, request_id: int, length: int, piece: bytes) -> None:
        if not length:
            request = self._requests[request_id]
            request.state = _REFUSED_BODY if request.role == Role.RESPONDER else _AUTHORIZING

    def _stdin(self, request_id: int, length: int, piece: bytes) -> None:
        if piece:
            self._events.append(Body(request_id, piece))
        elif not length:
            self._requests[request_id].state = _COMPLETE
            self._events.append(BodyEnd(request_id))

    def _discard_stdin(self, request_id: int, length: int, piece: bytes) -> None:
        if not length:
            self._requests[request_id].state = _COMPLETE

    def _discard_answered(self, request_id: int, length: int, piece: bytes) -> None:
        if not length:
            self._discarded.discard(request_id)

    def _abort_head(self, request_id: int, length: int, piece: bytes) -> None:
        if len(piece) == length:
            request = self._requests.pop(request_id)
            self._turn_away(request_id, records.REQUEST_COMPLETE, request.keep_conn)

    def _abort(self, request_id: int, length: int, piece: bytes) -> None:
        if len(piece) == length:
            self._requests[request_id].state = _ABORTED
            self._events.append(Abort(request_id))

    def _abort_answered(self, request_id: int, length: int, piece: bytes) -> None:
        """The front-end gives up a STDIN whose answer it may not have seen yet: no more of it will come."""
        self._discarded.discard(request_id)


_Action = Callable[[FastCGIConnection, int, int, bytes], None]

_ignore, _violate = FastCGIConnection._ignore, FastCGIConnection._violate
_abort = FastCGIConnection._abort

# unknown, BEGIN_REQUEST, ABORT_REQUEST, END_REQUEST,
# PARAMS, STDIN, STDOUT, STDERR,
# DATA, GET_VALUES, GET_VALUES_RESULT, UNKNOWN_TYPE
_MANAGEMENT = _State(
    "which is for management records of the front-end",
    FastCGIConnection._unknown_type, _violate, _violate, _violate,
    _violate, _violate, _violate, _violate,
    _violate, FastCGIConnection._get_values, _violate, _violate,
)  # fmt: skip
_INACTIVE = _State(
    "which is not active",
    _ignore, FastCGIConnection._begin, FastCGIConnection._abort_answered, _ignore,
    _ignore, FastCGIConnection._discard_answered, _ignore, _ignore,
    _ignore, _ignore, _ignore, _ignore,
)  # fmt: skip
_HEAD = _State(
    "whose PARAMS have not ended",
    _ignore, _violate, FastCGIConnection._abort_head, _violate,
    FastCGIConnection._params, _violate, _violate, _violate,
    _ignore, _violate, _violate, _violate,
)  # fmt: skip
_BODY = _State(
    "whose STDIN has not ended",
    _ignore, _violate, _abort, _violate,
    _violate, FastCGIConnection._stdin, _violate, _violate,
    _ignore, _violate, _violate, _violate,
)  # fmt: skip
_COMPLETE = _State(
    "which is complete",
    _ignore, _violate, _abort, _violate,
    _violate, _violate, _violate, _violate,
    _ignore, _violate, _violate, _violate,
)  # fmt: skip
_AUTHORIZING = _State(  # an authorizer has no STDIN (§6.3), but some front-ends end it
    "which is complete",
    _ignore, _violate, _abort, _violate,
    _violate, _ignore, _violate, _violate,
    _ignore, _violate, _violate, _violate,
)  # fmt: skip
_REFUSED_HEAD = _State(
    "whose PARAMS have not ended",
    _ignore, _violate, _abort, _violate,
    FastCGIConnection._discard_params, _violate, _violate, _violate,
    _ignore, _violate, _violate, _violate,
)  # fmt: skip
_REFUSED_BODY = _State(
    "whose STDIN has not ended",
    _ignore, _violate, _abort, _violate,
    _violate, FastCGIConnection._discard_stdin, _violate, _violate,
    _ignore, _violate, _violate, _violate,
)  # fmt: skip
_ABORTED = _State(
    "which has been aborted",
    _ignore, _violate, _ignore, _violate,
    _ignore, _ignore, _violate, _violate,
    _ignore, _violate, _violate, _violate,
)  # fmt: skip

_STDIN_OPEN = (_BODY, _REFUSED_HEAD, _REFUSED_BODY)  # where more is to come of a request, answered or not
