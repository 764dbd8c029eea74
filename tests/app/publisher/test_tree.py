"""What is published, and what is not: each attempt at the rest is answered as if there were nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.app.publisher.application import _find
from gateway.app.publisher.listing import lines
from gateway.app.publisher.sources import Unpublishable
from gateway.app.publisher.tree import Published
from tests.app.publisher.conftest import Publish, Site

SHOP = """
import os
import json as encoding
from os import sep, getcwd
from os.path import join
from decimal import Decimal
from enum import Enum
from dataclasses import dataclass
from functools import lru_cache, wraps
import abc, contextlib, functools, types, typing

greeting = "Hello"
answer = 42
pi = Decimal("3.14")
debug = True
prices = {"tea": 2}
nothing = None
_secret = "secret"
working_directory = getcwd
joined = join
short = lambda: "short"
half = functools.partial(len, "x")

if answer:
    conditional = "yes"
for looped in ("last",):
    pass
try:
    from no_such_module import fallback
except ImportError:
    def fallback():
        return "own"
names = [hidden for hidden in ("comprehended",)]

def hello():
    return "hello"

def _private():
    return "private"

@lru_cache
def cached():
    return "cached"

def _decorated(function):
    @wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs) + "!"
    return wrapper

@_decorated
def loud(word: str):
    return word

async def later():
    return "later"

async def stream():
    yield "later"

class Colour(Enum):
    RED = "red"

    def shade(self):
        return "dark"

class Problem(Exception):
    def explain(self):
        return "problem"

@dataclass
class Item:
    name: str = "tea"

    def label(self):
        return self.name

class Empty:
    pass

class Abstract(abc.ABC):
    @abc.abstractmethod
    def run(self): ...

    def walk(self):
        return "walk"

class Duck(typing.Protocol):
    def quack(self): ...

class Table(dict):
    def run(self):
        return "run"

class Needy:
    def __init__(self, connection):
        pass

    def run(self):
        return "run"

red = Colour.RED
problem = Problem()
space = types.SimpleNamespace(value="x", run=hello)
"""


@pytest.fixture
def shop(publish: Publish) -> Site:
    return publish(SHOP)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/greeting", "Hello"),
        ("/answer", "42"),
        ("/pi", "3.14"),
        ("/conditional", "yes"),
        ("/looped", "last"),
        ("/hello", "hello"),
        ("/short", "short"),
        ("/cached", "cached"),
        ("/loud?word=hey", "hey!"),
        ("/fallback", "own"),
    ],
)
def test_public_names_are_published(shop: Site, path: str, text: str) -> None:
    assert shop.text(path) == text


def test_nothing_else_is(shop: Site) -> None:
    assert set(shop.publisher.published.root.children) == {
        "greeting", "answer", "pi", "conditional", "looped", "hello", "short", "cached", "loud", "fallback",
    }  # fmt: skip
    assert dict(shop.left_out) == {
        "/debug": "is a bool, which is not defined in shop",
        "/prices": "is a dict, which is not defined in shop",
        "/nothing": "is a NoneType, which is not defined in shop",
        "/names": "is a list, which is not defined in shop",
        "/working_directory": "is a builtin_function_or_method, which is not defined in shop",
        "/joined": "is not defined in shop",
        "/half": "is a functools.partial, which is not defined in shop",
        "/later": "is a coroutine function; the publisher calls plain ones",
        "/stream": "is a coroutine function; the publisher calls plain ones",
        "/Colour": "is an Enum",
        "/red": "is an Enum",
        "/Problem": "is an exception",
        "/problem": "is an exception",
        "/Item": "is a dataclass",
        "/Empty": "has nothing to publish",
        "/Abstract": "is abstract",
        "/Duck": "is abstract",
        "/Table": "its parameters are not known: no signature found for builtin type <class 'shop.Table'>",
        "/Needy": "its constructor needs connection, and is given nothing, or the request",
        "/space": "is a types.SimpleNamespace, which is not defined in shop",
    }


NOT_THERE = [
    "/_secret", "/_private", "/__name__", "/__file__", "/__builtins__", "/__builtins__/eval", "/__dict__",
    "/__spec__/name", "/__loader__/get_data", "/os", "/os/getcwd", "/os/sep", "/encoding", "/encoding/dumps",
    "/sep", "/getcwd", "/join", "/Decimal", "/Enum", "/sys", "/print", "/str", "/hidden",
    "/hello/__globals__", "/hello/__code__", "/hello/__call__", "/hello/__globals__/os", "/cached/cache_clear",
    "/cached/__wrapped__", "/loud/__wrapped__", "/greeting/upper", "/greeting/__class__", "/answer/real",
    "/pi/sqrt",
    "/prices/items", "/Item/label", "/Item/name", "/Item/__init__", "/Colour/RED", "/Colour/__members__",
    "/red/name",
    "/Problem/explain", "/Problem/args", "/space/value", "/space/run", "/Needy/run", "/Table/run", "/Empty/__doc__",
    "//hello", "/hello/", "/hello//", "/./hello", "/../shop/hello", "/hello/..", "/HELLO", "/hello%00", "/hello.py",
    "/shop", "/shop/hello", "/shop.hello", "/index", "/%E2%98%83", "/%FF", "/", "",
]  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_what_is_not_published_is_not_there(shop: Site, method: str) -> None:
    for path in NOT_THERE:
        answer = shop.ask(path, method)
        assert (answer.status_code, answer.headers["X-Content-Type-Options"]) == (404, "nosniff"), path
        assert answer.text.startswith("There is nothing at /")


VERBS = """
class cart:
    def GET(self):
        return "got"

    def POST(self, item: int):
        return f"posted {item}"

    def PUT(self):
        return "put"

    def DELETE(self):
        return None

    def total(self):
        return 3

