"""The demo's pages, under wsgiref's validator."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import wsgiref.util
import wsgiref.validate
from typing import Any

import pytest
import web

from gateway.front import share


@pytest.fixture(scope="module")
def application() -> Any:
    web.config.debug = False
    spec = importlib.util.spec_from_file_location("demo", share.folder("demo") / "demo.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return wsgiref.validate.validator(module.app.wsgifunc())


def ask(application: Any, path: str, body: bytes = b"", **environ: str) -> tuple[str, dict[str, str], str]:
    variables: dict[str, Any] = {
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "REQUEST_URI": path,
        "REQUEST_METHOD": "POST" if body else "GET",
        "QUERY_STRING": "",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "SERVER_SOFTWARE": "lighttpd/1.4",
        "REMOTE_ADDR": "192.0.2.1",
    } | environ
    wsgiref.util.setup_testing_defaults(variables)
    started: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Any:
        started[:] = [status, dict(headers)]
        return lambda data: None

    answer = application(variables, start_response)
    text = b"".join(answer).decode()
    answer.close()
    return started[0], started[1], text


def test_front_page_tells_what_answered(application: Any) -> None:
    status, headers, text = ask(application, "/", GATEWAY_INTERFACE="CGI/1.1", **{"gateway.pool": "shop"})
    assert (status, headers["Content-Type"]) == ("200 OK", "text/html; charset=utf-8")
    for part in ("lighttpd/1.4", "over FastCGI", ">shop ", "192.0.2.1", "worker ", "/sta/style.css", "wsgi.version"):
        assert part in text, part


def test_front_page_by_hand_claims_no_pool(application: Any) -> None:
    text = ask(application, "/")[2]
    assert "runs the application itself" in text
    assert "FastCGI" not in text


def test_everything_a_client_sends_is_escaped(application: Any) -> None:
    nasty = '"><script>alert(1)</script>'
    for text in (
        ask(application, "/", HTTP_USER_AGENT=nasty, HTTP_HOST=nasty, SERVER_SOFTWARE=nasty)[2],
        ask(application, "/form", f"name={nasty}&message={nasty}".encode())[2],
        ask(application, "/upload", multipart("<script>.txt", b"x"), CONTENT_TYPE="multipart/form-data; boundary=xx")[
            2
        ],
    ):
        assert "<script" not in text


def test_form_repeats_what_was_sent(application: Any) -> None:
    text = ask(application, "/form", b"name=J%C3%BCrgen&message=a%0Ab")[2]
    assert "Hello, <strong>Jürgen</strong>" in text
    assert "<blockquote>a\nb</blockquote>" in text
    assert "Hello" not in ask(application, "/form")[2]


def multipart(name: str, data: bytes) -> bytes:
    head = f'--xx\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    return head.encode() + data + b"\r\n--xx--\r\n"


@pytest.mark.parametrize("size", [1, 1_000_000])
def test_upload_shows_size_and_digest(application: Any, size: int) -> None:
    data = bytes(size)
    text = ask(application, "/upload", multipart("a b.bin", data), CONTENT_TYPE="multipart/form-data; boundary=xx")[2]
    for part in ("a b.bin", f"{size:,} bytes", hashlib.sha256(data).hexdigest()):
        assert part in text


def test_upload_without_a_file(application: Any) -> None:
    text = ask(application, "/upload", multipart("", b""), CONTENT_TYPE="multipart/form-data; boundary=xx")[2]
    assert "no file was chosen" in text


def test_page_that_raises_shows_no_source(application: Any) -> None:
    status, _, text = ask(application, "/error")
    assert (status, text) == ("500 Internal Server Error", "internal server error")


def test_slow_page_says_that_it_streams(application: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    status, headers, text = ask(application, "/slow")
    assert (status, headers["X-Accel-Buffering"]) == ("200 OK", "no")
    assert text.count("<li>Piece") == 8
    assert text.rstrip().endswith("</html>")
