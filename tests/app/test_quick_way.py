"""What the dispatcher notes of hosts for the quick way, and how it goes on where that has ended."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

from gateway.app.body import RequestBody
from gateway.app.dispatch import Dispatcher, Site
from gateway.app.errors import ErrorStream
from gateway.app.routing import ByPath, Known
from gateway.app.wsgi import Raised, Response, RestOfBody
from gateway.settings import Binding
from tests.app.memory import NGINX, MemoryExchange, Served, answering

APPLICATION = answering([b"answer"])


def noting(*bindings: Binding, application: Callable[..., Any] | None = APPLICATION) -> Served:
    """A dispatcher that notes hosts."""
    served = Served(entries=[(binding, Site("it", application, label=3)) for binding in bindings])
    served.dispatcher.router.notes_hosts = True
    return served


def test_a_host_is_known_after_its_first_request() -> None:
    served = noting(Binding(hostname="*.example"))
    served.ask(HTTP_HOST="A.example.:8080", SERVER_NAME="")
    known = Known(APPLICATION, "it", 3, "a.example", "A.example.")
    assert served.dispatcher.router.hosts == {"A.example.:8080": {"8080": known}}


@pytest.mark.parametrize(
    "bindings",
    [
        (Binding(hostname="a.example", path="/hello"), Binding(hostname="a.example")),  # of which the path decides
        (Binding(hostname="a.example", path="/"),),  # where the front-end's prefix is not one
        (Binding(hostname="a.example", port=8080, path="/hello"), Binding(hostname="*")),
    ],
)
def test_of_a_host_with_paths_it_is_known_that_they_decide(bindings: tuple[Binding, ...]) -> None:
    served = noting(*bindings)
    assert served.ask().status == 200
    assert isinstance(served.dispatcher.router.hosts[NGINX["HTTP_HOST"]][NGINX["SERVER_PORT"]], ByPath)


@pytest.mark.parametrize("bound", ["*", "*.example", "a.example"])
@pytest.mark.parametrize("port", ["*", 8080])
def test_whatever_binds_all_paths(bound: str, port: int | str) -> None:
    served = noting(
        Binding(hostname=bound, port=port), Binding(hostname="b.example"), Binding(hostname="*.b.example", path="/x")
    )
    served.ask()
    assert list(served.dispatcher.router.hosts) == ["a.example:8080"]


def test_a_request_without_host_and_an_application_that_is_not_there() -> None:
    served = noting(Binding())
    served.ask(HTTP_HOST=None)
    assert served.dispatcher.router.hosts == {}
    served = noting(Binding(), application=None)
    assert served.ask().status == 503
    assert served.dispatcher.router.hosts == {}


def test_a_quick_way_can_ask_before_it_serves() -> None:
    router = noting(Binding(hostname="a.example")).dispatcher.router
    found = [router.known({"HTTP_HOST": host, "SERVER_PORT": "80"}) for host in ("a.example", "b.example", "a/b")]
    assert list(map(type, found)) == [Known, ByPath, type(None)]
    assert [list(ports.values()) for ports in router.hosts.values()] == [[found[0]], [found[1]]]


def test_what_is_known_is_bounded() -> None:
    served = noting(Binding())
    for number in range(2_500):
        served.ask(HTTP_HOST=f"host{number}.example")
        assert len(served.dispatcher.router.hosts) <= 1_000
    for port in range(1, 100):
        served.ask(SERVER_PORT=str(port))
        assert len(served.dispatcher.router.hosts[NGINX["HTTP_HOST"]]) <= 16


def going_on(outcome: Any) -> tuple[MemoryExchange, list[str], Any]:
    """What becomes of a request whose application has started its answer, and returned or raised."""
    log: list[str] = []
    dispatcher = Dispatcher([], errors=ErrorStream(log.append), log=log.append)
    exchange = MemoryExchange()
    response = Response(exchange, head_only=False)
    response.start_response("200 OK", [])
    result = dispatcher.go_on(response, {"REQUEST_METHOD": "GET", "REQUEST_URI": "/"}, outcome)
    assert dispatcher.errors.exchange is None
    return exchange, log, result


def test_it_goes_on_with_what_was_returned() -> None:
    exchange, log, result = going_on(iter([b"one, ", b"two"]))
    assert (exchange.body, log, result.status, result.complete) == (b"one, two", [], 200, True)


def test_it_goes_on_with_what_was_raised() -> None:
    exchange, log, result = going_on(Raised(LookupError("not there")))
    assert (result.status, result.complete) == (500, True)
    assert exchange.head.startswith(b"Status: 500 ")
    assert log[0] == "GET /: unhandled exception"
    assert log[-1] == "LookupError: not there"


def test_a_body_that_is_all_there() -> None:
    body = RequestBody.whole(b"one\ntwo")
    assert [body.readline(), body.read(1), body.read(), body.read(), body.readline()] == [
        b"one\n", b"t", b"wo", b"", b""
    ]  # fmt: skip
    assert RequestBody.whole().read() == b""


def test_it_goes_on_with_what_is_left_of_a_body() -> None:
    closed: list[str] = []
    body = io.BytesIO()
    body.close = lambda: closed.append("closed")  # type: ignore[method-assign]
    exchange, log, result = going_on(RestOfBody(body, [b"one, "], iter([b"two"]), None))
    assert (exchange.body, log, result.complete, closed) == (b"one, two", [], True, ["closed"])
    exchange, log, result = going_on(RestOfBody(None, [], iter(()), LookupError("not there")))
    assert (result.status, log[-1]) == (500, "LookupError: not there")


def test_it_knows_what_was_sent_before() -> None:
    response = Response(MemoryExchange(), head_only=False)
    response.start_response("200 OK", [("Content-Length", "5")])
    response.note_sent(3)
    response.write(b"lo!")
    assert (response.started, response.excess, response.missing()) == (True, True, 0)
