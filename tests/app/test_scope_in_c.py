"""What C makes of a usual request is what Python makes of it, and the rest it leaves alone."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import gateway.app
from gateway.app import asyncdispatch
from gateway.app.routing import Site
from gateway.protocol import records
from gateway.protocol.client import encode_request, encode_stdin
from gateway.protocol.events import RequestHead, Role
from gateway.settings import Binding
from tests.app.asynchronous import MemoryAsyncExchange, Served, part, sending, start
from tests.app.memory import NGINX
from tests.compiling import compile_extension, load

APP = Path(gateway.app.__file__ or "").parent


@pytest.fixture(scope="session")
def extension(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """`_scope`, compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GATEWAY_PURE", raising=False)
        return load("gateway.app._scope", compile_extension(APP / "_scope.c", tmp_path_factory.mktemp("scope")))


@pytest.fixture(params=["C", "Python"])
def side(request: pytest.FixtureRequest, extension: ModuleType, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(asyncdispatch, "_scope", extension if request.param == "C" else None)
    name: str = request.param
    return name


def served(*, hosts: bool = True, **options: Any) -> Served:
    """One application; where `hosts` is true, what is bound to the host of NGINX is known by an earlier request."""
    made = Served(sending(start(), part(b"x")), **options)
    if hosts:
        assert made.call(MemoryAsyncExchange()) is not None
    return made


def head_of(served: Served, params: dict[str, str]) -> RequestHead:
    given = served.dispatcher.base | NGINX | params
    environ = {name: value for name, value in given.items() if value != ABSENT}
    return RequestHead(1, Role.RESPONDER, True, environ, [], plain=True)


ABSENT = "absent"
USUAL: list[dict[str, str]] = [
    {},
    {"REQUEST_METHOD": "HEAD"},
    {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": "3", "CONTENT_TYPE": "text/x"},
    {"QUERY_STRING": "a=%20", "REQUEST_URI": "/hello?a=%20"},
    {"PATH_INFO": "/gr\xc3\xbc\xc3\x9fe", "REQUEST_URI": "/gr%C3%BC%C3%9Fe"},
    {"PATH_INFO": "/\xff", "REQUEST_URI": "/\xff?\xff", "QUERY_STRING": "\xff"},
    {"SCRIPT_NAME": "/hello", "PATH_INFO": ""},
    {"SCRIPT_NAME": "/hello", "PATH_INFO": ABSENT},
    {"SCRIPT_NAME": "/gr\xc3\xbc\xc3\x9fe", "PATH_INFO": ABSENT, "REQUEST_URI": "/gr%C3%BC%C3%9Fe"},
    {"SCRIPT_NAME": ABSENT},
    {"HTTPS": "on"},
    {"HTTPS": "off"},
    {"REQUEST_SCHEME": "https"},
    {"SERVER_PROTOCOL": "HTTP/2.0"},
    {"SERVER_PROTOCOL": "HTTP/1.0"},
    {"SERVER_NAME": ""},
    {"HTTP_COOKIE": "a=1", "HTTP_X_CUSTOM": "\xe4", "NOT_A_HEADER": "x"},
    {"HTTP_NEVER_SEEN_BEFORE_" + "X" * 100: "long"},
]
UNUSUAL: list[dict[str, str]] = [
    {"SCRIPT_NAME": "/shop", "PATH_INFO": "/cart", "REQUEST_URI": "/shop/cart"},
    {"SCRIPT_NAME": "", "PATH_INFO": ""},
    {"SCRIPT_NAME": "hello", "PATH_INFO": ""},
    {"SCRIPT_NAME": "/a%zz", "PATH_INFO": ABSENT, "REQUEST_URI": "/a%zz"},
    {"REQUEST_METHOD": "get"},
    {"SERVER_PROTOCOL": "INCLUDED"},
    {"SERVER_PORT": "0"},
    {"REQUEST_URI": ""},
    {"REQUEST_URI": "http://a.example/hello"},
    {"HTTPS": "1"},
    {"HTTP_PROXY": "evil"},
    {"CONTENT_LENGTH": "-1"},
    {"CONTENT_LENGTH": "x"},
    {"CONTENT_LENGTH": "11"},
    {"HTTP_HOST": "b.example"},
    {"HTTP_HOST": ""},
    {"PATH_INFO": "/a%b", "REQUEST_URI": "/a%25b"},
    {"PATH_INFO": "/a%zz", "REQUEST_URI": "/a%zz"},
    {"REMOTE_PORT": "4711 "},
    {"REMOTE_PORT": ""},
]


def by_path() -> list[tuple[Binding, Site]]:
    """Applications at paths."""
    return [
        (Binding(path="/shop"), Site("shop", sending(start(), part(b"x")), label=1)),
        (Binding(path="/shop/gr\xfc\xdfe"), Site("gr\xfc\xdfe", sending(start(), part(b"y")), label=2)),
        (Binding(path="/broken"), Site("broken", None, "it cannot be loaded")),
    ]


def request_for(path: str) -> bytes:
    return encode_request("fastcgi", NGINX | {"PATH_INFO": path}) + encode_stdin("fastcgi", b"")


def result(params: dict[str, str], **options: Any) -> Any:
    """What the dispatcher makes of it: the scope, or the answer."""
    made = served(hosts="entries" not in options, max_body=10, **options)
    if "entries" in options:
        made.ask(REQUEST_URI="/shop", PATH_INFO="/shop")  # after which its host is known
    exchange = MemoryAsyncExchange()
    call = made.dispatcher.handle(head_of(made, params), exchange)
    if call is None:
        return exchange.result, exchange.answer
    return call.scope, call._left, exchange.begun


@pytest.mark.parametrize("params", USUAL + UNUSUAL, ids=repr)
def test_both_make_the_same(params: dict[str, str], extension: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncdispatch, "_scope", None)
    expected = result(params)
    monkeypatch.setattr(asyncdispatch, "_scope", extension)
    assert result(params) == expected


@pytest.mark.parametrize(
    "path", ["/shop", "/shop/", "/shop/a", "/shopping", "/shop/gr\xc3\xbc\xc3\x9fe/a", "/broken/a", "/", "/shop/a%b"]
)
@pytest.mark.parametrize("names", [("PATH_INFO", "SCRIPT_NAME"), ("SCRIPT_NAME", "PATH_INFO")])
def test_both_make_the_same_of_paths(
    path: str, names: tuple[str, str], extension: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = {names[0]: path, names[1]: "", "REQUEST_URI": path}
    monkeypatch.setattr(asyncdispatch, "_scope", None)
    expected = result(params, entries=by_path())
    monkeypatch.setattr(asyncdispatch, "_scope", extension)
    assert result(params, entries=by_path()) == expected


def test_an_application_at_a_path_is_found_in_c(extension: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncdispatch, "_scope", extension)
    made = served(hosts=False, entries=by_path())
    data = request_for("/shop/a")
    assert made.dispatcher.whole(data) is None
    made.ask(PATH_INFO="/shop/a")
    found = made.dispatcher.whole(data)
    assert found is not None
    scope, known, _ = found[2]
    assert (scope["path"], scope["root_path"], known.name, known.label) == ("/shop/a", "/shop", "shop", 1)


@pytest.mark.parametrize("params", USUAL, ids=repr)
def test_what_is_usual_is_done_in_c(params: dict[str, str], extension: ModuleType) -> None:
    made = served(max_body=10)
    router = made.dispatcher._router
    router.notes_hosts = True
    assert made.call(MemoryAsyncExchange()) is not None
    environ = head_of(made, params).params
    assert extension.usual(environ, router.hosts, 10, {}, {}, lambda name: b"") is not None


@pytest.mark.usefixtures("side")
@pytest.mark.parametrize("keep", [True, False])
def test_whole_request(side: str, keep: bool) -> None:
    made = served()
    data = encode_request("fastcgi", NGINX, keep_conn=keep) + encode_stdin("fastcgi", b"")
    found = made.dispatcher.whole(data)
    if side == "Python":
        assert found is None
        return
    assert found is not None
    assert (found[0], found[1]["REQUEST_URI"], found[1]["gateway.pool"]) == (keep, "/hello", "main")
    exchange = MemoryAsyncExchange()
    asyncio.run(made.dispatcher.handle_usual(found[2], found[1], exchange).run())
    assert (exchange.body, exchange.begun) == (b"x", [("a.example", 0)])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        records.encode_begin_request(1, Role.RESPONDER, 0),
        encode_request("fastcgi", NGINX),
        encode_request("fastcgi", NGINX) + encode_stdin("fastcgi", b"body") + encode_stdin("fastcgi", b""),
        encode_request("fastcgi", NGINX) + encode_stdin("fastcgi", b"") * 2,
        encode_request("fastcgi", NGINX | {"HTTP_X": "a\nb"}) + encode_stdin("fastcgi", b""),
        encode_request("fastcgi", NGINX | {"HTTP_HOST": "other.example"}) + encode_stdin("fastcgi", b""),
    ],
)
def test_what_is_not_whole_or_usual_is_left_alone(
    data: bytes, extension: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asyncdispatch, "_scope", extension)
    assert served().dispatcher.whole(data) is None


def test_wrong_arguments(extension: ModuleType) -> None:
    with pytest.raises(TypeError):
        extension.usual({}, {})
    with pytest.raises(TypeError):
        extension.whole({}, (1, 1, 1), {}, 0, {}, {}, None, "text")
    with pytest.raises(TypeError):
        extension.whole({}, (1, 1), {}, 0, {}, {}, None, b"")


def test_port_of_the_host_header_is_left_to_python(extension: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncdispatch, "_scope", extension)
    made = Served(None, entries=[(Binding(), Site("it", sending()))], port_from="host")
    assert made.dispatcher.whole(encode_request("fastcgi", NGINX) + encode_stdin("fastcgi", b"")) is None


def test_without_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gateway.protocol.twin", None)
    assert load("gateway.app.asyncdispatch", APP / "asyncdispatch.py")._scope is None


@pytest.mark.parametrize("path", ["/hello", "/shop/a", "/broken"])
def test_nothing_leaks(path: str, extension: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncdispatch, "_scope", extension)
    made = served() if path == "/hello" else served(hosts=False, entries=by_path())
    made.ask(PATH_INFO="/shop/a")  # after which its host is known
    assert (made.dispatcher.whole(request_for(path)) is None) is (path == "/broken")
    data = request_for(path)
    for _ in range(100):
        made.dispatcher.whole(data)
    before = sys.getallocatedblocks()
    for _ in range(10_000):
        made.dispatcher.whole(data)
    assert sys.getallocatedblocks() < before + 100
