"""The quick way in C and in Python beside the ordinary one: whatever is asked and answered, nobody can tell."""

from __future__ import annotations

import contextlib
import gc
import io
import itertools
import socket
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.app.answer import WSGIError
from gateway.protocol import records
from gateway.protocol.client import encode_request
from gateway.protocol.events import Role
from gateway.protocol.fastcgi import FastCGIConnection
from tests.app.memory import NGINX
from tests.net.driving import Answer, Front, Running, choose_way, head, listening, stdin, whole
from tests.protocol.differential import mutate
from tests.waiting import wait_until

Environ = dict[str, Any]
Start = Callable[..., Any]
PLAIN = [("Content-Type", "text/plain")]


class Chunk(bytes):
    """What is bytes, but not exactly."""


class Closing(list[bytes]):
    """A list with something to be closed."""

    def close(self) -> None:
        print("closed")


def start_late(environ: Environ, start_response: Start) -> Iterator[bytes]:
    start_response("200 OK", PLAIN)
    yield b"late"


def with_write(environ: Environ, start_response: Start) -> list[bytes]:
    start_response("200 OK", PLAIN)(b"written, ")
    return [b"returned"]


def write_later(environ: Environ, start_response: Start) -> list[bytes]:
    write = start_response("200 OK", [])
    environ["wsgi.errors"].write("a line\n")
    write(b"written")
    return []


def start_again(environ: Environ, start_response: Start) -> list[bytes]:
    start_response("200 OK", PLAIN)
    start_response("404 Not Found", PLAIN)
    return [b"twice"]


def start_over(environ: Environ, start_response: Start) -> list[bytes]:
    start_response("200 OK", PLAIN)
    try:
        raise ValueError("changed its mind")
    except ValueError as error:
        start_response("500 Mistake", [*PLAIN, ("X-More", "1")], (ValueError, error, error.__traceback__))
    return [b"over"]


def raising(environ: Environ, start_response: Start) -> list[bytes]:
    start_response("200 OK", PLAIN)
    raise LookupError("after start_response")


def exiting(environ: Environ, start_response: Start) -> list[bytes]:
    raise SystemExit(3)


def printing(text: str) -> Callable[[Environ, Start], list[bytes]]:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        environ["wsgi.errors"].write(text)
        start_response("200 OK", PLAIN)
        return [b"printed"]

    return application


def reading(environ: Environ, start_response: Start) -> list[bytes]:
    body = environ["wsgi.input"]
    pieces = [body.read(3), body.readline(), *body.readlines(), body.read()]
    start_response("200 OK", PLAIN)
    return [b"|".join(pieces)]


def changing_its_environ(environ: Environ, start_response: Start) -> list[bytes]:
    environ.clear()
    start_response("200 OK", PLAIN)
    return [b"cleared"]


def answering(status: str, headers: list[Any], body: Any) -> Callable[[Environ, Start], Any]:
    def application(environ: Environ, start_response: Start) -> Any:
        start_response(status, headers)
        return body

    return application


def mirror(environ: Environ, start_response: Start) -> list[bytes]:
    """Answers with what it was told."""
    told = {name: value for name, value in environ.items() if isinstance(value, (str, bool, tuple))}
    start_response("200 OK", PLAIN)
    return [repr(sorted(told.items())).encode()]


HEADERS: list[Any] = [
    [],
    [("Content-Length", "5")],
    [("content-length", "4")],
    [("Content-Length", "6")],
    [("Content-Length", "5"), ("Content-Length", "5")],
    [("Content-Length", "+5")],
    [("Content-Length", "")],
    [("X-A", "1"), ("x-a", "2"), ("Set-Cookie", "a=b"), ("Set-Cookie", "c=d")],
    [("X-Caf\xe9", "1")],
    [("X-A", "caf\xe9")],
    [("X-A", "\u20ac")],
    [("X-A", "\ud800")],
    [("X-A", "a\r\nX-B: b")],
    [("X A", "1")],
    [("", "1")],
    [("Status", "404")],
    [("tRansfer-Encoding", "chunked")],
    [("Connection", "close")],
    [("X-A", 1)],
    [("X-A", "1", "2")],
    [["X-A", "1"]],
    [None],
    (("X-A", "1"),),
    None,
    [("X-Long", "x" * 20_000)],
    [("locAtion", "/a"), ("X-A", "1")],
]
STATUSES: list[Any] = ["200 OK", "204 No Content", "304 Not Modified", "404", "99 X", "100 Continue", "2000", "200\tOK",
                       "200 caf\xe9", "200 O\nK", "", 200, "599 "]  # fmt: skip
