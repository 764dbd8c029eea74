"""PEP 3333, the server's side: what goes out, when, and what happens when the application does it wrong."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.app import answer
from gateway.app.answer import REASONS
from gateway.app.exchange import Result
from gateway.app.wsgi import FileWrapper
from tests.app.memory import MemoryExchange, Served, answering

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
TEXT = [("Content-Type", "text/plain")]


class Closing:
    """An iterable that counts its close() calls and may fail in any place."""

    def __init__(
        self, chunks: Any, *, fails: BaseException | None = None, close_fails: Exception | None = None
    ) -> None:
        self.chunks = chunks
        self.fails = fails
        self.close_fails = close_fails
        self.closed = 0
        self.taken = 0

    def __iter__(self) -> Iterator[Any]:
        for chunk in self.chunks:
            self.taken += 1
            yield chunk
        if self.fails:
            raise self.fails

    def close(self) -> None:
        self.closed += 1
        if self.close_fails:
            raise self.close_fails


def assert_error_page(served: Served, result: Result, status: int = 500) -> None:
    body = f"{REASONS[status]}\n".encode()
    assert result == Result(status, complete=True)
    assert served.exchange.answer == (
        f"Status: {status} {REASONS[status]}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


# -- whole answers -----------------------------------------------------------------------------------------------------


def test_hello_is_one_send() -> None:
    served = Served(answering([b"hello\n"]))
    assert str(served.ask()) == "Result(200, complete=True)"
    assert served.exchange.sent == [b"Status: 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nhello\n"]
    assert served.log == []


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("body", "headers", "length"),
    [
        ([b"hello"], TEXT, b"5"),
        ((b"hello",), TEXT, b"5"),
        ([b"hel", b"lo"], TEXT, b"5"),
        ([b"hello"], [("content-length", "5")], b"5"),
        ([], [("Content-Length", "5")], b"5"),
        (iter([b"hello"]), TEXT, None),
    ],
)
def test_the_length_is_announced_when_it_is_known(method: str, body: Any, headers: Any, length: bytes | None) -> None:
    if method == "GET" and body == []:
        body = [b"hello"]
    served = Served(answering(body, headers=headers))
    assert served.ask(REQUEST_METHOD=method).complete
    found = [line.partition(b": ")[2] for line in served.exchange.head.lower().split(b"\r\n") if b"-length" in line]
    assert found == ([] if length is None else [length])
    assert served.exchange.body == (b"" if method == "HEAD" else b"hello")


@pytest.mark.parametrize(("method", "line"), [("GET", b"Content-Length: 0"), ("HEAD", None)])
@pytest.mark.parametrize("body", [[], [b""], (), [b"", b""]])
def test_an_empty_body(method: str, line: bytes | None, body: Any) -> None:
    served = Served(answering(body))
    assert served.ask(REQUEST_METHOD=method) == Result(200, complete=True)
    assert (
        (line or b"Content-Length") in served.exchange.head if line else b"Content-Length" not in served.exchange.head
    )
    assert served.exchange.body == b""


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("body", [[b"body"], iter([b"body", b"more"]), []])
def test_no_body_where_the_status_has_none(status: str, body: Any) -> None:
    served = Served(answering(body, status))
    assert served.ask() == Result(int(status[:3]), complete=True)
    assert served.exchange.answer == f"Status: {status}\r\nContent-Type: text/plain\r\n\r\n".encode()


def test_head_of_an_endless_body_ends() -> None:
    body = Closing(iter(lambda: b"x", None))
    served = Served(answering(body))
    assert served.ask(REQUEST_METHOD="HEAD") == Result(200, complete=True)
    assert served.exchange.answer == b"Status: 200 OK\r\nContent-Type: text/plain\r\n\r\n"
    assert (body.taken, body.closed) == (1, 1)


def test_head_with_a_length_that_nobody_sends_is_whole() -> None:
    served = Served(answering(iter([b"12"]), headers=[("Content-Length", "10")]))
    assert served.ask(REQUEST_METHOD="HEAD") == Result(200, complete=True)
    assert served.exchange.body == b""


def test_a_generator_is_flushed_after_each_chunk() -> None:
    served = Served(answering(Closing([b"", b"a", b"", b"b"])))
    assert served.ask() == Result(200, complete=True)
    assert served.exchange.sent == [b"Status: 200 OK\r\nContent-Type: text/plain\r\n\r\na", b"", b"b", b""]


def test_a_generator_may_call_start_response_late() -> None:
    def application(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        yield b""
        start_response("201 Created", TEXT)
        yield b"a"

    served = Served(application)
    assert served.ask() == Result(201, complete=True)
    assert served.exchange.body == b"a"


def test_a_generator_without_bytes_sends_its_head() -> None:
    served = Served(answering(iter(())))
    assert served.ask() == Result(200, complete=True)
    assert served.exchange.sent == [b"Status: 200 OK\r\nContent-Type: text/plain\r\n\r\n"]


@pytest.mark.parametrize("body", [[b"x" * 65_537], Closing([b"x" * 65_537])])
def test_a_large_body_is_not_copied_behind_its_head(body: Any) -> None:
    served = Served(answering(body))
    assert served.ask().complete
    assert served.exchange.sent[0].endswith(b"\r\n\r\n")
    assert served.exchange.sent[1] == b"x" * 65_537


@pytest.mark.parametrize("name", ["Location", "location"])
def test_the_status_comes_after_a_location(name: str) -> None:
    served = Served(answering([b""], "201 Created", [(name, "/a"), ("X-A", "b")]))
    for _ in range(2):
        served.ask()
        assert served.exchange.head == f"{name}: /a\r\nStatus: 201 Created\r\nX-A: b\r\nContent-Length: 0".encode()


def test_status_and_headers_are_latin_1() -> None:
    served = Served(answering([], "200 Très", [("X-Name", "caf\xe9"), ("X-Empty", "")]))
    assert served.ask().complete
    assert served.exchange.head.startswith(b"Status: 200 Tr\xe8s\r\nX-Name: caf\xe9\r\nX-Empty: \r\n")


def test_a_status_without_a_reason() -> None:
    served = Served(answering([], "404"))
    assert served.ask() == Result(404, complete=True)


def test_the_applications_header_list_is_left_alone() -> None:
    headers = [("Content-Type", "text/plain")]

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", headers)
        return [b"x" * int(environ["QUERY_STRING"])]

    served = Served(application)
    for size in ("3", "9"):
        assert served.ask(QUERY_STRING=size).complete
        assert len(served.exchange.body) == int(size)
    assert headers == [("Content-Type", "text/plain")]


# -- write() -----------------------------------------------------------------------------------------------------------


def test_write_goes_out_at_once_and_before_the_body() -> None:
    seen: list[list[bytes]] = []

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        write = start_response("200 OK", [])
        write(b"")
        seen.append(list(served.exchange.sent))
        write(b"a")
        seen.append(list(served.exchange.sent))
        write(b"b")
        return [b"c"]

    served = Served(application)
    assert served.ask() == Result(200, complete=True)
    assert seen == [[], [b"Status: 200 OK\r\n\r\na", b""]]
    assert served.exchange.answer == b"Status: 200 OK\r\n\r\nabc"


@pytest.mark.parametrize("data", ["text", None, 1, bytearray(b"x")])
def test_write_takes_bytes_alone(data: Any) -> None:
    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [])(data)
        return []

    served = Served(application)
    assert_error_page(served, served.ask())
    assert served.log == [
        f"GET a.example:8080/hello: the application made a chunk of type {type(data).__name__}, not bytes"
    ]


# -- start_response with exc_info --------------------------------------------------------------------------------------


def test_exc_info_replaces_a_head_that_was_not_sent() -> None:
    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "1000"), ("X-First", "1")])
        try:
            raise ValueError
        except ValueError:
            start_response("500 Sorry", TEXT, sys.exc_info())
        return [b"sorry"]

    served = Served(application)
    assert served.ask() == Result(500, complete=True)
    assert served.exchange.answer == (
        b"Status: 500 Sorry\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nsorry"
    )


def test_exc_info_is_raised_again_when_the_head_was_sent() -> None:
    def application(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        yield b"a"
        try:
            raise ValueError("too late")
        except ValueError:
            start_response("500 Sorry", TEXT, sys.exc_info())
        yield b"never"

    served = Served(application)
    assert served.ask() == Result(200, complete=False)
    assert served.exchange.body == b"a"
    assert served.log[-1] == "ValueError: too late"


def test_start_response_twice_is_an_error() -> None:
    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", TEXT)
        start_response("200 OK", TEXT)
        return []

    served = Served(application)
    assert_error_page(served, served.ask())
    assert len(served.log) == 1
    assert "called start_response twice" in served.log[0]


# -- what breaks PEP 3333 ----------------------------------------------------------------------------------------------

BAD_STATUS = ["", "OK", "20 OK", "2000 OK", "200OK", "200 OK\r\nX: y", "200 OK\n", "200 \0", "100 Continue", "101 X",
              "099 X", "200 ☕", b"200 OK", 200, None, "\uff12\uff10\uff10 OK", "200\tOK"]  # fmt: skip
BAD_HEADERS = [
    [("X-A", "a\r\nX-Injected: 1")],
    [("X-A", "a\rX-Injected: 1")],
    [("X-A", "a\nX-Injected: 1")],
    [("X-A", "a\n")],
    [("X-A", "\0")],
    [("X-A", "\x1b")],
    [("X-A", "\x7f")],
    [("X-A", "☕")],
    [("X-A", b"bytes")],
    [("X-A", 1)],
    [("X-A", None)],
    [("", "a")],
    [("X A", "a")],
    [("X:", "a")],
    [("X-A\r\nX-Injected", "1")],
    [("X-Ä", "a")],
    [(b"X-A", "a")],
    [(None, "a")],
    [("X-A",)],
    [("X-A", "a", "b")],
    ["X-A: a"],
    [1],
    None,
    1,
    [("Connection", "close")],
    [("keep-alive", "1")],
    [("Transfer-Encoding", "chunked")],
    [("TE", "trailers")],
    [("Trailer", "x")],
    [("Upgrade", "h2c")],
    [("Proxy-Authenticate", "x")],
    [("Status", "404 Not Found")],
    [("Content-Length", "10"), ("Content-Length", "20")],
    [("Content-Length", "10"), ("content-length", "10")],
    [("Content-Length", "10, 10")],
    [("Content-Length", "-1")],
    [("Content-Length", "+1")],
    [("Content-Length", "")],
    [("Content-Length", "1 ")],
    [("Content-Length", "\xb2")],
    [("Content-Length", "9" * 19)],
]


def starting(status: Any, headers: Any) -> Callable[..., list[bytes]]:
    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response(status, headers)
        return [b"body"]

    return application


@pytest.mark.parametrize("status", BAD_STATUS)
def test_a_bad_status_is_a_500_and_one_line(status: Any) -> None:
    served = Served(starting(status, TEXT))
    assert_error_page(served, served.ask())
    assert len(served.log) == 1


@pytest.mark.parametrize("headers", BAD_HEADERS)
def test_bad_headers_are_a_500_and_one_line(headers: Any) -> None:
    served = Served(starting("200 OK", headers))
    assert_error_page(served, served.ask())
    assert len(served.log) == 1
    assert served.log[0].startswith("GET a.example:8080/hello: ")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (None, "returned NoneType"),
        ("text", "returned str"),
        (b"bytes", "returned bytes"),
        (["text"], "a chunk of type str"),
        ([b"bytes", "text"], "a chunk of type str"),
        (iter(["text"]), "a chunk of type str"),
        ([None], "a chunk of type NoneType"),
        ([1, 2], "a chunk of type int"),
    ],
)
def test_a_body_that_is_none_is_a_500_and_one_line(body: Any, reason: str) -> None:
    served = Served(answering(body))
    assert_error_page(served, served.ask())
    assert len(served.log) == 1
    assert reason in served.log[0]


@pytest.mark.parametrize("body", [[b"x"], [], iter([b"x"]), iter(())])
def test_no_start_response_is_a_500_and_one_line(body: Any) -> None:
    served = Served(lambda environ, start_response: body)
    assert_error_page(served, served.ask())
    assert len(served.log) == 1
    assert "did not call start_response" in served.log[0]


def test_a_body_that_cannot_be_iterated_is_a_500() -> None:
    served = Served(answering(1))
    assert_error_page(served, served.ask())
    assert served.log[-1] == "TypeError: 'int' object is not iterable"


# -- Content-Length is kept --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [[b"x" * 20], [b"x" * 5] * 4, Closing([b"x" * 8] * 3), Closing([b"x" * 10, b"x"])])
def test_never_more_than_announced(body: Any) -> None:
    served = Served(answering(body, headers=[("Content-Length", "10")]))
    assert served.ask() == Result(200, complete=True)
    assert served.exchange.body == b"x" * 10
    assert served.log == ["GET a.example:8080/hello: the body is longer than its Content-Length, and was cut there"]
    assert getattr(body, "closed", 1) == 1


def test_never_more_than_announced_by_write() -> None:
    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        write = start_response("200 OK", [("Content-Length", "3")])
        write(b"ab")
        write(b"cd")
        write(b"ef")
        return [b"gh"]

    served = Served(application)
    assert served.ask() == Result(200, complete=True)
    assert served.exchange.body == b"abc"


@pytest.mark.parametrize("body", [[b"12345"], [], iter([b"123", b"45"]), iter(())])
def test_less_than_announced_is_incomplete(body: Any) -> None:
    served = Served(answering(body, headers=[("Content-Length", "10")]))
    assert served.ask() == Result(200, complete=False)
    assert len(served.log) == 1
    assert served.log[0].endswith("bytes before its Content-Length")


def test_exactly_what_was_announced() -> None:
    body = Closing([b"12345", b"67890", b""])
    served = Served(answering(body, headers=[("Content-Length", "10")]))
    assert served.ask() == Result(200, complete=True)
    assert (body.taken, body.closed, served.log) == (3, 1, [])


# -- exceptions --------------------------------------------------------------------------------------------------------

FAILURES = [
    ValueError("boom"),
    SystemExit(1),
    KeyboardInterrupt(),
    GeneratorExit(),
    MemoryError(),
    BaseException("odd"),
]


@pytest.mark.parametrize("error", FAILURES)
def test_an_exception_before_the_first_byte_is_a_500(error: BaseException) -> None:
    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", TEXT)
        raise error

    served = Served(application)
    assert_error_page(served, served.ask())
    assert served.log[:2] == ["GET a.example:8080/hello: unhandled exception", "Traceback (most recent call last):"]
    assert "test_wsgi.py" in served.log[2], "the first frame is the application's own"
    assert served.log[-1].startswith(type(error).__name__)
    assert served.exchange.errors == served.log


@pytest.mark.parametrize("error", FAILURES)
def test_an_exception_after_the_first_byte_is_incomplete(error: BaseException) -> None:
    body = Closing([b"first"], fails=error)
    served = Served(answering(body))
    assert served.ask() == Result(200, complete=False)
    assert served.exchange.body == b"first"
    assert body.closed == 1
    assert served.log[-1].startswith(type(error).__name__)


def test_an_exception_before_the_first_bytes_of_a_generator_is_a_500() -> None:
    body = Closing([b""], fails=ValueError("boom"))
    served = Served(answering(body))
    assert_error_page(served, served.ask())
    assert body.closed == 1


def test_the_error_page_of_head_has_no_body() -> None:
    served = Served(answering(None))
    assert served.ask(REQUEST_METHOD="HEAD") == Result(500, complete=True)
    assert served.exchange.body == b""
    assert b"Content-Length: 22" in served.exchange.head


def test_the_method_counts_as_it_came() -> None:
    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        environ["REQUEST_METHOD"] = "GET"
        environ["wsgi.errors"] = None
        start_response("200 OK", TEXT)
        return [b"body"]

    served = Served(application)
    assert served.ask(REQUEST_METHOD="HEAD").complete
    assert served.exchange.body == b""


@pytest.mark.parametrize("chunks", [[b"a"], [b""], []])
def test_a_close_that_raises(chunks: list[bytes]) -> None:
    body = Closing(chunks, close_fails=ValueError("in close"))
    served = Served(answering(body))
    assert served.ask() == Result(200, complete=False)
    assert body.closed == 1
    assert served.log[-1] == "ValueError: in close"


def test_a_close_that_raises_after_another_exception_shows_both() -> None:
    body = Closing([], fails=KeyError("in body"), close_fails=ValueError("in close"))
    served = Served(answering(body))
    assert_error_page(served, served.ask())
    assert "KeyError: 'in body'" in served.log
    assert served.log[-1] == "ValueError: in close"


def test_a_tuple_with_a_close_is_closed() -> None:
    closed = []

    class Body(tuple[bytes, ...]):
        __slots__ = ()

        def close(self) -> None:
            closed.append(1)

    served = Served(answering(Body([b"a"])))
    assert served.ask().complete
    assert closed == [1]


# -- the front-end leaves ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leaves_after", [0, 1, 3])
def test_a_front_end_that_leaves_ends_an_endless_body(leaves_after: int) -> None:
    body = Closing(iter(lambda: b"x", None))
    served = Served(answering(body))
    assert served.ask(MemoryExchange(leaves_after=leaves_after)) == Result(200, complete=False)
    assert (body.taken, body.closed, served.log) == (leaves_after + 1, 1, [])


def test_a_front_end_that_left_before_an_error_page() -> None:
    served = Served(lambda environ, start_response: None)
    assert served.ask(MemoryExchange(leaves_after=0)) == Result(500, complete=False)


def test_a_front_end_that_leaves_during_a_write_before_any_status_is_known() -> None:
    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        served.exchange.send(b"x")
        return []

    served = Served(application)
    assert served.ask(MemoryExchange(leaves_after=0)) == Result(500, complete=False)


# -- the body is cut, or too large -------------------------------------------------------------------------------------


def reading(environ: Environ, start_response: StartResponse) -> list[bytes]:
    data = environ["wsgi.input"].read()
    start_response("200 OK", TEXT)
    return [data]


def test_a_cut_body_is_never_answered() -> None:
    served = Served(reading)
    result = served.ask(MemoryExchange([b"abc"], cut=True), REQUEST_METHOD="POST", CONTENT_LENGTH="10")
    assert result == Result(500, complete=False)
    assert served.exchange.sent == []
    assert served.log == ["POST a.example:8080/hello: the front-end closed the connection"]


def test_a_body_over_the_limit_is_a_413_while_nothing_was_sent() -> None:
    served = Served(reading, max_body=10)
    assert_error_page(served, served.ask(MemoryExchange([b"x" * 11]), REQUEST_METHOD="POST"), 413)
    assert served.log == ["POST a.example:8080/hello: the request's body is larger than max_body"]


def test_a_body_over_the_limit_is_a_cut_answer_after_the_first_byte() -> None:
    def application(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        yield b"a"
        environ["wsgi.input"].read()

    served = Served(application, max_body=10)
    assert served.ask(MemoryExchange([b"x" * 11]), REQUEST_METHOD="POST") == Result(200, complete=False)


# -- wsgi.file_wrapper -------------------------------------------------------------------------------------------------


def test_a_file_is_sent_in_blocks_and_closed() -> None:
    content = bytes(range(256)) * 600
    file = io.BytesIO(content)

    def application(environ: Environ, start_response: StartResponse) -> Any:
        start_response("200 OK", TEXT)
        return environ["wsgi.file_wrapper"](file, 1)

    served = Served(application)
    assert served.ask() == Result(200, complete=True)
    assert served.exchange.body == content
    assert [len(part) for part in served.exchange.sent if part] == [44, 131_056, len(content) - 131_056]
    assert file.closed


def test_a_file_like_object_needs_no_close() -> None:
    class FileLike:
        def __init__(self) -> None:
            self.read = io.BytesIO(b"content").read

    wrapper = FileWrapper(FileLike())
    assert b"".join(wrapper) == b"content"
    assert not hasattr(wrapper, "close")


def test_what_is_known_of_headers_is_bounded() -> None:
    headers = [(f"X-{number}", "value") for number in range(1_100)]
    known = dict(answer._checked)
    try:
        answer._checked.clear()
        for _ in range(2):
            assert answer.Head("200 OK", headers).lines.count(b": value\r\n") == 1_100
        assert len(answer._checked) == 1_000
        answer._checked.clear()
        answer.Head("200 OK", [("X-Long", "x" * 300), ("Content-Length", "5")])
        assert not answer._checked
        for _ in range(2):
            with pytest.raises(answer.WSGIError, match="X-Bad is"):
                answer.Head("200 OK", [("X-Bad", "line\nfeed")])
    finally:
        answer._checked.clear()
        answer._checked.update(known)


def test_of_statuses_only_so_much_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    class Status(str):
        """What is a string, but not exactly."""

        __slots__ = ()

    known: dict[str, Any] = {}
    monkeypatch.setattr(answer, "_statuses", known)
    for status in ["200 " + "x" * 200, Status("404 Not Found"), *(f"200 {number}" for number in range(1_010))]:
        assert answer.Head(status, []).lines == f"Status: {status}\r\n".encode()
    assert list(known) == [f"200 {number}" for number in range(1_000)]
