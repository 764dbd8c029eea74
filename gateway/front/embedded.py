"""A front-end for machines without lighttpd or nginx: a Werkzeug server that passes requests on over FastCGI and serves
/sta/ itself. For trying things out: it has neither TLS nor limits for slow clients but a timeout.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import BadGateway, GatewayTimeout, HTTPException, NotFound
from werkzeug.middleware.shared_data import SharedDataMiddleware
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler
from werkzeug.wsgi import ClosingIterator, get_input_stream

from gateway.net import client
from gateway.net.address import Address, parse_address

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

CONNECTIONS = 64  # served at once; more wait in the listen queue
_READ_SIZE = 65_536
# What the HTTP server has dealt with, or what must not come from a header (HTTP_PROXY: httpoxy).
_WITHHELD = frozenset({"HTTP_PROXY", "HTTP_TRANSFER_ENCODING", "HTTP_EXPECT", "HTTP_CONNECTION", "RAW_URI"})
_OWN_HEADERS = frozenset({"server", "date", "connection"})


def application(address: Address, static: str) -> WSGIApplication:
    """A WSGI application that serves the folder `static` as /sta/ and hands every other request to the pool."""
    files = SharedDataMiddleware(NotFound(), {"/sta": static}, cache=False)

    def front(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith("/sta/"):
            return files(environ, start_response)
        try:
            response = client.request(address, _params(environ), _body(environ))
        except client.RequestFailed as failure:
            return _problem(failure)(environ, start_response)
        headers = [header for header in response.headers if header[0].lower() not in _OWN_HEADERS]
        start_response(f"{response.status} {response.reason}", headers)
        return ClosingIterator(response.body, response.close)

    return front


def _params(environ: WSGIEnvironment) -> dict[str, str]:
    params = {
        name: str(value)
        for name, value in environ.items()
        if "." not in name and name not in _WITHHELD and isinstance(value, str | int)
    }
    return params | {"GATEWAY_INTERFACE": "CGI/1.1", "REQUEST_SCHEME": environ["wsgi.url_scheme"]}


def _body(environ: WSGIEnvironment) -> Iterator[bytes]:
    stream = get_input_stream(environ)
    while data := stream.read(_READ_SIZE):
        yield data


def _problem(failure: client.RequestFailed) -> HTTPException:
    print(f"gateway: the pool did not answer: {failure}", file=sys.stderr, flush=True)
    return GatewayTimeout() if isinstance(failure, client.NoAnswerInTime) else BadGateway()


class _Handler(WSGIRequestHandler):
    timeout = 60  # seconds of silence after which a client is given up

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Keep no access log."""


class Server(ThreadedWSGIServer):
    """Werkzeug's server with a thread for each connection, but not for more than `CONNECTIONS` at once."""

    def __init__(self, host: str, port: int, app: WSGIApplication) -> None:
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__(host, port, app, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start the connection's thread as soon as one is free."""
        self._free.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()


def main(address: str, static: str, host: str, port: str) -> None:
    """Serve until the process is told to end."""
    Server(host, int(port), application(parse_address(address), static)).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