class own:
    def HEAD(self):
        return ""

    def OPTIONS(self):
        return "options"

    def index(self):
        return "index"

class _Shared:
    def __init__(self):
        self.count = 0

    def GET(self):
        return str(self.count)

    def POST(self):
        self.count += 1

shared = _Shared()
"""


def reachable(value: Any, path: str, depth: int) -> Iterator[str]:
    """The paths of everything that Python finds from `value` on."""
    for name in dir(value):
        yield f"{path}/{name}"
        if depth and hasattr(value, name):
            yield from reachable(getattr(value, name), f"{path}/{name}", depth - 1)


@pytest.mark.parametrize("text", [SHOP, "import sys\n" + VERBS])
def test_what_python_reaches_is_not_reached_by_a_path(publish: Publish, text: str) -> None:
    root = publish(text).publisher.published.root
    published = {row.split()[0] for row in lines(Published(root, {}))}
    paths = set(reachable(sys.modules["shop"], "", 2))
    assert len(paths) > 5_000
    assert {path for path in paths if _find(root, path)} == published


def test_star_imports_publish_nothing(publish: Publish) -> None:
    site = publish(
        files={
            "elsewhere.py": "word = 'elsewhere'\ndef shout():\n    return word\nclass Cart:\n    GET = shout\n",
            "shop.py": "from elsewhere import *\ndef hello():\n    return word\n",
        }
    )
    assert site.text("/hello") == "elsewhere"
    assert set(site.publisher.published.root.children) == {"hello"}


def test_a_module_without_source_publishes_what_it_lists(publish: Publish) -> None:
    module = type(sys)("sourceless")
    exec("word = 'word'\ndef hello():\n    return word\ndef other():\n    return word\n", vars(module))
    sys.modules["sourceless"] = module
    with pytest.raises(Unpublishable, match="finds nothing to publish: define a function"):
        publish(publisher="sourceless")
    vars(module)["__all__"] = ["word", "hello"]
    site = publish(publisher="sourceless")
    assert (site.text("/word"), site.text("/hello"), site.ask("/other").status_code) == ("word", "word", 404)


LISTING = """
import os
from os import getcwd, sep
from elsewhere import word, shout, Cart, cart
from http.client import HTTPConnection
import http.client
connection = http.client.HTTPConnection("localhost")
__all__ = ["own", "word", "shout", "Cart", "cart", "os", "getcwd", "sep", "_secret", "len", "HTTPConnection"]
__all__ += ["connection"]
_secret = "secret"
other = "other"
def own():
    return "own"
def unlisted():
    return "unlisted"
"""
ELSEWHERE = """
word = "word"
def shout():
    return "shout"
def _hidden():
    return "hidden"
class Cart:
    def total(self):
        return 3
cart = Cart()
"""


def test_all_says_what_is_published(publish: Publish) -> None:
    site = publish(files={"shop.py": LISTING, "elsewhere.py": ELSEWHERE}, publisher=["shop", "elsewhere"])
    shop = site.publisher.published.root.children["shop"]
    assert set(shop.children) == {"own", "word", "shout", "Cart", "cart", "sep"}
    assert site.text("/shop/word") + site.text("/shop/shout") + site.text("/shop/cart/total") == "wordshout3"
    assert {path: reason for path, reason in site.left_out.items() if path.startswith("/shop/")} == {
        "/shop/os": "is a module",
        "/shop/getcwd": "is a builtin_function_or_method, which is not defined in shop",
        "/shop/HTTPConnection": "is a http.client.HTTPConnection, which is not defined in shop",
        "/shop/connection": "is a http.client.HTTPConnection, which is not defined in shop",
    }


def test_nothing_to_publish_is_said_with_the_reasons(publish: Publish) -> None:
    with pytest.raises(Unpublishable) as caught:
        publish("def _hello():\n    return 'x'\nasync def later(): ...\n")
    assert str(caught.value) == (
        "publisher finds nothing to publish: define a function whose name has no _ first; "
        "/later is a coroutine function; the publisher calls plain ones"
    )


# -- classes and objects ----------------------------------------------------------------------------------------------

CLASSES = """
import collections, functools, threading, os.path
from elsewhere import Base
from gateway.publisher import handler

