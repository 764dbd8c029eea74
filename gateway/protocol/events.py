"""The vocabulary between bytes and requests: events that a connection yields, and the contract of a connection.

A connection is bytes in, events out, and does no I/O: `receive_data` takes what was read and returns the events that
became known by it; `stdout`, `stderr`, `end` and `abort` return the bytes of an answer; `data_to_send` holds what the
protocol itself has to say (FastCGI 1.0 §4, management records).
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


class Role(enum.IntEnum):
    """What the front-end asks the application to be (FastCGI 1.0 §6)."""

    RESPONDER = 1
    AUTHORIZER = 2
    FILTER = 3


class ProtocolError(Exception):
    """The peer broke the protocol. `str()` is one line for the error log; the connection has to end."""


@dataclass(slots=True)
class RequestHead:
    """All parameters of a request are known; its body may still be under way.

    `params` maps names to values as native strings (PEP 3333: bytes decoded as latin-1), over a copy of the
    connection's base dictionary. A pair whose name was there already is not in it but in `repeats`, in the order of
    arrival. With `plain` it is known that none of all these holds NUL, CR or LF; without it they may.
    """

    id: int
    role: Role
    keep_conn: bool
    params: dict[str, Any]
    repeats: list[tuple[str, str]]
    plain: bool = field(default=False, compare=False)


@dataclass(slots=True)
class RequestRefused:
    """A request head over a limit: to be answered with `status` (431) without any application."""

    id: int
    status: int
    reason: str


@dataclass(slots=True)
class Body:
    """A piece of the request's body (FastCGI: STDIN), never empty."""

    id: int
    data: bytes


@dataclass(slots=True)
class BodyEnd:
    """The body is complete as far as the protocol knows (FastCGI: the empty STDIN record)."""

    id: int


@dataclass(slots=True)
class Abort:
    """The front-end no longer wants the answer (FastCGI: ABORT_REQUEST)."""

    id: int


@dataclass(slots=True)
class Violation:
    """The peer broke the protocol: always the last event; the connection has to be closed."""

    reason: str


Event = RequestHead | RequestRefused | Body | BodyEnd | Abort | Violation


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request head may hold. Sizes in bytes."""

    params_size: int = 262_144
    params_count: int = 1_000
    name_size: int = 1_024


class Connection(Protocol):
    """The server side of one connection, without I/O."""

    @property
    def idle(self) -> bool:
        """No request is open, none is half read, and nothing of an answered one is still to be discarded."""

    @property
    def between_requests(self) -> bool:
        """Not one byte of a next request has been read (a head deadline does not run)."""

    @property
    def closing(self) -> bool:
        """The protocol itself has ended all there was, and the connection is to be closed once that is sent."""

    def receive_data(self, data: bytes) -> list[Event]:
        """Take bytes read from the peer; return the events they complete, in order. Never raises for what they are."""

    def receive_eof(self) -> list[Event]:
        """The peer will send no more: `Violation` when that cuts something short, otherwise nothing."""

    def data_to_send(self) -> bytes:
        """Take what the protocol itself owes the peer (answers to management records, refusals); often empty."""

    def stdout(self, request_id: int, data: bytes) -> Sequence[bytes | memoryview]:
        """Frame a non-empty part of the answer; the parts are to be sent in order."""

    def stderr(self, request_id: int, data: bytes) -> Sequence[bytes | memoryview]:
        """Frame a message for the front-end's error log; nothing where the protocol has none (SCGI)."""

    def end(self, request_id: int, app_status: int = 0, data: bytes = b"") -> bytes:
        """Frame the last part of a complete answer, if there is one, and its end; mark the request as answered."""

    def abort(self) -> bytes:
        """What to send before closing so that the front-end cannot take a cut answer for a complete one."""
