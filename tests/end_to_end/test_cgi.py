"""CGI under Apache's mod_cgid and lighttpd's mod_cgi: the same rules as behind FastCGI, a process for each request."""

from __future__ import annotations

import hashlib
import http.client
import os
from pathlib import Path

import pytest

from tests.end_to_end.browsing import fetch
from tests.end_to_end.cgiserver import CgiServer, cgi_server
from tests.end_to_end.running import HERE
from tests.waiting import wait_until

ENDINGS = {
    "gateway.run": "import gateway\ngateway.run(application)\n",
    "flup": "from flup.server.fcgi import WSGIServer\nWSGIServer(application).run()\n",
}


@pytest.fixture(params=["apache", "lighttpd"])
def server_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=ENDINGS)
def command(request: pytest.FixtureRequest, place: Path) -> str:
    """`gateway run SCRIPT` in words for sh, with each way for a script to end; the script prints before it serves."""
    noise = "import os\nprint('the script prints')\nos.system('echo its child prints')\n"
    (place / "site.py").write_text(noise + "from everything import application\n" + ENDINGS[request.param])
    return f"-m gateway run {place}/site.py"


def test_cgi(server_name: str, place: Path, command: str) -> None:
    with cgi_server(server_name, place, {"start": command}) as server:
        answer = fetch(server.port, "/cgi-bin/start.cgi/hello")
        assert (answer.status, answer.text, answer.headers["content-type"]) == (
            200, "Hello\n", "text/plain; charset=utf-8",
        )  # fmt: skip
        wait_until(lambda: "the script prints" in server.said and "its child prints" in server.said)
        check_environ(server)
        check_bodies(server)
        check_failures(server)
        check_streaming(server)


def check_environ(server: CgiServer) -> None:
    """The rules of FastCGI's parameters, for what comes in the environment."""
    import json

    url = "/cgi-bin/start.cgi/variables"
    answer = fetch(server.port, url + "?a=b", Host="shop.example:81", Proxy="http://evil.example/", X_Header="caf\xe9")
    shown = json.loads(answer.body)
    expected = {
        "SCRIPT_NAME": "/cgi-bin/start.cgi", "PATH_INFO": "/variables", "QUERY_STRING": "a=b", "REQUEST_METHOD": "GET",
        "HTTP_X_HEADER": "caf\xe9", "HTTP_HOST": "shop.example:81", "REQUEST_URI": url + "?a=b",
        "wsgi.url_scheme": "http", "wsgi.multithread": False, "wsgi.multiprocess": True, "wsgi.run_once": True,
        "wsgi.input_terminated": True,
    }  # fmt: skip
    assert {name: shown.get(name) for name in expected} == expected
    assert shown.keys() & {"HTTP_PROXY", "HTTP_CONTENT_LENGTH", "CONTENT_TYPE"} == set()
    process = json.loads(fetch(server.port, "/cgi-bin/start.cgi/process", Proxy="http://evil.example/").body)
    assert "HTTP_PROXY" not in process["environ"]
    if server.place.joinpath("apache.conf").exists():  # lighttpd refuses such a host itself
        assert fetch(server.port, url, Host="a,b").status == 400
    encoded = fetch(server.port, "/cgi-bin/start.cgi/caf%C3%A9%2541")
    assert (encoded.status, encoded.text) == (404, "no such page\n")


def check_bodies(server: CgiServer) -> None:
    body = os.urandom(200_000)
    expected = f"200000 {hashlib.sha256(body).hexdigest()}"
    assert fetch(server.port, "/cgi-bin/start.cgi/digest", "POST", body=body).text == expected
    chunks = [body[:100_000], body[100_000:]]
    assert fetch(server.port, "/cgi-bin/start.cgi/digest", "POST", body=chunks).text == expected
    assert fetch(server.port, "/cgi-bin/start.cgi/echo", "HEAD").body == b""
    for size in (10, 3_000_000):
        assert fetch(server.port, "/cgi-bin/start.cgi/unread", "POST", body=b"x" * size).text == "not read\n"


def check_failures(server: CgiServer) -> None:
    """500, and the traceback on standard error, which is the server's log."""
    answer = fetch(server.port, "/cgi-bin/start.cgi/raise_before")
    assert (answer.status, answer.text) == (500, "Internal Server Error\n")
    wait_until(lambda: "LookupError: before the first byte, on purpose" in server.said, what="the traceback")
    assert fetch(server.port, "/cgi-bin/start.cgi/raise_after").text == "begun\n"  # CGI has no sign for the rest
    wait_until(lambda: "LookupError: after the first byte, on purpose" in server.said, what="the traceback")
    fetch(server.port, "/cgi-bin/start.cgi/errors", "POST", body=b"this")
    wait_until(lambda: "written: this" in server.said and "printed: this" in server.said, what="what was logged")


def check_streaming(server: CgiServer) -> None:
    """The first chunk arrives while the application waits with the second."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=15)
    connection.request("GET", "/cgi-bin/start.cgi/stream?gate=cgi")
    response = connection.getresponse()
    assert response.readline() == b"first\n"
    server.settings.open_gate("cgi")
    assert response.read() == b"last\n"
    connection.close()


@pytest.mark.parametrize("text", ["import no_such_module\n", "x = (\n", "raise LookupError('no such shop')\n"])
def test_script_that_fails_before_it_serves(server_name: str, place: Path, text: str) -> None:
    (place / "site.py").write_text(text)
    with cgi_server(server_name, place, {"start": f"-m gateway run {place}/site.py"}) as server:
        assert fetch(server.port, "/cgi-bin/start.cgi/").status == 500
        wait_until(lambda: f"gateway: script '{place}/site.py' " in server.said, what="the traceback")


def test_without_any_command(server_name: str, place: Path) -> None:
    """The script by itself: python site.py."""
    (place / "site.py").write_text("from everything import application\n" + ENDINGS["gateway.run"])
    with cgi_server(server_name, place, {"start": f"{place}/site.py"}) as server:
        assert fetch(server.port, "/cgi-bin/start.cgi/hello").text == "Hello\n"
        assert fetch(server.port, "/cgi-bin/start.cgi/raise_before").status == 500
        wait_until(lambda: "LookupError: before the first byte, on purpose" in server.said, what="the traceback")


def test_webpy(server_name: str, place: Path) -> None:
    """Its runner takes SERVER_SOFTWARE for CGI; the development server's debug pages stay off."""
    with cgi_server(server_name, place, {"start": f"-m gateway run {HERE}/scripts/code.py"}) as server:
        assert fetch(server.port, "/cgi-bin/start.cgi/").text == "Hello, world!\n"
        answer = fetch(server.port, "/cgi-bin/start.cgi/raise")
        assert (answer.status, b"on purpose" in answer.body) == (500, False)
        wait_until(lambda: "ValueError: on purpose" in server.said, what="the traceback")
