"""What functions return, as answers."""

from __future__ import annotations

import json

import pytest
from werkzeug.test import create_environ, run_wsgi_app

from tests.app.publisher.conftest import Publish

VALUES = """
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from enum import Enum
from types import MappingProxyType
from uuid import UUID
from markupsafe import Markup
from werkzeug import Response
from werkzeug.exceptions import Forbidden
from werkzeug.utils import redirect
Pair = namedtuple("Pair", "a b")

@dataclass
class Item:
    name: str
    price: Decimal = Decimal("1.10")

class Colour(Enum):
    RED = "red"

def value():
    return VALUE
"""


def returning(value: str) -> str:
    return VALUES.replace("VALUE", value)


@pytest.mark.parametrize(
    ("value", "content_type", "body"),
    [
        ("'Hello'", "text/plain; charset=utf-8", "Hello"),
        ("'ä €'", "text/plain; charset=utf-8", "ä €"),
        ("''", "text/plain; charset=utf-8", ""),
        ("'a <b>'", "text/plain; charset=utf-8", "a <b>"),
        ("'<3'", "text/plain; charset=utf-8", "<3"),
        ("'<?xml version=\"1.0\"?>'", "text/plain; charset=utf-8", '<?xml version="1.0"?>'),
        ("'\\n <!DOCTYPE html><p>x'", "text/html; charset=utf-8", "\n <!DOCTYPE html><p>x"),
        ("'<html>'", "text/html; charset=utf-8", "<html>"),
        ("'<h1 class=a>x</h1>'", "text/html; charset=utf-8", "<h1 class=a>x</h1>"),
        ("'<!-- x --><p>'", "text/html; charset=utf-8", "<!-- x --><p>"),
        ("Markup('a <b>x</b>')", "text/html; charset=utf-8", "a <b>x</b>"),
        ("3", "text/plain; charset=utf-8", "3"),
        ("Decimal('1.10')", "text/plain; charset=utf-8", "1.10"),
        ("b'\\xff\\x00'", "application/octet-stream", "\udcff\x00"),
        ("bytearray(b'x')", "application/octet-stream", "x"),
        ("memoryview(b'x')", "application/octet-stream", "x"),
        ("{'a': [1, 'ä']}", "application/json", '{"a": [1, "ä"]}'),
        ("[1, None]", "application/json", "[1, null]"),
        ("()", "application/json", "[]"),
        ("True", "application/json", "true"),
        ("range(3)", "application/json", "[0, 1, 2]"),
        ("{3}", "application/json", "[3]"),
        ("MappingProxyType({'a': 1})", "application/json", '{"a": 1}'),
        ("Pair(1, 2)", "application/json", "[1, 2]"),
        ("Item('tea')", "application/json", '{"name": "tea", "price": "1.10"}'),
        ("{'a': Item('tea', 3)}", "application/json", '{"a": {"name": "tea", "price": 3}}'),
        ("[Colour.RED, date(2026, 3, 31), time(18)]", "application/json", '["red", "2026-03-31", "18:00:00"]'),
        ("[UUID(int=1)]", "application/json", '["00000000-0000-0000-0000-000000000001"]'),
        ("(str(n) for n in range(3))", "text/plain; charset=utf-8", "012"),
        ("(b'%d' % n for n in range(3))", "application/octet-stream", "012"),
        ("(memoryview(b'x') for n in range(3))", "application/octet-stream", "xxx"),
        ("iter(['', '<p>', 'x'])", "text/html; charset=utf-8", "<p>x"),
        ("iter([Markup('x')])", "text/html; charset=utf-8", "x"),
        ("iter([])", "application/octet-stream", ""),
        ("Response('own', 201, content_type='x/y')", "x/y", "own"),
        ("redirect('/there')", "text/html; charset=utf-8", None),
    ],
)
def test_answers(publish: Publish, value: str, content_type: str, body: str | None) -> None:
    answer = publish(returning(value)).ask("/value")
    assert answer.headers["Content-Type"] == content_type
    if body is not None:
        assert answer.data == body.encode("utf-8", "surrogateescape")
    if content_type != "x/y" and body is not None:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_nothing_is_no_content(publish: Publish) -> None:
    answer = publish(returning("None")).ask("/value")
    assert (answer.status_code, answer.data, answer.content_type) == (204, b"", None)


