"""However bytes are cut, the same events come, each as soon as its bytes are there; and no bytes raise."""

from __future__ import annotations

import struct
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocol import records
from gateway.protocol.events import Connection, Limits
from gateway.protocol.fastcgi import FastCGIConnection
from gateway.protocol.scgi import SCGIConnection
from tests.protocol.reading import bytewise, cut, read

LIMITS = Limits(params_size=60, params_count=4, name_size=12)
PLACES = st.lists(st.integers(0, 2000), max_size=12)


@st.composite
def fastcgi_records(draw: st.DrawFn) -> bytes:
    """One record, mostly of a kind and content that make sense."""
    kind = draw(st.sampled_from((1, 1, 2, 4, 4, 4, 5, 5, 5, 8, 9, 12)) | st.integers(0, 255))
    request_id = draw(st.sampled_from((1, 1, 1, 1, 2, 3, 0)))
    if kind == records.BEGIN_REQUEST:
        content = struct.pack(">HB5x", draw(st.sampled_from((1, 1, 1, 2, 3))), draw(st.integers(0, 1)))
    elif kind in (records.PARAMS, records.GET_VALUES):
        content = draw(st.just(b"") | params() | st.binary(max_size=12))
    else:
        content = draw(st.just(b"") | st.binary(max_size=20))
    if kind in (records.GET_VALUES, records.UNKNOWN_TYPE + 1):
        request_id = 0
    padding = draw(st.sampled_from((0, 0, 0, 7)))
    return struct.pack(">BBHHBx", 1, kind, request_id, len(content), padding) + content + bytes(padding)


def params() -> st.SearchStrategy[bytes]:
    """Name-value pairs."""
    names = st.sampled_from(("A", "HTTP_X", "FCGI_MAX_REQS", "N" * 12, "N" * 130))
    return st.lists(st.tuples(names, st.sampled_from(("", "v", "v" * 30, "v" * 130))), max_size=5).map(
        records.encode_params
    )


def whole_request(block: bytes, body: bytes) -> bytes:
    begin = records.encode_record(records.BEGIN_REQUEST, 1, struct.pack(">HB5x", 1, 1))
    head = records.encode_record(records.PARAMS, 1, block) + records.encode_record(records.PARAMS, 1)
    return begin + head + b"".join(records.encode_stream(records.STDIN, 1, body)) + records.encode_record(5, 1)


FASTCGI = st.one_of(
    st.lists(fastcgi_records(), max_size=12).map(b"".join),
    st.builds(whole_request, params() | st.binary(max_size=30), st.binary(max_size=30)),
    st.binary(max_size=60),
)


@st.composite
def scgi_requests(draw: st.DrawFn) -> bytes:
    """A request, mostly a valid one."""
    length = draw(st.sampled_from(("", "0", "3", "5", "-1", "x")))
    names = st.sampled_from(("A", "SCGI", "CONTENT_LENGTH", "", "N" * 20))
    more = draw(st.lists(st.tuples(names, st.sampled_from(("", "1", "3"))), max_size=4))
    pairs = [("CONTENT_LENGTH", length), ("SCGI", "1"), *more]
    block = "".join(f"{name}\0{value}\0" for name, value in pairs).encode()
    block = block[: len(block) - draw(st.sampled_from((0, 0, 0, 0, 1, 2)))]
    return b"%d:%s%s" % (len(block), block, draw(st.sampled_from((b",", b",", b",", b";")))) + draw(
        st.binary(max_size=8)
    )


SCGI = st.one_of(scgi_requests(), st.binary(max_size=30), st.from_regex(rb"[0-9]{0,9}:.{0,9}"))


def check(new: Callable[[], Connection], data: bytes, places: list[int]) -> None:
    """The same reading whole, byte by byte and cut at `places`; and at each of them as much as is possible by then."""
    whole = read(new(), [data])
    assert read(new(), bytewise(data)) == whole
    assert read(new(), cut(data, places)) == whole
    for place in places:
        start = data[: place % (len(data) + 1)]
        assert read(new(), bytewise(start)) == read(new(), [start])
    connection = new()
    connection.receive_data(data)
    assert len(connection.receive_eof()) <= 1


@settings(max_examples=300, deadline=None)
@given(FASTCGI, PLACES, st.booleans())
def test_fastcgi(data: bytes, places: list[int], multiplex: bool) -> None:
    check(lambda: FastCGIConnection({"A": 1}, LIMITS, multiplex, max_reqs=2), data, places)


@settings(max_examples=200, deadline=None)
@given(SCGI, PLACES)
def test_scgi(data: bytes, places: list[int]) -> None:
    check(lambda: SCGIConnection({"A": 1}, LIMITS), data, places)
