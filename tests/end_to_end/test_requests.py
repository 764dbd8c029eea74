"""Requests and answers of every kind behind the real front-ends with the bundled configurations; the application runs
under `wsgiref.validate`."""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import socket
from typing import Any

import pytest

from tests.end_to_end.browsing import Post, fetch, over_connections
from tests.end_to_end.running import Site
from tests.waiting import wait_until

TEN_MEGABYTES = random.Random(10).randbytes(10_000_000)


def variables(everything: Site, path: str = "/variables", method: str = "GET", **more: Any) -> dict[str, Any]:
    answer = fetch(everything.port, path, method, **more)
    assert answer.status == 200
    shown: dict[str, Any] = json.loads(answer.body)
    return shown


def digest(body: bytes) -> str:
    return f"{len(body)} {hashlib.sha256(body).hexdigest()}"


def test_get(everything: Site) -> None:
    answer = fetch(everything.port, "/hello")
    assert (answer.status, answer.text) == (200, "Hello\n")
    assert answer.headers["server"].startswith(everything.front)


def test_head_has_the_head_of_get_and_no_body(everything: Site) -> None:
    answer = fetch(everything.port, "/hello", "HEAD")
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"", "text/plain; charset=utf-8")


def test_post_of_ten_megabytes(everything: Site) -> None:
    answer = fetch(everything.port, "/digest", "POST", body=TEN_MEGABYTES, Content_Type="application/octet-stream")
    assert answer.text == digest(TEN_MEGABYTES)


def test_chunked_upload(everything: Site) -> None:
    pieces = [TEN_MEGABYTES[at : at + 77_777] for at in range(0, 2_000_000, 77_777)]
    answer = fetch(everything.port, "/digest", "POST", body=iter(pieces), Transfer_Encoding="chunked")
    assert answer.text == digest(b"".join(pieces))


@pytest.mark.parametrize("size", [0, 1, 7, 8, 65_535, 65_536, 1_000_000])
def test_body_comes_back_byte_for_byte(everything: Site, size: int) -> None:
    answer = fetch(everything.port, "/echo", "POST", body=TEN_MEGABYTES[:size], Content_Type="application/octet-stream")
    assert (answer.status, answer.body) == (200, TEN_MEGABYTES[:size])


def test_first_byte_comes_before_the_last_is_made(everything: Site) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", everything.port, timeout=15)
    connection.request("GET", f"/stream?gate=stream-{everything.front}")
    response = connection.getresponse()
    assert response.readline() == b"first\n"
    everything.settings.open_gate(f"stream-{everything.front}")
    assert response.read() == b"last\n"
    connection.close()


def test_exception_before_the_first_byte_is_500(everything: Site) -> None:
    answer = fetch(everything.port, "/raise_before")
    assert answer.status == 500
    assert b"on purpose" not in answer.body
    wait_until(lambda: "LookupError: before the first byte, on purpose" in everything.master.said)


def test_exception_after_the_first_byte_is_a_visible_truncation(everything: Site) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", everything.port, timeout=15)
    connection.request("GET", "/raise_after")
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        connection.getresponse().read()
    connection.close()
    wait_until(lambda: "LookupError: after the first byte, on purpose" in everything.master.said)


