"""The FastCGI state machine: every cell of its table, and what the driver sees around the events."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import pytest

from gateway.protocol import records
from gateway.protocol.events import (
    Abort,
    Body,
    BodyEnd,
    Event,
    Limits,
    RequestHead,
    RequestRefused,
    Role,
    Violation,
)
from gateway.protocol.fastcgi import FastCGIConnection
from gateway.protocol.records import encode_record as record
from tests.protocol.reading import bytewise, cut, read

VECTORS = Path(__file__).parent / "vectors" / "fastcgi"
BLOCK = records.encode_params([("A", "a")])


def begin(request_id: int = 1, role: int = 1, flags: int = 0) -> bytes:
    return record(records.BEGIN_REQUEST, request_id, struct.pack(">HB5x", role, flags))


def head(request_id: int = 1, role: int = 1, flags: int = 0, block: bytes = BLOCK) -> bytes:
    params = record(records.PARAMS, request_id, block) + record(records.PARAMS, request_id)
    return begin(request_id, role, flags) + params


TOO_MUCH = records.encode_params([("A", "a" * 50)])
STATES = {
    "INACTIVE": b"",
    "HEAD": begin(),
    "BODY": head(),
    "COMPLETE": head() + record(records.STDIN, 1),
    "AUTHORIZING": head(role=2),
    "REFUSED_HEAD": begin() + record(records.PARAMS, 1, TOO_MUCH),
    "REFUSED_BODY": head(block=TOO_MUCH),
    "ABORTED": head() + record(records.ABORT_REQUEST, 1),
}
# . nothing   V violation   U UNKNOWN_TYPE   G GET_VALUES_RESULT   N a head begins   E END_REQUEST   A abort
# H request head   B end of the body
#             unknown   BEGIN ABORT END   PARAMS STDIN OUT ERR   DATA GET RESULT UNKNOWN
CELLS = {
    "MANAGEMENT": "U    V V V    V V V V    V G V V",
    "INACTIVE": ".    N . .    . . . .    . . . .",
    "HEAD": ".    V E V    H V V V    . V V V",
    "BODY": ".    V A V    V B V V    . V V V",
    "COMPLETE": ".    V A V    V V V V    . V V V",
    "AUTHORIZING": ".    V A V    V . V V    . V V V",
    "REFUSED_HEAD": ".    V A V    . V V V    . V V V",
    "REFUSED_BODY": ".    V A V    V . V V    . V V V",
    "ABORTED": ".    V . V    . . V V    . V V V",
}


def outcome(connection: FastCGIConnection, kind: int, request_id: int) -> str:
    content = struct.pack(">HB5x", 1, 0) if kind == records.BEGIN_REQUEST else b""
    was_between = connection.between_requests
    events = connection.receive_data(record(kind, request_id, content))
    owed = connection.data_to_send()
    if events:
        assert len(events) == 1
        return {Violation: "V", Abort: "A", RequestHead: "H", BodyEnd: "B"}[type(events[0])]
    if owed:
        return {records.UNKNOWN_TYPE: "U", records.GET_VALUES_RESULT: "G", records.END_REQUEST: "E"}[owed[1]]
    return "N" if was_between and not connection.between_requests else "."


@pytest.mark.parametrize("kind", [*range(12), 12, 255])
@pytest.mark.parametrize("state", CELLS)
def test_every_cell(state: str, kind: int) -> None:
    connection = FastCGIConnection({}, Limits(params_size=40))
    connection.receive_data(STATES.get(state, b""))
    expected = CELLS[state].split()[kind if kind < 12 else 0]
    assert outcome(connection, kind, 0 if state == "MANAGEMENT" else 1) == expected


def test_one_read_of_nginx_is_one_call() -> None:
    connection = FastCGIConnection({"base": 1})
    events = connection.receive_data((VECTORS / "001.fcgi").read_bytes())
    assert [type(event) for event in events] == [RequestHead, BodyEnd]
    assert isinstance(events[0], RequestHead)
    assert events[0].params["REQUEST_METHOD"] == "GET"
    assert events[0].params["base"] == 1


def test_a_kept_connection_serves_one_request_after_the_other() -> None:
    connection = FastCGIConnection({})
    for name in ("003", "004", "003", "001"):
        assert connection.idle
        assert connection.between_requests
        events = connection.receive_data((VECTORS / f"{name}.fcgi").read_bytes())
        assert isinstance(events[0], RequestHead)
        assert events[0].keep_conn == (name != "001")
        assert events[-1] == BodyEnd(1)
        assert not connection.idle
        assert connection.between_requests
        connection.end(1)
    assert connection.idle


def test_an_answer() -> None:
    connection = FastCGIConnection({})
    connection.receive_data(head(5))
    assert b"".join(connection.stdout(5, b"abc")) == record(records.STDOUT, 5, b"abc")
    end = record(records.STDOUT, 5) + record(records.END_REQUEST, 5, bytes.fromhex("00000007 00 000000"))
    assert connection.end(5, 7) == end


def test_an_answer_with_a_message_ends_that_stream_too() -> None:
    connection = FastCGIConnection({})
    connection.receive_data(head(5))
    assert b"".join(connection.stderr(5, b"oh")) == record(records.STDERR, 5, b"oh")
    assert connection.end(5).startswith(record(records.STDERR, 5) + record(records.STDOUT, 5))
    assert b"".join(connection.stderr(5, b"late")) == b""


def test_an_answer_to_a_request_that_is_not_open_is_refused() -> None:
    with pytest.raises(KeyError):
        FastCGIConnection({}).end(1)


def test_an_early_answer_discards_the_rest_of_the_body() -> None:
    connection = FastCGIConnection({})
    stdin = record(records.STDIN, 1, b"x" * 100)
    connection.receive_data(head(flags=1) + stdin[:50])
    connection.end(1)
    assert connection.discarding
    assert not connection.idle
    assert connection.receive_data(stdin[50:] + stdin[:50]) == []
    assert connection.between_requests
    assert connection.receive_data(stdin[50:] + record(records.STDIN, 1)) == []
    assert not connection.discarding
    assert connection.idle
    assert isinstance(connection.receive_data(head())[0], RequestHead)


@pytest.mark.parametrize(
    "following",
    [head(1), head(2), record(records.ABORT_REQUEST, 1) + head(2)],
    ids=["1", "2", "abort"],
)
def test_an_answered_id_is_inactive(following: bytes) -> None:
    for pieces in ([following], bytewise(following)):
        connection = FastCGIConnection({})
        connection.receive_data(head())
        connection.end(1)
        reading = read(connection, pieces)
        assert [type(event) for event in reading.events] == [RequestHead]
        assert reading.owed == b""


def test_an_abort_of_an_answered_request_ends_the_discarding() -> None:
    connection = FastCGIConnection({})
    connection.receive_data(head(flags=1))
    connection.end(1)
    connection.receive_data(record(records.ABORT_REQUEST, 1))
    assert connection.idle


def test_a_refused_request_leaves_the_connection_usable() -> None:
    connection = FastCGIConnection({}, Limits(params_size=40))
    events = connection.receive_data(begin(flags=1) + record(records.PARAMS, 1, TOO_MUCH))
    assert events == [RequestRefused(1, 431, "the parameters have more than 40 bytes")]
    connection.end(1)
    assert connection.discarding
    rest = record(records.PARAMS, 1, TOO_MUCH) + record(records.PARAMS, 1) + record(records.STDIN, 1, b"x")
    assert connection.receive_data(rest + record(records.STDIN, 1)) == []
    assert connection.idle
    assert isinstance(connection.receive_data(head(flags=1))[0], RequestHead)


def test_a_refused_request_that_is_complete_leaves_nothing_to_discard() -> None:
    connection = FastCGIConnection({}, Limits(params_size=40))
    params = record(records.PARAMS, 1, TOO_MUCH) * 2 + record(records.PARAMS, 1)
    stdin = record(records.STDIN, 1, b"x") + record(records.STDIN, 1)
    assert len(connection.receive_data(begin(flags=1) + params + stdin)) == 1
    connection.end(1)
    assert connection.idle


def test_after_a_violation_nothing_more_is_read() -> None:
    connection = FastCGIConnection({})
    assert isinstance(connection.receive_data(b"\x02")[0], Violation)
    assert connection.receive_data(head()) == []
    assert connection.receive_eof() == []


def test_an_abort_of_the_connection_is_a_record_of_version_0() -> None:
    connection = FastCGIConnection({})
    connection.receive_data(head())
    assert connection.abort() == bytes(8)
    assert connection.receive_data(record(records.STDIN, 1, b"x")) == []


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", ""),
        (b"\x01", "the connection ended within a request's head"),
        (begin()[:12], "the connection ended within a request's head"),
        (begin(), "the connection ended within a request's head"),
        (head(), "the connection ended before the end of STDIN"),
        (head(block=TOO_MUCH), "the connection ended before the end of STDIN"),
        (head() + record(records.STDIN, 1), ""),
        (head(role=2), ""),
        (head() + record(records.ABORT_REQUEST, 1), ""),
    ],
)
def test_the_end_of_a_connection(data: bytes, reason: str) -> None:
    connection = FastCGIConnection({}, Limits(params_size=40))
    connection.receive_data(data)
    assert connection.receive_eof() == ([Violation(reason)] if reason else [])


def test_the_end_of_a_connection_whose_request_is_answered() -> None:
    connection = FastCGIConnection({})
    connection.receive_data(head())
    connection.end(1)
    assert connection.receive_eof() == []


@pytest.mark.parametrize(
    ("data", "closing"),
    [
        (begin(role=3), True),
        (begin(role=3, flags=1), False),
        (begin() + record(records.ABORT_REQUEST, 1), True),
        (begin(flags=1) + record(records.ABORT_REQUEST, 1), False),
        (head() + begin(2), False),
    ],
)
def test_what_the_protocol_ends_itself_closes_without_keep_conn(data: bytes, closing: bool) -> None:
    connection = FastCGIConnection({})
    connection.receive_data(data)
    assert len(connection.data_to_send()) == 16
    assert connection.data_to_send() == b""
    assert connection.closing == closing


def test_multiplexed_requests() -> None:
    connection = FastCGIConnection({}, multiplex=True, max_conns=7, max_reqs=2)
    asked = records.encode_params([(name, "") for name in ("FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS")])
    answer = records.encode_params([("FCGI_MAX_CONNS", "7"), ("FCGI_MAX_REQS", "2"), ("FCGI_MPXS_CONNS", "1")])
    data = begin(1) + head(2, flags=1) + record(records.STDIN, 2, b"two") + record(records.GET_VALUES, 0, asked)
    data += record(records.PARAMS, 1, BLOCK) + begin(3) + record(records.PARAMS, 1) + record(records.STDIN, 2)
    reading = read(connection, [data])
    expected: list[Event] = [
        RequestHead(2, Role.RESPONDER, True, {"A": "a"}, []),
        Body(2, b"two"),
        RequestHead(1, Role.RESPONDER, False, {"A": "a"}, []),
        BodyEnd(2),
    ]
    assert reading.events == expected
    overloaded = records.encode_end_request(3, 0, records.OVERLOADED)
    assert reading.owed == record(records.GET_VALUES_RESULT, 0, answer) + overloaded


def test_full_records_with_full_padding_stay_in_step() -> None:
    connection = FastCGIConnection({})
    full = struct.pack(">BBHHBx", 1, records.STDIN, 1, 65_535, 255) + b"b" * 65_535 + bytes(255)
    request = head(flags=1) + full + record(records.STDIN, 1)
    for i in range(100):
        reading = read(connection, cut(request, (16_384 * 2 + i, 16_384 * 3 + i)))
        assert reading.events[1:] == [Body(1, b"b" * 65_535), BodyEnd(1)]
        connection.end(1)
        assert connection.idle


def test_memory_is_bounded_by_the_limit() -> None:
    connection = FastCGIConnection({})
    piece = record(records.PARAMS, 1, b"\x01\x00A" * 20_000)
    connection.receive_data(begin())
    tracemalloc.start()
    for _ in range(1000):
        connection.receive_data(piece)
        assert len(connection.data_to_send()) == 0
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < Limits().params_size + 1_048_576