made = 0

class _Own:
    inherited = "inherited"

    def walk(self):
        return "walk"

    def replaced(self):
        return "replaced"

class Mixin(_Own, threading.Thread):
    def go(self):
        return "go"

class Cart(Base, _Own):
    kind = "cart"
    limits = {"a": 1}
    _hidden = "hidden"
    helper = os.path.basename
    replaced = None
    ratio = property(lambda self: 3)

    def __init__(self, request, size=3):
        global made
        made += 1
        self.seen = []
        self.path = request.path
        self._kept = "kept"

    def index(self):
        return f"index of {type(self).__name__} at {self.path}"

    def add(self, item: int):
        self.seen.append(item)
        return self.seen

    @staticmethod
    def still():
        return "still"

    @classmethod
    def named(cls, word: str = "x"):
        return cls.__name__ + word

    @functools.lru_cache
    def cached(self):
        return "cached"

    @handler(method="PUT")
    def put(self, item: int = 0):
        return f"put {item}"

    def _private(self):
        return "private"

    class Inner:
        def deep(self):
            return "deep"

def _held(word: str = "held"):
    return word

class _Shared:
    def greet(self):
        return "greetings"

class Wares:
    greet = _Shared().greet
    word = "word"

    def __init__(self):
        self.own = "own"
        self.count = 0
        self.prices = {}
        self.itself = self
        self.inner = Inner()
        self.held = _held
        self.bound = self.say
        self.lock = threading.Lock()
        self._hidden = "hidden"

    def __call__(self, n: int = 1):
        self.count += n
        return f"called {n}"

    def say(self, word: str = "hi"):
        return word

    def __getattr__(self, name):
        return "made up"

    @classmethod
    def named(cls, **rest):
        return cls.__name__ + repr(rest)

    @functools.lru_cache
    def cached(self):
        return "cached"

    @handler(method="PUT")
    def put(self):
        return "put"

class Inner:
    __slots__ = ("word",)

    def deep(self):
        return "deep"

