"""Pairs that are known from before: what they make of a block is what decoding it makes, or nothing."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.protocol import pairs, records
from gateway.protocol.events import Limits
from gateway.protocol.pairs import KnownPairs, Usual, split_pairs
from tests.protocol.differential import SAMPLES, mutate

LIMITS = Limits()
PARAMS_START = 24


def known(usual: Usual | None = None) -> KnownPairs:
    return KnownPairs(usual or {})


def read(block: bytes, to: KnownPairs) -> list[tuple[str, str]] | None:
    """All pairs of a block; None where it is not for `KnownPairs`."""
    *pieces, last = split_pairs(block + b"\0")
    try:
        return [to[piece] for piece in pieces] if len(last) == 1 else None
    except LookupError:
        return None


def pair(name: str, value: str) -> bytes:
    return records.encode_params([(name, value)])


@pytest.mark.parametrize(
    ("name", "value"),
    [("A", ""), ("A" * 31, "b"), ("A", " " * 127), ("A", "v" * 128), ("A", "v" * 70_000), ("A", "caf\xe9 \x7f")],
)
def test_usual_pairs_are_decoded(name: str, value: str) -> None:
    to = known()
    for _ in range(2):
        assert read(pair("FIRST", "1") + pair(name, value) + pair("LAST", "z"), to) == [
            ("FIRST", "1"),
            (name, value),
            ("LAST", "z"),
        ]


@pytest.mark.parametrize(
    "block",
    [
        pair("A" * 32, "b"),
        pair("", "b"),
        pair("A", "b\tc"),
        pair("A", "b\nc"),
        pair("A", "b" * 130 + "\0"),
        pair("A", "b")[:-1],
        pair("A", "b") + b"\5",
        pair("A", "b" * 128)[:3],
        pair("A", pair("B", "c").decode()),
        b"\x01\x80\x00\x00\x01Ab\x01\x00B"[:-1],
        b"\x05\x01\x03\n\x05abc",
        b"\x05\x01\x03\n\x05ab" + b"c",
        b"\x01\x80\x00\x00\x7dA" + b"v" * 124,
        b"\x0a\x80\x00\x00\x00A",
    ],
)
def test_unusual_pairs_are_nobodys(block: bytes) -> None:
    assert read(pair("FIRST", "1") + block, known()) is None
    assert read(block + pair("LAST", "z"), known()) is None


@pytest.mark.parametrize("size", range(128))
def test_a_short_length_may_be_written_as_a_long_one(size: int) -> None:
    block = b"\x01\x80\x00\x00" + bytes([size]) + b"A" + b"v" * size + b"\x01\x00B"
    assert read(block, known()) == [("A", "v" * size), ("B", "")]


def test_what_is_no_pair_is_one_piece() -> None:
    """However long it is, for a client may choose it."""
    assert len(split_pairs(pair("A", "\t" * 1_000) + pair("B", "c"))) == 2
    assert len(split_pairs(pair("B", "c") + pair("A", "b" + "\t" * 1_000 + "c"))) == 3


def test_what_is_not_wanted_is_never_known() -> None:
    to = known({"B": ("x", "y" * 200).__contains__})
    for value in ("", "z", "z" * 200):
        assert read(pair("A", "b") + pair("B", value), to) is None
    assert list(to) == [pair("A", "b")]
    for value in ("x", "y" * 200):
        assert read(pair("B", value), to) == [("B", value)]


def test_only_so_much_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "_MOST", 10)
    to = known()
    assert read(pair("A", "x" * 1_000), to) == [("A", "x" * 1_000)]
    assert not to
    for number in range(100):
        assert read(pair("A", str(number)), to) == [("A", str(number))]
        assert 0 < len(to) <= 10


def agrees(block: bytes, to: KnownPairs) -> bool:
    """Whether a block was read at all, which then is what decoding it makes."""
    found = read(block, to)
    if found is not None:
        params, repeats = records.decode_params(block, {}, LIMITS)
        assert dict(reversed(found)) == params
        assert len(found) == len(params) + len(repeats)
        assert not any(c < " " for name, value in found for c in name + value)
    return found is not None


@given(st.lists(st.binary(max_size=200), max_size=5))
@example([b"\x01\x01A\x01", b"\x01\x01\x01A\x01"])
def test_any_block_means_what_decoding_makes_of_it(blocks: list[bytes]) -> None:
    to = known()
    for block in blocks:
        agrees(block, to)
        agrees(b"".join(len(block[:20]).to_bytes(1, "big") + b"\0" + block[:20] for block in blocks), to)


def encoded(random: Random) -> bytes:
    """Pairs, any length of which may be written as a long one."""
    block = b""
    for size in (random.randrange(200) for _ in range(random.randrange(4))):
        name, value = b"A" * random.randrange(34), b"v" * size
        for text in (name, value):
            is_short = len(text) < 128 and random.randrange(3)
            block += bytes([len(text)]) if is_short else (len(text) | 1 << 31).to_bytes(4, "big")
        block += name + value
    return block


def test_long_lengths_mean_what_decoding_makes_of_them() -> None:
    random = Random(3)
    to = known()
    read_ones = sum(agrees(mutate(encoded(random), random), to) for _ in range(5_000))
    assert 500 < read_ones < 4_500


def test_mutated_requests_mean_what_decoding_makes_of_them() -> None:
    """Each after the others, so that most of it is known."""
    random = Random(7)
    to = known()
    whole = [sample[PARAMS_START:] for sample in SAMPLES]
    ends = [block.find(records.PARAMS_END_1) for block in whole]
    blocks = [block[:end].rstrip(b"\0") for block, end in zip(whole, ends, strict=True) if end > 0]
    read_ones = sum(agrees(mutate(random.choice(blocks), random), to) for _ in range(5_000))
    assert 500 < read_ones < 4_500
