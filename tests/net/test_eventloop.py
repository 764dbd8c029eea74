"""A real `EventDriver` in a thread of the test, and a front-end that speaks to it byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.app import asyncdispatch
from gateway.app.asyncdispatch import AsyncDispatcher
from gateway.app.errors import ErrorStream
from gateway.app.routing import Site
from gateway.net.conversation import Timeouts
from gateway.net.eventloop import EventDriver, new_loop
from gateway.net.gate import Gate
from gateway.net.kept import KeptQueue
from gateway.net.noboard import NoBoard
from gateway.net.orders import LEAVE, STOP
from gateway.net.overdue import Overdue
from gateway.protocol import records
from gateway.protocol.client import encode_stdin
from gateway.protocol.fastcgi import FastCGIConnection
from gateway.protocol.scgi import SCGIConnection
from gateway.settings import Binding
from tests.app.asynchronous import Message, part, sending, start
from tests.net.driving import ABORT, PATIENT, Front, head, listening, stdin, whole
from tests.waiting import wait_until

Application = Callable[..., Any]
hello = sending(start(200, (b"content-type", b"text/plain")), part(b"hello"))


class Running:
    """A driver that serves in a thread until it is told otherwise."""

    def __init__(
        self,
        listener: socket.socket,
        application: Application,
        *,
        timeouts: Timeouts = PATIENT,
        protocol: str = "fastcgi",
        kept: KeptQueue | None = None,
        most: int = 100,
        patience: float = 10,
        **options: Any,
    ) -> None:
        self.log: list[str] = []
        self.slow: list[str] = []
        self.control, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        dispatcher = AsyncDispatcher(
            [(Binding(), Site("it", application))], errors=ErrorStream(self.log.append), log=self.log.append, **options
        )

        def connection() -> Any:
            if protocol == "scgi":
                return SCGIConnection(dispatcher.base)
            return FastCGIConnection(dispatcher.base, multiplex=True, max_reqs=most)

        self._loop = new_loop()
        self._driver = EventDriver(
            self._loop, [listener], self._theirs, connection, dispatcher, timeouts=timeouts, row=NoBoard(),
            gate=Gate(0, protocol), protocol=protocol, queue_timeout=0, overdue=Overdue(0, 0, self.slow.append),
            most=most, patience=patience, kept=kept,
        )  # fmt: skip
        self._driver.watch()
        self.thread = threading.Thread(target=self._driver.run, daemon=True)
        self.thread.start()

    def tell(self, message: bytes) -> None:
        self.control.send(message)

    def join(self, seconds: float = 10) -> None:
        self.thread.join(seconds)
        assert not self.thread.is_alive(), "the driver has not ended"

    def close(self) -> None:
        self.control.close()
        self.join(30)
        self._theirs.close()
        self._loop.close()


@contextlib.contextmanager
def driving(path: Path, application: Application = hello, **options: Any) -> Iterator[Running]:
    with listening(path) as listener:
        running = Running(listener, application, **options)
        try:
            yield running
        finally:
            running.close()


@pytest.fixture(params=["whole", "states"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether whole requests pass the connection's states by."""
    name: str = request.param
    if name == "states":
        monkeypatch.setattr(asyncdispatch, "_scope", None)
    return name


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


def test_hello_again_and_again_on_a_kept_connection(path: Path) -> None:
    with driving(path), Front(path) as front:
        for _ in range(5):
            answer = front.ask(keep=True)
            assert (answer.status, answer.body, answer.complete) == (b"Status: 200 OK", b"hello", True)
        assert front.is_open()


def test_connection_that_is_not_to_be_kept_is_closed(path: Path) -> None:
    with driving(path), Front(path) as front:
        front.send(whole())
        assert front.read().endswith(records.encode_end_request(1, 0, 0))


@pytest.mark.parametrize("size", [1, 7, 100])
def test_request_in_pieces(path: Path, size: int) -> None:
    with driving(path, echo), Front(path) as front:
        data = whole(b"a body", keep=True)
        for at in range(0, len(data), size):
            front.send(data[at : at + size])
        assert front.answer().body == b"a body"
        assert front.ask(keep=True).body == b""


async def echo(scope: Message, receive: Any, send: Any) -> None:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        if not message["more_body"]:
            break
    await send(start())
    await send(part(body))


