"""The front-end's side against the application's side, and answers that go wrong."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocol import records
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
from gateway.protocol.events import Body, BodyEnd, Connection, RequestHead, Role
from gateway.protocol.fastcgi import FastCGIConnection
from gateway.protocol.scgi import SCGIConnection
from tests.protocol.reading import bytewise, cut

PARAMS = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": "4", "HTTP_X": "caf\xe9"}


def collect(reader: ResponseReader, pieces: list[bytes]) -> list[ResponseEvent]:
    """Feed `pieces`; join adjacent pieces of a stream."""
    events: list[ResponseEvent] = []
    for piece in pieces:
        for event in reader.receive_data(piece):
            last = events[-1] if events else None
            if isinstance(event, Stdout) and isinstance(last, Stdout):
                events[-1] = Stdout(last.data + event.data)
            else:
                events.append(event)
    return events


@pytest.mark.parametrize("protocol", ["fastcgi", "scgi"])
def test_a_request_arrives(protocol: str) -> None:
    connection: Connection = FastCGIConnection({}) if protocol == "fastcgi" else SCGIConnection({})
    head, *rest = connection.receive_data(encode_request(protocol, PARAMS))
    assert rest == []
    assert isinstance(head, RequestHead)
    assert {name: head.params[name] for name in PARAMS} == PARAMS
    data = encode_stdin(protocol, b"body") + encode_stdin(protocol, b"")
    assert connection.receive_data(data) == [Body(1, b"body"), BodyEnd(1)]


def test_flags_and_role() -> None:
    data = encode_request("fastcgi", {}, role=Role.AUTHORIZER, keep_conn=True)
    head, end = FastCGIConnection({}).receive_data(data)
    assert head == RequestHead(1, Role.AUTHORIZER, True, {"FCGI_ROLE": "AUTHORIZER"}, [])
    assert end == BodyEnd(1)


def test_many_params_go_into_several_records() -> None:
    params = {f"HTTP_X_{i}": "v" * 900 for i in range(200)}
    (head,) = FastCGIConnection({}).receive_data(encode_request("fastcgi", params))
    assert isinstance(head, RequestHead)
    assert head.params == params


def test_scgi_gets_its_own_headers_first() -> None:
    data = encode_request("scgi", {"A": "a", "SCGI": "9"})
    assert data == b"28:CONTENT_LENGTH\x000\0SCGI\x001\0A\0a\0,"


def test_an_unknown_protocol() -> None:
    with pytest.raises(ValueError, match="'http' is neither"):
        encode_request("http", {})


def answer(end: bytes = b"") -> bytes:
    connection = FastCGIConnection({})
    connection.receive_data(encode_request("fastcgi", {}))
    stdout = b"".join(connection.stdout(1, b"x" * 70_000))
    return stdout + b"".join(connection.stderr(1, b"oh")) + (end or connection.end(1, 3))


@settings(max_examples=50)
@given(st.lists(st.integers(0, 100_000), max_size=8))
def test_an_answer_however_it_is_cut(places: list[int]) -> None:
    events = collect(ResponseReader("fastcgi"), cut(answer(), places))
    assert [event for event in events if not isinstance(event, Stderr)] == [Stdout(b"x" * 70_000), Ended(3, 0)]
    assert b"".join(event.data for event in events if isinstance(event, Stderr)) == b"oh"


def test_after_the_end_nothing_is_read() -> None:
    reader = ResponseReader("fastcgi")
    assert collect(reader, [answer() + answer()])[-1] == Ended(3, 0)
    assert reader.ended
    assert reader.receive_data(answer()) == []
    assert reader.receive_eof() == []


def test_an_end_that_comes_byte_by_byte() -> None:
    end = records.encode_end_request(1, 5, 2)
    assert collect(ResponseReader("fastcgi"), bytewise(end)) == [Ended(5, 2)]


def test_records_that_are_not_for_the_request_are_ignored() -> None:
    other = records.encode_record(records.STDOUT, 2, b"x") + records.encode_unknown_type(9)
    empty = records.encode_record(records.STDERR, 1) + records.encode_record(records.DATA, 1, b"x")
    events = collect(ResponseReader("fastcgi"), [other + empty + records.encode_end_request(1, 0, 3)])
    assert events == [Ended(0, 3)]


@pytest.mark.parametrize("pieces", [lambda data: [data], bytewise])
def test_an_aborted_answer_is_truncated(pieces: object) -> None:
    assert callable(pieces)
    data = records.encode_record(records.STDOUT, 1, b"part") + FastCGIConnection({}).abort()
    reader = ResponseReader("fastcgi")
    assert collect(reader, pieces(data)) == [Stdout(b"part"), Truncated("the application broke off its answer")]
    assert reader.receive_eof() == []


def test_an_end_of_the_wrong_size_is_truncation() -> None:
    short = records.encode_record(records.END_REQUEST, 1, struct.pack(">I", 0))
    assert collect(ResponseReader("fastcgi"), [short]) == [Truncated("END_REQUEST is not 8 bytes long")]


def test_a_violation_after_the_end_changes_nothing() -> None:
    assert collect(ResponseReader("fastcgi"), [records.encode_end_request(1, 0, 0) + bytes(8)]) == [Ended(0, 0)]


def test_a_connection_that_ends_early_is_truncation() -> None:
    reader = ResponseReader("fastcgi")
    reader.receive_data(answer()[:100])
    assert reader.receive_eof() == [Truncated("the connection ended before the answer did")]


def test_an_scgi_answer_ends_with_its_connection() -> None:
    reader = ResponseReader("scgi")
    assert reader.receive_data(b"Status: 200 OK\r\n\r\n") == [Stdout(b"Status: 200 OK\r\n\r\n")]
    assert reader.receive_data(b"") == []
    assert reader.receive_eof() == [Ended(0, 0)]
    assert reader.receive_eof() == []
