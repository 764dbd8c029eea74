"""Arguments from query string, form, files and body: converted by annotation; a 400 names what is missing or wrong."""

from __future__ import annotations

import io

import pytest

from tests.app.publisher.conftest import Publish

IMPORTS = """
from __future__ import annotations
import dataclasses, enum, typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, BinaryIO, IO, Literal, Optional, Union
from uuid import UUID
import werkzeug
from werkzeug import Request
from werkzeug.datastructures import FileStorage

class Colour(Enum):
    RED = "red"
    DARK_BLUE = 2

class Size(enum.StrEnum):
    SMALL = "s"
"""


def function(annotation: str, default: str = "") -> str:
    return f"{IMPORTS}\ndef show(x: {annotation}{default and f' = {default}'}):\n    return repr(x)\n"


@pytest.mark.parametrize(
    ("annotation", "query", "value"),
    [
        ("str", "x=a%20b", "'a b'"),
        ("str", "x=", "''"),
        ("Any", "x=a", "'a'"),
        ("object", "x=a", "'a'"),
        ("Annotated[int, 'pieces']", "x=3", "3"),
        ("int", "x=-3", "-3"),
        ("int", "x=%2B3", "3"),
        ("float", "x=1.5e3", "1500.0"),
        ("float", "x=.5", "0.5"),
        ("float", "x=3", "3.0"),
        ("Decimal", "x=1.10", "Decimal('1.10')"),
        ("bool", "x=TRUE", "True"),
        ("bool", "x=on", "True"),
        ("bool", "x=0", "False"),
        ("date", "x=2026-03-31", "datetime.date(2026, 3, 31)"),
        ("time", "x=18:30", "datetime.time(18, 30)"),
        ("datetime", "x=2026-03-31T18:30", "datetime.datetime(2026, 3, 31, 18, 30)"),
        ("UUID", "x=00000000-0000-0000-0000-000000000001", "UUID('00000000-0000-0000-0000-000000000001')"),
        ("Colour", "x=red", "<Colour.RED: 'red'>"),
        ("Colour", "x=2", "<Colour.DARK_BLUE: 2>"),
        ("Colour", "x=DARK_BLUE", "<Colour.DARK_BLUE: 2>"),
        ("Size", "x=s", "<Size.SMALL: 's'>"),
        ("Literal['a', 2]", "x=2", "2"),
        ("int | None", "x=", "None"),
        ("int | None", "x=4", "4"),
        ("Optional[str]", "x=", "''"),
        ("Union[int, str]", "x=4", "4"),
        ("int | str", "x=a", "'a'"),
        ("list", "x=a&x=b", "['a', 'b']"),
        ("list[int]", "x=1&x=2", "[1, 2]"),
        ("list[int] | None", "x=1", "[1]"),
        ("typing.List[int]", "x=1", "[1]"),
        ("tuple[int, ...]", "x=1&x=2", "(1, 2)"),
        ("set[int]", "x=1&x=1", "{1}"),
        ("frozenset[Colour]", "x=red", "frozenset({<Colour.RED: 'red'>})"),
        ("Sequence[float]", "x=1", "[1.0]"),
        ("Iterable[str]", "x=1", "['1']"),
    ],
)
def test_values(publish: Publish, annotation: str, query: str, value: str) -> None:
    assert publish(function(annotation)).text(f"/show?{query}") == value


@pytest.mark.parametrize(
    ("annotation", "query", "message"),
    [
        ("str", "", "x is missing; write text"),
        ("str", "x=1&x=2", "x is there 2 times; write it once"),
        ("int", "x=", "x is ''; write a whole number"),
        ("int", "x=1.0", "x is '1.0'; write a whole number"),
        ("int", "x=1_000", "x is '1_000'; write a whole number"),
        ("int", "x=%201", "x is ' 1'; write a whole number"),
        ("int", "x=%D9%A3", "x is '٣'; write a whole number"),
        ("int", "x=" + "9" * 5_000, f"x is '{'9' * 80}'…; write a whole number"),
        ("float", "x=nan", "x is 'nan'; write a number"),
        ("float", "x=1e999", "x is '1e999'; write a number"),
        ("Decimal", "x=1e9", "x is '1e9'; write a number"),
        ("Decimal", "x=Infinity", "x is 'Infinity'; write a number"),
        ("bool", "x=maybe", "x is 'maybe'; write true or false"),
        ("date", "x=31.3.2026", "x is '31.3.2026'; write a date such as 2026-03-31"),
        ("datetime", "x=now", "x is 'now'; write a date and time such as 2026-03-31T18:30"),
        ("UUID", "x=1", "x is '1'; write a UUID"),
        ("Colour", "x=green", "x is 'green'; write one of: red, 2"),
        ("Literal['a', 2]", "x=b", "x is 'b'; write one of: a, 2"),
        ("int | None", "x=a", "x is 'a'; write a whole number"),
        ("int | date", "x=a", "x is 'a'; write a whole number or a date such as 2026-03-31"),
        ("list[int]", "", "x is missing; write a whole number, once or several times"),
        ("list[int]", "x=1&x=b", "x is 'b'; write a whole number"),
        ("BinaryIO", "x=1", "x is missing; upload a file"),
        ("list[FileStorage]", "x=1", "x is missing; write a file, once or several times"),
    ],
)
def test_what_is_missing_or_wrong_is_named(publish: Publish, annotation: str, query: str, message: str) -> None:
    assert publish(function(annotation)).wrong(f"/show?{query}") == message


