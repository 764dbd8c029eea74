"""What the engine costs: from the bytes of one request, as nginx sends it for `GET /hello`, to the application's call.

The gateway's records, state machine, environ and dispatch, with the twin in C and in pure Python, and those of flup6
take the request with a new connection for each: once from memory, where reading costs next to nothing, and once from a
socket, where each side reads in its own way; then against flup6 as web.py runs it, with a thread for each request. What
follows the call is not counted. The sides take turns of a hundred requests: a worker runs no other server's code in
between, which would empty the processor's caches of its own.

    python -m benchmarks.engine [REQUESTS]
"""

from __future__ import annotations

import io
import select
import socket
import statistics
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from time import perf_counter_ns
from types import ModuleType
from typing import Any, cast

from flup.server import fcgi, fcgi_base, fcgi_fork

from gateway.app.dispatch import Dispatcher, Site
from gateway.app.errors import ErrorStream
from gateway.app.interruption import Interruption
from gateway.net.conversation import Conversation, Timeouts
from gateway.net.stream import Stream
from gateway.process.scoreboard import Scoreboard, Slot
from gateway.protocol import fastcgi, records
from gateway.protocol.events import RequestHead
from gateway.settings import Binding

twin: ModuleType | None
try:
    from gateway.protocol import twin
except ImportError:  # which is said
    twin = None

HELLO = Path(__file__).with_name("hello.fcgi").read_bytes()
_WARM_UP = 200  # requests that are not counted
_TURN = 100  # requests of one side before the other's turn

Side = Callable[[socket.socket], int]  # serves the request that a socket holds, and returns nanoseconds


class Hello:
    """The application of both sides; `called` is when, in nanoseconds, with `environ`."""

    called = 0
    environ: dict[str, Any]

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        self.called = perf_counter_ns()
        self.environ = environ
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello\n"]


def gateway_side(application: Hello, functions: ModuleType) -> Side:
    """The request's way through a worker, with the twin's `functions` or Python's (`records`)."""
    dispatcher = Dispatcher([(Binding(), Site("hello", application))], errors=ErrorStream(print), log=print)
    timeouts = Timeouts(5, 5, 5, 5)
    scoreboard = Scoreboard(1, ["", "*"])
    [row] = Slot(scoreboard.fd, scoreboard.layout).take(0)
    interruption = Interruption()

    def serve(sock: socket.socket) -> int:
        for name in ("decode_params", "decode_whole_head", "encode_answer"):
            setattr(fastcgi, name, getattr(functions, name))
        stream = Stream(sock)
        started = perf_counter_ns()
        connection = fastcgi.FastCGIConnection(dispatcher.base)
        head, *rest = connection.receive_data(stream.receive_now() or b"")
        connection.data_to_send()
        assert type(head) is RequestHead
        conversation = Conversation(
            stream, connection, head.id, rest, timeouts=timeouts, board=row, interruption=interruption
        )
        result = dispatcher.handle(head, conversation)
        conversation.finish()
        row.end(conversation.label, result.status, None)
        return application.called - started

    return serve


def flup_side(application: Hello) -> Side:
    """The request's way through a child of flup6's preforked server."""
    server = fcgi_fork.WSGIServer(application)

    def serve(sock: socket.socket) -> int:
        started = perf_counter_ns()
        fcgi_base.Connection(sock, "", server).run()
        return application.called - started

    return serve


def flup_multiplexed_side(application: Hello) -> Side:
    """The request's way through flup6's threaded server with the options that web.py gives it."""
    server = fcgi.WSGIServer(application, multiplexed=True, debug=False)

    def serve(sock: socket.socket) -> int:
        started = perf_counter_ns()
        fcgi_base.MultiplexedConnection(sock, "", server).run()  # returns when the request's thread has ended
        return application.called - started

    return serve


class MemorySocket:
    """A socket that holds the request and forgets the answer."""

    def __init__(self) -> None:
        self._data = io.BytesIO(HELLO)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """As socket.recv()."""
        return self._data.read(size)

    def send(self, data: bytes, flags: int = 0) -> int:
        """As socket.send()."""
        return len(data)

    def gettimeout(self) -> float | None:
        """As of a blocking socket."""
        return None

    def fileno(self) -> int:
        """flup6 asks for it at every record."""
        return 0

    def shutdown(self, how: int) -> None:
        """Nothing to shut down."""

    def close(self) -> None:
        """Nothing to close."""


class MemorySelect:
    """Stands in for the module select in flup6: everything is ready, without asking the kernel."""

    error = OSError

    @staticmethod
    def select(read: list[Any], write: list[Any], errors: list[Any], timeout: float = 0) -> tuple[list[Any], ...]:
        """As select.select()."""
        return read, write, errors


def from_memory(serve: Side) -> int:
    """Let `serve` take the request from memory."""
    fcgi_base.select = MemorySelect
    return serve(cast(socket.socket, MemorySocket()))


def from_socket(serve: Side) -> int:
    """Let `serve` take the request from a Unix socket."""
    fcgi_base.select = select
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(HELLO)
        theirs.shutdown(socket.SHUT_WR)
        return serve(ours)


def measure(requests: int, take: Callable[[Side], int], flup: Callable[[Hello], Side]) -> dict[str, float]:
    """The medians of all sides in microseconds, over `requests` or a few more."""
    application = Hello()
    sides = {"python": gateway_side(application, records), "flup6": flup(application)}
    if twin is not None:
        sides = {"twin": gateway_side(application, twin), **sides}
    took: dict[str, list[int]] = {name: [] for name in sides}
    for _ in range(0, _WARM_UP + requests, _TURN):
        for name, serve in sides.items():
            for _ in range(_TURN):
                took[name].append(take(serve))
                assert application.environ["REQUEST_URI"] == "/hello"
    return {name: statistics.median(times[_WARM_UP:]) / 1000 for name, times in took.items()}


def main(arguments: list[str]) -> None:
    """Print medians and their ratios."""
    requests = int(arguments[0]) if arguments else 5_000
    if twin is None:
        print("the twin in C is not built here, or GATEWAY_PURE is set", file=sys.stderr)
    for name, take, flup in (
        ("from memory, flup6 preforked", from_memory, flup_side),
        ("from a socket, flup6 preforked", from_socket, flup_side),
        ("from a socket, flup6 as in web.py", from_socket, flup_multiplexed_side),
    ):
        medians = measure(requests, take, flup)
        print(name.ljust(35) + "   ".join(f"{side} {median:6.1f} µs" for side, median in medians.items()))
        for side, median in medians.items():
            if side != "flup6":
                print(f"  {side + ' / flup6':16} {median / medians['flup6']:.2f}")
        if "twin" in medians:
            print(f"  {'twin / python':16} {medians['twin'] / medians['python']:.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
