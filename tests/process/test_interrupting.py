"""When the signal of the master raises RequestTimeout, and when it does not."""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Iterator

import pytest

import gateway.app.answer
from gateway.app.interruption import Interruption, RequestTimeout
from gateway.process import interrupting
from gateway.process.interrupting import INTERRUPT, Interrupter
from gateway.process.scoreboard import Row, Scoreboard, Slot

GET = {"REQUEST_METHOD": "GET", "REQUEST_URI": "/", "gateway.application": "a"}


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    board = Scoreboard(1, [""])
    yield board
    board.close()


@pytest.fixture
def row(board: Scoreboard) -> Row:
    """The row of a process that runs its first request."""
    [row] = Slot(board.fd, board.layout).take(0)
    row.begin(GET, "a")
    return row


@pytest.fixture
def raised() -> list[str]:
    """Empty once a request has been ended."""
    return ["not yet"]


@pytest.fixture
def current(row: Row, raised: list[str]) -> Iterator[Interruption]:
    """That process takes the signals, and its application runs."""
    current = Interruption()
    interrupting.obey(2, 5.0, Interrupter(row, current, raised.clear).on_signal)
    current.allowed = True
    yield current
    current.allowed = False
    signal.signal(INTERRUPT, signal.SIG_DFL)
    faulthandler.unregister(interrupting.WRITE_STACKS)


def send() -> None:
    os.kill(os.getpid(), INTERRUPT)


def test_the_request_that_is_meant_is_interrupted_once(
    board: Scoreboard, current: Interruption, raised: list[str]
) -> None:
    board.mean(0, 0, 0)
    with pytest.raises(RequestTimeout, match=r"request_terminate_timeout \(5 s\)"):
        send()
    assert raised == []
    send()


def test_another_request_is_not(board: Scoreboard, row: Row, current: Interruption) -> None:
    row.end(0, 200, None)
    row.begin(GET, "a")
    board.mean(0, 0, 0)
    send()
    assert current.raised is None


def test_none_is_while_no_application_runs(board: Scoreboard, row: Row, current: Interruption) -> None:
    current.allowed = False
    board.mean(0, 0, 0)
    send()
    assert current.raised is None


def test_between_steps_of_the_gateway_it_waits_for_the_next_signal(board: Scoreboard, current: Interruption) -> None:
    board.mean(0, 0, 0)
    of_the_gateway = compile("kill(pid, number)", gateway.app.answer.__file__, "exec")
    call = {"kill": os.kill, "pid": os.getpid(), "number": INTERRUPT}
    exec(of_the_gateway, call)
    assert current.raised is None
    with pytest.raises(RequestTimeout):
        exec(of_the_gateway, call)
