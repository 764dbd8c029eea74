"""FastCGI records, streams and name-value pairs as bytes (FastCGI 1.0 §3.3, §3.4, §4, §8)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any

from gateway.protocol.events import Limits, ProtocolError, Role

VERSION_1 = 1

BEGIN_REQUEST = 1
ABORT_REQUEST = 2
END_REQUEST = 3
PARAMS = 4
STDIN = 5
STDOUT = 6
STDERR = 7
DATA = 8
GET_VALUES = 9
GET_VALUES_RESULT = 10
UNKNOWN_TYPE = 11
TYPE_NAMES = (
    "unknown", "BEGIN_REQUEST", "ABORT_REQUEST", "END_REQUEST", "PARAMS", "STDIN", "STDOUT", "STDERR", "DATA",
    "GET_VALUES", "GET_VALUES_RESULT", "UNKNOWN_TYPE",
)  # fmt: skip

KEEP_CONN = 1  # flag of BEGIN_REQUEST

REQUEST_COMPLETE = 0  # protocol status of END_REQUEST
CANT_MPX_CONN = 1
OVERLOADED = 2
UNKNOWN_ROLE = 3

MAX_CONNS = "FCGI_MAX_CONNS"
MAX_REQS = "FCGI_MAX_REQS"
MPXS_CONNS = "FCGI_MPXS_CONNS"

HEADER = struct.Struct(">BBHHBx")  # version, type, request id, content length, padding length
HEADER_SIZE = HEADER.size
BEGIN_REQUEST_BODY = struct.Struct(">HB5x")  # role, flags
END_REQUEST_BODY = struct.Struct(">IB3x")  # application status, protocol status
UNKNOWN_TYPE_BODY = struct.Struct(">B7x")  # type
_LONG_LENGTH = struct.Struct(">I")

LONGEST_CONTENT = 65_535
_FULL_CONTENT = 65_528  # of a record in a longer stream: a multiple of 8, so that what follows stays aligned
_ANSWER_END = struct.Struct(">BBHHBxBBHHBxIB3x")  # the end of STDOUT, END_REQUEST

# KEEP_CONN, parameters, repeated ones, and whether these were searched for NUL, CR and LF without finding any; then
# where the head, with the end of STDIN if that is there, ends, and whether it is.
WholeHead = tuple[bool, dict[str, Any], list[tuple[str, str]], bool, int, bool]


class LimitExceeded(ProtocolError):
    """Well-formed so far, but over a limit: the request is refused, the connection may go on."""


def encode_record(kind: int, request_id: int, content: bytes = b"") -> bytes:
    """One record without padding. `content` has at most 65,535 bytes; struct.error otherwise."""
    return HEADER.pack(VERSION_1, kind, request_id, len(content), 0) + content


def encode_stream(kind: int, request_id: int, data: bytes) -> list[bytes | memoryview]:
    """Frame `data` as records of a stream, headers and contents in turn, without the record that ends the stream.

    Contents are views of `data` where it is too large for one record: nothing large is copied.
    """
    size = len(data)
    if size <= LONGEST_CONTENT:
        return [HEADER.pack(VERSION_1, kind, request_id, size, 0), data] if size else []
    parts: list[bytes | memoryview] = []
    view = memoryview(data)
    for start in range(0, size, _FULL_CONTENT):
        content = view[start : start + _FULL_CONTENT]
        parts += (HEADER.pack(VERSION_1, kind, request_id, len(content), 0), content)
    return parts


def encode_end_request(request_id: int, app_status: int, protocol_status: int) -> bytes:
    """The END_REQUEST record (FastCGI 1.0 §5.5); `app_status` is taken modulo 2³²."""
    return encode_record(END_REQUEST, request_id, END_REQUEST_BODY.pack(app_status & 0xFFFFFFFF, protocol_status))


def encode_answer(request_id: int, data: bytes, app_status: int = 0) -> bytes:
    """The rest of an answer in one buffer: `data` framed as STDOUT, that stream's end, END_REQUEST (FastCGI 1.0 §5.5).

    `app_status` is taken modulo 2³². Raises struct.error for an id that is none.
    """
    end = _ANSWER_END.pack(
        VERSION_1, STDOUT, request_id, 0, 0,
        VERSION_1, END_REQUEST, request_id, END_REQUEST_BODY.size, 0, app_status & 0xFFFFFFFF, REQUEST_COMPLETE,
    )  # fmt: skip
    if not data:
        return end
    if len(data) <= LONGEST_CONTENT:
        return HEADER.pack(VERSION_1, STDOUT, request_id, len(data), 0) + data + end
    return b"".join((*encode_stream(STDOUT, request_id, data), end))


def encode_unknown_type(kind: int) -> bytes:
    """The answer to a management record of a type that is not known (FastCGI 1.0 §4.2)."""
    return encode_record(UNKNOWN_TYPE, 0, UNKNOWN_TYPE_BODY.pack(kind))


def encode_params(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Name-value pairs (FastCGI 1.0 §3.4) of native strings. Raises UnicodeEncodeError for what is not latin-1."""
    parts: list[bytes] = []
    for name, value in pairs:
        encoded = (name.encode("latin-1"), value.encode("latin-1"))
        parts += (*map(_encode_length, encoded), *encoded)
    return b"".join(parts)


