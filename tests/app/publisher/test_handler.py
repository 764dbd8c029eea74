"""Methods by decorator; HEAD, OPTIONS and 405 for all."""

from __future__ import annotations

import pytest

from gateway.publisher import handler
from tests.app.publisher.conftest import Publish

CART = """
from gateway.publisher import handler

@handler(method="GET")
def cart():
    return "cart"

@cart.handler(method="POST")
def _add(item: int):
    return f"added {item}"

@cart.handler(method=("PUT", "PATCH"))
def cart(*, method):
    return f"changed by {method}"

@cart.handler(method="DELETE")
def emptied():
    pass

alias = cart

def plain():
    return "plain"

@handler(method=["HEAD", "OPTIONS"])
def own():
    return ""
"""


def test_handlers(publish: Publish) -> None:
    site = publish(CART)
    assert site.text("/cart") == "cart"
    assert site.text("/cart", "POST", data={"item": "3"}) == "added 3"
    assert site.text("/cart", "PUT") == "changed by PUT"
    assert site.text("/cart", "PATCH") == "changed by PATCH"
    assert site.ask("/cart", "DELETE").status_code == 204
    assert site.left_out == {"/emptied": "belongs to cart", "/alias": "belongs to cart"}


@pytest.mark.parametrize(
    ("path", "method", "status", "allow"),
    [
        ("/cart", "OPTIONS", 204, "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
        ("/cart", "TRACE", 405, "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
        ("/plain", "OPTIONS", 204, "GET, HEAD, OPTIONS, POST"),
        ("/plain", "PUT", 405, "GET, HEAD, OPTIONS, POST"),
        ("/own", "GET", 405, "HEAD, OPTIONS"),
        ("/own", "HEAD", 200, None),
        ("/own", "OPTIONS", 200, None),
    ],
)
def test_methods_that_are_not_answered(
    publish: Publish, path: str, method: str, status: int, allow: str | None
) -> None:
    answer = publish(CART).ask(path, method)
    assert (answer.status_code, answer.headers.get("Allow")) == (status, allow)
    if status == 405:
        assert answer.text == f"{path} answers {allow}, not {method}\n"


def test_the_method_is_refused_before_the_parameters_are_looked_at(publish: Publish) -> None:
    site = publish("from gateway.publisher import handler\n@handler(method='POST')\ndef add(item: int): ...\n")
    assert site.ask("/add").status_code == 405
    assert site.ask("/add", "HEAD").status_code == 405
    assert site.wrong("/add", "POST") == "item is missing; write a whole number"


def test_a_handler_is_its_function_in_python() -> None:
    @handler(method="GET")
    def double(n: int) -> int:
        """Twice."""
        return 2 * n

    class Place:
        @handler(method="POST")
        def me(self, word: str) -> str:
            return f"{type(self).__name__} {word}"

    assert (double(3), double.__doc__, double.__name__) == (6, "Twice.", "double")
    assert Place().me("x") == "Place x"
    assert Place.me.name == "me"


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("FETCH", "handler: 'FETCH' is no method; write one of: GET, HEAD, POST"),
        ("get", "handler: 'get' is no method"),
        ([], "handler: no method is named; write one of: GET"),
    ],
)
def test_what_is_no_method(method: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        handler(method=method)


def test_one_function_for_a_method() -> None:
    @handler(method="GET")
    def first() -> None: ...

    with pytest.raises(ValueError, match=r"first answers GET already; leave it out here"):
        first.handler(method="GET")
