"""The quick way of a driver's requests, and the ordinary one for those that have begun on it.

A request that comes whole, without anything unusual, and is answered with a small list of bytes, is read, dispatched
and answered in C (`_quick.c`), without one step of Python but the application's own, or in as few steps of Python as
can be (`purequick`). The rules are those of `blocking`, `app.dispatch` and `app.wsgi`, which every other request goes
through: what the quick way does not do itself it leaves to them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from gateway.app.body import RequestBody
from gateway.app.dispatch import Dispatcher
from gateway.app.exchange import Result
from gateway.app.interruption import Interruption
from gateway.app.wsgi import Raised, Response, RestOfBody
from gateway.net.acceptor import Acceptor
from gateway.net.accesslog import AccessLog, Began
from gateway.net.conversation import Board, Conversation
from gateway.net.gate import Gate
from gateway.net.mover import Mover
from gateway.net.stream import Stream
from gateway.net.wiring import Wiring

try:
    importlib.import_module("gateway.protocol.twin")  # which refuses interpreters for which nothing in C is built
    from gateway.net._quick import Quick
except ImportError:  # not built for this interpreter, or not wanted
    from gateway.net.purequick import Quick  # type: ignore[assignment]

ENDED, STALE = ..., NotImplemented
NO_LOOK = -1  # where nobody needs to be asked whether the front-end is still there

# What has come of a connection's next request: True or False where it was answered, whether the connection is to be
# kept; ENDED where it was ended in the ordinary way meanwhile; the bytes that were read, for the ordinary way; None
# where nothing has come. Of one just accepted also STALE, when it has waited for too long and nothing was read.
Outcome = Any

# Its environ; whether the connection is kept, for how long it has waited, and when it began.
_Request = tuple[dict[str, Any], bool, float | None, Began | None]


class OrdinaryWay(Protocol):
    """What the quick way needs of its driver (`blocking.Driver`)."""

    acceptor: Acceptor
    board: Board
    gate: Gate
    interruption: Interruption
    access: AccessLog | None
    mover: Mover | None

    def converse(self, fd: int, keep_conn: bool) -> Conversation:
        """Take over a request of a connection, of which all has been read."""

    def end(
        self,
        conversation: Conversation,
        params: dict[str, Any],
        result: Result,
        *,
        keep: bool,
        waited: float | None,
        began: Began | None,
    ) -> None:
        """End an answer, and do with its connection what comes next."""

    def send_rest(self, fd: int, data: bytes) -> bool:
        """Send what a connection did not take at once; False when nobody takes it."""


class QuickWay:
    """Serves connections of one driver that runs in the main thread."""

    def __init__(self, driver: OrdinaryWay, dispatcher: Dispatcher) -> None:
        self._driver = driver
        self._dispatcher = dispatcher
        self._access = driver.access
        self._has_queue_timeout = driver.gate.queue_timeout > 0
        self._conversation: Conversation | None = None
        self._request: _Request | None = None
        board, router = driver.board, dispatcher.router
        quick = Quick(
            Wiring(
                fallback=self,
                interruption=driver.interruption,
                mover=driver.mover,
                access=driver.access,
                listeners=driver.acceptor.on_unix_sockets,
                queue_timeout=driver.gate.queue_timeout,
                base=dispatcher.base | {"wsgi.input": RequestBody.whole()},
                hosts=router.hosts,
                known=router.known,
                max_body=router.max_body,
                line=dispatcher.errors.shared,
                begin=board.begin,
                end=board.end,
                accepted=board.accepted,
                should_share=board.should_share,
            )
        )
        dispatcher.errors.exchange = quick
        self.serve = quick.serve
        self.wait = quick.wait
        self.mark = quick.mark
        self.served = quick.served
        self.busy = quick.busy

    def suits(self, stream: Stream) -> bool:
        """Say whether requests of a connection may go this way: TCP has to be asked for how long one has waited."""
        return not (stream.is_tcp and self._has_queue_timeout)

    @staticmethod
    def maker(dispatcher: Dispatcher) -> QuickMaker | None:
        """What gives a driver its quick way; None where there is none, as bindings are compared with the port of the
        Host header.
        """
        if dispatcher.router.port_from != "server":
            return None
        return lambda driver: QuickWay(driver, dispatcher)

    # -- called by `Quick` ---------------------------------------------------------------------------------------------

    def go_on_slowly(self, fd: int, head_only: bool, label: int, request: _Request) -> Response:
        """Begin the ordinary way of the request that runs."""
        self._request = request
        self._conversation = conversation = self._driver.converse(fd, request[1])
        conversation.label = label
        return Response(conversation, head_only)

    def end_slowly(self, response: Response, body: Any, error: BaseException | None) -> object:
        """End it: the application has returned `body`, or raised `error`."""
        assert self._request is not None
        assert self._conversation is not None
        environ, keep_conn, waited, began = self._request
        result = self._dispatcher.go_on(response, environ, body if error is None else Raised(error))
        conversation, self._conversation, self._request = self._conversation, None, None
        self._driver.end(conversation, environ, result, keep=keep_conn, waited=waited, began=began)
        return ENDED

    def note_sent(self, response: Response, size: int) -> None:
        """The head and `size` bytes of the body are on their way."""
        assert self._conversation is not None
        response.note_sent(size)
        self._conversation.begun = True

    def end_chunks(
        self,
        response: Response,
        body: Any,
        first: tuple[Any, ...],
        chunks: Iterator[Any],
        error: BaseException | None,
        alive: bool,
    ) -> object:
        """End it: of what the application has returned, None if it is closed, there are `first` and the other `chunks`
        to come; without a first it is over, or `error` was raised. Whether the front-end is `alive`.
        """
        if not alive:
            assert self._conversation is not None
            error = self._conversation.give_up("the front-end is gone")
        rest = chunks if first else iter(())  # what is over is not asked again
        return self.end_slowly(response, RestOfBody(body, [*first], rest, error), None)

    def send_rest(self, fd: int, data: bytes) -> bool:
        """See `OrdinaryWay.send_rest`."""
        return self._driver.send_rest(fd, data)

    def log(self, began: Began, environ: dict[str, Any], status: int, head: bytes, size: int, complete: bool) -> None:
        """See `AccessLog.write`."""
        assert self._access is not None
        self._access.write(began, environ, Result(status, True, head, size), complete=complete)


QuickMaker = Callable[[OrdinaryWay], QuickWay]
