"""The development server, by hand: `gateway.run(application)` in a script that is started by itself."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from tests.end_to_end.browsing import fetch
from tests.end_to_end.running import ENVIRONMENT, Program, alive, descendants, listens, short_place
from tests.waiting import free_port, wait_until

SCRIPT = """
import sys
import gateway
def application(environ, start_response):
    if environ["PATH_INFO"] == "/raise":
        raise LookupError("what the author sees")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"by hand"]
sys.exit(gateway.run(application))
"""


def started(place: Path, port: int, **more: str) -> Program:
    (place / "shop.py").write_text(SCRIPT)
    return Program([sys.executable, place / "shop.py"], place / "log", env=ENVIRONMENT | {"PORT": str(port)} | more)


def test_it_serves_with_debugger_and_static_files() -> None:
    port = free_port()
    with short_place() as place:
        program = started(place, port, GATEWAY_STATIC=str(place))
        try:
            program.wait_for(lambda: listens(port))
            assert f"http://127.0.0.1:{port}/  (development server" in wait_until(lambda: program.said)
            assert fetch(port, "/").text == "by hand"
            assert fetch(port, "/sta/shop.py").text == SCRIPT
            failed = fetch(port, "/raise")
            assert (failed.status, "what the author sees" in failed.text) == (500, True)
            children = descendants(program.pid)
        finally:
            os.killpg(program.pid, 2)
            program.wait()
            wait_until(lambda: not any(map(alive, children)))


def test_a_mistake_that_is_saved_is_waited_for_to_be_mended() -> None:
    port = free_port()
    with short_place() as place, started(place, port) as program:
        program.wait_for(lambda: listens(port))
        assert fetch(port, "/").text == "by hand"
        (place / "shop.py").write_text(SCRIPT + "syntax error(\n")
        program.wait_for(lambda: "waiting for the script to be mended" in program.said)
        assert "SyntaxError" in program.said
        (place / "shop.py").write_text(SCRIPT.replace("by hand", "mended"))
        assert fetch(port, "/").text == "mended"  # the connection waits for that


def test_a_port_that_is_taken_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, short_place() as place:
        port = taken.getsockname()[1]
        program = started(place, port)
        assert program.wait() == 75
        assert (
            f"cannot listen on 127.0.0.1:{port}: another process uses this port; stop it or choose another"
            in program.said
        )
        assert program.said.count("\n") == 1
