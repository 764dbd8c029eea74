"""Every file of vectors/ gives what the `.expect` file beside it says, however its bytes are cut.

An `.expect` file begins with a comment and, where the limits are not the default ones, a line of them; the rest is what
`reading.describe` writes.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.protocol.events import Limits
from gateway.protocol.fastcgi import FastCGIConnection
from gateway.protocol.scgi import SCGIConnection
from tests.protocol.reading import bytewise, cut, describe, read

VECTORS = Path(__file__).parent / "vectors"
FASTCGI = sorted(VECTORS.glob("fastcgi/*.fcgi"))
SCGI = sorted(VECTORS.glob("scgi/*.scgi"))
NO_RECORD = b"\x09"  # no version that there is
TRAILING_VIOLATION = "violation not FastCGI: a record of version 9"


def expected(path: Path) -> tuple[Limits, list[str]]:
    comment, *lines = path.with_suffix(".expect").read_text().splitlines()
    assert comment.startswith("# ")
    if lines and lines[0].startswith("limits "):
        pairs = (word.split("=") for word in lines.pop(0).split()[1:])
        return Limits(**{name: int(value) for name, value in pairs}), lines
    return Limits(), lines


def test_there_are_vectors() -> None:
    assert len(FASTCGI) >= 40
    assert len(SCGI) >= 25


@pytest.mark.parametrize("path", FASTCGI, ids=lambda path: path.stem)
def test_fastcgi(path: Path) -> None:
    data = path.read_bytes()
    limits, lines = expected(path)
    for pieces in ([data], bytewise(data), cut(data, range(3, len(data), 7))):
        assert describe(read(FastCGIConnection({}, limits), pieces)) == lines


@pytest.mark.parametrize("path", FASTCGI, ids=lambda path: path.stem)
def test_fastcgi_with_trailing_bytes(path: Path) -> None:
    limits, lines = expected(path)
    if not any(line.startswith("violation") for line in lines):
        owed = [line for line in lines if line.startswith("owed")]
        lines = [*(line for line in lines if line not in owed), TRAILING_VIOLATION, *owed]
    data = path.read_bytes() + NO_RECORD
    for pieces in ([data], [data[:-1], data[-1:]]):
        assert describe(read(FastCGIConnection({}, limits), pieces)) == lines


@pytest.mark.parametrize("path", SCGI, ids=lambda path: path.stem)
@pytest.mark.parametrize("trailing", [b"", b"more"])
def test_scgi(path: Path, trailing: bytes) -> None:
    data = path.read_bytes()
    limits, lines = expected(path)
    for pieces in ([data, trailing], [data + trailing], [*bytewise(data), trailing], cut(data, range(3, len(data), 7))):
        assert describe(read(SCGIConnection({}, limits), pieces)) == lines