def _encode_length(text: bytes) -> bytes:
    length = len(text)
    return bytes((length,)) if length < 128 else _LONG_LENGTH.pack(length + 0x80000000)


def decode_params(block: bytes, base: dict[str, Any], limits: Limits) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Decode the whole content of a PARAMS stream over a copy of `base` (FastCGI 1.0 §3.4).

    Returns the dictionary, and in order of arrival the pairs whose name was in it already. Raises LimitExceeded (count,
    length of a name, announced size) and ProtocolError (a pair is cut off). Allocates nothing that is only announced.
    """
    params = base.copy()
    repeats: list[tuple[str, str]] = []
    text = block.decode("latin-1")  # one character a byte: offsets are the same, and slices are native strings at once
    end = len(block)
    short = min(127, limits.name_size)
    pos = 0
    try:
        while pos < end:
            name_length = block[pos]
            value_length = block[pos + 1]
            pos += 2
            if name_length > short or value_length > 127:
                name_length, pos = _decode_length(block, pos - 2)
                value_length, pos = _decode_length(block, pos)
                if name_length > limits.name_size:
                    break
            name_end = pos + name_length
            name = text[pos:name_end]
            pos = name_end + value_length
            if name in params:
                repeats.append((name, text[name_end:pos]))
            else:
                params[name] = text[name_end:pos]
        else:
            if pos == end <= limits.params_size and len(params) - len(base) + len(repeats) <= limits.params_count:
                return params, repeats
    except (IndexError, struct.error):
        pass  # a length is cut off, which is told below as every other fault
    skip_params(block, 0, 0, limits)
    raise ProtocolError("a name-value pair is cut short")


def encode_begin_request(request_id: int, role: Role, flags: int) -> bytes:
    """The BEGIN_REQUEST record (FastCGI 1.0 §5.1)."""
    return encode_record(BEGIN_REQUEST, request_id, BEGIN_REQUEST_BODY.pack(role, flags))


# What the head of request 1 of a responder begins with, up to the length of PARAMS, and whether KEEP_CONN is set there.
BEGINNINGS = {
    encode_begin_request(1, Role.RESPONDER, flags) + encode_record(PARAMS, 1)[:4]: bool(flags)
    for flags in (0, KEEP_CONN)
}
BEGINNING_SIZE = 20
PARAMS_AT = BEGINNING_SIZE + 4
PARAMS_END_1 = encode_record(PARAMS, 1)
STDIN_END_1 = encode_record(STDIN, 1)


def decode_whole_head(data: bytes, base: dict[str, Any], limits: Limits) -> WholeHead | None:
    """Decode the head of request 1 where `data` begins with all of it, in one record of PARAMS.

    This is how nginx and lighttpd send nearly every request. Returns None for everything else, which the state machine
    reads record by record to the same end.
    """
    keep_conn = BEGINNINGS.get(data[:BEGINNING_SIZE])
    if keep_conn is None or len(data) < PARAMS_AT:
        return None
    length = data[20] << 8 | data[21]
    block_end = PARAMS_AT + length
    padded_end = block_end + data[22]
    if not 0 < length <= limits.params_size or not data.startswith(PARAMS_END_1, padded_end):
        return None
    try:
        params, repeats = decode_params(data[PARAMS_AT:block_end], base, limits)
    except ProtocolError:
        return None
    end = padded_end + HEADER_SIZE
    if data.startswith(STDIN_END_1, end):
        return keep_conn, params, repeats, False, end + HEADER_SIZE, True
    return keep_conn, params, repeats, False, end, False


def skip_params(block: bytes | bytearray, pos: int, count: int, limits: Limits) -> tuple[int, int]:
    """Walk over the whole pairs of an unfinished block from `pos`, before which there are `count`.

    Returns the same two for the first pair that is not whole. Raises LimitExceeded as soon as a length tells.
    """
    end = len(block)
    try:
        while pos < end:
            if count == limits.params_count:
                raise LimitExceeded(f"more than {limits.params_count} parameters")
            name_length, after = _decode_length(block, pos)
            if name_length > limits.name_size:
                raise LimitExceeded(f"a parameter's name has more than {limits.name_size} bytes")
            value_length, after = _decode_length(block, after)
            after += name_length + value_length
            if after > limits.params_size:
                raise over_size(limits)
            if after > end:
                break
            pos = after
            count += 1
    except (IndexError, struct.error):
        return pos, count
    return pos, count


def over_size(limits: Limits) -> LimitExceeded:
    """What is raised for a request head that is too large."""
    return LimitExceeded(f"the parameters have more than {limits.params_size} bytes")


def _decode_length(block: bytes | bytearray, pos: int) -> tuple[int, int]:
    """One length and the offset behind it; IndexError or struct.error where it is cut off."""
    length = block[pos]
    if length < 128:
        return length, pos + 1
    long_length: int = _LONG_LENGTH.unpack_from(block, pos)[0]
    return long_length & 0x7FFFFFFF, pos + 4


def answer_get_values(content: bytes, values: dict[str, str], limits: Limits) -> bytes:
    """The GET_VALUES_RESULT record with those of `values` that GET_VALUES asks for (FastCGI 1.0 §4.1).

    Raises ProtocolError.
    """
    asked, _ = decode_params(content, {}, limits)
    return encode_record(GET_VALUES_RESULT, 0, encode_params((name, values[name]) for name in asked if name in values))


class RecordReader:
    """Cuts what was read into pieces of records, of which none is held back but an incomplete header.

    `left` bytes of the content of record `kind` for `request_id` and `padding` bytes are still to come.
    """

    __slots__ = ("header", "kind", "left", "padding", "request_id")

    def __init__(self) -> None:
        self.header = b""  # the beginning of the next record, shorter than a header
        self.kind = 0
        self.request_id = 0
        self.left = 0
        self.padding = 0

    @property
    def between_records(self) -> bool:
        """Nothing of a record has been read that is not complete."""
        return not (self.header or self.left or self.padding)

    def feed(self, data: bytes, pos: int = 0) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield (type, request id, length, piece) for `data` from `pos` on; to be iterated to the end.

        `length` counts the bytes of the record's content from the first of `piece` on: the content is complete when
        `piece` has as many. The first piece of a record comes with its header and may be empty. Raises ProtocolError.
        """
        if self.header:
            data = self.header + data[pos:]
            self.header = b""
            pos = 0
        end = len(data)
        if self.left:
            piece = data[pos : pos + self.left]
            pos += len(piece)
            length = self.left
            self.left -= len(piece)
            yield self.kind, self.request_id, length, piece
        if self.padding:
            skipped = min(self.padding, end - pos)
            self.padding -= skipped
            pos += skipped
        while end - pos >= HEADER_SIZE:
            version, kind, request_id, length, padding = HEADER.unpack_from(data, pos)
            if version != VERSION_1:
                raise ProtocolError(_no_version_1(version))
            pos += HEADER_SIZE
            content_end = pos + length
            if content_end + padding > end:
                self.kind, self.request_id = kind, request_id
                self.left = max(content_end - end, 0)
                self.padding = min(content_end + padding - end, padding)
            yield kind, request_id, length, data[pos:content_end]
            pos = content_end + padding
        if pos < end:
            if data[pos] != VERSION_1:
                raise ProtocolError(_no_version_1(data[pos]))
            self.header = data[pos:]


def _no_version_1(version: int) -> str:
    return f"not FastCGI: a record of version {version}"
