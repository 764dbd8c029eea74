"""What the quick way of a driver's requests is wired to: the interface of its twins, `_quick.c` and `purequick`."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from gateway.app import environ
from gateway.app.body import RequestBody
from gateway.app.interruption import Interruption
from gateway.app.wsgi import FileWrapper, Response
from gateway.net.accesslog import AccessLog, Began
from gateway.net.mover import Mover
from gateway.protocol.events import Limits
from gateway.record import Record


class Fallback(Protocol):
    """Who goes on with what is unusual (`quick.QuickWay`)."""

    def go_on_slowly(self, fd: int, head_only: bool, label: int, request: Any) -> Response:
        """Begin the ordinary way of the request that runs."""

    def end_slowly(self, response: Response, body: Any, error: BaseException | None) -> object:
        """End it."""

    def note_sent(self, response: Response, size: int) -> None:
        """The head and `size` bytes of the body are on their way."""

    def send_rest(self, fd: int, data: bytes) -> bool:
        """Send what a connection did not take at once; False when nobody takes it."""

    def end_chunks(
        self,
        response: Response,
        body: Any,
        first: tuple[Any, ...],
        chunks: Iterator[Any],
        error: BaseException | None,
        alive: bool,
    ) -> object:
        """End it, of which chunks were taken."""

    def log(self, began: Began, environ: dict[str, Any], status: int, head: bytes, size: int, complete: bool) -> None:
        """Write a line of the access log."""


class Wiring(Record):
    """What a `Quick` is made with, in C or in Python. It is read once, in C by the names of the fields."""

    fallback: Fallback
    interruption: Interruption  # of the driver's thread
    mover: Mover | None  # where other connections may have to wait for a request
    access: AccessLog | None
    listeners: tuple[socket.socket, ...]  # on Unix sockets
    queue_timeout: float  # seconds, 0 for none

    # Of the dispatcher.
    base: dict[str, Any]  # the environ of a request without parameters, with an empty body
    hosts: dict[str, dict[str, Any]]  # see `Router.hosts`
    known: Callable[[dict[str, Any]], Any]  # and `known`, which fills it
    max_body: int  # bytes
    line: Any  # see `ErrorStream.shared`

    # Of the board, as `conversation.Board` says.
    begin: Callable[[Mapping[str, Any], str], None]
    end: Callable[[int, int, float | None], None]
    accepted: Callable[[], bool]
    should_share: Callable[[], bool]

    limits: Limits = Limits()

    # Of the ordinary way: what C has from nowhere else, and its twin imports.
    request_path: Callable[..., Any] = environ.request_path
    mount: Callable[..., Any] = environ.mount
    whole_body: Callable[[bytes], RequestBody] = RequestBody.whole
    file_wrapper: type = FileWrapper
