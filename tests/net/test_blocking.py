"""The blocking driver and its connections: deadlines, keeping, early answers, front-ends that misbehave."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.net.conversation import Timeouts
from gateway.protocol import records
from gateway.protocol.events import Role
from tests.app.memory import answering
from tests.net.driving import PATIENT, Front, Running, driving, echo, head, stdin, whole
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("way")

HASTY = Timeouts(head=1.0, body=1.0, response=1.0, keepalive=1.0)
GET_VALUES = records.encode_record(records.GET_VALUES, 0, records.encode_params([("FCGI_MPXS_CONNS", "")]))
VALUES = records.encode_record(records.GET_VALUES_RESULT, 0, records.encode_params([("FCGI_MPXS_CONNS", "0")]))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


# -- heads and deadlines ----------------------------------------------------------------------------------------------


def is_cut(front: Front, data: bytes) -> bool:
    """Send some bytes; say whether the other side has closed the connection, which it may do meanwhile."""
    try:
        if front.is_open():
            front.send(data)
            return False
    except (BrokenPipeError, ConnectionResetError):
        pass
    return True


def test_drip_fed_head_occupies_nobody_and_is_cut_at_its_deadline(path: Path) -> None:
    pace = threading.Event()
    with driving(path, timeouts=Timeouts(head=0.5, body=20, response=20, keepalive=20)), Front(path) as dripping:
        began = time.monotonic()
        for byte in head()[:-1]:
            if is_cut(dripping, bytes([byte])):
                break
            with Front(path) as other:
                assert other.ask().body == b"hello"
            pace.wait(0.005)
        else:
            assert dripping.is_closed
        assert 0.4 < time.monotonic() - began < 5


def test_silent_connection_is_cut(path: Path) -> None:
    with driving(path, timeouts=Timeouts(head=0.2, body=20, response=20, keepalive=20)), Front(path) as silent:
        assert silent.read() == b""


def test_two_requests_on_one_kept_connection(path: Path) -> None:
    with driving(path, echo), Front(path) as front:
        assert front.ask(b"one", keep=True).body == b"one"
        assert front.ask(b"two" * 100_000, keep=True).body == b"two" * 100_000
        assert front.ask(b"three").body == b"three"
        assert front.read() == b""


def test_idle_kept_connection_is_closed_at_its_timeout(path: Path) -> None:
    with driving(path, timeouts=Timeouts(head=20, body=20, response=20, keepalive=0.2)), Front(path) as front:
        assert front.ask(keep=True).complete
        began = time.monotonic()
        assert front.read() == b""
        assert time.monotonic() - began > 0.1


def test_next_head_on_a_kept_connection_has_the_deadline_of_a_head(path: Path) -> None:
    with driving(path, timeouts=Timeouts(head=0.2, body=20, response=20, keepalive=20)), Front(path) as front:
        assert front.ask(keep=True).complete
        front.send(head(keep=True)[:30])
        assert front.read() == b""


def test_deadline_does_not_cut_what_came_while_another_request_ran(path: Path) -> None:
    entered, gate = threading.Event(), threading.Event()

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        if environ["QUERY_STRING"] == "wait":
            entered.set()
            gate.wait(10)
        return echo(environ, start_response)

    with driving(path, application, timeouts=HASTY), Front(path) as busy, Front(path) as kept, Front(path) as new:
        assert busy.ask(keep=True).complete
        assert kept.ask(keep=True).complete
        new.send(whole(b"new")[:50])
        busy.send(whole(keep=True, QUERY_STRING="wait"))
        assert entered.wait(10)
        kept.send(whole(b"kept", keep=True))
        new.send(whole(b"new")[50:])
        began = time.monotonic()
        wait_until(lambda: time.monotonic() > began + 2 * HASTY.keepalive)
        gate.set()
        assert busy.answer().complete
        assert kept.answer().body == b"kept"
        assert new.answer().body == b"new"


# -- early answers ----------------------------------------------------------------------------------------------------

LARGE = bytes(range(256)) * 20_000


def test_early_answer_arrives_although_the_body_comes_afterwards(path: Path) -> None:
    with driving(path, answering([LARGE])), Front(path) as front:
        front.send(head(REQUEST_METHOD="POST", CONTENT_LENGTH=str(len(LARGE))))
        early = threading.Thread(target=lambda: front.send(stdin(LARGE)))
        early.start()
        answer = front.answer()
        early.join()
        assert (answer.complete, answer.body) == (True, LARGE)
        assert front.read() == b""


def test_early_answer_on_a_kept_connection_leaves_it_of_use(path: Path) -> None:
    with driving(path), Front(path) as front:
        assert front.ask(LARGE, keep=True).body == b"hello"
        assert front.ask(keep=True).body == b"hello"
        assert front.is_open()


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("announced", [False, True])
def test_too_long_a_body_is_answered_413_and_discarded(path: Path, keep: bool, announced: bool) -> None:
    with driving(path, echo, max_body=1_000) as running, Front(path) as front:
        length = {} if announced else {"CONTENT_LENGTH": ""}
        answer = front.ask(LARGE, keep=keep, **length)
        assert (answer.status, answer.complete) == (b"Status: 413 Content Too Large", True)
        if keep:
            assert front.ask(b"short", keep=True).body == b"short"
        else:
            assert front.read() == b""
        assert len([line for line in running.log if "max_body" in line]) == 1


def test_unread_body_that_never_ends_is_cut(path: Path) -> None:
    with driving(path) as running, Front(path) as front, Front(path) as kept:
        for one, keep in ((front, False), (kept, True)):
            one.send(head(keep=keep, REQUEST_METHOD="POST", CONTENT_LENGTH="5"))
            assert one.answer().body == b"hello"
        assert front.read() == b""
        assert kept.read() == b""
        assert running.board.requests == 2


def test_request_behind_the_last_answer_is_not_run(path: Path) -> None:
    with driving(path) as running, Front(path) as front:
        front.send(head(REQUEST_METHOD="POST", CONTENT_LENGTH="5"))
        assert front.answer().complete
        front.send(stdin(b"12345") + whole())
        assert front.read() == b""
        assert running.board.requests == 1


# -- front-ends that misbehave ----------------------------------------------------------------------------------------


def test_malformed_bytes_end_their_connection_alone(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with driving(path), Front(path) as other, Front(path) as bad:
        assert other.ask(keep=True).complete
        bad.send(b"GET / HTTP/1.1\r\n\r\n")
        assert bad.read() == b""
        assert other.ask().complete
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "connection closed: not FastCGI" in lines[0]


def test_malformed_bytes_within_an_answer_are_logged(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    more = threading.Event()

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"first"
        more.wait(10)
        yield b"second"

    with driving(path, application), Front(path) as front:
        front.send(whole(keep=True))
        assert b"first" in front.socket.recv(65_536)
        front.send(b"GET / HTTP/1.1\r\n\r\n")
        more.set()
        assert b"second" not in front.read()
    assert capfd.readouterr().err.count("connection closed: not FastCGI") == 1


def test_head_cut_short_is_logged(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with driving(path), Front(path) as front:
        front.send(head()[:40])
        front.socket.shutdown(socket.SHUT_WR)
        assert front.read() == b""
    assert "connection closed: the connection ended within a request's head" in capfd.readouterr().err


def test_management_records_are_answered(path: Path) -> None:
    with driving(path), Front(path) as front:
        front.send(GET_VALUES + records.encode_record(99, 0, b"?"))
        expected = VALUES + records.encode_unknown_type(99)
        assert front.socket.recv(len(expected), socket.MSG_WAITALL) == expected
        assert front.ask(keep=True).complete


def test_management_record_within_a_body_is_answered_at_once(path: Path) -> None:
    with driving(path, echo), Front(path) as front:
        front.send(head(keep=True, REQUEST_METHOD="POST", CONTENT_LENGTH="4"))
        front.send(GET_VALUES)
        assert front.socket.recv(len(VALUES), socket.MSG_WAITALL) == VALUES
        front.send(stdin(b"body"))
        assert front.answer().body == b"body"


@pytest.mark.parametrize("keep", [False, True])
def test_role_that_is_not_served_is_refused(path: Path, keep: bool) -> None:
    with driving(path), Front(path) as front:
        front.send(head(role=Role.FILTER, keep=keep))
        expected = records.encode_end_request(1, 0, records.UNKNOWN_ROLE)
        if keep:
            assert front.socket.recv(len(expected), socket.MSG_WAITALL) == expected
            assert front.ask().complete
        else:
            assert front.read() == expected


def test_head_over_a_limit_is_answered_431(path: Path) -> None:
    with driving(path), Front(path) as front:
        answer = front.ask(HTTP_COOKIE="x" * 300_000, keep=True)
        assert (answer.status[:11], answer.complete) == (b"Status: 431", True)
        assert front.read() == b""


def test_front_that_takes_no_answer_frees_the_worker(path: Path) -> None:
    with driving(path, answering([LARGE]), timeouts=HASTY), Front(path) as lazy, Front(path) as other:
        lazy.send(whole())
        assert lazy.socket.recv(1, socket.MSG_PEEK)  # its answer is under way
        other.send(whole())
        assert other.answer().body == LARGE
        assert len(lazy.read()) < len(LARGE)


def test_scgi(path: Path) -> None:
    with driving(path, echo, protocol="scgi"), Front(path) as front:
        front.send(head(protocol="scgi", REQUEST_METHOD="POST", CONTENT_LENGTH="4") + b"body")
        assert front.read().endswith(b"\r\n\r\nbody")


def test_scgi_lingers_after_an_early_answer(path: Path) -> None:
    with driving(path, protocol="scgi"), Front(path) as front:
        front.send(head(protocol="scgi", REQUEST_METHOD="POST", CONTENT_LENGTH=str(len(LARGE))) + LARGE)
        assert front.read().endswith(b"hello")


# -- who may connect --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listen", "connect", "allowed", "served"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.1", "127.0.0.2", False),
        ("::ffff:127.0.0.1", "127.0.0.1", "127.0.0.1", True),
        ("::ffff:127.0.0.1", "127.0.0.1", "::1", False),
        ("::1", "::1", "::1", True),
        ("::1", "::1", "127.0.0.1", False),
    ],
)
def test_only_allowed_clients_may_connect(
    capfd: pytest.CaptureFixture[str], listen: str, connect: str, allowed: str, served: bool
) -> None:
    listener = socket.socket(socket.AF_INET6 if ":" in listen else socket.AF_INET)
    if ":" in listen:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind((listen, 0))
    listener.listen()
    running = Running([listener], echo, allowed=[ipaddress.ip_address(allowed)])
    try:
        family = socket.AF_INET6 if ":" in connect else socket.AF_INET
        with Front((connect, listener.getsockname()[1]), family=family) as front:
            if served:
                assert front.ask(b"over TCP").body == b"over TCP"
            else:
                assert front.read() == b""
                assert "not in listen_allowed_clients" in capfd.readouterr().err
    finally:
        running.close()
        listener.close()


def test_unix_socket_beside_allowed_clients_is_guarded_by_its_file(path: Path) -> None:
    with driving(path, allowed=[ipaddress.ip_address("192.0.2.1")]), Front(path) as front:
        assert front.ask().complete


def test_default_timeout_of_an_application_delays_nothing(path: Path) -> None:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [])
        for _ in range(5):
            yield b"piece"

    socket.setdefaulttimeout(5)
    try:
        with driving(path, application, timeouts=PATIENT), Front(path) as front:
            began = time.monotonic()
            assert front.ask(keep=True).body == b"piece" * 5
            assert front.ask().body == b"piece" * 5
            assert time.monotonic() - began < 4
    finally:
        socket.setdefaulttimeout(None)
