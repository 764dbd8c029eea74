"""The list of what is published."""

from __future__ import annotations

from gateway.app.publisher.listing import lines
from tests.app.publisher.conftest import Publish

SHOP = """
import enum
from gateway.publisher import handler

motto = "Open"
story = "x" * 100

class Size(enum.Enum):
    SMALL = "s"

def index(): ...

def hello(name="you", *rest, count: int = 1, size: Size = Size.SMALL, **x: list[int]): ...

@handler(method="POST")
def cart(item: "int"): ...

@cart.handler(method=("PUT", "DELETE"))
def _change(*, method): ...
"""


def test_lines(publish: Publish) -> None:
    assert lines(publish(SHOP).publisher.published) == [
        "/       GET, POST    shop.index()",
        "/cart   POST         shop.cart(item: int)",
        "/cart   PUT, DELETE  shop.cart(method)",
        "/hello  GET, POST    shop.hello(name = 'you', *rest, count: int = 1, size: Size = Size.SMALL, **x: list[int])",
        "/motto  GET          shop.motto = 'Open'",
        f"/story  GET          shop.story = '{'x' * 59}…",
        "",
        "not published:",
        "/Size  is an Enum",
    ]


def test_everything_is_published(publish: Publish) -> None:
    assert lines(publish("hello = 3\n").publisher.published) == ["/hello  GET  shop.hello = 3"]
