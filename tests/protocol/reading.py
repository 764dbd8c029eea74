"""Feeds bytes to a connection in pieces and writes down what it makes of them, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway.protocol.events import (
    Abort,
    Body,
    BodyEnd,
    Connection,
    Event,
    RequestHead,
    RequestRefused,
    Violation,
)


@dataclass
class Reading:
    """What a connection yielded and what it owes the peer for some bytes."""

    events: list[Event] = field(default_factory=list)
    owed: bytes = b""


def read(connection: Connection, pieces: Iterable[bytes]) -> Reading:
    """Feed `pieces` and join adjacent Body events of one request."""
    reading = Reading()
    for piece in pieces:
        for event in connection.receive_data(piece):
            last = reading.events[-1] if reading.events else None
            if isinstance(event, Body):
                assert event.data != b""
                if isinstance(last, Body) and last.id == event.id:
                    reading.events[-1] = Body(event.id, last.data + event.data)
                    continue
            reading.events.append(event)
        reading.owed += connection.data_to_send()
    return reading


def bytewise(data: bytes) -> list[bytes]:
    """`data` in pieces of one byte."""
    return [data[i : i + 1] for i in range(len(data))]


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """`data` cut at offsets, of which those beyond its end count from its beginning again."""
    inside = sorted({place % (len(data) + 1) for place in places})
    return [data[start:end] for start, end in zip([0, *inside], [*inside, len(data)], strict=True)]


def describe(reading: Reading) -> list[str]:
    """Lines for people: the contents of an `.expect` file."""
    lines = [line for event in reading.events for line in _describe(event)]
    return [*lines, f"owed {reading.owed.hex(' ')}"] if reading.owed else lines


def _describe(event: Event) -> list[str]:
    match event:
        case RequestHead(number, role, keep_conn, params, repeats):
            head = f"head {number} {role.name}" + (" KEEP_CONN" if keep_conn else "")
            pairs = [f"  {name}={value!r}" for name, value in params.items()]
            return [head, *pairs, *(f"  again {name}={value!r}" for name, value in repeats)]
        case RequestRefused(number, status, reason):
            return [f"refused {number} {status} {reason}"]
        case Body(number, data):
            return [f"body {number} {data!r}"]
        case BodyEnd(number):
            return [f"body end {number}"]
        case Abort(number):
            return [f"abort {number}"]
        case Violation(reason):
            return [f"violation {reason}"]