def test_responses_and_http_exceptions_are_the_applications_own(publish: Publish) -> None:
    assert publish(returning("Response('own', 201)")).ask("/value").status_code == 201


def test_an_http_exception(publish: Publish) -> None:
    site = publish(
        "from werkzeug.exceptions import Forbidden, NotFound\ndef no():\n    raise Forbidden('not you')\n"
        "class cart:\n    def __init__(self):\n        raise NotFound('no cart')\n    def GET(self): ...\n"
    )
    answer = site.ask("/no")
    assert (answer.status_code, answer.mimetype) == (403, "text/html")
    assert "not you" in answer.text
    assert site.ask("/cart").status_code == 404


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "object()",
            r"^shop\.value returned object: return text, bytes, a number, a dict, list or dataclass, a generat",
        ),
        ("Item", r"^shop\.value returned type: "),
        ("[object()]", "^object cannot be written as JSON"),
        ("[float('nan')]", "not JSON compliant"),
        ("iter([3])", r"^shop\.value made a chunk of type int, not text or bytes"),
    ],
)
def test_what_is_no_answer(publish: Publish, value: str, message: str) -> None:
    site = publish(returning(value))
    with pytest.raises((TypeError, ValueError), match=message):
        _ = site.ask("/value").data


def test_errors_of_functions_are_raised(publish: Publish) -> None:
    site = publish("def fail():\n    raise ValueError('on purpose')\ndef late():\n    yield from ()\n    1 / 0\n")
    with pytest.raises(ValueError, match="on purpose"):
        site.ask("/fail")
    with pytest.raises(ZeroDivisionError):  # before the head
        site.ask("/late")


STREAM = """
state = "new"

def stream():
    global state
    state = "open"
    try:
        yield "first"
        state = "second"
        yield "second"
    finally:
        state = "closed"
"""


def test_streams_come_as_they_are_made_and_are_closed(publish: Publish) -> None:
    site = publish(STREAM)
    chunks, _, _ = run_wsgi_app(site.publisher, create_environ("/stream"), buffered=False)
    assert next(iter(chunks)) == b"first"
    assert site.text("/state") == "open"
    chunks.close()  # type: ignore[attr-defined]
    assert site.text("/state") == "closed"


def test_head_is_get_without_its_body(publish: Publish) -> None:
    site = publish(STREAM + "def hello():\n    return 'hello'\n")
    answer = site.ask("/hello", "HEAD")
    assert (answer.status_code, answer.data, answer.headers["Content-Length"]) == (200, b"", "5")
    assert site.ask("/stream", "HEAD").data == b""
    assert site.text("/state") == "closed"


ECHO = """
import collections
def echo(text, more=""):
    return text + more
def stream(text):
    yield text
def page(text):
    return f"<p>{len(text)}"
def upper(text):
    return " " + text.upper()
"""


@pytest.mark.parametrize("path", ["/echo", "/stream", "/upper"])
def test_a_visitor_cannot_make_a_page_of_what_is_returned_as_it_came(publish: Publish, path: str) -> None:
    site = publish(ECHO)
    script = "<script>alert(1)</script>"
    assert site.ask(path, query_string={"text": script}).mimetype == "text/plain"
    assert site.ask(path, "POST", data={"text": f"\t{script}"}).mimetype == "text/plain"
    assert site.ask("/echo", query_string={"text": "<", "more": script[1:]}).mimetype == "text/plain"
    assert site.ask("/page", query_string={"text": script}).mimetype == "text/html"


def test_json_is_json(publish: Publish) -> None:
    assert json.loads(publish(returning("{'a': {'b': [1.5, None, True]}}")).text("/value")) == {
        "a": {"b": [1.5, None, True]}
    }
