"""web.py's own start script, unchanged: by lighttpd's bin-path, by hand, and as CGI."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.browsing import fetch
from tests.end_to_end.running import (
    ENVIRONMENT,
    GATEWAY,
    ROOT,
    Program,
    Settings,
    alive,
    children,
    front,
    front_configuration,
    listens,
)
from tests.waiting import free_port, wait_until

SCRIPT = ROOT / "examples" / "webpy" / "code.py"


@pytest.fixture
def command(place: Path) -> str:
    """`gateway run SCRIPT` as a program that lighttpd can start: bin-path knows no quotes and no environment."""
    path = place / "run"
    path.write_text(f"#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m gateway run {SCRIPT}\n")
    path.chmod(0o755)
    return str(path)


def test_by_bin_path(place: Path, command: str) -> None:
    port = free_port()
    configuration = front_configuration("lighttpd", Settings(place), port, bin_path=command)
    with front(
        "lighttpd", place, configuration.replace('"max-procs" => 1,', '"min-procs" => 5, "max-procs" => 5,'), port
    ) as lighttpd:
        answer = fetch(port, "/hello")
        assert (answer.status, b"Hello" in answer.body) == (200, True), lighttpd.said
        wait_until(lambda: len(children(lighttpd.pid)) == 5, what="five processes")
        started = children(lighttpd.pid)
    wait_until(lambda: not any(map(alive, started)), what="the end of what lighttpd started")


def test_by_hand(place: Path) -> None:
    port = free_port()
    environment = ENVIRONMENT | {"PORT": str(port)}
    program = Program([*GATEWAY, "run", SCRIPT], place / "log", env=environment, cwd=place)
    try:
        program.wait_for(lambda: listens(port))
        assert b"Hello" in fetch(port, "/hello").body
        assert str(port) in program.said
    finally:
        program.stop()


WEBPY = """
import gateway, web
class hello:
    def GET(self):
        return "Hello"
gateway.run(web.application(("/hello", "hello"), globals()))
"""


@pytest.mark.parametrize("text", ["", WEBPY], ids=["app.run", "gateway.run"])
def test_as_cgi(place: Path, text: str) -> None:
    script = place / "code.py"
    script.write_text(text or SCRIPT.read_text())
    variables = {
        "GATEWAY_INTERFACE": "CGI/1.1", "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/hello",
        "QUERY_STRING": "", "SERVER_NAME": "localhost", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1",
    }  # fmt: skip
    done = subprocess.run(
        [*GATEWAY, "run", script], env=ENVIRONMENT | variables, stdin=subprocess.DEVNULL,
        capture_output=True, cwd=place, timeout=30,
    )  # fmt: skip
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    assert (done.returncode, head.split(b"\r\n")[0], b"Hello" in body) == (0, b"Status: 200 OK", True), done.stderr


ENDING = """
import sys
sys.path.insert(0, {root!r})
import gateway

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"from the script"]

gateway.run(application)
"""


def test_script_that_ends_in_gateway_run(place: Path) -> None:
    (place / "site.py").write_text(ENDING.format(root=str(ROOT)))
    (place / "start").write_text(f"#!/bin/sh\nexec {sys.executable} {place}/site.py\n")
    (place / "start").chmod(0o755)
    port = free_port()
    configuration = front_configuration("lighttpd", Settings(place), port, bin_path=f"{place}/start")
    with front("lighttpd", place, configuration, port):
        assert fetch(port, "/hello").body == b"from the script"
