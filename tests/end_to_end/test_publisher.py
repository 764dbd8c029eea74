"""examples/publisher, and what its page says, behind both front-ends; and the ways to start a publisher."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.browsing import fetch
from tests.end_to_end.conftest import FRONTS
from tests.end_to_end.running import (
    ENVIRONMENT,
    GATEWAY,
    ROOT,
    USER,
    Program,
    Settings,
    Site,
    listens,
    listens_at,
    serving,
    short_place,
    site,
)
from tests.waiting import free_port, wait_until

EXAMPLE = ROOT / "examples" / "publisher"
PAGE = (ROOT / "docs" / "howto" / "publisher.md").read_text()
APPLICATIONS = [
    {"name": "example", "publisher": f"{EXAMPLE}/"},
    {
        "name": "own",
        "publisher": ["published"],
        "bindings": [{"hostname": "own.example", "port": "*", "path": "/below"}],
    },
]


@pytest.fixture(scope="module", params=FRONTS)
def running(request: pytest.FixtureRequest) -> Iterator[Site]:
    """Both publishers in one pool."""
    with short_place() as place, site(request.param, Settings(place, {"max_children": 2}, APPLICATIONS)) as it:
        yield it


def test_pages(running: Site) -> None:
    index = fetch(running.port, "/")
    assert (index.status, index.headers["content-type"]) == (200, "text/html; charset=utf-8")
    for link in re.findall(r'href="([^"]+)"', index.text):
        assert fetch(running.port, f"/{link}").status == 200
    assert fetch(running.port, "/hello?name=%C3%A4").text == "Hello, ä\n"
    assert fetch(running.port, "/motto").text == "Open all hours\n"
    assert fetch(running.port, "/count?to=3").text == "1\n2\n3\n"
    assert fetch(running.port, "/shop/").text == fetch(running.port, "/shop").text
    assert fetch(running.port, "/shop/price?item=3").text == "4.10"
    assert fetch(running.port, "/shop/price?item=9").status == 404
    head = fetch(running.port, "/hello", "HEAD")
    assert (head.status, head.headers["content-length"]) == (200, "13")


def test_what_is_missing_or_wrong_is_named(running: Site) -> None:
    missing = fetch(running.port, "/weekday")
    assert (missing.status, missing.text) == (400, "day is missing; write a date such as 2026-03-31\n")
    assert fetch(running.port, "/shop/price?item=tea").text == "item is 'tea'; write a whole number\n"


def test_what_is_not_published_is_not_there(running: Site) -> None:
    for path in [
        "/_PAGE", "/hashlib", "/hashlib/sha256", "/index", "/index/hello", "/hello/__globals__", "/__builtins__",
        "/motto/upper", "/shop/Decimal", "/shop/_ITEMS", "/shop/Address", "/shop/cart/_kept", "/shop/cart/__init__",
        "/shop/handler", "/shop/%2e%2e/_PAGE", "/shop.price", "/no",
    ]:  # fmt: skip
        answer = fetch(running.port, path)
        assert (answer.status, answer.text.startswith("There is nothing at /")) == (404, True), path


def test_methods(running: Site) -> None:
    refused = fetch(running.port, "/shop/order")
    assert (refused.status, refused.headers["allow"]) == (405, "OPTIONS, PATCH, POST, PUT")
    assert fetch(running.port, "/shop/cart", "OPTIONS").headers["allow"] == "DELETE, GET, HEAD, OPTIONS, POST"
    assert fetch(running.port, "/shop/order", "PUT", body=b"").text == "Orders are final; PUT changes none\n"
    form = {
        "body": b"item=1&item=2&street=Main&by=bicycle&gift=on",
        "Content_Type": "application/x-www-form-urlencoded",
    }
    order = fetch(running.port, "/shop/order", "POST", **form)  # type: ignore[arg-type]
    assert json.loads(order.text) == {
        "items": ["tea", "cake"],
        "to": {"street": "Main", "town": "Springfield"},
        "by": "bicycle",
        "gift": True,
    }


def test_a_cart_in_a_cookie(running: Site) -> None:
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    added = fetch(running.port, "/shop/cart", "POST", body=b"item=3&count=2", **form)
    cookie = added.headers["set-cookie"].partition(";")[0]
    assert fetch(running.port, "/shop/cart", Cookie=cookie).text == '{"3": 2}'
    assert fetch(running.port, "/shop/cart/total", Cookie=cookie).text == "8.20"
    assert fetch(running.port, "/shop/cart?item=3", "DELETE", Cookie=cookie).text == "{}"


@pytest.mark.parametrize("chunked", [False, True])
def test_uploads_of_any_type_come_as_streams(running: Site, chunked: bool) -> None:
    body = os.urandom(2_000_000) * 10
    sent = [body[at : at + 1_000_000] for at in range(0, len(body), 1_000_000)] if chunked else body
    answer = fetch(running.port, "/upload", "POST", body=sent, Content_Type="application/x-unheard-of")
    assert json.loads(answer.text) == {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.xml"\r\n\r\n<a/>\r\n--x--\r\n'
    answer = fetch(running.port, "/upload", "POST", body=part, Content_Type="multipart/form-data; boundary=x")
    assert json.loads(answer.text)["size"] == 4


def test_a_mount_and_errors(running: Site) -> None:
    port = running.port
    assert fetch(port, "/below/place", Host="own.example").text == "/below|/place|own.example"
    assert fetch(port, "/below/fail", Host="own.example").status == 500
    with pytest.raises(http.client.IncompleteRead):
        fetch(port, "/below/half", Host="own.example")
    wait_until(lambda: "LookupError: on purpose, late" in running.master.said)
    assert "published.py" in running.master.said


def test_a_worker_imports_nothing_more(running: Site) -> None:
    modules = json.loads(fetch(running.port, "/below/modules", Host="own.example").text)
    assert {"werkzeug", "published"} < set(modules)
    assert {"msgspec", "click", "jinja2", "rich", "web", "prometheus_client"} & set(modules) == set()


# -- ways to start ----------------------------------------------------------------------------------------------------


def shown() -> list[str]:
    """The commands of the example's page."""
    return re.findall(r"^\$ gateway (.*)$", PAGE, re.MULTILINE)


