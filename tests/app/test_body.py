"""`wsgi.input` against io.BytesIO, however the body comes in pieces; and what io.BytesIO cannot do: end too early."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.app.body import RequestBody
from gateway.app.environ import Rejected
from gateway.app.exchange import BodyCutShort
from tests.app.memory import MemoryExchange

PIECES = st.lists(st.binary(min_size=1, max_size=12) | st.sampled_from([b"\n", b"a\nb", b"\n\n"]), max_size=8)
SIZES = st.none() | st.integers(-1, 20)
CALLS = st.lists(st.tuples(st.sampled_from(["read", "readline", "readlines"]), SIZES), max_size=12)


@given(PIECES, CALLS, st.booleans(), st.binary(max_size=5))
def test_it_reads_as_a_file_does(
    pieces: list[bytes], calls: list[tuple[str, int | None]], known: bool, beyond: bytes
) -> None:
    whole = b"".join(pieces)
    exchange = MemoryExchange([*pieces, *([beyond] if known and beyond else [])])
    body = RequestBody(exchange, len(whole) if known else None)
    file = io.BytesIO(whole)
    for name, size in calls:
        assert getattr(body, name)(size) == getattr(file, name)(size)
    assert list(body) == list(file)
    assert body.read() == body.readline() == b""
    assert body.readlines() == []


@given(PIECES, st.integers(0, 60))
def test_a_body_is_never_read_past_its_length(pieces: list[bytes], length: int) -> None:
    whole = b"".join(pieces)
    body = RequestBody(MemoryExchange(pieces), length)
    if length > len(whole):
        with pytest.raises(BodyCutShort, match="bytes before its CONTENT_LENGTH"):
            body.read()
    else:
        assert body.read() == whole[:length]


def test_defaults_are_those_of_files() -> None:
    assert RequestBody(MemoryExchange([b"a\n", b"b"]), None).read() == b"a\nb"
    assert RequestBody(MemoryExchange([b"a", b"\nb"]), None).readline() == b"a\n"
    assert RequestBody(MemoryExchange([b"a\n", b"b"]), None).readlines() == [b"a\n", b"b"]


def test_nothing_is_received_before_it_is_wanted() -> None:
    received = []

    def pieces() -> Any:
        for n in range(3):
            received.append(n)
            yield b"x" * 10

    body = RequestBody(MemoryExchange(pieces()), None)
    assert body.read(0) == body.readline(0) == b""
    assert received == []
    assert body.read(1) == b"x"
    assert body.read(9) == b"x" * 9
    assert received == [0]
    assert body.read(1) == b"x"
    assert received == [0, 1]


def test_a_known_length_of_nothing_asks_for_nothing() -> None:
    assert RequestBody(MemoryExchange(cut=True), 0).read() == b""


@pytest.mark.parametrize("length", [None, 10])
@pytest.mark.parametrize("reading", ["read", "readline", "readlines", "__next__"])
def test_a_cut_body_raises_each_time(length: int | None, reading: str) -> None:
    body = RequestBody(MemoryExchange([b"abc"], cut=True), length)
    for _ in range(2):
        with pytest.raises(BodyCutShort):
            getattr(body, reading)()


def test_what_came_before_the_cut_can_be_read() -> None:
    body = RequestBody(MemoryExchange([b"abc"], cut=True), 10)
    assert body.read(3) == b"abc"
    with pytest.raises(BodyCutShort):
        body.read(1)


def test_a_body_over_the_limit_is_refused_as_soon_as_it_is() -> None:
    body = RequestBody(MemoryExchange([b"12345", b"67890", b"!"]), None, limit=10)
    assert body.read(10) == b"1234567890"
    for _ in range(2):
        with pytest.raises(Rejected) as caught:
            body.read()
        assert caught.value.status == 413
        body = RequestBody(MemoryExchange([b"12345678901"]), None, limit=10)


def test_megabytes_pass_one_piece_at_a_time() -> None:
    piece = b"x" * 65_536
    body = RequestBody(MemoryExchange(piece for _ in range(160)), 160 * len(piece))
    total = 0
    while data := body.read(10_000):
        total += len(data)
        assert len(body._held) == len(piece)
    assert total == 160 * len(piece)