def test_every_parameter_that_is_wrong_is_named(publish: Publish) -> None:
    site = publish("from datetime import date\ndef order(item: int, day: date, count: int = 1, *, gift: bool): ...\n")
    assert site.wrong("/order?count=x&day=y").splitlines() == [
        "item is missing; write a whole number",
        "day is 'y'; write a date such as 2026-03-31",
        "count is 'x'; write a whole number",
        "gift is missing; write true or false",
    ]


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        ("Request | int", "no text can become a Request"),
        ("bytes", "no text can become a bytes"),
        ("dict[str, int]", "no text can become a dict[str, int]"),
        ("tuple[int, str]", "tuple[int, str] has items of different types"),
        ("list[list[int]]", "no text can become a list[int]"),
        ("list[Colour] | int", "no text can become a list[shop.Colour]"),
        ("[]", "no text can become a []"),
        ("Unknown", "its annotation cannot be read: name 'Unknown' is not defined"),
    ],
)
def test_what_no_text_can_become_is_left_out(publish: Publish, annotation: str, reason: str) -> None:
    site = publish(function(annotation) + "hello = 'hello'\n")
    assert site.left_out["/show"].startswith(f"parameter x: {reason}")
    assert site.ask("/show?x=1").status_code == 404


def test_a_callable_whose_parameters_are_not_known_is_left_out(publish: Publish) -> None:
    site = publish(
        "import functools\nclass _Odd:\n    __signature__ = 'none'\n    def __init__(self, function):\n"
        "        functools.update_wrapper(self, function)\n        self.__signature__ = 'none'\n"
        "    def __call__(self): ...\n@_Odd\ndef odd(): ...\nhello = 'hello'\n"
    )
    assert site.left_out["/odd"].startswith("its parameters are not known: ")


DEFAULTS = """
def named(a, b=2, /, c: int = 3, *rest, d="d", **more):
    return repr((a, b, c, d, rest, sorted(more.items())))

def numbers(**count: int):
    return repr(count)

def several(**count: list[int]):
    return repr(count)
"""


def test_parameters_of_every_kind(publish: Publish) -> None:
    site = publish(DEFAULTS)
    assert site.text("/named?a=1") == "('1', 2, 3, 'd', (), [])"
    assert site.text("/named?a=1&b=x&c=4&d=e&f=g&rest=1&more=2") == "('1', 'x', 4, 'e', (), [('f', 'g')])"
    assert site.wrong("/named?c=4") == "a is missing; write text"
    assert site.text("/numbers?a=1&b=2") == "{'a': 1, 'b': 2}"
    assert site.wrong("/numbers?a=x&b=2&b=3").splitlines() == [
        "a is 'x'; write a whole number",
        "b is there 2 times; write it once",
    ]
    assert site.text("/several?a=1&a=2") == "{'a': [1, 2]}"


def test_parameters_that_nobody_asks_for_are_ignored(publish: Publish) -> None:
    site = publish("def hello(name: str = 'x'):\n    return name\ndef bare():\n    return 'bare'\n")
    assert site.text("/hello?utm_source=1&self=2&__class__=3") == "x"
    assert site.text("/bare", "POST", data={"a": "1"}) == "bare"


# -- forms and files --------------------------------------------------------------------------------------------------

