"""What is held of a body: in memory, and beyond that in a file."""

from __future__ import annotations

import pytest

from gateway.net.bodybuffer import BodyBuffer


def all_of(buffer: BodyBuffer) -> bytes:
    return b"".join(iter(buffer.take, None))  # type: ignore[arg-type] # it ends with the sentinel


@pytest.mark.parametrize("spool", [False, True])
def test_first_in_first_out(spool: bool) -> None:
    buffer = BodyBuffer()
    pieces = [bytes([number]) * 40_000 for number in range(10)]
    for piece in pieces:
        buffer.put(piece, spool=spool)
    assert (buffer.size, buffer.is_full) == (400_000, True)
    assert all_of(buffer) == b"".join(pieces)
    assert (buffer.size, buffer.is_full, buffer.take()) == (0, False, None)


def test_what_comes_while_the_file_is_read_follows_it() -> None:
    buffer = BodyBuffer()
    buffer.put(b"a" * 70_000, spool=True)
    buffer.put(b"b" * 70_000, spool=True)
    assert buffer.take() == b"a" * 70_000
    assert buffer.take() == b"b" * 65_536
    buffer.put(b"c", spool=True)
    assert all_of(buffer) == b"b" * (70_000 - 65_536) + b"c"
    buffer.put(b"d", spool=True)
    assert all_of(buffer) == b"d"


def test_clear() -> None:
    buffer = BodyBuffer()
    for piece in (b"a" * 70_000, b"b"):
        buffer.put(piece, spool=True)
    buffer.clear()
    assert (buffer.size, buffer.take()) == (0, None)
