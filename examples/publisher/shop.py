"""A shop at /shop: prices, and a cart that is kept in a cookie."""

import json
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

from werkzeug import Request, Response
from werkzeug.exceptions import NotFound

from gateway.publisher import handler

_ITEMS = {1: ("tea", Decimal("2.50")), 2: ("cake", Decimal("3.20")), 3: ("bread", Decimal("4.10"))}


class Delivery(Enum):
    """How an order comes; a parameter of this type is one of its values."""

    POST = "post"
    BICYCLE = "bicycle"


@dataclass
class Address:
    """A parameter of this type is made of the parameters `street` and `town`."""

    street: str
    town: str = "Springfield"


def index() -> dict[int, str]:
    return {number: name for number, (name, _) in _ITEMS.items()}


def price(item: int) -> Decimal:
    if item not in _ITEMS:
        raise NotFound(f"There is no item {item}")
    return _ITEMS[item][1]


@handler(method="POST")
def order(item: list[int], to: Address, by: Delivery = Delivery.POST, gift: bool = False) -> dict[str, object]:
    return {"items": [_ITEMS[number][0] for number in item if number in _ITEMS], "to": to, "by": by, "gift": gift}


@order.handler(method=("PUT", "PATCH"))
def _change(*, method: str) -> Response:
    return Response(f"Orders are final; {method} changes none\n", status=409)


class cart:
    """One object for each request; its methods are those of HTTP."""

    def __init__(self, request: Request) -> None:
        self._items = Counter(json.loads(request.cookies.get("cart", "{}")))

    def GET(self) -> dict[str, int]:
        return dict(self._items)

    def POST(self, item: int, count: int = 1) -> Response:
        self._items[str(item)] += count
        return self._kept()

    def DELETE(self, item: int) -> Response:
        self._items.pop(str(item), None)
        return self._kept()

    def total(self) -> Decimal:
        return sum((price(int(item)) * count for item, count in self._items.items()), Decimal())

    def _kept(self) -> Response:
        response = Response(json.dumps(self._items), content_type="application/json")
        response.set_cookie("cart", json.dumps(self._items), httponly=True, samesite="Lax")
        return response
