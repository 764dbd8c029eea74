"""An exchange without a connection: what a driver offers, kept in lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from gateway.app.dispatch import Dispatcher, Site
from gateway.app.errors import ErrorStream
from gateway.app.exchange import BodyCutShort, Disconnected, Result
from gateway.app.interruption import Interruption
from gateway.app.wsgi import Application
from gateway.protocol.events import RequestHead, Role
from gateway.settings import Binding


class MemoryExchange:
    """`pieces` are the body as it comes. `cut`: it never ends well. `leaves_after`: so many sends work, and no more."""

    def __init__(self, pieces: Iterable[bytes] = (), *, cut: bool = False, leaves_after: int | None = None) -> None:
        self.pieces: Iterator[bytes] = iter(pieces)
        self.cut = cut
        self.leaves_after = leaves_after
        self.sent: list[bytes] = []  # b"" stands for a flush
        self.errors: list[str] = []
        self.interruption = Interruption()
        self.begun: list[tuple[str, int]] = []  # hosts and their labels

    def begin(self, environ: Mapping[str, Any], host: str, label: int) -> None:
        self.begun.append((host, label))

    def receive(self) -> bytes:
        piece = next(self.pieces, b"")
        if not piece and self.cut:
            raise BodyCutShort("the front-end closed the connection")
        return piece

    def send(self, data: bytes) -> None:
        assert data, "nothing to send must not be sent"
        if self.leaves_after is not None and sum(map(bool, self.sent)) >= self.leaves_after:
            raise Disconnected("the front-end is gone")
        self.sent.append(data)

    def flush(self) -> None:
        self.sent.append(b"")

    def stderr(self, text: str) -> None:
        self.errors.append(text)

    @property
    def answer(self) -> bytes:
        return b"".join(self.sent)

    @property
    def head(self) -> bytes:
        return self.answer.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        return self.answer.partition(b"\r\n\r\n")[2]


NGINX = {
    "QUERY_STRING": "",
    "REQUEST_METHOD": "GET",
    "CONTENT_TYPE": "",
    "CONTENT_LENGTH": "",
    "SCRIPT_NAME": "",
    "PATH_INFO": "/hello",
    "REQUEST_URI": "/hello",
    "DOCUMENT_URI": "/hello",
    "DOCUMENT_ROOT": "/usr/share/nginx/html",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REQUEST_SCHEME": "http",
    "GATEWAY_INTERFACE": "CGI/1.1",
    "SERVER_SOFTWARE": "nginx/1.22.1",
    "REMOTE_ADDR": "127.0.0.1",
    "REMOTE_PORT": "4711",
    "SERVER_ADDR": "127.0.0.1",
    "SERVER_PORT": "8080",
    "SERVER_NAME": "a.example",
    "HTTP_HOST": "a.example:8080",
    "HTTP_ACCEPT": "*/*",
}


class Served:
    """A dispatcher for one application that answers everything, or for `entries`, and the log beside it."""

    def __init__(self, application: Application | None = None, *, entries: Any = None, **options: Any) -> None:
        self.log: list[str] = []
        self.stream = ErrorStream(self.log.append)
        everything = [(Binding(), Site("it", application))]
        self.dispatcher = Dispatcher(
            everything if entries is None else entries, errors=self.stream, log=self.log.append, **options
        )

    def ask(
        self,
        exchange: MemoryExchange | None = None,
        repeats: Any = (),
        role: Role = Role.RESPONDER,
        **params: str | None,
    ) -> Result:
        """Handle what nginx sends for GET /hello, changed by `params`; None takes a parameter away."""
        self.exchange = exchange or MemoryExchange()
        head = self.dispatcher.base | {k: v for k, v in (NGINX | params).items() if v is not None}
        return self.dispatcher.handle(RequestHead(1, role, False, head, list(repeats)), self.exchange)


def answering(
    body: Any, status: str = "200 OK", headers: Any = (("Content-Type", "text/plain"),)
) -> Callable[..., Any]:
    """An application that answers always the same."""

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        start_response(status, list(headers))
        return body

    return application
