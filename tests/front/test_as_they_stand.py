"""The committed configurations, started by the commands that stand at their heads; only the port is another one."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.browsing import fetch
from tests.end_to_end.running import ENVIRONMENT, GATEWAY, ROOT, USER, Program, listens, short_place
from tests.waiting import free_port, wait_until

# Whoever is root has to say that root is meant, to gateway and to nginx.
AS_ROOT = {"gateway": ["--user", "root"], "nginx": ["-g", "user root;"]} if USER else {"gateway": [], "nginx": []}


@pytest.fixture
def checkout() -> Iterator[tuple[Path, int]]:
    """What the configurations need of a checkout, and the port that stands in them instead of 8080."""
    port = free_port()
    with short_place() as place:
        for folder in ("nginx", "lighttpd", "static", "examples/demo"):
            shutil.copytree(ROOT / folder, place / folder)
        for file in place.glob("*/*.conf"):
            file.write_text(file.read_text().replace("8080", str(port)))
        yield place, port


@contextlib.contextmanager
def running(place: Path, name: str, *command: str, path: str = "") -> Iterator[Program]:
    program = Program(command, place / name, cwd=place, env=ENVIRONMENT | {"PATH": f"{path}:{ENVIRONMENT['PATH']}"})
    try:
        yield program
    finally:
        program.stop()


def shown(port: int, server: str) -> None:
    """Check that the demo is there, and who serves /sta/."""
    wait_until(lambda: listens(port))
    front = wait_until(lambda: (answer := fetch(port, "/")).status == 200 and answer, 20)
    assert "which passed the request over FastCGI" in front.text
    style = fetch(port, "/sta/style.css")
    assert (style.status, style.headers["server"].split("/")[0]) == (200, server)


@pytest.mark.parametrize("name", ["nginx", "lighttpd"])
def test_before_a_pool(checkout: tuple[Path, int], name: str) -> None:
    place, port = checkout
    socket = f"{place}/examples/demo/run/gateway.sock"
    serve = [*GATEWAY, "serve", "demo:app", "--app-dir", "examples/demo", "--listen", socket, *AS_ROOT["gateway"]]
    start = {
        "nginx": ["nginx", "-p", ".", "-c", "nginx/gateway.conf", *AS_ROOT["nginx"]],
        "lighttpd": ["lighttpd", "-D", "-f", "lighttpd/gateway.conf"],
    }
    with running(place, "pool", *serve) as pool:
        pool.wait_for(lambda: os.path.exists(socket))
        with running(place, "front", *start[name]):
            shown(port, name)


def test_lighttpd_starts_the_pool_itself(checkout: tuple[Path, int]) -> None:
    place, port = checkout
    program = place / "bin" / "gateway"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {" ".join(GATEWAY)} "$@" {" ".join(AS_ROOT["gateway"])}\n')
    program.chmod(stat.S_IRWXU)
    with running(place, "front", "lighttpd", "-D", "-f", "lighttpd/spawned.conf", path=str(program.parent)):
        shown(port, "lighttpd")
        worker = fetch(port, "/").text.partition("process ")[2].partition(" ")[0]
    wait_until(lambda: not os.path.exists(f"/proc/{worker}"))
