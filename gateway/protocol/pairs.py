"""Name-value pairs as they were sent (FastCGI 1.0 §3.4), and what they say: most of a request are known from before."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

# Where names have fewer than 32 bytes, and neither they nor values a control character, such a one is the length of the
# next name. A block is cut together with the byte behind it, which is one as well, and then the last piece: that is
# longer where from somewhere on the block is something else.
split_pairs = re.compile(rb"[\x01-\x1f](?:[\0-\x7f]|[\x80-\xff].{3})[ -\xff]+|.+", re.DOTALL).findall

_MOST = 512  # pairs that are known at a time: of 160 bytes at most, for those with long lengths are not

Usual = Mapping[str, Callable[[str], bool]]  # by name, whether a value is wanted


class KnownPairs(dict[bytes, tuple[str, str]]):
    """The pairs that pieces of a block stand for.

    Pieces that all have the lengths that they say are what the block says: each begins where the one before ends. No
    name or value of theirs holds a control character. What is known is for clients to choose, so it is forgotten before
    it becomes much.
    """

    def __init__(self, usual: Usual) -> None:
        """Values of names that are not in `usual` are all wanted."""
        super().__init__()
        self._usual = usual

    def __missing__(self, piece: bytes) -> tuple[str, str]:
        """Decode a pair. Raises LookupError for what is none, or is not wanted."""
        end = piece[0] + 2
        if piece[1] > 127 or end + piece[1] != len(piece):
            return self._decode_long(piece)
        text = str(piece, "latin-1")
        pair = name, value = text[2:end], text[end:]
        if name in self._usual and not self._usual[name](value):
            raise KeyError(name)
        if len(self) == _MOST:
            self.clear()
        self[piece] = pair
        return pair

    def _decode_long(self, piece: bytes) -> tuple[str, str]:
        """A pair whose value has a length of four bytes."""
        text = str(piece, "latin-1")
        end = piece[0] + 5
        name, value = text[5:end], text[end:]
        if end + (int.from_bytes(piece[1:5], "big") & 0x7FFFFFFF) != len(piece) or piece[1] < 128:
            raise KeyError(name)
        if name in self._usual and not self._usual[name](value):
            raise KeyError(name)
        return name, value