def test_client_that_leaves_ends_the_answer(everything: Site) -> None:
    name = f"left-{everything.front}"
    with socket.create_connection(("127.0.0.1", everything.port), timeout=15) as client:
        client.sendall(f"GET /endless?id={name} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert b"200 OK" in client.recv(4096)
    wait_until(lambda: f"closed {name}" in everything.settings.journal(), what="close() of the answer")
    wait_until(everything.master.ready, what="a worker free again")
    assert everything.settings.journal().count(f"closed {name}") == 1


def test_client_that_leaves_in_the_middle_of_its_body(everything: Site) -> None:
    with socket.create_connection(("127.0.0.1", everything.port), timeout=15) as client:
        client.sendall(b"POST /digest HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + bytes(100_000))
    wait_until(lambda: len(everything.master.workers("idle")) == 4, what="all workers idle")
    assert fetch(everything.port, "/hello").status == 200


def test_thousand_requests_over_sixteen_connections(everything: Site) -> None:
    posts = [Post("/echo", b"%d" % n) for n in range(1000)]
    answers = over_connections(everything.port, posts, 16)
    assert [(post.path, status) for post, status, body in answers if (status, body) != (200, post.body)] == []
    assert len(answers) == 1000


def test_answer_before_the_body_is_read(everything: Site) -> None:
    answer = fetch(everything.port, "/unread", "POST", body=TEN_MEGABYTES[:5_000_000])
    assert (answer.status, answer.text) == (413, "not read\n")


def test_body_read_by_lines(everything: Site) -> None:
    answer = fetch(
        everything.port, "/lines", "POST", body=b"one\ntwo three\nfour\nfive\nsix", Content_Type="text/plain"
    )
    assert answer.text == "one\n|two| three\n|four\n|five\n|six"


def test_write_callable(everything: Site) -> None:
    assert fetch(everything.port, "/write").text == "written, returned\n"


def test_file_wrapper(everything: Site) -> None:
    assert fetch(everything.port, "/file").body == bytes(range(256)) * 1024


@pytest.mark.parametrize("line", ["204 No Content", "304 Not Modified"])
def test_answers_without_a_body(everything: Site, line: str) -> None:
    answer = fetch(everything.port, f"/status?line={line.replace(' ', '+')}")
    assert (answer.status, answer.body) == (int(line[:3]), b"")


def test_start_response_with_exc_info_replaces_the_head(everything: Site) -> None:
    answer = fetch(everything.port, "/replaced")
    assert (answer.status, answer.text) == (500, "replaced\n")


def test_errors_and_print_reach_the_log_as_escaped_lines(everything: Site) -> None:
    text = f"red\x1b[31m-{everything.front}"
    fetch(everything.port, "/errors", "POST", body=text.encode(), Content_Type="text/plain")
    escaped = text.replace("\x1b", "\\x1b")
    wait_until(lambda: f"written: {escaped}" in everything.master.said)
    wait_until(lambda: f"printed: {escaped}" in everything.master.said)


@pytest.mark.parametrize(
    ("url", "path", "query"),
    [
        ("/variables", "/variables", ""),
        ("/variables?a=1&b=%20", "/variables", "a=1&b=%20"),
        ("/%76ariables", "/variables", ""),
    ],
)
def test_path_and_query(everything: Site, url: str, path: str, query: str) -> None:
    seen = variables(everything, url)
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"], seen["QUERY_STRING"]) == ("", path, query)
    assert seen["REQUEST_URI"] == url


def test_variables_of_the_request(everything: Site) -> None:
    seen = variables(everything, method="POST", body=b"abc", Content_Type="text/x-test", X_Custom="Value")
    expected = {
        "REQUEST_METHOD": "POST", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1", "CONTENT_LENGTH": "3",
        "CONTENT_TYPE": "text/x-test", "HTTP_X_CUSTOM": "Value", "SERVER_PORT": str(everything.port),
        "HTTP_HOST": f"127.0.0.1:{everything.port}", "wsgi.url_scheme": "http", "wsgi.multiprocess": True,
        "wsgi.multithread": False, "wsgi.run_once": False, "wsgi.input_terminated": True,
    }  # fmt: skip
    assert {name: seen.get(name) for name in expected} == expected
    assert seen["SERVER_NAME"]


@pytest.mark.parametrize("header", ["Proxy", "Content_Length", "Content_Type", "Transfer_Encoding"])
def test_headers_that_forge_a_variable_do_not_arrive(everything: Site, header: str) -> None:
    with socket.create_connection(("127.0.0.1", everything.port), timeout=15) as client:
        client.sendall(f"GET /variables HTTP/1.0\r\nHost: a\r\n{header}: 77\r\n\r\n".encode())
        head, _, body = client.makefile("rb").read().partition(b"\r\n\r\n")
    if b" 200 " in head.partition(b"\r\n")[0]:  # a front-end may refuse the request as well
        seen = json.loads(body)
        assert f"HTTP_{header.upper()}" not in seen
        assert "77" not in (seen.get("CONTENT_LENGTH"), seen.get("CONTENT_TYPE"))
    else:
        assert head.split()[1] in (b"400", b"403")


def test_forwarded_header_with_underscores_does_not_win(everything: Site) -> None:
    with socket.create_connection(("127.0.0.1", everything.port), timeout=15) as client:
        client.sendall(
            b"GET /variables HTTP/1.0\r\nHost: a\r\nX-Forwarded-For: true\r\nX_Forwarded_For: forged\r\n\r\n"
        )
        head, _, body = client.makefile("rb").read().partition(b"\r\n\r\n")
    status = head.split()[1]
    assert status in (b"400", b"403") or json.loads(body)["HTTP_X_FORWARDED_FOR"] == "true"
