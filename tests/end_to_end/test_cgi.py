"""CGI under Apache's mod_cgid and lighttpd's mod_cgi: the same rules as behind FastCGI, a process for each request."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.browsing import fetch
from tests.end_to_end.running import HERE, ROOT, Program, Settings, front, listens
from tests.waiting import free_port, wait_until

MODULES = "/usr/lib/apache2/modules"
APACHE = """
ServerRoot {place}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {place}/apache.pid
ErrorLog {place}/apache.log
DefaultRuntimeDir {place}
Mutex default:{place}
ScriptSock {place}/cgid.sock
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule alias_module {modules}/mod_alias.so
LoadModule cgid_module {modules}/mod_cgid.so
ScriptAlias /cgi-bin/ {place}/cgi-bin/
"""
LIGHTTPD = """
server.modules = ( "mod_alias", "mod_cgi" )
server.bind = "127.0.0.1"
server.port = {port}
server.document-root = "{place}/cgi-bin"
server.errorlog = "{place}/lighttpd.log"
server.breakagelog = "{place}/scripts.log"
server.stream-response-body = 1
alias.url = ( "/cgi-bin/" => "{place}/cgi-bin/" )
cgi.assign = ( ".cgi" => "" )
"""
# Apache refuses to run anything as root, and whoever it would become may not read root's own interpreter.
AS_SOMEBODY = ["unshare", "--user", "--map-user=1000", "--map-group=1000"] if os.geteuid() == 0 else []
ENDINGS = {
    "gateway.run": "import gateway\ngateway.run(application)\n",
    "flup": "from flup.server.fcgi import WSGIServer\nWSGIServer(application).run()\n",
}


@dataclass
class CgiServer:
    """A web server that starts a script for each request below /cgi-bin/start.cgi."""

    port: int
    place: Path
    settings: Settings

    @property
    def said(self) -> str:
        """What the scripts have written to standard error, among what the server itself has to say."""
        return "".join(path.read_text() for path in self.place.glob("*.log"))


@contextlib.contextmanager
def cgi_server(name: str, place: Path, command: str) -> Iterator[CgiServer]:
    (place / "cgi-bin").mkdir()
    start = place / "cgi-bin" / "start.cgi"
    settings = Settings(place)
    variables = f"PYTHONPATH={ROOT}:{HERE} JOURNAL={place}/journal GATES={place}/gates HTTP_PROXY=$HTTP_PROXY"
    start.write_text(f"#!/bin/sh\n{variables} exec {sys.executable} {command}\n")
    start.chmod(0o755)
    port = free_port()
    if name == "lighttpd":
        with front("lighttpd", place, LIGHTTPD.format(port=port, place=place), port):
            yield CgiServer(port, place, settings)
        return
    (place / "apache.conf").write_text(APACHE.format(port=port, place=place, modules=MODULES))
    apache = [*AS_SOMEBODY, "apache2", "-D", "FOREGROUND", "-f", place / "apache.conf"]
    environment = {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    with Program(apache, place / "apache.out", env=environment) as program:
        program.wait_for(lambda: listens(port))
        yield CgiServer(port, place, settings)


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
    with cgi_server(server_name, place, command) as server:
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
    with cgi_server(server_name, place, f"-m gateway run {place}/site.py") as server:
        assert fetch(server.port, "/cgi-bin/start.cgi/").status == 500
        wait_until(lambda: f"gateway: {place}/site.py failed:" in server.said, what="the traceback")


def test_without_any_command(server_name: str, place: Path) -> None:
    """The script by itself: python site.py."""
    (place / "site.py").write_text("from everything import application\n" + ENDINGS["gateway.run"])
    with cgi_server(server_name, place, f"{place}/site.py") as server:
        assert fetch(server.port, "/cgi-bin/start.cgi/hello").text == "Hello\n"
        assert fetch(server.port, "/cgi-bin/start.cgi/raise_before").status == 500
        wait_until(lambda: "LookupError: before the first byte, on purpose" in server.said, what="the traceback")


def test_webpy(server_name: str, place: Path) -> None:
    """Its runner takes SERVER_SOFTWARE for CGI; the development server's debug pages stay off."""
    with cgi_server(server_name, place, f"-m gateway run {HERE}/scripts/code.py") as server:
        assert fetch(server.port, "/cgi-bin/start.cgi/").text == "Hello, world!\n"
        answer = fetch(server.port, "/cgi-bin/start.cgi/raise")
        assert (answer.status, b"on purpose" in answer.body) == (500, False)
        wait_until(lambda: "ValueError: on purpose" in server.said, what="the traceback")
