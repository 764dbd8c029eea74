"""ASGI applications behind the real front-ends with the bundled configurations."""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.end_to_end.browsing import Post, fetch, over_connections
from tests.end_to_end.conftest import FRONTS
from tests.end_to_end.running import Settings, Site, short_place, site
from tests.waiting import wait_until

TEN_MEGABYTES = random.Random(10).randbytes(10_000_000)
ASGI = [{"name": "asynchronous", "app": "asynchronous:application"}]


@pytest.fixture(scope="module", params=FRONTS)
def asgi(request: pytest.FixtureRequest) -> Iterator[Site]:
    """The application `asynchronous` behind each front-end in turn, on one worker."""
    with short_place() as path:
        settings = Settings(path, {"max_children": 1, "process_control_timeout": 5}, ASGI)
        with site(request.param, settings) as running:
            yield running


def digest(body: bytes) -> str:
    return f"{len(body)} {hashlib.sha256(body).hexdigest()}"


def test_get(asgi: Site) -> None:
    answer = fetch(asgi.port, "/hello")
    assert (answer.status, answer.text) == (200, "Hello\n")


def test_head_has_the_head_of_get_and_no_body(asgi: Site) -> None:
    answer = fetch(asgi.port, "/hello", "HEAD")
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"", "text/plain; charset=utf-8")


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_a_body(asgi: Site, status: int) -> None:
    answer = fetch(asgi.port, f"/status?status={status}")
    assert (answer.status, answer.body) == (status, b"")


def test_scope(asgi: Site) -> None:
    answer = fetch(asgi.port, "/%73cope?a=%20", "POST", body=b"abc", Content_Type="text/x-test", X_Custom="Value")
    seen: dict[str, Any] = json.loads(answer.body)
    expected = {
        "type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": "/scope", "root_path": "",
        "query_string": "a=%20", "server": [seen["server"][0], asgi.port],
    }  # fmt: skip
    assert {name: seen[name] for name in expected} == expected
    assert seen["raw_path"] in ("/%73cope", "/scope")  # lighttpd normalises before it passes the URI
    assert seen["client"][0] == "127.0.0.1"
    headers = dict(seen["headers"])
    assert headers["host"] == f"127.0.0.1:{asgi.port}"
    assert (headers["content-type"], headers["content-length"], headers["x-custom"]) == ("text/x-test", "3", "Value")
    assert seen["extensions"]["gateway"]["params"]["gateway.application"] == "asynchronous"


def test_path_that_is_not_ascii(asgi: Site) -> None:
    assert fetch(asgi.port, "/gr%C3%BC%C3%9Fe").status == 404


def test_post_of_ten_megabytes(asgi: Site) -> None:
    assert fetch(asgi.port, "/digest", "POST", body=TEN_MEGABYTES).text == digest(TEN_MEGABYTES)


def test_streamed_upload(asgi: Site) -> None:
    pieces = [TEN_MEGABYTES[at : at + 77_777] for at in range(0, 2_000_000, 77_777)]
    answer = fetch(asgi.port, "/digest", "POST", body=iter(pieces), Transfer_Encoding="chunked")
    assert answer.text == digest(b"".join(pieces))


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 1_000_000])
def test_body_comes_back_byte_for_byte(asgi: Site, size: int) -> None:
    answer = fetch(asgi.port, "/echo", "POST", body=TEN_MEGABYTES[:size])
    assert (answer.status, answer.body) == (200, TEN_MEGABYTES[:size])


