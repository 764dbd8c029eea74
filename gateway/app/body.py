"""The request's body as `wsgi.input` (PEP 3333 "Input and Error Streams"): a file over the pieces as they come."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from gateway.app.environ import Rejected
from gateway.app.exchange import BodyCutShort, Exchange


class RequestBody:
    """Reads like a binary file and holds one piece at a time.

    With a length (CONTENT_LENGTH, bytes) nothing beyond it is read, and an end before it raises BodyCutShort: a cut
    body is never taken for a complete one. Without, the end of the stream is the end. More than `limit` bytes raise
    Rejected (413), which `wsgi.run` turns into the answer.
    """

    __slots__ = ("_exchange", "_held", "_limit", "_position", "_remaining")

    def __init__(self, exchange: Exchange, length: int | None, limit: int = sys.maxsize) -> None:
        self._exchange = exchange
        self._remaining = length
        self._limit = limit
        self._held = b""
        self._position = 0

    @classmethod
    def whole(cls, data: bytes = b"") -> RequestBody:
        """A body that is all there, whose end is known."""
        body = cls.__new__(cls)
        body._remaining = body._position = 0
        body._limit = sys.maxsize
        body._held = data
        return body

    def read(self, size: int | None = -1, /) -> bytes:
        """`size` bytes, fewer only at the end; all that is left when it is negative or None."""
        wanted = sys.maxsize if size is None or size < 0 else size
        parts = []
        while wanted and (self._position < len(self._held) or self._receive()):
            parts.append(self._take(wanted))
            wanted -= len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def readline(self, size: int | None = -1, /) -> bytes:
        """Up to and with the next line feed, at most `size` bytes."""
        wanted = sys.maxsize if size is None or size < 0 else size
        parts = []
        while wanted and (self._position < len(self._held) or self._receive()):
            end = self._held.find(b"\n", self._position) + 1
            parts.append(self._take(min(wanted, end - self._position) if end else wanted))
            wanted = 0 if parts[-1].endswith(b"\n") else wanted - len(parts[-1])
        return b"".join(parts)

    def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        """Lines until they have `hint` bytes together, or all when it is not positive."""
        enough = sys.maxsize if hint is None or hint <= 0 else hint
        lines = []
        total = 0
        while total < enough and (line := self.readline()):
            lines.append(line)
            total += len(line)
        return lines

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def _take(self, size: int) -> bytes:
        piece = self._held[self._position : self._position + size]
        self._position += len(piece)
        return piece

    def _receive(self) -> bool:
        """Hold the next piece of the body; False at its end."""
        if self._remaining == 0:
            return False
        piece = self._exchange.receive()
        if self._remaining is not None:
            if not piece:
                raise BodyCutShort(f"the request's body ended {self._remaining} bytes before its CONTENT_LENGTH")
            piece = piece[: self._remaining]
            self._remaining -= len(piece)
        self._limit -= len(piece)
        if self._limit < 0:
            raise Rejected(413, "the request's body is larger than max_body")
        self._held = piece
        self._position = 0
        return bool(piece)
