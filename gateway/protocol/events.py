"""The vocabulary between bytes and requests: events that a connection yields, and the contract of a connection.

A connection is bytes in, events out, and does no I/O: `receive_data` takes what was read and returns the events that
became known by it; `stdout`, `stderr`, `end` and `abort` return the bytes of an answer; `data_to_send` holds what the
protocol itself has to say (FastCGI 1.0 §4, management records).
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from gateway.record import Record


class Role(enum.IntEnum):
    """What the front-end asks the application to be (FastCGI 1.0 §6)."""

    RESPONDER = 1
    AUTHORIZER = 2
    FILTER = 3


class ProtocolError(Exception):
    """The peer broke the protocol. `str()` is one line for the error log; the connection has to end."""


class _Event:
    """Events of one class are equal where what `__match_args__` names is. They are made for each request, so that each
    class has an `__init__` of its own (see `Record`).
    """

    __slots__ = ()
    __match_args__: ClassVar[tuple[str, ...]]

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._told() == other._told()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._told()))})"

    def _told(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__match_args__)


class RequestHead(_Event):
    """All parameters of a request are known; its body may still be under way.

    `params` maps names to values as native strings (PEP 3333: bytes decoded as latin-1), over a copy of the
    connection's base dictionary. A pair whose name was there already is not in it but in `repeats`, in the order of
    arrival. With `plain` it is known that none of all these holds NUL, CR or LF; without it they may.
    """

    __slots__ = ("id", "keep_conn", "params", "plain", "repeats", "role")
    __match_args__ = ("id", "role", "keep_conn", "params", "repeats")

    def __init__(
        self,
        id: int,
        role: Role,
        keep_conn: bool,
        params: dict[str, Any],
        repeats: list[tuple[str, str]],
        plain: bool = False,
    ) -> None:
        self.id = id
        self.role = role
        self.keep_conn = keep_conn
        self.params = params
        self.repeats = repeats
        self.plain = plain


class RequestRefused(_Event):
    """A request head over a limit: to be answered with `status` (431) without any application."""

    __slots__ = ("id", "reason", "status")
    __match_args__ = ("id", "status", "reason")

    def __init__(self, id: int, status: int, reason: str) -> None:
        self.id = id
        self.status = status
        self.reason = reason


class Body(_Event):
    """A piece of the request's body (FastCGI: STDIN), never empty."""

    __slots__ = ("data", "id")
    __match_args__ = ("id", "data")

    def __init__(self, id: int, data: bytes) -> None:
        self.id = id
        self.data = data


class BodyEnd(_Event):
    """The body is complete as far as the protocol knows (FastCGI: the empty STDIN record)."""

    __slots__ = ("id",)
    __match_args__ = ("id",)

    def __init__(self, id: int) -> None:
        self.id = id


class Abort(_Event):
    """The front-end no longer wants the answer (FastCGI: ABORT_REQUEST)."""

    __slots__ = ("id",)
    __match_args__ = ("id",)

    def __init__(self, id: int) -> None:
        self.id = id


class Violation(_Event):
    """The peer broke the protocol: always the last event; the connection has to be closed."""

    __slots__ = ("reason",)
    __match_args__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason


Event = RequestHead | RequestRefused | Body | BodyEnd | Abort | Violation


class Limits(Record):
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
