"""One request on a connection: bodies that end early, answers that fail, front-ends that leave or abort."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.app.exchange import BodyCutShort, Disconnected
from gateway.app.interruption import Interruption
from gateway.net.conversation import Conversation, Timeouts
from gateway.net.stream import Stream
from gateway.protocol import records
from gateway.protocol.client import encode_stdin
from gateway.protocol.events import RequestHead
from gateway.protocol.fastcgi import FastCGIConnection
from tests.net.driving import ABORT, PATIENT, Board, Front, driving, echo, head, stdin, whole
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("way")

CUT = bytes(records.HEADER_SIZE)  # the record of version 0 that shows a failure


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


class Streaming:
    """Sends a piece every 5 ms until it is closed."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if environ["REQUEST_METHOD"] == "POST":
            return echo(environ, start_response)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return self

    def __iter__(self) -> Iterator[bytes]:
        while not self.closed.wait(0.005):
            yield b"piece"

    def close(self) -> None:
        self.closed.set()


class Reading:
    """Keeps what became of reading the body, and lets the error go on; `first` is sent before."""

    def __init__(self, first: bytes = b"") -> None:
        self.read: list[bytes | BodyCutShort] = []
        self.first = first

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        if self.first:
            write(self.first)
        try:
            self.read.append(environ["wsgi.input"].read())
        except BodyCutShort as error:
            self.read.append(error)
            raise
        return [b"complete"]


# -- bodies that end early --------------------------------------------------------------------------------------------


def leave(front: Front) -> None:
    front.socket.shutdown(socket.SHUT_WR)


def end_too_early(front: Front) -> None:
    front.send(stdin())


def fall_silent(front: Front) -> None:
    """Nothing more is sent."""


def break_the_protocol(front: Front) -> None:
    front.send(b"nonsense")


def abort(front: Front) -> None:
    front.send(ABORT)


@pytest.mark.parametrize("ending", [leave, end_too_early, fall_silent, break_the_protocol, abort])
@pytest.mark.parametrize("first", [b"", b"begun"])
def test_cut_body_raises_and_the_answer_is_no_whole_one(
    path: Path, ending: Callable[[Front], None], first: bytes
) -> None:
    application = Reading(first)
    patience = 0.2 if ending is fall_silent else 20
    with driving(path, application, timeouts=Timeouts(20, patience, 20, 20)) as running, Front(path) as front:
        front.send(head(REQUEST_METHOD="POST", CONTENT_LENGTH="100") + encode_stdin("fastcgi", b"ten bytes."))
        assert first in front.socket.recv(65_536 if first else 0)
        wait_until(lambda: running.board.begun)  # a request that is aborted before it runs never does
        ending(front)
        received = front.read()
    assert [type(read) for read in application.read] == [BodyCutShort]
    assert b"complete" not in received
    ended = records.encode_end_request(1, 0, 0)
    if ending is abort:
        assert received.endswith(ended)
    else:
        assert received.endswith(CUT)
        assert ended not in received


def test_answer_begun_reaches_a_front_that_waits_for_it_before_the_body(path: Path) -> None:
    with driving(path, Reading(b"begun")), Front(path) as front:
        front.send(head(REQUEST_METHOD="POST", CONTENT_LENGTH="4"))
        assert b"begun" in front.socket.recv(65_536)
        front.send(stdin(b"body"))
        answer = front.answer()
        assert (answer.complete, answer.out) == (True, b"complete")


# -- answers that fail ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [False, True])
def test_failure_after_the_first_byte_is_shown_by_a_record_of_version_0(path: Path, keep: bool) -> None:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"begun"
        raise RuntimeError("too late for a 500")

    with driving(path, application) as running, Front(path) as front:
        front.send(whole(keep=keep))
        received = front.read()
        assert b"begun" in received
        assert received.endswith(CUT)
        assert any("too late for a 500" in line for line in running.log)


def test_failure_before_the_first_byte_is_a_whole_500(path: Path) -> None:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        raise RuntimeError("early enough")

    with driving(path, application), Front(path) as front:
        answer = front.ask(keep=True)
        assert (answer.status[:11], answer.complete) == (b"Status: 500", True)
        assert b"early enough" in answer.error
        assert front.ask().complete


# -- front-ends that abort or leave -----------------------------------------------------------------------------------


def test_abort_ends_a_streaming_answer_and_keeps_the_connection(path: Path) -> None:
    application = Streaming()
    with driving(path, application), Front(path) as front:
        front.send(whole(keep=True))
        assert b"piece" in front.socket.recv(65_536)
        front.send(ABORT)
        assert front.answer().complete
        assert application.closed.is_set()
        assert front.ask(b"next", keep=True).body == b"next"


def test_abort_beside_the_head_is_ended_and_keeps_the_connection(path: Path) -> None:
    with driving(path, echo), Front(path) as front:
        front.send(whole(keep=True) + ABORT)
        assert front.answer().complete
        assert front.ask(b"next", keep=True).body == b"next"


def test_front_that_leaves_a_streaming_answer_closes_it(path: Path) -> None:
    application = Streaming()
    with driving(path, application):
        with Front(path) as front:
            front.send(whole())
            assert b"piece" in front.socket.recv(65_536)
        assert application.closed.wait(15)


def test_front_that_closes_its_side_after_the_body_gets_its_answer(path: Path) -> None:
    with driving(path, echo), Front(path) as front:
        front.send(whole(b"data", keep=True))
        leave(front)
        assert front.answer().body == b"data"
        assert front.read() == b""


# -- by itself --------------------------------------------------------------------------------------------------------


@pytest.fixture
def ends() -> Iterator[tuple[Conversation, socket.socket]]:
    front, ours = socket.socketpair()
    connection = FastCGIConnection({})
    event, *rest = connection.receive_data(whole())
    assert isinstance(event, RequestHead)
    with front, ours:
        conversation = Conversation(
            Stream(ours), connection, event.id, rest, timeouts=PATIENT, board=Board(), interruption=Interruption()
        )
        yield conversation, front


def test_small_answer_is_one_write(ends: tuple[Conversation, socket.socket]) -> None:
    conversation, front = ends
    conversation.send(b"Status: 200 OK\r\n\r\n")
    conversation.send(b"body")
    front.setblocking(False)
    with pytest.raises(BlockingIOError):
        front.recv(1)
    assert conversation.finish()
    assert front.recv(65_536).endswith(records.encode_end_request(1, 0, 0))


def test_large_answer_is_not_kept_back(ends: tuple[Conversation, socket.socket]) -> None:
    conversation, front = ends
    conversation.send(b"x" * 65_536)
    assert front.recv(65_536, socket.MSG_DONTWAIT)


def test_nothing_is_kept_for_a_front_that_is_gone(ends: tuple[Conversation, socket.socket]) -> None:
    conversation, front = ends
    front.close()
    with pytest.raises(Disconnected, match="gone"):
        conversation.send(b"x" * 65_536)
    for _ in range(100):
        conversation.stderr("y" * 65_536)
    assert conversation._answer == []
    assert not conversation.finish()
    assert not conversation.fail()
