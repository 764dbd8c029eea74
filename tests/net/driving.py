"""A real `Driver` in a thread of the test, and a front-end that speaks to it byte by byte."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import termios
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.app.dispatch import Dispatcher, Site
from gateway.app.errors import ErrorStream
from gateway.net import quick
from gateway.net.acceptor import IpAddress
from gateway.net.accesslog import AccessLog
from gateway.net.blocking import Driver
from gateway.net.conversation import Timeouts
from gateway.net.gate import Gate
from gateway.net.kept import KeptQueue
from gateway.net.quick import QuickWay
from gateway.protocol import records
from gateway.protocol.client import Ended, ResponseReader, Stderr, Stdout, Truncated, encode_request, encode_stdin
from gateway.protocol.events import Role
from gateway.protocol.fastcgi import FastCGIConnection
from gateway.protocol.scgi import SCGIConnection
from gateway.settings import Binding
from tests.app.memory import NGINX, answering

if TYPE_CHECKING:
    import pytest

PATIENT = Timeouts(head=20, body=20, response=20, keepalive=20)
_MAKER = QuickWay.maker
ABORT = records.encode_record(records.ABORT_REQUEST, 1)
Application = Callable[..., Any]
hello = answering([b"hello"])


class Board:
    """Notes what became of requests: label, status, and for how long they waited. `stale`: all that is accepted is;
    `idle`: others wait for work.
    """

    def __init__(self, *, stale: bool = False, idle: bool = False) -> None:
        self.connections = 0
        self.begun: list[str] = []
        self.ended: list[tuple[int, int, float | None]] = []
        self.turned_away: list[str] = []
        self._stale = stale
        self._idle = idle

    @property
    def requests(self) -> int:
        return len(self.ended)

    def accepted(self) -> bool:
        self.connections += 1
        return self._stale

    def should_share(self) -> bool:
        return self._idle

    def begin(self, environ: Mapping[str, Any], host: str) -> None:
        self.begun.append(environ["REQUEST_URI"])

    def end(self, label: int, status: int, waited: float | None) -> None:
        self.ended.append((label, status, waited))

    def shed(self) -> None:
        self.turned_away.append("shed")

    def gone(self) -> None:
        self.turned_away.append("gone")


def choose_way(patch: pytest.MonkeyPatch, quick_type: type | None) -> None:
    """Let drivers that are made meanwhile have this quick way, or the ordinary one alone."""
    patch.setattr(QuickWay, "maker", staticmethod(_MAKER if quick_type else lambda *_: None))
    patch.setattr(quick, "Quick", quick_type)


class Running:
    """A driver that serves in a thread until it is told otherwise."""

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        application: Application,
        *,
        timeouts: Timeouts = PATIENT,
        protocol: str = "fastcgi",
        kept: KeptQueue | None = None,
        allowed: Sequence[IpAddress] = (),
        max_body: int = 0,
        stale: bool = False,
        idle: bool = False,
        queue_timeout: float = 0,
        access: AccessLog | None = None,
        sites: Sequence[tuple[Binding, Site]] = (),
    ) -> None:
        """`sites` are bound in the place of the application."""
        self.log: list[str] = []
        self.board = Board(stale=stale, idle=idle)
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        bound = sites or [(Binding(), Site("it", application))]
        dispatcher = Dispatcher(bound, errors=ErrorStream(self.log.append), log=self.log.append, max_body=max_body)
        engine = FastCGIConnection if protocol == "fastcgi" else SCGIConnection
        self._theirs = theirs
        self._driver = Driver(
            listeners,
            theirs,
            lambda: engine(dispatcher.base),
            dispatcher,
            timeouts=timeouts,
            board=self.board,
            gate=Gate(queue_timeout, protocol),
            kept=kept,
            access=access,
            allowed=allowed,
            quick=QuickWay.maker(dispatcher) if protocol == "fastcgi" else None,
        )
        self._driver.watch()
        self.thread = threading.Thread(target=self._driver.run, daemon=True)
        self.thread.start()

    def tell(self, message: bytes) -> None:
        self.control.send(message)

    @property
    def unread(self) -> int:
        """What it was told and has not read yet: 0 once it has."""
        return unread(self.control)

    def join(self, seconds: float = 10) -> None:
        """Wait for its end and fail if it does not come."""
        self.thread.join(seconds)
        assert not self.thread.is_alive(), "the driver has not ended"

    def close(self) -> None:
        """End it, whether it has been told to or not."""
        self.control.close()
        self.join(30)
        self._theirs.close()


def unread(sock: socket.socket) -> int:
    """How much of what was sent on a Unix socket the other side has not read: 0 once it has read all."""
    [size] = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))
    return int(size)


def listening(path: Path) -> socket.socket:
    """A Unix socket that listens."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(100)
    return listener


@contextlib.contextmanager
def driving(path: Path, application: Application = hello, **options: Any) -> Iterator[Running]:
    """A driver that listens at `path`."""
    with listening(path) as listener:
        running = Running([listener], application, **options)
        try:
            yield running
        finally:
            running.close()


@dataclass
class Answer:
    """What a front-end got: `complete` is whether END_REQUEST came."""

    out: bytes
    error: bytes
    complete: bool

    @property
    def status(self) -> bytes:
        return self.out.partition(b"\r\n")[0]

    @property
    def body(self) -> bytes:
        return self.out.partition(b"\r\n\r\n")[2]


def head(*, keep: bool = False, protocol: str = "fastcgi", role: Role = Role.RESPONDER, **params: str) -> bytes:
    """The head of a request as nginx sends it."""
    return encode_request(protocol, NGINX | params, keep_conn=keep, role=role)


def stdin(data: bytes = b"") -> bytes:
    """A body, and its end."""
    return (encode_stdin("fastcgi", data) if data else b"") + encode_stdin("fastcgi", b"")


def whole(data: bytes = b"", *, keep: bool = False, **params: str) -> bytes:
    """A request from its first to its last byte."""
    if data:
        params = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": str(len(data))} | params
    return head(keep=keep, **params) + stdin(data)


class Front:
    """One connection of a front-end."""

    def __init__(self, address: Any, *, family: int = socket.AF_UNIX) -> None:
        self.socket = socket.socket(family)
        self.socket.settimeout(15)
        self.socket.connect(str(address) if isinstance(address, Path) else address)

    def __enter__(self) -> Front:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self) -> bytes:
        """All bytes up to the end of the connection, which must not be a reset."""
        pieces = []
        while piece := self.socket.recv(65_536):
            pieces.append(piece)
        return b"".join(pieces)

    def answer(self) -> Answer:
        """One answer, up to its END_REQUEST or to where it breaks off."""
        reader = ResponseReader("fastcgi")
        answer = Answer(b"", b"", False)
        while not reader.ended:
            data = self.socket.recv(65_536)
            for event in reader.receive_data(data) if data else reader.receive_eof():
                match event:
                    case Stdout(piece):
                        answer.out += piece
                    case Stderr(piece):
                        answer.error += piece
                    case Ended():
                        answer.complete = True
                    case Truncated():
                        pass
        return answer

    def ask(self, data: bytes = b"", **options: Any) -> Answer:
        """Send a request and read its answer."""
        self.send(whole(data, **options))
        return self.answer()

    def is_open(self) -> bool:
        """Whether the other side has not closed it; nothing may be there to read."""
        self.socket.setblocking(False)
        try:
            assert self.socket.recv(1) == b""
            return False
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(15)

    @property
    def is_closed(self) -> bool:
        return not self.is_open()


def echo(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Answers with what it was sent."""
    data = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return [data]
