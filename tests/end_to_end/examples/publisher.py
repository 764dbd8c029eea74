"""examples/publisher behind each front-end, and as a CGI script; what the publisher does is in test_publisher.py."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.end_to_end.cgiserver import cgi_server
from tests.end_to_end.examples.outcome import Outcome, tried
from tests.end_to_end.examples.site import Mount
from tests.end_to_end.running import Settings, short_place, site

TABLE = "Publisher"
_LINK = "[publisher](../howto/publisher.md)"


def names(pages: Mount) -> None:
    assert pages.fetch("/").text.startswith("<!doctype html>")
    assert pages.fetch("/motto").text == "Open all hours\n"
    assert pages.fetch("/shop").text == '{"1": "tea", "2": "cake", "3": "bread"}'
    assert pages.fetch("/_PAGE").status == 404


def parameters(pages: Mount) -> None:
    assert pages.fetch("/weekday?day=2026-03-31").text == "Tuesday\n"
    wrong = pages.fetch("/shop/price?item=tea")
    assert (wrong.status, wrong.text) == (400, "item is 'tea'; write a whole number\n"), wrong


def methods(pages: Mount) -> None:
    added = pages.post("/shop/cart", item="3", count="2")
    cookie = added.headers["set-cookie"].partition(";")[0]
    assert pages.fetch("/shop/cart/total", Cookie=cookie).text == "8.20"
    assert pages.fetch("/shop/cart?item=3", "DELETE", Cookie=cookie).text == "{}"
    assert pages.fetch("/shop/order", "PUT").status == 409


def upload(pages: Mount) -> None:
    body = os.urandom(20_000_000)
    answer = pages.fetch("/upload", "POST", body, Content_Type="application/vnd.example+xml")
    assert json.loads(answer.body) == {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}, answer


def stream(pages: Mount) -> None:
    answer = pages.fetch("/count?to=5000")
    assert answer.text == "".join(f"{number}\n" for number in range(1, 5_001))
    assert "content-length" not in answer.headers, answer.headers


FEATURES: dict[str, Callable[[Mount], None]] = {
    "names as paths": names,
    "parameters": parameters,
    "methods and cookies": methods,
    "upload of 20 MB, of any type": upload,
    "streamed answer": stream,
}
OF_CGI = {name: FEATURES[name] for name in ("names as paths", "upload of 20 MB, of any type")}


def in_pool(name: str, examples: Path) -> Iterator[Outcome]:
    application = {"name": "pages", "publisher": f"{examples}/publisher/"}
    with short_place() as place, site(name, Settings(place, {"max_children": 2}, [application])) as running:
        yield from tried(TABLE, _LINK, name, FEATURES, Mount(running.port, "127.0.0.1"))
        assert "Traceback" not in running.master.said, running.master.said


def by_cgi(name: str, shown: str, examples: Path) -> Iterator[Outcome]:
    with short_place() as place:
        script = place / "pages.py"
        script.write_text(
            f"import gateway\nfrom gateway.publisher import publish\ngateway.run(publish('{examples}/publisher/'))\n"
        )
        with cgi_server(name, place, {"pages": f"-m gateway run {script}"}) as server:
            mount = Mount(server.port, "127.0.0.1", "/cgi-bin/pages.cgi")
            yield from tried(TABLE, _LINK, f"{shown}, CGI", OF_CGI, mount)


TRIALS = {
    "publisher behind nginx": functools.partial(in_pool, "nginx"),
    "publisher behind lighttpd": functools.partial(in_pool, "lighttpd"),
    "publisher by Apache": functools.partial(by_cgi, "apache", "Apache"),
    "publisher by lighttpd": functools.partial(by_cgi, "lighttpd", "lighttpd"),
}
