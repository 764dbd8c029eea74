"""Large bodies: POST counts what comes; GET of /generator or /file gives as many MiB as the query says."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

_PIECE = 65_536
_MEBIBYTE = 1 << 20


def _generator(size: int) -> Iterator[bytes]:
    piece = bytes(_PIECE)
    for _ in range(size // _PIECE):
        yield piece


def _file(size: int) -> Any:
    """A file in memory that takes none, for it is one hole."""
    fd = os.memfd_create("zeros")
    os.truncate(fd, size)
    return open(fd, "rb")


def _count(body: Any) -> bytes:
    size = 0
    while piece := body.read(_PIECE):
        size += len(piece)
    return b"%d" % size


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Take or give a body."""
    if environ["REQUEST_METHOD"] == "POST":
        counted = _count(environ["wsgi.input"])
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(counted)))])
        return [counted]
    size = int(environ["QUERY_STRING"] or 0) * _MEBIBYTE
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(size))])
    if environ["PATH_INFO"] == "/file":
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](_file(size), _PIECE)
        return wrapped
    return _generator(size)