def test_scgi(path: Path) -> None:
    with driving(path, echo, protocol="scgi"), Front(path) as front:
        front.send(head(protocol="scgi", REQUEST_METHOD="POST", CONTENT_LENGTH="3") + b"abc")
        assert front.read().endswith(b"\r\n\r\nabc")


def test_head_that_does_not_come_whole_in_time(path: Path) -> None:
    with driving(path, timeouts=Timeouts(head=0.1, body=20, response=20, keepalive=20)), Front(path) as front:
        front.send(whole()[:50])
        assert front.read() == b""


def test_idle_connection_is_closed_after_its_time(path: Path) -> None:
    with driving(path, timeouts=Timeouts(head=20, body=20, response=20, keepalive=0.1)), Front(path) as front:
        assert front.ask(keep=True).complete
        assert front.read() == b""


def test_body_that_stops_coming(path: Path) -> None:
    with driving(path, echo, timeouts=Timeouts(head=20, body=0.1, response=20, keepalive=20)), Front(path) as front:
        front.send(head(REQUEST_METHOD="POST", CONTENT_LENGTH="10") + encode_stdin("fastcgi", b"abc"))
        assert not front.answer().complete


@pytest.mark.parametrize("keep", [True, False])
def test_answer_before_the_body(path: Path, keep: bool) -> None:
    with driving(path), Front(path) as front:
        front.send(head(keep=keep, REQUEST_METHOD="POST", CONTENT_LENGTH="100000"))
        assert front.answer().body == b"hello"
        front.send(stdin(bytes(100_000)))
        if keep:
            assert front.ask(keep=True).body == b"hello"
        else:
            assert front.read() == b""


def test_violation_closes_the_connection(path: Path) -> None:
    with driving(path) as running, Front(path) as front:
        front.send(b"\x02" + bytes(20))
        assert front.read() == b""
        assert running.log == []  # it is the driver's own line


