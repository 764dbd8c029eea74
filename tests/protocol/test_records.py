"""FastCGI records and name-value pairs (FastCGI 1.0 §3.3, §3.4)."""

from __future__ import annotations

import struct
import tracemalloc
from types import ModuleType

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.protocol import records
from gateway.protocol.events import Limits, ProtocolError

LIMITS = Limits()
LATIN_1 = st.text(st.characters(max_codepoint=255), max_size=300)


@pytest.mark.parametrize(
    ("pair", "block"),
    [
        (("A", "b"), b"\x01\x01Ab"),
        (("", ""), b"\x00\x00"),
        (("N" * 127, "v" * 127), b"\x7f\x7f" + b"N" * 127 + b"v" * 127),
        (("N" * 128, "v"), b"\x80\x00\x00\x80\x01" + b"N" * 128 + b"v"),
        (("N", "v" * 70_000), b"\x01\x80\x01\x11\x70N" + b"v" * 70_000),
        (("N", "caf\xe9"), b"\x01\x04Ncaf\xe9"),
    ],
)
def test_pairs_in_both_directions(codec: ModuleType, pair: tuple[str, str], block: bytes) -> None:
    assert records.encode_params([pair]) == block
    assert codec.decode_params(block, {}, LIMITS) == (dict([pair]), [])


@given(st.lists(st.tuples(LATIN_1, LATIN_1), max_size=20))
def test_decoding_reverses_encoding(codec: ModuleType, pairs: list[tuple[str, str]]) -> None:
    params, repeats = codec.decode_params(records.encode_params(pairs), {}, LIMITS)
    rest = list(pairs)
    for pair in params.items():
        rest.remove(pair)
    assert repeats == rest
    assert params == dict(reversed(pairs))


def test_decoding_is_over_a_copy_of_the_base(codec: ModuleType) -> None:
    base = {"wsgi.version": (1, 0)}
    params, repeats = codec.decode_params(records.encode_params([("wsgi.version", "2"), ("A", "a")]), base, LIMITS)
    assert params == {"wsgi.version": (1, 0), "A": "a"}
    assert repeats == [("wsgi.version", "2")]
    assert base == {"wsgi.version": (1, 0)}


def test_characters_outside_latin_1_are_not_encoded() -> None:
    with pytest.raises(UnicodeEncodeError):
        records.encode_params([("N", "\u20ac")])


@given(st.binary(max_size=64))
@example(b"\x00\x29" + bytes(41))
def test_walking_ends_where_decoding_does(codec: ModuleType, block: bytes) -> None:
    limits = Limits(params_size=40, params_count=3, name_size=10)
    try:
        pos, count = records.skip_params(block, 0, 0, limits)
    except records.LimitExceeded as over:
        with pytest.raises(records.LimitExceeded, match=f"^{over}$"):
            codec.decode_params(block, {}, limits)
        return
    if pos == len(block):
        params, repeats = codec.decode_params(block, {}, limits)
        assert len(params) + len(repeats) == count
    else:
        with pytest.raises(ProtocolError, match="cut short"):
            codec.decode_params(block, {}, limits)


def test_announced_lengths_are_not_allocated(codec: ModuleType) -> None:
    tracemalloc.start()
    for _ in range(1000):
        with pytest.raises(ProtocolError):
            codec.decode_params(b"\xff" * 8 + b"x" * 8, {}, LIMITS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 200_000])
