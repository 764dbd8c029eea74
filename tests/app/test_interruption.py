"""RequestTimeout in a request: 504 where nothing was sent, a visible cut where something was, close() in any case."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import gateway
from gateway.app.exchange import Result
from gateway.app.interruption import Interruption, RequestTimeout
from tests.app.memory import MemoryExchange, Served, answering

TEXT = [("Content-Type", "text/plain")]
current = Interruption()


def interrupt() -> None:
    """Do in the application what a signal does."""
    assert current.allowed
    current.interrupt()


def ask(served: Served) -> Result:
    """Ask in the thread that `current` is about."""
    exchange = MemoryExchange()
    exchange.interruption = current
    return served.ask(exchange)


def test_it_is_public_and_no_ordinary_exception() -> None:
    assert gateway.RequestTimeout is RequestTimeout
    assert not issubclass(RequestTimeout, Exception)


def test_before_the_first_byte_the_answer_is_504() -> None:
    served = Served(lambda environ, start_response: interrupt())
    assert ask(served) == Result(504, complete=True)
    assert served.exchange.body == b"Gateway Timeout\n"
    assert not current.allowed


def test_after_the_first_byte_the_answer_is_cut_and_the_body_closed() -> None:
    closed = []

    class Chunks:
        def __iter__(self) -> Iterator[bytes]:
            yield b"begun"
            interrupt()

        def close(self) -> None:
            closed.append(current.allowed)

    served = Served(answering(Chunks()))
    assert ask(served) == Result(200, complete=False)
    assert closed == [False]


def test_caught_before_the_first_byte_it_is_504_all_the_same() -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        with pytest.raises(RequestTimeout):
            interrupt()
        start_response("500 Internal Server Error", TEXT)
        return [b"an error page of the framework's own"]

    served = Served(application)
    assert ask(served) == Result(504, complete=True)


def test_caught_after_the_first_byte_the_rest_is_the_applications() -> None:
    def application(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        yield b"begun, "
        with pytest.raises(RequestTimeout):
            interrupt()
        yield b"ended"

    served = Served(application)
    assert ask(served) == Result(200, complete=True)
    assert served.exchange.body == b"begun, ended"


def test_the_next_request_knows_nothing_of_it() -> None:
    ask(Served(lambda environ, start_response: interrupt()))
    assert current.raised is not None
    assert ask(Served(answering([b"hello"]))) == Result(200, complete=True)
    assert current.raised is None
    assert not current.allowed
