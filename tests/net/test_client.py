"""`gateway.net.client` against a FastCGI responder and, for what no sound application does, raw sockets."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from gateway.net.address import InheritedAddress, TcpAddress, UnixAddress, parse_address
from gateway.net.client import AnswerCutShort, NoAnswerInTime, RequestFailed, Response, request
from tests.end_to_end.running import short_place
from tests.front.responding import Responder, responding
from tests.waiting import free_port


@pytest.fixture
def responder() -> Iterator[Responder]:
    with short_place() as place, responding(place / "pool.sock") as responder:
        yield responder


def ask(responder: Responder, query: str = "", body: Iterable[bytes] = (), timeout: float = 60) -> Response:
    params = {"REQUEST_METHOD": "GET", "QUERY_STRING": query, "PATH_INFO": "/caf\xe9"}
    return request(UnixAddress(responder.path), params, body, timeout=timeout)


def test_answer_has_status_headers_and_body(responder: Responder) -> None:
    with ask(responder, "status") as answer:
        assert (answer.status, answer.reason) == (418, "Short and stout")
        assert answer.headers == [("Content-Type", "text/plain")]
        assert b"".join(answer.body) == b"teapot\n"


def test_status_is_200_unless_said(responder: Responder) -> None:
    with ask(responder) as answer:
        assert (answer.status, answer.reason) == (200, "OK")
        assert json.loads(b"".join(answer.body))["params"]["PATH_INFO"] == "/caf\xe9"


def test_body_goes_in_pieces_without_the_empty_ones(responder: Responder) -> None:
    pieces = [b"", b"a" * 200_000, b"", b"b"]
    with ask(responder, body=pieces) as answer:
        whole = b"".join(pieces)
        assert json.loads(b"".join(answer.body))["body"] == f"{len(whole)} {hashlib.sha256(whole).hexdigest()}"


def test_answer_is_handed_on_as_it_comes(responder: Responder) -> None:
    with ask(responder, "stream") as answer:
        body = iter(answer.body)
        assert next(body) == b"first\n"
        responder.gate.set()
        assert next(body) == b"last\n"
        assert next(body, None) is None


def test_cut_answer_raises_after_what_came(responder: Responder) -> None:
    with ask(responder, "cut") as answer:
        body = iter(answer.body)
        assert next(body) == b"first\n"
        responder.gate.set()
        with pytest.raises(AnswerCutShort, match="broke off"):
            next(body)


def test_silence_ends_in_a_timeout(responder: Responder) -> None:
    with pytest.raises(NoAnswerInTime, match=r"0\.2 s"):
        ask(responder, "silent", timeout=0.2)


def test_what_is_no_cgi_answer_is_named(responder: Responder) -> None:
    with pytest.raises(RequestFailed, match="no header"):
        ask(responder, "nonsense")


def test_nothing_listens(tmp_path: Path) -> None:
    with pytest.raises(RequestFailed, match="No such file"):
        request(UnixAddress(str(tmp_path / "none.sock")), {})
    with pytest.raises(RequestFailed, match="refused"):
        request(parse_address(f"127.0.0.1:{free_port()}"), {})
    with pytest.raises(RequestFailed, match="name a path"):
        request(InheritedAddress(0), {})


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[socket.socket], None]], TcpAddress]]:
    """Serve one connection over TCP with a function."""
    listeners = []

    def start(behaviour: Callable[[socket.socket], None]) -> TcpAddress:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def once() -> None:
            connection, _ = listener.accept()
            with connection:
                behaviour(connection)

        threading.Thread(target=once, daemon=True).start()
        address = parse_address(f"127.0.0.1:{listener.getsockname()[1]}")
        assert isinstance(address, TcpAddress)
        return address

    yield start
    for listener in listeners:
        listener.close()


Serve = Callable[[Callable[[socket.socket], None]], TcpAddress]


def test_scgi_ends_with_the_connection(serve: Serve) -> None:
    got = []

    def behaviour(connection: socket.socket) -> None:
        got.append(connection.recv(65_536))
        connection.sendall(b"Status: 201 Created\r\nX: y\r\n\r\nhello")

    with request(serve(behaviour), {"REQUEST_METHOD": "GET"}, protocol="scgi") as answer:
        assert (answer.status, b"".join(answer.body)) == (201, b"hello")
    assert b"CONTENT_LENGTH\x000\x00SCGI\x001\x00REQUEST_METHOD\x00GET\x00" in got[0]


def record(kind: int, content: bytes) -> bytes:
    return bytes([1, kind, 0, 1, *len(content).to_bytes(2, "big"), 0, 0]) + content


def test_early_answer_to_a_body_that_is_not_taken(serve: Serve) -> None:
    """The application answers and closes at once: the rest of the body has nowhere to go, and the answer counts."""
    enough = threading.Event()

    def behaviour(connection: socket.socket) -> None:
        connection.recv(1_000)
        connection.sendall(record(6, b"Status: 413 Too Large\r\n\r\n") + record(3, bytes(8)))
        connection.shutdown(socket.SHUT_WR)
        enough.wait(10)

    with request(serve(behaviour), {}, (b"x" * 65_536 for _ in range(1_000))) as answer:
        assert (answer.status, list(answer.body)) == (413, [])
    enough.set()


def test_stderr_goes_to_who_wants_it(serve: Serve) -> None:
    def behaviour(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(record(7, b"oh\n") + record(6, b"Status: 200 OK\r\n\r\n") + record(3, bytes(8)))

    lines: list[bytes] = []
    with request(serve(behaviour), {}, stderr=lines.append) as answer:
        assert list(answer.body) == []
    assert lines == [b"oh\n"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (record(3, b"\0\0\0\0\2\0\0\0"), "refused the request .*2"),
        (record(3, bytes(8)), "no head"),
        (record(6, b"Status: 20 OK\r\n\r\n"), "no valid status"),
        (record(6, b"X: y\r\n" * 10_000) * 2, "longer than 65536"),
        (b"HTTP/1.1 400 Bad Request\r\n", "broke off"),
        (b"", "ended before"),
    ],
)
def test_answers_that_cannot_be_shown(serve: Serve, answer: bytes, message: str) -> None:
    def behaviour(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(answer)

    with pytest.raises(RequestFailed, match=message):
        request(serve(behaviour), {})
