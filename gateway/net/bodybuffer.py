"""What has come of a request's body and was not taken yet: in memory, and where that is too much, in a file."""

from __future__ import annotations

import tempfile
from collections import deque
from typing import IO

_IN_MEMORY = 65_536  # bytes, of one request
_FROM_FILE = 65_536  # bytes that are read at once


class BodyBuffer:
    """First in, first out. `size` in bytes."""

    __slots__ = ("_file", "_pieces", "_read", "_written", "size")

    def __init__(self) -> None:
        self.size = 0
        self._pieces: deque[bytes] = deque()
        self._file: IO[bytes] | None = None  # holds what came after the pieces
        self._read = self._written = 0  # bytes of the file

    @property
    def is_full(self) -> bool:
        """As much is held as is to be held in memory."""
        return self.size >= _IN_MEMORY

    def put(self, data: bytes, *, spool: bool = False) -> None:
        """Add a piece; with `spool`, to a file if it is too much for memory. Raises OSError where the disk is full."""
        in_memory = self._file is None and not (spool and self.is_full)
        self.size += len(data)
        if in_memory:
            self._pieces.append(data)
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 # closed when all of it is read, or with this
        self._file.seek(self._written)
        self._file.write(data)
        self._written += len(data)

    def take(self) -> bytes | None:
        """The next piece; None while there is none."""
        if self._pieces:
            piece = self._pieces.popleft()
        elif self._file is not None:
            self._file.seek(self._read)
            piece = self._file.read(_FROM_FILE)
            self._read += len(piece)
            if self._read == self._written:
                self._file.close()
                self._file = None
                self._read = self._written = 0
        else:
            return None
        self.size -= len(piece)
        return piece

    def clear(self) -> None:
        """Drop everything."""
        self._pieces.clear()
        self.size = 0
        if self._file is not None:
            self._file.close()
            self._file = None
            self._read = self._written = 0
