"""Both sides of PEP 3333 watched by wsgiref.validate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.validate import validator

import pytest

from gateway.app.exchange import Result
from tests.app.memory import MemoryExchange, Served

TEXT = [("Content-Type", "text/plain")]


def plain(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", TEXT)
    return [b"plain"]


def streaming(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
    start_response("200 OK", TEXT)
    yield b"pl"
    yield b"ain"


def writing(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    write = start_response("200 OK", TEXT)
    write(b"pl")
    return [b"ain"]


def reading(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    stream = environ["wsgi.input"]
    parts = [stream.read(1), stream.readline(), *stream.readlines(3), *stream, stream.read(10)]
    environ["wsgi.errors"].write("reading\n")
    environ["wsgi.errors"].writelines(["one\n", "two\n"])
    environ["wsgi.errors"].flush()
    start_response("200 OK", TEXT)
    return [b"".join(parts)]


def empty(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("204 No Content", [])
    return []


@pytest.mark.parametrize("application", [plain, streaming, writing])
def test_answers(application: Any) -> None:
    served = Served(validator(application))
    assert served.ask() == Result(200, complete=True)
    assert served.exchange.body == b"plain"
    assert served.log == []


def test_a_post_with_the_headers_that_nginx_adds() -> None:
    body = b"a\nbc\ndef\ng\nh"
    served = Served(validator(reading))
    result = served.ask(
        MemoryExchange([body[:4], body[4:], b"beyond"]),
        REQUEST_METHOD="POST",
        CONTENT_LENGTH=str(len(body)),
        CONTENT_TYPE="text/plain",
        HTTP_CONTENT_LENGTH=str(len(body)),
        HTTP_CONTENT_TYPE="text/plain",
    )
    assert result == Result(200, complete=True)
    assert served.exchange.body == body
    assert served.log == served.exchange.errors == ["reading", "one", "two"]


@pytest.mark.parametrize(
    "changed",
    [
        {"SCRIPT_NAME": "/hello", "PATH_INFO": None},
        {"SCRIPT_NAME": "/", "PATH_INFO": ""},
        {"SCRIPT_NAME": None, "PATH_INFO": None},
        {"SERVER_NAME": "", "SERVER_PORT": "", "QUERY_STRING": None},
        {"REQUEST_METHOD": None, "SERVER_PROTOCOL": None, "REQUEST_URI": None, "REMOTE_ADDR": None},
        {"HTTP_HOST": None},
        {"HTTPS": "on", "HTTP_PROXY": "x"},
    ],
)
def test_whatever_the_front_end_left_out(changed: dict[str, str | None]) -> None:
    served = Served(validator(plain))
    assert served.ask(**changed) == Result(200, complete=True), served.log


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_answer_without_a_body(method: str) -> None:
    served = Served(validator(empty))
    assert served.ask(REQUEST_METHOD=method) == Result(204, complete=True)
    assert served.log == []


def test_head() -> None:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [*TEXT, ("Content-Length", "5")])
        return []

    served = Served(validator(application))
    assert served.ask(REQUEST_METHOD="HEAD") == Result(200, complete=True)
    assert served.exchange.body == b""
