"""An asynchronous exchange without a connection, and what runs an ASGI application on it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.app.asgi import Call
from gateway.app.asyncdispatch import AsyncDispatcher
from gateway.app.errors import ErrorStream
from gateway.app.exchange import Result
from gateway.app.routing import Site
from gateway.protocol.events import RequestHead, Role
from gateway.settings import Binding
from tests.app.memory import NGINX

Message = dict[str, Any]
Application = Callable[..., Awaitable[None]]


class MemoryAsyncExchange:
    """`pieces` are the body as it comes. `cut`: its end never comes. `leaves_after`: so many sends are taken."""

    def __init__(self, *pieces: bytes, cut: bool = False, leaves_after: int | None = None) -> None:
        self.pieces = list(pieces)
        self.cut = cut
        self.leaves_after = leaves_after
        self.ended = ""
        self.cancelled = False
        self.slice = 65_536
        self.is_free = True
        self.begun: list[tuple[str, int]] = []
        self.sent: list[bytes] = []
        self.results: list[Result] = []
        self.failed = False
        self.have_returned = 0
        self.drained = 0
        self.changed = asyncio.Event()

    def begin(self, environ: dict[str, Any], host: str, label: int) -> None:
        self.begun.append((host, label))

    def take(self) -> bytes | None:
        if self.pieces:
            return self.pieces.pop(0)
        return None if self.cut else b""

    @property
    def is_read(self) -> bool:
        return not self.pieces and not self.cut

    @property
    def is_open(self) -> bool:
        return self.is_free and not self.ended

    async def wait(self) -> None:
        await self.changed.wait()
        self.changed.clear()

    async def drain(self) -> None:
        self.drained += 1
        self.is_free = True
        if self.leaves_after is not None and len(self.sent) >= self.leaves_after:
            self.leave()

    def send(self, data: bytes) -> None:
        assert data, "nothing to send must not be sent"
        assert not self.ended
        self.sent.append(data)
        self.is_free = self.leaves_after is None

    def end(self, data: bytes, result: Result) -> None:
        self.sent.append(data)
        self._finish(result)

    def fail(self, result: Result) -> None:
        self.failed = True
        self._finish(result)

    def _finish(self, result: Result) -> None:
        assert not self.results, "an answer ends once"
        self.results.append(result)
        self.ended = self.ended or "the answer is complete"
        self.changed.set()

    def returned(self) -> None:
        self.have_returned += 1

    def leave(self, reason: str = "the front-end is gone") -> None:
        """The client leaves."""
        self.ended = self.ended or reason
        self.changed.set()

    @property
    def answer(self) -> bytes:
        return b"".join(self.sent)

    @property
    def head(self) -> bytes:
        return self.answer.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        return self.answer.partition(b"\r\n\r\n")[2]

    @property
    def result(self) -> Result:
        [result] = self.results
        return result


class Served:
    """A dispatcher for one application, and what it has logged."""

    def __init__(self, application: Application | None, *, entries: Any = None, **options: Any) -> None:
        self.log: list[str] = []
        self.stream = ErrorStream(self.log.append)
        entries = [(Binding(), Site("it", application))] if entries is None else entries
        self.dispatcher = AsyncDispatcher(entries, errors=self.stream, log=self.log.append, pool="main", **options)

    def head(self, method: str = "GET", **params: str) -> RequestHead:
        environ: dict[str, Any] = {**self.dispatcher.base, **NGINX, "REQUEST_METHOD": method, **params}
        return RequestHead(1, Role.RESPONDER, True, environ, [])

    def call(self, exchange: MemoryAsyncExchange, method: str = "GET", **params: str) -> Call | None:
        return self.dispatcher.handle(self.head(method, **params), exchange)

    def ask(
        self, exchange: MemoryAsyncExchange | None = None, method: str = "GET", **params: str
    ) -> MemoryAsyncExchange:
        """One request from its head to the end of its application."""

        async def run() -> MemoryAsyncExchange:
            used = exchange or MemoryAsyncExchange()
            call = self.call(used, method, **params)
            if call is not None:
                await asyncio.wait_for(call.run(), 10)
                assert used.have_returned == 1
            return used

        return asyncio.run(run())


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def part(body: bytes = b"", *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


def sending(*messages: Message) -> Application:
    """An application that sends these."""

    async def application(scope: Message, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    return application