wares = Wares()
say = wares.say
counter = collections.Counter()
"""


@pytest.fixture
def classes(publish: Publish) -> Site:
    elsewhere = "class Base:\n    where = 'elsewhere'\n    def foreign(self):\n        return 'foreign'\n"
    return publish(files={"shop.py": CLASSES, "elsewhere.py": elsewhere})


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/Cart", "index of Cart at /Cart"),
        ("/Cart/", "index of Cart at /Cart/"),
        ("/Cart/kind", "cart"),
        ("/Cart/add?item=3", "[3]"),
        ("/Cart/still", "still"),
        ("/Cart/named?word=s", "Carts"),
        ("/Cart/cached", "cached"),
        ("/Cart/walk", "walk"),
        ("/Cart/inherited", "inherited"),
        ("/Cart/Inner/deep", "deep"),
        ("/wares", "called 1"),
        ("/wares/?n=2", "called 2"),
        ("/wares/word", "word"),
        ("/wares/own", "own"),
        ("/wares/say?word=ho", "ho"),
        ("/wares/named?cls=1&self=2&x=3", "Wares{'self': '2', 'x': '3'}"),
        ("/wares/cached", "cached"),
        ("/wares/inner/deep", "deep"),
        ("/wares/held", "held"),
        ("/wares/bound?word=b", "b"),
        ("/wares/greet", "greetings"),
        ("/Wares/greet", "greetings"),
        ("/say", "hi"),
        ("/Mixin/go", "go"),
    ],
)
def test_classes_and_objects(classes: Site, path: str, text: str) -> None:
    assert classes.text(path) == text


def test_methods_with_a_handler(classes: Site) -> None:
    assert classes.text("/Cart/put?item=4", "PUT") == "put 4"
    assert classes.text("/wares/put", "PUT") == "put"
    assert classes.ask("/wares/put").status_code == 405


NOT_OF_THEM = [
    "/Cart/foreign", "/Cart/where", "/Cart/replaced", "/Cart/helper", "/Cart/limits", "/Cart/_hidden",
    "/Cart/_private",
    "/Cart/seen", "/Cart/path", "/Cart/ratio", "/Cart/__init__", "/Cart/__class__", "/Cart/mro",
    "/Cart/__subclasses__",
    "/Cart/add/__func__", "/Cart/kind/format", "/Mixin/run", "/Mixin/start", "/wares/itself",
    "/wares/prices", "/wares/_hidden", "/wares/lock", "/wares/lock/acquire", "/wares/made", "/wares/__dict__",
    "/wares/__call__", "/counter/most_common", "/wares/inner/word", "/wares/inner", "/Inner/word", "/say/__self__",
    "/_Own/walk",
]  # fmt: skip


def test_of_classes_and_objects_only_what_they_define(classes: Site) -> None:
    assert [path for path in NOT_OF_THEM if classes.ask(path).status_code != 404] == []


def test_why_the_rest_is_left_out(classes: Site) -> None:
    assert dict(classes.left_out) == {
        "/Cart/limits": "is a dict, which is not defined in shop",
        "/Cart/replaced": "is a NoneType, which is not defined in shop",
        "/Cart/helper": "is not defined in shop",
        "/Cart/ratio": "is a property, which is not defined in shop",
        "/wares/prices": "is a dict, which is not defined in shop",
        "/wares/itself": "is published above",
        "/wares/lock": "is a _thread.lock, which is not defined in shop",
        "/wares/inner/word": "is a member_descriptor, which is not defined in shop",
        "/Inner/word": "is a member_descriptor, which is not defined in shop",
        "/counter": "is a collections.Counter, which is not defined in shop",
    }


def test_an_object_of_a_class_is_made_for_each_request(classes: Site) -> None:
    assert classes.text("/Cart/add?item=1") == "[1]"
    assert classes.text("/Cart/add?item=2") == "[2]"
    made = int(classes.text("/made"))
    classes.text("/Cart")
    classes.text("/Cart/still")
    assert int(classes.text("/made")) == made + 1


def test_values_are_those_of_the_moment_and_nothing_is_published_later(classes: Site) -> None:
    classes.text("/wares?n=5")
    assert classes.text("/wares/count") == "5"
    shop = sys.modules["shop"]
    vars(shop)["later"] = lambda: "later"
    shop.wares.later = "later"
    shop.wares.count = {"secret": 1}
    shop.made = shop.Cart
    assert classes.ask("/later").status_code == 404
    assert classes.ask("/wares/later").status_code == 404
    assert classes.ask("/wares/count").status_code == 404
    assert classes.ask("/made").status_code == 404


def test_a_class_with_methods(publish: Publish) -> None:
    site = publish(VERBS)
    assert site.text("/cart") == "got"
    assert site.text("/cart", "POST", data={"item": "3"}) == "posted 3"
    assert site.text("/cart", "PUT") == "put"
    assert site.ask("/cart", "DELETE").status_code == 204
    assert site.text("/cart/total") == "3"
    assert site.ask("/cart/GET").status_code == 404
    assert site.text("/own") == "index"
    assert site.text("/own", "OPTIONS") == "options"
    assert site.ask("/own", "HEAD").headers["Content-Length"] == "0"
    assert site.ask("/shared", "POST").status_code == 204
    assert site.text("/shared") == "1"


# -- places -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("index = 'text'\n", {"/": "text"}),
        ("def index():\n    return 'function'\n", {"/": "function"}),
        (
            "class index:\n    def GET(self):\n        return 'got'\n    def more(self):\n        return 'more'\n",
            {"/": "got", "/more": "more"},
        ),
        (
            "class index:\n    def GET(self):\n        return 'got'\n    def more(self):\n        return 'more'\n"
            "more = 'own'\n",
            {"/": "got", "/more": "own"},
        ),
    ],
)
def test_index_is_the_place_itself(publish: Publish, text: str, answers: dict[str, str]) -> None:
    site = publish(text)
    assert {path: site.text(path) for path in answers} == answers
    assert site.ask("/index").status_code == 404
    assert site.ask("").text == answers["/"]


def test_a_decorator_that_is_no_function(publish: Publish) -> None:
    site = publish(
        "import functools\nclass _Memo:\n    def __init__(self, function):\n"
        "        functools.update_wrapper(self, function)\n"
        "    def __call__(self, *args, **kwargs):\n        return 'memo ' + self.__wrapped__(*args, **kwargs)\n"
        "@_Memo\ndef hello(name: str):\n    return name\n"
    )
    assert site.text("/hello?name=x") == "memo x"


def test_a_proxy_is_not_asked(publish: Publish) -> None:
    site = publish(
        "class _Proxy:\n    @property\n    def __class__(self):\n        raise RuntimeError('asked')\n"
        "    @property\n    def __dict__(self):\n        raise RuntimeError('asked')\n"
        "proxy = _Proxy()\nhello = 'hello'\n"
    )
    assert site.left_out == {"/proxy": "has nothing to publish"}
