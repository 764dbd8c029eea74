"""What flup does around an application, as WSGI: variables of the script's own, an error page that it makes, and an
error stream that takes bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, TextIO

from gateway.app.answer import WSGIError
from gateway.app.environ import Rejected
from gateway.app.exchange import BodyCutShort, Disconnected
from gateway.app.tracebacks import from_application
from gateway.app.wsgi import Application, request_line

_NOT_THE_APPLICATIONS = (WSGIError, Rejected, BodyCutShort, Disconnected)
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")

# What flup sets after the script's own variables, which therefore never had an effect.
_SERVERS_OWN = frozenset(
    ("wsgi.version", "wsgi.input", "wsgi.errors", "wsgi.multithread", "wsgi.multiprocess", "wsgi.run_once")
)


class ErrorPage(Protocol):
    """What makes the answer when the application has raised (`flup.Server`)."""

    def error(self, req: Any) -> None:
        """Write an answer in CGI form to `req.stdout`."""


def with_environ(application: Application, extra: Mapping[str, Any]) -> Application:
    """`application`, given `extra` over each request's parameters."""

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ.update({name: value for name, value in extra.items() if name not in _SERVERS_OWN})
        if "HTTPS" in extra:
            environ["wsgi.url_scheme"] = "https" if extra["HTTPS"] in ("on", "1") else "http"
        return application(environ, start_response)

    return answer


class _Errors:
    """`wsgi.errors` for applications that were written for flup6, whose own takes bytes alone; PEP 3333 says text."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, data: str | bytes) -> int:
        """Take text, or bytes of text."""
        return self._stream.write(data.decode("utf-8", "backslashreplace") if isinstance(data, bytes) else data)

    def writelines(self, lines: Iterable[str | bytes]) -> None:
        """Take several."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def with_flup6s_errors(application: Application) -> Application:
    """`application`, whose error stream takes bytes as well as text."""
    known: TextIO | None = None
    errors: _Errors | None = None

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        nonlocal known, errors
        if environ["wsgi.errors"] is not known:  # one for all requests
            known = environ["wsgi.errors"]
            errors = _Errors(environ["wsgi.errors"])
        environ["wsgi.errors"] = errors
        return application(environ, start_response)

    return answer


class Request:
    """What `error` is given: flup's request object, as far as one can be had when the application has raised."""

    def __init__(self, environ: dict[str, Any], server: ErrorPage) -> None:
        self.params = environ
        self.server = server
        self.stdin = environ["wsgi.input"]
        self.stderr = environ["wsgi.errors"]
        self.stdout = _Output()
        self.data = io.BytesIO()
        self.role, self.requestId, self.flags, self.aborted = 1, 1, 0, False


class _Output(io.BytesIO):
    """Takes text as well: pages that were written for Python 2 are text now."""

    def write(self, data: Any, /) -> int:
        return super().write(data.encode() if isinstance(data, str) else data)


def with_error_page(application: Application, server: ErrorPage) -> Application:
    """`application`, for which `server.error` answers when it raises before its answer has begun."""

    def answer(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        begun = False

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
            write: Callable[[bytes], None] = start_response(status, headers, exc_info)

            def write_and_note(data: bytes) -> None:
                nonlocal begun
                begun = begun or bool(data)
                write(data)

            return write_and_note

        try:
            body = application(environ, start)
            try:
                for chunk in body:
                    begun = begun or bool(chunk)
                    yield chunk
            finally:
                if hasattr(body, "close"):
                    body.close()
        except Exception as error:
            if begun or isinstance(error, _NOT_THE_APPLICATIONS):
                raise
            yield _page(error, environ, start_response, server)

    return answer


def _page(error: Exception, environ: dict[str, Any], start_response: Any, server: ErrorPage) -> bytes:
    """Log the error, let the server make an answer, and begin it; what the server raises goes on."""
    environ["wsgi.errors"].write(f"{request_line(environ)}: unhandled exception\n{from_application(error)}")
    request = Request(environ, server)
    server.error(request)
    status, headers, body = _parse(request.stdout.getvalue())
    start_response(status, headers, (type(error), error, error.__traceback__))
    return body


def _parse(answer: bytes) -> tuple[str, list[tuple[str, str]], bytes]:
    """Status, headers and body of an answer in CGI form (RFC 3875 §6). One without a status, as flup's own, is 500."""
    head, *rest = _END_OF_HEAD.split(answer, maxsplit=1)
    status = "500 Internal Server Error"
    headers = []
    for line in head.decode("latin-1").splitlines():
        name, _, value = line.partition(":")
        if name.lower() == "status":
            status = value.strip()
        else:
            headers.append((name, value.strip()))
    return status, headers, b"".join(rest)
