"""What a client says on the wire: a relay before a pool's socket that keeps the bytes of each connection."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gateway.protocol import records
from gateway.protocol.events import BodyEnd, RequestHead
from gateway.protocol.fastcgi import FastCGIConnection


@dataclass(frozen=True)
class Record:
    """A FastCGI record that a client sent."""

    name: str  # BEGIN_REQUEST, PARAMS, …
    id: int
    content: bytes
    padding: int


@dataclass
class Conversation:
    """One connection, both ways."""

    sent: bytearray = field(default_factory=bytearray)  # by the client
    answered: bytearray = field(default_factory=bytearray)

    @property
    def records(self) -> list[Record]:
        """What the client sent, as FastCGI."""
        found, data = [], bytes(self.sent)
        while len(data) >= records.HEADER_SIZE:
            _, kind, number, length, padding = records.HEADER.unpack_from(data)
            content = data[records.HEADER_SIZE : records.HEADER_SIZE + length]
            found.append(Record(records.TYPE_NAMES[kind], number, content, padding))
            data = data[records.HEADER_SIZE + length + padding :]
        return found

    @property
    def heads(self) -> list[RequestHead]:
        """The requests that the client sent by FastCGI, with their parameters, repeated ones apart."""
        heads, protocol = [], FastCGIConnection({})
        for record in self.records:
            kind = records.TYPE_NAMES.index(record.name)
            for event in protocol.receive_data(records.encode_record(kind, record.id, record.content)):
                if isinstance(event, RequestHead):
                    heads.append(event)
                elif isinstance(event, BodyEnd):
                    protocol.end(event.id)  # its ID may come again
        return heads


class Wire:
    """Listens on a Unix socket, and passes on what comes to a pool's."""

    def __init__(self, path: Path, pool: Path) -> None:
        self.path = path
        self.conversations: list[Conversation] = []
        self._pool = pool
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        path.chmod(0o666)
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @property
    def records(self) -> list[Record]:
        """Every record that has been sent, connection after connection."""
        return [record for conversation in self.conversations for record in conversation.records]

    @property
    def heads(self) -> list[RequestHead]:
        """Every request that has been sent."""
        return [head for conversation in self.conversations for head in conversation.heads]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._relay, args=[client], daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        conversation = Conversation()
        self.conversations.append(conversation)
        with client, socket.socket(socket.AF_UNIX) as pool:
            pool.connect(str(self._pool))
            back = threading.Thread(target=_pass_on, args=[pool, client, conversation.answered], daemon=True)
            back.start()
            _pass_on(client, pool, conversation.sent)
            back.join()


def _pass_on(one: socket.socket, other: socket.socket, kept: bytearray) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(65_536):
            kept += data
            other.sendall(data)
    with contextlib.suppress(OSError):
        other.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def wire(path: Path, pool: Path) -> Iterator[Wire]:
    """A relay at `path` before the pool at `pool`."""
    relay = Wire(path, pool)
    try:
        yield relay
    finally:
        relay.close()
