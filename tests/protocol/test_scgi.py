"""What the driver sees of an SCGI connection around its events."""

from __future__ import annotations

import tracemalloc

import pytest

from gateway.protocol.events import Body, BodyEnd, RequestHead, RequestRefused, Violation
from gateway.protocol.scgi import SCGIConnection
from tests.protocol.reading import bytewise, read

HEAD = b"24:CONTENT_LENGTH\x003\0SCGI\x001\0,"


def test_an_answer_is_not_framed() -> None:
    connection = SCGIConnection({})
    connection.receive_data(HEAD + b"abc")
    assert list(connection.stdout(1, b"answer")) == [b"answer"]
    assert list(connection.stderr(1, b"message")) == []
    assert connection.end(1) == b""
    assert connection.data_to_send() == b""
    assert not connection.closing


def test_from_the_first_byte_to_the_answer() -> None:
    connection = SCGIConnection({"base": 1})
    assert connection.idle
    assert connection.between_requests
    for byte in bytewise(HEAD[:-1]):
        assert connection.receive_data(byte) == []
        assert not connection.idle
        assert not connection.between_requests
    (head,) = connection.receive_data(b",")
    assert isinstance(head, RequestHead)
    assert head.params == {"base": 1, "CONTENT_LENGTH": "3", "SCGI": "1"}
    assert not head.keep_conn
    assert connection.between_requests
    assert read(connection, bytewise(b"abc")).events == [Body(1, b"abc"), BodyEnd(1)]
    assert not connection.idle
    connection.end(1)
    assert connection.idle


def test_an_early_answer_discards_the_rest_of_the_body() -> None:
    connection = SCGIConnection({})
    connection.receive_data(HEAD + b"a")
    connection.end(1)
    assert connection.discarding
    assert not connection.idle
    assert connection.receive_data(b"bc") == []
    assert not connection.discarding
    assert connection.idle


def test_a_refused_request_is_discarded_to_the_end_of_the_connection() -> None:
    connection = SCGIConnection({})
    assert [type(event) for event in connection.receive_data(b"999999:")] == [RequestRefused]
    assert not connection.discarding
    connection.end(1)
    assert connection.receive_data(b"x" * 1000) == []
    assert connection.discarding
    assert not connection.idle
    assert connection.receive_eof() == []


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", ""),
        (b"2", "the connection ended within a request's head"),
        (b"24:", "the connection ended within a request's head"),
        (HEAD[:-1], "the connection ended within a request's head"),
        (HEAD + b"ab", "the connection ended before the end of the body"),
        (HEAD + b"abc", ""),
    ],
)
def test_the_end_of_a_connection(data: bytes, reason: str) -> None:
    connection = SCGIConnection({})
    connection.receive_data(data)
    assert connection.receive_eof() == ([Violation(reason)] if reason else [])
    assert connection.receive_eof() == []


def test_the_end_of_a_connection_whose_request_is_answered() -> None:
    connection = SCGIConnection({})
    connection.receive_data(HEAD)
    connection.end(1)
    assert connection.receive_eof() == []


def test_after_an_abort_nothing_more_is_read() -> None:
    connection = SCGIConnection({})
    connection.receive_data(HEAD)
    assert connection.abort() == b""
    assert connection.receive_data(b"abc") == []


def test_announced_lengths_are_not_allocated() -> None:
    tracemalloc.start()
    for length in (b"999999999:", b"9999999:", b"262144:"):
        SCGIConnection({}).receive_data(length)
    huge = SCGIConnection({})
    huge.receive_data(b"41:CONTENT_LENGTH\x00999999999999999999\0SCGI\x001\0,")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000
