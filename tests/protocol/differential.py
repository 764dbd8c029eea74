"""Compares the twin in C with Python on mutated requests, for as long as is wanted.

python -m tests.protocol.differential [SECONDS [SEED]]
"""

from __future__ import annotations

import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

from gateway.protocol import headers, records
from gateway.protocol.events import Limits, ProtocolError, RequestHead
from tests.compiling import compile_twin, load_twin, load_with
from tests.protocol.reading import cut, read

ROOT = Path(__file__).parent.parent.parent
VECTORS = Path(__file__).parent / "vectors"
SAMPLES = [
    (ROOT / "benchmarks" / "hello.fcgi").read_bytes(),
    *(path.read_bytes() for path in sorted(VECTORS.glob("*/*.*cgi"))),
]
BASE = {"wsgi.version": (1, 0), "HTTP_HOST": "base"}
INTERESTING = bytes((0, 1, 4, 5, 10, 13, 44, 48, 58, 127, 128, 255))

Outcome = tuple[Any, ...]


def outcome(function: Callable[..., Any], *arguments: Any) -> Outcome:
    """What a function returns, or what it raises and says."""
    try:
        return ("returned", function(*arguments))
    except (ProtocolError, IndexError) as error:
        return (type(error), str(error))


def mutate(data: bytes, random: Random) -> bytes:
    """`data` with up to four bytes changed, stretches left out or doubled."""
    result = bytearray(data)
    for _ in range(random.randrange(5)):
        if not result:
            break
        place = random.randrange(len(result))
        size = random.randrange(20)
        match random.randrange(4):
            case 0:
                result[place] = random.choice(INTERESTING)
            case 1:
                result[place] ^= 1 << random.randrange(8)
            case 2:
                del result[place : place + size]
            case _:
                result[place:place] = result[place : place + size]
    return bytes(result)


def headers_of(request: bytes) -> bytes:
    """The content of an SCGI request's netstring, roughly: what lies between colon and comma."""
    return request.partition(b":")[2].rpartition(b",")[0]


def is_plain(params: dict[str, Any], repeats: Sequence[tuple[str, str]]) -> bool:
    """Whether no name or value but the base's holds NUL, CR or LF."""
    own = [value for name, value in params.items() if BASE.get(name) != value]
    text = "".join([*params, *map(str, own), *(part for pair in repeats for part in pair)])
    return not set(text) & {"\0", "\r", "\n"}


class Comparison:
    """Both sides: functions, and the connections that use them."""

    def __init__(self, twin: ModuleType) -> None:
        self.twin = twin
        self.sides = [(load_with(side, "fastcgi"), load_with(side, "scgi")) for side in (None, twin)]

    def compare(self, data: bytes, limits: Limits) -> None:
        """Every decoder on `data`, with the same limits. Raises AssertionError."""
        twin = self.twin
        for name in ("decode_params", "decode_whole_head", "decode_headers"):
            decode = getattr(twin._records, name)
            numbers = (limits.params_size, limits.params_count, limits.name_size)
            # An array ends where its bytes end, without a NUL behind them: a sanitizer sees what is read too far.
            assert decode(array("B", data), BASE, *numbers) == decode(data, BASE, *numbers)
        assert outcome(twin.decode_params, data, BASE, limits) == outcome(records.decode_params, data, BASE, limits)
        ours, theirs = (side.decode_whole_head(data, BASE, limits) for side in (twin, records))
        assert _without_plain(ours) == _without_plain(theirs)
        if ours is not None:
            assert ours[3] == is_plain(ours[1], ours[2])
        for block in (data, headers_of(data)):
            ours, theirs = (outcome(side.decode_headers, block, BASE, limits) for side in (twin, headers))
            if ours[0] == "returned":
                assert ours[1][2] in (False, is_plain(*ours[1][:2]))
                ours, theirs = (("returned", (*result[:2], result[3])) for _, result in (ours, theirs))
            assert ours == theirs

    def compare_connections(self, pieces: Sequence[bytes], limits: Limits) -> None:
        """What connections of both protocols make of `pieces`, and whether these are plain. Raises AssertionError."""
        python, c = (
            [read(fastcgi.FastCGIConnection(BASE, limits), pieces), read(scgi.SCGIConnection(BASE, limits), pieces)]
            for fastcgi, scgi in self.sides
        )
        assert python == c
        for reading in c:
            for head in reading.events:
                if isinstance(head, RequestHead) and head.plain:
                    assert is_plain(head.params, head.repeats)


def _without_plain(head: records.WholeHead | None) -> tuple[Any, ...] | None:
    return None if head is None else (*head[:3], *head[4:])


def main(arguments: list[str]) -> None:
    """Compare until the time is over; the seed, which repeats a run, and the number of requests are printed."""
    seconds = float(arguments[0]) if arguments else 60.0
    seed = int(arguments[1]) if len(arguments) > 1 else time.time_ns() % 1_000_000
    random = Random(seed)
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        comparison = Comparison(load_twin(compile_twin(Path(folder))))
    requests = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        data = mutate(random.choice(SAMPLES), random)
        limits = random.choice((Limits(), Limits(random.randrange(600), random.randrange(40), random.randrange(40))))
        comparison.compare(data, limits)
        comparison.compare_connections(cut(data, [random.randrange(2000) for _ in range(random.randrange(4))]), limits)
        requests += 1
    print(f"{requests} requests, all read the same by both")


if __name__ == "__main__":
    main(sys.argv[1:])
