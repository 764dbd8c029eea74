"""The scope by the rules of the environ."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.app import scope as scopes
from gateway.app.lifespan import Lifespan
from gateway.app.routing import Site
from gateway.settings import Binding
from tests.app.asynchronous import MemoryAsyncExchange, Served, sending


def scope_of(binding: Binding | None = None, method: str = "GET", **params: str) -> dict[str, Any]:
    served = Served(None, entries=[(binding or Binding(), Site("it", sending()))])
    call = served.call(MemoryAsyncExchange(), method, **params)
    assert call is not None
    return call.scope


def test_what_nginx_sends() -> None:
    scope = scope_of(QUERY_STRING="a=%20", REQUEST_URI="/he%6Clo?a=%20")
    params = scope["extensions"]["gateway"]["params"]
    assert scope == {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "method": "GET",
        "scheme": "http", "path": "/hello", "raw_path": b"/he%6Clo", "root_path": "", "query_string": b"a=%20",
        "headers": [(b"host", b"a.example:8080"), (b"accept", b"*/*")], "client": ("127.0.0.1", 4711),
        "server": ("a.example", 8080), "extensions": {"gateway": {"params": params}},
    }  # fmt: skip
    assert (params["gateway.pool"], params["gateway.application"]) == ("main", "it")


@pytest.mark.parametrize(
    ("binding", "params", "path", "root"),
    [
        (Binding(path="/shop"), {"PATH_INFO": "/shop/cart"}, "/shop/cart", "/shop"),
        (None, {"SCRIPT_NAME": "/shop", "PATH_INFO": "/cart", "REQUEST_URI": "/shop/cart"}, "/shop/cart", "/shop"),
        (None, {"PATH_INFO": "/gr\xc3\xbc\xc3\x9fe"}, "/grüße", ""),
        (None, {"PATH_INFO": "/\xff"}, "/\ufffd", ""),
        (Binding(path="/grüße"), {"PATH_INFO": "/gr\xc3\xbc\xc3\x9fe/x"}, "/grüße/x", "/grüße"),
    ],
)
def test_path(binding: Binding | None, params: dict[str, str], path: str, root: str) -> None:
    scope = scope_of(binding, **params)
    assert (scope["path"], scope["root_path"]) == (path, root)


def test_headers() -> None:
    headers = scope_of(
        CONTENT_TYPE="text/x",
        CONTENT_LENGTH="3",
        HTTP_X_CUSTOM="\xe4",
        HTTP_PROXY="evil",
        HTTP_COOKIE="a=1",
        NO_HTTP="x",
    )["headers"]
    assert (b"content-type", b"text/x") in headers
    assert (b"content-length", b"3") in headers
    assert (b"x-custom", b"\xe4") in headers
    assert (b"cookie", b"a=1") in headers
    assert b"proxy" not in dict(headers)


def test_names_of_headers_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scopes, "known", {})
    for number in range(1_100):
        scope_of(**{f"HTTP_X_{number}": "1"})
    scope_of(**{"HTTP_" + "X" * 100: "1"})
    assert len(scopes.known) <= 1_000
    assert max(map(len, scopes.known)) <= 100


@pytest.mark.parametrize(
    ("params", "name", "expected"),
    [
        ({"HTTPS": "on"}, "scheme", "https"),
        ({"SERVER_PROTOCOL": "HTTP/2.0"}, "http_version", "2"),
        ({"SERVER_PROTOCOL": "INCLUDED"}, "http_version", "1.1"),
        ({"REMOTE_PORT": ""}, "client", None),
        ({"REQUEST_URI": "http://a.example/hello"}, "raw_path", None),
    ],
)
def test_other_keys(params: dict[str, str], name: str, expected: object) -> None:
    assert scope_of(**params)[name] == expected


def test_method_is_in_capitals() -> None:
    assert scope_of(method="get")["method"] == "GET"


def test_state_is_a_copy_of_the_lifespans() -> None:
    served = Served(sending())
    [lifespan] = served.dispatcher.lifespans
    assert isinstance(lifespan, Lifespan)
    lifespan.state = {"database": 1}
    call = served.call(MemoryAsyncExchange())
    assert call is not None
    call.scope["state"]["more"] = 2
    assert lifespan.state == {"database": 1}
