"""Hosts of which each path has its own application: the quick way beside the ordinary one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.app.dispatch import Dispatcher
from gateway.app.routing import Site
from gateway.protocol.client import encode_request
from gateway.settings import Binding
from tests.app.memory import NGINX
from tests.net.driving import stdin, whole
from tests.net.test_quick import Side, application, compare

SITES = [
    (Binding(), Site("all", application)),
    (Binding(path="/shop"), Site("shop", application, label=1)),
    (Binding(path="/shop/eu"), Site("eu", application, label=2)),
    (Binding(path="/broken"), Site("broken", None, "it cannot be loaded")),
    (Binding(hostname="some.example", path="/some"), Site("some", application, label=3)),
    (Binding(hostname="root.example", path="/"), Site("root", application, label=4)),
]
PATHS = ["/", "/shop", "/shop/", "/shop/cart", "/shopping", "/shop/eu", "/shop/eu/a", "/shop/european", "/broken",
         "/broken/a", "/front/shop/a", "//shop", "/shop/a%b", "/caf\xc3\xa9", "/shop/../a", ""]  # fmt: skip


@pytest.fixture(scope="module")
def sides(quick_type: type, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    with contextlib.ExitStack() as stack:
        place = tmp_path_factory.mktemp("p")
        yield (
            Side(stack, place / "ordinary", None, sites=SITES),
            Side(stack, place / "quick", quick_type, sites=SITES),
        )


@pytest.mark.parametrize("host", ["a.example:8080", "some.example", "root.example", "other.example"])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("script", ["", "/shop", "/front", None])
def test_whatever_is_bound(sides: tuple[Side, Side], host: str, path: str, script: str | None) -> None:
    params: dict[str, Any] = {**NGINX, "HTTP_HOST": host, "PATH_INFO": path, "SCRIPT_NAME": script, "SERVER_NAME": ""}
    params["REQUEST_URI"] = (script or "") + path or "/"
    request = encode_request("fastcgi", {name: value for name, value in params.items() if value is not None})
    compare(sides, request + stdin())


def test_it_is_the_quick_way_that_they_go(sides: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch) -> None:
    _, quick = sides
    answer, _, ended = quick.ask(whole(PATH_INFO="/shop/eu/mirror"))
    slowly: list[str] = []
    monkeypatch.setattr(Dispatcher, "handle", lambda *given: slowly.append("a request"))
    assert (answer, ended) == quick.ask(whole(PATH_INFO="/shop/eu/mirror"))[::2]
    assert ended[0][0] == (2, 200, None)
    assert slowly == []
