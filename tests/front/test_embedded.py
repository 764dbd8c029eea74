"""The embedded front-end before the same application as the configurations."""

from __future__ import annotations

import hashlib
import http.client
import json
import threading
from collections.abc import Iterator

import pytest

from gateway.front import share
from gateway.front.embedded import CONNECTIONS, Server, application
from gateway.net.address import UnixAddress
from tests.end_to_end.running import short_place
from tests.front.responding import Responder, responding


@pytest.fixture
def responder() -> Iterator[Responder]:
    with short_place() as place, responding(place / "pool.sock") as responder:
        yield responder


@pytest.fixture
def server(responder: Responder) -> Iterator[Server]:
    server = Server("127.0.0.1", 0, application(UnixAddress(responder.path), str(share.folder("static"))))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    responder.gate.set()
    server.shutdown()
    thread.join()


@pytest.fixture
def connection(server: Server) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=15)
    yield connection
    connection.close()


def test_a_request_as_it_is_passed(connection: http.client.HTTPConnection, server: Server) -> None:
    connection.request("GET", "/caf%C3%A9/%252F?x=%20", headers={"Proxy": "evil", "X-Own": "1", "X_Own": "2"})
    params = json.loads(connection.getresponse().read())["params"]
    expected = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "REQUEST_METHOD": "GET",
        "REQUEST_URI": "/caf%C3%A9/%252F?x=%20",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/caf\xc3\xa9/%2F",
        "QUERY_STRING": "x=%20",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": str(server.port),
        "REMOTE_ADDR": "127.0.0.1",
        "REQUEST_SCHEME": "http",
        "HTTP_HOST": f"127.0.0.1:{server.port}",
        "HTTP_X_OWN": "1",
    }
    assert {name: params.get(name) for name in expected} == expected
    assert params["SERVER_SOFTWARE"].startswith("Werkzeug/")
    assert not [name for name in params if "." in name or name == "HTTP_PROXY"]


@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_stream_through(connection: http.client.HTTPConnection, chunked: bool) -> None:
    pieces = [b"a" * 300_000, b"b" * 7, b"c" * 200_000]
    whole = b"".join(pieces)
    connection.request("POST", "/", iter(pieces) if chunked else whole)
    shown = json.loads(connection.getresponse().read())
    assert shown["body"] == f"{len(whole)} {hashlib.sha256(whole).hexdigest()}"
    assert "HTTP_TRANSFER_ENCODING" not in shown["params"]


def test_answers_stream_through(connection: http.client.HTTPConnection, responder: Responder) -> None:
    connection.request("GET", "/?stream")
    response = connection.getresponse()
    assert response.readline() == b"first\n"
    responder.gate.set()
    assert response.read() == b"last\n"


def test_a_cut_answer_is_seen_to_be_cut(connection: http.client.HTTPConnection, responder: Responder) -> None:
    connection.request("GET", "/?cut")
    response = connection.getresponse()
    assert response.readline() == b"first\n"
    responder.gate.set()
    with pytest.raises(http.client.IncompleteRead):
        response.read()


def test_status_and_headers_pass(connection: http.client.HTTPConnection) -> None:
    connection.request("GET", "/?head")
    response = connection.getresponse()
    assert (response.status, response.reason, response.headers["ETag"]) == (304, "Not Modified", "x")


def test_static_files_come_from_the_front(connection: http.client.HTTPConnection, responder: Responder) -> None:
    connection.request("GET", "/sta/style.css")
    response = connection.getresponse()
    assert response.headers["Server"].startswith("Werkzeug/")
    assert response.headers["Content-Type"].startswith("text/css")
    assert response.read() == (share.folder("static") / "style.css").read_bytes()
    for path in ("/sta/none.css", "/sta/../README.md", "/sta/%2e%2e/README.md"):
        connection.request("GET", path)
        response = connection.getresponse()
        assert (path, response.status) == (path, 404)
        response.read()
    assert responder.connections == 0


def test_without_an_answer_it_is_502(
    connection: http.client.HTTPConnection, responder: Responder, capsys: pytest.CaptureFixture[str]
) -> None:
    connection.request("GET", "/?nonsense")
    response = connection.getresponse()
    assert response.status == 502
    assert b"Traceback" not in response.read()
    responder.close()
    connection.request("GET", "/")
    assert connection.getresponse().status == 502
    assert capsys.readouterr().err.count("gateway: the pool did not answer: ") == 2


def test_connections_over_the_limit_wait(server: Server, responder: Responder) -> None:
    """As many as are allowed wait for the application; one more is answered as soon as they are done."""
    busy = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=15) for _ in range(CONNECTIONS)]
    for each in busy:
        each.request("GET", "/?stream")
        assert each.getresponse().readline() == b"first\n"
    late = http.client.HTTPConnection("127.0.0.1", server.port, timeout=0.3)
    late.request("GET", "/?status")
    with pytest.raises(TimeoutError):
        late.getresponse()
    late.close()
    responder.gate.set()
    for each in busy:
        each.close()
    after = http.client.HTTPConnection("127.0.0.1", server.port, timeout=15)
    after.request("GET", "/?status")
    assert after.getresponse().status == 418
    after.close()
