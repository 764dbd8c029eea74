"""One request by CGI, in a process of its own as a web server starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.net.cgi import is_cgi, request_head
from gateway.protocol.events import Role
from tests.app.memory import NGINX

PROGRAM = """
import sys
from gateway.app.dispatch import Dispatcher, Site
from gateway.app.errors import ErrorStream
from gateway.app.exchange import BodyCutShort, Disconnected
from gateway.net.cgi import CgiExchange, request_head
from gateway.settings import Binding

def application(environ, start_response):
    data = b"" if environ["QUERY_STRING"] == "unread" else environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    environ["wsgi.errors"].write("to the log\\n")
    return [data, environ["PATH_INFO"].encode("latin-1")]

def log(line):
    print(line, file=sys.__stderr__)

dispatcher = Dispatcher([(Binding(), Site("it", application))], errors=ErrorStream(log), log=log)
exchange = CgiExchange()
result = dispatcher.handle(request_head(dispatcher.base), exchange)
try:
    exchange.finish()
except Disconnected as error:
    sys.exit(str(error))
sys.exit(0 if result.complete else 3)
"""
ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}


def start(**params: str) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=pipe, stdout=pipe, stderr=pipe, env={**ENVIRONMENT, **NGINX, **params}
    )


def test_answer_is_written_in_cgi_form() -> None:
    with start(PATH_INFO="/caf\udcc3\udca9", REQUEST_URI="/caf%C3%A9") as program:
        out, error = program.communicate(timeout=30)
    assert out.startswith(b"Status: 200 OK\r\n")
    assert out.endswith(b"\r\n\r\n/caf\xc3\xa9")
    assert (program.returncode, error) == (0, b"to the log\n")


def test_body_ends_at_its_length_though_standard_input_stays_open() -> None:
    with start(REQUEST_METHOD="POST", CONTENT_LENGTH="200000") as program:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(b"x" * 200_000 + b"not of the body")
        program.stdin.flush()
        assert program.stdout.read().endswith(b"x" * 200_000 + b"/hello")
        assert program.wait(30) == 0
        program.stdin.close()


def test_body_cut_short_gives_no_answer() -> None:
    with start(REQUEST_METHOD="POST", CONTENT_LENGTH="100") as program:
        out, error = program.communicate(b"ten bytes.", timeout=30)
    assert (out, program.returncode) == (b"", 3)
    assert b"90 bytes early" in error


@pytest.mark.parametrize("length", ["1x", "9" * 5_000])
def test_length_that_is_none(length: str) -> None:
    with start(REQUEST_METHOD="POST", CONTENT_LENGTH=length) as program:
        out, _ = program.communicate(timeout=30)
    assert out.partition(b"\r\n")[0] in (b"Status: 400 Bad Request", b"Status: 413 Content Too Large")


def test_body_of_unknown_length_ends_with_the_stream() -> None:
    with start(REQUEST_METHOD="POST", CONTENT_LENGTH="", HTTP_TRANSFER_ENCODING="chunked") as program:
        out, _ = program.communicate(b"x" * 100_000, timeout=30)
    assert out.endswith(b"\r\n\r\n" + b"x" * 100_000 + b"/hello")


@pytest.mark.parametrize("sent", [0, 10, 200_000])
def test_unread_body_is_waited_for_within_limits(sent: int) -> None:
    """The answer is there before; standard input stays open."""
    with start(REQUEST_METHOD="POST", CONTENT_LENGTH="200000", QUERY_STRING="unread") as program:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(b"x" * sent)
        program.stdin.flush()
        assert program.stdout.readline() == b"Status: 200 OK\r\n"
        assert program.wait(30) == 0
        program.stdin.close()


def test_front_that_is_gone_is_told() -> None:
    with start(REQUEST_METHOD="POST", CONTENT_LENGTH="1") as program:
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stderr is not None
        program.stdout.close()
        program.stdin.write(b"x")
        program.stdin.close()
        assert b"the front-end is gone: Broken pipe" in program.stderr.read()


def test_process_knows_how_it_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATEWAY_INTERFACE", raising=False)
    assert not is_cgi()
    monkeypatch.setenv("GATEWAY_INTERFACE", "CGI/1.1")
    monkeypatch.setenv("REQUEST_METHOD", "GET")
    assert is_cgi()


def test_name_that_is_taken_is_a_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("wsgi.input", "evil")
    monkeypatch.setenv("HTTP_HOST", "a.example")
    head = request_head({"wsgi.input": None})
    assert (head.id, head.role, head.keep_conn) == (1, Role.RESPONDER, False)
    assert head.params["wsgi.input"] is None
    assert head.repeats == [("wsgi.input", "evil")]
    assert head.params["HTTP_HOST"] == "a.example"