FORMS = (
    IMPORTS
    + """
def add(item: int, note: str = ""):
    return f"{item} {note}"

def attach(note: str, file: BinaryIO):
    return f"{note} {file.read()!r}"

def named(file: FileStorage):
    return f"{file.filename} {file.content_type} {file.read()!r}"

def many(file: list[IO[bytes]], note: str = ""):
    return repr([one.read() for one in file])

def raw(request):
    return f"{request.content_type} {request.stream.read()!r}"

def asked(request):
    return repr(request.form)

def both(request: werkzeug.Request, item: int):
    return f"{item} {request.stream.read()!r}"

@dataclass
class Attachment:
    file: BinaryIO
    title: str = "untitled"

def record(it: Attachment):
    return f"{it.title} {it.file.read()!r}"
"""
)


def test_forms(publish: Publish) -> None:
    site = publish(FORMS)
    assert site.text("/add", "POST", data={"item": "3", "note": "ä"}) == "3 ä"
    assert site.text("/add?item=4", "POST", data={"note": "x"}, content_type="multipart/form-data") == "4 x"
    assert site.wrong("/add?item=4", "POST", data={"item": "4"}) == "item is there 2 times; write it once"
    file = {"item": (io.BytesIO(b"3"), "item.txt")}
    assert site.wrong("/add", "POST", data=file) == "item comes as a file; write a whole number"


def test_a_form_that_cannot_be_read_is_not_an_empty_one(publish: Publish) -> None:
    site = publish(FORMS)
    message = site.wrong("/add?item=1", "POST", data=b"--x\r\n", content_type="multipart/form-data")
    assert message.startswith("the form cannot be read: ")
    answer = site.ask("/asked", "POST", data=b"--x\r\n", content_type="multipart/form-data")
    assert (answer.status_code, "the form cannot be read: " in answer.text) == (400, True)


def test_a_form_that_is_too_large_is_refused(publish: Publish) -> None:
    site = publish(FORMS)
    part = b'--x\r\nContent-Disposition: form-data; name="note"\r\n\r\n%s\r\n--x--\r\n' % (b"x" * 600_000)
    answer = site.ask("/add", "POST", data=part, content_type="multipart/form-data; boundary=x")
    assert (answer.status_code, answer.mimetype) == (413, "text/plain")
    answer = site.ask("/add", "POST", data={"item": "3", "note": "x" * 600_000})
    assert (answer.status_code, answer.mimetype) == (413, "text/plain")


def two_files() -> dict[str, object]:
    return {"file": [(io.BytesIO(b"a"), "a"), (io.BytesIO(b"b"), "b")]}


def test_files_of_forms(publish: Publish) -> None:
    site = publish(FORMS)
    assert site.text("/attach", "POST", data={"note": "n", "file": (io.BytesIO(b"abc"), "a.bin")}) == "n b'abc'"
    assert site.text("/named", "POST", data={"file": (io.BytesIO(b"abc"), "a.xml", "x/y")}) == "a.xml x/y b'abc'"
    assert site.text("/many", "POST", data=two_files()) == "[b'a', b'b']"
    assert site.wrong("/named", "POST", data=two_files()) == "file is there 2 times; upload one file"
    assert site.wrong("/named", "POST", data={"other": (io.BytesIO(), "a")}) == "file is missing; upload a file"
    assert site.text("/record", "POST", data={"file": (io.BytesIO(b"a"), "a"), "title": "t"}) == "t b'a'"


@pytest.mark.parametrize(
    "content_type",
    ["application/xml", "text/x-unheard-of; a=b", "x", None, "application/x-www-form-urlencoded", "application/json"],
)
def test_a_body_of_any_type_comes_as_a_stream(publish: Publish, content_type: str | None) -> None:
    site = publish(FORMS)
    body = b"<a>\x00\xff&x=1</a>"
    sent = {"data": body, "content_type": content_type}
    assert site.text("/attach?note=n", "POST", **sent) == f"n {body!r}"
    assert site.text("/named", "POST", **sent) == f"None {content_type} {body!r}"
    assert site.text("/raw", "POST", **sent) == f"{content_type} {body!r}"
    assert site.text("/record?title=t", "POST", **sent) == f"t {body!r}"


def test_no_body_is_no_file(publish: Publish) -> None:
    site = publish(FORMS)
    assert site.wrong("/named", "POST", environ_overrides={"CONTENT_LENGTH": "0"}) == "file is missing; upload a file"
    assert site.wrong("/named") == "file is missing; upload a file"


def test_what_is_no_form_is_left_to_the_function(publish: Publish) -> None:
    site = publish(FORMS)
    assert site.text("/both?item=3", "POST", data=b"<a/>", content_type="application/xml") == "3 b'<a/>'"
    form = {"data": b"--x--", "content_type": "multipart/form-data; boundary=x"}
    assert site.text("/raw", "POST", **form) == "multipart/form-data; boundary=x b'--x--'"