def gateway(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*GATEWAY, *words], capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT, timeout=60)


def test_the_list_in_the_page_is_what_is_published() -> None:
    (command,) = [command for command in shown() if command.startswith("publisher ")]
    done = gateway(*command.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert f"$ gateway {command}\n{done.stdout}" in PAGE


def test_up_as_the_page_says(place: Path) -> None:
    (command,) = [command for command in shown() if command.startswith("up ")]
    port = free_port()
    with Program([*GATEWAY, *command.split(), "--port", str(port)], place / "log", cwd=ROOT) as program:
        program.wait_for(lambda: f"http://127.0.0.1:{port}/\n" in program.said, 30)
        assert fetch(port, "/hello").text == "Hello, world\n"
        wait_until(lambda: "examples/publisher/ is served by lighttpd; Ctrl-C stops it" in program.said)


def test_serve(place: Path) -> None:
    socket = place / "s.sock"
    user = ["--user", USER] if USER else []
    words = [
        "serve",
        "--publisher",
        "index",
        "--publisher",
        "shop",
        "--app-dir",
        str(EXAMPLE),
        "--listen",
        str(socket),
        *user,
    ]
    with Program([*GATEWAY, *words], place / "log", cwd=place) as program:
        program.wait_for(lambda: listens_at(socket))
        done = gateway("request", str(socket), "/shop/price?item=1")
        assert (done.returncode, done.stdout.endswith("\n\n2.50")) == (0, True), done


def test_a_script_under_cgi(place: Path) -> None:
    script = place / "site.py"
    script.write_text("import gateway\nfrom gateway.publisher import publish\ngateway.run(publish('pages/'))\n")
    (place / "pages").mkdir()
    (place / "pages" / "index.py").write_text("def hello(name: str):\n    return name\n")
    cgi = {"GATEWAY_INTERFACE": "CGI/1.1", "REQUEST_METHOD": "GET", "PATH_INFO": "/hello", "QUERY_STRING": "name=x"}
    done = subprocess.run([*GATEWAY, "run", script], capture_output=True, text=True, env=ENVIRONMENT | cgi, timeout=60)
    assert (done.stdout.startswith("Status: 200 OK\n"), done.stdout[-3:]) == (True, "\n\nx"), done


def test_reload_takes_up_what_is_new(place: Path) -> None:
    (place / "pages").mkdir()
    (place / "pages" / "index.py").write_text("def hello():\n    return 'hello'\n")
    pool = {"app_dir": str(place), "max_children": 1}
    with serving(Settings(place, pool, [{"name": "pages", "publisher": "pages/"}])) as master:
        (place / "pages" / "shop.py").write_text("def cart():\n    return 'cart'\n")
        assert gateway("reload", str(master.settings.file)).returncode == 0
        assert gateway("request", str(master.settings.socket), "/shop/cart").stdout.endswith("\n\ncart")
        (place / "pages" / "shop.py").write_text("_cart = 1\n")
        (place / "pages" / "index.py").unlink()
        refused = gateway("reload", str(master.settings.file))
        assert (refused.returncode, "publisher finds nothing to publish" in refused.stderr) == (1, True)
        assert gateway("request", str(master.settings.socket), "/shop/cart").stdout.endswith("\n\ncart")


def test_dev(place: Path) -> None:
    port = free_port()
    command = [*GATEWAY, "dev", "--publisher", "examples/publisher/shop.py", "--port", str(port)]
    with Program(command, place / "log", cwd=ROOT) as program:
        program.wait_for(lambda: f"http://127.0.0.1:{port}/" in program.said)
        program.wait_for(lambda: listens(port))
        answer = fetch(port, "/price?item=2")
        assert (answer.status, answer.text) == (200, "3.20")
