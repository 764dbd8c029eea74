"""What an ASGI application may do with receive and send, and what becomes of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.app.asgi import ASGIError, ClientGone
from gateway.app.environ import Rejected
from gateway.app.exchange import Result
from gateway.settings import Binding
from tests.app.asynchronous import MemoryAsyncExchange, Message, Served, part, sending, start

TEXT = (b"content-type", b"text/plain")


async def forever() -> None:
    await asyncio.Event().wait()


# -- answers -----------------------------------------------------------------------------------------------------------


def test_small_answer_is_one_piece_and_its_length_is_announced() -> None:
    exchange = Served(sending(start(200, TEXT), part(b"hello"))).ask()
    assert exchange.sent == [b"Status: 200 OK\r\ncontent-type: text/plain\r\nContent-Length: 5\r\n\r\nhello"]
    assert exchange.result == Result(200, complete=True)
    assert (exchange.result.size, exchange.begun) == (5, [("a.example", 0)])


def test_length_that_the_application_sends_stays() -> None:
    exchange = Served(sending(start(200, (b"content-length", b"5")), part(b"hello"))).ask()
    assert exchange.head == b"Status: 200 OK\r\ncontent-length: 5"


def test_head_is_kept_back_until_the_first_part_and_parts_go_out_at_once() -> None:
    exchange = Served(sending(start(), part(more=True), part(b"a", more=True), part(more=True), part(b"b"))).ask()
    assert exchange.sent == [b"Status: 200 OK\r\n\r\n", b"a", b"b"]
    assert exchange.result.size == 2


@pytest.mark.parametrize(("status", "line"), [(404, b"404 Not Found"), (299, b"299"), (599, b"599")])
def test_status(status: int, line: bytes) -> None:
    assert Served(sending(start(status), part(b"x"))).ask().head.splitlines()[0] == b"Status: " + line


@pytest.mark.parametrize("body", [bytearray(b"hello"), memoryview(b"hello")])
def test_other_kinds_of_bytes(body: Any) -> None:
    assert Served(sending(start(), part(body))).ask().body == b"hello"


def test_headers_may_be_lists_and_those_of_the_connection_are_dropped() -> None:
    async def application(scope: Message, receive: Any, send: Any) -> None:
        headers = [[b"x-a", b"1"], [b"connection", b"keep-alive"], [b"transfer-encoding", b"chunked"]]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send(part(b"x"))

    assert Served(application).ask().head == b"Status: 200 OK\r\nx-a: 1\r\nContent-Length: 1"


def test_headers_and_body_may_be_left_out() -> None:
    application = sending({"type": "http.response.start", "status": 200}, {"type": "http.response.body"})
    assert Served(application).ask().answer == b"Status: 200 OK\r\nContent-Length: 0\r\n\r\n"


def test_head_request_gets_no_body() -> None:
    exchange = Served(sending(start(), part(b"hello"))).ask(method="HEAD")
    assert exchange.answer == b"Status: 200 OK\r\nContent-Length: 5\r\n\r\n"
    assert exchange.result.complete


def test_length_of_an_empty_body_on_head_is_not_announced() -> None:
    assert Served(sending(start(), part())).ask(method="HEAD").answer == b"Status: 200 OK\r\n\r\n"


def test_stream_on_head_is_over_with_its_first_part() -> None:
    served = Served(sending(start(), part(b"a", more=True), part(b"b")))
    exchange = served.ask(method="HEAD")
    assert (exchange.answer, served.log) == (b"Status: 200 OK\r\n\r\n", [])
    served = Served(sending(start(), *[part(b"a", more=True)] * 3))
    assert served.ask(method="HEAD").result.complete
    assert served.log == []


@pytest.mark.parametrize("status", [204, 304])
def test_status_without_a_body(status: int) -> None:
    assert Served(sending(start(status), part(b"x"))).ask().body == b""


def test_large_body_goes_out_in_slices_each_in_its_turn() -> None:
    body = bytes(range(256)) * 1024
    exchange = MemoryAsyncExchange(leaves_after=100)  # not free after each
    Served(sending(start(), part(body))).ask(exchange)
    assert [len(piece) for piece in exchange.sent[1:]] == [65_536] * 3
    assert (exchange.body, exchange.drained) == (body, 3)


# -- what is wrong with an answer --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([part(b"x")], "sent http.response.body before http.response.start"),
        ([start(), start()], "sent http.response.start twice"),
        ([start(), {"type": "http.response.trailers"}], "sent http.response.trailers, which a request has not"),
        ([start(), part("text")], "sent a body of type str, not bytes"),  # type: ignore[arg-type]
        ([start(200, ("a", "b"))], "not a list of (name, value) in bytes"),  # type: ignore[arg-type]
        ([start(200, (b"a\r\n", b"b"))], "is no header name"),
        ([start(200, (b"a", b"b\n"))], "not a string without control characters"),
        ([start(200, (b"content-length", b"x"))], "not a number of bytes"),
        ([start("200 OK")], "the status is"),  # type: ignore[arg-type]
        ([start()], "the application returned without an answer"),
        ([], "the application returned without an answer"),
    ],
)
def test_mistake_is_a_whole_500_and_one_line(messages: list[Message], said: str) -> None:
    served = Served(sending(*messages))
    exchange = served.ask()
    assert exchange.head.startswith(b"Status: 500 Internal Server Error")
    assert (exchange.result.status, exchange.result.complete, exchange.failed) == (500, True, False)
    [line] = served.log
    assert line.startswith("GET a.example:8080/hello: ")
    assert said in line


def test_answer_that_is_not_ended_is_cut() -> None:
    served = Served(sending(start(), part(b"a", more=True)))
    exchange = served.ask()
    assert exchange.failed
    assert exchange.result == Result(200, complete=False)
    assert served.log == ["GET a.example:8080/hello: the application returned before the last part of its answer"]


def test_part_after_the_last_is_a_mistake_that_costs_nothing() -> None:
    served = Served(sending(start(), part(b"a"), part(b"b")))
    exchange = served.ask()
    assert (exchange.body, exchange.result.complete) == (b"a", True)
    assert "sent http.response.body after the last part of its answer" in served.log[0]


@pytest.mark.parametrize("more", [True, False])
def test_body_that_is_longer_than_its_length_is_cut_there(more: bool) -> None:
    served = Served(sending(start(200, (b"content-length", b"3")), part(b"hello", more=more), *[part()] * more))
    exchange = served.ask()
    assert (exchange.body, exchange.result.complete) == (b"hel", True)
    assert "the body is longer than its Content-Length, and was cut there" in served.log[0]


@pytest.mark.parametrize("parts", [[part(b"hel")], [part(b"he", more=True), part(b"l")]])
def test_body_that_is_shorter_than_its_length_is_cut_visibly(parts: list[Message]) -> None:
    served = Served(sending(start(200, (b"content-length", b"5")), *parts))
    exchange = served.ask()
    assert (exchange.body, exchange.failed, exchange.result.complete) == (b"hel", True, False)
    assert "the body ended 2 bytes before its Content-Length" in served.log[0]


@pytest.mark.parametrize("error", [LookupError("on purpose"), SystemExit(3), asyncio.CancelledError()])
def test_exception_before_the_first_part(error: BaseException) -> None:
    async def application(scope: Message, receive: Any, send: Any) -> None:
        await send(start())
        raise error

    served = Served(application)
    exchange = served.ask()
    assert exchange.result == Result(500, complete=True)
    assert served.log[0] == "GET a.example:8080/hello: unhandled exception"
    assert type(error).__name__ in served.log[-1]
    assert "gateway" not in served.log[2]


def test_exception_after_the_first_part_cuts_the_answer() -> None:
    async def application(scope: Message, receive: Any, send: Any) -> None:
        await send(start())
        await send(part(b"a", more=True))
        raise LookupError

    exchange = Served(application).ask()
    assert (exchange.failed, exchange.body) == (True, b"a")


def test_exception_after_the_answer_is_logged() -> None:
    async def application(scope: Message, receive: Any, send: Any) -> None:
        await send(start())
        await send(part(b"a"))
        raise LookupError

    served = Served(application)
    assert served.ask().result.complete
    assert served.log[0] == "GET a.example:8080/hello: unhandled exception after its answer"


# -- requests ----------------------------------------------------------------------------------------------------------


def receiving(exchange: MemoryAsyncExchange, times: int, **params: str) -> tuple[list[Message], Served]:
    """What so many calls of receive() give, and an answer after that."""
    messages: list[Message] = []

    async def application(scope: Message, receive: Any, send: Any) -> None:
        for _ in range(times):
            messages.append(await receive())
        await send(start())
        await send(part())

    served = Served(application, max_body=10)
    served.ask(exchange, "POST", **params)
    return messages, served


def request(body: bytes, *, more: bool = False) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


@pytest.mark.parametrize(
    ("pieces", "length", "expected"),
    [
        ([], "", [request(b"")]),
        ([], "0", [request(b"")]),
        ([b"abc"], "3", [request(b"abc")]),
        ([b"abc"], "", [request(b"abc")]),
        ([b"ab", b"c"], "3", [request(b"ab", more=True), request(b"c")]),
        ([b"ab", b"c"], "", [request(b"ab", more=True), request(b"c")]),
        ([b"abcdef"], "3", [request(b"abc")]),
    ],
)
def test_body(pieces: list[bytes], length: str, expected: list[Message]) -> None:
    exchange = MemoryAsyncExchange(*pieces)
    messages, _ = receiving(exchange, len(expected), CONTENT_LENGTH=length)
    assert messages == expected
    assert exchange.result == Result(200, complete=True)


def test_body_whose_end_comes_later() -> None:
    class Late(MemoryAsyncExchange):
        is_read = False

    messages, _ = receiving(Late(b"abc"), 2)
    assert messages == [request(b"abc", more=True), request(b"")]


def test_receive_waits_for_what_is_not_there_yet() -> None:
    async def application(scope: Message, receive: Any, send: Any) -> None:
        assert await receive() == request(b"abc")
        await send(start())
        await send(part())

    async def run() -> None:
        served, exchange = Served(application), MemoryAsyncExchange(cut=True)
        call = served.call(exchange, "POST", CONTENT_LENGTH="3")
        assert call is not None
        task = asyncio.create_task(call.run())
        await asyncio.sleep(0)
        exchange.pieces.append(b"abc")
        exchange.changed.set()
        await asyncio.wait_for(task, 5)
        assert exchange.result.complete

    asyncio.run(run())


def test_cut_body_is_a_disconnect_and_no_answer() -> None:
    messages: list[Message] = []

    async def application(scope: Message, receive: Any, send: Any) -> None:
        messages.append(await receive())
        messages.append(await receive())
        raise ConnectionError("the client left")

    served = Served(application)
    exchange = served.ask(MemoryAsyncExchange(b"ab"), "POST", CONTENT_LENGTH="3")
    assert messages == [request(b"ab", more=True), {"type": "http.disconnect"}]
    assert (exchange.failed, exchange.sent) == (True, [])
    assert served.log == ["POST a.example:8080/hello: the request's body ended 1 bytes before its CONTENT_LENGTH"]


def test_application_that_returns_after_a_cut_body() -> None:
    async def application(scope: Message, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "http.disconnect"

    served = Served(application)
    assert served.ask(MemoryAsyncExchange(), "POST", CONTENT_LENGTH="3").failed
    assert len(served.log) == 1


@pytest.mark.parametrize("catches", [False, True])
def test_body_over_max_body_is_413_whatever_the_application_makes_of_it(catches: bool) -> None:
    async def application(scope: Message, receive: Any, send: Any) -> None:
        try:
            while True:
                await receive()
        except Rejected:
            if not catches:
                raise
        await send(start(500))
        await send(part(b"caught"))

    served = Served(application, max_body=5)
    exchange = served.ask(MemoryAsyncExchange(b"abc", b"def"), "POST")
    assert exchange.head.startswith(b"Status: 413")
    assert served.log == ["POST a.example:8080/hello: the request's body is larger than max_body"]


def test_length_over_max_body_is_413_without_the_application() -> None:
    served = Served(None, max_body=5, entries=[(Binding(), _site(sending()))])
    exchange = served.ask(MemoryAsyncExchange(), "POST", CONTENT_LENGTH="6")
    assert exchange.result == Result(413, complete=True)
    assert served.log == ["answered 413 Content Too Large: CONTENT_LENGTH is 6, max_body 5"]


def _site(application: Any) -> Any:
    from gateway.app.routing import Site

    return Site("it", application)


def test_nothing_is_bound() -> None:
    served = Served(None, entries=[])
    exchange = served.ask(method="HEAD")
    assert exchange.answer.endswith(b"\r\n\r\n")
    assert exchange.result == Result(503, complete=True)
    assert served.dispatcher.lifespans == ()


def test_application_that_could_not_be_loaded() -> None:
    served = Served(None)
    assert served.ask().result == Result(503, complete=True)
    assert served.log == ["answered 503 Service unavailable: application 'it' is not running"]


# -- clients that leave, and deadlines ---------------------------------------------------------------------------------


def test_receive_tells_of_the_end_of_the_answer_and_of_the_client() -> None:
    messages: list[Message] = []

    async def application(scope: Message, receive: Any, send: Any) -> None:
        messages.append(await receive())
        await send(start())
        await send(part())
        messages.append(await receive())

    Served(application).ask()
    assert messages == [request(b""), {"type": "http.disconnect"}]


def test_receive_waits_for_the_client_to_leave() -> None:
    messages: list[Message] = []

    async def application(scope: Message, receive: Any, send: Any) -> None:
        messages.append(await receive())
        asyncio.get_running_loop().call_soon(exchange.leave)
        messages.append(await receive())

    exchange = MemoryAsyncExchange()
    served = Served(application)
    served.ask(exchange)
    assert messages == [request(b""), {"type": "http.disconnect"}]
    assert (exchange.failed, served.log) == (True, [])


def test_send_raises_what_is_an_os_error_when_the_client_has_left() -> None:
    raised: list[BaseException] = []

    async def application(scope: Message, receive: Any, send: Any) -> None:
        await send(start())
        try:
            while True:
                await send(part(b"x" * 100_000, more=True))
        except OSError as error:
            raised.append(error)
            raise RuntimeError("its own") from error

    served = Served(application)
    exchange = served.ask(MemoryAsyncExchange(leaves_after=3))
    assert isinstance(raised[0], ClientGone)
    assert (exchange.failed, served.log) == (True, [])


def test_answer_to_nobody() -> None:
    async def application(scope: Message, receive: Any, send: Any) -> None:
        exchange.leave()
        await send(start())
        await send(part(b"x"))

    exchange = MemoryAsyncExchange()
    served = Served(application)
    served.ask(exchange)
    assert (exchange.sent, exchange.failed, served.log) == ([], True, [])


def test_other_exceptions_are_logged_though_the_client_has_left() -> None:
    async def application(scope: Message, receive: Any, send: Any) -> None:
        exchange.leave()
        raise LookupError("on purpose")

    exchange = MemoryAsyncExchange()
    served = Served(application)
    served.ask(exchange)
    assert served.log[-1] == "LookupError: on purpose"


def cancelled(application: Any, *, answers: int = 0) -> tuple[MemoryAsyncExchange, Served]:
    """A request that runs into its deadline, where its application waits for the first time."""

    async def run() -> tuple[MemoryAsyncExchange, Served]:
        served, exchange = Served(application), MemoryAsyncExchange()
        call = served.call(exchange)
        assert call is not None
        task = asyncio.create_task(call.run())
        await asyncio.sleep(0)
        call.end_early(504)
        exchange.cancelled = True
        task.cancel()
        await asyncio.wait_for(task, 5)
        return exchange, served

    return asyncio.run(run())


def test_deadline_before_the_first_part_is_504() -> None:
    async def application(scope: Message, receive: Any, send: Any) -> None:
        await forever()

    exchange, served = cancelled(application)
    assert exchange.result == Result(504, complete=True)
    assert (exchange.have_returned, served.log) == (1, [])


def test_deadline_after_the_first_part_cuts_the_answer() -> None:
    async def application(scope: Message, receive: Any, send: Any) -> None:
        await send(start())
        await send(part(b"a", more=True))
        await forever()

    exchange, _ = cancelled(application)
    assert (exchange.failed, exchange.body) == (True, b"a")


def test_deadline_after_the_answer_changes_nothing() -> None:
    async def application(scope: Message, receive: Any, send: Any) -> None:
        await send(start())
        await send(part(b"a"))
        await forever()

    exchange, served = cancelled(application)
    assert (exchange.body, exchange.result.complete, served.log) == (b"a", True, [])


def test_application_that_answers_after_its_deadline() -> None:
    async def application(scope: Message, receive: Any, send: Any) -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            await send(start())
            await send(part(b"late"))

    exchange, served = cancelled(application)
    assert (exchange.result.status, served.log) == (504, [])


def test_loop_that_is_closed() -> None:
    async def application(scope: Message, receive: Any, send: Any) -> None:
        await forever()

    async def run() -> MemoryAsyncExchange:
        exchange = MemoryAsyncExchange()
        call = Served(application).call(exchange)
        assert call is not None
        running = call.run()
        running.send(None)
        running.close()
        return exchange

    exchange = asyncio.run(run())
    assert (exchange.have_returned, exchange.results) == (1, [])


def test_errors_are_exceptions_of_their_own() -> None:
    assert issubclass(ClientGone, OSError)
    assert not issubclass(ASGIError, OSError)


# -- what send returns ------------------------------------------------------------------------------------------------


def test_what_send_returns_is_a_coroutine_as_far_as_anybody_looks() -> None:
    """An application may make a task of it, or several at once."""

    async def application(scope: Message, receive: Any, send: Any) -> None:
        await asyncio.create_task(send(start(201)))
        await asyncio.gather(send(part(b"a", more=True)), send(part(b"b")))

    exchange = Served(application).ask()
    assert (exchange.result.status, b"".join(exchange.sent)[-2:]) == (201, b"ab")


def test_what_send_returns_can_be_left_alone_and_closed() -> None:
    seen: list[object] = []

    async def application(scope: Message, receive: Any, send: Any) -> None:
        done = send(start())
        seen.append(asyncio.iscoroutine(done))
        done.close()
        with pytest.raises(KeyError):
            done.throw(KeyError("x"))
        await send(part(b"a"))

    assert Served(application).ask().result.complete
    assert seen == [True]