# -- dataclasses ------------------------------------------------------------------------------------------------------

RECORDS = (
    IMPORTS
    + """
@dataclass
class Place:
    town: str
    code: int = 0

@dataclass
class Item:
    name: str
    count: int = 1
    tags: list[str] = field(default_factory=list)
    made: str = field(init=False, default="here")
    place: Place | None = None

    def __post_init__(self):
        if self.count < 0:
            raise ValueError("count is below zero")

@dataclass
class Loop:
    inner: "Loop"

@dataclass
class Odd:
    held: dict

def show(item: Item):
    return repr(item)

def optional(item: Item = None):
    return repr(item)

def two(a: Place, b: Place):
    return repr((a, b))

@dataclass
class Dark:
    inner: "Unknown"

def dark(x: Dark): ...

def loop(x: Loop): ...

def odd(x: Odd): ...
"""
)


def test_dataclasses(publish: Publish) -> None:
    site = publish(RECORDS)
    plain = "made='here', place=None)"
    assert site.text("/show?name=tea") == f"Item(name='tea', count=1, tags=[], {plain}"
    assert site.text("/show?item.name=tea&item.count=2&tags=a&tags=b") == (
        f"Item(name='tea', count=2, tags=['a', 'b'], {plain}"
    )
    assert site.text("/show?name=x&item.place.town=y&place.code=3").endswith("place=Place(town='y', code=0))")
    assert site.text("/show?name=x&town=y&code=3").endswith("place=Place(town='y', code=3))")
    assert site.text("/two?a.town=x&b.town=y&b.code=3") == "(Place(town='x', code=0), Place(town='y', code=3))"
    assert site.text("/optional") == "None"
    assert site.text("/optional?name=x").startswith("Item(name='x'")


def test_what_is_wrong_in_a_dataclass_is_named(publish: Publish) -> None:
    site = publish(RECORDS)
    assert site.wrong("/show?item.count=x").splitlines() == [
        "name is missing; write text",
        "item.count is 'x'; write a whole number",
    ]
    assert site.wrong("/show?name=x&count=-1") == "item: count is below zero"
    assert site.left_out["/loop"] == "parameter x: Loop contains itself"
    assert site.left_out["/dark"] == (
        "parameter x: the annotations of Dark cannot be read: name 'Unknown' is not defined"
    )
    assert site.left_out["/odd"] == "parameter x: no text can become a dict"


# -- the request ------------------------------------------------------------------------------------------------------

REQUESTS = (
    IMPORTS
    + """
def by_name(request):
    return request.headers["X-A"]

def by_type(it: Request):
    return type(it).__mro__[1].__name__

def by_base(it: werkzeug.sansio.request.Request, /):
    return it.path

def optional(request=None):
    return request.path

def only_text(request: str):
    return request

def told(*, method):
    return method

def told_text(*, method: str, word: str = ""):
    return method + word

def not_told(method: str = "none"):
    return method

def not_told_either(*, method: int = 0):
    return str(method)

class With_request:
    def __init__(self, request: Request, size=3, *more, table: dict = {}, **rest):
        self._method = request.method

    def say(self, request):
        return self._method + request.path

class Odd:
    def __init__(self, connection: "Unknown" = None):
        pass

    def say(self):
        return "odd"
"""
)


def test_the_request_is_given_when_it_is_asked_for(publish: Publish) -> None:
    site = publish(REQUESTS)
    assert site.text("/by_name", headers={"X-A": "a"}) == "a"
    assert site.text("/by_type?it=1") == "Request"
    assert site.text("/by_base") == "/by_base"
    assert site.text("/optional") == "/optional"
    assert site.text("/only_text?request=x") == "x"
    assert site.text("/With_request/say", "POST") == "POST/With_request/say"
    assert site.text("/Odd/say") == "odd"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_a_function_that_is_told_the_method_answers_all(publish: Publish, method: str) -> None:
    site = publish(REQUESTS)
    assert site.text("/told?method=x", method) == method
    assert site.text("/told_text?word=x", method) == f"{method}x"


def test_a_parameter_may_be_called_method(publish: Publish) -> None:
    site = publish(REQUESTS)
    assert site.text("/not_told?method=x") == "x"
    assert site.text("/not_told_either?method=3") == "3"
    assert site.ask("/not_told", "PUT").status_code == 405