BODIES: list[Any] = [
    [b"hello"], [], [b""], (b"he", b"llo"), [b"he", b"", b"llo"], ["text"], [b"hello", "text"], b"hello", None, 5,
    [Chunk(b"hello")], Closing([b"hello"]), iter([b"hello"]), [b"x" * 65_000], [b"x" * 70_000], [b"x" * 300_000],
]  # fmt: skip
FIVE = [*PLAIN, ("Content-Length", "5")]


class Body:
    """An iterable that is closed."""

    def __init__(self, chunks: Iterator[Any], on_close: Callable[[], Any] = lambda: None) -> None:
        self._chunks = chunks
        self._on_close = on_close

    def __iter__(self) -> Iterator[Any]:
        return self._chunks

    def close(self) -> None:
        self._on_close()


def in_chunks(*parts: Any, on_close: str = "", headers: Any = FIVE) -> Callable[[Environ, Start], Body]:
    """An application whose chunks are `parts`; one that is callable is called with environ, start_response and write
    instead, and so is `on_close`, by its name among `ACTIONS`.
    """

    def application(environ: Environ, start_response: Start) -> Body:
        write = start_response("200 OK", headers)

        def chunks() -> Iterator[Any]:
            for part in parts:
                if callable(part):
                    part(environ, start_response, write)
                else:
                    yield part

        return Body(chunks(), lambda: ACTIONS[on_close](environ, start_response, write))

    return application


def prints(environ: Environ, start_response: Start, write: Start) -> None:
    environ["wsgi.errors"].write("a line\n")


def begins_a_line(environ: Environ, start_response: Start, write: Start) -> None:
    environ["wsgi.errors"].write("no end")


def raises(environ: Environ, start_response: Start, write: Start) -> None:
    raise LookupError("no more")


def exits(environ: Environ, start_response: Start, write: Start) -> None:
    raise SystemExit(3)


def writes(environ: Environ, start_response: Start, write: Start) -> None:
    write(b"he")


def starts_over(environ: Environ, start_response: Start, write: Start) -> None:
    try:
        raise ValueError("changed its mind")
    except ValueError as error:
        start_response("500 Mistake", FIVE, (ValueError, error, error.__traceback__))


ACTIONS: dict[str, Callable[[Environ, Start, Start], None]] = {
    "": lambda *_: None, "prints": prints, "raises": raises, "writes": writes
}  # fmt: skip
IN_CHUNKS: list[tuple[Any, ...]] = [
    (b"hello",), (b"", b"hello", b""), (b"he", b"llo"), (b"hello", b"!"), (b"hello!",), (b"hell",), (), (b"",),
    ("hello",), (Chunk(b"hello"),), (b"hello", "text"), (b"hello", b"", None),
    *((action, b"hello") for action in (prints, begins_a_line, raises, exits, writes, starts_over)),
    *((b"hello", action) for action in (prints, begins_a_line, raises, exits, writes, starts_over)),
    (b"hello", prints, b"!"), (b"hello", prints, raises), (b"he", starts_over), (b"hello", writes, b""),
]  # fmt: skip