def test_streams_are_split_into_records(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    content = b""
    for kind, request_id, length, piece in records.RecordReader().feed(
        b"".join(records.encode_stream(records.STDOUT, 3, data))
    ):
        assert (kind, request_id) == (records.STDOUT, 3)
        assert len(piece) == length <= 65_535
        content += piece
    assert content == data


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 200_000])
def test_an_answer_in_one_buffer(codec: ModuleType, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    stream = b"".join(records.encode_stream(records.STDOUT, 0x0102, data))
    end = records.encode_record(records.STDOUT, 0x0102) + records.encode_end_request(0x0102, 0x103040506, 0)
    assert codec.encode_answer(0x0102, data, 0x103040506) == stream + end


@pytest.mark.parametrize("request_id", [-1, 65_536])
def test_an_answer_to_what_is_no_id(codec: ModuleType, request_id: int) -> None:
    with pytest.raises(struct.error):
        codec.encode_answer(request_id, b"", 0)


def test_content_that_a_record_cannot_hold() -> None:
    with pytest.raises(struct.error):
        records.encode_record(records.STDOUT, 1, bytes(65_536))


def test_reserved_bytes_are_zero() -> None:
    assert records.encode_end_request(0x0102, 0x103040506, 3) == bytes.fromhex(
        "01 03 0102 0008 00 00  03040506 03 000000"
    )
    assert records.encode_unknown_type(77) == bytes.fromhex("01 0b 0000 0008 00 00  4d 00000000000000")


BEGIN = bytes.fromhex("0101 0001 0008 00 00 0001 00 0000000000")
PARAMS = bytes.fromhex("0104 0001 0004 02 00 01 01 41 62 0000")
PARAMS_END = bytes.fromhex("0104 0001 0000 00 00")


STDIN_END = bytes.fromhex("0105 0001 0000 00 00")


def test_a_whole_head_at_once(codec: ModuleType) -> None:
    head = BEGIN + PARAMS + PARAMS_END
    for more, end, complete in ((b"", 0, False), (b"more", 0, False), (STDIN_END, 8, True), (STDIN_END * 2, 8, True)):
        decoded = codec.decode_whole_head(head + more, {}, LIMITS)
        assert decoded[:3] == (False, {"A": "b"}, [])
        assert decoded[4:] == (len(head) + end, complete)


def test_a_whole_head_with_keep_conn(codec: ModuleType) -> None:
    head = bytearray(BEGIN + PARAMS + PARAMS_END)
    head[10] = records.KEEP_CONN
    assert codec.decode_whole_head(bytes(head), {}, LIMITS)[0] is True


@pytest.mark.parametrize("place", [*range(len(BEGIN) + 7), *range(len(BEGIN + PARAMS), len(BEGIN + PARAMS) + 8)])
def test_a_head_that_differs_anywhere_is_left_to_the_table(codec: ModuleType, place: int) -> None:
    head = bytearray(BEGIN + PARAMS + PARAMS_END)
    head[place] ^= 0x40
    assert codec.decode_whole_head(bytes(head), {}, LIMITS) is None


@pytest.mark.parametrize("flags", [2, 3, 0x80, 0xFF])
def test_a_head_with_flags_that_are_not_known_is_left_to_the_table(codec: ModuleType, flags: int) -> None:
    head = bytearray(BEGIN + PARAMS + PARAMS_END)
    head[10] = flags
    assert codec.decode_whole_head(bytes(head), {}, LIMITS) is None


def test_a_head_that_is_not_whole_is_left_to_the_table(codec: ModuleType) -> None:
    head = BEGIN + PARAMS + PARAMS_END
    for size in range(len(head)):
        assert codec.decode_whole_head(head[:size], {}, LIMITS) is None


@pytest.mark.parametrize(
    "head",
    [
        BEGIN + PARAMS.replace(b"\x01\x01Ab", b"\x01\x02Ab") + PARAMS_END,
        BEGIN + PARAMS_END + BEGIN,
        bytes.fromhex("0101 0000 0008 00 00 0001 00 0000000000 0104 0000 0002 00 00 0000 0104 0000 0000 00 00"),
    ],
    ids=["pair cut short", "no parameters", "id 0"],
)
def test_a_head_with_a_fault_is_left_to_the_table(codec: ModuleType, head: bytes) -> None:
    assert codec.decode_whole_head(head, {}, LIMITS) is None


def test_reader_knows_when_it_is_between_records() -> None:
    reader = records.RecordReader()
    record = records.encode_record(records.STDIN, 1, b"abc")[:6] + b"\x02\x00abc\x00\x00"
    for byte in record[:-1]:
        list(reader.feed(bytes((byte,))))
        assert not reader.between_records
    list(reader.feed(record[-1:]))
    assert reader.between_records
