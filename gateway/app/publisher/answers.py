"""From what a function returns to an answer: text or HTML, bytes, JSON, a stream, or a Response of its own."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import itertools
import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response

from gateway.app.publisher.binding import Request

_TEXT, _HTML, _JSON, _BYTES = (
    "text/plain; charset=utf-8",
    "text/html; charset=utf-8",
    "application/json",
    "application/octet-stream",
)
_TAG = re.compile(r"\s*<(!doctype\s+html|!--|[a-z][a-z0-9]*[\s/>])", re.IGNORECASE)


def answer(value: Any, request: Request, name: str) -> Response:
    """The answer to `request`; `name` is the function that returned `value`. Raises TypeError for what is none."""
    if isinstance(value, Response):
        return value
    if value is None:
        response = Response(status=204)
        del response.headers["Content-Type"]
        return response
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _response(bytes(value), _BYTES)
    if hasattr(value, "__html__"):
        return _response(str(value.__html__()), _HTML)
    if isinstance(value, str):
        return _response(value, _type_of(value, request))
    if isinstance(value, (int, float, decimal.Decimal)) and not isinstance(value, bool):
        return _response(str(value), _TEXT)
    if isinstance(value, Iterator):
        return _stream(value, request, name)
    if _is_json(value):
        return _response(json.dumps(value, default=_plain, ensure_ascii=False, allow_nan=False), _JSON)
    raise TypeError(
        f"{name} returned {type(value).__name__}: return text, bytes, a number, a dict, list or dataclass, a "
        "generator, a Response or None"
    )


def plain_text(text: str, status: int) -> Response:
    """An answer of the publisher's own."""
    response = _response(f"{text}\n", _TEXT)
    response.status_code = status
    return response


def _response(body: str | bytes | Iterable[bytes], content_type: str) -> Response:
    # Browsers must not guess: what is sent as text stays text.
    return Response(body, content_type=content_type, headers={"X-Content-Type-Options": "nosniff"})


def _type_of(text: str, request: Request) -> str:
    """HTML is what begins with a tag; but not with one that the request itself has brought: a function that returns a
    parameter as it came must not let visitors write pages.
    """
    if not _TAG.match(text):
        return _TEXT
    brought = [value.lstrip() for each in (request.args, _form(request)) for _, value in each.items(multi=True)]
    tags = tuple(value.casefold() for value in brought if value.startswith("<"))
    return _TEXT if tags and text.lstrip().casefold().startswith(tags) else _HTML


def _form(request: Request) -> MultiDict[str, str]:
    """The form, if it has been read."""
    return request.form if "form" in vars(request) else MultiDict()


def _stream(chunks: Iterator[Any], request: Request, name: str) -> Response:
    """The first chunk decides the type, and is waited for: what is raised before it is still an error of its own."""
    first = next((chunk for chunk in chunks if chunk), b"")
    if isinstance(first, str):
        content_type = _HTML if hasattr(first, "__html__") else _type_of(first, request)
    else:
        content_type = _BYTES
    return _response(_Chunks(itertools.chain([first], chunks), chunks, name), content_type)


class _Chunks:
    """The chunks of a stream as bytes; closes the generator that they come from."""

    def __init__(self, chunks: Iterator[Any], source: Any, name: str) -> None:
        self._chunks = chunks
        self._source = source
        self._name = name

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk = next(self._chunks)
        if isinstance(chunk, str):
            return chunk.encode()
        if isinstance(chunk, (bytes, bytearray, memoryview)):
            return bytes(chunk)
        raise TypeError(f"{self._name} made a chunk of type {type(chunk).__name__}, not text or bytes")

    def close(self) -> None:
        if hasattr(self._source, "close"):
            self._source.close()


def _is_json(value: Any) -> bool:
    if isinstance(value, (Mapping, Sequence, Set, bool)):
        return True
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _plain(value: Any) -> Any:
    """What `json` does not know by itself. Raises TypeError."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (decimal.Decimal, uuid.UUID)):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (Set, Sequence)):
        return list(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