def long(size: int, *, announced: bool) -> Callable[[Environ, Start], Iterator[bytes]]:
    """An application whose answer is one chunk of that many bytes."""

    def application(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", str(size))] if announced else [])
        return iter([bytes(size)])

    return application


def with_status(status: str) -> Callable[[Environ, Start], Iterator[bytes]]:
    def application(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response(status, FIVE)
        return iter([b"hello"])

    return application


def file(environ: Environ, start_response: Start) -> Any:
    start_response("200 OK", FIVE)
    return environ["wsgi.file_wrapper"](io.BytesIO(b"hello"))


MARK, MARKED = "/mark", 418
APPLICATIONS: dict[str, Callable[[Environ, Start], Any]] = {
    function.__name__: function
    for function in (
        mirror, start_late, with_write, write_later, start_again, start_over, raising, exiting, reading,
        changing_its_environ,
    )
} | {
    "mark": answering("418 Marked", [], []),
    "prints": printing("a line\nanother\n"),
    "prints-in-parts": printing("no end of a line"),
} | {f"headers-{n}": answering("200 OK", headers, [b"hello"]) for n, headers in enumerate(HEADERS)} | {
    f"status-{n}": answering(status, PLAIN, [b"hello"]) for n, status in enumerate(STATUSES)
} | {
    f"chunks-{n}": in_chunks(*parts) for n, parts in enumerate(IN_CHUNKS)
} | {
    f"no-length-{n}": in_chunks(*parts, headers=PLAIN) for n, parts in enumerate(IN_CHUNKS)
} | {
    f"nothing-{len(part)}": in_chunks(b"", part, headers=[("Content-Length", "0")]) for part in (b"", b"!")
} | {
    f"close-{action}": in_chunks(b"hello", on_close=action) for action in ACTIONS
} | {
    f"no-chunks-{n}": answering("200 OK", FIVE, body) for n, body in enumerate((5, object(), {b"hello": 1}, {5}))
} | {
    f"chunk-of-{size}-{announced}": long(size, announced=announced)
    for announced in (False, True)
    for size in (65_400, *range(65_485, 65_525), 65_536, 70_000)
} | {
    f"statuschunks-{n}": with_status(status) for n, status in enumerate(STATUSES)
} | {"file": file}  # fmt: skip


def application(environ: Environ, start_response: Start) -> Any:
    """What the path names."""
    name = environ["PATH_INFO"].lstrip("/")
    if name.startswith("body-"):
        body = BODIES[int(name[5:])]
        return answering("200 OK", PLAIN, iter([b"hello"]) if name == "body-12" else body)(environ, start_response)
    return APPLICATIONS.get(name, mirror)(environ, start_response)


@pytest.fixture(scope="module")
def sides(quick_type: type, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    """The same application, served in the ordinary way alone, and with the quick way."""
    with contextlib.ExitStack() as stack:
        place = tmp_path_factory.mktemp("s")
        yield Side(stack, place / "ordinary", None), Side(stack, place / "quick", quick_type)


class Side:
    """A driver, and what is known of it."""

    def __init__(
        self,
        stack: contextlib.ExitStack,
        path: Path,
        quick_type: type | None,
        application: Callable[[Environ, Start], Any] = application,
        **options: Any,
    ) -> None:
        """`application` answers MARK as that of this module."""
        self.path = path
        self._marks = 0
        listener = stack.enter_context(listening(path))
        with pytest.MonkeyPatch.context() as patch:
            choose_way(patch, quick_type)
            self.running = Running([listener], application, max_body=50_000, **options)
        stack.callback(self.running.close)

    def ask(self, request: bytes) -> tuple[Answer, list[str], list[Any]]:
        """Send a request once the host is known; return what came, and what was logged and noted of it."""
        self._mark()
        board = self.running.board
        lines, before, turned = len(self.running.log), len(board.ended), len(board.turned_away)
        with Front(self.path) as front:
            front.send(request)
            answer = front.answer()
        self._mark()
        noted = [(label, status, seconds and seconds > 1) for label, status, seconds in board.ended[before:]]
        return answer, self.running.log[lines:], [noted, board.turned_away[turned:]]

    def _mark(self) -> None:
        """Come to the end of one more request, and of all before it."""
        self._marks += 1
        with Front(self.path) as front:
            assert front.ask(PATH_INFO=MARK).complete
        wait_until(lambda: [status for _, status, _ in self.running.board.ended].count(MARKED) == self._marks)


def compare(sides: tuple[Side, Side], request: bytes) -> Answer:
    """Both answer the same, and have logged and counted the same; return the answer."""
    ordinary, fast = (side.ask(request) for side in sides)
    assert fast == ordinary
    return fast[0]


NAMES = [*(name for name in APPLICATIONS if name != MARK[1:]), *(f"body-{n}" for n in range(len(BODIES)))]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("name", NAMES)
def test_whatever_the_application_does(sides: tuple[Side, Side], name: str, method: str) -> None:
    for keep in (False, True):
        compare(sides, whole(keep=keep, REQUEST_METHOD=method, PATH_INFO=f"/{name}"))


@pytest.mark.parametrize("body", [b"", b"abc", b"abc\ndef\n\nghi", bytes(40_000), bytes(50_001)])
@pytest.mark.parametrize("length", [None, "", "-1", "0", "3", "12", "40000", "+3", "9" * 20])
def test_bodies_however_long_they_are_said_to_be(sides: tuple[Side, Side], body: bytes, length: str | None) -> None:
    params = {} if length is None else {"CONTENT_LENGTH": length}
    request = encode_request("fastcgi", NGINX | {"PATH_INFO": "/reading"} | params) + stdin(body)
    compare(sides, request)


PARAMS: dict[str, list[str | None]] = {
    "REQUEST_METHOD": ["POST", "", None, "head"],
    "SERVER_NAME": ["", None, "shop.example"],
    "SERVER_PORT": ["", "0", "443", "65536", None],
    "SERVER_PROTOCOL": ["", None],
    "REQUEST_URI": ["", None, "/caf%C3%A9?x", "http://a.example/b"],
    "QUERY_STRING": ["a=b", None],
    "HTTP_HOST": ["", None, "Shop.Example.:8080", "a b", "[::1]:80", "caf\xe9"],
    "CONTENT_TYPE": ["", "text/plain", None],
    "HTTPS": ["on", "off", "", "ON", "1", "https", "no"],
    "REQUEST_SCHEME": ["https", "http", "", None],
    "SCRIPT_NAME": ["/app", "/", None, "app"],
    "PATH_INFO": ["", None, "x", "/caf\xc3\xa9", "//a/../b", "/a%zz"],
    "REQUEST_TIME_FLOAT": ["1.5", "soon", "", "99999999999"],
    "HTTP_PROXY": ["http://a.example"],
    "HTTP_CONTENT_LENGTH": ["3"],
    "HTTP_TRANSFER_ENCODING": ["chunked"],
    "wsgi.url_scheme": ["ftp"],
    "gateway.application": ["mine"],
    "HTTP_X": ["a\nb", "a\0b", "\xff", "x" * 9_000],
    "": ["nameless"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in PARAMS.items() for value in values])
def test_whatever_a_front_end_sends(sides: tuple[Side, Side], name: str, value: str | None) -> None:
    params = {**NGINX, name: value}
    request = encode_request("fastcgi", {name: value for name, value in params.items() if value is not None})
    compare(sides, request + stdin())


@pytest.mark.parametrize("script", ["/hello", "/", "hello", "/caf\xc3\xa9", "/a%zz"])
@pytest.mark.parametrize("info", ["", None])
def test_a_path_that_is_the_scripts(sides: tuple[Side, Side], script: str, info: str | None) -> None:
    """As nginx's stock fastcgi_params have it."""
    params = {**NGINX, "SCRIPT_NAME": script, "PATH_INFO": info}
    request = encode_request("fastcgi", {name: value for name, value in params.items() if value is not None})
    compare(sides, request + stdin())


@pytest.mark.parametrize("uri", ["/a%zz", "/a%25zz", "/caf%C3%A9/../b", "/a?b%"])
def test_a_path_that_is_in_the_uri_alone(sides: tuple[Side, Side], uri: str) -> None:
    compare(sides, whole(SCRIPT_NAME="", PATH_INFO="", REQUEST_URI=uri))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_parameters(sides: tuple[Side, Side], data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(sorted(PARAMS)), max_size=4, unique=True))
    chosen = {name: data.draw(st.sampled_from(PARAMS[name])) for name in names}
    text = st.text(st.characters(max_codepoint=255), max_size=20)
    more = data.draw(st.dictionaries(text.map(lambda name: f"HTTP_{name}"), text, max_size=4))
    params = {name: value for name, value in {**NGINX, **more, **chosen}.items() if value is not None}
    compare(sides, encode_request("fastcgi", params, keep_conn=data.draw(st.booleans())) + stdin())


ALIKE = st.dictionaries(
    st.sampled_from(["HTTP_A", "HTTP_B", "HTTP_COOKIE", "QUERY_STRING", "PATH_INFO", "HTTP_HOST", "HTTPS"]),
    st.sampled_from(["", "a", "ab", "/x", "on", "a\nb", "x" * 127, "x" * 128, "x" * 17_000]),
    max_size=5,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(requests=st.lists(ALIKE, min_size=2, max_size=6))
def test_requests_that_are_like_those_before_them(sides: tuple[Side, Side], requests: list[dict[str, str]]) -> None:
    """What was decoded of one is used for the next, as far as it is the same."""
    answers: list[list[Answer]] = []
    for side in sides:
        answers.append([])
        for params in requests:
            with Front(side.path) as front:
                front.send(encode_request("fastcgi", NGINX | params) + stdin())
                answers[-1].append(front.answer())
    assert answers[0] == answers[1]


def test_repeated_parameters(sides: tuple[Side, Side]) -> None:
    for name in ("REQUEST_METHOD", "HTTP_HOST", "HTTP_ACCEPT", "HTTP_X_NEW"):
        block = records.encode_params([*NGINX.items(), (name, "one"), (name, "two")])
        begin = records.encode_begin_request(1, Role.RESPONDER, 0)
        params = records.encode_record(records.PARAMS, 1, block) + records.encode_record(records.PARAMS, 1)
        compare(sides, begin + params + stdin())


def test_requests_however_they_are_cut(sides: tuple[Side, Side]) -> None:
    request = whole(b"a body", PATH_INFO="/reading")
    for size in range(1, len(request), 37):
        answers = []
        for side in sides:
            with Front(side.path) as front:
                front.send(request[:size])
                front.send(request[size:])
                answers.append(front.answer())
        assert answers[0] == answers[1]


def test_mutated_requests(sides: tuple[Side, Side]) -> None:
    """The front-end says that no more comes, so that nobody waits for what a length has promised."""
    random = Random(5)
    samples = [
        whole(PATH_INFO="/mirror", HTTP_COOKIE="c=" + "x" * 200, HTTP_ACCEPT="*/*"),
        whole(b"a body", PATH_INFO="/reading", REQUEST_TIME_FLOAT="1.5"),
        whole(PATH_INFO="", SCRIPT_NAME="/mirror", SERVER_NAME="", CONTENT_TYPE="text/plain"),
    ]
    answered = 0
    for _ in range(600):
        request = mutate(random.choice(samples), random)
        answers = []
        for side in sides:
            with Front(side.path) as front, contextlib.suppress(ConnectionError):
                front.send(request)
                front.socket.shutdown(socket.SHUT_WR)
                answers.append(front.read())
        assert answers[0:1] == answers[1:2]
        answered += b"Status: 200" in b"".join(answers)
    assert 100 < answered < 500


def test_plain_requests_take_no_step_of_the_ordinary_way(
    sides: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, fast = sides
    with Front(fast.path) as front:
        front.ask()
    steps: list[str] = []
    monkeypatch.setattr(
        FastCGIConnection,
        "receive_data",
        lambda self, data: steps.append("read") or [],  # type: ignore[func-returns-value]
    )
    for _ in range(3):
        with Front(fast.path) as front:
            assert front.ask().complete
    with Front(fast.path) as front:
        for _ in range(3):
            assert front.ask(b"a small body", keep=True, PATH_INFO="/reading").complete
    assert steps == []


def test_an_answer_that_the_front_end_is_slow_to_take(quick_type: type) -> None:
    """More than a socket buffers: the rest is sent as the front-end reads."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)  # of the connections that it accepts, too
        with pytest.MonkeyPatch.context() as patch:
            choose_way(patch, quick_type)
            running = Running([listener], application)
        stack.callback(running.close)
        for keep in (False, False, True):
            with Front(listener.getsockname(), family=socket.AF_INET) as front:
                front.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
                assert len(front.ask(keep=keep, PATH_INFO="/body-13").body) == 65_000


def test_a_driver_leaves_after_a_request_that_was_ended(tmp_path: Path, quick_type: type) -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        if environ["PATH_INFO"] == "/long":
            running._driver.interruption.interrupt()
        start_response("200 OK", PLAIN)
        return [b"done"]

    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listening(tmp_path / "s"))
        with pytest.MonkeyPatch.context() as patch:
            choose_way(patch, quick_type)
            running = Running([listener], application)
        stack.callback(running.close)
        for path, status in (("/", b"200 OK"), ("/long", b"504 ")):
            with Front(tmp_path / "s") as front:
                assert front.ask(PATH_INFO=path).out.startswith(b"Status: " + status)
        running.join()


def test_start_response_is_of_no_use_after_its_request(tmp_path: Path, quick_type: type) -> None:
    kept: list[Start] = []

    def application(environ: Environ, start_response: Start) -> list[bytes]:
        kept.extend((start_response, start_response("200 OK", PLAIN)))
        return [b"done"]

    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listening(tmp_path / "s"))
        with pytest.MonkeyPatch.context() as patch:
            choose_way(patch, quick_type)
            running = Running([listener], application)
        stack.callback(running.close)
        for _ in range(2):
            with Front(tmp_path / "s") as front:
                assert front.ask().body == b"done"
        for call, arguments in zip(kept[2:], itertools.cycle((("200 OK", []), (b"more",))), strict=False):
            with pytest.raises((RuntimeError, WSGIError), match=r"the request is over|start_response twice"):
                call(*arguments)


def test_a_small_head_may_come_in_pieces_after_whole_ones(sides: tuple[Side, Side]) -> None:
    request = head(keep=True) + stdin()
    for side in sides:
        with Front(side.path) as front:
            for _ in range(2):
                assert front.ask(keep=True).complete
                front.send(request[:100])
                front.send(request[100:])
                assert front.answer().complete


def test_an_environ_is_let_go_of_after_its_request(tmp_path: Path, quick_type: type) -> None:
    class Kept:
        """What an application has put there."""

    seen: list[weakref.ref[Kept]] = []

    def application(environ: Environ, start_response: Start) -> Any:
        environ["kept"] = kept = Kept()
        seen.append(weakref.ref(kept))
        start_response("200 OK", FIVE)
        return {"/list": [b"hello"], "/chunks": iter([b"hello"])}.get(environ["PATH_INFO"], iter([b"hel", b"lo"]))

    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listening(tmp_path / "s"))
        with pytest.MonkeyPatch.context() as patch:
            choose_way(patch, quick_type)
            running = Running([listener], application)
        stack.callback(running.close)
        for path in ("/list", "/chunks", "/slow"):
            with Front(tmp_path / "s") as front:
                assert front.ask(PATH_INFO=path, keep=True).body == b"hello"
                wait_until(lambda: seen[-1]() is None)


def test_many_requests_leave_nothing_behind(sides: tuple[Side, Side]) -> None:
    def serve(count: int) -> int:
        for number in range(count):
            with Front(sides[1].path) as front:
                front.ask(keep=True, PATH_INFO="/mirror", HTTP_A=str(number % 7))
                front.ask(b"body", keep=True, PATH_INFO="/reading")
                front.ask(keep=True, PATH_INFO="/headers-4")
                front.ask(PATH_INFO="/start_late")
            for name in ("chunks-0", "chunks-2", "chunks-3", "close-raises", "close-prints"):
                with Front(sides[1].path) as front:
                    front.ask(PATH_INFO=f"/{name}")
        sides[1].running.log.clear()
        sides[1].running.board.ended.clear()
        sides[1].running.board.begun.clear()
        gc.collect()
        return sys.getallocatedblocks()

    counts = [serve(100) for _ in range(6)]
    assert counts[-1] - counts[2] < 300  # blocks: fewer than one a connection