def silent(begun: threading.Event, ended: list[str]) -> Application:
    """Wait for ever, and say how that ended."""

    async def application(scope: Message, receive: Any, send: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    return application


@pytest.mark.parametrize("how", ["abort", "close"])
def test_request_that_outlives_its_client_is_cancelled(path: Path, how: str) -> None:
    begun, ended = threading.Event(), list[str]()
    with driving(path, silent(begun, ended)) as running:
        with Front(path) as front:
            front.send(whole(keep=True))
            assert begun.wait(10)
            if how == "abort":
                front.send(ABORT)
                wait_until(lambda: ended)
                assert front.answer().complete, "FastCGI 1.0 §5.4"
        wait_until(lambda: ended)
        assert running.log == []


def test_several_requests_on_a_connection(path: Path) -> None:
    """Their records are mixed, and the last to begin is the first to be answered."""
    gates: dict[str, asyncio.Event] = {}
    running_loop: list[asyncio.AbstractEventLoop] = []

    async def application(scope: Message, receive: Any, send: Any) -> None:
        running_loop.append(asyncio.get_running_loop())
        gates[scope["path"]] = asyncio.Event()
        await gates[scope["path"]].wait()
        await echo(scope, receive, send)

    with driving(path, application), Front(path) as front:
        for number in (1, 2, 3):
            data = whole(b"body %d" % number, keep=True, PATH_INFO=f"/{number}", REQUEST_URI=f"/{number}")
            front.send(with_id(data, number))
        wait_until(lambda: len(gates) == 3)
        for number in (3, 1, 2):
            running_loop[0].call_soon_threadsafe(gates[f"/{number}"].set)
            received = b""
            while not received.endswith(records.encode_end_request(number, 0, 0)):
                received += front.socket.recv(65_536)
            assert b"body %d" % number in received


def with_id(data: bytes, number: int) -> bytes:
    """The same records of another request."""
    changed, at = bytearray(data), 0
    while at < len(changed):
        changed[at + 2 : at + 4] = number.to_bytes(2, "big")
        at += 8 + int.from_bytes(changed[at + 4 : at + 6], "big") + changed[at + 6]
    return bytes(changed)


def test_management_records(path: Path) -> None:
    with driving(path, most=7), Front(path) as front:
        names = [("FCGI_MAX_REQS", ""), ("FCGI_MPXS_CONNS", "")]
        front.send(records.encode_record(records.GET_VALUES, 0, records.encode_params(names)))
        values = records.encode_params([("FCGI_MAX_REQS", "7"), ("FCGI_MPXS_CONNS", "1")])
        assert values in front.socket.recv(1000)
        assert front.ask(keep=True).body == b"hello"


def test_body_that_nobody_reads_is_kept_in_a_file_where_others_come_behind_it(path: Path) -> None:
    body = os.urandom(1_000_000)
    go_on = threading.Event()

    async def application(scope: Message, receive: Any, send: Any) -> None:
        if scope["method"] == "GET":
            await hello(scope, receive, send)
            return
        while not go_on.is_set():
            await asyncio.sleep(0.01)
        found = hashlib.sha256()
        while True:
            message = await receive()
            found.update(message["body"])
            if not message["more_body"]:
                break
        await send(start())
        await send(part(found.hexdigest().encode()))

    with driving(path, application), Front(path) as front:
        front.send(with_id(whole(body, keep=True), 2))
        front.send(with_id(whole(keep=True), 3))
        received = b""
        while not received.endswith(records.encode_end_request(3, 0, 0)):
            received += front.socket.recv(65_536)
        assert b"hello" in received
        go_on.set()
        received = b""
        while not received.endswith(records.encode_end_request(2, 0, 0)):
            received += front.socket.recv(65_536)
        assert hashlib.sha256(body).hexdigest().encode() in received


def test_large_answer_waits_for_its_reader(path: Path) -> None:
    sent: list[int] = []

    async def application(scope: Message, receive: Any, send: Any) -> None:
        await send(start())
        for number in range(100):
            await send(part(bytes(100_000), more=True))
            sent.append(number)
        await send(part())

    with driving(path, application), Front(path) as front:
        front.send(whole())
        first = front.socket.recv(1)
        wait_until(lambda: sent)
        assert len(sent) < 50
        assert len(first + front.read()) > 10_000_000


def test_leaving_hands_idle_connections_on(path: Path) -> None:
    kept = KeptQueue.create()
    with driving(path, kept=kept) as running, Front(path) as front:
        assert front.ask(keep=True).complete
        running.tell(LEAVE)
        running.join()
        assert kept.waiting() == 1
        with driving(path.with_name("other"), kept=kept):
            assert front.ask(keep=True).body == b"hello"
    kept.close()


def test_stop_finishes_what_runs_and_closes_what_is_idle(path: Path) -> None:
    go_on = threading.Event()

    async def application(scope: Message, receive: Any, send: Any) -> None:
        while scope["path"] == "/slow" and not go_on.is_set():
            await asyncio.sleep(0.01)
        await hello(scope, receive, send)

    with driving(path, application) as running, Front(path) as idle, Front(path) as busy:
        assert idle.ask(keep=True).complete
        busy.send(whole(keep=True, PATH_INFO="/slow", REQUEST_URI="/slow"))
        running.tell(STOP)
        assert idle.read() == b""
        go_on.set()
        assert busy.answer().body == b"hello"
        running.join()


def test_what_does_not_end_is_ended_on_leaving(path: Path) -> None:
    begun, ended = threading.Event(), list[str]()
    with driving(path, silent(begun, ended), patience=0.2) as running, Front(path) as front:
        front.send(whole(keep=True))
        assert begun.wait(10)
        running.tell(STOP)
        assert front.answer().status == b"Status: 503 Service unavailable"
        running.join()
        assert ended == ["cancelled"]


def test_more_requests_than_may_run_wait(path: Path) -> None:
    running_now, most, go_on = [0], [0], threading.Event()

    async def application(scope: Message, receive: Any, send: Any) -> None:
        running_now[0] += 1
        most[0] = max(most[0], running_now[0])
        while not go_on.is_set():
            await asyncio.sleep(0.01)
        running_now[0] -= 1
        await hello(scope, receive, send)

    with driving(path, application, most=2), contextlib.ExitStack() as stack:
        fronts = [stack.enter_context(Front(path)) for _ in range(6)]
        for front in fronts:
            front.send(whole(keep=True))
        wait_until(lambda: running_now[0] == 2)
        go_on.set()
        assert {front.answer().body for front in fronts} == {b"hello"}
        assert most[0] == 2
