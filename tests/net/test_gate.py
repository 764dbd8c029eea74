"""Which requests are still worth running, by real connections."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.net.gate import Gate
from gateway.net.stream import Stream
from tests.net.driving import ABORT, Front, driving, hello, whole
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("way")


@pytest.fixture(params=["unix", "tcp"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[Stream, socket.socket]]:
    """A worker's end of a connection, and the front-end's."""
    if request.param == "unix":
        ours, theirs = socket.socketpair()
        peer: Any = ""
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            theirs = socket.create_connection(listener.getsockname())
            ours, peer = listener.accept()
    with ours, theirs:
        yield Stream(ours, peer), theirs


def test_a_front_end_that_is_there_has_not_left(ends: tuple[Stream, socket.socket]) -> None:
    stream, front = ends
    front.sendall(b"unread")
    assert not Gate().has_left(stream, body_ended=True)


def test_one_that_has_closed_has_left(ends: tuple[Stream, socket.socket]) -> None:
    stream, front = ends
    front.close()
    wait_until(lambda: Gate().has_left(stream, body_ended=True))


def test_a_half_close_is_leaving_only_over_tcp_after_the_body_and_for_fastcgi(
    ends: tuple[Stream, socket.socket],
) -> None:
    stream, front = ends
    front.shutdown(socket.SHUT_WR)
    wait_until(lambda: stream.receive_now() == b"")
    assert Gate().has_left(stream, body_ended=True) == stream.is_tcp
    assert not Gate().has_left(stream, body_ended=False)
    assert not Gate(protocol="scgi").has_left(stream, body_ended=True)


def test_the_stamp_of_a_front_end_on_this_machine_counts(ends: tuple[Stream, socket.socket]) -> None:
    waited = Gate().waited(ends[0], {"REQUEST_TIME_FLOAT": f"{time.time() - 3:.3f}"})
    assert waited is not None
    assert 2.99 < waited < 10


def test_the_clock_of_another_machine_does_not() -> None:
    with socket.socket() as sock:
        stream = Stream(sock, ("192.0.2.1", 4711))
        assert Gate().waited(stream, {"REQUEST_TIME_FLOAT": "1.0"}) is None


@pytest.mark.parametrize("stamp", ["", "now", "1.0.0"])
def test_a_stamp_that_is_none_says_nothing(stamp: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert Gate(1.0).waited(Stream(ours), {"REQUEST_TIME_FLOAT": stamp}) is None


@pytest.mark.parametrize("stamp", ["nan", "inf", "1e999", "99999999999"])
def test_a_stamp_of_the_future_is_now(stamp: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert Gate(1.0).waited(Stream(ours), {"REQUEST_TIME_FLOAT": stamp}) == 0


def test_without_a_stamp_tcp_knows_when_the_last_bytes_came() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as front,
    ):
        front.sendall(b"request")
        sock, peer = listener.accept()
        with sock:
            stream = Stream(sock, peer)
            gate = Gate(0.2)
            wait_until(lambda: (gate.waited(stream, {}) or 0) > 0.2)
            assert gate.is_too_old(gate.waited(stream, {}))
            assert Gate().waited(stream, {}) is None  # nobody needs to know


def test_too_old_is_over_a_timeout_that_is_set() -> None:
    assert Gate(1.0).is_too_old(1.1)
    assert not Gate(1.0).is_too_old(0.9)
    assert not Gate(1.0).is_too_old(None)
    assert not Gate(0.0).is_too_old(1e9)


def test_a_request_that_has_waited_too_long_is_answered_503_and_not_run(tmp_path: Path) -> None:
    with driving(tmp_path / "s", queue_timeout=2.0) as running, Front(tmp_path / "s") as front:
        answer = front.ask(keep=True, REQUEST_TIME_FLOAT=f"{time.time() - 3:.3f}")
        assert (answer.status, answer.body) == (b"Status: 503 Service unavailable", b"Service unavailable\n")
        assert b"Retry-After: 1\r\n" in answer.out
        assert front.ask(keep=True, REQUEST_TIME_FLOAT=f"{time.time():.3f}").body == b"hello"
        wait_until(lambda: running.board.requests == 2)
        assert running.board.turned_away == ["shed"]
        assert running.board.begun == ["/hello"]
        [(label, status, waited), _] = running.board.ended
        assert (label, status) == (0, 503)
        assert waited is not None
        assert waited > 2.9


def test_a_connection_that_the_master_knows_to_be_stale_is_answered_503_once(tmp_path: Path) -> None:
    with driving(tmp_path / "s", stale=True) as running, Front(tmp_path / "s") as front:
        assert front.ask(keep=True, REQUEST_METHOD="HEAD").out.endswith(b"Retry-After: 1\r\n\r\n")
        assert front.ask(keep=True).body == b"hello"
        assert running.board.turned_away == ["shed"]


def test_a_request_whose_client_has_left_is_not_run(tmp_path: Path) -> None:
    entered, opened = threading.Event(), threading.Event()

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        entered.set()
        assert opened.wait(10)
        return hello(environ, start_response)

    with driving(tmp_path / "s", application) as running, Front(tmp_path / "s") as front:
        front.send(whole(REQUEST_URI="/runs"))
        assert entered.wait(10)
        with Front(tmp_path / "s") as impatient:
            impatient.send(whole(REQUEST_URI="/left"))
        opened.set()
        assert front.answer().body == b"hello"
        wait_until(lambda: [status for _, status, _ in running.board.ended] == [200, 499])
        assert running.board.begun == ["/runs"]
        assert running.board.turned_away == ["gone"]


def test_an_aborted_request_is_ended_and_not_run(tmp_path: Path) -> None:
    with driving(tmp_path / "s", hello) as running, Front(tmp_path / "s") as front:
        front.send(whole(keep=True) + ABORT)
        answer = front.answer()
        assert (answer.out, answer.complete) == (b"", True)
        assert front.ask(keep=True).body == b"hello"
        assert running.board.turned_away == ["gone"]
        wait_until(lambda: [status for _, status, _ in running.board.ended] == [499, 200])
