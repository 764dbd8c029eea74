"""Requests to a front-end before the small application of `responding`."""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.front import share
from tests.end_to_end.running import USER
from tests.front.responding import Responder


@dataclass
class Site:
    name: str
    port: int
    responder: Responder

    def raw(self, request: str) -> tuple[int, dict[str, str], bytes]:
        """Send a request as it is written, and return status, headers and body."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=15) as connection:
            connection.sendall(request.replace("\n", "\r\n").encode("latin-1"))
            response = http.client.HTTPResponse(connection)
            response.begin()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()

    def get(self, path: str = "/", *headers: str, host: str = "a.example") -> tuple[int, dict[str, str], bytes]:
        lines = "".join(f"{header}\n" for header in headers)
        return self.raw(f"GET {path} HTTP/1.1\nHost: {host}\nConnection: close\n{lines}\n")

    def params(self, path: str = "/", *headers: str, host: str = "a.example") -> dict[str, str]:
        status, _, body = self.get(path, *headers, host=host)
        assert status == 200
        shown = json.loads(body)
        assert shown["repeats"] == []
        return dict(shown["params"])


def options(name: str, place: Path, port: int) -> dict[str, Any]:
    return {
        "listen": f"127.0.0.1:{port}",
        "run_directory": str(place),
        "user": USER if name == "nginx" else "",
    }


# -- what /sta serves, and what not -----------------------------------------------------------------------------------

BESIDE_STATIC = (
    "/sta/../gateway/settings.py",
    "/sta/%2e%2e/gateway/settings.py",
    "/sta//../../README.md",
    "/sta/..%2Fgateway/settings.py",
    "/sta%2F%2E.%2f..%2FREADME.md",
    "/sta../README.md",
)


def check_static_files(site: Site) -> None:
    """The front-end serves the bundled files by itself."""
    before = site.responder.connections
    status, headers, body = site.get("/sta/style.css")
    assert (status, headers["content-type"].partition(";")[0]) == (200, "text/css")
    assert headers["server"].lower().startswith(site.name)
    assert body == (share.folder("static") / "style.css").read_bytes()
    assert site.get("/sta/logo.svg")[1]["content-type"] == "image/svg+xml"
    assert site.get("/sta/none.css")[0] == 404
    assert site.responder.connections == before


def check_not_served(site: Site, path: str) -> None:
    """Nothing beside those files is served by the front-end."""
    status, headers, _ = site.get(path)
    assert status in (400, 404) or headers["content-type"] == "application/json"  # the pool's answer