@pytest.mark.parametrize("step", [0, 1000, 100_000])
def test_streamed_download(asgi: Site, step: int) -> None:
    size = 200_000 if step == 1000 else 10_000_000
    answer = fetch(asgi.port, f"/download?size={size}&step={step}")
    assert (answer.status, answer.body) == (200, (bytes(range(256)) * (size // 256 + 1))[:size])


def test_answer_before_the_body_is_read(asgi: Site) -> None:
    answer = fetch(asgi.port, "/unread", "POST", body=TEN_MEGABYTES[:5_000_000])
    assert (answer.status, answer.text) == (413, "not read\n")


def test_server_sent_events_come_one_by_one(asgi: Site) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", asgi.port, timeout=15)
    connection.request("GET", f"/events?count=5&gate={asgi.front}")
    response = connection.getresponse()
    for number in range(5):
        assert (response.readline(), response.readline()) == (b"data: %d\n" % number, b"\n")
        asgi.settings.open_gate(f"{asgi.front}-{number}")
    assert response.read() == b""
    connection.close()


def test_requests_run_at_once_in_one_worker(asgi: Site) -> None:
    name = f"together-{asgi.front}"
    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(fetch, asgi.port, f"/hold?gate={name}") for _ in range(20)]
        wait_until(lambda: sum(f"running {name}" in line for line in asgi.settings.journal()) == 20)
        assert fetch(asgi.port, "/hello").text == "Hello\n"
        [worker] = asgi.master.workers("busy")
        assert worker["uri"].startswith(f"/hold?gate={name}"), "the oldest is shown"
        asgi.settings.open_gate(name)
        assert {answer.result().text for answer in answers} == {"held\n"}
    assert len({line.split()[-1] for line in asgi.settings.journal() if f"running {name}" in line}) == 1


def test_exception_before_the_first_byte_is_500(asgi: Site) -> None:
    answer = fetch(asgi.port, "/raise_before")
    assert answer.status == 500
    assert b"on purpose" not in answer.body
    wait_until(lambda: "LookupError: before the first byte, on purpose" in asgi.master.said)


def test_exception_after_the_first_byte_is_a_visible_truncation(asgi: Site) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", asgi.port, timeout=15)
    connection.request("GET", "/raise_after")
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        connection.getresponse().read()
    connection.close()
    wait_until(lambda: "LookupError: after the first byte, on purpose" in asgi.master.said)


def leave_after_the_head(port: int, path: str) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=15) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        received = b""
        while b"\r\n\r\n" not in received:
            received += client.recv(4096)
        assert b"200 OK" in received


@pytest.mark.parametrize(("path", "line"), [("endless", "closed"), ("beats", "ended")])
def test_client_that_leaves_ends_the_answer(asgi: Site, path: str, line: str) -> None:
    name = f"{path}-{asgi.front}"
    leave_after_the_head(asgi.port, f"/{path}?id={name}")
    wait_until(lambda: f"{line} {name}" in asgi.settings.journal(), 10, "the end of the application")
    wait_until(asgi.master.ready)


def test_what_goes_on_after_the_answer_is_not_cancelled(asgi: Site) -> None:
    name = f"after-{asgi.front}"
    assert fetch(asgi.port, f"/after?gate={name}").text == "answered\n"
    asgi.settings.open_gate(name)
    wait_until(lambda: f"after {name}" in asgi.settings.journal())


def test_state_of_the_lifespan(asgi: Site) -> None:
    assert fetch(asgi.port, "/state").text == "from the lifespan"


def test_print_reaches_the_log(asgi: Site) -> None:
    fetch(asgi.port, "/printed", "POST", body=f"by {asgi.front}".encode())
    wait_until(lambda: f"printed: by {asgi.front}" in asgi.master.said)


def test_thousand_requests_over_sixteen_connections(asgi: Site) -> None:
    posts = [Post("/echo", b"%d" % n) for n in range(1000)]
    answers = over_connections(asgi.port, posts, 16)
    assert [(post.path, status) for post, status, body in answers if (status, body) != (200, post.body)] == []
    assert len(answers) == 1000


def test_slow_reader_holds_nobody_up(asgi: Site) -> None:
    """The worker answers others. (Both front-ends keep a large answer in files, so its application need not wait.)"""
    name = f"slow-{asgi.front}"
    with socket.create_connection(("127.0.0.1", asgi.port), timeout=15) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(f"GET /download?size=20000000&id={name} HTTP/1.0\r\nHost: a\r\n\r\n".encode())
        assert client.recv(1)
        for _ in range(50):
            assert fetch(asgi.port, "/hello").text == "Hello\n"
        threading.Thread(target=lambda: client.makefile("rb").read(), daemon=True).start()
        wait_until(lambda: f"downloaded {name}" in asgi.settings.journal(), 30)
