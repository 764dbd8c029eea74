"""The pages at the root: what a public name of this file answers is at /NAME, and `index` at /."""

import hashlib
from collections.abc import Iterator
from datetime import date
from typing import BinaryIO

from werkzeug import Request

motto = "Open all hours\n"

_PAGE = """<!doctype html>
<title>Publisher</title>
<ul>
<li><a href="hello?name=you">hello?name=you</a>
<li><a href="motto">motto</a>
<li><a href="count?to=5">count?to=5</a>
<li><a href="weekday?day=2026-03-31">weekday?day=2026-03-31</a>
<li><a href="shop/price?item=3">shop/price?item=3</a>
<li><a href="shop/cart">shop/cart</a>
</ul>
<form action="shop/cart" method="post">
item <input name="item" value="3"> count <input name="count" value="1"> <button>Add</button>
</form>
"""


def index() -> str:
    return _PAGE


def hello(name: str = "world") -> str:
    return f"Hello, {name}\n"


def weekday(day: date) -> str:
    return f"{day:%A}\n"


def count(to: int) -> Iterator[str]:
    for number in range(1, to + 1):
        yield f"{number}\n"


def upload(file: BinaryIO) -> dict[str, object]:
    """The file of a form, or a body of any type whatever: it is read as it comes."""
    digest, size = hashlib.sha256(), 0
    while block := file.read(65_536):
        digest.update(block)
        size += len(block)
    return {"size": size, "sha256": digest.hexdigest()}


def certificate(request: Request) -> dict[str, str]:
    """What the front-end has found out of the client's certificate."""
    return {name: value for name, value in request.environ.items() if name.startswith("SSL_CLIENT_")}
